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
    /// Where the text of an answer begins, in characters from the start of its prompt: by prompt, 0 if it is not known here.
    pub starts: Vec<u64>,
}

impl Shape {
    /// Of an ask: answers begin after their prompts, unless they begin with them. How many characters token ids have only a tokenizer knows.
    pub fn of(ask: &Ask, include_usage: bool) -> Shape {
        let start = |raw: &RawPrompt| match raw {
            RawPrompt::Text(text) | RawPrompt::Infill { prefix: text, .. } if !ask.echo => text.chars().count() as u64,
            _ => 0,
        };
        Shape { choices: ask.answers(), include_usage, starts: ask.raw.iter().map(start).collect() }
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

/// Where tokens begin in a text, in characters: the one that a token's first byte is in. `before` is how many there are before this piece.
fn offsets(text: &str, tokens: &[TokenLogprob], before: u64) -> Vec<u64> {
    let mut starts = text.char_indices().map(|(at, _)| at).peekable();
    let (mut characters, mut byte) = (0_u64, 0_usize);
    let mut list = Vec::with_capacity(tokens.len());
    for of in tokens {
        // Characters that begin before or at this byte; the last of them is the one it is in.
        while starts.next_if(|start| *start <= byte).is_some() {
            characters += 1;
        }
        let within = if byte < text.len() { characters.saturating_sub(1) } else { characters };
        list.push(before + within);
        byte = byte.saturating_add(of.token.0.len());
    }
    list
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
    /// Characters of each answer.
    characters: BTreeMap<u32, u64>,
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
        Stream { order: Order::new(shape.choices), shape, prefix, characters: BTreeMap::new() }
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
        let start = self.shape.start(choice);
        let characters = self.characters.entry(choice).or_insert(start);
        let before = *characters;
        *characters += text.chars().count() as u64;
        if logprobs.is_empty() {
            out.extend_from_slice(b"\",\"logprobs\":null");
        } else {
            let offsets = offsets(text, logprobs, before);
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
            members(&of.top, out, |(top, logprob), out| {
                json::string(&token(top), out);
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
    characters: u64,
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
        self.logprobs.text_offset.extend(offsets(text, logprobs, start + self.characters));
        self.characters += text.chars().count() as u64;
        for of in logprobs {
            self.logprobs.tokens.push(token(&of.token));
            let known = !of.logprob.is_nan();
            self.logprobs.token_logprobs.push(known.then(|| finite(of.logprob)));
            let top = || of.top.iter().map(|(top, logprob)| (token(top), Value::from(json::short(*logprob)))).collect();
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
