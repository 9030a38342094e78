//! What each kernel means, in plain loops over f64: the oracle of kernel tests and of a device's load-time self-check.
//!
//! A twin has its kernel's name and takes what the kernel is bound to: the same parameters, the same planes. Where a rung
//! rounds on purpose (f16 tiles, 8-bit activations) the twin rounds too, so that bounds can stay tight. [`Case`] is a
//! dispatch with everything it reads; [`expected`] says what it leaves behind and [`compare`] judges what a device left.

mod attend_prompt;
mod attend_reduce;
mod attend_split;
mod attention_case;
mod case;
mod decode;
mod embed;
mod lora_expand;
mod lora_shrink;
mod matmul;
mod matrix;
mod matvec;
mod norm;
mod pages;
mod random;
mod rope_write;
mod sample;
mod sample_case;
mod seen;

pub use attend_prompt::attend_prompt;
pub use attend_reduce::attend_reduce;
pub use attend_split::attend_split;
pub use attention_case::{AttendCase, RopeCase};
pub use case::{Case, EmbedCase, LoraCase, MatrixCase, NormCase, check_cases};
pub use decode::Weights;
pub use embed::embed;
pub use lora_expand::lora_expand;
pub use lora_shrink::{ShrinkInputs, lora_shrink};
pub use matmul::matmul;
pub use matrix::{MatrixInputs, Rounding};
pub use matvec::matvec;
pub use norm::{NormInputs, norm};
pub use pages::{PageLayout, quantise_head};
pub use random::Random;
pub use rope_write::{RopeInputs, rope_write};
pub use sample::{SampleInputs, sample};
pub use sample_case::SampleCase;

use crate::params::{AttendParams, DROPPED, EmbedParams, LoraParams, MatrixParams, NormParams, RopeParams, SampleParams};
use crate::{BindingKind, Kernel, KvFormat, Rung};
use bytemuck::{cast_slice, cast_slice_mut, from_bytes};

