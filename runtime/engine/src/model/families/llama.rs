//! Llama 2 and 3, Mistral (whose window every layer has), SmolLM2. GGUF's converter interleaves the rotated pairs.

use crate::error::{Error, Result};
use crate::model::config::{Config, Keys};
use crate::model::plan::RopePairs;

use super::Family;

pub(super) const FAMILY: Family = Family { architecture: "llama", configure };

fn configure(keys: &Keys<'_>) -> Result<Config> {
    if keys.optional("expert_count")?.is_some_and(|n| n > 0) {
        return Err(Error::unsupported(format!("{} is set: mixtures of experts are not known", keys.key("expert_count"))));
    }
    let mut config = Config::decoder(keys, RopePairs::Adjacent)?;
    config.slide_every_layer(keys)?;
    Ok(config)
}
