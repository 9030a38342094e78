//! What is asked of the engine.

use crate::model::Pooling;
use crate::sampling::Sampling;

/// A request: a prompt of token ids and what to do with it. The host tokenises ([`super::Engine::tokenizer`]), because
/// it alone knows about templates and special tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Token ids, at least one. Nothing is added to them.
    pub prompt: Vec<u32>,
    /// What is wanted.
    pub work: Work,
}

/// What is wanted of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Tokens that go on from it.
    Generate(Generate),
    /// The logits of every position: what the model expects after each token.
    Logits,
    /// One vector for the whole of it.
    Embed(Embed),
}

/// How to generate, and when to stop.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generate {
    /// Tokens at most; `None` until the context is full. 0 runs the prompt and stops.
    pub max_tokens: Option<u32>,
    /// Generation ends where the text completes one of these, wherever token borders fall. The text emitted ends before
    /// it. None may be empty.
    pub stop: Vec<String>,
    /// Takes the model's end-of-generation tokens for tokens like any other (they are drawn, emitted and fed back).
    pub ignore_eos: bool,
    /// How the next token is drawn.
    pub sampling: Sampling,
    /// With each token, the logarithms of its probability and of this many most probable ones. `None`: none. At most the vocabulary.
    pub logprobs: Option<u32>,
    /// Also emits the raw logits each token was drawn from ([`super::Event::Logits`]).
    pub logits: bool,
}

/// How final states become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embed {
    /// `None`: what the model's file names; where it names none, the mean for encoders and the last position for decoders.
    pub pooling: Option<Pooling>,
    /// Scale the vector to length 1 (L2).
    pub normalise: bool,
}

impl Default for Embed {
    fn default() -> Embed {
        Embed { pooling: None, normalise: true }
    }
}

impl Request {
    /// Generate after a prompt.
    pub fn generate(prompt: Vec<u32>, generate: Generate) -> Request {
        Request { prompt, work: Work::Generate(generate) }
    }

    /// The logits of every position of a prompt.
    pub fn logits(prompt: Vec<u32>) -> Request {
        Request { prompt, work: Work::Logits }
    }

    /// A prompt's embedding.
    pub fn embed(prompt: Vec<u32>, embed: Embed) -> Request {
        Request { prompt, work: Work::Embed(embed) }
    }
}
