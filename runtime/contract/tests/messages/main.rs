//! Requests of the Messages API: what becomes of them, and what is said of those that are wrong.

mod beyond;
mod broken;
mod conversations;
mod tools;

use firecrest_contract::ask::{Ask, CacheTtl, Content, Format, Part, Role, ServiceTier, Thinking, ToolChoice, Turn, Version};
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::leaf::parse;
use firecrest_contract::messages::{
    CountTokensParams, ErrorBody, MessageCreateParams, Options, ThreadParam, count_into_ask, into_ask, parse_error,
};
use firecrest_contract::names::Names;
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
    ask.beyond.iter().map(|beyond| if beyond.hint { format!("({})", beyond.path) } else { beyond.path.to_string() }).collect()
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
    assert_eq!(ask.names, Names::MESSAGES);
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
        (json!({ "service_tier": "bogus" }), "service_tier: unknown variant `bogus`, expected `auto` or `standard_only`"),
        (json!({ "speed": "bogus" }), "speed: unknown variant `bogus`, expected `standard` or `fast`"),
        (
            json!({ "output_config": { "effort": "bogus" } }),
            "output_config.effort: unknown variant `bogus`, expected one of `low`, `medium`",
        ),
        (json!({ "thinking": { "type": "adaptive", "display": "bogus" } }), "thinking.display: unknown variant `bogus`, expected one of"),
        (json!({ "cache_control": { "type": "bogus" } }), "cache_control.type: unknown variant `bogus`, expected `ephemeral`"),
        (
            json!({ "cache_control": { "type": "ephemeral", "ttl": "2h" } }),
            "cache_control.ttl: unknown variant `2h`, expected `5m` or `1h`",
        ),
        (
            json!({ "tools": [{ "name": "t", "input_schema": { "type": "object" }, "allowed_callers": ["direct", "bogus"] }] }),
            "tools.0.allowed_callers.1: unknown variant `bogus`, expected `direct` or `code_execution_",
        ),
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
        (json!({ "metadata": { "user_id": "x".repeat(513) } }), "metadata.user_id: must have at most 512 characters"),
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
    assert_eq!(wrong(json!({ "thread": { "type": "continue" } })), "thread.previous_message_id: field required");
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
