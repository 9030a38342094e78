//! K-quants: blocks of 256 values in groups with quantised scales: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K.

use super::half_at;

/// 16 groups of 16: `scale and min nibbles[0..16] 2-bit codes[16..80] d[80..82] dmin[82..84]`;
/// value = d·scale·q − dmin·min.
///
/// Each half of 128 values has 32 code bytes; group pair `p` of the half sits in bits `2p..2p + 2` of them.
pub(super) fn q2(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    for (g, values) in out.chunks_exact_mut(16).enumerate() {
        let (scale, min) = (d * f32::from(block[g] & 15), dmin * f32::from(block[g] >> 4));
        let (half, pair, side) = (g / 8, g % 8 / 2, g % 2);
        let codes = &block[16 + 32 * half + 16 * side..][..16];
        for (v, &byte) in values.iter_mut().zip(codes) {
            *v = scale * f32::from(byte >> (2 * pair) & 3) - min;
        }
    }
}

/// 16 groups of 16: `third bits[0..32] 2-bit codes[32..96] 6-bit scales[96..108] d[108..110]`;
/// value = d·(scale − 32)·(q − 4), q of three bits.
///
/// Scale `g`: low nibble in byte `g % 8` (high half of the byte from g = 8 on), upper two bits in byte `8 + g % 4`, shifted by
/// `2·(g / 4)`. Codes lie as in Q2_K; the third bit of group pair `p` of half `h` is bit `4h + p`.
pub(super) fn q3(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 108);
    let scales = &block[96..108];
    for (g, values) in out.chunks_exact_mut(16).enumerate() {
        let low = scales[g % 8] >> (4 * (g / 8)) & 15;
        let high = scales[8 + g % 4] >> (2 * (g / 4)) & 3;
        let scale = d * (i32::from(low | high << 4) - 32) as f32;
        let (half, pair, side) = (g / 8, g % 8 / 2, g % 2);
        let thirds = &block[16 * side..][..16];
        let codes = &block[32 + 32 * half + 16 * side..][..16];
        for ((v, &byte), &third) in values.iter_mut().zip(codes).zip(thirds) {
            let q = i32::from(byte >> (2 * pair) & 3) | i32::from(third >> (4 * half + pair) & 1) << 2;
            *v = scale * (q - 4) as f32;
        }
    }
}

/// The 6-bit scale and minimum of group `g` from the 12 bytes Q4_K and Q5_K pack eight of each into.
///
/// Groups 0–3: scale in byte `g`, minimum in byte `g + 4`, low six bits. Groups 4–7: low nibbles share byte `g + 4` (scale low,
/// minimum high), upper two bits are the top bits of bytes `g − 4` and `g`.
pub(super) fn scale_min(packed: &[u8], g: usize) -> (u8, u8) {
    if g < 4 {
        (packed[g] & 63, packed[g + 4] & 63)
    } else {
        (packed[g + 4] & 15 | packed[g - 4] >> 6 << 4, packed[g + 4] >> 4 | packed[g] >> 6 << 4)
    }
}

/// 8 groups of 32: `d[0..2] dmin[2..4] scales and minima[4..16] 4-bit codes[16..144]`; value = d·scale·q − dmin·min.
///
/// Two groups share 32 code bytes: the even one low, the odd one high.
pub(super) fn q4(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    for (g, values) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(&block[4..16], g);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        for (v, &byte) in values.iter_mut().zip(&block[16 + 32 * (g / 2)..][..32]) {
            *v = scale * f32::from(byte >> (4 * (g % 2)) & 15) - min;
        }
    }
}

/// As Q4_K with a fifth bit: `d[0..2] dmin[2..4] scales and minima[4..16] fifth bits[16..48] 4-bit codes[48..176]`.
///
/// The fifth bit of value `j` of group `g` is bit `g` of byte `j`.
pub(super) fn q5(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let fifth = &block[16..48];
    for (g, values) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(&block[4..16], g);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        for ((v, &byte), &bits) in values.iter_mut().zip(&block[48 + 32 * (g / 2)..][..32]).zip(fifth) {
            *v = scale * f32::from(byte >> (4 * (g % 2)) & 15 | (bits >> g & 1) << 4) - min;
        }
    }
}

/// 16 groups of 16: `lower nibbles[0..128] upper bit pairs[128..192] signed 8-bit scales[192..208] d[208..210]`;
/// value = d·scale·(q − 32), q of six bits.
///
/// Each half of 128 values is four runs of 32: run `r` takes nibble `r / 2` of bytes `32·(r % 2)..` and bits `2r..2r + 2` of the
/// half's 32 upper bytes.
pub(super) fn q6(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 208);
    for (run, values) in out.chunks_exact_mut(32).enumerate() {
        let (half, r) = (run / 4, run % 4);
        let lower = &block[64 * half + 32 * (r % 2)..][..32];
        let upper = &block[128 + 32 * half..][..32];
        for (j, v) in values.iter_mut().enumerate() {
            let q = i32::from(lower[j] >> (4 * (r / 2)) & 15 | (upper[j] >> (2 * r) & 3) << 4) - 32;
            let scale = block[192 + 2 * run + j / 16] as i8;
            *v = d * f32::from(scale) * q as f32;
        }
    }
}
