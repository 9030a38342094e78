//! The engine: submit, cancel, step.
//!
//! ```no_run
//! # async fn all(file: &firecrest_engine::file::ModelFile, backend: firecrest_engine::backend::Backend) -> firecrest_engine::Result<()> {
//! use firecrest_engine::engine::{Engine, EngineOptions, Event, Generate, Request};
//!
//! let mut engine = Engine::load(file, backend, EngineOptions::default(), &mut |_, _| {}).await?;
//! let id = engine.submit(Request::generate(vec![1], Generate { max_tokens: Some(64), ..Generate::default() }))?.accepted()?;
//! while !engine.is_idle() {
//!     for event in engine.step().await? {
//!         match event {
//!             Event::Text { sequence, text } if sequence == id => print!("{text}"),
//!             _ => {}
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod adapters;
mod admission;
mod event;
mod options;
mod request;
mod schedule;

pub use adapters::AdapterInfo;
pub use admission::Admission;
pub use event::{Event, FinishReason, Usage};
pub use options::EngineOptions;
pub use request::{Embed, Generate, Pin, Priority, Request, Sharing, Speculation, Work};

pub use crate::backend::AdapterId;
pub use crate::kv::CacheSize;
pub use crate::model::Pooling;
pub use crate::sampling::{Logprobs, Sampling};
pub use crate::sequence::SequenceId;

use std::time::Duration;

use crate::Clock;
use crate::backend::{Backend, Description, MemoryUse};
use crate::error::{Error, Result};
use crate::file::ModelFile;
use crate::grammar::{self, Constraint, Governed};
use crate::kv::{KvCache, Sizing};
use crate::model::{Config, LoadOptions, Model};
use crate::text::Tokenizer;
use schedule::{Limits, Schedule};

/// Bytes of logits that one step may leave behind, where its sequences don't need more. Bounds how many positions of a
/// [`Work::Logits`] request a step computes.
const OUTPUT_BYTES: usize = 32 << 20;

/// A model on a backend, and the sequences it works on: a state machine that moves when it is stepped.
///
/// It reads no clock, no file and no random source. The host owns the loop: submit and cancel between steps, step until idle.
pub struct Engine {
    model: Model,
    backend: Backend,
    tokenizer: Option<Tokenizer>,
    schedule: Schedule,
    /// OUT of the last step, kept for its memory.
    outputs: Vec<f32>,
    clock: Option<Clock>,
    /// Made for the first request that has a grammar.
    grammars: Option<grammar::Compiler>,
    adapters: adapters::Adapters,
}

/// What an engine is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Sequences that wait, preempted ones included.
    pub waiting: u32,
    /// Sequences that run.
    pub running: u32,
    /// Pages of the KV cache that sequences hold, over all groups.
    pub pages_used: u32,
    /// Pages of the KV cache that hold known prefixes and nothing else, over all groups: they make room for whoever needs it.
    pub pages_idle: u32,
    /// Pages of the KV cache, over all groups.
    pub pages: u32,
}

