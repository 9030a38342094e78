//! Conversations that are kept: threads of the Messages API, and responses that others go on from.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use firecrest_contract::ask::{Content, Role};
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_policy::limits::Tier;
use firecrest_service::backend::StartError;
use firecrest_service::scripted::{Line, Scripted, busy};
use firecrest_service::service::{Options, Service};
use firecrest_service::threads::ThreadLimits;
use futures_util::StreamExt;
use http::Request;
use serde_json::{Value, json};

use crate::answers::slow;
use crate::world::*;

const CALL: &str =
    "<think>\nI should look.\n</think>\n\nLooking.\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"sky\"}}\n</tool_call>";

fn lines(texts: &[&str]) -> Vec<Line> {
    texts.iter().map(|text| Line::Says((*text).to_owned())).collect()
}

fn create(stream: bool) -> Value {
    json!({
        "model": "m", "max_tokens": 1000, "stream": stream, "thread": { "type": "create" }, "system": "Be brief.",
        "tools": [{ "name": "look", "description": "Looks", "input_schema": { "type": "object" } }],
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "What colour?", "cache_control": { "type": "ephemeral" } }] }],
    })
}

fn on(previous: &str, content: Value) -> Value {
    json!({
        "model": "m", "max_tokens": 1000, "thread": { "type": "continue", "previous_message_id": previous },
        "messages": [{ "role": "user", "content": content }],
    })
}

fn result(id: &str) -> Value {
    json!([{ "type": "tool_result", "tool_use_id": id, "content": "blue" }])
}

fn messages(key: &str, body: &Value) -> Request<Bytes> {
    let mut request = by(key, "/v1/messages?beta=true", body);
    request.headers_mut().insert("anthropic-beta", "message-threads-2026-08-12".parse().expect("a value"));
    request
}

/// The answer's id and, where it called one, the id of its call.
fn ids(answer: &Read) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if answer.header("content-type") == Some("application/json") {
        let json = answer.json();
        let call = json["content"].as_array().and_then(|content| content.iter().find(|block| block["type"] == "tool_use").cloned());
        return (text(&json["id"]), text(&call.unwrap_or_default()["id"]));
    }
    let events = answer.events();
    let call = events.iter().find(|event| event["content_block"]["type"] == "tool_use").cloned().unwrap_or_default();
    (text(&events[0]["message"]["id"]), text(&call["content_block"]["id"]))
}

fn code(answer: &Read) -> (u16, Value) {
    (answer.status.as_u16(), answer.json()["error"]["details"]["error_code"].clone())
}

/// What the model was asked last, in short.
fn asked(bench: &Bench) -> Vec<(Role, String)> {
    let ask = bench.asked.borrow().clone().expect("an ask");
    let part = |content: &Content| match content {
        Content::Text(text) => text.clone(),
        Content::Thinking { text, .. } => format!("({text})"),
        Content::ToolUse { name, input, .. } => format!("{name} {input}"),
        Content::ToolResult { text, .. } => format!("= {text}"),
        other => format!("{other:?}"),
    };
    ask.turns.iter().map(|turn| (turn.role, turn.parts.iter().map(|p| part(&p.content)).collect::<Vec<_>>().join("|"))).collect()
}

#[test]
fn a_thread_goes_on_with_a_result() {
    for stream in [false, true] {
        let world = World::new();
        let bench = world.script(lines(&[CALL, "It is blue.", "You are welcome."]));
        let service = service(&world);
        let first = ask(&service, messages("k", &create(stream)));
        let (id, call) = ids(&first);
        let second = ask(&service, messages("k", &on(&id, result(&call))));
        assert_eq!(second.json()["content"][0]["text"], "It is blue.", "{}", second.body);
        let turns = asked(&bench);
        assert_eq!(turns[0], (Role::System, "Be brief.".to_owned()));
        assert_eq!(turns[1], (Role::User, "What colour?".to_owned()));
        assert_eq!(turns[2], (Role::Assistant, "(I should look.)|Looking.|look {\"at\":\"sky\"}".to_owned()), "{turns:?}");
        assert_eq!((turns[3].clone(), turns.len()), ((Role::User, "= blue".to_owned()), 4));
        assert_eq!(bench.asked.borrow().as_ref().expect("an ask").tools.len(), 1);
        // And so on, streamed, and what was said by then is there.
        let (id, _) = ids(&second);
        let mut thanks = on(&id, json!("Thanks."));
        thanks["stream"] = json!(true);
        assert!(ask(&service, messages("k", &thanks)).body.contains("welcome"));
        assert_eq!(asked(&bench).len(), 6);
        assert_eq!(world.open_leases(), 0);
    }
}

