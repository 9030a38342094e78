//! `firecrest generate`: go on from a text or from token ids.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args};
use firecrest::engine::engine::{self, Engine, Event, FinishReason, Request, Sampling, Speculation};
use firecrest::engine::grammar::{Constraint, Grammar, Trigger};
use firecrest::engine::text::EncodeOptions;
use firecrest::engine::{Error, ErrorCode};
use pollster::block_on;
use serde_json::json;

use super::lora::{self, LoraArguments};
use super::open::{CacheArguments, DeviceArguments, ModelArguments, Opened, Room, open};
use super::{Outcome, show};

/// Go on from a text or from token ids.
#[derive(Args)]
#[command(
    group = ArgGroup::new("input").required(true).args(["prompt", "tokens"]),
    after_help = "Examples:\n  firecrest generate --prompt \"Once upon a time\" --max-tokens 64\n  firecrest generate --model m.gguf --tokens 1,15043 --temperature 0 --json\n  firecrest generate --prompt \"A person: \" --json-schema person.schema.json"
)]
pub(crate) struct Generate {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    device: DeviceArguments,
    #[command(flatten)]
    cache: CacheArguments,
    #[command(flatten)]
    lora: LoraArguments,
    /// The text to go on from.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// The token ids to go on from; nothing is added to them.
    #[arg(long, value_name = "1,2,3", value_delimiter = ',')]
    tokens: Option<Vec<u32>>,
    /// Stop after this many tokens; without it, at the model's own end or a full context.
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    #[command(flatten)]
    sampling: SamplingArguments,
    /// Stop before this text; may be given again.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Take the model's end-of-generation tokens for tokens like any other.
    #[arg(long)]
    ignore_eos: bool,
    #[command(flatten)]
    grammar: GrammarArguments,
    /// With each token, its log probability and those of the N most probable.
    #[arg(long, value_name = "N")]
    logprobs: Option<u32>,
    /// Positions of context; the model's own if not given.
    #[arg(long, value_name = "N")]
    context: Option<u32>,
    /// Never draft tokens from earlier in the text. Drafts change the speed, not the text.
    #[arg(long)]
    no_speculation: bool,
    /// One JSON object on stdout instead of text.
    #[arg(long)]
    json: bool,
}

/// What the text must be.
#[derive(Args, Clone)]
#[group(multiple = false)]
pub(crate) struct GrammarArguments {
    /// The text is JSON that the schema in this file accepts.
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,
    /// The text matches this regular expression whole.
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    regex: Option<String>,
    /// The text follows the Lark grammar in this file.
    #[arg(long, value_name = "FILE")]
    lark: Option<PathBuf>,
}

impl GrammarArguments {
    fn constraint(&self) -> Outcome<Option<Constraint>> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|error| Error::new(ErrorCode::Source, format!("{}: {error}", path.display())))
        };
        let grammar = match (&self.json_schema, &self.regex, &self.lark) {
            (Some(path), ..) => {
                let schema = serde_json::from_str(&read(path)?);
                Grammar::JsonSchema(schema.map_err(|error| Error::request(format!("{}: {error}", path.display())))?)
            }
            (_, Some(pattern), _) => Grammar::Regex(pattern.clone()),
            (.., Some(path)) => Grammar::Lark(read(path)?),
            (None, None, None) => return Ok(None),
        };
        Ok(Some(Constraint { grammar, trigger: Trigger::Start }))
    }
}

/// How tokens are drawn.
#[derive(Args, Clone)]
pub(crate) struct SamplingArguments {
    /// 0 takes the most probable token every time.
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    pub(crate) temperature: f32,
    /// Keep the K most probable tokens; 0 keeps all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,
    /// Keep the fewest most probable tokens that add up to P.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Keep tokens at least P times as probable as the most probable.
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    min_p: f32,
    /// Locally typical sampling; 1 is off.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    typical_p: f32,
    /// Divides logits of recent tokens; 1 is off.
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    repeat_penalty: f32,
    /// Subtracted once from logits of recent tokens.
    #[arg(long, value_name = "R", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Subtracted from logits of recent tokens, each time.
    #[arg(long, value_name = "R", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// How many recent tokens penalties see.
    #[arg(long, value_name = "N", default_value_t = 64)]
    penalty_last_n: u32,
    /// Adds B to the logit of token ID; may be given again.
    #[arg(long, value_name = "ID=B", value_parser = bias)]
    logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same text on one backend; from the clock if not given.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let (id, bias) = text.split_once('=').ok_or("write ID=BIAS, for example 42=-1.5")?;
    let id = id.trim().parse().map_err(|_| format!("`{id}` is no token id"))?;
    let bias = bias.trim().parse().map_err(|_| format!("`{bias}` is no number"))?;
    Ok((id, bias))
}

