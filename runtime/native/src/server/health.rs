//! Whether a model that failed is loaded again at once, or after a while.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use firecrest_policy::breaker::{Breaker, Class, Observation, Permit, Settings, State, Ticket};
use firecrest_policy::limits::Millis;

/// A model that has run for so long is taken for mended.
pub(super) const STEADY: Duration = Duration::from_secs(60);

/// So many failures within [`WINDOW`] make a model unhealthy.
const FAILURES: usize = 3;

/// See [`FAILURES`]. It slides: any minute counts.
const WINDOW: Duration = Duration::from_secs(60);

/// A model that is unhealthy is tried again after 5 seconds, and after twice as long each time that it fails before it was [`STEADY`], up to 5 minutes.
/// When it becomes so is not the breaker's to say: its window slides by tenths.
fn settings() -> Settings {
    Settings {
        minimum: u32::MAX,
        consecutive: 1,
        cooldown_ms: 5_000,
        cooldown_cap_ms: 300_000,
        jitter_percent: 0,
        probes: 1,
        probe_ms: 60_000,
        ..Settings::default()
    }
}

/// What is remembered of a model's failures. Times are of one monotonic clock.
#[derive(Default)]
pub(super) struct Health {
    breaker: RefCell<Breaker>,
    /// When it failed last, within [`WINDOW`].
    failures: RefCell<VecDeque<Duration>>,
}

impl Health {
    /// Whether it may be loaded now: a ticket, to be brought back with what became of it.
    ///
    /// # Errors
    /// How long to wait.
    pub(super) fn permit(&self, at: Duration) -> Result<Ticket, Duration> {
        match self.breaker.borrow_mut().permit(&settings(), millis(at)) {
            Permit::Yes(ticket) => Ok(ticket),
            Permit::No { retry_at } => Err(Duration::from_millis(retry_at.saturating_sub(millis(at)).max(1))),
        }
    }

    /// It could not be loaded, or its engine failed.
    pub(super) fn failed(&self, at: Duration, ticket: Ticket) {
        let many = {
            let mut failures = self.failures.borrow_mut();
            failures.push_back(at);
            failures.retain(|failed| at.saturating_sub(*failed) < WINDOW);
            failures.len() >= FAILURES
        };
        // One that has to prove itself has failed by failing once.
        let counts = many || self.is_doubtful(at);
        self.observe(at, ticket, if counts { Class::Failed } else { Class::Unknown });
    }

    /// It was [`STEADY`].
    pub(super) fn steady(&self, at: Duration, ticket: Ticket) {
        self.failures.borrow_mut().clear();
        self.observe(at, ticket, Class::Fine);
    }

    /// It was let go before anything was known.
    pub(super) fn unknown(&self, at: Duration, ticket: Ticket) {
        self.observe(at, ticket, Class::Unknown);
    }

    /// Whether it failed so often that it has to prove itself.
    pub(super) fn is_doubtful(&self, at: Duration) -> bool {
        self.breaker.borrow().state(millis(at)) != State::Closed
    }

    fn observe(&self, at: Duration, ticket: Ticket, class: Class) {
        let seen = Observation { at: millis(at), ticket, took: 0, class, retry_after: None };
        self.breaker.borrow_mut().observe(&settings(), seen, 0);
    }
}

fn millis(at: Duration) -> Millis {
    Millis::try_from(at.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fail(health: &Health, seconds: u64) {
        let ticket = health.permit(at(seconds)).expect("it may be loaded");
        health.failed(at(seconds), ticket);
    }

    #[test]
    fn three_failures_in_a_minute_and_no_fewer() {
        for start in 0..20 {
            let health = Health::default();
            fail(&health, start);
            fail(&health, start + 30);
            assert!(!health.is_doubtful(at(start + 30)));
            fail(&health, start + 59);
            assert!(health.is_doubtful(at(start + 59)), "from {start}");
            // Spread out, they are accidents: no minute has three.
            let health = Health::default();
            (0..20).for_each(|turn| fail(&health, start + 30 * turn));
            assert!(!health.is_doubtful(at(start + 30 * 19)), "from {start}");
            fail(&health, start + 30 * 19 + 29);
            assert!(health.is_doubtful(at(start + 30 * 19 + 29)), "from {start}");
        }
    }

    #[test]
    fn it_is_tried_again_after_longer_and_longer_until_it_is_steady() {
        let health = Health::default();
        (0..3).for_each(|_| fail(&health, 10));
        let mut now = 10;
        for wait in [5, 10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(health.permit(at(now)).expect_err("not yet"), at(wait));
            assert_eq!(health.permit(at(now + wait - 1)).expect_err("not yet"), at(1));
            now += wait;
            fail(&health, now);
        }
        now += 300;
        let ticket = health.permit(at(now)).expect("it may be loaded");
        assert!(health.permit(at(now)).is_err(), "one at a time");
        // Let go before anything was known, it may be loaded again at once.
        health.unknown(at(now), ticket);
        let ticket = health.permit(at(now)).expect("it may be loaded");
        assert!(health.is_doubtful(at(now)));
        health.steady(at(now + 60), ticket);
        assert!(!health.is_doubtful(at(now + 60)));
        fail(&health, now + 61);
        assert!(!health.is_doubtful(at(now + 61)), "what was before is forgotten");
    }
}
