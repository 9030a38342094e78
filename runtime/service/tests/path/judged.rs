//! What was not safe to say is in no body, however a model cuts its text.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use firecrest_policy::safety::decision::Action;
use firecrest_policy::safety::rules::Policy;
use firecrest_service::host::Host;
use firecrest_service::scripted::{Pieces, Scripted};
use firecrest_service::service::{Options, Service};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::answers::{asks, said};
use crate::world::*;

/// What must not leave: letters that nothing else in a body has.
const SECRET: &str = "QZXJQZXJ";

/// How a text comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Text,
    Thinking,
    Tool,
    EscapedTool,
    Structured,
    EscapedStructured,
}

const WAYS: [Way; 6] = [Way::Text, Way::Thinking, Way::Tool, Way::EscapedTool, Way::Structured, Way::EscapedStructured];

impl Way {
    fn script(self) -> String {
        let escaped: String = SECRET.chars().map(|c| format!("\\u{:04x}", c as u32)).collect();
        match self {
            Way::Text => format!("well, {SECRET} it was"),
            Way::Thinking => format!("<think>\nwell, {SECRET} it was\n</think>\n\nhello"),
            Way::Tool => format!("hm <tool_call>\n{{\"name\": \"look\", \"arguments\": {{\"at\": \"the {SECRET} way\"}}}}\n</tool_call>"),
            Way::EscapedTool => format!("hm <tool_call>\n{{\"name\": \"look\", \"arguments\": {{\"at\": \"{escaped}\"}}}}\n</tool_call>"),
            Way::Structured => format!("{{\"a\": \"the {SECRET} way\"}}"),
            Way::EscapedStructured => format!("{{\"a\": \"{escaped}\"}}"),
        }
    }

    /// The request, where the dialect has this way.
    fn ask(self, path: &str, mut body: Value) -> Option<Value> {
        let schema =
            json!({ "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"], "additionalProperties": false });
        match (self, path) {
            (Way::Text, _) => {}
            (_, "/v1/completions") => return None,
            (Way::Thinking, _) => {}
            (Way::Tool | Way::EscapedTool, "/v1/messages") => {
                body["tools"] = json!([{ "name": "look", "input_schema": { "type": "object" } }])
            }
            (Way::Tool | Way::EscapedTool, "/v1/chat/completions") => {
                body["tools"] = json!([{ "type": "function", "function": { "name": "look", "parameters": { "type": "object" } } }]);
            }
            (Way::Tool | Way::EscapedTool, _) => {
                body["tools"] = json!([{ "type": "function", "name": "look", "parameters": { "type": "object" } }]);
            }
            (_, "/v1/messages") => body["output_config"] = json!({ "format": { "type": "json_schema", "schema": schema } }),
            (_, "/v1/chat/completions") => {
                body["response_format"] = json!({ "type": "json_schema", "json_schema": { "name": "s", "schema": schema } });
            }
            (_, _) => body["text"] = json!({ "format": { "type": "json_schema", "name": "s", "schema": schema } }),
        }
        Some(body)
    }
}

fn guarded(world: &Rc<World>) -> Service<World> {
    Service::new(world.clone(), Options { safety: rules(&[SECRET]), ..options() })
}

/// Whether the end says that it was refused.
fn refused(path: &str, stream: bool, answer: &Read) -> bool {
    match (path, stream) {
        ("/v1/messages", false) => {
            let json = answer.json();
            json["stop_reason"] == "refusal" && json["content"] == json!([]) && json["stop_details"]["type"] == "refusal"
        }
        ("/v1/messages", true) => {
            let events = answer.events();
            let [.., change, stop] = events.as_slice() else { return false };
            change["delta"]["stop_reason"] == "refusal" && stop["type"] == "message_stop"
        }
        ("/v1/responses", false) => answer.json()["incomplete_details"]["reason"] == "content_filter",
        ("/v1/responses", true) => {
            answer.events().last().is_some_and(|last| last["response"]["incomplete_details"]["reason"] == "content_filter")
        }
        (_, false) => answer.json()["choices"][0]["finish_reason"] == "content_filter",
        (_, true) => answer.events().iter().any(|event| event["choices"][0]["finish_reason"] == "content_filter"),
    }
}

/// What was found is in the request's record, in the question or in the answer, whether it blocks or not.
#[test]
fn records_say_which_rule_decided() {
    let world = World::new();
    let flags = "format = 1\nrevision = ''\n[[category]]\nid = 'c'\nabout = ''\ngeneral_harms = true\n[[rule]]\nid = 'noted'\ncategory = 'c'\nabout = ''\n\
                 input = 'flag'\noutput = 'flag'\nkind = 'literal'\nany = ['heron', 'hello']\nexamples = ['heron']";
    let noting = Service::new(world.clone(), Options { safety: Arc::new(Policy::load([flags]).expect("rules")), ..options() });
    let judged = || world.records.borrow().last().map(|told| told.judged.clone());
    for (says, service, expected) in [
        ("a heron", &noting, (Action::Flag, Some("noted".to_owned()))),
        (SECRET, &guarded(&world), (Action::Block, Some("r".to_owned()))),
        ("well", &guarded(&world), (Action::Pass, None)),
    ] {
        world.says(says);
        for stream in [false, true] {
            for (path, body) in asks(stream) {
                ask(service, post(path, &body));
                assert_eq!(judged(), Some(expected.clone()), "{path} {stream}");
            }
        }
    }
}

