//! The command line: arguments, one file a command, and how errors are shown.

mod bench;
mod chat;
mod devices;
mod embed;
mod fetch;
mod generate;
mod inspect;
#[cfg(feature = "server")]
mod keys;
mod logits;
mod lora;
mod open;
mod output;
mod pull;
#[cfg(feature = "server")]
mod serve;
mod show;
mod template;
mod tokenize;
mod trace;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use firecrest::engine::Error;

/// Run quantised transformers next to the person who asks.
#[derive(Parser)]
#[command(name = "firecrest", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Chat: one answer to a message, or a conversation where none is given.
    Chat(chat::Chat),
    /// Go on from a text or from token ids.
    Generate(generate::Generate),
    /// One vector for a text.
    Embed(embed::Embed),
    /// Text to token ids.
    Tokenize(tokenize::Tokenize),
    /// Render a chat template.
    Template(template::Template),
    /// The logits of every position, as safetensors.
    Logits(logits::Logits),
    /// What a model file holds, what will run how, and what memory it needs.
    Inspect(inspect::Inspect),
    /// Adapters, what they can do, and the rung chosen on each.
    Devices(devices::Devices),
    /// Measure prefill and decode.
    Bench(bench::Bench),
    /// Serve the Messages API, and OpenAI's beside it.
    #[cfg(feature = "server")]
    Serve(serve::Serve),
    /// Make, list, replace and end keys of a server.
    #[cfg(feature = "server")]
    Keys(keys::Keys),
    /// Download a model from the Hugging Face hub; an interrupted download is resumed.
    Pull(pull::Pull),
}

/// Runs the command that the arguments name. Errors go to stderr with a code that stays the same between versions.
pub(crate) fn run() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Chat(c) => c.run(),
        Command::Generate(c) => c.run(),
        Command::Embed(c) => c.run(),
        Command::Tokenize(c) => c.run(),
        Command::Template(c) => c.run(),
        Command::Logits(c) => c.run(),
        Command::Inspect(c) => c.run(),
        Command::Devices(c) => c.run(),
        Command::Bench(c) => c.run(),
        #[cfg(feature = "server")]
        Command::Serve(c) => c.run(),
        #[cfg(feature = "server")]
        Command::Keys(c) => c.run(),
        Command::Pull(c) => c.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Engine(error)) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Shows an error on stderr.
fn report(error: &Error) {
    let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
    // An error may quote a file or a hub. Lines of its own are kept.
    let lines: Vec<String> = error.to_string().split('\n').map(show::harmless).collect();
    // If stderr is closed too, there is nowhere left to say it.
    let _ = writeln!(anstream::stderr(), "{style}error[{}]{style:#}: {}", error.code().name(), lines.join("\n"));
}

/// Why a command ended early.
enum Failure {
    /// Ours to report.
    Engine(Error),
    /// Whoever read our output went away (`firecrest … | head`): no error.
    Closed,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Engine(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::Closed;
        }
        Failure::Engine(Error::new(firecrest::engine::ErrorCode::Source, error.to_string()))
    }
}

type Outcome<T = ()> = Result<T, Failure>;
