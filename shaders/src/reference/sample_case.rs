//! Draws with everything they read.

use super::case::{grid, uniform, words};
use super::{Case, Random};
use crate::Variant;
use crate::params::{Adjustment, DROPPED, DrawInfo, NO_CELL, RING, SampleParams};

/// A case of `sample`: draws with one setting from rows of made-up logits.
#[derive(Clone, Copy, Debug)]
pub struct SampleCase {
    /// Tokens.
    pub vocab: u32,
    /// Draws, each from a row of its own.
    pub draws: u32,
    /// First draw.
    pub first_draw: u32,
    /// How far logits spread.
    pub spread: f32,
    /// Whether logits are rounded to a grid, so that many are equal.
    pub ties: bool,
    /// How each is drawn; rows, seeds and lists are the case's.
    pub draw: DrawInfo,
    /// Share of tokens that a mask allows; 1 is no mask.
    pub allowed: f32,
    /// Adjustments of each draw.
    pub adjustments: u32,
    /// Tokens in flight.
    pub in_flight: u32,
    /// An infinite logit in the last row.
    pub fault: bool,
}

impl SampleCase {
    /// Plain draws at temperature 1.
    pub fn plain(vocab: u32, draws: u32) -> SampleCase {
        SampleCase {
            vocab,
            draws,
            first_draw: 0,
            spread: 6.0,
            ties: false,
            draw: DrawInfo { temperature: 1.0, top_p: 1.0, typical_p: 1.0, repeat: 1.0, ..DrawInfo::default() },
            allowed: 1.0,
            adjustments: 0,
            in_flight: 0,
            fault: false,
        }
    }

    /// The dispatch.
    pub fn case(&self, variant: &'static Variant) -> Case {
        let mut random = Random::new(11);
        let total = self.first_draw + self.draws;
        let params = SampleParams { vocab: self.vocab, draws: self.draws, first_draw: self.first_draw, pad: 0 };
        let mut logits: Vec<f32> = random.values((total * self.vocab) as usize).iter().map(|v| v * self.spread).collect();
        if self.ties {
            logits.iter_mut().for_each(|v| *v = (*v * 2.0).round() / 2.0);
        }
        if self.fault {
            let last = logits.len() - 1;
            logits[last] = f32::INFINITY;
        }
        let mask_words = self.vocab.div_ceil(32);
        let mut masks = vec![0u32; (total * mask_words) as usize];
        for mask in masks.chunks_mut(mask_words as usize) {
            for id in 0..self.vocab {
                // The first token is always allowed, so that something is.
                let allowed = id == 0 || random.value() * 0.5 + 0.5 < self.allowed;
                mask[id as usize / 32] |= u32::from(allowed) << (id % 32);
            }
        }
        let mut adjustments = Vec::new();
        let mut slots: Vec<u32> = (0..total * RING).map(|_| random.below(self.vocab)).collect();
        let mut draws = Vec::new();
        for d in 0..total {
            let first_adjustment = adjustments.len() as u32;
            // Distinct tokens, spread over the vocabulary.
            let step = (self.vocab / self.adjustments.max(1)).max(1);
            for a in 0..self.adjustments.min(self.vocab) {
                let bias = match a % 4 {
                    0 => 0.0,
                    1 => DROPPED,
                    _ => random.value() * 3.0,
                };
                adjustments.push(Adjustment { token: a * step, bias, count: a % 3, pad: 0 });
            }
            if self.in_flight > 1 {
                // One in flight twice, and one that the list names.
                let cells = &mut slots[(d * RING) as usize..][..RING as usize];
                cells[6] = cells[7];
                cells[5] = (self.adjustments.min(self.vocab).saturating_sub(1)) * step;
            }
            draws.push(DrawInfo {
                output: total - 1 - d,
                ring: if d % 5 == 4 && self.in_flight == 0 { NO_CELL } else { d * RING },
                // Its ring's last cell is the row's own token.
                position: 1000 * RING - 1,
                mask: if self.allowed < 1.0 { d * mask_words } else { NO_CELL },
                seed_low: random.bits(),
                seed_high: random.bits(),
                first_adjustment,
                adjustments: adjustments.len() as u32 - first_adjustment,
                in_flight: self.in_flight,
                ..self.draw
            });
        }
        let drawn = vec![7u32; total as usize];
        let buffers =
            vec![uniform(&params), words(&draws), words(&adjustments), words(&masks), words(&logits), words(&slots), words(&drawn)];
        let mut case = Case { what: format!("{self:?}"), variant, overrides: vec![], grid: [0; 3], buffers };
        case.grid = grid(&case);
        case
    }
}
