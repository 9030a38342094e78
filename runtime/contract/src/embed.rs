//! One neutral request for vectors.

use crate::ask::{Beyond, RawPrompt};

/// What is to become vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbedAsk {
    /// The model's name, as the caller says it.
    pub model: String,
    /// A vector is made of each. At least one, and none is empty.
    pub inputs: Vec<RawPrompt>,
    /// How long vectors shall be, at least 1: the first so many numbers, scaled to length 1 again. Only models that were trained for it
    /// (Matryoshka) can; others refuse. `None`: as long as the model makes them.
    pub dimensions: Option<u32>,
    /// Who the caller asks for: a name of theirs, never shown to anybody else.
    pub user: Option<String>,
    /// What was asked beyond this form, by its path in the body.
    pub beyond: Vec<Beyond>,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedded {
    /// A vector for each input, in its order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all inputs.
    pub tokens: u64,
}
