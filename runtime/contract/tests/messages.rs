//! Requests of the Messages API: what becomes of them, and what is said of those that are wrong.

use firecrest_contract::ask::{Ask, CacheTtl, Content, Dialect, Format, Part, Role, ServiceTier, Thinking, ToolChoice, Turn, Version};
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::leaf::parse;
use firecrest_contract::messages::{
    CountTokensParams, ErrorBody, MessageCreateParams, Options, ThreadParam, count_into_ask, into_ask, parse_error,
};
use serde_json::{Value, json};

fn ask_of(body: &Value, version: Version, options: Options) -> Result<Ask, ApiError> {
    let params: MessageCreateParams = parse(body.to_string().as_bytes())?;
    let again = serde_json::to_value(&params).expect("JSON");
    assert_eq!(without_nulls(&again), without_nulls(body), "reading loses nothing");
    into_ask(params, version, options)
}

/// `null` is what absence is.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            Value::Object(members.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}

/// A body of these fields beside the ones that must be there.
fn body(fields: Value) -> Value {
    let mut body = json!({ "model": "m", "max_tokens": 5000, "messages": [{ "role": "user", "content": "Hello" }] });
    for (name, value) in fields.as_object().expect("fields") {
        body[name] = value.clone();
    }
    body
}

fn with(fields: Value) -> Ask {
    ask_of(&body(fields), Version::June2023, Options::default()).expect("an ask")
}

fn talk(messages: Value) -> Ask {
    with(json!({ "messages": messages }))
}

fn wrong(fields: Value) -> String {
    wrong_in(fields, Version::June2023)
}

fn wrong_in(fields: Value, version: Version) -> String {
    let error = ask_of(&body(fields), version, Options::default()).expect_err("a body that is wrong");
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    if let Some(path) = &error.path {
        assert!(error.message.starts_with(&format!("{path}: ")), "{error:?}");
    }
    error.message
}

fn wrong_talk(messages: Value) -> String {
    wrong(json!({ "messages": messages }))
}

/// Paths of what is beyond an ask, hints in brackets.
fn beyond(ask: &Ask) -> Vec<String> {
    ask.beyond.iter().map(|beyond| if beyond.hint { format!("({})", beyond.path) } else { beyond.path.clone() }).collect()
}

fn text(text: &str) -> Part {
    Part { content: Content::Text(text.to_owned()), cache: None }
}

#[test]
fn a_request_becomes_an_ask() {
    let ask = with(json!({
        "system": "Be brief.", "temperature": 0.5, "top_p": 1, "top_k": 40.0, "stop_sequences": ["END"], "stream": true,
        "metadata": { "user_id": "u" }, "service_tier": "standard_only", "inference_geo": null, "speed": "standard", "container": null,
        "thinking": { "type": "enabled", "budget_tokens": 2000, "display": "omitted" }, "mcp_servers": [], "context_management": null,
        "output_config": { "format": { "type": "json_schema", "schema": { "type": "object" } }, "effort": "high" }, "betas": ["x"],
    }));
    assert_eq!(ask.dialect, Dialect::Messages(Version::June2023));
    assert_eq!(ask.max_tokens, Some(5000));
    assert_eq!(ask.turns[0], Turn { role: Role::System, parts: vec![text("Be brief.")] });
    assert_eq!(ask.turns[1], Turn { role: Role::User, parts: vec![text("Hello")] });
    assert_eq!((ask.sampling.temperature, ask.sampling.top_p, ask.sampling.top_k), (Some(0.5), Some(1.0), Some(40)));
    assert_eq!(ask.thinking, Thinking::Budget { tokens: 2000, hidden: true });
    assert_eq!(ask.format, Some(Format::JsonSchema { name: None, schema: json!({ "type": "object" }) }));
    assert_eq!((ask.tier, ask.user.as_deref(), ask.stream, ask.choices), (ServiceTier::Standard, Some("u"), true, 1));
    assert_eq!(ask.stop, ["END"]);
    assert_eq!(beyond(&ask), [""; 0]);
}