#[test]
fn each_answer_is_gone_on_from_once() {
    let world = World::new();
    slow(&world, "fine enough", Duration::from_secs(1));
    let service = service(&world);
    let (id, _) = ids(&ask(&service, messages("k", &create(false))));
    let next = on(&id, json!("And?"));
    world.run(async {
        let mut streamed = next.clone();
        streamed["stream"] = json!(true);
        let first = service.handle(messages("k", &streamed)).await;
        let second = read(service.handle(messages("k", &next)).await).await;
        assert_eq!(code(&second), (400, json!("thread_continue_in_flight")));
        read(first).await
    });
    assert_eq!(code(&ask(&service, messages("k", &next))), (400, json!("thread_already_continued")));
    assert_eq!(world.open_leases(), 0);
}

#[test]
fn threads_are_their_keys_own_and_end() {
    let world = World::new();
    world.key("other", Tier::default());
    world.says("fine");
    let service = service(&world);
    let (id, _) = ids(&ask(&service, messages("k", &create(false))));
    let next = on(&id, json!("And?"));
    let stranger = ask(&service, messages("other", &next));
    assert_eq!((code(&stranger), stranger.json()["error"]["type"].clone()), ((404, json!("thread_not_found")), json!("not_found_error")));
    assert_eq!(code(&ask(&service, messages("k", &on("msg_none", json!("And?"))))), (404, json!("thread_not_found")));
    world.wait(Duration::from_secs(3599));
    assert_eq!(ask(&service, messages("k", &next)).status, 200);
    let (id, _) = ids(&ask(&service, messages("k", &create(false))));
    world.wait(Duration::from_secs(3600));
    assert_eq!(code(&ask(&service, messages("k", &on(&id, json!("And?"))))), (404, json!("thread_not_found")));
}

#[test]
fn what_is_not_told_whole_is_not_kept() {
    let world = World::new();
    slow(&world, "one two three", Duration::from_secs(1));
    let service = service(&world);
    let (id, _) = ids(&ask(&service, messages("k", &create(false))));
    let mut next = on(&id, json!("And?"));
    next["stream"] = json!(true);
    // The caller goes away.
    let lost = world.run(async {
        let mut response = service.handle(messages("k", &next)).await;
        let piece = response.body_mut().next().await.expect("a piece");
        let piece = String::from_utf8(piece.to_vec()).expect("UTF-8");
        let at = piece.find("msg_").expect("an id");
        piece[at..at + 28].to_owned()
    });
    world.settle();
    assert_eq!(code(&ask(&service, messages("k", &on(&lost, json!("And?"))))), (404, json!("thread_not_found")));
    // The model fails, or has too much to do, or says what it must not: whoever failed may try again.
    let broken = ApiError::new(ErrorKind::Api, "lost");
    for line in [Line::Breaks("one ".into(), broken), busy(1), Line::Says("so forbidden it is".into())] {
        world.script(vec![line]);
        let failed = ask(&service, messages("k", &next));
        if failed.header("content-type") == Some("text/event-stream") {
            let (failed, _) = ids(&failed);
            assert_eq!(code(&ask(&service, messages("k", &on(&failed, json!("And?"))))), (404, json!("thread_not_found")));
        }
    }
    world.says("fine");
    assert_eq!(ask(&service, messages("k", &next)).status, 200);
}

#[test]
fn what_was_created_stays() {
    let world = World::new();
    world.says("fine");
    let service = service(&world);
    let (id, _) = ids(&ask(&service, messages("k", &create(false))));
    let mut next = on(&id, json!("And?"));
    next["system"] = json!("Be long.");
    let changed = ask(&service, messages("k", &next));
    assert_eq!(code(&changed), (400, json!("thread_fingerprint_mismatch")));
    assert!(changed.body.contains("system"));
    next["system"] = json!("Be brief.");
    assert_eq!(ask(&service, messages("k", &next)).status, 200);
}

