//! How a weight matrix lies in memory: one layout for all instruction sets.
//!
//! Rows stand in panels of 16 and are interleaved so that one vector lane is one row. Within a panel, codes come first and
//! scales after, both in order of the inputs, so that a panel is read front to back as two streams. `K` is an input's index;
//! *line j* is 64 bytes: for each of the 16 rows, the 4 codes of `K = 4j..4j + 4`.
//!
//! | format | codes, per block of 32 inputs | scales |
//! |---|---|---|
//! | F32, F16 | per input, 16 values | none |
//! | Q4_0 | 4 lines: line j below, line j + 4 in the upper halves of bytes | per block `[16] f16` |
//! | Q8_0 | 8 lines of code + 128 | per block `[16] f16` |
//! | Q4_K | as Q4_0 | per block `[16] u8` scales, `[16] u8` minima; then per 256 inputs `[16] f16` d, `[16] f16` dmin |
//! | Q6_K | 4 lines of low halves as Q4_0, then 2 lines of upper two bits: byte field j of line h belongs to line 4h + j | per block `[2][16] i8`; then per 256 inputs `[16] f16` d |
//!
//! Sizes are the file's own, except that Q4_K's six-bit scales are bytes here (148 for 144 bytes a block). Rows are padded to
//! whole panels with zeros.

use crate::Format;
use crate::error::{Error, Result};

/// Rows of a panel.
pub(super) const PANEL: usize = super::isa::LANES;
/// Inputs that share one activation scale, and the step in which kernels go.
pub(super) const BLOCK: usize = 32;
/// Inputs of a K-quant's block.
const SUPER: usize = 256;

/// Offsets and sizes within a matrix of one format and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) format: Format,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Bytes from one panel to the next, whole cache lines.
    pub(super) panel_bytes: usize,
    /// Where in a panel the per-block scales start.
    pub(super) scales: usize,
    /// Where in a panel the scales of K-quants' whole blocks start.
    pub(super) super_scales: usize,
}

/// Bytes of codes of 32 inputs × 16 rows.
pub(super) const fn code_bytes(format: Format) -> usize {
    match format {
        Format::F32 => 2048,
        Format::F16 => 1024,
        Format::Q4_0 | Format::Q4K => 256,
        Format::Q8_0 => 512,
        Format::Q6K => 384,
    }
}

impl Layout {
    /// The layout of a matrix; the sizes are checked.
    pub(super) fn new(name: &str, format: Format, rows: usize, columns: usize) -> Result<Layout> {
        if rows == 0 || columns == 0 || !columns.is_multiple_of(format.block_len()) {
            return Err(Error::malformed(format!(
                "{name}: a {format} matrix of {rows} rows × {columns} columns: rows must not be 0 and columns a multiple of {}",
                format.block_len()
            )));
        }
        let too_large = || Error::malformed(format!("{name}: {rows} rows × {columns} columns is more than memory can address"));
        // Everything below is at most 72 bytes an input and row; one checked product keeps the rest from overflowing.
        rows.checked_next_multiple_of(PANEL).and_then(|r| r.checked_mul(columns)).and_then(|n| n.checked_mul(128)).ok_or_else(too_large)?;
        let blocks = columns / BLOCK;
        let (codes, scales, super_scales) = match format {
            Format::F32 => (columns * 64, 0, 0),
            Format::F16 => (columns * 32, 0, 0),
            Format::Q4_0 | Format::Q8_0 => (blocks * code_bytes(format), blocks * 32, 0),
            Format::Q4K => (blocks * code_bytes(format), blocks * 32, columns / SUPER * 64),
            Format::Q6K => (blocks * code_bytes(format), blocks * 32, columns / SUPER * 32),
        };
        let panel_bytes = (codes + scales + super_scales).next_multiple_of(super::buffer::LINE);
        Ok(Layout { format, rows, columns, panel_bytes, scales: codes, super_scales: codes + scales })
    }

    /// Panels, the last perhaps padded.
    pub(super) fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Bytes of the whole matrix.
    pub(super) fn bytes(&self) -> usize {
        self.panels() * self.panel_bytes
    }

