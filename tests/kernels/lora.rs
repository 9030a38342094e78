use firecrest_shaders::params::prologue;
use firecrest_shaders::reference::{Case, LoraCase};
use firecrest_shaders::{Kernel, Variant};
use firecrest_tests::kernel_runner::check_all;

fn cases(variant: &'static Variant) -> Vec<Case> {
    let base = LoraCase {
        columns: 172,
        parts: [37, 0, 0],
        ranks: &[[8, 0, 0]],
        rows: 5,
        first_row: 0,
        gather: false,
        gather_x: false,
        prologue: prologue::NONE,
    };
    let mut cases = vec![base.case(variant)];
    // Widths that end within a vec4, at one, and after several rounds of a workgroup.
    for columns in [1, 2, 3, 4, 511, 512, 513, 1030] {
        cases.push(LoraCase { columns, rows: 2, ..base }.case(variant));
    }
    // Ranks that fill no workgroup, one, and many; several adapters of different ranks and of none.
    for ranks in [&[[1, 0, 0]], &[[7, 0, 0]], &[[16, 0, 0]], &[[64, 0, 0]]] as [&'static [[u32; 3]]; 4] {
        cases.push(LoraCase { ranks, ..base }.case(variant));
    }
    let mixed =
        LoraCase { columns: 130, parts: [64, 32, 33], ranks: &[[8, 8, 8], [1, 0, 64], [0, 0, 0], [0, 7, 0], [16, 3, 5]], rows: 13, ..base };
    for prologue in [prologue::NONE, prologue::RMS] {
        cases.push(LoraCase { prologue, ..mixed }.case(variant));
        cases.push(LoraCase { prologue, first_row: 3, ..mixed }.case(variant));
        cases.push(LoraCase { prologue, gather: true, gather_x: true, first_row: 1, ..mixed }.case(variant));
        cases.push(LoraCase { prologue, gather: true, rows: 4, ..mixed }.case(variant));
    }
    cases.push(LoraCase { parts: [1, 1, 0], ranks: &[[2, 2, 0]], columns: 5, rows: 1, ..base }.case(variant));
    cases
}

#[test]
fn lora_shrink() {
    check_all(Kernel::LoraShrink, cases);
}

#[test]
fn lora_expand() {
    check_all(Kernel::LoraExpand, cases);
}
