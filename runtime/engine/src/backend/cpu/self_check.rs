//! A check of the chosen kernels against plain Rust's on a small known case, made once when a backend is opened.
//!
//! A processor's or a browser's dot product can be wrong: Node 20's relaxed SIMD gives other sums from call to call. Sums of
//! codes are exact on every instruction set, so what is left is float rounding, and anything past that is a defect.

use super::buffer::AlignedBytes;
use super::isa::{InstructionSet, Kernels};
use super::layout::{BLOCK, Layout};
use super::matmul::{BlockScale, Inputs, LinearArgs};
use super::rows::QuantiseArgs;
use crate::Format;
use crate::error::{Error, ErrorCode, Result};

/// Outputs: one whole panel, one padded.
const OUTPUTS: usize = 19;
/// Inputs: one block of a K-quant.
const INPUTS: usize = 256;
/// Rows: every tile there is.
const ROWS: usize = 6 + 4 + 2 + 1;
/// Turns: a compiled and an interpreted or baseline-compiled kernel may differ.
const TURNS: usize = 3;
/// Float rounding over 256 inputs, of the largest output.
const BOUND: f32 = 1e-5;

/// The best of the sets that passes, best last; or the one asked for, if it passes.
pub(super) fn choose(asked: Option<InstructionSet>) -> Result<(InstructionSet, &'static Kernels)> {
    let candidates = match asked {
        Some(set) => vec![set],
        None => InstructionSet::available().into_iter().rev().collect(),
    };
    let mut failed = Vec::new();
    for set in candidates {
        let kernels = set.kernels()?;
        match check(kernels)? {
            None => return Ok((set, kernels)),
            Some(format) => failed.push(format!("{} on {format}", set.name())),
        }
    }
    Err(Error::new(ErrorCode::Device, format!("this processor's kernels fail their self-check: {}", failed.join(", "))))
}

/// The first format whose products differ from plain Rust's.
fn check(kernels: &Kernels) -> Result<Option<Format>> {
    let plain = InstructionSet::Scalar.kernels()?;
    let mut state = 1u32;
    let mut byte = || {
        // A linear congruence: all that is asked of it is to reach every code.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let inputs: Vec<f32> = (0..ROWS * INPUTS).map(|_| byte() as i8 as f32 / 16.0).collect();
    for format in Format::ALL {
        let layout = Layout::new("the self-check's matrix", format, OUTPUTS, INPUTS)?;
        let mut weights = AlignedBytes::zeroed(layout.bytes(), "the self-check's matrix")?;
        for row in 0..OUTPUTS {
            let mut blocks: Vec<u8> = (0..format.row_bytes(INPUTS)).map(|_| byte()).collect();
            // Floats of 2^−4..2: exponents are set, the rest is random.
            match format {
                Format::F32 => blocks.chunks_exact_mut(4).for_each(|v| v[3] = v[3] & 0x80 | 0x3d),
                Format::F16 => blocks.chunks_exact_mut(2).for_each(|v| v[1] = v[1] & 0x83 | 0x38),
                Format::Q4_0 | Format::Q8_0 => blocks.chunks_exact_mut(format.block_bytes()).for_each(|block| block[1] = 0x20),
                Format::Q4K => (blocks[1], blocks[3]) = (0x10, 0x18),
                Format::Q6K => blocks[209] = 0x10,
            }
            layout.write_row(weights.bytes_mut(), row, &blocks);
        }
        let want = products(plain, &layout, &weights, &inputs);
        let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        for _ in 0..TURNS {
            let got = products(kernels, &layout, &weights, &inputs);
            if !got.iter().zip(&want).all(|(g, w)| (g - w).abs() <= BOUND * largest) {
                return Ok(Some(format));
            }
        }
    }
    Ok(None)
}

/// Quantises all rows and multiplies them with the matrix, `[ROWS][OUTPUTS]`.
fn products(kernels: &Kernels, layout: &Layout, weights: &AlignedBytes, inputs: &[f32]) -> Vec<f32> {
    let mut codes = vec![0i8; inputs.len()];
    let mut scales = vec![BlockScale::default(); inputs.len() / BLOCK];
    let mut out = vec![0f32; ROWS * OUTPUTS];
    let quantise =
        QuantiseArgs { x: inputs.as_ptr(), codes: codes.as_mut_ptr(), scales: scales.as_mut_ptr(), blocks: inputs.len() / BLOCK };
    // SAFETY: `kernels` come from `InstructionSet::kernels`, and the three buffers hold all blocks.
    unsafe { (kernels.quantise)(&quantise) };
    let linear = LinearArgs {
        layout: *layout,
        weights: weights.as_ptr(),
        rows: ROWS,
        inputs: Inputs { codes: codes.as_ptr(), scales: scales.as_ptr(), floats: inputs.as_ptr() },
        out: out.as_mut_ptr(),
        out_stride: OUTPUTS,
        bias: std::ptr::null(),
        accumulate: false,
        softcap: 0.0,
    };
    // SAFETY: as above; the matrix has the layout's bytes, inputs have ROWS rows of its columns, and `out` ROWS of its rows.
    unsafe { (kernels.linear[super::step::format_index(layout.format)])(&linear, 0, layout.panels()) };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_here_passes_and_a_broken_one_does_not() {
        for set in InstructionSet::available() {
            let kernels = set.kernels().expect("it is available");
            assert_eq!(check(kernels).expect("memory"), None, "{}", set.name());
        }
        let plain = InstructionSet::Scalar.kernels().expect("always there");
        let mut linear = plain.linear;
        linear.swap(2, 3);
        let broken = Kernels { linear, ..*plain };
        assert_eq!(check(&broken).expect("memory"), Some(Format::Q4_0));
    }
}
