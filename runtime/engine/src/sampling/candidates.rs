//! The tokens still in the running, and the filters that narrow them.

use std::cmp::Ordering;

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// The token.
    pub(super) id: u32,
    /// Finite.
    pub(super) logit: f32,
}

/// Most probable first; ties by lowest id, so that order never depends on how it was reached.
fn by_probability(a: &Candidate, b: &Candidate) -> Ordering {
    // Not total_cmp: 0 and −0 are equal. Neither is NaN.
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

/// Keeps the `k` most probable.
pub(super) fn top_k(candidates: &mut Vec<Candidate>, k: usize) {
    if k == 1 {
        // Selecting in place would move candidates about for nothing.
        let best = candidates.iter().copied().min_by(by_probability);
        candidates.clear();
        candidates.extend(best);
    } else if k < candidates.len() {
        candidates.select_nth_unstable_by(k, by_probability);
        candidates.truncate(k);
    }
}

/// Keeps the fewest most probable whose probabilities reach `p`.
pub(super) fn top_p(candidates: &mut Vec<Candidate>, p: f32) {
    let softmax = Softmax::of(candidates);
    keep_until(candidates, by_probability, |c| softmax.probability(c), |mass| mass >= f64::from(p));
}

/// Keeps those at least `p` times as probable as the most probable.
pub(super) fn min_p(candidates: &mut Vec<Candidate>, p: f32) {
    let least = f64::from(largest(candidates)) + f64::from(p).ln();
    candidates.retain(|c| f64::from(c.logit) >= least);
}

/// Keeps those whose surprise is nearest the entropy until their probabilities pass `p` (Meister and others, "Locally
/// typical sampling", 2022).
pub(super) fn typical(candidates: &mut Vec<Candidate>, p: f32) {
    let softmax = Softmax::of(candidates);
    let entropy: f64 = candidates.iter().map(|c| softmax.probability(c) * softmax.surprise(c)).sum();
    let deviation = |c: &Candidate| (softmax.surprise(c) - entropy).abs();
    let nearest = |a: &Candidate, b: &Candidate| deviation(a).total_cmp(&deviation(b)).then(a.id.cmp(&b.id));
    keep_until(candidates, nearest, |c| softmax.probability(c), |mass| mass > f64::from(p));
}

/// The `n` most probable, in order.
pub(super) fn most_probable(candidates: &mut Vec<Candidate>, n: usize) {
    top_k(candidates, n);
    candidates.sort_unstable_by(by_probability);
}

/// The largest logit; −∞ of none.
pub(super) fn largest(candidates: &[Candidate]) -> f32 {
    candidates.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max)
}

/// Keeps the first in `order` until their probabilities satisfy `enough`, the one that does it included.
///
/// A few candidates usually do, so ever larger heads of the order are selected rather than all of it sorted.
fn keep_until(
    candidates: &mut Vec<Candidate>,
    order: impl Fn(&Candidate, &Candidate) -> Ordering,
    probability: impl Fn(&Candidate) -> f64,
    enough: impl Fn(f64) -> bool,
) {
    let mut sorted = 0;
    let mut mass = 0.0;
    while sorted < candidates.len() {
        let head = (sorted * 4).max(64).min(candidates.len());
        let rest = &mut candidates[sorted..];
        if head - sorted < rest.len() {
            rest.select_nth_unstable_by(head - sorted, &order);
        }
        rest[..head - sorted].sort_unstable_by(&order);
        for (kept, candidate) in candidates.iter().enumerate().take(head).skip(sorted) {
            mass += probability(candidate);
            if enough(mass) {
                candidates.truncate(kept + 1);
                return;
            }
        }
        sorted = head;
    }
}

/// The candidates' probabilities among themselves.
struct Softmax {
    largest: f64,
    /// ln Σ exp(logit − largest).
    log_sum: f64,
}

impl Softmax {
    fn of(candidates: &[Candidate]) -> Softmax {
        let largest = f64::from(largest(candidates));
        let sum: f64 = candidates.iter().map(|c| (f64::from(c.logit) - largest).exp()).sum();
        Softmax { largest, log_sum: sum.ln() }
    }

    /// −ln p.
    fn surprise(&self, candidate: &Candidate) -> f64 {
        self.log_sum - (f64::from(candidate.logit) - self.largest)
    }

    fn probability(&self, candidate: &Candidate) -> f64 {
        (-self.surprise(candidate)).exp()
    }
}
