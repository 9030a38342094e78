//! Rotary position embeddings: every scaling becomes frequencies and one magnitude, so that kernels know none of them.

use std::f64::consts::TAU;

use crate::error::{Error, Result};

use super::config::Keys;
use super::plan::RopePairs;

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
    /// Slow pairs divided by the factor, fast ones kept, with a ramp between, and a magnitude of 1 + ln(factor)/10 (YaRN).
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
    /// Divided pair by pair by a tensor's values (Llama 3's numbers, worked out by whoever wrote the file), beside what the file's keys ask for.
    Divided {
        /// The tensor, `[rotated / 2]`.
        tensor: String,
        /// What the keys ask for.
        keys: Box<RopeScaling>,
    },
    /// Divided pair by pair, by one tensor's values up to the original context and another's beyond it (Phi 3).
    LongRope {
        /// Up to the original context.
        short: String,
        /// Beyond it.
        long: String,
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

    /// The tensor of divisors that [`RopeConfig::frequencies`] wants, for a context of this many positions.
    pub fn divisors(&self, context: u32) -> Option<&str> {
        match &self.scaling {
            RopeScaling::Divided { tensor, .. } => Some(tensor),
            RopeScaling::LongRope { short, long, original_context } => Some(if context > *original_context { long } else { short }),
            _ => None,
        }
    }

    /// Radians per position of each pair, `[rotated / 2]`, worked out in float64.
    ///
    /// Unscaled, pair i turns by base^(−2i / rotated).
    ///
    /// # Errors
    /// Divisors that are not one a pair, or not finite numbers above zero.
    pub fn frequencies(&self, divisors: Option<&[f32]>) -> Result<Vec<f32>> {
        let pairs = self.rotated as usize / 2;
        let divisors = match divisors {
            None => vec![1.0; pairs],
            Some(given) if given.len() != pairs => {
                return Err(Error::malformed(format!("{} rope factors are given for {pairs} rotated pairs", given.len())));
            }
            Some(given) => given.to_vec(),
        };
        if let Some(bad) = divisors.iter().find(|d| !(d.is_finite() && **d > 0.0)) {
            return Err(Error::malformed(format!("a rope factor is {bad}; each must be a finite number above zero")));
        }
        let rotated = f64::from(self.rotated);
        let base = f64::from(self.base);
        let frequency = |(i, divisor): (usize, f32)| {
            let plain = base.powf(-2.0 * i as f64 / rotated);
            (self.scaling.stretch(plain, i as f64, rotated, base) / f64::from(divisor)) as f32
        };
        Ok(divisors.into_iter().enumerate().map(frequency).collect())
    }

    /// What cosine and sine are multiplied by.
    pub fn magnitude(&self) -> f32 {
        self.magnitude * self.scaling.magnitude()
    }
}

impl RopeScaling {
    fn read(keys: &Keys<'_>, trained_context: u32) -> Result<RopeScaling> {
        if keys.has("rope_freqs.weight") {
            let (tensor, keys) = ("rope_freqs.weight".to_owned(), Box::new(RopeScaling::of_keys(keys, trained_context)?));
            // Both by a tensor: two of them are one too many.
            return match *keys {
                RopeScaling::LongRope { .. } => Err(Error::malformed("rope_freqs.weight and longrope's factors exclude each other")),
                _ => Ok(RopeScaling::Divided { tensor, keys }),
            };
        }
        RopeScaling::of_keys(keys, trained_context)
    }

