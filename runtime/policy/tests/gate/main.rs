//! The gate: each rule × every split × text, thoughts, arguments, structured text; blocks, tokens and the order of events.

mod ends;

use std::sync::{Arc, OnceLock};

use firecrest_contract::event::{Block, Event, Finish, TokenLogprob, TokenText, Usage};
use firecrest_policy::safety::decision::{Action, By};
use firecrest_policy::safety::gate::{Gate, GateOptions, Unjudged};
use firecrest_policy::safety::judge::judge_text;
use firecrest_policy::safety::rules::{Direction, Policy, STANDARD};
use proptest::prelude::*;

/// The rules that ship, each of which blocks what models say.
fn strict() -> Arc<Policy> {
    static ONCE: OnceLock<Arc<Policy>> = OnceLock::new();
    ONCE.get_or_init(all_block).clone()
}

fn all_block() -> Arc<Policy> {
    let mut changes = "format = 1\nrevision = 'all block'\n".to_owned();
    for rule in Policy::standard().expect("rules").rules() {
        changes += &format!("[[change]]\nid = '{}'\noutput = 'block'\n", rule.id);
    }
    Arc::new(Policy::load([STANDARD, changes.as_str()]).expect("rules"))
}

/// Rules of literals, to say small things with.
fn rules(words: &str) -> Arc<Policy> {
    let text = format!(
        "format = 1\nrevision = ''\n[[category]]\nid = 'c'\nabout = ''\ngeneral_harms = true\n[[rule]]\nid = 'r'\ncategory = 'c'\nabout = ''\noutput = 'block'\n{words}"
    );
    Arc::new(Policy::load([text.as_str()]).expect("rules"))
}

fn secret() -> Arc<Policy> {
    rules("kind = 'literal'\nany = ['top secret']\nexamples = ['top secret']")
}

const START: Event =
    Event::Start { usage: Usage { input: 3, cache_read: 0, cache_write_5m: 0, cache_write_1h: 0, output: 0, thinking: 0 } };
const END: Event = Event::End { usage: Usage { input: 3, cache_read: 0, cache_write_5m: 0, cache_write_1h: 0, output: 7, thinking: 0 } };

fn open(block: Block) -> Event {
    Event::Open { choice: 0, block }
}

fn text(text: &str) -> Event {
    Event::Text { choice: 0, text: text.to_owned(), logprobs: Vec::new() }
}

const CLOSE: Event = Event::Close { choice: 0 };
const DONE: Event = Event::Finish { choice: 0, reason: Finish::EndTurn };

fn tool() -> Block {
    Block::ToolUse { id: "call_1".into(), name: "search".into() }
}

/// What leaves, in one list and by the event that made it leave.
fn steps(policy: &Arc<Policy>, options: &GateOptions, events: impl IntoIterator<Item = Event>) -> Vec<Vec<Event>> {
    let mut gate = Gate::new(policy.clone(), options.clone());
    events.into_iter().map(|event| gate.push(Unjudged::new(event)).into_iter().map(|judged| judged.into_event()).collect()).collect()
}

fn pass(policy: &Arc<Policy>, options: &GateOptions, events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    joined(steps(policy, options, events).concat())
}

/// Neighbouring pieces of one block as one.
fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::new();
    for event in events {
        match (out.last_mut(), event) {
            (Some(Event::Text { text, logprobs, choice }), Event::Text { text: more, logprobs: tokens, choice: same })
                if *choice == same =>
            {
                text.push_str(&more);
                logprobs.extend(tokens);
            }
            (Some(Event::Thinking { text, choice }), Event::Thinking { text: more, choice: same }) if *choice == same => {
                text.push_str(&more)
            }
            (Some(Event::Arguments { json, choice }), Event::Arguments { json: more, choice: same }) if *choice == same => {
                json.push_str(&more)
            }
            (_, event) => out.push(event),
        }
    }
    out
}

fn refusal(events: &[Event]) -> &firecrest_contract::event::Refusal {
    let refusal = events.iter().find_map(|event| match event {
        Event::Finish { reason: Finish::Refusal(refusal), .. } => Some(refusal),
        _ => None,
    });
    refusal.unwrap_or_else(|| panic!("no refusal in {events:?}"))
}

