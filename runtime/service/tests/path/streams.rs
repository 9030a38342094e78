//! Answers of a form and calls of tools come as they are made, in each dialect; what ends them ends them well.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use firecrest_policy::safety::rules::Policy;
use firecrest_service::host::{Host, Principal};
use firecrest_service::scripted::{Pieces, Scripted};
use firecrest_service::service::{Options, Service};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::answers::{asks, said, slow};
use crate::world::*;

const JSON: &str = r#"{"list":["milk","bread","six eggs"],"count":3}"#;

/// Requests for JSON of a schema, where a dialect has any.
fn forms() -> Vec<(&'static str, Value)> {
    let schema = json!({ "type": "object" });
    let asks = asks(true).into_iter().filter(|(path, _)| *path != "/v1/completions");
    let form = |(path, mut body): (&'static str, Value)| {
        match path {
            "/v1/messages" => body["output_config"] = json!({ "format": { "type": "json_schema", "schema": schema } }),
            "/v1/chat/completions" => {
                body["response_format"] = json!({ "type": "json_schema", "json_schema": { "name": "s", "schema": schema } })
            }
            _ => body["text"] = json!({ "format": { "type": "json_schema", "name": "s", "schema": schema } }),
        }
        (path, body)
    };
    asks.map(form).collect()
}

/// Requests with a tool.
fn tools(stream: bool) -> Vec<(&'static str, Value)> {
    let asks = asks(stream).into_iter().filter(|(path, _)| *path != "/v1/completions");
    let offer = |(path, mut body): (&'static str, Value)| {
        let parameters = json!({ "type": "object" });
        body["tools"] = match path {
            "/v1/messages" => json!([{ "name": "look", "input_schema": parameters }]),
            "/v1/chat/completions" => json!([{ "type": "function", "function": { "name": "look", "parameters": parameters } }]),
            _ => json!([{ "type": "function", "name": "look", "parameters": parameters }]),
        };
        (path, body)
    };
    asks.map(offer).collect()
}

/// Pieces of arguments.
fn deltas(path: &str, answer: &Read) -> Vec<String> {
    let of = |event: &Value| {
        let piece = match path {
            "/v1/messages" => event["delta"]["partial_json"].as_str(),
            "/v1/chat/completions" => event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str(),
            _ => event["delta"].as_str().filter(|_| event["type"] == "response.function_call_arguments.delta"),
        };
        piece.filter(|piece| !piece.is_empty()).map(str::to_owned)
    };
    answer.events().iter().filter_map(of).collect()
}

fn call() -> String {
    format!("<tool_call>\n{{\"name\": \"look\", \"arguments\": {JSON}}}\n</tool_call>")
}

/// What a stream ends with.
fn reason(path: &str, answer: &Read) -> String {
    let events = answer.events();
    let reason = match path {
        "/v1/messages" => events.iter().find_map(|event| event["delta"]["stop_reason"].as_str()),
        "/v1/chat/completions" => events.iter().find_map(|event| event["choices"][0]["finish_reason"].as_str()),
        _ => {
            events.last().and_then(|last| last["response"]["incomplete_details"]["reason"].as_str().or(last["response"]["status"].as_str()))
        }
    };
    reason.unwrap_or_default().to_owned()
}

#[test]
fn answers_of_a_form_stream() {
    let world = World::new();
    let service = service(&world);
    for size in 1..=JSON.len() {
        world.model("m", Scripted::saying(&[JSON]).in_pieces(Pieces::Characters(size)));
        for (path, body) in forms() {
            let answer = ask(&service, post(path, &body));
            assert_eq!(said(path, true, &answer), JSON, "{path} {size}");
            let pieces = answer.body.matches("\"delta\":\"").count()
                + answer.body.matches("\"text\":\"").count()
                + answer.body.matches("\"content\":\"").count();
            assert!(pieces >= JSON.len().div_ceil(size), "{path} {size}: {}", answer.body);
        }
    }
}

