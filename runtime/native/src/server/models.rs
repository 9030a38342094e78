//! Models in memory: loaded when they are asked for, let go when others need their room.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use firecrest_contract::error::{ApiError, ErrorKind, MODEL_UNAVAILABLE, shown};
use firecrest_engine::Clock;
use firecrest_engine::engine::{Engine, EngineOptions, KvFormat};
use firecrest_engine::file::ModelFile;
use firecrest_engine::text::WallTime;
use firecrest_policy::breaker::Ticket;
use firecrest_service::host::{Abilities, ModelCard};
use firecrest_service::local::{Lent, Local};
use firecrest_service::scripted::Scripted;
use futures_channel::oneshot;
use pollster::block_on;
use tokio::task::AbortHandle;

use super::backend::AnyBackend;
use super::config::{Config, ModelConfig};
use super::health::{Health, STEADY};
use super::metrics::Metrics;
use crate::EngineThread;

/// All models that are served.
pub(super) struct Models {
    room: Rc<Room>,
}

/// What models share: memory, and what they are loaded with.
struct Room {
    entries: Vec<Rc<Entry>>,
    /// Bytes that they may take together; 0 is as many as there are.
    budget: u64,
    /// How long a caller waits for one to be loaded.
    patience: Duration,
    metrics: Arc<Metrics>,
    clock: Clock,
}

struct Entry {
    config: Option<ModelConfig>,
    card: RefCell<ModelCard>,
    state: RefCell<State>,
    used: Cell<Instant>,
    /// What it takes in memory: as it was the last time, before that the size of its files.
    bytes: Cell<u64>,
    health: Health,
    /// Times that it was in memory.
    loads: Cell<u64>,
    /// Stops what looks after it.
    watch: Cell<Option<AbortHandle>>,
}

enum State {
    Out,
    /// Callers that wait for it.
    Loading(Vec<oneshot::Sender<Result<Rc<AnyBackend>, ApiError>>>),
    In {
        backend: Rc<AnyBackend>,
        /// None behind a script.
        thread: Option<EngineThread>,
    },
}

/// A script in place of a model, made on the server's thread.
pub(super) type Script = Box<dyn FnOnce() -> Scripted + Send>;

impl Models {
    pub(super) fn new(config: &Config, scripts: Vec<(String, Script)>, metrics: Arc<Metrics>, began: Instant) -> Result<Models, String> {
        let mut entries = Vec::new();
        for (name, script) in scripts {
            let abilities = Abilities { generates: true, embeds: false, thinks: true, tools: true };
            let card = ModelCard { display_name: name.clone(), id: name, created: 0, context: None, abilities, loaded: true };
            let state = State::In { backend: Rc::new(AnyBackend::Scripted(script())), thread: None };
            entries.push(Entry::new(None, card, state, 0));
        }
        for model in &config.models {
            let (card, bytes) = look_at(model).map_err(|why| format!("model {}: {why}", model.name()))?;
            entries.push(Entry::new(Some(model.clone()), card, State::Out, bytes));
        }
        let clock: Clock = Arc::new(move || began.elapsed());
        let (budget, patience) = (config.memory, config.timeouts.answer());
        let room = Rc::new(Room { entries, budget, patience, metrics, clock });
        room.tell_health();
        Ok(Models { room })
    }

    /// Looks after none of them any more.
    pub(super) fn stop_watching(&self) {
        for entry in &self.room.entries {
            entry.watched_by(None);
        }
    }

    /// Models that are to be there before anybody asks.
    pub(super) fn preloaded(&self) -> Vec<String> {
        let wanted = self.room.entries.iter().filter(|entry| entry.config.as_ref().is_some_and(|config| config.preload));
        wanted.map(|entry| entry.card.borrow().id.clone()).collect()
    }

    pub(super) fn cards(&self) -> Vec<ModelCard> {
        self.room.entries.iter().map(|entry| entry.card.borrow().clone()).collect()
    }

    fn entry(&self, name: &str) -> Result<&Rc<Entry>, ApiError> {
        let entries = &self.room.entries;
        entries.iter().find(|entry| entry.card.borrow().id == name).ok_or_else(|| {
            let known: Vec<String> = entries.iter().take(8).map(|entry| entry.card.borrow().id.clone()).collect();
            let message = format!("model: {} is not served here; there are: {}", shown(name), known.join(", "));
            ApiError::new(ErrorKind::NotFound, message).at("model").code("model_not_found")
        })
    }

