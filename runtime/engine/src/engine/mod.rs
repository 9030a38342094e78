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
pub use crate::kv::{CacheSize, KvFormat};
pub use crate::model::Pooling;
pub use crate::sampling::{Logprobs, Sampling};
pub use crate::sequence::SequenceId;

use std::collections::VecDeque;
use std::time::Duration;

use crate::Clock;
use crate::backend::{Backend, Description, MemoryUse, Outputs, Timed};
use crate::batch::BatchShape;
use crate::error::{Error, Result};
use crate::file::ModelFile;
use crate::grammar::{self, Constraint, Governed};
use crate::kv::{KvCache, Sizing};
use crate::model::{Config, LoadOptions, Model};
use crate::text::Tokenizer;
use schedule::{Limits, Schedule, Step};

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
    /// Steps that were issued and not read, oldest first.
    in_flight: VecDeque<InFlight>,
    steps_in_flight: u32,
    /// How long the last step took, from when the device could begin it.
    took: Duration,
    /// When a step was read last.
    read: Duration,
    /// What the last step left, kept for its memory.
    outputs: Outputs,
    clock: Option<Clock>,
    /// `None` where the model has no tokenizer.
    grammars: Option<grammar::Compiler>,
    tracing: bool,
    traces: Vec<StepTrace>,
    adapters: adapters::Adapters,
}

/// A step that was issued.
struct InFlight {
    step: Step,
    width: usize,
    /// Whether all its draws are issued.
    drawn: bool,
    /// By the host's clock.
    issued: Option<Duration>,
}

/// What a step that was traced took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTrace {
    /// What it computed.
    pub shape: BatchShape,
    /// Its kernel calls or dispatches, in order. Empty where the device can't time them.
    pub calls: Vec<Timed>,
    /// By the host's clock, from before it was composed until it was read.
    pub took: Duration,
}

