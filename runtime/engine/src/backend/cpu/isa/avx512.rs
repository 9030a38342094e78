//! AVX-512 with VNNI: a vector is one register, a dot product one instruction.
#![allow(unsafe_op_in_unsafe_fn, reason = "every method has the one obligation stated on the trait")]

use std::arch::x86_64::*;

use super::{Isa, kernels};

/// `avx512f,avx512bw,avx512vl,avx512dq,avx512vnni` beside AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu) struct Avx512Vnni;

kernels!(pub(super) KERNELS, Avx512Vnni, "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni");

impl Isa for Avx512Vnni {
    type F = __m512;
    type Acc = __m512i;
    type W = __m512i;
    type X = __m512i;

    const PANELS: usize = 2;
    const TILE: usize = 6;
    const SLAB: usize = 4;
    const DOT8_UNSIGNED: bool = true;

    #[inline(always)]
    unsafe fn acc(start: *const i32) -> Self::Acc {
        _mm512_set1_epi32(start.read_unaligned())
    }
    #[inline(always)]
    unsafe fn codes(at: *const u8) -> Self::W {
        _mm512_loadu_si512(at.cast())
    }
    #[inline(always)]
    unsafe fn low4(w: Self::W) -> Self::W {
        _mm512_and_si512(w, _mm512_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn high4(w: Self::W) -> Self::W {
        _mm512_and_si512(_mm512_srli_epi16::<4>(w), _mm512_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn with_high2(w: Self::W, bits: Self::W, field: usize) -> Self::W {
        let moved = match field {
            0 => _mm512_slli_epi16::<4>(bits),
            1 => _mm512_slli_epi16::<2>(bits),
            2 => bits,
            _ => _mm512_srli_epi16::<2>(bits),
        };
        // w | (moved & 0x30) in one instruction.
        _mm512_ternarylogic_epi32::<0xF8>(w, moved, _mm512_set1_epi8(0x30))
    }
    #[inline(always)]
    unsafe fn inputs(at: *const i8) -> Self::X {
        _mm512_set1_epi32(at.cast::<i32>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn dot(acc: Self::Acc, w: Self::W, x: Self::X) -> Self::Acc {
        _mm512_dpbusd_epi32(acc, w, x)
    }
    #[inline(always)]
    unsafe fn dot8(acc: Self::Acc, w: Self::W, x: Self::X) -> Self::Acc {
        _mm512_dpbusd_epi32(acc, w, x)
    }
    #[inline(always)]
    unsafe fn sums(acc: Self::Acc) -> Self::F {
        _mm512_cvtepi32_ps(acc)
    }
    #[inline(always)]
    unsafe fn from_u8(at: *const u8) -> Self::F {
        _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())))
    }
    #[inline(always)]
    unsafe fn from_i8(at: *const i8) -> Self::F {
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast())))
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self::F {
        _mm512_set1_ps(v)
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self::F {
        _mm512_loadu_ps(at)
    }
    #[inline(always)]
    unsafe fn store(at: *mut f32, v: Self::F) {
        _mm512_storeu_ps(at, v)
    }
    #[inline(always)]
    unsafe fn load_f16(at: *const u16) -> Self::F {
        _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()))
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        _mm512_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        _mm512_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        _mm512_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        _mm512_max_ps(a, b)
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        _mm512_min_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        _mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        _mm512_fnmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn abs(a: Self::F) -> Self::F {
        _mm512_abs_ps(a)
    }
    #[inline(always)]
    unsafe fn copysign(a: Self::F, sign: Self::F) -> Self::F {
        _mm512_or_ps(a, _mm512_and_ps(sign, _mm512_set1_ps(-0.0)))
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
    }
    #[inline(always)]
    unsafe fn scale2(a: Self::F, n: Self::F) -> Self::F {
        _mm512_scalef_ps(a, n)
    }
    #[inline(always)]
    unsafe fn store_i8(at: *mut i8, v: Self::F) {
        _mm_storeu_si128(at.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)))
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u16) {
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[inline(always)]
    unsafe fn sum(v: Self::F) -> f32 {
        _mm512_reduce_add_ps(v)
    }
    #[inline(always)]
    unsafe fn largest(v: Self::F) -> f32 {
        _mm512_reduce_max_ps(v)
    }
}
