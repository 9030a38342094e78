//! An answer as chunks.

use std::collections::BTreeMap;

use firecrest_contract::error::ApiError;
use firecrest_contract::event::{Block, Event, TokenLogprob, Usage as Tokens};
use firecrest_contract::openai::chat::Usage;
use firecrest_policy::safety::gate::Judged;

use super::Shape;
use crate::encode::Head;
use crate::encode::json::{self, escape};
use crate::encode::openai::{Order, PING, Step, error_frame, finish_reason, out_of_order, tier};

/// Tells answers as they come.
#[derive(Debug)]
pub struct Stream {
    shape: Shape,
    order: Order,
    /// Everything of a chunk up to the index of its choice.
    prefix: Vec<u8>,
    choices: BTreeMap<u32, Choice>,
}

/// How far an answer is told.
#[derive(Debug, Default)]
struct Choice {
    /// Calls told.
    calls: u64,
    /// The call whose block is open.
    call: Option<Call>,
}

/// A call that is not told yet.
#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    /// Escaped.
    arguments: Vec<u8>,
}

impl Stream {
    /// Nothing yet.
    pub fn new(head: Head, shape: Shape) -> Stream {
        let mut prefix = b"data: {\"id\":\"chatcmpl-".to_vec();
        escape(&head.id, &mut prefix);
        prefix.extend_from_slice(b"\",\"object\":\"chat.completion.chunk\",\"created\":");
        json::integer(head.created, &mut prefix);
        prefix.extend_from_slice(b",\"model\":");
        json::string(&head.model, &mut prefix);
        prefix.extend_from_slice(b",\"service_tier\":");
        json::string(tier(head.tier), &mut prefix);
        prefix.extend_from_slice(b",\"choices\":[");
        Stream { shape, order: Order::new(shape.choices), prefix, choices: BTreeMap::new() }
    }

    /// Writes what happened next: any number of whole frames, often none. What comes behind the end is passed over.
    pub fn push(&mut self, event: Judged, out: &mut Vec<u8>) {
        self.take(event.event(), out);
    }

    /// Writes that it can't go on, where something other than the backend is why: a deadline, a lost connection. Nothing once the end was
    /// told.
    pub fn fault(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        if !self.order.is_done() {
            self.order.finish();
            error_frame(error, out);
        }
    }

    /// Writes that nothing happened: a comment. May stand anywhere before the end.
    pub fn ping(out: &mut Vec<u8>) {
        out.extend_from_slice(PING);
    }

    /// Whether the end was told.
    pub fn is_done(&self) -> bool {
        self.order.is_done()
    }

    pub(super) fn take(&mut self, event: &Event, out: &mut Vec<u8>) {
        match self.order.take(event) {
            Step::Pass => return,
            Step::Broken => return error_frame(&out_of_order(), out),
            Step::Take => {}
        }
        match event {
            Event::Start { .. } | Event::Signature { .. } => {}
            Event::Open { choice, block } => self.open(*choice, block, out),
            Event::Text { choice, text, logprobs } => {
                if !text.is_empty() || !logprobs.is_empty() {
                    self.begin(*choice, out);
                    out.extend_from_slice(b"{\"content\":\"");
                    escape(text, out);
                    out.extend_from_slice(b"\"}");
                    self.end_piece(logprobs, out);
                }
            }
            Event::Thinking { choice, text } => {
                if !text.is_empty() {
                    self.begin(*choice, out);
                    out.extend_from_slice(b"{\"reasoning_content\":\"");
                    escape(text, out);
                    out.extend_from_slice(b"\"}");
                    self.end_piece(&[], out);
                }
            }
            Event::Arguments { choice, json } => {
                if let Some(call) = self.choices.get_mut(choice).and_then(|state| state.call.as_mut()) {
                    escape(json, &mut call.arguments);
                }
            }
            Event::Close { choice } => self.call(*choice, out),
            Event::Finish { choice, reason } => {
                if !self.choices.contains_key(choice) {
                    self.role(*choice, false, out);
                }
                self.begin(*choice, out);
                out.extend_from_slice(b"{},\"logprobs\":null,\"finish_reason\":\"");
                out.extend_from_slice(finish_reason(reason).as_bytes());
                out.extend_from_slice(b"\"}]");
                self.end_chunk(out);
            }
            Event::End { usage } => self.end(usage, out),
            Event::Fault(error) => error_frame(error, out),
        }
    }

