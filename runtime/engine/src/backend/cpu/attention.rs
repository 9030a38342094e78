//! Attention over the paged cache, with an online softmax.
//!
//! A page of one KV head holds its keys turned, so that one vector of scores needs no sum across lanes, and its values as `[16
//! positions][head_dim padded to 16]`: see [`F16`] and [`Int8`]. Scores are taken in chunks of 64 positions that
//! start at multiples of 64, always in the same order; what a query does not see weighs exactly zero. So its result depends on
//! its own position and sequence only, not on which queries share the pass over the pages.
#![allow(clippy::needless_range_loop, reason = "several register arrays go by one index, and iterators over them are less plain")]
#![allow(unsafe_op_in_unsafe_fn, reason = "each function's obligations are stated on it")]

use super::isa::{Isa, LANES};
use super::math;
use crate::kv::{KvFormat, PAGE_LEN, PageId};

mod int8;

pub(super) use int8::{HeadArgs, Int8, QUAD, quantise_head};

/// Positions whose scores are taken at once.
const CHUNK: usize = 64;
/// Queries that share one pass over the pages.
pub(super) const QUERIES: usize = 4;

/// One query head of one row.
#[derive(Clone, Copy)]
pub(super) struct Query {
    /// `[head_dim]`.
    pub(super) q: *const f32,
    /// `[head_dim]`.
    pub(super) out: *mut f32,
    /// The first position it sees.
    pub(super) first: usize,
    /// One past the last.
    pub(super) end: usize,
}

/// Queries of one sequence over one KV head.
pub(super) struct AttendArgs<'a> {
    /// They see at least one position each.
    pub(super) queries: &'a [Query],
    /// The layer's keys and values.
    pub(super) cache: LayerCache,
    /// The KV head.
    pub(super) kv_head: usize,
    /// Pages of the sequence.
    pub(super) table: &'a [PageId],
    /// Multiplies scores.
    pub(super) scale: f32,
    /// c·tanh(score / c), or 0 for none.
    pub(super) softcap: f32,
    /// Where sums of values are kept, `[QUERIES][padded_dim]`.
    pub(super) scratch: *mut f32,
}

/// Where a layer's cache is, and its geometry.
#[derive(Clone, Copy)]
pub(super) struct LayerCache {
    /// How keys and values are stored.
    pub(super) format: KvFormat,
    /// `[page][kv head]` heads' keys.
    pub(super) keys: *mut u8,
    /// `[page][kv head][PAGE_LEN][padded_dim]` values.
    pub(super) values: *mut u8,
    /// `[page][kv head][PAGE_LEN]` f16 for 8-bit keys.
    pub(super) key_scales: *mut u16,
    /// The same for values.
    pub(super) value_scales: *mut u16,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
}

impl LayerCache {
    /// Width of a value as stored.
    pub(super) fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Index of a page's head among the heads of all pages.
    pub(super) fn head(&self, page: PageId, kv_head: usize) -> usize {
        page.0 as usize * self.kv_heads + kv_head
    }
}

/// What formats of a cache differ in. Heads are counted by [`LayerCache::head`].
///
/// # Safety
/// Every method as [`attend`].
#[allow(clippy::missing_safety_doc, reason = "one obligation for all methods, stated on the trait")]
pub(super) trait Stored {
    /// Queries as products take them.
    type Queries<const T: usize>;

    unsafe fn queries<S: Isa, const T: usize>(queries: &[Query], dim: usize) -> Self::Queries<T>;
    /// q·k of each query with the 16 keys of `head`. `next` is the head that comes after it.
    unsafe fn products<S: Isa, const T: usize>(queries: &Self::Queries<T>, cache: &LayerCache, head: usize, next: usize) -> [S::F; T];
    /// Prepares the weights of a head's 16 positions for what [`Stored::values`] gives.
    unsafe fn weigh<S: Isa>(weights: *mut f32, cache: &LayerCache, head: usize);
    /// 16 values from element `at`.
    unsafe fn values<S: Isa>(cache: &LayerCache, at: usize) -> S::F;
    /// Asks for `vectors` times 16 values that will soon be read.
    unsafe fn prefetch_values<S: Isa>(cache: &LayerCache, at: usize, vectors: usize);
}

/// Keys as `[head_dim][16 positions]`; both as f16.
pub(super) struct F16;

impl Stored for F16 {
    type Queries<const T: usize> = ([*const f32; T], usize);

    #[inline(always)]
    unsafe fn queries<S: Isa, const T: usize>(queries: &[Query], dim: usize) -> Self::Queries<T> {
        (std::array::from_fn(|t| queries[t].q), dim)
    }

