//! Plain floats, little-endian.

use half::f16;

pub(super) fn f32_from_bytes(bytes: &[u8], out: &mut [f32]) {
    for (b, v) in bytes.chunks_exact(4).zip(out) {
        *v = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    }
}

pub(super) fn f16_from_bytes(bytes: &[u8], out: &mut [f32]) {
    for (b, v) in bytes.chunks_exact(2).zip(out) {
        *v = f16::from_le_bytes([b[0], b[1]]).to_f32();
    }
}

/// bfloat16 is the upper half of a binary32, so widening is exact.
pub(super) fn bf16_from_bytes(bytes: &[u8], out: &mut [f32]) {
    for (b, v) in bytes.chunks_exact(2).zip(out) {
        *v = f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
    }
}
