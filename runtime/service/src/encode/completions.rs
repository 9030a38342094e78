//! Judged events as text completions: [`Whole`] as one body of JSON, [`Stream`] as chunks.
//!
//! Raw text has no thoughts and calls no tools: blocks of these kinds are passed over. What was not safe to say ends with `content_filter`;
//! told whole,
//! nothing of that answer is said.

use std::collections::BTreeMap;

use firecrest_contract::ask::{Ask, RawPrompt};
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Event, Finish, TokenLogprob, TokenText, Usage as Tokens};
use firecrest_contract::openai::chat::Usage;
use firecrest_contract::openai::completions::{Choice, Completion, Logprobs};
use firecrest_policy::safety::gate::Judged;
use firecrest_policy::safety::judge::PromptText;
use serde_json::{Map, Value};

use super::Head;
use super::json::{self, escape, finite};
use super::openai::{self, Order, PING, Step, broke_off, error_frame, out_of_order};

#[cfg(test)]
mod tests;

/// How the caller wants an answer told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Answers to all prompts: `n` times the number of prompts. Events of others are passed over.
    pub choices: u32,
    /// Whether a stream ends with a chunk that says what it took.
    pub include_usage: bool,
    /// Where the text of an answer begins, in characters from the start of its prompt: by prompt.
    pub starts: Vec<u64>,
}

impl Shape {
    /// Of an ask: answers begin after their prompts, unless they begin with them. `prompts`: what the ask's prompts say, token ids spelled out.
    pub fn of(ask: &Ask, prompts: &[PromptText], include_usage: bool) -> Shape {
        let start = |(raw, spelled): (&RawPrompt, &PromptText)| match raw {
            _ if ask.echo => 0,
            RawPrompt::Text(text) | RawPrompt::Infill { prefix: text, .. } => text.chars().count() as u64,
            RawPrompt::Tokens(_) => spelled.text.chars().count() as u64,
        };
        Shape { choices: ask.answers(), include_usage, starts: ask.raw.iter().zip(prompts).map(start).collect() }
    }

    fn start(&self, choice: u32) -> u64 {
        let each = self.choices.max(1) as usize / self.starts.len().max(1);
        self.starts.get(choice as usize / each.max(1)).copied().unwrap_or(0)
    }
}

/// A token as this form tells it: text, or its bytes by number where they are no text, so that two tokens are never the same.
fn token(token: &TokenText) -> String {
    match std::str::from_utf8(&token.0) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let bytes = token.0.iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", bytes.collect::<String>())
        }
    }
}

/// The most probable tokens of a place, and the one that is there if it is none of them: a list of 5 has up to 6.
fn probable(of: &TokenLogprob) -> Vec<(String, f32)> {
    let mut list: Vec<(String, f32)> = of.top.iter().map(|(top, logprob)| (token(top), *logprob)).collect();
    let own = token(&of.token);
    if !list.is_empty() && !list.iter().any(|(top, _)| *top == own) {
        list.push((own, of.logprob));
    }
    list
}

/// Where the tokens of a text begin, in characters. What tokens spell together is the text, so it is told from their bytes alone, however the text is cut.
#[derive(Clone, Debug, Default)]
struct Offsets {
    /// Characters that are whole.
    characters: u64,
    /// The beginning of the next, three bytes at most.
    partial: Vec<u8>,
}

impl Offsets {
    fn from(start: u64) -> Offsets {
        Offsets { characters: start, partial: Vec::new() }
    }

    /// Where the next token begins: at the character that its first byte is in.
    fn next(&mut self, token: &TokenText) -> u64 {
        // What can't go on a character ends it.
        if !self.partial.is_empty() && token.0.first().is_some_and(|byte| !(0x80..0xC0).contains(byte)) {
            self.partial.clear();
            self.characters += 1;
        }
        let begins = self.characters;
        self.partial.extend_from_slice(&token.0);
        loop {
            match std::str::from_utf8(&self.partial) {
                Ok(whole) => {
                    self.characters += whole.chars().count() as u64;
                    self.partial.clear();
                    return begins;
                }
                Err(error) => {
                    let whole = self.partial.get(..error.valid_up_to()).unwrap_or_default();
                    self.characters += String::from_utf8_lossy(whole).chars().count() as u64;
                    // Of bytes that are no character the text has one that says so.
                    self.characters += u64::from(error.error_len().is_some());
                    self.partial.drain(..error.valid_up_to() + error.error_len().unwrap_or(0));
                    if error.error_len().is_none() {
                        return begins;
                    }
                }
            }
        }
    }
}

