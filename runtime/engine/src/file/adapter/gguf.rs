//! GGUF adapters: `general.type` is `adapter`, `adapter.type` is `lora`, and the tensors of a pair are called `<base tensor>.lora_a` and
//! `<base tensor>.lora_b`.

use super::{Half, Pair, pair_up};
use crate::error::{Error, Result};
use crate::file::ModelFile;
use crate::file::head::quoted;

/// Checks that the file is a LoRA adapter; the architecture of its base model.
pub(super) fn architecture(file: &ModelFile) -> Result<String> {
    let metadata = &file.metadata;
    let name = file.name();
    match metadata.str("general.type")? {
        Some("adapter") => {}
        Some(other) => {
            return Err(Error::malformed(format!("{name}: not an adapter: its general.type is {}, not `adapter`", quoted(other))));
        }
        None => return Err(Error::malformed(format!("{name}: not an adapter: it has no general.type, which should be `adapter`"))),
    }
    match metadata.require_str("adapter.type")? {
        "lora" => {}
        other => {
            return Err(Error::unsupported(format!("{name}: an adapter of the type {} is not run; `lora` is", quoted(other))));
        }
    }
    if let Some((key, _)) = metadata.iter().find(|(key, _)| key.starts_with("adapter.alora.")) {
        return Err(Error::unsupported(format!("{name}: {} makes it an activated LoRA, which is not run", quoted(key))));
    }
    Ok(metadata.require_str("general.architecture")?.to_owned())
}

/// The file's pairs.
pub(super) fn pairs(file: &ModelFile) -> Result<Vec<Pair>> {
    let alpha = file
        .metadata
        .f32("adapter.lora.alpha")?
        .ok_or_else(|| Error::malformed(format!("{}: the metadata lacks `adapter.lora.alpha`", file.name())))?;
    let mut halves = Vec::new();
    for tensor in file.tensors() {
        let (module, half) = if let Some(module) = tensor.name.strip_suffix(".lora_a") {
            (module, Half::A)
        } else if let Some(module) = tensor.name.strip_suffix(".lora_b") {
            (module, Half::B)
        } else {
            return Err(Error::unsupported(format!(
                "{}: tensor {} is neither `<base tensor>.lora_a` nor `<base tensor>.lora_b`; plain LoRA has nothing else",
                file.name(),
                quoted(&tensor.name)
            )));
        };
        halves.push((module.to_owned(), half, tensor));
    }
    // As llama.cpp has it, an α of 0 is none: B·A as it stands.
    pair_up(file, halves, |_, rank| Ok(if alpha == 0.0 { 1.0 } else { alpha / rank as f32 }))
}
