//! Places of an engine's queue.

use std::cell::Cell;
use std::rc::Rc;

/// So many sequences of a lane, for as long as it lives.
pub(super) struct Held {
    held: Rc<Cell<[u32; 3]>>,
    lane: usize,
    pub(super) count: u32,
}

impl Held {
    pub(super) fn new(held: &Rc<Cell<[u32; 3]>>, lane: u8, count: u32) -> Held {
        let made = Held { held: Rc::clone(held), lane: usize::from(lane.min(2)), count };
        made.change(|held| held.saturating_add(count));
        made
    }

    /// No more than so many are left of them.
    pub(super) fn keep(&mut self, most: u32) {
        let gone = self.count.saturating_sub(most);
        self.count -= gone;
        self.change(|held| held.saturating_sub(gone));
    }

    fn change(&self, change: impl Fn(u32) -> u32) {
        let mut held = self.held.get();
        held[self.lane] = change(held[self.lane]);
        self.held.set(held);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.change(|held| held.saturating_sub(self.count));
    }
}
