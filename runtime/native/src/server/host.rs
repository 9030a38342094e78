//! What this program lends its service: clocks, random bytes, keys and limits on disk, models in memory.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use firecrest_contract::error::ApiError;
use firecrest_policy::lanes::Class;
use firecrest_policy::limits::{Account, Command, Millis, Outcome, Tier, apply_at};
use firecrest_service::aside::{Full, Task};
use firecrest_service::host::{Host, ModelCard, Principal, StoreError};
use firecrest_service::record::Record;
use tokio::sync::watch;

use super::backend::AnyBackend;
use super::config::{Config, TierConfig};
use super::log::Throttle;
use super::metrics::Metrics;
use super::models::Models;
use super::offload::Offload;
use super::readiness::Readiness;
use super::store::journal::Journal;
use super::store::{self, BUSY, Key, Store};

/// How long states of limits may wait to be written: a crash of the machine loses no more than this.
const WRITE_BEHIND: Duration = Duration::from_secs(1);

/// Accounts that are put into words at once, at some microseconds each. Others are served before the next ones are.
const AT_ONCE: usize = 32;

/// After how long a store is asked again that another connection commits to.
const AGAIN: Duration = Duration::from_millis(1);

/// The host. Lives on the server's thread.
pub(super) struct NativeHost {
    began: Instant,
    store: Store,
    /// `None` where nothing outlives the process.
    journal: Option<Journal>,
    accounts: RefCell<HashMap<Rc<str>, Held>>,
    tiers: RefCell<Tiers>,
    /// Whom everybody is taken for where no keys are asked for.
    anybody: Option<Rc<Principal>>,
    /// Keys that were found, with the principals made of them.
    known: RefCell<Known>,
    models: Models,
    offload: Offload,
    metrics: Arc<Metrics>,
    dirty: RefCell<BTreeSet<Rc<str>>>,
    readiness: Arc<Readiness>,
    /// The store's file is no longer at its place: it is not believed.
    lost: Cell<bool>,
    /// Why keys could not be read, or limits not written, the last time.
    unread: RefCell<Option<String>>,
    unwritten: RefCell<Option<String>>,
    /// Answers that run end where this says so, by the keys that they run for.
    endings: RefCell<HashMap<Rc<str>, watch::Sender<bool>>>,
}

/// Tiers by name.
pub(super) type Tiers = BTreeMap<String, (TierConfig, Tier)>;

/// What the configuration's tiers allow.
///
/// # Errors
/// A limit that makes no sense.
pub(super) fn tiers(config: &Config) -> Result<Tiers, String> {
    config.tiers.iter().map(|(name, tier)| Ok((name.clone(), (*tier, tier.tier()?)))).collect()
}

/// By a key's public part.
type Known = HashMap<Rc<str>, (Key, Rc<Principal>)>;

/// An account, and when it wants to be looked at.
struct Held {
    account: Account,
    tier: Tier,
    wake_at: Option<Millis>,
}

/// States in words that are not yet given to the journal. Whoever ends before that leaves them to the next one.
struct Worded<'a> {
    host: &'a NativeHost,
    states: Vec<(Rc<str>, String)>,
}

impl Drop for Worded<'_> {
    fn drop(&mut self) {
        self.host.dirty.borrow_mut().extend(self.states.drain(..).map(|(key, _)| key));
    }
}

/// What a host shares with the other parts of its server.
pub(super) struct Parts {
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) began: Instant,
}

impl NativeHost {
    pub(super) fn new(config: &Config, store: Store, models: Models, parts: Parts) -> Result<NativeHost, String> {
        let Parts { metrics, readiness, began } = parts;
        let tiers = RefCell::new(tiers(config)?);
        let anybody = (!config.auth).then(|| {
            Rc::new(Principal {
                key: "anybody".into(),
                limits: Tier::default(),
                class: Class::Priority,
                namespace: String::new(),
                pin_quota: u64::MAX,
                whole_blocks: false,
                admin: true,
            })
        });
        let journal = store.journal().map_err(|e| e.to_string())?;
        store.wait_for_nobody().map_err(|e| e.to_string())?;
        Ok(NativeHost {
            began,
            store,
            journal,
            accounts: RefCell::default(),
            tiers,
            anybody,
            known: RefCell::default(),
            offload: Offload::new(config.timeouts.work()),
            models,
            metrics,
            dirty: RefCell::default(),
            readiness,
            lost: Cell::new(false),
            unread: RefCell::default(),
            unwritten: RefCell::default(),
            endings: RefCell::default(),
        })
    }

    /// Writes what changed and looks after leases that nobody settles, for as long as it is polled.
    pub(super) async fn keep_accounts(&self) {
        loop {
            tokio::time::sleep(WRITE_BEHIND).await;
            self.expire();
            self.write().await;
            self.look_after_store().await;
            self.end_answers();
        }
    }

