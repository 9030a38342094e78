//! Whether this server can answer: what `/readyz` says.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Parts of the server that can't do their work now, by name, and why. The reasons are for the log: they may name files.
#[derive(Default)]
pub(super) struct Readiness(Mutex<BTreeMap<String, String>>);

impl Readiness {
    /// Notes that a part does its work, or why it can't. Logs where that changed.
    pub(super) fn set(&self, part: &str, trouble: Option<String>) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(why) if parts.get(part) != Some(&why) => {
                tracing::error!(part, why, "not ready");
                parts.insert(part.to_owned(), why);
            }
            Some(_) => (),
            None => {
                if parts.remove(part).is_some() {
                    tracing::info!(part, "ready again");
                }
            }
        }
    }

    /// Names of the parts that can't do their work.
    pub(super) fn troubled(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fail_and_recover() {
        let readiness = Readiness::default();
        readiness.set("store", Some("gone".to_owned()));
        readiness.set("model a", Some("broken".to_owned()));
        assert_eq!(readiness.troubled(), ["model a", "store"]);
        readiness.set("store", None);
        readiness.set("store", None);
        assert_eq!(readiness.troubled(), ["model a"]);
    }
}
