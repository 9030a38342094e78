//! Bodies with anything anywhere.

use proptest::prelude::*;

use crate::*;

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
