//! Errors name the caller's own field, in each body.

use firecrest_contract::ask::Version;
use firecrest_contract::leaf::parse;
use firecrest_contract::messages::{self, into_ask};
use firecrest_contract::openai::{chat, completions, responses};
use serde_json::Value;

use super::*;

/// The ask that a body is.
fn read(path: &str, body: &Value) -> Ask {
    let body = body.to_string();
    let body = body.as_bytes();
    let ask = match path {
        "messages" => parse(body).and_then(|params| into_ask(params, Version::June2023, messages::Options::default())),
        "chat" => parse::<chat::Request>(body).and_then(chat::Request::into_ask),
        "responses" => parse::<responses::Request>(body).and_then(responses::Request::into_ask).map(|asked| asked.ask),
        _ => parse::<completions::Request>(body).and_then(completions::Request::into_ask),
    };
    ask.unwrap_or_else(|error| panic!("{path}: {error}"))
}

async fn leaf(local: &Local<Handle>, path: &str, body: Value) -> String {
    let ask = Arc::new(read(path, &body));
    let refused = match local.price(&ask, &Aside::in_place()).await {
        Err(error) => error,
        Ok(_) => match local.start(ask, Grant::unlimited()).await {
            Err(StartError::Refused(error)) => error,
            _ => panic!("{path}: {body} is served"),
        },
    };
    let leaf = refused.path.map(|leaf| leaf.to_string()).unwrap_or_default();
    assert!(refused.message.starts_with(&format!("{leaf}: ")), "{}", refused.message);
    leaf
}

#[test]
fn errors_name_the_caller_s_own_field() {
    with(async |local| {
        let wrong = json!({ "type": "object", "properties": { "a/b": { "type": "strung" } } });
        let (said, long) = (json!([{ "role": "user", "content": "Hi." }]), "fox ".repeat(2000));
        let begun = json!([{ "role": "user", "content": "Hi." }, { "role": "assistant", "content": "Well" }]);
        let place = "/properties/a~1b/type";

        let messages = |more: Value| merged(json!({ "model": "m", "max_tokens": 9, "messages": said }), more);
        let form = json!({ "type": "json_schema", "schema": wrong });
        let tool = json!({ "name": "f", "input_schema": wrong, "strict": true });
        let other = json!({ "name": "e", "input_schema": { "type": "object" } });
        for (more, expected) in [
            (json!({ "output_config": { "format": form } }), format!("output_config.format.schema{place}")),
            (json!({ "output_format": form }), format!("output_format.schema{place}")),
            (json!({ "tools": [other, tool] }), format!("tools.1.input_schema{place}")),
            (json!({ "messages": [{ "role": "user", "content": long }] }), "messages".to_owned()),
            (json!({ "messages": begun, "tools": [other], "tool_choice": { "type": "any" } }), "messages.1".to_owned()),
        ] {
            assert_eq!(leaf(&local, "messages", messages(more)).await, expected);
        }

        let chat = |more: Value| merged(json!({ "model": "m", "messages": said }), more);
        let form = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": wrong } });
        let tool = json!({ "type": "function", "function": { "name": "f", "parameters": wrong, "strict": true } });
        // What is left out of the prompt is in the body all the same.
        let other = json!({ "type": "custom", "custom": { "name": "c" } });
        for (more, expected) in [
            (json!({ "response_format": form }), format!("response_format.json_schema.schema{place}")),
            (json!({ "tools": [other, tool] }), format!("tools.1.function.parameters{place}")),
            (json!({ "messages": [{ "role": "user", "content": long }] }), "messages".to_owned()),
            (json!({ "messages": begun, "response_format": { "type": "json_object" } }), "messages.1".to_owned()),
        ] {
            assert_eq!(leaf(&local, "chat", chat(more)).await, expected);
        }

        let responses = |more: Value| merged(json!({ "model": "m", "input": "Hi." }), more);
        let form = json!({ "type": "json_schema", "name": "x", "schema": wrong });
        let tool = json!({ "type": "function", "name": "f", "parameters": wrong, "strict": true });
        let allowed = json!({ "type": "allowed_tools", "mode": "required", "tools": [{ "type": "function", "name": "f" }] });
        let fine = json!({ "type": "function", "name": "e", "parameters": { "type": "object" } });
        for (more, expected) in [
            (json!({ "text": { "format": form } }), format!("text.format.schema{place}")),
            (json!({ "tools": [{ "type": "web_search" }, tool] }), format!("tools.1.parameters{place}")),
            (json!({ "tools": [fine, tool], "tool_choice": allowed }), format!("tools.1.parameters{place}")),
            (json!({ "input": long }), "input".to_owned()),
            (json!({ "input": begun, "text": { "format": { "type": "json_object" } } }), "input.1".to_owned()),
        ] {
            assert_eq!(leaf(&local, "responses", responses(more)).await, expected);
        }

        assert_eq!(leaf(&local, "completions", json!({ "model": "m", "prompt": long })).await, "prompt");
        assert_eq!(leaf(&local, "completions", json!({ "model": "m", "prompt": "a", "suffix": "b" })).await, "suffix");
        assert_eq!(leaf(&local, "completions", json!({ "model": "m", "prompt": [[1], [1 << 30]] })).await, "prompt.1");
    });
}

/// An object with the members of another.
fn merged(mut object: Value, more: Value) -> Value {
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}
