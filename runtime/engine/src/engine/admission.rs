//! Whether a request is taken now, by what steps have been measured to take.

use std::time::Duration;

use crate::error::{Error, ErrorCode, Result};
use crate::sequence::SequenceId;

/// What came of submitting a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a request that met Busy was not taken"]
pub enum Admission {
    /// It is under way; its events name this sequence.
    Accepted(SequenceId),
    /// It was not taken: too many are held, or others would keep it waiting for longer than it has patience for.
    Busy {
        /// When it may be worth trying again, by what steps took so far.
        retry_after: Duration,
    },
}

impl Admission {
    /// The sequence, where there is nobody to try again.
    ///
    /// # Errors
    /// `Memory` where it was not taken.
    pub fn accepted(self) -> Result<SequenceId> {
        match self {
            Admission::Accepted(id) => Ok(id),
            Admission::Busy { retry_after } => Err(Error::new(
                ErrorCode::Memory,
                format!("the engine holds as many requests as it may; try again in about {:.1} s", retry_after.as_secs_f64()),
            )),
        }
    }
}

/// How fast steps go, as a moving average of what the host's clock says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    /// Seconds a row of a step that mostly prefills.
    prefill_row: Option<f64>,
    /// Seconds a step that only decodes.
    decode_step: Option<f64>,
    /// Tokens of an answer.
    answer: Option<f64>,
}

impl Rates {
    /// A step of so many rows took so long.
    pub(crate) fn observe(&mut self, prompt_rows: u32, generated_rows: u32, took: Duration) {
        let seconds = took.as_secs_f64();
        if prompt_rows == 0 && generated_rows > 0 {
            self.decode_step = blend(self.decode_step, seconds);
        } else if prompt_rows > 4 * generated_rows {
            self.prefill_row = blend(self.prefill_row, seconds / f64::from(prompt_rows + generated_rows));
        }
    }

    /// An answer had so many tokens.
    pub(crate) fn ended(&mut self, tokens: u32) {
        self.answer = blend(self.answer, f64::from(tokens));
    }

    /// Tokens that an answer may be expected to have yet, which has some and may have so many more: most end long before they must. `most` before one
    /// ended.
    pub(crate) fn tokens_to_come(&self, generated: u32, most: u32) -> u32 {
        // How long an answer is says little of how much of it is left; half of another is a guess that is never absurd.
        self.answer.map_or(most, |answer| most.min((answer - f64::from(generated)).max(answer / 2.0).ceil() as u32))
    }

    /// Seconds until `prompt_rows` are computed and then, or before, `steps` of decoding are done. `None` before anything was measured.
    pub(crate) fn seconds(&self, prompt_rows: u64, steps: u64) -> Option<f64> {
        let prefill = if prompt_rows == 0 { 0.0 } else { self.prefill_row? * prompt_rows as f64 };
        // Before a step has only decoded, one is taken to cost what a few rows of a prompt do.
        let decode = if steps == 0 { 0.0 } else { self.decode_step.or(self.prefill_row.map(|row| 4.0 * row))? * steps as f64 };
        Some(prefill + decode)
    }
}

/// The last few count: load, clock frequencies and what is asked change.
fn blend(old: Option<f64>, new: f64) -> Option<f64> {
    Some(old.map_or(new, |old| old + 0.2 * (new - old)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_follow_what_is_measured() {
        let mut rates = Rates::default();
        assert_eq!(rates.seconds(100, 1), None);
        rates.observe(100, 2, Duration::from_millis(1020));
        assert!((rates.seconds(50, 0).unwrap() - 0.5).abs() < 1e-9);
        for _ in 0..40 {
            rates.observe(0, 8, Duration::from_millis(20));
        }
        assert!((rates.seconds(0, 100).unwrap() - 2.0).abs() < 1e-3);
        // A mixed step says nothing of either.
        rates.observe(4, 4, Duration::from_secs(100));
        assert!((rates.seconds(50, 100).unwrap() - 2.5).abs() < 1e-3);
    }
}
