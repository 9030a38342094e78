//! Conversations that are kept for a while, so that who goes on with one need only send what is new.
//!
//! One store serves both dialects: threads of the Messages API and `previous_response_id`. It is bounded in entries, bytes and time, for each key and
//! for all. Where there is no room the least recently used go first: a conversation may be gone at any time, and clients then send all of it again.
//!
//! A conversation is a chain of pieces of JSON text, each what one request brought and was answered. Chains share their beginnings, so a turn costs
//! what is new in it, however long the conversation is.

mod fingerprint;
mod keeper;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
pub(crate) use fingerprint::Fingerprint;
use firecrest_contract::values::Values;
pub(crate) use keeper::{Asked, Keeper};
use serde::de::DeserializeOwned;

/// What is kept at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadLimits {
    /// A conversation that nobody goes on with for so long is forgotten.
    pub ttl: Duration,
    /// Answers of one key that can be gone on from. 0 keeps nothing.
    pub key_entries: usize,
    /// Bytes of one key's conversations.
    pub key_bytes: usize,
    /// Answers of all keys.
    pub entries: usize,
    /// Bytes of all keys' conversations.
    pub bytes: usize,
}

impl Default for ThreadLimits {
    fn default() -> ThreadLimits {
        ThreadLimits { ttl: Duration::from_secs(3600), key_entries: 1024, key_bytes: 32 << 20, entries: 16_384, bytes: 128 << 20 }
    }
}

/// What a piece costs beside its text: itself, and its entry.
const OVERHEAD: usize = 512;

/// Bytes that are held, of one key and of all.
#[derive(Clone, Debug)]
struct Meter([Rc<Cell<usize>>; 2]);

impl Meter {
    fn add(&self, bytes: usize) {
        self.0.iter().for_each(|held| held.set(held.get().saturating_add(bytes)));
    }

    fn take(&self, bytes: usize) {
        self.0.iter().for_each(|held| held.set(held.get().saturating_sub(bytes)));
    }
}

/// What one request brought and was answered, behind what was before.
#[derive(Debug)]
pub(crate) struct Piece {
    /// A JSON text.
    json: Bytes,
    before: Option<Rc<Piece>>,
    meter: Meter,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.meter.take(self.json.len() + OVERHEAD);
        // One by one: a chain that drops itself link by link would need as deep a stack.
        let mut next = self.before.take();
        while let Some(mut piece) = next.and_then(Rc::into_inner) {
            next = piece.before.take();
        }
    }
}

/// A conversation as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    /// What is the same in all of it: its system text and tools.
    fixed: Option<Rc<Piece>>,
    last: Rc<Piece>,
}

impl Conversation {
    /// All of it.
    pub(crate) fn texts(&self) -> Texts {
        let mut pieces = vec![&self.last];
        while let Some(before) = pieces.last().and_then(|piece| piece.before.as_ref()) {
            pieces.push(before);
        }
        let said = pieces.into_iter().rev().map(|piece| piece.json.clone()).collect();
        Texts { fixed: self.fixed.as_ref().map(|piece| piece.json.clone()), said }
    }

    /// What its last request brought and was answered.
    pub(crate) fn latest(&self) -> Texts {
        Texts { fixed: None, said: vec![self.last.json.clone()] }
    }
}

/// Texts of a conversation, which may be read on another thread.
pub(crate) struct Texts {
    fixed: Option<Bytes>,
    /// Each a JSON array, in order.
    said: Vec<Bytes>,
}

impl Texts {
    pub(crate) fn bytes(&self) -> usize {
        self.said.iter().chain(&self.fixed).map(Bytes::len).sum()
    }

    /// What is the same in all of it.
    pub(crate) fn fixed<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(self.fixed.as_ref()?).ok()
    }

    /// All that was said, in order. `None` where it can't be read, or has more values than one body may have, which is as good as gone.
    pub(crate) fn said<T: DeserializeOwned>(&self) -> Option<Vec<T>> {
        let (mut said, mut values) = (Vec::new(), Values::default());
        for json in &self.said {
            values.take(json).ok()?;
            said.append(&mut serde_json::from_slice::<Vec<T>>(json).ok()?);
        }
        Some(said)
    }
}

/// Why a conversation can't be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It is not kept, or no longer, or another key's.
    NotFound,
    /// Another request goes on with it just now.
    InFlight,
    /// Another request did.
    Continued,
}

