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
    /// The call whose block is open, and is not told yet.
    call: Option<(String, String)>,
    /// Whether anything was told behind the role.
    told: bool,
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
            // Nobody waits for a first chunk: whose it is is known.
            Event::Start { .. } => (0..self.shape.choices).for_each(|choice| self.role(choice, out)),
            Event::Signature { .. } => {}
            Event::Open { choice, block } => {
                if let Block::ToolUse { id, name } = block {
                    self.choices.entry(*choice).or_default().call = Some((id.clone(), name.clone()));
                }
            }
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
                if !json.is_empty() {
                    self.call(*choice, out);
                    self.arguments(*choice, json, out);
                }
            }
            Event::Close { choice } => {
                // A call without arguments has the empty object.
                if self.choices.get(choice).is_some_and(|state| state.call.is_some()) {
                    self.call(*choice, out);
                    self.arguments(*choice, "{}", out);
                }
            }
            Event::Finish { choice, reason } => {
                if self.shape.calls && !self.choices.get(choice).is_some_and(|state| state.told) {
                    // Neither text nor a call: the text is empty.
                    self.begin(*choice, out);
                    out.extend_from_slice(b"{\"content\":\"\"}");
                    self.end_piece(&[], out);
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

    /// Tells what the call is whose block is open, unless that was told.
    fn call(&mut self, choice: u32, out: &mut Vec<u8>) {
        let Some(state) = self.choices.get_mut(&choice) else { return };
        let Some((id, name)) = state.call.take() else { return };
        let index = state.calls;
        state.calls += 1;
        self.begin(choice, out);
        out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
        json::integer(index, out);
        out.extend_from_slice(b",\"id\":");
        json::string(&id, out);
        out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
        json::string(&name, out);
        out.extend_from_slice(b",\"arguments\":\"\"}}]}");
        self.end_piece(&[], out);
    }

    /// Tells more of the arguments of the call told last.
    fn arguments(&mut self, choice: u32, json: &str, out: &mut Vec<u8>) {
        let index = self.choices.get(&choice).map_or(0, |state| state.calls.saturating_sub(1));
        self.begin(choice, out);
        out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
        json::integer(index, out);
        out.extend_from_slice(b",\"function\":{\"arguments\":\"");
        escape(json, out);
        out.extend_from_slice(b"\"}}]}");
        self.end_piece(&[], out);
    }

    /// The first piece of an answer: whose it is. Where it may be a call there may be no text at all.
    fn role(&mut self, choice: u32, out: &mut Vec<u8>) {
        self.begin(choice, out);
        let content: &[u8] = if self.shape.calls { b"null" } else { b"\"\"" };
        out.extend_from_slice(b"{\"role\":\"assistant\",\"content\":");
        out.extend_from_slice(content);
        out.extend_from_slice(b",\"refusal\":null}");
        self.end_piece(&[], out);
        self.choices.insert(choice, Choice::default());
    }

    /// A chunk up to the value of `delta`.
    fn begin(&mut self, choice: u32, out: &mut Vec<u8>) {
        self.choices.entry(choice).or_default().told = true;
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
