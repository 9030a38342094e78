//! Text made to be slow: what judging it costs follows its length, and that of a stream its pieces too.
//!
//! Processor time is printed, by byte, for each length. What is asserted is a generous fuse: sixteen times the text may take eight times as long by byte,
//! or less than a second. Work that grows with the square of the length takes sixteen times as long.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use firecrest_contract::event::{Block, Event, Usage};
use firecrest_policy::safety::gate::{Gate, GateOptions, Unjudged};
use firecrest_policy::safety::judge::judge_text;
use firecrest_policy::safety::normalise::normalised;
use firecrest_policy::safety::rules::{Direction, Policy};

const HARMLESS: Duration = Duration::from_secs(1);

/// What texts are made of. The last are beginnings of keys, of orders and of runs that may hide something.
const PARTS: [&str; 42] = [
    "a",
    "A",
    "\u{301}",
    "a\u{301}\u{327}",
    "ש\u{5b0}",
    "\u{5b0}",
    "\u{301}\u{316}\u{345}",
    " ",
    "\n",
    "\t ",
    "\u{3000}",
    "ab ",
    "aб中אక한あ",
    "中",
    "\u{1100}\u{1161}\u{11a8}",
    "👩\u{200d}👧\u{200d}👦",
    "\u{200d}",
    "\u{200b}",
    "\u{2800}",
    "\u{e0041}",
    "<|im_start|",
    "7",
    "4 1 1 1 ",
    "!?.,",
    "\u{fffd}",
    "\u{fdd0}",
    "ﷺ",
    "①Ⓐ㎏",
    "ignore all of the ",
    "a.b.c.",
    "a@a.",
    "password=",
    "AKIA",
    "A K I A ",
    "ghp_",
    "-----BEGIN PRIVATE KEY-----",
    "----",
    "-----BEGIN PRIVATE KEY-----\nComment: x\n",
    "\\n",
    "\"\\u0041",
    "{\"a\": \"",
    "private-lines: 1 ",
];

/// How long this thread has computed, whoever else did; where that is not known, the time.
fn processor_time() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = BEGAN.get_or_init(Instant::now);
    let known = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = known.and_then(|text| text.split(' ').next().and_then(|first| first.parse().ok()));
    nanoseconds.map_or_else(|| began.elapsed(), Duration::from_nanos)
}

fn check(what: &str, work: impl Fn(&str)) {
    let small = if cfg!(debug_assertions) { 1 << 12 } else { 1 << 14 };
    for part in PARTS {
        let texts = [small, 16 * small].map(|bytes: usize| part.repeat(bytes / part.len() + 1));
        let took = [&texts[0], &texts[1]].map(|text| {
            let began = processor_time();
            work(text);
            processor_time() - began
        });
        let by_byte = [0, 1].map(|at| took[at].as_nanos() as f64 / texts[at].len() as f64);
        eprintln!("{what:24} {part:32?} {:8.0} {:8.0} ns a byte", by_byte[0], by_byte[1]);
        assert!(took[1] < HARMLESS || by_byte[1] < 8.0 * by_byte[0], "{what}: {part:?}: {took:?}");
    }
}

#[test]
fn normalising_takes_what_the_text_is_long() {
    check("normalised", |text| drop(normalised(text)));
}

#[test]
fn judging_takes_what_the_text_is_long() {
    let policy = Policy::standard().expect("rules");
    check("input", |text| drop(judge_text(&policy, Direction::Input, text, None)));
    check("output", |text| drop(judge_text(&policy, Direction::Output, text, None)));
}

/// What leaves a gate in pieces of a few bytes. No piece makes what is held be read again.
#[test]
fn streams_take_what_their_text_is_long() {
    let policy = Arc::new(Policy::standard().expect("rules"));
    for (what, options, block) in [
        ("stream", GateOptions::default(), Block::Text),
        ("structured stream", GateOptions { structured: true, ..GateOptions::default() }, Block::Text),
        ("whole blocks", GateOptions { structured: true, whole_blocks: true, ..GateOptions::default() }, Block::Text),
        ("arguments", GateOptions::default(), Block::ToolUse { id: "c".into(), name: "f".into() }),
        (
            "arguments, whole",
            GateOptions { whole_blocks: true, ..GateOptions::default() },
            Block::ToolUse { id: "c".into(), name: "f".into() },
        ),
    ] {
        check(what, |text| {
            let mut gate = Gate::new(policy.clone(), options.clone());
            gate.push(Unjudged::new(Event::Start { usage: Usage::default() }));
            gate.push(Unjudged::new(Event::Open { choice: 0, block: block.clone() }));
            let mut rest = text;
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.ceil_char_boundary(3.min(rest.len())));
                rest = behind;
                gate.push(Unjudged::new(match block {
                    Block::ToolUse { .. } => Event::Arguments { choice: 0, json: piece.to_owned() },
                    _ => Event::Text { choice: 0, text: piece.to_owned(), logprobs: Vec::new() },
                }));
            }
            gate.push(Unjudged::new(Event::Close { choice: 0 }));
        });
    }
}