impl Engine {
    /// Streams a model's weights to a backend and makes room for its sequences. `progress` is told bytes of weights read so far and in all.
    ///
    /// # Errors
    /// Options that contradict themselves, a malformed or unsupported file, a source that can't be read, or a backend without the memory.
    pub async fn load(
        file: &ModelFile,
        mut backend: Backend,
        options: EngineOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Engine> {
        options.check()?;
        let tokenizer = Tokenizer::from_file(file)?;
        let trained = Config::from_file(file)?.trained_context;
        let context = options.context.unwrap_or(trained.min(EngineOptions::DEFAULT_CONTEXT));
        let model = Model::load(file, &mut backend, LoadOptions { context: Some(context), progress }).await?;
        let config = &model.config;
        let (sequences, step_rows) = (options.max_sequences, options.step_rows);
        let mut groups = model.kv_groups(0);
        let context = Sizing { context, sequences, step_rows }.apply(&mut groups, options.cache)?;
        backend.allocate_kv(&groups)?;
        let limits = Limits {
            vocab: config.vocab,
            context,
            max_sequences: sequences,
            max_requests: options.max_requests,
            step_rows,
            logits_rows: (OUTPUT_BYTES / 4 / config.vocab.max(1) as usize).max(sequences as usize + 1) as u32,
            gather: options.gather,
            ageing: options.ageing,
            encoder: !config.causal,
            generates: config.head,
            pooling: config.pooling.unwrap_or(if config.causal { Pooling::Last } else { Pooling::Mean }),
            one_class: backend.has_one_class(),
            end_of_generation: tokenizer.as_ref().map_or(Vec::new(), |t| t.end_of_generation().to_vec()),
        };
        let schedule = Schedule::new(limits, KvCache::new(&groups));
        Ok(Engine { model, backend, tokenizer, schedule, outputs: Vec::new(), clock: None, grammars: None, adapters: Default::default() })
    }

    /// Ends the model, and every sequence with it, without events. The backend comes back empty, its kernels compiled and checked, for
    /// another model to be loaded.
    pub fn unload(self) -> Backend {
        let mut backend = self.backend;
        backend.unload();
        backend
    }

    /// Lends the engine the host's monotonic clock, for whatever has a lifetime or a deadline.
    pub fn lend_clock(&mut self, clock: Clock) {
        self.schedule.set_now(clock());
        self.clock = Some(clock);
    }

    /// Gives up every known prefix that no sequence holds, pinned ones too.
    pub fn forget_prefixes(&mut self) {
        self.schedule.forget_prefixes();
    }

    /// Takes a request in; its events come from [`Engine::step`].
    ///
    /// # Errors
    /// A request that can't be carried out as asked, with nothing changed: see the message.
    pub fn submit(&mut self, request: Request) -> Result<Admission> {
        self.tell_time();
        self.adapters.check(request.adapter)?;
        let stream = self.tokenizer.as_ref().map(|t| t.stream_after(&request.prompt));
        let constraint = match &request.work {
            Work::Generate(generate) => generate.grammar.as_ref(),
            _ => None,
        };
        let grammar = constraint.map(|constraint| self.compile(constraint)).transpose()?;
        self.schedule.submit(request, stream, grammar)
    }

    fn compile(&mut self, constraint: &Constraint) -> Result<Governed> {
        let Some(tokenizer) = &self.tokenizer else {
            return Err(Error::request("a grammar needs text, but the model's file has no tokenizer"));
        };
        let grammars = match &mut self.grammars {
            Some(grammars) => grammars,
            none => none.insert(grammar::Compiler::new(tokenizer, self.model.config.vocab)?),
        };
        grammars.compile(constraint)
    }

    /// Ends a sequence. Its pages are free on return; its [`Event::Done`] comes from the next [`Engine::step`]. False where it has ended already.
    pub fn cancel(&mut self, sequence: SequenceId) -> bool {
        self.schedule.cancel(sequence)
    }

    /// Runs one step over as many sequences as fit, and says what came of it. With nothing to run it returns at once.
    ///
    /// A future that is dropped before it is ready loses nothing: its step is run again. So is one that failed, where the
    /// caller chooses to go on.
    ///
    /// # Errors
    /// The backend's. What is wrong with one sequence only is its own last event instead ([`FinishReason::Failed`]).
    pub async fn step(&mut self) -> Result<Vec<Event>> {
        let started = self.tell_time();
        if let Some(step) = self.schedule.compose()? {
            let shape = step.batch.shape();
            let plan = self.model.plan(step.kind)?;
            let width = plan.widths.out as usize;
            self.backend.run(plan, &step.batch).await?;
            self.schedule.prepare(&step);
            self.backend.read_outputs(&mut self.outputs).await?;
            if self.outputs.len() != step.batch.outputs.len() * width {
                return Err(Error::internal(format!(
                    "a step left {} values for {} outputs of {width}",
                    self.outputs.len(),
                    step.batch.outputs.len()
                )));
            }
            self.schedule.absorb(step, &self.outputs, width);
            if let (Some(started), Some(ended)) = (started, self.tell_time()) {
                self.schedule.observe(shape.prompt_rows, shape.generated_rows, ended.saturating_sub(started));
            }
        }
        Ok(self.schedule.take_events())
    }

    fn tell_time(&mut self) -> Option<Duration> {
        let now = self.clock.as_ref()?();
        self.schedule.set_now(now);
        Some(now)
    }

    /// Until when, by the host's clock, a step does nothing but wait for company ([`EngineOptions::gather`]), if one would now.
    pub fn gathers_until(&self) -> Option<Duration> {
        self.schedule.gathers_until()
    }

    /// Whether there is nothing to run and nothing to tell.
    pub fn is_idle(&self) -> bool {
        self.schedule.is_idle()
    }

    /// Changes [`EngineOptions::step_rows`], for a host that measures how long its steps take.
    ///
    /// # Errors
    /// No more rows than `max_sequences`, or absurdly many.
    pub fn set_step_rows(&mut self, step_rows: u32) -> Result<()> {
        self.schedule.set_step_rows(step_rows)
    }

    /// Positions one sequence may have.
    pub fn context(&self) -> u32 {
        self.schedule.limits().context
    }

    /// Who waits, who runs, and the pages they hold.
    pub fn occupancy(&self) -> Occupancy {
        self.schedule.occupancy()
    }

    /// The tokenizer, where the model's file has one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Where it runs, and how.
    pub fn describe(&self) -> Description {
        self.backend.describe()
    }

    /// Bytes the backend holds.
    pub fn memory(&self) -> MemoryUse {
        self.backend.memory()
    }
}
