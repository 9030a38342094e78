//! AVX2 with FMA and F16C, with or without the 256-bit VNNI: a vector is two registers.
#![allow(unsafe_op_in_unsafe_fn, reason = "every method has the one obligation stated on the trait")]

use std::arch::x86_64::*;

use super::{Isa, kernels};

/// AVX2; `VNNI` says whether `vpdpbusd` is there too.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu) struct Avx2<const VNNI: bool>;

kernels!(pub(super) KERNELS, Avx2<false>, "avx2,fma,f16c");
kernels!(pub(super) VNNI_KERNELS, Avx2<true>, "avx2,fma,f16c,avxvnni");

/// `[op(a[0], b[0], …), op(a[1], b[1], …)]`.
macro_rules! both {
    ($op:ident, $a:expr) => {{
        let a = $a;
        [$op(a[0]), $op(a[1])]
    }};
    ($op:ident, $a:expr, $b:expr) => {{
        let (a, b) = ($a, $b);
        [$op(a[0], b[0]), $op(a[1], b[1])]
    }};
    ($op:ident, $a:expr, $b:expr, $c:expr) => {{
        let (a, b, c) = ($a, $b, $c);
        [$op(a[0], b[0], c[0]), $op(a[1], b[1], c[1])]
    }};
}

impl<const VNNI: bool> Isa for Avx2<VNNI> {
    type F = [__m256; 2];
    type Acc = [__m256i; 2];
    type W = [__m256i; 2];
    type X = __m256i;

    const PANELS: usize = 1;
    const TILE: usize = 4;
    const SLAB: usize = 1;
    const DOT8_UNSIGNED: bool = VNNI;

