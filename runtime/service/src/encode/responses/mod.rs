//! Judged events as a response: [`Whole`] as one body of JSON, [`Stream`] as its events.
//!
//! Each block is an item of the output: text a message with one part, thoughts a reasoning item whose summary they are (with their
//! signature as
//! `encrypted_content`), a call a function call. This dialect has one answer; events of others are passed over.
//!
//! What was not safe to say leaves the response `incomplete`, with `content_filter` as the reason. Where nothing was said before, and
//! always where it is told
//! whole, the output is one message with the refusal. A call that was not finished then is never told as done, so nobody runs it.

mod stream;
mod whole;

#[cfg(test)]
mod tests;

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::Finish;
use firecrest_contract::openai::responses::Echo;

pub use stream::Stream;
pub use whole::Whole;

/// How the caller wants an answer told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What the response repeats of its request.
    pub echo: Echo,
}

/// Why a response is incomplete, if it is.
fn incomplete(finish: &Finish) -> Option<&'static str> {
    match finish {
        Finish::EndTurn | Finish::StopSequence(_) | Finish::ToolUse => None,
        Finish::MaxTokens | Finish::ContextFull => Some("max_output_tokens"),
        Finish::Refusal(_) => Some("content_filter"),
    }
}

/// `error.code` of a response that failed: of a closed list.
fn error_code(error: &ApiError) -> &'static str {
    match error.kind {
        ErrorKind::RateLimit => "rate_limit_exceeded",
        ErrorKind::InvalidRequest | ErrorKind::TooLarge => "invalid_prompt",
        _ => "server_error",
    }
}