    /// Stores one row, given as GGML blocks, into the matrix's bytes.
    pub(super) fn write_row(&self, matrix: &mut [u8], row: usize, blocks: &[u8]) {
        debug_assert_eq!(blocks.len(), self.format.row_bytes(self.columns), "a row's bytes");
        let (panel, lane) = (row / PANEL, row % PANEL);
        let panel = &mut matrix[panel * self.panel_bytes..][..self.panel_bytes];
        let source = blocks.chunks_exact(self.format.block_bytes());
        match self.format {
            Format::F32 => {
                for (k, value) in source.enumerate() {
                    panel[k * 64 + lane * 4..][..4].copy_from_slice(value);
                }
            }
            Format::F16 => {
                for (k, value) in source.enumerate() {
                    panel[k * 32 + lane * 2..][..2].copy_from_slice(value);
                }
            }
            Format::Q4_0 => {
                for (b, block) in source.enumerate() {
                    // The file pairs inputs i and i + 16 in a byte, as the lines do.
                    for (j, codes) in block[2..].chunks_exact(4).enumerate() {
                        panel[b * 256 + j * 64 + lane * 4..][..4].copy_from_slice(codes);
                    }
                    panel[self.scales + b * 32 + lane * 2..][..2].copy_from_slice(&block[..2]);
                }
            }
            Format::Q8_0 => {
                for (b, block) in source.enumerate() {
                    for (j, codes) in block[2..].chunks_exact(4).enumerate() {
                        let line = &mut panel[b * 512 + j * 64 + lane * 4..][..4];
                        line.iter_mut().zip(codes).for_each(|(to, code)| *to = code ^ 0x80);
                    }
                    panel[self.scales + b * 32 + lane * 2..][..2].copy_from_slice(&block[..2]);
                }
            }
            Format::Q4K => {
                for (s, block) in source.enumerate() {
                    let codes = q4_k_codes(block);
                    for (g, codes) in codes.chunks_exact(BLOCK).enumerate() {
                        let b = s * 8 + g;
                        write_low4(&mut panel[b * 256..][..256], lane, codes);
                        let (scale, minimum) = q4_k_scale(&block[4..16], g);
                        panel[self.scales + b * 32 + lane] = scale;
                        panel[self.scales + b * 32 + 16 + lane] = minimum;
                    }
                    let at = self.super_scales + s * 64 + lane * 2;
                    panel[at..][..2].copy_from_slice(&block[..2]);
                    panel[at + 32..][..2].copy_from_slice(&block[2..4]);
                }
            }
            Format::Q6K => {
                for (s, block) in source.enumerate() {
                    let codes = q6_k_codes(block);
                    for (g, codes) in codes.chunks_exact(BLOCK).enumerate() {
                        let b = s * 8 + g;
                        let to = &mut panel[b * 384..][..384];
                        write_low4(&mut to[..256], lane, codes);
                        for i in 0..8 {
                            let (half, k) = (i / 4, i / 4 * 16 + i % 4);
                            let fields = (0..4).map(|field| codes[k + 4 * field] >> 4 << (2 * field));
                            to[256 + half * 64 + lane * 4 + i % 4] = fields.fold(0, |byte, field| byte | field);
                        }
                        for half in 0..2 {
                            panel[self.scales + b * 32 + half * 16 + lane] = block[192 + 2 * g + half];
                        }
                    }
                    panel[self.super_scales + s * 32 + lane * 2..][..2].copy_from_slice(&block[208..210]);
                }
            }
        }
    }

