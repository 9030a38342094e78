//! Ten thousand requests with a fault somewhere: no byte leaves that was not judged, and neighbours are not disturbed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Block, Event, Finish, Usage};
use firecrest_policy::safety::classifier::{Classifier, ClassifierFault, Exchange, Medium, Scores};
use firecrest_policy::safety::decision::By;
use firecrest_policy::safety::gate::{Gate, GateOptions, Unjudged};
use firecrest_policy::safety::rules::Policy;

const RULES: &str = "format = 1
revision = ''
[[category]]
id = 'c'
about = ''
scores = { flag = 0.4, block = 0.8 }
[[rule]]
id = 'r'
category = 'c'
about = ''
output = 'block'
kind = 'regex'
any = ['\\bkey-[0-9]{4}\\b', 'top secret']
examples = ['key-1234']";

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn of<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// What one request's classifier was shown and let pass.
#[derive(Default)]
struct Shown {
    texts: Vec<(Medium, String)>,
}

/// Fails at its `at`-th call, in one of several ways, or always for a word.
struct Failing {
    at: u64,
    how: u64,
    calls: u64,
    shown: Rc<RefCell<Shown>>,
}

impl Classifier for Failing {
    fn score(&mut self, text: &str, context: &Exchange<'_>) -> Result<Scores, ClassifierFault> {
        self.calls += 1;
        let scores = |id: &str, score| Ok(Scores(BTreeMap::from([(id.to_owned(), score)])));
        if self.calls == self.at + 1 {
            return match self.how {
                0 => Err(ClassifierFault("it broke".to_owned())),
                1 => scores("c", f32::NAN),
                2 => scores("no such category", 0.0),
                _ => scores("c", 0.9),
            };
        }
        if text.contains("poison") {
            return Err(ClassifierFault("it choked".to_owned()));
        }
        self.shown.borrow_mut().texts.push((context.medium, text.to_owned()));
        scores("c", 0.1)
    }
}

const WORDS: [&str; 14] =
    ["the", " ", " top", " ", "fox", "top ", "\u{e9}t\u{e9} ", "sec", "key-", "12", "34", "\u{200b}", " runs. ", "se\u{301}"];

/// One answer's events; where `bad`, something in it is blocked.
fn answer(draw: &mut Draw, choice: u32, bad: Option<&str>) -> Vec<Event> {
    let mut events = Vec::new();
    let blocks = 1 + draw.below(3);
    let spot = draw.below(blocks);
    for number in 0..blocks {
        let kind = draw.below(4);
        let mut pieces: Vec<String> = (0..draw.below(12)).map(|_| draw.of(&WORDS).to_string()).collect();
        if let Some(bad) = bad.filter(|_| number == spot) {
            let at = draw.below(pieces.len() as u64 + 1) as usize;
            let cut = bad.floor_char_boundary(draw.below(bad.len() as u64) as usize);
            pieces.splice(at..at, [" ".to_owned(), bad[..cut].to_owned(), format!("{} ", &bad[cut..])]);
        }
        match kind {
            0 => {
                events.push(Event::Open { choice, block: Block::Thinking });
                events.extend(pieces.into_iter().map(|text| Event::Thinking { choice, text }));
                events.push(Event::Signature { choice, signature: "c2ln".to_owned() });
            }
            1 => {
                events.push(Event::Open { choice, block: Block::ToolUse { id: format!("call_{number}"), name: "run".to_owned() } });
                let json = serde_json::json!({ "words": pieces.concat() }).to_string();
                let cut = json.floor_char_boundary(draw.below(json.len() as u64) as usize);
                events.extend([&json[..cut], &json[cut..]].map(|json| Event::Arguments { choice, json: json.to_owned() }));
            }
            _ => {
                events.push(Event::Open { choice, block: Block::Text });
                events.extend(pieces.into_iter().map(|text| Event::Text { choice, text, logprobs: Vec::new() }));
            }
        }
        events.push(Event::Close { choice });
    }
    events.push(Event::Finish { choice, reason: Finish::EndTurn });
    events
}

fn choice_of(event: &Event) -> Option<u32> {
    match event {
        Event::Open { choice, .. }
        | Event::Text { choice, .. }
        | Event::Thinking { choice, .. }
        | Event::Signature { choice, .. }
        | Event::Arguments { choice, .. }
        | Event::Close { choice }
        | Event::Finish { choice, .. } => Some(*choice),
        Event::Start { .. } | Event::End { .. } | Event::Fault(_) => None,
    }
}

