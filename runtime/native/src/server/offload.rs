//! Threads for what takes long on the path of a request: so few that models keep the rest of the machine.

use std::rc::Rc;
use std::sync::Arc;

use firecrest_service::aside::Task;
use tokio::sync::Semaphore;

/// Hands work to other threads. Clones share them.
#[derive(Clone)]
pub(super) struct Offload(Rc<dyn Fn(Task)>);

impl Offload {
    /// Half of the processors, at most 8: one who sends long texts keeps others who do waiting, and not those who don't.
    pub(super) fn new() -> Offload {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let turns = Arc::new(Semaphore::new((processors / 2).clamp(1, 8)));
        Offload(Rc::new(move |work| {
            let turns = Arc::clone(&turns);
            tokio::task::spawn_local(async move {
                let Ok(_turn) = turns.acquire().await else { return };
                // Task that panics says so to whoever waits for it, by never being done.
                let _ = tokio::task::spawn_blocking(work).await;
            });
        }))
    }

    /// Does it there.
    pub(super) fn run(&self, work: Task) {
        (self.0)(work);
    }
}
