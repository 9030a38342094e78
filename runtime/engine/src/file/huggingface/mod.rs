//! Safetensors models as Hugging Face lays them out: `config.json` beside one or several weight files.
//!
//! What the configuration says is written under GGUF's keys, tensors get GGUF's names, and what GGUF files carry as tensors and
//! configurations as numbers (Llama 3's and longrope's frequency factors) becomes tensors here too.

mod config;
mod names;
mod translate;

use std::fmt;

use firecrest_weights::{ByteSource, MemorySource};
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::head::quoted;
use super::json;
use super::metadata::{Metadata, MetadataWriter};
use super::safetensors;
use super::tensor::{MOST_TENSORS, TensorInfo};
use super::{TextAssets, Transform};
use crate::error::{Error, Result};
use crate::quant::GgmlType;
use config::{Config, GenerationConfig, Module, PoolingConfig};
use names::Name;

/// The largest configuration that is read; real ones take a few KiB. It bounds what parsing may hold at twice this.
pub(super) const LARGEST_CONFIG: u64 = 256 << 10;
/// The largest index of shards.
const LARGEST_INDEX: u64 = 16 << 20;
/// The largest tokenizer; the largest in use takes 33 MB.
const LARGEST_TOKENIZER: u64 = 128 << 20;
/// The largest tokenizer configuration or chat template.
const LARGEST_TEXT: u64 = 16 << 20;

/// What a folder holds, in the terms of GGUF.
pub(super) struct Folder {
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) text: TextAssets,
    pub(super) chat_template: Option<String>,
    /// A source to be added behind the others: tensors that stand in the configuration as numbers.
    pub(super) computed: MemorySource,
}

/// GGUF's name of a tensor, in a model of this architecture.
pub(super) fn gguf_name(architecture: &str, name: &str) -> Option<String> {
    match names::gguf_name(names::Family::of(architecture)?, name) {
        Name::Known(name) => Some(name),
        Name::Unused | Name::Unknown => None,
    }
}

/// The last part of a source's name.
pub(super) fn file_name(source: &dyn ByteSource) -> &str {
    let name = source.name();
    name.rsplit('/').next().unwrap_or(name)
}

/// The source of this file name, and its number. Files of sub-folders answer to their relative names only.
pub(super) fn find<'a>(sources: &'a [Box<dyn ByteSource>], wanted: &str) -> Option<&'a dyn ByteSource> {
    let pooling = |name: &str| name.ends_with(POOLING);
    let matches = |name: &str| if wanted == POOLING { pooling(name) } else { !pooling(name) && name.rsplit('/').next() == Some(wanted) };
    sources.iter().map(|s| &**s).find(|s| matches(s.name()))
}

const POOLING: &str = "1_Pooling/config.json";

async fn read_all(source: &dyn ByteSource, limit: u64) -> Result<Vec<u8>> {
    if source.len() > limit {
        let message = format!("{}: {} bytes, but at most {limit} are read", source.name(), source.len());
        return Err(Error::malformed(message));
    }
    let mut bytes = vec![0; source.len() as usize];
    source.read(0, &mut bytes).await?;
    Ok(bytes)
}

async fn read_optional(sources: &[Box<dyn ByteSource>], name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    match find(sources, name) {
        Some(source) => read_all(source, limit).await.map(Some),
        None => Ok(None),
    }
}

/// Reads and parses a JSON file of at most `limit` bytes.
pub(super) async fn parse<T: serde::de::DeserializeOwned>(source: &dyn ByteSource, limit: u64) -> Result<T> {
    let bytes = read_all(source, limit).await?;
    json::check(source.name(), &bytes)?;
    serde_json::from_slice(&bytes).map_err(|e| json::wrong(source.name(), &e))
}

