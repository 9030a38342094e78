//! Drawing tokens: what the `sample` kernel is told, and its dispatches.

use std::collections::BTreeMap;
use std::ops::Range;

use firecrest_shaders::Kernel;
use firecrest_shaders::params::{Adjustment, DRAWN_NOT_FINITE, DRAWN_NOTHING, DROPPED, DrawInfo, MAX_VOCAB, NO_CELL, RING, SampleParams};

use crate::backend::Drawn;
use crate::batch::Draw;
use crate::error::{Error, Result};

use super::GpuBackend;
use super::buffers::Buffer;
use super::program::StepBuffer;
use super::run::DRAWS_ROOM;

/// A step's draws as the kernel is told of them, until those that wait are issued.
pub(super) struct Draws {
    /// Index into the batch's, and how it is drawn. In the order of dispatches: what waits last, and before it what rules tokens out.
    infos: Vec<(usize, DrawInfo)>,
    /// Draws from this one on wait.
    ready: usize,
    vocab: u32,
    has_adjustments: bool,
}

impl Draws {
    pub(super) fn len(&self) -> usize {
        self.infos.len()
    }

    pub(super) fn any_wait(&self) -> bool {
        self.ready < self.infos.len()
    }

    /// The batch's index of each, in their order.
    pub(super) fn order(&self) -> impl Iterator<Item = usize> {
        self.infos.iter().map(|(index, _)| *index)
    }

    fn words(&self, first: usize) -> Vec<DrawInfo> {
        self.infos[first..].iter().map(|(_, info)| *info).collect()
    }
}

/// A dispatch of `sample`, ready to be encoded.
pub(super) struct SampleDispatch {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) bind_group: wgpu::BindGroup,
    pub(super) params: u32,
    pub(super) draws: u32,
}

impl SampleDispatch {
    pub(super) fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[self.params]);
        pass.dispatch_workgroups(self.draws, 1, 1);
    }
}

/// What `drawn` says.
pub(super) fn drawn(word: u32) -> Drawn {
    match word {
        DRAWN_NOT_FINITE => Drawn::NotFinite,
        DRAWN_NOTHING => Drawn::NothingAllowed,
        token => Drawn::Token(token),
    }
}

/// Bias, occurrences and refusals of one draw by token, each token once.
fn adjustments(draw: &Draw) -> impl Iterator<Item = Adjustment> {
    let mut by_token: BTreeMap<u32, (f32, u32)> = BTreeMap::new();
    for &(token, bias) in &draw.sampling.logit_bias {
        by_token.entry(token).or_default().0 += bias;
    }
    for &token in &draw.refused {
        by_token.entry(token).or_default().0 = DROPPED;
    }
    for &(token, count) in &draw.occurrences {
        by_token.entry(token).or_default().1 = count;
    }
    by_token.into_iter().map(|(token, (bias, count))| Adjustment { token, bias: bias.max(DROPPED), count, pad: 0 })
}

fn info(draw: &Draw, position: u32) -> DrawInfo {
    let sampling = &draw.sampling;
    DrawInfo {
        output: draw.output,
        ring: draw.slot.0 * RING,
        position,
        mask: NO_CELL,
        seed_low: sampling.seed as u32,
        seed_high: (sampling.seed >> 32) as u32,
        top_k: sampling.top_k,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        typical_p: sampling.typical_p,
        repeat: sampling.repeat_penalty,
        presence: sampling.presence_penalty,
        frequency: sampling.frequency_penalty,
        first_adjustment: 0,
        adjustments: 0,
        in_flight: draw.in_flight,
        pad: [0; 3],
    }
}

impl GpuBackend {
    /// Puts a step's draws where the kernel finds them. `position` says where the row of an output stands.
    pub(super) fn write_draws(&mut self, draws: &[Draw], vocab: u32, position: impl Fn(u32) -> u32) -> Result<Draws> {
        if vocab > MAX_VOCAB {
            return Err(Error::unsupported(format!("a vocabulary of {vocab} tokens; GPU kernels draw from {MAX_VOCAB} at most")));
        }
        let ready = draws.iter().take_while(|draw| !draw.waits).count();
        let mut all = Vec::new();
        let mut infos = Vec::with_capacity(draws.len());
        for (index, draw) in draws.iter().enumerate() {
            let first = all.len() as u32;
            all.extend(adjustments(draw));
            if let Some(adjustment) = all[first as usize..].iter().find(|adjustment| adjustment.token >= vocab) {
                return Err(Error::internal(format!("token {} of {vocab} is adjusted", adjustment.token)));
            }
            let info = info(draw, position(draw.output));
            infos.push((index, DrawInfo { first_adjustment: first, adjustments: all.len() as u32 - first, ..info }));
        }
        infos[..ready].sort_by_key(|(_, info)| info.filters());
        let draws_of_step = Draws { infos, ready, vocab, has_adjustments: !all.is_empty() };
        let slots = draws.iter().map(|draw| draw.slot.0 + 1).max().unwrap_or(0);
        self.reserve_slots(slots)?;
        self.write(StepBuffer::Draws, bytemuck::cast_slice(&draws_of_step.words(0)))?;
        self.reserve(StepBuffer::Drawn, draws.len() as u64 * 4)?;
        if !all.is_empty() {
            self.write(StepBuffer::Adjustments, bytemuck::cast_slice(&all))?;
        }
        Ok(draws_of_step)
    }

