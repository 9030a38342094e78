//! How weight matrices lie on a device: GGML blocks taken apart into aligned planes.
//!
//! A row of blocks becomes one row in each of up to four planes, so that neighbouring invocations load neighbouring 16-byte
//! words. Columns are counted in *chunks* of 32 values; rows of F32 and F16 are padded to a whole chunk with zeros. Every
//! plane begins at a multiple of 16 bytes and every row of a plane is a multiple of 4 bytes (of 16 in `quants`), so rows may
//! be uploaded in any order and any grouping.
//!
//! | format | quants, a chunk | high, a chunk | scales | supers |
//! |---|---|---|---|---|
//! | F32 | 32 f32 | | | |
//! | F16 | 32 f16 | | | |
//! | Q4_0 | 16 B: byte i holds value i low, value i + 16 high | | f16 d a chunk, two a word, rows padded to a word | |
//! | Q8_0 | 32 i8 | | as Q4_0 | |
//! | Q4_K | as Q4_0 | | 16 B a block of 8 chunks: word 0 d \| dmin << 16; word 1 the low 4 bits of each chunk's scale; word 2 the low 4 bits of each minimum; word 3 the high 2 bits of the scales (low half) and minima (high half) | |
//! | Q6_K | low 4 bits as Q4_0 | 8 B: word h, byte b, bits 2j..2j+2 are the high bits of value 16h + 4j + b | two i8 a chunk (one for each 16 values), two chunks a word | f16 d a block, two a word, rows padded to a word |

use crate::Format;
use crate::params::CHUNK;

/// One plane: where it begins and how long one matrix row is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plane {
    /// First byte in the allocation; a multiple of 16.
    pub offset: usize,
    /// Bytes of one matrix row; 0 where the format has no such plane.
    pub row_bytes: usize,
}

/// Where the planes of a matrix (or of one piece of it) lie in its allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How rows are stored.
    pub format: Format,
    /// Matrix rows.
    pub rows: usize,
    /// Values in a row, before padding.
    pub columns: usize,
    /// quants, high, scales, supers.
    pub planes: [Plane; 4],
    /// Bytes of the allocation; a multiple of 16.
    pub bytes: usize,
}

/// Bytes of one row in each plane: quants, high, scales, supers.
fn row_bytes(format: Format, columns: usize) -> [usize; 4] {
    let chunks = columns.div_ceil(CHUNK as usize);
    match format {
        Format::F32 => [chunks * 128, 0, 0, 0],
        Format::F16 => [chunks * 64, 0, 0, 0],
        Format::Q4_0 => [chunks * 16, 0, chunks.div_ceil(2) * 4, 0],
        Format::Q8_0 => [chunks * 32, 0, chunks.div_ceil(2) * 4, 0],
        Format::Q4K => [chunks * 16, 0, chunks / 8 * 16, 0],
        Format::Q6K => [chunks * 16, chunks * 8, chunks * 2, (chunks / 8).div_ceil(2) * 4],
    }
}

impl Layout {
    /// The layout of `rows` rows of `columns` values. `columns` is a multiple of the format's block length.
    ///
    /// # Panics
    /// Where `columns` is not such a multiple: loaders check it with a message that names the tensor.
    pub fn new(format: Format, rows: usize, columns: usize) -> Layout {
        assert!(columns.is_multiple_of(format.block_len()), "{columns} columns are no multiple of {format}'s block length");
        let mut offset = 0;
        let planes = row_bytes(format, columns).map(|row_bytes| {
            let plane = Plane { offset, row_bytes };
            offset += (row_bytes * rows).next_multiple_of(16);
            plane
        });
        Layout { format, rows, columns, planes, bytes: offset.max(16) }
    }

    /// Bytes that one row takes over all planes: what splits a matrix into pieces below a binding limit.
    pub fn bytes_per_row(format: Format, columns: usize) -> usize {
        row_bytes(format, columns).iter().sum()
    }

    /// Plane offsets in 16-byte units, as kernels take them.
    pub fn offsets(&self) -> [u32; 4] {
        self.planes.map(|p| (p.offset / 16) as u32)
    }
}

/// Rows taken apart: the bytes of each plane for those rows, adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planes {
    /// quants, high, scales, supers. For rows `r..r + n` of a matrix, plane `p` goes to byte
    /// `layout.planes[p].offset + r · layout.planes[p].row_bytes`.
    pub bytes: [Vec<u8>; 4],
}

