//! A host for tests: everything in memory, a clock that moves only when nothing else can, and a store that fails when it is told to.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use firecrest_contract::ask::Ask;
use firecrest_contract::embed::{EmbedAsk, Embedded};
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::Usage;
use firecrest_policy::lanes::{self, Class};
use firecrest_policy::limits::{Account, Command, Millis, Outcome, Tier, apply_at};
use firecrest_policy::routing::Alias;
use firecrest_policy::safety::decision::Action;
use firecrest_policy::safety::judge::PromptText;
use firecrest_policy::safety::rules::Policy;
use firecrest_service::aside::{self, Aside, Full};
use firecrest_service::backend::{Backend, Events, Grant, Owner, Price, Queue, StartError};
use firecrest_service::body::Body;
use firecrest_service::host::{Host, ModelCard, Principal, StoreError};
use firecrest_service::lease::WhenDry;
use firecrest_service::record::Record;
use firecrest_service::scripted::{Line, Scripted};
use firecrest_service::service::{Options, Service};
use futures_util::StreamExt;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::Value;

/// When tests begin, in milliseconds since 1970.
pub(crate) const BEGINNING: Millis = 1_800_000_000_000;

/// Those who wait for a moment, by it.
type Waiting = Rc<RefCell<BTreeMap<(Duration, u64), Waker>>>;
type Task = Pin<Box<dyn Future<Output = ()>>>;
/// Told each command before it is carried out, and again after: whether the store fails there.
type Fails = Box<dyn FnMut(&Command, bool) -> bool>;

pub(crate) struct World {
    me: Weak<World>,
    now: Rc<Cell<Duration>>,
    /// By so many milliseconds the wall clock was set forward, or back.
    pub(crate) stepped: Cell<i64>,
    waiting: Waiting,
    sleeps: Cell<u64>,
    seed: Cell<u64>,
    pub(crate) keys: RefCell<BTreeMap<String, Rc<Principal>>>,
    pub(crate) accounts: RefCell<BTreeMap<Rc<str>, Account>>,
    backends: RefCell<BTreeMap<String, Rc<Bench>>>,
    tasks: RefCell<Vec<Task>>,
    pub(crate) records: RefCell<Vec<Told>>,
    /// What each account was told, in order.
    pub(crate) commands: RefCell<Vec<(Rc<str>, Command)>>,
    pub(crate) fails: RefCell<Fails>,
    pub(crate) key_fails: Cell<bool>,
    /// Works that were handed over.
    pub(crate) offloaded: Cell<usize>,
    /// Those that nobody has begun, where they are not done at once.
    pub(crate) threads: RefCell<Option<Vec<aside::Task>>>,
    /// So many of them may wait.
    pub(crate) room_for_work: Cell<usize>,
    /// How long the store takes, before and after it carries out a command.
    pub(crate) store_takes: Cell<[Duration; 2]>,
}

/// What a record said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) key: Option<String>,
    pub(crate) status: u16,
    pub(crate) outcome: String,
    /// What the rules made of it, and which.
    pub(crate) judged: (Action, Option<String>),
    pub(crate) usage: Usage,
    pub(crate) overhead: Duration,
}

/// A script on a test bench.
pub(crate) struct Bench {
    pub(crate) script: Scripted,
    /// Its events end behind so many of them, without a last word.
    pub(crate) ends_early: Cell<Option<usize>>,
    /// What it holds of what it may hold.
    pub(crate) queue: Cell<Option<Queue>>,
    /// It takes so long to begin, or to make vectors.
    pub(crate) takes: Cell<Duration>,
    /// It makes vectors, which a script does not.
    pub(crate) embeds: Cell<bool>,
    /// Answers under way.
    pub(crate) running: Rc<Cell<usize>>,
    /// What was asked last.
    pub(crate) asked: RefCell<Option<Arc<Ask>>>,
    world: Weak<World>,
}

struct Sleep {
    now: Rc<Cell<Duration>>,
    waiting: Waiting,
    at: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.now.get() >= self.at.0 {
            return Poll::Ready(());
        }
        self.waiting.borrow_mut().insert(self.at, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.waiting.borrow_mut().remove(&self.at);
    }
}

