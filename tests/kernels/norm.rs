use firecrest_shaders::Kernel;
use firecrest_shaders::params::{norm_join, norm_kind};
use firecrest_shaders::reference::NormCase;
use firecrest_tests::kernel_runner::check_all;

#[test]
fn norm() {
    check_all(Kernel::Norm, |variant| {
        let mut cases = Vec::new();
        for kind in [norm_kind::RMS, norm_kind::LAYER] {
            for join in [norm_join::STORE, norm_join::NORM_THEN_ADD, norm_join::ADD_THEN_NORM, norm_join::IN_PLACE] {
                for (columns, rows, first_row, gather) in [(64, 3, 0, false), (5, 2, 1, true), (1027, 2, 0, false), (2048, 1, 2, true)] {
                    cases.push(NormCase { columns, rows, first_row, gather, kind, join }.case(variant));
                }
            }
        }
        cases
    });
}
