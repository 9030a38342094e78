//! Threads for what takes long on the path of a request: so few that models keep the rest of the machine.
//!
//! They are threads of our own, not a runtime's: a process ends though they still work, and their stacks are large, for what recurses by what callers send.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use firecrest_service::aside::{Full, Task};

/// Bytes of a thread's stack. Only what is used of it takes memory.
const STACK: usize = 32 << 20;

/// Works that wait, of one key and of all. Each holds a body.
const WAITING_OF_A_KEY: usize = 256;
const WAITING: usize = 1024;

/// A thread that has nothing to do for so long gives memory back, and ends.
const IDLE: Duration = Duration::from_secs(2);

/// Hands work to other threads. Clones share them; with the last of them they end.
#[derive(Clone)]
pub(super) struct Offload(Rc<Owner>);

struct Owner(Arc<Pool>);

struct Pool {
    state: Mutex<State>,
    /// There is something to do, or nothing more will be.
    changed: Condvar,
    /// Works at once, without those that are overdue.
    most: usize,
    /// Of these, those of one key, overdue or not: so there is always a thread for others.
    most_of_a_key: usize,
    /// Callers no longer wait for a work that runs for longer.
    limit: Duration,
}

#[derive(Default)]
struct State {
    waiting: HashMap<Arc<str>, VecDeque<Task>>,
    /// Keys that wait, in the order in which they have their turns.
    turns: VecDeque<Arc<str>>,
    /// Works under way, and when each was begun.
    running: Vec<(u64, Arc<str>, Instant)>,
    /// Works that were begun.
    begun: u64,
    threads: usize,
    idle: usize,
    /// Work was done since memory was given back.
    worked: bool,
    closed: bool,
}

impl Offload {
    /// Half of the processors work for one key, at most 8, and there is one more for others. A work that runs for longer than `limit` keeps its thread, and
    /// another takes that one's place.
    pub(super) fn new(limit: Duration) -> Offload {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Offload::with((processors / 2).clamp(1, 8), limit)
    }

    fn with(most_of_a_key: usize, limit: Duration) -> Offload {
        let pool = Pool { state: Mutex::default(), changed: Condvar::new(), most: most_of_a_key + 1, most_of_a_key, limit };
        Offload(Rc::new(Owner(Arc::new(pool))))
    }

    /// Does work of this key there, when it is its turn.
    ///
    /// # Errors
    /// Too much waits.
    pub(super) fn run(&self, key: &str, work: Task) -> Result<(), Full> {
        let pool = &self.0.0;
        let mut state = pool.state();
        let all: usize = state.waiting.values().map(VecDeque::len).sum();
        let own = state.waiting.get(key).map_or(0, VecDeque::len);
        if all >= WAITING || own >= WAITING_OF_A_KEY {
            return Err(Full);
        }
        let key: Arc<str> = key.into();
        if own == 0 {
            state.turns.push_back(Arc::clone(&key));
        }
        state.waiting.entry(key).or_default().push_back(work);
        pool.staff(&mut state);
        drop(state);
        pool.changed.notify_one();
        Ok(())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        let undone = std::mem::take(&mut state.waiting);
        drop(state);
        self.0.changed.notify_all();
        drop(undone);
    }
}

impl State {
    fn running_of(&self, key: &str) -> usize {
        self.running.iter().filter(|(_, of, _)| **of == *key).count()
    }

    /// The next work: of the key that has the fewest under way, and of these the one that had its turn longest ago.
    fn take(&mut self, pool: &Pool) -> Option<(Arc<str>, Task)> {
        let on_time = self.running.iter().filter(|(_, _, since)| since.elapsed() <= pool.limit).count();
        if on_time >= pool.most {
            return None;
        }
        let turns = self.turns.iter().enumerate().map(|(at, key)| (self.running_of(key), at));
        let (_, at) = turns.filter(|(running, _)| *running < pool.most_of_a_key).min()?;
        let key = self.turns.remove(at)?;
        let works = self.waiting.get_mut(&key)?;
        let work = works.pop_front()?;
        if works.is_empty() {
            self.waiting.remove(&key);
        } else {
            self.turns.push_back(Arc::clone(&key));
        }
        Some((key, work))
    }
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that a thread is there for what waits. Those whose work is overdue are not counted, but there are not more than as many again.
    fn staff(self: &Arc<Pool>, state: &mut State) {
        if state.idle > 0 || state.threads >= 2 * self.most || state.closed {
            return;
        }
        let pool = Arc::clone(self);
        let thread = std::thread::Builder::new().name("aside".to_owned()).stack_size(STACK);
        match thread.spawn(move || pool.work()) {
            Ok(_) => {
                state.threads += 1;
                state.idle += 1;
            }
            // What waits is done when another thread is free.
            Err(error) => tracing::warn!(%error, "no thread for long work"),
        }
    }

