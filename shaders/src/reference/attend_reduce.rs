//! [`Kernel::AttendReduce`](crate::Kernel::AttendReduce).

use super::seen::seen;
use crate::params::{AttendParams, RowInfo, SPLIT};

/// Folds `partials` into `att` `[rows, att_stride]`.
pub fn attend_reduce(params: &AttendParams, rows: &[RowInfo], partials: &[f32], att: &mut [f32]) {
    let width = params.head_dim as usize;
    for r in 0..params.rows {
        let range = seen(params, &rows[(params.first_row + r) as usize]);
        let count = (range.end.div_ceil(SPLIT) - range.start / SPLIT) as usize;
        for head in 0..params.heads {
            let at = ((r * params.heads + head) * params.splits) as usize * (width + 2);
            let splits: Vec<&[f32]> = partials[at..].chunks(width + 2).take(count).collect();
            let largest = splits.iter().fold(f64::NEG_INFINITY, |m, s| m.max(f64::from(s[width])));
            let weigh = |split: &&[f32], value: f32| (f64::from(split[width]) - largest).exp() * f64::from(value);
            let total: f64 = splits.iter().map(|s| weigh(s, s[width + 1])).sum();
            for d in 0..width {
                let sum: f64 = splits.iter().map(|s| weigh(s, s[d])).sum();
                let out = (params.first_row + r) * params.att_stride + head * params.head_dim;
                att[out as usize + d] = (sum / total) as f32;
            }
        }
    }
}
