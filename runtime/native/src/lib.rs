//! Run quantised transformers next to the person who asks.
//!
//! The native face of Firecrest: it opens model files, chooses a backend, lends the engine what it may not take itself
//! (files, threads of its own, a clock), and carries the `firecrest` command. Everything else is the engine's:
//!
//! ```no_run
//! use firecrest::engine::engine::{Engine, EngineOptions, Event, Generate, Request};
//!
//! let file = pollster::block_on(firecrest::open("model.gguf"))?;
//! let backend = pollster::block_on(firecrest::Device::default().backend())?;
//! let mut engine = pollster::block_on(Engine::load(&file, backend, EngineOptions::default(), &mut |_, _| {}))?;
//! let prompt = engine.tokenizer().expect("the file has one").encode("Once upon", Default::default())?;
//! engine.submit(Request::generate(prompt, Generate { max_tokens: Some(32), ..Generate::default() }))?.accepted()?;
//! while !engine.is_idle() {
//!     for event in pollster::block_on(engine.step())? {
//!         if let Event::Text { text, .. } = event {
//!             print!("{text}");
//!         }
//!     }
//! }
//! # Ok::<(), firecrest::engine::Error>(())
//! ```

mod device;
#[cfg(feature = "server")]
mod engine_thread;
pub mod hub;
#[cfg(feature = "server")]
pub mod server;
mod sources;

pub use device::{BackendKind, Device};
#[cfg(feature = "server")]
pub use engine_thread::EngineThread;
pub use firecrest_engine as engine;
#[cfg(feature = "server")]
pub use server::Service;
pub use sources::{EMBEDDED, model_files, open, open_adapter, sources};
