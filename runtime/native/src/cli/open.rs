//! Opening a model the way every command does: the same flags, a progress bar, and the seconds it took.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use firecrest::engine::engine::{CacheSize, Engine, EngineOptions, KvFormat};
use firecrest::engine::file::ModelFile;
use firecrest::engine::text::Tokenizer;
use firecrest::{BackendKind, Device};
use indicatif::{ProgressBar, ProgressStyle};
use pollster::block_on;

use super::Outcome;

/// Which model.
#[derive(Args, Clone)]
pub(crate) struct ModelArguments {
    /// A GGUF file, a Hugging Face folder, hf:owner/repo[:QUANT|/FILE] once pulled, or `embedded`.
    #[arg(long, value_name = "PATH|embedded", default_value = firecrest::EMBEDDED)]
    pub(crate) model: String,
}

impl ModelArguments {
    /// Returns the files that the model is read from, which no output may replace.
    pub(crate) fn files(&self) -> Outcome<Vec<PathBuf>> {
        Ok(firecrest::model_files(&self.model)?)
    }

    /// Reads the model's header.
    pub(crate) fn open(&self) -> Outcome<ModelFile> {
        Ok(block_on(firecrest::open(&self.model))?)
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum BackendName {
    /// A real GPU where there is one, else the CPU.
    Auto,
    /// SIMD on this processor.
    Cpu,
    /// WGSL through Vulkan, Metal or DX12.
    Gpu,
}

/// Which device.
#[derive(Args, Clone)]
pub(crate) struct DeviceArguments {
    /// Where to compute.
    #[arg(long, value_enum, default_value = "auto")]
    backend: BackendName,
    /// Part of the adapter's name (see `firecrest devices`).
    #[arg(long, value_name = "SUBSTRING")]
    adapter: Option<String>,
    /// CPU threads; one a core if not given, and never more than there are cores.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl DeviceArguments {
    pub(crate) fn device(&self) -> Device {
        let kind = match self.backend {
            BackendName::Auto => BackendKind::Auto,
            BackendName::Cpu => BackendKind::Cpu,
            BackendName::Gpu => BackendKind::Gpu,
        };
        Device { kind, adapter: self.adapter.clone(), threads: self.threads }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum KvType {
    /// Two bytes a value.
    F16,
    /// Eight bits a value and a scale a head: about half the memory; logits move a little.
    Int8,
}

/// How the KV cache is kept.
#[derive(Args, Clone, Copy)]
pub(crate) struct CacheArguments {
    /// How the KV cache stores keys and values.
    #[arg(long, value_enum, default_value = "f16", value_name = "f16|int8", hide_default_value = true)]
    kv_type: KvType,
}

impl CacheArguments {
    pub(crate) fn format(self) -> KvFormat {
        match self.kv_type {
            KvType::F16 => KvFormat::F16,
            KvType::Int8 => KvFormat::Int8,
        }
    }
}

/// A model on a device, ready for requests.
pub(crate) struct Opened {
    pub(crate) file: ModelFile,
    pub(crate) engine: Engine,
    /// From the first byte read to the last weight uploaded.
    pub(crate) load: Duration,
}

/// Sizes that a command asks for, and what they are sizes of.
#[derive(Clone, Copy, Default)]
pub(crate) struct Room {
    /// Positions a sequence may have.
    pub(crate) context: Option<u32>,
    /// Sequences at once.
    pub(crate) sequences: Option<u32>,
    /// How keys and values are stored.
    pub(crate) kv: KvFormat,
}

/// Opens the model and uploads it, with a progress bar where a person watches.
pub(crate) fn open(model: &ModelArguments, device: &DeviceArguments, room: Room) -> Outcome<Opened> {
    let started = Instant::now();
    let file = model.open()?;
    let backend = block_on(device.device().backend())?;
    let mut options = EngineOptions { context: room.context, kv_format: room.kv, ..EngineOptions::default() };
    if let Some(sequences) = room.sequences {
        options.max_sequences = sequences;
        options.max_requests = options.max_requests.max(sequences);
    }
    if let (Some(context), Some(sequences)) = (room.context, room.sequences) {
        options.cache = CacheSize::Positions(u64::from(context) * u64::from(sequences));
    }
    let bar = progress_bar("loading");
    let engine = block_on(Engine::load(&file, backend, options, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    }));
    bar.finish_and_clear();
    let mut engine = engine?;
    engine.tokenizer().map_or(&[][..], Tokenizer::notes).iter().for_each(|note| eprintln!("note: {note}"));
    engine.lend_clock(Arc::new(move || started.elapsed()));
    Ok(Opened { engine, file, load: started.elapsed() })
}

/// A bar in bytes on stderr; hidden where stderr is no terminal.
pub(crate) fn progress_bar(what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    bar
}