/// Counts an answer for as long as it lives.
struct Running(Rc<Cell<usize>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Backend for Bench {
    fn check(&self, ask: &Ask) -> Result<(), ApiError> {
        self.script.check(ask)
    }

    async fn spelled(&self, ask: &Arc<Ask>, aside: &Aside) -> Result<Vec<PromptText>, ApiError> {
        self.script.spelled(ask, aside).await
    }

    async fn price(&self, ask: &Arc<Ask>, aside: &Aside) -> Result<Price, ApiError> {
        self.script.price(ask, aside).await
    }

    async fn embed_price(&self, ask: &Arc<EmbedAsk>, aside: &Aside) -> Result<u64, ApiError> {
        match self.embeds.get() {
            true => Ok(ask.inputs.len() as u64),
            false => self.script.embed_price(ask, aside).await,
        }
    }

    fn queue(&self) -> Option<Queue> {
        self.queue.get()
    }

    async fn embed(&self, ask: Arc<EmbedAsk>, lane: u8, owner: Owner, aside: &Aside) -> Result<Embedded, ApiError> {
        if !self.embeds.get() {
            return self.script.embed(ask, lane, owner, aside).await;
        }
        if let Some(world) = self.world.upgrade() {
            world.sleep(self.takes.get()).await;
        }
        Ok(Embedded { vectors: vec![vec![1.0]; ask.inputs.len()], tokens: ask.inputs.len() as u64 })
    }

    async fn start(&self, ask: Arc<Ask>, grant: Grant) -> Result<Events, StartError> {
        *self.asked.borrow_mut() = Some(Arc::clone(&ask));
        self.running.set(self.running.get() + 1);
        let running = Running(Rc::clone(&self.running));
        if let (Some(world), false) = (self.world.upgrade(), self.takes.get().is_zero()) {
            world.sleep(self.takes.get()).await;
        }
        let events = self.script.start(ask, grant).await?;
        let events = events.take(self.ends_early.get().unwrap_or(usize::MAX)).inspect(move |_| {
            let _ = &running;
        });
        Ok(Box::pin(events))
    }
}

impl Host for World {
    type Backend = Bench;

    fn wall(&self) -> Millis {
        (BEGINNING + self.now.get().as_millis() as u64).saturating_add_signed(self.stepped.get())
    }

    fn monotonic(&self) -> Duration {
        self.now.get()
    }

    fn random(&self, out: &mut [u8]) {
        out.iter_mut().for_each(|byte| *byte = self.number(256) as u8);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.sleeps.set(self.sleeps.get() + 1);
        let at = (self.now.get().saturating_add(duration), self.sleeps.get());
        Sleep { now: Rc::clone(&self.now), waiting: Rc::clone(&self.waiting), at }
    }

    fn outlive(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().push(Box::pin(task));
    }

    fn offload(&self, key: &str, work: aside::Task) -> Result<(), Full> {
        assert!(self.keys.borrow().contains_key(key), "{key}");
        self.offloaded.set(self.offloaded.get() + 1);
        match self.threads.borrow_mut().as_mut() {
            None => work(),
            Some(waiting) if waiting.len() >= self.room_for_work.get() => return Err(Full),
            Some(waiting) => waiting.push(work),
        }
        Ok(())
    }

    async fn find_key(&self, presented: Option<&str>) -> Result<Option<Rc<Principal>>, StoreError> {
        self.sleep(self.store_takes.get()[0]).await;
        if self.key_fails.take() {
            return Err(StoreError::Unavailable("gone".to_owned()));
        }
        Ok(presented.and_then(|key| self.keys.borrow().get(key).cloned()))
    }

    async fn apply(&self, principal: &Principal, command: Command) -> Result<Outcome, StoreError> {
        self.sleep(self.store_takes.get()[0]).await;
        if (self.fails.borrow_mut())(&command, false) {
            return Err(StoreError::Unavailable("gone".to_owned()));
        }
        self.commands.borrow_mut().push((Rc::clone(&principal.key), command));
        let outcome = {
            let mut accounts = self.accounts.borrow_mut();
            apply_at(accounts.entry(Rc::clone(&principal.key)).or_default(), &principal.limits, command, self.wall()).0
        };
        self.sleep(self.store_takes.get()[1]).await;
        match (self.fails.borrow_mut())(&command, true) {
            true => Err(StoreError::Unavailable("gone".to_owned())),
            false => Ok(outcome),
        }
    }

    fn models(&self) -> Vec<ModelCard> {
        Vec::new()
    }

    async fn open(&self, model: &str) -> Result<Rc<Bench>, ApiError> {
        let found = self.backends.borrow().get(model).cloned();
        found.ok_or_else(|| ApiError::new(ErrorKind::NotFound, format!("model: there is no {model:?}")))
    }

    async fn unload(&self, _: &str) -> Result<(), ApiError> {
        Ok(())
    }

    fn record(&self, record: &Record<'_>) {
        self.records.borrow_mut().push(Told {
            id: record.id.to_owned(),
            key: record.key.map(str::to_owned),
            status: record.status,
            outcome: record.outcome.to_owned(),
            judged: (record.action, record.rule.map(str::to_owned)),
            usage: record.usage,
            overhead: record.overhead,
        });
    }
}

/// Notes that something is to be polled again.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl World {
    /// With a key `k` that is not limited.
    pub(crate) fn new() -> Rc<World> {
        let world = Rc::new_cyclic(|me| World {
            me: me.clone(),
            now: Rc::default(),
            stepped: Cell::default(),
            waiting: Rc::default(),
            sleeps: Cell::new(0),
            seed: Cell::new(1),
            keys: RefCell::default(),
            accounts: RefCell::default(),
            backends: RefCell::default(),
            tasks: RefCell::default(),
            records: RefCell::default(),
            commands: RefCell::default(),
            fails: RefCell::new(Box::new(|_, _| false)),
            key_fails: Cell::new(false),
            offloaded: Cell::default(),
            threads: RefCell::default(),
            room_for_work: Cell::new(usize::MAX),
            store_takes: Cell::default(),
        });
        world.key("k", Tier::default());
        world
    }

    /// Adds a key.
    pub(crate) fn key(&self, key: &str, limits: Tier) {
        let principal = Principal {
            key: key.into(),
            limits,
            class: Class::Priority,
            namespace: key.to_owned(),
            pin_quota: 0,
            whole_blocks: false,
            admin: false,
        };
        self.keys.borrow_mut().insert(key.to_owned(), Rc::new(principal));
    }

    /// Adds a model.
    pub(crate) fn model(&self, name: &str, script: Scripted) -> Rc<Bench> {
        let bench = Rc::new(Bench {
            script,
            ends_early: Cell::new(None),
            queue: Cell::default(),
            takes: Cell::default(),
            embeds: Cell::default(),
            running: Rc::default(),
            asked: RefCell::default(),
            world: self.me.clone(),
        });
        self.backends.borrow_mut().insert(name.to_owned(), Rc::clone(&bench));
        bench
    }

    /// The model `m`, with these lines.
    pub(crate) fn script(&self, lines: Vec<Line>) -> Rc<Bench> {
        self.model("m", Scripted::new(lines))
    }

    /// The model `m`, which says this.
    pub(crate) fn says(&self, text: &str) -> Rc<Bench> {
        self.model("m", Scripted::saying(&[text]))
    }

    /// From 0, below a bound.
    pub(crate) fn number(&self, below: u64) -> u64 {
        // SplitMix64.
        let seed = self.seed.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.seed.set(seed);
        let mut mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    }

    /// Runs a future and what outlives others. Where nothing can go on, time passes.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            woken.0.store(false, Ordering::Relaxed);
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                return done;
            }
            self.poll_tasks(&mut context);
            if !woken.0.load(Ordering::Relaxed) {
                assert!(self.pass(), "nothing can go on, ever");
            }
        }
    }

    /// Lets what outlives its caller end.
    pub(crate) fn settle(&self) {
        self.run(std::future::poll_fn(|context| {
            self.poll_tasks(context);
            match self.tasks.borrow().is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
    }

    fn poll_tasks(&self, context: &mut Context<'_>) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        for mut task in tasks {
            if task.as_mut().poll(context).is_pending() {
                self.tasks.borrow_mut().push(task);
            }
        }
    }

    /// The next moment that somebody waits for comes.
    fn pass(&self) -> bool {
        let Some(at) = self.waiting.borrow().keys().next().map(|(at, _)| *at) else { return false };
        self.now.set(self.now.get().max(at));
        // Each is woken once, whether it is looked after or not.
        let later = self.waiting.borrow_mut().split_off(&(at, u64::MAX));
        let due = self.waiting.replace(later);
        due.into_values().for_each(Waker::wake);
        true
    }

    /// Lets everybody else go on as far as they can.
    pub(crate) fn sleep_once(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(self.sleep(Duration::from_millis(1)))
    }

    /// So much time passes.
    pub(crate) fn wait(&self, duration: Duration) {
        self.run(self.sleep(duration));
    }

    /// Leases that are open, over all accounts.
    pub(crate) fn open_leases(&self) -> usize {
        self.accounts.borrow().values().map(Account::open_leases).sum()
    }

    /// Input and output that a key was charged, by its `Settle`s.
    pub(crate) fn settled(&self, key: &str) -> Vec<(Option<u64>, u64)> {
        let commands = self.commands.borrow();
        let settles = commands.iter().filter(|(of, _)| &**of == key).filter_map(|(_, command)| match command {
            Command::Settle { total, .. } => Some((total.input, total.output)),
            _ => None,
        });
        settles.collect()
    }
}

/// A response whose body was read.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Read {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    /// The data of a stream's events.
    pub(crate) fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"))).collect()
    }
}