    /// From now on these tiers hold.
    pub(super) fn retier(&self, tiers: Tiers) {
        *self.tiers.borrow_mut() = tiers;
        self.known.borrow_mut().clear();
    }

    /// Looks whether the store is there and does its work, and says so.
    async fn look_after_store(&self) {
        let in_place = self.ask(Store::in_place).await;
        self.lost.set(in_place.is_err());
        if self.unread.borrow().is_some() && self.ask(Store::verify).await.is_ok() {
            self.unread.take();
        }
        let ended = self.ask(Store::end_keys).await;
        let trouble = in_place.and(ended).err().map(|error| error.to_string());
        let trouble = trouble.or_else(|| self.unread.borrow().clone()).or_else(|| self.unwritten.borrow().clone());
        self.readiness.set("store", trouble);
    }

    /// Asks the store, and asks again while another connection commits: nothing else that is served waits for a disk.
    async fn ask<T>(&self, question: impl Fn(&Store) -> Result<T, store::StoreError>) -> Result<T, store::StoreError> {
        let since = Instant::now();
        loop {
            match question(&self.store) {
                Err(error) if error.is_busy() && since.elapsed() < BUSY => tokio::time::sleep(AGAIN).await,
                answer => return answer,
            }
        }
    }

    /// Ends the answers of keys that hold no longer.
    fn end_answers(&self) {
        self.endings.borrow_mut().retain(|key, ending| {
            if ending.receiver_count() > 0 && self.store.holds(key).is_ok_and(|holds| !holds) {
                ending.send_replace(true);
            }
            ending.receiver_count() > 0
        });
    }

    /// Models to load at once.
    pub(super) fn preloaded(&self) -> Vec<String> {
        self.models.preloaded()
    }

    /// Loads no model again that fails from now on.
    pub(super) fn stop_watching(&self) {
        self.models.stop_watching();
    }

    fn expire(&self) {
        let at = self.wall();
        let mut accounts = self.accounts.borrow_mut();
        let due = |held: &Held| held.wake_at.is_some_and(|wake| wake <= at) || held.account.is_ahead(at);
        for (key, held) in accounts.iter_mut().filter(|(_, held)| due(held)) {
            held.wake_at = apply_at(&mut held.account, &held.tier, Command::Expire { at }, at).1;
            self.dirty.borrow_mut().insert(Rc::clone(key));
        }
    }

    /// Writes the states of limits that changed since they were written last, each once, so that those which change again and again hold up no others. In
    /// one commit: each waits for the disk, and locks out who reads. What can't be written is tried again the next time.
    pub(super) async fn write(&self) {
        let Some(journal) = &self.journal else { return };
        let mut worded = Worded { host: self, states: Vec::new() };
        while self.word(&mut worded.states) {
            tokio::task::yield_now().await;
        }
        let states = std::mem::take(&mut worded.states);
        if states.is_empty() {
            return;
        }
        let changed: Vec<Rc<str>> = states.iter().map(|(key, _)| Rc::clone(key)).collect();
        match journal.write(states.into_iter()).await {
            Ok(took) => {
                self.unwritten.take();
                self.metrics.store_write.observe(took.as_secs_f64());
            }
            Err(error) => {
                tracing::error!(%error, "limits could not be written; they are tried again");
                self.metrics.store_errors.inc();
                self.unwritten.replace(Some(format!("limits can't be written: {error}")));
                self.dirty.borrow_mut().extend(changed);
            }
        }
    }

