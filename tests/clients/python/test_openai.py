"""openai for Python, and llm's command line over it."""

import json
import os
import subprocess
import sys

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

MESSAGES = [{"role": "user", "content": "Hi"}]
WEATHER = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}


@pytest.fixture(scope="module")
def client(scripted):
    with OpenAI(base_url=f"{scripted.url}/v1", api_key="any", max_retries=0, _strict_response_validation=True) as client:
        yield client


@pytest.fixture(scope="module")
def real(embedded):
    with OpenAI(base_url=f"{embedded.url}/v1", api_key="any", max_retries=0, _strict_response_validation=True) as client:
        yield client


def test_a_chat(client):
    whole = client.chat.completions.create(model="hello", messages=MESSAGES)
    assert whole.choices[0].message.content == "Hello there, friend."
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    streamed = list(client.chat.completions.create(model="hello", messages=MESSAGES, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices) == "Hello there, friend."
    assert streamed[-1].usage == whole.usage
    with client.chat.completions.stream(model="hello", messages=MESSAGES) as stream:
        assert stream.get_final_completion().choices[0].message.content == "Hello there, friend."


def test_a_call_of_a_tool(client):
    asked = {"model": "weather", "tools": [{"type": "function", "function": WEATHER}]}
    message = client.chat.completions.create(messages=MESSAGES, **asked).choices[0].message
    assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Paris"}
    turns = [*MESSAGES, message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Sunny"}]
    assert client.chat.completions.create(messages=turns, **asked).choices[0].message.content == "It is sunny."


def test_responses(client):
    whole = client.responses.create(model="hello", input="Hi")
    assert whole.output_text == "Hello there, friend." and whole.status == "completed"
    with client.responses.stream(model="hello", input="Hi") as stream:
        events = list(stream)
        assert stream.get_final_response().output_text == "Hello there, friend."
    assert [event.sequence_number for event in events if hasattr(event, "sequence_number")][0] == 0


def test_responses_call_tools(client):
    asked = {"model": "weather", "tools": [{"type": "function", **WEATHER}]}
    turns = [{"role": "user", "content": "Weather?"}]
    first = client.responses.create(input=turns, **asked)
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert json.loads(call.arguments) == {"city": "Paris"}
    turns += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"}]
    assert client.responses.create(input=turns, **asked).output_text == "It is sunny."


def test_completions(client):
    answer = client.completions.create(model="hello", prompt=["a", "b"], n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert {choice.text for choice in answer.choices} == {"Hello there, friend."}


def test_moderations(client):
    answer = client.moderations.create(input=["a nice day", "another"])
    assert [result.flagged for result in answer.results] == [False, False]
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----"
    assert len(client.moderations.create(input=[{"type": "text", "text": key}]).results) == 1


def test_embeddings(real):
    inputs = ["a fox", "a hen"]
    floats = real.embeddings.create(model="firecrest-chat", input=inputs, encoding_format="float")
    # The client asks for base64 by itself, and decodes it: after it held the answer to its types, which know of floats only.
    with OpenAI(base_url=real.base_url, api_key="any", max_retries=0) as lax:
        decoded = lax.embeddings.create(model="firecrest-chat", input=inputs)
    assert len(floats.data) == 2 and floats.usage.prompt_tokens > 0
    for one, other in zip(floats.data, decoded.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, rel=1e-6)


def test_models(client):
    assert "hello" in [model.id for model in client.models.list()]
    assert client.models.retrieve("hello").object == "model"


def test_errors_are_the_clients_own(client):
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="hello", messages=[{"role": "user", "content": 3}])
    assert wrong.value.param == "messages[0].content"
    assert wrong.value.request_id
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=MESSAGES)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_what_must_not_be_said_is_filtered(client):
    assert client.chat.completions.create(model="leaks", messages=MESSAGES).choices[0].finish_reason == "content_filter"
    chunks = list(client.chat.completions.create(model="leaks", messages=MESSAGES, stream=True))
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "content_filter"
    assert "PRIVATE KEY" not in "".join(chunk.to_json() for chunk in chunks)
    response = client.responses.create(model="leaks", input="Hi")
    assert response.status == "incomplete" and response.incomplete_details.reason == "content_filter"


class Person(BaseModel, extra="forbid"):
    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=120)
    friend: bool


def test_an_answer_of_a_schema(real):
    turns = [{"role": "user", "content": "Who are you?"}]
    parsed = real.chat.completions.parse(model="firecrest-chat", messages=turns, response_format=Person, max_completion_tokens=160)
    assert isinstance(parsed.choices[0].message.parsed, Person)
    response = real.responses.parse(model="firecrest-chat", input="Who are you?", text_format=Person, max_output_tokens=160)
    assert isinstance(response.output_parsed, Person)


def test_logprobs_and_seeds(real):
    asked = {"model": "firecrest-chat", "messages": MESSAGES, "seed": 3, "max_completion_tokens": 8, "logprobs": True, "top_logprobs": 2}
    one, other = (real.chat.completions.create(**asked).choices[0] for _ in range(2))
    assert one == other
    assert "".join(token.token for token in one.logprobs.content) == one.message.content


def test_a_stream_that_is_left_ends_the_answer(real, embedded):
    with real.chat.completions.create(model="firecrest-chat", messages=MESSAGES, max_completion_tokens=900, stream=True) as stream:
        next(iter(stream))
    embedded.rests()


def llm(home, *arguments):
    """Runs `llm` with its settings in a folder of its own."""
    program = os.path.join(os.path.dirname(sys.executable), "llm")
    environment = {**os.environ, "LLM_USER_PATH": str(home), "OPENAI_API_KEY": "any"}
    return subprocess.run([program, *arguments], env=environment, input="", capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def home(scripted, embedded, tmp_path_factory):
    home = tmp_path_factory.mktemp("llm")
    model = "- model_id: {0}\n  model_name: {1}\n  api_base: {2}/v1\n  supports_tools: true\n  supports_schema: true\n"
    models = [("scripted", "hello", scripted.url), ("fox", "firecrest-chat", embedded.url)]
    (home / "extra-openai-models.yaml").write_text("".join(model.format(*each) for each in models))
    return home


def test_llm_prompts(home):
    assert llm(home, "prompt", "-m", "scripted", "Hi").strip() == "Hello there, friend."
    assert llm(home, "prompt", "-m", "scripted", "--no-stream", "Hi").strip() == "Hello there, friend."
    said = llm(home, "prompt", "-m", "fox", "-o", "seed", "1", "-o", "max_tokens", "12", "Tell me a story.")
    assert 0 < len(said.split()) <= 12


def test_llm_with_a_schema(home):
    said = json.loads(llm(home, "prompt", "-m", "fox", "--schema", json.dumps(Person.model_json_schema()), "Who are you?"))
    Person.model_validate(said)
