//! Qwen 3: heads of Q and K are normalised before they rotate.

use crate::error::Result;
use crate::model::config::{Config, Keys};
use crate::model::plan::RopePairs;

use super::Family;

pub(super) const FAMILY: Family = Family { architecture: "qwen3", configure };

fn configure(keys: &Keys<'_>) -> Result<Config> {
    let mut config = Config::decoder(keys, RopePairs::Halves)?;
    config.qk_norm = true;
    Ok(config)
}