/// `finish_reason`: nothing calls tools here.
fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::ToolUse => "stop",
        other => openai::finish_reason(other),
    }
}

/// Tells answers as they come.
#[derive(Debug)]
pub struct Stream {
    shape: Shape,
    order: Order,
    /// Everything of a chunk up to the index of its choice.
    prefix: Vec<u8>,
    /// Where the next token of each answer begins.
    offsets: BTreeMap<u32, Offsets>,
}

impl Stream {
    /// Nothing yet.
    pub fn new(head: Head, shape: Shape) -> Stream {
        let mut prefix = b"data: {\"id\":\"cmpl-".to_vec();
        escape(&head.id, &mut prefix);
        prefix.extend_from_slice(b"\",\"object\":\"text_completion\",\"created\":");
        json::integer(head.created, &mut prefix);
        prefix.extend_from_slice(b",\"model\":");
        json::string(&head.model, &mut prefix);
        prefix.extend_from_slice(b",\"choices\":[");
        Stream { order: Order::new(shape.choices), shape, prefix, offsets: BTreeMap::new() }
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

    fn take(&mut self, event: &Event, out: &mut Vec<u8>) {
        match self.order.take(event) {
            Step::Pass => return,
            Step::Broken => return error_frame(&out_of_order(), out),
            Step::Take => {}
        }
        match event {
            Event::Text { choice, text, logprobs } => self.text(*choice, text, logprobs, out),
            Event::Finish { choice, reason } => {
                self.begin(*choice, out);
                out.extend_from_slice(b"\",\"logprobs\":null,\"finish_reason\":\"");
                out.extend_from_slice(finish_reason(reason).as_bytes());
                out.extend_from_slice(b"\"}]");
                self.end_chunk(out);
            }
            Event::End { usage } => {
                if self.shape.include_usage {
                    out.extend_from_slice(&self.prefix);
                    out.extend_from_slice(b"],\"usage\":");
                    // Once an answer: a few whole numbers, which always have a JSON form.
                    out.extend_from_slice(&serde_json::to_vec(&Usage::from(*usage)).unwrap_or_else(|_| b"null".to_vec()));
                    out.extend_from_slice(b"}\n\n");
                }
                out.extend_from_slice(b"data: [DONE]\n\n");
            }
            Event::Fault(error) => error_frame(error, out),
            Event::Start { .. }
            | Event::Open { .. }
            | Event::Thinking { .. }
            | Event::Signature { .. }
            | Event::Arguments { .. }
            | Event::Close { .. } => {}
        }
    }

    fn text(&mut self, choice: u32, text: &str, logprobs: &[TokenLogprob], out: &mut Vec<u8>) {
        if text.is_empty() && logprobs.is_empty() {
            return;
        }
        self.begin(choice, out);
        escape(text, out);
        if logprobs.is_empty() {
            out.extend_from_slice(b"\",\"logprobs\":null");
        } else {
            let start = self.shape.start(choice);
            let offsets = self.offsets.entry(choice).or_insert_with(|| Offsets::from(start));
            let offsets: Vec<u64> = logprobs.iter().map(|of| offsets.next(&of.token)).collect();
            out.extend_from_slice(b"\",\"logprobs\":");
            write_logprobs(logprobs, &offsets, out);
        }
        out.extend_from_slice(b",\"finish_reason\":null}]");
        self.end_chunk(out);
    }

    /// A chunk up to the inside of its text.
    fn begin(&self, choice: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b"{\"index\":");
        json::integer(u64::from(choice), out);
        out.extend_from_slice(b",\"text\":\"");
    }

    fn end_chunk(&self, out: &mut Vec<u8>) {
        let end: &[u8] = if self.shape.include_usage { b",\"usage\":null}\n\n" } else { b"}\n\n" };
        out.extend_from_slice(end);
    }
}

/// Writes the lists side by side.
fn write_logprobs(list: &[TokenLogprob], offsets: &[u64], out: &mut Vec<u8>) {
    fn members<T>(list: &[T], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
        for (index, member) in list.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write(member, out);
        }
    }
    out.extend_from_slice(b"{\"tokens\":[");
    members(list, out, |of, out| json::string(&token(&of.token), out));
    out.extend_from_slice(b"],\"token_logprobs\":[");
    members(list, out, |of, out| match of.logprob.is_nan() {
        true => out.extend_from_slice(b"null"),
        false => json::logprob(of.logprob, out),
    });
    if list.iter().all(|of| of.top.is_empty()) {
        out.extend_from_slice(b"],\"top_logprobs\":null");
    } else {
        out.extend_from_slice(b"],\"top_logprobs\":[");
        members(list, out, |of, out| {
            if of.logprob.is_nan() {
                return out.extend_from_slice(b"null");
            }
            out.push(b'{');
            members(&probable(of), out, |(top, logprob), out| {
                json::string(top, out);
                out.push(b':');
                json::logprob(*logprob, out);
            });
            out.push(b'}');
        });
        out.push(b']');
    }
    out.extend_from_slice(b",\"text_offset\":[");
    members(offsets, out, |offset, out| json::integer(*offset, out));
    out.extend_from_slice(b"]}");
}

