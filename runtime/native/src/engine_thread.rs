//! An engine on a thread of its own.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

use firecrest_engine::engine::{Engine, Event};
use firecrest_engine::{Clock, Error, Result};
use firecrest_service::local::{Handle, ModelFacts, commands, drive};
use futures_channel::oneshot;

/// An engine that a thread steps for as long as there is work; otherwise the thread sleeps. Dropping this ends what is under way, each answer with a
/// fault, and waits for the thread.
#[derive(Debug)]
pub struct EngineThread {
    handle: Handle,
    facts: ModelFacts,
    failure: Option<oneshot::Receiver<String>>,
    thread: Option<JoinHandle<()>>,
}

impl EngineThread {
    /// Loads an engine in a thread of its own; ready when that is done. `load` gives the engine and its chat template; `clock` is the host's monotonic
    /// clock, the same that deadlines are told by; `step` is how the engine is stepped ([`Engine::step`]). Whoever waits no longer leaves a `load` that
    /// hangs to itself: its thread ends when it does.
    ///
    /// # Errors
    /// What `load` says; a model without a tokenizer; a thread that can't be started.
    pub async fn spawn(
        load: impl FnOnce() -> Result<(Engine, Option<String>)> + Send + 'static,
        clock: Clock,
        step: impl AsyncFnMut(&mut Engine) -> Result<Vec<Event>> + Send + 'static,
    ) -> Result<EngineThread> {
        let (handle, commands) = commands();
        let (ready, loaded) = oneshot::channel();
        let (failing, failure) = oneshot::channel();
        let run = move || {
            let life = move || {
                let begun = load().and_then(|(engine, template)| Ok((ModelFacts::of(&engine, template)?, engine)));
                let (facts, mut engine) = match begun {
                    Ok(begun) => begun,
                    Err(error) => {
                        // Who asked waits for this.
                        let _ = ready.send(Err(error));
                        return Ok(());
                    }
                };
                engine.lend_clock(clock);
                match ready.send(Ok(facts)) {
                    Ok(()) => pollster::block_on(drive(engine, commands, step)),
                    // Nobody waits any more.
                    Err(_) => Ok(()),
                }
            };
            // What a panic leaves is dropped with the engine: who runs on it hears that it is gone.
            let why = match catch_unwind(AssertUnwindSafe(life)) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => format!("it panicked: {}", said(panic.as_ref())),
            };
            // Nobody may be there to hear it.
            let _ = failing.send(why);
        };
        let thread = Builder::new().name("engine".to_owned()).spawn(run);
        let thread = thread.map_err(|e| Error::internal("the engine's thread can't be started").with_source(e))?;
        match loaded.await {
            Ok(Ok(facts)) => Ok(EngineThread { handle, facts, failure: Some(failure), thread: Some(thread) }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::internal("the engine's thread ended while it loaded the model: please report it")),
        }
    }

    /// Whether it ended by itself: nothing can be asked of it any more.
    pub fn is_over(&self) -> bool {
        self.handle.is_over()
    }

    /// Ready with the reason when the engine fails: a step's error, or a panic. Cancelled where it ends as it should. `None` the second time.
    pub fn failure(&mut self) -> Option<oneshot::Receiver<String>> {
        self.failure.take()
    }

    /// Reaches it from any thread.
    pub fn port(&self) -> Handle {
        self.handle.clone()
    }

    /// What a backend over it must know of its model.
    pub fn facts(&self) -> &ModelFacts {
        &self.facts
    }
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // What it panics with is caught.
            let _ = thread.join();
        }
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use firecrest_engine::ErrorCode;
    use firecrest_engine::engine::{EngineOptions, FinishReason, Generate, Request};
    use firecrest_service::local::{EnginePort, Running, Submitted, Told};
    use pollster::block_on;

    use super::*;
    use crate::{BackendKind, Device, EMBEDDED, open};

    fn clock() -> Clock {
        let begun = Instant::now();
        Arc::new(move || begun.elapsed())
    }

    fn thread() -> EngineThread {
        with_steps(async |engine: &mut Engine| engine.step().await)
    }

    fn with_steps(step: impl AsyncFnMut(&mut Engine) -> Result<Vec<Event>> + Send + 'static) -> EngineThread {
        let load = || {
            let file = block_on(open(EMBEDDED))?;
            let device = Device { kind: BackendKind::Cpu, threads: Some(1), ..Device::default() };
            let options = EngineOptions { context: Some(256), ..EngineOptions::default() };
            let template = file.chat_template()?.map(str::to_owned);
            Ok((block_on(Engine::load(&file, block_on(device.backend())?, options, &mut |_, _| {}))?, template))
        };
        block_on(EngineThread::spawn(load, clock(), step)).expect("an engine")
    }

    fn submit(port: &Handle, most: Option<u32>, allowance: u32) -> Running {
        let generate = Generate { max_tokens: most, ignore_eos: true, ..Generate::default() };
        match block_on(port.submit(Request::generate(vec![1, 2, 3], generate), allowance)) {
            Ok(Submitted::Running(running)) => running,
            _ => panic!("it was not taken"),
        }
    }

    fn next(running: &mut Running) -> Option<Told> {
        use futures_util::StreamExt;
        block_on(running.next())
    }

    #[test]
    fn sequences_run_pause_and_end() {
        let thread = thread();
        assert_eq!(thread.facts().context, 256);
        let mut running = submit(&thread.port(), Some(20), 3);
        assert!(matches!(next(&mut running), Some(Told::Started(usage)) if usage.prompt_tokens == 3));
        let mut tokens = 0;
        let reason = loop {
            match next(&mut running) {
                Some(Told::Event(Event::Token { .. })) => tokens += 1,
                Some(Told::Event(Event::Done { reason, .. })) => break reason,
                Some(Told::Event(_)) => {}
                other => panic!("{other:?}"),
            }
            // It would wait for ever if it were not allowed more.
            if tokens == 3 {
                running.allow(u32::MAX);
            }
        };
        assert_eq!((tokens, reason), (20, FinishReason::MaxTokens));
        // What was dropped makes room: more than are held at once.
        for _ in 0..300 {
            drop(submit(&thread.port(), None, u32::MAX));
        }
        drop(submit(&thread.port(), Some(1), 1));
    }

    #[test]
    fn an_engine_that_is_dropped_says_so() {
        let thread = thread();
        let port = thread.port();
        let mut running = submit(&port, None, 1);
        drop(thread);
        let last = std::iter::from_fn(|| next(&mut running)).last();
        assert!(matches!(last, Some(Told::Lost(_))), "{last:?}");
        let request = Request::generate(vec![1], Generate::default());
        assert!(block_on(port.submit(request, 1)).is_err());
    }

    #[test]
    fn what_load_says_is_passed_on() {
        let step = async |engine: &mut Engine| engine.step().await;
        let error = block_on(EngineThread::spawn(|| Err(Error::request("no such model")), clock(), step)).expect_err("an error");
        assert_eq!(error.message(), "no such model");
        let error = block_on(EngineThread::spawn(|| panic!("a test"), clock(), step)).expect_err("an error");
        assert!(error.message().contains("please report it"));
    }

    #[test]
    fn an_engine_that_fails_says_why_and_ends_what_ran() {
        let mut steps = 0;
        let panics = with_steps(async move |engine: &mut Engine| {
            steps += 1;
            assert!(steps < 5, "a test of step {steps}");
            engine.step().await
        });
        let mut steps = 0;
        let fails = with_steps(async move |engine: &mut Engine| {
            steps += 1;
            if steps < 5 { engine.step().await } else { Err(Error::new(ErrorCode::Device, "the device is lost")) }
        });
        for (mut thread, why) in [(panics, "it panicked: a test of step 5"), (fails, "the device is lost")] {
            let failure = thread.failure().expect("asked once");
            let mut running = submit(&thread.port(), None, u32::MAX);
            let told: Vec<Told> = std::iter::from_fn(|| next(&mut running)).collect();
            assert!(!told.iter().any(|told| matches!(told, Told::Event(Event::Done { .. }))), "{told:?}");
            assert_eq!(block_on(failure).as_deref(), Ok(why));
            let request = Request::generate(vec![1], Generate::default());
            assert!(block_on(thread.port().submit(request, 1)).is_err());
        }
        let mut thread = thread();
        let failure = thread.failure().expect("asked once");
        drop(thread);
        assert!(block_on(failure).is_err(), "it did not fail");
    }
}
