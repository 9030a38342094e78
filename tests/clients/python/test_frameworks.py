"""What programs in Python are built of: langchain-openai, LiteLLM as a client, pydantic-ai."""

import json
import os

import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_core.tools import tool as langchain_tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

# It asks for a list of prices when it is loaded.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm  # noqa: E402

HI = [{"role": "user", "content": "Hi"}]
LONG = [{"role": "user", "content": "a fox and a hen " * 2000}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Person(BaseModel):
    """Someone. As libraries write its schema, nothing is said of other members."""

    friend: bool
    old: bool


@langchain_tool
def get_weather(city: str) -> str:
    """The weather of a place."""
    return f"Sunny in {city}"


def chat(server, model, **more):
    return ChatOpenAI(model=model, base_url=f"{server.url}/v1", api_key="any", max_retries=0, **more)


@pytest.mark.parametrize("responses", [False, True])
def test_langchain_openai(scripted, responses):
    more = {"use_responses_api": responses}
    assert chat(scripted, "hello", **more).invoke("Hi").text == "Hello there, friend."
    assert "".join(piece.text for piece in chat(scripted, "hello", **more).stream("Hi")) == "Hello there, friend."
    caller = chat(scripted, "weather", **more).bind_tools([get_weather])
    first = caller.invoke("Weather?")
    assert [(call["name"], call["args"]) for call in first.tool_calls] == [("get_weather", {"city": "Paris"})]
    turns = [("user", "Weather?"), first, get_weather.invoke(first.tool_calls[0])]
    assert caller.invoke(turns).text == "It is sunny."
    named = chat(scripted, "repeats", **more).bind_tools([get_weather], tool_choice="get_weather")
    assert len(named.invoke("Weather?").tool_calls) == 1
    pieces = None
    for piece in named.stream("Weather?"):
        pieces = piece if pieces is None else pieces + piece
    assert [(call["name"], call["args"]) for call in pieces.tool_calls] == [("get_weather", {"city": "Paris"})]


def test_langchain_openai_with_a_schema(embedded):
    real = chat(embedded, "firecrest-chat", max_completion_tokens=160)
    for method in ("json_schema", "function_calling"):
        assert isinstance(real.with_structured_output(Person, method=method).invoke("Who are you?"), Person), method
    with pytest.raises(ContextOverflowError):
        real.invoke(LONG[0]["content"])
    vectors = OpenAIEmbeddings(model="firecrest-chat", base_url=f"{embedded.url}/v1", api_key="any", check_embedding_ctx_length=False)
    assert len(vectors.embed_documents(["a fox", "a hen"])) == 2


def lite(server, model, messages=HI, **more):
    """By each of the providers that speak with the server."""
    for provider, base in [("openai", f"{server.url}/v1"), ("hosted_vllm", f"{server.url}/v1"), ("anthropic", server.url)]:
        asked = {"model": f"{provider}/{model}", "messages": messages, "api_base": base, "api_key": "any", "max_tokens": 160, **more}
        yield provider, asked


def test_litellm(scripted):
    for provider, asked in lite(scripted, "hello"):
        whole = litellm.completion(**asked, num_retries=0)
        assert whole.choices[0].message.content == "Hello there, friend.", provider
        assert whole.usage.total_tokens > 0
        chunks = list(litellm.completion(**asked, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello there, friend.", provider
    named = {"type": "function", "function": {"name": "get_weather"}}
    for provider, asked in lite(scripted, "repeats", tools=[WEATHER], tool_choice=named):
        whole = litellm.completion(**asked)
        streamed = litellm.stream_chunk_builder(list(litellm.completion(**asked, stream=True)))
        for answer in (whole, streamed):
            assert answer.choices[0].finish_reason == "tool_calls", provider
            (call,) = answer.choices[0].message.tool_calls
            assert json.loads(call.function.arguments) == {"city": "Paris"}, provider


def test_litellm_knows_our_errors(scripted, embedded):
    for provider, asked in lite(embedded, "firecrest-chat", LONG):
        with pytest.raises(litellm.ContextWindowExceededError):
            litellm.completion(**asked)
    for provider, asked in lite(scripted, "nobody"):
        with pytest.raises(litellm.NotFoundError):
            litellm.completion(**asked)


def test_litellm_with_a_schema(embedded):
    for provider, asked in lite(embedded, "firecrest-chat", response_format=Person):
        if provider != "anthropic":  # There it makes a tool of the schema for models whose names it doesn't know.
            Person.model_validate_json(litellm.completion(**asked).choices[0].message.content)


def agents(server, model, **more):
    openai = OpenAIProvider(base_url=f"{server.url}/v1", api_key="any")
    yield Agent(OpenAIChatModel(model, provider=openai), **more)
    yield Agent(OpenAIResponsesModel(model, provider=openai), **more)
    yield Agent(AnthropicModel(model, provider=AnthropicProvider(base_url=server.url, api_key="any")), **more)


def test_pydantic_ai(scripted):
    for agent in agents(scripted, "hello"):
        assert agent.run_sync("Hi").output == "Hello there, friend."
    for agent in agents(scripted, "editor"):
        file = {"a.txt": "the quick brown fx"}

        @agent.tool_plain
        def read_file(path: str) -> str:
            """Reads a file."""
            return file[path]

        @agent.tool_plain
        def replace(path: str, old: str, new: str) -> str:
            """Replaces a text in a file."""
            file[path] = file[path].replace(old, new)
            return "done"

        assert agent.run_sync("Mend a.txt").output == "Mended."
        assert file["a.txt"] == "the quick brown fox"


def test_pydantic_ai_streams(scripted):
    import asyncio

    async def pieces(agent):
        async with agent.run_stream("Hi") as run:
            return [piece async for piece in run.stream_text(delta=True, debounce_by=None)]

    for agent in agents(scripted, "hello"):
        said = asyncio.run(pieces(agent))
        assert "".join(said) == "Hello there, friend."


def test_pydantic_ai_with_a_schema(embedded):
    for agent in agents(embedded, "firecrest-chat", output_type=Person, model_settings={"max_tokens": 160}):
        assert isinstance(agent.run_sync("Who are you?").output, Person)


def test_pydantic_ai_knows_our_errors(scripted):
    for agent in agents(scripted, "nobody"):
        with pytest.raises(ModelHTTPError) as wrong:
            agent.run_sync("Hi")
        assert wrong.value.status_code == 404
