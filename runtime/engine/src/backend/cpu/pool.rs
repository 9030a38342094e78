//! The worker pool: one parallel region a step, with a barrier between kernel calls.
//!
//! A step of a small model is some hundred kernel calls of ten to a hundred microseconds, too short for a fork and join each.
//! So all workers walk the whole program and meet at a [`Barrier`] after each call. Waiting spins for a while, since the others
//! are about to arrive, and then parks, so that a machine with fewer free cores than workers makes progress.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    /// A worker panicked and will not come: whoever waits leaves the region too.
    broken: AtomicBool,
}

/// What workers panic with that leave a region because another did. Only the pool sees it.
struct Broken;

impl Barrier {
    fn new(workers: usize) -> Barrier {
        Barrier { workers, arrived: AtomicUsize::new(0), turnstile: Turnstile::default(), broken: AtomicBool::new(false) }
    }

    /// Returns when all workers have called it. What any wrote before, all see after. Unwinds where one of them panicked.
    pub(super) fn wait(&self) {
        if self.workers == 1 {
            return;
        }
        let turn = self.turnstile.turn();
        // Broken after this, the turn has changed since. Before, nobody is waited for.
        if self.broken.load(Ordering::Acquire) {
            resume_unwind(Box::new(Broken));
        }
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.workers {
            self.arrived.store(0, Ordering::Relaxed);
            self.turnstile.advance();
        } else {
            self.turnstile.wait(turn);
        }
        if self.broken.load(Ordering::Acquire) {
            // Not a panic of its own: nothing is printed.
            resume_unwind(Box::new(Broken));
        }
    }

    /// Lets everybody go who waits here, or is about to.
    fn break_up(&self) {
        self.broken.store(true, Ordering::Release);
        self.turnstile.advance();
    }

    /// As if new. Nobody may be waiting.
    fn mend(&self) {
        self.arrived.store(0, Ordering::Relaxed);
        self.broken.store(false, Ordering::Relaxed);
    }
}

/// A region as workers see it: what to call with a worker's index and where workers meet.
type Body = dyn Fn(usize, &Barrier) + Sync;

/// What the pool and its threads share.
struct Shared {
    /// The region, valid while its turn lasts; `None` asks threads to end.
    body: Mutex<Option<*const Body>>,
    start: Turnstile,
    /// Within a region.
    barrier: Barrier,
    /// Behind a region: never broken.
    end: Barrier,
    /// What a worker panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Shared {
    /// A worker's part of a region. A panic ends the region for all of them.
    fn walk(&self, body: &(dyn Fn(usize, &Barrier) + Sync), worker: usize) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(worker, &self.barrier))) {
            if !panic.is::<Broken>() {
                lock(&self.panic).get_or_insert(panic);
            }
            self.barrier.break_up();
        }
        self.end.wait();
    }
}

// SAFETY: the pointer in `body` is dereferenced only between the start of a region and the barrier at its end, while `Pool::run`
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
        let shared = Arc::new(Shared {
            body: Mutex::new(None),
            start: Turnstile::default(),
            barrier: Barrier::new(workers),
            end: Barrier::new(workers),
            panic: Mutex::default(),
        });
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

    /// Calls `body` once on every worker, with its index and the barrier, and returns when all are done. Where one panics, the others leave `body` at
    /// their next barrier, and the panic goes on here: the pool is as good as before, what `body` was to write is not.
    pub(super) fn run(&mut self, body: &(dyn Fn(usize, &Barrier) + Sync)) {
        if self.workers() == 1 {
            return body(0, &self.shared.barrier);
        }
        let body: *const (dyn Fn(usize, &Barrier) + Sync + '_) = body;
        // SAFETY: only the lifetime changes; `run` returns after the barrier that every worker reaches when done with it.
        let erased = unsafe { std::mem::transmute::<*const (dyn Fn(usize, &Barrier) + Sync + '_), *const Body>(body) };
        *lock(&self.shared.body) = Some(erased);
        self.shared.start.advance();
        // SAFETY: the borrow of `body` is alive until this function returns, which is behind the barrier that every worker comes to.
        self.shared.walk(unsafe { &*body }, 0);
        if let Some(panic) = lock(&self.shared.panic).take() {
            self.shared.barrier.mend();
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        *lock(&self.shared.body) = None;
        self.shared.start.advance();
        for thread in self.threads.drain(..) {
            // What a worker's part panics with is caught.
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
        // SAFETY: `Pool::run` keeps the region's closure alive until all have walked it.
        shared.walk(unsafe { &*body }, worker);
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

    #[test]
    fn a_panic_of_one_worker_ends_the_region_and_not_the_process() {
        for workers in [1, 2, 3, 5] {
            let mut pool = Pool::new(workers).expect("threads");
            for round in 0..50 {
                let (who, when) = (round % workers, round % 7);
                let region = |worker: usize, barrier: &Barrier| {
                    for at in 0..7 {
                        if worker == who && at == when {
                            resume_unwind(Box::new("a test"));
                        }
                        barrier.wait();
                    }
                };
                let panic = catch_unwind(AssertUnwindSafe(|| pool.run(&region))).expect_err("a panic");
                assert_eq!(panic.downcast_ref(), Some(&"a test"), "{workers} workers, worker {who} at {when}");
                let walked = AtomicU32::new(0);
                pool.run(&|_, barrier| {
                    (0..3).for_each(|_| barrier.wait());
                    walked.fetch_add(1, Ordering::Relaxed);
                });
                assert_eq!(walked.load(Ordering::Relaxed), workers as u32);
            }
        }
    }
}