#[derive(Debug)]
enum State {
    Kept(Conversation),
    InFlight(Conversation),
    Continued,
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// When it was used last, as a number that grows.
    stamp: u64,
    expires: Duration,
}

/// One key's.
#[derive(Debug, Default)]
struct Shelf {
    entries: BTreeMap<String, Entry>,
    by_use: BTreeMap<u64, String>,
    bytes: Rc<Cell<usize>>,
}

#[derive(Debug, Default)]
struct Shelves {
    by_key: BTreeMap<Rc<str>, Shelf>,
    /// Whose, in the order in which they were used last. As all live equally long after that, it is the order in which they expire too.
    by_use: BTreeMap<u64, Rc<str>>,
    stamp: u64,
}

/// The store.
#[derive(Debug)]
pub(crate) struct Threads {
    limits: ThreadLimits,
    shelves: RefCell<Shelves>,
    bytes: Rc<Cell<usize>>,
}

impl Threads {
    pub(crate) fn new(limits: ThreadLimits) -> Rc<Threads> {
        Rc::new(Threads { limits, shelves: RefCell::default(), bytes: Rc::default() })
    }

    /// Whether a conversation of so many bytes can be kept at all.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let most = self.limits.key_bytes.min(self.limits.bytes);
        self.limits.key_entries > 0 && self.limits.entries > 0 && bytes.saturating_add(2 * OVERHEAD) <= most
    }

    /// The conversation up to an answer, to go on with as often as one likes.
    pub(crate) fn find(&self, now: Duration, key: &str, id: &str) -> Result<Conversation, Gone> {
        let mut shelves = self.shelves.borrow_mut();
        shelves.expire(now);
        shelves.touch(key, id, now.saturating_add(self.limits.ttl));
        match shelves.entry(key, id).map(|entry| &entry.state) {
            Some(State::Kept(conversation)) => Ok(conversation.clone()),
            Some(State::InFlight(_)) => Err(Gone::InFlight),
            Some(State::Continued) => Err(Gone::Continued),
            None => Err(Gone::NotFound),
        }
    }

    /// The conversation up to an answer, to go on with once: nobody else can while the claim lives, nor when it was [kept](Claim::kept).
    pub(crate) fn claim(self: &Rc<Threads>, now: Duration, key: &Rc<str>, id: &str) -> Result<(Conversation, Claim), Gone> {
        let conversation = self.find(now, key, id)?;
        if let Some(entry) = self.shelves.borrow_mut().entry(key, id) {
            entry.state = State::InFlight(conversation.clone());
        }
        Ok((conversation, Claim { threads: Rc::clone(self), key: Rc::clone(key), id: id.to_owned() }))
    }

    /// Keeps what a request brought and was answered, both as members of one JSON array, behind what was before.
    pub(crate) fn keep(&self, now: Duration, key: &Rc<str>, id: String, new: New) {
        let New { before, fixed, said } = new;
        let meter = {
            let mut shelves = self.shelves.borrow_mut();
            shelves.expire(now);
            let shelf = shelves.by_key.entry(Rc::clone(key)).or_default();
            Meter([Rc::clone(&shelf.bytes), Rc::clone(&self.bytes)])
        };
        let piece = |json: Vec<u8>, before| {
            meter.add(json.len() + OVERHEAD);
            Rc::new(Piece { json: json.into(), before, meter: meter.clone() })
        };
        let (before, kept) = before.map_or((None, None), |before| (Some(before.last), before.fixed));
        let conversation = Conversation { fixed: kept.or_else(|| fixed.map(|json| piece(json, None))), last: piece(said, before) };
        let mut shelves = self.shelves.borrow_mut();
        shelves.put(key, id, State::Kept(conversation), now.saturating_add(self.limits.ttl));
        shelves.make_room(key, &self.limits, &self.bytes);
    }

    /// Answers that are kept, and bytes.
    #[cfg(test)]
    fn held(&self) -> (usize, usize) {
        (self.shelves.borrow().by_use.len(), self.bytes.get())
    }
}

/// What is to be kept.
pub(crate) struct New {
    pub(crate) before: Option<Conversation>,
    /// What is the same in all of it, where nothing was before.
    pub(crate) fixed: Option<Vec<u8>>,
    /// A JSON array.
    pub(crate) said: Vec<u8>,
}

impl Shelves {
    fn entry(&mut self, key: &str, id: &str) -> Option<&mut Entry> {
        self.by_key.get_mut(key)?.entries.get_mut(id)
    }