/// Takes rows of GGML blocks apart, replacing what `out` held. `blocks` is a whole number of rows.
///
/// # Panics
/// Where `blocks` is not a whole number of rows of `columns` values.
pub fn repack(format: Format, columns: usize, blocks: &[u8], out: &mut Planes) {
    let source_row = format.row_bytes(columns);
    assert!(source_row > 0 && blocks.len().is_multiple_of(source_row), "{} bytes are no whole rows of {source_row}", blocks.len());
    let rows = blocks.len() / source_row;
    let sizes = row_bytes(format, columns);
    for (plane, size) in out.bytes.iter_mut().zip(sizes) {
        plane.clear();
        plane.resize(size * rows, 0);
    }
    let [quants, high, scales, supers] = &mut out.bytes;
    for (r, row) in blocks.chunks_exact(source_row).enumerate() {
        let quants = &mut quants[r * sizes[0]..][..sizes[0]];
        let high = &mut high[r * sizes[1]..][..sizes[1]];
        let scales = &mut scales[r * sizes[2]..][..sizes[2]];
        let supers = &mut supers[r * sizes[3]..][..sizes[3]];
        match format {
            Format::F32 | Format::F16 => quants[..source_row].copy_from_slice(row),
            Format::Q4_0 | Format::Q8_0 => scale_then_codes(format.block_bytes(), row, quants, scales),
            Format::Q4K => q4_k(row, quants, scales),
            Format::Q6K => q6_k(row, quants, high, scales, supers),
        }
    }
}

/// Q4_0 and Q8_0: a block is f16 d, then codes in the order that kernels want.
fn scale_then_codes(block_bytes: usize, row: &[u8], quants: &mut [u8], scales: &mut [u8]) {
    for (i, block) in row.chunks_exact(block_bytes).enumerate() {
        scales[2 * i..2 * i + 2].copy_from_slice(&block[..2]);
        let codes = block_bytes - 2;
        quants[codes * i..][..codes].copy_from_slice(&block[2..]);
    }
}

/// Q4_K: f16 d, f16 dmin, 12 bytes of 6-bit scales and minima, then 128 bytes in which 32 bytes hold 64 values: the first 32
/// in the low nibbles, the next 32 in the high ones.
fn q4_k(row: &[u8], quants: &mut [u8], scales: &mut [u8]) {
    for (i, block) in row.chunks_exact(144).enumerate() {
        let packed = &block[4..16];
        let (mut low_scales, mut low_minima, mut high) = (0u32, 0u32, 0u32);
        for g in 0..8 {
            let (scale, minimum) = if g < 4 {
                (packed[g] & 63, packed[g + 4] & 63)
            } else {
                (packed[g + 4] & 15 | packed[g - 4] >> 6 << 4, packed[g + 4] >> 4 | packed[g] >> 6 << 4)
            };
            low_scales |= u32::from(scale & 15) << (4 * g);
            low_minima |= u32::from(minimum & 15) << (4 * g);
            high |= u32::from(scale >> 4) << (2 * g) | u32::from(minimum >> 4) << (16 + 2 * g);
        }
        let out = &mut scales[16 * i..][..16];
        out[..4].copy_from_slice(&block[..4]);
        for (word, value) in out[4..].chunks_exact_mut(4).zip([low_scales, low_minima, high]) {
            word.copy_from_slice(&value.to_le_bytes());
        }
        let out = &mut quants[128 * i..][..128];
        for (pair, codes) in block[16..].chunks_exact(32).enumerate() {
            let code = |value: usize| if value < 32 { codes[value] & 15 } else { codes[value - 32] >> 4 };
            for half in 0..2 {
                for b in 0..16 {
                    out[(2 * pair + half) * 16 + b] = code(half * 32 + b) | code(half * 32 + b + 16) << 4;
                }
            }
        }
    }
}

/// Q6_K: 128 bytes of low nibbles, 64 bytes of high bits, 16 i8 scales, f16 d. In each half of 128 values, value 32·q + l (q in
/// 0..4, l in 0..32) has its low bits in byte l + 32·(q & 1), nibble q >> 1, and its high bits in byte l, bits 2q.
fn q6_k(row: &[u8], quants: &mut [u8], high: &mut [u8], scales: &mut [u8], supers: &mut [u8]) {
    for (i, block) in row.chunks_exact(210).enumerate() {
        let (low_bits, high_bits) = (&block[..128], &block[128..192]);
        for chunk in 0..8 {
            let (half, q) = (chunk / 4, chunk % 4);
            let low = |l: usize| low_bits[half * 64 + l + 32 * (q & 1)] >> (4 * (q >> 1)) & 15;
            let top = |l: usize| high_bits[half * 32 + l] >> (2 * q) & 3;
            let out = &mut quants[(i * 8 + chunk) * 16..][..16];
            for (b, byte) in out.iter_mut().enumerate() {
                *byte = low(b) | low(b + 16) << 4;
            }
            let out = &mut high[(i * 8 + chunk) * 8..][..8];
            for (k, byte) in out.iter_mut().enumerate() {
                let (word, b) = (k / 4, k % 4);
                *byte = (0..4).fold(0, |bits, j| bits | top(16 * word + 4 * j + b) << (2 * j));
            }
        }
        scales[16 * i..][..16].copy_from_slice(&block[192..208]);
        supers[2 * i..][..2].copy_from_slice(&block[208..210]);
    }
}
