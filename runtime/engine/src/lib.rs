//! From a model file to tokens.
//!
//! Modules stand in the order a request travels: a [`mod@file`] is opened and its blocks understood ([`quant`]), [`text`]
//! becomes token ids, [`sequence`]s are gathered into a [`batch`] over pages of the [`kv`] cache, the [`model`] says what
//! a step computes (a plan), a [`backend`] lowers and runs it, [`sampling`] picks the next token, among those that a [`grammar`] allows, and the [`engine`] ties
//! them together. Nothing here reads a clock, opens a file, or knows HTTP or JavaScript; the only threads are those of the CPU
//! backend's pool.

pub mod backend;
pub mod batch;
pub mod engine;
pub mod error;
pub mod file;
pub mod grammar;
pub mod kv;
pub mod model;
pub mod quant;
pub mod sampling;
pub mod sequence;
pub mod text;

use std::sync::Arc;
use std::time::Duration;

/// A monotonic clock that the host lends: time since whenever it likes.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

pub use error::{Error, ErrorCode, Result};
pub use firecrest_shaders::Format;
