//! `cargo xtask`: setup, test, bench, lint.
fn main() {}
