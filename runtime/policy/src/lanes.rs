//! Who goes first, and who is told to come back.
//!
//! A key's [`Class`] and the request's service tier give a lane, as the engine's `Priority` has them: 0 before 1 before 2. The engine
//! raises who waits long, so no lane starves there; here each lane keeps places of its own in the queue, so none starves at the door
//! either. Beyond those the queue is shared, and as it fills, batches are sent away first, then the standard lane, and what is
//! interactive last.
//!
//! ```
//! use firecrest_contract::ask::ServiceTier;
//! use firecrest_policy::lanes::*;
//!
//! let settings = Settings::default();
//! let place = settings.place(Class::Priority, ServiceTier::Auto);
//! assert_eq!((place.lane, place.tier), (Lane::Interactive, "priority"));
//!
//! // 64 places of which 60 are taken, all by batches.
//! let queue = Queue { capacity: 64, waiting: [0, 0, 60], predicted_ttft: [80, 80, 9_000] };
//! assert_eq!(settings.admit(&place, &queue), Admission::Admit);
//! let batch = settings.place(Class::Batch, ServiceTier::Auto);
//! let Admission::Shed { retry_after, .. } = settings.admit(&batch, &queue) else { panic!() };
//! assert!(retry_after >= 1_000);
//! ```

use firecrest_contract::ask::ServiceTier;
use firecrest_contract::error::{ApiError, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::limits::Millis;

/// What a key may claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A person waits for each token.
    Priority,
    /// What most keys are.
    #[default]
    Standard,
    /// It may take hours.
    Batch,
}

/// Lanes, first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// 0.
    Interactive,
    /// 1.
    Standard,
    /// 2.
    Batch,
}

impl Lane {
    /// Every lane, first to last.
    pub const ALL: [Lane; 3] = [Lane::Interactive, Lane::Standard, Lane::Batch];

    /// As the engine counts lanes.
    pub const fn index(self) -> u8 {
        self as u8
    }
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its lane.
    pub lane: Lane,
    /// It ends after this, counted from when it came in, whatever it has reached by then.
    pub deadline: Option<Millis>,
    /// It is not started where others would keep it waiting for longer than this. `None`: it waits.
    pub patience: Option<Millis>,
    /// `usage.service_tier` of its answer.
    pub tier: &'static str,
}

/// Times of a lane, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// See [`Place::deadline`].
    #[serde(default)]
    pub deadline_ms: Option<Millis>,
    /// See [`Place::patience`].
    #[serde(default)]
    pub patience_ms: Option<Millis>,
}

/// How the queue is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Of each lane, first to last.
    pub times: [Times; 3],
    /// Places that each lane has to itself, as hundredths of the queue; rounded down, but one at least. Past 100 in all, later lanes have
    /// what is left.
    pub own_percent: [u8; 3],
    /// How much of the places that nobody has to himself may be taken when a lane is admitted there, in hundredths. A lane has at least
    /// as much as the one behind it.
    pub shared_percent: [u8; 3],
    /// No wait that is told is shorter or longer.
    pub retry_after_ms: (Millis, Millis),
}

impl Default for Settings {
    /// The interactive lane has patience for 15 s, the standard one for a minute.
    fn default() -> Settings {
        let times = |patience_ms| Times { deadline_ms: None, patience_ms };
        Settings {
            times: [times(Some(15_000)), times(Some(60_000)), times(None)],
            own_percent: [10, 10, 5],
            shared_percent: [100, 80, 50],
            retry_after_ms: (1_000, 300_000),
        }
    }
}

/// A backend's queue, as it is now. Who waits in it rises lane by lane with time: that is the engine's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Requests that it may hold at once.
    pub capacity: u32,
    /// Requests that it does hold, by the lane they were admitted in.
    pub waiting: [u32; 3],
    /// When a request that came into each lane now would have its first token, in milliseconds from now.
    pub predicted_ttft: [Millis; 3],
}

impl Queue {
    /// As it is with so many more in a lane.
    #[must_use]
    pub fn with(mut self, lane: Lane, more: u32) -> Queue {
        let waiting = &mut self.waiting[lane as usize];
        *waiting = waiting.saturating_add(more);
        self
    }
}

