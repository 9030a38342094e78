//! What answers: this machine's engine, an upstream, or a script. The path asks all of them the same three questions.

mod allowance;

pub use allowance::Allowance;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use firecrest_contract::ask::{Ask, Beyond};
use firecrest_contract::embed::{EmbedAsk, Embedded};
use firecrest_contract::error::{ApiError, ErrorKind};
pub use firecrest_policy::lanes::Queue;
pub use firecrest_policy::limits::{Exactness, Price};
use firecrest_policy::safety::gate::Unjudged;
use firecrest_policy::safety::judge::PromptText;
use futures_util::Stream;

use crate::aside::Aside;

/// Inputs that a backend makes vectors of at once: it gathers what it can of them into a step, and holds no more requests than it must.
pub const AT_ONCE: u32 = 16;

/// Whose a request is, as a backend tells it: a number made of its key's public part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(pub u64);

impl Owner {
    /// Of a key.
    pub fn of(key: &str) -> Owner {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        Owner(hasher.finish())
    }
}

/// What a backend is given along with an ask.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Tokens that may be generated, over all answers. Where they are used up the answers pause until there are more.
    pub output: Allowance,
    /// Who goes first: lower lanes do. 0 is the first of three.
    pub lane: u8,
    /// Whose it is. Within a lane owners take turns.
    pub owner: Owner,
    /// When the answer is worth nothing any more, by the host's monotonic clock: it ends there.
    pub deadline: Option<Duration>,
    /// Refused ([`StartError::Busy`]) where the first token is expected later than this from now. `None`: it waits.
    pub patience: Option<Duration>,
    /// Only asks of one namespace share a prompt cache: a salt of the caller's key, which nobody can guess. How soon an answer comes tells whether its
    /// prompt was known.
    pub namespace: String,
    /// Positions of the prompt that this ask may pin in the cache. Breakpoints behind them are not kept.
    pub pin_quota: u64,
    /// Where its long work is done.
    pub aside: Aside,
}

impl Grant {
    /// Everything, of the first lane: for tests, and where nobody is limited.
    pub fn unlimited() -> Grant {
        let (output, namespace, aside) = (Allowance::unlimited(), String::new(), Aside::in_place());
        Grant { output, lane: 0, owner: Owner::of(""), deadline: None, patience: None, namespace, pin_quota: u64::MAX, aside }
    }
}

/// Why an answer was not begun. Nothing of it was produced, so that another backend may be asked.
#[derive(Clone, Debug, PartialEq)]
pub enum StartError {
    /// Too much to do.
    Busy {
        /// When it may be worth trying again.
        retry_after: Duration,
    },
    /// It failed before its first event.
    Before {
        /// What to tell the caller where nobody else is left to ask.
        error: ApiError,
        /// Whether the same backend may be asked again.
        retry: bool,
    },
    /// The ask is wrong, or this backend can't serve it as asked.
    Refused(ApiError),
}

/// What a caller is told where there is too much to do.
pub(crate) fn busy(retry_after: Duration) -> ApiError {
    let wait = (retry_after.as_millis() as u64).max(1);
    ApiError::new(ErrorKind::Overloaded, format!("too many requests are waiting; try again in {wait} ms")).retry_after_ms(wait)
}

/// What a backend says back, in the order that [`firecrest_contract::event::Event`] tells. Dropping it cancels what is left. After `End` or `Fault` it ends.
pub type Events = Pin<Box<dyn Stream<Item = Unjudged>>>;

/// Who can answer.
#[allow(async_fn_in_trait, reason = "the service runs on one thread: its futures are not Send, and needn't be")]
pub trait Backend {
    /// Whether it can serve every field of an ask, without looking at what its texts say: one that can't fit whatever it says is refused too. Hints in [`Ask::beyond`] count as served: whether they may be
    /// dropped is the path's to decide.
    ///
    /// # Errors
    /// The first leaf that it can't serve, and why.
    fn check(&self, ask: &Ask) -> Result<(), ApiError>;

    /// What it leaves out of an ask that it serves, though the answer is right without it.
    fn hints(&self, ask: &Ask) -> Vec<Beyond> {
        let _ = ask;
        Vec::new()
    }

    /// The texts of [`Ask::raw`]: what is judged. Token ids are spelled out, control tokens included, and what stands between these is told beside it.
    ///
    /// # Errors
    /// Work that was lost.
    async fn spelled(&self, ask: &Arc<Ask>, aside: &Aside) -> Result<Vec<PromptText>, ApiError>;

    /// What an ask takes.
    ///
    /// # Errors
    /// An ask that it can't serve, as [`Backend::check`], or whose prompt is longer than the context.
    async fn price(&self, ask: &Arc<Ask>, aside: &Aside) -> Result<Price, ApiError>;

    /// Tokens of what is to become vectors.
    ///
    /// # Errors
    /// An ask that it can't serve: a model that makes none, an input longer than the context.
    async fn embed_price(&self, ask: &Arc<EmbedAsk>, aside: &Aside) -> Result<u64, ApiError>;

    /// Makes vectors.
    ///
    /// # Errors
    /// As [`Backend::embed_price`]; what the engine failed with.
    async fn embed(&self, ask: Arc<EmbedAsk>, lane: u8, owner: Owner, aside: &Aside) -> Result<Embedded, ApiError>;

    /// What it holds of what it may hold, where requests wait for each other. `None`: nobody waits there.
    fn queue(&self) -> Option<Queue>;

    /// Places of its queue that an ask of so many answers takes: fewer than these, if it begins some only when others have ended.
    fn places(&self, answers: u32) -> u32 {
        answers
    }

    /// Begins to answer. Ready once the first event is there, so that whatever fails before it is an error here and another backend may be asked; until
    /// then dropping the future cancels.
    ///
    /// # Errors
    /// Nothing was produced.
    async fn start(&self, ask: Arc<Ask>, grant: Grant) -> Result<Events, StartError>;
}
