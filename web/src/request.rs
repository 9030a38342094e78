//! Requests and load options as JSON: what crosses a worker's border is text either way, and unknown fields are refused by name.

use firecrest_engine::engine::{CacheSize, EngineOptions, Generate, KvFormat, Sampling, Speculation};
use firecrest_engine::grammar::{Constraint, Grammar, Trigger};
use firecrest_engine::{Error, Result};
use serde::Deserialize;

/// Which backend runs a model.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BackendKind {
    Cpu,
    Gpu,
}

/// How the KV cache stores keys and values.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KvType {
    #[default]
    F16,
    Int8,
}

/// How a model is loaded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadOptions {
    pub(crate) backend: BackendKind,
    /// GPU only. `false` stays on kernels without subgroup operations.
    #[serde(default = "yes")]
    pub(crate) subgroups: bool,
    /// GPU only. Whether a software adapter may be taken.
    #[serde(default)]
    pub(crate) accept_software: bool,
    /// GPU only. `false` takes the first rung that passes the self-check instead of timing those that do: sooner ready, and the same
    /// rungs every time.
    #[serde(default = "yes")]
    pub(crate) benchmark: bool,
    context: Option<u32>,
    max_sequences: Option<u32>,
    cache_positions: Option<u64>,
    #[serde(default)]
    kv_type: KvType,
    step_rows: Option<u32>,
}

fn yes() -> bool {
    true
}

impl LoadOptions {
    pub(crate) fn parse(json: &str) -> Result<LoadOptions> {
        serde_json::from_str(json).map_err(|e| Error::request(format!("the load options are not understood: {e}")))
    }

    /// What the engine is told.
    pub(crate) fn engine(&self) -> EngineOptions {
        let default = EngineOptions::default();
        EngineOptions {
            context: self.context,
            max_sequences: self.max_sequences.unwrap_or(default.max_sequences),
            cache: self.cache_positions.map_or(default.cache, CacheSize::Positions),
            kv_format: match self.kv_type {
                KvType::F16 => KvFormat::F16,
                KvType::Int8 => KvFormat::Int8,
            },
            step_rows: self.step_rows.unwrap_or(default.step_rows),
            ..default
        }
    }
}

/// Text to be tokenised, or token ids as they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

/// A request to generate. Sampling's defaults are the engine's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    pub(crate) prompt: Prompt,
    /// Whether text may name special tokens, as a rendered chat template does.
    #[serde(default)]
    pub(crate) parse_special: bool,
    max_tokens: Option<u32>,
    #[serde(default)]
    stop: Vec<String>,
    #[serde(default)]
    ignore_eos: bool,
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    repeat_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    seed: Option<u64>,
    /// `false` computes one token at a time, though the text repeats itself.
    #[serde(default = "yes")]
    speculation: bool,
    /// What the text must be.
    grammar: Option<AskedGrammar>,
    /// Where the grammar begins to hold: this text, or, without one, the start.
    grammar_trigger: Option<String>,
}

/// `{"json_schema": …}`, `{"regex": "…"}` or `{"lark": "…"}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AskedGrammar {
    JsonSchema(serde_json::Value),
    Regex(String),
    Lark(String),
}

impl Ask {
    pub(crate) fn parse(json: &str) -> Result<Ask> {
        serde_json::from_str(json).map_err(|e| Error::request(format!("the request is not understood: {e}")))
    }

    /// How the engine is to go on from the prompt.
    pub(crate) fn generate(&self) -> Generate {
        let default = Sampling::default();
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            typical_p: self.typical_p.unwrap_or(default.typical_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(default.repeat_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(default.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(default.frequency_penalty),
            seed: self.seed.unwrap_or(default.seed),
            ..default
        };
        let grammar = self.grammar.clone().map(|grammar| Constraint {
            grammar: match grammar {
                AskedGrammar::JsonSchema(schema) => Grammar::JsonSchema(schema),
                AskedGrammar::Regex(pattern) => Grammar::Regex(pattern),
                AskedGrammar::Lark(text) => Grammar::Lark(text),
            },
            trigger: self.grammar_trigger.clone().map_or(Trigger::Start, Trigger::Text),
        });
        let (max_tokens, stop, ignore_eos) = (self.max_tokens, self.stop.clone(), self.ignore_eos);
        let speculation = if self.speculation { Speculation::Auto } else { Speculation::Off };
        Generate { max_tokens, stop, ignore_eos, sampling, grammar, speculation, ..Generate::default() }
    }
}
