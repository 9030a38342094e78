//! Long texts are worked on elsewhere, and hold nobody up.

use futures_util::future::join;
use serde_json::{Value, json};

use crate::answers::{asks, said};
use crate::world::*;

/// The same ask, with so much more said in it.
fn long(path: &str, mut body: Value, text: &str) -> Value {
    match path {
        "/v1/responses" => body["input"] = text.into(),
        "/v1/completions" => body["prompt"] = text.into(),
        _ => body["messages"][0]["content"] = text.into(),
    }
    body
}

fn words() -> String {
    "word ".repeat(20_000)
}

#[test]
fn long_asks_are_answered_as_short_ones_are() {
    for stream in [false, true] {
        for (path, body) in asks(stream) {
            let world = World::new();
            world.says("one two three");
            let service = service(&world);
            ask(&service, post(path, &body));
            assert_eq!(world.offloaded.get(), 0, "{path}: a short text changes no thread");
            let answer = ask(&service, post(path, &long(path, body, &words())));
            assert_eq!((answer.status.as_u16(), said(path, stream, &answer).as_str()), (200, "one two three"), "{path} {}", answer.body);
            assert_eq!(world.offloaded.get(), 2, "{path}: it is read, and judged");
            let told = world.records.borrow().last().cloned().expect("a record");
            assert!(told.usage.input >= 20_000, "{path}");
        }
    }
}

#[test]
fn others_are_answered_while_one_is_read_and_judged() {
    let world = World::new();
    world.says("yes, certainly");
    let service = service(&world);
    let [(path, body), ..] = asks(false);
    let slow = post(path, &long(path, body.clone(), &words()));
    *world.threads.borrow_mut() = Some(Vec::new());
    let begun = std::cell::Cell::new(0);
    let (slow, quick) = world.run(join(async { read(service.handle(slow).await).await }, async {
        let quick = read(service.handle(post(path, &body)).await).await;
        // Both times it waits for a thread the others go on.
        while begun.get() < 2 {
            let waiting = world.threads.borrow_mut().as_mut().map(std::mem::take).unwrap_or_default();
            begun.set(begun.get() + waiting.len());
            waiting.into_iter().for_each(|task| task());
            world.sleep_once().await;
        }
        quick
    }));
    assert_eq!((slow.status.as_u16(), quick.status.as_u16(), begun.get()), (200, 200, 2));
    world.settle();
    let records = world.records.borrow();
    assert_eq!(records.iter().map(|told| told.usage.input).collect::<Vec<_>>(), [2, 20_001], "the quick one ended first");
}

#[test]
fn what_blocks_is_found_and_what_is_wrong_is_named_there_too() {
    let world = World::new();
    world.says("yes, certainly");
    let service = service(&world);
    for (path, body) in asks(false) {
        let answer = ask(&service, post(path, &long(path, body.clone(), &format!("{} forbidden {}", words(), words()))));
        assert!(!answer.body.contains("certainly"), "{path} {}", answer.body);
        let told = world.records.borrow().last().cloned().expect("a record");
        assert_eq!(told.judged.1.as_deref(), Some("r"), "{path}");
        let mut wrong = long(path, body, &words());
        wrong["max_tokens"] = json!("many");
        wrong["max_output_tokens"] = json!("many");
        let answer = ask(&service, post(path, &wrong));
        assert_eq!(answer.status.as_u16(), 400, "{path}");
        assert!(answer.body.contains("tokens: "), "{path} {}", answer.body);
    }
    for (path, field) in [("/v1/moderate", "text"), ("/v1/moderations", "input")] {
        let before = world.offloaded.get();
        let mut body = json!({});
        body[field] = format!("{} forbidden", words()).into();
        let answer = ask(&service, post(path, &body));
        // The rule's category is none of OpenAI's, which alone make `flagged` true.
        let told = path == "/v1/moderations" || answer.body.contains("true");
        assert!(answer.status == 200 && told, "{path} {}", answer.body);
        assert_eq!(world.offloaded.get(), before + 2);
    }
}

#[test]
fn nothing_is_done_for_callers_who_left_and_nobody_waits_for_what_is_lost() {
    let world = World::new();
    world.says("yes, certainly");
    let service = service(&world);
    let [(path, body), ..] = asks(false);
    let body = long(path, body, &words());
    *world.threads.borrow_mut() = Some(Vec::new());
    // The caller leaves while its body waits to be read: whoever takes the task up has nothing to do.
    world.run(async {
        let gone = service.handle(post(path, &body));
        futures_util::pin_mut!(gone);
        futures_util::future::select(gone, world.sleep_once()).await;
    });
    let waiting = world.threads.borrow_mut().as_mut().map(std::mem::take).unwrap_or_default();
    assert_eq!(waiting.len(), 1);
    waiting.into_iter().for_each(|task| task());
    world.settle();
    // A task that panics is dropped undone.
    let (answer, ()) = world.run(join(async { read(service.handle(post(path, &body)).await).await }, async {
        world.sleep_once().await;
        drop(world.threads.borrow_mut().as_mut().map(std::mem::take));
    }));
    assert_eq!(answer.status.as_u16(), 500, "{}", answer.body);
    assert_eq!((world.open_leases(), world.records.borrow().last().map(|told| told.status)), (0, Some(500)));
}
