//! Connections: how many there may be, which of them gives way, and when one is of no more use.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Sleep;

use super::config::Config;

/// Connections at most, if the configuration does not say and there are descriptors enough.
const MOST: usize = 8192;

/// Descriptors that are left for files, and for the connections beyond those that are served.
const OTHERS: usize = 64;

/// Connections beyond those that are served. They are told that there is no room, and `/healthz` answers them.
const SPARE: usize = 16;

/// How long a connection on which more was sent than read is kept, so that the answer to it is not lost.
const LINGER: Duration = Duration::from_secs(2);

/// All connections.
///
/// An address may have as many as are left free, if the configuration says nothing else: so one alone has half of all. The oldest that waits for its caller
/// (idle, or in the middle of a head or a body) gives way to a new one; one that is answered never does.
pub(super) struct Connections {
    most: usize,
    of_an_address: usize,
    proxies: Vec<IpAddr>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    seats: HashMap<u64, Taken>,
    by_address: HashMap<IpAddr, usize>,
    /// Those that wait for their callers, by when they began to.
    waiting: BTreeSet<(u64, u64)>,
}

struct Taken {
    address: IpAddr,
    /// When it began to wait for its caller, if it does.
    waits: Option<u64>,
    gives_way: Arc<Notify>,
}

/// A connection's place among the others, until it is dropped.
pub(super) struct Seat {
    connections: Arc<Connections>,
    id: u64,
    /// Where it comes from.
    pub(super) peer: IpAddr,
    gives_way: Arc<Notify>,
    /// There was no room: it is told so, unless it asks how the server is.
    pub(super) spare: bool,
    /// Requests that are not answered to their ends.
    open: AtomicUsize,
    /// Of these, those that wait for us.
    answering: AtomicUsize,
    /// More may have been sent than is read.
    unread: AtomicBool,
    times: Mutex<Times>,
}

struct Times {
    /// When it was last used.
    used: Instant,
    /// Since when its caller reads nothing of what is written.
    stuck: Option<Instant>,
}

