//! The API as types.
//!
//! Bodies of every dialect are read without losing anything ([`leaf`]) and become one neutral [`ask::Ask`]; what a backend answers is a
//! sequence of neutral [`event::Event`]s, which become each dialect's responses again. What can go wrong is one [`error::ApiError`].
//! This crate knows no transport, no clock, no engine.

pub mod ask;
pub mod embed;
pub mod error;
pub mod event;
pub mod field_table;
pub mod leaf;
pub mod limits;
pub mod messages;
pub mod moderation;
pub mod names;
pub mod openai;
#[cfg(feature = "schema")]
pub mod openapi;
pub mod path;
#[cfg(feature = "schema")]
pub mod reference;
#[cfg(feature = "schema")]
pub mod schema;
pub mod values;