/// Several answers' events as they might come beside each other.
fn woven(draw: &mut Draw, answers: Vec<Vec<Event>>) -> Vec<Event> {
    let mut answers: Vec<_> = answers.into_iter().map(|events| events.into_iter().peekable()).collect();
    let mut events = vec![Event::Start { usage: Usage::default() }];
    while answers.iter_mut().any(|answer| answer.peek().is_some()) {
        let which = draw.below(answers.len() as u64) as usize;
        events.extend(answers[which].next());
    }
    events.push(Event::End { usage: Usage::default() });
    events
}

/// What left of one answer, its pieces joined, and the kind of block each is of.
fn left(events: &[Event], choice: u32) -> Vec<(Medium, String)> {
    let mut texts: Vec<(Medium, String)> = Vec::new();
    for event in events.iter().filter(|event| choice_of(event) == Some(choice)) {
        match event {
            Event::Open { block, .. } => texts.push((
                match block {
                    Block::Text => Medium::Text,
                    Block::Thinking => Medium::Thinking,
                    Block::ToolUse { .. } => Medium::Arguments,
                },
                String::new(),
            )),
            Event::Text { text, .. } | Event::Thinking { text, .. } | Event::Arguments { json: text, .. } => {
                texts.last_mut().expect("an open block").1.push_str(text);
            }
            _ => {}
        }
    }
    texts
}

/// The order that encoders rely on.
fn assert_in_order(events: &[Event], context: &str) {
    let mut open: BTreeMap<u32, bool> = BTreeMap::new();
    let mut finished: BTreeMap<u32, ()> = BTreeMap::new();
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Start { .. } => assert_eq!(at, 0, "{context}"),
            Event::End { .. } | Event::Fault(_) => assert_eq!(at + 1, events.len(), "{context}"),
            Event::Finish { choice, .. } => {
                assert!(at > 0 && !open.get(choice).copied().unwrap_or(false), "{context}");
                assert!(finished.insert(*choice, ()).is_none(), "{context}");
            }
            other => {
                let choice = choice_of(other).expect("of a choice");
                let is_open = open.entry(choice).or_default();
                assert!(at > 0 && !finished.contains_key(&choice), "{context}");
                assert_eq!(*is_open, !matches!(other, Event::Open { .. }), "{context}");
                *is_open = !matches!(other, Event::Close { .. });
            }
        }
    }
}

fn is_unsafe(text: &str) -> bool {
    let folded: String =
        text.to_lowercase().chars().map(|c| if c == 'é' { 'e' } else { c }).filter(|c| !"\u{200b}\u{301}".contains(*c)).collect();
    folded.contains("top secret")
        || folded.match_indices("key-").any(|(at, _)| {
            let digits = folded[at + 4..].bytes().take_while(u8::is_ascii_digit).count();
            let behind = folded[at + 4 + digits..].bytes().next();
            let before = folded[..at].bytes().next_back();
            let word = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
            digits == 4 && !word(behind) && !word(before)
        })
}

