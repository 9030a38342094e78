//! What the engine says back.

use crate::error::ErrorCode;
use crate::sampling::Logprobs;
use crate::sequence::SequenceId;

/// One thing that happened to a sequence. Events of a sequence come in order, and [`Event::Done`] is its last, always sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A token was drawn. End-of-generation tokens that stop a sequence are not sent; a token that completes a stop string is.
    Token {
        /// Whose.
        sequence: SequenceId,
        /// The token.
        id: u32,
        /// Where the request asked for them.
        logprobs: Option<Logprobs>,
    },
    /// Text became certain: whole characters, never empty, never part of a stop string. It trails the tokens.
    Text {
        /// Whose.
        sequence: SequenceId,
        /// What to append.
        text: String,
    },
    /// Logits of consecutive positions.
    Logits {
        /// Whose.
        sequence: SequenceId,
        /// The first row's position: row `i` says what follows the token at `position + i`.
        position: u32,
        /// `[rows, vocab]`, one row after the other.
        values: Vec<f32>,
    },
    /// How probable consecutive tokens of a prompt were ([`super::Work::Logprobs`]).
    Logprobs {
        /// Whose.
        sequence: SequenceId,
        /// The first one's position, at least 1: nothing says what the first token of a prompt should be.
        position: u32,
        /// Of each token from there on; `chosen` is the token that the prompt has.
        list: Vec<Logprobs>,
    },
    /// The embedding, `[dim]`.
    Embedding {
        /// Whose.
        sequence: SequenceId,
        /// The vector.
        values: Vec<f32>,
    },
    /// Nothing more comes for this sequence; its pages are free.
    Done {
        /// Whose.
        sequence: SequenceId,
        /// Why.
        reason: FinishReason,
        /// What it took.
        usage: Usage,
    },
}

/// Why a sequence ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model drew this end-of-generation token.
    EndOfGeneration(u32),
    /// The text completed this stop string: an index into the request's.
    StopString(usize),
    /// The grammar that held from the start is complete.
    GrammarComplete,
    /// `max_tokens` were generated.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// All logits, or the embedding, were sent.
    Complete,
    /// [`super::Engine::cancel`].
    Cancelled,
    /// The request's deadline has passed; what was generated until then stands.
    DeadlinePassed,
    /// This sequence can't go on; others do.
    Failed {
        /// What kind of failure.
        code: ErrorCode,
        /// What went wrong and what to do.
        message: String,
    },
}

impl FinishReason {
    /// The stable name: `end_of_generation`, `stop_string`, `grammar_complete`, `max_tokens`, `context_full`, `complete`, `cancelled`, `deadline_passed`, `failed`.
    pub const fn name(&self) -> &'static str {
        match self {
            FinishReason::EndOfGeneration(_) => "end_of_generation",
            FinishReason::StopString(_) => "stop_string",
            FinishReason::GrammarComplete => "grammar_complete",
            FinishReason::MaxTokens => "max_tokens",
            FinishReason::ContextFull => "context_full",
            FinishReason::Complete => "complete",
            FinishReason::Cancelled => "cancelled",
            FinishReason::DeadlinePassed => "deadline_passed",
            FinishReason::Failed { .. } => "failed",
        }
    }
}

/// What a sequence took, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The prompt's length.
    pub prompt_tokens: u32,
    /// Tokens drawn, an end-of-generation token included.
    pub generated_tokens: u32,
    /// Positions of the prompt that were known already, and not computed.
    pub cached_tokens: u32,
    /// Positions of the prompt that are known from now on, and were not before.
    pub written_tokens: u32,
    /// Tokens that were drafted ([`super::Speculation`]).
    pub drafted_tokens: u32,
    /// Drafted tokens that were right.
    pub accepted_tokens: u32,
    /// Submissions that could not be made before a token was read back from a device. Where it draws tokens itself these are only those that a
    /// grammar or drafts need: at most one a token.
    pub host_waits: u32,
    /// How often its pages were taken for an older sequence.
    pub preemptions: u32,
    /// Positions that were computed again because their pages were taken for an older sequence.
    pub recomputed_tokens: u32,
}
