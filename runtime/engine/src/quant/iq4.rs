//! 4-bit codes into a fixed, non-linear table: IQ4_NL, IQ4_XS.

use super::half_at;

/// What each code stands for, before scaling.
const CODEBOOK: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 32 values from 16 bytes; byte `j` holds values `j` and `j + 16`.
fn group(codes: &[u8], d: f32, out: &mut [f32]) {
    let (low, high) = out.split_at_mut(16);
    for (j, &byte) in codes.iter().enumerate() {
        low[j] = d * f32::from(CODEBOOK[usize::from(byte & 15)]);
        high[j] = d * f32::from(CODEBOOK[usize::from(byte >> 4)]);
    }
}

/// 32 values: `d[0..2] codes[2..18]`; value = d·codebook\[q\].
pub(super) fn nl(block: &[u8], out: &mut [f32]) {
    group(&block[2..18], half_at(block, 0), out);
}

/// 256 values in 8 groups of 32: `d[0..2] upper scale bits[2..4] lower scale bits[4..8] codes[8..136]`;
/// value = d·(scale − 32)·codebook\[q\], scales of 6 bits (4 lower, two to a byte; 2 upper, eight to a u16).
pub(super) fn xs(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (g, values) in out.chunks_exact_mut(32).enumerate() {
        group(&block[8 + 16 * g..24 + 16 * g], d * xs_scale(block, g) as f32, values);
    }
}

/// What IQ4_XS multiplies a block's scale by for its group `g` of 32 values.
pub(super) fn xs_scale(block: &[u8], g: usize) -> i32 {
    let upper = u16::from_le_bytes([block[2], block[3]]);
    let low = block[4 + g / 2] >> (4 * (g % 2)) & 15;
    let high = (upper >> (2 * g) & 3) as u8;
    i32::from(low | high << 4) - 32
}