    /// Even and odd elements of the head are summed apart, each in order.
    #[inline(always)]
    unsafe fn products<S: Isa, const T: usize>((q, dim): &Self::Queries<T>, cache: &LayerCache, head: usize, next: usize) -> [S::F; T] {
        let (keys, dim) = (cache.keys.cast::<u16>().cast_const(), *dim);
        let (keys, next) = (keys.add(head * PAGE_LEN * dim), keys.add(next * PAGE_LEN * dim));
        let mut even = [S::splat(0.0); T];
        let mut odd = [S::splat(0.0); T];
        let mut i = 0;
        while i + 2 <= dim {
            let (k0, k1) = (S::load_f16(keys.add(i * PAGE_LEN)), S::load_f16(keys.add((i + 1) * PAGE_LEN)));
            S::prefetch(next.add(i * PAGE_LEN));
            for t in 0..T {
                even[t] = S::fma(k0, S::splat(*q[t].add(i)), even[t]);
                odd[t] = S::fma(k1, S::splat(*q[t].add(i + 1)), odd[t]);
            }
            i += 2;
        }
        if i < dim {
            let k = S::load_f16(keys.add(i * PAGE_LEN));
            for t in 0..T {
                even[t] = S::fma(k, S::splat(*q[t].add(i)), even[t]);
            }
        }
        for t in 0..T {
            even[t] = S::add(even[t], odd[t]);
        }
        even
    }

    #[inline(always)]
    unsafe fn weigh<S: Isa>(_weights: *mut f32, _cache: &LayerCache, _head: usize) {}

    #[inline(always)]
    unsafe fn values<S: Isa>(cache: &LayerCache, at: usize) -> S::F {
        S::load_f16(cache.values.cast::<u16>().add(at).cast_const())
    }

    #[inline(always)]
    unsafe fn prefetch_values<S: Isa>(cache: &LayerCache, at: usize, vectors: usize) {
        for v in (0..vectors).step_by(2) {
            S::prefetch(cache.values.cast::<u16>().add(at + v * LANES).cast_const());
        }
    }
}

/// Attends for all queries.
///
/// # Safety
/// The processor has `S`'s features; pointers hold what [`AttendArgs`] says, and every position that a query sees lies in a
/// page of the table that the cache has.
#[inline(always)]
pub(super) unsafe fn attend<S: Isa, F: Stored>(args: &AttendArgs) {
    let mut queries = args.queries;
    while queries.len() >= 4 {
        attend_tile::<S, F, 4>(args, &queries[..4]);
        queries = &queries[4..];
    }
    if queries.len() >= 2 {
        attend_tile::<S, F, 2>(args, &queries[..2]);
        queries = &queries[2..];
    }
    if !queries.is_empty() {
        attend_tile::<S, F, 1>(args, queries);
    }
}

