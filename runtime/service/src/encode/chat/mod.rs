//! Judged events as chat completions: [`Whole`] as one body of JSON, [`Stream`] as chunks.
//!
//! Thoughts are `reasoning_content`, beside `content`: OpenAI tells none, and this is what other servers of open models and their clients
//! have.
//! Signatures of thoughts have no place here. What was not safe to say ends with `content_filter` and an empty delta; told whole, nothing
//! of
//! that answer is said.
//!
//! Chunks have no mark at a call's end: clients run a call as soon as its arguments are an object's JSON, or when the stream ends, whatever
//! the reason, and some take no arguments for the empty object. So a call is told with the first of its arguments: one that is cut or refused behind
//! that has arguments that nobody can read, because they are whole only where their call is.

mod stream;
mod whole;

#[cfg(test)]
mod tests;

pub use stream::Stream;
pub use whole::Whole;

/// How the caller wants an answer told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Answers that were asked for: `n`. Events of others are passed over.
    pub choices: u32,
    /// Whether a stream ends with a chunk that says what it took.
    pub include_usage: bool,
    /// Whether tools may be called: then an answer may have no text, and its first chunk says so.
    pub calls: bool,
}