/// A step that takes longer than this needs no more than one behind it for the device to stay busy.
const LONG_STEP: Duration = Duration::from_millis(16);

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
        let mut groups = model.kv_groups(0, options.kv_format);
        let context = Sizing { context, sequences, step_rows }.apply(&mut groups, options.cache)?;
        backend.allocate_kv(&groups)?;
        backend.prepare().await?;
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
            device_draws: backend.draws_tokens(),
            end_of_generation: tokenizer.as_ref().map_or(Vec::new(), |t| t.end_of_generation().to_vec()),
        };
        let steps_in_flight = if limits.device_draws { options.steps_in_flight } else { 1 };
        let schedule = Schedule::new(limits, KvCache::new(&groups));
        let grammars = tokenizer.as_ref().map(|tokenizer| grammar::Compiler::new(tokenizer, model.config.vocab));
        Ok(Engine {
            model,
            backend,
            tokenizer,
            schedule,
            in_flight: VecDeque::new(),
            steps_in_flight,
            took: Duration::ZERO,
            read: Duration::ZERO,
            outputs: Outputs::default(),
            clock: None,
            grammars,
            tracing: false,
            traces: Vec::new(),
            adapters: Default::default(),
        })
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

    fn compile(&self, constraint: &Constraint) -> Result<Governed> {
        let missing = || Error::request("a grammar needs text, but the model's file has no tokenizer");
        self.grammars.as_ref().ok_or_else(missing)?.compile(constraint)
    }

    /// What compiles grammars of requests. One that was compiled with it, by whoever, on whatever thread, costs [`Engine::submit`] nothing. `None` where
    /// the model has no tokenizer.
    pub fn grammars(&self) -> Option<&grammar::Compiler> {
        self.grammars.as_ref()
    }

    /// Ends a sequence. Its pages are free on return; its [`Event::Done`] comes from the next [`Engine::step`]. False where it has ended already.
    pub fn cancel(&mut self, sequence: SequenceId) -> bool {
        self.schedule.cancel(sequence)
    }

    /// Lets a sequence generate so many tokens over its whole life, more or fewer than before; without this there is no bound but its own. One that has
    /// generated as many is paused: it is given no rows until there are more, keeps its place, and gives way to whoever needs its slot or pages. One
    /// token is generated in any case, and tokens that a grammar forces come with the one before them. False where it has ended.
    pub fn allow(&mut self, sequence: SequenceId, tokens: u32) -> bool {
        self.schedule.allow(sequence, tokens)
    }

    /// What a sequence has taken so far; `None` where it has ended. Once its first token is here, what it found in the prefix cache and left there for
    /// its prompt is known.
    pub fn usage(&self, sequence: SequenceId) -> Option<Usage> {
        self.schedule.usage(sequence)
    }

    /// Issues one step over as many sequences as fit, reads one that was issued where enough are in flight or nothing is left to issue, and says what
    /// came of it. With nothing to do it returns at once.
    ///
    /// A future that is dropped before it is ready loses nothing. After one that failed, a caller that chooses to go on has every
    /// sequence computed again from what was read.
    ///
    /// # Errors
    /// The backend's. What is wrong with one sequence only is its own last event instead ([`FinishReason::Failed`]).
    pub async fn step(&mut self) -> Result<Vec<Event>> {
        self.skip_unwanted();
        let outcome = self.advance().await;
        if outcome.is_err() {
            while self.in_flight.pop_front().is_some() {
                self.backend.skip();
            }
            self.schedule.abandon();
        }
        outcome?;
        self.skip_unwanted();
        Ok(self.schedule.take_events())
    }

    /// What nobody waits for is not waited for.
    fn skip_unwanted(&mut self) {
        while self.in_flight.pop_front_if(|oldest| !self.schedule.concerns(&oldest.step)).is_some() {
            self.backend.skip();
        }
    }

    async fn advance(&mut self) -> Result<()> {
        // A step whose draws wait may be left by a future that was dropped.
        let left = self.in_flight.back().is_some_and(|newest| !newest.drawn);
        let issued = left || self.in_flight.len() < self.most_in_flight() && self.issue().await?;
        if issued {
            self.draw().await?;
        }
        if !issued || self.in_flight.len() >= self.most_in_flight() {
            self.read().await?;
        }
        Ok(())
    }

    /// Steps that may be in flight.
    fn most_in_flight(&self) -> usize {
        if self.tracing {
            return 1;
        }
        let most = if self.took > LONG_STEP { self.steps_in_flight.min(2) } else { self.steps_in_flight };
        most as usize
    }

    /// Issues the next step. False where there is none.
    async fn issue(&mut self) -> Result<bool> {
        let issued = self.tell_time();
        let Some(step) = self.schedule.compose(!self.in_flight.is_empty())? else { return Ok(false) };
        let plan = self.model.plan(step.kind)?;
        let width = plan.widths.out as usize;
        if let Some(clock) = self.clock.as_ref().filter(|_| self.tracing) {
            self.backend.trace_next(clock);
        }
        self.backend.run(plan, &step.batch).await?;
        // Nothing is awaited from here on: what the backend has issued the schedule must know of.
        self.schedule.issued(&step);
        let drawn = !step.waits();
        self.in_flight.push_back(InFlight { step, width, drawn, issued });
        Ok(true)
    }

    /// Issues the newest step's draws that wait for their grammars: what these allow is worked out while the device computes the step.
    async fn draw(&mut self) -> Result<()> {
        while let Some(newest) = self.in_flight.back().filter(|newest| !newest.drawn) {
            if self.in_flight.len() > 1 && self.schedule.wants_earlier(&newest.step) {
                self.read().await?;
                continue;
            }
            let allowed = self.schedule.allowed(&newest.step);
            self.backend.draw(&allowed)?;
            if let Some(newest) = self.in_flight.back_mut() {
                newest.drawn = true;
            }
        }
        Ok(())
    }

    /// Waits for the oldest step, if there is one, and takes in what it left.
    async fn read(&mut self) -> Result<()> {
        let Some(oldest) = self.in_flight.front() else { return Ok(()) };
        // Where the host draws there is time now to see what grammars allow.
        self.schedule.prepare(&oldest.step);
        self.backend.read(&mut self.outputs).await?;
        let Some(InFlight { step, width, issued, .. }) = self.in_flight.pop_front() else { return Ok(()) };
        let rows = step.batch.values_len();
        if self.outputs.values.len() != rows * width {
            return Err(Error::internal(format!("a step left {} values for {rows} outputs of {width}", self.outputs.values.len())));
        }
        self.schedule.absorb(&step, &self.outputs, width);
        if let (Some(issued), Some(now)) = (issued, self.tell_time()) {
            // A device that was busy began it when the one before was done.
            self.took = now.saturating_sub(issued.max(self.read));
            self.read = now;
            let shape = step.batch.shape();
            if self.tracing {
                let calls = self.backend.traced().await?.unwrap_or_default();
                self.traces.push(StepTrace { shape, calls, took: now.saturating_sub(issued) });
            }
            self.schedule.observe(shape.prompt_rows, shape.generated_rows, self.took);
        }
        Ok(())
    }

    fn tell_time(&mut self) -> Option<Duration> {
        let now = self.clock.as_ref()?();
        self.schedule.set_now(now);
        Some(now)
    }

    /// Whether steps are traced from now on, one at a time: each is read before the next is issued. Needs a clock.
    pub fn trace(&mut self, on: bool) {
        self.tracing = on;
    }

    /// Steps traced since this was last asked.
    pub fn take_traces(&mut self) -> Vec<StepTrace> {
        std::mem::take(&mut self.traces)
    }

    /// Until when, by the host's clock, a step does nothing but wait for company ([`EngineOptions::gather`]), if one would now.
    pub fn gathers_until(&self) -> Option<Duration> {
        self.schedule.gathers_until()
    }

    /// Whether a step would do nothing before a sequence is allowed more tokens ([`Engine::allow`]), cancelled, submitted, or past its deadline: every one
    /// there is is paused.
    pub fn is_paused(&self) -> bool {
        self.in_flight.is_empty() && self.schedule.is_paused()
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

    /// Sequences that it runs at once.
    pub fn max_sequences(&self) -> u32 {
        self.schedule.limits().max_sequences
    }

    /// Requests that it holds at once, running and waiting; past them it is busy.
    pub fn max_requests(&self) -> u32 {
        self.schedule.limits().max_requests
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
