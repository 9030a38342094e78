//! Phi 3, 3.5 and 4-mini: Q, K, V fused and gate, up fused in the file; longrope; part of a head rotates in 4-mini.

use crate::error::Result;
use crate::model::config::{Config, Keys};
use crate::model::plan::RopePairs;

use super::Family;

pub(super) const FAMILY: Family = Family { architecture: "phi3", configure };

fn configure(keys: &Keys<'_>) -> Result<Config> {
    let mut config = Config::decoder(keys, RopePairs::Halves)?;
    config.slide_every_layer(keys)?;
    Ok(config)
}
