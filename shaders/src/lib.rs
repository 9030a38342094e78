//! Firecrest's compute kernels as data.
//!
//! Every kernel is a WGSL file (`wgsl/`), linked, validated, linted and reflected at build into a typed table, and has a
//! plain-loop twin of the same name (`reference/`) that says what it means. This crate knows no GPU API, no model and no
//! token: it hands out text and numbers.

pub mod format;

pub use format::Format;
