"""instructor, in the modes that most of its users have: a tool that must be called, and an answer of a schema."""

import instructor
import pytest
from instructor import Mode
from openai import OpenAI
from pydantic import BaseModel

ASKED = {"messages": [{"role": "user", "content": "Who are you?"}], "max_retries": 0}


class Member(BaseModel):
    name: str
    age: int


class People(BaseModel):
    people: list[Member]


def client(server, mode):
    return instructor.from_openai(OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0), mode=mode)


@pytest.mark.parametrize("mode, model", [(Mode.TOOLS, "called-people"), (Mode.JSON_SCHEMA, "people")])
def test_an_answer(scripted, mode, model):
    whole = client(scripted, mode).create(model=model, response_model=People, **ASKED)
    assert [member.name for member in whole.people] == ["Ada", "Alan", "Grace", "Edsger"]
