//! WebAssembly: a vector is four 128-bit registers.
//!
//! With `RELAXED`, codes up to 127 use the relaxed dot product, whose second operand must stay within 7 bits:
//! 4- and 6-bit codes do. 8-bit codes are widened to 16 bits and multiplied there.
#![allow(unsafe_op_in_unsafe_fn, reason = "every method has the one obligation stated on the trait")]

use std::arch::wasm32::*;

use super::{Isa, kernels};

/// `simd128`; `RELAXED` says whether the relaxed dot product is used too, where the module was compiled with it.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu) struct Wasm<const RELAXED: bool>;

// The features are the module's, but an engine's relaxed dot product may be wrong: the self-check then takes the plain one.
kernels!(pub(super) KERNELS, Wasm<false>);
#[cfg(target_feature = "relaxed-simd")]
kernels!(pub(super) RELAXED_KERNELS, Wasm<true>);

/// Four registers.
type Four = [v128; 4];

/// `[op(a[i], …) for i in 0..4]`.
macro_rules! four {
    (|$($a:ident),+| $e:expr) => {
        [four!(@0, $e, $($a),+), four!(@1, $e, $($a),+), four!(@2, $e, $($a),+), four!(@3, $e, $($a),+)]
    };
    (@$i:literal, $e:expr, $($a:ident),+) => {{
        $(let $a = $a[$i];)+
        $e
    }};
}

/// Sums of a block in two halves: without the relaxed dot product, products are summed in pairs, so that a row has two lanes.
/// `[0]` holds rows 0–1, 4–5, 8–9 and 12–13 (two lanes a row), `[1]` the others. With it, `[0]` holds the sums.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu) struct Sums([Four; 2]);

impl<const RELAXED: bool> Isa for Wasm<RELAXED> {
    type F = Four;
    type Acc = Sums;
    type W = Four;
    type X = v128;

    const PANELS: usize = 1;
    const TILE: usize = 4;
    const SLAB: usize = 1;
    const DOT8_UNSIGNED: bool = false;