/// See [`Settings::share`]. Alone, a key may hold sixteen seventeenths of what its lane may.
pub const SHARE_ALONE: u64 = 16;

/// See [`Settings::share`]. If others want places too, a key may hold two thirds of what its lane may, two may hold two fifths each.
pub const SHARE: u64 = 2;

/// Whether a request is let into a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is.
    Admit,
    /// It is not: 529.
    Shed {
        /// When it may be worth trying again, in milliseconds.
        retry_after: Millis,
        /// Why.
        why: Why,
    },
}

/// Why a request was sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No place in the queue for its lane.
    Full,
    /// Its first token would come later than it has patience for.
    Slow,
    /// Its key holds as much of the queue as it may.
    Share,
}

impl Settings {
    /// Where a request stands. A caller may ask for less than its key may claim, never for more.
    pub fn place(&self, class: Class, tier: ServiceTier) -> Place {
        let claimed = match class {
            Class::Priority => Lane::Interactive,
            Class::Standard => Lane::Standard,
            Class::Batch => Lane::Batch,
        };
        let asked = match tier {
            ServiceTier::Auto => Lane::Interactive,
            ServiceTier::Standard => Lane::Standard,
            ServiceTier::Batch => Lane::Batch,
        };
        let lane = claimed.max(asked);
        let Times { deadline_ms: deadline, patience_ms: patience } = self.times[lane as usize];
        let tier = match lane {
            Lane::Interactive => "priority",
            Lane::Standard => "standard",
            Lane::Batch => "batch",
        };
        Place { lane, deadline, patience, tier }
    }

    /// Whether a request may wait in a queue. Never more than its capacity wait there.
    pub fn admit(&self, place: &Place, queue: &Queue) -> Admission {
        let lane = place.lane as usize;
        let predicted = queue.predicted_ttft[lane];
        if let Some(excess) = self.excess(lane, queue) {
            // The queue gives up a place as often as it serves one: it serves all of those waiting in about the time that the last lane's
            // next would wait.
            let waiting: u64 = queue.waiting.iter().map(|&w| u64::from(w)).sum();
            let last = queue.predicted_ttft.into_iter().max().unwrap_or(0);
            let each = last / (waiting + 1);
            return Admission::Shed { retry_after: self.told(each.saturating_mul(excess)), why: Why::Full };
        }
        match place.patience {
            Some(patience) if predicted > patience => Admission::Shed { retry_after: self.told(predicted - patience), why: Why::Slow },
            _ => Admission::Admit,
        }
    }

    /// Whether a key that holds `own` places of a queue may have another: it may hold at most so many times as many as its lane has left, [`SHARE_ALONE`] if it
    /// is alone and [`SHARE`] if not. So one key alone nearly fills its lane, it never takes the last places from others there, and once they want
    /// some it leaves them room for more than a few.
    pub fn share(&self, place: &Place, queue: &Queue, own: u32, alone: bool) -> Admission {
        let share = if alone { SHARE_ALONE } else { SHARE };
        let (of_lane, open, taken) = self.places(place.lane as usize, queue);
        let left = of_lane.saturating_sub(u64::from(queue.waiting[place.lane as usize])) + open.saturating_sub(taken);
        match u64::from(own) > left.saturating_sub(1).saturating_mul(share) {
            true => Admission::Shed { retry_after: self.told(0), why: Why::Share },
            false => Admission::Admit,
        }
    }

    fn told(&self, wait: Millis) -> Millis {
        let (least, most) = self.retry_after_ms;
        wait.max(least).min(most.max(1)).max(1)
    }

    /// How many would have to leave before there is a place for a lane; `None` if there is one.
    fn excess(&self, lane: usize, queue: &Queue) -> Option<u64> {
        let (own, open, taken) = self.places(lane, queue);
        if u64::from(queue.waiting[lane]) < own || taken < open {
            return None;
        }
        Some(taken - open + 1)
    }

