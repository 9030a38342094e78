//! Judged events as the Messages API tells them: [`Whole`] as one body of JSON, [`Stream`] as server-sent events.
//!
//! This dialect has one answer. Events of any choice but the first are passed over, here as there: who asks in this dialect can't ask for
//! more, so they can only be a backend's mistake, and the first answer is right without them.
//!
//! A backend whose events come in an order that can't be told is a fault of ours: the answer ends with `api_error`. Nothing is guessed.

mod frames;
mod json;
mod stream;
mod whole;

#[cfg(test)]
mod tests;

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{self, Finish};
use firecrest_contract::messages::{AssistantTag, Diagnostics, Message, MessageChange, MessageTag, RefusalDetails, StopReason, Usage};
use serde_json::Value;

pub use stream::Stream;
pub use whole::Whole;

use super::Head;

/// How the caller wants an answer told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// With the keys of the beta: where `anthropic-beta` was sent.
    pub beta: bool,
    /// Thoughts are left out of thinking blocks; their signature stays.
    pub hidden_thinking: bool,
    /// What is known of the prompt cache, where the request asked for it.
    pub diagnostics: Option<Diagnostics>,
    /// As in the `request-id` header, for errors.
    pub request_id: Option<String>,
}

/// An answer with no content yet.
fn empty(head: &Head, shape: &Shape, usage: &event::Usage) -> Message {
    Message {
        id: format!("msg_{}", head.id),
        r#type: MessageTag::Message,
        role: AssistantTag::Assistant,
        model: head.model.clone(),
        content: Vec::new(),
        stop_reason: None,
        stop_sequence: None,
        stop_details: None,
        container: None,
        diagnostics: shape.diagnostics.clone(),
        context_management: shape.beta.then_some(Value::Null),
        usage: Usage::new(usage, head.tier, shape.beta),
    }
}

/// How an answer's end is told.
fn ending(finish: Finish, beta: bool) -> MessageChange {
    let (stop_reason, stop_sequence, stop_details) = match finish {
        Finish::EndTurn => (StopReason::EndTurn, None, None),
        Finish::MaxTokens => (StopReason::MaxTokens, None, None),
        Finish::StopSequence(text) => (StopReason::StopSequence, Some(text), None),
        Finish::ToolUse => (StopReason::ToolUse, None, None),
        Finish::ContextFull => (StopReason::ModelContextWindowExceeded, None, None),
        Finish::Refusal(refusal) => (StopReason::Refusal, None, Some(RefusalDetails::new(refusal, beta))),
    };
    MessageChange { stop_reason: Some(stop_reason), stop_sequence, stop_details, container: None }
}

/// The backend said something that can't stand where it stands.
fn out_of_order() -> ApiError {
    ApiError::new(ErrorKind::Api, "the answer came in an order that can't be told; try again")
}

/// Kinds of open blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    ToolUse,
}

impl Kind {
    fn of(block: &event::Block) -> Kind {
        match block {
            event::Block::Text => Kind::Text,
            event::Block::Thinking => Kind::Thinking,
            event::Block::ToolUse { .. } => Kind::ToolUse,
        }
    }
}
