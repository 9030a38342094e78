//! Limits: what is refused, what is charged, and what happens where a key runs dry.

use std::num::NonZeroU32;
use std::time::Duration;

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_policy::limits::{Budget, Limit, Tier};
use firecrest_service::host::Host;
use firecrest_service::lease::WhenDry;
use firecrest_service::scripted::Scripted;
use firecrest_service::service::{Options, Service};
use futures_util::StreamExt;
use futures_util::future::join;
use serde_json::json;

use crate::answers::{asks, said, slow};
use crate::world::*;

fn per_minute(count: u64) -> Option<Limit> {
    Some(Limit::per_minute(count).expect("a limit"))
}

fn words(count: usize) -> String {
    (0..count).map(|n| format!("w{n} ")).collect()
}

#[test]
fn a_limit_says_when_to_come_back() {
    let world = World::new();
    world.key(
        "few",
        Tier { requests: Some(Limit::per_minute(6).expect("a limit").with_capacity(1).expect("a capacity")), ..Tier::default() },
    );
    world.says("fine");
    let service = service(&world);
    for (path, body) in asks(true) {
        world.wait(Duration::from_secs(10));
        let first = ask(&service, by("few", path, &body));
        assert_eq!(first.status, 200, "{}", first.body);
        let refused = ask(&service, by("few", path, &body));
        assert_eq!(refused.status, 429);
        assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
        let wait: u64 = refused.header("retry-after-ms").expect("a wait").parse().expect("a number");
        assert_eq!((wait, refused.header("retry-after")), (10_000, Some("10")));
        // A millisecond earlier is too early, and then it is not.
        world.wait(Duration::from_millis(wait - 1));
        assert_eq!(ask(&service, by("few", path, &body)).status, 429);
        world.wait(Duration::from_millis(1));
        assert_eq!(ask(&service, by("few", path, &body)).status, 200);
        let names: [&str; 3] = match path {
            "/v1/messages" => {
                ["anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"]
            }
            _ => ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
        };
        for answer in [&first, &refused] {
            assert_eq!((answer.header(names[0]), answer.header(names[1])), (Some("6"), Some("0")), "{path}");
            assert!(answer.header(names[2]).is_some());
        }
    }
    assert_eq!(world.open_leases(), 0);
}

#[test]
fn input_that_can_never_be_had() {
    let world = World::new();
    world.key("small", Tier { input: per_minute(20), ..Tier::default() });
    world.says("fine");
    let service = service(&world);
    let mut body = asks(false)[0].1.clone();
    body["messages"][0]["content"] = json!(words(30));
    let answer = ask(&service, by("small", "/v1/messages", &body));
    assert_eq!((answer.status.as_u16(), answer.header("x-should-retry")), (400, Some("false")));
    body["messages"][0]["content"] = json!(words(18));
    assert_eq!(ask(&service, by("small", "/v1/messages", &body)).status, 200);
    let later = ask(&service, by("small", "/v1/messages", &body));
    assert_eq!(later.status, 429);
    assert_eq!(later.header("anthropic-ratelimit-input-tokens-limit"), Some("20"));
}

#[test]
fn one_at_a_time() {
    let world = World::new();
    world.key("one", Tier { concurrent: NonZeroU32::new(1), ..Tier::default() });
    slow(&world, "one two", Duration::from_secs(1));
    let service = service(&world);
    let (path, body) = &asks(true)[0];
    world.run(async {
        let first = service.handle(by("one", path, body)).await;
        let second = service.handle(by("one", path, body)).await;
        assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 429));
        assert_eq!(said(path, true, &read(first).await), "one two");
    });
    world.settle();
    assert_eq!(ask(&service, by("one", path, body)).status, 200);
}

#[test]
fn what_is_charged_is_what_was_used() {
    let world = World::new();
    world.key("metered", Tier { input: per_minute(1_000_000), output: per_minute(1_000_000), ..Tier::default() });
    world.says(&words(700));
    let service = service(&world);
    let mut expected = (0, 0);
    for stream in [false, true] {
        for (path, mut body) in asks(stream) {
            for name in ["max_tokens", "max_output_tokens"] {
                if body.get(name).is_some() {
                    body[name] = json!(2000);
                }
            }
            assert_eq!(ask(&service, by("metered", path, &body)).status, 200);
            let usage = world.records.borrow().last().expect("a record").usage;
            assert_eq!(usage.output, 700);
            let settled = world.settled("metered");
            assert_eq!(settled.last(), Some(&(Some(usage.input), usage.output)), "{path}");
            expected = (expected.0 + usage.input, expected.1 + usage.output);
        }
    }
    let levels = world.accounts.borrow()["metered"].levels();
    let used = |level: Option<firecrest_policy::limits::Level>| 1_000_000 - level.expect("a level").remaining;
    assert_eq!((used(levels.input), used(levels.output)), expected);
    assert_eq!(world.open_leases(), 0);
}

