//! The families: each says how it differs from the common decoder, as data.

use crate::error::{Error, Result};

use super::config::{Config, Keys};

mod bert;
mod gemma2;
mod gemma3;
mod llama;
mod nomic_bert;
mod phi3;
mod qwen2;
mod qwen3;

/// A family of models.
pub(super) struct Family {
    /// What files call it in `general.architecture`.
    pub(super) architecture: &'static str,
    /// Reads its configuration.
    pub(super) configure: fn(&Keys<'_>) -> Result<Config>,
}

const FAMILIES: [Family; 8] =
    [llama::FAMILY, qwen2::FAMILY, qwen3::FAMILY, gemma2::FAMILY, gemma3::FAMILY, phi3::FAMILY, bert::FAMILY, nomic_bert::FAMILY];

/// The family of an architecture's name.
pub(super) fn find(architecture: &str) -> Result<&'static Family> {
    const KNOWN: &[Family] = &FAMILIES;
    KNOWN.iter().find(|f| f.architecture == architecture).ok_or_else(|| {
        let known: Vec<&str> = KNOWN.iter().map(|f| f.architecture).collect();
        Error::unsupported(format!("general.architecture is {architecture:?}; these are known: {}", known.join(", ")))
    })
}
