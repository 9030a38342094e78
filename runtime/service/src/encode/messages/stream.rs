//! An answer as server-sent events.

use firecrest_contract::error::ApiError;
use firecrest_contract::event::{Block, Event, Finish, Usage as Tokens};
use firecrest_contract::messages::{
    BlockStart, Caller, ContentBlock, ErrorBody, MessageDelta, MessageStart, StreamEvent, TextBlock, ThinkingBlock, ToolUseBlock, Usage,
};
use firecrest_policy::safety::gate::Judged;
use serde_json::{Map, Value};

use super::frames::{begin, escape, frame, value};
use super::{Head, Kind, Shape, empty, ending, out_of_order};

/// Tells an answer as it comes.
///
/// The end is told whole, once [`Event::End`] says what the answer took: `message_delta` and `message_stop` come together. A refusal closes the
/// open block and starts no other.
#[derive(Debug)]
pub struct Stream {
    head: Head,
    shape: Shape,
    state: State,
    open: Option<Kind>,
    /// Of the open block, or of the next one.
    index: u64,
    /// What stands before the text of a delta of the open block.
    prefix: Vec<u8>,
    finish: Option<Finish>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Before,
    Running,
    Done,
}

impl Stream {
    /// Nothing yet.
    pub fn new(head: Head, shape: Shape) -> Stream {
        Stream { head, shape, state: State::Before, open: None, index: 0, prefix: Vec::new(), finish: None }
    }

    /// Writes what happened next: any number of whole frames, often none. What comes behind the end is passed over.
    pub fn push(&mut self, event: Judged, out: &mut Vec<u8>) {
        self.take(event.into_event(), out);
    }

    /// Writes that it can't go on, where something other than the backend is why: a deadline, a lost connection. Nothing once the end was told.
    pub fn fault(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        if self.state == State::Done {
            return;
        }
        self.state = State::Done;
        frame("error", out, |out| value(&ErrorBody::new(error, self.shape.request_id.as_deref()), out));
    }

    /// Writes that nothing happened. May stand anywhere before the end.
    pub fn ping(out: &mut Vec<u8>) {
        frame("ping", out, |out| out.extend_from_slice(br#"{"type":"ping"}"#));
    }

    /// Whether the end was told.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub(super) fn take(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            _ if self.state == State::Done => {}
            Event::Fault(error) => self.fault(&error, out),
            Event::Start { usage } if self.state == State::Before => self.start(&usage, out),
            Event::Start { .. } => self.broken(out),
            _ if self.state == State::Before => self.broken(out),
            Event::End { usage } => self.end(&usage, out),
            Event::Finish { choice: 0, reason } => match self.finish {
                None => {
                    self.stop(out);
                    self.finish = Some(reason);
                }
                Some(_) => self.broken(out),
            },
            // The answer is over: nothing can be added to it.
            _ if self.finish.is_some() => {}
            Event::Open { choice: 0, block } => self.open(block, out),
            Event::Text { choice: 0, text, .. } => self.delta(Kind::Text, &text, out),
            Event::Arguments { choice: 0, json } => self.delta(Kind::ToolUse, &json, out),
            Event::Thinking { choice: 0, text } => {
                let text = if self.shape.hidden_thinking { "" } else { &text };
                self.delta(Kind::Thinking, text, out);
            }
            Event::Signature { choice: 0, signature } => self.signature(&signature, out),
            Event::Close { choice: 0 } => match self.open {
                Some(_) => self.stop(out),
                None => self.broken(out),
            },
            Event::Open { .. }
            | Event::Text { .. }
            | Event::Thinking { .. }
            | Event::Arguments { .. }
            | Event::Signature { .. }
            | Event::Close { .. }
            | Event::Finish { .. } => {}
        }
    }

    fn start(&mut self, usage: &Tokens, out: &mut Vec<u8>) {
        self.state = State::Running;
        let message = empty(&self.head, &self.shape, usage);
        frame("message_start", out, |out| value(&StreamEvent::MessageStart(MessageStart { message }), out));
    }

    fn open(&mut self, block: Block, out: &mut Vec<u8>) {
        if self.open.is_some() {
            return self.broken(out);
        }
        let kind = Kind::of(&block);
        self.open = Some(kind);
        let content_block = match block {
            Block::Text => ContentBlock::Text(TextBlock::default()),
            Block::Thinking => ContentBlock::Thinking(ThinkingBlock::default()),
            Block::ToolUse { id, name } => {
                ContentBlock::ToolUse(ToolUseBlock { id, name, input: Value::Object(Map::new()), caller: Caller::default() })
            }
        };
        let start = StreamEvent::BlockStart(BlockStart { index: self.index, content_block });
        frame("content_block_start", out, |out| value(&start, out));

        // Everything of a delta but its text, which is all that differs from one to the next of a block.
        let delta = match kind {
            Kind::Text => r#""type":"text_delta","text":"#,
            Kind::Thinking if self.shape.beta => r#""type":"thinking_delta","estimated_tokens":null,"thinking":"#,
            Kind::Thinking => r#""type":"thinking_delta","thinking":"#,
            Kind::ToolUse => r#""type":"input_json_delta","partial_json":"#,
        };
        let index = self.index;
        self.prefix.clear();
        begin("content_block_delta", &mut self.prefix);
        self.prefix.extend_from_slice(format!(r#"{{"type":"content_block_delta","index":{index},"delta":{{{delta}""#).as_bytes());
    }

    fn delta(&mut self, kind: Kind, text: &str, out: &mut Vec<u8>) {
        if self.open != Some(kind) {
            return self.broken(out);
        }
        if text.is_empty() {
            return;
        }
        out.extend_from_slice(&self.prefix);
        escape(text, out);
        out.extend_from_slice(b"\"}}\n\n");
    }

    fn signature(&mut self, signature: &str, out: &mut Vec<u8>) {
        if self.open != Some(Kind::Thinking) {
            return self.broken(out);
        }
        let index = self.index;
        frame("content_block_delta", out, |out| {
            let head = format!(r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"signature_delta","signature":""#);
            out.extend_from_slice(head.as_bytes());
            escape(signature, out);
            out.extend_from_slice(b"\"}}");
        });
    }

    /// Closes the block, if one is open.
    fn stop(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_none() {
            return;
        }
        let index = self.index;
        self.index += 1;
        frame("content_block_stop", out, |out| {
            out.extend_from_slice(format!(r#"{{"type":"content_block_stop","index":{index}}}"#).as_bytes());
        });
    }

    fn end(&mut self, usage: &Tokens, out: &mut Vec<u8>) {
        let Some(finish) = self.finish.take() else { return self.broken(out) };
        self.state = State::Done;
        let delta = StreamEvent::MessageDelta(MessageDelta {
            delta: ending(finish, self.shape.beta),
            context_management: self.shape.beta.then_some(Value::Null),
            usage: Usage::new(usage, self.head.tier, self.shape.beta).into(),
        });
        frame("message_delta", out, |out| value(&delta, out));
        frame("message_stop", out, |out| out.extend_from_slice(br#"{"type":"message_stop"}"#));
    }

    fn broken(&mut self, out: &mut Vec<u8>) {
        self.fault(&out_of_order(), out);
    }
}
