//! Blocks of 32 values with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
//!
//! 4-bit codes are packed two to a byte: byte `j` holds value `j` in its low and value `j + 16` in its high half.

use half::f16;

use super::half_at;

/// `d[0..2] codes[2..18]`; value = (q − 8)·d.
pub(super) fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    let (low, high) = out.split_at_mut(16);
    for (j, &byte) in block[2..18].iter().enumerate() {
        low[j] = (i32::from(byte & 15) - 8) as f32 * d;
        high[j] = (i32::from(byte >> 4) - 8) as f32 * d;
    }
}

/// `d[0..2] m[2..4] codes[4..20]`; value = q·d + m.
pub(super) fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let (low, high) = out.split_at_mut(16);
    for (j, &byte) in block[4..20].iter().enumerate() {
        low[j] = f32::from(byte & 15) * d + m;
        high[j] = f32::from(byte >> 4) * d + m;
    }
}

/// The fifth bits of 32 codes, bit `j` for value `j`.
fn fifth_bits(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// `d[0..2] fifth bits[2..6] codes[6..22]`; value = (q − 16)·d.
pub(super) fn q5_0(block: &[u8], out: &mut [f32]) {
    let (d, fifth) = (half_at(block, 0), fifth_bits(block, 2));
    let (low, high) = out.split_at_mut(16);
    for (j, &byte) in block[6..22].iter().enumerate() {
        let (a, b) = ((fifth >> j & 1) << 4, (fifth >> (j + 16) & 1) << 4);
        low[j] = ((u32::from(byte & 15) | a) as i32 - 16) as f32 * d;
        high[j] = ((u32::from(byte >> 4) | b) as i32 - 16) as f32 * d;
    }
}

/// `d[0..2] m[2..4] fifth bits[4..8] codes[8..24]`; value = q·d + m.
pub(super) fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m, fifth) = (half_at(block, 0), half_at(block, 2), fifth_bits(block, 4));
    let (low, high) = out.split_at_mut(16);
    for (j, &byte) in block[8..24].iter().enumerate() {
        let (a, b) = ((fifth >> j & 1) << 4, (fifth >> (j + 16) & 1) << 4);
        low[j] = (u32::from(byte & 15) | a) as f32 * d + m;
        high[j] = (u32::from(byte >> 4) | b) as f32 * d + m;
    }
}

/// `d[0..2] codes[2..34]`, signed; value = q·d.
pub(super) fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (v, &byte) in out.iter_mut().zip(&block[2..34]) {
        *v = f32::from(byte as i8) * d;
    }
}

/// The reciprocal of a scale, 0 for a block of zeros.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The value of greatest magnitude becomes code 0 (−8·d), so that its sign is kept in `d`.
pub(super) fn encode_q4_0(values: &[f32], out: &mut Vec<u8>) {
    let mut extreme = 0.0f32;
    for &v in values {
        if v.abs() > extreme.abs() {
            extreme = v;
        }
    }
    let d = extreme / -8.0;
    let id = inverse(d);
    let code = |v: f32| ((v * id + 8.5) as i32).clamp(0, 15) as u8;
    out.extend_from_slice(&f16::from_f32(d).to_le_bytes());
    out.extend((0..16).map(|j| code(values[j]) | code(values[j + 16]) << 4));
}

/// Rounds half away from zero, as C's `roundf`, for magnitudes below 2²².
///
/// The greatest float below ½ is added: ½ itself would carry 0.49999997 up to 1. Unlike `f32::round` this is no library call
/// where the processor's baseline lacks a rounding instruction, and loads that requantise wait for it.
#[inline(always)]
fn round_half_away(v: f32) -> i32 {
    (v + 0.5f32.next_down().copysign(v)) as i32
}

pub(super) fn encode_q8_0(values: &[f32], out: &mut Vec<u8>) {
    let d = values.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0;
    let id = inverse(d);
    out.extend_from_slice(&f16::from_f32(d).to_le_bytes());
    out.extend(values.iter().map(|v| round_half_away(v * id) as u8));
}

/// Writes 32 values as codes of this scale, if every value is one and the scale is a binary16. Whether that was so; otherwise nothing is written.
pub(super) fn encode_q8_0_exactly(scale: f32, values: &[f32], out: &mut Vec<u8>) -> bool {
    let half = f16::from_f32(scale);
    if half.to_f32() != scale {
        return false;
    }
    let (id, first) = (inverse(scale), out.len());
    out.extend_from_slice(&half.to_le_bytes());
    let mut exact = true;
    out.extend(values.iter().map(|v| {
        // What is beyond the codes ends at their last, which it is not equal to then.
        let code = (v * id).round_ties_even() as i8;
        exact &= f32::from(code) * scale == *v;
        code as u8
    }));
    if !exact {
        out.truncate(first);
    }
    exact
}

#[cfg(test)]
mod tests {
    use super::round_half_away;

    #[test]
    fn rounding_is_roundf() {
        for half in -256..=256 {
            let v = half as f32 / 2.0;
            for v in [v, v.next_down(), v.next_up(), v.next_down().next_down(), v.next_up().next_up()] {
                assert_eq!(round_half_away(v), v.round() as i32, "{v}");
            }
        }
    }
}
