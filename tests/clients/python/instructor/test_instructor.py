"""instructor, in the modes that most of its users have: a tool that must be called, and an answer of a schema."""

import instructor
import pytest
from instructor import Mode
from openai import OpenAI
from pydantic import BaseModel

ASKED = {"messages": [{"role": "user", "content": "Who are you?"}], "max_retries": 0}
MODES = [Mode.TOOLS, Mode.JSON_SCHEMA]


class Person(BaseModel):
    """Someone. Its schema says nothing of other members."""

    friend: bool
    old: bool


class Member(BaseModel):
    name: str
    age: int


class People(BaseModel):
    people: list[Member]


def client(server, mode):
    return instructor.from_openai(OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0), mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_of_a_real_model(embedded, mode):
    person = client(embedded, mode).create(model="firecrest-chat", response_model=Person, max_tokens=160, **ASKED)
    assert isinstance(person, Person)
    *_, last = client(embedded, mode).create_partial(model="firecrest-chat", response_model=Person, max_tokens=160, **ASKED)
    assert last.friend is not None and last.old is not None


# Where parts are asked for, instructor names the tool after a class of its own.
SCRIPTS = [(Mode.TOOLS, "called-people", "called-partial-people"), (Mode.JSON_SCHEMA, "people", "people")]


@pytest.mark.parametrize("mode, model, partial", SCRIPTS)
def test_an_answer_comes_as_it_is_made(scripted, mode, model, partial):
    whole = client(scripted, mode).create(model=model, response_model=People, **ASKED)
    assert [member.name for member in whole.people] == ["Ada", "Alan", "Grace", "Edsger"]
    sizes = {len(part.people or []) for part in client(scripted, mode).create_partial(model=partial, response_model=People, **ASKED)}
    assert sizes >= {1, 2, 3, 4}
