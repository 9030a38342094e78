//! What a backend says back, whatever dialect it is told in.

use crate::error::ApiError;

/// One thing that happened to an answer. In order: one `Start`; for each choice any number of blocks, each `Open`, its content, `Close`, one block of a
/// choice at a time, and its `Finish`; one `End`. Instead of anything after `Start` may come `Fault`, and nothing after it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The first thing. From here on the backend is committed.
    Start {
        /// What is known by then; `End` has the truth.
        usage: Usage,
    },
    /// A block begins.
    Open {
        /// Of which answer, from 0.
        choice: u32,
        /// What kind.
        block: Block,
    },
    /// Text of the open text block.
    Text {
        /// Of which answer.
        choice: u32,
        /// To append.
        text: String,
        /// Of the tokens that this text is made of, where asked for: together they spell it.
        logprobs: Vec<TokenLogprob>,
    },
    /// Thoughts of the open thinking block.
    Thinking {
        /// Of which answer.
        choice: u32,
        /// To append.
        text: String,
    },
    /// The signature of the open thinking block, just before it closes.
    Signature {
        /// Of which answer.
        choice: u32,
        /// Opaque.
        signature: String,
    },
    /// JSON of the open tool block's arguments, to append.
    Arguments {
        /// Of which answer.
        choice: u32,
        /// A piece of an object's text.
        json: String,
    },
    /// The open block ends.
    Close {
        /// Of which answer.
        choice: u32,
    },
    /// An answer is complete.
    Finish {
        /// Which.
        choice: u32,
        /// Why.
        reason: Finish,
    },
    /// All answers are. The last event.
    End {
        /// What it took.
        usage: Usage,
    },
    /// It can't go on. The last event.
    Fault(ApiError),
}

/// Kinds of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// Text.
    Text,
    /// Thoughts.
    Thinking,
    /// A call of a tool. Its arguments follow as JSON.
    ToolUse {
        /// By which the result will name it.
        id: String,
        /// The tool.
        name: String,
    },
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model had said what it wanted to.
    EndTurn,
    /// `max_tokens`.
    MaxTokens,
    /// This text, which is not part of the answer.
    StopSequence(String),
    /// The caller is to run the tools that were called.
    ToolUse,
    /// The context is full.
    ContextFull,
    /// It was not safe to say.
    Refusal(Refusal),
}

/// Why something was not safe to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The contract's own category, where one fits: `general_harms`.
    pub category: Option<&'static str>,
    /// For the caller: the category and rule that decided, never what was matched.
    pub explanation: String,
}

/// What it took, in tokens. The prompt's length is `input + cache_read + cache_write_5m + cache_write_1h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt, neither read from the cache nor written to it for a breakpoint.
    pub input: u64,
    /// Of the prompt, known already.
    pub cache_read: u64,
    /// Of the prompt, kept for five minutes from now on.
    pub cache_write_5m: u64,
    /// Of the prompt, kept for an hour from now on.
    pub cache_write_1h: u64,
    /// Generated, over all answers.
    pub output: u64,
    /// Of those, thought.
    pub thinking: u64,
}

impl Usage {
    /// The prompt's length.
    pub const fn prompt(&self) -> u64 {
        self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h
    }
}

/// A token and how probable it was.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// Which.
    pub token: TokenText,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The most probable ones there, best first.
    pub top: Vec<(TokenText, f32)>,
}

/// A token's bytes: not always whole characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenText(pub Vec<u8>);

impl TokenText {
    /// As text, with U+FFFD where it is none.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}
