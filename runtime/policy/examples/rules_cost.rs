//! What rules cost: `cargo run --release -p firecrest-policy --example rules_cost [--rules RULES] [FILE]…`. Without RULES it is those that ship.
//!
//! Prints milliseconds per 4 kB of text, whole and through the gate in pieces of a token's size, for English, for code and for text made to be slow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firecrest_contract::event::{Block, Event, Usage};
use firecrest_policy::safety::gate::{Gate, GateOptions, Unjudged};
use firecrest_policy::safety::judge::judge_text;
use firecrest_policy::safety::rules::{Direction, Policy, STANDARD};

const KB4: usize = 4096;

/// The fastest of some runs: what the work takes where nobody else is in the way.
fn best(mut work: impl FnMut()) -> Duration {
    let once = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..15).map(|_| once(&mut work)).min().unwrap_or_default()
}

fn gate(policy: &Arc<Policy>, text: &str) -> usize {
    let mut gate = Gate::new(policy.clone(), GateOptions::default());
    gate.push(Unjudged::new(Event::Start { usage: Usage::default() }));
    gate.push(Unjudged::new(Event::Open { choice: 0, block: Block::Text }));
    let mut rest = text;
    let mut events = 0;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.ceil_char_boundary(4.min(rest.len())));
        rest = behind;
        events += gate.push(Unjudged::new(Event::Text { choice: 0, text: piece.to_owned(), logprobs: Vec::new() })).len();
    }
    events + gate.push(Unjudged::new(Event::Close { choice: 0 })).len()
}

/// How many pieces of a token's size leave later than they come, and by how many bytes at most.
fn delay(policy: &Arc<Policy>, text: &str) -> (usize, usize, usize) {
    let mut gate = Gate::new(policy.clone(), GateOptions::default());
    gate.push(Unjudged::new(Event::Start { usage: Usage::default() }));
    gate.push(Unjudged::new(Event::Open { choice: 0, block: Block::Text }));
    let (mut came, mut left, mut pieces, mut late, mut longest) = (0, 0, 0, 0, 0);
    // Tokens begin with their space, so that a word's end is open.
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (piece, behind) = rest.split_at(rest[first.len_utf8()..].find(' ').map_or(rest.len(), |at| first.len_utf8() + at));
        rest = behind;
        came += piece.len();
        let out = gate.push(Unjudged::new(Event::Text { choice: 0, text: piece.to_owned(), logprobs: Vec::new() }));
        for judged in out {
            if let Event::Text { text, .. } = judged.event() {
                left += text.len();
            }
        }
        pieces += 1;
        late += usize::from(left < came);
        longest = longest.max(came - left);
    }
    (pieces, late, longest)
}

fn show(name: &str, policy: &Arc<Policy>, text: &str) {
    let parts = (text.len() as f64 / KB4 as f64).max(f64::MIN_POSITIVE);
    let ms = |took: Duration| took.as_secs_f64() * 1e3 / parts;
    let whole = |direction| best(|| assert!(!judge_text(policy, direction, text, None).decision.blocks()));
    let streamed = best(|| assert!(gate(policy, text) > 0));
    println!(
        "{name:24} input {:.3}  output {:.3}  gate, 4 bytes a piece {:.3}   ({} kB)",
        ms(whole(Direction::Input)),
        ms(whole(Direction::Output)),
        ms(streamed),
        text.len() / 1024
    );
}

fn main() {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    let mut rules = STANDARD.to_owned();
    if paths.first().is_some_and(|first| first == "--rules") {
        let path = paths.get(1).cloned().unwrap_or_default();
        match std::fs::read_to_string(&path) {
            Ok(text) => rules = text,
            Err(error) => return eprintln!("{path}: {error}"),
        }
        paths.drain(..2);
    }
    let start = Instant::now();
    let policy = match Policy::load([rules.as_str()]) {
        Ok(policy) => Arc::new(policy),
        Err(error) => return eprintln!("{error}"),
    };
    println!(
        "loaded in {:.1} ms: {} rules, {} kB of tables",
        start.elapsed().as_secs_f64() * 1e3,
        policy.rules().len(),
        policy.size() / 1024
    );
    println!("milliseconds per 4 kB, the best of 15 runs");
    for path in &paths {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                show(path.rsplit('/').next().unwrap_or(path), &policy, &text);
                let (pieces, late, longest) = delay(&policy, &text);
                println!("    of {pieces} words {late} wait for what follows, {longest} bytes at most");
            }
            Err(error) => eprintln!("{path}: {error}"),
        }
    }
    let english = "Once upon a time there was a miller who was poor, but he had a beautiful daughter. It happened one day that he came to speak with the king. ";
    show("English", &policy, &english.repeat(60));
    show("code", &policy, &include_str!("../src/safety/rules/scan.rs").repeat(2));
    for (name, part) in [
        ("digits and spaces", "4 1 1 1 1 1 1 "),
        ("digits", "4111111111111111"),
        ("dotted words", "a.b.c.d."),
        ("e-mail beginnings", "a@a.a@a."),
        ("one word", "aaaaaaaa"),
        ("beginnings of orders", "ignore all of the "),
        ("key names", "password=password="),
        ("Cyrillic", "ночь улица фонарь аптека "),
        ("marks", "a\u{301}\u{5b0}\u{200b}"),
    ] {
        show(name, &policy, &part.repeat(4 * KB4 / part.len()));
    }
}
