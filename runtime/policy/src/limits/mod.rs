//! What a caller may use: requests, input tokens and output tokens a minute, requests at once, and a budget.
//!
//! [`apply`] is the only code that touches an [`Account`], or [`apply_at`] where its owner has a clock. Each account has one owner that
//! calls it: an actor, a cell in a browser, a Durable Object. Nothing waits in between, so nothing races. All that is decided follows from
//! the account, the [`Tier`] and the [`Command`], times included.
//!
//! - A request takes a *lease*. Its input is taken whole, its output in quanta that it asks for as it streams. What was taken and not
//!   used is given back when it settles; what was used and not taken becomes debt: a bucket goes below 0, and nothing new is admitted
//!   until that is repaid.
//! - Commands may be lost, come twice or in another order. Totals and sequence numbers make each count once. A closed lease is remembered
//!   for [`GRACE`], or shorter if [`MOST_CLOSED`] of them come sooner; after that, commands from before it closed are known by their time
//!   and change nothing. So a command that is sent again must be the same command, [`Command::at`] included. Only [`Command::Request`]
//!   has no identity, and counts each time.
//! - A lease ends at its expiry if nothing is heard of it. All that it took stays taken: what it last reported and what it might have
//!   used since. If it settles after that, within the grace, its totals count; if it is extended, it goes on where there is a place.
//! - Time only moves forward. A command from before the last one is taken as if it came at the same time. Only the owner's own clock can
//!   set an account back ([`apply_at`]).
//! - All kinds of work are told in these commands. What generates nothing (embeddings) opens with no output and settles; counting tokens
//!   is a request and no lease; a batch is one request, and a lease for each of its items.
//! - A tier may change between any two commands. Buckets keep their levels; what a change would mint is never there.
//!
//! ```
//! use firecrest_policy::limits::*;
//!
//! let tier = Tier { output: Some(Limit::per_minute(6_000).unwrap()), ..Tier::default() };
//! let mut account = Account::default();
//! let lease = LeaseId(1);
//! let price = Price { input: 20, exactness: Exactness::Exact, output_cap: 4_096 };
//!
//! let open = Command::Open { at: 1_000, lease, expires: 31_000, price, output: 256 };
//! let (outcome, wake_at) = apply(&mut account, &tier, open);
//! assert!(matches!(outcome, Outcome::Granted { output: 256, .. }));
//! assert_eq!(wake_at, Some(31_000));
//!
//! // 200 tokens came; 256 more are wanted.
//! let so_far = Tally { input: Some(20), output: 200 };
//! let extend = Command::Extend { at: 2_000, lease, seq: 1, expires: 32_000, so_far, more: 256 };
//! assert!(matches!(apply(&mut account, &tier, extend).0, Outcome::Granted { output: 456, .. }));
//!
//! let settle = Command::Settle { at: 3_000, lease, total: Tally { input: Some(20), output: 300 } };
//! let (Outcome::Closed { levels }, _) = apply(&mut account, &tier, settle) else { panic!() };
//! // 300 were used, and 100 a second come back.
//! assert_eq!(levels.output.unwrap().remaining, 5_900);
//! ```

mod account;
mod bucket;
mod levels;
mod names;
#[cfg(test)]
mod tests;
mod time;

use std::fmt;
use std::num::NonZeroU32;

use firecrest_contract::event::Usage;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use account::{Account, GRACE, MOST_CLOSED, MOST_OPEN, TERM, apply, apply_at};
pub use bucket::{Budget, Level, Limit, LimitError, MOST};
pub use levels::{Levels, openai_headers, ratelimit_headers};
pub use names::{LONGEST_NAME, NameError, check_name};
pub use time::{FAR, Millis, rfc3339};

/// What a key may use. `None` is as much as it likes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tier {
    /// Requests.
    pub requests: Option<Limit>,
    /// Tokens of prompts. Those read from the cache don't count.
    pub input: Option<Limit>,
    /// Tokens generated, thoughts included, over all answers to a request.
    pub output: Option<Limit>,
    /// Leases open at once; at most [`MOST_OPEN`] anyway.
    pub concurrent: Option<NonZeroU32>,
    /// Input and output together.
    pub budget: Option<Budget>,
}

/// A lease's name: 128 random bits, so that two leases never have the same. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u128);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for LeaseId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LeaseId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LeaseId, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(&text, 16) {
            Ok(id) if digits => Ok(LeaseId(id)),
            _ => {
                Err(serde::de::Error::custom(format_args!("a lease is named by 32 hexadecimal digits, found {:.64}", text.escape_debug())))
            }
        }
    }
}

/// What a request will take, as a backend knows before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Tokens of its prompt, as if none were in the cache.
    pub input: u64,
    /// How far to trust that.
    pub exactness: Exactness,
    /// Tokens of output at most, over all answers. Not taken: output is leased in quanta.
    pub output_cap: u64,
}