#[test]
fn errors_name_the_leaf() {
    let cases = [
        (json!({ "max_tokens": -1 }), "max_tokens: invalid value: integer `-1`, expected a whole number from 0 to 4294967295"),
        (json!({ "max_tokens": 1.5 }), "max_tokens: invalid value: floating point `1.5`, expected a whole number from 0 to 4294967295"),
        (json!({ "max_tokens": "7" }), "max_tokens: invalid type: string \"7\", expected a whole number from 0 to 4294967295"),
        (json!({ "system": null }), "system: expected a string or an array of text blocks, found null"),
        (json!({ "stream": "yes" }), "stream: invalid type: string \"yes\", expected a boolean"),
        (json!({ "metadata": null }), "metadata: invalid type: null, expected an object"),
        (json!({ "service_tier": "fast" }), "service_tier: unknown variant `fast`, expected `auto` or `standard_only`"),
        (json!({ "messages": "hi" }), "messages: invalid type: string \"hi\", expected a sequence"),
        (json!({ "messages": [{ "role": "tool", "content": "" }] }), "messages.0.role: unknown variant `tool`"),
        (json!({ "model": "" }), "model: must have 1 to 256 characters"),
        (json!({ "temperature": 1.5 }), "temperature: must be from 0 to 1, found 1.5"),
        (json!({ "top_p": -0.5 }), "top_p: must be from 0 to 1, found -0.5"),
        (json!({ "top_k": -1 }), "top_k: invalid value: integer `-1`"),
        (json!({ "stop_sequences": ["a", " \n"] }), "stop_sequences.1: each stop sequence must contain non-whitespace"),
        (json!({ "thinking": { "type": "enabled", "budget_tokens": 1023 } }), "thinking.budget_tokens: must be at least 1024, found 1023"),
        (json!({ "thinking": { "type": "enabled", "budget_tokens": 5000 } }), "thinking.budget_tokens: must be less than `max_tokens`"),
        (json!({ "thinking": { "type": "enabled", "budget_tokens": "a lot" } }), "thinking.budget_tokens: invalid type"),
        (json!({ "thinking": { "type": "enabled", "budget_tokens": 2000, "display": "some" } }), "thinking.display: unknown variant"),
        (json!({ "thinking": { "budget_tokens": 2000 } }), "thinking.type: field required"),
        (json!({ "metadata": { "user_id": "x".repeat(257) } }), "metadata.user_id: must have at most 256 characters"),
        (
            json!({ "output_config": { "format": { "type": "json_schema", "schema": "{}" } } }),
            "output_config.format.schema: expected an object, found a string",
        ),
        (
            json!({ "output_format": { "type": "json_schema", "schema": {} }, "output_config": { "format": { "type": "json_schema", "schema": {} } } }),
            "output_format: is an older name",
        ),
    ];
    for (fields, expected) in cases {
        let message = wrong(fields.clone());
        assert!(message.starts_with(expected), "{fields}\n{message}");
    }
}