#[test]
fn a_body_that_is_dropped_stops_the_answer() {
    let world = World::new();
    let bench = slow(&world, &words(50), Duration::from_secs(1));
    let service = service(&world);
    for (path, body) in asks(true) {
        let seen = world.run(async {
            let mut response = service.handle(post(path, &body)).await;
            let mut seen = 0;
            while seen < 7 {
                let Some(piece) = response.body_mut().next().await else { break };
                seen += String::from_utf8_lossy(&piece).matches("w").count().min(1);
            }
            assert_eq!((world.open_leases(), bench.running.get()), (1, 1));
            seen
        });
        assert_eq!(seen, 7, "{path}");
        world.settle();
        assert_eq!((world.open_leases(), bench.running.get()), (0, 0), "{path}");
        let (input, output) = world.settled("k").last().copied().expect("a settlement");
        assert!(input.is_some_and(|input| input > 0));
        assert!((5..=8).contains(&output), "{path} {output}");
        assert_eq!(world.records.borrow().last().map(|told| told.outcome.clone()), Some("gone".to_owned()));
    }
}

#[test]
fn a_caller_that_goes_at_any_moment_leaves_nothing_open() {
    let world = World::new();
    let bench = slow(&world, "one two three", Duration::from_millis(100));
    bench.takes.set(Duration::from_millis(100));
    world.store_takes.set([Duration::from_millis(10); 2]);
    let service = service(&world);
    for stream in [false, true] {
        for (path, body) in asks(stream) {
            for moment in (5..600).step_by(10) {
                let answer = Box::pin(async { read(service.handle(post(path, &body)).await).await });
                world.run(async {
                    let gone = Box::pin(world.sleep(Duration::from_millis(moment)));
                    drop(futures_util::future::select(answer, gone).await);
                });
                world.settle();
                assert_eq!((world.open_leases(), bench.running.get()), (0, 0), "{path} {stream} {moment}");
            }
        }
    }
}

#[test]
fn an_answer_pauses_where_a_key_is_dry() {
    let world = World::new();
    // 100 at once, and 10 a second.
    world.key(
        "dry",
        Tier { output: Some(Limit::per_minute(600).expect("a limit").with_capacity(100).expect("a capacity")), ..Tier::default() },
    );
    let service = service(&world);
    for stream in [false, true] {
        for (path, mut body) in asks(stream) {
            world.model("m", Scripted::saying(&[&words(300)]));
            world.wait(Duration::from_secs(60));
            for name in ["max_tokens", "max_output_tokens"] {
                if body.get(name).is_some() {
                    body[name] = json!(300);
                }
            }
            let began = world.monotonic();
            let answer = ask(&service, by("dry", path, &body));
            assert_eq!(said(path, stream, &answer), words(300), "{path}");
            let took = (world.monotonic() - began).as_secs();
            assert!((20..=31).contains(&took), "{path} {took}");
            assert_eq!(world.open_leases(), 0);
            assert_eq!(world.settled("dry").last().map(|settled| settled.1), Some(300));
        }
    }
}

/// Whoever waits for what comes too late waits for nothing.
#[test]
fn an_answer_ends_at_once_if_its_key_has_no_more_in_its_time() {
    let late = Limit::per_minute(1).expect("a limit").with_capacity(100).expect("a capacity");
    let day = Some(Budget::new(400, 86_400_000).expect("a budget"));
    // Twenty of the hundred are there again before the answer's end, and the quantum of a hundred is not.
    let tiers = [("dry", Tier { output: Some(late), ..Tier::default() }, 100), ("spent", Tier { budget: day, ..Tier::default() }, 400)];
    for (key, tier, most) in tiers {
        for (stream, n) in [(false, 1), (true, 1), (false, 16), (true, 16)] {
            let world = World::new();
            world.key(key, tier.clone());
            world.says(&words(700));
            let service = service(&world);
            for (path, mut body) in asks(stream) {
                if n > 1 && path != "/v1/chat/completions" {
                    continue;
                }
                for name in ["max_tokens", "max_output_tokens"] {
                    if body.get(name).is_some() {
                        body[name] = json!(700);
                    }
                }
                if n > 1 {
                    body["n"] = json!(n);
                }
                let began = world.monotonic();
                let answer = ask(&service, by(key, path, &body));
                assert_eq!(answer.status, 200, "{key} {path} {}", answer.body);
                assert!(world.monotonic() - began < Duration::from_secs(1), "{key} {path} {stream} {n}");
                let told = world.records.borrow().last().cloned().expect("a record");
                assert_eq!(told.outcome, "max_tokens", "{key} {path}");
                // All that there was it had.
                let output = most - if key == "spent" { told.usage.input } else { 0 };
                assert_eq!((told.usage.output, world.open_leases()), (output, 0), "{key} {path} {stream} {n}");
                world.wait(Duration::from_secs(100_000));
            }
        }
    }
}

