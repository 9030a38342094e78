//! `firecrest logits`: the logits of every position, as safetensors.

use std::path::PathBuf;

use clap::Args;
use firecrest::engine::Error;
use firecrest::engine::engine::{Event, FinishReason, Request};
use pollster::block_on;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::lora::{self, LoraArguments};
use super::open::{CacheArguments, DeviceArguments, ModelArguments, Opened, Room, open};
use super::{Outcome, output, show};

/// The logits of every position, as safetensors.
#[derive(Args)]
#[command(
    after_help = "Example:\n  firecrest logits --model m.gguf --tokens 1,2,3 --output logits.safetensors\n\nThe file holds one tensor `logits`, f32 [tokens, vocab]; row i says what follows token i."
)]
pub(crate) struct Logits {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    device: DeviceArguments,
    #[command(flatten)]
    cache: CacheArguments,
    #[command(flatten)]
    lora: LoraArguments,
    /// The token ids; nothing is added to them.
    #[arg(long, value_name = "1,2,3", value_delimiter = ',', required = true)]
    tokens: Vec<u32>,
    /// Where the tensor goes.
    #[arg(long, value_name = "F.safetensors")]
    output: PathBuf,
    /// What was done, as one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

impl Logits {
    pub(crate) fn run(self) -> Outcome {
        // Before the work, not after it.
        let inputs = [self.model.files()?, self.lora.files()].concat();
        output::refuse_inputs(&self.output, &inputs)?;
        let Opened { mut engine, .. } =
            open(&self.model, &self.device, Room { context: None, sequences: Some(1), kv: self.cache.format() })?;
        let adapter = self.lora.load(&mut engine)?;
        let rows = self.tokens.len();
        engine.submit(Request { adapter, ..Request::logits(self.tokens) })?.accepted()?;
        let mut logits: Vec<f32> = Vec::new();
        while !engine.is_idle() {
            for event in block_on(engine.step())? {
                match event {
                    Event::Logits { values, .. } => logits.extend(values),
                    Event::Done { reason: FinishReason::Failed { code, message }, .. } => return Err(Error::new(code, message).into()),
                    _ => {}
                }
            }
        }
        let vocab = logits.len() / rows.max(1);
        let view = TensorView::new(Dtype::F32, vec![rows, vocab], bytemuck::cast_slice(&logits))
            .map_err(|e| Error::internal(format!("the logits make no tensor: {e}")))?;
        let bytes =
            safetensors::serialize([("logits", view)], None).map_err(|e| Error::internal(format!("the logits make no file: {e}")))?;
        output::write(&self.output, &inputs, &bytes)?;
        let description = engine.describe();
        if self.json {
            return show::json(&json!({
                "output": self.output.display().to_string(), "shape": [rows, vocab],
                "backend": description.backend, "adapter": description.adapter, "loras": lora::shown(&engine, adapter),
            }));
        }
        eprintln!("logits [{rows}, {vocab}] written to {}", self.output.display());
        Ok(())
    }
}
