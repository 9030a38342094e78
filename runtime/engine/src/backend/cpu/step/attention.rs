//! A step's calls over the KV cache: rotated heads go in, attention comes out.

use super::{Step, tile_list};
use crate::backend::VectorId;
use crate::backend::cpu::attention::{AttendArgs, HeadArgs, LayerCache, QUAD, QUERIES, Query};
use crate::backend::cpu::program::{MAX_HEAD_DIM, rows_per_tile, scratch_len};
use crate::kv::{KvFormat, PAGE_LEN};
use crate::model::plan::{Attention, Norm, RopePairs};
use half::f16;
use half::slice::HalfFloatSliceExt;

impl Step<'_> {
    /// A layer's cache; lowering checked that it is there.
    fn cache(&self, layer: u32) -> LayerCache {
        let index = self.caches.partition_point(|(l, _)| *l < layer);
        self.caches[index].1
    }

    pub(super) fn rope_write(&self, rope: Option<usize>, qk_norm: Option<(VectorId, VectorId, f32)>, a: &Attention, row: usize) {
        let (heads, kv_heads, dim) = (a.heads as usize, a.kv_heads as usize, a.head_dim as usize);
        // SAFETY: this row of QKV is this worker's in this call.
        let qkv = unsafe { self.row(self.pointers.qkv, row, (heads + 2 * kv_heads) * dim) };
        for (index, head) in qkv.chunks_exact_mut(dim).take(heads + kv_heads).enumerate() {
            if let Some((q, k, eps)) = qk_norm {
                let gain = if index < heads { q } else { k };
                let head = head.as_mut_ptr();
                self.norm(&Norm::Rms { gain, eps }, head, head, dim, false);
            }
            if let Some(index) = rope {
                let rope = &self.program.ropes[index];
                let pairs = rope.rotated as usize / 2;
                // SAFETY: written by the call that computes angles, and only read since.
                let angles: &[f32] = unsafe { self.row(self.pointers.angles.wrapping_add(self.angle_offsets[index]), row, 2 * pairs) };
                rotate(rope.pairs, angles, &mut head[..2 * pairs]);
            }
        }
        let cache = self.cache(a.layer);
        let of_row = &self.batch.rows[row];
        let position = of_row.position as usize;
        let page = self.batch.sequences[of_row.sequence as usize].tables[a.group as usize][position / PAGE_LEN];
        for head in 0..kv_heads {
            let (key, value) = (&qkv[(heads + head) * dim..][..dim], &qkv[(heads + kv_heads + head) * dim..][..dim]);
            match cache.format {
                KvFormat::F16 => store_f16(&cache, cache.head(page, head), position % PAGE_LEN, key, value),
                KvFormat::Int8 => self.store_int8(&cache, cache.head(page, head), position % PAGE_LEN, key, value),
            }
        }
    }

    /// Writes a position's key and value as 8-bit codes; `slot` is below [`PAGE_LEN`].
    fn store_int8(&self, cache: &LayerCache, head: usize, slot: usize, key: &[f32], value: &[f32]) {
        let mut codes = [0i8; MAX_HEAD_DIM];
        let codes_of = |x: &[f32], codes: &mut [i8; MAX_HEAD_DIM]| {
            let args = HeadArgs { x: x.as_ptr(), width: x.len(), codes: codes.as_mut_ptr() };
            // SAFETY: lowering checked that heads are at most `MAX_HEAD_DIM` wide, a multiple of 16.
            unsafe { (self.kernels.quantise_head)(&args) }
        };
        let at = head * PAGE_LEN + slot;
        let quads = cache.head_dim.div_ceil(QUAD);
        let scale = codes_of(key, &mut codes);
        for (i, quad) in codes.as_chunks::<QUAD>().0.iter().take(quads).enumerate() {
            // SAFETY: the page was checked against the pool, and no other row has this position of it.
            unsafe {
                let to = cache.keys.add(((head * quads + i) * PAGE_LEN + slot) * QUAD);
                to.cast::<[u8; QUAD]>().write(quad.map(|code| code as u8 ^ 0x80));
            }
        }
        // SAFETY: as above.
        unsafe { *cache.key_scales.add(at) = scale.to_bits() };
        let scale = codes_of(value, &mut codes);
        let padded = cache.padded_dim();
        // SAFETY: as above; codes are padded as values are.
        unsafe {
            std::ptr::copy_nonoverlapping(codes.as_ptr(), cache.values.add(at * padded).cast(), padded);
            *cache.value_scales.add(at) = scale.to_bits();
        }
    }

    pub(super) fn attend(&self, a: &Attention, item: usize, worker: usize) {
        let kv_heads = a.kv_heads as usize;
        // Heads of one tile stand together: they look at the same block table.
        let (tile, kv_head) = (self.tiles[tile_list(rows_per_tile(a))][item / kv_heads], item % kv_heads);
        let (dim, grouped) = (a.head_dim as usize, (a.heads / a.kv_heads) as usize);
        let sequence = &self.batch.sequences[self.batch.rows[tile.first as usize].sequence as usize];
        let (p, widths) = (&self.pointers, &self.program.plan.widths);
        let query = |index: usize| {
            let (row, head) = (tile.first as usize + index / grouped, kv_head * grouped + index % grouped);
            let position = self.batch.rows[row].position as usize;
            Query {
                q: p.qkv.wrapping_add(row * widths.qkv as usize + head * dim),
                out: p.att.wrapping_add(row * widths.attention as usize + head * dim),
                first: a.window.map_or(0, |window| (position + 1).saturating_sub(window as usize)),
                end: if a.causal { position + 1 } else { sequence.length as usize },
            }
        };
        let count = tile.count as usize * grouped;
        for start in (0..count).step_by(QUERIES) {
            let mut queries = [query(start); QUERIES];
            let n = (count - start).min(QUERIES);
            for (i, q) in queries.iter_mut().enumerate().take(n) {
                *q = query(start + i);
            }
            let args = AttendArgs {
                queries: &queries[..n],
                cache: self.cache(a.layer),
                kv_head,
                table: &sequence.tables[a.group as usize],
                scale: a.scale,
                softcap: a.softcap.unwrap_or(0.0),
                scratch: p.scratch.wrapping_add(worker * scratch_len()),
            };
            // SAFETY: pages that these rows see were checked against the pool; heads of these rows of ATT and the scratch are
            // this worker's.
            unsafe {
                match args.cache.format {
                    KvFormat::F16 => (self.kernels.attend)(&args),
                    KvFormat::Int8 => (self.kernels.attend_int8)(&args),
                }
            }
        }
    }
}

