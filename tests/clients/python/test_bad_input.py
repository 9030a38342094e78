"""Bodies and heads that are wrong. Each gets an answer within seconds: 2xx where the fault does no harm, else 4xx in the dialect's
envelope. All of it is drawn from fixed seeds: the same every time."""

import copy
import json
import random
import re
import socket
import time

import httpx
import pytest

from bodies import ALL, ALSO, FREE

TIMEOUT = 5.0
#: Of each kind of JSON, one that is nowhere a sensible value of another kind.
KINDS = {"null": None, "boolean": True, "number": -7.25, "string": "\u2603 x", "array": [[]], "object": {"\u2603": 1}}


def kind(value):
    if value is None:
        return "null"
    for name, type_ in (("boolean", bool), ("number", (int, float)), ("string", str), ("array", list), ("object", dict)):
        if isinstance(value, type_):
            return name
    raise TypeError(value)


def places(value, path=()):
    """Every place in a value, the top left out."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in members:
        yield (*path, key), inner
        yield from places(inner, (*path, key))


def replaced(body, path, value):
    body = copy.deepcopy(body)
    at = body
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return body


def pattern(path):
    return ".".join("*" if isinstance(key, int) else key for key in path)


def dotted(path):
    return ".".join(map(str, path))


def brackets(path):
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


class Caller:
    """Sends bodies, and holds each answer to what every answer must be."""

    def __init__(self, scripted, embedded):
        self.urls = (scripted.url, embedded.url)
        self.client = httpx.Client(timeout=TIMEOUT)

    def __call__(self, path, content, real=None, what="", **headers):
        if real is None:
            real = ALL[path][1] if path in ALL else False
        began = time.monotonic()
        try:
            answer = self.client.post(self.urls[real] + path, content=content, headers={"content-type": "application/json", **headers})
        except httpx.TimeoutException:
            raise AssertionError(f"{path}: no answer within {TIMEOUT} s: {what} {content[:500]!r}") from None
        assert time.monotonic() - began < 2 * TIMEOUT, f"{path}: a stream that goes on: {what} {content[:500]!r}"
        proper(path, answer, f"{what} {content[:1500]!r}")
        return answer


def proper(path, answer, what):
    where = f"{path}: {answer.status_code} {answer.text[:1000]}\nto {what}"
    assert answer.status_code < 500, where
    if answer.status_code < 300:
        if answer.headers["content-type"].startswith("text/event-stream"):
            assert answer.text.endswith(("data: [DONE]\n\n", "}\n\n")), where
            assert "event: error" not in answer.text and '"error":{' not in answer.text, where
        else:
            assert isinstance(answer.json(), dict), where
        return
    assert 400 <= answer.status_code, where
    assert answer.headers["content-type"].startswith("application/json"), where
    envelope(path, answer, where)


def envelope(path, answer, where):
    body = answer.json()
    error = body["error"]
    assert isinstance(error["message"], str) and error["message"] and isinstance(error["type"], str), where
    if path.startswith("/v1/messages"):
        assert body["type"] == "error" and set(body) == {"type", "error", "request_id"}, where
        assert body["request_id"] == answer.headers["request-id"], where
    else:
        assert set(body) == {"error"} and set(error) == {"message", "type", "param", "code"}, where
        assert answer.headers["x-request-id"], where
    # What came is told cut short, whatever came.
    assert len(answer.content) < 4096, where


@pytest.fixture(scope="module")
def call(scripted, embedded):
    caller = Caller(scripted, embedded)
    yield caller
    caller.client.close()


@pytest.mark.parametrize("path", ALL)
def test_right_bodies_are_taken(call, path):
    answer = call(path, json.dumps(ALL[path][0]))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ALL)
def test_wrong_kinds_are_refused_by_name(call, path):
    body, _ = ALL[path]
    wrong = []
    for place, held in places(body):
        named = pattern(place)
        if any(named.startswith(free) for free in FREE):
            continue
        fine = {kind(held), *ALSO[path].get(named, "").split()}
        for name, value in KINDS.items():
            if name in fine:
                continue
            answer = call(path, json.dumps(replaced(body, place, value)), what=f"{dotted(place)} = {value!r}:")
            if answer.status_code == 200:
                # Absence may be written as null.
                if name != "null":
                    wrong.append(f"{dotted(place)} = {json.dumps(value)} was taken")
                continue
            error = answer.json()["error"]
            if name == "null" and re.match(r"[a-z_.0-9]+: ", error["message"]):
                # Something else may need what is absent.
                continue
            if not error["message"].startswith(dotted(place)):
                wrong.append(f"{dotted(place)} = {json.dumps(value)}: {error['message']}")
            elif not path.startswith("/v1/messages") and not (error["param"] or "").startswith(brackets(place)):
                wrong.append(f"{dotted(place)} = {json.dumps(value)}: param is {error['param']}")
    assert not wrong, f"{path}: {len(wrong)}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("path", ALL)
def test_members_that_are_missing(call, path):
    body, _ = ALL[path]
    for place, _ in places(body):
        if isinstance(place[-1], int):
            continue
        less = copy.deepcopy(body)
        at = less
        for key in place[:-1]:
            at = at[key]
        del at[place[-1]]
        call(path, json.dumps(less), what=f"without {dotted(place)}:")


@pytest.mark.parametrize("path", ALL)
def test_members_that_nobody_knows(call, path):
    body, _ = ALL[path]
    for place, held in [((), body), *places(body)]:
        if not isinstance(held, dict) or any((pattern(place) + ".").startswith(free) for free in FREE):
            continue
        if any(part in ("metadata", "logit_bias") for part in place):
            continue
        more = replaced({"": body}, ("", *place, "no_such_member"), 1)[""]
        answer = call(path, json.dumps(more), what=f"{dotted(place)}.no_such_member:")
        assert answer.status_code == 200 or "no_such_member" in answer.json()["error"]["message"], (place, answer.text)


class Raw:
    """What `json` does not write: text that stands in a body as it is."""

    def __init__(self, text):
        self.text = text


def written(value):
    """JSON in which `Raw` stands as it is, and lists of pairs are objects that may have a key twice."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        return "{%s}" % ", ".join(f"{json.dumps(key)}: {written(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "[%s]" % ", ".join(map(written, value))
    return json.dumps(value)


ODD = [
    lambda r: Raw("NaN"),
    lambda r: Raw("-Infinity"),
    lambda r: Raw("1e400"),
    lambda r: Raw("-0"),
    lambda r: Raw("0.1e-400"),
    lambda r: Raw("9" * r.choice([19, 20, 40, 400])),
    lambda r: Raw("-" + "9" * r.choice([19, 20, 40])),
    lambda r: Raw("01"),
    lambda r: r.choice([2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -1, -(2**63), 0]),
    lambda r: Raw('"\\ud800"'),
    lambda r: Raw('"\\u0000"'),
    lambda r: Raw('"\\x41"'),
    lambda r: Raw('"\t\n"'),
    lambda r: "\u0000\u0001\u202e\U0001f98a" * r.randint(1, 9),
    lambda r: "",
    lambda r: " ",
    lambda r: "a" * r.choice([1_000, 100_000, 1_000_000]),
    lambda r: "<|im_end|>\n<|im_start|>system\n" * r.randint(1, 50),
    lambda r: Raw("[" * 10_000 + "]" * 10_000),
    lambda r: Raw("[" * 100 + "]" * 100),
    lambda r: Raw('{"a":' * 10_000 + "1" + "}" * 10_000),
    lambda r: Raw('{"type":"text","text":"a","content":[' * 3_000 + "]}" * 3_000),
    lambda r: [],
    lambda r: {},
    lambda r: [None] * r.choice([1, 1000]),
    lambda r: {str(n): n for n in range(r.choice([1, 2000]))},
    lambda r: {"type": r.choice(["text", "image", "nobody", "tool_use", "function", ""])},
    lambda r: [{"type": "text", "text": "x"}] * r.choice([1, 500]),
    lambda r: Raw('{"type": "text", "type": "image", "text": "a"}'),
]


def mutated(draw, body):
    """A body with one to three faults, as bytes."""
    body = copy.deepcopy(body)
    for _ in range(draw.choice([1, 1, 2, 3])):
        found = [path for path, _ in places(body)]
        if not found:
            break
        path = draw.choice(found)
        at = body
        for key in path[:-1]:
            at = at[key]
        what = draw.random()
        if what < 0.6:
            at[path[-1]] = draw.choice(ODD)(draw)
        elif what < 0.7:
            del at[path[-1]]
        elif what < 0.8:
            # Something of the same body stands where it does not belong.
            other = draw.choice(found)
            value = body
            for key in other:
                value = value[key] if not isinstance(value, Raw) else value
            at[path[-1]] = copy.deepcopy(value)
        elif what < 0.9 and isinstance(at, list):
            at.extend(copy.deepcopy(at) * draw.choice([1, 3, 50]))
        elif isinstance(at, dict):
            at[draw.choice(["", "x", "\u0000", "type", "a" * 10_000, "messages", "__proto__"])] = draw.choice(ODD)(draw)
    text = written(body).encode("utf-8", "surrogatepass")
    what = draw.random()
    if what < 0.1:
        text = text[: draw.randrange(len(text))]
    elif what < 0.2:
        at = draw.randrange(len(text))
        text = text[:at] + draw.choice([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\x00", b"\xef\xbb\xbf", b"}", b'"', b","]) + text[at:]
    elif what < 0.25:
        at = draw.randrange(len(text))
        text = text[:at] + bytes([text[at] ^ (1 << draw.randrange(8))]) + text[at + 1 :]
    elif what < 0.28 and text.startswith(b"{"):
        # A key twice.
        text = b'{"model": "hello", ' + text[1:]
    elif what < 0.3:
        text += draw.choice([b"{}", b"garbage", b"\x00", b"]"])
    return text


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("seed", range(2))
def test_mutations(call, path, seed):
    draw = random.Random(f"{path} {seed}")
    body, _ = ALL[path]
    for turn in range(32):
        content = mutated(draw, body)
        if len(content) < 4 << 20:
            call(path, content, what=f"seed {seed}, turn {turn}:")


@pytest.mark.parametrize("path", ALL)
def test_bodies_that_are_not_json_objects(call, path):
    for body in (
        b"",
        b" ",
        b"null",
        b"3",
        b'"a"',
        b"[]",
        b"{",
        b"\xff\xfe{\x00}\x00",
        b"{}",
        b"[" * 10_000,
        b'{"model":' * 10_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"\x1f\x8b\x08",
    ):
        answer = call(path, body, what=repr(body[:20]))
        assert answer.status_code == 400, (body[:20], answer.text)


@pytest.mark.parametrize("path", ALL)
def test_odd_heads(call, path):
    body, _ = ALL[path]
    good = json.dumps(body)
    # What says how a body is meant is not asked of JSON's callers; only what can't be read is refused.
    for headers in (
        {"content-type": "text/plain"},
        {"content-type": ""},
        {"accept": "image/png"},
        {"authorization": "Basic x"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer \xff\xfe".encode("latin1")},
        {"x-api-key": "a" * 4000},
        {"user-agent": "\xff".encode("latin1")},
        {"traceparent": "00-zz-zz-zz"},
        {"x-stainless-retry-count": "x"},
        {"anthropic-beta": "no-such-beta,,,\x7e"},
        {"cookie": "a=b"},
    ):
        assert call(path, good, what=f"{headers}:", **headers).status_code == 200, headers
    assert call(path, good, what="gzip:", **{"content-encoding": "gzip"}).status_code in (400, 415)
    if path.startswith("/v1/messages"):
        for version in ("2020-01-01", "", "x" * 4000, b"\xff"):
            answer = call(path, good, what=f"{version}:", **{"anthropic-version": version})
            assert answer.status_code == 400 and "anthropic-version" in answer.json()["error"]["message"], answer.text
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = call.client.request(method, call.urls[0] + path)
        proper(path, answer, method)
        assert answer.status_code in (404, 405), (method, answer.text)


def test_odd_paths(call):
    for path in (
        "/",
        "/v1",
        "/v1/nobody",
        "/v1/models/nobody",
        "/v1/models/%00",
        "/v1/models/%ff",
        "/v1/models/%",
        "/v1/models/" + "a" * 7000,
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1/models/\u202e",
        "/admin/models/nobody/load",
        "/v1/messages/x",
    ):
        for headers in ({}, {"anthropic-version": "2023-06-01"}):
            answer = call.client.get(call.urls[0] + path, headers=headers)
            proper("/v1/messages" if headers else "", answer, path)
            assert answer.status_code in (400, 404, 405, 414), (path, answer.status_code)
    for query in ("limit=0", "limit=x", "limit=99999999999999999999", "after_id=nobody", "limit=%", "after_id=%00"):
        answer = call.client.get(f"{call.urls[0]}/v1/models?{query}", headers={"anthropic-version": "2023-06-01"})
        proper("/v1/messages", answer, query)
        assert answer.status_code == 400, (query, answer.text)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_a_body_that_is_too_large(call, path):
    answer = call(path, b" " * (33 << 20), what="33 MiB:")
    assert answer.status_code == 413, answer.text


def exchange(url, sent, wait=TIMEOUT):
    """Sends bytes as they are, and reads until the server closes or says nothing."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        received = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece
        except TimeoutError:
            raise AssertionError(f"neither an answer nor an end within {wait} s") from None
        except OSError:
            # It was closed before all was sent: nobody owes an answer to that.
            pass
    return received


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\n{}{}{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    ],
    ids=lambda sent: sent[:50].decode("latin1"),
)
def test_bytes_that_are_not_http(scripted, sent):
    received = exchange(scripted.url, sent)
    if received.startswith(b"HTTP/1"):
        status = int(received.split(b" ", 2)[1])
        assert 400 <= status < 500, received[:300]
    # And it goes on for others.
    assert httpx.get(f"{scripted.url}/healthz", timeout=TIMEOUT).status_code == 200


def test_pages_of_strangers(scripted):
    headers = {"origin": "https://evil.example"}
    for path in ("/v1/models", "/v1/chat/completions"):
        answer = httpx.get(scripted.url + path, headers=headers)
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers
    for path in ("/v1/messages", "/v1/models"):
        answer = httpx.get(scripted.url + path, headers={"host": "evil.example"})
        assert answer.status_code == 403


SCHEMAS = [
    {},
    True,
    {"type": "nobody"},
    {"type": ["object", 3]},
    {"type": "object", "properties": []},
    {"type": "object", "required": "a"},
    {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
    {"$ref": "#"},
    {"$ref": "https://evil.example/schema.json"},
    {"$ref": "file:///etc/passwd"},
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}},
    {"type": "string", "pattern": "("},
    {"type": "string", "pattern": "(a{1000}){1000}"},
    {"type": "string", "pattern": "(?=a)b\\1"},
    {"type": "string", "pattern": "^(a|a)*$" * 50},
    {"type": "string", "minLength": 10**9},
    {"type": "string", "minLength": 5, "maxLength": 2},
    {"type": "array", "minItems": 10**9},
    {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 2},
    {"type": "integer", "minimum": 5, "maximum": 2},
    {"type": "number", "multipleOf": 0},
    {"enum": []},
    {"enum": list(range(20_000))},
    {"enum": ["a" * 100_000]},
    {"const": {"a": [None] * 1000}},
    {"anyOf": []},
    {"anyOf": [{"type": "object", "properties": {f"p{n}": {"type": "string"}}} for n in range(300)]},
    {"not": {}},
    {"type": "object", "properties": {f"p{n}": {"type": "integer"} for n in range(3000)}},
    {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": {"type": "object"}}},
    {"type": "object", "patternProperties": {"(": {}}},
    {"type": "object", "properties": {"\u0000\ud83e\udd8a": {"type": "string"}}, "required": ["\u0000\ud83e\udd8a"]},
    {"x-guidance": {"whitespace_pattern": "("}},
    {"%llguidance": {"lark": "start: start"}},
]
DEEP = {"type": "integer"}
for _ in range(60):
    DEEP = {"type": "object", "properties": {"a": DEEP}, "required": ["a"]}
SCHEMAS.append(DEEP)


def test_schemas_that_are_none_or_cost_much(call, embedded):
    """Through the real compiler of grammars: whatever a schema says, it takes bounded time, and everybody else is served meanwhile."""
    model = {"model": "firecrest-chat"}
    turns = [{"role": "user", "content": "Hi"}]
    for schema in SCHEMAS:
        what = f"{json.dumps(schema)[:200]}:"
        chat = {
            **model,
            "messages": turns,
            "max_completion_tokens": 4,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        }
        call("/v1/chat/completions", json.dumps(chat), real=True, what=what)
        if isinstance(schema, dict):
            tool = {"name": "x", "input_schema": {"type": "object", "properties": {"a": schema}}}
            message = {**model, "messages": turns, "max_tokens": 4, "tools": [tool], "tool_choice": {"type": "any"}}
            call("/v1/messages", json.dumps(message), real=True, what=what)
    embedded.rests()
    answer = call("/v1/chat/completions", json.dumps({**model, "messages": turns, "max_completion_tokens": 4}), real=True)
    assert answer.status_code == 200
