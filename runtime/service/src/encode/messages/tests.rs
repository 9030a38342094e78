//! What is told as it comes must add up to what is told whole, as clients add it up.

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Block, Event, Finish, Refusal, Usage};
use firecrest_contract::messages::{CacheMiss, ContentBlock, Delta, Diagnostics, Message, StopReason, StreamEvent};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::{Head, Shape, Stream, Whole, json};

fn head() -> Head {
    Head { id: "01X".to_owned(), model: "small \"one\"".to_owned(), created: 1, tier: "standard" }
}

fn stream(events: &[Event], shape: &Shape) -> String {
    let mut stream = Stream::new(head(), shape.clone());
    let mut out = Vec::new();
    for event in events {
        stream.take(event.clone(), &mut out);
    }
    String::from_utf8(out).expect("UTF-8")
}

fn whole(events: &[Event], shape: &Shape) -> Result<Message, ApiError> {
    let mut whole = Whole::new(head(), shape.clone());
    for event in events {
        whole.take(event.clone());
    }
    whole.message()
}

/// The events of a stream, each frame of which has to be two lines and to bear the name of what is in it.
fn frames(text: &str) -> Vec<StreamEvent> {
    let Some(text) = text.strip_suffix("\n\n") else {
        assert_eq!(text, "");
        return Vec::new();
    };
    let frame = |frame: &str| {
        let (name, data) = frame.split_once('\n').expect("two lines");
        let data = data.strip_prefix("data: ").expect("data");
        assert!(!data.contains(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']), "{data:?}");
        let event: StreamEvent = serde_json::from_str(data).expect("an event");
        assert_eq!(name.strip_prefix("event: "), Some(event.tag()));
        assert!(!matches!(event, StreamEvent::Other(_)), "{data}");
        event
    };
    text.split("\n\n").map(frame).collect()
}

/// Adds a stream up as the TypeScript SDK does.
fn add_up(events: Vec<StreamEvent>) -> Option<Message> {
    let mut answer: Option<Message> = None;
    let mut arguments = String::new();
    let mut open = false;
    for event in events {
        match event {
            StreamEvent::MessageStart(start) => {
                assert!(answer.is_none(), "it starts once");
                answer = Some(start.message);
            }
            StreamEvent::BlockStart(start) => {
                let answer = answer.as_mut().expect("started");
                assert!(!open && start.index == answer.content.len() as u64, "one at a time, without gaps");
                (open, arguments) = (true, String::new());
                answer.content.push(start.content_block);
            }
            StreamEvent::BlockDelta(delta) => {
                let content = &mut answer.as_mut().expect("started").content;
                assert!(open && delta.index + 1 == content.len() as u64);
                match (content.last_mut().expect("open"), delta.delta) {
                    (ContentBlock::Text(block), Delta::Text(delta)) => block.text.push_str(&delta.text),
                    (ContentBlock::Thinking(block), Delta::Thinking(delta)) => block.thinking.push_str(&delta.thinking),
                    (ContentBlock::Thinking(block), Delta::Signature(delta)) => block.signature = delta.signature,
                    (ContentBlock::ToolUse(_), Delta::InputJson(delta)) => arguments.push_str(&delta.partial_json),
                    (block, delta) => panic!("{delta:?} of {block:?}"),
                }
            }
            StreamEvent::BlockStop(stop) => {
                let content = &mut answer.as_mut().expect("started").content;
                assert!(open && stop.index + 1 == content.len() as u64);
                open = false;
                if let ContentBlock::ToolUse(block) = content.last_mut().expect("open")
                    && !arguments.is_empty()
                {
                    block.input = json::complete(&arguments).unwrap_or(Value::Null);
                }
            }
            StreamEvent::MessageDelta(delta) => {
                let answer = answer.as_mut().expect("started");
                assert!(!open, "blocks are closed");
                answer.stop_reason = delta.delta.stop_reason;
                answer.stop_sequence = delta.delta.stop_sequence;
                answer.stop_details = delta.delta.stop_details;
                answer.usage.output_tokens = delta.usage.output_tokens;
                answer.usage.input_tokens = delta.usage.input_tokens.expect("said");
                answer.usage.cache_creation_input_tokens = delta.usage.cache_creation_input_tokens;
                answer.usage.cache_read_input_tokens = delta.usage.cache_read_input_tokens;
                answer.usage.output_tokens_details = delta.usage.output_tokens_details;
            }
            StreamEvent::MessageStop(_) => {
                assert!(answer.as_ref().is_some_and(|answer| answer.stop_reason.is_some()));
                return answer;
            }
            StreamEvent::Ping(_) => {}
            StreamEvent::Error(_) | StreamEvent::Other(_) => return None,
        }
    }
    None
}

fn text() -> impl Strategy<Value = String> {
    "(\\PC|[\u{0}-\u{20}\u{85}\u{2028}\"\\\\]){0,6}"
}

fn arguments() -> impl Strategy<Value = String> {
    (text(), any::<i32>(), 0..60_usize).prop_map(|(text, number, cut)| {
        let whole = serde_json::json!({ "text": text, "list": [number, null, { "deep": true }] }).to_string();
        // Often cut short, as by `max_tokens`; at 0 there are none at all.
        (0..=cut.min(whole.len())).rev().find_map(|at| whole.get(..at)).unwrap_or_default().to_owned()
    })
}

fn block(choice: u32) -> impl Strategy<Value = Vec<Event>> {
    let around =
        move |block: Block, inside: Vec<Event>| [vec![Event::Open { choice, block }], inside, vec![Event::Close { choice }]].concat();
    let texts = vec(text(), 0..5).prop_map(move |pieces| {
        around(Block::Text, pieces.into_iter().map(|text| Event::Text { choice, text, logprobs: Vec::new() }).collect())
    });
    let thoughts = (vec(text(), 0..4), text()).prop_map(move |(pieces, signature)| {
        let mut inside: Vec<Event> = pieces.into_iter().map(|text| Event::Thinking { choice, text }).collect();
        inside.push(Event::Signature { choice, signature });
        around(Block::Thinking, inside)
    });
    let call = ("[a-z]{1,8}", "[a-zA-Z0-9_-]{1,9}", arguments(), 1..4_usize).prop_map(move |(id, name, json, size)| {
        let characters: Vec<char> = json.chars().collect();
        let pieces = characters.chunks(size).map(|piece| Event::Arguments { choice, json: piece.iter().collect() }).collect();
        around(Block::ToolUse { id, name }, pieces)
    });
    prop_oneof![texts, thoughts, call]
}

fn finish() -> impl Strategy<Value = Finish> {
    prop_oneof![
        Just(Finish::EndTurn),
        Just(Finish::MaxTokens),
        text().prop_map(Finish::StopSequence),
        Just(Finish::ToolUse),
        Just(Finish::ContextFull),
        text().prop_map(|explanation| Finish::Refusal(Refusal { category: Some("general_harms"), explanation })),
    ]
}

fn usage() -> impl Strategy<Value = Usage> {
    proptest::array::uniform6(0..1_000_000_u64).prop_map(|[input, cache_read, cache_write_5m, cache_write_1h, output, thinking]| Usage {
        input,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        output,
        thinking,
    })
}

/// A whole answer, beside which a second one may be told that nobody asked for.
fn answer() -> impl Strategy<Value = Vec<Event>> {
    let choice = |choice: u32| {
        (vec(block(choice), 0..4), finish())
            .prop_map(move |(blocks, reason)| [blocks.concat(), vec![Event::Finish { choice, reason }]].concat())
    };
    (choice(0), proptest::option::of(choice(1)), usage(), vec(any::<bool>(), 64)).prop_map(|(first, second, usage, order)| {
        let mut events = vec![Event::Start { usage: Usage { output: 0, thinking: 0, ..usage } }];
        let (mut first, mut second) = (first.into_iter(), second.into_iter().flatten());
        for turn in order {
            events.extend(if turn { first.next() } else { second.next() });
        }
        events.extend(first.chain(second));
        events.push(Event::End { usage });
        events
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(beta, hidden_thinking, asked)| Shape {
        beta,
        hidden_thinking,
        diagnostics: asked.then_some(Diagnostics { cache_miss_reason: Some(CacheMiss::Unavailable) }),
        request_id: Some("req_1".to_owned()),
    })
}

fn event() -> impl Strategy<Value = Event> {
    let choice = 0..2_u32;
    prop_oneof![
        usage().prop_map(|usage| Event::Start { usage }),
        choice.clone().prop_map(|choice| Event::Open { choice, block: Block::Text }),
        choice.clone().prop_map(|choice| Event::Open { choice, block: Block::Thinking }),
        choice.clone().prop_map(|choice| Event::Open { choice, block: Block::ToolUse { id: "a".into(), name: "b".into() } }),
        choice.clone().prop_map(|choice| Event::Text { choice, text: "t".into(), logprobs: Vec::new() }),
        choice.clone().prop_map(|choice| Event::Thinking { choice, text: "h".into() }),
        choice.clone().prop_map(|choice| Event::Signature { choice, signature: "s".into() }),
        choice.clone().prop_map(|choice| Event::Arguments { choice, json: "{".into() }),
        choice.clone().prop_map(|choice| Event::Close { choice }),
        (choice, finish()).prop_map(|(choice, reason)| Event::Finish { choice, reason }),
        usage().prop_map(|usage| Event::End { usage }),
        Just(Event::Fault(ApiError::new(ErrorKind::Overloaded, "busy"))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_adds_up_to_the_whole(events in answer(), shape in shape()) {
        let added = add_up(frames(&stream(&events, &shape))).expect("an answer");
        let whole = whole(&events, &shape).expect("an answer");
        if whole.stop_reason == Some(StopReason::Refusal) {
            prop_assert!(whole.content.is_empty());
            prop_assert_eq!(Message { content: Vec::new(), ..added }, whole);
        } else {
            prop_assert_eq!(added, whole);
        }
    }

    #[test]
    fn a_fault_ends_both(events in answer(), at in any::<prop::sample::Index>(), shape in shape()) {
        let at = at.index(events.len());
        let mut cut = events[..at].to_vec();
        cut.push(Event::Fault(ApiError::new(ErrorKind::Overloaded, "busy")));
        cut.extend(events[at..].iter().cloned());
        let told = frames(&stream(&cut, &shape));
        let Some(StreamEvent::Error(last)) = told.last() else { panic!("{told:?}") };
        prop_assert_eq!(&last.error.r#type, "overloaded_error");
        prop_assert_eq!(last.request_id.as_deref(), Some("req_1"));
        prop_assert_eq!(whole(&cut, &shape).expect_err("a fault").kind, ErrorKind::Overloaded);
        prop_assert!(whole(&events[..at], &shape).is_err(), "an answer without an end is none");
    }

    #[test]
    fn any_order_of_events_is_told_in_order(mut events in vec(event(), 0..12), start in any::<bool>()) {
        if start {
            events.insert(0, Event::Start { usage: Usage::default() });
        }
        let told = frames(&stream(&events, &Shape::default()));
        let done = told.iter().filter(|event| matches!(event, StreamEvent::Error(_) | StreamEvent::MessageStop(_))).count();
        prop_assert!(done <= 1);
        if done == 1 {
            prop_assert!(matches!(told.last(), Some(StreamEvent::Error(_) | StreamEvent::MessageStop(_))), "nothing behind the end");
        }
        let added = add_up(told);
        if let Ok(whole) = whole(&events, &Shape::default()) {
            prop_assert_eq!(added.expect("an answer").stop_reason, whole.stop_reason);
        }
    }
}

#[test]
fn frames_are_as_the_contract_has_them() {
    let events = [
        Event::Start { usage: Usage { input: 3, cache_read: 2, ..Usage::default() } },
        Event::Open { choice: 0, block: Block::Text },
        Event::Text { choice: 0, text: "Hi\n\"you\"".to_owned(), logprobs: Vec::new() },
        Event::Close { choice: 0 },
        Event::Finish { choice: 0, reason: Finish::StopSequence("END".to_owned()) },
        Event::End { usage: Usage { input: 3, cache_read: 2, output: 4, thinking: 1, ..Usage::default() } },
    ];
    let expected = concat!(
        "event: message_start\n",
        r#"data: {"type":"message_start","message":{"id":"msg_01X","type":"message","role":"assistant","model":"small \"one\"","content":[],"#,
        r#""stop_reason":null,"stop_sequence":null,"stop_details":null,"container":null,"diagnostics":null,"usage":{"input_tokens":3,"#,
        r#""output_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":2,"cache_creation":{"ephemeral_1h_input_tokens":0,"#,
        r#""ephemeral_5m_input_tokens":0},"output_tokens_details":{"thinking_tokens":0},"server_tool_use":null,"service_tier":"standard","#,
        r#""speed":null,"inference_geo":null}}}"#,
        "\n\nevent: content_block_start\n",
        r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        "\n\nevent: content_block_delta\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi\n\"you\""}}"#,
        "\n\nevent: content_block_stop\n",
        r#"data: {"type":"content_block_stop","index":0}"#,
        "\n\nevent: message_delta\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"END","stop_details":null,"container":null},"#,
        r#""usage":{"input_tokens":3,"output_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":2,"#,
        r#""output_tokens_details":{"thinking_tokens":1},"server_tool_use":null}}"#,
        "\n\nevent: message_stop\n",
        r#"data: {"type":"message_stop"}"#,
        "\n\n",
    );
    assert_eq!(stream(&events, &Shape::default()), expected);
    let mut ping = Vec::new();
    Stream::ping(&mut ping);
    assert_eq!(ping, b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
}

/// A cut call followed by another block made the SDK's tool runner execute the tool with no arguments.
#[test]
fn a_refusal_closes_the_open_block_and_starts_no_other() {
    let events = [
        Event::Start { usage: Usage::default() },
        Event::Open { choice: 0, block: Block::ToolUse { id: "toolu_1".to_owned(), name: "run".to_owned() } },
        Event::Arguments { choice: 0, json: r#"{"command": "rm "#.to_owned() },
        Event::Finish { choice: 0, reason: Finish::Refusal(Refusal { category: None, explanation: "no".to_owned() }) },
        Event::Open { choice: 0, block: Block::Text },
        Event::Text { choice: 0, text: "but".to_owned(), logprobs: Vec::new() },
        Event::Close { choice: 0 },
        Event::End { usage: Usage::default() },
    ];
    let shape = Shape { beta: true, ..Shape::default() };
    let told = frames(&stream(&events, &shape));
    let names: Vec<&str> = told.iter().map(StreamEvent::tag).collect();
    let expected = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"];
    assert_eq!(names, expected);
    let message = whole(&events, &shape).expect("an answer");
    assert_eq!(
        serde_json::to_value(&message).expect("JSON")["stop_details"],
        serde_json::json!({
            "type": "refusal", "category": null, "explanation": "no",
            "fallback_credit_token": null, "fallback_has_prefill_claim": null, "recommended_model": null,
        })
    );
    assert!(message.content.is_empty());
}

#[test]
fn hidden_thoughts_leave_their_signature() {
    let events = [
        Event::Start { usage: Usage::default() },
        Event::Open { choice: 0, block: Block::Thinking },
        Event::Thinking { choice: 0, text: "secret".to_owned() },
        Event::Signature { choice: 0, signature: "s".to_owned() },
        Event::Close { choice: 0 },
        Event::Finish { choice: 0, reason: Finish::EndTurn },
        Event::End { usage: Usage::default() },
    ];
    let shape = Shape { hidden_thinking: true, ..Shape::default() };
    let told = stream(&events, &shape);
    assert!(!told.contains("secret") && told.contains(r#""delta":{"type":"signature_delta","signature":"s"}"#), "{told}");
    let body = whole(&events, &shape).expect("an answer");
    assert_eq!(
        serde_json::to_value(body.content).expect("JSON"),
        serde_json::json!([{ "type": "thinking", "thinking": "", "signature": "s" }])
    );
}
