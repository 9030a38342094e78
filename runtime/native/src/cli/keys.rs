//! `firecrest keys`: who may call a server.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use firecrest::engine::{Error, ErrorCode};
use firecrest::server::store::{Key, Secret, Store, StoreError};
use serde_json::{Value, json};

use super::{Failure, Outcome, show};

/// Make, list, replace and end keys of a server.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  firecrest keys create --name laptop\n  firecrest keys create --name nightly --tier batch\n  firecrest keys list --json\n  firecrest keys rotate 3f2a91c04b7d88e1 --grace 3600\n  firecrest keys revoke 3f2a91c04b7d88e1\n\nA key is shown once, when it is made. A running server hears of changes at once."
)]
pub(crate) struct Keys {
    /// The server's store. `create` makes it where there is none.
    #[arg(long, value_name = "FILE", default_value = "firecrest.sqlite", global = true)]
    store: PathBuf,
    /// Machine-readable output.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key, and print it.
    Create {
        /// What you call it: one line, up to 128 characters.
        #[arg(long, default_value = "")]
        name: String,
        /// The tier whose limits hold for it: standard, priority, batch, or one of the server's configuration.
        #[arg(long, default_value = "standard")]
        tier: String,
        /// It may also load and unload models.
        #[arg(long)]
        admin: bool,
    },
    /// All keys, without their secrets.
    List,
    /// A new secret for the same caller; the old key ends.
    Rotate {
        /// Which: the part between the first two dashes.
        id: String,
        /// Seconds for which the old one goes on.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        grace: u64,
    },
    /// End a key.
    Revoke {
        /// Which.
        id: String,
    },
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Engine(Error::new(ErrorCode::Request, error.to_string()))
    }
}

impl Keys {
    pub(crate) fn run(self) -> Outcome {
        // A slip of the pen finds no keys, and revokes none.
        let mut store = match &self.command {
            Command::Create { name, tier, .. } => {
                Key::check(name, tier)?;
                Store::open(&self.store)?
            }
            _ => Store::existing(&self.store)?,
        };
        match self.command {
            Command::Create { name, tier, admin } => made(store.create(&name, &tier, admin)?, self.json),
            Command::Rotate { id, grace } => made(store.rotate(&id, Duration::from_secs(grace))?, self.json),
            Command::Revoke { id } => {
                let key = store.revoke(&id)?;
                if self.json {
                    return show::json(&shown(&key));
                }
                println!("{} is revoked", key.id);
                Ok(())
            }
            Command::List => {
                let keys = store.list()?;
                if self.json {
                    return show::json(&keys.iter().map(shown).collect::<Vec<_>>().into());
                }
                let row = |key: &Key| {
                    let ends = key.ends.map_or_else(String::new, firecrest_policy::limits::rfc3339);
                    let admin = if key.admin { "admin" } else { "" };
                    vec![
                        key.id.clone(),
                        key.name.clone(),
                        key.tier.clone(),
                        admin.to_owned(),
                        firecrest_policy::limits::rfc3339(key.created),
                        ends,
                    ]
                };
                show::table(&["ID", "NAME", "TIER", "RIGHTS", "CREATED", "ENDS"], &keys.iter().map(row).collect::<Vec<_>>())
            }
        }
    }
}

fn made((key, secret): (Key, Secret), json: bool) -> Outcome {
    let mut out = std::io::stdout().lock();
    let written = match json {
        true => {
            let mut value = shown(&key);
            value["key"] = secret.expose().into();
            writeln!(out, "{value}")
        }
        false => writeln!(out, "{}", secret.expose()),
    };
    // Nobody can read it any more.
    written.and_then(|()| out.flush()).map_err(|error| {
        let message = format!("key {id} was made, and could not be printed ({error}): `firecrest keys revoke {id}` ends it", id = key.id);
        Failure::Engine(Error::new(ErrorCode::Source, message))
    })?;
    if !json {
        let told = "This is the only time it is shown.";
        let _ = writeln!(std::io::stderr(), "{told} Its id is {}; its tier is {}.", key.id, key.tier);
    }
    Ok(())
}

fn shown(key: &Key) -> Value {
    json!({
        "id": key.id, "name": key.name, "tier": key.tier, "admin": key.admin, "created_ms": key.created, "ends_ms": key.ends,
        "revoked": key.revoked,
    })
}
