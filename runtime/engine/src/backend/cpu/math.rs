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
    S::mul(x, sigmoid::<S>(S::mul(inner, S::splat(1.595_769_2))))
}

/// GELU by erf: ½x(1 + erf(x / √2)).
#[inline(always)]
pub(super) unsafe fn gelu_erf<S: Isa>(x: S::F) -> S::F {
    let half = S::mul(x, S::splat(0.5));
    S::fma(half, erf::<S>(S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2))), half)
}

#[cfg(test)]
mod tests {
    use super::super::isa::scalar::Scalar;
    use super::*;

    /// The largest |got − want| / (floor + |want|) over a sweep of x.
    fn worst(from: f32, to: f32, floor: f64, got: impl Fn(f32) -> f32, want: impl Fn(f64) -> f64) -> f64 {
        let steps = 200_000;
        (0..=steps)
            .map(|i| {
                let x = from + (to - from) * i as f32 / steps as f32;
                let want = want(x as f64);
                (got(x) as f64 - want).abs() / (floor + want.abs())
            })
            .fold(0.0, f64::max)
    }

    /// One lane of a function.
    macro_rules! lane {
        ($function:ident) => {
            // SAFETY: Scalar needs no features.
            |x: f32| unsafe { $function::<Scalar>([x; 16])[3] }
        };
    }

    #[test]
    fn errors_are_as_documented() {
        assert!(worst(-87.0, 88.0, 0.0, lane!(exp), f64::exp) < 2e-7);
        assert!(worst(-20.0, 20.0, 1.0, lane!(tanh), f64::tanh) < 2e-7);
        assert!(worst(-20.0, 20.0, 1.0, lane!(sigmoid), |x| 1.0 / (1.0 + (-x).exp())) < 2e-7);
        let gelu = |x: f64| x / (1.0 + (-1.595_769_121_605_731 * (x + 0.044715 * x * x * x)).exp());
        assert!(worst(-20.0, 20.0, 1.0, lane!(gelu_tanh), gelu) < 1e-6);
    }

    #[test]
    fn ends_of_the_range() {
        let (exp, erf, silu) = (lane!(exp), lane!(erf), lane!(silu));
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::INFINITY).is_finite());
        assert!(exp(f32::NAN).is_nan() && silu(f32::NAN).is_nan());
        assert_eq!((erf(10.0), erf(-10.0)), (1.0, -1.0));
        // Abramowitz and Stegun, table 7.1.
        for (x, want) in [(0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3), (-1.0, -0.842_700_8)] {
            assert!((erf(x) - want).abs() < 5e-7, "erf({x})");
        }
    }
}
