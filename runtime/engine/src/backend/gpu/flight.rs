//! Steps in flight: what each leaves to be read, and the memory it is read from.

use std::collections::VecDeque;

use crate::backend::{Drawn, Outputs};
use crate::error::{Error, Result};

use super::GpuBackend;
use super::device::Mapping;
use super::draw::{Draws, drawn};
use super::program::StepBuffer;

/// A step that was issued and not read.
pub(super) struct Flight {
    /// Values of OUT, then a word a draw.
    staging: Option<wgpu::Buffer>,
    values: u64,
    draws: Option<Draws>,
    /// By draw of the batch, its place among the words, if it was drawn.
    drawn: Vec<Option<u32>>,
    /// Its last submission and the mapping behind it, once everything is issued, where anything is read.
    awaited: Option<(wgpu::SubmissionIndex, Mapping)>,
}

/// Steps in flight, oldest first.
#[derive(Default)]
pub(super) struct Flights {
    queue: VecDeque<Flight>,
    /// Staging buffers that no step uses.
    free: Vec<wgpu::Buffer>,
}

impl Flight {
    /// Bytes that are read.
    fn bytes(&self) -> u64 {
        self.values + self.drawn.len() as u64 * 4
    }

    /// What values of OUT are copied to, if any are read.
    pub(super) fn values(&self) -> Option<&wgpu::Buffer> {
        self.staging.as_ref().filter(|_| self.values > 0)
    }

    /// Its draws, until all are issued.
    pub(super) fn draws(&self) -> Option<&Draws> {
        self.draws.as_ref()
    }
}

impl Flights {
    pub(super) fn clear(&mut self) {
        *self = Flights::default();
    }

    /// Bytes of staging memory.
    pub(super) fn bytes(&self) -> u64 {
        let used = self.queue.iter().filter_map(|flight| flight.staging.as_ref());
        used.chain(&self.free).map(wgpu::Buffer::size).sum()
    }
}

impl GpuBackend {
    /// A step is about to be issued that leaves so many bytes of values.
    pub(super) fn flight(&mut self, values: u64, draws: Option<Draws>) -> Result<Flight> {
        let count = draws.as_ref().map_or(0, Draws::len);
        let bytes = values + count as u64 * 4;
        let staging = (bytes > 0).then(|| self.staging(bytes)).transpose()?;
        Ok(Flight { staging, values, draws, drawn: vec![None; count], awaited: None })
    }

    /// A buffer of at least so many bytes to read from.
    fn staging(&mut self, bytes: u64) -> Result<wgpu::Buffer> {
        let fits = self.flights.free.iter().enumerate().filter(|(_, b)| b.size() >= bytes).min_by_key(|(_, b)| b.size()).map(|(i, _)| i);
        if let Some(index) = fits {
            return Ok(self.flights.free.swap_remove(index));
        }
        // One that is too small now will be again.
        self.flights.free.pop();
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let size = bytes.max(256).next_power_of_two();
        let size = if size > self.device.limits.max_buffer_size { bytes } else { size };
        self.device.buffer("read back", size, usage)
    }

    /// Encodes the copy of what was drawn, where nothing waits.
    pub(super) fn encode_drawn(&mut self, encoder: &mut wgpu::CommandEncoder, flight: &mut Flight) -> Result<()> {
        if let Some(draws) = flight.draws.take_if(|draws| !draws.any_wait()) {
            self.copy_drawn(encoder, flight, &draws)?;
        }
        Ok(())
    }

    fn copy_drawn(&self, encoder: &mut wgpu::CommandEncoder, flight: &mut Flight, draws: &Draws) -> Result<()> {
        for (place, index) in (0..).zip(draws.order()) {
            flight.drawn[index] = Some(place);
        }
        if let Some(staging) = flight.staging.as_ref().filter(|_| draws.len() > 0) {
            let drawn = self.step_buffer(StepBuffer::Drawn)?;
            encoder.copy_buffer_to_buffer(&drawn.wgpu, 0, staging, flight.values, draws.len() as u64 * 4);
        }
        Ok(())
    }

    /// See [`crate::backend::Backend::draw`].
    pub fn draw(&mut self, named: &[(usize, Option<Vec<u32>>)]) -> Result<()> {
        self.device.check()?;
        // Taken out while it is worked on: making the dispatch borrows the rest of the backend.
        let Some(mut flight) = self.flights.queue.pop_back() else { return Err(Error::internal("no step waits for draws")) };
        let issued = self.issue_draws(&mut flight, named);
        self.flights.queue.push_back(flight);
        issued
    }

    fn issue_draws(&mut self, flight: &mut Flight, named: &[(usize, Option<Vec<u32>>)]) -> Result<()> {
        let Some(mut draws) = flight.draws.take() else { return Err(Error::internal("the last step has no draw that waits")) };
        let dispatches = self.waited_draws(&mut draws, named)?;
        let mut encoder = self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("draws") });
        if !dispatches.is_empty() {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("draws"), timestamp_writes: None });
            dispatches.iter().for_each(|dispatch| dispatch.encode(&mut pass));
        }
        self.copy_drawn(&mut encoder, flight, &draws)?;
        self.submit(encoder, flight);
        Ok(())
    }

    /// Submits the last of a step's work: from here on it can be read.
    pub(super) fn submit(&mut self, encoder: wgpu::CommandEncoder, flight: &mut Flight) {
        let issued = self.device.queue.submit([encoder.finish()]);
        if let Some(staging) = flight.staging.as_ref().filter(|_| flight.draws.is_none()) {
            flight.awaited = Some((issued, self.device.map(staging, flight.bytes())));
        }
    }

    /// Adds a step behind those in flight.
    pub(super) fn depart(&mut self, flight: Flight) {
        self.flights.queue.push_back(flight);
    }

    /// See [`crate::backend::Backend::read`].
    ///
    /// # Errors
    /// `Device` where the device failed: the step is lost then, and those behind it.
    pub async fn read(&mut self, outputs: &mut Outputs) -> Result<()> {
        outputs.values.clear();
        outputs.drawn.clear();
        let Some(flight) = self.flights.queue.front() else { return Err(Error::internal("no step is in flight")) };
        if flight.draws.is_some() {
            return Err(Error::internal("draws of the oldest step still wait"));
        }
        let awaited = flight.awaited.clone();
        self.device.settle().await?;
        if let Some((issued, mapping)) = awaited {
            self.device.finish(Some(issued), mapping).await?;
        }
        let Some(flight) = self.flights.queue.pop_front() else { return Ok(()) };
        let bytes = flight.bytes();
        let Some(staging) = flight.staging else { return Ok(()) };
        self.device.mapped(&staging, bytes, |mapped| {
            let (values, words) = mapped.split_at(flight.values as usize);
            outputs.values.extend_from_slice(bytemuck::cast_slice(values));
            let words: &[u32] = bytemuck::cast_slice(words);
            outputs.drawn.extend(flight.drawn.iter().map(|place| place.map_or(Drawn::Never, |place| drawn(words[place as usize]))));
        })?;
        self.flights.free.push(staging);
        Ok(())
    }

    /// See [`crate::backend::Backend::skip`].
    pub fn skip(&mut self) {
        let Some(Flight { staging: Some(staging), awaited, .. }) = self.flights.queue.pop_front() else { return };
        // HAZARD: a buffer whose mapping was asked for must not be read into again. wgpu keeps what was asked until the old submission is done, even behind an
        // `unmap`, and would then take the new mapping for ready, long before the new submission is: another step's values would be read. It is let go.
        if awaited.is_none() {
            self.flights.free.push(staging);
        }
    }
}
