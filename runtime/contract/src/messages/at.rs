//! Where in a body something stands, put into words only when it is wrong.

use std::fmt;

use crate::error::ApiError;

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
        ApiError::invalid(self.to_string(), message)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(up) = self.up {
            write!(f, "{up}.")?;
        }
        match self.step {
            Step::Index(index) => write!(f, "{index}"),
            // A caller's own key may be anything: it must not be taken for structure, nor flood a log.
            Step::Key(name) => f.write_str(&crate::error::plain(name)),
        }
    }
}