/// Writes a position's key and value as f16; `slot` is below [`PAGE_LEN`].
fn store_f16(cache: &LayerCache, head: usize, slot: usize, key: &[f32], value: &[f32]) {
    let mut rounded = [f16::ZERO; MAX_HEAD_DIM];
    let rounded = &mut rounded[..key.len()];
    rounded.convert_from_f32_slice(key);
    let keys = cache.keys.cast::<u16>().wrapping_add(head * PAGE_LEN * cache.head_dim + slot);
    for (i, k) in rounded.iter().enumerate() {
        // SAFETY: the page was checked against the pool, and no other row has this position of it.
        unsafe { *keys.add(i * PAGE_LEN) = k.to_bits() };
    }
    rounded.convert_from_f32_slice(value);
    let values = cache.values.cast::<u16>().wrapping_add((head * PAGE_LEN + slot) * cache.padded_dim());
    for (i, v) in rounded.iter().enumerate() {
        // SAFETY: as for keys.
        unsafe { *values.add(i) = v.to_bits() };
    }
}

/// Rotates a head's rotated part by its angles, cosines then sines.
fn rotate(pairs: RopePairs, angles: &[f32], head: &mut [f32]) {
    let half = head.len() / 2;
    let (cosines, sines) = angles.split_at(half);
    match pairs {
        RopePairs::Halves => {
            let (first, second) = head.split_at_mut(half);
            for (((a, b), c), s) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
            }
        }
        RopePairs::Adjacent => {
            for ((pair, c), s) in head.chunks_exact_mut(2).zip(cosines).zip(sines) {
                (pair[0], pair[1]) = (pair[0] * c - pair[1] * s, pair[0] * s + pair[1] * c);
            }
        }
    }
}
