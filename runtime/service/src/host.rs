//! What a host lends: the only place where a browser, an edge and a native program differ.

use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use firecrest_contract::error::{ApiError, ErrorKind, STORE_UNAVAILABLE};
use firecrest_policy::lanes::Class;
use firecrest_policy::limits::{Command, Millis, Outcome, Tier};

use crate::aside::{Full, Task};
use crate::backend::Backend;
use crate::record::Record;

/// The host of a service. Its futures run on one thread, the service's.
///
/// Ports are verbs, atomic at their owner: none is a get and a put with a wait between them.
#[allow(async_fn_in_trait, reason = "the service runs on one thread: its futures are not Send, and needn't be")]
pub trait Host: 'static {
    /// What answers here: a closed set.
    type Backend: Backend + 'static;

    /// Milliseconds since 1970.
    fn wall(&self) -> Millis;

    /// A clock that never goes back.
    fn monotonic(&self) -> Duration;

    /// Random bytes that nobody can guess.
    fn random(&self, out: &mut [u8]);

    /// Ready when so much time has passed.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;

    /// Runs what must be done though its caller went away: settling a lease.
    fn outlive(&self, task: impl Future<Output = ()> + 'static);

    /// Does work of this key that takes long where it holds up nobody else: natively on another thread, a few at a time, keys by turns. A host without threads
    /// does it before this returns. Work that is never done is as good as failed.
    ///
    /// # Errors
    /// Too much waits already.
    fn offload(&self, key: &str, work: Task) -> Result<(), Full>;

    /// Whose key this is. `None` as the key: the caller showed none; a host that asks for none answers with whom it takes everybody for.
    ///
    /// # Errors
    /// The store's: the caller is refused, for nobody knows whether it may go on.
    async fn find_key(&self, presented: Option<&str>) -> Result<Option<Rc<Principal>>, StoreError>;

    /// Carries out a command on a key's account, at its one owner.
    ///
    /// # Errors
    /// The store's: the caller is refused.
    async fn apply(&self, principal: &Principal, command: Command) -> Result<Outcome, StoreError>;

    /// Ready when the key of a caller holds no longer: what runs for it ends. A host that doesn't know of it never is.
    fn ended(&self, _principal: &Principal) -> impl Future<Output = ()> + 'static {
        std::future::pending()
    }

    /// The models that there are, loaded or not, in the order to show them.
    fn models(&self) -> Vec<ModelCard>;

    /// The backend that serves a model, loaded first where it isn't.
    ///
    /// # Errors
    /// `not_found_error` for a model that is not among [`Host::models`]; what its loading failed with.
    async fn open(&self, model: &str) -> Result<Rc<Self::Backend>, ApiError>;

    /// Takes a model out of memory, once nothing runs on it. It comes back where it is asked for.
    ///
    /// # Errors
    /// `not_found_error`; `conflict_error` while something runs on it.
    async fn unload(&self, model: &str) -> Result<(), ApiError>;

    /// Hears what became of a request, once each.
    fn record(&self, record: &Record<'_>);
}

/// Who calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// The public part of its key: its account's name. Shown in logs and metrics.
    pub key: Rc<str>,
    /// What it may use.
    pub limits: Tier,
    /// How urgent its requests may be.
    pub class: Class,
    /// Salts what it shares in the prompt cache: a secret of the key, not the key.
    pub namespace: String,
    /// Positions of a prompt that one of its requests may pin.
    pub pin_quota: u64,
    /// Whether answers of a form and calls of tools are told only when they are whole, and judged before anything of them is seen.
    pub whole_blocks: bool,
    /// Whether it may load and unload models.
    pub admin: bool,
}

/// A store that did not answer, or answered nonsense. Why is for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It does not answer now, and may later.
    Unavailable(String),
    /// It answered what this service can make nothing of, and will again.
    Nonsense(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (StoreError::Unavailable(why) | StoreError::Nonsense(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for StoreError {}

impl From<StoreError> for ApiError {
    /// What failed is ours, and not for callers to read.
    fn from(error: StoreError) -> ApiError {
        let ours = |message| ApiError::new(ErrorKind::Api, message);
        match error {
            StoreError::Unavailable(_) => ours("a store of this service does not answer; try again later").code(STORE_UNAVAILABLE),
            StoreError::Nonsense(_) => ours("this service can't use what it keeps of this key; its operator finds why in the log"),
        }
    }
}

/// A model, as lists show it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCard {
    /// By which requests name it.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// Seconds since 1970, of its file.
    pub created: u64,
    /// Tokens of prompt and answer together, where that is known before it is loaded.
    pub context: Option<u64>,
    /// What it can do.
    pub abilities: Abilities,
    /// Whether it is in memory.
    pub loaded: bool,
}

/// What a model can do beyond text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// It goes on from a text.
    pub generates: bool,
    /// It makes vectors.
    pub embeds: bool,
    /// It was trained to think first.
    pub thinks: bool,
    /// It calls tools.
    pub tools: bool,
}
