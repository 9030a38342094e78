//! [`Kernel::RopeWrite`](crate::Kernel::RopeWrite).

use super::PageLayout;
use crate::KvFormat;
use crate::params::{NO_PAGE, PAGE_LEN, RopeParams, RowInfo, rope_pairs};

/// What `rope_write` reads.
#[derive(Clone, Copy, Debug)]
pub struct RopeInputs<'a> {
    /// Its uniform.
    pub params: &'a RopeParams,
    /// Override `PAIRS`.
    pub pairs: u32,
    /// Override `QK_NORM`.
    pub qk_norm: bool,
    /// Batch rows.
    pub rows: &'a [RowInfo],
    /// Page tables.
    pub tables: &'a [u32],
    /// `[rotated / 2]`.
    pub frequencies: &'a [f32],
    /// `[head_dim]`.
    pub q_gain: &'a [f32],
    /// `[head_dim]`.
    pub k_gain: &'a [f32],
}

/// Normalises and rotates Q and K heads of `qkv` `[rows, qkv_stride]`; Q goes back, K and V to pages of `format`.
pub fn rope_write(inputs: &RopeInputs, format: KvFormat, qkv: &mut [f32], k_pages: &mut [u32], v_pages: &mut [u32]) {
    let params = inputs.params;
    let width = params.head_dim as usize;
    let layout = PageLayout { format, kv_heads: params.kv_heads, stride: params.kv_stride };
    for row in params.first_row..params.first_row + params.rows {
        let about = &inputs.rows[row as usize];
        for h in 0..params.heads + 2 * params.kv_heads {
            let from_column = row as usize * params.qkv_stride as usize + h as usize * width;
            let mut head: Vec<f64> = qkv[from_column..][..width].iter().map(|&v| f64::from(v)).collect();
            let is_q = h < params.heads;
            let is_v = h >= params.heads + params.kv_heads;
            if inputs.qk_norm && !is_v {
                let square = head.iter().map(|v| v * v).sum::<f64>() / width as f64;
                let root = 1.0 / (square + f64::from(params.eps)).sqrt();
                let gain = if is_q { inputs.q_gain } else { inputs.k_gain };
                head.iter_mut().zip(gain).for_each(|(v, g)| *v *= root * f64::from(*g));
            }
            if inputs.pairs != rope_pairs::NONE && !is_v {
                let half = params.rotated as usize / 2;
                for i in 0..half {
                    let (a, b) = if inputs.pairs == rope_pairs::ADJACENT { (2 * i, 2 * i + 1) } else { (i, i + half) };
                    let angle = f64::from(about.position) * f64::from(inputs.frequencies[i]);
                    let (sin, cos) = (angle.sin() * f64::from(params.magnitude), angle.cos() * f64::from(params.magnitude));
                    (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
                }
            }
            if is_q {
                head.iter().enumerate().for_each(|(i, v)| qkv[from_column + i] = *v as f32);
                continue;
            }
            let kv_head = (h - params.heads) % params.kv_heads;
            let entry = params.table_offset + about.sequence * params.table_stride + about.position / PAGE_LEN;
            let page = inputs.tables[entry as usize];
            if page == NO_PAGE {
                continue;
            }
            let pages = if is_v { &mut *v_pages } else { &mut *k_pages };
            layout.store(pages, page, kv_head, about.position % PAGE_LEN, &head);
        }
    }
}