/// A rule against each of these words, on either side.
pub(crate) fn rules(words: &[&str]) -> Arc<Policy> {
    let text = format!(
        "format = 1\nrevision = ''\n[[category]]\nid = 'c'\nabout = ''\ngeneral_harms = true\n[[rule]]\nid = 'r'\ncategory = 'c'\nabout = ''\n\
         input = 'block'\noutput = 'block'\nkind = 'literal'\nany = {words:?}\nexamples = {words:?}"
    );
    Arc::new(Policy::load([text.as_str()]).expect("rules"))
}

pub(crate) fn options() -> Options {
    Options {
        head_after: Duration::from_secs(5),
        quiet: Duration::from_secs(10),
        answer_limit: Duration::from_secs(600),
        work_limit: Duration::from_secs(10),
        lenient: true,
        when_dry: WhenDry::Pause,
        relaxed: false,
        aliases: vec![Alias { pattern: "alias-*".to_owned(), model: "m".to_owned() }],
        lanes: lanes::Settings::default(),
        safety: rules(&["forbidden"]),
    }
}

pub(crate) fn service(world: &Rc<World>) -> Service<World> {
    Service::new(Rc::clone(world), options())
}

/// A request by the key `k`.
pub(crate) fn post(path: &str, body: &Value) -> Request<Bytes> {
    by("k", path, body)
}

pub(crate) fn by(key: &str, path: &str, body: &Value) -> Request<Bytes> {
    let request = Request::builder().method(Method::POST).uri(path).header("authorization", format!("Bearer {key}"));
    request.body(Bytes::from(body.to_string())).expect("a request")
}

pub(crate) async fn read(response: Response<Body>) -> Read {
    let (parts, mut pieces) = response.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece);
    }
    Read { status: parts.status, headers: parts.headers, body: String::from_utf8(body).expect("UTF-8") }
}

/// Sends a request and reads all of the answer.
pub(crate) fn ask(service: &Service<World>, request: Request<Bytes>) -> Read {
    let world = Rc::clone(service.host());
    let answer = world.run(async { read(service.handle(request).await).await });
    world.settle();
    answer
}
