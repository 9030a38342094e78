use firecrest_contract::leaf::parse;
use firecrest_contract::openai::error::{ErrorBody, param};
use firecrest_contract::openai::{chat, completions, embeddings, moderations, responses};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Words that the requests know, and some that they don't.
const WORDS: &[&str] = &[
    "model",
    "messages",
    "role",
    "content",
    "user",
    "assistant",
    "tool",
    "tool_calls",
    "id",
    "type",
    "function",
    "name",
    "arguments",
    "{}",
    "text",
    "input",
    "input_text",
    "output_text",
    "function_call",
    "function_call_output",
    "call_id",
    "output",
    "reasoning",
    "summary",
    "tools",
    "tool_choice",
    "allowed_tools",
    "mode",
    "required",
    "auto",
    "parameters",
    "stop",
    "n",
    "logit_bias",
    "7",
    "prompt",
    "format",
    "json_schema",
    "schema",
    "response_format",
    "stream",
    "stream_options",
    "message",
    "item_reference",
    "rs_1",
    "temperature",
    "logprobs",
    "top_logprobs",
    "image_url",
    "refusal",
    "developer",
    "system",
    "\u{1}",
    "",
    "é",
];

fn value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(WORDS);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3.0..130.0).prop_map(|x: f64| json!(x)),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(WORDS), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>())),
        ]
    })
}

/// A body that gets past the first members more often than chance would.
fn body() -> impl Strategy<Value = Value> {
    (value(), value(), value(), prop::collection::vec((prop::sample::select(WORDS), value()), 0..6)).prop_map(
        |(messages, input, prompt, members)| {
            let mut body =
                json!({ "model": "m", "messages": [{ "role": "user", "content": "a" }, messages], "input": input, "prompt": prompt });
            if let Value::Object(body) = &mut body {
                body.extend(members.into_iter().map(|(k, v)| (k.to_owned(), v)));
            }
            body
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is sent, there is a request or an error whose message and path agree.
    #[test]
    fn any_body(body in body()) {
        let text = body.to_string();
        let results = [
            parse::<chat::Request>(text.as_bytes()).and_then(|r| r.into_ask()).err(),
            parse::<responses::Request>(text.as_bytes()).and_then(|r| r.into_ask()).err(),
            parse::<completions::Request>(text.as_bytes()).and_then(|r| r.into_ask()).err(),
            parse::<embeddings::Request>(text.as_bytes()).and_then(|r| r.into_ask()).err(),
            parse::<moderations::Request>(text.as_bytes()).and_then(|r| r.into_ask()).err(),
            parse::<moderations::ModerateRequest>(text.as_bytes()).and_then(|r| r.into_ask()).err(),
        ];
        for error in results.into_iter().flatten() {
            prop_assert!(!error.message.contains('\u{1}'), "{:?}", error);
            if let Some(path) = &error.path {
                prop_assert!(error.message.starts_with(path.as_str()), "{:?}", error);
            }
            prop_assert_eq!(ErrorBody::from(&error).error.message, error.message);
        }
    }

    /// Requests are written as they were read.
    #[test]
    fn nothing_is_lost(body in body()) {
        if let Ok(request) = serde_json::from_value::<responses::Request>(body) {
            let once = serde_json::to_value(&request).expect("JSON");
            let again: responses::Request = serde_json::from_value(once.clone()).expect("what was written");
            prop_assert_eq!(serde_json::to_value(&again).expect("JSON"), once);
        }
    }

    #[test]
    fn any_param(path in ".{0,40}") {
        prop_assert!(param(&path.as_str().into()).len() <= 2 * path.len() + 2);
    }
}