    pub(super) async fn open(&self, name: &str) -> Result<Rc<AnyBackend>, ApiError> {
        let entry = self.entry(name)?;
        entry.used.set(Instant::now());
        tokio::time::timeout(self.room.patience, self.loaded(name, entry)).await.unwrap_or_else(|_| {
            let message = format!("model {name} is still being loaded; try again later");
            Err(ApiError::new(ErrorKind::Timeout, message))
        })
    }

    async fn loaded(&self, name: &str, entry: &Rc<Entry>) -> Result<Rc<AnyBackend>, ApiError> {
        // Who looks after it is about to hear of it.
        while entry.is_over() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if entry.is_out() {
            self.room.begin(entry).map_err(|wait| unavailable(name, wait))?;
        }
        let loaded = match &mut *entry.state.borrow_mut() {
            State::In { backend, .. } => return Ok(Rc::clone(backend)),
            State::Loading(waiting) => waited(waiting),
            State::Out => return Err(not_loaded(name)),
        };
        loaded.await.unwrap_or_else(|_| Err(not_loaded(name)))
    }

    pub(super) fn unload(&self, name: &str) -> Result<(), ApiError> {
        let entry = self.entry(name)?;
        if entry.is_out() {
            return Ok(());
        }
        if !entry.is_idle() {
            let message = format!("model {name} is in use, or a script; try again when its answers have ended");
            return Err(ApiError::new(ErrorKind::Conflict, message).should_retry(false));
        }
        entry.let_go(&self.room.metrics);
        Ok(())
    }
}

/// What callers are told of a model that can't be loaded. Why stands in the log: it names files.
fn not_loaded(name: &str) -> ApiError {
    ApiError::new(ErrorKind::Api, format!("model {name} could not be loaded; the server's log says why"))
}

/// Of one that failed again and again.
fn unavailable(name: &str, wait: Duration) -> ApiError {
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    let message = format!("model {name} failed several times and is tried again in {} s; come back then", wait.div_ceil(1000));
    ApiError::new(ErrorKind::Api, message).code(MODEL_UNAVAILABLE).retry_after_ms(wait).should_retry(true)
}

impl Room {
    /// Now, as failures of a model are timed.
    fn now(&self, entry: &Entry) -> Duration {
        let now = (self.clock)();
        #[cfg(test)]
        let now = now + failures::skew(&entry.card.borrow().id);
        #[cfg(not(test))]
        let _ = entry;
        now
    }

    /// Begins to load a model that is out.
    ///
    /// # Errors
    /// How long to wait: it failed too often.
    fn begin(self: &Rc<Room>, entry: &Rc<Entry>) -> Result<(), Duration> {
        let Some(config) = entry.config.clone() else { return Ok(()) };
        let ticket = entry.health.permit(self.now(entry))?;
        entry.state.replace(State::Loading(Vec::new()));
        self.make(entry);
        // Goes on though its caller leaves: others may wait too.
        tokio::task::spawn_local(load(Rc::clone(self), Rc::clone(entry), config, ticket));
        Ok(())
    }

    /// It could not be loaded, or its engine failed.
    fn failed(&self, entry: &Entry, ticket: Ticket) {
        entry.health.failed(self.now(entry), ticket);
        self.metrics.model_failed(&entry.card.borrow().id);
        self.tell_health();
    }

    /// Loads a model that failed again: at once, or when it may be tried.
    fn again(self: &Rc<Room>, entry: &Rc<Entry>) {
        let Err(wait) = self.begin(entry) else { return };
        tracing::warn!(model = entry.card.borrow().id, seconds = wait.as_secs(), "unhealthy: it failed several times, and is tried again");
        let (room, failed) = (Rc::clone(self), Rc::clone(entry));
        let waits = async move {
            tokio::time::sleep(wait).await;
            if failed.is_out() {
                room.again(&failed);
            }
        };
        entry.watched_by(Some(tokio::task::spawn_local(waits).abort_handle()));
    }

    /// Keeps what `/readyz` and the metrics say of models true.
    fn tell_health(&self) {
        let count = |which: &dyn Fn(&Entry) -> bool| self.entries.iter().filter(|entry| which(entry)).count();
        let unhealthy = count(&|entry| entry.health.is_doubtful(self.now(entry)) && !entry.is_in());
        let awaited = count(&|entry| entry.loads.get() == 0 && entry.config.as_ref().is_some_and(|config| config.preload));
        self.metrics.models_unhealthy.set(i64::try_from(unhealthy).unwrap_or(i64::MAX));
        self.metrics.models_awaited.set(i64::try_from(awaited).unwrap_or(i64::MAX));
    }

