//! Where in a body something stands, put into words only when it is wrong.

use std::fmt;

use crate::error::ApiError;
use crate::path::Path;

/// A path, each step of which lives in the frame that took it.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    up: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    /// A field of the body.
    pub(super) const fn field(name: &'a str) -> At<'a> {
        At { up: None, step: Step::Key(name) }
    }

    /// A field of what stands here.
    pub(super) const fn key(&'a self, name: &'a str) -> At<'a> {
        At { up: Some(self), step: Step::Key(name) }
    }

    /// An item of what stands here.
    pub(super) const fn index(&'a self, index: usize) -> At<'a> {
        At { up: Some(self), step: Step::Index(index) }
    }

    /// What stands here is wrong.
    pub(super) fn invalid(&self, message: impl fmt::Display) -> ApiError {
        ApiError::invalid(self.path(), message)
    }
    /// As errors say it.
    pub(super) fn path(&self) -> Path {
        let up = self.up.map(At::path).unwrap_or_default();
        match self.step {
            Step::Index(index) => up.index(index),
            Step::Key(name) => up.key(name),
        }
    }
}
