//! Gemma 3, text: Gemma 2 with QK-norm for the scores' soft cap, five local layers to a global one, and a rope of its own
//! for the local layers.

use crate::error::Result;
use crate::model::config::{Config, Keys};

use super::Family;
use super::gemma2::gemma;

pub(super) const FAMILY: Family = Family { architecture: "gemma3", configure };

const LAYERS_OF_27B: usize = 62;

fn configure(keys: &Keys<'_>) -> Result<Config> {
    let mut config = gemma(keys, LAYERS_OF_27B)?;
    config.qk_norm = true;
    config.final_softcap = keys.softcap("final_logit_softcapping", None)?;
    config.slide_local_layers(keys, keys.window()?, 6)?;

    let local_base = keys.positive("rope.freq_base_swa")?.unwrap_or(10_000.0);
    config.ropes.push(keys.unscaled(&config.ropes[0], local_base));
    for layer in config.layers.iter_mut().filter(|l| l.window.is_some()) {
        layer.rope = Some(1);
    }
    Ok(config)
}
