//! The `firecrest` command.
fn main() {}
