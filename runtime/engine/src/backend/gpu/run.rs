//! Running a program: its resources made once, its tables written each step, one pass and one submission.

use std::collections::HashMap;

use firecrest_shaders::params::{QUERY_TILE, RowInfo, TOKEN_IN_SLOT, Tile};

use crate::backend::{MatrixId, VectorId};
use crate::batch::{Batch, BatchShape, Class, Row, RowToken};
use crate::error::{Error, Result};
use crate::kv::{PAGE_LEN, PageId};
use crate::model::plan::{Op, Plan};

use super::GpuBackend;
use super::buffers::Buffer;
use super::lower::{bucket, lower};
use super::program::{Operand, Program, StepBuffer};

/// Programs kept before all are forgotten. Prompt chunks of every length make programs of their own.
const CAPACITY: usize = 256;

/// A dispatch with everything it needs.
struct Prepared {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    params: u32,
    grid: [u32; 3],
    /// Whether the pipeline is another one than the dispatch before's.
    switches: bool,
}

/// A program and, once prepared, its resources.
struct Cached {
    program: Program,
    prepared: Vec<Prepared>,
}

/// Programs by plan and shape.
#[derive(Default)]
pub(super) struct Programs {
    /// Plans seen. Few: a model has one of each kind.
    plans: Vec<Plan>,
    cached: HashMap<(usize, BatchShape), Cached>,
}

impl Programs {
    /// Buffers were replaced: bind groups are to be made anew.
    pub(super) fn forget_resources(&mut self) {
        for cached in self.cached.values_mut() {
            cached.prepared.clear();
        }
    }

    /// Everything is to be lowered anew.
    pub(super) fn clear(&mut self) {
        self.plans.clear();
        self.cached.clear();
    }

    fn plan(&mut self, plan: &Plan) -> usize {
        self.plans.iter().position(|seen| seen == plan).unwrap_or_else(|| {
            self.plans.push(plan.clone());
            self.plans.len() - 1
        })
    }
}

impl GpuBackend {
    /// Issues a step.
    pub(super) fn issue(&mut self, plan: &Plan, batch: &Batch) -> Result<()> {
        self.device.check()?;
        self.validate(plan, batch)?;
        let shape = bucket(&batch.shape());
        let key = self.program(plan, shape)?;
        // Taken out while it runs: preparing borrows the rest of the backend.
        let Some(mut cached) = self.programs.cached.remove(&key) else {
            return Err(Error::internal("a program was lowered and is gone"));
        };
        let issued = self.issue_program(plan, batch, &mut cached);
        self.programs.cached.insert(key, cached);
        issued
    }

    /// Finds or lowers the program of a shape.
    fn program(&mut self, plan: &Plan, shape: BatchShape) -> Result<(usize, BatchShape)> {
        let key = (self.programs.plan(plan), shape);
        if self.programs.cached.contains_key(&key) {
            return Ok(key);
        }
        let program = lower(plan, &shape, self.target())?;
        if self.programs.cached.len() >= CAPACITY || !self.arena.has_room(program.dispatches.len()) {
            self.programs.clear();
            self.arena.clear();
        }
        let key = (self.programs.plan(plan), shape);
        self.programs.cached.insert(key, Cached { program, prepared: Vec::new() });
        Ok(key)
    }