    fn others<'a>(&'a self, entry: &'a Rc<Entry>) -> impl Iterator<Item = &'a Rc<Entry>> {
        self.entries.iter().filter(move |other| !Rc::ptr_eq(other, entry))
    }

    /// What models take beside this one, those included that are being loaded.
    fn taken_beside(&self, entry: &Rc<Entry>) -> u64 {
        let held = self.others(entry).filter(|other| !other.is_out());
        held.fold(0, |sum, other| sum.saturating_add(other.bytes.get()))
    }

    /// Lets go of other models that nothing runs on, those first that were not used for longest, until there is room for this one.
    fn make(&self, entry: &Rc<Entry>) {
        if self.budget == 0 {
            return;
        }
        while self.taken_beside(entry).saturating_add(entry.bytes.get()) > self.budget {
            let idle = self.others(entry).filter(|other| other.is_idle());
            let Some(oldest) = idle.min_by_key(|other| other.used.get()) else {
                tracing::warn!(model = entry.card.borrow().id, "loaded beyond the memory budget: every other model is in use");
                return;
            };
            oldest.let_go(&self.metrics);
        }
    }
}

fn waited(waiting: &mut Vec<oneshot::Sender<Result<Rc<AnyBackend>, ApiError>>>) -> oneshot::Receiver<Result<Rc<AnyBackend>, ApiError>> {
    let (sender, receiver) = oneshot::channel();
    waiting.push(sender);
    receiver
}

impl Entry {
    fn new(config: Option<ModelConfig>, card: ModelCard, state: State, bytes: u64) -> Rc<Entry> {
        let (card, state) = (RefCell::new(card), RefCell::new(state));
        let (used, bytes) = (Cell::new(Instant::now()), Cell::new(bytes));
        Rc::new(Entry { config, card, state, used, bytes, health: Health::default(), loads: Cell::new(0), watch: Cell::new(None) })
    }

    /// From now on this looks after it, and nothing else.
    fn watched_by(&self, watch: Option<AbortHandle>) {
        if let Some(before) = self.watch.replace(watch) {
            before.abort();
        }
    }

    /// Whether its engine failed, and that is not seen to yet.
    fn is_over(&self) -> bool {
        matches!(&*self.state.borrow(), State::In { thread: Some(thread), .. } if thread.is_over())
    }

    fn is_in(&self) -> bool {
        matches!(*self.state.borrow(), State::In { .. })
    }

    fn is_out(&self) -> bool {
        matches!(*self.state.borrow(), State::Out)
    }

    /// Whether it is in memory and nobody holds it: who runs an answer does.
    fn is_idle(&self) -> bool {
        matches!(&*self.state.borrow(), State::In { backend, thread: Some(_) } if Rc::strong_count(backend) == 1)
    }

    fn let_go(&self, metrics: &Metrics) {
        if let State::In { thread, .. } = self.state.replace(State::Out) {
            self.card.borrow_mut().loaded = false;
            metrics.models_loaded.dec();
            metrics.model_bytes.dec_by(self.bytes.get() as i64);
            tracing::info!(model = self.card.borrow().id, "unloaded");
            // It waits for its thread.
            tokio::task::spawn_blocking(move || drop(thread));
        }
    }
}

/// What a model's file says of it, without its weights.
fn look_at(config: &ModelConfig) -> Result<(ModelCard, u64), String> {
    let sources = crate::sources(&config.path).map_err(|e| e.to_string())?;
    let bytes: u64 = sources.iter().map(|source| source.len()).sum();
    let file = block_on(ModelFile::open(sources)).map_err(|e| e.to_string())?;
    let shape = firecrest_engine::model::Config::from_file(&file).map_err(|e| e.to_string())?;
    let template = file.chat_template().map_err(|e| e.to_string())?.unwrap_or_default();
    let created = std::fs::metadata(&config.path).ok().and_then(|found| found.modified().ok());
    let created = created.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs());
    let card = ModelCard {
        id: config.name(),
        display_name: config.name(),
        created,
        context: Some(u64::from(config.context.unwrap_or(shape.trained_context.min(EngineOptions::DEFAULT_CONTEXT)))),
        abilities: Abilities {
            generates: shape.head && shape.causal,
            embeds: true,
            thinks: template.contains("<think>") || template.contains("enable_thinking"),
            tools: shape.causal && shape.head,
        },
        loaded: false,
    };
    Ok((card, bytes))
}

