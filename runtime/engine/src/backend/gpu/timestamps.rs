//! Timestamps around every dispatch of one step, each in a pass of its own.

use std::time::Duration;

use crate::backend::trace::{Timed, timed};
use crate::error::Result;

use super::GpuBackend;

/// What a traced step leaves.
pub(super) struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    count: u32,
    /// The program, a line a dispatch.
    text: String,
}

impl Timestamps {
    /// What the pass of one dispatch is begun with.
    pub(super) fn writes(&self, dispatch: u32) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        (dispatch < self.count).then(|| wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(2 * dispatch),
            end_of_pass_write_index: Some(2 * dispatch + 1),
        })
    }

    /// Encodes what makes the timestamps readable.
    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.queries, 0..2 * self.count, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, u64::from(self.count) * 16);
    }
}

impl GpuBackend {
    /// Room for the timestamps of so many dispatches, those past what a query set holds left out; `None` where the device has none.
    pub(super) fn timestamps(&mut self, dispatches: usize, text: String) -> Result<Option<Timestamps>> {
        if !self.device.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let count = (dispatches as u32).min(wgpu::QUERY_SET_MAX_QUERIES / 2);
        let queries = self.device.scoped("making timestamps", |device| {
            device.create_query_set(&wgpu::QuerySetDescriptor { label: Some("trace"), ty: wgpu::QueryType::Timestamp, count: 2 * count })
        })?;
        let bytes = u64::from(count) * 16;
        let resolved = self.device.buffer("trace", bytes, wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC)?;
        let staging = self.device.buffer("trace", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)?;
        Ok(Some(Timestamps { queries, resolved, staging, count, text }))
    }

    /// See [`crate::backend::Backend::traced`].
    ///
    /// # Errors
    /// `Device` where the device failed.
    pub async fn traced(&mut self) -> Result<Option<Vec<Timed>>> {
        let Some(Timestamps { staging, count, text, .. }) = self.timestamps.take() else { return Ok(None) };
        let nanoseconds = f64::from(self.device.queue.get_timestamp_period());
        let mut ticks: Vec<u64> = Vec::new();
        self.device.read(&staging, u64::from(count) * 16, |bytes| ticks.extend_from_slice(bytemuck::cast_slice(bytes))).await?;
        let first = ticks.iter().copied().min().unwrap_or(0);
        let moment = |tick: u64| Duration::from_nanos(((tick - first) as f64 * nanoseconds) as u64);
        let moments = ticks.as_chunks::<2>().0.iter().map(|[began, ended]| (moment(*began), moment(*ended)));
        Ok(Some(timed(text.lines(), moments)))
    }
}
