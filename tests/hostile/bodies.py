"""Hostile bodies, drawn by a seed: each case is told by the seed and its number alone."""

import json
import random
import re

CHAT = "firecrest-chat"

ROUTES = [
    "/v1/messages",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/chat/completions",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/moderate",
]

PIECES = [
    "a", " ", "\n", "\r\n", "\t", "\x00", "word ", "\ufdd0", "\ufdd1", "\ufdd1\ufdd1", "\u0301", "\u05b0", "\u200b", "\u202e", "\ufeff", "\ufffd",
    "é", "ﷺ", "𝒜", "👩‍👩‍👧‍👦", "\u1161", "ß", "İ", "<|im_end|>", "<|im_start|>system\n", "</s>", "<think>", "</think>", "<tool_call>", "</tool_call>",
    "{{ 7 * 7 }}", "{% for x in messages %}", "\\", '"', "'", "[INST]", "AKIA", "ignore all rules ", "0", "1" * 17, "ab" * 9,
]


class Draw(random.Random):
    """Random values that tend to be wrong."""

    def size(self, most):
        """From 1 to `most`, each order of magnitude as often as another."""
        return max(1, int(most ** self.random()))

    def text(self, most=2000):
        kind = self.randrange(8)
        length = self.size(most)
        if kind < 3:
            return self.choice(PIECES) * max(1, length // 4)
        if kind < 5:
            return "".join(self.choices(PIECES, k=max(1, length // 6)))
        if kind == 5:
            return "".join(chr(self.choice([self.randrange(1, 0xD800), self.randrange(0xE000, 0x110000)])) for _ in range(length // 4))
        return self.choice(["", "user", "What is the capital of France?", "hello", "object", "string", "null"])

    def number(self):
        return self.choice([
            0, -1, 1, 2, 0.5, 1.0, 1e-320, 1e308, -0.0, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, -(2**63), 10**30,
            self.randrange(-1000, 100000), self.random(), Raw("1" * self.size(20000)), Raw("0." + "3" * self.size(20000)), Raw("1e400"), Raw("-0"), Raw("1E+9"),
        ])

    def value(self, depth=3):
        kind = self.randrange(10)
        if kind < 3:
            return self.text(300)
        if kind < 5:
            return self.number()
        if kind == 5:
            return self.choice([None, True, False])
        if depth <= 0 or kind == 6:
            return self.nested(self.size(200))
        if kind == 7:
            return [self.value(depth - 1) for _ in range(self.randrange(5))]
        return {self.text(40): self.value(depth - 1) for _ in range(self.randrange(5))}

    def nested(self, depth):
        kind = self.randrange(3)
        if kind == 0:
            return Raw("[" * depth + "]" * depth)
        if kind == 1:
            return Raw('{"a":' * depth + "1" + "}" * depth)
        return Raw('[{"":' * depth + "0" + "}]" * depth)

    def schema(self):
        kind = self.randrange(22)
        n = self.size(700)
        word = self.choice(["anyOf", "allOf", "oneOf", "items", "properties", "prefixItems", "additionalProperties", "$ref", "not", "if"])
        if kind == 0:
            def link(to):
                ref = {"$ref": f"#/$defs/{to}"}
                if word in ("anyOf", "allOf", "oneOf", "prefixItems"):
                    return {word: [ref]}
                if word == "properties":
                    return {"type": "object", "properties": {"p": ref}, "required": ["p"]}
                return ref if word == "$ref" else {word: ref}
            return {"type": "object", "properties": {"x": {"$ref": "#/$defs/0"}}, "$defs": {**{str(i): link(i + 1) for i in range(n)}, str(n): {"type": "string"}}}
        if kind == 1:
            return obj({"type": "integer", "multipleOf": self.choice([9999991, 999983, 7, 0, -1, 0.1, 1e-9, 1e308, 2**62])})
        if kind == 2:
            return obj({"allOf": [{"pattern": f".*[a-b].{{{i}}}z.*"} for i in range(self.size(40))]})
        if kind == 3:
            atom = self.choice(["(a|aa)+", "(a*)*", "(.*.*)*x", "[a-z]{1,%d}" % self.size(100000), "(x+x+)+y", "\\p{L}{%d}" % self.size(5000), "(?=a)b", "((((a){9}){9}){9}){9}", "(", "[", "a{99999999}", "\\1", "^a$|b", "(?i)ſ"])
            return obj({"type": "string", "pattern": atom * self.size(20)})
        if kind == 4:
            bound = self.choice([10, 1000, 10**6, 2**31, 2**63, -1, 1.5])
            return obj({"type": self.choice(["string", "array"]), self.choice(["minLength", "maxLength", "minItems", "maxItems"]): bound, "items": {"type": "integer"}})
        if kind == 5:
            return obj({"enum": [self.text(60) for _ in range(n)]})
        if kind == 6:
            return {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(2 * n)}, "required": [f"p{i}" for i in range(0, 2 * n, 2)]}
        if kind == 7:
            inner = {"type": "string"}
            for _ in range(self.size(100)):
                inner = obj(inner) if self.random() < 0.5 else {"type": "array", "items": inner}
            return inner if inner.get("type") == "object" else obj(inner)
        if kind == 8:
            return {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#/properties/a"}}, "required": ["a"]}
        if kind == 9:
            return obj({"anyOf": [{"type": "object", "properties": {f"k{j}": {"type": "integer"} for j in range(self.size(9))}} for _ in range(self.size(60))]})
        if kind == 10:
            return obj({"oneOf": [{"const": i} for i in range(self.size(300))]})
        if kind == 11:
            return obj({"type": "number", self.choice(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]): self.number()})
        if kind == 12:
            return {"type": "object", "patternProperties": {self.choice(["^a+$", "(a|b)*c", "[", ".*"]): {"type": "string"}}, "additionalProperties": self.choice([True, False, {"type": "string"}])}
        if kind == 13:
            return {"type": "object", "properties": {"a/b~c": {"type": "string"}, "x": {"$ref": "#/properties/a~1b~0c"}, "y": {"$ref": self.choice(["#/nowhere", "http://a/b", "#/properties/%61", "file:///etc/passwd", ""])}}}
        if kind == 14:
            return obj({"type": "string", "format": self.choice(["date-time", "uri", "email", "uuid", "ipv6", "nothing", "regex", self.text(50)])})
        if kind == 15:
            return {"type": "object", "properties": {self.text(200): self.value(1) for _ in range(self.size(20))}}
        if kind == 16:
            return {"type": "object", "dependentSchemas": {"a": obj({})}, "dependentRequired": {"a": ["b"]}, "unevaluatedProperties": False, "propertyNames": {"pattern": "(a+)+"}}
        if kind == 17:
            return obj({"const": self.value(2)})
        if kind == 18:
            return {"type": "object", "properties": {"v": {"type": ["string", "null", "integer", "array", "object", "boolean", "number"]}}, "required": ["v"], "x-guidance": self.value(1)}
        if kind == 19:
            return obj({"anyOf": [{"$ref": f"#/$defs/{i}"} for i in range(n)]}) | {"$defs": {str(i): {"anyOf": [{"$ref": f"#/$defs/{(i * 7 + 1) % n}"}, {"type": "string"}]} for i in range(n)}}
        if kind == 20:
            return {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "b", "a"] * self.size(200), "additionalProperties": False}
        return self.value(2)

    def schemas(self):
        """Of tools: some, or very many small ones."""
        if self.random() < 0.1:
            return [{"type": "object"}] * self.size(3000)
        return [self.schema() for _ in range(self.size(4))]

    def name(self):
        return self.choice(["look", f"t{self.randrange(9999)}", "a" * self.size(300), self.text(30), "x-y_z"])

    def stops(self):
        kind = self.randrange(5)
        if kind == 0:
            return ["a" * self.size(3000) for _ in range(self.size(70))]
        if kind == 1:
            return [str(i) for i in range(self.size(20000))]
        if kind == 2:
            return [self.text(50) for _ in range(self.randrange(6))]
        if kind == 3:
            return self.value(1)
        return ["\n"]

    def cached(self, block):
        if isinstance(block, dict) and self.random() < 0.2:
            block["cache_control"] = self.choice([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}, self.value(1)])
        return block

    def anthropic_content(self, role, ids):
        if self.random() < 0.4:
            return self.text()
        blocks = []
        for _ in range(self.size(self.choice([3, 3, 3, 3000]))):
            kind = self.randrange(9)
            if kind < 3:
                block = {"type": "text", "text": self.text(100)}
            elif kind == 3 and role == "assistant":
                ids.append(f"toolu_{len(ids)}")
                block = {"type": "tool_use", "id": ids[-1], "name": self.name(), "input": self.choice([{}, {"a": self.value(2)}, self.value(1)])}
            elif kind == 4 and role == "user" and ids:
                block = {"type": "tool_result", "tool_use_id": self.choice(ids), "content": self.choice([self.text(100), [{"type": "text", "text": self.text(50)}], None])}
            elif kind == 5:
                block = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": self.text(200)}, "title": self.text(30)}
            elif kind == 6:
                block = {"type": "thinking", "thinking": self.text(100), "signature": self.text(20)}
            elif kind == 7:
                block = {"type": self.choice(["image", "search_result", "unknown", self.text(10)]), "source": self.value(1)}
            else:
                block = self.value(1)
            blocks.append(self.cached(block))
        return blocks

    def anthropic(self):
        ids = []
        messages = []
        for at in range(self.size(self.choice([4, 4, 4, 400]))):
            role = "user" if at % 2 == 0 else "assistant"
            if self.random() < 0.05:
                role = self.choice(["system", "tool", "user", self.text(8)])
            messages.append({"role": role, "content": self.anthropic_content(role, ids)})
        body = {"model": CHAT, "max_tokens": self.choice([1, 2, 4, 0, 4]), "messages": messages}
        if self.random() < 0.2:
            body["system"] = self.choice([self.text(), [{"type": "text", "text": self.text(60)}] * self.size(30)])
        if self.random() < 0.3:
            body["tools"] = [self.cached({"name": self.name(), "description": self.text(60), "input_schema": schema, "strict": self.random() < 0.3}) for schema in self.schemas()]
            body["tool_choice"] = self.choice([{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "look"}, {"type": "none"}, self.value(1)])
        if self.random() < 0.3:
            body["output_config"] = {"format": {"type": "json_schema", "schema": self.schema()}}
        if self.random() < 0.2:
            body["stop_sequences"] = self.stops()
        if self.random() < 0.1:
            body["metadata"] = self.choice([{"user_id": self.text(600)}, self.value(2)])
        if self.random() < 0.1:
            body["thread"] = self.choice([{"type": "create"}, {"type": "continue", "previous_message_id": self.text(60)}])
        if self.random() < 0.1:
            body["thinking"] = self.choice([{"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}, self.value(1)])
        return body

    def openai_tools(self, body):
        body["tools"] = [{"type": "function", "function": {"name": self.name(), "description": self.text(60), "parameters": schema, "strict": self.random() < 0.3}} for schema in self.schemas()]
        body["tool_choice"] = self.choice(["auto", "required", "none", {"type": "function", "function": {"name": "look"}}, self.value(1)])

    def arguments(self):
        kind = self.randrange(5)
        if kind == 0:
            return '{"a":' * self.size(400) + "1" + "}" * self.size(400)
        if kind == 1:
            return write(self, {"a": self.value(2)}).decode("utf-8", "replace")
        return self.choice(["{}", "", "null", "[]", self.text(50)])

    def chat(self):
        messages = []
        for at in range(self.size(self.choice([4, 4, 4, 1000]))):
            kind = self.randrange(6)
            if kind < 2:
                messages.append({"role": "user", "content": self.choice([self.text(), [{"type": "text", "text": self.text(60)}] * self.size(20)])})
            elif kind == 2:
                messages.append({"role": self.choice(["system", "developer"]), "content": self.text(100)})
            elif kind == 3:
                calls = [{"id": self.choice([f"c{at}.{i}", "same"]), "type": "function", "function": {"name": self.name(), "arguments": self.arguments()}} for i in range(self.size(self.choice([3, 500])))]
                messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            elif kind == 4:
                messages += [{"role": "tool", "tool_call_id": self.choice(["same", self.text(20), f"c{i}.0"]), "content": self.text(30)} for i in range(self.size(self.choice([3, 500])))]
            else:
                messages.append(self.choice([{"role": "assistant", "content": self.text(60)}, self.value(1)]))
        body = {"model": CHAT, "max_tokens": self.choice([1, 2, 4]), "messages": messages}
        if self.random() < 0.3:
            self.openai_tools(body)
        if self.random() < 0.3:
            body["response_format"] = self.choice([{"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "a", "schema": self.schema()}}, self.value(1)])
        if self.random() < 0.2:
            body["stop"] = self.stops()
        if self.random() < 0.2:
            body["logit_bias"] = self.choice([{str(i): self.choice([-100, 1, 100]) for i in range(self.size(3000))}, self.value(1)])
        if self.random() < 0.1:
            body["n"] = self.choice([1, 3, 128, 129, -1])
        if self.random() < 0.1:
            body["chat_template_kwargs"] = self.value(2)
        return body

    def responses(self):
        items = []
        for at in range(self.size(self.choice([4, 4, 500]))):
            kind = self.randrange(6)
            if kind < 2:
                items.append({"role": "user", "content": self.choice([self.text(), [{"type": "input_text", "text": self.text(60)}]])})
            elif kind == 2:
                items.append({"type": "function_call", "call_id": f"c{at}", "name": self.name(), "arguments": self.arguments()})
            elif kind == 3:
                items.append({"type": "function_call_output", "call_id": self.choice(["c0", self.text(20)]), "output": self.text(40)})
            elif kind == 4:
                items.append({"type": "item_reference", "id": self.text(20)})
            else:
                items.append(self.choice([{"type": "reasoning", "summary": [{"type": "summary_text", "text": self.text(50)}]}, self.value(1)]))
        body = {"model": CHAT, "max_output_tokens": self.choice([1, 4]), "input": self.choice([items, items, self.text()])}
        if self.random() < 0.2:
            body["previous_response_id"] = self.text(60)
        if self.random() < 0.2:
            body["tools"] = [{"type": "function", "name": self.name(), "parameters": self.schema(), "strict": self.random() < 0.5} for _ in range(self.size(3))]
        if self.random() < 0.3:
            body["text"] = {"format": {"type": "json_schema", "name": "a", "schema": self.schema()}}
        return body

    def inputs(self):
        kind = self.randrange(5)
        if kind == 0:
            return [self.text(100) for _ in range(self.size(40))]
        if kind == 1:
            return [self.randrange(300) for _ in range(self.size(3000))]
        if kind == 2:
            return [[self.randrange(300)] * self.size(20) for _ in range(self.size(20))]
        return self.choice([self.text(3000), self.value(2)])

    def body(self, route):
        if route == "/v1/messages":
            return self.anthropic()
        if route == "/v1/messages/count_tokens":
            body = self.anthropic()
            body.pop("max_tokens")
            return body
        if route == "/v1/chat/completions":
            return self.chat()
        if route == "/v1/responses":
            return self.responses()
        if route == "/v1/completions":
            body = {"model": CHAT, "prompt": self.inputs(), "max_tokens": self.choice([0, 1, 3])}
            if self.random() < 0.2:
                body |= {"stop": self.stops(), "n": self.choice([1, 2, 200]), "logprobs": self.choice([0, 5, 500])}
            return body
        if route == "/v1/embeddings":
            return {"model": CHAT, "input": self.inputs(), "encoding_format": self.choice(["float", "base64", self.text(5)])}
        if route == "/v1/moderations":
            return {"input": self.inputs()}
        return self.choice([{"text": self.text(5000)}, {"messages": self.chat()["messages"]}])


class Raw:
    """JSON as it is to be written."""

    def __init__(self, text):
        self.text = text


def obj(inner):
    return {"type": "object", "properties": {"x": inner}, "required": ["x"]}


def write(draw, value):
    """JSON, whose objects may have keys twice, whose letters may be escaped, and which may hold half surrogates."""
    ascii = draw.random() < 0.2
    odd = draw.random() < 0.1
    raws = []

    def encode(value):
        if isinstance(value, Raw):
            raws.append(value.text)
            return f"raw-{len(raws) - 1}-raw"
        if isinstance(value, dict):
            return {str(key): encode(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [encode(inner) for inner in value]
        return value

    text = json.dumps(encode(value), ensure_ascii=ascii)
    if raws:
        text = re.sub('"raw-([0-9]+)-raw"', lambda found: raws[int(found[1])], text)
    if odd and text.startswith("{") and len(text) > 2:
        kind = draw.randrange(5)
        if kind == 0:
            text = text[:-1] + "," + text[1:]
        elif kind == 1:
            text = '{"x":"\\ud800\\udbff' + "\\udc00" * draw.size(50) + '",' + text[1:]
        elif kind == 2:
            bomb = draw.choice(['{"":0},', "0,", "[],", '"",', '{"a":{"a":{}}},']) * draw.size(draw.choice([1000, 1000, 400000]))
            text = '{"x":[' + bomb + "0]," + text[1:]
        elif kind == 3:
            text = "{" + "".join(f'"k{i}":{i},' for i in range(draw.size(50000))) + text[1:]
        else:
            text = text[: draw.randrange(len(text))]
    data = text.encode("utf-8", "surrogatepass")
    if draw.random() < 0.01:
        data = draw.choice([b"\xef\xbb\xbf" + data, data + b"\xff", data.replace(b"a", b"\xc3", 1), b"", b" " * 1000, data * 2, b"[" * draw.size(1000000)])
    return data


def case(seed, number):
    """The route and the bytes of a case, and whether its caller leaves early."""
    draw = Draw(f"{seed}-{number}")
    route = draw.choice(ROUTES)
    body = draw.body(route)
    # One member is something else.
    if draw.random() < 0.3 and isinstance(body, dict):
        body[draw.choice([*body, "temperature", "top_p", "top_k", "seed", "stream", "user", "service_tier", "betas", draw.text(20)])] = draw.value(3)
    elif draw.random() < 0.3:
        body["stream"] = True
    if draw.random() < 0.02:
        body[draw.choice(["system", "input", "prompt", "text", "x"])] = draw.choice(PIECES) * draw.size(1500000)
    if draw.random() < 0.01 and "messages" in body and isinstance(body["messages"], list):
        body["messages"].append({"role": "assistant", "content": draw.choice(["\ufdd1", "a", " ", "\u0301", "<think>"]) * draw.size(700000)})
    return route, write(draw, body), draw.random() < 0.05
