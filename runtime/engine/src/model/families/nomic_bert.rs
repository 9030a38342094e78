//! Nomic's BERT: rope for positions and a gated feed-forward network.

use crate::error::{Error, Result};
use crate::model::config::{Config, Keys};

use super::Family;
use super::bert::encoder;

pub(super) const FAMILY: Family = Family { architecture: "nomic-bert", configure };

fn configure(keys: &Keys<'_>) -> Result<Config> {
    if keys.optional("moe_every_n_layers")?.is_some_and(|n| n > 0) {
        return Err(Error::unsupported(format!("{} is set: mixtures of experts are not known", keys.key("moe_every_n_layers"))));
    }
    encoder(keys)
}