/// Collects answers.
#[derive(Debug)]
pub struct Whole {
    head: Head,
    shape: Shape,
    order: Order,
    choices: BTreeMap<u32, Building>,
    end: Option<Result<Tokens, ApiError>>,
}

/// An answer as it grows.
#[derive(Debug, Default)]
struct Building {
    text: String,
    offsets: Option<Offsets>,
    logprobs: Logprobs,
    tops: Vec<Option<Map<String, Value>>>,
    finish: Option<Finish>,
}

impl Whole {
    /// Nothing yet.
    pub fn new(head: Head, shape: Shape) -> Whole {
        Whole { head, order: Order::new(shape.choices), shape, choices: BTreeMap::new(), end: None }
    }

    /// Takes what happened next. What comes behind the end is passed over.
    pub fn push(&mut self, event: Judged) {
        self.take(event.into_event());
    }

    /// The answers, once they are at their end.
    ///
    /// # Errors
    /// What they ended with instead, or `api_error` where their events have no end or no order.
    pub fn completion(self) -> Result<Completion, ApiError> {
        let usage = self.end.ok_or_else(broke_off)??;
        Ok(Completion {
            id: format!("cmpl-{}", self.head.id),
            object: "text_completion".to_owned(),
            created: self.head.created,
            model: self.head.model,
            choices: self.choices.into_iter().map(|(index, building)| building.finish(index)).collect(),
            usage: Some(usage.into()),
        })
    }

    /// [`Whole::completion`], as a body.
    ///
    /// # Errors
    /// As [`Whole::completion`].
    pub fn body(self) -> Result<Vec<u8>, ApiError> {
        serde_json::to_vec(&self.completion()?).map_err(|_| ApiError::new(ErrorKind::Api, "the answer has no JSON form"))
    }

    fn take(&mut self, event: Event) {
        match self.order.take(&event) {
            Step::Pass => return,
            Step::Broken => {
                self.end = Some(Err(out_of_order()));
                return;
            }
            Step::Take => {}
        }
        match event {
            Event::Text { choice, text, logprobs } => {
                let start = self.shape.start(choice);
                self.choices.entry(choice).or_default().add(&text, &logprobs, start);
            }
            Event::Finish { choice, reason } => self.choices.entry(choice).or_default().finish = Some(reason),
            Event::End { usage } => self.end = Some(Ok(usage)),
            Event::Fault(error) => self.end = Some(Err(error)),
            Event::Start { .. }
            | Event::Open { .. }
            | Event::Thinking { .. }
            | Event::Signature { .. }
            | Event::Arguments { .. }
            | Event::Close { .. } => {}
        }
    }
}

impl Building {
    fn add(&mut self, text: &str, logprobs: &[TokenLogprob], start: u64) {
        self.text.push_str(text);
        let offsets = self.offsets.get_or_insert_with(|| Offsets::from(start));
        for of in logprobs {
            self.logprobs.text_offset.push(offsets.next(&of.token));
            self.logprobs.tokens.push(token(&of.token));
            let known = !of.logprob.is_nan();
            self.logprobs.token_logprobs.push(known.then(|| finite(of.logprob)));
            let top = || probable(of).into_iter().map(|(top, logprob)| (top, Value::from(json::short(logprob)))).collect();
            self.tops.push(known.then(top));
        }
    }

    fn finish(mut self, index: u32) -> Choice {
        let finish = self.finish.unwrap_or(Finish::EndTurn);
        let finish_reason = Some(finish_reason(&finish).to_owned());
        // What was not safe to say is not said, nor what led to it.
        if matches!(finish, Finish::Refusal(_)) {
            return Choice { index, text: String::new(), logprobs: None, finish_reason };
        }
        self.logprobs.top_logprobs = self.tops.iter().flatten().any(|top| !top.is_empty()).then_some(self.tops);
        let logprobs = (!self.logprobs.tokens.is_empty()).then_some(self.logprobs);
        Choice { index, text: self.text, logprobs, finish_reason }
    }
}
