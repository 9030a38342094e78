//! Judged events to bytes, a dialect each. Nothing else makes a body, and nothing but [`Judged`] goes in.

#[cfg(test)]
mod arbitrary;
pub mod chat;
pub mod completions;
mod encoder;
mod json;
pub mod messages;
mod openai;
pub mod responses;

pub(crate) use encoder::{Collect, Encoder, Tell};

/// What an answer is called, known before its first event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Unique, without a prefix: `msg_`, `chatcmpl-` and the like are the encoder's.
    pub id: String,
    /// The model that answers, as the caller named it.
    pub model: String,
    /// Wall clock, seconds since 1970.
    pub created: u64,
    /// `usage.service_tier`: `standard`, `priority` or `batch`.
    pub tier: &'static str,
}