/// Attends for `T` queries.
///
/// # Safety
/// As [`attend`].
#[inline(always)]
unsafe fn attend_tile<S: Isa, F: Stored, const T: usize>(args: &AttendArgs, queries: &[Query]) {
    let cache = &args.cache;
    let (dim, padded) = (cache.head_dim, cache.padded_dim());
    let (mut first, mut end) = (queries[0].first, queries[0].end);
    for query in queries {
        first = first.min(query.first);
        end = end.max(query.end);
    }
    let asked = F::queries::<S, T>(queries, dim);
    let mut largest = [f32::NEG_INFINITY; T];
    let mut total = [0f32; T];
    for i in (0..T * padded).step_by(LANES) {
        S::store(args.scratch.add(i), S::splat(0.0));
    }
    let mut weights = [[0f32; CHUNK]; T];
    let mut chunk = first - first % CHUNK;
    while chunk < end {
        let pages = (first.max(chunk) - chunk) / PAGE_LEN..(end.min(chunk + CHUNK) - chunk).div_ceil(PAGE_LEN);
        for page in pages.clone() {
            let head = cache.head(args.table[chunk / PAGE_LEN + page], args.kv_head);
            // Pages lie scattered, where no hardware foresees them. The last one of the sequence foretells itself.
            let next = cache.head(args.table[(chunk / PAGE_LEN + page + 1).min((end - 1) / PAGE_LEN)], args.kv_head);
            let products = F::products::<S, T>(&asked, cache, head, next);
            for t in 0..T {
                let mut score = S::mul(products[t], S::splat(args.scale));
                if args.softcap != 0.0 {
                    score = math::softcap::<S>(score, args.softcap);
                }
                S::store(weights[t].as_mut_ptr().add(page * PAGE_LEN), score);
            }
        }
        let mut shrunk = [1f32; T];
        for t in 0..T {
            let weights = &mut weights[t];
            let mut highest = S::splat(f32::NEG_INFINITY);
            for page in pages.clone() {
                let at = &mut weights[page * PAGE_LEN..][..PAGE_LEN];
                let position = chunk + page * PAGE_LEN;
                if position < queries[t].first || position + PAGE_LEN > queries[t].end {
                    for (i, score) in at.iter_mut().enumerate() {
                        if position + i < queries[t].first || position + i >= queries[t].end {
                            *score = f32::NEG_INFINITY;
                        }
                    }
                }
                highest = S::max(highest, S::load(at.as_ptr()));
            }
            let new = largest[t].max(S::largest(highest));
            if new == f32::NEG_INFINITY {
                // Nothing seen yet: −∞ − −∞ would be NaN.
                for page in pages.clone() {
                    weights[page * PAGE_LEN..][..PAGE_LEN].fill(0.0);
                }
                continue;
            }
            let mut sum = S::splat(0.0);
            for page in pages.clone() {
                let at = weights.as_mut_ptr().add(page * PAGE_LEN);
                let weight = math::exp::<S>(S::sub(S::load(at), S::splat(new)));
                S::store(at, weight);
                sum = S::add(sum, weight);
            }
            if new != largest[t] {
                let mut factor = [0f32; LANES];
                S::store(factor.as_mut_ptr(), math::exp::<S>(S::splat(largest[t] - new)));
                shrunk[t] = factor[0];
                largest[t] = new;
            }
            total[t] = total[t] * shrunk[t] + S::sum(sum);
            for page in pages.clone() {
                let head = cache.head(args.table[chunk / PAGE_LEN + page], args.kv_head);
                F::weigh::<S>(weights.as_mut_ptr().add(page * PAGE_LEN), cache, head);
            }
        }
        let mut slab = 0;
        while slab + S::SLAB * LANES <= padded {
            add_values::<S, F, T, 4>(args, chunk, first, end, slab, &shrunk, &weights, S::SLAB);
            slab += S::SLAB * LANES;
        }
        while slab < padded {
            add_values::<S, F, T, 1>(args, chunk, first, end, slab, &shrunk, &weights, 1);
            slab += LANES;
        }
        chunk += CHUNK;
    }
    for t in 0..T {
        let mut row = [0f32; LANES];
        for i in (0..dim).step_by(LANES) {
            let mean = S::div(S::load(args.scratch.add(t * padded + i)), S::splat(total[t]));
            if dim - i >= LANES {
                S::store(queries[t].out.add(i), mean);
            } else {
                S::store(row.as_mut_ptr(), mean);
                std::ptr::copy_nonoverlapping(row.as_ptr(), queries[t].out.add(i), dim - i);
            }
        }
    }
}

/// Shrinks the sums of values and adds those of positions `first..end` of the chunk, for `V` vectors from `slab`.
///
/// # Safety
/// As [`attend`]; `slab + 16·V` is at most the padded width.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "private, and the alternative is a struct built per call")]
unsafe fn add_values<S: Isa, F: Stored, const T: usize, const V: usize>(
    args: &AttendArgs,
    chunk: usize,
    first: usize,
    end: usize,
    slab: usize,
    shrunk: &[f32; T],
    weights: &[[f32; CHUNK]; T],
    vectors: usize,
) {
    let cache = &args.cache;
    let padded = cache.padded_dim();
    // V is an upper bound that lets the arrays be registers; `vectors` is a constant after inlining.
    let mut sums = [[S::splat(0.0); V]; T];
    for t in 0..T {
        for v in 0..vectors {
            sums[t][v] = S::mul(S::load(args.scratch.add(t * padded + slab + v * LANES)), S::splat(shrunk[t]));
        }
    }
    for position in first.max(chunk)..end.min(chunk + CHUNK) {
        let start = |page: PageId| (cache.head(page, args.kv_head) * PAGE_LEN + position % PAGE_LEN) * padded + slab;
        let at = start(args.table[position / PAGE_LEN]);
        let next = start(args.table[(position / PAGE_LEN + 1).min((end - 1) / PAGE_LEN)]);
        F::prefetch_values::<S>(cache, next, vectors);
        for v in 0..vectors {
            let value = F::values::<S>(cache, at + v * LANES);
            for t in 0..T {
                sums[t][v] = S::fma(value, S::splat(weights[t][position - chunk]), sums[t][v]);
            }
        }
    }
    for t in 0..T {
        for v in 0..vectors {
            S::store(args.scratch.add(t * padded + slab + v * LANES), sums[t][v]);
        }
    }
}
