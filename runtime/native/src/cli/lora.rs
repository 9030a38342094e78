//! `--lora`: adapters beside the model.

use std::path::PathBuf;

use clap::Args;
use firecrest::engine::Error;
use firecrest::engine::engine::{AdapterId, AdapterInfo, Engine};
use pollster::block_on;
use serde_json::{Value, json};

use super::Outcome;

/// Which LoRA adapters.
#[derive(Args, Clone)]
pub(crate) struct LoraArguments {
    /// A LoRA adapter: a GGUF file or a PEFT folder, and perhaps how strongly it counts (1 if not given). May be given again: all are loaded,
    /// and the first is used unless --use-lora names another.
    #[arg(long, value_name = "PATH[=STRENGTH]")]
    lora: Vec<String>,
    /// Of several --lora the one to use, by its path or the last part of it; `none` for the model as it is.
    #[arg(long, value_name = "NAME|none", requires = "lora")]
    use_lora: Option<String>,
}

/// What stands behind the last `=` where that is a number; paths may hold others.
fn split(argument: &str) -> (&str, f32) {
    match argument.rsplit_once('=').map(|(path, strength)| (path, strength.parse())) {
        Some((path, Ok(strength))) => (path, strength),
        _ => (argument, 1.0),
    }
}

impl LoraArguments {
    /// Returns the adapters' files and folders, which no output may replace.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.lora.iter().map(|argument| PathBuf::from(split(argument).0)).collect()
    }

    /// Loads every adapter; the one that requests are to be computed with.
    pub(crate) fn load(&self, engine: &mut Engine) -> Outcome<Option<AdapterId>> {
        let mut chosen = None;
        for (index, argument) in self.lora.iter().enumerate() {
            let (path, strength) = split(argument);
            let file = block_on(firecrest::open_adapter(path))?;
            let id = block_on(engine.load_adapter(&file, strength))?;
            let named = |name: &String| path == *name || path.trim_end_matches('/').rsplit('/').next() == Some(name.as_str());
            if self.use_lora.as_ref().map_or(index == 0, named) {
                chosen.get_or_insert(id);
            }
        }
        match &self.use_lora {
            Some(name) if chosen.is_none() && name != "none" => {
                Err(Error::request(format!("--use-lora {name}: no --lora has that path or name")).into())
            }
            _ => Ok(chosen),
        }
    }
}

/// What was loaded and used, for `--json`.
pub(crate) fn shown(engine: &Engine, used: Option<AdapterId>) -> Value {
    let one = |info: &AdapterInfo| {
        json!({
            "name": info.name, "strength": info.strength, "adapted": info.adapted, "rank": info.rank, "bytes": info.bytes,
            "used": Some(info.id) == used,
        })
    };
    engine.adapters().iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_strength_is_a_number_behind_the_last_equals_sign() {
        assert_eq!(split("a.gguf"), ("a.gguf", 1.0));
        assert_eq!(split("a.gguf=0.5"), ("a.gguf", 0.5));
        assert_eq!(split("r=8/a"), ("r=8/a", 1.0));
        assert_eq!(split("r=8/a=-2"), ("r=8/a", -2.0));
    }
}
