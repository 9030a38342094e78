//! Requests that come when they come, whether or not those before them are answered: at even distances, and counted from when each was due.
//!
//! One thread keeps the time, and one waits on each connection: no runtime of ours stands between an answer and the clock.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::Answer;

/// A request that is due, or under way.
#[derive(Clone)]
struct Sent {
    request: Arc<[u8]>,
    slice: usize,
    due: Instant,
    sent: Instant,
}

/// One that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Of which stretch of time it was.
    pub(crate) slice: usize,
    /// From when it was due until its answer's last byte.
    pub(crate) from_due: Duration,
    /// From when it was sent.
    pub(crate) from_sent: Duration,
    pub(crate) status: u16,
}

#[derive(Default)]
struct Pool {
    /// Connections that wait for a request; the one that was used last is used first.
    free: Vec<usize>,
    waiting: VecDeque<Sent>,
    under_way: Vec<Option<Sent>>,
    open: usize,
    failed: Option<String>,
}

struct Shared {
    pool: Mutex<Pool>,
    idle: Condvar,
}

impl Shared {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections to one server.
pub(crate) struct Callers {
    shared: Arc<Shared>,
    sockets: Vec<TcpStream>,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

/// The last stretch before a moment is waited for awake: timers come late.
const AWAKE: Duration = Duration::from_micros(80);

impl Callers {
    pub(crate) fn new(address: SocketAddr, count: usize) -> Result<Callers, String> {
        let pool = Pool { under_way: vec![None; count], free: (0..count).collect(), ..Pool::default() };
        let shared = Arc::new(Shared { pool: Mutex::new(pool), idle: Condvar::new() });
        let (mut sockets, mut threads) = (Vec::new(), Vec::new());
        for at in 0..count {
            let socket = TcpStream::connect(address).map_err(|e| format!("{address}: {e}"))?;
            socket.set_nodelay(true).map_err(|e| e.to_string())?;
            let own = socket.try_clone().map_err(|e| e.to_string())?;
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
                let mut samples = Vec::new();
                if let Err(error) = listen(own, at, &shared, &mut samples) {
                    let mut pool = shared.pool();
                    pool.failed.get_or_insert(error);
                    pool.open = 0;
                    shared.idle.notify_all();
                }
                samples
            });
            threads.push(thread.map_err(|e| e.to_string())?);
            sockets.push(socket);
        }
        Ok(Callers { shared, sockets, threads })
    }

    /// Sends requests at a rate for a time, and waits until they are answered, or for `patience`. Whether all were.
    pub(crate) fn slice(
        &mut self,
        slice: usize,
        requests: &[Arc<[u8]>],
        rate: f64,
        time: Duration,
        patience: Duration,
    ) -> Result<bool, String> {
        let began = Instant::now();
        let count = (rate * time.as_secs_f64()) as usize;
        for at in 0..count {
            let due = began + Duration::from_secs_f64(at as f64 / rate);
            wait_until(due);
            let request = Arc::clone(&requests[at % requests.len()]);
            let sent = Sent { request, slice, due, sent: due };
            let mut pool = self.shared.pool();
            if let Some(error) = &pool.failed {
                return Err(error.clone());
            }
            pool.open += 1;
            match pool.free.pop() {
                None => pool.waiting.push_back(sent),
                Some(at) => {
                    pool.under_way[at] = Some(Sent { sent: Instant::now(), ..sent.clone() });
                    drop(pool);
                    // A small request goes into the socket's buffer at once.
                    (&self.sockets[at]).write_all(&sent.request).map_err(|e| format!("sending: {e}"))?;
                }
            }
        }
        let pool = self.shared.pool();
        let (pool, late) =
            self.shared.idle.wait_timeout_while(pool, patience, |pool| pool.open > 0).unwrap_or_else(PoisonError::into_inner);
        match &pool.failed {
            Some(error) => Err(error.clone()),
            None => Ok(!late.timed_out()),
        }
    }

    /// Closes all connections. What was answered on them.
    pub(crate) fn end(self) -> Vec<Sample> {
        for socket in &self.sockets {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    }
}

/// Reads one answer after the other, and sends what waits for a connection.
fn listen(mut socket: TcpStream, at: usize, shared: &Shared, samples: &mut Vec<Sample>) -> Result<(), String> {
    let mut bytes = vec![0; 16 << 10];
    let mut answer = Answer::discarding();
    loop {
        let count = socket.read(&mut bytes).map_err(|e| format!("reading: {e}"))?;
        let now = Instant::now();
        if count == 0 {
            // At the end we close it ourselves, when nothing is under way. A server closes what was idle for long: nobody may be given it.
            let mut pool = shared.pool();
            pool.free.retain(|free| *free != at);
            return match pool.under_way[at] {
                Some(_) => Err("a connection was closed before its answer".to_owned()),
                None => Ok(()),
            };
        }
        answer.push(&bytes[..count])?;
        if !answer.is_over() {
            continue;
        }
        let status = std::mem::replace(&mut answer, Answer::discarding()).status;
        let mut pool = shared.pool();
        let Some(sent) = pool.under_way[at].take() else { return Err("an answer that nobody asked for".to_owned()) };
        samples.push(Sample { slice: sent.slice, from_due: now - sent.due, from_sent: now - sent.sent, status });
        pool.open = pool.open.saturating_sub(1);
        if pool.open == 0 {
            shared.idle.notify_all();
        }
        match pool.waiting.pop_front() {
            None => pool.free.push(at),
            Some(next) => {
                let request = Arc::clone(&next.request);
                pool.under_way[at] = Some(Sent { sent: Instant::now(), ..next });
                drop(pool);
                socket.write_all(&request).map_err(|e| format!("sending: {e}"))?;
            }
        }
    }
}

fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(AWAKE) {
            Some(asleep) if !asleep.is_zero() => std::thread::sleep(asleep),
            _ => std::hint::spin_loop(),
        }
    }
}

/// Milliseconds below which so much of the samples lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Percentiles {
    pub(crate) fn of(times: impl Iterator<Item = Duration>) -> Option<Percentiles> {
        let mut sorted: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| sorted.get(((sorted.len() as f64 * part).ceil() as usize).saturating_sub(1)).copied();
        Some(Percentiles { p50: at(0.5)?, p90: at(0.9)?, p99: at(0.99)?, p999: at(0.999)? })
    }

    pub(crate) fn less(self, other: Percentiles) -> Percentiles {
        Percentiles { p50: self.p50 - other.p50, p90: self.p90 - other.p90, p99: self.p99 - other.p99, p999: self.p999 - other.p999 }
    }

    pub(crate) fn json(self) -> serde_json::Value {
        let round = |ms: f64| (ms * 1e4).round() / 1e4;
        serde_json::json!({ "p50": round(self.p50), "p90": round(self.p90), "p99": round(self.p99), "p99.9": round(self.p999) })
    }

    pub(crate) fn line(self) -> String {
        format!("{:8.3} {:8.3} {:8.3} {:8.3}", self.p50, self.p90, self.p99, self.p999)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let all = Percentiles::of((1..=1000).map(Duration::from_millis)).expect("samples");
        assert_eq!((all.p50, all.p90, all.p99, all.p999), (500.0, 900.0, 990.0, 999.0));
        let one = Percentiles::of([Duration::from_millis(7)].into_iter()).expect("a sample");
        assert_eq!((one.p50, one.p999, one.less(one).p50), (7.0, 7.0, 0.0));
        assert!(Percentiles::of(std::iter::empty()).is_none());
    }
}
