//! What JavaScript holds: a loaded model that takes requests.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use firecrest_engine::Clock;
use firecrest_engine::backend::Backend;
use firecrest_engine::backend::cpu::{CpuBackend, CpuOptions};
use firecrest_engine::backend::gpu::{GpuBackend, GpuOptions, Without};
use firecrest_engine::engine::Engine;
use firecrest_engine::file::ModelFile;
use firecrest_engine::{Error, Result};
use js_sys::{Array, Function};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use crate::driver::{Command, Driver, performance_now};
use crate::event::{Fields, thrown};
use crate::pace::Pace;
use crate::request::{Ask, BackendKind, LoadOptions};
use crate::source::source;

#[wasm_bindgen(module = "/js/subgroups.js")]
extern "C" {
    /// Amends device requests so that they ask for subgroups. Whether there is WebGPU at all.
    #[wasm_bindgen(js_name = grantSubgroups)]
    fn grant_subgroups() -> bool;
}

/// A loaded model.
#[wasm_bindgen]
pub struct Firecrest {
    driver: Rc<Driver>,
    next: Cell<u32>,
    description: String,
}

#[wasm_bindgen]
impl Firecrest {
    /// Loads a model. `files` is an array of `[name, Blob | Uint8Array]`: one GGUF, its parts, or the files of a Hugging Face folder.
    /// `options` is JSON: `{"backend": "cpu" | "gpu", "subgroups", "accept_software", "benchmark", "context", "max_sequences",
    /// "cache_positions", "kv_type": "f16" | "int8", "step_rows"}`. `on_event` hears `{kind: "loading", done, total}` now and every request's events later.
    ///
    /// # Errors
    /// Throws an `Error` with a `code` where the files, the options or the device will not do.
    pub async fn load(files: Array, options: String, on_event: Function) -> std::result::Result<Firecrest, JsValue> {
        load(&files, &options, on_event).await.map_err(|error| thrown(&error))
    }

    /// What runs the model, as JSON: `{"backend", "adapter", "rung"}`.
    #[wasm_bindgen(getter)]
    pub fn description(&self) -> String {
        self.description.clone()
    }

    /// Begins a request, given as JSON: `{"prompt": text | [ids], "parse_special", "max_tokens", "stop", "ignore_eos", "temperature", "top_k",
    /// "top_p", "min_p", "repeat_penalty", "seed"}`. Returns its number at once; everything else comes as events that carry it.
    ///
    /// # Errors
    /// Throws where the JSON is not understood. What the engine refuses comes as the request's `done` event.
    pub fn submit(&self, request: &str) -> std::result::Result<u32, JsValue> {
        let ask = Ask::parse(request).map_err(|error| thrown(&error))?;
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        self.driver.post(Command::Submit(number, ask));
        Ok(number)
    }

    /// Ends a request: its `done` event says `cancelled`. A request that has ended is left as it is.
    pub fn cancel(&self, request: u32) {
        self.driver.post(Command::Cancel(request));
    }
}

impl Drop for Firecrest {
    fn drop(&mut self) {
        self.driver.post(Command::Close);
    }
}

async fn load(files: &Array, options: &str, on_event: Function) -> Result<Firecrest> {
    let options = LoadOptions::parse(options)?;
    let mut sources = Vec::new();
    for file in files.iter() {
        let pair: Array = file.dyn_into().map_err(|_| not_a_file())?;
        let name = pair.get(0).as_string().ok_or_else(not_a_file)?;
        sources.push(source(name, pair.get(1)).ok_or_else(not_a_file)?);
    }
    let file = ModelFile::open(sources).await?;
    let backend = backend(&options).await?;
    let described = backend.describe();
    let mut progress = |done: u64, total: u64| {
        let event = Fields::of_kind("loading").with("done", done as f64).with("total", total as f64).finish();
        // As with every event, an exception in the callback is the caller's.
        let _ = on_event.call1(&JsValue::NULL, &event);
    };
    let running = options.engine();
    let pace = Pace::new(running.step_rows, running.max_sequences);
    let mut engine = Engine::load(&file, backend, running, &mut progress).await?;
    engine.lend_clock(clock());
    let description = serde_json::json!({ "backend": described.backend, "adapter": described.adapter, "rung": described.rung }).to_string();
    Ok(Firecrest { driver: Driver::new(engine, pace, on_event), next: Cell::new(0), description })
}

fn not_a_file() -> Error {
    Error::request("every file is given as [name, Blob or Uint8Array]")
}

fn clock() -> Clock {
    Arc::new(|| Duration::from_secs_f64(performance_now() / 1000.0))
}

async fn backend(options: &LoadOptions) -> Result<Backend> {
    match options.backend {
        BackendKind::Cpu => Ok(Backend::Cpu(CpuBackend::new(CpuOptions { threads: Some(1), ..CpuOptions::default() })?)),
        BackendKind::Gpu => {
            let granted = options.subgroups && grant_subgroups();
            let gpu = GpuOptions {
                accept_software: options.accept_software,
                without: Without { subgroups: !options.subgroups, ..Without::default() },
                browser_subgroups: granted,
                clock: options.benchmark.then(clock),
                ..GpuOptions::default()
            };
            Ok(Backend::Gpu(GpuBackend::new(gpu).await?))
        }
    }
}
