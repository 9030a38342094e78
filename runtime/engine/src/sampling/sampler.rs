//! From a row of logits to a token.

use super::candidates::{self, Candidate};
use super::{Sampling, uniform};
use crate::error::{Error, Result};

/// Draws tokens. Holds nothing between draws but its scratch memory.
#[derive(Debug, Default)]
pub struct Sampler {
    candidates: Vec<Candidate>,
    weights: Vec<f64>,
    history: Vec<u32>,
}

/// Natural logarithms of probabilities under the model's own distribution: softmax of the raw logits, before bias,
/// penalties, filters and temperature.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// Of the token drawn.
    pub chosen: f32,
    /// The most probable tokens, most probable first (ties: lowest id first).
    pub top: Vec<(u32, f32)>,
}

impl Sampler {
    /// A sampler.
    pub fn new() -> Sampler {
        Sampler::default()
    }

    /// Draws the token that follows `history` (all tokens so far, so the draw's position is its length) from `logits`, `[vocab]`, by
    /// settings that passed [`Sampling::check`].
    ///
    /// Only tokens whose bit is set in `allowed`, `[vocab / 32]` rounded up, may be drawn; `None` allows all.
    ///
    /// Fails where a logit is NaN or infinite, or where nothing that is allowed may be drawn.
    pub fn sample(&mut self, logits: &[f32], sampling: &Sampling, history: &[u32], allowed: Option<&[u32]>) -> Result<u32> {
        self.filter(logits, sampling, history, allowed)?;
        let total = self.weigh(sampling.temperature);
        let target = uniform(sampling.seed, history.len() as u64) * total;
        let mut sum = 0.0;
        let drawn = self.weights.iter().position(|weight| {
            sum += weight;
            sum > target
        });
        // Rounding may bring target up to the total, which nothing passes: then it fell on the last that weighs anything.
        let drawn = drawn.or_else(|| self.weights.iter().rposition(|&weight| weight > 0.0));
        drawn.map(|at| self.candidates[at].id).ok_or_else(|| Error::internal("no token has any weight"))
    }

    /// The distribution that [`Sampler::sample`] draws from: tokens by id with probabilities that add up to 1. Fails where it does.
    pub fn distribution(&mut self, logits: &[f32], sampling: &Sampling, history: &[u32]) -> Result<Vec<(u32, f64)>> {
        self.filter(logits, sampling, history, None)?;
        let total = self.weigh(sampling.temperature);
        Ok(self.candidates.iter().zip(&self.weights).map(|(c, weight)| (c.id, weight / total)).collect())
    }

    /// Leaves in `candidates` what may be drawn, at least one, by id.
    fn filter(&mut self, logits: &[f32], sampling: &Sampling, history: &[u32], allowed: Option<&[u32]>) -> Result<()> {
        // Without an early exit, so that the compiler makes it vector code.
        if !logits.iter().fold(true, |finite, l| finite & l.is_finite()) {
            let id = logits.iter().position(|l| !l.is_finite()).unwrap_or_default();
            return Err(Error::internal(format!(
                "the logit of token {id} at position {} is {}: the model's weights or a kernel are at fault",
                history.len().saturating_sub(1),
                logits[id]
            )));
        }
        self.candidates.clear();
        self.candidates.extend(logits.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit }));
        self.adjust(sampling, history);
        let candidates = &mut self.candidates;
        if candidates.is_empty() {
            return Err(Error::request("logit_bias forbids every token; leave at least one"));
        }
        if let Some(allowed) = allowed {
            candidates.retain(|c| allowed.get(c.id as usize / 32).is_some_and(|bits| bits >> (c.id % 32) & 1 == 1));
            if candidates.is_empty() {
                return Err(Error::request("logit_bias forbids every token that the grammar allows"));
            }
        }
        if sampling.temperature == 0.0 && sampling.typical_p >= 1.0 {
            // The other filters all keep the most probable.
            candidates::top_k(candidates, 1);
            return Ok(());
        }
        if sampling.top_k > 0 {
            candidates::top_k(candidates, sampling.top_k as usize);
        }
        if sampling.typical_p < 1.0 {
            candidates::typical(candidates, sampling.typical_p);
        }
        if sampling.top_p < 1.0 {
            candidates::top_p(candidates, sampling.top_p);
        }
        if sampling.min_p > 0.0 {
            candidates::min_p(candidates, sampling.min_p);
        }
        if sampling.temperature == 0.0 {
            candidates::top_k(candidates, 1);
        }
        // By id, so that a draw does not depend on the order filters left.
        candidates.sort_unstable_by_key(|c| c.id);
        Ok(())
    }

    /// Leaves in `weights` what each candidate weighs in the draw, exp((logit − largest) / temperature), and returns their sum.
    fn weigh(&mut self, temperature: f32) -> f64 {
        let largest = f64::from(candidates::largest(&self.candidates));
        // At temperature 0 one candidate is left; any temperature gives it weight 1.
        let temperature = if temperature > 0.0 { f64::from(temperature) } else { 1.0 };
        self.weights.clear();
        self.weights.extend(self.candidates.iter().map(|c| ((f64::from(c.logit) - largest) / temperature).exp()));
        self.weights.iter().sum()
    }

    /// Adds the bias, then applies the penalties. Forbidden tokens leave.
    fn adjust(&mut self, sampling: &Sampling, history: &[u32]) {
        for &(token, bias) in &sampling.logit_bias {
            set(&mut self.candidates[token as usize], |logit| logit + f64::from(bias));
        }
        if sampling.penalises() {
            let last = sampling.penalty_last_n.map_or(history.len(), |n| history.len().min(n as usize));
            self.history.clear();
            self.history.extend_from_slice(&history[history.len() - last..]);
            self.history.sort_unstable();
            let (repeat, presence) = (f64::from(sampling.repeat_penalty), f64::from(sampling.presence_penalty));
            for run in self.history.chunk_by(|a, b| a == b) {
                let Some(candidate) = self.candidates.get_mut(run[0] as usize) else { continue };
                set(candidate, |logit| {
                    let repeated = if logit <= 0.0 { logit * repeat } else { logit / repeat };
                    repeated - run.len() as f64 * f64::from(sampling.frequency_penalty) - presence
                });
            }
        }
        if !sampling.logit_bias.is_empty() {
            self.candidates.retain(|c| c.logit != f32::NEG_INFINITY);
        }
    }

    /// The logarithms of `chosen`'s and the `top` most probable tokens' probabilities under finite `logits`, `[vocab]`.
    pub fn logprobs(&mut self, logits: &[f32], chosen: u32, top: u32) -> Logprobs {
        self.candidates.clear();
        self.candidates.extend(logits.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit }));
        let largest = f64::from(candidates::largest(&self.candidates));
        let sum: f64 = logits.iter().map(|&l| (f64::from(l) - largest).exp()).sum();
        let logprob = |logit: f32| (f64::from(logit) - largest - sum.ln()) as f32;
        candidates::most_probable(&mut self.candidates, top as usize);
        Logprobs { chosen: logprob(logits[chosen as usize]), top: self.candidates.iter().map(|c| (c.id, logprob(c.logit))).collect() }
    }
}

/// Changes a logit, in double precision, and keeps it finite; only −∞, which means forbidden, stays.
fn set(candidate: &mut Candidate, change: impl FnOnce(f64) -> f64) {
    let changed = change(f64::from(candidate.logit));
    candidate.logit = if changed.is_finite() { (changed as f32).clamp(f32::MIN, f32::MAX) } else { f32::NEG_INFINITY };
}
