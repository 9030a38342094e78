//! What is asked of the engine.

use std::time::Duration;

use crate::backend::AdapterId;
use crate::grammar::Constraint;
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
    /// What it shares with others.
    pub sharing: Sharing,
    /// What it may be kept waiting for.
    pub priority: Priority,
    /// The LoRA adapter that computes it ([`super::Engine::load_adapter`]); `None` is the model as it is.
    pub adapter: Option<AdapterId>,
}

/// Who goes first. Times are of the host's clock ([`super::Engine::lend_clock`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Priority {
    /// Lower lanes go first, at most [`Priority::LANES`] − 1. The first of an owner's that waits for one
    /// [`super::EngineOptions::ageing`] moves up a lane. When slots or
    /// pages run out, the last of the highest lane gives way, and is computed again later.
    pub lane: u8,
    /// Whose it is: any number that the host gives each of its callers. Within a lane owners take turns, however many requests each of them has. One that
    /// waits takes a slot from an owner that has at least two more; so they end up with as many each as they ask for, or an equal part.
    pub owner: u64,
    /// A sequence that has not ended by then ends with [`super::FinishReason::DeadlinePassed`]. Of one owner's in a lane earlier deadlines go first.
    pub deadline: Option<Duration>,
    /// Refused ([`super::Admission::Busy`]) where others are expected to keep it waiting for longer than this. What its own prompt takes does not count:
    /// that would be no shorter if it came back. `None`: it waits.
    pub patience: Option<Duration>,
}

impl Priority {
    /// Lanes there are.
    pub const LANES: u8 = 3;
}

/// How a request uses the prefix cache: texts that begin alike compute their common pages once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Only requests of one namespace share. How soon an answer comes tells whether its prefix was known, so tenants who must not learn of
    /// each other need namespaces of their own.
    pub namespace: String,
    /// Takes no known prefix and leaves none.
    pub private: bool,
    /// Prefixes to keep.
    pub pins: Vec<Pin>,
}

/// Keeps a prefix of the prompt before others, while there is room: pins yield to running sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Its length in tokens. What lies in a page that is not whole is not kept.
    pub positions: u32,
    /// Counted from when the prompt is computed, and anew by each request that pins it. Needs [`super::Engine::lend_clock`].
    pub lifetime: Duration,
}

/// What is wanted of a prompt.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there is one a request, and most generate")]
pub enum Work {
    /// Tokens that go on from it.
    Generate(Generate),
    /// The logits of every position: what the model expects after each token.
    Logits,
    /// What the model expected of each token of it but the first.
    Logprobs {
        /// With each token, so many most probable ones. At most the vocabulary.
        top: u32,
    },
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
    /// What the text must be, from where on. A grammar that forces tokens has them fed without a draw, unless `logprobs` or `logits` ask for one.
    pub grammar: Option<Constraint>,
    /// Whether several tokens may be computed at once where the text repeats itself.
    pub speculation: Speculation,
    /// Also emits the raw logits each token was drawn from ([`super::Event::Logits`]).
    pub logits: bool,
}

/// Drafts of tokens, taken from earlier in the text and verified in one step. They change no token, whatever the sampling: a drafted token is taken
/// only where it is the one that is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// Where few sequences decode, and as far as drafts prove right.
    #[default]
    Auto,
    /// Never.
    Off,
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
        Request { prompt, work: Work::Generate(generate), sharing: Sharing::default(), priority: Priority::default(), adapter: None }
    }

    /// The logits of every position of a prompt.
    pub fn logits(prompt: Vec<u32>) -> Request {
        Request { prompt, work: Work::Logits, sharing: Sharing::default(), priority: Priority::default(), adapter: None }
    }

    /// How probable each token of a prompt was, and so many most probable ones there.
    pub fn logprobs(prompt: Vec<u32>, top: u32) -> Request {
        Request { prompt, work: Work::Logprobs { top }, sharing: Sharing::default(), priority: Priority::default(), adapter: None }
    }

    /// A prompt's embedding.
    pub fn embed(prompt: Vec<u32>, embed: Embed) -> Request {
        Request { prompt, work: Work::Embed(embed), sharing: Sharing::default(), priority: Priority::default(), adapter: None }
    }
}
