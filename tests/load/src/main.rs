//! A load generator for the server.
//!
//! `load churn` opens a thousand streams with a thousand keys, leaves them at random bytes and reads some slowly, and checks that every stream ends, that
//! nothing is leaked, and that accounts, metrics and callers agree to the token. `load overhead` measures what the path costs a request: the whole of it
//! less a bare handler that gives back the same bytes, in one run. `load beside` measures what one caller's long requests cost others. `load rate` measures any server, for peers; tests/benches/overhead.py does so with LiteLLM.

mod beside;
mod churn;
mod http;
mod open_loop;
mod overhead;
mod random;
mod rate;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use firecrest::server::config::Config;
use firecrest::server::{Scripted, Server, log};
use firecrest_service::scripted::Pieces;

/// Loads a server, and sees what becomes of it.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Beside(beside::Beside),
    Churn(churn::Churn),
    Overhead(overhead::Overhead),
    Rate(rate::Rate),
    /// The whole server with scripts in models' places: `hello` at once, `endless` a word at a time.
    Serve {
        /// Its configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Milliseconds between words of `endless`.
        #[arg(long, default_value_t = 40, value_name = "N")]
        pace: u64,
    },
    /// A bare handler that gives back what a file says.
    #[command(hide = true)]
    Bare {
        answers: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Beside(beside) => beside.run(),
        What::Churn(churn) => churn.run(),
        What::Overhead(overhead) => overhead.run(),
        What::Rate(rate) => rate.run(),
        What::Serve { config, pace } => serve(&config, Duration::from_millis(pace)),
        What::Bare { answers } => overhead::bare(&answers),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: &std::path::Path, pace: Duration) -> Result<(), String> {
    let config = Config::read(config)?;
    log(config.log_json);
    let endless = "tick tock ".repeat(4096);
    let server = Server::new(config)?.scripted("hello", || Scripted::saying(&["Hello there, friend."]));
    let server = server.scripted("endless", move || {
        let pace = Rc::new(move |_| -> std::pin::Pin<Box<dyn Future<Output = ()>>> { Box::pin(tokio::time::sleep(pace)) });
        Scripted::saying(&[&endless]).in_pieces(Pieces::Words).at_pace(pace)
    });
    server.run(|address| println!("listening on http://{address}"))
}
