//! Firecrest's compute kernels as data.
//!
//! Every kernel is a WGSL file (`wgsl/`), linked, validated, linted and reflected at build into a typed [`TABLE`], and has a
//! plain-loop twin of the same name (`reference/`) that says what it means. This crate knows no GPU API, no model and no
//! token: it hands out text and numbers.
//!
//! To run a kernel: choose a [`Variant`] (kernel, weight [`Format`], [`Rung`], size), make a pipeline of its text with its
//! overrides, bind buffers as [`Kernel`] lists them, fill its struct of [`params`], and dispatch the grid [`Kernel`] states.
//! Weights are uploaded as [`planes`] of their GGML blocks.

pub mod caps;
pub mod format;
pub mod params;
pub mod planes;
pub mod reference;
mod table;

pub use caps::{Caps, Needs, Rung};
pub use format::{Format, KvFormat};
pub use table::{Binding, BindingKind, Kernel, Member, Override, TABLE, Variant, shuffle_width, variants};