/// The value of an override in a case: what it sets, or 0, which is every override's default but `SHUFFLE_WIDTH`'s.
fn setting(overrides: &[(&'static str, f64)], name: &str) -> u32 {
    overrides.iter().find(|(n, _)| *n == name).map_or(0, |&(_, value)| value as u32)
}

/// As many whole values as the words hold.
fn leading<T: bytemuck::AnyBitPattern>(words: &[u32]) -> &[T] {
    cast_slice(&words[..words.len() / (size_of::<T>() / 4) * (size_of::<T>() / 4)])
}

/// What the case leaves in its buffers: all of them, those it only reads unchanged.
pub fn expected(case: &Case) -> Vec<Vec<u32>> {
    let mut buffers = case.buffers.clone();
    let given = &case.buffers;
    let f = |i: usize| -> &[f32] { cast_slice(&given[i]) };
    let set = |name: &str| setting(&case.overrides, name);
    let bytes: &[u8] = cast_slice(&given[0]);
    let rounding = match case.variant.rung {
        Rung::Plain | Rung::Subgroup => Rounding::None,
        Rung::F16 => Rounding::F16,
        Rung::IntDot | Rung::IntDotSubgroup => Rounding::Int8,
    };
    match case.variant.kernel {
        Kernel::Embed => {
            let params: &EmbedParams = from_bytes(bytes);
            let weights = Weights::new(case.format(), params.planes, params.columns, &given[3]);
            embed(params, cast_slice(&given[1]), &given[2], &weights, cast_slice_mut(&mut buffers[5]));
        }
        Kernel::Norm => {
            let inputs = NormInputs {
                params: from_bytes::<NormParams>(bytes),
                kind: set("KIND"),
                join: set("JOIN"),
                input: f(1),
                gain: f(2),
                bias: f(3),
                indices: &given[4],
            };
            norm(&inputs, cast_slice_mut(&mut buffers[5]));
        }
        Kernel::Matvec | Kernel::Matmul => {
            let params: &MatrixParams = from_bytes(bytes);
            let is_matvec = case.variant.kernel == Kernel::Matvec;
            let after = if is_matvec { 5 } else { 4 };
            let inputs = MatrixInputs {
                params,
                prologue: set("PROLOGUE"),
                epilogue: set("EPILOGUE"),
                activation: set("ACTIVATION"),
                has_bias: set("HAS_BIAS") == 1,
                rounding,
                weights: Weights::new(case.format(), params.planes, params.columns, &given[1]),
                x: f(3),
                gain: if is_matvec { f(4) } else { &[] },
                bias: f(after),
                indices: &given[after + 1],
                delta: if set("HAS_DELTA") == 1 { f(after + 2) } else { &[] },
            };
            let y = cast_slice_mut(&mut buffers[after + 3]);
            if is_matvec { matvec(&inputs, y) } else { matmul(&inputs, y) }
        }
        Kernel::LoraShrink => {
            let inputs = ShrinkInputs {
                params: from_bytes::<LoraParams>(bytes),
                prologue: set("PROLOGUE"),
                rows: cast_slice(&given[1]),
                table: leading(&given[2]),
                weights: f(3),
                x: f(4),
                gain: f(5),
                indices: &given[6],
            };
            lora_shrink(&inputs, cast_slice_mut(&mut buffers[7]));
        }
        Kernel::LoraExpand => {
            let params: &LoraParams = from_bytes(bytes);
            let (rows, table) = (cast_slice(&given[1]), leading(&given[2]));
            lora_expand(params, rows, table, f(3), f(4), &given[5], cast_slice_mut(&mut buffers[6]));
        }
        Kernel::RopeWrite => {
            let inputs = RopeInputs {
                params: from_bytes::<RopeParams>(bytes),
                pairs: set("PAIRS"),
                qk_norm: set("QK_NORM") == 1,
                rows: cast_slice(&given[1]),
                tables: &given[2],
                frequencies: f(3),
                q_gain: f(4),
                k_gain: f(5),
            };
            let format = case.kv();
            let [.., qkv, k_pages, v_pages] = buffers.as_mut_slice() else { return buffers };
            rope_write(&inputs, format, cast_slice_mut(qkv), k_pages, v_pages);
        }
        Kernel::AttendSplit => {
            let params: &AttendParams = from_bytes(bytes);
            let layout = PageLayout { format: case.kv(), kv_heads: params.kv_heads, stride: params.kv_stride };
            let (k, v) = (layout.decode(&given[4]), layout.decode(&given[5]));
            attend_split(params, cast_slice(&given[1]), &given[2], f(3), &k, &v, cast_slice_mut(&mut buffers[6]));
        }
        Kernel::AttendReduce => {
            let params: &AttendParams = from_bytes(bytes);
            attend_reduce(params, cast_slice(&given[1]), f(2), cast_slice_mut(&mut buffers[3]));
        }
        Kernel::AttendPrompt => {
            let params: &AttendParams = from_bytes(bytes);
            let layout = PageLayout { format: case.kv(), kv_heads: params.kv_heads, stride: params.kv_stride };
            let (k, v) = (layout.decode(&given[5]), layout.decode(&given[6]));
            let inputs = attend_prompt::PromptInputs {
                params,
                rows: cast_slice(&given[1]),
                tables: &given[2],
                tiles: cast_slice(&given[3]),
                qkv: f(4),
                k_pages: &k,
                v_pages: &v,
            };
            attend_prompt(&inputs, cast_slice_mut(&mut buffers[7]));
        }
        Kernel::Sample => {
            let inputs = SampleInputs {
                params: from_bytes::<SampleParams>(bytes),
                draws: leading(&given[1]),
                adjustments: leading(&given[2]),
                masks: &given[3],
            };
            let [.., logits, slots, drawn] = buffers.as_mut_slice() else { return buffers };
            sample(&inputs, cast_slice_mut(logits), slots, drawn);
        }
    }
    buffers
}

/// The largest error allowed of a variant, as a share of the largest value in the buffer.
///
/// f32 sums of a few thousand products stay below 1e-5. Rungs that round may round a value that lies between two steps the
/// other way than the twin: one step of one value in a sum.
pub fn bound(rung: Rung) -> f64 {
    match rung {
        Rung::Plain | Rung::Subgroup => 2e-5,
        Rung::F16 => 1e-3,
        Rung::IntDot | Rung::IntDotSubgroup => 4e-3,
    }
}

/// Judges what a device left in the buffer at `binding` against what [`expected`] says. Pages of f16 may differ by a unit
/// in the last place, those of 8-bit codes by a step of few of them. What the twin leaves alone must be the same bits. Returns the error as a share of the largest value.
pub fn compare(case: &Case, binding: usize, expected: &[u32], got: &[u32]) -> Result<f64, String> {
    let about = &case.variant.bindings[binding];
    let place = format!("{} ({}), `{}`", case.variant.name, case.what, about.name);
    if about.kind != BindingKind::ReadWrite {
        return Err(format!("{place} is not written"));
    }
    if expected.len() != got.len() {
        return Err(format!("{place} has {} words, not {}", got.len(), expected.len()));
    }
    let before = &case.buffers[binding];
    let left_alone = || -> Result<(), String> {
        for (i, ((&was, &want), &is)) in before.iter().zip(expected).zip(got).enumerate() {
            if want == was && is != was {
                return Err(format!("{place}: word {i} should have been left alone: {was:#x} became {is:#x}"));
            }
        }
        Ok(())
    };
    if about.name.ends_with("_pages") && case.kv() == KvFormat::Int8 {
        left_alone()?;
        // Only `rope_write` writes pages.
        let params: &RopeParams = from_bytes(cast_slice(&case.buffers[0]));
        let layout = PageLayout { format: KvFormat::Int8, kv_heads: params.kv_heads, stride: params.kv_stride };
        return layout.compare_int8(expected, got).map_err(|e| format!("{place}: {e}"));
    }
    if matches!(about.name, "drawn" | "slots") {
        return match expected.iter().zip(got).position(|(want, is)| want != is) {
            Some(at) => Err(format!("{place}: word {at} is {}, not {}", got[at], expected[at])),
            None => Ok(0.0),
        };
    }
    if about.name == "logits" {
        // What was ruled out is marked by a value that would hide every other error.
        let [want, is] = [expected, got].map(|words| words.iter().map(|&w| f32::from_bits(w)));
        if let Some((at, (want, is))) = want.zip(is).enumerate().find(|(_, (want, is))| (*want == DROPPED) != (*is == DROPPED)) {
            return Err(format!("{place}: token {at} is {is} and should be {want}"));
        }
    }
    let (wanted, left, limit): (Vec<f64>, Vec<f64>, f64) = if about.name.ends_with("_pages") {
        let halves = |words: &[u32]| cast_slice::<u32, half::f16>(words).iter().map(|h| h.to_f64()).collect();
        (halves(expected), halves(got), bound(case.variant.rung).max(1e-3))
    } else {
        let float = |&v: &f32| if v == DROPPED || !v.is_finite() && about.name == "logits" { 0.0 } else { f64::from(v) };
        let floats = |words: &[u32]| cast_slice::<u32, f32>(words).iter().map(float).collect();
        (floats(expected), floats(got), bound(case.variant.rung))
    };
    left_alone()?;
    let largest = wanted.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(1e-30);
    let mut worst = (0.0, 0);
    for (i, (want, is)) in wanted.iter().zip(&left).enumerate() {
        let error = (want - is).abs() / largest;
        // Written so that NaN counts as worst.
        if error.is_nan() || error > worst.0 {
            worst = (error, i);
        }
    }
    let (error, at) = worst;
    if error <= limit {
        Ok(error)
    } else {
        Err(format!(
            "{place}: element {at} is {} and should be {}: error {error:.2e} of the largest value, allowed {limit:.0e}",
            left[at], wanted[at]
        ))
    }
}
