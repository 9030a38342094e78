//! Buffers with an identity: what bind groups are cached by, and activations that grow.

use crate::error::Result;

use super::device::Device;

/// A buffer and the number that names it. A number is never used twice, so a cache keyed by it can't confuse two buffers.
#[derive(Clone)]
pub(super) struct Buffer {
    pub(super) id: u64,
    pub(super) wgpu: wgpu::Buffer,
}

/// Makes numbered buffers and counts what they hold.
#[derive(Default)]
pub(super) struct Allocator {
    next: u64,
}

impl Allocator {
    /// A zeroed buffer of at least `size` bytes.
    pub(super) fn buffer(&mut self, device: &mut Device, label: &str, size: u64, usage: wgpu::BufferUsages) -> Result<Buffer> {
        let wgpu = device.buffer(label, size, usage)?;
        self.next += 1;
        Ok(Buffer { id: self.next, wgpu })
    }
}

/// A buffer that grows by powers of two. Growing drops its content.
pub(super) struct Growing {
    label: &'static str,
    usage: wgpu::BufferUsages,
    buffer: Option<Buffer>,
}

impl Growing {
    pub(super) fn new(label: &'static str, usage: wgpu::BufferUsages) -> Growing {
        Growing { label, usage, buffer: None }
    }

    /// Makes room for `bytes`. Whether the buffer is another one now, so that bind groups that held it must go.
    ///
    /// A buffer being read by steps in flight lives on until they are done: wgpu counts references.
    pub(super) fn reserve(&mut self, device: &mut Device, allocator: &mut Allocator, bytes: u64) -> Result<bool> {
        if self.buffer.as_ref().is_some_and(|buffer| buffer.wgpu.size() >= bytes) {
            return Ok(false);
        }
        // A power of two, unless that alone would pass the limit.
        let grown = bytes.max(256).next_power_of_two();
        let size = if grown > device.limits.max_buffer_size { bytes } else { grown };
        self.buffer = None;
        self.buffer = Some(allocator.buffer(device, self.label, size, self.usage)?);
        Ok(true)
    }

    /// The buffer, once reserved.
    pub(super) fn get(&self) -> Option<&Buffer> {
        self.buffer.as_ref()
    }

    /// Bytes held.
    pub(super) fn size(&self) -> u64 {
        self.buffer.as_ref().map_or(0, |buffer| buffer.wgpu.size())
    }
}
