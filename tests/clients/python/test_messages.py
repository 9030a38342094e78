"""anthropic for Python, and langchain over it. The client holds every answer to its types (`_strict_response_validation`)."""

import json
from typing import Literal

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic, beta_tool
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool as langchain_tool
from pydantic import BaseModel

ASK = {"model": "hello", "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]}
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a place",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def client(scripted):
    with Anthropic(base_url=scripted.url, api_key="any", max_retries=0, _strict_response_validation=True) as client:
        yield client


@pytest.fixture(scope="module")
def real(embedded):
    with Anthropic(base_url=embedded.url, api_key="any", max_retries=0, _strict_response_validation=True) as client:
        yield client


def test_a_message(client):
    raw = client.messages.with_raw_response.create(**ASK)
    message = raw.parse()
    assert [block.text for block in message.content] == ["Hello there, friend."]
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0
    assert raw.headers["request-id"] == message._request_id


def test_a_stream_says_the_same(client):
    whole = client.messages.create(**ASK)
    with client.messages.stream(**ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens
    events = [event.type for event in client.messages.create(**ASK, stream=True)]
    assert events[0] == "message_start" and events[-1] == "message_stop"


@pytest.mark.parametrize("thinking", [{"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}])
def test_thoughts(client, thinking):
    with client.messages.stream(**{**ASK, "model": "thinks", "max_tokens": 4096}, thinking=thinking) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.content[0].thinking.strip() == "They greet me."
    # They may be sent back.
    again = [*ASK["messages"], {"role": "assistant", "content": final.content}, {"role": "user", "content": "And?"}]
    assert client.messages.create(model="thinks", max_tokens=4096, thinking=thinking, messages=again).stop_reason == "end_turn"


def test_a_call_of_a_tool(client):
    asked = {**ASK, "model": "weather", "tools": [WEATHER]}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert message.stop_reason == "tool_use"
        assert message.content[-1].input == {"city": "Paris"}
    result = {"type": "tool_result", "tool_use_id": whole.content[-1].id, "content": [{"type": "text", "text": "Sunny"}]}
    turns = [*ASK["messages"], {"role": "assistant", "content": whole.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(**{**asked, "messages": turns}).content[0].text == "It is sunny."


@pytest.mark.parametrize("stream", [False, True])
def test_the_tool_runner_finishes_an_edit_loop(client, stream):
    file = {"a.txt": "the quick brown fx"}

    @beta_tool
    def read_file(path: str) -> str:
        """Reads a file."""
        return file[path]

    @beta_tool
    def replace(path: str, old: str, new: str) -> str:
        """Replaces a text in a file."""
        file[path] = file[path].replace(old, new)
        return "done"

    asked = {"model": "editor", "max_tokens": 512, "messages": [{"role": "user", "content": "Mend a.txt"}]}
    runner = client.beta.messages.tool_runner(**asked, tools=[read_file, replace], stream=stream)
    final = runner.until_done()
    assert file["a.txt"] == "the quick brown fox"
    assert final.stop_reason == "end_turn" and final.content[0].text == "Mended."


def test_tokens_are_counted(client, real):
    for each, model in ((client, "hello"), (real, "firecrest-chat")):
        for more in ({}, {"system": "Be brief."}, {"tools": [WEATHER]}):
            asked = {"model": model, "messages": ASK["messages"], **more}
            counted = each.messages.count_tokens(**asked).input_tokens
            usage = each.messages.create(**asked, max_tokens=1).usage
            assert counted == usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens


def test_models(client):
    names = [model.id for model in client.models.list(limit=2)]
    assert "hello" in names and len(names) > 2
    assert client.models.retrieve("hello").type == "model"


def test_errors_are_the_clients_own(client):
    with pytest.raises(anthropic.BadRequestError) as wrong:
        client.messages.create(**{**ASK, "messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]})
    assert "messages.0.content.0.text" in wrong.value.message
    assert wrong.value.request_id
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**{**ASK, "model": "nobody"})
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nobody")


def test_what_must_not_be_said_is_refused(client):
    asked = {**ASK, "model": "leaks"}
    whole = client.messages.create(**asked)
    assert whole.stop_reason == "refusal" and whole.content == []
    with client.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "refusal" and "PRIVATE KEY" not in final.to_json()


def test_a_stream_that_is_left_ends_the_answer(client, scripted):
    with client.messages.stream(**{**ASK, "model": "endless", "max_tokens": 8192}) as stream:
        for _, _ in zip(range(20), stream):
            pass
    scripted.rests()


def test_many_at_once(scripted):
    import asyncio

    async def all_of_them():
        async with AsyncAnthropic(base_url=scripted.url, api_key="any", max_retries=0, _strict_response_validation=True) as client:
            return await asyncio.gather(*(client.messages.create(**ASK) for _ in range(32)))

    assert {message.content[0].text for message in asyncio.run(all_of_them())} == {"Hello there, friend."}


class Person(BaseModel, extra="forbid"):
    """Bounds of numbers and lengths are not among this: the client only tells the model of them."""

    friend: bool
    mood: Literal["glad", "sad"]


def test_an_answer_of_a_schema(real):
    asked = {"model": "firecrest-chat", "max_tokens": 160, "messages": [{"role": "user", "content": "Who are you?"}]}
    parsed = real.messages.parse(**asked, output_format=Person)
    assert isinstance(parsed.parsed_output, Person)
    with real.messages.stream(**asked, output_format=Person) as stream:
        assert isinstance(stream.get_final_message().parsed_output, Person)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_tool_that_must_be_called_is_called(real, choice):
    # One call: so small a model may go on calling until its tokens are used up.
    choice = {**choice, "disable_parallel_tool_use": True}
    days = {
        "type": "object",
        "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["days"],
        "additionalProperties": False,
    }
    tools = [{**WEATHER, "input_schema": days}]
    asked = {"model": "firecrest-chat", "max_tokens": 128, "messages": ASK["messages"], "tools": tools, "tool_choice": choice}
    message = real.messages.create(**asked)
    assert message.stop_reason == "tool_use"
    (call,) = message.content
    assert call.name == "get_weather" and 1 <= call.input["days"] <= 9


def test_langchain(client, scripted):
    chat = ChatAnthropic(model="hello", base_url=scripted.url, api_key="any", max_retries=0, max_tokens=64)
    assert chat.invoke("Hi").text == "Hello there, friend."
    assert "".join(piece.text for piece in chat.stream("Hi")) == "Hello there, friend."

    @langchain_tool
    def get_weather(city: str) -> str:
        """The weather of a place."""
        return f"Sunny in {city}"

    caller = ChatAnthropic(model="weather", base_url=scripted.url, api_key="any", max_retries=0, max_tokens=64).bind_tools([get_weather])
    first = caller.invoke("Weather?")
    assert [(call["name"], call["args"]) for call in first.tool_calls] == [("get_weather", {"city": "Paris"})]
    turns = [("user", "Weather?"), first, get_weather.invoke(first.tool_calls[0])]
    assert caller.invoke(turns).text == "It is sunny."


def test_langchain_with_a_schema(embedded):
    chat = ChatAnthropic(model="firecrest-chat", base_url=embedded.url, api_key="any", max_retries=0, max_tokens=160)
    for method in ("json_schema", "function_calling"):
        assert isinstance(chat.with_structured_output(Person, method=method).invoke("Who are you?"), Person), method


def test_bodies_without_a_client(scripted):
    import httpx

    # What people write with curl: no version, a key that nobody asked for.
    answer = httpx.post(f"{scripted.url}/v1/messages", content=json.dumps(ASK))
    assert answer.status_code == 200 and answer.json()["content"][0]["text"] == "Hello there, friend."
