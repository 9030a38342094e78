//! A response as its events.

use firecrest_contract::error::ApiError;
use firecrest_contract::event::{Block, Event, Finish, TokenLogprob, Usage as Tokens};
use firecrest_contract::openai::error::param;
use firecrest_contract::openai::responses::Usage;
use firecrest_policy::safety::gate::Judged;

use super::{Shape, error_code, incomplete};
use crate::encode::Head;
use crate::encode::json::{self, escape};
use crate::encode::openai::{Kind, Order, PING, Step, nullable, out_of_order, tier};

/// Tells a response as it comes.
///
/// Events that end an item repeat it whole, and the last event repeats all items, so a response is kept until its end, escaped once. An
/// item is ended
/// when what comes behind it is known: the last one may be incomplete.
#[derive(Debug)]
pub struct Stream {
    head: Head,
    shape: Shape,
    order: Order,
    /// Of the next event.
    sequence: u64,
    /// Items that are over, as they stand between the brackets of `output`.
    output: Vec<u8>,
    /// The item that is not over, though its block may be closed.
    item: Option<Item>,
    /// Items begun.
    items: u64,
    finish: Option<Finish>,
}

/// An item as it grows. Texts are escaped.
#[derive(Debug)]
struct Item {
    kind: Kind,
    index: u64,
    /// In quotes.
    id: Vec<u8>,
    /// Text, thoughts or arguments.
    text: Vec<u8>,
    /// Members of an array.
    logprobs: Vec<u8>,
    signature: Vec<u8>,
    /// Members of the item that only its kind has.
    members: Vec<u8>,
}

impl Item {
    /// Writes it as it stands in `output`; `begun` as it stands in its first event.
    fn write(&self, status: &str, begun: bool, out: &mut Vec<u8>) {
        let kind: &[u8] = match self.kind {
            Kind::Text => b"{\"type\":\"message\",\"id\":",
            Kind::Thinking => b"{\"type\":\"reasoning\",\"id\":",
            Kind::ToolUse => b"{\"type\":\"function_call\",\"id\":",
        };
        out.extend_from_slice(kind);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(b",\"status\":");
        json::string(status, out);
        match self.kind {
            Kind::Text => {
                out.extend_from_slice(b",\"role\":\"assistant\",\"content\":[");
                if !begun {
                    self.part(out);
                }
                out.extend_from_slice(b"]}");
            }
            Kind::Thinking => {
                out.extend_from_slice(b",\"summary\":[");
                if !begun {
                    self.part(out);
                }
                out.push(b']');
                if !self.signature.is_empty() {
                    out.extend_from_slice(b",\"encrypted_content\":\"");
                    out.extend_from_slice(&self.signature);
                    out.push(b'"');
                }
                out.push(b'}');
            }
            Kind::ToolUse => {
                out.extend_from_slice(&self.members);
                out.extend_from_slice(b",\"arguments\":\"");
                out.extend_from_slice(&self.text);
                out.extend_from_slice(b"\"}");
            }
        }
    }

    /// Writes its one part, of text or thoughts.
    fn part(&self, out: &mut Vec<u8>) {
        let kind: &[u8] =
            if self.kind == Kind::Text { b"{\"type\":\"output_text\",\"text\":\"" } else { b"{\"type\":\"summary_text\",\"text\":\"" };
        out.extend_from_slice(kind);
        out.extend_from_slice(&self.text);
        out.push(b'"');
        if self.kind == Kind::Text {
            out.extend_from_slice(b",\"annotations\":[],\"logprobs\":[");
            out.extend_from_slice(&self.logprobs);
            out.push(b']');
        }
        out.push(b'}');
    }

    /// Writes where an event belongs.
    fn place(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"item_id\":");
        out.extend_from_slice(&self.id);
        self.at(out);
        out.extend_from_slice(match self.kind {
            Kind::Text => b",\"content_index\":0",
            Kind::Thinking => b",\"summary_index\":0",
            Kind::ToolUse => b"",
        });
    }

    fn at(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"output_index\":");
        json::integer(self.index, out);
    }
}

