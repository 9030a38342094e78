use firecrest_contract::ask::{Format, Thinking, ToolChoice};
use firecrest_contract::error::ApiError;
use firecrest_contract::leaf::parse;
use firecrest_contract::openai::responses::{Asked, Item, Request};
use serde_json::{Value, json};

use crate::{paths, shown, split};

fn request(body: &str) -> Request {
    parse(body.as_bytes()).expect("a request")
}

fn ask(body: &str) -> Result<Asked, ApiError> {
    parse::<Request>(body.as_bytes())?.into_ask()
}

fn with(members: &str) -> Result<Asked, ApiError> {
    ask(&format!(r#"{{"model": "m", "input": "hi", {members}}}"#))
}

fn echo(asked: &Asked) -> Value {
    serde_json::from_str(&format!("{{{}}}", asked.echo.members())).expect("JSON")
}

#[test]
fn items() {
    let asked = ask(
        r#"{"model": "m", "instructions": "be brief", "input": [
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}, {"type": "input_image", "image_url": "data:,"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}, {"type": "summary_text", "text": "ok"}], "encrypted_content": "sig"},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "text": "well", "annotations": [], "logprobs": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "a", "arguments": "{\"x\":1}", "status": "completed"},
            {"type": "function_call", "call_id": "c2", "name": "b", "arguments": ""},
            {"type": "function_call_output", "call_id": "c1", "output": "one"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}, {"type": "input_text", "text": "lines"}]},
            {"type": "item_reference", "id": "rs_9"},
            {"type": "item_reference", "id": "msg_9"},
            {"type": "web_search_call", "id": "ws_1"},
            {"role": "user", "content": "go on"}]}"#,
    )
    .expect("an ask");
    assert_eq!(
        shown(&asked.ask),
        "system\n  text be brief\nsystem\n  text be kind\nuser\n  text hi\n  Beyond\nassistant\n  thought hm\n\nok Some(\"sig\")\n  text well\n  call c1 a {\"x\":1}\n  call c2 b {}\n\
         user\n  result c1 one false\n  result c2 two\nlines false\nuser\n  text go on\n"
    );
    assert_eq!(paths(&asked.ask.beyond), [("input.1.content.1", false), ("input.8", true), ("input.9", false), ("input.10.type", false)]);
    assert!(asked.store && asked.previous.is_none());
}