/// Refuses a sentence-transformers model whose vectors would silently be wrong: with a layer behind the pooling, or without its pooling's file.
async fn check_modules(source: &dyn ByteSource, has_pooling: bool) -> Result<()> {
    let modules: Vec<Module> = parse(source, LARGEST_CONFIG).await?;
    for module in &modules {
        let class = module.kind.rsplit('.').next().unwrap_or_default();
        match class {
            "Dense" => {
                let why = format!("{}: {} is a dense layer behind the pooling, which Firecrest can't run", source.name(), module.path);
                return Err(Error::unsupported(why));
            }
            "Pooling" if !has_pooling => {
                let why = format!(
                    "{}: {}/config.json is missing, which says how vectors are made; copy or pull it too",
                    source.name(),
                    module.path
                );
                return Err(Error::malformed(why));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads everything but the weights of a folder.
pub(super) async fn read(sources: &[Box<dyn ByteSource>]) -> Result<Folder> {
    let shards = shards(sources).await?;
    let mut list = Vec::new();
    for &index in &shards {
        let tensors = safetensors::read(&*sources[index], index as u32).await?;
        if (list.len() + tensors.len()) as u64 > MOST_TENSORS {
            return Err(Error::malformed(format!("{}: the model has more than {MOST_TENSORS} tensors", sources[index].name())));
        }
        list.extend(tensors);
    }
    check_index(sources, &list).await?;
    let Some(source) = find(sources, "config.json") else { return lone(sources, &shards, list) };
    let config: Config = parse(source, LARGEST_CONFIG).await?;
    let generation: GenerationConfig = match find(sources, "generation_config.json") {
        Some(source) => parse(source, LARGEST_CONFIG).await?,
        None => GenerationConfig::default(),
    };
    let pooling: Option<PoolingConfig> = match find(sources, POOLING) {
        Some(source) => Some(parse(source, LARGEST_CONFIG).await?),
        None => None,
    };
    if let Some(source) = find(sources, "modules.json") {
        check_modules(source, pooling.is_some()).await?;
    }
    let translated = translate::translate(source.name(), &config, &generation, pooling.as_ref())?;
    let mut tensors = rename(source.name(), list, translated.family, translated.tied)?;
    let mut computed = Vec::new();
    for (name, values) in translated.computed {
        let offset = computed.len() as u64;
        values.iter().for_each(|v| computed.extend_from_slice(&v.to_le_bytes()));
        tensors.push(TensorInfo::new(name.to_owned(), GgmlType::F32, vec![values.len()], sources.len() as u32, offset));
    }
    let tokenizer_config_json = read_optional(sources, "tokenizer_config.json", LARGEST_TEXT).await?;
    let chat_template = chat_template(sources, tokenizer_config_json.as_deref()).await?;
    let text = match read_optional(sources, "tokenizer.json", LARGEST_TOKENIZER).await? {
        Some(tokenizer_json) => TextAssets::HuggingFace { tokenizer_json, tokenizer_config_json },
        None => TextAssets::Absent,
    };
    let computed = MemorySource::new(source.name(), computed);
    Ok(Folder { metadata: translated.metadata, tensors, text, chat_template, computed })
}

/// Safetensors without a configuration: enough to inspect, not to run.
fn lone(sources: &[Box<dyn ByteSource>], shards: &[usize], tensors: Vec<TensorInfo>) -> Result<Folder> {
    let origin = shards.first().map_or("", |&i| sources[i].name());
    let mut writer = MetadataWriter::default();
    writer.str("firecrest.source", "safetensors");
    let metadata = writer.finish(origin)?;
    let computed = MemorySource::new(origin, Vec::new());
    Ok(Folder { metadata, tensors, text: TextAssets::Absent, chat_template: None, computed })
}

/// Which sources hold the weights: the shards an index names, or `model.safetensors`, or all there are. Some folders hold the
/// same weights twice, in the author's own layout beside Hugging Face's.
async fn shards(sources: &[Box<dyn ByteSource>]) -> Result<Vec<usize>> {
    let all: Vec<usize> = (0..sources.len()).filter(|&i| sources[i].name().ends_with(".safetensors")).collect();
    if let Some(index) = find(sources, INDEX) {
        let mut named = vec![false; sources.len()];
        let bytes = read_all(index, LARGEST_INDEX).await?;
        each_weight(index.name(), &bytes, |_, file| {
            let Some(&at) = all.iter().find(|&&i| file_name(&*sources[i]) == file) else {
                return Err(format!("the shard {} is not there", quoted(file)));
            };
            named[at] = true;
            Ok(())
        })?;
        return Ok(all.into_iter().filter(|&i| named[i]).collect());
    }
    match all.iter().find(|&&i| file_name(&*sources[i]) == "model.safetensors") {
        Some(&whole) => Ok(vec![whole]),
        None => Ok(all),
    }
}

const INDEX: &str = "model.safetensors.index.json";

/// Every tensor that the index names must be in the shard it names.
async fn check_index(sources: &[Box<dyn ByteSource>], list: &[TensorInfo]) -> Result<()> {
    let Some(index) = find(sources, INDEX) else { return Ok(()) };
    let bytes = read_all(index, LARGEST_INDEX).await?;
    let mut by_name: Vec<u32> = (0..list.len() as u32).collect();
    let name = |i: u32| list[i as usize].name.as_str();
    by_name.sort_unstable_by_key(|&i| name(i));
    each_weight(index.name(), &bytes, |tensor, file| {
        let first = by_name.partition_point(|&i| name(i) < tensor);
        let mut same = by_name[first..].iter().take_while(|&&i| name(i) == tensor);
        if same.any(|&i| file_name(&*sources[list[i as usize].source as usize]) == file) {
            return Ok(());
        }
        Err(format!("the shard {} lacks the tensor {}", quoted(file), quoted(tensor)))
    })
}

/// Calls `visit(tensor, file)` for each entry of an index's `weight_map`, holding one at a time.
fn each_weight(origin: &str, text: &[u8], visit: impl FnMut(&str, &str) -> Result<(), String>) -> Result<()> {
    struct Map<F>(F);
    impl<'de, F: FnMut(&str, &str) -> Result<(), String>> Visitor<'de> for Map<F> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object from tensors to files")
        }
        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some((tensor, file)) = map.next_entry::<String, String>()? {
                (self.0)(&tensor, &file).map_err(A::Error::custom)?;
            }
            Ok(())
        }
    }
    impl<'de, F: FnMut(&str, &str) -> Result<(), String>> serde::de::DeserializeSeed<'de> for Map<F> {
        type Value = ();
        fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_map(self)
        }
    }
    struct Index<F>(F);
    impl<'de, F: FnMut(&str, &str) -> Result<(), String>> Visitor<'de> for Index<F> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object with weight_map")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut visit = Some(self.0);
            while let Some(key) = map.next_key::<String>()? {
                match visit.take_if(|_| key == "weight_map") {
                    Some(visit) => map.next_value_seed(Map(visit))?,
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
            }
            match visit {
                Some(_) => Err(A::Error::missing_field("weight_map")),
                None => Ok(()),
            }
        }
    }
    json::check(origin, text)?;
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let parsed = deserializer.deserialize_map(Index(visit)).and_then(|()| deserializer.end());
    parsed.map_err(|e| json::wrong(origin, &e))
}

