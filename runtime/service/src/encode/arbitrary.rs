//! Random answers for tests: events in an order that backends keep, and events in none.

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Block, Event, Finish, Refusal, TokenLogprob, TokenText, Usage};
use proptest::prelude::*;

use super::Head;

pub(super) fn head() -> Head {
    Head { id: "a1\"b".into(), model: "tiny\u{2028}\"m\"".into(), created: 1_700_000_000, tier: "standard" }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z ]{0,6}", "(\\PC|[\u{0}-\u{1f}\"\\\\\u{85}\u{2028}]){0,4}"]
}

fn logprob() -> impl Strategy<Value = f32> {
    prop_oneof![4 => -20.0_f32..0.0, 1 => Just(0.0), 1 => Just(f32::NEG_INFINITY)]
}

/// A piece of text, perhaps with the tokens that spell it, cut at any bytes.
fn piece(choice: u32, with_logprobs: bool) -> BoxedStrategy<Event> {
    if !with_logprobs {
        return text().prop_map(move |text| Event::Text { choice, text, logprobs: Vec::new() }).boxed();
    }
    (
        text(),
        prop::collection::vec((1..4_usize, logprob(), prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3), logprob()), 2)), 24),
    )
        .prop_map(move |(text, cuts)| {
            let mut bytes = text.as_bytes();
            let mut logprobs = Vec::new();
            for (length, logprob, top) in cuts {
                let (token, rest) = bytes.split_at(length.min(bytes.len()));
                if token.is_empty() {
                    break;
                }
                bytes = rest;
                let top = top.into_iter().map(|(token, logprob)| (TokenText(token), logprob)).collect();
                logprobs.push(TokenLogprob { token: TokenText(token.to_vec()), logprob, top });
            }
            Event::Text { choice, text, logprobs }
        })
        .boxed()
}

fn block(choice: u32, number: usize, with_logprobs: bool) -> BoxedStrategy<Vec<Event>> {
    let around = move |block: Block, inside: Vec<Event>| {
        let mut events = vec![Event::Open { choice, block }];
        events.extend(inside);
        events.push(Event::Close { choice });
        events
    };
    let said = prop::collection::vec(piece(choice, with_logprobs), 0..4).prop_map(move |inside| around(Block::Text, inside));
    let thought = (prop::collection::vec(text(), 0..3), prop::option::of("[a-z=\"]{0,5}")).prop_map(move |(texts, signature)| {
        let mut inside: Vec<Event> = texts.into_iter().map(|text| Event::Thinking { choice, text }).collect();
        inside.extend(signature.map(|signature| Event::Signature { choice, signature }));
        around(Block::Thinking, inside)
    });
    let called = (text(), prop::collection::vec(text(), 0..3)).prop_map(move |(name, pieces)| {
        let inside = pieces.into_iter().map(|json| Event::Arguments { choice, json }).collect();
        around(Block::ToolUse { id: format!("call_{choice}_{number}"), name }, inside)
    });
    prop_oneof![said, thought, called].boxed()
}

pub(super) fn refusal() -> Finish {
    Finish::Refusal(Refusal { category: None, explanation: "rule \"x\"".into() })
}

fn finish() -> impl Strategy<Value = Finish> {
    prop_oneof![
        Just(Finish::EndTurn),
        Just(Finish::MaxTokens),
        Just(Finish::StopSequence("x".into())),
        Just(Finish::ToolUse),
        Just(Finish::ContextFull),
        Just(refusal()),
    ]
}

/// One answer.
fn answer(choice: u32, with_logprobs: bool) -> impl Strategy<Value = Vec<Event>> {
    let blocks =
        (0..4_usize).prop_flat_map(move |blocks| (0..blocks).map(|number| block(choice, number, with_logprobs)).collect::<Vec<_>>());
    (blocks, finish(), any::<bool>()).prop_map(move |(blocks, reason, cut)| {
        let mut events: Vec<Event> = blocks.into_iter().flatten().collect();
        // What ends in the middle of a block may leave it open.
        if cut && matches!(reason, Finish::Refusal(_)) {
            events.pop();
        }
        events.push(Event::Finish { choice, reason });
        events
    })
}

