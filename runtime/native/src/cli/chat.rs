//! `firecrest chat`: one answer to a message, or a conversation where none is given.

use std::io::{BufRead, IsTerminal, Read, Write};

use clap::Args;
use firecrest::engine::engine::{self, AdapterId, Engine, Request};
use firecrest::engine::file::ModelFile;
use firecrest::engine::text::{ChatTemplate, EncodeOptions, WallTime};
use firecrest::engine::{Error, ErrorCode};
use serde_json::{Value, json};

use super::generate::{SamplingArguments, drive};
use super::lora::{self, LoraArguments};
use super::open::{CacheArguments, DeviceArguments, ModelArguments, Opened, Room, open};
use super::tokenize::read_text;
use super::{Failure, Outcome, report, show};

/// Chat: one answer to a message, or a conversation where none is given.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  firecrest chat \"Tell me a story\"\n  firecrest chat --model m.gguf --system \"Answer in one sentence.\"\n\nIn a conversation: /clear forgets it, /quit or end of input leaves."
)]
pub(crate) struct Chat {
    /// The message; without one, a conversation begins.
    #[arg(allow_hyphen_values = true, value_parser = message)]
    message: Option<String>,
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    device: DeviceArguments,
    #[command(flatten)]
    cache: CacheArguments,
    #[command(flatten)]
    lora: LoraArguments,
    /// A system message before everything.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// A Jinja template instead of the model's own.
    #[arg(long, value_name = "F")]
    template: Option<std::path::PathBuf>,
    /// Tokens of an answer at most.
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: u32,
    #[command(flatten)]
    sampling: SamplingArguments,
    /// Positions of context; the model's own, within reason, if not given.
    #[arg(long, value_name = "N")]
    context: Option<u32>,
    /// One JSON object for each answer instead of streamed text.
    #[arg(long)]
    json: bool,
}

/// Now, as templates are told it (UTC).
pub(crate) fn wall_time() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    WallTime { unix_seconds: since.map_or(0, |d| d.as_secs() as i64), utc_offset_seconds: 0 }
}

/// The template that the model brings.
pub(crate) fn model_template(file: &ModelFile) -> Outcome<ChatTemplate> {
    let source = file.chat_template()?.ok_or_else(|| {
        Error::unsupported(format!("{} brings no chat template: give one with --template, or use `firecrest generate`", file.name()))
    })?;
    Ok(ChatTemplate::new(source)?)
}

/// Takes a message that begins with a hyphen, but not a misspelt flag.
fn message(text: &str) -> Result<String, String> {
    let name = text.trim_start_matches('-').split('=').next().unwrap_or_default();
    let flag = text.starts_with('-') && name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.contains(char::is_whitespace);
    if flag { Err("there is no such option; if it is the message, write it after ` -- `".into()) } else { Ok(text.to_owned()) }
}

/// Most bytes of a line of a conversation.
const MAX_LINE: u64 = 16 << 20;

/// Reads a line as bytes. `None` at the end of input.
///
/// # Errors
/// Input that can't be read; a line that is too long or is not UTF-8 is the inner error, and the next line can be read.
fn read_line(input: &mut impl BufRead) -> Outcome<Option<Result<String, Error>>> {
    let mut bytes = Vec::new();
    input.take(MAX_LINE).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() as u64 == MAX_LINE && !bytes.ends_with(b"\n") {
        // The rest of the line is no message of its own.
        while !bytes.is_empty() && !bytes.ends_with(b"\n") {
            bytes.clear();
            input.take(MAX_LINE).read_until(b'\n', &mut bytes)?;
        }
        return Ok(Some(Err(Error::request(format!("the message is longer than {MAX_LINE} bytes; send less")))));
    }
    Ok(Some(String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::request(format!("the message is not UTF-8 at byte {at}; send it as UTF-8"))
    })))
}

struct Conversation {
    engine: Engine,
    template: ChatTemplate,
    messages: Vec<Value>,
    system: usize,
    adapter: Option<AdapterId>,
}

