//! [`Kernel::Sample`](crate::Kernel::Sample).

use crate::params::{Adjustment, DRAWN_NOT_FINITE, DRAWN_NOTHING, DROPPED, DrawInfo, NO_CELL, RING, SampleParams};

/// Invocations of the kernel's workgroup. Tokens are dealt among them, and a draw chooses the invocation first.
const LANES: usize = 256;

/// What an adjustment may leave, and negated.
const LOWEST: f64 = -1e30;

/// What `sample` reads.
#[derive(Clone, Copy, Debug)]
pub struct SampleInputs<'a> {
    /// Its uniform.
    pub params: &'a SampleParams,
    /// One a draw.
    pub draws: &'a [DrawInfo],
    /// Of all draws.
    pub adjustments: &'a [Adjustment],
    /// Of all draws.
    pub masks: &'a [u32],
}

/// Draws a token from each row of `logits`, `[outputs, vocab]`, into `drawn` and the rings in `slots`.
pub fn sample(inputs: &SampleInputs, logits: &mut [f32], slots: &mut [u32], drawn: &mut [u32]) {
    let SampleParams { vocab, draws, first_draw, .. } = *inputs.params;
    for index in first_draw as usize..(first_draw + draws) as usize {
        let draw = &inputs.draws[index];
        let row = &mut logits[draw.output as usize * vocab as usize..][..vocab as usize];
        let token = sample_row(inputs, draw, row, slots);
        drawn[index] = token.unwrap_or_else(|fault| fault);
        if draw.ring != NO_CELL {
            slots[(draw.ring + (draw.position + 1) % RING) as usize] = token.unwrap_or(0);
        }
    }
}

fn sample_row(inputs: &SampleInputs, draw: &DrawInfo, row: &mut [f32], slots: &[u32]) -> Result<u32, u32> {
    adjust(inputs, draw, row, slots);
    if row.iter().any(|v| !v.is_finite()) {
        mask(inputs, draw, row);
        return Err(DRAWN_NOT_FINITE);
    }
    mask(inputs, draw, row);
    let mut left: Vec<(u32, f64)> = (0..).zip(row.iter()).filter(|(_, v)| **v != DROPPED).map(|(id, v)| (id, f64::from(*v))).collect();
    // Most probable first; the sort is stable, so equals stay by id.
    left.sort_by(|a, b| b.1.total_cmp(&a.1));
    let Some(&(best, _)) = left.first() else { return Err(DRAWN_NOTHING) };
    if draw.temperature == 0.0 && draw.typical_p >= 1.0 {
        return Ok(best);
    }
    if draw.top_k > 0 {
        left.truncate(draw.top_k as usize);
    }
    if draw.typical_p < 1.0 {
        typical(&mut left, f64::from(draw.typical_p));
    }
    if draw.top_p < 1.0 {
        let weights = weights(&left, 1.0);
        keep_until(&mut left, &weights, |mass| mass >= f64::from(draw.top_p));
    }
    if draw.min_p > 0.0 {
        let least = left[0].1 + f64::from(draw.min_p).ln();
        left.retain(|(_, v)| *v >= least);
    }
    for (id, v) in (0..).zip(row.iter_mut()) {
        if left.iter().all(|(kept, _)| *kept != id) {
            *v = DROPPED;
        }
    }
    if draw.temperature == 0.0 { Ok(left[0].0) } else { Ok(pick(&left, draw)) }
}

/// Bias, then penalties.
fn adjust(inputs: &SampleInputs, draw: &DrawInfo, row: &mut [f32], slots: &[u32]) {
    let list = &inputs.adjustments[draw.first_adjustment as usize..][..draw.adjustments as usize];
    let in_flight: Vec<u32> = (0..draw.in_flight).map(|j| slots[(draw.ring + (draw.position - j) % RING) as usize]).collect();
    let occurrences = |token: u32| in_flight.iter().filter(|t| **t == token).count() as u32;
    let mut all: Vec<(u32, f32, u32)> = list.iter().map(|a| (a.token, a.bias, a.count + occurrences(a.token))).collect();
    for &token in &in_flight {
        if all.iter().all(|(t, ..)| *t != token) {
            all.push((token, 0.0, occurrences(token)));
        }
    }
    for (token, bias, count) in all {
        let v = &mut row[token as usize];
        if !v.is_finite() {
            continue;
        }
        if f64::from(bias) <= LOWEST {
            *v = DROPPED;
            continue;
        }
        let mut changed = (f64::from(*v) + f64::from(bias)).clamp(LOWEST, -LOWEST);
        if count > 0 {
            let repeat = f64::from(draw.repeat);
            changed = if changed <= 0.0 { changed * repeat } else { changed / repeat };
            changed -= f64::from(count) * f64::from(draw.frequency) + f64::from(draw.presence);
        }
        *v = changed.clamp(LOWEST, -LOWEST) as f32;
    }
}

