//! From what a person names to byte sources: a file, the first of split files, a folder, a pulled repository, or the embedded model.

use std::path::{Path, PathBuf};

use firecrest_engine::error::{Error, ErrorCode, Result};
use firecrest_engine::file::{AdapterFile, ModelFile};
use firecrest_weights::ByteSource;

use crate::hub::HubName;

/// The name of the model inside the binary.
pub const EMBEDDED: &str = "embedded";

/// Opens a model by name: a path to a GGUF file, to a folder of safetensors as Hugging Face lays them out, `hf:owner/repo[:QUANT]` or
/// `hf:owner/repo/file` once pulled, or [`EMBEDDED`].
///
/// # Errors
/// Where nothing is there, or what is there is no model; the message says what to do.
pub async fn open(model: &str) -> Result<ModelFile> {
    ModelFile::open(sources(model)?).await
}

/// Opens a LoRA adapter by path: a GGUF file, or a folder as PEFT writes it.
///
/// # Errors
/// Where nothing is there, or what is there is no adapter that can be run; the message says which part.
pub async fn open_adapter(path: &str) -> Result<AdapterFile> {
    if !Path::new(path).exists() {
        let why = "there is no such file; give the path of a GGUF adapter or of a PEFT folder";
        return Err(Error::new(ErrorCode::Source, format!("{path}: {why}")));
    }
    AdapterFile::open(firecrest_weights::native::open_adapter(path)?).await
}

/// The byte sources of a model by name.
///
/// # Errors
/// As [`open`], short of looking into the files.
pub fn sources(model: &str) -> Result<Vec<Box<dyn ByteSource>>> {
    match path(model)? {
        None => embedded(),
        Some(path) => Ok(firecrest_weights::native::open_model(path)?),
    }
}

/// Returns the files that make up a model by name; none for [`EMBEDDED`].
///
/// # Errors
/// As [`sources`].
pub fn model_files(model: &str) -> Result<Vec<PathBuf>> {
    match path(model)? {
        None => Ok(Vec::new()),
        Some(path) => Ok(firecrest_weights::native::model_files(&path)?),
    }
}

/// Where a model lies; `None` for the embedded one.
fn path(model: &str) -> Result<Option<PathBuf>> {
    if model == EMBEDDED {
        return Ok(None);
    }
    let path = match model.strip_prefix("hf:") {
        Some(_) => model.parse::<HubName>()?.pulled()?,
        None => PathBuf::from(model),
    };
    if !path.exists() {
        let why = "there is no such file; give the path of a GGUF file or of a Hugging Face folder, or `embedded`";
        return Err(Error::new(ErrorCode::Source, format!("{model}: {why}")));
    }
    Ok(Some(path))
}

#[cfg(feature = "embedded")]
fn embedded() -> Result<Vec<Box<dyn ByteSource>>> {
    let source = firecrest_weights::MemorySource::new("the embedded model", firecrest_models::CHAT);
    Ok(vec![Box::new(source)])
}

#[cfg(not(feature = "embedded"))]
fn embedded() -> Result<Vec<Box<dyn ByteSource>>> {
    Err(Error::new(ErrorCode::Unsupported, "this build carries no model: give --model PATH, or build with the feature `embedded`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        let message = sources("no/such.gguf").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.starts_with("no/such.gguf: there is no such file"), "{message}");
        let message = sources("hf:nobody/nothing").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("firecrest pull hf:nobody/nothing"), "{message}");
    }
}
