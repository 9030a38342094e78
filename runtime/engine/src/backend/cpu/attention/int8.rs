//! Keys and values in 8 bits, and queries to go with them.

use half::f16;

use super::{LayerCache, Query, Stored};
use crate::backend::cpu::isa::{Isa, LANES};
use crate::backend::cpu::program::MAX_HEAD_DIM;
use crate::backend::cpu::rows::load_part;
use crate::kv::PAGE_LEN;

/// Elements of a head that one step of an integer dot product takes.
pub(in crate::backend::cpu) const QUAD: usize = 4;

/// The largest f16, and so the largest scale.
const LARGEST_SCALE: f32 = 65504.0;

/// Keys as `[⌈head_dim / 4⌉][16 positions][4]` codes + 128, zero beyond the head, so that a load holds four elements of 16 keys; values as
/// codes. A query is taken in two times 8 bits, `step · (254·high + low)`: its error is a 65000th of its largest element, a 250th of what the
/// keys' own rounding brings, and all products are integer dot products, equal on every instruction set.
pub(in crate::backend::cpu) struct Int8;

/// A half of a query's codes weighs so much more than the other. Both halves stay within ±127, which [`Isa::dot8`] needs.
const HIGH: f32 = 254.0;
/// The most that both halves hold; at 127·254 + 127 the upper would round to 128.
const MOST: f32 = 32384.0;
/// A query below this weighs nothing, and the quotient by it is finite.
const LEAST: f32 = 1e-30;

/// `T` queries in 16 bits.
pub(in crate::backend::cpu) struct Queries<const T: usize> {
    /// `[query][high, low]`, zeros beyond the head.
    codes: [[[i8; MAX_HEAD_DIM]; 2]; T],
    /// What sums of products start at.
    starts: [[i32; 2]; T],
    /// What a unit of a low code stands for. NaN where an element of the query is not finite.
    steps: [f32; T],
}

/// The largest magnitude of `width` values as bits: positive floats order as integers do, infinity and NaN above all others.
#[inline(always)]
unsafe fn largest_bits(x: *const f32, width: usize) -> u32 {
    let mut largest = 0;
    for i in 0..width {
        largest = largest.max((*x.add(i)).to_bits() & 0x7fff_ffff);
    }
    largest
}

impl Stored for Int8 {
    type Queries<const T: usize> = Queries<T>;

    #[inline(always)]
    unsafe fn queries<S: Isa, const T: usize>(queries: &[Query], dim: usize) -> Queries<T> {
        let mut taken = Queries { codes: [[[0; MAX_HEAD_DIM]; 2]; T], starts: [[0; 2]; T], steps: [0.0; T] };
        for t in 0..T {
            let q = queries[t].q;
            let largest = f32::from_bits(largest_bits(q, dim));
            taken.steps[t] = if largest.is_finite() { largest / MOST } else { f32::NAN };
            if !largest.is_finite() || largest < LEAST {
                continue;
            }
            let inverse = S::splat(MOST / largest);
            let [high, low] = &mut taken.codes[t];
            for i in (0..dim).step_by(LANES) {
                let x = S::mul(load_part::<S>(q.add(i), dim - i), inverse);
                let upper = S::round(S::mul(x, S::splat(1.0 / HIGH)));
                S::store_i8(high.as_mut_ptr().add(i), upper);
                S::store_i8(low.as_mut_ptr().add(i), S::fnma(upper, S::splat(HIGH), S::round(x)));
            }
            if S::DOT8_UNSIGNED {
                for (start, codes) in taken.starts[t].iter_mut().zip(&taken.codes[t]) {
                    *start = -128 * codes[..dim].iter().map(|&code| i32::from(code)).sum::<i32>();
                }
            }
        }
        taken
    }

    #[inline(always)]
    unsafe fn products<S: Isa, const T: usize>(queries: &Queries<T>, cache: &LayerCache, head: usize, next: usize) -> [S::F; T] {
        let quads = cache.head_dim.div_ceil(QUAD);
        let bytes = quads * QUAD * PAGE_LEN;
        let (keys, next) = (cache.keys.add(head * bytes).cast_const(), cache.keys.add(next * bytes).cast_const());
        // No closures here: what they call is compiled without the set's features, and then not inlined.
        let mut high = [S::acc(&0); T];
        let mut low = high;
        for t in 0..T {
            high[t] = S::acc(&queries.starts[t][0]);
            low[t] = S::acc(&queries.starts[t][1]);
        }
        for i in 0..quads {
            let k = S::codes(keys.add(i * QUAD * PAGE_LEN));
            S::prefetch(next.add(i * QUAD * PAGE_LEN).cast());
            for t in 0..T {
                high[t] = S::dot8(high[t], k, S::inputs(queries.codes[t][0].as_ptr().add(QUAD * i)));
                low[t] = S::dot8(low[t], k, S::inputs(queries.codes[t][1].as_ptr().add(QUAD * i)));
            }
        }
        let scales = S::load_f16(cache.key_scales.add(head * PAGE_LEN).cast_const());
        let mut products = [scales; T];
        for t in 0..T {
            let sum = S::fma(S::sums(high[t]), S::splat(HIGH), S::sums(low[t]));
            products[t] = S::mul(S::mul(sum, S::splat(queries.steps[t])), scales);
        }
        products
    }

    /// A value's scale goes into its weight. What no query sees keeps no meaning: its scale may be anything.
    #[inline(always)]
    unsafe fn weigh<S: Isa>(weights: *mut f32, cache: &LayerCache, head: usize) {
        let scales = S::load_f16(cache.value_scales.add(head * PAGE_LEN).cast_const());
        S::store(weights, S::mul(S::load(weights), scales));
    }

    #[inline(always)]
    unsafe fn values<S: Isa>(cache: &LayerCache, at: usize) -> S::F {
        S::from_i8(cache.values.cast::<i8>().add(at).cast_const())
    }

    #[inline(always)]
    unsafe fn prefetch_values<S: Isa>(cache: &LayerCache, at: usize, vectors: usize) {
        for v in (0..vectors).step_by(4) {
            S::prefetch(cache.values.add(at + v * LANES).cast_const().cast());
        }
    }
}

/// A head of a key or a value to store.
pub(in crate::backend::cpu) struct HeadArgs {
    /// `[width]`.
    pub(in crate::backend::cpu) x: *const f32,
    /// Values, at most [`MAX_HEAD_DIM`].
    pub(in crate::backend::cpu) width: usize,
    /// `[width padded to 16]`.
    pub(in crate::backend::cpu) codes: *mut i8,
}

/// Quantises a head as [`crate::kv::KvFormat::Int8`] says, zeros behind it. Returns the scale.
///
/// # Safety
/// The processor has `S`'s features, and the pointers hold what [`HeadArgs`] says.
#[inline(always)]
pub(in crate::backend::cpu) unsafe fn quantise_head<S: Isa>(args: &HeadArgs) -> f16 {
    let wanted = f32::from_bits(largest_bits(args.x, args.width)) / 127.0;
    // Not a number fails every comparison.
    let scale = if wanted <= LARGEST_SCALE { f16::from_f32(wanted) } else { f16::NAN };
    let step = scale.to_f32();
    for i in (0..args.width).step_by(LANES) {
        let code = if step > 0.0 {
            let code = S::div(load_part::<S>(args.x.add(i), args.width - i), S::splat(step));
            S::max(S::min(code, S::splat(127.0)), S::splat(-127.0))
        } else {
            S::splat(0.0)
        };
        S::store_i8(args.codes.add(i), code);
    }
    scale
}