/// Nearly midnight: the budget of tomorrow is not waited for either.
#[test]
fn a_budget_that_is_spent_ends_an_answer_though_the_day_does_too() {
    let world = World::new();
    world.key("spent", Tier { budget: Some(Budget::new(100, 300_000).expect("a budget")), ..Tier::default() });
    world.says(&words(300));
    let service = service(&world);
    let body = json!({ "model": "m", "max_tokens": 300, "messages": [{ "role": "user", "content": "Go." }] });
    let began = world.monotonic();
    let answer = ask(&service, by("spent", "/v1/messages", &body));
    assert_eq!(answer.json()["stop_reason"], "max_tokens", "{}", answer.body);
    assert!(world.monotonic() - began < Duration::from_secs(1));
}

#[test]
fn an_answer_stops_where_a_key_is_dry() {
    let world = World::new();
    world.key(
        "dry",
        Tier { output: Some(Limit::per_minute(6).expect("a limit").with_capacity(100).expect("a capacity")), ..Tier::default() },
    );
    world.says(&words(300));
    let service = Service::new(world.clone(), Options { when_dry: WhenDry::Stop, ..options() });
    let body = json!({ "model": "m", "max_tokens": 300, "messages": [{ "role": "user", "content": "Go." }] });
    let answer = ask(&service, by("dry", "/v1/messages", &body));
    assert_eq!(answer.json()["stop_reason"], "max_tokens");
    assert_eq!(answer.json()["usage"]["output_tokens"], 100);
    assert_eq!((world.open_leases(), world.settled("dry").last().map(|settled| settled.1)), (0, Some(100)));
}

#[test]
fn a_budget_without_room_is_told_in_each_dialect() {
    let world = World::new();
    world.key("daily", Tier { budget: Some(Budget::new(100, 86_400_000).expect("a budget")), ..Tier::default() });
    world.says(&words(60));
    let service = service(&world);
    let mut body = asks(false)[0].1.clone();
    body["max_tokens"] = json!(60);
    assert_eq!(ask(&service, by("daily", "/v1/messages", &body)).status, 200);
    for (path, mut body) in asks(false) {
        for name in ["max_tokens", "max_output_tokens"] {
            if body.get(name).is_some() {
                body[name] = json!(60);
            }
        }
        let refused = ask(&service, by("daily", path, &body));
        let error = refused.json()["error"].clone();
        let code = match path {
            "/v1/messages" => (&error["details"]["error_code"], "enforced_spend_limit_reached"),
            _ => (&error["code"], "insufficient_quota"),
        };
        assert_eq!((refused.status.as_u16(), code.0.as_str()), (429, Some(code.1)), "{path} {}", refused.body);
        assert_eq!((error["type"].as_str(), refused.header("x-should-retry")), (Some("rate_limit_error"), Some("false")));
        // 1,800,000,000 is at eight in the morning.
        assert_eq!(refused.header("retry-after"), Some("57600"));
        // Some of it is left.
        let left = 100 - 60 - world.settled("daily")[0].0.expect("a prompt");
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(&format!("{left} of 100 tokens")) && message.contains("2027-01-16T00:00:00Z"), "{message}");
    }
}

#[test]
fn a_clock_that_steps_back_refuses_nobody() {
    let world = World::new();
    world.key("metered", Tier { output: per_minute(1_000), ..Tier::default() });
    world.says("fine");
    let service = service(&world);
    for back in [0, 2_000, 40_000, 7_200_000, 100_000_000] {
        world.stepped.set(-back);
        for (path, body) in asks(true) {
            for key in ["k", "metered"] {
                let answer = ask(&service, by(key, path, &body));
                assert_eq!((answer.status.as_u16(), said(path, true, &answer).as_str()), (200, "fine"), "{path} {back} {}", answer.body);
            }
        }
    }
}

