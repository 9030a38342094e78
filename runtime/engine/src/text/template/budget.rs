//! What a rendering may allocate, in bytes, counted as it is spent and never given back.
//!
//! Counting what is made, not what is alive, bounds time and memory at once: a string that is doubled in a loop, a list that is
//! copied in one, and a small value that prints large all end here.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::python::write_str;

/// A list's or map's entry, in bytes.
pub(super) const ENTRY: usize = 32;

/// How deep lists and maps may stand within each other. Comparing, printing and dropping them recurse.
const MAX_DEPTH: usize = 64;

/// About what `context` takes, in bytes.
pub(super) fn size(context: &serde_json::Value) -> usize {
    use serde_json::Value::{Array, Bool, Null, Number, Object, String};
    match context {
        String(text) => text.len() + 8,
        Array(items) => items.iter().map(size).sum::<usize>() + 8,
        Object(entries) => entries.iter().map(|(key, value)| key.len() + size(value)).sum::<usize>() + 8,
        Null | Bool(_) | Number(_) => 8,
    }
}

#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicUsize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Budget {
        Budget { left: AtomicUsize::new(bytes) }
    }

    /// Pays for `bytes` before they are made.
    pub(super) fn spend(&self, bytes: usize) -> Result<(), Error> {
        // One thread renders; the atomic is there because the engine wants its functions `Sync`.
        match self.left.load(Ordering::Relaxed).checked_sub(bytes) {
            Some(left) => {
                self.left.store(left, Ordering::Relaxed);
                Ok(())
            }
            None => {
                self.left.store(0, Ordering::Relaxed);
                Err(Error::new(ErrorKind::OutOfFuel, "the template makes more text than it may"))
            }
        }
    }

    /// Pays for what an operation made.
    pub(super) fn spend_on(&self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::String => self.spend(value.as_str().map_or(0, str::len)),
            ValueKind::Bytes | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
                self.spend(value.len().unwrap_or(0).saturating_mul(ENTRY))?;
                self.visit(value)
            }
            _ => self.spend(1),
        }
    }

    /// Pays for a list of what `value` holds, before it is made: of a text a value for each character.
    pub(super) fn spend_on_items(&self, value: &Value) -> Result<(), Error> {
        match value.as_str() {
            Some(text) => self.spend(text.len().saturating_mul(ENTRY)),
            None => match (value.len(), value.kind()) {
                (Some(len), _) => self.spend(len.saturating_mul(ENTRY)),
                (None, ValueKind::Iterable) => value.try_iter()?.try_for_each(|_| self.spend(ENTRY)),
                (None, _) => Ok(()),
            },
        }
    }

    /// Pays for visiting every part of `value`, so that what follows may compare or print it. Refuses what is nested too deeply.
    pub(super) fn visit(&self, value: &Value) -> Result<(), Error> {
        self.walk(value, 0, true)
    }

    /// [`Budget::visit`], and refuses namespaces: one that held itself could not be visited.
    pub(super) fn visit_for_namespace(&self, value: &Value) -> Result<(), Error> {
        self.walk(value, 0, false)
    }

    fn walk(&self, value: &Value, depth: usize, namespaces: bool) -> Result<(), Error> {
        let kind = value.kind();
        if !matches!(kind, ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Plain) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, format!("lists and maps are nested more than {MAX_DEPTH} deep")));
        }
        let Some(object) = value.as_object() else { return Ok(()) };
        if !namespaces && object.type_name().ends_with("Namespace") {
            return Err(Error::new(ErrorKind::InvalidOperation, "a namespace cannot be held by a namespace"));
        }
        match kind {
            ValueKind::Map => {
                for (key, value) in object.try_iter_pairs().into_iter().flatten() {
                    self.spend(1)?;
                    self.walk(&key, depth + 1, namespaces)?;
                    self.walk(&value, depth + 1, namespaces)?;
                }
            }
            ValueKind::Plain => {}
            _ => {
                for item in object.try_iter().into_iter().flatten() {
                    self.spend(1)?;
                    self.walk(&item, depth + 1, namespaces)?;
                }
            }
        }
        Ok(())
    }

    /// `value` as Python's `str` writes it, paid for as it is written.
    pub(super) fn print(&self, value: &Value) -> Result<String, Error> {
        self.visit(value)?;
        let mut text = String::new();
        write_str(self, value, &mut text)?;
        Ok(text)
    }

    /// `value` as it displays itself.
    pub(super) fn display(&self, value: &Value, out: &mut String) -> Result<(), Error> {
        let mut writer = Writer { budget: self, text: std::mem::take(out) };
        let written = write!(writer, "{value}");
        *out = writer.text;
        written.map_err(|_| self.spend(usize::MAX).err().unwrap_or_else(|| Error::from(ErrorKind::OutOfFuel)))
    }
}

struct Writer<'a> {
    budget: &'a Budget,
    text: String,
}

impl fmt::Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.budget.spend(text.len()).map_err(|_| fmt::Error)?;
        self.text.push_str(text);
        Ok(())
    }
}
