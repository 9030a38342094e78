//! An engine on a thread of its own.

use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};

use firecrest_engine::engine::Engine;
use firecrest_engine::{Clock, Error, Result};
use firecrest_service::local::{Handle, ModelFacts, commands, drive};

/// An engine that a thread steps for as long as there is work; otherwise the thread sleeps. Dropping this ends what is under way, each answer with a
/// fault, and waits for the thread.
#[derive(Debug)]
pub struct EngineThread {
    handle: Handle,
    facts: ModelFacts,
    thread: Option<JoinHandle<()>>,
}

impl EngineThread {
    /// Loads an engine in a thread of its own and waits until it is ready. `load` gives the engine and its chat template; `clock` is the host's monotonic
    /// clock, the same that deadlines are told by.
    ///
    /// # Errors
    /// What `load` says; a model without a tokenizer; a thread that can't be started.
    pub fn spawn(load: impl FnOnce() -> Result<(Engine, Option<String>)> + Send + 'static, clock: Clock) -> Result<EngineThread> {
        let (handle, commands) = commands();
        let (ready, loaded) = sync_channel(1);
        let run = move || {
            let begun = load().and_then(|(engine, template)| Ok((ModelFacts::of(&engine, template)?, engine)));
            match begun {
                Err(error) => {
                    // Who asked waits for this.
                    let _ = ready.send(Err(error));
                }
                Ok((facts, mut engine)) => {
                    engine.lend_clock(clock);
                    if ready.send(Ok(facts)).is_ok() {
                        pollster::block_on(drive(engine, commands, async |_: &mut Engine| {}));
                    }
                }
            }
        };
        let thread = Builder::new().name("engine".to_owned()).spawn(run);
        let thread = thread.map_err(|e| Error::internal("the engine's thread can't be started").with_source(e))?;
        match loaded.recv() {
            Ok(Ok(facts)) => Ok(EngineThread { handle, facts, thread: Some(thread) }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::internal("the engine's thread ended while it loaded the model: please report it")),
        }
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
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use firecrest_engine::engine::{EngineOptions, Event, FinishReason, Generate, Request};
    use firecrest_service::local::{EnginePort, Running, Submitted, Told};
    use pollster::block_on;

    use super::*;
    use crate::{BackendKind, Device, EMBEDDED, open};

    fn clock() -> Clock {
        let begun = Instant::now();
        Arc::new(move || begun.elapsed())
    }

    fn thread() -> EngineThread {
        let load = || {
            let file = block_on(open(EMBEDDED))?;
            let device = Device { kind: BackendKind::Cpu, threads: Some(1), ..Device::default() };
            let options = EngineOptions { context: Some(256), ..EngineOptions::default() };
            let template = file.chat_template()?.map(str::to_owned);
            Ok((block_on(Engine::load(&file, block_on(device.backend())?, options, &mut |_, _| {}))?, template))
        };
        EngineThread::spawn(load, clock()).expect("an engine")
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
        let error = EngineThread::spawn(|| Err(Error::request("no such model")), clock()).expect_err("an error");
        assert_eq!(error.message(), "no such model");
        let error = EngineThread::spawn(|| panic!("a test"), clock()).expect_err("an error");
        assert!(error.message().contains("please report it"));
    }
}
