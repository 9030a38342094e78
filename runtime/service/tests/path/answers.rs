//! What is answered, and what is refused, in each dialect.

use std::time::Duration;

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_service::backend::Queue;
use firecrest_service::scripted::{Line, Pieces, Scripted, broken, busy};
use firecrest_service::service::{Options, Service};
use http::{Method, Request};
use serde_json::{Value, json};

use crate::world::*;

/// Each way of asking for text.
pub(crate) fn asks(stream: bool) -> [(&'static str, Value); 4] {
    let hello = json!([{ "role": "user", "content": "Hello." }]);
    [
        ("/v1/messages", json!({ "model": "m", "max_tokens": 1000, "messages": hello, "stream": stream })),
        ("/v1/chat/completions", json!({ "model": "m", "max_tokens": 1000, "messages": hello, "stream": stream })),
        ("/v1/responses", json!({ "model": "m", "max_output_tokens": 1000, "input": "Hello.", "stream": stream })),
        ("/v1/completions", json!({ "model": "m", "max_tokens": 1000, "prompt": "Hello.", "stream": stream })),
    ]
}

/// The text of an answer, whatever the dialect.
pub(crate) fn said(path: &str, stream: bool, answer: &Read) -> String {
    let of = |value: &Value| -> String {
        let text = match (path, stream) {
            ("/v1/messages", false) => &value["content"][0]["text"],
            ("/v1/messages", true) => &value["delta"]["text"],
            ("/v1/chat/completions", false) => &value["choices"][0]["message"]["content"],
            ("/v1/chat/completions", true) => &value["choices"][0]["delta"]["content"],
            ("/v1/responses", false) => &value["output"][0]["content"][0]["text"],
            ("/v1/responses", true) => match value["type"] == "response.output_text.delta" {
                true => &value["delta"],
                false => &Value::Null,
            },
            _ => &value["choices"][0]["text"],
        };
        text.as_str().unwrap_or_default().to_owned()
    };
    match stream {
        true => answer.events().iter().map(of).collect(),
        false => of(&answer.json()),
    }
}

/// `error` of an answer that has one.
fn error(answer: &Read) -> Value {
    answer.json()["error"].clone()
}

#[test]
fn each_dialect_whole_and_streamed() {
    let world = World::new();
    let bench = world.says("one two three");
    let service = service(&world);
    for stream in [false, true] {
        for (path, body) in asks(stream) {
            let answer = ask(&service, post(path, &body));
            assert_eq!((answer.status.as_u16(), said(path, stream, &answer).as_str()), (200, "one two three"), "{path} {}", answer.body);
            let kind = if stream { "text/event-stream" } else { "application/json" };
            assert_eq!(answer.header("content-type"), Some(kind));
            assert_eq!(answer.header("firecrest-model"), Some("m"));
            let id = answer.header(if path == "/v1/messages" { "request-id" } else { "x-request-id" }).expect("an id").to_owned();
            let told = world.records.borrow().last().cloned().expect("a record");
            assert_eq!((told.id, told.status, told.outcome.as_str(), told.usage.output), (id.clone(), 200, "end_turn", 3));
            let ids = if path == "/v1/messages" {
                "msg_"
            } else if path == "/v1/responses" {
                "resp_"
            } else {
                "cmpl-"
            };
            assert!(answer.body.contains(&format!("{ids}{id}")), "{path} {}", answer.body);
        }
    }
    assert_eq!((world.open_leases(), bench.running.get(), bench.script.starts()), (0, 0, 8));
    assert_eq!(world.records.borrow().len(), 8);
}

#[test]
fn whom_nobody_knows() {
    let world = World::new();
    world.says("x");
    let service = service(&world);
    for (path, body) in asks(false) {
        let answer = ask(&service, by("stranger", path, &body));
        assert_eq!(answer.status, 401);
        let messages = path == "/v1/messages";
        assert_eq!(error(&answer)["type"], "authentication_error");
        if messages {
            assert_eq!(answer.json()["request_id"], answer.header("request-id").expect("an id"));
        } else {
            assert_eq!(error(&answer)["code"], "invalid_api_key");
        }
        let nobody = Request::post(path).body(body.to_string().into()).expect("a request");
        assert_eq!(ask(&service, nobody).status, 401);
    }
    assert!(world.commands.borrow().is_empty(), "nobody's account was touched");
}

#[test]
fn wrong_places_and_methods() {
    let world = World::new();
    let service = service(&world);
    let get = |path: &str, version: bool| {
        let mut request = Request::builder().method(Method::GET).uri(path).header("authorization", "Bearer k");
        if version {
            request = request.header("anthropic-version", "2023-06-01");
        }
        ask(&service, request.body(bytes::Bytes::new()).expect("a request"))
    };
    let lost = get("/v1/nothing", true);
    assert_eq!((lost.status.as_u16(), error(&lost)["type"].clone()), (404, json!("not_found_error")));
    let lost = get("/v1/nothing", false);
    assert_eq!((lost.status.as_u16(), error(&lost)["type"].clone()), (404, json!("invalid_request_error")));
    for path in ["/v1/messages", "/v1/chat/completions", "/v1/responses", "/v1/completions"] {
        let answer = get(path, false);
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST")), "{path}");
        assert_eq!(error(&answer)["type"], "invalid_request_error");
    }
    for version in [true, false] {
        let ghost = get("/v1/models/ghost", version);
        let code = if version { error(&ghost)["details"]["error_code"].clone() } else { error(&ghost)["code"].clone() };
        assert_eq!((ghost.status.as_u16(), code), (404, json!("model_not_found")));
    }
    for (path, mut body) in asks(false) {
        body["model"] = json!("ghost");
        assert_eq!(ask(&service, post(path, &body)).status, 404, "{path}");
    }
    let mut old = post("/v1/messages", &asks(false)[0].1);
    old.headers_mut().insert("anthropic-version", "1999-01-01".parse().expect("a value"));
    assert_eq!(ask(&service, old).status, 400);
}

#[test]
fn what_is_wrong_is_named() {
    let world = World::new();
    world.says("x");
    let service = service(&world);
    let cases = [
        ("/v1/messages", json!({ "model": "m", "max_tokens": 1, "messages": [{ "role": "user", "content": 3 }] }), "messages.0.content"),
        ("/v1/messages", json!({ "model": "m", "messages": [] }), "max_tokens"),
        ("/v1/chat/completions", json!({ "model": "m", "messages": [{ "role": "user", "content": 3 }] }), "messages[0].content"),
        ("/v1/chat/completions", json!({ "model": "m", "messages": [], "temperature": 9 }), "temperature"),
        ("/v1/responses", json!({ "model": "m", "input": [{ "role": "user", "content": 3 }] }), "input[0].content"),
        ("/v1/completions", json!({ "model": "m", "prompt": "a", "n": 0 }), "n"),
    ];
    for (path, body, leaf) in cases {
        let answer = ask(&service, post(path, &body));
        assert_eq!(answer.status, 400, "{path} {}", answer.body);
        let error = error(&answer);
        match path {
            "/v1/messages" => assert!(error["message"].as_str().expect("a text").contains(leaf), "{error}"),
            _ => assert_eq!(error["param"], leaf, "{error}"),
        }
        assert_eq!(world.open_leases(), 0);
    }
    for body in ["", "{", "[]", "\u{1}", "null", "{\"model\":\"m\"}{}"] {
        for (path, _) in asks(false) {
            let request = Request::post(path).header("x-api-key", "k").body(body.to_owned().into()).expect("a request");
            assert_eq!(ask(&service, request).status, 400, "{path} {body}");
        }
    }
    let bytes = Request::post("/v1/messages").header("x-api-key", "k").body(vec![0xff, 0xfe].into()).expect("a request");
    assert_eq!(ask(&service, bytes).status, 400);
}

/// `betas` in a body is what `anthropic-beta` is.
#[test]
fn the_betas_shape() {
    let world = World::new();
    world.says("x");
    let service = service(&world);
    let hello = asks(false)[0].1.clone();
    let answer = |path: &str, betas: Option<Value>, header: bool| {
        let mut body = hello.clone();
        let members = body.as_object_mut().expect("an object");
        members.extend(betas.map(|betas| ("betas".to_owned(), betas)));
        if path.ends_with("/count_tokens") {
            members.retain(|name, _| name != "max_tokens" && name != "stream");
        }
        let mut request = post(path, &body);
        if header {
            request.headers_mut().insert("anthropic-beta", "a".parse().expect("a value"));
        }
        let answer = ask(&service, request);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    for path in ["/v1/messages", "/v1/messages/count_tokens"] {
        for (betas, header, beta) in
            [(None, false, false), (Some(json!([])), false, false), (Some(json!(["a"])), false, true), (None, true, true)]
        {
            let answer = answer(path, betas, header);
            assert_eq!(answer.get("context_management"), beta.then_some(&Value::Null), "{path} {answer}");
        }
    }
}

#[test]
fn hints_are_listed_or_refused() {
    let world = World::new();
    world.says("fine");
    let mut body = asks(false)[0].1.clone();
    body["speed"] = json!("fast");
    let lenient = ask(&service(&world), post("/v1/messages", &body));
    let listed = lenient.header("firecrest-ignored-fields").map(str::to_owned);
    let strict = Service::new(world.clone(), Options { lenient: false, ..options() });
    let refused = ask(&strict, post("/v1/messages", &body));
    assert_eq!(refused.status, 400);
    assert_eq!(
        (lenient.status.as_u16(), listed.as_deref().is_some_and(|listed| listed.contains("speed"))),
        (200, true),
        "{}",
        lenient.body
    );
    let mut plain = asks(false)[1].1.clone();
    assert_eq!(ask(&strict, post("/v1/chat/completions", &plain)).status, 200);
    // What no answer is right without is refused either way.
    plain["audio"] = json!({ "voice": "a", "format": "mp3" });
    plain["modalities"] = json!(["audio"]);
    assert_eq!(ask(&service(&world), post("/v1/chat/completions", &plain)).status, 400);
    assert_eq!(world.open_leases(), 0);
}

#[test]
fn aliases() {
    let world = World::new();
    world.says("fine");
    let mut body = asks(false)[0].1.clone();
    body["model"] = json!("alias-large");
    let answer = ask(&service(&world), post("/v1/messages", &body));
    assert_eq!((answer.json()["model"].clone(), answer.header("firecrest-model")), (json!("alias-large"), Some("m")));
}

/// Half of what nobody has to himself is taken, by batches: a batch is sent away, the others are let in. Nothing is charged.
#[test]
fn a_full_queue_is_shared_by_lanes() {
    let world = World::new();
    let bench = world.says("fine");
    let service = service(&world);
    bench.queue.set(Some(Queue { capacity: 100, waiting: [0, 0, 42], predicted_ttft: [0; 3] }));
    for (path, mut body) in asks(false) {
        if path == "/v1/messages" {
            continue;
        }
        assert_eq!(ask(&service, post(path, &body)).status, 200, "{path}");
        body["service_tier"] = json!("flex");
        if path == "/v1/completions" {
            continue;
        }
        let shed = ask(&service, post(path, &body));
        assert_eq!((shed.status.as_u16(), shed.header("retry-after")), (529, Some("1")), "{path}");
    }
    assert_eq!(world.open_leases(), 0);
}

#[test]
fn too_much_to_do() {
    let world = World::new();
    world.script(vec![busy(3)]);
    let service = service(&world);
    for stream in [false, true] {
        for (path, body) in asks(stream) {
            let answer = ask(&service, post(path, &body));
            assert_eq!(answer.status, 529, "{path}");
            assert_eq!((answer.header("retry-after"), answer.header("retry-after-ms")), (Some("3"), Some("3000")));
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(error(&answer)["type"], "overloaded_error");
        }
    }
    assert_eq!(world.open_leases(), 0);
    assert!(world.settled("k").iter().all(|settled| *settled == (Some(0), 0)), "nothing was used: {:?}", world.settled("k"));
}

#[test]
fn a_fault_before_the_first_event_has_a_status() {
    let world = World::new();
    let lost = ApiError::new(ErrorKind::Timeout, "lost");
    world.script(vec![broken(false)]);
    let service = service(&world);
    for stream in [false, true] {
        for (path, body) in asks(stream) {
            let answer = ask(&service, post(path, &body));
            assert_eq!((answer.status.as_u16(), answer.header("content-type")), (500, Some("application/json")), "{path}");
            assert_eq!(world.records.borrow().last().map(|told| (told.status, told.outcome.clone())), Some((500, "api_error".to_owned())));
        }
    }
    // A stream that ends with nothing in it is one too.
    let bench = world.model("m", Scripted::new(vec![Line::Breaks(String::new(), lost)]));
    bench.ends_early.set(Some(0));
    for stream in [false, true] {
        for (path, body) in asks(stream) {
            assert_eq!(ask(&service, post(path, &body)).status, 500, "{path}");
        }
    }
    assert_eq!((world.open_leases(), bench.running.get()), (0, 0));
    assert!(world.settled("k").iter().all(|settled| *settled == (Some(0), 0)), "nothing was used: {:?}", world.settled("k"));
}

#[test]
fn a_fault_in_the_middle_is_told_in_the_stream() {
    let world = World::new();
    world.script(vec![Line::Breaks("one two ".into(), ApiError::new(ErrorKind::Api, "lost"))]);
    let service = service(&world);
    for (path, body) in asks(true) {
        let answer = ask(&service, post(path, &body));
        assert_eq!((answer.status.as_u16(), said(path, true, &answer).as_str()), (200, "one two "), "{path}");
        let last = answer.events().pop().expect("an event");
        match path {
            "/v1/messages" => assert_eq!((last["type"].clone(), last["error"]["type"].clone()), (json!("error"), json!("api_error"))),
            "/v1/responses" => {
                assert_eq!((last["type"].clone(), last["response"]["status"].clone()), (json!("response.failed"), json!("failed")))
            }
            _ => assert_eq!(last["error"]["message"], "lost"),
        }
        assert_eq!(world.records.borrow().last().map(|told| told.outcome.clone()), Some("api_error".to_owned()));
    }
    for (path, body) in asks(false) {
        assert_eq!(ask(&service, post(path, &body)).status, 500, "{path}");
    }
    assert_eq!(world.open_leases(), 0);
    // What a stream gave is charged; a whole answer gave nothing.
    let (given, nothing): (Vec<_>, Vec<_>) = world.settled("k").into_iter().partition(|settled| *settled != (Some(0), 0));
    assert_eq!((given.len(), nothing.len()), (asks(true).len(), asks(false).len()));
    assert!(given.iter().all(|(input, output)| input.is_some_and(|input| input > 0) && *output == 2), "{given:?}");
    // Without a last word it is one too.
    let bench = world.says("one two three");
    bench.ends_early.set(Some(3));
    for (path, body) in asks(true) {
        let answer = ask(&service, post(path, &body));
        assert!(answer.body.contains("the backend stopped"), "{path} {}", answer.body);
    }
    assert_eq!((world.open_leases(), bench.running.get()), (0, 0));
}

/// A script that waits before each piece.
pub(crate) fn slow(world: &std::rc::Rc<World>, text: &str, pause: Duration) -> std::rc::Rc<Bench> {
    let host = world.clone();
    let pace = std::rc::Rc::new(move |_| -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(firecrest_service::host::Host::sleep(&*host, pause))
    });
    world.model("m", Scripted::saying(&[text]).in_pieces(Pieces::Words).at_pace(pace))
}

#[test]
fn a_quiet_stream_says_that_it_is_alive() {
    let world = World::new();
    slow(&world, "one two", Duration::from_secs(25));
    let service = service(&world);
    for (path, body) in asks(true) {
        let answer = ask(&service, post(path, &body));
        assert_eq!(said(path, true, &answer), "one two", "{path}");
        let pings = match path {
            "/v1/messages" => answer.events().iter().filter(|event| event["type"] == "ping").count(),
            _ => answer.body.lines().filter(|line| line.starts_with(':')).count(),
        };
        assert_eq!(pings, 4, "{path} {}", answer.body);
        // Waiting for the model is not our time.
        assert_eq!(world.records.borrow().last().map(|told| told.overhead), Some(Duration::ZERO));
    }
}

#[test]
fn headers_do_not_wait_for_ever() {
    let world = World::new();
    let bench = world.says("one");
    bench.takes.set(Duration::from_secs(60));
    let service = service(&world);
    for (path, body) in asks(true) {
        let began = firecrest_service::host::Host::monotonic(&*world);
        let (headed, answer) = world.run(async {
            let response = service.handle(post(path, &body)).await;
            (firecrest_service::host::Host::monotonic(&*world), read(response).await)
        });
        assert_eq!(headed - began, Duration::from_secs(5));
        assert_eq!((answer.status.as_u16(), said(path, true, &answer).as_str()), (200, "one"));
    }
    // What fails after that is told in the stream.
    let late = world.script(vec![busy(1)]);
    late.takes.set(Duration::from_secs(6));
    for (path, body) in asks(true) {
        let answer = ask(&service, post(path, &body));
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("too many requests are waiting"), "{path} {}", answer.body);
    }
    world.settle();
    assert_eq!(world.open_leases(), 0);
    assert_eq!(world.settled("k").iter().filter(|settled| **settled == (Some(0), 0)).count(), 4, "{:?}", world.settled("k"));
}