#[test]
fn ten_thousand_requests_with_a_fault() {
    let policy = Arc::new(Policy::load([RULES]).expect("rules"));
    let mut refusals = 0;
    let mut faults = 0;
    let mut struck = [0; 5];
    // Not every draw's fault comes to pass.
    for seed in 0..14_000 {
        let mut draw = Draw(seed);
        let stride = *draw.of(&[0, 1, 5, 64]);
        let stage = draw.below(5);
        let choices = 1 + draw.below(3) as u32;
        let answers: Vec<Vec<Event>> = (0..choices)
            .map(|choice| {
                let bad =
                    [None, Some("top secret"), Some("key-1234"), Some("poison")][if choice == 0 { draw.below(4) as usize } else { 0 }];
                answer(&mut draw, choice, bad)
            })
            .collect();
        let mut events = woven(&mut draw, answers);
        let at = draw.below(events.len() as u64) as usize;
        let mut hang = None;
        match stage {
            // The backend: an event is lost, comes twice, too early, or instead of it a fault.
            0 => match draw.below(4) {
                0 => drop(events.remove(at)),
                1 => events.insert(at, events[at].clone()),
                2 => events.swap(at, (at + 1) % choices.max(2) as usize),
                _ => events[at] = Event::Fault(ApiError::new(ErrorKind::Overloaded, "no room")),
            },
            // The judge hangs: the host says so.
            1 => hang = Some(at),
            // The classifier, at some call: below.
            2 | 3 => {}
            // The classifier, at a word that one answer says.
            _ => {}
        }
        let shown = Rc::new(RefCell::new(Shown::default()));
        let failing = matches!(stage, 2 | 3).then(|| draw.below(12)).unwrap_or(u64::MAX - 1);
        let classifier = Failing { at: failing, how: draw.below(4), calls: 0, shown: shown.clone() };
        let options = GateOptions { choices, stride, ..GateOptions::default() };
        let mut gate = Gate::new(policy.clone(), options).with_classifier(Box::new(classifier));
        let mut out: Vec<Event> = Vec::new();
        for (index, event) in events.iter().enumerate() {
            if hang == Some(index) {
                out.extend(gate.fail("it hangs").into_iter().map(|judged| judged.into_event()));
                out.extend(gate.push(Unjudged::new(Event::End { usage: Usage::default() })).into_iter().map(|judged| judged.into_event()));
                break;
            }
            out.extend(gate.push(Unjudged::new(event.clone())).into_iter().map(|judged| judged.into_event()));
        }
        let context = format!("seed {seed}, stage {stage}, stride {stride}: {events:?}\nleft {out:?}");
        assert_in_order(&out, &context);
        refusals += out.iter().filter(|event| matches!(event, Event::Finish { reason: Finish::Refusal(_), .. })).count();
        faults += out.iter().filter(|event| matches!(event, Event::Fault(_))).count();
        let shown = shown.borrow();
        let mut disturbed = 0;
        for choice in 0..choices {
            let texts = left(&out, choice);
            for medium in [Medium::Text, Medium::Thinking, Medium::Arguments] {
                let of: Vec<&String> = texts.iter().filter(|(of, _)| *of == medium).map(|(_, text)| text).collect();
                let all: String = of.iter().map(|text| text.as_str()).collect();
                // A word that went on is no match, wherever a classifier ended what was shown of it.
                let sent = if stage == 0 { Vec::new() } else { left(&events, choice) };
                let went_on = |text: &str| sent.iter().any(|(_, whole)| whole.starts_with(text) && !is_unsafe(whole));
                assert!(!of.iter().any(|text| is_unsafe(text) && !went_on(text)) && !all.contains("poison"), "{context}");
                if medium == Medium::Text {
                    assert!(!is_unsafe(&all), "{context}");
                }
                // Each byte was shown to the classifier, and let pass.
                let scored = |text: &str| match medium {
                    Medium::Arguments => {
                        // Marks of JSON say nothing, and a piece of it may be lost.
                        let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
                        let words = letters(text);
                        shown.texts.iter().any(|(of, seen)| *of == medium && letters(seen).contains(&words))
                    }
                    _ => shown.texts.iter().any(|(of, seen)| *of == medium && seen.starts_with(text)),
                };
                match medium {
                    Medium::Arguments => assert!(of.iter().all(|text| scored(text)), "{context}"),
                    _ => assert!(all.is_empty() || scored(&all), "{medium:?} unscored\n{context}"),
                }
            }
            // Where the backend works, an answer that is not refused is whole, whatever befell its neighbours.
            if stage >= 2 {
                let sent = left(&events, choice);
                let of = |medium| sent.iter().filter(|(of, _)| *of == medium).map(|(_, text)| text.as_str()).collect::<String>();
                let said = [Medium::Text, Medium::Thinking].map(of);
                let harmless =
                    !sent.iter().any(|(_, text)| is_unsafe(text) || text.contains("poison")) && !said.iter().any(|text| is_unsafe(text));
                if !gate.refused(choice) {
                    assert_eq!(texts, sent, "choice {choice}\n{context}");
                } else if harmless {
                    disturbed += 1;
                }
            }
        }
        // One call of the classifier failed, so one answer at most is refused that is harmless; and none where none failed.
        let fired = stage == 2 || stage == 3;
        assert!(disturbed <= usize::from(fired), "{disturbed} harmless answers were refused\n{context}");
        struck[stage as usize] += usize::from(match stage {
            0 | 1 => true,
            _ => gate.findings().iter().any(|(_, finding)| !matches!(finding.by, By::Rule(_))),
        });
    }
    eprintln!("{refusals} refusals, {faults} faults; by stage, requests in which the fault came to pass: {struck:?}");
    assert!(struck.iter().sum::<usize>() >= 10_000 && struck.iter().all(|n| *n > 300), "{struck:?}");
    assert!(refusals > 2000 && faults > 500, "{refusals} refusals and {faults} faults: the test tests little");
}