    fn open(&mut self, choice: u32, block: &Block, out: &mut Vec<u8>) {
        if !self.choices.contains_key(&choice) {
            self.role(choice, matches!(block, Block::ToolUse { .. }), out);
        }
        if let Block::ToolUse { id, name } = block {
            let call = Call { id: id.clone(), name: name.clone(), arguments: Vec::new() };
            self.choices.entry(choice).or_default().call = Some(call);
        }
    }

    /// Tells the call whose block closed, if it was one: what it is, then its arguments.
    fn call(&mut self, choice: u32, out: &mut Vec<u8>) {
        let Some(state) = self.choices.get_mut(&choice) else { return };
        let Some(call) = state.call.take() else { return };
        let index = state.calls;
        state.calls += 1;
        self.begin(choice, out);
        out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
        json::integer(index, out);
        out.extend_from_slice(b",\"id\":");
        json::string(&call.id, out);
        out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
        json::string(&call.name, out);
        out.extend_from_slice(b",\"arguments\":\"\"}}]}");
        self.end_piece(&[], out);
        self.begin(choice, out);
        out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
        json::integer(index, out);
        out.extend_from_slice(b",\"function\":{\"arguments\":\"");
        // A call without arguments has the empty object.
        out.extend_from_slice(if call.arguments.is_empty() { b"{}" } else { &call.arguments });
        out.extend_from_slice(b"\"}}]}");
        self.end_piece(&[], out);
    }

    /// The first piece of an answer: whose it is. Where it begins with a call there may be no text at all.
    fn role(&mut self, choice: u32, call: bool, out: &mut Vec<u8>) {
        self.choices.insert(choice, Choice::default());
        self.begin(choice, out);
        let content: &[u8] = if call { b"null" } else { b"\"\"" };
        out.extend_from_slice(b"{\"role\":\"assistant\",\"content\":");
        out.extend_from_slice(content);
        out.extend_from_slice(b",\"refusal\":null}");
        self.end_piece(&[], out);
    }

    /// A chunk up to the value of `delta`.
    fn begin(&self, choice: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b"{\"index\":");
        json::integer(u64::from(choice), out);
        out.extend_from_slice(b",\"delta\":");
    }

    /// What stands behind `delta` in an answer's piece that is not the last.
    fn end_piece(&self, logprobs: &[TokenLogprob], out: &mut Vec<u8>) {
        if logprobs.is_empty() {
            out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":null}]");
        } else {
            out.extend_from_slice(b",\"logprobs\":{\"content\":[");
            json::logprobs(logprobs, out);
            out.extend_from_slice(b"],\"refusal\":null},\"finish_reason\":null}]");
        }
        self.end_chunk(out);
    }

    fn end_chunk(&self, out: &mut Vec<u8>) {
        let end: &[u8] = if self.shape.include_usage { b",\"usage\":null}\n\n" } else { b"}\n\n" };
        out.extend_from_slice(end);
    }

    fn end(&mut self, usage: &Tokens, out: &mut Vec<u8>) {
        if self.shape.include_usage {
            out.extend_from_slice(&self.prefix);
            out.extend_from_slice(b"],\"usage\":");
            // Once an answer: a few whole numbers, which always have a JSON form.
            out.extend_from_slice(&serde_json::to_vec(&Usage::from(*usage)).unwrap_or_else(|_| b"null".to_vec()));
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}