#[test]
fn leaves_are_the_callers_own() {
    let world = World::new();
    world.script(lines(&[CALL, "fine"]));
    let service = service(&world);
    let (id, call) = ids(&ask(&service, messages("k", &create(false))));
    let next = on(&id, json!([{ "type": "tool_use", "id": "c", "name": "look", "input": {} }]));
    let wrong = ask(&service, messages("k", &next));
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("\"messages.0.content.0.type: "), "{}", wrong.body);
    let missing = ask(&service, messages("k", &on(&id, json!("And?"))));
    assert_eq!(missing.status, 400);
    assert!(missing.body.contains("\"messages: `tool_use`"), "{}", missing.body);
    let mut empty = next.clone();
    empty["messages"] = json!([]);
    assert_eq!(ask(&service, messages("k", &empty)).status, 400);
    empty["thread"] = json!({ "type": "fork" });
    assert_eq!(ask(&service, messages("k", &empty)).status, 400);
    // None of that used the answer up.
    assert_eq!(ask(&service, messages("k", &on(&id, result(&call)))).status, 200);
}

#[test]
fn what_cannot_be_kept_is_said_so() {
    let world = World::new();
    world.says("fine");
    let none = service(&world).keeping(ThreadLimits { key_entries: 0, ..ThreadLimits::default() });
    let small = service(&world).keeping(ThreadLimits { key_bytes: 1_100, ..ThreadLimits::default() });
    for (service, name) in [(&none, "messages"), (&small, "messages")] {
        let refused = ask(service, messages("k", &create(false)));
        assert_eq!(code(&refused), (400, json!("thread_unsupported_request")));
        assert_eq!(refused.json()["error"]["details"]["unsupported"], json!([name]));
    }
    let mut shortened = create(false);
    shortened["context_management"] = json!({ "edits": [{ "type": "clear_tool_uses_20250919" }] });
    let refused = ask(&service(&world), messages("k", &shortened));
    assert_eq!(
        refused.json()["error"]["details"],
        json!({ "error_code": "thread_unsupported_request", "unsupported": ["context_management"] })
    );
    // Without it the same is served.
    let mut plain = create(false);
    plain.as_object_mut().expect("an object").remove("thread");
    assert_eq!(ask(&none, messages("k", &plain)).status, 200);
}

#[test]
fn only_so_many_are_kept() {
    let world = World::new();
    world.says("fine");
    let service = service(&world).keeping(ThreadLimits { key_entries: 2, ..ThreadLimits::default() });
    let kept: Vec<String> = (0..3).map(|_| ids(&ask(&service, messages("k", &create(false)))).0).collect();
    let status = |id: &str| ask(&service, messages("k", &on(id, json!("And?")))).status.as_u16();
    assert_eq!((status(&kept[0]), status(&kept[1])), (404, 200));
}

fn respond(service: &Service<World>, key: &str, body: Value) -> Read {
    let mut body = body;
    body["model"] = json!("m");
    ask(service, by(key, "/v1/responses", &body))
}

fn response_of(answer: &Read) -> Value {
    match answer.header("content-type") {
        Some("text/event-stream") => answer.events().last().expect("an event")["response"].clone(),
        _ => answer.json(),
    }
}

fn looking(world: &Rc<World>) -> Rc<Bench> {
    world.model("m", Scripted::new(lines(&[CALL, "It is blue.", "You are welcome."])))
}

#[test]
fn responses_go_on() {
    let tools = json!([{ "type": "function", "name": "look", "parameters": { "type": "object" } }]);
    for stream in [false, true] {
        let world = World::new();
        world.key("other", Tier::default());
        let bench = looking(&world);
        let service = service(&world);
        let first = response_of(&respond(
            &service,
            "k",
            json!({ "input": "What colour?", "instructions": "Be brief.", "tools": tools, "stream": stream }),
        ));
        let call = first["output"].as_array().expect("items").iter().find(|item| item["type"] == "function_call").expect("a call").clone();
        let result = json!([{ "type": "function_call_output", "call_id": call["call_id"], "output": "blue" }]);
        let next = json!({ "previous_response_id": first["id"], "input": result, "tools": tools, "stream": stream });
        // As often as one likes.
        for _ in 0..2 {
            let second = response_of(&respond(&service, "k", next.clone()));
            assert_eq!(second["output"][0]["content"][0]["text"], "It is blue.", "{second}");
            assert_eq!(second["previous_response_id"], first["id"]);
            let turns = asked(&bench);
            assert_eq!(turns[0], (Role::User, "What colour?".to_owned()), "instructions are not handed on");
            assert_eq!(turns[1], (Role::Assistant, "(I should look.)|Looking.|look {\"at\":\"sky\"}".to_owned()), "{turns:?}");
            assert_eq!((turns[2].clone(), turns.len()), ((Role::User, "= blue".to_owned()), 3));
            let third = respond(&service, "k", json!({ "previous_response_id": second["id"], "input": "Thanks." }));
            assert_eq!((third.status.as_u16(), asked(&bench).len()), (200, 5));
        }
        let stranger = respond(&service, "other", next);
        assert_eq!((stranger.status.as_u16(), stranger.json()["error"]["code"].clone()), (400, json!("previous_response_not_found")));
        assert_eq!(stranger.json()["error"]["param"], "previous_response_id");
    }
}

