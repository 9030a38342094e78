//! The engine: submit, cancel, step.
//!
//! ```text
//! Engine::load(&ModelFile, Backend, EngineOptions, &mut dyn FnMut(u64, u64)).await -> Result<Engine>
//! engine.submit(Request) -> Result<SequenceId>
//! engine.cancel(SequenceId) -> bool
//! engine.step().await -> Result<Vec<Event>>
//! engine.is_idle() -> bool
//! engine.tokenizer() -> Option<&Tokenizer>;  engine.model() -> &Model;  engine.context() -> u32
//! ```

mod event;
mod options;
mod request;

pub use event::{Event, FinishReason, Usage};
pub use options::EngineOptions;
pub use request::{Embed, Generate, Pooling, Request, Work};

pub use crate::kv::CacheSize;
pub use crate::sampling::{Logprobs, Sampling};
pub use crate::sequence::SequenceId;
