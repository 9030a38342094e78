//! [`Kernel::LoraExpand`](crate::Kernel::LoraExpand).

use crate::params::{DELTA_HEAD, LoraEntry, LoraParams, RowInfo};

/// `delta[row, n] = Σᵣ B[n, r] · low[row, part, r]` for rows whose adapter adapts the linear; the first float of a row says whether.
pub fn lora_expand(
    params: &LoraParams,
    rows: &[RowInfo],
    table: &[LoraEntry],
    weights: &[f32],
    low: &[f32],
    indices: &[u32],
    delta: &mut [f32],
) {
    for row in params.first_row..params.first_row + params.rows {
        let batch_row = if params.gather == 1 { indices[row as usize] } else { row };
        let adapter = rows[batch_row as usize].adapter;
        let mut parts = Vec::new();
        if adapter > 0 {
            parts.extend_from_slice(&table[((adapter - 1) * params.parts) as usize..][..params.parts as usize]);
        }
        let delta = &mut delta[(row * params.delta_stride) as usize..];
        let adapts = parts.iter().any(|part| part.rank > 0);
        delta[0] = f32::from(u8::from(adapts));
        for n in 0..if adapts { params.outputs } else { 0 } {
            let mut sum = 0.0;
            for (index, part) in parts.iter().enumerate().filter(|(_, part)| (part.first_row..part.first_row + part.rows).contains(&n)) {
                let low = &low[(row * params.low_stride + index as u32 * params.ranks) as usize..];
                let b = |r: u32| f64::from(weights[(part.b + r * part.rows + n - part.first_row) as usize]);
                sum += (0..part.rank).map(|r| b(r) * f64::from(low[r as usize])).sum::<f64>();
            }
            delta[(DELTA_HEAD + n) as usize] = sum as f32;
        }
    }
}
