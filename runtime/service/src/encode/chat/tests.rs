use std::collections::BTreeMap;

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Block, Event, Finish, Usage};
use firecrest_contract::openai::chat::{Chunk, Completion, Logprobs, ReplyCall, ReplyFunction};
use proptest::prelude::*;
use serde_json::Value;

use super::{Shape, Stream, Whole};
use crate::encode::arbitrary::{answers, frames, head, nonsense, only, refusal};

const SHAPE: Shape = Shape { choices: 3, include_usage: true, calls: true };

fn streamed(events: &[Event], shape: Shape) -> Vec<u8> {
    let mut stream = Stream::new(head(), shape);
    let mut out = Vec::new();
    for event in events {
        stream.take(event, &mut out);
    }
    assert_eq!(stream.is_done(), events.iter().any(|e| matches!(e, Event::End { .. } | Event::Fault(_))) || stream.is_done());
    out
}

fn whole(events: &[Event], shape: Shape) -> Result<Completion, ApiError> {
    let mut whole = Whole::new(head(), shape);
    events.iter().cloned().for_each(|event| whole.take(event));
    whole.completion()
}

/// An answer put together from its chunks, as clients do.
#[derive(Default)]
struct Joined {
    content: Option<String>,
    reasoning: Option<String>,
    calls: Vec<ReplyCall>,
    logprobs: Option<Logprobs>,
    finish: Option<String>,
}

fn conforms(chunk: &str, usage: bool) -> Chunk {
    let value: Value = serde_json::from_str(chunk).expect("JSON");
    only(&value, &["id", "object", "created", "model", "service_tier", "choices", "usage"]);
    assert_eq!(value.get("usage").is_some(), usage);
    for choice in value["choices"].as_array().expect("choices") {
        only(choice, &["index", "delta", "logprobs", "finish_reason"]);
        only(&choice["delta"], &["role", "content", "refusal", "reasoning_content", "tool_calls"]);
    }
    let chunk: Chunk = serde_json::from_value(value).expect("a chunk");
    assert_eq!((chunk.object.as_str(), chunk.id.as_str(), chunk.created), ("chat.completion.chunk", "chatcmpl-a1\"b", 1_700_000_000));
    chunk
}