    /// It was used now.
    fn touch(&mut self, key: &str, id: &str, expires: Duration) {
        self.stamp += 1;
        let stamp = self.stamp;
        let Some((key, shelf)) = self.by_key.get_key_value(key).map(|(key, _)| Rc::clone(key)).zip(self.by_key.get_mut(key)) else {
            return;
        };
        let Some(entry) = shelf.entries.get_mut(id) else { return };
        self.by_use.remove(&entry.stamp);
        shelf.by_use.remove(&entry.stamp);
        (entry.stamp, entry.expires) = (stamp, expires);
        shelf.by_use.insert(stamp, id.to_owned());
        self.by_use.insert(stamp, key);
    }

    fn put(&mut self, key: &Rc<str>, id: String, state: State, expires: Duration) {
        self.stamp += 1;
        let shelf = self.by_key.entry(Rc::clone(key)).or_default();
        shelf.by_use.insert(self.stamp, id.clone());
        if let Some(old) = shelf.entries.insert(id, Entry { state, stamp: self.stamp, expires }) {
            shelf.by_use.remove(&old.stamp);
            self.by_use.remove(&old.stamp);
        }
        self.by_use.insert(self.stamp, Rc::clone(key));
    }

    /// Forgets one.
    fn remove(&mut self, key: &Rc<str>, stamp: u64) {
        self.by_use.remove(&stamp);
        let Some(shelf) = self.by_key.get_mut(key) else { return };
        if let Some(id) = shelf.by_use.remove(&stamp) {
            shelf.entries.remove(&id);
        }
        if shelf.entries.is_empty() {
            self.by_key.remove(key);
        }
    }

    fn expire(&mut self, now: Duration) {
        while let Some((stamp, key)) = self.by_use.first_key_value().map(|(stamp, key)| (*stamp, Rc::clone(key))) {
            let shelf = self.by_key.get(&key);
            let entry = shelf.and_then(|shelf| shelf.entries.get(shelf.by_use.get(&stamp)?));
            if entry.is_some_and(|entry| entry.expires > now) {
                break;
            }
            self.remove(&key, stamp);
        }
    }

    fn make_room(&mut self, key: &Rc<str>, limits: &ThreadLimits, bytes: &Cell<usize>) {
        while let Some(shelf) = self.by_key.get(key)
            && (shelf.entries.len() > limits.key_entries || shelf.bytes.get() > limits.key_bytes)
            && let Some((&stamp, _)) = shelf.by_use.first_key_value()
        {
            self.remove(key, stamp);
        }
        while (self.by_use.len() > limits.entries || bytes.get() > limits.bytes)
            && let Some((stamp, key)) = self.by_use.first_key_value().map(|(stamp, key)| (*stamp, Rc::clone(key)))
        {
            self.remove(&key, stamp);
        }
    }
}

/// The right to go on with a conversation. Dropped, it is given back, for the next to try.
#[derive(Debug)]
pub(crate) struct Claim {
    threads: Rc<Threads>,
    key: Rc<str>,
    id: String,
}

