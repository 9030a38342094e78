//! An answer as one body.

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Block, Event, Finish, Usage as Tokens};
use firecrest_contract::messages::{Caller, ContentBlock, Message, TextBlock, ThinkingBlock, ToolUseBlock, Usage};
use firecrest_policy::safety::gate::Judged;
use serde_json::{Map, Value};

use super::{Head, Kind, Shape, empty, ending, json, out_of_order};

/// Collects an answer.
#[derive(Debug)]
pub struct Whole {
    head: Head,
    shape: Shape,
    blocks: Vec<Building>,
    started: bool,
    /// The last block is open.
    open: bool,
    finish: Option<Finish>,
    end: Option<Result<Tokens, ApiError>>,
}

/// A block as it grows.
#[derive(Debug)]
struct Building {
    block: Block,
    /// Text, thoughts, or the text of a call's arguments.
    text: String,
    signature: String,
}

impl Whole {
    /// Nothing yet.
    pub fn new(head: Head, shape: Shape) -> Whole {
        Whole { head, shape, blocks: Vec::new(), started: false, open: false, finish: None, end: None }
    }

    /// Takes what happened next. What comes behind the end is passed over.
    pub fn push(&mut self, event: Judged) {
        self.take(event.into_event());
    }

    /// The answer, once it is at its end.
    ///
    /// # Errors
    /// What it ended with instead, or `api_error` where its events have no end, no order, or a call whose arguments are not JSON.
    pub fn message(self) -> Result<Message, ApiError> {
        let Some(end) = self.end else {
            return Err(ApiError::new(ErrorKind::Api, "the answer broke off; try again"));
        };
        let usage = end?;
        let Some(finish) = self.finish else { return Err(out_of_order()) };
        let mut message = empty(&self.head, &self.shape, &usage);
        message.usage = Usage::new(&usage, self.head.tier, self.shape.beta);
        // What was not safe to say is not said, nor what led to it.
        if !matches!(finish, Finish::Refusal(_)) {
            message.content = self.blocks.into_iter().map(Building::finish).collect::<Result<_, _>>()?;
        }
        let ending = ending(finish, self.shape.beta);
        message.stop_reason = ending.stop_reason;
        message.stop_sequence = ending.stop_sequence;
        message.stop_details = ending.stop_details;
        Ok(message)
    }

    /// [`Whole::message`], as a body.
    ///
    /// # Errors
    /// As [`Whole::message`].
    pub fn body(self) -> Result<Vec<u8>, ApiError> {
        let message = self.message()?;
        serde_json::to_vec(&message).map_err(|_| ApiError::new(ErrorKind::Api, "the answer has no JSON form"))
    }

    pub(crate) fn take(&mut self, event: Event) {
        if self.end.is_some() {
            return;
        }
        match event {
            Event::Start { .. } if !self.started => self.started = true,
            Event::Fault(error) => self.end = Some(Err(error)),
            Event::End { usage } if self.started && self.finish.is_some() => self.end = Some(Ok(usage)),
            Event::Open { choice: 0, block } => self.open(block),
            Event::Text { choice: 0, text, .. } => self.append(Kind::Text, &text),
            Event::Thinking { choice: 0, text } => {
                let text = if self.shape.hidden_thinking { "" } else { &text };
                self.append(Kind::Thinking, text);
            }
            Event::Arguments { choice: 0, json } => self.append(Kind::ToolUse, &json),
            Event::Signature { choice: 0, signature } => {
                if let Some(building) = self.building(Kind::Thinking) {
                    building.signature = signature;
                }
            }
            Event::Close { choice: 0 } => self.close(),
            Event::Finish { choice: 0, reason } if self.started && self.finish.is_none() => {
                self.open = false;
                self.finish = Some(reason);
            }
            Event::Start { .. } | Event::End { .. } | Event::Finish { choice: 0, .. } => self.broken(),
            Event::Open { .. }
            | Event::Text { .. }
            | Event::Thinking { .. }
            | Event::Arguments { .. }
            | Event::Signature { .. }
            | Event::Close { .. }
            | Event::Finish { .. } => {
                if !self.started {
                    self.broken();
                }
            }
        }
    }

    fn open(&mut self, block: Block) {
        if self.finish.is_some() {
            return;
        }
        if !self.started || self.open {
            return self.broken();
        }
        self.open = true;
        self.blocks.push(Building { block, text: String::new(), signature: String::new() });
    }

    fn append(&mut self, kind: Kind, text: &str) {
        if let Some(building) = self.building(kind) {
            building.text.push_str(text);
        }
    }

    fn close(&mut self) {
        if self.finish.is_some() {
            return;
        }
        if !self.open {
            return self.broken();
        }
        self.open = false;
    }

    /// The open block, which has to be of this kind.
    fn building(&mut self, kind: Kind) -> Option<&mut Building> {
        if self.finish.is_some() {
            return None;
        }
        if !self.open || self.blocks.last().is_none_or(|building| Kind::of(&building.block) != kind) {
            self.broken();
            return None;
        }
        self.blocks.last_mut()
    }

    fn broken(&mut self) {
        self.end = Some(Err(out_of_order()));
    }
}

impl Building {
    fn finish(self) -> Result<ContentBlock, ApiError> {
        Ok(match self.block {
            Block::Text => ContentBlock::Text(TextBlock { text: self.text, citations: None }),
            Block::Thinking => ContentBlock::Thinking(ThinkingBlock { thinking: self.text, signature: self.signature }),
            Block::ToolUse { id, name } => {
                let input = match self.text.trim_ascii() {
                    "" => Some(Value::Object(Map::new())),
                    text => json::complete(text),
                };
                let Some(input) = input else {
                    return Err(ApiError::new(ErrorKind::Api, "the model called a tool with arguments that are not JSON; try again"));
                };
                ContentBlock::ToolUse(ToolUseBlock { id, name, input, caller: Caller::default() })
            }
        })
    }
}
