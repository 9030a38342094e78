//! The SIMD CPU backend.
//!
//! Weights are repacked into panels of 16 interleaved rows ([`layout`]); kernels are written once over a 16-lane instruction
//! set ([`isa`]); a plan is lowered to kernel calls ([`program`]) that all workers of the [`pool`] walk together ([`step`]).
//! There is one numeric class: a row's bits depend on its own sequence only.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::Clock;
use crate::backend::trace::{Timed, timed};
use crate::backend::{AdapterId, Description, MatrixId, MatrixSpec, MemoryUse, Outputs, VectorId};
use crate::batch::{Batch, BatchShape, RowToken};
use crate::error::{Error, ErrorCode, Result};
use crate::kv::{KvFormat, KvGroup, PAGE_LEN, PageId};
use crate::model::AdapterWeights;
use crate::model::plan::Plan;

mod attention;
mod buffer;
mod isa;
mod layout;
mod lora;
mod math;
mod matmul;
mod pool;
mod program;
mod rows;
mod self_check;
mod step;

pub use isa::InstructionSet;

use attention::LayerCache;
use buffer::AlignedBytes;
use layout::Layout;
use lora::{Adapter, Run};
use matmul::BlockScale;
use pool::Pool;
use program::{Call, Program, scratch_len};
use step::{Pointers, RowTile, Step};

/// How to run on this processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuOptions {
    /// Workers, the caller's thread included; `None` is one for each processor this process may use.
    pub threads: Option<usize>,
    /// The instruction set; `None` is the best here that passes its self-check.
    pub instruction_set: Option<InstructionSet>,
}

/// A matrix as it was uploaded.
struct Matrix {
    name: String,
    layout: Layout,
    bytes: AlignedBytes,
    rows_written: usize,
}

impl Matrix {
    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.layout.read_row(self.bytes.bytes(), row, out);
    }
}

/// A vector as it was uploaded.
struct Vector {
    name: String,
    values: Vec<f32>,
}

/// All weights, by id.
#[derive(Default)]
struct Weights {
    matrices: Vec<Matrix>,
    vectors: Vec<Vector>,
}

/// One layer's cache.
struct LayerKv {
    layer: u32,
    format: KvFormat,
    keys: AlignedBytes,
    values: AlignedBytes,
    /// Of 8-bit codes; empty for f16. Apart from them, so that codes lie on cache lines.
    key_scales: AlignedBytes,
    value_scales: AlignedBytes,
    kv_heads: usize,
    head_dim: usize,
}

/// Activation buffers of a step, as large as the largest step so far needed.
#[derive(Default)]
struct Arena {
    x: AlignedBytes,
    prepared: AlignedBytes,
    /// QKV of an attention block, then UP of a feed-forward block: the two are never alive together.
    qkv_up: AlignedBytes,
    /// ATT, then H.
    att_h: AlignedBytes,
    y: AlignedBytes,
    out: AlignedBytes,
    codes: AlignedBytes,
    scales: AlignedBytes,
    angles: AlignedBytes,
    scratch: AlignedBytes,
    /// A·x of rows that have an adapter.
    low: AlignedBytes,
    // What a step works out from its batch, kept for the allocations.
    tokens: Vec<u32>,
    tiles: [Vec<RowTile>; 3],
    runs: [Vec<Run>; 2],
    angle_offsets: Vec<usize>,
    taken: Vec<AtomicUsize>,
}

/// The CPU backend.
pub struct CpuBackend {
    instruction_set: InstructionSet,
    kernels: &'static isa::Kernels,
    pool: Pool,
    weights: Weights,
    adapters: Vec<Adapter>,
    groups: Vec<KvGroup>,
    layers: Vec<LayerKv>,
    caches: Caches,
    programs: Vec<Program>,
    arena: Arena,
    /// Values in OUT after the last step.
    outputs: usize,
    /// Lent where the next step is traced, and what the last traced one took.
    trace_next: Option<Clock>,
    traced: Option<Vec<Timed>>,
}

