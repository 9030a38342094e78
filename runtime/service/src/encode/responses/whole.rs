//! A response as one body.

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Block, Event, Finish, Usage as Tokens};
use firecrest_contract::openai::chat::TokenLogprob;
use firecrest_contract::openai::responses::{Incomplete, OutputItem, OutputPart, Response, SummaryPart};
use firecrest_policy::safety::gate::Judged;

use super::{Shape, incomplete};
use crate::encode::Head;
use crate::encode::openai::{Order, Step, broke_off, out_of_order, tier, told};

/// Collects a response.
#[derive(Debug)]
pub struct Whole {
    head: Head,
    shape: Shape,
    order: Order,
    items: Vec<Building>,
    finish: Option<Finish>,
    end: Option<Result<Tokens, ApiError>>,
}

/// An item as it grows.
#[derive(Debug)]
struct Building {
    block: Block,
    /// Text, thoughts or arguments.
    text: String,
    logprobs: Vec<TokenLogprob>,
    signature: Option<String>,
}

impl Whole {
    /// Nothing yet.
    pub fn new(head: Head, shape: Shape) -> Whole {
        Whole { head, shape, order: Order::new(1), items: Vec::new(), finish: None, end: None }
    }

    /// Takes what happened next. What comes behind the end is passed over.
    pub fn push(&mut self, event: Judged) {
        self.take(event.into_event());
    }

    /// The response, once it is at its end.
    ///
    /// # Errors
    /// What it ended with instead, or `api_error` where its events have no end or no order.
    pub fn response(self) -> Result<Response, ApiError> {
        let usage = self.end.ok_or_else(broke_off)??;
        let finish = self.finish.unwrap_or(Finish::EndTurn);
        let reason = incomplete(&finish);
        let last = self.items.len().saturating_sub(1);
        let id = &self.head.id;
        let output = match finish {
            // What was not safe to say is not said, nor what led to it.
            Finish::Refusal(refusal) => vec![OutputItem::Message {
                id: format!("msg_{id}_0"),
                status: "completed".to_owned(),
                role: "assistant".to_owned(),
                content: vec![OutputPart::Refusal { refusal: refusal.explanation }],
            }],
            _ => {
                let status = |index| if reason.is_some() && index == last { "incomplete" } else { "completed" };
                let items = self.items.into_iter().enumerate();
                items.map(|(index, item)| item.finish(&format!("{id}_{index}"), status(index))).collect()
            }
        };
        Ok(Response {
            id: format!("resp_{id}"),
            object: "response".to_owned(),
            created_at: self.head.created,
            status: if reason.is_some() { "incomplete" } else { "completed" }.to_owned(),
            error: None,
            incomplete_details: reason.map(|reason| Incomplete { reason: reason.to_owned() }),
            model: self.head.model,
            output,
            usage: Some(usage.into()),
            service_tier: Some(tier(self.head.tier).to_owned()),
            echo: serde_json::from_str(&format!("{{{}}}", self.shape.echo.members())).unwrap_or_default(),
        })
    }

    /// [`Whole::response`], as a body.
    ///
    /// # Errors
    /// As [`Whole::response`].
    pub fn body(self) -> Result<Vec<u8>, ApiError> {
        serde_json::to_vec(&self.response()?).map_err(|_| ApiError::new(ErrorKind::Api, "the response has no JSON form"))
    }

    pub(crate) fn take(&mut self, event: Event) {
        match self.order.take(&event) {
            Step::Pass => return,
            Step::Broken => {
                self.end = Some(Err(out_of_order()));
                return;
            }
            Step::Take => {}
        }
        match event {
            Event::Start { .. } => {}
            Event::Open { block, .. } => self.items.push(Building { block, text: String::new(), logprobs: Vec::new(), signature: None }),
            Event::Finish { reason, .. } => self.finish = Some(reason),
            Event::End { usage } => self.end = Some(Ok(usage)),
            Event::Fault(error) => self.end = Some(Err(error)),
            Event::Text { .. } | Event::Thinking { .. } | Event::Signature { .. } | Event::Arguments { .. } | Event::Close { .. } => {
                if let Some(item) = self.items.last_mut() {
                    item.add(event);
                }
            }
        }
    }
}

impl Building {
    fn add(&mut self, event: Event) {
        match event {
            Event::Text { text, logprobs, .. } => {
                self.text.push_str(&text);
                self.logprobs.extend(logprobs.into_iter().map(told));
            }
            Event::Thinking { text, .. } => self.text.push_str(&text),
            Event::Arguments { json, .. } => self.text.push_str(&json),
            Event::Signature { signature, .. } => self.signature.get_or_insert_default().push_str(&signature),
            // A call without arguments has the empty object.
            Event::Close { .. } if self.text.is_empty() && matches!(self.block, Block::ToolUse { .. }) => self.text.push_str("{}"),
            _ => {}
        }
    }

    fn finish(self, id: &str, status: &str) -> OutputItem {
        let status = status.to_owned();
        match self.block {
            Block::Text => OutputItem::Message {
                id: format!("msg_{id}"),
                status,
                role: "assistant".to_owned(),
                content: vec![OutputPart::OutputText { text: self.text, annotations: Vec::new(), logprobs: self.logprobs }],
            },
            Block::Thinking => OutputItem::Reasoning {
                id: format!("rs_{id}"),
                status,
                summary: vec![SummaryPart::SummaryText { text: self.text }],
                encrypted_content: self.signature.filter(|signature| !signature.is_empty()),
            },
            Block::ToolUse { id: call_id, name } => {
                OutputItem::FunctionCall { id: format!("fc_{id}"), status, call_id, name, arguments: self.text }
            }
        }
    }
}
