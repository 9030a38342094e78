//! Running a program: its resources made once, its tables written each step, one pass and one submission.

use std::collections::HashMap;

use firecrest_shaders::params::{QUERY_TILE, RING, RowInfo, TOKEN_IN_SLOT, Tile};

use crate::backend::{MatrixId, VectorId};
use crate::batch::{Batch, BatchShape, Class, Row, RowToken};
use crate::error::{Error, Result};
use crate::kv::{PAGE_LEN, PageId};
use crate::model::plan::{Op, Plan};

use super::GpuBackend;
use super::buffers::Buffer;
use super::lower::{bucket, lower};
use super::program::{Operand, Program, StepBuffer};
use super::timestamps::Timestamps;

/// Programs kept before all are forgotten. Prompt chunks of every length make programs of their own.
const CAPACITY: usize = 256;

/// Parameter blocks that a step's draws take beside its program's.
pub(super) const DRAWS_ROOM: usize = 4;

/// A dispatch with everything it needs.
struct Prepared {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    params: u32,
    grid: [u32; 3],
    /// Whether the pipeline is another one than the dispatch before's.
    switches: bool,
}

impl Prepared {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>, set_pipeline: bool) {
        if set_pipeline {
            pass.set_pipeline(&self.pipeline);
        }
        pass.set_bind_group(0, &self.bind_group, &[self.params]);
        let [x, y, z] = self.grid;
        pass.dispatch_workgroups(x, y, z);
    }
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
        if self.programs.cached.len() >= CAPACITY || !self.arena.has_room(program.dispatches.len() + DRAWS_ROOM) {
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
        let slots = self.slots.id;
        let width = u64::from(plan.widths.out);
        let draws = match batch.draws.as_slice() {
            [] => None,
            draws => Some(self.write_draws(draws, plan.widths.out, |output| batch.rows[batch.outputs[output as usize] as usize].position)?),
        };
        let mut flight = self.flight(batch.values_len() as u64 * width * 4, draws)?;
        let samples = flight.draws().map(|draws| self.ready_draws(draws)).transpose()?.unwrap_or_default();
        if self.slots.id != slots {
            cached.prepared.clear();
        }
        if cached.prepared.is_empty() {
            cached.prepared = self.prepare_dispatches(&cached.program)?;
        }
        self.write_step(batch, &cached.program)?;
        let mut encoder = self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("step") });
        match self.timestamps_wanted(plan, &cached.program)? {
            None => {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("step"), timestamp_writes: None });
                for prepared in &cached.prepared {
                    prepared.encode(&mut pass, prepared.switches);
                }
                if flight.values().is_none() {
                    samples.iter().for_each(|sample| sample.encode(&mut pass));
                }
            }
            Some(timestamps) => {
                for (index, prepared) in (0..).zip(&cached.prepared) {
                    let timestamp_writes = timestamps.writes(index);
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("step"), timestamp_writes });
                    prepared.encode(&mut pass, true);
                }
                for (index, sample) in (cached.prepared.len() as u32..).zip(samples.iter().filter(|_| flight.values().is_none())) {
                    let timestamp_writes = timestamps.writes(index);
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("draws"), timestamp_writes });
                    sample.encode(&mut pass);
                }
                timestamps.resolve(&mut encoder);
                self.timestamps = Some(timestamps);
            }
        }
        if let Some(staging) = flight.values() {
            self.copy_values(&mut encoder, batch, &cached.program, width * 4, staging)?;
            if !samples.is_empty() {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("draws"), timestamp_writes: None });
                samples.iter().for_each(|sample| sample.encode(&mut pass));
            }
        }
        self.encode_drawn(&mut encoder, &mut flight)?;
        self.submit(encoder, &mut flight);
        self.depart(flight);
        Ok(())
    }

    /// Room for timestamps, where this step is to be traced.
    fn timestamps_wanted(&mut self, plan: &Plan, program: &Program) -> Result<Option<Timestamps>> {
        if !std::mem::take(&mut self.trace_next) {
            return Ok(None);
        }
        // Draws without filters and with them, at most.
        let text = program.text(plan) + "sample\nsample with filters\n";
        self.timestamps(program.dispatches.len() + 2, text)
    }

    /// Copies the rows of OUT that are read, `bytes` each.
    fn copy_values(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        batch: &Batch,
        program: &Program,
        bytes: u64,
        staging: &wgpu::Buffer,
    ) -> Result<()> {
        let (out, x) = (self.step_buffer(StepBuffer::Out)?, self.step_buffer(StepBuffer::X)?);
        let wanted = match (&batch.values, program.copied_states) {
            (None, None) => {
                encoder.copy_buffer_to_buffer(&out.wgpu, 0, staging, 0, batch.outputs.len() as u64 * bytes);
                return Ok(());
            }
            (None, Some(_)) => (0..batch.outputs.len() as u32).collect(),
            (Some(values), _) => values.clone(),
        };
        for (i, &output) in wanted.iter().enumerate() {
            let (from, at) = match program.copied_states {
                None => (out, u64::from(output) * bytes),
                Some(stride) => (x, u64::from(batch.outputs[output as usize]) * u64::from(stride) * 4),
            };
            encoder.copy_buffer_to_buffer(&from.wgpu, at, staging, i as u64 * bytes, bytes);
        }
        Ok(())
    }

    pub(super) fn step_buffer(&self, buffer: StepBuffer) -> Result<&Buffer> {
        self.step[buffer.index()].get().ok_or_else(|| Error::internal(format!("{} was never allocated", buffer.name())))
    }

    /// Makes the resources of every dispatch.
    fn prepare_dispatches(&mut self, program: &Program) -> Result<Vec<Prepared>> {
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
                RowToken::Slot(slot) => TOKEN_IN_SLOT | (slot.0 * RING + row.position % RING),
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
                RowToken::Slot(slot) if (u64::from(slot.0) + 1) * u64::from(RING) > self.slots.wgpu.size() / 4 => {
                    return wrong(format!("row {r} feeds from slot {}, which was never written", slot.0));
                }
                _ => {}
            }
            if generated && row.class == Class::Prompt {
                return wrong(format!("row {r} is of the prompt class, behind generated rows"));
            }
            generated = row.class == Class::Generated;
        }
        if let Some(row) = batch.outputs.iter().find(|&&row| row as usize >= batch.rows.len()) {
            return wrong(format!("outputs of row {row} of {}", batch.rows.len()));
        }
        let named = batch.draws.iter().map(|draw| draw.output).chain(batch.values.iter().flatten().copied());
        if let Some(output) = named.into_iter().find(|&output| output as usize >= batch.outputs.len()) {
            return wrong(format!("output {output} of {} is drawn from or read", batch.outputs.len()));
        }
        if !batch.draws.is_sorted_by_key(|draw| draw.waits) {
            return wrong("a draw stands behind one that waits".to_owned());
        }
        Ok(())
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