fn join(bytes: &[u8], usage: bool) -> (BTreeMap<u32, Joined>, Vec<Chunk>) {
    let frames = frames(bytes);
    let (done, chunks) = frames.split_last().expect("frames");
    assert_eq!(done.1, "[DONE]");
    let chunks: Vec<Chunk> = chunks
        .iter()
        .map(|(name, data)| {
            assert!(name.is_none());
            conforms(data, usage)
        })
        .collect();
    let mut choices: BTreeMap<u32, Joined> = BTreeMap::new();
    for choice in chunks.iter().flat_map(|chunk| &chunk.choices) {
        let first = !choices.contains_key(&choice.index);
        let joined = choices.entry(choice.index).or_default();
        assert_eq!(choice.delta.role.as_deref(), first.then_some("assistant"));
        assert!(joined.finish.is_none(), "something behind the end");
        let append = |to: &mut Option<String>, piece: &Option<String>| {
            if let Some(piece) = piece {
                to.get_or_insert_default().push_str(piece);
            }
        };
        append(&mut joined.content, &choice.delta.content);
        append(&mut joined.reasoning, &choice.delta.reasoning_content);
        for call in choice.delta.tool_calls.iter().flatten() {
            let function = call.function.clone().expect("a function");
            if call.index as usize == joined.calls.len() {
                joined.calls.push(ReplyCall {
                    id: call.id.clone().expect("an id"),
                    r#type: call.r#type.clone().expect("a type"),
                    function: ReplyFunction { name: function.name.expect("a name"), arguments: function.arguments.expect("arguments") },
                });
            } else {
                assert!(call.id.is_none() && call.r#type.is_none() && function.name.is_none());
                assert_eq!(call.index as usize + 1, joined.calls.len(), "only the last call grows");
                let last = joined.calls.last_mut().expect("a call");
                last.function.arguments.push_str(&function.arguments.expect("arguments"));
            }
        }
        if let Some(Logprobs { content: Some(new), .. }) = &choice.logprobs {
            let logprobs = joined.logprobs.get_or_insert(Logprobs { content: Some(Vec::new()), refusal: None });
            logprobs.content.get_or_insert_default().extend(new.iter().cloned());
        }
        joined.finish.clone_from(&choice.finish_reason);
    }
    (choices, chunks)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    /// Chunks put together are the answer told whole.
    #[test]
    fn a_stream_is_the_whole(events in answers(3), include_usage in any::<bool>()) {
        let shape = Shape { include_usage, ..SHAPE };
        let (joined, chunks) = join(&streamed(&events, shape), include_usage);
        let told = whole(&events, shape).expect("an answer");
        prop_assert_eq!(told.choices.len(), 3);
        for choice in &told.choices {
            let joined = &joined[&choice.index];
            prop_assert_eq!(joined.finish.as_deref(), Some(choice.finish_reason.as_str()));
            if choice.finish_reason == "content_filter" {
                prop_assert!(choice.message.content.is_none() && choice.message.tool_calls.is_none() && choice.logprobs.is_none());
                continue;
            }
            prop_assert_eq!(joined.content.as_deref().unwrap_or_default(), choice.message.content.as_deref().unwrap_or_default());
            prop_assert_eq!(&joined.reasoning, &choice.message.reasoning_content);
            prop_assert_eq!(&joined.calls, choice.message.tool_calls.as_deref().unwrap_or_default());
            prop_assert_eq!(&joined.logprobs, &choice.logprobs);
            prop_assert!(joined.calls.iter().all(|call| !call.function.arguments.is_empty()));
        }
        let last = chunks.last().expect("chunks");
        if include_usage {
            prop_assert!(last.choices.is_empty());
            prop_assert_eq!(last.usage, told.usage);
        } else {
            prop_assert!(chunks.iter().all(|chunk| chunk.choices.len() == 1));
        }
    }

    /// Whatever a backend does, frames are whole and nothing follows the end.
    #[test]
    fn nonsense_is_a_fault(events in nonsense()) {
        let shape = Shape { choices: 1, include_usage: true, calls: true };
        let frames = frames(&streamed(&events, shape));
        let last = frames.len().saturating_sub(1);
        for (index, (_, data)) in frames.iter().enumerate() {
            let ends = data == "[DONE]" || data.starts_with("{\"error\":{\"message\":");
            prop_assert!(ends || !data.contains("[DONE]"));
            prop_assert!(!ends || index == last);
            if data != "[DONE]" {
                let value: Value = serde_json::from_str(data).expect("JSON");
                prop_assert!(value.is_object());
            }
        }
        let ended_well = frames.last().is_some_and(|(_, data)| data == "[DONE]");
        prop_assert_eq!(whole(&events, shape).is_ok(), ended_well);
    }
}

const ONE: Shape = Shape { choices: 1, include_usage: false, calls: false };

fn text(text: &str) -> Event {
    Event::Text { choice: 0, text: text.into(), logprobs: Vec::new() }
}

#[test]
fn bytes_of_a_small_answer() {
    let events = [
        Event::Start { usage: Usage::default() },
        Event::Open { choice: 0, block: Block::Text },
        text("a\n"),
        Event::Close { choice: 0 },
        Event::Open { choice: 0, block: Block::ToolUse { id: "c1".into(), name: "f".into() } },
        Event::Close { choice: 0 },
        Event::Finish { choice: 0, reason: Finish::ToolUse },
        Event::End { usage: Usage { input: 3, output: 2, ..Usage::default() } },
    ];
    let bytes = String::from_utf8(streamed(&events, Shape { choices: 1, include_usage: true, calls: false })).expect("UTF-8");
    let before = r#"data: {"id":"chatcmpl-a1\"b","object":"chat.completion.chunk","created":1700000000,"model":"tiny\u2028\"m\"","service_tier":"default","choices":["#;
    let deltas = [
        r#"{"role":"assistant","content":"","refusal":null}"#,
        r#"{"content":"a\n"}"#,
        r#"{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}"#,
    ];
    let mut expected: String = deltas
        .iter()
        .map(|delta| format!("{before}{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n"))
        .collect();
    expected += &format!("{before}{{\"index\":0,\"delta\":{{}},\"logprobs\":null,\"finish_reason\":\"tool_calls\"}}],\"usage\":null}}\n\n");
    expected += &format!(
        "{before}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5,\"prompt_tokens_details\":{{\"cached_tokens\":0,\"cache_write_tokens\":0}},\
         \"completion_tokens_details\":{{\"reasoning_tokens\":0}}}}}}\n\ndata: [DONE]\n\n"
    );
    assert_eq!(bytes, expected);
}

#[test]
fn refused_at_once() {
    let events =
        [Event::Start { usage: Usage::default() }, Event::Finish { choice: 0, reason: refusal() }, Event::End { usage: Usage::default() }];
    let (joined, chunks) = join(&streamed(&events, ONE), false);
    assert_eq!((joined[&0].finish.as_deref(), joined[&0].content.as_deref(), chunks.len()), (Some("content_filter"), Some(""), 2));
    let told = whole(&events, ONE).expect("an answer");
    assert_eq!(told.choices[0].message.content, None);
}

#[test]
fn a_call_that_is_refused_before_its_arguments_is_not_told() {
    let events = [
        Event::Start { usage: Usage::default() },
        Event::Open { choice: 0, block: Block::ToolUse { id: "c1".into(), name: "f".into() } },
        Event::Arguments { choice: 0, json: String::new() },
        Event::Finish { choice: 0, reason: refusal() },
        Event::End { usage: Usage::default() },
    ];
    let (joined, _) = join(&streamed(&events, ONE), false);
    assert_eq!((joined[&0].finish.as_deref(), joined[&0].calls.len()), (Some("content_filter"), 0));
}

#[test]
fn a_fault_closes() {
    let fault = ApiError::new(ErrorKind::Overloaded, "too \"much\" to do").at("messages.0");
    let events = [
        Event::Start { usage: Usage::default() },
        Event::Open { choice: 0, block: Block::Text },
        text("a"),
        Event::Fault(fault),
        text("b"),
    ];
    let bytes = streamed(&events, ONE);
    assert_eq!(
        frames(&bytes).last().expect("frames").1,
        r#"{"error":{"message":"too \"much\" to do","type":"overloaded_error","param":"messages[0]","code":null}}"#
    );
    assert_eq!(whole(&events, ONE).expect_err("a fault").kind, ErrorKind::Overloaded);
    assert_eq!(whole(&events[..3], ONE).expect_err("no end").kind, ErrorKind::Api);
}

#[test]
fn a_fault_from_outside_and_a_ping() {
    let mut stream = Stream::new(head(), ONE);
    let mut out = Vec::new();
    Stream::ping(&mut out);
    stream.fault(&ApiError::new(ErrorKind::Timeout, "late"), &mut out);
    stream.fault(&ApiError::new(ErrorKind::Timeout, "late"), &mut out);
    stream.take(&Event::Start { usage: Usage::default() }, &mut out);
    assert!(stream.is_done());
    assert!(out.starts_with(b": ping\n\n"));
    assert_eq!(frames(&out).len(), 1);
}
