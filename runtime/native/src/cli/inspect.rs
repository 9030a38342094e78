//! `firecrest inspect`: what a model file holds, what will run how, and what memory it needs.

use std::io::Write;

use clap::Args;
use firecrest::engine::file::{Metadata, ModelFile, Value};
use firecrest::engine::model::{Model, ModelDescription, TensorUse};
use serde_json::json;

use super::open::{CacheArguments, ModelArguments};
use super::{Outcome, show};

/// What a model file holds, what will run how, and what memory it needs.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  firecrest inspect\n  firecrest inspect --model m.gguf --tensors --metadata\n  firecrest inspect --model m.gguf --json"
)]
pub(crate) struct Inspect {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    cache: CacheArguments,
    /// Every tensor, not only the sums.
    #[arg(long)]
    tensors: bool,
    /// Every metadata key.
    #[arg(long)]
    metadata: bool,
    /// One JSON object on stdout, with everything.
    #[arg(long)]
    json: bool,
}

/// Long arrays (vocabularies) and long strings (templates) are cut.
const SHOWN_ELEMENTS: usize = 6;
const SHOWN_CHARACTERS: usize = 60;

fn shown(value: Value<'_>) -> String {
    let cut = |text: &str| {
        let mut short: String = text.chars().take(SHOWN_CHARACTERS).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        short.escape_debug().to_string()
    };
    match value {
        Value::Unsigned(n) => n.to_string(),
        Value::Signed(n) => n.to_string(),
        Value::Float(x) => x.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Str(bytes) => cut(&String::from_utf8_lossy(bytes)),
        Value::Array(array) => {
            let first: Vec<String> = array.iter().take(SHOWN_ELEMENTS).map(shown).collect();
            let more = if array.len > first.len() { ", …" } else { "" };
            format!("{} × [{}{more}]", array.len, first.join(", "))
        }
    }
}

fn metadata(metadata: &Metadata) -> Vec<(String, String)> {
    metadata.iter().map(|(key, value)| (key.to_owned(), shown(value))).collect()
}

impl Inspect {
    pub(crate) fn run(self) -> Outcome {
        let file = self.model.open()?;
        // A file that can be read but not run is still shown, with the reason.
        let described = Model::describe(&file, None, self.cache.format());
        if self.json {
            return show::json(&object(&file, described.as_ref().map_err(ToString::to_string)));
        }
        match described {
            Ok(d) => self.people(&file, &d)?,
            Err(error) => {
                let mut out = anstream::stdout().lock();
                writeln!(
                    out,
                    "{}: {} tensors; it can't run: {}",
                    show::harmless(file.name()),
                    file.tensors().len(),
                    show::harmless(&error.to_string())
                )?;
            }
        }
        if self.metadata {
            let rows: Vec<Vec<String>> = metadata(&file.metadata).into_iter().map(|(k, v)| vec![k, v]).collect();
            writeln!(std::io::stdout())?;
            show::table(&["KEY", "VALUE"], &rows)?;
        }
        Ok(())
    }

    fn people(&self, file: &ModelFile, d: &ModelDescription) -> Outcome {
        let c = &d.config;
        let mut out = anstream::stdout().lock();
        writeln!(out, "{}", show::harmless(file.name()))?;
        writeln!(
            out,
            "{} · {} layers · dim {} · {} heads, {} key-value · head dim {} · ff {} · vocab {} · context {}",
            c.architecture,
            c.layers.len(),
            c.dim,
            c.heads,
            c.kv_heads,
            c.head_dim,
            c.ff,
            c.vocab,
            c.trained_context
        )?;
        for (window, layers) in &d.windows {
            if let Some(window) = window {
                writeln!(out, "{layers} layers see the last {window} positions")?;
            }
        }
        let (weights, cache, each) =
            (show::bytes(d.weight_bytes), show::bytes(d.kv_bytes(c.trained_context)), show::bytes(d.kv_bytes_per_position));
        writeln!(out, "\nmemory: {weights} weights, {cache} KV cache at the full context ({each} a position in {})\n", d.kv_format)?;
        drop(out);
        if self.tensors {
            let row = |t: &TensorUse| {
                let shape: Vec<String> = t.shape.iter().map(usize::to_string).collect();
                vec![t.name.clone(), t.ty.name().to_owned(), shape.join("×"), show::bytes(t.stored_bytes), t.runs.to_string()]
            };
            return show::table(&["TENSOR", "TYPE", "SHAPE", "STORED", "RUNS"], &d.tensors.iter().map(row).collect::<Vec<_>>());
        }
        let rows: Vec<Vec<String>> = d
            .by_type()
            .into_iter()
            .map(|(ty, runs, count, bytes)| vec![ty.name().to_owned(), count.to_string(), show::bytes(bytes), runs.to_string()])
            .collect();
        show::table(&["TYPE", "TENSORS", "STORED", "RUNS"], &rows)
    }
}

fn object(file: &ModelFile, described: Result<&ModelDescription, String>) -> serde_json::Value {
    let keys: serde_json::Map<String, serde_json::Value> = metadata(&file.metadata).into_iter().map(|(k, v)| (k, v.into())).collect();
    let d = match described {
        Ok(d) => d,
        Err(error) => {
            let tensors: Vec<_> = file.tensors().iter().map(|t| json!({"name": t.name, "type": t.ty.name(), "shape": t.shape})).collect();
            return json!({"model": file.name(), "error": error, "metadata": keys, "tensors": tensors});
        }
    };
    let tensor = |t: &TensorUse| {
        json!({
            "name": t.name, "type": t.ty.name(), "shape": t.shape, "stored_bytes": t.stored_bytes,
            "runs": t.runs.to_string(), "bytes": t.bytes,
        })
    };
    let c = &d.config;
    json!({
        "model": file.name(), "architecture": c.architecture, "layers": c.layers.len(), "dim": c.dim, "heads": c.heads,
        "kv_heads": c.kv_heads, "head_dim": c.head_dim, "ff": c.ff, "vocab": c.vocab, "context": c.trained_context,
        "metadata": keys, "tensors": d.tensors.iter().map(tensor).collect::<Vec<_>>(),
        "memory": {
            "weights_bytes": d.weight_bytes, "kv_type": d.kv_format.name(), "kv_bytes_per_position": d.kv_bytes_per_position,
            "kv_bytes_in_windows": d.kv_bytes_in_windows, "kv_bytes_full_context": d.kv_bytes(c.trained_context),
        },
    })
}