#[test]
fn responses_that_are_not_to_be_kept() {
    let world = World::new();
    world.says("fine");
    let service = service(&world);
    let first = respond(&service, "k", json!({ "input": "Hi", "store": false })).json();
    let next = respond(&service, "k", json!({ "previous_response_id": first["id"], "input": "And?" }));
    assert_eq!((next.status.as_u16(), next.json()["error"]["code"].clone()), (400, json!("previous_response_not_found")));
    slow(&world, "one two three", Duration::from_secs(1));
    let lost = world.run(async {
        let mut response = service.handle(post("/v1/responses", &json!({ "model": "m", "input": "Hi", "stream": true }))).await;
        let piece = response.body_mut().next().await.expect("a piece");
        let piece = String::from_utf8(piece.to_vec()).expect("UTF-8");
        let at = piece.find("resp_").expect("an id");
        piece[at..at + 29].to_owned()
    });
    world.settle();
    assert_eq!(respond(&service, "k", json!({ "previous_response_id": lost, "input": "And?" })).status, 400);
    assert_eq!(world.open_leases(), 0);
}

#[test]
fn items_that_are_referred_to() {
    let world = World::new();
    let bench = looking(&world);
    let service = service(&world);
    let tools = json!([{ "type": "function", "name": "look", "parameters": { "type": "object" } }]);
    let first = respond(&service, "k", json!({ "input": "What colour?", "tools": tools })).json();
    let output = first["output"].as_array().expect("items").clone();
    let mut input = vec![json!({ "role": "user", "content": "What colour?" })];
    // Its type goes without saying.
    let reference = |(at, item): (usize, &Value)| match at % 2 {
        0 => json!({ "type": "item_reference", "id": item["id"] }),
        _ => json!({ "id": item["id"] }),
    };
    input.extend(output.iter().enumerate().map(reference));
    let call = output.last().expect("a call")["call_id"].clone();
    input.push(json!({ "type": "function_call_output", "call_id": call, "output": "blue" }));
    let second = respond(&service, "k", json!({ "input": input, "tools": tools }));
    assert_eq!(second.json()["output"][0]["content"][0]["text"], "It is blue.", "{}", second.body);
    assert_eq!(asked(&bench)[1].1, "(I should look.)|Looking.|look {\"at\":\"sky\"}");
    let unknown =
        respond(&service, "k", json!({ "input": [{ "type": "item_reference", "id": "msg_x_0" }, { "role": "user", "content": "And?" }] }));
    assert_eq!(unknown.status, 400);
}