    fn of_keys(keys: &Keys<'_>, trained_context: u32) -> Result<RopeScaling> {
        let tensor = |name: &str| keys.has(name).then(|| name.to_owned());
        let original_context = match keys.optional("rope.scaling.original_context_length")? {
            Some(0) | None => trained_context,
            Some(given) => given,
        };
        let short = tensor("rope_factors_short.weight");
        let long = tensor("rope_factors_long.weight");
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
            // Its numbers are the tensor's.
            (Some("llama3"), _) if keys.has("rope_freqs.weight") => Ok(RopeScaling::None),
            (None | Some("linear"), Some(factor)) => Ok(RopeScaling::Linear { factor }),
            (Some("yarn"), Some(factor)) => Ok(RopeScaling::Yarn {
                factor,
                beta_fast: keys.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: keys.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                original_context,
            }),
            // `dynamic`, for one, stretches only past the trained context, by rules that no two engines share.
            (Some(other), _) => Err(Error::unsupported(format!("{kind} is {other:?}; `none`, `linear`, `yarn` and `longrope` are known"))),
        }
    }

    /// What cosine and sine are multiplied by for it.
    fn magnitude(&self) -> f32 {
        match self {
            RopeScaling::Yarn { factor, .. } if *factor > 1.0 => 1.0 + 0.1 * factor.ln(),
            RopeScaling::Divided { keys, .. } => keys.magnitude(),
            _ => 1.0,
        }
    }

    /// The frequency of pair `i` of `rotated / 2`, whose unscaled frequency is `plain`.
    fn stretch(&self, plain: f64, i: f64, rotated: f64, base: f64) -> f64 {
        match *self {
            RopeScaling::None | RopeScaling::LongRope { .. } => plain,
            RopeScaling::Divided { ref keys, .. } => keys.stretch(plain, i, rotated, base),
            RopeScaling::Linear { factor } => plain / f64::from(factor),
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
        let f = rope(RopeScaling::None).frequencies(None).unwrap();
        assert_eq!(f.len(), 64);
        assert_eq!(f[0], 1.0);
        assert!((f[63] - 500_000f32.powf(-126.0 / 128.0)).abs() < 1e-9);
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_divides_slow_ones() {
        let scaling = RopeScaling::Yarn { factor: 8.0, beta_fast: 32.0, beta_slow: 1.0, original_context: 8192 };
        let (plain, scaled) = (rope(RopeScaling::None).frequencies(None).unwrap(), rope(scaling).frequencies(None).unwrap());
        assert_eq!(plain[0], scaled[0]);
        assert!((plain[63] / scaled[63] - 8.0).abs() < 1e-5);
        let ramp = (0..64).filter(|i| plain[*i] != scaled[*i] && plain[*i] / scaled[*i] < 7.99).count();
        assert!((1..30).contains(&ramp), "{ramp} pairs on the ramp");
    }

    /// As llama.cpp has it: an angle is divided by the tensor's value, and then scaled as the keys say.
    #[test]
    fn a_tensor_of_divisors_leaves_the_keys_scaling_in_force() {
        let divisors: Vec<f32> = (0..64).map(|pair| 1.0 + pair as f32 / 8.0).collect();
        let yarn = RopeScaling::Yarn { factor: 8.0, beta_fast: 32.0, beta_slow: 1.0, original_context: 8192 };
        for keys in [RopeScaling::None, RopeScaling::Linear { factor: 4.0 }, yarn] {
            let alone = rope(keys.clone());
            let both = rope(RopeScaling::Divided { tensor: "rope_freqs.weight".into(), keys: Box::new(keys) });
            assert_eq!(both.magnitude(), alone.magnitude());
            let (alone, both) = (alone.frequencies(None).unwrap(), both.frequencies(Some(&divisors)).unwrap());
            for ((alone, both), divisor) in alone.iter().zip(both).zip(&divisors) {
                let wanted = alone / divisor;
                assert!((both - wanted).abs() <= 1e-6 * wanted, "{both} is not {wanted}");
            }
        }
    }

    #[test]
    fn longrope_chooses_by_context() {
        let scaling = RopeScaling::LongRope { short: "short".into(), long: "long".into(), original_context: 4096 };
        assert_eq!(rope(scaling.clone()).divisors(4096), Some("short"));
        assert_eq!(rope(scaling).divisors(4097), Some("long"));
    }
}
