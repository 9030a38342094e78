//! Encoders for Q4_K and Q6_K: least squares over a small set of candidate scales, then quantised scales, then codes again.
//!
//! The search follows ggml's reference in what it minimises and tries, so that a model encoded here and one encoded there differ
//! by rounding at most.

use half::f16;

/// Least-squares fit of 32 non-negative values-from-a-minimum to codes 0..=15, weighted: x ≈ scale·q − min.
///
/// Tries 21 grids from 14/range to 16/range beside the plain 15/range. Returns (scale, min), both ≥ 0 for usual input.
fn fit_with_min(x: &[f32], weights: &[f32]) -> (f32, f32) {
    const TOP: f32 = 15.0;
    let low = x.iter().fold(0.0f32, |m, &v| m.min(v));
    let high = x.iter().fold(f32::MIN, |m, &v| m.max(v));
    if high <= low {
        return (0.0, -low);
    }
    let (mut sum_w, mut sum_x) = (0.0f32, 0.0f32);
    for (&v, &w) in x.iter().zip(weights) {
        sum_w += w;
        sum_x += w * v;
    }
    let error = |scale: f32, min: f32, inverse: f32| -> f32 {
        let square = |(&v, &w): (&f32, &f32)| {
            let difference = scale * code(inverse * (v - low), 0.0, TOP) + min - v;
            w * difference * difference
        };
        x.iter().zip(weights).map(square).sum()
    };
    let range = high - low;
    let plain = TOP / range;
    let (mut scale, mut min) = (1.0 / plain, low);
    let mut least = error(scale, min, plain);
    for step in 0..=20 {
        let inverse = (-1.0 + 0.1 * step as f32 + TOP) / range;
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0f32, 0.0f32, 0.0f32);
        for (&v, &w) in x.iter().zip(weights) {
            let l = code(inverse * (v - low), 0.0, TOP);
            sum_l += w * l;
            sum_l2 += w * l * l;
            sum_xl += w * l * v;
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        if determinant > 0.0 {
            let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
            let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
            if this_min > 0.0 {
                this_min = 0.0;
                this_scale = sum_xl / sum_l2;
            }
            let this_error = error(this_scale, this_min, inverse);
            if this_error < least {
                (least, scale, min) = (this_error, this_scale, this_min);
            }
        }
    }
    (scale, -min)
}

/// Least-squares scale of 16 values to codes −32..=31, weighted by x²: large values matter most.
fn fit_symmetric(x: &[f32]) -> f32 {
    let mut extreme = 0.0f32;
    for &v in x {
        if v.abs() > extreme.abs() {
            extreme = v;
        }
    }
    if extreme.abs() < 1e-30 {
        return 0.0;
    }
    let sums = |inverse: f32| {
        let (mut sum_xl, mut sum_l2) = (0.0f32, 0.0f32);
        for &v in x {
            let l = code(inverse * v, -32.0, 31.0);
            sum_xl += v * v * v * l;
            sum_l2 += v * v * l * l;
        }
        (sum_xl, sum_l2)
    };
    let (sum_xl, sum_l2) = sums(-32.0 / extreme);
    let mut scale = if sum_l2 > 0.0 { sum_xl / sum_l2 } else { 0.0 };
    let mut best = scale * sum_xl;
    for step in (-9..=9).filter(|&step| step != 0) {
        let (sum_xl, sum_l2) = sums(-(32.0 + 0.1 * step as f32) / extreme);
        if sum_l2 > 0.0 && sum_xl * sum_xl > best * sum_l2 {
            scale = sum_xl / sum_l2;
            best = scale * sum_xl;
        }
    }
    scale
}

/// The nearest integer (ties to even) within bounds, as a float.
///
/// Bounded first, so that adding and taking away 1.5·2²³, which leaves no bits for a fraction, rounds as the hardware does.
#[inline(always)]
fn code(v: f32, low: f32, high: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (v.clamp(low, high) + SHIFT) - SHIFT
}