#[test]
fn versions_differ() {
    assert_eq!(Version::from_header(None), Ok(Version::June2023));
    assert_eq!(Version::from_header(Some("2026-10-21")), Ok(Version::October2026));
    let unknown = Version::from_header(Some("2024-01-01")).expect_err("no version");
    assert_eq!(unknown.kind, ErrorKind::InvalidRequest);
    assert!(unknown.message.starts_with("anthropic-version: `2024-01-01` is not a valid version"), "{unknown}");

    for (name, value) in [("temperature", json!(1.0)), ("top_p", json!(0.9)), ("top_k", json!(1))] {
        let fields = json!({ name: value });
        let message = wrong_in(fields.clone(), Version::October2026);
        assert!(message.starts_with(&format!("{name}: is not accepted by version 2026-10-21")), "{message}");
        assert!(ask_of(&body(fields), Version::October2026, Options { relaxed: true }).is_ok());
        assert!(ask_of(&body(json!({ name: null })), Version::October2026, Options::default()).is_ok());
    }
    let document = json!({ "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "d" } });
    let answered = json!({ "messages": [{ "role": "user", "content": "q" }, { "role": "assistant", "content": [document] }] });
    assert_eq!(beyond(&with(answered.clone())), [""; 0]);
    assert!(wrong_in(answered, Version::October2026).starts_with("messages.1.content.0.type: `document` blocks can't be in `assistant`"));
    let cited = |role: &str| {
        let cited = json!({ "role": role, "content": [{ "type": "text", "text": "t", "citations": [{ "type": "char_location" }] }] });
        json!({ "messages": [{ "role": "user", "content": "q" }, cited] })
    };
    assert_eq!(beyond(&with(cited("user"))), ["(messages.1.content.0.citations)"]);
    assert!(wrong_in(cited("user"), Version::October2026).starts_with("messages.1.content.0.citations: must be empty"));
    assert!(ask_of(&body(cited("assistant")), Version::October2026, Options::default()).is_ok());
}

#[test]
fn turns_of_one_side_are_one() {
    let ask = talk(json!([
        { "role": "system", "content": "S" },
        { "role": "user", "content": "a" },
        { "role": "user", "content": [{ "type": "text", "text": "b" }] },
        { "role": "assistant", "content": "c" },
        { "role": "system", "content": [{ "type": "text", "text": "gone" }], "clear_at": "next_user_message" },
        { "role": "assistant", "content": "d" },
        { "role": "user", "content": "e" },
        { "role": "system", "content": "stays", "clear_at": "next_user_message" },
        { "role": "assistant", "content": "The best answer is (" },
    ]));
    let expected = [
        (Role::System, vec!["S"]),
        (Role::User, vec!["a", "b"]),
        (Role::Assistant, vec!["c", "d"]),
        (Role::User, vec!["e"]),
        (Role::System, vec!["stays"]),
        (Role::Assistant, vec!["The best answer is ("]),
    ];
    let expected: Vec<Turn> =
        expected.into_iter().map(|(role, parts)| Turn { role, parts: parts.into_iter().map(text).collect() }).collect();
    assert_eq!(ask.turns, expected);
    assert_eq!(talk(json!([{ "role": "user", "content": "a" }, { "role": "assistant", "content": "" }])).turns.len(), 1);
}

#[test]
fn wrong_conversations_are_refused_at_the_leaf() {
    let user = json!({ "role": "user", "content": "q" });
    let call = |id: &str| json!({ "type": "tool_use", "id": id, "name": "t", "input": {} });
    let result = |id: &str| json!({ "type": "tool_result", "tool_use_id": id, "content": "r" });
    let assistant = |blocks: Value| json!({ "role": "assistant", "content": blocks });
    let asks = |blocks: Value| json!({ "role": "user", "content": blocks });
    let cases = [
        (json!([]), "messages: at least one message"),
        (json!([{ "role": "assistant", "content": "a" }]), "messages.0.role: the first message must use the `user` role"),
        (json!([{ "role": "system", "content": "a" }]), "messages: at least one message"),
        (json!([{ "role": "user" }]), "messages.0.content: field required"),
        (json!([{ "role": "user", "content": null }]), "messages.0.content: expected a string or an array of content blocks, found null"),
        (json!([{ "role": "user", "content": "" }]), "messages.0.content: all messages must have non-empty content"),
        (json!([{ "role": "user", "content": [] }]), "messages.0.content: all messages must have non-empty content"),
        (json!([{ "role": "user", "content": "  " }]), "messages.0.content: text content blocks must contain"),
        (json!([asks(json!([{ "type": "text", "text": "" }]))]), "messages.0.content.0.text: text content blocks must contain"),
        (json!([asks(json!([{ "type": "text", "text": 5 }]))]), "messages.0.content.0.text: invalid type: integer `5`, expected a string"),
        (json!([user, { "role": "assistant", "content": "a " }]), "messages.1.content: final assistant content cannot end with trailing"),
        (json!([asks(json!([call("a")]))]), "messages.0.content.0.type: `tool_use` blocks can only be in `assistant` messages"),
        (json!([user, assistant(json!([result("a")]))]), "messages.1.content.0.type: `tool_result` blocks can only be in `user` messages"),
        (json!([asks(json!([result("a")]))]), "messages.0.content.0.tool_use_id: unexpected `a`"),
        (json!([user, assistant(json!([call("a")])), user]), "messages.1: `tool_use` `a` has no `tool_result` in the next message"),
        (json!([user, assistant(json!([call("a")]))]), "messages.1: `tool_use` `a` has no `tool_result`"),
        (
            json!([user, assistant(json!([call("a")])), asks(json!([result("a"), result("a")]))]),
            "messages.2.content.1.tool_use_id: each `tool_use` must have a single result",
        ),
        (
            json!([
                user,
                assistant(json!([call("a")])),
                asks(json!([result("a")])),
                assistant(json!([call("a")])),
                asks(json!([result("a")]))
            ]),
            "messages.3.content.0.id: `tool_use` ids must be unique",
        ),
        (
            json!([
                user,
                assistant(json!([call("a")])),
                asks(json!([result("a")])),
                user,
                assistant(json!("b")),
                asks(json!([result("a")]))
            ]),
            "messages.5.content.0.tool_use_id: unexpected",
        ),
        (
            json!([user, assistant(json!([{ "type": "tool_use", "id": "a b", "name": "t", "input": {} }]))]),
            "messages.1.content.0.id: must be",
        ),
        (
            json!([user, assistant(json!([{ "type": "tool_use", "id": "a", "name": "t", "input": [] }]))]),
            "messages.1.content.0.input: expected an object, found an array",
        ),
        (json!([{ "role": "system", "content": [call("a")] }, user]), "messages.0.content.0.type: only `text` blocks"),
        (json!([{ "role": "user", "content": "q", "clear_at": "never" }]), "messages.0.clear_at: is only permitted on `system`"),
        (
            json!([asks(json!([{ "type": "text", "text": "t", "cache_control": { "type": "forever" } }]))]),
            "messages.0.content.0.cache_control.type: unknown variant `forever`",
        ),
        (
            json!([asks(json!([{ "type": "text", "text": "t", "cache_control": { "type": "ephemeral", "ttl": "2h" } }]))]),
            "messages.0.content.0.cache_control.ttl: unknown variant `2h`",
        ),
    ];
    for (messages, expected) in cases {
        let message = wrong_talk(messages.clone());
        assert!(message.starts_with(expected), "{messages}\n{message}");
    }
    let message = wrong_talk(json!(vec![user; 100_001]));
    assert_eq!(message, "messages: at most 100000 messages, found 100001");
}

#[test]
fn calls_and_results_are_paired_across_merged_turns() {
    let ask = talk(json!([
        { "role": "user", "content": "q" },
        { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "hm", "signature": "s" },
            { "type": "tool_use", "id": "a", "name": "t", "input": { "x": 1 }, "caller": { "type": "direct" } },
        ] },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "b", "name": "t", "input": {} }] },
        { "role": "system", "content": "between" },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "b", "is_error": true }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a", "content": [
            { "type": "text", "text": "one" },
            { "type": "text", "text": "two", "cache_control": { "type": "ephemeral" } },
            { "type": "search_result", "source": "s", "title": "t", "content": [{ "type": "text", "text": "found" }] },
        ] }] },
    ]));
    let results: Vec<&Part> = ask.turns.last().expect("a turn").parts.iter().collect();
    let expected = Content::ToolResult { id: "b".to_owned(), text: String::new(), is_error: true };
    assert_eq!(results[0], &Part { content: expected, cache: None });
    let expected = Content::ToolResult { id: "a".to_owned(), text: "one\ntwo\nt\ns\nfound".to_owned(), is_error: false };
    assert_eq!(results[1], &Part { content: expected, cache: Some(CacheTtl::FiveMinutes) });
    assert_eq!(ask.turns[1].parts[0].content, Content::Thinking { text: "hm".to_owned(), signature: Some("s".to_owned()) });
}

