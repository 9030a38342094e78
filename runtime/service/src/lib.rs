//! A request's whole path, generic over its host.

pub mod backend;
pub mod encode;
pub mod tools;
