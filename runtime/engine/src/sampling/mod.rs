//! Picking the next token.
//!
//! The steps and their order are llama.cpp's: logit bias, penalties, top-k, typical, top-p, min-p, temperature, draw. Every filter
//! renormalises over what the ones before it left. All of them are exact over the whole vocabulary.

mod candidates;
mod philox;
mod sampler;

pub use philox::uniform;
pub use sampler::{Logprobs, Sampler};

use crate::error::{Error, Result};

/// How the next token is drawn from a row of logits. The default is the model's own distribution: temperature 1, every
/// filter off, seed 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits, last of all. 0 takes the most probable token that the filters left (ties: the lowest id).
    pub temperature: f32,
    /// Keep the `k` most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the fewest most probable tokens whose probabilities add up to at least this; 1 keeps all. In (0, 1].
    pub top_p: f32,
    /// Keep tokens at least this fraction as probable as the most probable one; 0 keeps all. In [0, 1].
    pub min_p: f32,
    /// Keep the tokens whose surprise (−ln p) is nearest the distribution's entropy, until their probabilities add up to more than this; 1
    /// keeps all. In (0, 1].
    pub typical_p: f32,
    /// Divides positive and multiplies other logits of tokens among the last `penalty_last_n`; 1 is off. Above 0.
    pub repeat_penalty: f32,
    /// Subtracted once from the logits of tokens among the last `penalty_last_n`; 0 is off.
    pub presence_penalty: f32,
    /// Subtracted from those logits once for every occurrence; 0 is off.
    pub frequency_penalty: f32,
    /// How many of the last tokens, prompt and generated, penalties look at; `None` is all.
    pub penalty_last_n: Option<u32>,
    /// Added to these tokens' logits before anything else. −∞ forbids a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// With a token's absolute position, the key of its random draw: the same seed gives the same text on one backend,
    /// whatever shares the batch.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_last_n: Some(64),
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// The most probable token every time.
    pub fn greedy() -> Sampling {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    /// Whether what came before changes any logit.
    pub fn penalises(&self) -> bool {
        self.repeat_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// Refuses settings that mean nothing: out of range, NaN, or a biased token that is not among `vocab`.
    pub fn check(&self, vocab: u32) -> Result<()> {
        let ranged = [
            ("temperature", self.temperature, self.temperature >= 0.0, "0 or more"),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "between 0 and 1"),
            ("typical_p", self.typical_p, self.typical_p > 0.0 && self.typical_p <= 1.0, "above 0 and at most 1"),
            ("repeat_penalty", self.repeat_penalty, self.repeat_penalty > 0.0, "above 0"),
            ("presence_penalty", self.presence_penalty, true, "finite"),
            ("frequency_penalty", self.frequency_penalty, true, "finite"),
        ];
        for (name, value, in_range, want) in ranged {
            if !value.is_finite() || !in_range {
                return Err(Error::request(format!("{name} is {value}; it must be {want}")));
            }
        }
        for &(token, bias) in &self.logit_bias {
            if token >= vocab {
                return Err(Error::request(format!("logit_bias names token {token}, but the model has only {vocab}")));
            }
            if bias.is_nan() || bias == f32::INFINITY {
                return Err(Error::request(format!("logit_bias of token {token} is {bias}; it must be finite or -inf")));
            }
        }
        Ok(())
    }
}
