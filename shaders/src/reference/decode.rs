//! Weights read from their planes one value at a time.

use crate::Format;
use crate::params::CHUNK;

/// A matrix (or a piece of one) as a device holds it. See [`crate::planes`] for what lies where.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    format: Format,
    /// First byte of each plane.
    planes: [usize; 4],
    chunks: usize,
    words: &'a [u32],
}

impl<'a> Weights<'a> {
    /// Planes at these offsets (in 16-byte units) of `words`, rows of `columns` values.
    pub fn new(format: Format, planes: [u32; 4], columns: u32, words: &'a [u32]) -> Weights<'a> {
        Weights { format, planes: planes.map(|p| p as usize * 16), chunks: columns.div_ceil(CHUNK) as usize, words }
    }

    fn byte(&self, at: usize) -> u8 {
        (self.words[at / 4] >> (8 * (at % 4))) as u8
    }

    fn word(&self, at: usize) -> u32 {
        self.words[at / 4]
    }

    fn half(&self, at: usize) -> f64 {
        half::f16::from_le_bytes([self.byte(at), self.byte(at + 1)]).to_f64()
    }

    /// W[row, k].
    pub fn value(&self, row: usize, k: usize) -> f64 {
        let (chunk, i) = (k / 32, k % 32);
        let at = row * self.chunks + chunk;
        let [quants, high, scales, supers] = self.planes;
        let nibble = || u32::from(self.byte(quants + at * 16 + i % 16) >> (4 * (i / 16)) & 15);
        // f16 a chunk, rows padded to a word.
        let chunk_scale = || self.half(scales + (row * self.chunks.div_ceil(2) * 2 + chunk) * 2);
        match self.format {
            Format::F32 => f64::from(f32::from_bits(self.word(quants + (at * 32 + i) * 4))),
            Format::F16 => self.half(quants + (at * 32 + i) * 2),
            Format::Q4_0 => chunk_scale() * (f64::from(nibble()) - 8.0),
            Format::Q8_0 => chunk_scale() * f64::from(self.byte(quants + at * 32 + i) as i8),
            Format::Q4K => {
                let block = scales + (row * (self.chunks / 8) + chunk / 8) * 16;
                let g = chunk % 8;
                let bits = |word: usize, shift: usize, mask: u32| self.word(block + 4 * word) >> shift & mask;
                let scale = bits(1, 4 * g, 15) | bits(3, 2 * g, 3) << 4;
                let minimum = bits(2, 4 * g, 15) | bits(3, 16 + 2 * g, 3) << 4;
                self.half(block) * f64::from(scale) * f64::from(nibble()) - self.half(block + 2) * f64::from(minimum)
            }
            Format::Q6K => {
                let (word, j, b) = (i / 16, i % 16 / 4, i % 4);
                let top = u32::from(self.byte(high + at * 8 + 4 * word + b) >> (2 * j) & 3);
                let scale = self.byte(scales + at * 2 + i / 16) as i8;
                let d = self.half(supers + (row * (self.chunks / 8).div_ceil(2) * 2 + chunk / 8) * 2);
                d * f64::from(scale) * (f64::from(nibble() | top << 4) - 32.0)
            }
        }
    }
}
