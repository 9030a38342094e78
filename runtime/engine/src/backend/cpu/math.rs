//! Exponentials and their kin on 16 lanes, the same for every lane.
#![allow(unsafe_op_in_unsafe_fn, reason = "every function has one obligation: the processor has S's features")]

use super::isa::Isa;

/// e^x. Relative error below 2e-7; 0 below −87.3, 3.4e38 or so above 88.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; e^r by its Taylor series to r^7 / 7!, whose rest is below 1e-8.
#[inline(always)]
pub(super) unsafe fn exp<S: Isa>(x: S::F) -> S::F {
    // `max` and `min` give their second operand where one is NaN, so NaN stays NaN.
    // Clamped first, so that n stays where scale2 is exact. What is below is set to 0 at the end, by a factor that is 0 or 1.
    let clamped = S::max(S::splat(-87.0), S::min(S::splat(88.0), x));
    let n = S::round(S::mul(clamped, S::splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts: n times the first is exact.
    let r = S::fnma(n, S::splat(355.0 / 512.0), clamped);
    let r = S::fnma(n, S::splat(-2.121_944_4e-4), r);
    let mut p = S::splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = S::fma(p, r, S::splat(c));
    }
    // 1 from −87 up, 0 from −88 down, between them a line: e^−87 is 1.6e-38, so nothing is seen of it.
    let alive = S::max(S::splat(0.0), S::min(S::splat(1.0), S::add(S::splat(88.0), x)));
    S::mul(S::scale2(p, n), alive)
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub(super) unsafe fn sigmoid<S: Isa>(x: S::F) -> S::F {
    S::div(S::splat(1.0), S::add(S::splat(1.0), exp::<S>(S::sub(S::splat(0.0), x))))
}

/// tanh x = 2·sigmoid(2x) − 1. Absolute error below 2e-7.
#[inline(always)]
pub(super) unsafe fn tanh<S: Isa>(x: S::F) -> S::F {
    S::sub(S::mul(S::splat(2.0), sigmoid::<S>(S::add(x, x))), S::splat(1.0))
}

/// c·tanh(x / c).
#[inline(always)]
pub(super) unsafe fn softcap<S: Isa>(x: S::F, c: f32) -> S::F {
    S::mul(tanh::<S>(S::div(x, S::splat(c))), S::splat(c))
}

/// erf x, by Abramowitz and Stegun 7.1.26. Absolute error below 5e-7.
#[inline(always)]
pub(super) unsafe fn erf<S: Isa>(x: S::F) -> S::F {
    let a = S::abs(x);
    let t = S::div(S::splat(1.0), S::fma(a, S::splat(0.327_591_1), S::splat(1.0)));
    let mut p = S::splat(1.061_405_4);
    for c in [-1.453_152_1, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        p = S::fma(p, t, S::splat(c));
    }
    let tail = S::mul(S::mul(p, t), exp::<S>(S::sub(S::splat(0.0), S::mul(a, a))));
    S::copysign(S::max(S::splat(0.0), S::sub(S::splat(1.0), tail)), x)
}

/// x · sigmoid(x).
#[inline(always)]
pub(super) unsafe fn silu<S: Isa>(x: S::F) -> S::F {
    S::mul(x, sigmoid::<S>(x))
}

/// GELU by tanh: ½x(1 + tanh u) = x · sigmoid(2u), u = √(2/π)·(x + 0.044715x³).
#[inline(always)]
pub(super) unsafe fn gelu_tanh<S: Isa>(x: S::F) -> S::F {
    let cubed = S::mul(S::mul(x, x), x);
    let inner = S::fma(cubed, S::splat(0.044_715), x);
    S::mul(x, sigmoid::<S>(S::mul(inner, S::splat(1.595_769_1))))
}

/// GELU by erf: ½x(1 + erf(x / √2)).
#[inline(always)]
pub(super) unsafe fn gelu_erf<S: Isa>(x: S::F) -> S::F {
    let half = S::mul(x, S::splat(0.5));
    S::fma(half, erf::<S>(S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2))), half)
}