#[test]
fn leaves_of_responses_are_the_callers_own() {
    let world = World::new();
    world.says("fine");
    let service = service(&world);
    let first = respond(&service, "k", json!({ "input": "Hi" })).json();
    let wrong = json!({ "previous_response_id": first["id"], "input": [{ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{" }] });
    let wrong = respond(&service, "k", wrong);
    assert_eq!((wrong.status.as_u16(), wrong.json()["error"]["param"].clone()), (400, json!("input[0].arguments")), "{}", wrong.body);
    // Backends name this body's fields, too.
    world.model("m", Scripted::saying(&["fine"]).with_context(2));
    for stream in [false, true] {
        let long = respond(&service, "k", json!({ "input": "one two three", "stream": stream })).json()["error"].clone();
        let message = long["message"].as_str().expect("a message");
        assert!(long["param"] == "input" && message.starts_with("input: prompt is too long: "), "{long}");
    }
    let refused = ApiError::invalid("tools.0.parameters", "can't be held to");
    world.script(vec![Line::Refuses(StartError::Refused(refused))]);
    let refused = respond(&service, "k", json!({ "input": "Hi" })).json()["error"].clone();
    assert_eq!(
        (refused["param"].clone(), refused["message"].clone()),
        (json!("tools[0].parameters"), json!("tools.0.parameters: can't be held to"))
    );
    // A member that only looks like chat's stays where it was sent.
    let strict = Service::new(Rc::clone(&world), Options { lenient: false, ..options() });
    let unknown = respond(&strict, "k", json!({ "input": "Hi", "max_tokens": 3 })).json()["error"].clone();
    assert_eq!(unknown["param"], "max_tokens", "{unknown}");
}

#[test]
fn a_prompt_that_begins_otherwise() {
    let world = World::new();
    world.key("other", Tier::default());
    world.says("fine");
    world.model("n", Scripted::saying(&["fine"]));
    let service = service(&world);
    let body = |previous: &Value, change: &dyn Fn(&mut Value)| {
        let mut body = create(false);
        body.as_object_mut().expect("an object").remove("thread");
        body["diagnostics"] = json!({ "previous_message_id": previous });
        change(&mut body);
        body
    };
    // `null` where nothing diverged: a reason of `null` would say that it is not known yet.
    let reason = |key: &str, body: Value| {
        let diagnostics = ask(&service, messages(key, &body)).json()["diagnostics"].clone();
        assert!(diagnostics.is_null() || diagnostics["cache_miss_reason"].is_object(), "{diagnostics}");
        diagnostics["cache_miss_reason"].clone()
    };
    let first = ask(&service, messages("k", &body(&Value::Null, &|_| {}))).json();
    assert_eq!(first.get("diagnostics"), Some(&Value::Null));
    let (id, prompt) = (&first["id"], first["usage"]["input_tokens"].clone());
    let grown = |body: &mut Value| {
        let messages = body["messages"].as_array_mut().expect("messages");
        messages[0]["content"][0].as_object_mut().expect("a block").remove("cache_control");
        messages.push(json!({ "role": "assistant", "content": "fine" }));
        messages.push(json!({ "role": "user", "content": "And?" }));
    };
    assert_eq!(reason("k", body(id, &grown)), Value::Null);
    assert_eq!(
        reason(
            "k",
            body(id, &|body| body["messages"][0]["content"]
                .as_array_mut()
                .expect("blocks")
                .push(json!({ "type": "text", "text": "More." })))
        ),
        Value::Null
    );
    let missed = |kind: &str| json!({ "type": kind, "cache_missed_input_tokens": prompt });
    assert_eq!(reason("k", body(id, &|body| body["model"] = json!("n"))), missed("model_changed"));
    assert_eq!(reason("k", body(id, &|body| body["model"] = json!("alias-m"))), Value::Null);
    assert_eq!(reason("k", body(id, &|body| body["system"] = json!("Be long."))), missed("system_changed"));
    assert_eq!(reason("k", body(id, &|body| body["tools"][0]["description"] = json!("Sees"))), missed("tools_changed"));
    assert_eq!(reason("k", body(id, &|body| body["messages"][0]["content"][0]["text"] = json!("Why?"))), missed("messages_changed"));
    assert_eq!(reason("k", body(id, &|body| body["tool_choice"] = json!({ "type": "none" }))), json!({ "type": "unavailable" }));
    assert_eq!(reason("k", body(&json!("msg_none"), &|_| {})), json!({ "type": "previous_message_not_found" }));
    assert_eq!(reason("other", body(id, &|_| {})), json!({ "type": "previous_message_not_found" }));
    // Who does not ask is not told, and a thread may ask too.
    let plain = ask(&service, messages("k", &create(false))).json();
    assert_eq!(plain["diagnostics"], Value::Null);
    let mut threaded = create(false);
    threaded["diagnostics"] = json!({ "previous_message_id": id });
    let threaded = ask(&service, messages("k", &threaded)).json();
    assert_eq!(threaded.get("diagnostics"), Some(&Value::Null));
    let mut next = on(threaded["id"].as_str().expect("an id"), json!("And?"));
    next["diagnostics"] = json!({ "previous_message_id": threaded["id"] });
    assert_eq!(ask(&service, messages("k", &next)).json().get("diagnostics"), Some(&Value::Null));
}