    /// Places that a lane has to itself, those of the shared that are open to it, and those of the shared that are taken.
    fn places(&self, lane: usize, queue: &Queue) -> (u64, u64, u64) {
        let capacity = u64::from(queue.capacity);
        let mut shared = capacity;
        let own = self.own_percent.map(|percent| {
            let own = (capacity * u64::from(percent) / 100).max(1).min(shared);
            shared -= own;
            own
        });
        let taken: u64 = queue.waiting.iter().zip(own).map(|(&waiting, own)| u64::from(waiting).saturating_sub(own)).sum();
        // Monotone, whatever was configured: a lane that is behind is never let in where one before it is not.
        let percent = self.shared_percent[lane..].iter().max().copied().unwrap_or(0).min(100);
        (own[lane], shared * u64::from(percent) / 100, taken)
    }
}

impl Admission {
    /// What a caller is told that is not let in.
    pub fn error(&self) -> Option<ApiError> {
        let Admission::Shed { retry_after, why } = *self else { return None };
        let (kind, why) = match why {
            Why::Full => (ErrorKind::Overloaded, "too many requests are waiting"),
            Why::Slow => (ErrorKind::Overloaded, "the first token would take too long"),
            Why::Share => (ErrorKind::RateLimit, "too many requests of this key are waiting"),
        };
        Some(ApiError::new(kind, format!("{why}; try again in {retry_after} ms")).retry_after_ms(retry_after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    #[test]
    fn a_caller_may_ask_for_less() {
        use Lane::{Batch, Interactive, Standard};
        let table = [
            (Class::Priority, [Interactive, Standard, Batch]),
            (Class::Standard, [Standard, Standard, Batch]),
            (Class::Batch, [Batch, Batch, Batch]),
        ];
        for (class, lanes) in table {
            for (tier, lane) in [ServiceTier::Auto, ServiceTier::Standard, ServiceTier::Batch].into_iter().zip(lanes) {
                let place = Settings::default().place(class, tier);
                assert_eq!(place.lane, lane, "{class:?} {tier:?}");
                assert_eq!(place.patience, [Some(15_000), Some(60_000), None][lane as usize]);
                assert_eq!(place.tier, ["priority", "standard", "batch"][lane.index() as usize]);
            }
        }
    }

    #[test]
    fn the_last_lane_goes_first() {
        let settings = Settings::default();
        // Of 100 places 75 are shared; 37 of them for batches, 60 for the standard lane.
        let mut waiting = [0, 0, 0];
        let mut shed = |lane: usize| {
            loop {
                let queue = Queue { capacity: 100, waiting, predicted_ttft: [10, 20, 30] };
                let place = Place { lane: Lane::ALL[lane], deadline: None, patience: None, tier: "" };
                if settings.admit(&place, &queue) != Admission::Admit {
                    return waiting;
                }
                waiting[lane] += 1;
            }
        };
        assert_eq!(shed(2), [0, 0, 42]);
        assert_eq!(shed(1), [0, 33, 42]);
        assert_eq!(shed(0), [25, 33, 42]);
    }

    #[test]
    fn who_would_wait_too_long() {
        let settings = Settings::default();
        let queue = Queue { capacity: 100, waiting: [0, 9, 3], predicted_ttft: [15_001, 63_000, 99_000] };
        let admission = |class| settings.admit(&settings.place(class, ServiceTier::Auto), &queue);
        assert_eq!(admission(Class::Priority), Admission::Shed { retry_after: 1_000, why: Why::Slow });
        assert_eq!(admission(Class::Standard), Admission::Shed { retry_after: 3_000, why: Why::Slow });
        assert_eq!(admission(Class::Batch), Admission::Admit);
        let error = admission(Class::Standard).error().expect("an error");
        assert_eq!((error.kind, error.retry_after_ms), (ErrorKind::Overloaded, Some(3_000)));
        assert_eq!(admission(Class::Batch).error(), None);
    }

    /// However many keys take all that they may, one more finds a place.
    #[test]
    fn a_key_leaves_places_for_others_of_its_lane() {
        let settings = Settings::default();
        for lane in 0..3 {
            let place = Place { lane: Lane::ALL[lane], deadline: None, patience: None, tier: "" };
            let queue = |held: &[u32]| {
                let mut waiting = [0; 3];
                waiting[lane] = held.iter().sum();
                Queue { capacity: 256, waiting, predicted_ttft: [0; 3] }
            };
            for (keys, least) in [(1, 100), (2, 40), (3, 28)] {
                let mut held = [0; 3];
                for _ in 0..256 {
                    for key in 0..keys {
                        let queue = queue(&held);
                        if settings.admit(&place, &queue) == Admission::Admit
                            && settings.share(&place, &queue, held[key], keys == 1) == Admission::Admit
                        {
                            held[key] += 1;
                        }
                    }
                }
                let full = queue(&held);
                assert!(held[0] >= least, "{lane}: {held:?}");
                assert_eq!(settings.admit(&place, &full), Admission::Admit, "{lane}: {held:?}");
                assert_eq!(settings.share(&place, &full, 0, false), Admission::Admit, "{lane}: {held:?}");
                // Whoever was alone is not any more, and leaves them to the other until both have as many.
                let mut other = full;
                while settings.admit(&place, &other) == Admission::Admit {
                    other.waiting[lane] += 1;
                }
                let left = other.waiting[lane] - full.waiting[lane];
                assert!(keys == 1 || left >= 10, "{lane}: {left} of {held:?}");
                let refused = settings.share(&place, &full, held[0], keys == 1).error().expect("it has its share");
                assert_eq!((refused.kind, refused.retry_after_ms), (ErrorKind::RateLimit, Some(1_000)));
            }
        }
    }

    fn settings() -> impl Strategy<Value = Settings> {
        (any::<[u8; 3]>(), any::<[u8; 3]>(), any::<(u64, u64)>(), any::<[Option<u64>; 3]>()).prop_map(
            |(own_percent, shared_percent, retry_after_ms, patience)| Settings {
                times: patience.map(|patience_ms| Times { deadline_ms: None, patience_ms }),
                own_percent,
                shared_percent,
                retry_after_ms,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(0xf17e), failure_persistence: None, ..ProptestConfig::default() })]

        /// However it is set and whoever comes: the queue never overflows, and a lane whose own places are free is let in.
        #[test]
        fn bounded_and_fair(
            settings in settings(),
            capacity in 0..40u32,
            comers in prop::collection::vec((0..3usize, prop::option::of(0..3usize)), 0..200),
        ) {
            let mut waiting = [0u32; 3];
            for (lane, leaves) in comers {
                let queue = Queue { capacity, waiting, predicted_ttft: [0; 3] };
                let place = Place { lane: Lane::ALL[lane], deadline: None, patience: Some(0), tier: "" };
                match settings.admit(&place, &queue) {
                    Admission::Admit => waiting[lane] += 1,
                    Admission::Shed { retry_after, .. } => {
                        prop_assert!(retry_after > 0);
                        let own = |left: u32, &percent: &u8| left - (capacity * u32::from(percent) / 100).max(1).min(left);
                        let left = settings.own_percent[..lane].iter().fold(capacity, own);
                        prop_assert!(left == 0 || waiting[lane] > 0, "a lane with places of its own was sent away from them");
                    }
                }
                prop_assert!(waiting.iter().sum::<u32>() <= capacity);
                if let Some(leaves) = leaves {
                    waiting[leaves] = waiting[leaves].saturating_sub(1);
                }
            }
        }

        /// Where a lane is let in at all, one before it is too, unless that one has taken its own places already and the other has not.
        #[test]
        fn lower_lanes_are_shed_first(settings in settings(), capacity in 0..1000u32, waiting in prop::array::uniform3(0..400u32)) {
            let queue = Queue { capacity, waiting, predicted_ttft: [u64::MAX; 3] };
            let excess = |lane| settings.excess(lane, &queue);
            for (front, back) in [(0, 1), (1, 2), (0, 2)] {
                let own_place = {
                    let mut without = queue;
                    without.waiting[back] = capacity;
                    settings.excess(back, &without).is_some() && settings.excess(back, &queue).is_none()
                };
                prop_assert!(excess(back).is_some() || excess(front).is_none() || own_place);
            }
        }
    }
}
