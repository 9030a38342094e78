//! Who goes first, and how long others keep a request waiting.
//!
//! Lane, round, deadline, order of submission: one total order of all sequences. The round is a sequence's place among its owner's of the same lane. All first
//! ones go before all second ones, so owners take turns, however many sequences each of them has. A round changes only when another sequence of the
//! owner ends or pauses, so no two sequences take each other's place in turns.

use std::time::Duration;

use super::{Priority, Request, Schedule};
use crate::sequence::{Phase, Sequence, SequenceId};

/// Lane, round, deadline, order of submission.
pub(super) type Order = (u8, u32, Duration, SequenceId);

impl Schedule {
    pub(super) fn order(&self, sequence: &Sequence) -> Order {
        let deadline = deadline(&sequence.priority);
        if sequence.is_paused() {
            // Whoever can go on goes before it.
            return (u8::MAX, u32::MAX, deadline, sequence.id);
        }
        (self.lane(sequence), sequence.round, deadline, sequence.id)
    }

    /// Gives every sequence its round, as things are now.
    pub(super) fn count_rounds(&mut self) {
        let all = self.sequences.values_mut();
        let place = |s: &Sequence| ((s.priority.owner, s.priority.lane), s.is_paused(), deadline(&s.priority), s.id);
        let mut places: Vec<_> = all.map(|sequence| (place(sequence), &mut sequence.round)).collect();
        places.sort_unstable_by_key(|(place, _)| *place);
        for of_one in places.chunk_by_mut(|(a, _), (b, _)| a.0 == b.0) {
            (0..).zip(of_one).for_each(|(round, (_, place))| **place = round);
        }
    }

    /// The lane that one runs in, or has risen to while it waits. Only the first of an owner's rises: an owner that is served does not starve, and all
    /// that it has must not pass others by.
    pub(super) fn lane(&self, sequence: &Sequence) -> u8 {
        let lane = sequence.rank;
        if sequence.is_running() || sequence.round > 0 {
            return lane;
        }
        let (Some(now), Some(since)) = (self.now, sequence.waits_since) else { return lane };
        let waited = now.saturating_sub(since).as_nanos();
        let risen = waited.checked_div(self.limits.ageing.as_nanos()).unwrap_or(u128::MAX);
        lane.saturating_sub(u8::try_from(risen).unwrap_or(u8::MAX))
    }

    /// Whether a running sequence makes room for one that waits: it is paused, of a later lane, or of an owner that has more of the same lane. An owner's
    /// own don't give way to each other.
    pub(super) fn gives_way(&self, running: &Sequence, waiting: &Sequence) -> bool {
        let lane = self.lane(waiting);
        let has_more = running.round > waiting.round && running.priority.owner != waiting.priority.owner;
        running.is_paused() || running.rank > lane || running.rank == lane && has_more
    }

    /// How long others may be expected to keep a request from its first row, if it were taken now. `None` before anything was measured.
    pub(super) fn seconds_kept_waiting(&self, request: &Request) -> Option<f64> {
        let Priority { lane, owner, .. } = request.priority;
        let due = deadline(&request.priority);
        let before = |s: &&Sequence| (s.priority.owner, s.priority.lane) == (owner, lane) && !s.is_paused() && deadline(&s.priority) <= due;
        let round = self.sequences.values().filter(before).count() as u32;
        let order = (lane, round, due, SequenceId(self.next_id));
        let ahead = || self.sequences.values().filter(|s| self.order(s) < order);
        let share = self.rates.share_to_compute();
        // What one that was not begun shares with others is not known yet.
        let rows_of = |s: &Sequence| f64::from(s.len() - s.computed) * if s.computed == 0 && !s.is_running() { share } else { 1.0 };
        let rows: f64 = ahead().filter(|s| s.phase != Phase::Decoding).map(rows_of).sum();
        // Steps until a slot is its own, where those before it take slots in their order.
        let mut slots = vec![0u64; self.limits.max_sequences as usize];
        let mut before: Vec<&Sequence> = ahead().collect();
        before.sort_unstable_by_key(|s| (!s.is_running(), self.order(s)));
        for sequence in before {
            if let Some(soonest) = slots.iter_mut().min() {
                let steps = self.rates.tokens_to_come(sequence.usage.generated_tokens, sequence.remaining(self.limits.context));
                *soonest += u64::from(steps).max(1);
            }
        }
        self.rates.seconds(rows, self.limits.step_rows, slots.into_iter().min().unwrap_or(0))
    }
}

/// No deadline is the last.
fn deadline(priority: &Priority) -> Duration {
    priority.deadline.unwrap_or(Duration::MAX)
}
