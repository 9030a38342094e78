//! `firecrest embed`: one vector for a text.

use clap::{Args, ValueEnum};
use firecrest::engine::engine::{self, Event, FinishReason, Pooling, Request};
use firecrest::engine::text::EncodeOptions;
use firecrest::engine::{Error, ErrorCode};
use pollster::block_on;
use serde_json::json;

use super::lora::LoraArguments;
use super::open::{DeviceArguments, ModelArguments, Opened, Room, open};
use super::{Outcome, show};

/// One vector for a text.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  firecrest embed --model bge-small.gguf --text \"a small bird\"\n  firecrest embed --model bge-small.gguf --text \"a small bird\" --pooling cls --json"
)]
pub(crate) struct Embed {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    device: DeviceArguments,
    #[command(flatten)]
    lora: LoraArguments,
    /// The text.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: String,
    /// Which states make the vector; the model's own choice if not given.
    #[arg(long, value_enum)]
    pooling: Option<PoolingName>,
    /// Leave the vector's length as it comes instead of scaling it to 1.
    #[arg(long)]
    raw: bool,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum PoolingName {
    /// The mean over all positions.
    Mean,
    /// The first position's.
    Cls,
    /// The last position's.
    Last,
}

impl Embed {
    pub(crate) fn run(self) -> Outcome {
        let Opened { mut engine, .. } = open(&self.model, &self.device, Room { sequences: Some(1), ..Room::default() })?;
        let adapter = self.lora.load(&mut engine)?;
        let tokenizer = engine
            .tokenizer()
            .ok_or_else(|| Error::new(ErrorCode::Unsupported, format!("{}: the model has no tokenizer", self.model.model)))?;
        let prompt = tokenizer.encode(&self.text, EncodeOptions { add_special: true, parse_special: false })?;
        let pooling = self.pooling.map(|p| match p {
            PoolingName::Mean => Pooling::Mean,
            PoolingName::Cls => Pooling::Cls,
            PoolingName::Last => Pooling::Last,
        });
        engine.submit(Request { adapter, ..Request::embed(prompt, engine::Embed { pooling, normalise: !self.raw }) })?.accepted()?;
        let mut embedding = Vec::new();
        while !engine.is_idle() {
            for event in block_on(engine.step())? {
                match event {
                    Event::Embedding { values, .. } => embedding = values,
                    Event::Done { reason: FinishReason::Failed { code, message }, .. } => return Err(Error::new(code, message).into()),
                    _ => {}
                }
            }
        }
        if self.json {
            return show::json(&json!({"embedding": embedding}));
        }
        let text: Vec<String> = embedding.iter().map(f32::to_string).collect();
        use std::io::Write;
        writeln!(std::io::stdout().lock(), "{}", text.join(" "))?;
        Ok(())
    }
}
