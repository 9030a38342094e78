//! Ten thousand requests of all kinds, with a fault at any stage: each ends, nothing stays open, and nobody else is disturbed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_policy::limits::{Command, Limit, Tier};
use firecrest_service::host::Host;
use firecrest_service::scripted::{Line, Pieces, Scripted, broken, busy};
use firecrest_service::service::{Options, Service};
use futures_util::future::{Either, join_all, select};
use serde_json::{Value, json};

use crate::answers::{asks, said};
use crate::world::*;

const SECRET: &str = "QZXJQZXJ";
const GROUPS: usize = 1250;
const AT_ONCE: usize = 8;

fn model(world: &Rc<World>, name: &str) {
    let pieces = Pieces::Characters(1 + world.number(12) as usize);
    let line = match world.number(7) {
        0 => Line::Says(format!("well, {SECRET} it was and so on")),
        1 => Line::Breaks("some of it".into(), ApiError::new(ErrorKind::Api, "lost")),
        2 => busy(1),
        3 => broken(world.number(2) == 0),
        4 => Line::Says(format!("<think>\nhm {SECRET}\n</think>\n\nhello")),
        _ => Line::Says("all is well here".into()),
    };
    let mut script = Scripted::new(vec![line]).in_pieces(pieces);
    if world.number(2) == 0 {
        let (host, pause) = (world.clone(), Duration::from_millis(world.number(4_000)));
        script = script.at_pace(Rc::new(move |_| Box::pin(host.sleep(pause))));
    }
    let bench = world.model(name, script);
    bench.ends_early.set((world.number(8) == 0).then(|| world.number(12) as usize));
    bench.takes.set(Duration::from_millis(if world.number(3) == 0 { world.number(8_000) } else { 0 }));
}

fn request(world: &World, model: &str) -> (&'static str, bool, Value) {
    let stream = world.number(2) == 0;
    let (path, mut body) = asks(stream)[world.number(4) as usize].clone();
    body["model"] = json!(model);
    match world.number(12) {
        0 => body["model"] = json!("ghost"),
        1 => body["stream"] = json!(3),
        2 => body = serde_json::from_str(&body.to_string().replace("Hello.", SECRET)).expect("JSON"),
        _ => {}
    }
    (path, stream, body)
}

#[test]
fn whatever_goes_wrong() {
    let world = World::new();
    let limited = Some(Limit::per_minute(30_000).expect("a limit").with_capacity(900).expect("a capacity"));
    world.key("a", Tier { requests: limited, input: limited, output: limited, ..Tier::default() });
    world.key("b", Tier::default());
    world.key("c", Tier { output: limited, ..Tier::default() });
    world.store_takes.set([Duration::from_millis(1); 2]);
    world.model("good", Scripted::saying(&["all is well here"]).in_pieces(Pieces::Characters(3)));
    let service = Service::new(world.clone(), Options { safety: rules(&[SECRET]), ..options() });
    let faults = Rc::new(Cell::new(0));
    let mut sent = 0;
    for _ in 0..GROUPS {
        model(&world, "m");
        // The store fails somewhere in this group, but for the neighbours'; a `Settle` that fails is its own test.
        let (countdown, told) = (Cell::new(world.number(60)), Rc::clone(&faults));
        *world.fails.borrow_mut() = Box::new(move |command, after| {
            let last = matches!(command, Command::Settle { .. }) || after && matches!(command, Command::Request { .. });
            if last {
                return false;
            }
            countdown.set(countdown.get().wrapping_sub(1));
            let fails = countdown.get() == 0;
            told.set(told.get() + u32::from(fails));
            fails
        });
        world.key_fails.set(world.number(10) == 0);
        let callers = (0..AT_ONCE).map(|n| {
            let key = ["a", "b", "c", "nobody"][world.number(4) as usize];
            let (path, stream, body) = request(&world, "m");
            let leaves = (world.number(3) == 0).then(|| Duration::from_millis(world.number(20_000)));
            let (service, world) = (&service, &world);
            async move {
                let answer = Box::pin(async { read(service.handle(by(key, path, &body)).await).await });
                let patience = match leaves {
                    Some(after) => after,
                    None => Duration::from_secs(1 << 20),
                };
                match select(answer, Box::pin(world.sleep(patience))).await {
                    Either::Left((answer, _)) => Some((n, path, stream, answer)),
                    Either::Right(_) => None,
                }
            }
        });
        for (_, path, stream, answer) in world.run(join_all(callers)).into_iter().flatten() {
            assert!(!answer.body.contains(['Q', 'Z', 'X', 'J']), "{path} {}", answer.body);
            match answer.header("content-type") {
                Some("application/json") => assert!(answer.json().is_object()),
                Some("text/event-stream") => assert!(stream && !answer.events().is_empty(), "{path} {}", answer.body),
                other => panic!("{other:?}"),
            }
        }
        sent += AT_ONCE;
        // A neighbour sees nothing of all that.
        *world.fails.borrow_mut() = Box::new(|_, _| false);
        world.key_fails.set(false);
        let (path, mut body) = asks(sent % 16 == 0)[sent / 16 % 4].clone();
        body["model"] = json!("good");
        let answer = ask(&service, post(path, &body));
        assert_eq!(
            (answer.status.as_u16(), said(path, sent % 16 == 0, &answer).as_str()),
            (200, "all is well here"),
            "{path} {}",
            answer.body
        );
        assert_eq!(world.open_leases(), 0);
        world.commands.borrow_mut().clear();
    }
    assert_eq!((sent, world.records.borrow().len()), (10_000, 10_000 + GROUPS));
    assert!(faults.get() > 100, "{faults:?}");
}

#[test]
fn a_settlement_that_is_lost_ends_with_its_lease() {
    let world = World::new();
    world.says("fine");
    *world.fails.borrow_mut() = Box::new(|command, after| !after && matches!(command, Command::Settle { .. }));
    let service = service(&world);
    let (path, body) = &asks(false)[0];
    assert_eq!(ask(&service, post(path, body)).status, 200);
    assert_eq!(world.open_leases(), 1);
    world.wait(Duration::from_secs(31));
    assert_eq!(ask(&service, post(path, body)).status, 200);
    assert_eq!(world.open_leases(), 1, "only the new one");
}

#[test]
fn a_store_that_fails_is_unavailable() {
    let world = World::new();
    let bench = world.says("fine");
    let service = service(&world);
    for (path, body) in asks(true) {
        world.key_fails.set(true);
        let answer = ask(&service, post(path, &body));
        assert_eq!(answer.status, 503);
        assert!(!answer.body.contains("gone") && answer.body.contains("store_unavailable"), "{}", answer.body);
        for stage in ["request", "open"] {
            *world.fails.borrow_mut() = Box::new(move |command, _| match command {
                Command::Request { .. } => stage == "request",
                Command::Open { .. } => stage == "open",
                _ => false,
            });
            assert_eq!(ask(&service, post(path, &body)).status, 503, "{path} {stage}");
        }
        // It was carried out, but its answer was lost.
        *world.fails.borrow_mut() = Box::new(|command, after| after && matches!(command, Command::Open { .. }));
        assert_eq!(ask(&service, post(path, &body)).status, 503, "{path}");
        *world.fails.borrow_mut() = Box::new(|_, _| false);
        assert_eq!(world.open_leases(), 0, "{path}");
    }
    assert_eq!(bench.script.starts(), 0);
}
