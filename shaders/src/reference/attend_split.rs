//! [`Kernel::AttendSplit`](crate::Kernel::AttendSplit).

use super::seen::{scores, seen};
use crate::params::{AttendParams, RowInfo, SPLIT};

/// For each row, query head and split: Σ exp(s − m)·V, m and Σ exp(s − m) over the split's positions, into `partials`
/// `[rows][heads][splits][head_dim + 2]`. Splits are counted from the first that the row sees. Pages are given as
/// what they mean.
pub fn attend_split(
    params: &AttendParams,
    rows: &[RowInfo],
    tables: &[u32],
    qkv: &[f32],
    k_pages: &[f64],
    v_pages: &[f64],
    partials: &mut [f32],
) {
    let width = params.head_dim as usize;
    for r in 0..params.rows {
        let row = &rows[(params.first_row + r) as usize];
        let range = seen(params, row);
        for head in 0..params.heads {
            let kv_head = head / (params.heads / params.kv_heads);
            let q = &qkv[((params.first_row + r) * params.qkv_stride + head * params.head_dim) as usize..][..width];
            for (i, split) in (range.start / SPLIT..range.end.div_ceil(SPLIT)).enumerate() {
                let part = range.start.max(split * SPLIT)..range.end.min((split + 1) * SPLIT);
                let found = scores(params, tables, row, kv_head, part, q, k_pages);
                let largest = found.iter().fold(-1e30, |m: f64, (s, _)| m.max(*s));
                let at = (((r * params.heads + head) * params.splits) as usize + i) * (width + 2);
                let out = &mut partials[at..][..width + 2];
                for (d, value) in out[..width].iter_mut().enumerate() {
                    *value = found.iter().map(|(s, base)| (s - largest).exp() * v_pages[base + d]).sum::<f64>() as f32;
                }
                out[width] = largest as f32;
                out[width + 1] = found.iter().map(|(s, _)| (s - largest).exp()).sum::<f64>() as f32;
            }
        }
    }
}