#[test]
fn an_answer_goes_on_though_the_clock_steps() {
    for step in [-7_200_000, 7_200_000] {
        let world = World::new();
        slow(&world, &words(300), Duration::from_secs(1));
        let service = service(&world);
        for (path, body) in asks(true) {
            let request = post(path, &body);
            let (answer, ()) = world.run(join(async { read(service.handle(request).await).await }, async {
                world.sleep(Duration::from_secs(20)).await;
                world.stepped.set(world.stepped.get() + step);
            }));
            assert_eq!(said(path, true, &answer), words(300), "{path} {step}");
            world.settle();
            assert_eq!(world.open_leases(), 0, "{path} {step}");
        }
    }
}

#[test]
fn vectors_hold_their_place_for_as_long_as_they_take() {
    let world = World::new();
    world.key("one", Tier { concurrent: NonZeroU32::new(1), ..Tier::default() });
    let bench = world.says("nothing");
    bench.embeds.set(true);
    bench.takes.set(Duration::from_secs(700));
    let service = service(&world);
    let request = || by("one", "/v1/embeddings", &json!({ "model": "m", "input": "Hello." }));
    let (first, ()) = world.run(join(async { read(service.handle(request()).await).await }, async {
        for _ in 0..10 {
            world.sleep(Duration::from_secs(60)).await;
            assert_eq!(service.handle(request()).await.status(), 429);
        }
    }));
    assert_eq!(first.status, 200, "{}", first.body);
    world.settle();
    assert_eq!((world.open_leases(), world.settled("one")), (0, vec![(Some(1), 0)]));
    assert_eq!(ask(&service, request()).status, 200);
}

#[test]
fn a_lease_lives_as_long_as_its_answer() {
    let world = World::new();
    let service = service(&world);
    // Long to begin, as behind others, and long to tell.
    let bench = slow(&world, &words(300), Duration::from_secs(2));
    bench.takes.set(Duration::from_secs(100));
    for stream in [false, true] {
        let body = json!({ "model": "m", "max_tokens": 1000, "stream": stream, "messages": [{ "role": "user", "content": "Go." }] });
        let answer = ask(&service, post("/v1/messages", &body));
        assert_eq!(said("/v1/messages", stream, &answer), words(300), "{stream}");
    }
}

#[test]
fn a_lease_lives_though_its_caller_reads_slowly() {
    let world = World::new();
    let service = service(&world);
    slow(&world, &words(400), Duration::from_millis(100));
    let body = json!({ "model": "m", "max_tokens": 1000, "stream": true, "messages": [{ "role": "user", "content": "Go." }] });
    let answer = world.run(async {
        let mut response = service.handle(post("/v1/messages", &body)).await;
        let mut all = Vec::new();
        while let Some(piece) = response.body_mut().next().await {
            all.extend_from_slice(&piece);
            world.sleep(Duration::from_millis(200)).await;
        }
        String::from_utf8(all).expect("UTF-8")
    });
    assert!(answer.contains("w399") && answer.contains("end_turn"), "{answer}");
}

#[test]
fn a_lease_lives_though_its_caller_reads_nothing_for_a_while() {
    let world = World::new();
    let service = service(&world);
    slow(&world, &words(400), Duration::from_millis(10));
    let body = json!({ "model": "m", "max_tokens": 1000, "stream": true, "messages": [{ "role": "user", "content": "Go." }] });
    let answer = world.run(async {
        let mut response = service.handle(post("/v1/messages", &body)).await;
        let mut all = response.body_mut().next().await.expect("a piece").to_vec();
        world.sleep(Duration::from_secs(300)).await;
        while let Some(piece) = response.body_mut().next().await {
            all.extend_from_slice(&piece);
        }
        String::from_utf8(all).expect("UTF-8")
    });
    assert!(answer.contains("w399") && answer.contains("end_turn"), "{answer}");
    world.settle();
    assert_eq!(world.open_leases(), 0);
}

#[test]
fn a_body_that_nobody_drops_holds_its_lease_no_longer_than_an_answer_may_take() {
    let world = World::new();
    let service = service(&world);
    slow(&world, &words(400), Duration::from_millis(10));
    let body = json!({ "model": "m", "max_tokens": 1000, "stream": true, "messages": [{ "role": "user", "content": "Go." }] });
    let forgotten = world.run(service.handle(post("/v1/messages", &body)));
    world.wait(Duration::from_secs(600));
    assert_eq!(world.open_leases(), 1);
    world.wait(Duration::from_secs(60));
    assert_eq!(ask(&service, post("/v1/chat/completions", &asks(false)[1].1)).status, 200);
    assert_eq!(world.open_leases(), 0, "it expired");
    drop(forgotten);
    world.settle();
}

