//! Within a class a row's bits depend on nothing but the row: not on how many rows there are, which size of the kernel runs
//! them, or how a prompt is cut into tiles.

use firecrest_shaders::params::{Tile, epilogue, prologue};
use firecrest_shaders::reference::{AttendCase, Case, MatrixCase};
use firecrest_shaders::{Format, Kernel, Rung, variants};
use firecrest_tests::kernel_runner::{Runner, runners};

const RUNGS: [Rung; 5] = [Rung::Plain, Rung::Subgroup, Rung::F16, Rung::IntDot, Rung::IntDotSubgroup];

/// Formats whose chunks are summed in different ways; all of them with `--full`.
fn formats() -> Vec<Format> {
    if firecrest_tests::full() { Format::ALL.to_vec() } else { vec![Format::F16, Format::Q4K, Format::Q6K] }
}

/// What the case's last read-write binding holds after it.
fn output(runner: &mut Runner, case: &Case) -> Vec<u32> {
    runner.run(case).pop().expect("a kernel writes something").1
}

fn matrix_rows_keep_their_bits(kernel: Kernel, rows: u32) {
    for mut runner in runners("invariance") {
        let mut compared = 0;
        for (format, rung) in formats().into_iter().flat_map(|f| RUNGS.map(|r| (f, r))) {
            let sizes: Vec<_> = variants(kernel, Some(format), rung).filter(|v| runner.caps.meets(v.needs)).collect();
            let Some(first) = sizes.first() else { continue };
            let prologue = if kernel == Kernel::Matvec { prologue::RMS } else { prologue::NONE };
            let epilogues = if firecrest_tests::full() { vec![epilogue::STORE, epilogue::GATED] } else { vec![epilogue::GATED] };
            for epilogue in epilogues {
                let shape = MatrixCase { prologue, epilogue, ..MatrixCase::product(768, 40, rows) };
                let whole = shape.case(first);
                let wanted = output(&mut runner, &whole);
                assert_ne!(wanted, *whole.buffers.last().expect("y"), "the kernel wrote nothing");
                let stride = whole.buffers[0][5] as usize;
                for variant in &sizes {
                    assert_eq!(output(&mut runner, &whole.by(variant)), wanted, "{} on {}", variant.name, runner.name);
                    for row in [0, rows / 2, rows - 1] {
                        let alone = output(&mut runner, &whole.by(variant).rows(row, 1));
                        let line = row as usize * stride..(row as usize + 1) * stride;
                        assert_eq!(alone[line.clone()], wanted[line], "row {row} alone: {} on {}", variant.name, runner.name);
                        compared += 1;
                    }
                }
            }
        }
        println!("{}: {compared} rows alone and among {rows} on {}: the same bits", kernel.name(), runner.name);
    }
}

#[test]
fn a_generated_row_keeps_its_bits() {
    matrix_rows_keep_their_bits(Kernel::Matvec, 11);
}

#[test]
fn a_prompt_row_keeps_its_bits() {
    matrix_rows_keep_their_bits(Kernel::Matmul, 70);
}

/// Shuffles are the first levels of the tree that workgroup memory walks: the rungs agree bit for bit, at every width.
#[test]
fn subgroups_change_no_bit() {
    for mut runner in runners("invariance") {
        let widest = runner.caps.min_subgroup;
        for (plain, with) in [(Rung::Plain, Rung::Subgroup), (Rung::IntDot, Rung::IntDotSubgroup)] {
            for format in formats() {
                let Some(plain) = variants(Kernel::Matvec, Some(format), plain).next() else { continue };
                let Some(with) = variants(Kernel::Matvec, Some(format), with).find(|v| runner.caps.meets(v.needs)) else { continue };
                let case = MatrixCase { prologue: prologue::RMS, ..MatrixCase::product(768, 40, 1) }.case(plain);
                let wanted = output(&mut runner, &case);
                for width in [4u32, 8, 16].into_iter().filter(|&w| w <= widest) {
                    let mut other = case.by(with);
                    other.overrides.push(("SHUFFLE_WIDTH", f64::from(width)));
                    assert_eq!(output(&mut runner, &other), wanted, "{} width {width} on {}", with.name, runner.name);
                }
            }
        }
    }
}

#[test]
fn a_row_attends_alike_alone() {
    let shape =
        AttendCase { heads: 4, kv_heads: 2, head_dim: 64, window: 0, causal: true, softcap: 0.0, lengths: [40, 300], rows: [7, 40] };
    for mut runner in runners("invariance") {
        for window in [0, 37] {
            let shape = AttendCase { window, ..shape };
            for rung in [Rung::Plain, Rung::Subgroup] {
                for variant in variants(Kernel::AttendSplit, None, rung).filter(|v| runner.caps.meets(v.needs)).collect::<Vec<_>>() {
                    let whole = shape.case(variant);
                    let wanted = output(&mut runner, &whole);
                    let width = wanted.len() / 47;
                    for row in [0, 6, 7, 46] {
                        let alone = output(&mut runner, &whole.rows(1 + row as u32, 1));
                        assert_eq!(
                            alone[..width],
                            wanted[row * width..(row + 1) * width],
                            "row {row}: {} on {}",
                            variant.name,
                            runner.name
                        );
                    }
                }
            }
            for variant in variants(Kernel::AttendPrompt, None, Rung::Plain).collect::<Vec<_>>() {
                let whole = shape.case(variant);
                let wanted = output(&mut runner, &whole);
                // The second sequence's 40 rows cut otherwise: alone, or in tiles of 3 and 17 and the rest.
                for cuts in [vec![1; 40], vec![3, 17, 20]] {
                    let mut tiles = vec![Tile { first_row: 1, rows: 7 }];
                    for rows in cuts {
                        let first_row = tiles.last().map_or(1, |t| t.first_row + t.rows);
                        tiles.push(Tile { first_row, rows });
                    }
                    let mut cut = whole.clone();
                    cut.buffers[3] = tiles.iter().flat_map(|t| [t.first_row, t.rows]).collect();
                    let cut = cut.rows(0, tiles.len() as u32);
                    assert!(output(&mut runner, &cut) == wanted, "{} tiles: {} on {}", tiles.len(), variant.name, runner.name);
                }
            }
        }
    }
}
