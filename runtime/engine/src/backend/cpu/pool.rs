//! The worker pool: one parallel region a step, with a barrier between kernel calls.
//!
//! A step of a small model is some hundred kernel calls of ten to a hundred microseconds, too short for a fork and join each.
//! So all workers walk the whole program and meet at a [`Barrier`] after each call. Waiting spins for a while, since the others
//! are about to arrive, and then parks, so that a machine with fewer free cores than workers makes progress.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::{Error, ErrorCode, Result};

/// Rounds of waiting before a worker parks: some 20 µs.
const SPINS: usize = 4_000;

/// Locks, whatever happened to others: what these locks protect is always consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that others wait on until it changes.
#[derive(Default)]
struct Turnstile {
    turn: AtomicUsize,
    parked: Mutex<usize>,
    changed: Condvar,
}

impl Turnstile {
    fn turn(&self) -> usize {
        self.turn.load(Ordering::Acquire)
    }

    /// Moves on and wakes who is parked.
    fn advance(&self) {
        self.turn.fetch_add(1, Ordering::Release);
        // Taking the lock after the change: a waiter has either seen the change, or is counted here and gets the notice.
        if *lock(&self.parked) > 0 {
            self.changed.notify_all();
        }
    }

    /// Waits until the turn is no longer `seen`.
    fn wait(&self, seen: usize) {
        for _ in 0..SPINS {
            if self.turn() != seen {
                return;
            }
            std::hint::spin_loop();
        }
        let mut parked = lock(&self.parked);
        *parked += 1;
        while self.turn() == seen {
            parked = self.changed.wait(parked).unwrap_or_else(PoisonError::into_inner);
        }
        *parked -= 1;
    }
}

/// Where a fixed number of workers meet.
pub(super) struct Barrier {
    workers: usize,
    arrived: AtomicUsize,
    turnstile: Turnstile,
}

impl Barrier {
    fn new(workers: usize) -> Barrier {
        Barrier { workers, arrived: AtomicUsize::new(0), turnstile: Turnstile::default() }
    }

    /// Returns when all workers have called it. What any wrote before, all see after.
    pub(super) fn wait(&self) {
        if self.workers == 1 {
            return;
        }
        let turn = self.turnstile.turn();
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.workers {
            self.arrived.store(0, Ordering::Relaxed);
            self.turnstile.advance();
        } else {
            self.turnstile.wait(turn);
        }
    }
}

/// A region as workers see it: what to call with a worker's index and where workers meet.
type Body = dyn Fn(usize, &Barrier) + Sync;

/// What the pool and its threads share.
struct Shared {
    /// The region, valid while its turn lasts; `None` asks threads to end.
    body: Mutex<Option<*const Body>>,
    start: Turnstile,
    barrier: Barrier,
}

// SAFETY: the pointer in `body` is dereferenced only between the start of a region and its last barrier, while `Pool::run`
// holds the borrow it was made from; everything else is Send and Sync by itself.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// A fixed set of workers; the caller of [`Pool::run`] is worker 0.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `workers`, at least one; one needs no thread.
    pub(super) fn new(workers: usize) -> Result<Pool> {
        let workers = if cfg!(target_arch = "wasm32") { 1 } else { workers.max(1) };
        let shared = Arc::new(Shared { body: Mutex::new(None), start: Turnstile::default(), barrier: Barrier::new(workers) });
        let mut pool = Pool { shared, threads: Vec::new() };
        for worker in 1..workers {
            let shared = pool.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("firecrest-cpu-{worker}"))
                .spawn(move || work(&shared, worker))
                .map_err(|e| Error::new(ErrorCode::Device, format!("cannot start CPU worker {worker} of {workers}")).with_source(e));
            match thread {
                Ok(thread) => pool.threads.push(thread),
                Err(e) => return Err(e),
            }
        }
        Ok(pool)
    }

    /// How many workers walk a region.
    pub(super) fn workers(&self) -> usize {
        self.shared.barrier.workers
    }

    /// Calls `body` once on every worker, with its index and the barrier, and returns when all are done.
    /// A panic in it ends the process: the other workers would wait for ever.
    pub(super) fn run(&mut self, body: &(dyn Fn(usize, &Barrier) + Sync)) {
        if self.workers() == 1 {
            return body(0, &self.shared.barrier);
        }
        let body: *const (dyn Fn(usize, &Barrier) + Sync + '_) = body;
        // SAFETY: only the lifetime changes; `run` returns after the barrier that every worker reaches when done with it.
        let erased = unsafe { std::mem::transmute::<*const (dyn Fn(usize, &Barrier) + Sync + '_), *const Body>(body) };
        *lock(&self.shared.body) = Some(erased);
        self.shared.start.advance();
        // SAFETY: the borrow of `body` is alive until this function returns.
        call_or_abort(unsafe { &*body }, 0, &self.shared.barrier);
        self.shared.barrier.wait();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        *lock(&self.shared.body) = None;
        self.shared.start.advance();
        for thread in self.threads.drain(..) {
            // A worker never panics: it aborts.
            let _ = thread.join();
        }
    }
}

/// A worker thread's life.
fn work(shared: &Shared, worker: usize) {
    let mut turn = 0;
    loop {
        shared.start.wait(turn);
        turn = turn.wrapping_add(1);
        let Some(body) = *lock(&shared.body) else { return };
        // SAFETY: `Pool::run` keeps the region's closure alive until the barrier below.
        call_or_abort(unsafe { &*body }, worker, &shared.barrier);
        shared.barrier.wait();
    }
}

fn call_or_abort(body: &(dyn Fn(usize, &Barrier) + Sync), worker: usize, barrier: &Barrier) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(worker, barrier))).is_err() {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn every_worker_sees_what_all_wrote_before_the_barrier() {
        for workers in [1, 2, 3, 5] {
            let mut pool = Pool::new(workers).expect("threads");
            for _ in 0..50 {
                let cells: Vec<AtomicU32> = (0..workers).map(|_| AtomicU32::new(0)).collect();
                pool.run(&|worker, barrier| {
                    for round in 1..=20 {
                        cells[worker].store(round, Ordering::Relaxed);
                        barrier.wait();
                        assert!(cells.iter().all(|cell| cell.load(Ordering::Relaxed) == round));
                        barrier.wait();
                    }
                });
            }
        }
    }
}