impl Connections {
    pub(super) fn new(config: &Config) -> Arc<Connections> {
        let descriptors = descriptors().map_or(usize::MAX, |most| most.saturating_sub(OTHERS).max(SPARE));
        let wanted = if config.connections == 0 { MOST } else { config.connections };
        let most = wanted.min(descriptors);
        if config.connections > most {
            tracing::warn!(
                connections = most,
                wanted,
                "fewer connections than configured: this process may open no more files (ulimit -n)"
            );
        }
        let of_an_address = config.connections_per_address;
        Arc::new(Connections { most, of_an_address, proxies: config.proxies.clone(), state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from there. `None`: there is not even one to say so.
    pub(super) fn enter(self: &Arc<Connections>, peer: IpAddr) -> Option<Arc<Seat>> {
        let address = network(peer);
        let mut state = self.state();
        let own = state.by_address.get(&address).copied().unwrap_or_default();
        let free = self.most.saturating_sub(state.seats.len());
        let share = match self.of_an_address {
            _ if self.proxies.contains(&peer) => self.most,
            0 => free,
            most => most,
        };
        let over_share = own > 0 && own >= share;
        let mut spare = false;
        if over_share || free == 0 {
            let victim = match over_share {
                true => state.oldest_waiting(Some(address)),
                false => state.oldest_waiting(None),
            };
            match victim {
                Some(id) => state.leave(id, true),
                None if state.seats.len() < self.most + SPARE => spare = true,
                None => return None,
            }
        }
        state.next += 2;
        let (id, waits, gives_way) = (state.next, state.next + 1, Arc::new(Notify::new()));
        state.seats.insert(id, Taken { address, waits: Some(waits), gives_way: Arc::clone(&gives_way) });
        state.waiting.insert((waits, id));
        *state.by_address.entry(address).or_default() += 1;
        drop(state);
        let times = Mutex::new(Times { used: Instant::now(), stuck: None });
        Some(Arc::new(Seat {
            connections: Arc::clone(self),
            id,
            peer,
            gives_way,
            spare,
            open: AtomicUsize::new(0),
            answering: AtomicUsize::new(0),
            // Until a first request is read, nobody knows.
            unread: AtomicBool::new(true),
            times,
        }))
    }

    /// Whether requests from there are passed on for others, whom they name.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.contains(&address)
    }
}

impl State {
    /// The one of this address that has waited longest; else of the address that has most of all.
    fn oldest_waiting(&self, address: Option<IpAddr>) -> Option<u64> {
        let address = match address {
            Some(address) => address,
            None => {
                let waiting = self.waiting.iter().filter_map(|(_, id)| self.seats.get(id)).map(|taken| taken.address);
                waiting.max_by_key(|address| self.by_address.get(address).copied().unwrap_or_default())?
            }
        };
        let of = |id: &u64| self.seats.get(id).is_some_and(|taken| taken.address == address);
        self.waiting.iter().find(|(_, id)| of(id)).map(|(_, id)| *id)
    }

    fn leave(&mut self, id: u64, gives_way: bool) {
        let Some(taken) = self.seats.remove(&id) else { return };
        if let Some(waits) = taken.waits {
            self.waiting.remove(&(waits, id));
        }
        if let Some(own) = self.by_address.get_mut(&taken.address) {
            *own -= 1;
            if *own == 0 {
                self.by_address.remove(&taken.address);
            }
        }
        if gives_way {
            taken.gives_way.notify_one();
        }
    }

    fn waits(&mut self, id: u64, waits: bool) {
        self.next += 1;
        let next = self.next;
        let Some(taken) = self.seats.get_mut(&id) else { return };
        if let Some(since) = taken.waits.take() {
            self.waiting.remove(&(since, id));
        }
        if waits {
            taken.waits = Some(next);
            self.waiting.insert((next, id));
        }
    }
}

impl Seat {
    /// Ready when another connection is to have its place.
    pub(super) async fn gives_way(&self) {
        self.gives_way.notified().await;
    }

    /// A request was begun on it, with a body that is not read yet.
    pub(super) fn opened(self: &Arc<Seat>, has_body: bool) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.unread.fetch_or(has_body, Ordering::Relaxed);
        Open { seat: Arc::clone(self), answering: false }
    }

    /// The body is read.
    pub(super) fn read(&self) {
        self.unread.store(false, Ordering::Relaxed);
    }

    /// Whether nothing happens on it, and nothing did for so long.
    pub(super) fn is_idle(&self, limit: Duration) -> bool {
        self.open.load(Ordering::Relaxed) == 0 && self.times().used.elapsed() > limit
    }

    /// Whether its caller has read nothing for so long.
    pub(super) fn is_stuck(&self, limit: Duration) -> bool {
        self.times().stuck.is_some_and(|since| since.elapsed() > limit)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) {
        *self.times() = Times { used: Instant::now(), stuck: None };
    }

    fn stuck(&self) {
        self.times().stuck.get_or_insert_with(Instant::now);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.state().leave(self.id, false);
    }
}

/// A request that is not answered to its end.
pub(super) struct Open {
    seat: Arc<Seat>,
    answering: bool,
}

impl Open {
    /// All of it is here: from now on its caller waits for us.
    pub(super) fn answers(&mut self) {
        if !std::mem::replace(&mut self.answering, true) && self.seat.answering.fetch_add(1, Ordering::Relaxed) == 0 {
            self.seat.connections.state().waits(self.seat.id, false);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.seat.used();
        self.seat.open.fetch_sub(1, Ordering::Relaxed);
        if self.answering && self.seat.answering.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.seat.connections.state().waits(self.seat.id, true);
        }
    }
}

/// A response's body, which keeps its request open.
pub(super) struct Answer {
    pub(super) body: Body,
    pub(super) _open: Open,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection's socket. It notes whether its caller reads, and is closed so that an answer that came early is read.
pub(super) struct Socket {
    stream: TcpStream,
    seat: Arc<Seat>,
    closing: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, seat: Arc<Seat>) -> Socket {
        Socket { stream, seat, closing: None }
    }

    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(_)) => self.seat.used(),
            Poll::Ready(Err(_)) => (),
            Poll::Pending => self.seat.stuck(),
        }
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// A socket that is closed while bytes wait in it throws the other side's away too, and with them our answer: so what comes is read for a while.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            if !self.seat.unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            self.closing = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        let mut bytes = [0; 16 * 1024];
        // A turn has an end, however fast the other side sends.
        for _ in 0..16 {
            let over = self.closing.as_mut().is_none_or(|closing| closing.as_mut().poll(context).is_ready());
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                _ if over => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => (),
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Whom an address stands for: of IPv6 each has a network of its own.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

/// Raises the number of files that this process may open to what the system lets it have.
pub(super) fn raise_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        // More would be of no use, and some programs walk through all that there may be.
        let most = maximum.unwrap_or(u64::MAX).min((2 * MOST) as u64);
        if current.is_some_and(|current| current < most) {
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum });
        }
    }
}

/// Files that this process may open at once, if that is limited.
fn descriptors() -> Option<usize> {
    #[cfg(unix)]
    {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current.and_then(|most| usize::try_from(most).ok())
    }
    #[cfg(not(unix))]
    None
}