/// Writes an event of this name and number, with these members behind both.
fn frame(name: &str, sequence: &mut u64, out: &mut Vec<u8>, members: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: {\"type\":\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\",\"sequence_number\":");
    json::integer(*sequence, out);
    *sequence += 1;
    members(out);
    out.extend_from_slice(b"}\n\n");
}

impl Stream {
    /// Nothing yet.
    pub fn new(head: Head, shape: Shape) -> Stream {
        Stream { head, shape, order: Order::new(1), sequence: 0, output: Vec::new(), item: None, items: 0, finish: None }
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
            self.failed(error, out);
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
            Step::Broken => return self.failed(&out_of_order(), out),
            Step::Take => {}
        }
        match event {
            Event::Start { .. } => {
                for name in ["response.created", "response.in_progress"] {
                    self.response(name, "in_progress", None, None, None, out);
                }
            }
            Event::Open { block, .. } => {
                self.over("completed", out);
                self.open(block, out);
            }
            Event::Text { text, logprobs, .. } => self.delta("response.output_text.delta", text, Some(logprobs), out),
            Event::Thinking { text, .. } => self.delta("response.reasoning_summary_text.delta", text, None, out),
            Event::Arguments { json, .. } => self.delta("response.function_call_arguments.delta", json, None, out),
            Event::Signature { signature, .. } => {
                if let Some(item) = &mut self.item {
                    escape(signature, &mut item.signature);
                }
            }
            Event::Close { .. } => {
                // A call without arguments has the empty object.
                if self.item.as_ref().is_some_and(|item| item.kind == Kind::ToolUse && item.text.is_empty()) {
                    self.delta("response.function_call_arguments.delta", "{}", None, out);
                }
            }
            Event::Finish { reason, .. } => {
                let refused = matches!(reason, Finish::Refusal(_));
                if refused && self.item.as_ref().is_some_and(|item| item.kind == Kind::ToolUse) {
                    self.item = None;
                }
                self.over(if incomplete(reason).is_some() { "incomplete" } else { "completed" }, out);
                self.finish = Some(reason.clone());
            }
            Event::End { usage } => self.end(usage, out),
            Event::Fault(error) => self.failed(error, out),
        }
    }

    fn open(&mut self, block: &Block, out: &mut Vec<u8>) {
        let kind = Kind::of(block);
        let prefix = match kind {
            Kind::Text => "msg",
            Kind::Thinking => "rs",
            Kind::ToolUse => "fc",
        };
        let mut item = Item {
            kind,
            index: self.items,
            id: Vec::new(),
            text: Vec::new(),
            logprobs: Vec::new(),
            signature: Vec::new(),
            members: Vec::new(),
        };
        json::string(&format!("{prefix}_{}_{}", self.head.id, self.items), &mut item.id);
        self.items += 1;
        if let Block::ToolUse { id, name } = block {
            item.members.extend_from_slice(b",\"call_id\":");
            json::string(id, &mut item.members);
            item.members.extend_from_slice(b",\"name\":");
            json::string(name, &mut item.members);
        }
        frame("response.output_item.added", &mut self.sequence, out, |out| {
            item.at(out);
            out.extend_from_slice(b",\"item\":");
            item.write("in_progress", true, out);
        });
        let part = match kind {
            Kind::Text => "response.content_part.added",
            Kind::Thinking => "response.reasoning_summary_part.added",
            Kind::ToolUse => "",
        };
        if !part.is_empty() {
            frame(part, &mut self.sequence, out, |out| {
                item.place(out);
                out.extend_from_slice(b",\"part\":");
                item.part(out);
            });
        }
        self.item = Some(item);
    }

    fn delta(&mut self, name: &str, text: &str, logprobs: Option<&[TokenLogprob]>, out: &mut Vec<u8>) {
        let Some(item) = &mut self.item else { return };
        if text.is_empty() && logprobs.is_none_or(<[TokenLogprob]>::is_empty) {
            return;
        }
        // Escaped once, into what is kept; the frame copies it from there.
        let begin = item.text.len();
        escape(text, &mut item.text);
        let begin_logprobs = item.logprobs.len();
        if let Some(list) = logprobs.filter(|list| !list.is_empty()) {
            if begin_logprobs > 0 {
                item.logprobs.push(b',');
            }
            json::logprobs(list, &mut item.logprobs);
        }
        frame(name, &mut self.sequence, out, |out| {
            item.place(out);
            out.extend_from_slice(b",\"delta\":\"");
            out.extend_from_slice(item.text.get(begin..).unwrap_or_default());
            out.push(b'"');
            if logprobs.is_some() {
                let new = item.logprobs.get(begin_logprobs..).unwrap_or_default();
                out.extend_from_slice(b",\"logprobs\":[");
                out.extend_from_slice(new.strip_prefix(b",").unwrap_or(new));
                out.push(b']');
            }
        });
    }

    /// Ends the item that is not over, if there is one.
    fn over(&mut self, status: &str, out: &mut Vec<u8>) {
        let Some(item) = self.item.take() else { return };
        let (whole, name, part) = match item.kind {
            Kind::Text => ("text", "response.output_text.done", "response.content_part.done"),
            Kind::Thinking => ("text", "response.reasoning_summary_text.done", "response.reasoning_summary_part.done"),
            Kind::ToolUse => ("arguments", "response.function_call_arguments.done", ""),
        };
        frame(name, &mut self.sequence, out, |out| {
            item.place(out);
            out.extend_from_slice(b",\"");
            out.extend_from_slice(whole.as_bytes());
            out.extend_from_slice(b"\":\"");
            out.extend_from_slice(&item.text);
            out.push(b'"');
            match item.kind {
                Kind::Text => {
                    out.extend_from_slice(b",\"logprobs\":[");
                    out.extend_from_slice(&item.logprobs);
                    out.push(b']');
                }
                Kind::Thinking => {}
                Kind::ToolUse => out.extend_from_slice(&item.members),
            }
        });
        if !part.is_empty() {
            frame(part, &mut self.sequence, out, |out| {
                item.place(out);
                out.extend_from_slice(b",\"part\":");
                item.part(out);
            });
        }
        let begin = self.keep(&item, status);
        let kept = self.output.get(begin..).unwrap_or_default();
        frame("response.output_item.done", &mut self.sequence, out, |out| {
            item.at(out);
            out.extend_from_slice(b",\"item\":");
            out.extend_from_slice(kept);
        });
    }

    /// Adds an item to the output; says where it begins there.
    fn keep(&mut self, item: &Item, status: &str) -> usize {
        if !self.output.is_empty() {
            self.output.push(b',');
        }
        let begin = self.output.len();
        item.write(status, false, &mut self.output);
        begin
    }

    fn end(&mut self, usage: &Tokens, out: &mut Vec<u8>) {
        let finish = self.finish.take().unwrap_or(Finish::EndTurn);
        if let Finish::Refusal(refusal) = &finish
            && self.items == 0
        {
            self.refuse(&refusal.explanation, out);
        }
        match incomplete(&finish) {
            None => self.response("response.completed", "completed", None, None, Some(usage), out),
            Some(reason) => self.response("response.incomplete", "incomplete", Some(reason), None, Some(usage), out),
        }
    }

    /// Tells a refusal as the one item there is.
    fn refuse(&mut self, explanation: &str, out: &mut Vec<u8>) {
        let mut id = Vec::new();
        json::string(&format!("msg_{}_0", self.head.id), &mut id);
        let mut text = Vec::new();
        json::string(explanation, &mut text);
        let item = |status: &[u8], part: &[u8]| {
            let role = b",\"role\":\"assistant\",\"content\":[";
            [b"{\"type\":\"message\",\"id\":", id.as_slice(), b",\"status\":", status, role, part, b"]}"].concat()
        };
        let place = [b",\"item_id\":", id.as_slice(), b",\"output_index\":0,\"content_index\":0"].concat();
        let part = [b"{\"type\":\"refusal\",\"refusal\":", text.as_slice(), b"}"].concat();
        let done = item(b"\"completed\"", &part);
        let events: [(&str, Vec<u8>); 6] = [
            ("response.output_item.added", [b",\"output_index\":0,\"item\":", item(b"\"in_progress\"", b"").as_slice()].concat()),
            ("response.content_part.added", [place.as_slice(), b",\"part\":{\"type\":\"refusal\",\"refusal\":\"\"}"].concat()),
            ("response.refusal.delta", [place.as_slice(), b",\"delta\":", &text].concat()),
            ("response.refusal.done", [place.as_slice(), b",\"refusal\":", &text].concat()),
            ("response.content_part.done", [place.as_slice(), b",\"part\":", &part].concat()),
            ("response.output_item.done", [b",\"output_index\":0,\"item\":", done.as_slice()].concat()),
        ];
        for (name, members) in events {
            frame(name, &mut self.sequence, out, |out| out.extend_from_slice(&members));
        }
        self.output = done;
        self.items = 1;
    }

    fn failed(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        if !self.order.is_started() || self.sequence == 0 {
            return frame("error", &mut self.sequence, out, |out| {
                out.extend_from_slice(b",\"code\":");
                json::string(error_code(error), out);
                out.extend_from_slice(b",\"message\":");
                json::string(&error.message, out);
                out.extend_from_slice(b",\"param\":");
                nullable(error.path.as_ref().map(param).as_deref(), out);
            });
        }
        // What was said of a text was said; a call that is not whole must not look like one.
        if let Some(item) = self.item.take().filter(|item| item.kind != Kind::ToolUse) {
            self.keep(&item, "incomplete");
        }
        self.response("response.failed", "failed", None, Some(error), None, out);
    }

    fn response(
        &mut self,
        name: &str,
        status: &str,
        incomplete: Option<&str>,
        error: Option<&ApiError>,
        usage: Option<&Tokens>,
        out: &mut Vec<u8>,
    ) {
        let (head, shape, output) = (&self.head, &self.shape, &self.output);
        frame(name, &mut self.sequence, out, |out| {
            out.extend_from_slice(b",\"response\":{\"id\":\"resp_");
            escape(&head.id, out);
            out.extend_from_slice(b"\",\"object\":\"response\",\"created_at\":");
            json::integer(head.created, out);
            out.extend_from_slice(b",\"status\":");
            json::string(status, out);
            out.extend_from_slice(b",\"error\":");
            match error {
                None => out.extend_from_slice(b"null"),
                Some(error) => {
                    out.extend_from_slice(b"{\"code\":");
                    json::string(error_code(error), out);
                    out.extend_from_slice(b",\"message\":");
                    json::string(&error.message, out);
                    out.push(b'}');
                }
            }
            out.extend_from_slice(b",\"incomplete_details\":");
            match incomplete {
                None => out.extend_from_slice(b"null"),
                Some(reason) => {
                    out.extend_from_slice(b"{\"reason\":");
                    json::string(reason, out);
                    out.push(b'}');
                }
            }
            out.extend_from_slice(b",\"model\":");
            json::string(&head.model, out);
            out.extend_from_slice(b",\"output\":[");
            out.extend_from_slice(output);
            out.extend_from_slice(b"],\"usage\":");
            // A few whole numbers, which always have a JSON form.
            let usage = usage.and_then(|usage| serde_json::to_vec(&Usage::from(*usage)).ok());
            out.extend_from_slice(usage.as_deref().unwrap_or(b"null"));
            out.extend_from_slice(b",\"service_tier\":");
            json::string(tier(head.tier), out);
            out.push(b',');
            out.extend_from_slice(shape.echo.members().as_bytes());
            out.push(b'}');
        });
    }
}