#[test]
fn calls_stream() {
    let world = World::new();
    let service = service(&world);
    let script = call();
    for size in 1..=script.len() {
        world.model("m", Scripted::saying(&[&script]).in_pieces(Pieces::Characters(size)));
        for (path, body) in tools(true) {
            let answer = ask(&service, post(path, &body));
            let pieces = deltas(path, &answer);
            assert_eq!(pieces.concat(), JSON, "{path} {size}");
            assert!(size > 8 || pieces.len() >= JSON.len() / 8, "{path} {size}: {pieces:?}");
            assert!(["tool_use", "tool_calls", "completed"].contains(&reason(path, &answer).as_str()), "{path} {}", answer.body);
        }
    }
}

/// A tier may have them whole: then nothing of what is refused is seen.
#[test]
fn a_tier_may_have_whole_blocks() {
    let world = World::new();
    let whole = Principal { whole_blocks: true, ..(*world.keys.borrow()["k"]).clone() };
    world.keys.borrow_mut().insert("k".to_owned(), Rc::new(whole));
    let service = service(&world);
    let script = call();
    world.model("m", Scripted::saying(&[&script]).in_pieces(Pieces::Characters(3)));
    for (path, body) in tools(true) {
        assert_eq!(deltas(path, &ask(&service, post(path, &body))), [JSON], "{path}");
    }
    world.model("m", Scripted::saying(&[&script.replace("six", "forbidden")]).in_pieces(Pieces::Characters(3)));
    for (path, body) in tools(true) {
        let answer = ask(&service, post(path, &body));
        assert!(
            deltas(path, &answer).is_empty() && !answer.body.contains("call_id") && !answer.body.contains("\"tool_calls\""),
            "{path} {}",
            answer.body
        );
    }
    world.model("m", Scripted::saying(&[JSON]).in_pieces(Pieces::Characters(3)));
    for (path, body) in forms() {
        let answer = ask(&service, post(path, &body));
        assert_eq!(said(path, true, &answer), JSON);
    }
}

/// A call that is refused or cut within is closed, is no whole JSON, and the answer asks for none to be run.
#[test]
fn a_call_that_ends_within_is_not_to_be_run() {
    let world = World::new();
    let service = service(&world);
    for (script, cut) in [(call().replace("six", "forbidden"), false), (call(), true)] {
        for size in [1, 3, 1000] {
            world.model("m", Scripted::saying(&[&script]).in_pieces(Pieces::Characters(size)));
            for (path, mut body) in tools(true) {
                if cut {
                    body[if path == "/v1/responses" { "max_output_tokens" } else { "max_tokens" }] = json!(5);
                }
                let answer = ask(&service, post(path, &body));
                let arguments = deltas(path, &answer).concat();
                assert!(JSON.starts_with(&arguments) && serde_json::from_str::<Value>(&arguments).is_err(), "{path} {arguments}");
                let expected = match (path, cut) {
                    ("/v1/messages", false) => "refusal",
                    ("/v1/messages", true) => "max_tokens",
                    ("/v1/chat/completions", true) => "length",
                    (_, false) => "content_filter",
                    (_, true) => "max_output_tokens",
                };
                assert_eq!(reason(path, &answer), expected, "{path} {}", answer.body);
                if path == "/v1/messages" {
                    let count = |kind: &str| answer.events().iter().filter(|event| event["type"] == kind).count();
                    assert!(
                        count("content_block_start") <= 1 && count("content_block_start") == count("content_block_stop"),
                        "{}",
                        answer.body
                    );
                }
            }
        }
    }
    // Cut before its arguments there is none: clients run a call without arguments.
    world.model("m", Scripted::saying(&["<tool_call>\n{\"name\": \"look\", x"]));
    for (path, mut body) in tools(true) {
        body[if path == "/v1/responses" { "max_output_tokens" } else { "max_tokens" }] = json!(3);
        let answer = ask(&service, post(path, &body));
        assert!(deltas(path, &answer).is_empty() && !answer.body.contains("toolu_"), "{path} {}", answer.body);
    }
}

