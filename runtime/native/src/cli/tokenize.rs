//! `firecrest tokenize`: text to token ids.

use std::io::{Read, Write};
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use firecrest::engine::text::{EncodeOptions, Tokenizer};
use firecrest::engine::{Error, ErrorCode};
use serde_json::json;

use super::open::ModelArguments;
use super::{Failure, Outcome, show};

/// Text to token ids.
#[derive(Args)]
#[command(
    group = ArgGroup::new("input").required(true).args(["file", "text"]),
    after_help = "Examples:\n  firecrest tokenize --text \"Tell me a story\"\n  firecrest tokenize --model m.gguf --file story.txt --special --json"
)]
pub(crate) struct Tokenize {
    #[command(flatten)]
    model: ModelArguments,
    /// A UTF-8 file, taken byte for byte; `-` is standard input.
    #[arg(long, value_name = "F")]
    file: Option<PathBuf>,
    /// The text itself.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,
    /// Add the tokens the model wants around a text (BOS, EOS, [CLS] …) and read special tokens written in it.
    #[arg(long)]
    special: bool,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// A whole file as text, or an error that says where it stops being UTF-8.
pub(crate) fn read_text(path: &PathBuf) -> Outcome<String> {
    let named = |e: std::io::Error| Error::new(ErrorCode::Source, format!("{}: {e}", path.display()));
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(named)?;
        bytes
    } else {
        std::fs::read(path).map_err(named)?
    };
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::Engine(Error::malformed(format!("{}: byte {at} begins no UTF-8 character; convert the file to UTF-8", path.display())))
    })
}

impl Tokenize {
    pub(crate) fn run(self) -> Outcome {
        let text = match (&self.text, &self.file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => read_text(path)?,
            (None, None) => String::new(),
        };
        let tokenizer = Tokenizer::from_file(&self.model.open()?)?
            .ok_or_else(|| Error::unsupported(format!("{}: the model has no tokenizer", self.model.model)))?;
        tokenizer.notes().iter().for_each(|note| eprintln!("note: {note}"));
        let tokens = tokenizer.encode(&text, EncodeOptions { add_special: self.special, parse_special: self.special })?;
        if tokenizer.begins_twice(&tokens) {
            eprintln!("note: the text begins with {}, and the model's file adds one", tokenizer.bos_text());
        }
        if self.json {
            return show::json(&json!({"tokens": tokens}));
        }
        let mut out = std::io::stdout().lock();
        for id in tokens {
            writeln!(out, "{id:>7}  {:?}", tokenizer.token_text(id).unwrap_or_default())?;
        }
        Ok(())
    }
}
