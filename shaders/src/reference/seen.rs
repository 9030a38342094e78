//! What the attention twins share: what a row sees, and its scores.

use crate::params::{AttendParams, NO_PAGE, PAGE_LEN, RowInfo};
use std::ops::Range;

/// Positions that a row sees.
pub(super) fn seen(params: &AttendParams, row: &RowInfo) -> Range<u32> {
    let first = if params.window == 0 { 0 } else { (row.position + 1).saturating_sub(params.window) };
    first..if params.causal == 1 { row.position + 1 } else { row.length }
}

/// Where the head of a position begins in what a pool of pages means ([`PageLayout::decode`](super::PageLayout::decode)); `None` where its page has been let go.
pub(super) fn page_base(params: &AttendParams, tables: &[u32], sequence: u32, position: u32, kv_head: u32) -> Option<usize> {
    let page = tables[(params.table_offset + sequence * params.table_stride + position / PAGE_LEN) as usize];
    (page != NO_PAGE).then(|| (((page * params.kv_heads + kv_head) * PAGE_LEN + position % PAGE_LEN) * params.kv_stride) as usize)
}

/// softcap(scale · q·k).
pub(super) fn score(params: &AttendParams, q: &[f32], k: &[f64]) -> f64 {
    let dot: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * k).sum();
    let (s, cap) = (dot * f64::from(params.scale), f64::from(params.softcap));
    if cap > 0.0 { cap * (s / cap).tanh() } else { s }
}

/// Scores of the positions in `range`, and where their heads begin. Positions without a page are not seen.
pub(super) fn scores(
    params: &AttendParams,
    tables: &[u32],
    row: &RowInfo,
    kv_head: u32,
    range: Range<u32>,
    q: &[f32],
    k_pages: &[f64],
) -> Vec<(f64, usize)> {
    range
        .filter_map(|position| page_base(params, tables, row.sequence, position, kv_head))
        .map(|base| (score(params, q, &k_pages[base..][..params.head_dim as usize]), base))
        .collect()
}