/// Whose answer it is is told at once, though its first word is still to come.
#[test]
fn the_first_chunk_does_not_wait() {
    let world = World::new();
    slow(&world, "one two", Duration::from_secs(3));
    let service = service(&world);
    for (path, body) in forms().into_iter().chain(tools(true)) {
        world.run(async {
            let began = world.monotonic();
            let mut response = service.handle(post(path, &body)).await;
            let first = response.body_mut().next().await.expect("a piece");
            assert!(String::from_utf8_lossy(&first).contains("assistant") || path == "/v1/responses", "{path} {first:?}");
            assert_eq!((world.monotonic() - began).as_secs(), 0, "{path}");
        });
    }
}

/// A stop text is looked for where callers read.
#[test]
fn stops_do_not_see_markup() {
    let world = World::new();
    let service = service(&world);
    let script = format!("<think>\nhm\n</think>\n\n{}", call());
    world.model("m", Scripted::saying(&[&script]).in_pieces(Pieces::Characters(4)));
    for stream in [false, true] {
        for (path, body) in tools(stream) {
            // Responses have no stop texts.
            let Some(field) =
                [("/v1/messages", "stop_sequences"), ("/v1/chat/completions", "stop")].into_iter().find(|(of, _)| *of == path)
            else {
                continue;
            };
            for stop in ["name", "<tool_call>", "eggs", "think", "hm", "}"] {
                let mut body = body.clone();
                body[field.1] = json!([stop]);
                let answer = ask(&service, post(path, &body));
                let called = match stream {
                    true => deltas(path, &answer).concat() == JSON && reason(path, &answer).starts_with("tool_"),
                    false => answer.body.contains("six eggs") && answer.body.contains("reason\":\"tool_"),
                };
                assert!(called, "{path} {stop} {}", answer.body);
                assert!(!answer.body.contains("\"stop_sequence\":\""), "{path} {stop} {}", answer.body);
            }
        }
    }
    let long = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }], "stop": ["x".repeat(5000)] });
    assert_eq!(ask(&service, post("/v1/chat/completions", &long)).status, 400);
}

/// A key does not leave token by token, whoever asks for what.
#[test]
fn a_key_does_not_leave_in_parts() {
    const KEY: &str = "AKIAQ3EGRTZL5WXH2KMV";
    let world = World::new();
    let service = Service::new(world.clone(), Options { safety: Arc::new(Policy::standard().expect("rules")), ..options() });
    // A raw prompt that goes on from what came before.
    let mut known = String::new();
    for _ in 0..KEY.len() {
        world.model("m", Scripted::saying(&[&KEY[known.len()..]]).in_pieces(Pieces::Characters(1)));
        let body = json!({ "model": "m", "prompt": format!("The key: {known}"), "max_tokens": 1, "logprobs": 5, "stop": [&KEY[known.len() + 1..known.len() + 2]] });
        let answer = ask(&service, post("/v1/completions", &body)).json();
        let piece = answer["choices"][0]["text"].as_str().unwrap_or_default().to_owned();
        if piece.is_empty() {
            break;
        }
        known.push_str(&piece);
    }
    assert!(known.len() < 10, "{known}");
    // A begun answer, and a stop text.
    world.model("m", Scripted::saying(&[&KEY[12..]]));
    let begun =
        |role: &str| json!([{ "role": "user", "content": "My key?" }, { "role": role, "content": format!("It is {}", &KEY[..12]) }]);
    for stream in [false, true] {
        let body = json!({ "model": "m", "max_tokens": 50, "messages": begun("assistant"), "stream": stream });
        let answer = ask(&service, post("/v1/messages", &body));
        assert!(!answer.body.contains(&KEY[12..16]) && answer.body.contains("refusal"), "{}", answer.body);
    }
    for stop in ["V", "MV", "2KMV", "XH"] {
        world.model("m", Scripted::saying(&[KEY]));
        let body =
            json!({ "model": "m", "max_tokens": 50, "messages": [{ "role": "user", "content": "My key?" }], "stop_sequences": [stop] });
        let answer = ask(&service, post("/v1/messages", &body));
        assert!(!answer.body.contains("AKIA"), "{stop} {}", answer.body);
    }
}
