//! [`Kernel::Matmul`](crate::Kernel::Matmul).

use super::MatrixInputs;
use crate::params::epilogue;

/// Y[row, n] = epilogue(Σₖ W[n, k] · x[row, k]).
pub fn matmul(inputs: &MatrixInputs, y: &mut [f32]) {
    let params = inputs.params;
    for r in 0..params.rows {
        let x = inputs.rounded(&inputs.source(r));
        for n in 0..params.outputs {
            let up = if inputs.epilogue == epilogue::GATED { inputs.product(params.outputs + n, &x) } else { 0.0 };
            inputs.finish(r, n, inputs.product(n, &x), up, y);
        }
    }
}