#[test]
fn documents_are_text() {
    let block = |document: Value| talk(json!([{ "role": "user", "content": [document] }])).turns[0].parts[0].content.clone();
    let plain = json!({ "type": "text", "media_type": "text/plain", "data": "d" });
    let document = |title: Option<&str>, context: Option<&str>, text: &str| Content::Document {
        title: title.map(str::to_owned),
        context: context.map(str::to_owned),
        text: text.to_owned(),
    };
    assert_eq!(
        block(json!({ "type": "document", "source": plain, "title": "T", "context": null, "citations": { "enabled": false } })),
        document(Some("T"), None, "d")
    );
    let blocks = json!({ "type": "content", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] });
    assert_eq!(block(json!({ "type": "document", "source": blocks })), document(None, None, "a\nb"));
    let found = json!({ "type": "search_result", "source": "S", "title": "T", "content": [{ "type": "text", "text": "a" }] });
    assert_eq!(block(found), document(Some("T"), Some("S"), "a"));
}

#[test]
fn what_has_no_place_is_beyond() {
    let ask = with(json!({
        "container": "c", "inference_geo": "eu", "speed": "fast", "mcp_servers": [{}], "fallbacks": "default", "compaction": {},
        "context_management": { "edits": [{}] }, "new_field": 1, "new_null": null, "thinking": { "type": "between_tools" },
        "output_config": { "effort": "low", "task_budget": { "total": 1 }, "format": { "type": "xml" } },
        "metadata": { "who": "me" }, "billing_policy": {}, "fallback_credit_token": "t",
        "tools": [
            { "type": "web_search_20250305", "name": "web_search" },
            { "name": "t", "input_schema": { "type": "object" }, "allowed_callers": ["code_execution_20250825"], "defer_loading": true,
              "eager_input_streaming": true, "input_examples": [{}], "odd": 1 },
        ],
        "tool_choice": { "type": "tool", "name": "web_search", "disable_parallel_tool_use": true },
        "messages": [
            { "role": "user", "content": [
                { "type": "image", "source": { "type": "url", "url": "u" } },
                { "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "" } },
                { "type": "document", "source": { "type": "url", "url": "u" } },
                { "type": "document", "source": { "type": "file", "file_id": "f" }, "citations": { "enabled": true } },
                { "type": "container_upload", "file_id": "f" },
            ] },
            { "role": "assistant", "content": [
                { "type": "redacted_thinking", "data": "x" },
                { "type": "server_tool_use", "id": "s", "name": "web_search", "input": {} },
                { "type": "tool_use", "id": "a", "name": "t", "input": {}, "caller": { "type": "code_execution_20250825", "tool_id": "s" },
                  "toolset_name": "browser" },
            ] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a", "content": [
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "" } },
                { "type": "tool_reference", "tool_name": "x" },
            ] }] },
            { "role": "system", "output_config": { "effort": "low" } },
        ],
    }));
    assert_eq!(
        beyond(&ask),
        [
            "tools.0.type",
            "tools.1.allowed_callers",
            "tools.1.defer_loading",
            "(tools.1.input_examples)",
            "(tools.1.eager_input_streaming)",
            "tools.1.odd",
            "messages.0.content.0.type",
            "messages.0.content.1.source",
            "messages.0.content.2.source",
            "messages.0.content.3.citations.enabled",
            "messages.0.content.3.source",
            "messages.0.content.4.type",
            "(messages.1.content.0.type)",
            "messages.1.content.1.type",
            "messages.1.content.2.caller.type",
            "messages.1.content.2.toolset_name",
            "messages.2.content.0.content.0.type",
            "messages.2.content.0.content.1.type",
            "(messages.3.output_config)",
            "thinking.type",
            "(output_config.effort)",
            "(output_config.task_budget)",
            "output_config.format.type",
            "metadata.who",
            "(speed)",
            "inference_geo",
            "mcp_servers",
            "context_management.edits",
            "container",
            "compaction",
            "billing_policy",
            "(fallbacks)",
            "(fallback_credit_token)",
            "new_field",
        ]
    );
    assert!(ask.beyond.iter().all(|beyond| !beyond.why.is_empty() && beyond.why.len() < 120));
    assert_eq!((ask.tool_choice, ask.parallel_tools), (ToolChoice::Tool("web_search".to_owned()), false));
    assert_eq!(ask.turns[0].parts[0].content, Content::Beyond);
}

