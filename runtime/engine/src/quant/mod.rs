//! GGML types: what blocks mean, bit for bit.
//!
//! [`dequantise`] gives exactly ggml's float32 values for every supported type. [`quantise`] writes the six formats that kernels
//! run; F32, F16, Q8_0 and Q4_0 as ggml's reference encoder does.
//!
//! Block layouts are written as byte ranges. Multi-byte fields are little-endian, `d` and `m` are IEEE binary16.

mod block32;
mod float;
mod ggml_type;
mod iq4;
mod k;
mod k_encode;

pub use firecrest_shaders::Format;
pub use ggml_type::GgmlType;

use half::f16;

/// The binary16 at `block[at..at + 2]`, widened.
#[inline(always)]
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Decodes whole blocks of `ty` to float32, bit for bit as ggml does.
///
/// `blocks` holds `out.len() / ty.block_len()` blocks.
///
/// # Panics
/// Where lengths disagree or `ty` is not supported ([`GgmlType::is_supported`]): both are for the caller to have checked.
pub fn dequantise(ty: GgmlType, blocks: &[u8], out: &mut [f32]) {
    assert_eq!(out.len() % ty.block_len(), 0, "{ty}: {} values are not whole blocks", out.len());
    assert_eq!(blocks.len(), ty.row_bytes(out.len()), "{ty}: bytes for {} values", out.len());
    match ty {
        GgmlType::F32 => float::f32_from_bytes(blocks, out),
        GgmlType::F16 => float::f16_from_bytes(blocks, out),
        GgmlType::BF16 => float::bf16_from_bytes(blocks, out),
        GgmlType::Q4_0 => each_block(ty, blocks, out, block32::q4_0),
        GgmlType::Q4_1 => each_block(ty, blocks, out, block32::q4_1),
        GgmlType::Q5_0 => each_block(ty, blocks, out, block32::q5_0),
        GgmlType::Q5_1 => each_block(ty, blocks, out, block32::q5_1),
        GgmlType::Q8_0 => each_block(ty, blocks, out, block32::q8_0),
        GgmlType::Q2K => each_block(ty, blocks, out, k::q2),
        GgmlType::Q3K => each_block(ty, blocks, out, k::q3),
        GgmlType::Q4K => each_block(ty, blocks, out, k::q4),
        GgmlType::Q5K => each_block(ty, blocks, out, k::q5),
        GgmlType::Q6K => each_block(ty, blocks, out, k::q6),
        GgmlType::IQ4NL => each_block(ty, blocks, out, iq4::nl),
        GgmlType::IQ4XS => each_block(ty, blocks, out, iq4::xs),
        _ => panic!("{ty} cannot be decoded"),
    }
}

#[inline(always)]
fn each_block(ty: GgmlType, blocks: &[u8], out: &mut [f32], decode: impl Fn(&[u8], &mut [f32])) {
    for (block, values) in blocks.chunks_exact(ty.block_bytes()).zip(out.chunks_exact_mut(ty.block_len())) {
        decode(block, values);
    }
}

/// Encodes `values` as blocks of `format` and appends them to `out`.
///
/// F32, F16, Q8_0 and Q4_0 equal ggml's reference encoder bit for bit; Q4_K and Q6_K search for scales of least squared error.
/// Values past a format's range become infinite scales, as in ggml: give it finite values within ±65504.
///
/// # Panics
/// Where `values.len()` is not a multiple of the format's block length.
pub fn quantise(format: Format, values: &[f32], out: &mut Vec<u8>) {
    assert_eq!(values.len() % format.block_len(), 0, "{format}: {} values are not whole blocks", values.len());
    out.reserve(format.row_bytes(values.len()));
    match format {
        Format::F32 => values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes())),
        Format::F16 => values.iter().for_each(|v| out.extend_from_slice(&f16::from_f32(*v).to_le_bytes())),
        Format::Q4_0 => values.chunks_exact(32).for_each(|x| block32::encode_q4_0(x, out)),
        Format::Q8_0 => values.chunks_exact(32).for_each(|x| block32::encode_q8_0(x, out)),
        Format::Q4K => values.chunks_exact(256).for_each(|x| k_encode::q4(x, out)),
        Format::Q6K => values.chunks_exact(256).for_each(|x| k_encode::q6(x, out)),
    }
}

/// Encodes blocks of `ty` that were decoded to `values` as blocks of `format`, and appends them to `out`. In Q8_0 a run of 32 values that are whole codes
/// of the block's own scale stays what it is, bit for bit: all of Q5_0 and IQ4_NL, nearly all of Q3_K, and some of others. Everything else is encoded
/// anew, as by [`quantise`].
///
/// # Panics
/// As [`dequantise`] and [`quantise`].
pub fn requantise(ty: GgmlType, blocks: &[u8], values: &[f32], format: Format, out: &mut Vec<u8>) {
    assert_eq!(blocks.len(), ty.row_bytes(values.len()), "{ty}: bytes for {} values", values.len());
    // Where each type keeps the scale that its codes are multiples of.
    let at = match ty {
        GgmlType::Q5_0 | GgmlType::IQ4NL | GgmlType::IQ4XS | GgmlType::Q4_1 | GgmlType::Q5_1 => 0,
        GgmlType::Q2K => 80,
        GgmlType::Q3K => 108,
        _ => return quantise(format, values, out),
    };
    if format != Format::Q8_0 {
        return quantise(format, values, out);
    }
    out.reserve(format.row_bytes(values.len()));
    for (block, values) in blocks.chunks_exact(ty.block_bytes()).zip(values.chunks_exact(ty.block_len())) {
        let own = half_at(block, at);
        for (run, values) in values.chunks_exact(32).enumerate() {
            let scale = if ty == GgmlType::IQ4XS { own * iq4::xs_scale(block, run) as f32 } else { own };
            // All values are one, the block's minimum.
            let scale = if scale == 0.0 { values[0] } else { scale };
            if !block32::encode_q8_0_exactly(scale, values, out) {
                block32::encode_q8_0(values, out);
            }
        }
    }
}

/// The index of the first block of `ty` whose scale (or value, for floats) is NaN or infinite, if any.
///
/// Such a block would poison every row it touches; no sound encoder writes one.
pub fn first_non_finite(ty: GgmlType, blocks: &[u8]) -> Option<usize> {
    let halves: &[usize] = match ty {
        GgmlType::F32 => return blocks.chunks_exact(4).position(|b| b[3] & 0x7f == 0x7f && b[2] & 0x80 != 0),
        GgmlType::BF16 => return blocks.chunks_exact(2).position(|b| b[1] & 0x7f == 0x7f && b[0] & 0x80 != 0),
        GgmlType::F16 | GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 | GgmlType::IQ4NL | GgmlType::IQ4XS => &[0],
        GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4K | GgmlType::Q5K => &[0, 2],
        GgmlType::Q2K => &[80, 82],
        GgmlType::Q3K => &[108],
        GgmlType::Q6K => &[208],
        _ => return None,
    };
    blocks.chunks_exact(ty.block_bytes()).position(|block| halves.iter().any(|&at| block[at + 1] & 0x7c == 0x7c))
}
