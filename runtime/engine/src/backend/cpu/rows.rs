//! Kernels that go along one row of activations: norms, quantisation, gates.
#![allow(unsafe_op_in_unsafe_fn, reason = "each function's obligations are stated on it")]

use super::isa::{Isa, LANES};
use super::layout::BLOCK;
use super::math;
use super::matmul::BlockScale;
use crate::model::plan::Activation;

/// A piece of a row to cap.
pub(super) struct CapArgs {
    /// `[width]`.
    pub(super) y: *mut f32,
    /// Values.
    pub(super) width: usize,
    /// c of c·tanh(y / c).
    pub(super) cap: f32,
}

/// One row to normalise.
pub(super) struct NormArgs {
    /// `[width]`.
    pub(super) x: *const f32,
    /// `[width]`; may be `x`.
    pub(super) out: *mut f32,
    /// Values.
    pub(super) width: usize,
    /// `[width]`.
    pub(super) gain: *const f32,
    /// `[width]` for layer norms; null for RMS norms.
    pub(super) bias: *const f32,
    /// eps.
    pub(super) eps: f32,
    /// Whether the result is added to what `out` holds.
    pub(super) accumulate: bool,
}

/// Loads the first `n` of 16 values, zeros beyond.
///
/// # Safety
/// The processor has `S`'s features and `at` holds `n` values.
#[inline(always)]
pub(super) unsafe fn load_part<S: Isa>(at: *const f32, n: usize) -> S::F {
    if n >= LANES {
        return S::load(at);
    }
    let mut copy = [0f32; LANES];
    std::ptr::copy_nonoverlapping(at, copy.as_mut_ptr(), n);
    S::load(copy.as_ptr())
}

/// Stores the first `n` of 16 values.
///
/// # Safety
/// As [`load_part`].
#[inline(always)]
unsafe fn store_part<S: Isa>(at: *mut f32, v: S::F, n: usize) {
    if n >= LANES {
        return S::store(at, v);
    }
    let mut copy = [0f32; LANES];
    S::store(copy.as_mut_ptr(), v);
    std::ptr::copy_nonoverlapping(copy.as_ptr(), at, n);
}

/// Caps a piece of a row.
///
/// # Safety
/// The processor has `S`'s features and `args` describes valid memory that no one else writes.
#[inline(always)]
pub(super) unsafe fn cap<S: Isa>(args: &CapArgs) {
    for at in (0..args.width).step_by(LANES) {
        let (y, n) = (args.y.add(at), args.width - at);
        store_part::<S>(y, math::softcap::<S>(load_part::<S>(y, n), args.cap), n);
    }
}

/// Σ (x − offset)², the sums of each lane first. Values past the width count nothing.
///
/// # Safety
/// As [`load_part`], with `width` values.
#[inline(always)]
unsafe fn sum_of_squares<S: Isa>(x: *const f32, width: usize, offset: f32) -> f32 {
    let mut sum = S::splat(0.0);
    let whole = width - width % LANES;
    for i in (0..whole).step_by(LANES) {
        let d = S::sub(S::load(x.add(i)), S::splat(offset));
        sum = S::fma(d, d, sum);
    }
    let mut rest = 0.0;
    for i in whole..width {
        let d = *x.add(i) - offset;
        rest += d * d;
    }
    S::sum(sum) + rest
}

/// Normalises a row; see [`crate::model::plan::Norm`].
///
/// # Safety
/// The processor has `S`'s features, and the pointers hold what [`NormArgs`] says.
#[inline(always)]
pub(super) unsafe fn norm<S: Isa>(args: &NormArgs) {
    let (x, width) = (args.x, args.width);
    let mean = if args.bias.is_null() {
        0.0
    } else {
        let mut sum = S::splat(0.0);
        for i in (0..width).step_by(LANES) {
            sum = S::add(sum, load_part::<S>(x.add(i), width - i));
        }
        S::sum(sum) / width as f32
    };
    let variance = sum_of_squares::<S>(x, width, mean) / width as f32;
    let inverse = S::splat(1.0 / (variance + args.eps).sqrt());
    for i in (0..width).step_by(LANES) {
        let n = width - i;
        let centred = S::sub(load_part::<S>(x.add(i), n), S::splat(mean));
        let mut y = S::mul(S::mul(centred, inverse), load_part::<S>(args.gain.add(i), n));
        if !args.bias.is_null() {
            y = S::add(y, load_part::<S>(args.bias.add(i), n));
        }
        if args.accumulate {
            y = S::add(load_part::<S>(args.out.add(i), n), y);
        }
        store_part::<S>(args.out.add(i), y, n);
    }
}

/// Whole blocks of 32 values to quantise.
pub(super) struct QuantiseArgs {
    /// `[32 · blocks]`.
    pub(super) x: *const f32,
    /// `[32 · blocks]`.
    pub(super) codes: *mut i8,
    /// `[blocks]`.
    pub(super) scales: *mut BlockScale,
    /// Blocks.
    pub(super) blocks: usize,
}

/// Quantises blocks of 32 values to 8 bits: `d = max|x| / 127`, codes are `x / d` to the nearest, ties to even.
///
/// # Safety
/// The processor has `S`'s features, and the pointers hold what [`QuantiseArgs`] says.
#[inline(always)]
pub(super) unsafe fn quantise<S: Isa>(args: &QuantiseArgs) {
    for b in 0..args.blocks {
        let x = args.x.add(b * BLOCK);
        let codes = args.codes.add(b * BLOCK);
        let (first, second) = (S::load(x), S::load(x.add(LANES)));
        let largest = S::largest(S::max(S::abs(first), S::abs(second)));
        let scale = largest / 127.0;
        let inverse = S::splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
        S::store_i8(codes, S::mul(first, inverse));
        S::store_i8(codes.add(LANES), S::mul(second, inverse));
        let mut sums = [0i32; 2];
        for i in 0..LANES {
            sums[0] += *codes.add(i) as i32;
            sums[1] += *codes.add(LANES + i) as i32;
        }
        let sum = sums[0] + sums[1];
        *args.scales.add(b) =
            BlockScale { scale, sum: scale * sum as f32, start_q4: -8 * sum, start_q8: -128 * sum, start_q6: sums.map(|s| -32 * s) };
    }
}

/// A piece of one row to activate.
pub(super) struct ActivateArgs {
    /// `[width]`, what the non-linearity takes.
    pub(super) gate: *const f32,
    /// `[width]`, what it gates; null where nothing is.
    pub(super) up: *const f32,
    /// `[width]`.
    pub(super) out: *mut f32,
    /// Values.
    pub(super) width: usize,
    /// The non-linearity.
    pub(super) activation: Activation,
}

/// out = act(gate) ⊙ up, or act(gate).
///
/// # Safety
/// The processor has `S`'s features, and the pointers hold what [`ActivateArgs`] says.
#[inline(always)]
pub(super) unsafe fn activate<S: Isa>(args: &ActivateArgs) {
    for i in (0..args.width).step_by(LANES) {
        let n = args.width - i;
        let g = load_part::<S>(args.gate.add(i), n);
        let mut y = match args.activation {
            Activation::Silu => math::silu::<S>(g),
            Activation::GeluTanh => math::gelu_tanh::<S>(g),
            Activation::GeluErf => math::gelu_erf::<S>(g),
        };
        if !args.up.is_null() {
            y = S::mul(y, load_part::<S>(args.up.add(i), n));
        }
        store_part::<S>(args.out.add(i), y, n);
    }
}
