//! A request's whole path, generic over its host.

pub mod backend;
pub mod encode;
#[cfg(feature = "local")]
pub mod local;
#[cfg(feature = "local")]
pub mod prompt;
pub mod scripted;
pub mod tools;

#[cfg(test)]
mod asks;