    /// The dispatches of the draws that don't wait.
    pub(super) fn ready_draws(&mut self, draws: &Draws) -> Result<Vec<SampleDispatch>> {
        self.sample_dispatches(draws, 0..draws.ready, false)
    }

    /// The dispatches of draws that waited, now that it is known what they may be; those that are not named leave.
    pub(super) fn waited_draws(&mut self, draws: &mut Draws, named: &[(usize, Option<Vec<u32>>)]) -> Result<Vec<SampleDispatch>> {
        if !self.arena.has_room(DRAWS_ROOM) {
            self.programs.clear();
            self.arena.clear();
        }
        let words = draws.vocab.div_ceil(32) as usize;
        let mut masks: Vec<u32> = Vec::new();
        let mut infos = Vec::with_capacity(named.len());
        for (index, mask) in named {
            let Some((_, info)) = draws.infos[draws.ready..].iter().find(|(waiting, _)| waiting == index) else {
                return Err(Error::internal(format!("draw {index} of {} does not wait", draws.infos.len())));
            };
            let mut info = *info;
            if let Some(mask) = mask {
                info.mask = masks.len() as u32;
                masks.extend(mask.iter().take(words));
                // Tokens beyond what the mask knows are not allowed.
                masks.resize(info.mask as usize + words, 0);
            }
            infos.push((*index, info));
        }
        infos.sort_by_key(|(_, info)| info.filters());
        draws.infos.truncate(draws.ready);
        draws.infos.extend(infos);
        if draws.any_wait() {
            let offset = (draws.ready * size_of::<DrawInfo>()) as u64;
            let buffer = self.step_buffer(StepBuffer::Draws)?;
            self.device.queue.write_buffer(&buffer.wgpu, offset, bytemuck::cast_slice(&draws.words(draws.ready)));
        }
        if !masks.is_empty() {
            self.write(StepBuffer::Masks, bytemuck::cast_slice(&masks))?;
        }
        self.sample_dispatches(draws, draws.ready..draws.infos.len(), !masks.is_empty())
    }

    /// One dispatch of draws that rule nothing out and one of those that do: a draw runs on the same pipeline whatever is beside it.
    fn sample_dispatches(&mut self, draws: &Draws, range: Range<usize>, masked: bool) -> Result<Vec<SampleDispatch>> {
        let filtered = range.start + draws.infos[range.clone()].partition_point(|(_, info)| !info.filters());
        let parts = [(0, range.start..filtered), (1, filtered..range.end)];
        let mut dispatches = Vec::new();
        for (filters, part) in parts.into_iter().filter(|(_, part)| !part.is_empty()) {
            let variant = self.selection.only(Kernel::Sample, None)?;
            let pipeline = self.pipelines.pipeline(&mut self.device, variant, &[("FILTERS", filters)])?;
            let params = SampleParams { vocab: draws.vocab, draws: part.len() as u32, first_draw: part.start as u32, pad: 0 };
            let step = |buffer| self.step_buffer(buffer).map(|b| (b.clone(), 0));
            let bound: [(Buffer, u64); 7] = [
                (self.arena.buffer().clone(), 0),
                step(StepBuffer::Draws)?,
                if draws.has_adjustments { step(StepBuffer::Adjustments)? } else { (self.zero.clone(), 0) },
                if masked { step(StepBuffer::Masks)? } else { (self.zero.clone(), 0) },
                step(StepBuffer::Out)?,
                (self.slots.clone(), 0),
                step(StepBuffer::Drawn)?,
            ];
            let bind_group = self.pipelines.bind_group(&mut self.device, variant, &bound)?;
            let params = self.arena.place(&self.device, bytemuck::bytes_of(&params))?;
            dispatches.push(SampleDispatch { pipeline, bind_group, params, draws: part.len() as u32 });
        }
        Ok(dispatches)
    }

    /// Makes room in a step buffer that only draws bind, and whose content is not needed any more.
    fn reserve(&mut self, buffer: StepBuffer, bytes: u64) -> Result<()> {
        if self.step[buffer.index()].reserve(&mut self.device, &mut self.allocator, bytes)? {
            self.pipelines.forget_bind_groups();
        }
        Ok(())
    }

    fn write(&mut self, buffer: StepBuffer, bytes: &[u8]) -> Result<()> {
        self.reserve(buffer, bytes.len() as u64)?;
        let buffer = self.step_buffer(buffer)?;
        self.device.queue.write_buffer(&buffer.wgpu, 0, bytes);
        Ok(())
    }

    /// Makes room for so many slots; what they hold stays.
    fn reserve_slots(&mut self, slots: u32) -> Result<()> {
        let bytes = u64::from(slots) * u64::from(RING) * 4;
        if bytes <= self.slots.wgpu.size() {
            return Ok(());
        }
        let larger = self.allocator.buffer(&mut self.device, "token slots", bytes.next_power_of_two(), self.slots.wgpu.usage())?;
        let mut encoder = self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&self.slots.wgpu, 0, &larger.wgpu, 0, self.slots.wgpu.size());
        self.device.queue.submit([encoder.finish()]);
        self.slots = larger;
        self.programs.forget_resources();
        self.pipelines.forget_bind_groups();
        Ok(())
    }
}
