//! [`Kernel::Norm`](crate::Kernel::Norm).

use crate::params::{NormParams, norm_join, norm_kind};

/// What `norm` reads.
#[derive(Clone, Copy, Debug)]
pub struct NormInputs<'a> {
    /// Its uniform.
    pub params: &'a NormParams,
    /// Override `KIND`.
    pub kind: u32,
    /// Override `JOIN`.
    pub join: u32,
    /// `[rows, input_stride]`.
    pub input: &'a [f32],
    /// `[columns]`.
    pub gain: &'a [f32],
    /// `[columns]`, of a layer norm.
    pub bias: &'a [f32],
    /// Input rows, with `gather`.
    pub indices: &'a [u32],
}

/// Whole rows normalised and joined to `output` `[rows, output_stride]`.
pub fn norm(inputs: &NormInputs, output: &mut [f32]) {
    let params = inputs.params;
    let columns = params.columns as usize;
    for row in (params.first_row..params.first_row + params.rows).map(|r| r as usize) {
        let from_row = if params.gather == 1 { inputs.indices[row] as usize } else { row };
        let source = from_row * params.input_stride as usize;
        let out = &mut output[row * params.output_stride as usize..][..columns];
        let values: Vec<f64> = (0..columns)
            .map(|k| {
                let given = || f64::from(inputs.input[source + k]);
                match inputs.join {
                    norm_join::IN_PLACE => f64::from(out[k]),
                    norm_join::ADD_THEN_NORM => f64::from(out[k]) + given(),
                    _ => given(),
                }
            })
            .collect();
        let layer = inputs.kind == norm_kind::LAYER;
        let mean = if layer { values.iter().sum::<f64>() / columns as f64 } else { 0.0 };
        let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / columns as f64;
        let root = 1.0 / (square + f64::from(params.eps)).sqrt();
        for (k, v) in values.iter().enumerate() {
            let bias = if layer { f64::from(inputs.bias[k]) } else { 0.0 };
            let normed = (v - mean) * root * f64::from(inputs.gain[k]) + bias;
            let before = if inputs.join == norm_join::NORM_THEN_ADD { f64::from(out[k]) } else { 0.0 };
            out[k] = (before + normed) as f32;
        }
    }
}