/// How a price was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exactness {
    /// Counted with the model's own tokenizer.
    Exact,
    /// Never too low: a token is at least a byte. It may be several times too high, so a prompt that is priced above a bucket's capacity
    /// may still fit. It takes the whole bucket, and what it turns out to have used beyond that is debt.
    UpperBound,
    /// A guess: images, system texts that an upstream hides. What it falls short of is debt.
    Estimate,
}

/// Tokens of output that an answer is leased at a time. Fewer would cost more commands, more would be held from others for nothing.
pub const QUANTUM: u64 = 256;

/// The output that a request is to hold: a [`QUANTUM`] for each of its answers, but no more than each may yet have by `max_tokens` and by
/// the context.
///
/// ```
/// use firecrest_policy::limits::quantum;
/// assert_eq!(quantum(Some(4_096), Some(100_000), 1), 256);
/// assert_eq!(quantum(Some(50), None, 4), 200);
/// assert_eq!(quantum(None, Some(7), 1), 7);
/// ```
pub fn quantum(max_tokens_left: Option<u64>, context_left: Option<u64>, answers: u32) -> u64 {
    QUANTUM.min(max_tokens_left.unwrap_or(QUANTUM)).min(context_left.unwrap_or(QUANTUM)) * u64::from(answers)
}

/// What a request used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Tokens of its prompt, without those read from the cache; `None` as long as nobody knows, and the price stands.
    pub input: Option<u64>,
    /// Tokens generated, over all answers.
    pub output: u64,
}

impl From<Usage> for Tally {
    fn from(usage: Usage) -> Tally {
        let input = usage.input.saturating_add(usage.cache_write_5m).saturating_add(usage.cache_write_1h);
        Tally { input: Some(input), output: usage.output }
    }
}

/// What an account's owner is told. Sent again after an answer was lost, a command is the same in every field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// A request came in. Has no identity: told twice, it counts twice.
    Request {
        /// When it was sent.
        at: Millis,
    },
    /// A request is to start.
    Open {
        /// When it was sent.
        at: Millis,
        /// Its name from here on.
        lease: LeaseId,
        /// When it ends if nothing is heard of it; at most [`TERM`] from now counts.
        expires: Millis,
        /// What it will take.
        price: Price,
        /// The first [`quantum`]; 0 where nothing is generated.
        output: u64,
    },
    /// A lease is alive, and may want more output.
    Extend {
        /// When it was sent.
        at: Millis,
        /// Which.
        lease: LeaseId,
        /// From 1, each time more. Of two with the same, and of one that was overtaken, nothing counts.
        seq: u64,
        /// As in [`Command::Open`]. Never takes back what an earlier one said.
        expires: Millis,
        /// What it used until now.
        so_far: Tally,
        /// Tokens of output that it wants to hold beyond `so_far`. What it already holds is part of them.
        more: u64,
    },
    /// A lease is over.
    Settle {
        /// When it was sent.
        at: Millis,
        /// Which.
        lease: LeaseId,
        /// What it used.
        total: Tally,
    },
    /// Nothing happened. At [`apply`]'s `wake_at`.
    Expire {
        /// Now.
        at: Millis,
    },
}

impl Command {
    /// When it was sent.
    pub const fn at(&self) -> Millis {
        match *self {
            Command::Request { at }
            | Command::Open { at, .. }
            | Command::Extend { at, .. }
            | Command::Settle { at, .. }
            | Command::Expire { at } => at,
        }
    }
}

/// What the owner answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Go on.
    Granted {
        /// Tokens of output that the lease may reach in all, from its beginning. An old answer that comes late says less, never more,
        /// than holds.
        output: u64,
        /// What is left.
        levels: Levels,
    },
    /// There is no output for an [`Command::Extend`] yet. What was granted before still is. Ask again then, and before the lease expires.
    Wait {
        /// When there is, if nobody takes it.
        until: Millis,
        /// What is lacking longest: [`Bound::Output`] or [`Bound::Budget`].
        bound: Bound,
    },
    /// Not now. Nothing was taken.
    Denied {
        /// The first millisecond when it would be granted, if nothing else happens.
        retry_at: Millis,
        /// The first millisecond when it might be, if all leases that are open ended now and gave back what they hold and did not use. Now, where only
        /// that is lacking.
        soonest: Millis,
        /// What is lacking longest, also when they have ended; where only what they hold is lacking, that.
        bound: Bound,
        /// What is left.
        levels: Levels,
    },
    /// Never under this tier. Nothing was taken.
    Impossible {
        /// What is too small.
        bound: Bound,
        /// What was asked of it.
        asked: u64,
        /// What it holds when full.
        capacity: u64,
    },
    /// The lease is closed, or was never open; or there is nothing to say.
    Closed {
        /// What is left.
        levels: Levels,
    },
}

/// What bounds a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// [`Tier::requests`].
    Requests,
    /// [`Tier::input`].
    Input,
    /// [`Tier::output`].
    Output,
    /// [`Tier::concurrent`].
    Concurrent,
    /// [`Tier::budget`].
    Budget,
}
