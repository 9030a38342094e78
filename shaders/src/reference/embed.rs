//! [`Kernel::Embed`](crate::Kernel::Embed).

use super::Weights;
use crate::params::{EmbedParams, RowInfo, TOKEN_IN_SLOT, embed_source};

/// `X[row] (=, +=) scale · table[id]`, for rows whose id this piece of the table holds.
pub fn embed(params: &EmbedParams, rows: &[RowInfo], slots: &[u32], table: &Weights, x: &mut [f32]) {
    for row in params.first_row..params.first_row + params.rows {
        let about = &rows[row as usize];
        let id = match params.source {
            embed_source::SEGMENT => about.segment,
            embed_source::POSITION => about.position,
            _ if about.token & TOKEN_IN_SLOT != 0 => slots[(about.token & !TOKEN_IN_SLOT) as usize],
            _ => about.token,
        };
        let Some(id) = id.checked_sub(params.first_id).filter(|&id| id < params.ids) else { continue };
        for k in 0..params.columns as usize {
            let at = row as usize * params.x_stride as usize + k;
            let before = if params.accumulate == 1 { f64::from(x[at]) } else { 0.0 };
            x[at] = (before + f64::from(params.scale) * table.value(id as usize, k)) as f32;
        }
    }
}
