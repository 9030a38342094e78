//! `firecrest serve`: the API over HTTP.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use firecrest::EMBEDDED;
use firecrest::engine::{Error, ErrorCode};
use firecrest::server::config::{Config, ModelConfig};
use firecrest::server::{Server, log};

use super::{Failure, Outcome};

/// Serve the Messages API, and OpenAI's beside it, from models on this machine.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  firecrest keys create --name laptop\n  firecrest serve\n  firecrest serve --no-auth --model ~/models/qwen3-0.6b-q4_0.gguf\n  firecrest serve --config server.toml --port 9000\n\nThen, in another program:\n  ANTHROPIC_BASE_URL=http://127.0.0.1:8484 ANTHROPIC_API_KEY=<key>\n  OPENAI_BASE_URL=http://127.0.0.1:8484/v1 OPENAI_API_KEY=<key>\n\nThe members of the configuration file are described in docs/server.md."
)]
pub(crate) struct Serve {
    /// A TOML file; flags go before what it says.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address to listen on.
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// The port; 0 takes one that is free.
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// A model to serve: a GGUF file, a Hugging Face folder, hf:owner/repo[/file] once pulled, or `embedded`. May be given several times.
    #[arg(long = "model", value_name = "PATH|embedded")]
    models: Vec<String>,
    /// Ask for no keys: everybody who reaches the address may do everything. For loopback addresses only.
    #[arg(long)]
    no_auth: bool,
    /// The file with keys and the state of limits.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Log lines as JSON.
    #[arg(long)]
    log_json: bool,
}

impl Serve {
    pub(crate) fn run(self) -> Outcome {
        let config = self.config().map_err(request)?;
        log(config.log_json);
        let server = Server::new(config).map_err(request)?;
        let hint = server.needs_a_key();
        let again = self.config.is_some();
        let server = if again { server.reloading(move || self.config()) } else { server };
        server
            .run(|address| {
                // A server that nobody listens to serves nevertheless.
                let mut out = std::io::stderr().lock();
                let _ = writeln!(out, "listening on http://{address}");
                if hint {
                    let _ = writeln!(out, "there are no keys yet: `firecrest keys create --name me` makes one");
                }
            })
            .map_err(request)
    }

    fn config(&self) -> Result<Config, String> {
        let mut config = self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
        let address = SocketAddr::new(self.host.unwrap_or(config.listen.ip()), self.port.unwrap_or(config.listen.port()));
        config.listen = address;
        config.auth &= !self.no_auth;
        config.log_json |= self.log_json;
        if let Some(store) = &self.store {
            config.store = store.clone();
        }
        config.models.extend(self.models.iter().map(|path| ModelConfig::from(path.as_str())));
        if config.models.is_empty() {
            config.models.push(ModelConfig::from(EMBEDDED));
        }
        Ok(config)
    }
}

fn request(message: String) -> Failure {
    Failure::Engine(Error::new(ErrorCode::Request, message))
}