/// Loads a model, and tells all who wait for it.
async fn load(room: Rc<Room>, entry: Rc<Entry>, config: ModelConfig, ticket: Ticket) {
    let (name, started, preload) = (config.name(), Instant::now(), config.preload);
    let (matryoshka, open) = (config.matryoshka, config.open_objects);
    tracing::info!(model = name, "loading");
    let bytes = Arc::new(AtomicU64::new(0));
    let measured = Arc::clone(&bytes);
    #[cfg(not(test))]
    let step = async |engine: &mut Engine| engine.step().await;
    #[cfg(test)]
    let step = failures::step(name.clone());
    let load = move || {
        #[cfg(test)]
        failures::loading(&config.name());
        let file = block_on(crate::open(&config.path))?;
        let template = file.chat_template()?.map(str::to_owned);
        let device = config.device().map_err(firecrest_engine::Error::request)?;
        let mut options = EngineOptions { context: config.context, ..EngineOptions::default() };
        if let Some(sequences) = config.sequences {
            options.max_sequences = sequences;
            options.max_requests = options.max_requests.max(sequences);
        }
        if config.kv_type.as_deref() == Some("int8") {
            options.kv_format = KvFormat::Int8;
        }
        let engine = block_on(Engine::load(&file, block_on(device.backend())?, options, &mut |_, _| {}))?;
        let memory = engine.memory();
        measured.store(memory.weights + memory.adapters + memory.kv + memory.activations, Ordering::Relaxed);
        Ok((engine, template))
    };
    let spawned = EngineThread::spawn(load, Arc::clone(&room.clock), step).await;
    let made = spawned.and_then(|thread| {
        let local = Local::new(thread.port(), thread.facts(), lent())?;
        Ok((thread, local.matryoshka(matryoshka).open_objects(open)))
    });
    let (state, failure, told) = match made {
        Ok((mut thread, local)) => {
            let backend = Rc::new(AnyBackend::Local(local));
            entry.bytes.set(bytes.load(Ordering::Relaxed));
            entry.loads.set(entry.loads.get() + 1);
            let mut card = entry.card.borrow_mut();
            card.loaded = true;
            card.context = Some(u64::from(thread.facts().context));
            room.metrics.models_loaded.inc();
            room.metrics.model_bytes.inc_by(entry.bytes.get() as i64);
            tracing::info!(model = name, seconds = started.elapsed().as_secs_f64(), bytes = entry.bytes.get(), "loaded");
            thread.facts().tokenizer.notes().iter().for_each(|note| tracing::warn!(model = name, "{note}"));
            let failure = thread.failure();
            (State::In { backend: Rc::clone(&backend), thread: Some(thread) }, failure, Ok(backend))
        }
        Err(error) => {
            tracing::error!(model = name, %error, "a model could not be loaded");
            (State::Out, None, Err(not_loaded(&name)))
        }
    };
    let before = entry.state.replace(state);
    if told.is_ok() {
        // It may be larger than its files.
        room.make(&entry);
    }
    if let State::Loading(waiting) = before {
        for waiting in waiting {
            let _ = waiting.send(told.clone());
        }
    }
    match failure {
        Some(failure) => {
            let watch = watch(Rc::clone(&room), Rc::clone(&entry), failure, ticket);
            entry.watched_by(Some(tokio::task::spawn_local(watch).abort_handle()));
            room.tell_health();
        }
        None => {
            room.failed(&entry, ticket);
            // One that was asked for once may be asked for again; others are wanted anyhow.
            if preload || entry.loads.get() > 0 || entry.health.is_doubtful(room.now(&entry)) {
                room.again(&entry);
            }
        }
    }
}

/// Looks after a model in memory: where its engine fails, what ran on it has been told so, and it is loaded again.
async fn watch(room: Rc<Room>, entry: Rc<Entry>, mut failure: oneshot::Receiver<String>, ticket: Ticket) {
    let load = entry.loads.get();
    let (why, steady) = match tokio::time::timeout(STEADY, &mut failure).await {
        Ok(why) => (why, false),
        Err(_) => {
            entry.health.steady(room.now(&entry), ticket);
            room.tell_health();
            (failure.await, true)
        }
    };
    let Ok(why) = why else {
        if !steady {
            entry.health.unknown(room.now(&entry), ticket);
        }
        return;
    };
    tracing::error!(model = entry.card.borrow().id, why, "a model's engine failed");
    // Let go and loaded anew meanwhile, it has another engine.
    let in_use = entry.is_in() && entry.loads.get() == load;
    if in_use {
        entry.let_go(&room.metrics);
    }
    // Counted anew once it was steady: that ticket is brought back already.
    let ticket = if steady { entry.health.permit(room.now(&entry)).unwrap_or(ticket) } else { ticket };
    room.failed(&entry, ticket);
    if in_use {
        room.again(&entry);
    }
}