    /// What a thread does.
    fn work(self: Arc<Pool>) {
        let mut state = self.state();
        let mut idle_since = Instant::now();
        while !state.closed {
            if let Some((key, work)) = state.take(&self) {
                state.begun += 1;
                let number = state.begun;
                state.running.push((number, key, Instant::now()));
                state.idle -= 1;
                // Another one waits, and looks now and then whether this one is overdue.
                if !state.waiting.is_empty() {
                    self.staff(&mut state);
                }
                drop(state);
                // Work that panics says so to whoever waits for it, by never being done.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                state = self.state();
                state.running.retain(|(other, _, _)| *other != number);
                state.idle += 1;
                state.worked = true;
                idle_since = Instant::now();
                // A key that had as many as it may can go on.
                self.changed.notify_one();
                continue;
            }
            if idle_since.elapsed() >= IDLE && state.waiting.is_empty() {
                let worked = std::mem::take(&mut state.worked);
                state.idle -= 1;
                state.threads -= 1;
                drop(state);
                if worked {
                    give_memory_back();
                }
                return;
            }
            let wait = self.changed.wait_timeout(state, IDLE / 2);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.idle -= 1;
        state.threads -= 1;
    }
}

/// Gives the system back what is free. glibc keeps what a thread freed below what it still holds, and bodies are read on many threads: after one of 32 MB of small
/// JSON values, 3.1 GB of 3.5 stayed resident.
fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes a number, touches nothing of ours, and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Longer than any of these tests takes.
    const FUSE: Duration = Duration::from_secs(60);

    /// A work that says its name when it begins, and ends when it is told to.
    fn held(pool: &Offload, key: &str, name: &'static str, told: &Sender<&'static str>) -> Sender<()> {
        let (end, ends): (Sender<()>, Receiver<()>) = channel();
        let told = told.clone();
        let work = move || {
            let _ = told.send(name);
            let _ = ends.recv_timeout(FUSE);
        };
        pool.run(key, Box::new(work)).expect("room");
        end
    }

    #[test]
    fn one_keys_backlog_holds_up_no_other() {
        let pool = Offload::with(1, FUSE);
        let (told, begun) = channel();
        let first = held(&pool, "a", "a1", &told);
        assert_eq!(begun.recv_timeout(FUSE), Ok("a1"));
        let backlog: Vec<_> = (0..100).map(|_| held(&pool, "a", "a", &told)).collect();
        let other = held(&pool, "b", "b1", &told);
        // A hundred wait, and the other key's is begun at once.
        assert_eq!(begun.recv_timeout(FUSE), Ok("b1"));
        // Of two that wait the key goes first that has nothing under way.
        let third = held(&pool, "c", "c1", &told);
        drop(other);
        assert_eq!(begun.recv_timeout(FUSE), Ok("c1"));
        drop((first, third, backlog));
        assert_eq!(begun.recv_timeout(FUSE), Ok("a"));
    }

    #[test]
    fn what_is_overdue_keeps_its_thread_and_its_key_waits() {
        let pool = Offload::with(1, Duration::ZERO);
        let (told, begun) = channel();
        let _first = held(&pool, "a", "a1", &told);
        let _second = held(&pool, "b", "b1", &told);
        let both = [begun.recv_timeout(FUSE), begun.recv_timeout(FUSE)];
        assert!(both.contains(&Ok("a1")) && both.contains(&Ok("b1")), "{both:?}");
        // Both threads are lost for now. Others have new ones, and those two keys have what they may.
        let _waits = held(&pool, "a", "a2", &told);
        let third = held(&pool, "c", "c1", &told);
        assert_eq!(begun.recv_timeout(FUSE), Ok("c1"));
        drop(third);
        assert_eq!(begun.recv_timeout(Duration::from_millis(50)).ok(), None);
    }

    #[test]
    fn what_waits_is_bounded_by_key_and_in_all() {
        let pool = Offload::with(1, FUSE);
        let (told, begun) = channel();
        let _first = held(&pool, "a", "a", &told);
        begun.recv_timeout(FUSE).expect("it is begun");
        let fill = |key: &str| (0..2 * WAITING).take_while(|_| pool.run(key, Box::new(|| ())).is_ok()).count();
        assert_eq!(fill("a"), WAITING_OF_A_KEY);
        assert!(fill("b") > 0, "another key has room");
    }

    #[test]
    fn a_panic_loses_only_its_own_work() {
        let pool = Offload::with(1, FUSE);
        let (told, begun) = channel();
        for _ in 0..20 {
            pool.run("a", Box::new(|| panic!("as it should"))).expect("room");
        }
        let _last = held(&pool, "a", "last", &told);
        assert_eq!(begun.recv_timeout(FUSE), Ok("last"));
    }

    #[test]
    fn work_may_recurse_deeply_and_ends_with_its_owner() {
        fn deep(levels: usize) -> usize {
            let room = std::hint::black_box([levels; 128]);
            if levels == 0 { 0 } else { deep(levels - 1) + room.len() / 128 }
        }
        let pool = Offload::with(1, FUSE);
        let (told, result) = channel();
        pool.run("a", Box::new(move || told.send(deep(10_000)).expect("it is waited for"))).expect("room");
        assert_eq!(result.recv_timeout(FUSE), Ok(10_000));
        let inner = Arc::downgrade(&pool.0.0);
        drop(pool);
        let since = Instant::now();
        while inner.strong_count() > 0 && since.elapsed() < FUSE {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(inner.strong_count(), 0, "no thread is left");
    }
}
