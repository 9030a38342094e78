//! Weights on the device: GGML blocks taken apart into planes, one allocation a piece.

use std::ops::Range;

use firecrest_shaders::planes::{Layout, Planes, repack};

use crate::backend::MatrixSpec;
use crate::error::{Error, ErrorCode, Result};

use super::buffers::{Allocator, Buffer};
use super::device::Device;

/// The most rows of a piece: what one dimension of a grid can cover when a workgroup computes two.
const MAX_ROWS: usize = 2 * 65535;

/// Bytes written to the queue after which it is flushed: wgpu keeps a staging copy of every write until a submission.
const FLUSH: u64 = 32 << 20;

/// How a matrix is cut by rows so that every piece fits one binding of `limit` bytes. Pieces are as equal as can be.
pub(super) fn pieces(spec: &MatrixSpec, limit: u64) -> Result<Vec<Range<usize>>> {
    let row = Layout::bytes_per_row(spec.format, spec.columns) as u64;
    // Up to four planes may each be padded by 15 bytes.
    let rows_that_fit = (limit.saturating_sub(64) / row.max(1)).min(MAX_ROWS as u64) as usize;
    if rows_that_fit == 0 {
        return Err(Error::new(
            ErrorCode::Memory,
            format!("a row of `{}` takes {row} bytes, but this GPU binds at most {limit}", spec.name),
        ));
    }
    let count = spec.rows.div_ceil(rows_that_fit).max(1);
    let each = spec.rows.div_ceil(count);
    Ok((0..count).map(|i| (i * each).min(spec.rows)..((i + 1) * each).min(spec.rows)).filter(|piece| !piece.is_empty()).collect())
}

/// A run of a matrix's rows in one allocation.
pub(super) struct Piece {
    rows: Range<usize>,
    layout: Layout,
    pub(super) buffer: Buffer,
}

/// A matrix on the device.
pub(super) struct Matrix {
    pub(super) pieces: Vec<Piece>,
    written: usize,
}

impl Matrix {
    /// Checks the shape and allocates.
    pub(super) fn new(spec: &MatrixSpec, device: &mut Device, allocator: &mut Allocator) -> Result<Matrix> {
        let MatrixSpec { name, rows, columns, format } = spec;
        if *rows == 0 || *columns == 0 || !columns.is_multiple_of(format.block_len()) {
            return Err(Error::malformed(format!(
                "`{name}` is {rows} × {columns}; rows of {format} are whole blocks of {}",
                format.block_len()
            )));
        }
        if rows.checked_mul(*columns).is_none_or(|values| values as u64 > 1 << 40)
            || *rows > u32::MAX as usize
            || *columns > u32::MAX as usize
        {
            return Err(Error::malformed(format!("`{name}` of {rows} × {columns} values is too large")));
        }
        let mut made = Vec::new();
        for rows in pieces(spec, device.binding_limit())? {
            let layout = Layout::new(*format, rows.len(), *columns);
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
            let buffer = allocator.buffer(device, name, layout.bytes as u64, usage)?;
            made.push(Piece { rows, layout, buffer });
        }
        Ok(Matrix { pieces: made, written: 0 })
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.buffer.wgpu.size()).sum()
    }

    /// Whether every row was written.
    pub(super) fn is_complete(&self, spec: &MatrixSpec) -> bool {
        self.written == spec.rows
    }

    /// Repacks rows and queues their planes.
    pub(super) fn write_rows(
        &mut self,
        spec: &MatrixSpec,
        first: usize,
        blocks: &[u8],
        uploads: &mut Uploads,
        device: &mut Device,
    ) -> Result<()> {
        let row_bytes = spec.format.row_bytes(spec.columns);
        let rows = blocks.len() / row_bytes;
        if !blocks.len().is_multiple_of(row_bytes) || first.checked_add(rows).is_none_or(|end| end > spec.rows) {
            return Err(Error::internal(format!(
                "`{}`: {} bytes at row {first} are no whole rows of {row_bytes} bytes inside {} rows",
                spec.name,
                blocks.len(),
                spec.rows
            )));
        }
        for piece in &self.pieces {
            let start = piece.rows.start.max(first);
            let end = piece.rows.end.min(first + rows);
            if start >= end {
                continue;
            }
            repack(spec.format, spec.columns, &blocks[(start - first) * row_bytes..(end - first) * row_bytes], &mut uploads.planes);
            for (plane, bytes) in piece.layout.planes.iter().zip(&uploads.planes.bytes).filter(|(_, bytes)| !bytes.is_empty()) {
                let offset = plane.offset + (start - piece.rows.start) * plane.row_bytes;
                device.queue.write_buffer(&piece.buffer.wgpu, offset as u64, bytes);
                uploads.queued += bytes.len() as u64;
            }
        }
        self.written += rows;
        uploads.flush_if_full(device)
    }
}

/// What uploads share: repacking space, and how much is queued.
#[derive(Default)]
pub(super) struct Uploads {
    planes: Planes,
    queued: u64,
}

impl Uploads {
    /// Sends what is queued once there is much of it, and natively waits, so that staging memory stays bounded.
    fn flush_if_full(&mut self, device: &mut Device) -> Result<()> {
        if self.queued < FLUSH {
            return Ok(());
        }
        self.queued = 0;
        device.queue.submit(None);
        device.wait()?;
        device.check()
    }

    /// Lets go of the repacking space: loading is over.
    pub(super) fn finish(&mut self) {
        *self = Uploads::default();
    }
}
