//! Which backends may serve a request, in which order, and why.
//!
//! Two steps, because in between the service asks each backend what it can do. [`Table::resolve`] says where a model is served under the
//! name that the caller knows; then each of these backends is checked, priced and looked at, which makes a [`Standing`]; [`route`] orders
//! them, or says why none will do.
//!
//! ```
//! use firecrest_policy::breaker;
//! use firecrest_policy::routing::*;
//!
//! let table: Table = toml::from_str(r#"
//!     aliases = [{ pattern = "claude-*", model = "house" }]
//!
//!     [[models]]
//!     name = "house"
//!     on = [{ backend = "local", model = "qwen3-4b" }, { backend = "anthropic", model = "claude-sonnet-4-5" }]
//! "#).unwrap();
//! table.check().unwrap();
//!
//! let targets = table.resolve("claude-opus-4-1").unwrap();
//! let standings: Vec<Standing> = targets.into_iter().map(Standing::idle).collect();
//! let query = Query { model: "claude-opus-4-1", wish: Some(Wish::PreferRemote), private: false, patience: None, now: 0 };
//! let candidates = route(&query, &standings).unwrap();
//! assert_eq!(candidates[0].target.backend, Backend::Remote("anthropic".to_owned()));
//! assert_eq!(candidates[0].reason, "preferred by firecrest-route");
//! assert_eq!(candidates[1].target.model, "qwen3-4b");
//! ```

mod table;
#[cfg(test)]
mod tests;

use std::fmt;

use firecrest_contract::ask::Beyond;
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::path::Path;

use crate::breaker;
use crate::limits::{Exactness, Millis, Price};

pub use table::{Alias, Backend, HOSTED, Model, Table, TableError, Target, Where, meant};

/// The header that carries a [`Wish`].
pub const HEADER: &str = "firecrest-route";

/// Where a caller wants to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// On this device or not at all.
    LocalOnly,
    /// Elsewhere or not at all.
    RemoteOnly,
    /// On this device if it can be.
    PreferLocal,
    /// Elsewhere if it can be.
    PreferRemote,
}

impl Wish {
    /// Every wish.
    pub const ALL: [Wish; 4] = [Wish::LocalOnly, Wish::RemoteOnly, Wish::PreferLocal, Wish::PreferRemote];

    /// As the header says it.
    pub const fn name(self) -> &'static str {
        match self {
            Wish::LocalOnly => "local-only",
            Wish::RemoteOnly => "remote-only",
            Wish::PreferLocal => "prefer-local",
            Wish::PreferRemote => "prefer-remote",
        }
    }

    /// Reads the header.
    ///
    /// # Errors
    /// 400 for what is no wish.
    pub fn parse(value: &str) -> Result<Wish, ApiError> {
        let value = value.trim();
        Wish::ALL.into_iter().find(|w| w.name().eq_ignore_ascii_case(value)).ok_or_else(|| {
            ApiError::invalid(
                HEADER,
                format_args!("expected local-only, remote-only, prefer-local or prefer-remote, found {}", table::quoted(value)),
            )
        })
    }

    const fn permits(self, local: bool) -> bool {
        match self {
            Wish::LocalOnly => local,
            Wish::RemoteOnly => !local,
            Wish::PreferLocal | Wish::PreferRemote => true,
        }
    }

    const fn prefers(self, local: bool) -> bool {
        match self {
            Wish::LocalOnly | Wish::PreferLocal => local,
            Wish::RemoteOnly | Wish::PreferRemote => !local,
        }
    }
}

/// A leaf of a request that a backend can't serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where it is: `tools.3.type`.
    pub path: Path,
    /// Why it can't, to be shown behind the path.
    pub why: String,
}