impl SamplingArguments {
    pub(crate) fn sampling(&self) -> Sampling {
        let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            repeat_penalty: self.repeat_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            penalty_last_n: Some(self.penalty_last_n),
            logit_bias: self.logit_bias.clone(),
            seed: self.seed.unwrap_or_else(clock),
        }
    }
}

/// What one generation gave.
#[derive(Default)]
pub(crate) struct Generated {
    pub(crate) tokens: Vec<u32>,
    pub(crate) text: String,
    pub(crate) logprobs: Vec<serde_json::Value>,
    pub(crate) reason: &'static str,
    /// From submission to the first token.
    prefill: Duration,
    /// From the first token to the end.
    decode: Duration,
}

/// Runs one request to its end; text goes to `stream` as it comes.
pub(crate) fn drive(engine: &mut Engine, request: Request, stream: &mut dyn FnMut(&str) -> Outcome) -> Outcome<Generated> {
    let mut generated = Generated::default();
    let started = Instant::now();
    let mut first = None;
    let id = engine.submit(request)?.accepted()?;
    while !engine.is_idle() {
        for event in block_on(engine.step())? {
            match event {
                Event::Token { id, logprobs, .. } => {
                    first.get_or_insert_with(Instant::now);
                    generated.tokens.push(id);
                    if let Some(l) = logprobs {
                        let top: Vec<_> = l.top.iter().map(|(id, p)| json!({"id": id, "logprob": p})).collect();
                        generated.logprobs.push(json!({"id": id, "logprob": l.chosen, "top": top}));
                    }
                }
                Event::Text { text, .. } => {
                    generated.text.push_str(&text);
                    if let Err(failure) = stream(&text) {
                        engine.cancel(id);
                        return Err(failure);
                    }
                }
                Event::Done { reason: FinishReason::Failed { code, message }, .. } => return Err(Error::new(code, message).into()),
                Event::Done { reason, .. } => generated.reason = reason.name(),
                Event::Logits { .. } | Event::Logprobs { .. } | Event::Embedding { .. } => {}
            }
        }
    }
    let end = Instant::now();
    let first = first.unwrap_or(end);
    generated.prefill = first - started;
    generated.decode = end - first;
    Ok(generated)
}

impl Generate {
    pub(crate) fn run(self) -> Outcome {
        let Opened { mut engine, load, .. } =
            open(&self.model, &self.device, Room { context: self.context, sequences: Some(1), kv: self.cache.format() })?;
        let adapter = self.lora.load(&mut engine)?;
        let prompt = match (&self.tokens, &self.prompt) {
            (Some(tokens), _) => tokens.clone(),
            (None, Some(text)) => {
                let tokenizer = engine.tokenizer().ok_or_else(|| {
                    Error::new(ErrorCode::Unsupported, format!("{}: the model has no tokenizer; give --tokens", self.model.model))
                })?;
                let prompt = tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: true })?;
                if tokenizer.begins_twice(&prompt) {
                    let bos = tokenizer.bos_text();
                    eprintln!("note: the prompt begins with {bos}, and the model's file adds one: leave it out, or give --tokens");
                }
                prompt
            }
            (None, None) => Vec::new(),
        };
        let request = Request {
            adapter,
            ..Request::generate(
                prompt.clone(),
                engine::Generate {
                    max_tokens: self.max_tokens,
                    stop: self.stop.clone(),
                    ignore_eos: self.ignore_eos,
                    sampling: self.sampling.sampling(),
                    logprobs: self.logprobs,
                    grammar: self.grammar.constraint()?,
                    speculation: if self.no_speculation { Speculation::Off } else { Speculation::Auto },
                    logits: false,
                },
            )
        };
        let live = !self.json;
        let mut out = std::io::stdout().lock();
        let generated = drive(&mut engine, request, &mut |text| {
            if live {
                show::answer(&mut out, text)?;
            }
            Ok(())
        })?;
        if live {
            writeln!(out)?;
            return Ok(());
        }
        drop(out);
        let description = engine.describe();
        let mut object = json!({
            "prompt_tokens": prompt,
            "tokens": generated.tokens,
            "text": generated.text,
            "stop_reason": generated.reason,
            "backend": description.backend,
            "adapter": description.adapter,
            "rung": description.rung,
            "loras": lora::shown(&engine, adapter),
            "timings": {
                "load_s": show::seconds(load),
                "prefill_tps": show::rate(prompt.len(), generated.prefill),
                "decode_tps": show::rate(generated.tokens.len().saturating_sub(1), generated.decode),
            },
        });
        if self.logprobs.is_some() {
            object["logprobs"] = generated.logprobs.into();
        }
        show::json(&object)
    }
}