/// Everything of a model's that left, as one string.
fn said(events: &[Event]) -> String {
    let of = |event: &Event| match event {
        Event::Text { text, .. } | Event::Thinking { text, .. } => text.clone(),
        Event::Arguments { json, .. } => json.clone(),
        _ => String::new(),
    };
    events.iter().map(of).collect()
}

/// How a text comes. `whole`: its block leaves only when it is whole.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Text,
    Thinking,
    Arguments { escaped: bool, whole: bool },
    Structured { escaped: bool, whole: bool },
}

const WAYS: [Way; 10] = [
    Way::Text,
    Way::Thinking,
    Way::Arguments { escaped: false, whole: true },
    Way::Arguments { escaped: true, whole: true },
    Way::Arguments { escaped: false, whole: false },
    Way::Arguments { escaped: true, whole: false },
    Way::Structured { escaped: false, whole: true },
    Way::Structured { escaped: true, whole: true },
    Way::Structured { escaped: false, whole: false },
    Way::Structured { escaped: true, whole: false },
];

impl Way {
    fn is_whole(self) -> bool {
        matches!(self, Way::Arguments { whole: true, .. } | Way::Structured { whole: true, .. })
    }

    fn options(self) -> GateOptions {
        GateOptions { structured: matches!(self, Way::Structured { .. }), whole_blocks: self.is_whole(), ..GateOptions::default() }
    }

    /// The raw text, and where what is carried begins in it.
    fn raw(self, carried: &str) -> (String, usize) {
        const BEFORE: &str = "Well, hm: ";
        match self {
            Way::Text | Way::Thinking => (format!("{BEFORE}{carried} , hm."), BEFORE.len()),
            Way::Arguments { escaped, .. } | Way::Structured { escaped, .. } => {
                let inner: String = if escaped {
                    carried.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
                } else {
                    let quoted = serde_json::to_string(carried).expect("JSON");
                    quoted[1..quoted.len() - 1].to_owned()
                };
                let before = format!("{{\"hm\": [1, \"{BEFORE}");
                (format!("{before}{inner} , hm.\"]}}"), before.len())
            }
        }
    }

    fn events(self, pieces: &[&str]) -> Vec<Event> {
        let block = match self {
            Way::Text | Way::Structured { .. } => Block::Text,
            Way::Thinking => Block::Thinking,
            Way::Arguments { .. } => tool(),
        };
        let piece = |piece: &&str| match self {
            Way::Text | Way::Structured { .. } => text(piece),
            Way::Thinking => Event::Thinking { choice: 0, text: piece.to_string() },
            Way::Arguments { .. } => Event::Arguments { choice: 0, json: piece.to_string() },
        };
        let content: Vec<Event> = pieces.iter().map(piece).collect();
        [vec![START, open(block)], content, vec![CLOSE, DONE, END]].concat()
    }

    /// What leaves of a text in these pieces, judged to be right as far as one can without knowing how it was cut.
    fn check(self, policy: &Arc<Policy>, rule: &str, pieces: &[&str], begin: usize) -> Vec<Event> {
        let events = self.events(pieces);
        let out = pass(policy, &self.options(), events);
        let context = format!("{rule} {self:?} {pieces:?}: {out:?}");
        assert!(said(&out).len() <= begin, "a byte of the match left: {context}");
        assert!(pieces.concat().starts_with(&said(&out)), "{context}");
        assert!(refusal(&out).explanation.contains("blocked by rule"), "{context}");
        let blocks = out.iter().filter(|event| matches!(event, Event::Open { .. })).count();
        let closes = out.iter().filter(|event| matches!(event, Event::Close { .. })).count();
        assert_eq!(blocks, closes, "{context}");
        assert!(
            matches!(out.as_slice(), [Event::Start { .. }, .., Event::Finish { .. }, Event::End { usage: Usage { output: 7, .. } }]),
            "{context}"
        );
        if self.is_whole() {
            assert_eq!(out.len(), 3, "a block that is held whole never opens: {context}");
        } else {
            assert!(!said(&out).is_empty(), "what is safe leaves: {context}");
        }
        out
    }
}

/// Where the match of a text begins, in the raw text.
fn first_match(policy: &Policy, text: &str) -> usize {
    let verdict = judge_text(policy, Direction::Output, text, None);
    assert_eq!(verdict.decision.action, Action::Block, "{text}");
    verdict.findings.iter().filter_map(|finding| finding.span).map(|span| span.0 as usize).min().expect("a match")
}

