//! [`Kernel::Matvec`](crate::Kernel::Matvec).

use super::MatrixInputs;
use crate::params::{epilogue, prologue};

/// `Y[row, n] = epilogue(Σₖ W[n, k] · norm(x[row])ₖ)`. The norm's root multiplies the sum, so int-dot rungs round x · gain.
pub fn matvec(inputs: &MatrixInputs, y: &mut [f32]) {
    let params = inputs.params;
    for r in 0..params.rows {
        let mut x = inputs.source(r);
        let mut root = 1.0;
        if inputs.prologue == prologue::RMS {
            let square = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / f64::from(params.columns);
            root = 1.0 / (square + f64::from(params.eps)).sqrt();
            for (v, g) in x.iter_mut().zip(inputs.gain) {
                *v *= g;
            }
        }
        let x = inputs.rounded(&x);
        for n in 0..params.outputs {
            let up = if inputs.epilogue == epilogue::GATED { root * inputs.product(params.outputs + n, &x) } else { 0.0 };
            inputs.finish(r, n, root * inputs.product(n, &x), up, y);
        }
    }
}
