"""Bodies that are right, with most of what each path takes, and which kinds of JSON each place may hold."""

TOOL = {"name": "get_weather", "description": "Weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}

MESSAGES = {
    "model": "hello",
    "max_tokens": 2048,
    "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral", "ttl": "5m"}}],
    "messages": [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "Sunny"}], "is_error": False},
                {"type": "text", "text": "So?"},
            ],
        },
    ],
    "tools": [TOOL],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "stop_sequences": ["END"],
    "temperature": 1,
    "top_p": 0.9,
    "top_k": 40,
    "metadata": {"user_id": "u"},
    "service_tier": "auto",
    "stream": False,
}
COUNT = {key: MESSAGES[key] for key in ("model", "system", "messages", "tools", "tool_choice", "thinking")}
CHAT = {
    "model": "hello",
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}], "name": "ada"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"},
        {"role": "user", "content": "So?"},
    ],
    "tools": [
        {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": PARAMETERS, "strict": False}}
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "max_completion_tokens": 64,
    "temperature": 0.5,
    "top_p": 0.9,
    "n": 2,
    "seed": 7,
    "stop": ["END"],
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "logit_bias": {"5": -10},
    "logprobs": True,
    "top_logprobs": 2,
    "response_format": {"type": "text"},
    "reasoning_effort": "low",
    "user": "u",
    "stream": True,
    "stream_options": {"include_usage": True},
}
RESPONSES = {
    "model": "hello",
    "instructions": "Be kind.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "Sunny"},
        {"type": "message", "role": "user", "content": "So?"},
    ],
    "tools": [{"type": "function", "name": "get_weather", "description": "Weather", "parameters": PARAMETERS, "strict": False}],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "max_output_tokens": 64,
    "temperature": 0.5,
    "top_p": 0.9,
    "text": {"format": {"type": "text"}},
    "reasoning": {"effort": "low"},
    "metadata": {"key": "value"},
    "store": False,
    "stream": False,
}
COMPLETIONS = {
    "model": "hello",
    "prompt": ["Once", "Twice"],
    "max_tokens": 8,
    "n": 2,
    "temperature": 1,
    "top_p": 0.9,
    "logprobs": 1,
    "seed": 3,
    "stop": "END",
    "user": "u",
    "stream": False,
}
EMBEDDINGS = {"model": "firecrest-chat", "input": ["a fox", "a hen"], "encoding_format": "float", "user": "u"}
MODERATIONS = {"model": "any", "input": ["a nice day", "another"]}
MODERATE = {"messages": [{"role": "user", "content": "a nice day"}]}

#: Path, a right body, and whether the model that ships must answer it.
ALL = {
    "/v1/messages": (MESSAGES, False),
    "/v1/messages/count_tokens": (COUNT, False),
    "/v1/chat/completions": (CHAT, False),
    "/v1/responses": (RESPONSES, False),
    "/v1/completions": (COMPLETIONS, False),
    "/v1/embeddings": (EMBEDDINGS, True),
    "/v1/moderations": (MODERATIONS, False),
    "/v1/moderate": (MODERATE, False),
}

#: Places (indexes as `*`) whose contents are the caller's own: anything may stand in them.
FREE = (
    "tools.*.input_schema.",
    "tools.*.parameters.",
    "tools.*.function.parameters.",
    "messages.*.content.*.input.",
)

#: Other kinds that a place may hold than the one it holds here.
ALSO = {
    "/v1/messages": {"system": "string", "messages.*.content": "string array", "messages.*.content.*.content": "string"},
    "/v1/messages/count_tokens": {"system": "string", "messages.*.content": "string array", "messages.*.content.*.content": "string"},
    "/v1/chat/completions": {"messages.*.content": "string array", "tool_choice": "object", "stop": "string"},
    "/v1/responses": {"input": "string", "input.*.content": "string array", "input.*.output": "array", "tool_choice": "object"},
    "/v1/completions": {"prompt": "string", "prompt.*": "number array", "stop": "array"},
    "/v1/embeddings": {"input": "string", "input.*": "number array"},
    "/v1/moderations": {"input": "string", "input.*": "object"},
    "/v1/moderate": {"messages.*.content": "string array"},
}
