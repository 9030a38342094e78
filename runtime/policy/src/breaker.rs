//! Whether an upstream is worth asking.
//!
//! One [`Breaker`] for each upstream. *Closed*, it lets everything through and counts. Too many failures in a row or among the last calls
//! open it, and so does an upstream that says itself when it wants to be asked again (`retry-after` with 429, 503 or 529). *Open*, it
//! lets nothing through until a moment. Then it is *half open*: a fixed number of probes goes through, and when all have succeeded it is
//! closed; when one fails it is open for twice as long as before.
//!
//! A call takes a [`Ticket`] and brings it back with what became of it, so that calls from before a change of state are not taken for
//! probes. A probe of which nothing is heard is given up after [`Settings::probe_ms`], and others go out: a lost answer can't keep a
//! breaker half open for good.
//!
//! ```
//! use firecrest_policy::breaker::*;
//!
//! let settings = Settings { consecutive: 2, cooldown_ms: 1_000, probes: 1, ..Settings::default() };
//! let mut breaker = Breaker::default();
//! for at in [0, 10] {
//!     let Permit::Yes(ticket) = breaker.permit(&settings, at) else { panic!() };
//!     let seen = Observation { at, ticket, took: 5, class: Class::of_status(500), retry_after: None };
//!     breaker.observe(&settings, seen, 0);
//! }
//! assert_eq!(breaker.permit(&settings, 500), Permit::No { retry_at: 1_010 });
//! let Permit::Yes(probe) = breaker.permit(&settings, 1_010) else { panic!() };
//! assert!(matches!(breaker.permit(&settings, 1_010), Permit::No { .. }));
//! breaker.observe(&settings, Observation { at: 1_020, ticket: probe, took: 10, class: Class::Fine, retry_after: None }, 0);
//! assert_eq!(breaker.state(1_020), State::Closed);
//! ```

use serde::{Deserialize, Serialize};

use crate::limits::{FAR, Millis};

/// Slots of the sliding window. It slides by a tenth of its length at a time.
const SLOTS: u64 = 10;

/// When to open, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How far back calls count.
    pub window_ms: Millis,
    /// Fewer calls than this within the window say nothing about a rate.
    pub minimum: u32,
    /// Opens where at least so many hundredths of the calls within the window failed.
    pub error_percent: u8,
    /// Opens after so many failures in a row; 0 is as 1.
    pub consecutive: u32,
    /// A call that took longer counts as failed, though it did not. `None`: none does.
    pub slow_ms: Option<Millis>,
    /// How long it stays open the first time. Doubled each time that a probe fails.
    pub cooldown_ms: Millis,
    /// At most so long, before jitter.
    pub cooldown_cap_ms: Millis,
    /// By how many hundredths jitter may prolong a cooldown.
    pub jitter_percent: u8,
    /// What an upstream asks for is taken up to here.
    pub retry_after_cap_ms: Millis,
    /// Calls that go through half open, and all of which have to succeed; 0 is as 1.
    pub probes: u32,
    /// After so long without news, probes are given up and others go out; 0 is as 1.
    pub probe_ms: Millis,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            window_ms: 30_000,
            minimum: 20,
            error_percent: 50,
            consecutive: 5,
            slow_ms: None,
            cooldown_ms: 1_000,
            cooldown_cap_ms: 60_000,
            jitter_percent: 25,
            retry_after_cap_ms: 3_600_000,
            probes: 2,
            probe_ms: 60_000,
        }
    }
}

/// What became of a call, as far as it tells of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It answered: also with an error that is the caller's.
    Fine,
    /// 429: it has had enough of us.
    Limited,
    /// 503, 529: it has had enough.
    Overloaded,
    /// Its own error, an answer that is none, a stream that broke off.
    Failed,
    /// No answer in time, no connection.
    Unreachable,
    /// Nothing: the caller went away first.
    Unknown,
}

impl Class {
    /// By HTTP status.
    pub const fn of_status(status: u16) -> Class {
        match status {
            429 => Class::Limited,
            503 | 529 => Class::Overloaded,
            408 | 504 => Class::Unreachable,
            // 3xx: whoever redirects an API call does not serve it.
            100..300 | 400..500 => Class::Fine,
            _ => Class::Failed,
        }
    }

    const fn failed(self) -> bool {
        !matches!(self, Class::Fine | Class::Unknown)
    }
}

/// Which state a call was let through in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ticket(u64);

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Now.
    pub at: Millis,
    /// What it was let through with.
    pub ticket: Ticket,
    /// How long it took, to its first event where it streams.
    pub took: Millis,
    /// Whether that was well.
    pub class: Class,
    /// When the upstream wants to be asked again, in milliseconds from now (`retry-after-ms`, `retry-after`).
    pub retry_after: Option<Millis>,
}

/// Whether a call may go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permit {
    /// It may.
    Yes(Ticket),
    /// Not before this.
    No {
        /// When something changes at the latest.
        retry_at: Millis,
    },
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All go through.
    Closed,
    /// None does.
    Open {
        /// Until then.
        until: Millis,
    },
    /// Probes do.
    HalfOpen,
}

/// What is remembered of one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// The latest moment told. Time does not go back.
    clock: Millis,
    phase: Phase,
    /// Counts phases; tickets are of one.
    phases: u64,
    /// Cooldowns since it was last closed.
    trips: u32,
    /// Failures in a row.
    failures: u32,
    slots: [Slot; SLOTS as usize],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    #[default]
    Closed,
    Open {
        until: Millis,
    },
    /// Probes sent since a moment, and those that succeeded.
    HalfOpen {
        since: Millis,
        sent: u32,
        fine: u32,
    },
}