#[test]
fn no_byte_of_a_match_leaves() {
    let world = World::new();
    let service = guarded(&world);
    for way in WAYS {
        let script = way.script();
        for size in 1..=script.chars().count() {
            world.model("m", Scripted::saying(&[&script]).in_pieces(Pieces::Characters(size)));
            for stream in [false, true] {
                for (path, body) in asks(stream) {
                    let Some(body) = way.ask(path, body) else { continue };
                    let answer = ask(&service, post(path, &body));
                    let at = format!("{way:?} {path} {stream} {size}: {}", answer.body);
                    assert_eq!(answer.status, 200, "{at}");
                    assert!(!answer.body.contains(['Q', 'Z', 'X', 'J']) && !answer.body.contains("\\u00"), "{at}");
                    assert!(refused(path, stream, &answer), "{at}");
                    if way == Way::Text && stream {
                        assert_eq!(said(path, stream, &answer), "well, ", "{at}");
                    }
                    assert!(!answer.body.contains("\"tool_use\"},") && !answer.body.contains("\"stop_reason\":\"tool_use\""), "{at}");
                }
            }
        }
    }
    assert_eq!(world.open_leases(), 0);
}

#[test]
fn safe_text_passes_whatever_its_pieces() {
    let world = World::new();
    let service = guarded(&world);
    // The beginnings of the secret, but never all of it.
    let text = "QZX and QZXJQ and QZXJQZX end";
    for size in 1..=text.len() {
        world.model("m", Scripted::saying(&[text]).in_pieces(Pieces::Characters(size)));
        for stream in [false, true] {
            for (path, body) in asks(stream) {
                assert_eq!(said(path, stream, &ask(&service, post(path, &body))), text, "{path} {stream} {size}");
            }
        }
    }
}

#[test]
fn what_must_not_be_asked_is_refused_as_an_answer() {
    let world = World::new();
    let bench = world.says("fine");
    let service = guarded(&world);
    for stream in [false, true] {
        for (path, body) in asks(stream) {
            let body: Value = serde_json::from_str(&body.to_string().replace("Hello.", SECRET)).expect("JSON");
            let answer = ask(&service, post(path, &body));
            assert_eq!(answer.status, 200);
            assert!(refused(path, stream, &answer), "{path} {}", answer.body);
            assert!(!answer.body.contains(SECRET));
            assert_eq!(world.records.borrow().last().map(|told| told.outcome.clone()), Some("refusal".to_owned()));
        }
    }
    assert_eq!((bench.script.starts(), world.open_leases()), (0, 0));
}

#[test]
fn a_refused_answer_is_not_gone_on_with() {
    let world = World::new();
    let long: String = (0..90).map(|n| format!("w{n} ")).collect();
    let text = format!("one two {SECRET} {long}");
    let bench = crate::answers::slow(&world, &text, Duration::from_secs(1));
    let service = guarded(&world);
    for stream in [false, true] {
        for (path, body) in asks(stream) {
            let began = world.monotonic();
            let answer = ask(&service, post(path, &body));
            assert!(refused(path, stream, &answer), "{path} {}", answer.body);
            let took = (world.monotonic() - began).as_secs();
            assert!(took < 10, "{path} {stream}: {took} s for what nobody sees");
            assert_eq!((world.open_leases(), bench.running.get()), (0, 0));
            let usage = world.records.borrow().last().expect("a record").usage;
            let settled = world.settled("k").last().copied();
            assert_eq!(settled, Some((Some(usage.input), usage.output)), "{path}");
            assert!((3..=6).contains(&usage.output), "{usage:?}");
        }
    }
}

#[test]
fn one_answer_of_several_is_refused() {
    let world = World::new();
    world.says(&format!("one {SECRET}"));
    let service = guarded(&world);
    let body = json!({ "model": "m", "n": 3, "messages": [{ "role": "user", "content": "Hi" }] });
    let answer = ask(&service, post("/v1/chat/completions", &body));
    let choices = answer.json()["choices"].clone();
    assert_eq!(choices.as_array().map(Vec::len), Some(3), "{}", answer.body);
    assert!(choices.as_array().expect("choices").iter().all(|choice| choice["finish_reason"] == "content_filter"));
}

#[test]
fn what_is_safe_comes_as_soon_as_it_can() {
    let world = World::new();
    crate::answers::slow(&world, "one two three", Duration::from_secs(3));
    let service = guarded(&world);
    let (path, body) = &asks(true)[0];
    world.run(async {
        let mut response = service.handle(post(path, body)).await;
        let mut seen = Vec::new();
        while let Some(piece) = response.body_mut().next().await {
            let piece = String::from_utf8_lossy(&piece).into_owned();
            for word in ["one", "two", "three"] {
                if piece.contains(&format!("\"text\":\"{word}")) {
                    seen.push(world.monotonic().as_secs());
                }
            }
        }
        assert_eq!(seen, [3, 6, 9]);
    });
}
