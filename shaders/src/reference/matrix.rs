//! What the twins of `matvec` and `matmul` share.

use super::Weights;
use crate::params::{CHUNK, DELTA_HEAD, MatrixParams, activation, epilogue};

/// What a rung rounds on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Nothing.
    None,
    /// Activations and weights to f16.
    F16,
    /// Activations to 8 bits, a chunk of 32 by its largest magnitude.
    Int8,
}

/// What `matvec` and `matmul` read.
#[derive(Clone, Copy, Debug)]
pub struct MatrixInputs<'a> {
    /// Their uniform.
    pub params: &'a MatrixParams,
    /// Override `PROLOGUE` (matvec).
    pub prologue: u32,
    /// Override `EPILOGUE`.
    pub epilogue: u32,
    /// Override `ACTIVATION`.
    pub activation: u32,
    /// Override `HAS_BIAS`.
    pub has_bias: bool,
    /// What the rung rounds.
    pub rounding: Rounding,
    /// W.
    pub weights: Weights<'a>,
    /// `[rows, x_stride]`.
    pub x: &'a [f32],
    /// `[columns]` (matvec).
    pub gain: &'a [f32],
    /// `[outputs]`, from `y_offset`.
    pub bias: &'a [f32],
    /// Rows of x, with `gather`.
    pub indices: &'a [u32],
    /// What adapters add, `[rows, delta_stride]`; empty without `HAS_DELTA`.
    pub delta: &'a [f32],
}

impl MatrixInputs<'_> {
    /// x of batch row `r` of the dispatch.
    pub(super) fn source(&self, r: u32) -> Vec<f32> {
        let row = (self.params.first_row + r) as usize;
        let row = if self.params.gather == 1 { self.indices[row] as usize } else { row };
        self.x[row * self.params.x_stride as usize..][..self.params.columns as usize].to_vec()
    }

    /// What the rung makes of activations.
    pub(super) fn rounded(&self, x: &[f32]) -> Vec<f64> {
        match self.rounding {
            Rounding::None => x.iter().map(|&v| f64::from(v)).collect(),
            Rounding::F16 => x.iter().map(|&v| half::f16::from_f32(v.clamp(-65504.0, 65504.0)).to_f64()).collect(),
            Rounding::Int8 => x
                .chunks(CHUNK as usize)
                .flat_map(|chunk| {
                    let largest = chunk.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
                    chunk.iter().map(move |v| f64::from((v * inverse).round_ties_even()) * f64::from(largest) / 127.0)
                })
                .collect(),
        }
    }

    /// `Σₖ W[n, k] · x[k]`.
    pub(super) fn product(&self, n: u32, x: &[f64]) -> f64 {
        let weight = |k: usize| match self.rounding {
            Rounding::F16 => half::f16::from_f64(self.weights.value(n as usize, k)).to_f64(),
            _ => self.weights.value(n as usize, k),
        };
        x.iter().enumerate().map(|(k, v)| weight(k) * v).sum()
    }

    /// Joins the product of output n (and its partner's, where gated) to y.
    pub(super) fn finish(&self, r: u32, n: u32, product: f64, up: f64, y: &mut [f32]) {
        let params = self.params;
        let at = ((params.first_row + r) * params.y_stride + params.y_offset + n) as usize;
        let biased = |v: f64, n: u32| if self.has_bias { v + f64::from(self.bias[(params.y_offset + n) as usize]) } else { v };
        let delta = self
            .delta
            .get(((params.first_row + r) * params.delta_stride) as usize..)
            .filter(|row| row.first().is_some_and(|&has| has > 0.0));
        let adapted = |v: f64, n: u32| delta.map_or(v, |row| v + f64::from(row[(DELTA_HEAD + params.y_offset + n) as usize]));
        let v = adapted(biased(product, n), n);
        let cap = f64::from(params.softcap);
        y[at] = match self.epilogue {
            epilogue::ADD => f64::from(y[at]) + v,
            epilogue::GATED => activate(self.activation, v) * adapted(biased(up, params.outputs + n), params.outputs + n),
            epilogue::ACTIVATE => activate(self.activation, v),
            _ if cap > 0.0 => cap * (v / cap).tanh(),
            _ => v,
        } as f32;
    }
}

fn activate(which: u32, v: f64) -> f64 {
    match which {
        activation::GELU_TANH => 0.5 * v * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3))).tanh()),
        activation::GELU_ERF => 0.5 * v * (1.0 + erf(v / std::f64::consts::SQRT_2)),
        _ => v / (1.0 + (-v).exp()),
    }
}

/// By its series, Σ (−1)ⁿ x²ⁿ⁺¹ / (n! (2n + 1)) · 2/√π; beyond 5 it is 1 to twelve digits.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut sum, mut power) = (x, x);
    for n in 1..200 {
        power *= -x * x / f64::from(n);
        sum += power / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}
