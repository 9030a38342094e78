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

/// A step of fewer rows takes mostly what any step does, and a first one longer than others.
const FEW: f64 = 48.0;

/// How fast steps go, as a moving average of what the host's clock says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    /// Of steps that mostly prefill: seconds, rows and steps, the latest counting most. Sums, so that a step counts by its rows: what a few rows
    /// take is mostly what any step takes, and says little of what a row of many does.
    prefill: Option<[f64; 3]>,
    /// Steps that mostly prefill, so far.
    prefills: u64,
    /// Of prompts: tokens that were known already, and all.
    known: [f64; 2],
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
            let latest = [seconds, f64::from(prompt_rows + generated_rows), 1.0];
            // The first of all says little of others: weights are touched and threads are begun.
            let weight = if self.prefills > 1 { 0.8 } else { 0.0 };
            let before = self.prefill.unwrap_or_default();
            self.prefill = Some(std::array::from_fn(|i| weight * before[i] + latest[i]));
            self.prefills += 1;
        }
    }

    /// So many tokens of a prompt were known when it was begun.
    pub(crate) fn begun(&mut self, known: u32, prompt: u32) {
        self.known = [0.95 * self.known[0] + f64::from(known), 0.95 * self.known[1] + f64::from(prompt)];
    }

    /// The share of a prompt that has to be computed, by what prompts shared lately. An eighth at least: who comes next may share nothing.
    pub(crate) fn share_to_compute(&self) -> f64 {
        let [known, all] = self.known;
        if all > 0.0 { (1.0 - known / all).clamp(0.125, 1.0) } else { 1.0 }
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

    /// What was measured of prompts, if that is enough to tell what a row takes: one step of few rows says little of it.
    fn prefill(&self) -> Option<[f64; 3]> {
        self.prefill.filter(|[_, rows, _]| match self.decode_step {
            Some(_) => self.prefills > 1 || *rows >= FEW,
            None => *rows >= 2.0 * FEW,
        })
    }

    /// Seconds until `prompt_rows` are computed, in steps of at most `step_rows`, and `steps` of decoding are done: in the same steps as far as there are
    /// as many. `None` before enough was measured.
    pub(crate) fn seconds(&self, prompt_rows: f64, step_rows: u32, steps: u64) -> Option<f64> {
        // Before a step has only decoded, one is taken to cost what so many rows do.
        let each = self.decode_step.or(self.prefill().map(|[seconds, rows, count]| seconds * FEW / (FEW * count + rows)));
        let prompt_steps = (prompt_rows / f64::from(step_rows.max(1))).ceil();
        let rows = match self.prefill() {
            _ if prompt_rows <= 0.0 => 0.0,
            None => return None,
            // Every step costs what a step does, and each of its rows more. Where steps that decode took long, rows are not free.
            Some([seconds, rows, count]) => ((seconds - count * each?) / rows).max(seconds / rows / 8.0) * prompt_rows,
        };
        let steps = prompt_steps.max(steps as f64);
        Some(if steps > 0.0 { rows + each? * steps } else { rows })
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
        assert_eq!(rates.seconds(100.0, 512, 1), None);
        rates.observe(100, 2, Duration::from_millis(1020));
        // Somewhere between what so many of its rows took, and all of it.
        assert!((0.5..1.02).contains(&rates.seconds(50.0, 512, 0).unwrap()));
        for _ in 0..40 {
            rates.observe(0, 8, Duration::from_millis(20));
        }
        assert!((rates.seconds(0.0, 512, 100).unwrap() - 2.0).abs() < 1e-3);
        // A mixed step says nothing of either.
        rates.observe(4, 4, Duration::from_secs(100));
        // A row takes what a step takes beyond one that decodes.
        let rows = 50.0 * (1.02 - 0.02) / 102.0;
        assert!((rates.seconds(50.0, 512, 0).unwrap() - rows - 0.02).abs() < 1e-3);
        // They are computed in a step that decodes.
        assert!((rates.seconds(50.0, 512, 100).unwrap() - rows - 2.0).abs() < 1e-3);
        assert!((rates.seconds(50.0, 1, 20).unwrap() - rows - 1.0).abs() < 1e-3);
    }

    #[test]
    fn the_first_step_says_little_of_others() {
        let mut rates = Rates::default();
        // One short prompt on cold weights, and its four tokens: a burst is not judged by that.
        rates.observe(37, 0, Duration::from_millis(400));
        (0..3).for_each(|_| rates.observe(0, 1, Duration::from_millis(20)));
        assert_eq!(rates.seconds(4000.0, 512, 30), None);
        assert!(rates.seconds(0.0, 512, 30).is_some());
        rates.observe(37, 0, Duration::from_millis(40));
        let waits = rates.seconds(4000.0, 512, 30).expect("two were measured");
        assert!(waits < 4.0, "{waits}");
        // The first steps of a burst are of few rows and slow, because everything begins at once.
        let mut rates = Rates::default();
        rates.observe(37, 0, Duration::from_millis(300));
        rates.observe(37, 1, Duration::from_millis(120));
        assert_eq!(rates.seconds(4000.0, 512, 30), None);
        rates.observe(185, 2, Duration::from_millis(160));
        let waits = rates.seconds(4000.0, 512, 30).expect("it was measured");
        assert!(waits < 8.0, "{waits}");
        // A long one tells.
        let mut rates = Rates::default();
        rates.observe(512, 0, Duration::from_secs(10));
        assert!(rates.seconds(4000.0, 512, 0).expect("it was measured") > 70.0);
    }

    #[test]
    fn a_few_rows_say_little_of_many() {
        let mut rates = Rates::default();
        // Long answers to short prompts of which most was known: a step takes 25 ms whatever it does, a row 0.5 ms more.
        for _ in 0..6 {
            rates.begun(28, 33);
            rates.observe(5, 0, Duration::from_micros(27_500));
            (0..50).for_each(|_| rates.observe(0, 1, Duration::from_millis(25)));
            rates.ended(600);
        }
        assert_eq!(rates.tokens_to_come(0, 4), 4);
        // 250 prompts of 33 tokens, and their four tokens each in 16 slots.
        let rows = 250.0 * 33.0 * rates.share_to_compute();
        let waits = rates.seconds(rows, 512, 250 * 4 / 16).expect("it was measured");
        assert!((1.5..5.0).contains(&waits), "{waits}");
        // Prompts that share nothing take what they take.
        assert!(rates.seconds(250.0 * 1000.0, 512, 0).expect("it was measured") > 100.0);
    }
}