    /// Puts some of them into words, from behind the last one on. Whether there may be more.
    fn word(&self, states: &mut Vec<(Rc<str>, String)>) -> bool {
        let behind = states.last().map(|(key, _)| Rc::clone(key));
        let range = (behind.as_deref().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut dirty = self.dirty.borrow_mut();
        let changed: Vec<Rc<str>> = dirty.range::<str, _>(range).take(AT_ONCE).cloned().collect();
        let accounts = self.accounts.borrow();
        let more = changed.len() == AT_ONCE;
        let state = |key: Rc<str>| {
            dirty.remove(&key);
            // Whoever holds a lease of this store is in this process, and will not be there when it is read again.
            let state = serde_json::to_string(&accounts.get(&key)?.account.without_closed()).ok()?;
            Some((key, state))
        };
        states.extend(changed.into_iter().filter_map(state));
        more
    }

    fn failed(&self, error: impl std::fmt::Display) -> StoreError {
        StoreError::Unavailable(self.told(error))
    }

    fn nonsense(&self, error: impl std::fmt::Display) -> StoreError {
        StoreError::Nonsense(self.told(error))
    }

    /// Counts and logs what failed.
    fn told(&self, error: impl std::fmt::Display) -> String {
        static FAILED: Throttle = Throttle::new();
        if let Some(left_out) = FAILED.pass() {
            tracing::error!(%error, left_out, "the store failed");
        }
        self.metrics.store_errors.inc();
        error.to_string()
    }

    /// What a key of the store may do. A tier that the configuration does not know is refused: nobody is unlimited by a slip of the pen.
    fn principal(&self, key: &Key) -> Result<Rc<Principal>, StoreError> {
        let tiers = self.tiers.borrow();
        let Some((tier, limits)) = tiers.get(&key.tier) else {
            return Err(self.nonsense(format!("key {} is of tier `{}`, which the configuration does not have", key.id, key.tier)));
        };
        let namespace = key.salt.iter().map(|byte| format!("{byte:02x}")).collect();
        let pin_quota = tier.pin_quota.unwrap_or(u64::MAX);
        Ok(Rc::new(Principal {
            key: key.id.as_str().into(),
            limits: limits.clone(),
            class: tier.class(&key.tier),
            namespace,
            pin_quota,
            whole_blocks: tier.whole_blocks,
            admin: key.admin,
        }))
    }
}

/// Fills this with bytes that nobody can guess.
pub(super) fn random(out: &mut [u8]) {
    if let Err(error) = getrandom::fill(out) {
        // Ids that can be guessed would let one caller settle another's lease. There is nothing sensible to go on with.
        tracing::error!(%error, "this system gives no random bytes");
        std::process::abort();
    }
}

impl Host for NativeHost {
    type Backend = AnyBackend;

    fn wall(&self) -> Millis {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }

    fn random(&self, out: &mut [u8]) {
        random(out);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(duration)
    }

    fn outlive(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    fn offload(&self, key: &str, work: Task) -> Result<(), Full> {
        self.offload.run(key, work)
    }

    async fn find_key(&self, presented: Option<&str>) -> Result<Option<Rc<Principal>>, StoreError> {
        if let Some(anybody) = &self.anybody {
            return Ok(Some(Rc::clone(anybody)));
        }
        let Some(presented) = presented else { return Ok(None) };
        // Always the store: a key that another process revoked is refused at once.
        if self.lost.get() {
            return Err(self.failed("its file is not at its place"));
        }
        let found = self.ask(|store| store.find(presented)).await.map_err(|error| {
            self.unread.replace(Some(error.to_string()));
            self.failed(error)
        })?;
        let Some(key) = found else { return Ok(None) };
        let mut known = self.known.borrow_mut();
        if let Some((before, principal)) = known.get(key.id.as_str())
            && *before == key
        {
            return Ok(Some(Rc::clone(principal)));
        }
        let principal = self.principal(&key)?;
        known.insert(Rc::clone(&principal.key), (key, Rc::clone(&principal)));
        Ok(Some(principal))
    }

    async fn apply(&self, principal: &Principal, command: Command) -> Result<Outcome, StoreError> {
        let known = self.accounts.borrow().contains_key(&principal.key);
        if !known {
            let state = self.ask(|store| store.account(&principal.key)).await.map_err(|e| self.failed(e))?;
            let account = match state {
                None => Account::default(),
                Some(state) => {
                    serde_json::from_str(&state).map_err(|e| self.nonsense(format!("the limits of key {}: {e}", principal.key)))?
                }
            };
            let held = || Held { account, tier: principal.limits.clone(), wake_at: None };
            // Another request of the key may have come first: what that took counts.
            self.accounts.borrow_mut().entry(Rc::clone(&principal.key)).or_insert_with(held);
        }
        let mut accounts = self.accounts.borrow_mut();
        let Some(held) = accounts.get_mut(&principal.key) else { return Err(StoreError::Nonsense("an account is not there".to_owned())) };
        if held.tier != principal.limits {
            held.tier = principal.limits.clone();
        }
        let (outcome, wake_at) = apply_at(&mut held.account, &held.tier, command, self.wall());
        held.wake_at = wake_at;
        self.dirty.borrow_mut().insert(Rc::clone(&principal.key));
        Ok(outcome)
    }

    fn ended(&self, principal: &Principal) -> impl Future<Output = ()> + 'static {
        let ending = self.anybody.is_none().then(|| {
            let mut endings = self.endings.borrow_mut();
            endings.entry(Rc::clone(&principal.key)).or_insert_with(|| watch::channel(false).0).subscribe()
        });
        async move {
            if let Some(mut ending) = ending
                && ending.wait_for(|ended| *ended).await.is_ok()
            {
                return;
            }
            std::future::pending().await
        }
    }

    fn models(&self) -> Vec<ModelCard> {
        self.models.cards()
    }

    async fn open(&self, model: &str) -> Result<Rc<AnyBackend>, ApiError> {
        self.models.open(model).await
    }

