//! Plain Rust: the fallback, and the meaning of every [`Isa`] method.
#![allow(unsafe_op_in_unsafe_fn, reason = "every method has the one obligation stated on the trait")]

use half::f16;

use super::{Isa, LANES, kernels};

/// No features at all.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu) struct Scalar;

kernels!(pub(super) KERNELS, Scalar);

/// `[op(a[0], b[0]), …]`.
macro_rules! zip {
    ($a:expr, $b:expr, |$x:ident, $y:ident| $e:expr) => {{
        let (a, b) = ($a, $b);
        let mut out = a;
        for i in 0..LANES {
            let ($x, $y) = (a[i], b[i]);
            out[i] = $e;
        }
        out
    }};
}

impl Isa for Scalar {
    type F = [f32; LANES];
    type Acc = [i32; LANES];
    type W = [u8; 64];
    type X = [i8; 4];

    const PANELS: usize = 1;
    const TILE: usize = 4;
    const SLAB: usize = 1;
    const DOT8_UNSIGNED: bool = true;

    #[inline(always)]
    unsafe fn acc(start: *const i32) -> Self::Acc {
        [start.read_unaligned(); LANES]
    }
    #[inline(always)]
    unsafe fn codes(at: *const u8) -> Self::W {
        at.cast::<[u8; 64]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn low4(w: Self::W) -> Self::W {
        w.map(|b| b & 15)
    }
    #[inline(always)]
    unsafe fn high4(w: Self::W) -> Self::W {
        w.map(|b| b >> 4)
    }
    #[inline(always)]
    unsafe fn with_high2(mut w: Self::W, bits: Self::W, field: usize) -> Self::W {
        for i in 0..64 {
            w[i] |= (bits[i] >> (2 * field) & 3) << 4;
        }
        w
    }
    #[inline(always)]
    unsafe fn inputs(at: *const i8) -> Self::X {
        at.cast::<[i8; 4]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn dot(mut acc: Self::Acc, w: Self::W, x: Self::X) -> Self::Acc {
        for row in 0..LANES {
            for k in 0..4 {
                acc[row] += w[4 * row + k] as i32 * x[k] as i32;
            }
        }
        acc
    }
    #[inline(always)]
    unsafe fn dot8(acc: Self::Acc, w: Self::W, x: Self::X) -> Self::Acc {
        Self::dot(acc, w, x)
    }
    #[inline(always)]
    unsafe fn sums(acc: Self::Acc) -> Self::F {
        acc.map(|v| v as f32)
    }
    #[inline(always)]
    unsafe fn from_u8(at: *const u8) -> Self::F {
        at.cast::<[u8; LANES]>().read_unaligned().map(f32::from)
    }
    #[inline(always)]
    unsafe fn from_i8(at: *const i8) -> Self::F {
        at.cast::<[i8; LANES]>().read_unaligned().map(f32::from)
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self::F {
        [v; LANES]
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self::F {
        at.cast::<Self::F>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store(at: *mut f32, v: Self::F) {
        at.cast::<Self::F>().write_unaligned(v)
    }
    #[inline(always)]
    unsafe fn load_f16(at: *const u16) -> Self::F {
        at.cast::<[u16; LANES]>().read_unaligned().map(|bits| f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        zip!(a, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        zip!(a, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        zip!(a, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        zip!(a, b, |x, y| x / y)
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        zip!(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        zip!(a, b, |x, y| if x < y { x } else { y })
    }
    // f32::mul_add without the FMA feature is a library call of some 20 ns: two roundings here.
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        Self::add(Self::mul(a, b), c)
    }
    #[inline(always)]
    unsafe fn fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        Self::sub(c, Self::mul(a, b))
    }
    #[inline(always)]
    unsafe fn abs(a: Self::F) -> Self::F {
        a.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn copysign(a: Self::F, sign: Self::F) -> Self::F {
        zip!(a, sign, |x, y| x.copysign(y))
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        // Adding 1.5·2^23 leaves no bits below one; the mode is to nearest, ties to even.
        const MAGIC: f32 = 12_582_912.0;
        a.map(|v| (v + MAGIC) - MAGIC)
    }
    #[inline(always)]
    unsafe fn scale2(a: Self::F, n: Self::F) -> Self::F {
        zip!(a, n, |x, y| x * f32::from_bits(((y as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn store_i8(at: *mut i8, v: Self::F) {
        at.cast::<[i8; LANES]>().write_unaligned(Self::round(v).map(|v| v as i8));
    }
}
