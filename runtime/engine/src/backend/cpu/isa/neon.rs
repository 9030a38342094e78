//! 64-bit ARM: a vector is four 128-bit registers.
//!
//! The dot-product instruction has no stable intrinsic, so it is written as assembly, for the processors that have it; others
//! multiply to 16 bits and add pairs.
#![allow(unsafe_op_in_unsafe_fn, reason = "every method has the one obligation stated on the trait")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Isa, Kernels, kernels};

/// NEON; `DOT` says whether `sdot` is there too.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu) struct Neon<const DOT: bool>;

kernels!(PLAIN, Neon<false>, "neon");
kernels!(WITH_DOT, Neon<true>, "neon,dotprod");

/// The better of the two that this processor has.
pub(super) fn kernels() -> &'static Kernels {
    if std::arch::is_aarch64_feature_detected!("dotprod") { &WITH_DOT } else { &PLAIN }
}

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

impl<const DOT: bool> Isa for Neon<DOT> {
    type F = [float32x4_t; 4];
    type Acc = [int32x4_t; 4];
    type W = [uint8x16_t; 4];
    type X = int8x16_t;

    const PANELS: usize = 1;
    const TILE: usize = 4;
    const SLAB: usize = 1;
    const DOT8_UNSIGNED: bool = false;

    #[inline(always)]
    unsafe fn acc(start: *const i32) -> Self::Acc {
        [vdupq_n_s32(start.read_unaligned()); 4]
    }
    #[inline(always)]
    unsafe fn codes(at: *const u8) -> Self::W {
        [vld1q_u8(at), vld1q_u8(at.add(16)), vld1q_u8(at.add(32)), vld1q_u8(at.add(48))]
    }
    #[inline(always)]
    unsafe fn low4(w: Self::W) -> Self::W {
        four!(|w| vandq_u8(w, vdupq_n_u8(15)))
    }
    #[inline(always)]
    unsafe fn high4(w: Self::W) -> Self::W {
        four!(|w| vshrq_n_u8::<4>(w))
    }
    #[inline(always)]
    unsafe fn with_high2(w: Self::W, bits: Self::W, field: usize) -> Self::W {
        let moved = match field {
            0 => four!(|bits| vshlq_n_u8::<4>(bits)),
            1 => four!(|bits| vshlq_n_u8::<2>(bits)),
            2 => bits,
            _ => four!(|bits| vshrq_n_u8::<2>(bits)),
        };
        four!(|w, moved| vorrq_u8(w, vandq_u8(moved, vdupq_n_u8(0x30))))
    }
    #[inline(always)]
    unsafe fn inputs(at: *const i8) -> Self::X {
        vreinterpretq_s8_s32(vdupq_n_s32(at.cast::<i32>().read_unaligned()))
    }
    #[inline(always)]
    unsafe fn dot(acc: Self::Acc, w: Self::W, x: Self::X) -> Self::Acc {
        four!(|acc, w| dot16::<DOT>(acc, vreinterpretq_s8_u8(w), x))
    }
    #[inline(always)]
    unsafe fn dot8(acc: Self::Acc, w: Self::W, x: Self::X) -> Self::Acc {
        four!(|acc, w| dot16::<DOT>(acc, vreinterpretq_s8_u8(veorq_u8(w, vdupq_n_u8(0x80))), x))
    }
    #[inline(always)]
    unsafe fn sums(acc: Self::Acc) -> Self::F {
        four!(|acc| vcvtq_f32_s32(acc))
    }
    #[inline(always)]
    unsafe fn from_u8(at: *const u8) -> Self::F {
        let bytes = vld1q_u8(at);
        let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
        let words = [vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high)];
        four!(|words| vcvtq_f32_u32(words))
    }
    #[inline(always)]
    unsafe fn from_i8(at: *const i8) -> Self::F {
        let bytes = vld1q_s8(at);
        let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
        let words = [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)];
        four!(|words| vcvtq_f32_s32(words))
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self::F {
        [vdupq_n_f32(v); 4]
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self::F {
        [vld1q_f32(at), vld1q_f32(at.add(4)), vld1q_f32(at.add(8)), vld1q_f32(at.add(12))]
    }
    #[inline(always)]
    unsafe fn store(at: *mut f32, v: Self::F) {
        vst1q_f32(at, v[0]);
        vst1q_f32(at.add(4), v[1]);
        vst1q_f32(at.add(8), v[2]);
        vst1q_f32(at.add(12), v[3]);
    }
    #[inline(always)]
    unsafe fn load_f16(at: *const u16) -> Self::F {
        let (low, high) = (vld1q_u16(at), vld1q_u16(at.add(8)));
        [widen_low_f16(low), widen_high_f16(low), widen_low_f16(high), widen_high_f16(high)]
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        four!(|a, b| vaddq_f32(a, b))
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        four!(|a, b| vsubq_f32(a, b))
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        four!(|a, b| vmulq_f32(a, b))
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        four!(|a, b| vdivq_f32(a, b))
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        four!(|a, b| vmaxq_f32(a, b))
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        four!(|a, b| vminq_f32(a, b))
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        four!(|a, b, c| vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    unsafe fn fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        four!(|a, b, c| vfmsq_f32(c, a, b))
    }
    #[inline(always)]
    unsafe fn abs(a: Self::F) -> Self::F {
        four!(|a| vabsq_f32(a))
    }
    #[inline(always)]
    unsafe fn copysign(a: Self::F, sign: Self::F) -> Self::F {
        four!(|a, sign| vbslq_f32(vdupq_n_u32(0x8000_0000), sign, a))
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        four!(|a| vrndnq_f32(a))
    }
    #[inline(always)]
    unsafe fn scale2(a: Self::F, n: Self::F) -> Self::F {
        four!(|a, n| vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127))))))
    }
    #[inline(always)]
    unsafe fn store_i8(at: *mut i8, v: Self::F) {
        let words = four!(|v| vcvtnq_s32_f32(v));
        let low = vcombine_s16(vqmovn_s32(words[0]), vqmovn_s32(words[1]));
        let high = vcombine_s16(vqmovn_s32(words[2]), vqmovn_s32(words[3]));
        vst1q_s8(at, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
    }
}

/// Adds the products of 4 bytes to each of 4 sums.
///
/// # Safety
/// With `DOT` the processor has `dotprod`.
#[inline(always)]
unsafe fn dot16<const DOT: bool>(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    if DOT {
        let mut sums = acc;
        asm!(
            "sdot {sums:v}.4s, {w:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
        return sums;
    }
    // Two products are at most 2·128·127 = 32512: pairs fit 16 bits.
    let pairs = vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)), vmull_high_s8(w, x));
    vpadalq_s16(acc, pairs)
}

/// Widens the first four f16. The intrinsic takes a type that is not stable.
#[inline(always)]
unsafe fn widen_low_f16(bits: uint16x8_t) -> float32x4_t {
    let wide: float32x4_t;
    asm!("fcvtl {wide:v}.4s, {bits:v}.4h", wide = lateout(vreg) wide, bits = in(vreg) bits, options(pure, nomem, nostack, preserves_flags));
    wide
}

/// Widens the last four.
#[inline(always)]
unsafe fn widen_high_f16(bits: uint16x8_t) -> float32x4_t {
    let wide: float32x4_t;
    asm!("fcvtl2 {wide:v}.4s, {bits:v}.8h", wide = lateout(vreg) wide, bits = in(vreg) bits, options(pure, nomem, nostack, preserves_flags));
    wide
}