    /// What a stored row means: dequantises it into `out`, `[columns]`, with ggml's roundings.
    pub(super) fn read_row(&self, matrix: &[u8], row: usize, out: &mut [f32]) {
        let (panel, lane) = (row / PANEL, row % PANEL);
        let panel = &matrix[panel * self.panel_bytes..][..self.panel_bytes];
        let f16_at = |at: usize| half::f16::from_le_bytes([panel[at], panel[at + 1]]).to_f32();
        // The half byte of input k within the 4 lines at `at`.
        let low4_at = |at: usize, k: usize| panel[at + k % 16 / 4 * 64 + lane * 4 + k % 4] >> (k / 16 * 4) & 15;
        match self.format {
            Format::F32 => {
                for (k, out) in out.iter_mut().enumerate() {
                    let at = k * 64 + lane * 4;
                    *out = f32::from_le_bytes([panel[at], panel[at + 1], panel[at + 2], panel[at + 3]]);
                }
            }
            Format::F16 => out.iter_mut().enumerate().for_each(|(k, out)| *out = f16_at(k * 32 + lane * 2)),
            Format::Q4_0 => {
                for (b, out) in out.chunks_exact_mut(BLOCK).enumerate() {
                    let d = f16_at(self.scales + b * 32 + lane * 2);
                    out.iter_mut().enumerate().for_each(|(k, out)| *out = (low4_at(b * 256, k) as f32 - 8.0) * d);
                }
            }
            Format::Q8_0 => {
                for (b, out) in out.chunks_exact_mut(BLOCK).enumerate() {
                    let d = f16_at(self.scales + b * 32 + lane * 2);
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = (panel[b * 512 + k / 4 * 64 + lane * 4 + k % 4] ^ 0x80) as i8 as f32 * d;
                    }
                }
            }
            Format::Q4K => {
                for (b, out) in out.chunks_exact_mut(BLOCK).enumerate() {
                    let at = self.super_scales + b / 8 * 64 + lane * 2;
                    let d = f16_at(at) * panel[self.scales + b * 32 + lane] as f32;
                    let m = f16_at(at + 32) * panel[self.scales + b * 32 + 16 + lane] as f32;
                    out.iter_mut().enumerate().for_each(|(k, out)| *out = d * low4_at(b * 256, k) as f32 - m);
                }
            }
            Format::Q6K => {
                for (b, out) in out.chunks_exact_mut(BLOCK).enumerate() {
                    let d = f16_at(self.super_scales + b / 8 * 32 + lane * 2);
                    for (k, out) in out.iter_mut().enumerate() {
                        let (half, field) = (k / 16, k / 4 % 4);
                        let upper = panel[b * 384 + 256 + half * 64 + lane * 4 + k % 4] >> (2 * field) & 3;
                        let code = low4_at(b * 384, k) | upper << 4;
                        let scale = panel[self.scales + b * 32 + half * 16 + lane] as i8;
                        *out = d * scale as f32 * (code as f32 - 32.0);
                    }
                }
            }
        }
    }
}

/// Writes the low halves of 32 codes: inputs k and k + 16 share a byte.
fn write_low4(lines: &mut [u8], lane: usize, codes: &[u8]) {
    for k in 0..16 {
        lines[k / 4 * 64 + lane * 4 + k % 4] = codes[k] & 15 | codes[k + 16] << 4;
    }
}

/// The 256 codes of a Q4_K block in order: each 32 bytes hold 32 inputs below and the next 32 above.
fn q4_k_codes(block: &[u8]) -> [u8; SUPER] {
    let mut codes = [0; SUPER];
    for (bytes, codes) in block[16..144].chunks_exact(32).zip(codes.chunks_exact_mut(64)) {
        for (i, byte) in bytes.iter().enumerate() {
            codes[i] = byte & 15;
            codes[i + 32] = byte >> 4;
        }
    }
    codes
}

/// Scale and minimum of group `g` from Q4_K's 12 packed bytes: six bits each, those of groups 4..8 split over two bytes.
fn q4_k_scale(packed: &[u8], g: usize) -> (u8, u8) {
    if g < 4 {
        (packed[g] & 63, packed[g + 4] & 63)
    } else {
        (packed[g + 4] & 15 | packed[g - 4] >> 6 << 4, packed[g + 4] >> 4 | packed[g] >> 6 << 4)
    }
}

/// The 256 codes of a Q6_K block in order: each half of 128 takes 64 bytes of low halves and 32 bytes of upper two bits.
fn q6_k_codes(block: &[u8]) -> [u8; SUPER] {
    let mut codes = [0; SUPER];
    let (low, high) = block[..192].split_at(128);
    for ((low, high), codes) in low.chunks_exact(64).zip(high.chunks_exact(32)).zip(codes.chunks_exact_mut(128)) {
        for i in 0..32 {
            codes[i] = low[i] & 15 | (high[i] & 3) << 4;
            codes[i + 32] = low[i + 32] & 15 | (high[i] >> 2 & 3) << 4;
            codes[i + 64] = low[i] >> 4 | (high[i] >> 4 & 3) << 4;
            codes[i + 96] = low[i + 32] >> 4 | high[i] >> 6 << 4;
        }
    }
    codes
}