fn usage() -> impl Strategy<Value = Usage> {
    (0..1000_u64, 0..50_u64, 0..50_u64, 0..1000_u64).prop_map(|(input, cache_read, cache_write_5m, output)| Usage {
        input,
        cache_read,
        cache_write_5m,
        cache_write_1h: 1,
        output,
        thinking: output / 2,
    })
}

/// Answers told at once, each in its own order.
pub(super) fn answers(choices: u32) -> impl Strategy<Value = Vec<Event>> {
    any::<bool>()
        .prop_flat_map(move |with_logprobs| {
            let all = (0..choices).map(|choice| answer(choice, with_logprobs)).collect::<Vec<_>>();
            (all, prop::collection::vec(any::<prop::sample::Index>(), 120), usage(), usage())
        })
        .prop_map(|(all, turns, before, after)| {
            let mut waiting: Vec<_> = all.into_iter().map(Vec::into_iter).collect();
            let mut events = vec![Event::Start { usage: before }];
            for turn in turns {
                let index = turn.index(waiting.len());
                events.extend(waiting.get_mut(index).and_then(Iterator::next));
            }
            events.extend(waiting.into_iter().flatten());
            events.push(Event::End { usage: after });
            events
        })
}

/// Events in no order that anybody keeps.
pub(super) fn nonsense() -> impl Strategy<Value = Vec<Event>> {
    let choice = 0..3_u32;
    let event = prop_oneof![
        usage().prop_map(|usage| Event::Start { usage }),
        choice.clone().prop_map(|choice| Event::Open { choice, block: Block::Text }),
        choice.clone().prop_map(|choice| Event::Open { choice, block: Block::ToolUse { id: "c".into(), name: "f".into() } }),
        choice.clone().prop_flat_map(|choice| piece(choice, true)),
        (choice.clone(), text()).prop_map(|(choice, text)| Event::Thinking { choice, text }),
        (choice.clone(), text()).prop_map(|(choice, signature)| Event::Signature { choice, signature }),
        (choice.clone(), text()).prop_map(|(choice, json)| Event::Arguments { choice, json }),
        choice.clone().prop_map(|choice| Event::Close { choice }),
        (choice, finish()).prop_map(|(choice, reason)| Event::Finish { choice, reason }),
        usage().prop_map(|usage| Event::End { usage }),
        Just(Event::Fault(ApiError::new(ErrorKind::Api, "it broke"))),
    ];
    (any::<bool>(), prop::collection::vec(event, 0..24)).prop_map(|(started, mut events)| {
        if started {
            events.insert(0, Event::Start { usage: Usage::default() });
        }
        events
    })
}

/// The frames of a stream: name, if it has one, and data.
pub(super) fn frames(bytes: &[u8]) -> Vec<(Option<String>, String)> {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    assert!(text.is_empty() || text.ends_with("\n\n"), "a frame is not whole: {text:?}");
    let frames = text.split("\n\n").filter(|frame| !frame.is_empty() && !frame.starts_with(':'));
    frames
        .map(|frame| {
            let (name, data) = match frame.strip_prefix("event: ").and_then(|rest| rest.split_once('\n')) {
                Some((name, data)) => (Some(name.to_owned()), data),
                None => (None, frame),
            };
            let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("no data: {frame:?}"));
            assert!(!data.contains(['\n', '\r', '\u{85}', '\u{2028}']), "a line breaks: {frame:?}");
            (name, data.to_owned())
        })
        .collect()
}

/// Refuses members that are not listed.
pub(super) fn only(value: &serde_json::Value, members: &[&str]) {
    for name in value.as_object().expect("an object").keys() {
        assert!(members.contains(&name.as_str()), "{name} in {value}");
    }
}
