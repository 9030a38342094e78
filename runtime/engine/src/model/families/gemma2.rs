//! Gemma 2: norms around each block, soft caps on scores and logits, every other layer local.

use crate::error::Result;
use crate::model::config::{Config, Keys, NormPlacement};
use crate::model::plan::{Activation, RopePairs};

use super::Family;

pub(super) const FAMILY: Family = Family { architecture: "gemma2", configure };

/// The 27B model scales scores by dim / heads, and no GGUF key says so.
const LAYERS_OF_27B: usize = 46;

fn configure(keys: &Keys<'_>) -> Result<Config> {
    let mut config = gemma(keys, LAYERS_OF_27B)?;
    config.attention_softcap = keys.softcap("attn_logit_softcapping", Some(50.0))?;
    config.final_softcap = keys.softcap("final_logit_softcapping", Some(30.0))?;
    let window = match keys.optional("attention.sliding_window")? {
        Some(_) => keys.window()?,
        None => Some(4096),
    };
    config.slide_local_layers(keys, window, 2)?;
    Ok(config)
}

/// What both Gemmas share.
pub(super) fn gemma(keys: &Keys<'_>, layers_of_27b: usize) -> Result<Config> {
    let mut config = Config::decoder(keys, RopePairs::Halves)?;
    config.placement = NormPlacement::PreAndPost;
    config.embedding.scale = (config.dim as f32).sqrt();
    config.feed_forward.activation = Activation::GeluTanh;
    if config.layers.len() == layers_of_27b && keys.positive("attention.scale")?.is_none() {
        config.attention_scale = 1.0 / ((config.dim / config.heads) as f32).sqrt();
    }
    Ok(config)
}