/// Where layers' caches are, while a step runs; kept for its memory.
#[derive(Default)]
struct Caches(Vec<(u32, LayerCache)>);

// SAFETY: between steps it holds nothing, so that no pointer goes from thread to thread.
unsafe impl Send for Caches {}

/// Programs kept; a model has one or two plans.
const PROGRAMS: usize = 8;

impl CpuBackend {
    /// A backend without weights. Its kernels have passed a self-check.
    pub fn new(options: CpuOptions) -> Result<CpuBackend> {
        if options.threads == Some(0) {
            return Err(Error::request("threads: 0; at least 1 is needed"));
        }
        let (instruction_set, kernels) = self_check::choose(options.instruction_set)?;
        let threads = match options.threads {
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        Ok(CpuBackend {
            instruction_set,
            kernels,
            pool: Pool::new(threads)?,
            weights: Weights::default(),
            adapters: Vec::new(),
            groups: Vec::new(),
            layers: Vec::new(),
            caches: Caches::default(),
            programs: Vec::new(),
            arena: Arena::default(),
            outputs: 0,
            trace_next: None,
            traced: None,
        })
    }

    /// See [`crate::backend::Backend::matrix`].
    pub fn matrix(&mut self, spec: &MatrixSpec) -> Result<MatrixId> {
        let layout = Layout::new(&spec.name, spec.format, spec.rows, spec.columns)?;
        let bytes = AlignedBytes::zeroed(layout.bytes(), &spec.name)?;
        self.weights.matrices.push(Matrix { name: spec.name.clone(), layout, bytes, rows_written: 0 });
        Ok(MatrixId(self.weights.matrices.len() as u32 - 1))
    }

    /// See [`crate::backend::Backend::write_rows`].
    pub fn write_rows(&mut self, matrix: MatrixId, first_row: usize, blocks: &[u8]) -> Result<()> {
        let Some(matrix) = self.weights.matrices.get_mut(matrix.0 as usize) else {
            return Err(Error::internal(format!("no matrix has the id {}", matrix.0)));
        };
        let layout = matrix.layout;
        let row_bytes = layout.format.row_bytes(layout.columns);
        let rows = blocks.len() / row_bytes;
        if !blocks.len().is_multiple_of(row_bytes) || first_row > layout.rows || rows > layout.rows - first_row {
            return Err(Error::internal(format!(
                "{}: {} bytes as rows from {first_row}; it has {} rows of {row_bytes} bytes",
                matrix.name,
                blocks.len(),
                layout.rows
            )));
        }
        let bytes = matrix.bytes.bytes_mut();
        for (row, blocks) in (first_row..).zip(blocks.chunks_exact(row_bytes)) {
            layout.write_row(bytes, row, blocks);
        }
        matrix.rows_written += rows;
        Ok(())
    }

    /// See [`crate::backend::Backend::vector`].
    pub fn vector(&mut self, name: &str, values: &[f32]) -> Result<VectorId> {
        self.weights.vectors.push(Vector { name: name.to_owned(), values: values.to_vec() });
        Ok(VectorId(self.weights.vectors.len() as u32 - 1))
    }

    /// See [`crate::backend::Backend::allocate_kv`].
    pub fn allocate_kv(&mut self, groups: &[KvGroup]) -> Result<()> {
        let mut layers: Vec<LayerKv> = Vec::new();
        for group in groups {
            let (kv_heads, head_dim) = (group.kv_heads as usize, group.head_dim as usize);
            // At most 2^32 · 2^32 · …: products are checked in u128, allocation by the system.
            let bytes = |position_bytes: usize| {
                let bytes = group.pages as u128 * group.kv_heads as u128 * (PAGE_LEN * position_bytes) as u128;
                usize::try_from(bytes)
                    .map_err(|_| Error::new(ErrorCode::Memory, format!("a KV pool of {} pages is too large", group.pages)))
            };
            let padded = head_dim.next_multiple_of(isa::LANES);
            // Of a head at one position.
            let (key, value, scale) = match group.format {
                KvFormat::F16 => (head_dim * size_of::<u16>(), padded * size_of::<u16>(), 0),
                KvFormat::Int8 => (head_dim.next_multiple_of(attention::QUAD), padded, size_of::<u16>()),
            };
            for &layer in &group.layers {
                let what = format!("the KV cache of layer {layer} ({} pages)", group.pages);
                let at = layers.partition_point(|l| l.layer < layer);
                if layers.get(at).is_some_and(|l| l.layer == layer) {
                    return Err(Error::internal(format!("layer {layer} is in two KV groups")));
                }
                let zeroed = |position_bytes| AlignedBytes::zeroed(bytes(position_bytes)?, &what);
                let (keys, values, key_scales, value_scales) = (zeroed(key)?, zeroed(value)?, zeroed(scale)?, zeroed(scale)?);
                layers.insert(at, LayerKv { layer, format: group.format, keys, values, key_scales, value_scales, kv_heads, head_dim });
            }
        }
        self.layers = layers;
        self.groups = groups.to_vec();
        self.programs.clear();
        Ok(())
    }

    /// See [`crate::backend::Backend::load_adapter`].
    pub async fn load_adapter(&mut self, id: AdapterId, adapter: &AdapterWeights) -> Result<()> {
        if self.adapters.iter().any(|known| known.id == id) {
            return Err(Error::internal(format!("an adapter with the id {} is held already", id.0)));
        }
        self.adapters.push(Adapter::new(id, adapter)?);
        self.programs.retain(|program| !program.adapted);
        Ok(())
    }

    /// See [`crate::backend::Backend::unload_adapter`].
    pub fn unload_adapter(&mut self, id: AdapterId) -> Result<()> {
        let Some(index) = self.adapters.iter().position(|adapter| adapter.id == id) else {
            return Err(Error::internal(format!("no adapter has the id {}", id.0)));
        };
        self.adapters.remove(index);
        self.programs.retain(|program| !program.adapted);
        Ok(())
    }

    /// See [`crate::backend::Backend::unload`].
    pub fn unload(&mut self) {
        self.weights = Weights::default();
        self.adapters.clear();
        self.groups = Vec::new();
        self.layers = Vec::new();
        self.programs.clear();
        self.arena = Arena::default();
        self.outputs = 0;
    }

    /// See [`crate::backend::Backend::prepare`].
    pub async fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    /// See [`crate::backend::Backend::draws_tokens`].
    pub fn draws_tokens(&self) -> bool {
        false
    }

    /// See [`crate::backend::Backend::run`]. Runs to the end before it returns.
    pub async fn run(&mut self, plan: &Plan, batch: &Batch) -> Result<()> {
        self.outputs = 0;
        let index = self.program(plan, batch.shape().adapted)?;
        self.check(plan, batch)?;
        if batch.rows.is_empty() {
            return Ok(());
        }
        self.make_room(index, batch)?;
        let program = &self.programs[index];
        let arena = &mut self.arena;
        let pointers = Pointers {
            x: arena.x.as_mut_ptr().cast(),
            prepared: arena.prepared.as_mut_ptr().cast(),
            qkv: arena.qkv_up.as_mut_ptr().cast(),
            att: arena.att_h.as_mut_ptr().cast(),
            up: arena.qkv_up.as_mut_ptr().cast(),
            h: arena.att_h.as_mut_ptr().cast(),
            y: arena.y.as_mut_ptr().cast(),
            out: arena.out.as_mut_ptr().cast(),
            codes: arena.codes.as_mut_ptr().cast(),
            scales: arena.scales.as_mut_ptr().cast(),
            angles: arena.angles.as_mut_ptr().cast(),
            scratch: arena.scratch.as_mut_ptr().cast(),
            low: arena.low.as_mut_ptr().cast(),
        };
        let caches = &mut self.caches.0;
        caches.clear();
        caches.extend(self.layers.iter_mut().map(|l| {
            let cache = LayerCache {
                format: l.format,
                keys: l.keys.as_mut_ptr(),
                values: l.values.as_mut_ptr(),
                key_scales: l.key_scales.as_mut_ptr().cast(),
                value_scales: l.value_scales.as_mut_ptr().cast(),
                kv_heads: l.kv_heads,
                head_dim: l.head_dim,
            };
            (l.layer, cache)
        }));
        let workers = self.pool.workers();
        let step = Step {
            program,
            weights: &self.weights,
            adapters: &self.adapters,
            runs: &arena.runs,
            kernels: self.kernels,
            batch,
            tokens: &arena.tokens,
            caches,
            tiles: &arena.tiles,
            angle_offsets: &arena.angle_offsets,
            pointers,
            taken: &arena.taken,
            workers,
            clock: self.trace_next.as_ref(),
            moments: Mutex::default(),
        };
        self.pool.run(&|worker, barrier| step.walk(worker, barrier));
        let moments = step.moments.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.trace_next.take().is_some() {
            let text = program.text(&batch.shape(), &self.weights);
            self.traced = Some(timed(text.lines(), moments.iter().copied().zip(moments.iter().copied().skip(1))));
        }
        self.caches.0.clear();
        self.outputs = batch.outputs.len() * plan.widths.out as usize;
        Ok(())
    }

    /// See [`crate::backend::Backend::read`].
    pub async fn read(&mut self, outputs: &mut Outputs) -> Result<()> {
        outputs.drawn.clear();
        outputs.values.clear();
        let bytes = &self.arena.out.bytes()[..self.outputs * size_of::<f32>()];
        outputs.values.extend_from_slice(bytemuck::cast_slice(bytes));
        self.skip();
        Ok(())
    }

    /// See [`crate::backend::Backend::trace_next`].
    pub fn trace_next(&mut self, clock: Clock) {
        self.trace_next = Some(clock);
    }

    /// See [`crate::backend::Backend::traced`].
    pub async fn traced(&mut self) -> Result<Option<Vec<Timed>>> {
        Ok(self.traced.take())
    }

    /// See [`crate::backend::Backend::skip`].
    pub fn skip(&mut self) {
        self.outputs = 0;
    }

    /// See [`crate::backend::Backend::program_text`].
    pub fn program_text(&mut self, plan: &Plan, shape: &BatchShape) -> Result<String> {
        let index = self.program(plan, shape.adapted)?;
        Ok(self.programs[index].text(shape, &self.weights))
    }

    /// See [`crate::backend::Backend::memory`].
    pub fn memory(&self) -> MemoryUse {
        let a = &self.arena;
        let activations = [&a.x, &a.prepared, &a.qkv_up, &a.att_h, &a.y, &a.out, &a.codes, &a.scales, &a.angles, &a.scratch, &a.low];
        let matrices: usize = self.weights.matrices.iter().map(|m| m.bytes.len()).sum();
        let vectors: usize = self.weights.vectors.iter().map(|v| v.values.len() * size_of::<f32>()).sum();
        MemoryUse {
            weights: (matrices + vectors) as u64,
            adapters: self.adapters.iter().map(|a| a.bytes() as u64).sum(),
            kv: self.layers.iter().map(|l| (l.keys.len() + l.values.len() + l.key_scales.len() + l.value_scales.len()) as u64).sum(),
            activations: activations.iter().map(|b| b.len() as u64).sum(),
        }
    }

    /// See [`crate::backend::Backend::describe`].
    pub fn describe(&self) -> Description {
        let workers = self.pool.workers();
        let name = self.instruction_set.name();
        Description {
            backend: "cpu",
            adapter: format!("{name}, {workers} {}", if workers == 1 { "thread" } else { "threads" }),
            rung: name.to_owned(),
        }
    }

    /// How a matrix was reserved, and what its rows mean now, `[rows, columns]`: for oracles.
    pub fn matrix_values(&self, id: MatrixId) -> Option<(MatrixSpec, Vec<f32>)> {
        let matrix = self.weights.matrices.get(id.0 as usize)?;
        let Layout { format, rows, columns, .. } = matrix.layout;
        let mut values = vec![0.0; rows * columns];
        for (row, values) in values.chunks_exact_mut(columns).enumerate() {
            matrix.read_row(row, values);
        }
        Some((MatrixSpec { name: matrix.name.clone(), rows, columns, format }, values))
    }

    /// A vector's values: for oracles.
    pub fn vector_values(&self, id: VectorId) -> Option<&[f32]> {
        self.weights.vectors.get(id.0 as usize).map(|v| v.values.as_slice())
    }

    /// The index of the program for a plan, lowered if it isn't known.
    fn program(&mut self, plan: &Plan, adapted: bool) -> Result<usize> {
        // Nothing else in a CPU program depends on the batch's shape.
        if let Some(index) = self.programs.iter().position(|p| p.adapted == adapted && p.plan == *plan) {
            return Ok(index);
        }
        if let Some(matrix) = self.weights.matrices.iter().find(|m| m.rows_written < m.layout.rows) {
            let (name, written, rows) = (&matrix.name, matrix.rows_written, matrix.layout.rows);
            return Err(Error::internal(format!("{name}: {written} of {rows} rows were uploaded")));
        }
        let program = Program::lower(plan, &self.weights, &self.groups, adapted.then_some(&self.adapters[..]))?;
        if self.programs.len() == PROGRAMS {
            self.programs.remove(0);
        }
        self.programs.push(program);
        Ok(self.programs.len() - 1)
    }

    /// Checks everything kernels rely on, and resolves tokens.
    fn check(&mut self, plan: &Plan, batch: &Batch) -> Result<()> {
        use crate::model::plan::Op;
        self.arena.tokens.clear();
        for (index, row) in batch.rows.iter().enumerate() {
            let token = match row.token {
                RowToken::Known(id) => id,
                RowToken::Slot(slot) => {
                    return Err(Error::internal(format!("row {index} feeds from slot {}: nothing is drawn here", slot.0)));
                }
            };
            self.arena.tokens.push(token);
            let Some(sequence) = batch.sequences.get(row.sequence as usize) else {
                return Err(Error::internal(format!("row {index} names sequence {} of {}", row.sequence, batch.sequences.len())));
            };
            if row.position >= sequence.length {
                return Err(Error::internal(format!("row {index} at position {} of a sequence of {}", row.position, sequence.length)));
            }
        }
        if let Some(&output) = batch.outputs.iter().find(|&&o| o as usize >= batch.rows.len()) {
            return Err(Error::internal(format!("output row {output} of {}", batch.rows.len())));
        }
        if !batch.draws.is_empty() || batch.values.is_some() {
            return Err(Error::internal("nothing is drawn here: every output is read"));
        }
        if let Some(id) = batch.sequences.iter().filter_map(|s| s.adapter).find(|id| !self.adapters.iter().any(|a| a.id == *id)) {
            return Err(Error::internal(format!("a sequence has the adapter {}, which is not held", id.0)));
        }
        if !batch.outputs.is_sorted_by(|a, b| a < b) {
            return Err(Error::internal("output rows do not ascend"));
        }
        let rows_of = |id: MatrixId| self.weights.matrices[id.0 as usize].layout.rows;
        for op in &plan.ops {
            let Op::Embed { table, segments, positions, .. } = op else { continue };
            for (row, &token) in batch.rows.iter().zip(&self.arena.tokens) {
                let indices = [(Some(*table), token, "token"), (*segments, row.segment, "segment"), (*positions, row.position, "position")];
                for (id, index, what) in indices {
                    if let Some(id) = id
                        && index as usize >= rows_of(id)
                    {
                        return Err(Error::request(format!("{what} {index}: the model has {}", rows_of(id))));
                    }
                }
            }
        }
        for op in &plan.ops {
            // Every op that reads the cache is preceded by one that writes it, with the same geometry or a wider view.
            let Op::Attend { attention: a } = op else { continue };
            self.check_pages(a.group, a.window, a.causal, batch)?;
        }
        for op in &plan.ops {
            let Op::RopeWrite { attention: a, .. } = op else { continue };
            self.check_pages(a.group, Some(1), true, batch)?;
        }
        Ok(())
    }

    /// Checks that every position that rows see lies in a page of the group's pool.
    fn check_pages(&self, group: u32, window: Option<u32>, causal: bool, batch: &Batch) -> Result<()> {
        let pages = self.groups[group as usize].pages;
        for row in &batch.rows {
            let sequence = &batch.sequences[row.sequence as usize];
            let table = sequence.tables.get(group as usize).map_or(&[][..], Vec::as_slice);
            let first = window.map_or(0, |window| (row.position + 1).saturating_sub(window)) as usize / PAGE_LEN;
            let last = if causal { row.position } else { sequence.length - 1 } as usize / PAGE_LEN;
            let held = |page: &PageId| page.0 < pages;
            if table.get(first..=last).is_none_or(|seen| !seen.iter().all(held)) {
                return Err(Error::internal(format!(
                    "sequence {} at position {}: its blocks {first}..={last} are not all pages of KV group {group}",
                    row.sequence, row.position
                )));
            }
        }
        Ok(())
    }

    /// Makes the arena large enough for the batch, and works out what the step derives from it.
    fn make_room(&mut self, program: usize, batch: &Batch) -> Result<()> {
        let (program, arena) = (&self.programs[program], &mut self.arena);
        let widths = &program.plan.widths;
        let rows = batch.rows.len();
        let grow = |buffer: &mut AlignedBytes, count: usize, width: usize, size: usize| -> Result<()> {
            let bytes = count.checked_mul(width).and_then(|n| n.checked_mul(size));
            let bytes = bytes.ok_or_else(|| Error::new(ErrorCode::Memory, format!("{count} rows × {width} values are too many")))?;
            if buffer.len() < bytes {
                // The old one is given back first.
                *buffer = AlignedBytes::default();
                *buffer = AlignedBytes::zeroed(bytes, "an activation buffer")?;
            }
            Ok(())
        };
        let f = size_of::<f32>();
        let dim = widths.dim as usize;
        grow(&mut arena.x, rows, dim, f)?;
        grow(&mut arena.prepared, rows, dim, f)?;
        grow(&mut arena.qkv_up, rows, program.up.max(widths.qkv as usize), f)?;
        grow(&mut arena.att_h, rows, widths.ff.max(widths.attention) as usize, f)?;
        if program.calls.iter().any(|call| matches!(call, Call::Join { add_y: true, .. })) {
            grow(&mut arena.y, rows, dim, f)?;
        }
        grow(&mut arena.out, batch.outputs.len(), widths.out as usize, f)?;
        grow(&mut arena.codes, rows, program.widest_codes, 1)?;
        grow(&mut arena.scales, rows, program.widest_codes / layout::BLOCK, size_of::<BlockScale>())?;
        arena.angle_offsets.clear();
        let mut angles = 0;
        for rope in &program.ropes {
            arena.angle_offsets.push(angles * rows);
            angles += rope.rotated as usize;
        }
        grow(&mut arena.angles, rows, angles, f)?;
        grow(&mut arena.low, rows.max(batch.outputs.len()), program.ranks, f)?;
        lora::runs(batch, &self.adapters, &mut arena.runs);
        grow(&mut arena.scratch, self.pool.workers(), scratch_len(), f)?;
        step::tile_rows(&batch.rows, &mut arena.tiles);
        while arena.taken.len() < program.calls.len() {
            arena.taken.push(AtomicUsize::new(0));
        }
        arena.taken.iter().for_each(|taken| taken.store(0, Ordering::Relaxed));
        Ok(())
    }
}
