//! What became of a request, for logs and metrics. Holds no text of anybody.

use std::net::IpAddr;
use std::time::Duration;

use firecrest_contract::event::Usage;
use firecrest_policy::safety::decision::Action;

/// Where a request came from: a host that knows it puts it among the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(pub IpAddr);

/// One request, when it is over.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its id.
    pub id: &'a str,
    /// The path it came to, as the route's name: never what a caller wrote.
    pub route: &'static str,
    /// The address it came from, if its host said so.
    pub caller: Option<IpAddr>,
    /// The public part of the caller's key, where it had one that we know.
    pub key: Option<&'a str>,
    /// The model that was asked for, where it is one of ours.
    pub model: Option<&'a str>,
    /// The lane it ran in.
    pub lane: Option<u8>,
    /// The status that was answered.
    pub status: u16,
    /// How it ended, for people: `end_turn`, `refusal`, an error's name, `gone` where the caller went away.
    pub outcome: &'a str,
    /// What the safety rules made of it, question and answer: the gravest that they found.
    pub action: Action,
    /// The rule that found that.
    pub rule: Option<&'a str>,
    /// The rule's category.
    pub category: Option<&'a str>,
    /// What it took.
    pub usage: Usage,
    /// From when it came in until its first event.
    pub first: Option<Duration>,
    /// From when it came in until its end.
    pub took: Duration,
    /// Of that, what was ours: all but waiting for a backend.
    pub overhead: Duration,
}
