//! The uniform arena: parameter blocks in 256-byte slots of one buffer, bound with a dynamic offset.
//!
//! 256 is the largest `minUniformBufferOffsetAlignment` any device may have. Equal blocks share a slot, so that the layers of
//! a model, which differ in weights only, take as many slots as one layer.

use std::collections::HashMap;

use crate::error::{Error, Result};

use super::buffers::{Allocator, Buffer};
use super::device::Device;

/// Bytes of a slot, and the most a parameter block may hold.
pub(super) const SLOT: usize = 256;

/// Slots in the arena: 2 MiB, some hundreds of programs.
const CAPACITY: usize = 8192;

/// Parameter blocks on the device.
pub(super) struct Arena {
    buffer: Buffer,
    offsets: HashMap<Vec<u8>, u32>,
}

impl Arena {
    pub(super) fn new(device: &mut Device, allocator: &mut Allocator) -> Result<Arena> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let buffer = allocator.buffer(device, "kernel parameters", (CAPACITY * SLOT) as u64, usage)?;
        Ok(Arena { buffer, offsets: HashMap::new() })
    }

    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Whether `blocks` more would still fit for sure.
    pub(super) fn has_room(&self, blocks: usize) -> bool {
        self.offsets.len() + blocks <= CAPACITY
    }

    /// Forgets every block. Programs that hold offsets must be forgotten with it; steps already submitted keep what they read,
    /// since writes are queued behind them.
    pub(super) fn clear(&mut self) {
        self.offsets.clear();
    }

    /// The offset of a block, written now if it is new.
    pub(super) fn place(&mut self, device: &Device, block: &[u8]) -> Result<u32> {
        if let Some(&offset) = self.offsets.get(block) {
            return Ok(offset);
        }
        if block.len() > SLOT || !self.has_room(1) {
            return Err(Error::internal(format!("{} bytes of kernel parameters do not fit the uniform arena", block.len())));
        }
        let offset = (self.offsets.len() * SLOT) as u32;
        device.queue.write_buffer(&self.buffer.wgpu, u64::from(offset), block);
        self.offsets.insert(block.to_vec(), offset);
        Ok(offset)
    }
}
