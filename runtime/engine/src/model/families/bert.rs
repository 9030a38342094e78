//! BERT: an encoder with learned positions, token types, and layer norms after each block.

use crate::error::Result;
use crate::model::config::{Biases, Config, EmbeddingConfig, FeedForward, Keys, LayerConfig, NormPlacement};
use crate::model::plan::Activation;

use super::Family;

pub(super) const FAMILY: Family = Family { architecture: "bert", configure };

fn configure(keys: &Keys<'_>) -> Result<Config> {
    let mut config = encoder(keys)?;
    config.embedding.positions = true;
    config.ropes.clear();
    let layers = config.layers.len();
    config.layers = vec![LayerConfig { window: None, rope: None }; layers];
    config.feed_forward = FeedForward { activation: Activation::GeluErf, gated: false };
    config.biases = Biases { qkv: true, output: true, up: true, down: true, head: false };
    Ok(config)
}

/// What both encoders share.
pub(super) fn encoder(keys: &Keys<'_>) -> Result<Config> {
    let mut config = Config::encoder_base(keys)?;
    config.placement = NormPlacement::Post;
    config.embedding = EmbeddingConfig { scale: 1.0, segments: keys.has("token_types.weight"), positions: false, norm: true };
    config.causal = keys.metadata().bool(&keys.key("attention.causal"))?.unwrap_or(false);
    config.final_norm = false;
    config.head = false;
    Ok(config)
}
