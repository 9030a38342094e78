use std::collections::BTreeMap;

use firecrest_contract::event::{Block, Event};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::encode::arbitrary::{answers, frames, head, nonsense, only};

fn streamed(events: &[Event], shape: Shape) -> Vec<u8> {
    let mut stream = Stream::new(head(), shape);
    let mut out = Vec::new();
    for event in events {
        stream.take(event, &mut out);
    }
    out
}

fn whole(events: &[Event], shape: Shape) -> Result<Completion, ApiError> {
    let mut whole = Whole::new(head(), shape);
    events.iter().cloned().for_each(|event| whole.take(event));
    whole.completion()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// Chunks put together are the answer told whole.
    #[test]
    fn a_stream_is_the_whole(events in answers(3), include_usage in any::<bool>()) {
        let shape = Shape { choices: 3, include_usage, starts: Vec::new() };
        let frames = frames(&streamed(&events, shape.clone()));
        let (done, chunks) = frames.split_last().expect("frames");
        prop_assert_eq!(done.1.as_str(), "[DONE]");
        let mut joined: BTreeMap<u32, Choice> = BTreeMap::new();
        let mut usage = None;
        for (_, data) in chunks {
            let value: Value = serde_json::from_str(data).expect("JSON");
            only(&value, &["id", "object", "created", "model", "choices", "usage"]);
            prop_assert_eq!(value.get("usage").is_some(), include_usage);
            let chunk: Completion = serde_json::from_value(value).expect("a chunk");
            usage = chunk.usage;
            for piece in chunk.choices {
                let choice = joined.entry(piece.index).or_insert(Choice { index: piece.index, text: String::new(), logprobs: None, finish_reason: None });
                prop_assert!(choice.finish_reason.is_none());
                choice.text.push_str(&piece.text);
                choice.finish_reason = piece.finish_reason;
                if let Some(new) = piece.logprobs {
                    let logprobs = choice.logprobs.get_or_insert_default();
                    logprobs.tokens.extend(new.tokens);
                    logprobs.token_logprobs.extend(new.token_logprobs);
                    logprobs.text_offset.extend(new.text_offset);
                    logprobs.top_logprobs.get_or_insert_default().extend(new.top_logprobs.into_iter().flatten());
                }
            }
        }
        let told = whole(&events, shape).expect("an answer");
        prop_assert_eq!(usage, told.usage.filter(|_| include_usage));
        for choice in told.choices {
            let joined = &joined[&choice.index];
            if choice.finish_reason.as_deref() == Some("content_filter") {
                prop_assert_eq!((&choice.finish_reason, choice.text.as_str(), &choice.logprobs), (&joined.finish_reason, "", &None));
            } else {
                prop_assert_eq!(&choice, joined);
            }
            if let Some(logprobs) = &choice.logprobs {
                let length = choice.text.chars().count() as u64;
                prop_assert!(logprobs.text_offset.is_sorted() && logprobs.text_offset.iter().all(|offset| *offset < length));
            }
        }
    }

    #[test]
    fn nonsense_is_a_fault(events in nonsense()) {
        let shape = Shape { choices: 1, include_usage: false, starts: Vec::new() };
        let frames = frames(&streamed(&events, shape.clone()));
        let ended_well = frames.last().is_some_and(|(_, data)| data == "[DONE]");
        prop_assert_eq!(whole(&events, shape).is_ok(), ended_well);
    }
}

#[test]
fn where_tokens_begin() {
    let token = |bytes: &[u8]| TokenLogprob { token: TokenText(bytes.to_vec()), logprob: -1.0, top: Vec::new() };
    // "aéb": the second character is two bytes, each a token of its own.
    let tokens = [token(b"a"), token(b"\xc3"), token(b"\xa9"), token(b"b")];
    let offsets = |tokens: &[TokenLogprob], start| -> Vec<u64> {
        let mut offsets = Offsets::from(start);
        tokens.iter().map(|of| offsets.next(&of.token)).collect()
    };
    assert_eq!(offsets(&tokens, 10), [10, 11, 11, 12]);
    assert_eq!(super::token(&tokens[1].token), "bytes:\\xc3");
    // Four bytes and three tokens of one character; bytes of none, which the text tells as U+FFFD, before a character and at the end.
    let fox = "x🦊y".as_bytes();
    let cut = [token(&fox[..2]), token(&fox[2..3]), token(&fox[3..]), token(b"\xf0\x9f"), token(b"z"), token(b"\xff"), token(b"\xc3")];
    assert_eq!(String::from_utf8_lossy(b"x\xf0\x9f\xa6\x8ay\xf0\x9fz\xff\xc3"), "x🦊y\u{fffd}z\u{fffd}\u{fffd}");
    assert_eq!(offsets(&cut, 0), [0, 1, 1, 3, 4, 5, 6]);
    // A text is cut as it may: held back for a stop text, a token's end is told with the next one.
    let told = [
        Event::Text { choice: 0, text: "a b".into(), logprobs: vec![token(b"a ")] },
        Event::Text { choice: 0, text: "est".into(), logprobs: vec![token(b"best")] },
    ];
    let events = [
        vec![Event::Start { usage: Tokens::default() }, Event::Open { choice: 0, block: Block::Text }],
        told.to_vec(),
        vec![Event::Close { choice: 0 }, Event::Finish { choice: 0, reason: Finish::EndTurn }, Event::End { usage: Tokens::default() }],
    ]
    .concat();
    let shape = Shape { choices: 1, include_usage: false, starts: vec![7] };
    let completion = whole(&events, shape.clone()).expect("an answer");
    assert_eq!(completion.choices[0].logprobs.as_ref().expect("logprobs").text_offset, [7, 9]);
    let stream = String::from_utf8(streamed(&events, shape)).expect("text");
    assert!(stream.contains(r#""text_offset":[7]"#) && stream.contains(r#""text_offset":[9]"#), "{stream}");
}

#[test]
fn the_token_that_came_is_among_the_most_probable() {
    let top = |bytes: &[u8], logprob| (TokenText(bytes.to_vec()), logprob);
    let of = |bytes: &[u8], top| TokenLogprob { token: TokenText(bytes.to_vec()), logprob: -3.0, top };
    let names = |of: &TokenLogprob| probable(of).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&of(b"c", vec![top(b"a", -0.5), top(b"b", -1.0)])), ["a", "b", "c"]);
    assert_eq!(names(&of(b"b", vec![top(b"a", -0.5), top(b"b", -1.0)])), ["a", "b"]);
    assert!(probable(&of(b"c", Vec::new())).is_empty());
}
