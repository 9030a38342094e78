//! One step: the program's calls over one batch, walked by all workers.

mod attention;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::attention::LayerCache;
use super::isa::Kernels;
use super::layout::BLOCK;
use super::lora::{self, Adapter, Run, Site};
use super::matmul::{BlockScale, Inputs, LinearArgs};
use super::pool::Barrier;
use super::program::{Call, PIECE, Program, Rows, Source, Target, rows_per_tile};
use super::rows::{ActivateArgs, CapArgs, NormArgs, QuantiseArgs};
use super::{Matrix, Weights};
use crate::backend::{MatrixId, VectorId};
use crate::batch::{Batch, Row};
use crate::model::plan::{Activation, Linear, Norm};
use crate::{Clock, Format};

/// Where the activations are. Row-major, see [`crate::model::plan`]; sizes in f32 unless said.
#[derive(Clone, Copy)]
pub(super) struct Pointers {
    /// `[rows][dim]`.
    pub(super) x: *mut f32,
    /// Normalised or gathered rows, `[rows][dim]`.
    pub(super) prepared: *mut f32,
    /// `[rows][qkv]`.
    pub(super) qkv: *mut f32,
    /// `[rows][attention]`.
    pub(super) att: *mut f32,
    /// `[rows][up]`.
    pub(super) up: *mut f32,
    /// `[rows][ff]`.
    pub(super) h: *mut f32,
    /// `[rows][dim]`.
    pub(super) y: *mut f32,
    /// `[outputs][out]`.
    pub(super) out: *mut f32,
    /// `[rows][widest_codes]` i8.
    pub(super) codes: *mut i8,
    /// `[rows][widest_codes / 32]`.
    pub(super) scales: *mut BlockScale,
    /// Cosines, then sines: `[ropes][rows][2][pairs]`, each rope at its offset.
    pub(super) angles: *mut f32,
    /// `[workers][scratch_len()]`.
    pub(super) scratch: *mut f32,
    /// By runs of rows, `[rows of the run][ranks]` each, its parts one after the other as `[rows of the run][rank]`.
    pub(super) low: *mut f32,
}

/// Rows of one sequence that attend together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowTile {
    pub(super) first: u32,
    pub(super) count: u32,
}

/// Everything workers read while they walk; what they write is behind pointers, each item's part its own.
pub(super) struct Step<'a> {
    pub(super) program: &'a Program,
    pub(super) weights: &'a Weights,
    pub(super) adapters: &'a [Adapter],
    /// Of all rows, and of output rows.
    pub(super) runs: &'a [Vec<Run>; 2],
    pub(super) kernels: &'static Kernels,
    pub(super) batch: &'a Batch,
    /// Ids of all rows, slots resolved.
    pub(super) tokens: &'a [u32],
    /// Caches by layer; layers without one are absent.
    pub(super) caches: &'a [(u32, LayerCache)],
    /// Row tiles of at most 1, 2 and 4 rows.
    pub(super) tiles: &'a [Vec<RowTile>; 3],
    /// Where each rope's angles start.
    pub(super) angle_offsets: &'a [usize],
    pub(super) pointers: Pointers,
    /// Per call, the next item that no worker has taken.
    pub(super) taken: &'a [AtomicUsize],
    pub(super) workers: usize,
    /// Where the step is traced.
    pub(super) clock: Option<&'a Clock>,
    pub(super) moments: Mutex<Vec<Duration>>,
}

// SAFETY: workers write through `pointers` and `caches` only what belongs to items they took, each item is taken once, and no
// call reads what its own items write elsewhere; a barrier stands between calls. The rest is read only.
unsafe impl Sync for Step<'_> {}

/// Index into [`Step::tiles`] for at most `rows` rows a tile.
fn tile_list(rows: usize) -> usize {
    match rows {
        1 => 0,
        2 => 1,
        _ => 2,
    }
}

/// Fills the lists of row tiles for a batch.
pub(super) fn tile_rows(rows: &[Row], tiles: &mut [Vec<RowTile>; 3]) {
    for (list, most) in tiles.iter_mut().zip([1, 2, 4]) {
        list.clear();
        for (i, row) in rows.iter().enumerate() {
            match list.last_mut() {
                Some(tile) if tile.count < most && rows[tile.first as usize].sequence == row.sequence => tile.count += 1,
                _ => list.push(RowTile { first: i as u32, count: 1 }),
            }
        }
    }
}

