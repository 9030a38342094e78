use firecrest_shaders::params::{activation, epilogue, prologue};
use firecrest_shaders::reference::{Case, MatrixCase};
use firecrest_shaders::{Format, Kernel, Variant};
use firecrest_tests::kernel_runner::check_all;

/// Sizes that fit the format: one block, an odd number of blocks, more than one tile of the kernel, and (where rows need no
/// whole block) ends within a chunk and within a vec4.
fn columns(variant: &Variant) -> Vec<u32> {
    match variant.format.map_or(1, |f| f.block_len()) {
        1 => vec![1, 30, 172, 512, 545],
        32 => vec![32, 96, 512, 1056],
        _ => vec![256, 768],
    }
}

/// Sizes, and both ways to share a workgroup's outputs, for every row. The other ways to begin and end know no format and no
/// size, and a pipeline takes a software adapter half a second to compile: they run for the smallest size of two formats, and
/// for every row with `--full`.
fn cases(variant: &'static Variant) -> Vec<Case> {
    let is_matvec = variant.kernel == Kernel::Matvec;
    let rms = if is_matvec { prologue::RMS } else { prologue::NONE };
    let full = variant.rows();
    let widest = *columns(variant).last().expect("a format has sizes");
    let mut cases = Vec::new();
    for columns in columns(variant) {
        // Outputs and rows that fill no tile, and one tile and a bit.
        for (outputs, rows) in [(1, 1), (variant.outputs() + 3, full + 1)] {
            cases.push(MatrixCase { prologue: rms, ..MatrixCase::product(columns, outputs, rows) }.case(variant));
        }
    }
    let base = MatrixCase { prologue: rms, ..MatrixCase::product(widest, 37, full) };
    cases.push(MatrixCase { softcap: 3.0, gather: true, first_row: 1, ..base }.case(variant));
    cases.push(MatrixCase { epilogue: epilogue::GATED, rows: 2 * full + 1, outputs: 70, ..base }.case(variant));
    let smallest = full == if is_matvec { 1 } else { 32 };
    if firecrest_tests::full() || (smallest && matches!(variant.format, Some(Format::F32 | Format::Q4K))) {
        let plain = MatrixCase { prologue: prologue::NONE, ..base };
        for act in [activation::SILU, activation::GELU_TANH, activation::GELU_ERF] {
            cases.push(MatrixCase { epilogue: epilogue::ACTIVATE, activation: act, bias: true, ..plain }.case(variant));
        }
        cases.push(MatrixCase { epilogue: epilogue::GATED, activation: activation::GELU_TANH, bias: true, ..base }.case(variant));
        cases.push(MatrixCase { epilogue: epilogue::ADD, first_row: 2, ..plain }.case(variant));
        cases.push(MatrixCase { bias: true, gather: true, first_row: 1, ..base }.case(variant));
        // What adapters add, to every second row.
        cases.push(MatrixCase { delta: true, bias: true, softcap: 3.0, gather: true, first_row: 1, ..base }.case(variant));
        cases.push(MatrixCase { delta: true, epilogue: epilogue::GATED, rows: 2 * full + 1, ..base }.case(variant));
        cases.push(MatrixCase { delta: true, epilogue: epilogue::ADD, first_row: 2, ..plain }.case(variant));
        cases.push(MatrixCase { delta: true, epilogue: epilogue::ACTIVATE, ..plain }.case(variant));
    }
    cases
}

#[test]
fn matvec() {
    check_all(Kernel::Matvec, cases);
}

#[test]
fn matmul() {
    check_all(Kernel::Matmul, cases);
}
