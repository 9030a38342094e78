use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Block, Event, Finish, Usage};
use firecrest_contract::leaf::parse;
use firecrest_contract::openai::responses::{Request, Response};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Shape, Stream, Whole};
use crate::encode::arbitrary::{answers, frames, head, nonsense, only, refusal};

fn shape() -> Shape {
    let request = parse::<Request>(br#"{"model": "m", "input": "a", "metadata": {"a": "b"}, "temperature": 0.5}"#).expect("a request");
    Shape { echo: request.into_ask().expect("an ask").echo }
}

fn streamed(events: &[Event]) -> Vec<u8> {
    let mut stream = Stream::new(head(), shape());
    let mut out = Vec::new();
    for event in events {
        stream.take(event, &mut out);
    }
    out
}

fn whole(events: &[Event]) -> Result<Response, ApiError> {
    let mut whole = Whole::new(head(), shape());
    events.iter().cloned().for_each(|event| whole.take(event));
    whole.response()
}

/// The events of a stream: names and numbers are right.
fn told(bytes: &[u8]) -> Vec<Value> {
    let frames = frames(bytes);
    let values = frames.iter().enumerate().map(|(index, (name, data))| {
        let value: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(value["type"].as_str(), name.as_deref());
        assert_eq!(value["sequence_number"], index);
        value
    });
    values.collect()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn append(value: &mut Value, piece: &str) {
    let Value::String(text) = value else { panic!("no text: {value}") };
    text.push_str(piece);
}

/// A response put together from its events, as clients do; what events repeat must be what was put together.
fn join(events: &[Value]) -> Value {
    let mut output: Vec<Value> = Vec::new();
    for event in events {
        let item = event.get("output_index").and_then(Value::as_u64).map(|index| index as usize);
        if let (Some(index), Some(id)) = (item, event.get("item_id")) {
            assert_eq!(&output[index]["id"], id, "{event}");
            assert_eq!(index + 1, output.len(), "only the last item grows");
        }
        match text(event, "type") {
            "response.created" | "response.in_progress" => assert_eq!(event["response"]["output"], json!([])),
            "response.output_item.added" => {
                assert_eq!(item, Some(output.len()));
                assert_eq!(event["item"]["status"], "in_progress");
                output.push(event["item"].clone());
            }
            "response.content_part.added" => {
                output.last_mut().expect("an item")["content"].as_array_mut().expect("parts").push(event["part"].clone())
            }
            "response.reasoning_summary_part.added" => {
                output.last_mut().expect("an item")["summary"].as_array_mut().expect("parts").push(event["part"].clone())
            }
            "response.output_text.delta" => {
                let part = &mut output.last_mut().expect("an item")["content"][0];
                append(&mut part["text"], text(event, "delta"));
                part["logprobs"].as_array_mut().expect("logprobs").extend(event["logprobs"].as_array().expect("logprobs").iter().cloned());
            }
            "response.refusal.delta" => append(&mut output.last_mut().expect("an item")["content"][0]["refusal"], text(event, "delta")),
            "response.reasoning_summary_text.delta" => {
                append(&mut output.last_mut().expect("an item")["summary"][0]["text"], text(event, "delta"))
            }
            "response.function_call_arguments.delta" => append(&mut output.last_mut().expect("an item")["arguments"], text(event, "delta")),
            "response.output_text.done" => {
                let part = &output.last().expect("an item")["content"][0];
                assert_eq!((&part["text"], &part["logprobs"]), (&event["text"], &event["logprobs"]));
            }
            "response.refusal.done" => assert_eq!(output.last().expect("an item")["content"][0]["refusal"], event["refusal"]),
            "response.content_part.done" => assert_eq!(output.last().expect("an item")["content"][0], event["part"]),
            "response.reasoning_summary_text.done" => assert_eq!(output.last().expect("an item")["summary"][0]["text"], event["text"]),
            "response.reasoning_summary_part.done" => assert_eq!(output.last().expect("an item")["summary"][0], event["part"]),
            "response.function_call_arguments.done" => {
                let call = output.last().expect("an item");
                assert_eq!((&call["arguments"], &call["name"], &call["call_id"]), (&event["arguments"], &event["name"], &event["call_id"]));
            }
            "response.output_item.done" => {
                let begun = output.last_mut().expect("an item");
                let mut done = event["item"].clone();
                assert!(["completed", "incomplete"].contains(&text(&done, "status")));
                // Only these two are new in the end.
                begun["status"] = done["status"].clone();
                if let Some(signature) = done.get("encrypted_content") {
                    begun["encrypted_content"] = signature.clone();
                }
                assert_eq!(*begun, done.take());
            }
            "response.completed" | "response.incomplete" | "response.failed" => return event["response"].clone(),
            other => panic!("{other}"),
        }
        let at = text(event, "type").replace("response.", "");
        let indexed: &[&str] = if at.contains("summary") { &["summary_index"] } else { &["content_index"] };
        if event.get("item_id").is_some() && !at.starts_with("function_call") {
            assert!(indexed.iter().all(|name| event[name] == 0), "{event}");
        }
    }
    panic!("no end")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    /// Events put together are the response told whole.
    #[test]
    fn a_stream_is_the_whole(events in answers(1)) {
        let stream = told(&streamed(&events));
        let end = join(&stream);
        let whole = whole(&events).expect("a response");
        let refused = whole.incomplete_details.as_ref().is_some_and(|details| details.reason == "content_filter");
        if refused {
            prop_assert_eq!(&end["status"], "incomplete");
            prop_assert_eq!(&end["incomplete_details"]["reason"], "content_filter");
            // Nobody may take a call for whole that was cut.
            let done = stream.iter().filter(|e| e["type"] == "response.output_item.done").map(|e| e["item"].clone());
            prop_assert_eq!(&Value::from_iter(done), &end["output"]);
            prop_assert!(end["output"].as_array().expect("items").iter().all(|i| i["type"] != "function_call" || i["status"] == "completed"));
        } else {
            // As types: 32-bit floats are told with as few digits as name them.
            prop_assert_eq!(serde_json::from_value::<Response>(end.clone()).expect("a response"), whole);
        }
        only(&end, &["id", "object", "created_at", "status", "error", "incomplete_details", "model", "output", "usage", "service_tier", "access_programs", "background", "instructions",
            "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls", "previous_response_id", "prompt_cache_key", "reasoning", "safety_identifier",
            "store", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user"]);
        prop_assert_eq!(&end["metadata"], &json!({ "a": "b" }));
    }

    #[test]
    fn nonsense_is_a_fault(events in nonsense()) {
        let stream = told(&streamed(&events));
        let ends = |e: &Value| ["response.completed", "response.incomplete", "response.failed", "error"].contains(&text(e, "type"));
        prop_assert!(stream.iter().rev().skip(1).all(|e| !ends(e)));
        let ended_well = stream.last().is_some_and(|e| ["response.completed", "response.incomplete"].contains(&text(e, "type")));
        prop_assert_eq!(whole(&events).is_ok(), ended_well);
    }
}

fn started(mut events: Vec<Event>) -> Vec<Event> {
    events.insert(0, Event::Start { usage: Usage::default() });
    events
}

#[test]
fn refused_at_once() {
    let events = started(vec![Event::Finish { choice: 0, reason: refusal() }, Event::End { usage: Usage::default() }]);
    let end = join(&told(&streamed(&events)));
    assert_eq!(
        end["output"],
        json!([{ "type": "message", "id": "msg_a1\"b_0", "status": "completed", "role": "assistant", "content": [{ "type": "refusal", "refusal": "rule \"x\"" }] }])
    );
    assert_eq!(end, serde_json::to_value(whole(&events).expect("a response")).expect("JSON"));
}

#[test]
fn a_refused_call_is_never_done() {
    let events = started(vec![
        Event::Open { choice: 0, block: Block::ToolUse { id: "c".into(), name: "f".into() } },
        Event::Arguments { choice: 0, json: "{\"a\":".into() },
        Event::Close { choice: 0 },
        Event::Finish { choice: 0, reason: refusal() },
        Event::End { usage: Usage::default() },
    ]);
    let stream = told(&streamed(&events));
    assert!(stream.iter().all(|e| !text(e, "type").ends_with(".done")));
    assert_eq!((join(&stream)["output"].clone(), join(&stream)["status"].clone()), (json!([]), json!("incomplete")));
}

#[test]
fn a_fault() {
    let said = vec![Event::Open { choice: 0, block: Block::Text }, Event::Text { choice: 0, text: "a".into(), logprobs: Vec::new() }];
    let mut events = started(said);
    events.push(Event::Fault(ApiError::new(ErrorKind::Api, "it broke")));
    let end = join(&told(&streamed(&events)));
    assert_eq!((end["status"].clone(), end["error"].clone()), (json!("failed"), json!({ "code": "server_error", "message": "it broke" })));
    assert_eq!((end["output"][0]["status"].clone(), end["output"][0]["content"][0]["text"].clone()), (json!("incomplete"), json!("a")));
    assert!(whole(&events).is_err());
    let before = told(&streamed(&[Event::Fault(ApiError::invalid("input.0", "no"))]));
    assert_eq!(
        before,
        [json!({ "type": "error", "sequence_number": 0, "code": "invalid_prompt", "message": "input.0: no", "param": "input[0]" })]
    );
}

#[test]
fn the_last_item_may_be_cut() {
    let events = started(vec![
        Event::Open { choice: 0, block: Block::Thinking },
        Event::Close { choice: 0 },
        Event::Open { choice: 0, block: Block::Text },
        Event::Close { choice: 0 },
        Event::Finish { choice: 0, reason: Finish::MaxTokens },
        Event::End { usage: Usage::default() },
    ]);
    let end = join(&told(&streamed(&events)));
    assert_eq!((end["output"][0]["status"].clone(), end["output"][1]["status"].clone()), (json!("completed"), json!("incomplete")));
    assert_eq!(end["incomplete_details"], json!({ "reason": "max_output_tokens" }));
}
