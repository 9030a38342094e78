//! What an engine is told once, when its model is loaded.

use std::time::Duration;

use crate::batch::MOST_IN_FLIGHT;
use crate::error::{Error, Result};
use crate::kv::{CacheSize, KvFormat};

/// How an engine runs: everything here is fixed while it lives, but for the step's budget ([`super::Engine::set_step_rows`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Positions one sequence may have, prompt and generated together. `None`: what the model was trained for, but at most
    /// [`EngineOptions::DEFAULT_CONTEXT`]. Either is cut to what the cache holds of one sequence;
    /// [`super::Engine::context`] says what came of it.
    pub context: Option<u32>,
    /// Sequences that run at once; more than these wait their turn. At least 1.
    pub max_sequences: u32,
    /// Requests held at once, running and waiting together. At least `max_sequences`.
    pub max_requests: u32,
    /// The KV cache's size.
    pub cache: CacheSize,
    /// How keys and values are stored: as f16, or in about half the bytes as int8, which moves logits a little.
    pub kv_format: KvFormat,
    /// The token budget: rows of one step. Rows of decoding sequences come first, prompts are cut into chunks that fill the
    /// rest. More than `max_sequences`, so that prompts always move. A smaller budget makes shorter steps, which a browser needs to stay
    /// responsive; a larger one makes prompts faster. Encoders see a text whole, so theirs may pass it.
    pub step_rows: u32,
    /// Steps that may be issued before the first of them is read, where the backend draws tokens itself: 1 to 4. With more than one the device never
    /// waits for the host; steps that take long are never more than two.
    pub steps_in_flight: u32,
    /// How long an engine with nothing to run waits for company before it starts, for throughput: at most 100 ms. Needs a clock.
    pub gather: Duration,
    /// How long a request waits before it moves up a lane. Needs a clock.
    pub ageing: Duration,
}

impl Default for EngineOptions {
    /// Sixteen sequences and 512 rows a step; eight and 64 in wasm, where nobody else runs while a step does.
    fn default() -> EngineOptions {
        let (max_sequences, step_rows) = if cfg!(target_family = "wasm") { (8, 64) } else { (16, 512) };
        EngineOptions {
            context: None,
            max_sequences,
            max_requests: 320,
            cache: CacheSize::Auto,
            kv_format: KvFormat::F16,
            step_rows,
            steps_in_flight: MOST_IN_FLIGHT,
            gather: Duration::ZERO,
            ageing: Duration::from_secs(10),
        }
    }
}

/// No step has more rows, no engine more sequences: far beyond any use, and small enough to size buffers by.
const MOST: u32 = 1 << 16;

impl EngineOptions {
    /// The context where none is asked for. Models are trained for more, but room for it is dear, and some (longrope) are
    /// better at short texts where they needn't be ready for long ones.
    pub const DEFAULT_CONTEXT: u32 = 4096;

    pub(super) fn check(&self) -> Result<()> {
        if self.max_sequences == 0 || self.max_sequences > MOST {
            return Err(Error::request(format!("max_sequences is {}; it must be between 1 and {MOST}", self.max_sequences)));
        }
        if self.max_requests < self.max_sequences {
            let message = format!("max_requests is {}, below max_sequences, {}; raise it", self.max_requests, self.max_sequences);
            return Err(Error::request(message));
        }
        if self.steps_in_flight == 0 || self.steps_in_flight > MOST_IN_FLIGHT {
            return Err(Error::request(format!("steps_in_flight is {}; it must be between 1 and {MOST_IN_FLIGHT}", self.steps_in_flight)));
        }
        if self.gather > Duration::from_millis(100) {
            return Err(Error::request(format!("gather is {:?}; it may be 100 ms at most, for somebody waits", self.gather)));
        }
        check_step_rows(self.step_rows, self.max_sequences)
    }
}

/// A budget that leaves room for prompts beside every decoding sequence.
pub(super) fn check_step_rows(step_rows: u32, max_sequences: u32) -> Result<()> {
    if step_rows <= max_sequences || step_rows > MOST {
        return Err(Error::request(format!(
            "step_rows is {step_rows}; it must be above max_sequences, {max_sequences}, so that prompts always move, and at most {MOST}"
        )));
    }
    Ok(())
}