/// Addresses whose keys are refused again and again.
///
/// A key has 256 random bits, so none is ever found by trying; what is to be bounded is the noise. Whoever shows a good key is never refused for what others at
/// the same address do, and so is no proxy: only answers to wrong keys change, from 401 to 429.
#[derive(Default)]
pub(super) struct Failures(Mutex<HashMap<IpAddr, (Instant, u32)>>);

/// Wrong keys that an address may show in a minute.
const WRONG_KEYS: u32 = 60;

/// Addresses that are remembered at once. Past them those whose minute is over are forgotten, and then all.
const REMEMBERED: usize = 4096;

impl Failures {
    /// Notes a wrong key from there. How long it shall wait, if there were too many.
    pub(super) fn wrong_key(&self, address: IpAddr) -> Option<Duration> {
        const MINUTE: Duration = Duration::from_secs(60);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, address) = (Instant::now(), network(address));
        if known.len() >= REMEMBERED && !known.contains_key(&address) {
            known.retain(|_, (since, _)| now.saturating_duration_since(*since) < MINUTE);
            if known.len() >= REMEMBERED {
                known.clear();
            }
        }
        let (since, count) = known.entry(address).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= MINUTE {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        (*count > WRONG_KEYS).then(|| MINUTE.saturating_sub(now.saturating_duration_since(*since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(most: usize, of_an_address: usize) -> Arc<Connections> {
        let proxies = vec![at(99)];
        Arc::new(Connections { most, of_an_address, proxies, state: Mutex::default() })
    }

    fn at(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn gives_way(seat: &Seat) -> bool {
        use futures_util::FutureExt;
        seat.gives_way().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_that_waits_gives_way_to_a_new_one_of_its_address() {
        let connections = connections(8, 0);
        let seats: Vec<_> = (0..4).map(|_| connections.enter(at(1)).expect("room")).collect();
        // The first is answered; so the second goes.
        let mut answered = seats[0].opened(false);
        answered.answers();
        let fifth = connections.enter(at(1)).expect("room");
        assert_eq!(seats.iter().map(|seat| gives_way(seat)).collect::<Vec<_>>(), [false, true, false, false]);
        assert!(!fifth.spare && !connections.enter(at(2)).expect("room").spare);
        // One that was answered waits again, behind the others.
        drop(answered);
        let _sixth = connections.enter(at(1)).expect("room");
        assert_eq!(seats.iter().map(|seat| gives_way(seat)).collect::<Vec<_>>(), [false, false, true, false]);
    }

    #[test]
    fn others_find_room_however_many_one_address_has() {
        let connections = connections(100, 0);
        let greedy: Vec<_> = (0..1000).map(|_| connections.enter(at(1)).expect("room")).collect();
        let other: Vec<_> = (0..10).map(|_| connections.enter(at(2)).expect("room")).collect();
        assert!(other.iter().all(|seat| !seat.spare && !gives_way(seat)));
        assert_eq!(greedy.iter().filter(|seat| !gives_way(seat)).count(), 50);
        drop((greedy, other));
        let state = connections.state();
        assert!(state.seats.is_empty() && state.by_address.is_empty() && state.waiting.is_empty());
    }

    #[test]
    fn where_all_are_answered_a_few_are_told_so_and_the_rest_not_even_that() {
        let connections = connections(4, 4);
        let busy: Vec<_> = (0..4)
            .map(|n| {
                let mut open = connections.enter(at(n)).expect("room").opened(false);
                open.answers();
                open
            })
            .collect();
        let mut spare = Vec::new();
        while let Some(seat) = connections.enter(at(9)) {
            assert!(seat.spare || spare.len() >= SPARE);
            let mut open = seat.opened(false);
            open.answers();
            spare.push(open);
        }
        assert_eq!(spare.len(), SPARE);
        drop(busy);
        drop(spare);
        assert!(!connections.enter(at(9)).expect("room").spare);
    }

    #[test]
    fn a_proxy_has_room_for_all_whom_it_stands_for() {
        let connections = connections(10, 2);
        let seats: Vec<_> = (0..10).map(|_| connections.enter(at(99)).expect("room")).collect();
        assert!(seats.iter().all(|seat| !seat.spare && !gives_way(seat)));
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let network = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), at(1));
    }

    #[test]
    fn wrong_keys_are_counted_by_address() {
        let failures = Failures::default();
        let waits = (0..WRONG_KEYS + 2).filter_map(|_| failures.wrong_key(at(1))).count();
        assert_eq!((waits, failures.wrong_key(at(2))), (2, None));
        for n in 0..3 * REMEMBERED as u32 {
            failures.wrong_key(IpAddr::from(n.to_be_bytes()));
        }
        assert!(failures.0.lock().expect("a map").len() <= REMEMBERED);
    }
}
