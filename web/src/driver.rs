//! The loop that steps an engine for as long as there is work.
//!
//! While a step is awaited nobody else can reach the engine, so callers leave commands. One that comes while a device is waited for ends the wait, by
//! which nothing is lost: the loop obeys it and waits again.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use firecrest_engine::engine::{Engine, Event, Request, SequenceId};
use firecrest_engine::text::EncodeOptions;
use firecrest_engine::{Error, Result};
use js_sys::Function;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen_futures::{JsFuture, spawn_local};

use crate::event;
use crate::pace::Pace;
use crate::request::{Ask, Prompt};

#[wasm_bindgen(module = "/js/turn.js")]
extern "C" {
    /// A promise that is kept in a later macrotask.
    fn turn() -> js_sys::Promise;
}

#[wasm_bindgen]
extern "C" {
    /// The browser's monotonic clock, in milliseconds.
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    pub(crate) fn performance_now() -> f64;
}

/// What callers want of the engine.
pub(crate) enum Command {
    /// Begin this request.
    Submit(u32, Ask),
    /// End this request, if it is still there.
    Cancel(u32),
    /// End everything and let the engine go.
    Close,
}

/// An engine, its callers' commands, and who asked for which sequence.
pub(crate) struct Driver {
    /// Away while the loop runs.
    engine: Cell<Option<Engine>>,
    commands: RefCell<VecDeque<Command>>,
    /// Wakes the loop while it waits for a device.
    waiting: Cell<Option<Waker>>,
    running: Cell<bool>,
    requests: RefCell<HashMap<SequenceId, Asked>>,
    pace: RefCell<Pace>,
    on_event: Function,
}

/// Who asked for a sequence, and whether its prompt is still being read.
#[derive(Clone, Copy)]
struct Asked {
    request: u32,
    prefilling: bool,
}

impl Driver {
    pub(crate) fn new(engine: Engine, pace: Pace, on_event: Function) -> Rc<Driver> {
        Rc::new(Driver {
            engine: Cell::new(Some(engine)),
            commands: RefCell::default(),
            waiting: Cell::default(),
            running: Cell::new(false),
            requests: RefCell::default(),
            pace: RefCell::new(pace),
            on_event,
        })
    }

    /// Leaves a command, and wakes the loop if it sleeps.
    pub(crate) fn post(self: &Rc<Driver>, command: Command) {
        self.commands.borrow_mut().push_back(command);
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
        if !self.running.replace(true) {
            spawn_local(Rc::clone(self).drive());
        }
    }

    async fn drive(self: Rc<Driver>) {
        if let Some(mut engine) = self.engine.take()
            && self.work(&mut engine).await
        {
            self.engine.set(Some(engine));
        }
        self.running.set(false);
    }

    /// Steps until nothing is left to do. Whether the engine is to be kept.
    async fn work(&self, engine: &mut Engine) -> bool {
        loop {
            let commands = std::mem::take(&mut *self.commands.borrow_mut());
            for command in commands {
                match command {
                    Command::Submit(request, ask) => self.submit(engine, request, &ask),
                    Command::Cancel(request) => self.cancel(engine, request),
                    Command::Close => return false,
                }
            }
            if engine.is_idle() {
                return true;
            }
            let prefilling = self.requests.borrow().values().any(|asked| asked.prefilling);
            let began = performance_now();
            match self.step(engine).await {
                None => continue,
                Some(Ok(events)) => events.iter().for_each(|event| self.pass_on(event)),
                Some(Err(error)) => self.fail_all(engine, &error),
            }
            if prefilling && let Some(rows) = self.pace.borrow_mut().learn(performance_now() - began) {
                // Pace stays between limits that the engine took when it was loaded.
                let _ = engine.set_step_rows(rows);
            }
            // Without a macrotask here messages to this worker, `cancel` among them, would wait for the last token.
            // The promise is never rejected.
            let _ = JsFuture::from(turn()).await;
        }
    }

    /// A step; `None` where a command came while it waited.
    async fn step(&self, engine: &mut Engine) -> Option<Result<Vec<Event>>> {
        let mut step = pin!(engine.step());
        poll_fn(|context| match step.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if !self.commands.borrow().is_empty() => Poll::Ready(None),
            Poll::Pending => {
                self.waiting.set(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    fn submit(&self, engine: &mut Engine, request: u32, ask: &Ask) {
        let submitted = prompt(engine, ask).and_then(|prompt| engine.submit(Request::generate(prompt, ask.generate()))?.accepted());
        match submitted {
            Ok(sequence) => {
                self.requests.borrow_mut().insert(sequence, Asked { request, prefilling: true });
            }
            Err(error) => self.tell(&event::failed(request, error.code(), error.message())),
        }
    }

    fn cancel(&self, engine: &mut Engine, request: u32) {
        let sequence = self.requests.borrow().iter().find(|(_, asked)| asked.request == request).map(|(sequence, _)| *sequence);
        if let Some(sequence) = sequence {
            // Its `Done` comes with the next step. Where it has ended meanwhile, `Done` is already out.
            engine.cancel(sequence);
        }
    }

    fn pass_on(&self, event: &Event) {
        let sequence = event::sequence(event);
        let asked = match event {
            Event::Done { .. } => self.requests.borrow_mut().remove(&sequence),
            _ => self.requests.borrow_mut().get_mut(&sequence).map(|asked| {
                asked.prefilling = false;
                *asked
            }),
        };
        if let Some(asked) = asked {
            self.tell(&event::object(asked.request, event));
        }
    }

    /// A step that fails fails for everyone: the device is gone.
    fn fail_all(&self, engine: &mut Engine, error: &Error) {
        let requests = std::mem::take(&mut *self.requests.borrow_mut());
        for (sequence, asked) in requests {
            engine.cancel(sequence);
            self.tell(&event::failed(asked.request, error.code(), error.message()));
        }
    }

    fn tell(&self, event: &JsValue) {
        // An exception in the caller's callback is the caller's: it must not stop other requests.
        let _ = self.on_event.call1(&JsValue::NULL, event);
    }
}

/// A request's token ids.
fn prompt(engine: &Engine, ask: &Ask) -> Result<Vec<u32>> {
    match &ask.prompt {
        Prompt::Tokens(ids) => Ok(ids.clone()),
        Prompt::Text(text) => {
            let tokenizer =
                engine.tokenizer().ok_or_else(|| Error::request("this model's file has no tokenizer: give the prompt as token ids"))?;
            tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: ask.parse_special })
        }
    }
}
