use firecrest_shaders::reference::{AttendCase, Case};
use firecrest_shaders::{Kernel, Variant};
use firecrest_tests::kernel_runner::check_all;

fn cases(variant: &'static Variant) -> Vec<Case> {
    let base = AttendCase { heads: 4, kv_heads: 2, head_dim: 64, window: 0, causal: true, softcap: 0.0, lengths: [1, 20], rows: [1, 3] };
    let mut cases = vec![base.case(variant)];
    // Lengths at the borders of pages, key blocks and splits.
    for lengths in [[16, 17], [32, 33], [127, 128], [129, 300]] {
        let rows = lengths.map(|l| l.min(40));
        cases.push(AttendCase { lengths, rows, ..base }.case(variant));
    }
    // Group sizes, one of them more than a workgroup takes.
    for (heads, kv_heads) in [(1, 1), (3, 3), (6, 2), (5, 1), (8, 1)] {
        cases.push(AttendCase { heads, kv_heads, lengths: [40, 150], ..base }.case(variant));
    }
    // Widths: less than a load's worth of lanes, no power of two, padded pages, the widest.
    for head_dim in [2, 8, 20, 80, 96, 100, 128, 256].into_iter().filter(|&d| d <= variant.head_dim()) {
        cases.push(AttendCase { head_dim, lengths: [70, 135], ..base }.case(variant));
    }
    // Windows whose begin falls within a page, a block, a split; let-go pages lie before it.
    for window in [1, 8, 16, 33, 130] {
        cases.push(AttendCase { window, lengths: [50, 290], rows: [50, 35], ..base }.case(variant));
    }
    cases.push(AttendCase { softcap: 2.0, lengths: [60, 200], ..base }.case(variant));
    // Encoders see what comes after.
    cases.push(AttendCase { causal: false, lengths: [45, 131], rows: [45, 131], ..base }.case(variant));
    cases
}

#[test]
fn attend_split() {
    check_all(Kernel::AttendSplit, cases);
}

#[test]
fn attend_reduce() {
    check_all(Kernel::AttendReduce, cases);
}

#[test]
fn attend_prompt() {
    check_all(Kernel::AttendPrompt, cases);
}