    #[inline(always)]
    unsafe fn acc(start: *const i32) -> Self::Acc {
        [_mm256_set1_epi32(start.read_unaligned()); 2]
    }
    #[inline(always)]
    unsafe fn codes(at: *const u8) -> Self::W {
        [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())]
    }
    #[inline(always)]
    unsafe fn low4(w: Self::W) -> Self::W {
        both!(_mm256_and_si256, w, [_mm256_set1_epi8(15); 2])
    }
    #[inline(always)]
    unsafe fn high4(w: Self::W) -> Self::W {
        let moved = [_mm256_srli_epi16::<4>(w[0]), _mm256_srli_epi16::<4>(w[1])];
        both!(_mm256_and_si256, moved, [_mm256_set1_epi8(15); 2])
    }
    #[inline(always)]
    unsafe fn with_high2(w: Self::W, bits: Self::W, field: usize) -> Self::W {
        let moved = match field {
            0 => [_mm256_slli_epi16::<4>(bits[0]), _mm256_slli_epi16::<4>(bits[1])],
            1 => [_mm256_slli_epi16::<2>(bits[0]), _mm256_slli_epi16::<2>(bits[1])],
            2 => bits,
            _ => [_mm256_srli_epi16::<2>(bits[0]), _mm256_srli_epi16::<2>(bits[1])],
        };
        both!(_mm256_or_si256, w, both!(_mm256_and_si256, moved, [_mm256_set1_epi8(0x30); 2]))
    }
    #[inline(always)]
    unsafe fn inputs(at: *const i8) -> Self::X {
        _mm256_set1_epi32(at.cast::<i32>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn dot(acc: Self::Acc, w: Self::W, x: Self::X) -> Self::Acc {
        if VNNI {
            return both!(_mm256_dpbusd_avx_epi32, acc, w, [x; 2]);
        }
        // Pairs of products are at most 2·127·127 = 32258: they don't saturate.
        let pairs = both!(_mm256_maddubs_epi16, w, [x; 2]);
        both!(_mm256_add_epi32, acc, both!(_mm256_madd_epi16, pairs, [_mm256_set1_epi16(1); 2]))
    }
    #[inline(always)]
    unsafe fn dot8(acc: Self::Acc, w: Self::W, x: Self::X) -> Self::Acc {
        if VNNI {
            return both!(_mm256_dpbusd_avx_epi32, acc, w, [x; 2]);
        }
        // |w|·(x with w's sign), w = code − 128 of −128..=127, x of −127..=127: pairs are at most 2·128·127 = 32512.
        let signed = both!(_mm256_xor_si256, w, [_mm256_set1_epi8(-128); 2]);
        let pairs = both!(_mm256_maddubs_epi16, both!(_mm256_abs_epi8, signed), both!(_mm256_sign_epi8, [x; 2], signed));
        both!(_mm256_add_epi32, acc, both!(_mm256_madd_epi16, pairs, [_mm256_set1_epi16(1); 2]))
    }
    #[inline(always)]
    unsafe fn sums(acc: Self::Acc) -> Self::F {
        both!(_mm256_cvtepi32_ps, acc)
    }
    #[inline(always)]
    unsafe fn from_u8(at: *const u8) -> Self::F {
        let bytes = _mm_loadu_si128(at.cast());
        both!(_mm256_cvtepi32_ps, both!(_mm256_cvtepu8_epi32, [bytes, _mm_srli_si128::<8>(bytes)]))
    }
    #[inline(always)]
    unsafe fn from_i8(at: *const i8) -> Self::F {
        // Two loads that widen are one shuffle less than one load and a shift.
        let bytes = [_mm_loadl_epi64(at.cast()), _mm_loadl_epi64(at.add(8).cast())];
        both!(_mm256_cvtepi32_ps, both!(_mm256_cvtepi8_epi32, bytes))
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self::F {
        [_mm256_set1_ps(v); 2]
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self::F {
        [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))]
    }
    #[inline(always)]
    unsafe fn store(at: *mut f32, v: Self::F) {
        _mm256_storeu_ps(at, v[0]);
        _mm256_storeu_ps(at.add(8), v[1]);
    }
    #[inline(always)]
    unsafe fn load_f16(at: *const u16) -> Self::F {
        [_mm256_cvtph_ps(_mm_loadu_si128(at.cast())), _mm256_cvtph_ps(_mm_loadu_si128(at.add(8).cast()))]
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        both!(_mm256_fmadd_ps, a, b, c)
    }
    #[inline(always)]
    unsafe fn fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        both!(_mm256_fnmadd_ps, a, b, c)
    }
    #[inline(always)]
    unsafe fn abs(a: Self::F) -> Self::F {
        both!(_mm256_andnot_ps, [_mm256_set1_ps(-0.0); 2], a)
    }
    #[inline(always)]
    unsafe fn copysign(a: Self::F, sign: Self::F) -> Self::F {
        both!(_mm256_or_ps, a, both!(_mm256_and_ps, sign, [_mm256_set1_ps(-0.0); 2]))
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        const MODE: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        [_mm256_round_ps::<MODE>(a[0]), _mm256_round_ps::<MODE>(a[1])]
    }
    #[inline(always)]
    unsafe fn scale2(a: Self::F, n: Self::F) -> Self::F {
        let biased = both!(_mm256_add_epi32, both!(_mm256_cvtps_epi32, n), [_mm256_set1_epi32(127); 2]);
        let power = [_mm256_slli_epi32::<23>(biased[0]), _mm256_slli_epi32::<23>(biased[1])];
        both!(_mm256_mul_ps, a, both!(_mm256_castsi256_ps, power))
    }
    #[inline(always)]
    unsafe fn store_i8(at: *mut i8, v: Self::F) {
        let words = both!(_mm256_cvtps_epi32, v);
        // Packing works within 128-bit halves: lanes 0–3 8–11 4–7 12–15, put in order before the last step.
        let halves = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(words[0], words[1]));
        let bytes = _mm_packs_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
        _mm_storeu_si128(at.cast(), bytes);
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u16) {
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
}
