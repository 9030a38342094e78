//! The cases that the load-time self-check runs hold here too, and every row has some.

use firecrest_shaders::reference::check_cases;
use firecrest_shaders::{Kernel, TABLE};
use firecrest_tests::kernel_runner::check_all;

/// With `--full` only: loading any model on a GPU runs those of the rungs it chooses.
#[test]
fn self_check_cases() {
    if !firecrest_tests::full() {
        return;
    }
    for kernel in Kernel::ALL {
        check_all(kernel, check_cases);
    }
}

#[test]
fn every_kernel_has_rows_and_names_are_unique() {
    for kernel in Kernel::ALL {
        assert!(TABLE.iter().any(|v| v.kernel == kernel), "`{}` has no row", kernel.name());
    }
    for (i, variant) in TABLE.iter().enumerate() {
        assert!(TABLE[..i].iter().all(|other| other.name != variant.name), "two rows are called `{}`", variant.name);
    }
}
