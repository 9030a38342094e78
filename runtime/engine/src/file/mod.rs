//! Model files: GGUF and safetensors, behind one view.
//!
//! A [`ModelFile`] knows metadata and tensors by GGUF's names, whatever it was opened from: a GGUF file, the parts of a split
//! one, or safetensors with their `config.json` as Hugging Face lays them out. So families know one vocabulary.
//!
//! Weights stream: a head is read in windows as parsing needs it, and tensors are read by ranges of rows, straight into the
//! caller's buffer, converted on the way where that is asked for. Bad files are refused with an error that names what is wrong
//! and where. While one is opened, memory stays below twice the bytes read plus 1 MiB.
//!
//! Three keys of our own say what GGUF has no key for: `firecrest.rope_pairs` (`halves` where a llama model's Q and K rows are
//! in Hugging Face's order), `firecrest.eos_token_ids` (all ids that end a generation), and `firecrest.source` (`safetensors`).

mod adapter;
mod gguf;
mod head;
mod huggingface;
mod json;
mod metadata;
mod safetensors;
mod split;
mod tensor;

pub use adapter::{AdapterFile, MOST_RANK};
pub(crate) use head::quoted;
pub use metadata::{Array, Metadata, Value, ValueType};
pub use tensor::TensorInfo;

use firecrest_weights::ByteSource;

use crate::error::{Error, Result};
use tensor::{Tensors, Transform};

/// Where a model's tokenizer is.
pub enum TextAssets {
    /// In the metadata, under `tokenizer.ggml.*`.
    Gguf,
    /// In files of its own.
    HuggingFace {
        /// `tokenizer.json`.
        tokenizer_json: Vec<u8>,
        /// `tokenizer_config.json`.
        tokenizer_config_json: Option<Vec<u8>>,
    },
    /// Nowhere: only token ids go in and come out.
    Absent,
}

/// An opened model: what it says of itself, and its tensors, ready to be read by rows.
pub struct ModelFile {
    /// Under GGUF's keys.
    pub metadata: Metadata,
    /// The tokenizer, or where it is.
    pub text: TextAssets,
    chat_template: Option<String>,
    sources: Vec<Box<dyn ByteSource>>,
    tensors: Tensors,
}

impl ModelFile {
    /// Opens a model from all the sources it is made of, in any order: one GGUF file, all parts of a split one, or a Hugging Face
    /// folder's files, which are known by the last part of their names (`config.json`, `tokenizer.json`, …).
    pub async fn open(sources: Vec<Box<dyn ByteSource>>) -> Result<ModelFile> {
        if sources.is_empty() {
            return Err(Error::request("no file was given to open a model from"));
        }
        let mut ggufs = 0;
        let mut safetensors = 0;
        for source in &sources {
            // By content, not by name: four bytes tell a GGUF file, and whatever else holds weights must be safetensors.
            let mut start = [0; 4];
            if source.len() >= 4 {
                source.read(0, &mut start).await?;
            }
            ggufs += usize::from(gguf::is_gguf(&start));
            safetensors += usize::from(source.name().ends_with(".safetensors"));
        }
        if safetensors > 0 {
            return ModelFile::open_folder(sources).await;
        }
        if ggufs == 0 {
            let name = sources[0].name();
            return Err(Error::malformed(format!("{name}: neither a GGUF file (it does not begin with `GGUF`) nor *.safetensors")));
        }
        let (metadata, tensors) = split::read(&sources).await?;
        let tensors = Tensors::new(tensors, &sources)?;
        Ok(ModelFile { metadata, text: TextAssets::Gguf, chat_template: None, sources, tensors })
    }

    async fn open_folder(mut sources: Vec<Box<dyn ByteSource>>) -> Result<ModelFile> {
        let huggingface::Folder { metadata, tensors, text, chat_template, computed } = huggingface::read(&sources).await?;
        sources.push(Box::new(computed));
        let tensors = Tensors::new(tensors, &sources)?;
        Ok(ModelFile { metadata, text, chat_template, sources, tensors })
    }

    /// All tensors, in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors.list
    }

    /// A tensor by its GGUF name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// A tensor that must be there.
    pub fn require_tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.tensor(name).ok_or_else(|| Error::malformed(format!("{}: the model lacks the tensor `{name}`", self.name())))
    }

    /// What messages call the model: the name of its first file.
    pub fn name(&self) -> &str {
        self.metadata.origin()
    }

    /// The chat template the model came with.
    pub fn chat_template(&self) -> Result<Option<&str>> {
        match &self.chat_template {
            Some(template) => Ok(Some(template)),
            None => self.metadata.str("tokenizer.chat_template"),
        }
    }
}
