//! Rotary position embeddings: every scaling becomes frequencies and one magnitude, so that kernels know none of them.

use std::f64::consts::TAU;

use crate::error::{Error, Result};

use super::config::Keys;
use super::plan::RopePairs;

/// Numbers that divide each pair's frequency.
#[derive(Clone, Debug, PartialEq)]
pub enum Divisors {
    /// In a tensor of this name, `[rotated / 2]`.
    Tensor(String),
    /// Given in metadata, `[rotated / 2]`.
    Values(Vec<f32>),
}

/// How frequencies are stretched beyond the context a model was first trained for.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All divided by the factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// Long waves divided by the factor, short ones kept, with a ramp between (Llama 3.1 and later, from its numbers).
    Llama3 {
        /// The factor.
        factor: f32,
        /// Waves longer than original context / this are divided.
        low: f32,
        /// Waves shorter than original context / this are kept.
        high: f32,
        /// Positions of the first training.
        original_context: u32,
    },
    /// As Llama 3's with a ramp over pairs rather than waves, and a magnitude of 1 + ln(factor)/10 (YaRN).
    Yarn {
        /// The factor.
        factor: f32,
        /// Rotations over the original context from which a pair is kept.
        beta_fast: f32,
        /// Rotations below which a pair is divided by the whole factor.
        beta_slow: f32,
        /// Positions of the first training.
        original_context: u32,
    },
    /// Divided pair by pair (Llama 3's numbers worked out by the converter).
    Divided(Divisors),
    /// Divided pair by pair, by one list up to the original context and another beyond it (Phi 3).
    LongRope {
        /// Up to the original context.
        short: Divisors,
        /// Beyond it.
        long: Divisors,
        /// Positions of the first training.
        original_context: u32,
    },
}

/// The rotary embedding of one kind of layer.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// θ: the longest wave is about 2π·θ positions.
    pub base: f32,
    /// Elements of a head that rotate.
    pub rotated: u32,
    /// Which elements make a pair.
    pub pairs: RopePairs,
    /// Stretching.
    pub scaling: RopeScaling,
    /// The file's own attention factor: multiplies cosine and sine.
    pub magnitude: f32,
}

impl RopeConfig {
    /// Reads `rope.*`. `pairs` is the family's layout in GGUF; a Hugging Face folder's weights are always in halves.
    pub(super) fn read(keys: &Keys<'_>, head_dim: u32, trained_context: u32, pairs: RopePairs) -> Result<RopeConfig> {
        let pairs = match keys.metadata().str("firecrest.rope_pairs")? {
            None => pairs,
            Some("halves") => RopePairs::Halves,
            Some("adjacent") => RopePairs::Adjacent,
            Some(other) => {
                return Err(Error::malformed(format!("firecrest.rope_pairs is {other:?}; `halves` and `adjacent` are known")));
            }
        };
        Ok(RopeConfig {
            base: keys.positive("rope.freq_base")?.unwrap_or(10_000.0),
            rotated: keys.optional_width("rope.dimension_count")?.unwrap_or(head_dim),
            pairs,
            scaling: RopeScaling::read(keys, trained_context)?,
            magnitude: keys.positive("rope.scaling.attn_factor")?.unwrap_or(1.0),
        })
    }

    /// Divisors that must be read before [`RopeConfig::frequencies`], for a context of this many positions.
    pub fn divisors(&self, context: u32) -> Option<&Divisors> {
        match &self.scaling {
            RopeScaling::Divided(divisors) => Some(divisors),
            RopeScaling::LongRope { short, long, original_context } => Some(if context > *original_context { long } else { short }),
            _ => None,
        }
    }

    /// Radians per position of each pair, `[rotated / 2]`, worked out in float64.
    ///
    /// Unscaled, pair i turns by base^(−2i / rotated).
    pub fn frequencies(&self, divisors: Option<&[f32]>) -> Vec<f32> {
        let rotated = f64::from(self.rotated);
        let base = f64::from(self.base);
        (0..self.rotated / 2)
            .map(|i| {
                let plain = base.powf(-2.0 * f64::from(i) / rotated);
                let divisor = divisors.map_or(1.0, |d| f64::from(d[i as usize]));
                (self.scaling.stretch(plain, f64::from(i), rotated, base) / divisor) as f32
            })
            .collect()
    }

    /// [`RopeConfig::frequencies`] of divisors that a file gave.
    ///
    /// # Errors
    /// Divisors that are not one a pair, or not finite numbers above zero.
    pub(super) fn checked_frequencies(&self, divisors: Option<&[f32]>) -> Result<Vec<f32>> {
        let pairs = self.rotated as usize / 2;
        if let Some(given) = divisors {
            if given.len() != pairs {
                return Err(Error::malformed(format!("{} rope factors are given for {pairs} rotated pairs", given.len())));
            }
            if let Some(bad) = given.iter().find(|d| !(d.is_finite() && **d > 0.0)) {
                return Err(Error::malformed(format!("a rope factor is {bad}; each must be a finite number above zero")));
            }
        }
        Ok(self.frequencies(divisors))
    }

    /// What cosine and sine are multiplied by.
    pub fn magnitude(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn { factor, .. } if factor > 1.0 => self.magnitude * (1.0 + 0.1 * factor.ln()),
            _ => self.magnitude,
        }
    }
}