impl From<&Beyond> for Refusal {
    fn from(beyond: &Beyond) -> Refusal {
        Refusal { path: beyond.path.clone(), why: beyond.why.clone() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

/// How one backend stands to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Which, and the model's name there.
    pub target: Target,
    /// What of the request it can't serve.
    pub refusals: Vec<Refusal>,
    /// What the request takes there, if that is known.
    pub price: Option<Price>,
    /// Tokens that prompt and answer may have together; `None` if nobody knows.
    pub context: Option<u64>,
    /// How its breaker stands.
    pub breaker: breaker::State,
    /// It takes nothing for so many milliseconds: its queue is full, or slower than the caller has patience for.
    pub busy: Option<Millis>,
    /// When the first token is expected, in milliseconds from now.
    pub predicted_ttft: Option<Millis>,
}

impl Standing {
    /// One that can do all and has nothing to do.
    pub fn idle(target: Target) -> Standing {
        Standing {
            target,
            refusals: Vec::new(),
            price: None,
            context: None,
            breaker: breaker::State::Closed,
            busy: None,
            predicted_ttft: None,
        }
    }

    /// Whether the prompt has room there, and a token of the answer beside it; `None` if that is not sure.
    fn fits(&self) -> Option<bool> {
        let (Some(price), Some(context)) = (self.price, self.context) else { return Some(true) };
        let fits = price.input < context;
        match price.exactness {
            Exactness::Exact => Some(fits),
            // What may be too much may not be.
            Exactness::UpperBound | Exactness::Estimate => fits.then_some(true),
        }
    }

    /// When it may be worth asking, in milliseconds from now; `None` if it is now.
    fn wait(&self, now: Millis) -> Option<Millis> {
        let breaker = match self.breaker {
            breaker::State::Open { until } if until > now => Some(until - now),
            _ => None,
        };
        breaker.max(self.busy.map(|b| b.max(1)))
    }
}

/// What is asked of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The model, as the caller names it.
    pub model: &'a str,
    /// Where it wants to be served.
    pub wish: Option<Wish>,
    /// Nothing of the request may leave the device.
    pub private: bool,
    /// A backend whose first token is expected later than this, in milliseconds, comes after those where it is not.
    pub patience: Option<Millis>,
    /// Now.
    pub now: Millis,
}

/// A backend to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which, and the model's name there.
    pub target: Target,
    /// Its place among the standings.
    pub index: usize,
    /// Why it has its place, for people: `preferred by firecrest-route; first token expected in 80 ms`.
    pub reason: String,
}

/// The backends to try, best first. Standings come in the operator's order, which holds among equals.
///
/// Whoever is expected to keep the caller waiting longer than it has patience for comes last; then what the caller prefers counts; then
/// whether the prompt surely fits.
///
/// # Errors
/// 404 without any standing. 400 that names the header, `model` or the leaf where no backend that is permitted can serve the request. 529
/// where all that could are busy, with the shortest of their waits.
pub fn route(query: &Query, standings: &[Standing]) -> Result<Vec<Candidate>, ApiError> {
    if standings.is_empty() {
        return Err(table::unknown(query.model));
    }
    let permitted = |s: &&Standing| permits(query, &s.target.backend);
    if !standings.iter().any(|s| permitted(&s)) {
        return Err(forbidden(query));
    }
    let can = |s: &&Standing| s.refusals.is_empty() && s.fits() != Some(false);
    if !standings.iter().filter(permitted).any(|s| can(&s)) {
        return Err(refused(query, standings));
    }
    let able = standings.iter().enumerate().filter(|(_, s)| permitted(s) && can(s));
    let mut waits = Vec::new();
    let mut ready = Vec::new();
    for (index, standing) in able {
        match standing.wait(query.now) {
            Some(wait) => waits.push(wait),
            None => ready.push((rank(query, standing), index, standing)),
        }
    }
    if ready.is_empty() {
        let wait = waits.into_iter().min().unwrap_or(1);
        let message = format!("every backend that could serve this request is busy or failing; try again in {wait} ms");
        return Err(ApiError::new(ErrorKind::Overloaded, message).retry_after_ms(wait));
    }
    ready.sort_by_key(|&(rank, index, _)| (rank, index));
    Ok(ready.into_iter().map(|(_, index, s)| Candidate { target: s.target.clone(), index, reason: reason(query, s, standings) }).collect())
}

