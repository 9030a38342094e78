//! [`Kernel::LoraShrink`](crate::Kernel::LoraShrink).

use crate::params::{LoraEntry, LoraParams, RowInfo, prologue};

/// What `lora_shrink` reads.
#[derive(Clone, Copy, Debug)]
pub struct ShrinkInputs<'a> {
    /// Its uniform.
    pub params: &'a LoraParams,
    /// Override `PROLOGUE`.
    pub prologue: u32,
    /// By batch row.
    pub rows: &'a [RowInfo],
    /// `[adapters, parts]`.
    pub table: &'a [LoraEntry],
    /// A of every entry.
    pub weights: &'a [f32],
    /// `[rows, x_stride]`.
    pub x: &'a [f32],
    /// `[columns]`, with the prologue.
    pub gain: &'a [f32],
    /// Batch rows, with `gather`.
    pub indices: &'a [u32],
}

/// `low[row, part, r] = Σₖ A[r, k] · norm(x[row])ₖ` for rows that have an adapter.
pub fn lora_shrink(inputs: &ShrinkInputs, low: &mut [f32]) {
    let params = inputs.params;
    let columns = params.columns as usize;
    for row in params.first_row..params.first_row + params.rows {
        let batch_row = if params.gather == 1 { inputs.indices[row as usize] } else { row };
        let adapter = inputs.rows[batch_row as usize].adapter;
        let from = if params.gather_x == 1 { batch_row } else { row } as usize * params.x_stride as usize;
        let mut x: Vec<f64> = inputs.x[from..][..columns].iter().map(|&v| f64::from(v)).collect();
        if inputs.prologue == prologue::RMS {
            let square = x.iter().map(|v| v * v).sum::<f64>() / columns as f64;
            let root = 1.0 / (square + f64::from(params.eps)).sqrt();
            x.iter_mut().zip(inputs.gain).for_each(|(v, &g)| *v *= root * f64::from(g));
        }
        for part in 0..if adapter > 0 { params.parts } else { 0 } {
            let entry = inputs.table[((adapter - 1) * params.parts + part) as usize];
            for r in 0..entry.rank {
                let a = &inputs.weights[4 * entry.a as usize + r as usize * columns.next_multiple_of(4)..][..columns];
                let at = row * params.low_stride + part * params.ranks + r;
                low[at as usize] = a.iter().zip(&x).map(|(&a, x)| f64::from(a) * x).sum::<f64>() as f32;
            }
        }
    }
}
