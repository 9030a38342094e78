//! What a request asks beyond the neutral form, collected as it is read.

use serde_json::Value;

use crate::ask::Beyond;
use crate::leaf::Unknown;
use crate::path::Path;
use crate::values::Values;

/// More than so many of a kind are not listed: the first says enough, and a body must not become a list larger than itself.
const MOST: usize = 64;

/// A list of what is beyond, bounded.
#[derive(Debug, Default)]
pub(super) struct Beyonds {
    list: Vec<Beyond>,
    hints: usize,
    values: Values,
}

impl Beyonds {
    /// This can't be left out without changing the answer.
    pub(super) fn refuse(&mut self, path: impl Into<Path>, why: impl Into<String>) {
        if self.list.len() - self.hints < MOST {
            self.list.push(Beyond { path: path.into(), why: why.into(), hint: false });
        }
    }

    /// The answer is right without this.
    pub(super) fn hint(&mut self, path: impl Into<Path>, why: impl Into<String>) {
        if self.hints < MOST {
            self.hints += 1;
            self.list.push(Beyond { path: path.into(), why: why.into(), hint: true });
        }
    }

    /// [`Beyonds::hint`] where it was said at all.
    pub(super) fn hint_if(&mut self, said: bool, path: &str, why: &str) {
        if said {
            self.hint(path, why);
        }
    }

    /// [`Beyonds::refuse`] where it was said at all.
    pub(super) fn refuse_if(&mut self, said: bool, path: &str, why: &str) {
        if said {
            self.refuse(path, why);
        }
    }

    /// Members that no type names. `null` says nothing.
    pub(super) fn unknown(&mut self, at: &str, members: &Unknown) {
        for (name, value) in members {
            if *value == Value::Null || self.hints >= MOST {
                continue;
            }
            self.hint(Path::from(at).key(name), "this is no parameter that is known here");
        }
    }

    /// Values of texts within the body that are JSON themselves.
    pub(super) fn values(&mut self) -> &mut Values {
        &mut self.values
    }

    /// The list, in the order of the body's reading.
    pub(super) fn into_list(self) -> Vec<Beyond> {
        self.list
    }
}