fn permits(query: &Query, backend: &Backend) -> bool {
    let local = *backend == Backend::Local;
    (local || !query.private) && query.wish.is_none_or(|w| w.permits(local))
}

/// Lower is better.
fn rank(query: &Query, standing: &Standing) -> [bool; 3] {
    let local = standing.target.backend == Backend::Local;
    [late(query, standing), query.wish.is_some_and(|w| !w.prefers(local)), standing.fits().is_none()]
}

fn late(query: &Query, standing: &Standing) -> bool {
    standing.predicted_ttft.zip(query.patience).is_some_and(|(predicted, patience)| predicted > patience)
}

fn reason(query: &Query, standing: &Standing, standings: &[Standing]) -> String {
    let local = standing.target.backend == Backend::Local;
    let mut reasons: Vec<String> = Vec::new();
    reasons.push(match query.wish {
        _ if query.private => "the request may not leave the device".to_owned(),
        Some(wish @ (Wish::LocalOnly | Wish::RemoteOnly)) => format!("{HEADER}: {}", wish.name()),
        Some(wish) if wish.prefers(local) => format!("preferred by {HEADER}"),
        Some(_) => format!("not preferred by {HEADER}"),
        None if standings.len() == 1 => "the only backend of this model".to_owned(),
        None => "in the operator's order".to_owned(),
    });
    if late(query, standing) {
        reasons.push("slower than the caller has patience for".to_owned());
    }
    if standing.fits().is_none() {
        reasons.push("the prompt may be too long".to_owned());
    }
    if standing.breaker == breaker::State::HalfOpen {
        reasons.push("on probation".to_owned());
    }
    if let Some(predicted) = standing.predicted_ttft {
        reasons.push(format!("first token expected in {predicted} ms"));
    }
    reasons.join("; ")
}

/// No backend of the model may be asked.
fn forbidden(query: &Query) -> ApiError {
    let model = table::quoted(query.model);
    match query.wish {
        Some(Wish::RemoteOnly) if query.private => {
            ApiError::invalid(HEADER, "remote-only, but this key's requests never leave the device; leave the header out")
        }
        Some(Wish::RemoteOnly) => {
            ApiError::invalid(HEADER, format_args!("remote-only, but {model} is served locally only; leave the header out"))
        }
        Some(Wish::LocalOnly) => ApiError::invalid(
            HEADER,
            format_args!("local-only, but {model} is not served locally; name a local model or leave the header out"),
        ),
        _ => ApiError::invalid(
            "model",
            format_args!("{model} is not served locally, and this key's requests never leave the device; name a local model"),
        ),
    }
}

/// None of the backends that may be asked can do it: what the one that lacks least lacks.
fn refused(query: &Query, standings: &[Standing]) -> ApiError {
    let (permitted, others): (Vec<_>, Vec<_>) = standings.iter().partition(|s| permits(query, &s.target.backend));
    let lacks = |s: &&&Standing| (s.refusals.len(), s.fits() == Some(false));
    let best = permitted.iter().min_by_key(lacks);
    let elsewhere = if others.iter().any(|s| s.refusals.is_empty() && s.fits() != Some(false)) {
        match query.wish {
            _ if query.private => "; another backend could serve it, but this key's requests never leave the device",
            _ => "; another backend could serve it, but firecrest-route does not permit that",
        }
    } else {
        ""
    };
    let Some(best) = best else { return forbidden(query) };
    match best.refusals.split_first() {
        Some((first, rest)) => {
            let more = rest.len();
            let also = rest.first().map_or(String::new(), |r| match more {
                1 => format!("; also {r}"),
                _ => format!("; also {r}, and {} more", more - 1),
            });
            ApiError::invalid(&first.path, format_args!("{}{also}{elsewhere}", first.why))
        }
        None => {
            let (input, context) = (best.price.map_or(0, |p| p.input), best.context.unwrap_or(0));
            ApiError::invalid(
                "messages",
                format_args!(
                    "the prompt has {input} tokens, and {} has room for {context} with the answer; make it shorter{elsewhere}",
                    table::quoted(query.model)
                ),
            )
        }
    }
}