    async fn unload(&self, model: &str) -> Result<(), ApiError> {
        self.models.unload(model)
    }

    fn record(&self, record: &Record<'_>) {
        static KEYLESS: Throttle = Throttle::new();
        self.metrics.observe(record);
        // Whoever has no key may send as much as it likes.
        let left_out = match record.key {
            Some(_) => None,
            None => match KEYLESS.pass() {
                Some(left_out) => Some(left_out).filter(|count| *count > 0),
                None => return,
            },
        };
        tracing::info!(
            id = record.id,
            caller = record.caller.map(tracing::field::display),
            route = record.route,
            key = record.key,
            model = record.model,
            lane = record.lane,
            status = record.status,
            outcome = record.outcome,
            rule = record.rule,
            input = record.usage.prompt(),
            cached = record.usage.cache_read,
            output = record.usage.output,
            first_ms = record.first.map(|first| first.as_secs_f64() * 1e3),
            took_ms = record.took.as_secs_f64() * 1e3,
            left_out,
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use firecrest_policy::limits::{Exactness, LeaseId, Price};

    use super::*;

    /// A host that holds an account of `key` which its clock is behind by an hour, with a lease.
    fn behind(key: &Rc<Principal>) -> NativeHost {
        let (config, metrics, began) = (Config::default(), Arc::new(Metrics::new()), Instant::now());
        let models = Models::new(&config, Vec::new(), Arc::clone(&metrics), began).expect("no models");
        let store = Store::in_memory().expect("a store");
        let parts = Parts { metrics, readiness: Arc::default(), began };
        let host = NativeHost::new(&config, store, models, parts).expect("a host");
        let at = host.wall() + 3_600_000;
        let mut account = Account::default();
        let wake_at = apply_at(&mut account, &key.limits, open(at, 1), at).1;
        host.accounts.borrow_mut().insert(Rc::clone(&key.key), Held { account, tier: key.limits.clone(), wake_at });
        host
    }

    fn open(at: Millis, lease: u128) -> Command {
        let price = Price { input: 10, exactness: Exactness::Exact, output_cap: 100 };
        Command::Open { at, lease: LeaseId(lease), expires: at + 30_000, price, output: 100 }
    }

    fn somebody() -> Rc<Principal> {
        let (key, limits) = ("somebody".into(), Tier::default());
        Rc::new(Principal {
            key,
            limits,
            class: Class::Standard,
            namespace: String::new(),
            pin_quota: 0,
            whole_blocks: false,
            admin: false,
        })
    }

    #[test]
    fn a_clock_that_steps_back_refuses_nobody() {
        let key = somebody();
        let host = behind(&key);
        let outcome = pollster::block_on(host.apply(&key, open(host.wall(), 2))).expect("an answer");
        assert!(matches!(outcome, Outcome::Granted { output: 100, .. }), "{outcome:?}");
    }

    #[test]
    fn a_lease_from_before_the_clock_stepped_back_ends_in_its_time() {
        let key = somebody();
        let host = behind(&key);
        host.expire();
        let wake_at = host.accounts.borrow()[&key.key].wake_at.expect("a lease is open");
        assert!(wake_at <= host.wall() + 30_000, "{wake_at}");
        assert!(host.dirty.borrow().contains(&key.key));
    }

    /// Each commit waits for the disk, and locks out who reads.
    #[tokio::test(flavor = "current_thread")]
    async fn what_changed_is_written_at_once_and_nothing_of_it_is_lost() {
        use futures_util::FutureExt;
        let folder = std::env::temp_dir().join(format!("firecrest-host-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let path = folder.join("store.sqlite");
        let (config, metrics, began) = (Config::default(), Arc::new(Metrics::new()), Instant::now());
        let models = Models::new(&config, Vec::new(), Arc::clone(&metrics), began).expect("no models");
        let store = Store::own(&path).expect("a store");
        let parts = Parts { metrics: Arc::clone(&metrics), readiness: Arc::default(), began };
        let host = NativeHost::new(&config, store, models, parts).expect("a host");
        let keys: Vec<String> = (0..3 * AT_ONCE).map(|at| format!("key {at:03}")).collect();
        for key in &keys {
            let principal = Principal { key: key.as_str().into(), ..Principal::clone(&somebody()) };
            host.apply(&principal, open(host.wall(), 1)).await.expect("an answer");
        }
        // One who ends in the middle leaves all of it to the next.
        assert!(host.write().now_or_never().is_none());
        assert_eq!(host.dirty.borrow().len(), keys.len());
        host.write().await;
        assert!(host.dirty.borrow().is_empty());
        for key in &keys {
            assert!(host.store.account(key).expect("read").is_some(), "{key}");
        }
        let told = metrics.text();
        assert!(told.contains("firecrest_store_write_seconds_count 1\n"), "{told}");
        drop(host);
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