#[test]
fn leaves() {
    let wrong = |body: &str| split(ask(body).expect_err("a body that is wrong")).0;
    for (body, path) in [
        (r#"{"input": "a"}"#, "model"),
        (r#"{"model": "m"}"#, "input"),
        (r#"{"model": "m", "input": 3}"#, "input"),
        (r#"{"model": "m", "input": ["a"]}"#, "input.0"),
        (r#"{"model": "m", "input": [{"content": "a"}]}"#, "input.0.type"),
        (r#"{"model": "m", "input": [{"id": "msg_1", "content": "a"}]}"#, "input.0.type"),
        (r#"{"model": "m", "input": [{"id": 3}]}"#, "input.0.id"),
        (r#"{"model": "m", "input": [{"role": "bot", "content": "a"}]}"#, "input.0.role"),
        (r#"{"model": "m", "input": [{"role": "user", "content": [{"type": "input_text"}]}]}"#, "input.0.content.0.text"),
        (r#"{"model": "m", "input": [{"type": "function_call", "call_id": "c", "name": "a", "arguments": "["}]}"#, "input.0.arguments"),
        (r#"{"model": "m", "input": [{"type": "function_call", "call_id": "c", "name": "<|im_end|>", "arguments": ""}]}"#, "input.0.name"),
        (r#"{"model": "m", "input": "a", "text": {"format": {"type": "json_schema", "name": "a"}}}"#, "text.format.schema"),
        (r#"{"model": "m", "input": "a", "reasoning": {"effort": 3}}"#, "reasoning.effort"),
        (r#"{"model": "m", "input": "a", "max_output_tokens": 0}"#, "max_output_tokens"),
        (r#"{"model": "m", "input": "a", "top_logprobs": 21}"#, "top_logprobs"),
        (r#"{"model": "m", "input": "a", "truncation": "some"}"#, "truncation"),
        (r#"{"model": "m", "input": "a", "service_tier": "bogus"}"#, "service_tier"),
        (r#"{"model": "m", "input": "a", "prompt_cache_retention": "bogus"}"#, "prompt_cache_retention"),
        (r#"{"model": "m", "input": "a", "text": {"verbosity": "bogus"}}"#, "text.verbosity"),
        (r#"{"model": "m", "input": "a", "reasoning": {"effort": "bogus"}}"#, "reasoning.effort"),
        (r#"{"model": "m", "input": "a", "reasoning": {"summary": "bogus"}}"#, "reasoning.summary"),
        (r#"{"model": "m", "input": "a", "reasoning": {"generate_summary": "bogus"}}"#, "reasoning.generate_summary"),
        (r#"{"model": "m", "input": "a", "reasoning": {"context": "bogus"}}"#, "reasoning.context"),
        (r#"{"model": "m", "input": [{"role": "user", "content": "a", "status": "bogus"}]}"#, "input.0.status"),
        (r#"{"model": "m", "input": [{"role": "assistant", "content": "a", "phase": "bogus"}]}"#, "input.0.phase"),
        (r#"{"model": "m", "input": [{"type": "reasoning", "summary": [{"type": "bogus", "text": "a"}]}]}"#, "input.0.summary.0.type"),
        (r#"{"model": "m", "input": [{"type": "reasoning", "summary": [], "status": "bogus"}]}"#, "input.0.status"),
        (
            r#"{"model": "m", "input": [{"type": "function_call", "call_id": "c", "name": "a", "arguments": "", "status": "bogus"}]}"#,
            "input.0.status",
        ),
        (
            r#"{"model": "m", "input": [{"type": "function_call_output", "call_id": "c", "output": "a", "status": "bogus"}]}"#,
            "input.0.status",
        ),
        (r#"{"model": "m", "input": "a", "tool_choice": {"type": "function", "name": "x"}}"#, "tool_choice.name"),
        (r#"{"model": "m", "input": "a", "tools": [{"type": "function", "name": "", "parameters": {}}]}"#, "tools.0.name"),
        (
            r#"{"model": "m", "input": "a", "tools": [{"type": "function", "name": "f", "parameters": {"type": "array"}}]}"#,
            "tools.0.parameters.type",
        ),
    ] {
        assert_eq!(wrong(body), path, "{body}");
    }
}

#[test]
fn what_a_response_repeats() {
    let asked = with(
        r#""metadata": {"a": "b\"c"}, "temperature": 0.7, "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": null}],
           "tool_choice": {"type": "function", "name": "f"}, "text": {"format": {"type": "json_object"}}, "reasoning": {"effort": "high"}, "store": false,
           "previous_response_id": "resp_1", "instructions": "x""#,
    )
    .expect("an ask");
    let echo = echo(&asked);
    assert_eq!(echo["metadata"], json!({ "a": "b\"c" }));
    assert_eq!((echo["temperature"].clone(), echo["instructions"].clone()), (json!(0.7), json!("x")));
    assert!(echo.get("store").is_none(), "the client's type has no such member");
    assert_eq!(echo["tool_choice"], json!({ "type": "function", "name": "f" }));
    assert_eq!(echo["text"], json!({ "format": { "type": "json_object" } }));
    assert_eq!(echo["reasoning"], json!({ "effort": "high", "summary": null }));
    // The client's type has both always.
    let tool = json!({ "type": "function", "name": "f", "parameters": { "type": "object" }, "strict": null });
    assert_eq!(echo["tools"], json!([tool]));
    assert_eq!((asked.previous.as_deref(), asked.store), (Some("resp_1"), false));
    assert_eq!(asked.ask.tool_choice, ToolChoice::Tool("f".into()));
    assert_eq!(asked.ask.thinking, Thinking::Budget { tokens: 24_576, hidden: false });
    assert_eq!(asked.ask.format, Some(Format::JsonObject));
    let plain = ask(r#"{"model": "m", "input": "a"}"#).expect("an ask");
    let plain = self::echo(&plain);
    assert_eq!(
        (plain["tools"].clone(), plain["tool_choice"].clone(), plain["text"].clone()),
        (json!([]), json!("auto"), json!({ "format": { "type": "text" } }))
    );
    assert_eq!((plain["temperature"].clone(), plain["previous_response_id"].clone()), (Value::Null, Value::Null));
}

/// What is repeated is what was sent, whatever the model is shown.
#[test]
fn tools_are_repeated_as_they_came() {
    let asked = with(
        r#""tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "g", "description": "d", "parameters": {"properties": {}}, "strict": true}]"#,
    )
    .expect("an ask");
    assert_eq!(
        echo(&asked)["tools"],
        json!([
            { "type": "function", "name": "f", "parameters": null, "strict": null },
            { "type": "function", "name": "g", "description": "d", "parameters": { "properties": {} }, "strict": true },
        ])
    );
    let schemas: Vec<&Value> = asked.ask.tools.iter().map(|tool| &tool.schema).collect();
    let none = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    assert_eq!(schemas, [&none, &json!({ "type": "object", "properties": {} })]);
}

#[test]
fn a_reference_may_be_an_id_alone() {
    for item in [r#"{"id": "msg_1"}"#, r#"{"type": null, "id": "msg_1"}"#, r#"{"type": "item_reference", "id": "msg_1"}"#] {
        let items = request(&format!(r#"{{"model": "m", "input": [{item}]}}"#)).items();
        assert_eq!(serde_json::to_value(items).expect("JSON"), json!([{ "type": "item_reference", "id": "msg_1" }]), "{item}");
    }
}

#[test]
fn parts_are_told_by_their_own_names() {
    let asked = ask(r#"{"model": "m", "input": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}"#).expect("an ask");
    assert_eq!(paths(&asked.ask.beyond), [("input.0.content.0", false)]);
    assert!(asked.ask.beyond[0].why.ends_with("send `input_text`"), "{}", asked.ask.beyond[0].why);
}

#[test]
fn going_on() {
    let before: Vec<Item> = request(r#"{"model": "m", "input": "first"}"#).items();
    let answer: Vec<Item> = request(r#"{"model": "m", "input": [{"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]}]}"#).items();
    let mut next = request(r#"{"model": "m", "input": "second", "previous_response_id": "resp_1", "instructions": "x"}"#);
    next.go_on(before.into_iter().chain(answer).collect());
    assert_eq!(
        shown(&next.into_ask().expect("an ask").ask),
        "system\n  text x\nuser\n  text first\nassistant\n  text yes\nuser\n  text second\n"
    );
}

#[test]
fn references() {
    let mut request =
        request(r#"{"model": "m", "input": [{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "go on"}]}"#);
    let kept: Item = serde_json::from_value(json!({ "role": "assistant", "content": "kept" })).expect("an item");
    request.resolve(|id| (id == "msg_1").then(|| kept.clone()));
    let asked = request.into_ask().expect("an ask");
    assert_eq!(shown(&asked.ask), "assistant\n  text kept\nuser\n  text go on\n");
    assert!(asked.ask.beyond.is_empty());
}

#[test]
fn beyond() {
    let asked = with(
        r#""background": true, "conversation": "conv_1", "include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "truncation": "auto",
           "tools": [{"type": "web_search"}], "reasoning": {"mode": "pro"}, "max_tool_calls": 3, "prompt_cache_options": {"prewarm": true}"#,
    )
    .expect("an ask");
    assert_eq!(
        paths(&asked.ask.beyond),
        [
            ("tools.0.type", true),
            ("reasoning.mode", true),
            ("include.1", true),
            ("background", false),
            ("conversation", false),
            ("max_tool_calls", true),
            ("prompt_cache_options", true),
            ("truncation", true)
        ]
    );
    assert_eq!(asked.ask.logprobs, Some(0));
}

/// What Codex gives: its own tools beside functions. Those that are not known are left out, and the functions stay.
#[test]
fn tools_of_other_types_are_left_out() {
    let tools = r#""tools": [{"type": "local_shell"}, {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}}, {"type": "web_search"},
        {"type": "function", "name": "f", "parameters": {"type": "object"}}]"#;
    let asked = with(tools).expect("an ask");
    assert_eq!(asked.ask.tools.iter().map(|tool| (tool.name.as_str(), tool.at)).collect::<Vec<_>>(), [("f", 3)]);
    assert_eq!(paths(&asked.ask.beyond), [("tools.0.type", true), ("tools.1.type", true), ("tools.2.type", true)]);
    let allowed =
        r#""tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}, {"type": "function", "name": "f"}]}"#;
    let asked = with(&format!("{tools}, {allowed}")).expect("an ask");
    assert_eq!(paths(&asked.ask.beyond)[3..], [("tool_choice.tools.0.type", true)]);
    // Nothing that could be called must not be called.
    let error = with(r#""tools": [{"type": "web_search"}], "tool_choice": "required""#).expect_err("an error");
    assert_eq!(error.path.as_deref(), Some("tool_choice"));
    let named = with(r#""tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}"#).expect("an ask");
    assert_eq!(paths(&named.ask.beyond), [("tools.0.type", true), ("tool_choice.type", false)]);
}

#[test]
fn nothing_is_lost() {
    let body = json!({ "model": "m", "input": [{ "type": "message", "role": "user", "content": [{ "type": "input_file", "file_id": "f" }], "x": 1 },
        { "type": "mcp_call", "id": "y", "z": [null] }], "tools": [{ "type": "mcp", "server_label": "s" }], "text": { "format": { "type": "new" } }, "new": { "a": null } });
    let read: Request = serde_json::from_value(body.clone()).expect("a request");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), body);
}