#[test]
fn a_key_that_fills_a_queue_leaves_the_last_of_it_to_others() {
    let world = World::new();
    world.key("greedy", Tier::default());
    world.key("other", Tier::default());
    let bench = slow(&world, "one two", Duration::from_secs(1));
    let service = service(&world);
    let (path, body) = &asks(true)[0];
    world.run(async {
        let mut held = Vec::new();
        for _ in 0..20 {
            held.push(service.handle(by("greedy", path, body)).await);
        }
        assert!(held.iter().all(|response| response.status() == 200));
        // One place is left to each lane.
        let lanes = &options().lanes;
        let mut queue = firecrest_service::backend::Queue { capacity: 100, waiting: [0; 3], predicted_ttft: [0; 3] };
        let key = world.keys.borrow().get("other").cloned().expect("a key");
        let place = lanes.place(key.class, firecrest_contract::ask::ServiceTier::Auto);
        let lane = usize::from(place.lane.index());
        while firecrest_policy::lanes::Admission::Admit == lanes.admit(&place, &queue) {
            queue.waiting[lane] += 1;
        }
        queue.waiting[lane] -= 1;
        bench.queue.set(Some(queue));
        let refused = read(service.handle(by("greedy", path, body)).await).await;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, Some("1")), "{}", refused.body);
        assert_eq!(service.handle(by("other", path, body)).await.status(), 200);
        drop(held);
    });
    world.settle();
    assert_eq!(ask(&service, by("greedy", path, body)).status, 200, "those that ended count no longer");
    assert_eq!(world.open_leases(), 0);
}

#[test]
fn all_answers_of_a_request_find_places_or_none_does() {
    let world = World::new();
    world.key("other", Tier::default());
    let bench = slow(&world, "one two", Duration::from_secs(1));
    let service = service(&world);
    let body = |n: u32| json!({"model": "m", "n": n, "messages": [{"role": "user", "content": "Hi"}]});
    let streamed = |n| {
        let mut body = body(n);
        body["stream"] = true.into();
        body
    };
    let path = "/v1/chat/completions";
    // Lane 0 has ten places to itself, and all but fifteen that others have to themselves.
    let queue = |taken| Some(firecrest_service::backend::Queue { capacity: 100, waiting: [taken, 0, 0], predicted_ttft: [0; 3] });
    bench.queue.set(queue(81));
    let refused = ask(&service, by("k", path, &body(5)));
    assert_eq!((refused.status.as_u16(), refused.header("retry-after").is_some()), (529, true), "{}", refused.body);
    assert_eq!(ask(&service, by("k", path, &body(4))).status, 200);
    assert_eq!(world.settled("k").first(), Some(&(Some(0), 0)), "who is sent away pays nothing");
    // A key that is alone may nearly fill its lane; once another asked, it may not for a while.
    bench.queue.set(queue(40));
    world.run(async {
        let held = service.handle(by("k", path, &streamed(20))).await;
        bench.queue.set(queue(80));
        let more = service.handle(by("k", path, &streamed(1))).await;
        assert_eq!([held.status(), more.status()], [200, 200]);
        assert_eq!(service.handle(by("other", path, &body(1))).await.status(), 200);
        let refused = read(service.handle(by("k", path, &body(1))).await).await;
        assert_eq!(refused.status, 429, "{}", refused.body);
        world.sleep(Duration::from_secs(61)).await;
        assert_eq!(service.handle(by("k", path, &body(1))).await.status(), 200);
    });
    world.settle();
    assert_eq!(world.open_leases(), 0);
}

/// A head without its body: whether it may have one.
#[test]
fn a_request_is_judged_by_its_head_before_its_body_is_read() {
    let world = World::new();
    world.says("fine");
    let service = service(&world);
    for (path, body) in asks(false) {
        let head = |key: &str, path: &str| by(key, path, &body).into_parts().0;
        world.run(async {
            let refused = |parts| async { service.admit(parts).await.err().map(|response| response.status().as_u16()) };
            assert_eq!(refused(head("nobody", path)).await, Some(401));
            assert_eq!(refused(head("k", "/v1/nothing")).await, Some(404));
            let admitted = service.admit(head("k", path)).await.ok().expect("it may go on");
            assert_eq!(admitted.key(), "k");
            let answer = read(admitted.refuse(&ApiError::new(ErrorKind::TooLarge, "too much"))).await;
            assert_eq!(answer.status, 413);
            let admitted = service.admit(head("k", path)).await.ok().expect("it may go on");
            assert_eq!(service.answer(admitted, by("k", path, &body).into_body()).await.status(), 200);
        });
        let statuses: Vec<u16> = world.records.borrow_mut().drain(..).map(|told| told.status).collect();
        assert_eq!(statuses, [401, 404, 413, 200], "{path}");
    }
}