    #[inline(always)]
    unsafe fn acc(start: *const i32) -> Self::Acc {
        let value = start.read_unaligned();
        // Where a row has two lanes, the first has the start.
        let paired = i32x4(value, 0, value, 0);
        if RELAXED { Sums([[i32x4_splat(value); 4], [i32x4_splat(0); 4]]) } else { Sums([[paired; 4]; 2]) }
    }
    #[inline(always)]
    unsafe fn codes(at: *const u8) -> Self::W {
        let at = at.cast::<v128>();
        [v128_load(at), v128_load(at.add(1)), v128_load(at.add(2)), v128_load(at.add(3))]
    }
    #[inline(always)]
    unsafe fn low4(w: Self::W) -> Self::W {
        four!(|w| v128_and(w, u8x16_splat(15)))
    }
    #[inline(always)]
    unsafe fn high4(w: Self::W) -> Self::W {
        // A shift of 16-bit lanes, as below.
        four!(|w| v128_and(u16x8_shr(w, 4), u8x16_splat(15)))
    }
    #[inline(always)]
    unsafe fn with_high2(w: Self::W, bits: Self::W, field: usize) -> Self::W {
        // Shifts of 16-bit lanes: x86 has none of bytes, and what crosses into a neighbour is masked away.
        let moved = match field {
            0 => four!(|bits| i16x8_shl(bits, 4)),
            1 => four!(|bits| i16x8_shl(bits, 2)),
            2 => bits,
            _ => four!(|bits| u16x8_shr(bits, 2)),
        };
        four!(|w, moved| v128_or(w, v128_and(moved, u8x16_splat(0x30))))
    }
    #[inline(always)]
    unsafe fn inputs(at: *const i8) -> Self::X {
        v128_load32_splat(at.cast())
    }
    #[inline(always)]
    unsafe fn dot(acc: Self::Acc, w: Self::W, x: Self::X) -> Self::Acc {
        #[cfg(target_feature = "relaxed-simd")]
        if RELAXED {
            let sums = acc.0[0];
            return Sums([four!(|w, sums| i32x4_relaxed_dot_i8x16_i7x16_add(x, w, sums)), acc.0[1]]);
        }
        let wide = i16x8_extend_low_i8x16(x);
        let (first, second) = (acc.0[0], acc.0[1]);
        let first = four!(|w, first| i32x4_add(first, i32x4_dot_i16x8(i16x8_extend_low_u8x16(w), wide)));
        let second = four!(|w, second| i32x4_add(second, i32x4_dot_i16x8(i16x8_extend_high_u8x16(w), wide)));
        Sums([first, second])
    }
    #[inline(always)]
    unsafe fn dot8(acc: Self::Acc, w: Self::W, x: Self::X) -> Self::Acc {
        let wide = i16x8_extend_low_i8x16(x);
        let w = four!(|w| v128_xor(w, u8x16_splat(0x80)));
        let first = four!(|w| i32x4_dot_i16x8(i16x8_extend_low_i8x16(w), wide));
        let second = four!(|w| i32x4_dot_i16x8(i16x8_extend_high_i8x16(w), wide));
        let (a, b) = (acc.0[0], acc.0[1]);
        if RELAXED {
            // Folded at once, since here a row has one lane.
            return Sums([four!(|a, first, second| i32x4_add(a, fold(first, second))), b]);
        }
        Sums([four!(|a, first| i32x4_add(a, first)), four!(|b, second| i32x4_add(b, second))])
    }
    #[inline(always)]
    unsafe fn sums(acc: Self::Acc) -> Self::F {
        let (first, second) = (acc.0[0], acc.0[1]);
        if RELAXED { four!(|first| f32x4_convert_i32x4(first)) } else { four!(|first, second| f32x4_convert_i32x4(fold(first, second))) }
    }
    #[inline(always)]
    unsafe fn from_u8(at: *const u8) -> Self::F {
        let bytes = v128_load(at.cast());
        let (low, high) = (u16x8_extend_low_u8x16(bytes), u16x8_extend_high_u8x16(bytes));
        let words =
            [u32x4_extend_low_u16x8(low), u32x4_extend_high_u16x8(low), u32x4_extend_low_u16x8(high), u32x4_extend_high_u16x8(high)];
        four!(|words| f32x4_convert_i32x4(words))
    }
    #[inline(always)]
    unsafe fn from_i8(at: *const i8) -> Self::F {
        let bytes = v128_load(at.cast());
        let (low, high) = (i16x8_extend_low_i8x16(bytes), i16x8_extend_high_i8x16(bytes));
        let words =
            [i32x4_extend_low_i16x8(low), i32x4_extend_high_i16x8(low), i32x4_extend_low_i16x8(high), i32x4_extend_high_i16x8(high)];
        four!(|words| f32x4_convert_i32x4(words))
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self::F {
        [f32x4_splat(v); 4]
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self::F {
        Self::codes(at.cast())
    }
    #[inline(always)]
    unsafe fn store(at: *mut f32, v: Self::F) {
        for (i, v) in v.into_iter().enumerate() {
            v128_store(at.add(4 * i).cast(), v);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(at: *const u16) -> Self::F {
        let (low, high) = (v128_load(at.cast()), v128_load(at.add(8).cast()));
        let words =
            [u32x4_extend_low_u16x8(low), u32x4_extend_high_u16x8(low), u32x4_extend_low_u16x8(high), u32x4_extend_high_u16x8(high)];
        four!(|words| widen_f16(words))
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        four!(|a, b| f32x4_add(a, b))
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        four!(|a, b| f32x4_sub(a, b))
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        four!(|a, b| f32x4_mul(a, b))
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        four!(|a, b| f32x4_div(a, b))
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        four!(|a, b| f32x4_max(a, b))
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        four!(|a, b| f32x4_min(a, b))
    }
    // The relaxed fused product may round once or twice, as the browser's machine likes: not the same tokens everywhere.
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        four!(|a, b, c| f32x4_add(f32x4_mul(a, b), c))
    }
    #[inline(always)]
    unsafe fn fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        four!(|a, b, c| f32x4_sub(c, f32x4_mul(a, b)))
    }
    #[inline(always)]
    unsafe fn abs(a: Self::F) -> Self::F {
        four!(|a| f32x4_abs(a))
    }
    #[inline(always)]
    unsafe fn copysign(a: Self::F, sign: Self::F) -> Self::F {
        four!(|a, sign| v128_or(a, v128_and(sign, f32x4_splat(-0.0))))
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        four!(|a| f32x4_nearest(a))
    }
    #[inline(always)]
    unsafe fn scale2(a: Self::F, n: Self::F) -> Self::F {
        four!(|a, n| f32x4_mul(a, i32x4_shl(i32x4_add(i32x4_trunc_sat_f32x4(n), i32x4_splat(127)), 23)))
    }
    #[inline(always)]
    unsafe fn store_i8(at: *mut i8, v: Self::F) {
        let words = four!(|v| i32x4_trunc_sat_f32x4(f32x4_nearest(v)));
        let low = i16x8_narrow_i32x4(words[0], words[1]);
        let high = i16x8_narrow_i32x4(words[2], words[3]);
        v128_store(at.cast(), i8x16_narrow_i16x8(low, high));
    }
}

/// Adds lanes in pairs: rows 0, 1 of `first`, then rows 2, 3 of `second`.
#[inline(always)]
fn fold(first: v128, second: v128) -> v128 {
    i32x4_add(i32x4_shuffle::<0, 2, 4, 6>(first, second), i32x4_shuffle::<1, 3, 5, 7>(first, second))
}

/// Widens four f16, each in the low half of a lane, exactly. The f16's exponent and fraction, moved to where an f32 has them, mean
/// 2^−112 of the value, subnormal or not; infinities and NaNs get the full exponent back.
#[inline(always)]
fn widen_f16(bits: v128) -> v128 {
    let sign = i32x4_shl(v128_and(bits, u32x4_splat(0x8000)), 16);
    let rest = i32x4_shl(v128_and(bits, u32x4_splat(0x7fff)), 13);
    let value = f32x4_mul(rest, f32x4_splat(f32::from_bits((127 + 112) << 23)));
    let special = i32x4_ge(rest, u32x4_splat(0x7c00 << 13));
    v128_or(v128_or(value, v128_and(special, u32x4_splat(0x7f80_0000))), sign)
}