/// 256 values to one Q4_K block; layout in [`super::k::q4`].
pub(super) fn q4(values: &[f32], out: &mut Vec<u8>) {
    let mut fits = [(0.0f32, 0.0f32); 8];
    for (fit, x) in fits.iter_mut().zip(values.chunks_exact(32)) {
        let mean = (x.iter().map(|v| v * v).sum::<f32>() / 32.0).sqrt();
        let weights: [f32; 32] = std::array::from_fn(|j| mean + x[j].abs());
        *fit = fit_with_min(x, &weights);
    }
    let top = fits.iter().fold((0.0f32, 0.0f32), |m, f| (m.0.max(f.0), m.1.max(f.1)));
    let inverse = |v: f32| if v > 0.0 { 63.0 / v } else { 0.0 };
    let (inverse_scale, inverse_min) = (inverse(top.0), inverse(top.1));
    let mut packed = [0u8; 12];
    for (g, &(scale, min)) in fits.iter().enumerate() {
        let (s, m) = (code(inverse_scale * scale, 0.0, 63.0) as u8, code(inverse_min * min, 0.0, 63.0) as u8);
        if g < 4 {
            packed[g] = s;
            packed[g + 4] = m;
        } else {
            packed[g + 4] = s & 15 | m << 4;
            packed[g - 4] |= s >> 4 << 6;
            packed[g] |= m >> 4 << 6;
        }
    }
    let (d, dmin) = (f16::from_f32(top.0 / 63.0), f16::from_f32(top.1 / 63.0));
    out.extend_from_slice(&d.to_le_bytes());
    out.extend_from_slice(&dmin.to_le_bytes());
    out.extend_from_slice(&packed);
    let mut codes = [0u8; 256];
    for (g, (codes, x)) in codes.chunks_exact_mut(32).zip(values.chunks_exact(32)).enumerate() {
        let (s, m) = super::k::scale_min(&packed, g);
        let (scale, min) = (d.to_f32() * f32::from(s), dmin.to_f32() * f32::from(m));
        // A group of scale 0 decodes to −min whatever its codes are.
        if scale != 0.0 {
            for (c, &v) in codes.iter_mut().zip(x) {
                *c = code((v + min) / scale, 0.0, 15.0) as u8;
            }
        }
    }
    for pair in codes.chunks_exact(64) {
        out.extend((0..32).map(|j| pair[j] | pair[j + 32] << 4));
    }
}

/// 256 values to one Q6_K block; layout in [`super::k::q6`].
pub(super) fn q6(values: &[f32], out: &mut Vec<u8>) {
    let mut fits = [0.0f32; 16];
    let mut extreme = 0.0f32;
    for (fit, x) in fits.iter_mut().zip(values.chunks_exact(16)) {
        *fit = fit_symmetric(x);
        if fit.abs() > extreme.abs() {
            extreme = *fit;
        }
    }
    if extreme.abs() < 1e-15 {
        out.extend_from_slice(&[0; 210]);
        return;
    }
    let inverse = -128.0 / extreme;
    let d = f16::from_f32(1.0 / inverse);
    let scales = fits.map(|fit| code(inverse * fit, -128.0, 127.0) as i8);
    // q + 32, zero of the centred code where a group's scale vanishes.
    let mut codes = [32u8; 256];
    for ((codes, x), &s) in codes.chunks_exact_mut(16).zip(values.chunks_exact(16)).zip(&scales) {
        let scale = d.to_f32() * f32::from(s);
        if scale != 0.0 {
            for (c, &v) in codes.iter_mut().zip(x) {
                *c = (code(v / scale, -32.0, 31.0) + 32.0) as u8;
            }
        }
    }
    for half in codes.chunks_exact(128) {
        out.extend((0..64).map(|j| half[j] & 15 | (half[j + 64] & 15) << 4));
    }
    for half in codes.chunks_exact(128) {
        out.extend((0..32).map(|j| (0..4).fold(0, |bits, run| bits | half[j + 32 * run] >> 4 << (2 * run))));
    }
    out.extend(scales.iter().map(|&s| s as u8));
    out.extend_from_slice(&d.to_le_bytes());
}
