//! The browser face.
//!
//! [`Firecrest`] loads a model from blobs or byte arrays, takes requests as JSON, and drives the engine by itself: each step ends
//! in a turn of the event loop, so that a worker hears `cancel` between two steps. Events go to one callback.
//!
//! Everything here runs on one thread and is meant for a Web Worker: a step of the CPU backend keeps its thread busy.
#![cfg(target_family = "wasm")]

mod driver;
mod event;
mod firecrest;
mod pace;
mod request;
mod source;

pub use firecrest::Firecrest;