fn begin_of(way: Way, policy: &Policy, example: &str) -> (String, usize) {
    let (raw, carried) = way.raw(example);
    let escaped = matches!(way, Way::Arguments { escaped: true, .. } | Way::Structured { escaped: true, .. });
    // In escaped text each unit before the match is six bytes.
    let before = first_match(policy, &format!("Well, hm: {example} , hm.")) - "Well, hm: ".len();
    let inside = match way {
        Way::Text | Way::Thinking => before,
        _ if escaped => example[..before].encode_utf16().count() * 6,
        _ => serde_json::to_string(&example[..before]).expect("JSON").len() - 2,
    };
    (raw, carried + inside)
}

#[test]
fn every_rule_at_every_split() {
    let policy = strict();
    for rule in policy.rules() {
        for (number, example) in rule.examples.iter().enumerate() {
            for way in WAYS {
                let (raw, begin) = begin_of(way, &policy, example);
                let whole = way.check(&policy, &rule.id, &[&raw], begin);
                let characters: Vec<&str> = raw.split_inclusive(|_: char| true).collect();
                assert_eq!(way.check(&policy, &rule.id, &characters, begin), whole, "{} {way:?}: character by character", rule.id);
                // Text that is held whole is the same to every split but for its decoder: the first example shows that.
                if way.is_whole() && number > 0 {
                    continue;
                }
                for cut in (1..raw.len()).filter(|cut| raw.is_char_boundary(*cut)) {
                    let (a, b) = raw.split_at(cut);
                    assert_eq!(way.check(&policy, &rule.id, &[a, b], begin), whole, "{} {way:?}: cut at {cut}", rule.id);
                }
            }
        }
    }
}

