//! How many rows a step may have, learnt from how long steps take.
//!
//! Nobody else runs on a worker's thread while a step does, so a step with a piece of a prompt is kept short enough for messages to be
//! heard. How prompts are cut never changes an answer.

/// A step that takes longer is too long, in milliseconds.
const LONGEST: f64 = 50.0;
/// A step that takes less leaves room for twice the rows.
const SHORT: f64 = LONGEST / 2.5;

/// The budget of rows, between what decoding needs and what the engine began with.
pub(crate) struct Pace {
    rows: u32,
    least: u32,
    most: u32,
}

impl Pace {
    /// Begins at `rows`, and never leaves fewer than one more than `sequences`, so that prompts always move.
    pub(crate) fn new(rows: u32, sequences: u32) -> Pace {
        Pace { rows, least: sequences.saturating_add(1).min(rows), most: rows }
    }

    /// Learns from a step that ran a piece of a prompt. The new budget, where it changes.
    pub(crate) fn learn(&mut self, milliseconds: f64) -> Option<u32> {
        let rows = if milliseconds > LONGEST {
            (self.rows / 2).max(self.least)
        } else if milliseconds < SHORT {
            self.rows.saturating_mul(2).min(self.most)
        } else {
            self.rows
        };
        (std::mem::replace(&mut self.rows, rows) != rows).then_some(rows)
    }
}
