//! An answer as one body.

use std::collections::BTreeMap;

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Block, Event, Finish, Usage as Tokens};
use firecrest_contract::openai::chat::{Choice, Completion, Logprobs, Reply, ReplyCall, ReplyFunction, TokenLogprob};
use firecrest_policy::safety::gate::Judged;

use super::Shape;
use crate::encode::Head;
use crate::encode::openai::{Order, Step, broke_off, finish_reason, out_of_order, tier, told};

/// Collects answers.
#[derive(Debug)]
pub struct Whole {
    head: Head,
    order: Order,
    choices: BTreeMap<u32, Building>,
    end: Option<Result<Tokens, ApiError>>,
}

/// An answer as it grows.
#[derive(Debug, Default)]
struct Building {
    text: String,
    thoughts: String,
    calls: Vec<ReplyCall>,
    logprobs: Vec<TokenLogprob>,
    finish: Option<Finish>,
}

impl Whole {
    /// Nothing yet.
    pub fn new(head: Head, shape: Shape) -> Whole {
        Whole { head, order: Order::new(shape.choices), choices: BTreeMap::new(), end: None }
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
            id: format!("chatcmpl-{}", self.head.id),
            object: "chat.completion".to_owned(),
            created: self.head.created,
            model: self.head.model,
            choices: self.choices.into_iter().map(|(index, building)| building.finish(index)).collect(),
            usage: Some(usage.into()),
            service_tier: Some(tier(self.head.tier).to_owned()),
            system_fingerprint: None,
        })
    }

    /// [`Whole::completion`], as a body.
    ///
    /// # Errors
    /// As [`Whole::completion`].
    pub fn body(self) -> Result<Vec<u8>, ApiError> {
        serde_json::to_vec(&self.completion()?).map_err(|_| ApiError::new(ErrorKind::Api, "the answer has no JSON form"))
    }

    pub(super) fn take(&mut self, event: Event) {
        match self.order.take(&event) {
            Step::Pass => return,
            Step::Broken => {
                self.end = Some(Err(out_of_order()));
                return;
            }
            Step::Take => {}
        }
        match event {
            Event::Start { .. } | Event::Signature { .. } | Event::Open { block: Block::Text | Block::Thinking, .. } => {}
            Event::Open { choice, block: Block::ToolUse { id, name } } => {
                let function = ReplyFunction { name, arguments: String::new() };
                self.choice(choice).calls.push(ReplyCall { id, r#type: "function".to_owned(), function });
            }
            Event::Text { choice, text, logprobs } => {
                let building = self.choice(choice);
                building.text.push_str(&text);
                building.logprobs.extend(logprobs.into_iter().map(told));
            }
            Event::Thinking { choice, text } => self.choice(choice).thoughts.push_str(&text),
            Event::Arguments { choice, json } => {
                if let Some(call) = self.choice(choice).calls.last_mut() {
                    call.function.arguments.push_str(&json);
                }
            }
            Event::Close { choice } => {
                // A call without arguments has the empty object. After a block of text the last call has its arguments already.
                if let Some(call) = self.choice(choice).calls.last_mut()
                    && call.function.arguments.is_empty()
                {
                    call.function.arguments.push_str("{}");
                }
            }
            Event::Finish { choice, reason } => self.choice(choice).finish = Some(reason),
            Event::End { usage } => self.end = Some(Ok(usage)),
            Event::Fault(error) => self.end = Some(Err(error)),
        }
    }

    fn choice(&mut self, choice: u32) -> &mut Building {
        self.choices.entry(choice).or_default()
    }
}

impl Building {
    fn finish(self, index: u32) -> Choice {
        let finish = self.finish.unwrap_or(Finish::EndTurn);
        let mut reply = Reply { role: "assistant".to_owned(), content: None, refusal: None, reasoning_content: None, tool_calls: None };
        let mut logprobs = None;
        // What was not safe to say is not said, nor what led to it.
        if !matches!(finish, Finish::Refusal(_)) {
            reply.content = (!self.text.is_empty() || self.calls.is_empty()).then_some(self.text);
            reply.reasoning_content = (!self.thoughts.is_empty()).then_some(self.thoughts);
            reply.tool_calls = (!self.calls.is_empty()).then_some(self.calls);
            logprobs = (!self.logprobs.is_empty()).then_some(Logprobs { content: Some(self.logprobs), refusal: None });
        }
        Choice { index, message: reply, logprobs, finish_reason: finish_reason(&finish).to_owned() }
    }
}