/// Calls of a tenth of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    /// Which tenth, counted from the beginning of time.
    tenth: u64,
    all: u32,
    failed: u32,
}

impl Breaker {
    /// Where it stands.
    pub fn state(&self, at: Millis) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { until } if at.max(self.clock) < until => State::Open { until },
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Whether a call may go through now. A ticket of a half-open breaker is one of its probes: whoever takes it makes the call.
    pub fn permit(&mut self, settings: &Settings, at: Millis) -> Permit {
        let now = self.pass(at);
        match &mut self.phase {
            Phase::Closed => Permit::Yes(Ticket(self.phases)),
            Phase::Open { until } if now < *until => Permit::No { retry_at: *until },
            Phase::HalfOpen { sent, .. } if *sent < settings.probes.max(1) => {
                *sent += 1;
                Permit::Yes(Ticket(self.phases))
            }
            Phase::HalfOpen { since, .. } if now < since.saturating_add(settings.probe_ms.max(1)) => {
                Permit::No { retry_at: since.saturating_add(settings.probe_ms.max(1)).min(FAR) }
            }
            Phase::Open { .. } | Phase::HalfOpen { .. } => {
                self.enter(Phase::HalfOpen { since: now, sent: 1, fine: 0 });
                Permit::Yes(Ticket(self.phases))
            }
        }
    }

    /// Takes what became of a call. `jitter`, of 65,535, is how much of the jitter that the settings allow is added if it opens: any
    /// number will do, drawn anew each time, so that not all who saw an upstream fail come back to it at once.
    pub fn observe(&mut self, settings: &Settings, seen: Observation, jitter: u16) {
        let now = self.pass(seen.at);
        let asked = match (seen.class, seen.retry_after) {
            // Its word counts, whoever brings it.
            (Class::Limited | Class::Overloaded, Some(wait)) => Some(now.saturating_add(wait.min(settings.retry_after_cap_ms)).min(FAR)),
            _ => None,
        };
        if let Some(until) = asked {
            let until = match self.phase {
                Phase::Open { until: other } => other.max(until),
                _ => until,
            };
            if until > now {
                return match &mut self.phase {
                    Phase::Open { until: held } => *held = until,
                    _ => self.enter(Phase::Open { until }),
                };
            }
        }
        if seen.ticket.0 != self.phases {
            return;
        }
        let failed = seen.class.failed() || settings.slow_ms.is_some_and(|slow| seen.took > slow);
        match &mut self.phase {
            // Another may probe in its place.
            Phase::HalfOpen { sent, .. } if seen.class == Class::Unknown => *sent = sent.saturating_sub(1),
            _ if seen.class == Class::Unknown => {}
            Phase::Closed => {
                self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
                let (all, bad) = self.count(settings, now, failed);
                let often = all >= u64::from(settings.minimum.max(1)) && bad * 100 >= all * u64::from(settings.error_percent);
                if failed && (often || self.failures >= settings.consecutive.max(1)) {
                    self.open(settings, now, jitter);
                }
            }
            Phase::HalfOpen { .. } if failed => self.open(settings, now, jitter),
            Phase::HalfOpen { fine, .. } => {
                *fine = fine.saturating_add(1);
                if *fine >= settings.probes.max(1) {
                    self.enter(Phase::Closed);
                    (self.trips, self.failures, self.slots) = (0, 0, Default::default());
                }
            }
            // Tickets are of other phases.
            Phase::Open { .. } => {}
        }
    }

    fn pass(&mut self, at: Millis) -> Millis {
        self.clock = self.clock.max(at.min(FAR));
        self.clock
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phases = self.phases.saturating_add(1);
    }

    fn open(&mut self, settings: &Settings, now: Millis, jitter: u16) {
        let doubled = settings.cooldown_ms.saturating_mul(1u64.checked_shl(self.trips).unwrap_or(u64::MAX));
        let cooldown = doubled.min(settings.cooldown_cap_ms).clamp(1, FAR);
        let more = u128::from(cooldown) * u128::from(settings.jitter_percent) * u128::from(jitter) / (100 * u128::from(u16::MAX));
        let until = now.saturating_add(cooldown).saturating_add(u64::try_from(more).unwrap_or(FAR)).min(FAR);
        self.trips = self.trips.saturating_add(1);
        self.enter(Phase::Open { until });
    }

    /// Counts a call; says how many there were within the window, and how many failed.
    fn count(&mut self, settings: &Settings, now: Millis, failed: bool) -> (u64, u64) {
        let tenth = now / (settings.window_ms / SLOTS).max(1);
        let slot = &mut self.slots[(tenth % SLOTS) as usize];
        if slot.tenth != tenth {
            *slot = Slot { tenth, ..Slot::default() };
        }
        slot.all = slot.all.saturating_add(1);
        slot.failed = slot.failed.saturating_add(u32::from(failed));
        let within = self.slots.iter().filter(|s| s.tenth.saturating_add(SLOTS) > tenth && s.tenth <= tenth);
        within.fold((0, 0), |(all, bad), s| (all + u64::from(s.all), bad + u64::from(s.failed)))
    }
}

#[cfg(test)]
mod tests;
