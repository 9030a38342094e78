use std::collections::BTreeMap;

use firecrest_contract::event::Event;
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
    assert_eq!(offsets("aéb", &tokens, 10), [10, 11, 11, 12]);
    assert_eq!(super::token(&tokens[1].token), "bytes:\\xc3");
    assert_eq!(offsets("", &tokens[..1], 4), [4]);
}