/// What backends may ask of this host.
fn lent() -> Lent {
    let random = || {
        let mut bytes = [0; 8];
        // Seeds and ids that repeat would be seen, not harmful.
        let _ = getrandom::fill(&mut bytes);
        u64::from_le_bytes(bytes)
    };
    Lent { wall: Box::new(wall), random: Rc::new(random) }
}

fn wall() -> Option<WallTime> {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(WallTime { unix_seconds: since.as_secs() as i64, utc_offset_seconds: 0 })
}

#[cfg(test)]
mod failures;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, state: State, bytes: u64) -> Rc<Entry> {
        let abilities = Abilities { generates: true, embeds: false, thinks: false, tools: false };
        let card = ModelCard { id: name.to_owned(), display_name: name.to_owned(), created: 0, context: None, abilities, loaded: false };
        Entry::new(None, card, state, bytes)
    }

    #[test]
    fn what_is_being_loaded_takes_room_too() {
        let script = AnyBackend::Scripted(Scripted::saying(&["x"]));
        let entries = vec![
            entry("out", State::Out, 1),
            entry("loading", State::Loading(Vec::new()), 20),
            entry("in", State::In { backend: Rc::new(script), thread: None }, 300),
            entry("next", State::Loading(Vec::new()), 4_000),
        ];
        let metrics = Arc::new(Metrics::new());
        let clock: Clock = Arc::new(|| Duration::ZERO);
        let room = Room { entries, budget: 1, patience: Duration::from_secs(1), metrics, clock };
        assert_eq!(room.taken_beside(&room.entries[3]), 320);
        assert_eq!(room.taken_beside(&room.entries[0]), 4_320);
        // None of them can go.
        room.make(&room.entries[3]);
        assert_eq!(room.taken_beside(&room.entries[3]), 320);
    }

    /// Bytes and number of the models in memory, after these were asked for, one behind the other.
    #[cfg(feature = "embedded")]
    fn loaded(memory: u64, names: &[&str]) -> (u64, u64) {
        let model = |name: &&str| ModelConfig {
            name: Some((*name).to_owned()),
            backend: Some("cpu".to_owned()),
            threads: Some(1),
            ..ModelConfig::from(crate::EMBEDDED)
        };
        let models = names.iter().map(model).collect();
        let config = Config { auth: false, store: ":memory:".into(), memory, models, ..Config::default() };
        let service = crate::Service::builder().config(config).build().expect("a service");
        block_on(async {
            for name in names {
                let request = http::Request::post(format!("/admin/models/{name}/load")).body(bytes::Bytes::new()).expect("a request");
                assert_eq!(service.call(request).await.status(), 200, "{name}");
            }
        });
        let text = service.metrics();
        let value = |name: &str| {
            let found: Option<u64> = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            found.unwrap_or_else(|| panic!("{name}: {text}"))
        };
        let found = (value("firecrest_model_bytes"), value("firecrest_models_loaded"));
        block_on(service.stop());
        found
    }

    /// Its file says less of a model than what it takes with its pages.
    #[cfg(feature = "embedded")]
    #[test]
    fn room_is_made_by_what_a_model_takes_once_it_is_loaded() {
        let (bytes, count) = loaded(0, &["first"]);
        assert!(bytes > firecrest_models::CHAT.len() as u64 && count == 1, "{bytes}");
        assert_eq!(loaded(2 * bytes, &["first", "second"]), (2 * bytes, 2));
        assert_eq!(loaded(2 * bytes - 1, &["first", "second"]), (bytes, 1));
    }

    #[cfg(feature = "embedded")]
    #[test]
    fn a_folder_is_as_large_as_its_files() {
        let folder = std::env::temp_dir().join(format!("firecrest-models-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("model.gguf"), firecrest_models::CHAT).expect("written");
        let (_, bytes) = look_at(&ModelConfig::from(folder.to_str().expect("a path"))).expect("a model");
        std::fs::remove_dir_all(folder).expect("removed");
        assert_eq!(bytes, firecrest_models::CHAT.len() as u64);
    }
}
