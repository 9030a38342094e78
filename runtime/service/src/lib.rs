//! A request's whole path, generic over its host.
//!
//! [`service::Service`] takes a request's bytes and makes a [`body::Body`]; a [`host::Host`] lends it what differs between a browser, an edge and a
//! native program; a [`backend::Backend`] answers; [`encode`] writes what the gate let pass. Modules stand in the order a request travels.

pub mod host;
pub mod service;

pub mod aside;
pub mod refusal;
mod route;

pub mod backend;
pub mod lease;
#[cfg(feature = "local")]
pub mod local;
#[cfg(feature = "local")]
pub mod prompt;
pub mod scripted;
pub mod threads;
pub mod tools;
mod turns;

mod answer;
pub mod encode;
mod length;

pub mod body;
mod ledger;
pub mod record;

#[cfg(test)]
mod asks;