/// However much is beyond an ask, its list stays short, and says both sorts.
#[test]
fn the_list_of_what_is_beyond_is_bounded() {
    let citations: Vec<Value> = (0..1000).map(|_| json!({ "type": "text", "text": "t", "citations": [1] })).collect();
    let images: Vec<Value> = (0..1000).map(|_| json!({ "type": "image", "source": { "type": "url", "url": "u" } })).collect();
    let blocks = [citations, images].concat();
    let ask = talk(json!([{ "role": "user", "content": blocks }]));
    assert_eq!(ask.beyond.iter().filter(|beyond| beyond.hint).count(), 64);
    assert_eq!(ask.beyond.iter().filter(|beyond| !beyond.hint).count(), 64);
}

#[test]
fn tools_are_checked() {
    let tool = |name: &str| json!({ "name": name, "input_schema": { "type": "object" } });
    let wrong_tools = |tools: Value| wrong(json!({ "tools": tools }));
    for name in ["", "a b", "é", &"x".repeat(129)] {
        assert!(wrong_tools(json!([tool(name)])).starts_with("tools.0.name: must be 1 to 128 of the characters"));
    }
    assert_eq!(wrong_tools(json!([tool("a"), tool("a")])), "tools.1.name: tool names must be unique, `a` is there already");
    assert!(wrong_tools(json!([{ "name": "a", "input_schema": {} }])).starts_with("tools.0.input_schema.type: field required"));
    assert_eq!(wrong_tools(json!([{ "name": "a", "input_schema": { "type": "array" } }])), "tools.0.input_schema.type: must be `object`");
    assert_eq!(wrong_tools(json!([{ "name": "a" }])), "tools.0: missing field `input_schema`");
    assert_eq!(wrong_tools(json!(["a"])), "tools.0: expected a tool, an object, found a string");
    assert_eq!(wrong_tools(json!([{ "type": 1, "name": "a" }])), "tools.0.type: expected a string, found a number");
    assert_eq!(
        wrong_tools(json!([{ "type": "bash_20250124", "name": "sh" }])),
        "tools.0.name: must be `bash` for a tool of type `bash_20250124`"
    );
    assert!(
        wrong_tools(json!([{ "name": "a", "input_schema": { "type": "object" }, "strict": "yes" }])).starts_with("tools.0.strict: invalid")
    );

    let choice = |choice: Value| wrong(json!({ "tools": [tool("a")], "tool_choice": choice }));
    assert_eq!(choice(json!({ "type": "tool", "name": "b" })), "tool_choice.name: tool `b` not found in provided tools");
    assert_eq!(choice(json!({ "type": "tool" })), "tool_choice: missing field `name`");
    assert_eq!(choice(json!("any")), "tool_choice: expected an object with a `type`, found a string");
    assert!(wrong(json!({ "tool_choice": { "type": "any" } })).starts_with("tool_choice: may only be given together with `tools`"));

    let ask = with(json!({
        "tools": [
            { "type": "custom", "name": "a", "description": "d", "input_schema": { "type": "object", "properties": {} }, "strict": true,
              "cache_control": { "type": "ephemeral", "ttl": "1h" }, "allowed_callers": ["direct"], "eager_input_streaming": null },
            { "type": "bash_20250124", "name": "bash" },
            { "type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 1000 },
            { "type": "memory_20250818", "name": "memory" },
        ],
        "tool_choice": { "type": "any", "disable_parallel_tool_use": true },
    }));
    assert_eq!(beyond(&ask), [""; 0]);
    assert_eq!((ask.tool_choice, ask.parallel_tools), (ToolChoice::Any, false));
    assert_eq!(ask.tools[0].cache, Some(CacheTtl::OneHour));
    assert!(ask.tools[0].strict);
    for tool in &ask.tools[1..] {
        assert_eq!(tool.schema["type"], "object");
        assert!(tool.schema["properties"]["command"].is_object() && tool.description.is_some());
    }
    assert!(ask.tools[2].description.as_ref().is_some_and(|text| text.ends_with("At most 1000 characters of a file are shown at once.")));
}

#[test]
fn breakpoints_are_counted_and_ordered() {
    let marked =
        |ttl: Option<&str>| json!({ "type": "text", "text": "t", "cache_control": { "type": "ephemeral", "ttl": ttl.unwrap_or("5m") } });
    let says = |blocks: Value| json!({ "role": "user", "content": blocks });
    let four = json!([marked(None), marked(None), marked(None), marked(None)]);
    assert_eq!(talk(json!([says(four.clone())])).turns[0].parts.len(), 4);
    let five = [four.as_array().expect("blocks").clone(), vec![marked(None)]].concat();
    assert!(wrong_talk(json!([says(json!(five))])).starts_with("messages.0.content.4.cache_control: at most 4 blocks"));
    assert!(
        wrong(json!({ "system": [marked(None)], "messages": [says(json!([marked(Some("1h"))]))] }))
            .starts_with("messages.0.content.0.cache_control.ttl: must not be `1h` behind a breakpoint of `5m`")
    );

    let automatic = |content: Value| json!({ "cache_control": { "type": "ephemeral" }, "messages": [says(content)] });
    assert_eq!(with(automatic(json!("q"))).turns[0].parts[0].cache, Some(CacheTtl::FiveMinutes));
    assert!(with(automatic(four)).turns[0].parts[3].cache.is_some(), "a breakpoint that is there already does not count twice");
    let mut others = json!([marked(None), marked(None), marked(None), marked(None)]);
    others.as_array_mut().expect("blocks").push(json!({ "type": "text", "text": "last" }));
    assert!(wrong(automatic(others)).starts_with("cache_control: at most 4 blocks"));
    assert!(wrong(automatic(json!([marked(Some("1h"))]))).starts_with("cache_control.ttl: differs"));
    let scoped = with(json!({ "cache_control": { "type": "ephemeral", "scope": "global" } }));
    assert_eq!(beyond(&scoped), ["(cache_control.scope)"]);
}

#[test]
fn effort_bounds_thoughts() {
    let thinking = |effort: &str, thinking: Value| with(json!({ "thinking": thinking, "output_config": { "effort": effort } })).thinking;
    let adaptive = || json!({ "type": "adaptive" });
    assert_eq!(thinking("low", adaptive()), Thinking::Budget { tokens: 1024, hidden: false });
    assert_eq!(thinking("medium", adaptive()), Thinking::Budget { tokens: 2500, hidden: false });
    assert_eq!(thinking("max", adaptive()), Thinking::Adaptive { hidden: false });
    assert_eq!(thinking("low", json!({ "type": "disabled" })), Thinking::Off);
    assert_eq!(with(json!({})).thinking, Thinking::Unsaid);
}

#[test]
fn threads_stand_beside_the_ask() {
    let params: MessageCreateParams =
        parse(body(json!({ "thread": { "type": "continue", "previous_message_id": "msg_1" } })).to_string().as_bytes()).expect("a body");
    let Some(ThreadParam::Continue(thread)) = &params.thread else { panic!("{params:?}") };
    assert_eq!(thread.previous_message_id, "msg_1");
    assert_eq!(beyond(&into_ask(params, Version::October2026, Options::default()).expect("an ask")), [""; 0]);
    assert_eq!(wrong(json!({ "thread": { "type": "continue" } })), "thread: missing field `previous_message_id`");
}

#[test]
fn counting_takes_what_creating_takes() {
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "q" }], "system": "S", "thinking": { "type": "enabled", "budget_tokens": 2000 } });
    let params: CountTokensParams = parse(body.to_string().as_bytes()).expect("a body");
    let ask = count_into_ask(params, Version::October2026, Options::default()).expect("an ask");
    assert_eq!((ask.max_tokens, ask.turns.len()), (Some(0), 2));
    let params: CountTokensParams = parse(br#"{"model":"m","messages":[],"max_tokens":3}"#).expect("a body");
    assert!(count_into_ask(params, Version::June2023, Options::default()).is_err());
}