fn mask(inputs: &SampleInputs, draw: &DrawInfo, row: &mut [f32]) {
    if draw.mask == NO_CELL {
        return;
    }
    for (id, v) in row.iter_mut().enumerate() {
        if inputs.masks[draw.mask as usize + id / 32] >> (id % 32) & 1 == 0 {
            *v = DROPPED;
        }
    }
}

/// Shares of exp(v / temperature).
fn weights(left: &[(u32, f64)], temperature: f64) -> Vec<f64> {
    let largest = left.iter().fold(f64::NEG_INFINITY, |m, (_, v)| m.max(*v));
    let weights: Vec<f64> = left.iter().map(|(_, v)| ((v - largest) / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / total).collect()
}

/// Keeps the first whose shares satisfy `enough`.
fn keep_until(left: &mut Vec<(u32, f64)>, shares: &[f64], enough: impl Fn(f64) -> bool) {
    let mut mass = 0.0;
    let last = shares.iter().position(|share| {
        mass += share;
        enough(mass)
    });
    if let Some(last) = last {
        left.truncate(last + 1);
    }
}

/// Keeps those whose surprise is nearest the entropy; most probable first again.
fn typical(left: &mut Vec<(u32, f64)>, p: f64) {
    let shares = weights(left, 1.0);
    let entropy: f64 = shares.iter().filter(|s| **s > 0.0).map(|s| -s * s.ln()).sum();
    let mut near: Vec<((u32, f64), f64, f64)> = left.iter().zip(&shares).map(|(t, s)| (*t, *s, (-s.ln() - entropy).abs())).collect();
    near.sort_by(|a, b| a.2.total_cmp(&b.2).then(a.0.0.cmp(&b.0.0)));
    let mut kept: Vec<(u32, f64)> = near.iter().map(|n| n.0).collect();
    let shares: Vec<f64> = near.iter().map(|n| n.1).collect();
    keep_until(&mut kept, &shares, |mass| mass > p);
    kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    *left = kept;
}

/// A token by its weight: the lane that holds it by one random number, which of the lane's by another.
fn pick(left: &[(u32, f64)], draw: &DrawInfo) -> u32 {
    let shares = weights(left, f64::from(draw.temperature));
    let [first, second] = random(draw);
    let mut lanes = vec![Vec::new(); LANES];
    for ((id, _), share) in left.iter().zip(&shares) {
        lanes[*id as usize % LANES].push((*id, *share));
    }
    let sums: Vec<(u32, f64)> = (0..).zip(&lanes).map(|(lane, tokens)| (lane, tokens.iter().map(|(_, share)| share).sum())).collect();
    let lane = &mut lanes[choose(&sums, first) as usize];
    lane.sort_by_key(|(id, _)| *id);
    choose(lane, second)
}

/// The last that has a share and begins at or before `u` of the whole.
fn choose(shares: &[(u32, f64)], u: f64) -> u32 {
    let total: f64 = shares.iter().map(|(_, share)| share).sum();
    let mut before = 0.0;
    let mut chosen = 0;
    for &(id, share) in shares {
        if share > 0.0 && before <= u * total {
            chosen = id;
        }
        before += share;
    }
    chosen
}

/// Two numbers in [0, 1), multiples of 2⁻²⁴: Philox4x32-10 (Salmon and others, 2011) of position and seed.
fn random(draw: &DrawInfo) -> [f64; 2] {
    let mut counter = [draw.position + 1, 0, 0, 0];
    let mut key = [draw.seed_low, draw.seed_high];
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    [counter[0], counter[1]].map(|word| f64::from(word >> 8) / f64::from(1 << 24))
}
