//! Writes the states of limits, on a thread and a connection of its own: nothing that is served waits for a disk.
//!
//! What was written is on the disk: a power cut may lose what changed in the last second, and no more.

use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{TransactionBehavior, params};
use tokio::sync::oneshot;

use super::{Store, StoreError, now};

/// The writing end. Dropped, it waits until what it was given is written.
pub(in crate::server) struct Journal {
    batches: Option<mpsc::Sender<Batch>>,
    thread: Option<JoinHandle<()>>,
}

/// States of limits by key, to be written in one commit.
struct Batch {
    states: Vec<(String, String)>,
    written: oneshot::Sender<Result<Duration, StoreError>>,
}

impl Journal {
    pub(super) fn start(mut store: Store) -> Result<Journal, StoreError> {
        // What is to be written waits in memory, and locks out no reader before it is committed.
        store.connection.pragma_update(None, "cache_spill", 0)?;
        let (batches, given) = mpsc::channel::<Batch>();
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            for Batch { states, written } in given {
                let since = Instant::now();
                let outcome = write(&mut store, &states).map(|()| since.elapsed());
                if outcome.is_err() {
                    store.forget();
                }
                let _ = written.send(outcome);
            }
        });
        let thread = thread.map_err(|e| StoreError::new(format!("no thread for the key store: {e}")))?;
        Ok(Journal { batches: Some(batches), thread: Some(thread) })
    }

    /// Writes states of limits in one commit. How long it took.
    ///
    /// # Errors
    /// The store's; then none is written.
    pub(in crate::server) async fn write(&self, states: impl Iterator<Item = (Rc<str>, String)>) -> Result<Duration, StoreError> {
        let (written, outcome) = oneshot::channel();
        let batch = Batch { states: states.map(|(key, state)| (key.as_ref().to_owned(), state)).collect(), written };
        let ended = || StoreError::new("the thread that writes limits has ended");
        self.batches.as_ref().and_then(|batches| batches.send(batch).ok()).ok_or_else(ended)?;
        outcome.await.map_err(|_| ended())?
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.batches.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(store: &mut Store, states: &[(String, String)]) -> Result<(), StoreError> {
    store.ready()?;
    // It will write: no other process's commit shall come between.
    let transaction = store.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut statement = transaction.prepare_cached("insert or replace into accounts (key, state, changed) values (?, ?, ?)")?;
        for (key, state) in states {
            statement.execute(params![key, state, now() as i64])?;
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_written_is_read_by_the_store() {
        let folder = std::env::temp_dir().join(format!("firecrest-journal-{}", std::process::id()));
        let store = Store::open(&folder.join("store.sqlite")).expect("a store");
        let journal = store.journal().expect("a thread").expect("a file");
        let states = |of: &[(&str, &str)]| of.iter().map(|(key, state)| (Rc::from(*key), (*state).to_owned())).collect::<Vec<_>>();
        journal.write(states(&[("a", "1"), ("b", "2")]).into_iter()).await.expect("written");
        journal.write(states(&[("a", "3")]).into_iter()).await.expect("written");
        assert_eq!(store.account("a").expect("read").as_deref(), Some("3"));
        assert_eq!(store.account("b").expect("read").as_deref(), Some("2"));
        assert_eq!(store.account("c").expect("read"), None);
        drop(journal);
        assert!(Store::in_memory().expect("a store").journal().expect("nothing to fail").is_none());
        drop(store);
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