impl Step<'_> {
    /// Walks all calls as one of the workers.
    pub(super) fn walk(&self, worker: usize, barrier: &Barrier) {
        self.mark(worker);
        for (call, taken) in self.program.calls.iter().zip(self.taken) {
            let items = self.items(call);
            if self.workers == 1 {
                self.execute(call, 0..items, worker);
                self.mark(worker);
                continue;
            }
            let share = self.share(call, items);
            loop {
                let first = taken.fetch_add(share, Ordering::Relaxed);
                if first >= items {
                    break;
                }
                self.execute(call, first..(first + share).min(items), worker);
            }
            barrier.wait();
            self.mark(worker);
        }
    }

    /// Notes the time between calls, where the step is traced.
    fn mark(&self, worker: usize) {
        if let Some(clock) = self.clock.filter(|_| worker == 0) {
            self.moments.lock().unwrap_or_else(PoisonError::into_inner).push(clock());
        }
    }

    fn rows(&self, rows: Rows) -> usize {
        match rows {
            Rows::All => self.batch.rows.len(),
            Rows::Outputs => self.batch.outputs.len(),
        }
    }

    fn runs(&self, rows: Rows) -> &[Run] {
        match rows {
            Rows::All => &self.runs[0],
            Rows::Outputs => &self.runs[1],
        }
    }

    /// Pieces that a call falls into. How they are dealt out never changes what they compute.
    fn items(&self, call: &Call) -> usize {
        let rows = self.batch.rows.len();
        match call {
            Call::Angles { .. } | Call::Embed { .. } | Call::RopeWrite { .. } | Call::Join { .. } => rows,
            Call::Prepare { width, norm, rows, .. } => self.rows(*rows) * if norm.is_some() { 1 } else { width.div_ceil(PIECE) },
            Call::Linear { linear, .. } => linear.parts.iter().map(|(id, _)| self.matrix(*id).layout.panels()).sum(),
            Call::Shrink { site, rows, .. } => self.runs(*rows).len() * site.parts,
            Call::Expand { site, rows, .. } => self.runs(*rows).len() * site.groups,
            Call::Cap { width, .. } => self.batch.outputs.len() * width.div_ceil(PIECE),
            Call::Attend { attention } => self.tiles[tile_list(rows_per_tile(attention))].len() * attention.kv_heads as usize,
            Call::Activate { .. } => rows * (self.program.plan.widths.ff as usize).div_ceil(PIECE),
            Call::States { .. } => self.batch.outputs.len(),
        }
    }

    /// Items a worker takes at once.
    fn share(&self, call: &Call, items: usize) -> usize {
        match call {
            // Two panels make the widest tile.
            Call::Linear { .. } => items.div_ceil(self.workers * 8).next_multiple_of(2),
            _ => items.div_ceil(self.workers * 4).max(1),
        }
    }

    fn matrix(&self, id: MatrixId) -> &Matrix {
        &self.weights.matrices[id.0 as usize]
    }

    fn vector(&self, id: VectorId) -> *const f32 {
        self.weights.vectors[id.0 as usize].values.as_ptr()
    }

    fn dim(&self) -> usize {
        self.program.plan.widths.dim as usize
    }

    /// A whole row of a buffer.
    ///
    /// # Safety
    /// The buffer has the row, and no other worker uses it within this call.
    #[allow(clippy::mut_from_ref, reason = "buffers are shared by rows, which the caller answers for")]
    unsafe fn row(&self, buffer: *mut f32, row: usize, width: usize) -> &mut [f32] {
        // SAFETY: the caller's obligation; buffers are allocated for all rows of the batch.
        unsafe { std::slice::from_raw_parts_mut(buffer.add(row * width), width) }
    }

    fn execute(&self, call: &Call, items: Range<usize>, worker: usize) {
        match call {
            Call::Angles { rope } => items.for_each(|row| self.angles(*rope, row)),
            Call::Embed { table, scale, segments, positions, norm } => {
                for row in items {
                    self.embed(*table, *scale, *segments, *positions, norm.as_ref(), row);
                }
            }
            Call::Prepare { source, width, norm, rows, codes } => {
                items.for_each(|item| self.prepare(*source, *width, norm.as_ref(), *rows, *codes, item));
            }
            Call::Linear { linear, source, target, rows, softcap } => {
                self.linear(linear, *source, *target, self.rows(*rows), *softcap, items);
            }
            Call::Shrink { site, source, rows } => items.for_each(|item| self.shrink(*site, *source, *rows, item)),
            Call::Expand { site, width, target, rows } => items.for_each(|item| self.expand(*site, *width, *target, *rows, item)),
            Call::Cap { width, softcap } => items.for_each(|item| self.cap(*width, *softcap, item)),
            Call::RopeWrite { rope, qk_norm, attention } => {
                items.for_each(|row| self.rope_write(*rope, *qk_norm, attention, row));
            }
            Call::Attend { attention } => items.for_each(|item| self.attend(attention, item, worker)),
            Call::Activate { activation, gated, codes } => {
                items.for_each(|item| self.activate(*activation, *gated, *codes, item));
            }
            Call::Join { norm, add_y } => {
                for row in items {
                    let (dim, p) = (self.dim(), &self.pointers);
                    let from = if *add_y { p.y } else { p.x };
                    self.norm(norm, from.wrapping_add(row * dim), p.x.wrapping_add(row * dim), dim, *add_y);
                }
            }
            Call::States { norm } => {
                for item in items {
                    let (dim, p) = (self.dim(), &self.pointers);
                    let (from, to) = (p.x.wrapping_add(self.batch.outputs[item] as usize * dim), p.out.wrapping_add(item * dim));
                    match norm {
                        Some(norm) => self.norm(norm, from, to, dim, false),
                        // SAFETY: both rows are `dim` long, in different buffers; this item owns its output row.
                        None => unsafe { std::ptr::copy_nonoverlapping(from, to, dim) },
                    }
                }
            }
        }
    }

    fn norm(&self, norm: &Norm, x: *const f32, out: *mut f32, width: usize, accumulate: bool) {
        let (gain, bias, eps) = match norm {
            Norm::Rms { gain, eps } => (self.vector(*gain), std::ptr::null(), *eps),
            Norm::Layer { gain, bias, eps } => (self.vector(*gain), self.vector(*bias), *eps),
        };
        // SAFETY: lowering checked the vectors' lengths; x and out are rows of `width`, out this worker's own.
        unsafe { (self.kernels.norm)(&NormArgs { x, out, width, gain, bias, eps, accumulate }) }
    }

    fn angles(&self, rope: usize, row: usize) {
        let offset = self.angle_offsets[rope];
        let rope = &self.program.ropes[rope];
        let frequencies = &self.weights.vectors[rope.frequencies.0 as usize].values;
        let pairs = frequencies.len();
        // SAFETY: the arena holds 2·pairs floats for every rope and row; this row is this worker's.
        let out = unsafe { self.row(self.pointers.angles.wrapping_add(offset), row, 2 * pairs) };
        let (cosines, sines) = out.split_at_mut(pairs);
        let position = self.batch.rows[row].position as f64;
        for ((cosine, sine), &frequency) in cosines.iter_mut().zip(sines).zip(frequencies) {
            // In f64: at position 10^5 an f32 angle is off by 0.004 radians.
            let (s, c) = (position * frequency as f64).sin_cos();
            *cosine = c as f32 * rope.magnitude;
            *sine = s as f32 * rope.magnitude;
        }
    }

    fn embed(&self, table: MatrixId, scale: f32, segments: Option<MatrixId>, positions: Option<MatrixId>, norm: Option<&Norm>, row: usize) {
        let dim = self.dim();
        // SAFETY: these rows of X and of the prepared buffer are this worker's in this call.
        let (x, added) = unsafe { (self.row(self.pointers.x, row, dim), self.row(self.pointers.prepared, row, dim)) };
        self.matrix(table).read_row(self.tokens[row] as usize, x);
        if scale != 1.0 {
            x.iter_mut().for_each(|v| *v *= scale);
        }
        let of_row = &self.batch.rows[row];
        for (id, index) in [(segments, of_row.segment), (positions, of_row.position)] {
            if let Some(id) = id {
                self.matrix(id).read_row(index as usize, added);
                x.iter_mut().zip(added.iter()).for_each(|(x, v)| *x += v);
            }
        }
        if let Some(norm) = norm {
            let x = x.as_mut_ptr();
            self.norm(norm, x, x, dim, false);
        }
    }

    fn source(&self, source: Source) -> *mut f32 {
        match source {
            Source::X => self.pointers.x,
            Source::Att => self.pointers.att,
            Source::H => self.pointers.h,
            Source::Prepared => self.pointers.prepared,
        }
    }

    fn prepare(&self, source: Source, width: usize, norm: Option<&Norm>, rows: Rows, codes: bool, item: usize) {
        let pieces = if norm.is_some() { 1 } else { width.div_ceil(PIECE) };
        let (to, piece) = (item / pieces, item % pieces);
        let from = match rows {
            Rows::All => to,
            Rows::Outputs => self.batch.outputs[to] as usize,
        };
        let (first, last) = if norm.is_some() { (0, width) } else { (piece * PIECE, ((piece + 1) * PIECE).min(width)) };
        let mut x = self.source(source).wrapping_add(from * width + first).cast_const();
        let prepared = self.pointers.prepared.wrapping_add(to * width + first);
        if let Some(norm) = norm {
            self.norm(norm, x, prepared, width, false);
            x = prepared;
        } else if rows == Rows::Outputs {
            // SAFETY: both pieces are `last − first` long, in different buffers; this item owns its prepared piece.
            unsafe { std::ptr::copy_nonoverlapping(x, prepared, last - first) };
        }
        if codes {
            self.quantise(x, width, to, first, last);
        }
    }

    /// Quantises columns `first..last` of a row of `width` at `x` (already at `first`).
    fn quantise(&self, x: *const f32, width: usize, row: usize, first: usize, last: usize) {
        let args = QuantiseArgs {
            x,
            codes: self.pointers.codes.wrapping_add(row * width + first),
            scales: self.pointers.scales.wrapping_add((row * width + first) / BLOCK),
            blocks: (last - first) / BLOCK,
        };
        // SAFETY: quantised matrices have whole blocks of columns, so `width`, `first` and `last` are multiples of 32; the arena
        // holds `widest_codes` ≥ `width` of them a row, and this piece is this worker's.
        unsafe { (self.kernels.quantise)(&args) }
    }

    fn target(&self, target: Target) -> *mut f32 {
        let p = &self.pointers;
        match target {
            Target::Qkv => p.qkv,
            Target::AddToX => p.x,
            Target::Y => p.y,
            Target::Up => p.up,
            Target::Out => p.out,
        }
    }

    /// The kernel's view of an adapter's matrix over a run's rows.
    fn adapter_args(
        &self,
        matrix: &Matrix,
        rows: usize,
        floats: *const f32,
        out: *mut f32,
        out_stride: usize,
        accumulate: bool,
    ) -> LinearArgs {
        LinearArgs {
            layout: matrix.layout,
            weights: matrix.bytes.as_ptr(),
            rows,
            inputs: Inputs { codes: std::ptr::null(), scales: std::ptr::null(), floats },
            out,
            out_stride,
            bias: std::ptr::null(),
            accumulate,
            softcap: 0.0,
        }
    }

    /// Where a run's A·x stands, and the parts it has at this op.
    fn low(&self, site: Site, run: Run) -> (*mut f32, &[lora::Part]) {
        let parts = self.adapters[run.adapter].parts.get(&site.op).map_or(&[][..], Vec::as_slice);
        (self.pointers.low.wrapping_add(run.first * self.program.ranks), parts)
    }

    fn shrink(&self, site: Site, source: Source, rows: Rows, item: usize) {
        let run = self.runs(rows)[item / site.parts];
        let (low, parts) = self.low(site, run);
        let Some(part) = parts.get(item % site.parts) else { return };
        let before: usize = parts[..item % site.parts].iter().map(lora::Part::rank).sum();
        let x = self.source(source).wrapping_add(run.first * part.a.layout.columns);
        let args = self.adapter_args(&part.a, run.count, x, low.wrapping_add(run.count * before), part.rank(), false);
        // SAFETY: lowering checked the columns, so the source has these rows; the arena holds `ranks` floats a row, at least the sum of
        // this adapter's; this part's of this run are this worker's.
        unsafe { (self.kernels.linear[format_index(Format::F32)])(&args, 0, part.a.layout.panels()) }
    }

    fn expand(&self, site: Site, width: usize, target: Target, rows: Rows, item: usize) {
        let run = self.runs(rows)[item / site.groups];
        let (low, parts) = self.low(site, run);
        let (mut group, mut before) = (item % site.groups, 0);
        for part in parts {
            let groups = lora::groups(&part.b);
            if group < groups {
                let out = self.target(target).wrapping_add(run.first * width + part.first_row);
                let args = self.adapter_args(&part.b, run.count, low.wrapping_add(run.count * before), out, width, true);
                let first = group * lora::PANELS;
                let last = (first + lora::PANELS).min(part.b.layout.panels());
                // SAFETY: lowering checked that the part's rows lie within `width`; the call before filled these rows of `low`; outputs of
                // these panels and rows are this worker's.
                return unsafe { (self.kernels.linear[format_index(Format::F32)])(&args, first, last) };
            }
            group -= groups;
            before += part.rank();
        }
    }

    fn cap(&self, width: usize, cap: f32, item: usize) {
        let pieces = width.div_ceil(PIECE);
        let (row, first) = (item / pieces, item % pieces * PIECE);
        let args = CapArgs { y: self.pointers.out.wrapping_add(row * width + first), width: (width - first).min(PIECE), cap };
        // SAFETY: the piece lies within a row of OUT and is this worker's.
        unsafe { (self.kernels.cap)(&args) }
    }

    fn linear(&self, linear: &Linear, source: Source, target: Target, rows: usize, softcap: f32, items: Range<usize>) {
        let p = &self.pointers;
        let (out, accumulate) = (self.target(target), target == Target::AddToX);
        let mut start = 0;
        for &(id, first_row) in &linear.parts {
            let matrix = self.matrix(id);
            let panels = matrix.layout.panels();
            let (first, last) = (items.start.max(start), items.end.min(start + panels));
            if first < last {
                let args = LinearArgs {
                    layout: matrix.layout,
                    weights: matrix.bytes.as_ptr(),
                    rows,
                    inputs: Inputs { codes: p.codes, scales: p.scales, floats: self.source(source) },
                    out: out.wrapping_add(first_row as usize),
                    out_stride: linear.rows as usize,
                    bias: match linear.bias {
                        Some(bias) => self.vector(bias).wrapping_add(first_row as usize),
                        None => std::ptr::null(),
                    },
                    accumulate,
                    softcap,
                };
                let kernel = self.kernels.linear[format_index(matrix.layout.format)];
                // SAFETY: lowering checked every width; the arena holds `rows` rows of each buffer, the inputs were prepared by
                // the call before, and outputs of these panels are this worker's.
                unsafe { kernel(&args, first - start, last - start) };
            }
            start += panels;
        }
    }

    fn activate(&self, activation: Activation, gated: bool, codes: bool, item: usize) {
        let ff = self.program.plan.widths.ff as usize;
        let pieces = ff.div_ceil(PIECE);
        let (row, first) = (item / pieces, item % pieces * PIECE);
        let last = (first + PIECE).min(ff);
        let up = self.pointers.up.wrapping_add(row * if gated { 2 * ff } else { ff } + first).cast_const();
        let h = self.pointers.h.wrapping_add(row * ff + first);
        let args = ActivateArgs {
            gate: up,
            up: if gated { up.wrapping_add(ff) } else { std::ptr::null() },
            out: h,
            width: last - first,
            activation,
        };
        // SAFETY: the piece lies within rows of Up and H, and this piece of H is this worker's.
        unsafe { (self.kernels.activate)(&args) }
        if codes {
            self.quantise(h, ff, row, first, last);
        }
    }
}

/// A format's place in [`Kernels::linear`].
pub(super) fn format_index(format: Format) -> usize {
    match format {
        Format::F32 => 0,
        Format::F16 => 1,
        Format::Q4_0 => 2,
        Format::Q8_0 => 3,
        Format::Q4K => 4,
        Format::Q6K => 5,
    }
}