#[test]
fn what_is_no_match_is_left_as_it_is() {
    let policy = strict();
    for rule in policy.rules() {
        for counter in &rule.counter {
            if judge_text(&policy, Direction::Output, counter, None).decision.blocks() {
                continue;
            }
            for way in WAYS {
                let (raw, _) = way.raw(counter);
                let expected = joined(way.events(&[&raw]));
                let characters: Vec<&str> = raw.split_inclusive(|_: char| true).collect();
                for pieces in [vec![raw.as_str()], characters] {
                    let out = pass(&policy, &way.options(), way.events(&pieces));
                    assert_eq!(out, expected, "{} {way:?}", rule.id);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Many cuts at once, several rules in one text.
    #[test]
    fn any_cuts(first in 0usize..1000, second in 0usize..1000, way in prop::sample::select(WAYS.to_vec()), cuts in prop::collection::vec(0.0f64..1.0, 0..12)) {
        let policy = strict();
        let examples: Vec<&String> = policy.rules().iter().flat_map(|rule| &rule.examples).collect();
        let text = format!("{} and {}", examples[first % examples.len()], examples[second % examples.len()]);
        let (raw, begin) = begin_of(way, &policy, &text);
        let mut cuts: Vec<usize> = cuts.iter().map(|at| raw.floor_char_boundary((raw.len() as f64 * at) as usize)).collect();
        cuts.extend([0, raw.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&str> = cuts.windows(2).map(|pair| &raw[pair[0]..pair[1]]).collect();
        prop_assert_eq!(way.check(&policy, "two", &pieces, begin), way.check(&policy, "two", &[&raw], begin));
    }
}

#[test]
fn only_what_may_match_waits() {
    let policy = secret();
    let out = steps(
        &policy,
        &GateOptions::default(),
        [START, open(Block::Text), text("At the "), text("top"), text(" sec"), text("tion"), text(" to"), CLOSE, DONE],
    );
    let said: Vec<String> = out.iter().map(|events| said(events)).collect();
    assert_eq!(said, ["", "", "At the ", "", "", "top section", " ", "", "to"]);
    // A word's inside is no beginning of a word.
    let out = steps(&policy, &GateOptions::default(), [START, open(Block::Text), text("laptop"), text(" s")]);
    assert_eq!(out.iter().map(|events| crate::said(events)).collect::<Vec<_>>(), ["", "", "laptop", " s"]);
}

#[test]
fn marks_of_other_scripts_do_not_wait() {
    let policy = Arc::new(Policy::standard().expect("rules"));
    for piece in ["\u{5e9}\u{5c1}\u{5b8}", "\u{645}\u{651}\u{64e}", "\u{928}\u{93f}\u{94d}", "\u{e01}\u{e33}\u{e48}", "\u{304c}"] {
        let out = steps(&policy, &GateOptions::default(), [START, open(Block::Text), text(piece)]);
        assert_eq!(said(&out.concat()), piece);
    }
    // But where they are in a match, or begin one.
    let marked = rules(
        "kind = 'literal'\nany = ['a \u{5e9}\u{5b8}\u{5c1}\u{5dc}', '\u{5b8}\u{5d0}']\nexamples = ['a \u{5e9}\u{5c1}\u{5b8}\u{5dc}']",
    );
    for (raw, before) in [("b a \u{5e9}\u{5c1}\u{5b8}\u{5dc}", "b "), ("\u{5e9}\u{5b8}\u{5d0}b", "\u{5e9}")] {
        for cut in (1..raw.len()).filter(|cut| raw.is_char_boundary(*cut)) {
            let (a, b) = raw.split_at(cut);
            let out = pass(&marked, &GateOptions::default(), [START, open(Block::Text), text(a), text(b), CLOSE, DONE, END]);
            refusal(&out);
            assert_eq!(said(&out), before, "cut at {cut}");
        }
    }
}

#[test]
fn a_violation_ends_the_answer_and_nothing_else() {
    let events = vec![
        START,
        open(Block::Thinking),
        Event::Thinking { choice: 0, text: "Hm.".into() },
        Event::Signature { choice: 0, signature: "c2ln".into() },
        CLOSE,
        open(Block::Text),
        text("It is top"),
        text(" SECRET, so"),
        CLOSE,
        open(tool()),
        Event::Arguments { choice: 0, json: "{}".into() },
        CLOSE,
        Event::Finish { choice: 0, reason: Finish::ToolUse },
        END,
    ];
    let out = pass(&secret(), &GateOptions::default(), events);
    let expected = [
        START,
        open(Block::Thinking),
        Event::Thinking { choice: 0, text: "Hm.".into() },
        Event::Signature { choice: 0, signature: "c2ln".into() },
        CLOSE,
        open(Block::Text),
        text("It is "),
        CLOSE,
        Event::Finish {
            choice: 0,
            reason: Finish::Refusal(firecrest_contract::event::Refusal {
                category: Some("general_harms"),
                explanation: "blocked by rule r (category c)".into(),
            }),
        },
        END,
    ];
    assert_eq!(out, expected);
}

#[test]
fn before_anything_is_shown_no_block_opens() {
    for events in [
        vec![open(Block::Text), text("top secret"), CLOSE],
        vec![open(tool()), Event::Arguments { choice: 0, json: "top secret".into() }, CLOSE],
        vec![open(Block::ToolUse { id: "x".into(), name: "top secret".into() }), CLOSE],
    ] {
        let out = pass(&secret(), &GateOptions::default(), [vec![START], events, vec![DONE, END]].concat());
        assert!(
            matches!(out.as_slice(), [Event::Start { .. }, Event::Finish { reason: Finish::Refusal(_), .. }, Event::End { .. }]),
            "{out:?}"
        );
    }
}

#[test]
fn neighbours_go_on() {
    let other = |event: Event| match event {
        Event::Open { block, .. } => Event::Open { choice: 1, block },
        Event::Text { text, logprobs, .. } => Event::Text { choice: 1, text, logprobs },
        Event::Close { .. } => Event::Close { choice: 1 },
        Event::Finish { reason, .. } => Event::Finish { choice: 1, reason },
        event => event,
    };
    let mut events = vec![START];
    for (bad, good) in [
        (open(Block::Text), open(Block::Text)),
        (text("top secret"), text("the top")),
        (text("!"), text(" of it")),
        (CLOSE, CLOSE),
        (DONE, DONE),
    ] {
        events.extend([bad, other(good)]);
    }
    events.push(END);
    let options = GateOptions { choices: 2, ..GateOptions::default() };
    let mut gate = Gate::new(secret(), options.clone());
    let out: Vec<Event> = events.into_iter().flat_map(|event| gate.push(Unjudged::new(event))).map(|judged| judged.into_event()).collect();
    assert!(gate.refused(0) && !gate.refused(1) && gate.settled());
    let (refused, rest): (Vec<Event>, Vec<Event>) = out.into_iter().partition(|event| matches!(event, Event::Finish { choice: 0, .. }));
    assert_eq!(refused.len(), 1);
    let expected: Vec<Event> = [START, open(Block::Text), text("the top of it"), CLOSE, DONE, END].into_iter().map(other).collect();
    assert_eq!(joined(rest), expected);
    assert!(matches!(gate.findings(), [(0, finding)] if finding.by == By::Rule("r".into())));
}

#[test]
fn across_blocks() {
    let thinking = |text: &str| Event::Thinking { choice: 0, text: text.into() };
    for between in [vec![], vec![open(tool()), CLOSE], vec![open(Block::Thinking), thinking("Hm."), CLOSE], vec![open(Block::Text), CLOSE]]
    {
        let events = [
            vec![START, open(Block::Text), text("a top"), CLOSE],
            between.clone(),
            vec![open(Block::Text), text(" secret"), CLOSE, DONE, END],
        ]
        .concat();
        let out = pass(&secret(), &GateOptions::default(), events);
        assert_eq!(said(&out), "a ", "{between:?}");
        refusal(&out);
        assert!(!out.iter().any(|event| matches!(event, Event::Open { block: Block::ToolUse { .. }, .. })), "{out:?}");
    }
    // What ends a block is a match there, though the next one goes on with the word; and so is what begins one.
    for (a, b) in [("a top secret", "ary"), ("pre", "top secret"), ("top sec", "ret"), ("a t", "op secret")] {
        let out = pass(
            &secret(),
            &GateOptions::default(),
            [START, open(Block::Text), text(a), CLOSE, open(Block::Text), text(b), CLOSE, DONE, END],
        );
        refusal(&out);
        assert!(!said(&out).contains("top"), "{out:?}");
    }
    // Clean text is left as it is.
    let clean = vec![START, open(Block::Text), text("a top"), CLOSE, open(tool()), CLOSE, open(Block::Text), text("ic"), CLOSE, DONE, END];
    assert_eq!(pass(&secret(), &GateOptions::default(), clean.clone()), clean);
    // Thoughts do not hold back what follows them.
    let out = steps(
        &secret(),
        &GateOptions::default(),
        [START, open(Block::Thinking), thinking("a top"), CLOSE, open(Block::Text), text("Yes.")],
    );
    assert_eq!(said(&out.concat()), "a topYes.");
    let out = pass(
        &secret(),
        &GateOptions::default(),
        [START, open(Block::Thinking), thinking("a top"), CLOSE, open(Block::Thinking), thinking(" secret"), CLOSE],
    );
    refusal(&out);
}

fn token(bytes: &[u8]) -> TokenLogprob {
    TokenLogprob { token: TokenText(bytes.to_vec()), logprob: -0.5, top: vec![(TokenText(b"x".to_vec()), -1.0)] }
}

#[test]
fn tokens_leave_with_what_they_spell() {
    let euro = "€".as_bytes();
    let events = [
        START,
        open(Block::Text),
        Event::Text { choice: 0, text: "5 €".into(), logprobs: vec![token(b"5 "), token(&euro[..1]), token(&euro[1..])] },
        // The match begins within a token.
        Event::Text { choice: 0, text: ". The top".into(), logprobs: vec![token(b". Th"), token(b"e to"), token(b"p")] },
        Event::Text { choice: 0, text: " of".into(), logprobs: vec![token(b" of")] },
        // Tokens that do not spell it leave with all of it.
        Event::Text { choice: 0, text: " a top".into(), logprobs: vec![token(b"?")] },
        Event::Text { choice: 0, text: " secret".into(), logprobs: vec![token(b" secret")] },
        CLOSE,
        DONE,
        END,
    ];
    let out = steps(&secret(), &GateOptions::default(), events);
    let texts: Vec<(String, usize)> = out
        .concat()
        .iter()
        .filter_map(|event| match event {
            Event::Text { text, logprobs, .. } => {
                assert_eq!(logprobs.iter().flat_map(|t| t.token.0.clone()).collect::<Vec<u8>>(), text.as_bytes());
                Some((text.clone(), logprobs.len()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(texts, [("5 €".into(), 3), (". Th".into(), 1), ("e top of".into(), 3)]);
    refusal(&out.concat());
}

#[test]
fn events_that_no_backend_makes_are_a_fault() {
    let wrong: Vec<Vec<Event>> = vec![
        vec![text("a")],
        vec![END],
        vec![START, START],
        vec![START, END],
        vec![START, text("a")],
        vec![START, CLOSE],
        vec![START, open(Block::Text), open(Block::Text)],
        vec![START, open(Block::Text), DONE],
        vec![START, open(Block::Text), Event::Thinking { choice: 0, text: "a".into() }],
        vec![START, open(Block::Text), Event::Arguments { choice: 0, json: "{}".into() }],
        vec![START, open(Block::Text), Event::Signature { choice: 0, signature: "a".into() }],
        vec![START, open(Block::Thinking), Event::Signature { choice: 0, signature: "not a signature".into() }],
        vec![START, open(tool()), text("a")],
        vec![START, DONE, DONE],
        vec![START, DONE, open(Block::Text)],
        vec![START, Event::Open { choice: 1, block: Block::Text }],
        vec![START, Event::Close { choice: u32::MAX }],
    ];
    for events in wrong {
        let mut gate = Gate::new(secret(), GateOptions::default());
        let out: Vec<Event> =
            events.iter().flat_map(|event| gate.push(Unjudged::new(event.clone()))).map(|judged| judged.into_event()).collect();
        assert!(matches!(out.last(), Some(Event::Fault(error)) if error.code == Some("backend_out_of_order")), "{events:?}: {out:?}");
        assert!(gate.push(Unjudged::new(START)).is_empty() && gate.settled(), "nothing comes behind a fault");
    }
    let mut gate = Gate::new(secret(), GateOptions::default());
    gate.push(Unjudged::new(START));
    gate.push(Unjudged::new(open(Block::Text)));
    gate.push(Unjudged::new(text("a top")));
    let fault = Event::Fault(firecrest_contract::error::ApiError::new(firecrest_contract::error::ErrorKind::Overloaded, "no room"));
    assert!(matches!(gate.push(Unjudged::new(fault)).as_slice(), [judged] if matches!(judged.event(), Event::Fault(_))));
}

#[test]
fn what_is_held_is_bounded() {
    let options = GateOptions { max_held: 10_000, whole_blocks: true, ..GateOptions::default() };
    let mut gate = Gate::new(secret(), options);
    gate.push(Unjudged::new(START));
    gate.push(Unjudged::new(open(tool())));
    let mut out = Vec::new();
    for _ in 0..2000 {
        out.extend(gate.push(Unjudged::new(Event::Arguments { choice: 0, json: "[[[[[[[[".into() })));
    }
    let out: Vec<Event> = out.into_iter().map(|judged| judged.into_event()).collect();
    assert!(refusal(&out).explanation.contains("more than may be held"), "{out:?}");
    // Invisible text within a match is held, and not for ever.
    let mut gate = Gate::new(Arc::new(Policy::load([STANDARD]).expect("rules")), GateOptions::default());
    gate.push(Unjudged::new(START));
    gate.push(Unjudged::new(open(Block::Text)));
    let hidden: Vec<Event> = std::iter::once("see ghp_")
        .chain(std::iter::repeat_n("\u{200b}", 500))
        .flat_map(|piece| gate.push(Unjudged::new(text(piece))))
        .map(|j| j.into_event())
        .collect();
    assert!(refusal(&hidden).explanation.contains("obfuscation.hidden-run"), "{hidden:?}");
    // Text that leaves at once is not held, however much there is.
    let many = std::iter::repeat_n(text("This is clean text without anything in it. "), 5000);
    let out = pass(
        &secret(),
        &GateOptions { max_held: 1000, ..GateOptions::default() },
        [START, open(Block::Text)].into_iter().chain(many).chain([CLOSE, DONE, END]),
    );
    assert_eq!(out.len(), 6);
    // Nor are blocks without end within one match.
    let blocks = (0..5000).flat_map(|_| [open(Block::Text), CLOSE]);
    let out = pass(
        &secret(),
        &GateOptions { max_held: 10_000, ..GateOptions::default() },
        [START, open(Block::Text), text("top"), CLOSE].into_iter().chain(blocks),
    );
    refusal(&out);
}

#[test]
fn stop_sequences_are_judged() {
    let end = |text: &str| Event::Finish { choice: 0, reason: Finish::StopSequence(text.into()) };
    let events = |stop: &str| [START, open(Block::Text), text("a"), CLOSE, end(stop), END];
    assert_eq!(pass(&secret(), &GateOptions::default(), events("\n\n")), events("\n\n"));
    refusal(&pass(&secret(), &GateOptions::default(), events("top secret")));
}
