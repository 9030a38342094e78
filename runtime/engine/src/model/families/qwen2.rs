//! Qwen 2 and 2.5: a llama with biases on Q, K and V.

use crate::error::Result;
use crate::model::config::{Config, Keys};
use crate::model::plan::RopePairs;

use super::Family;

pub(super) const FAMILY: Family = Family { architecture: "qwen2", configure };

fn configure(keys: &Keys<'_>) -> Result<Config> {
    let mut config = Config::decoder(keys, RopePairs::Halves)?;
    config.biases.qkv = true;
    Ok(config)
}
