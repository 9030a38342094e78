//! [`Kernel::AttendPrompt`](crate::Kernel::AttendPrompt).

use super::seen::{scores, seen};
use crate::params::{AttendParams, RowInfo, Tile};

/// What `attend_prompt` reads.
#[derive(Clone, Copy, Debug)]
pub struct PromptInputs<'a> {
    /// Its uniform.
    pub params: &'a AttendParams,
    /// Batch rows.
    pub rows: &'a [RowInfo],
    /// Page tables.
    pub tables: &'a [u32],
    /// Runs of rows.
    pub tiles: &'a [Tile],
    /// `[rows, qkv_stride]`.
    pub qkv: &'a [f32],
    /// What they mean, `[page][kv head][PAGE_LEN][kv_stride]`.
    pub k_pages: &'a [f64],
    /// As `k_pages`.
    pub v_pages: &'a [f64],
}

/// ATT = softmax(mask(softcap(scale·Q·Kᵀ)))·V for the rows of the tiles, into `att` `[rows, att_stride]`.
pub fn attend_prompt(inputs: &PromptInputs, att: &mut [f32]) {
    let params = inputs.params;
    let width = params.head_dim as usize;
    let tiles = &inputs.tiles[params.first_row as usize..][..params.rows as usize];
    for row in tiles.iter().flat_map(|tile| tile.first_row..tile.first_row + tile.rows) {
        let about = &inputs.rows[row as usize];
        for head in 0..params.heads {
            let kv_head = head / (params.heads / params.kv_heads);
            let q = &inputs.qkv[(row * params.qkv_stride + head * params.head_dim) as usize..][..width];
            let found = scores(params, inputs.tables, about, kv_head, seen(params, about), q, inputs.k_pages);
            let largest = found.iter().fold(f64::NEG_INFINITY, |m, (s, _)| m.max(*s));
            let total: f64 = found.iter().map(|(s, _)| (s - largest).exp()).sum();
            let out = &mut att[(row * params.att_stride + head * params.head_dim) as usize..][..width];
            for (d, value) in out.iter_mut().enumerate() {
                let sum: f64 = found.iter().map(|(s, base)| (s - largest).exp() * inputs.v_pages[base + d]).sum();
                *value = (sum / total) as f32;
            }
        }
    }
}