/// Gives tensors their GGUF names and drops those that inference has no use for.
fn rename(origin: &str, list: Vec<TensorInfo>, family: names::Family, tied: Option<bool>) -> Result<Vec<TensorInfo>> {
    let mut renamed = Vec::with_capacity(list.len() + 2);
    let mut head = false;
    for mut tensor in list {
        match names::gguf_name(family, &tensor.name) {
            Name::Unused => continue,
            Name::Known(name) => {
                if name == "output.weight" {
                    head = true;
                    // Hugging Face ties the head to the embedding whatever the file holds.
                    if tied == Some(true) {
                        continue;
                    }
                }
                if family.norms_hold_gain_less_one() && name.ends_with("norm.weight") {
                    tensor.transform = Transform::AddOne;
                }
                tensor.name = name;
            }
            Name::Unknown => {}
        }
        renamed.push(tensor);
    }
    if tied == Some(false) && !head && family.has_head() {
        return Err(Error::malformed(format!("{origin}: tie_word_embeddings is false, but there is no lm_head.weight")));
    }
    Ok(renamed)
}

/// The chat template: a file of its own, or a field of `chat_template.json` or the tokenizer's configuration.
async fn chat_template(sources: &[Box<dyn ByteSource>], tokenizer_config: Option<&[u8]>) -> Result<Option<String>> {
    if let Some(bytes) = read_optional(sources, "chat_template.jinja", LARGEST_TEXT).await? {
        return String::from_utf8(bytes).map(Some).map_err(|_| Error::malformed("chat_template.jinja: not UTF-8"));
    }
    let field = |origin: &str, text: &[u8]| -> Result<Option<String>> {
        json::check(origin, text)?;
        let holder: TemplateHolder = serde_json::from_slice(text).map_err(|e| json::wrong(origin, &e))?;
        Ok(holder.chat_template.and_then(|t| t.0))
    };
    if let Some(bytes) = read_optional(sources, "chat_template.json", LARGEST_TEXT).await?
        && let Some(template) = field("chat_template.json", &bytes)?
    {
        return Ok(Some(template));
    }
    match tokenizer_config {
        Some(bytes) => field("tokenizer_config.json", bytes),
        None => Ok(None),
    }
}

#[derive(serde::Deserialize)]
struct TemplateHolder {
    chat_template: Option<Template>,
}

/// One template, or a list of named ones of which `default` is taken.
struct Template(Option<String>);

impl<'de> serde::Deserialize<'de> for Template {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
        #[derive(serde::Deserialize)]
        struct Named {
            name: String,
            template: String,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Template;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a template, or a list of named templates")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Template, E> {
                Ok(Template(Some(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Template, A::Error> {
                let mut found = None;
                while let Some(named) = seq.next_element::<Named>()? {
                    if named.name == "default" {
                        found = Some(named.template);
                    }
                }
                Ok(Template(found))
            }
        }
        deserializer.deserialize_any(Either)
    }
}