impl Claim {
    /// It was gone on with, and what came of it is kept: nobody else can any more.
    pub(crate) fn kept(self) {
        if let Some(entry) = self.threads.shelves.borrow_mut().entry(&self.key, &self.id) {
            entry.state = State::Continued;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(entry) = self.threads.shelves.borrow_mut().entry(&self.key, &self.id)
            && let State::InFlight(conversation) = &entry.state
        {
            entry.state = State::Kept(conversation.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(10);

    fn threads(limits: ThreadLimits) -> (Rc<Threads>, Rc<str>) {
        (Threads::new(limits), "k".into())
    }

    fn new(said: &[u32], before: Option<Conversation>) -> New {
        New { before, fixed: None, said: serde_json::to_vec(said).expect("JSON") }
    }

    fn said(threads: &Threads, key: &str, id: &str) -> Result<Vec<u32>, Gone> {
        threads.find(NOW, key, id).map(|found| found.texts().said().expect("numbers"))
    }

    #[test]
    fn chains_share_their_beginnings() {
        let (threads, key) = threads(ThreadLimits::default());
        threads.keep(NOW, &key, "a".into(), new(&[1, 2], None));
        let a = threads.find(NOW, &key, "a").expect("kept");
        threads.keep(NOW, &key, "b".into(), new(&[3], Some(a.clone())));
        threads.keep(NOW, &key, "c".into(), new(&[4], Some(a)));
        assert_eq!((said(&threads, "k", "b"), said(&threads, "k", "c")), (Ok(vec![1, 2, 3]), Ok(vec![1, 2, 4])));
        assert_eq!((said(&threads, "other", "b"), said(&threads, "k", "d")), (Err(Gone::NotFound), Err(Gone::NotFound)));
        assert_eq!(threads.held(), (3, 5 + 3 + 3 + 3 * OVERHEAD));
    }

    #[test]
    fn a_claim_is_alone() {
        let (threads, key) = threads(ThreadLimits::default());
        threads.keep(NOW, &key, "a".into(), new(&[1], None));
        let (_, claim) = threads.claim(NOW, &key, "a").expect("kept");
        assert_eq!(threads.claim(NOW, &key, "a").map(|_| ()), Err(Gone::InFlight));
        drop(claim);
        let (_, claim) = threads.claim(NOW, &key, "a").expect("given back");
        claim.kept();
        assert_eq!(threads.claim(NOW, &key, "a").map(|_| ()), Err(Gone::Continued));
        assert_eq!(threads.held(), (1, 0), "what is gone on with elsewhere is not kept here too");
    }

    #[test]
    fn everything_ends() {
        let (threads, key) = threads(ThreadLimits::default());
        for (n, at) in [(0, 10), (1, 20)] {
            threads.keep(Duration::from_secs(at), &key, n.to_string(), new(&[n], None));
        }
        assert!(threads.find(Duration::from_secs(3609), &key, "0").is_ok());
        // It was used, and lives on; the other was not.
        assert!(threads.find(Duration::from_secs(3621), &key, "1").is_err());
        assert!(threads.find(Duration::from_secs(3621), &key, "0").is_ok());
        assert!(threads.find(Duration::from_secs(9999), &key, "0").is_err());
        assert_eq!(threads.held(), (0, 0));
    }

    #[test]
    fn nobody_has_more_than_their_share() {
        let limits = ThreadLimits { key_entries: 3, entries: 5, ..ThreadLimits::default() };
        let (threads, key) = threads(limits);
        for n in 0..4 {
            threads.keep(NOW, &key, n.to_string(), new(&[n], None));
            assert!(n < 1 || said(&threads, "k", "1").is_ok());
        }
        let left: Vec<u32> = (0..4).filter(|n| said(&threads, "k", &n.to_string()).is_ok()).collect();
        assert_eq!(left, [1, 2, 3], "the least recently used went");
        for other in ["x", "y", "z"] {
            threads.keep(NOW, &other.into(), "0".into(), new(&[9], None));
        }
        assert_eq!(threads.held().0, 5);
        assert!(said(&threads, "k", "1").is_err() && said(&threads, "z", "0").is_ok());
    }

    #[test]
    fn bytes_are_bounded() {
        let limits = ThreadLimits { key_bytes: 20 * OVERHEAD, bytes: 50 * OVERHEAD, ..ThreadLimits::default() };
        let (threads, key) = threads(limits);
        let mut before = None;
        for n in 0..1000 {
            threads.keep(NOW, &key, n.to_string(), new(&[n; 100], before.take()));
            before = threads.find(NOW, &key, &n.to_string()).ok();
            drop(before.take_if(|_| n % 7 == 0));
            assert!(threads.held().1 <= limits.bytes, "{:?}", threads.held());
        }
        drop(before);
        for n in 0..1000 {
            threads.keep(NOW, &format!("k{}", n % 10).into(), n.to_string(), new(&[n; 100], None));
            assert!(threads.held().1 <= limits.bytes);
        }
        assert!(!threads.has_room(30 * OVERHEAD) && threads.has_room(10 * OVERHEAD));
        // One that is larger than all there is leaves nothing behind.
        threads.keep(NOW, &key, "large".into(), new(&[7; 30_000], None));
        assert!(said(&threads, "k", "large").is_err() && threads.held().1 <= limits.bytes);
    }

    #[test]
    fn long_chains_need_no_deep_stack() {
        let (threads, key) = threads(ThreadLimits { key_entries: 1, ..ThreadLimits::default() });
        let mut before = None;
        for n in 0..50_000 {
            threads.keep(NOW, &key, "a".into(), new(&[n], before.take()));
            before = threads.find(NOW, &key, "a").ok();
        }
        drop((before, threads));
    }
}