impl RopeScaling {
    fn read(keys: &Keys<'_>, trained_context: u32) -> Result<RopeScaling> {
        if let Some(divisors) = keys.divisors("rope_freqs.weight", "rope.scaling.factors")? {
            return Ok(RopeScaling::Divided(divisors));
        }
        let original_context = match keys.optional("rope.scaling.original_context_length")? {
            Some(0) | None => trained_context,
            Some(given) => given,
        };
        let short = keys.divisors("rope_factors_short.weight", "rope.scaling.short_factor")?;
        let long = keys.divisors("rope_factors_long.weight", "rope.scaling.long_factor")?;
        let kind = keys.key("rope.scaling.type");
        let named = keys.metadata().str(&kind)?;
        match (short, long) {
            (Some(short), Some(long)) => return Ok(RopeScaling::LongRope { short, long, original_context }),
            (None, None) if named != Some("longrope") => {}
            _ => return Err(Error::malformed("longrope needs both rope_factors_short.weight and rope_factors_long.weight")),
        }
        let factor = match keys.positive("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => keys.positive("rope.scale_linear")?, // files from before GGUF named the kind
        };
        match (named, factor) {
            (Some("none"), _) | (_, None) => Ok(RopeScaling::None),
            // `dynamic` stretches only past the trained context, by rules that no two engines share.
            (None | Some("linear"), Some(factor)) => Ok(RopeScaling::Linear { factor }),
            (Some("llama3"), Some(factor)) => {
                let low = keys.positive("rope.scaling.low_freq_factor")?.unwrap_or(1.0);
                let high = keys.positive("rope.scaling.high_freq_factor")?.unwrap_or(4.0);
                if high <= low {
                    return Err(Error::malformed(format!(
                        "{} is {high}; it must be above {}, {low}",
                        keys.key("rope.scaling.high_freq_factor"),
                        keys.key("rope.scaling.low_freq_factor")
                    )));
                }
                Ok(RopeScaling::Llama3 { factor, low, high, original_context })
            }
            (Some("yarn"), Some(factor)) => Ok(RopeScaling::Yarn {
                factor,
                beta_fast: keys.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: keys.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                original_context,
            }),
            (Some(other), _) => {
                Err(Error::unsupported(format!("{kind} is {other:?}; `none`, `linear`, `llama3`, `yarn` and `longrope` are known")))
            }
        }
    }

    /// The frequency of pair `i` of `rotated / 2`, whose unscaled frequency is `plain`.
    fn stretch(&self, plain: f64, i: f64, rotated: f64, base: f64) -> f64 {
        match *self {
            RopeScaling::None | RopeScaling::Divided(_) | RopeScaling::LongRope { .. } => plain,
            RopeScaling::Linear { factor } => plain / f64::from(factor),
            RopeScaling::Llama3 { factor, low, high, original_context } => {
                let waves = f64::from(original_context) * plain / TAU; // over the original context
                let keep = ((waves - f64::from(low)) / f64::from(high - low)).clamp(0.0, 1.0);
                plain * (keep + (1.0 - keep) / f64::from(factor))
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context } => {
                let pair_turning = |times: f32| rotated * (f64::from(original_context) / (f64::from(times) * TAU)).ln() / (2.0 * base.ln());
                let first = pair_turning(beta_fast).floor().max(0.0);
                let last = pair_turning(beta_slow).ceil().min(rotated - 1.0);
                let keep = 1.0 - ((i - first) / (last - first).max(0.001)).clamp(0.0, 1.0);
                plain * (keep + (1.0 - keep) / f64::from(factor))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(scaling: RopeScaling) -> RopeConfig {
        RopeConfig { base: 500_000.0, rotated: 128, pairs: RopePairs::Halves, scaling, magnitude: 1.0 }
    }

    #[test]
    fn plain_frequencies_fall_geometrically() {
        let f = rope(RopeScaling::None).frequencies(None);
        assert_eq!(f.len(), 64);
        assert_eq!(f[0], 1.0);
        assert!((f[63] - 500_000f32.powf(-126.0 / 128.0)).abs() < 1e-9);
    }

    #[test]
    fn llama3_keeps_short_waves_and_divides_long_ones() {
        let scaled = rope(RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 8192 });
        let (plain, scaled) = (rope(RopeScaling::None).frequencies(None), scaled.frequencies(None));
        assert_eq!(plain[0], scaled[0]);
        assert!((plain[63] / scaled[63] - 8.0).abs() < 1e-5);
        let ramp = (0..64).filter(|i| plain[*i] != scaled[*i] && plain[*i] / scaled[*i] < 7.99).count();
        assert!((1..20).contains(&ramp), "{ramp} pairs on the ramp");
    }

    #[test]
    fn longrope_chooses_by_context() {
        let scaling =
            RopeScaling::LongRope { short: Divisors::Values(vec![1.0]), long: Divisors::Values(vec![2.0]), original_context: 4096 };
        assert_eq!(rope(scaling.clone()).divisors(4096), Some(&Divisors::Values(vec![1.0])));
        assert_eq!(rope(scaling).divisors(4097), Some(&Divisors::Values(vec![2.0])));
    }
}