#[test]
fn errors_have_their_envelope() {
    let error = ApiError::new(ErrorKind::InvalidRequest, "no").code("thread_unsupported_request");
    let error = ApiError { unsupported: vec!["cache_control".to_owned()], ..error };
    assert_eq!(
        serde_json::to_value(ErrorBody::new(&error, Some("req_1"))).expect("JSON"),
        json!({
            "type": "error",
            "error": {
                "type": "invalid_request_error", "message": "no",
                "details": { "error_code": "thread_unsupported_request", "unsupported": ["cache_control"] },
            },
            "request_id": "req_1",
        })
    );
    let plain = serde_json::to_value(ErrorBody::new(&ApiError::new(ErrorKind::Overloaded, "busy"), None)).expect("JSON");
    assert_eq!(plain, json!({ "type": "error", "error": { "type": "overloaded_error", "message": "busy" }, "request_id": null }));
    assert_eq!(parse_error(plain.to_string().as_bytes(), 500).kind, ErrorKind::Overloaded);
    assert_eq!(parse_error(b"<html>", 503).kind, ErrorKind::Api);
    assert_eq!(parse_error(b"<html>", 418).kind, ErrorKind::InvalidRequest);
    assert_eq!(parse_error(br#"{"type":"error","error":{"type":"new_error","message":"x"}}"#, 429).kind, ErrorKind::RateLimit);
}

mod broken {
    use super::*;
    use proptest::prelude::*;

    /// A body in which much is said.
    fn rich() -> Value {
        body(json!({
            "system": [{ "type": "text", "text": "S", "cache_control": { "type": "ephemeral", "ttl": "1h" } }],
            "tools": [{ "name": "t", "input_schema": { "type": "object" }, "strict": true }, { "type": "bash_20250124", "name": "bash" }],
            "tool_choice": { "type": "tool", "name": "t" },
            "thinking": { "type": "enabled", "budget_tokens": 2000, "display": "omitted" },
            "output_config": { "format": { "type": "json_schema", "schema": {} }, "effort": "low" },
            "stop_sequences": ["x"], "metadata": { "user_id": "u" }, "diagnostics": { "previous_message_id": null },
            "temperature": 0.5, "top_k": 5, "thread": { "type": "create" }, "context_management": { "edits": [] },
            "messages": [
                { "role": "user", "content": [
                    { "type": "text", "text": "q", "citations": [] },
                    { "type": "image", "source": { "type": "url", "url": "u" } },
                    { "type": "document", "source": { "type": "content", "content": [{ "type": "text", "text": "a" }] }, "title": "T" },
                    { "type": "search_result", "source": "s", "title": "t", "content": [{ "type": "text", "text": "a" }] },
                ] },
                { "role": "assistant", "content": [
                    { "type": "thinking", "thinking": "h", "signature": "s" },
                    { "type": "tool_use", "id": "a", "name": "t", "input": {}, "caller": { "type": "direct" } },
                ] },
                { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a", "content": [{ "type": "text", "text": "r" }] }] },
            ],
        }))
    }

    fn places(value: &Value, at: String, out: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| places(value, format!("{at}/{name}"), out)),
            Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| places(value, format!("{at}/{index}"), out)),
            _ => {}
        }
        out.push(at);
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|value| json!(value)),
            any::<i64>().prop_map(|value| json!(value)),
            any::<f64>().prop_map(|value| json!(value)),
            "\\PC{0,3}".prop_map(|value| json!(value)),
            Just(json!("")),
            Just(json!([])),
            Just(json!({})),
            Just(json!([null, {}])),
            Just(json!({ "type": "text" })),
            Just(json!({ "type": "odd", "\u{1}": 1 })),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        /// Whatever stands anywhere in a body: either an ask, or an error whose path leads into the body.
        #[test]
        fn bodies_name_their_leaf(place in any::<prop::sample::Index>(), value in values(), again in any::<prop::sample::Index>(), other in values()) {
            let mut body = rich();
            for (place, value) in [(place, value), (again, other)] {
                let mut all = Vec::new();
                places(&body, String::new(), &mut all);
                *body.pointer_mut(&all[place.index(all.len())]).expect("a place") = value;
            }
            let Ok(params) = parse::<MessageCreateParams>(body.to_string().as_bytes()).map_err(|error| check(&error, &body)) else { return Ok(()) };
            match into_ask(params, Version::June2023, Options::default()) {
                Ok(ask) => ask.beyond.iter().for_each(|beyond| leads_into(&beyond.path, &body)),
                Err(error) => check(&error, &body),
            }
        }
    }

    fn check(error: &ApiError, body: &Value) {
        assert_eq!(error.kind, ErrorKind::InvalidRequest);
        if let Some(path) = &error.path {
            assert!(error.message.starts_with(path.as_str()), "{error:?}");
            leads_into(path, body);
        }
    }

    /// All but the last step exist: the last may be what is missing.
    fn leads_into(path: &str, body: &Value) {
        let holder = path.rsplit_once('.').map_or("", |(holder, _)| holder);
        let pointer: String = holder.split('.').filter(|step| !step.is_empty()).map(|step| format!("/{step}")).collect();
        assert!(body.pointer(&pointer).is_some(), "{path} leads nowhere in {body}");
    }
}