    fn issue_program(&mut self, plan: &Plan, batch: &Batch, cached: &mut Cached) -> Result<()> {
        let mut replaced = false;
        for (growing, bytes) in self.step.iter_mut().zip(cached.program.bytes) {
            // Every buffer exists from the first step on, so that every operand can be bound.
            replaced |= growing.reserve(&mut self.device, &mut self.allocator, bytes)?;
        }
        if replaced {
            self.pipelines.forget_bind_groups();
            self.programs.forget_resources();
            cached.prepared.clear();
        }
        if cached.prepared.is_empty() {
            cached.prepared = self.prepare(&cached.program)?;
        }
        self.write_step(batch, &cached.program)?;
        let out_bytes = batch.outputs.len() as u64 * u64::from(plan.widths.out) * 4;
        self.staging.reserve(&mut self.device, &mut self.allocator, out_bytes)?;
        let mut encoder = self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("step") });
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("step"), timestamp_writes: None });
            for prepared in &cached.prepared {
                if prepared.switches {
                    pass.set_pipeline(&prepared.pipeline);
                }
                pass.set_bind_group(0, &prepared.bind_group, &[prepared.params]);
                let [x, y, z] = prepared.grid;
                pass.dispatch_workgroups(x, y, z);
            }
        }
        let (out, x, staging) = (self.step_buffer(StepBuffer::Out)?, self.step_buffer(StepBuffer::X)?, self.staging.get());
        if let Some(staging) = staging.filter(|_| out_bytes > 0) {
            match cached.program.copied_states {
                None => encoder.copy_buffer_to_buffer(&out.wgpu, 0, &staging.wgpu, 0, out_bytes),
                Some(stride) => {
                    let bytes = u64::from(plan.widths.out) * 4;
                    for (i, &row) in batch.outputs.iter().enumerate() {
                        encoder.copy_buffer_to_buffer(
                            &x.wgpu,
                            u64::from(row) * u64::from(stride) * 4,
                            &staging.wgpu,
                            i as u64 * bytes,
                            bytes,
                        );
                    }
                }
            }
        }
        self.device.queue.submit([encoder.finish()]);
        self.copied = out_bytes;
        Ok(())
    }

    fn step_buffer(&self, buffer: StepBuffer) -> Result<&Buffer> {
        self.step[buffer.index()].get().ok_or_else(|| Error::internal(format!("{} was never allocated", buffer.name())))
    }

    /// Makes the resources of every dispatch.
    fn prepare(&mut self, program: &Program) -> Result<Vec<Prepared>> {
        let mut prepared: Vec<Prepared> = Vec::with_capacity(program.dispatches.len());
        let mut last = None;
        for dispatch in &program.dispatches {
            let pipeline = self.pipelines.pipeline(&mut self.device, dispatch.variant, &dispatch.overrides)?;
            let bound = dispatch.operands.iter().map(|operand| self.operand(operand)).collect::<Result<Vec<_>>>()?;
            let bind_group = self.pipelines.bind_group(&mut self.device, dispatch.variant, &bound)?;
            let params = self.arena.place(&self.device, &dispatch.params)?;
            let this = Some((dispatch.variant.name, &dispatch.overrides));
            prepared.push(Prepared { pipeline, bind_group, params, grid: dispatch.grid, switches: last != this });
            last = this;
        }
        Ok(prepared)
    }

    /// The buffer an operand stands for, and the first byte that is bound.
    fn operand(&self, operand: &Operand) -> Result<(Buffer, u64)> {
        let missing = || Error::internal(format!("the program binds {operand}, which was never made"));
        let buffer = match *operand {
            Operand::Params => self.arena.buffer(),
            Operand::Step(buffer, offset) => return Ok((self.step_buffer(buffer)?.clone(), offset)),
            Operand::Matrix(MatrixId(id), piece) => {
                let matrix = self.matrices.get(id as usize).ok_or_else(missing)?;
                &matrix.pieces.get(piece as usize).ok_or_else(missing)?.buffer
            }
            Operand::Vector(VectorId(id)) => self.vectors.get(id as usize).ok_or_else(missing)?,
            Operand::Adapters(op) => &self.loras.site(op).ok_or_else(missing)?.weights,
            Operand::AdapterTable(op) => &self.loras.site(op).ok_or_else(missing)?.table,
            Operand::Keys(layer) => &self.pages.get(&layer).ok_or_else(missing)?.0,
            Operand::Values(layer) => &self.pages.get(&layer).ok_or_else(missing)?.1,
            Operand::Slots => &self.slots,
            Operand::Zero => &self.zero,
        };
        Ok((buffer.clone(), 0))
    }

    /// Writes what kernels know of this step.
    fn write_step(&mut self, batch: &Batch, program: &Program) -> Result<()> {
        let rows: Vec<RowInfo> = batch.rows.iter().map(|row| self.row_info(row, batch)).collect();
        let stride = program.table_stride as usize;
        let mut tables = vec![PageId::NONE.0; self.groups.len() * program.table_sequences as usize * stride];
        for (s, sequence) in batch.sequences.iter().enumerate() {
            for (group, table) in sequence.tables.iter().enumerate() {
                let first = (group * program.table_sequences as usize + s) * stride;
                for (entry, page) in tables[first..first + stride].iter_mut().zip(table) {
                    *entry = page.0;
                }
            }
        }
        let mut tiles = tiles(&batch.rows);
        if tiles.len() > program.tiles as usize {
            return Err(Error::internal(format!("{} tiles of prompt rows, but the program has room for {}", tiles.len(), program.tiles)));
        }
        tiles.resize(program.tiles as usize, Tile::default());
        for (buffer, bytes) in [
            (StepBuffer::Rows, bytemuck::cast_slice::<_, u8>(&rows)),
            (StepBuffer::Tables, bytemuck::cast_slice(&tables)),
            (StepBuffer::Tiles, bytemuck::cast_slice(&tiles)),
            (StepBuffer::Outputs, bytemuck::cast_slice(&batch.outputs)),
        ] {
            let room = program.size(buffer) as usize;
            if !bytes.is_empty() && room > 0 {
                self.device.queue.write_buffer(&self.step_buffer(buffer)?.wgpu, 0, &bytes[..bytes.len().min(room)]);
            }
        }
        Ok(())
    }

    fn row_info(&self, row: &Row, batch: &Batch) -> RowInfo {
        let sequence = &batch.sequences[row.sequence as usize];
        RowInfo {
            token: match row.token {
                RowToken::Known(token) => token,
                RowToken::Slot(slot) => TOKEN_IN_SLOT | slot.0,
            },
            position: row.position,
            sequence: row.sequence,
            segment: row.segment,
            length: sequence.length,
            adapter: sequence.adapter.and_then(|id| self.loras.index(id)).map_or(0, |index| index + 1),
            pad: [0; 2],
        }
    }

    /// Checks that a batch does not contradict itself, so that no kernel reads a page or a token that is not there.
    fn validate(&self, plan: &Plan, batch: &Batch) -> Result<()> {
        let wrong = |what: String| Err(Error::internal(format!("batch: {what}")));
        if batch.rows.is_empty() {
            return wrong("it has no rows".to_owned());
        }
        let vocabulary = plan.ops.iter().find_map(|op| match op {
            Op::Embed { table, .. } => self.specs.get(table.0 as usize).map(|spec| spec.rows),
            _ => None,
        });
        let attends = plan.ops.iter().any(|op| matches!(op, Op::Attend { .. }));
        for (s, sequence) in batch.sequences.iter().enumerate() {
            if let Some(id) = sequence.adapter.filter(|id| self.loras.index(*id).is_none()) {
                return wrong(format!("sequence {s} has the adapter {}, which is not held", id.0));
            }
            if attends && sequence.tables.len() != self.groups.len() {
                return wrong(format!("sequence {s} has {} page tables for {} KV groups", sequence.tables.len(), self.groups.len()));
            }
            for (table, group) in sequence.tables.iter().zip(&self.groups) {
                if table.len() < (sequence.length as usize).div_ceil(PAGE_LEN) {
                    return wrong(format!("sequence {s} has {} pages for {} positions", table.len(), sequence.length));
                }
                if let Some(page) = table.iter().find(|page| **page != PageId::NONE && page.0 >= group.pages) {
                    return wrong(format!("sequence {s} names page {}, of {}", page.0, group.pages));
                }
            }
        }
        let mut generated = false;
        for (r, row) in batch.rows.iter().enumerate() {
            let Some(sequence) = batch.sequences.get(row.sequence as usize) else {
                return wrong(format!("row {r} names sequence {}, of {}", row.sequence, batch.sequences.len()));
            };
            if row.position >= sequence.length {
                return wrong(format!("row {r} is at position {} of a sequence of {}", row.position, sequence.length));
            }
            match row.token {
                RowToken::Known(token) if vocabulary.is_some_and(|rows| token as usize >= rows) => {
                    return Err(Error::request(format!("token {token} at position {} is not in the vocabulary", row.position)));
                }
                RowToken::Slot(slot) if u64::from(slot.0) >= self.slots.wgpu.size() / 4 => {
                    return wrong(format!("row {r} feeds from slot {}, which was never written", slot.0));
                }
                _ => {}
            }
            if generated && row.class == Class::Prompt {
                return wrong(format!("row {r} is of the prompt class, behind generated rows"));
            }
            generated = row.class == Class::Generated;
        }
        match batch.outputs.iter().find(|&&row| row as usize >= batch.rows.len()) {
            Some(row) => wrong(format!("outputs of row {row} of {}", batch.rows.len())),
            None => Ok(()),
        }
    }
}

/// Cuts prompt rows into runs of one sequence at ascending positions, [`QUERY_TILE`] rows at most.
fn tiles(rows: &[Row]) -> Vec<Tile> {
    let mut tiles: Vec<Tile> = Vec::new();
    let mut last: Option<&Row> = None;
    for (r, row) in rows.iter().enumerate().take_while(|(_, row)| row.class == Class::Prompt) {
        let continues = last.is_some_and(|last| last.sequence == row.sequence && last.position + 1 == row.position);
        match tiles.last_mut().filter(|tile| continues && tile.rows < QUERY_TILE) {
            Some(tile) => tile.rows += 1,
            None => tiles.push(Tile { first_row: r as u32, rows: 1 }),
        }
        last = Some(row);
    }
    tiles
}