impl Chat {
    pub(crate) fn run(self) -> Outcome {
        let Opened { mut engine, file, .. } =
            open(&self.model, &self.device, Room { context: self.context, sequences: Some(1), kv: self.cache.format() })?;
        let adapter = self.lora.load(&mut engine)?;
        let template = match &self.template {
            Some(path) => ChatTemplate::new(&read_text(path)?)?,
            None => model_template(&file)?,
        };
        let messages: Vec<Value> = self.system.iter().map(|text| json!({"role": "system", "content": text})).collect();
        let mut conversation = Conversation { engine, template, system: messages.len(), messages, adapter };
        match &self.message {
            Some(message) => self.answer(&mut conversation, message),
            None => self.converse(&mut conversation),
        }
    }

    fn converse(&self, conversation: &mut Conversation) -> Outcome {
        let person = std::io::stdin().is_terminal();
        let mut input = std::io::stdin().lock();
        loop {
            if person {
                let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Cyan.into()));
                write!(anstream::stderr(), "{style}>{style:#} ")?;
                std::io::stderr().flush()?;
            }
            let Some(line) = read_line(&mut input)? else { break };
            let answered = match line {
                Ok(line) => match line.trim() {
                    "" => Ok(()),
                    "/quit" | "/exit" => break,
                    "/clear" => {
                        conversation.messages.truncate(conversation.system);
                        Ok(())
                    }
                    message => {
                        let before = conversation.messages.clone();
                        self.answer(conversation, message).inspect_err(|_| conversation.messages = before)
                    }
                },
                Err(error) => Err(error.into()),
            };
            match answered {
                Ok(()) => {}
                // A message that can't be answered is left out; the conversation is as it was before it.
                Err(Failure::Engine(error)) if of_the_message(&error) => {
                    if self.json {
                        show::json(&json!({"error": {"code": error.code().name(), "message": error.message()}}))?;
                    }
                    report(&error);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    fn answer(&self, conversation: &mut Conversation, message: &str) -> Outcome {
        conversation.messages.push(json!({"role": "user", "content": message}));
        let prompt = conversation.prompt(self.max_tokens)?;
        let work = engine::Generate { max_tokens: Some(self.max_tokens), sampling: self.sampling.sampling(), ..Default::default() };
        let mut out = std::io::stdout().lock();
        let live = !self.json;
        let generated = drive(
            &mut conversation.engine,
            Request { adapter: conversation.adapter, ..Request::generate(prompt.clone(), work) },
            &mut |text| {
                if live {
                    show::answer(&mut out, text)?;
                }
                Ok(())
            },
        )?;
        if live {
            writeln!(out)?;
        }
        drop(out);
        let text = generated.text.trim().to_owned();
        conversation.messages.push(json!({"role": "assistant", "content": text}));
        if self.json {
            let loras = lora::shown(&conversation.engine, conversation.adapter);
            let usage = json!({"prompt_tokens": prompt.len(), "generated_tokens": generated.tokens.len()});
            return show::json(&json!({"text": text, "stop_reason": generated.reason, "usage": usage, "loras": loras}));
        }
        Ok(())
    }
}

/// Whether an error is a message's, so that the next one may be answered.
fn of_the_message(error: &Error) -> bool {
    !matches!(error.code(), ErrorCode::Device | ErrorCode::Internal | ErrorCode::Source)
}

impl Conversation {
    /// The conversation as token ids. Where it no longer fits the context, the oldest turns are left out.
    fn prompt(&mut self, answer: u32) -> Outcome<Vec<u32>> {
        let tokenizer = self
            .engine
            .tokenizer()
            .ok_or_else(|| Error::new(ErrorCode::Unsupported, "the model has no tokenizer, so it can't chat; use generate --tokens"))?;
        let room = self.engine.context().saturating_sub(answer.min(self.engine.context() / 2)) as usize;
        loop {
            let context = json!({
                "messages": self.messages, "add_generation_prompt": true,
                "bos_token": tokenizer.bos_text(), "eos_token": tokenizer.eos_text(),
            });
            let rendered = self.template.render(&context, Some(wall_time()))?;
            // The template writes the special tokens itself.
            let prompt = tokenizer.encode(&rendered, EncodeOptions { add_special: false, parse_special: true })?;
            if prompt.len() <= room || self.messages.len() <= self.system + 1 {
                return Ok(prompt);
            }
            // A question leaves together with its answer.
            let drop = if self.messages.len() > self.system + 2 { 2 } else { 1 };
            self.messages.drain(self.system..self.system + drop);
        }
    }
}
