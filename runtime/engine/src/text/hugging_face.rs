//! `tokenizer.json`, as Hugging Face writes it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::pattern::Invert;
use tokenizers::{
    AddedToken, AddedVocabulary, Model, ModelWrapper, NormalizerWrapper, PostProcessor, PostProcessorWrapper, PreTokenizedString,
    PreTokenizer, PreTokenizerWrapper, SplitDelimiterBehavior, TokenizerImpl,
};

use super::end_of_generation;
use super::infill::Infill;
use super::regex::Regex;
use super::tokenizer::{EncodeOptions, Encoder, Inner, Tokenizer};
use super::vocabulary::{Spelling, TokenKind, Vocabulary, byte_of};
use crate::error::{Error, Result};

/// The decoder's place is taken by the vocabulary's pieces.
type Crate = TokenizerImpl<ModelWrapper, NormalizerWrapper, SafePreTokenizer, PostProcessorWrapper, DecoderDescription>;

/// A `tokenizer.json`'s stages.
pub(super) struct Pipeline {
    stages: Crate,
    /// The added tokens as they are found where special tokens are only text.
    plain: AddedVocabulary,
}

impl Tokenizer {
    /// From the bytes of `tokenizer.json`, and of `tokenizer_config.json` where there is one (it names BOS and EOS).
    ///
    /// # Errors
    /// JSON that is no tokenizer: malformed. A decoder that Firecrest does not have: unsupported.
    pub fn from_json(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Tokenizer> {
        Tokenizer::from_json_with_ends(tokenizer, config, &[])
    }

    /// [`Tokenizer::from_json`] for a model that also ends a generation at `ends`.
    pub(super) fn from_json_with_ends(tokenizer: &[u8], config: Option<&[u8]>, ends: &[u32]) -> Result<Tokenizer> {
        let malformed = |what: String| Error::malformed(format!("tokenizer.json: {what}"));
        let shape: Shape = serde_json::from_slice(tokenizer).map_err(|e| malformed(e.to_string()))?;
        shape.model.check().map_err(malformed)?;
        let stages: Crate = serde_json::from_slice(tokenizer).map_err(|e| malformed(e.to_string()))?;
        let config: Option<Value> =
            config.map(serde_json::from_slice).transpose().map_err(|e| Error::malformed(format!("tokenizer_config.json: {e}")))?;

        let spelling = match stages.get_decoder() {
            Some(decoder) => decoder.spelling()?,
            None => DecoderDescription::default().spelling()?,
        };
        let added = stages.get_added_vocabulary().get_added_tokens_decoder();
        let mut names: BTreeMap<u32, String> = stages.get_model().get_vocab().into_iter().map(|(name, id)| (id, name)).collect();
        names.extend(added.iter().map(|(id, token)| (*id, token.content.clone())));
        let len = names.keys().next_back().map_or(0, |id| *id as usize + 1);
        if len > 2 * names.len() + 65_536 {
            return Err(malformed(format!("ids reach {len}, but there are only {} tokens", names.len())));
        }
        let mut vocabulary = Vocabulary::new(spelling.strip_first_space);
        for id in 0..len as u32 {
            let name = names.get(&id).map_or("", String::as_str);
            let kind = match added.get(&id) {
                Some(token) if token.special => TokenKind::Control,
                Some(_) => TokenKind::UserDefined,
                None if name.is_empty() => TokenKind::Unused,
                None if spelling.bytes && byte_of(name).is_some() => TokenKind::Byte,
                None => TokenKind::Normal,
            };
            vocabulary.push(name, kind, spelling.spelling)?;
        }

        let named = |key: &str| {
            let value = config.as_ref()?.get(key)?;
            let text = value.as_str().or_else(|| value.get("content").and_then(Value::as_str))?;
            stages.token_to_id(text)
        };
        let known = |texts: &[&str]| texts.iter().find_map(|text| stages.token_to_id(text));
        let (bos, eos) = match config {
            Some(_) => (named("bos_token"), named("eos_token")),
            None => (known(&["<s>", "<|begin_of_text|>", "<bos>", "[CLS]"]), known(&["</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>"])),
        };
        let (infill, behind) = Infill::find(&mut vocabulary, [None; 3]);
        let end_of_generation = end_of_generation::find(&mut vocabulary, eos.into_iter().chain(ends.iter().copied()).chain(behind));

        let mut plain = stages.get_added_vocabulary().clone();
        // Those that this crate calls control tokens and the file does not.
        let more = added.iter().filter(|(id, token)| !token.special && vocabulary.kind(**id) == Some(TokenKind::Control));
        let more: Vec<AddedToken> = more.map(|(_, token)| AddedToken { special: true, ..token.clone() }).collect();
        plain.add_special_tokens(more, stages.get_model(), stages.get_normalizer()).map_err(|e| malformed(e.to_string()))?;
        plain.set_encode_special_tokens(true);
        let encoder = Encoder::Pipeline(Box::new(Pipeline { stages, plain }));
        Ok(Tokenizer::from_inner(Inner { vocabulary: vocabulary.into(), encoder, bos, eos, end_of_generation, infill, notes: Vec::new() }))
    }
}

impl Pipeline {
    pub(super) fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>> {
        let failed = |e: tokenizers::Error| Error::request(format!("the text cannot be tokenised: {e}"));
        let added = if options.parse_special { self.stages.get_added_vocabulary() } else { &self.plain };
        let mut pieces = added.extract_and_normalize(self.stages.get_normalizer(), text);
        if let Some(pre_tokenizer) = self.stages.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(failed)?;
        }
        self.stages.get_model().tokenize_in_pretokenized(&mut pieces, None).map_err(failed)?;
        let mut encoding = pieces.into_encoding(None, 0, tokenizers::OffsetType::None).map_err(failed)?;
        if let Some(post_processor) = self.stages.get_post_processor() {
            encoding = post_processor.process(encoding, None, options.add_special).map_err(failed)?;
        }
        Ok(encoding.get_ids().to_vec())
    }
}

/// The crate's pre-tokenisers, with our regular expressions in the places where its own would stop in silence.
#[derive(Debug)]
enum SafePreTokenizer {
    Sequence(Vec<SafePreTokenizer>),
    Split {
        pattern: Regex,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
    /// GPT-2's pattern, then the byte alphabet.
    ByteLevel {
        pattern: Regex,
        add_prefix_space: bool,
    },
    Other(Box<PreTokenizerWrapper>),
}

impl SafePreTokenizer {
    fn from_value(value: Value, depth: usize) -> Result<SafePreTokenizer, String> {
        if depth > 8 {
            return Err("pre_tokenizer: sequences within sequences, more than eight deep".into());
        }
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        let flag = |name: &str, default: bool| value.get(name).and_then(Value::as_bool).unwrap_or(default);
        match kind {
            "Sequence" => {
                let Some(Value::Array(inner)) = value.get("pretokenizers") else {
                    return Err("pre_tokenizer: a Sequence without pretokenizers".into());
                };
                let inner = inner.iter().map(|v| SafePreTokenizer::from_value(v.clone(), depth + 1));
                Ok(SafePreTokenizer::Sequence(inner.collect::<Result<_, _>>()?))
            }
            "Split" if value["pattern"]["Regex"].is_string() => {
                let pattern = value["pattern"]["Regex"].as_str().unwrap_or_default();
                let behavior = serde_json::from_value(value["behavior"].clone())
                    .map_err(|e| format!("pre_tokenizer: the behavior of a Split: {e}"))?;
                let pattern = Regex::new(pattern).map_err(|e| e.to_string())?;
                Ok(SafePreTokenizer::Split { pattern, behavior, invert: flag("invert", false) })
            }
            "ByteLevel" if flag("use_regex", true) => {
                let pattern = Regex::new(super::pre_tokenizer::GPT2).map_err(|e| e.to_string())?;
                Ok(SafePreTokenizer::ByteLevel { pattern, add_prefix_space: flag("add_prefix_space", true) })
            }
            _ => {
                let other = serde_json::from_value(value).map_err(|e| format!("pre_tokenizer: {e}"))?;
                Ok(SafePreTokenizer::Other(Box::new(other)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for SafePreTokenizer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<SafePreTokenizer, D::Error> {
        SafePreTokenizer::from_value(Value::deserialize(deserializer)?, 0).map_err(serde::de::Error::custom)
    }
}

impl PreTokenizer for SafePreTokenizer {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        match self {
            SafePreTokenizer::Sequence(inner) => inner.iter().try_for_each(|p| p.pre_tokenize(text)),
            SafePreTokenizer::Split { pattern, behavior, invert: false } => text.split(|_, s| s.split(pattern, *behavior)),
            SafePreTokenizer::Split { pattern, behavior, invert: true } => text.split(|_, s| s.split(Invert(pattern), *behavior)),
            SafePreTokenizer::ByteLevel { pattern, add_prefix_space } => {
                text.split(|_, mut s| {
                    if *add_prefix_space && !s.get().starts_with(' ') {
                        s.prepend(" ");
                    }
                    s.split(pattern, SplitDelimiterBehavior::Isolated)
                })?;
                ByteLevel::new(false, false, false).pre_tokenize(text)
            }
            SafePreTokenizer::Other(other) => other.pre_tokenize(text),
        }
    }
}

/// How names become text again, read from the `decoder` section.
#[derive(Debug, Default)]
struct DecoderDescription(Option<Value>);

struct NamesToText {
    spelling: Spelling,
    bytes: bool,
    strip_first_space: bool,
}

impl DecoderDescription {
    fn spelling(&self) -> Result<NamesToText> {
        let mut found = NamesToText { spelling: Spelling::Plain, bytes: false, strip_first_space: false };
        if let Some(decoder) = &self.0 {
            found.read(decoder, 0)?;
        }
        Ok(found)
    }
}

impl NamesToText {
    fn read(&mut self, decoder: &Value, depth: usize) -> Result<()> {
        let kind = decoder.get("type").and_then(Value::as_str).unwrap_or_default();
        match kind {
            "Sequence" if depth < 8 => {
                for inner in decoder["decoders"].as_array().into_iter().flatten() {
                    self.read(inner, depth + 1)?;
                }
            }
            "ByteLevel" => self.spelling = Spelling::ByteLevel,
            "WordPiece" => (self.spelling, self.strip_first_space) = (Spelling::Words, true),
            "Metaspace" => {
                self.spelling = Spelling::Escaped;
                let never = decoder["prepend_scheme"] == "never" || decoder["add_prefix_space"] == false;
                self.strip_first_space = !never;
            }
            "Replace" if decoder["pattern"]["String"] == "▁" && decoder["content"] == " " => self.spelling = Spelling::Escaped,
            "ByteFallback" => self.bytes = true,
            "Fuse" => {}
            "Strip" if decoder["content"] == " " && decoder["start"] == 1 && decoder["stop"] == 0 => self.strip_first_space = true,
            _ => {
                return Err(Error::unsupported(format!("tokenizer.json: decoder: Firecrest cannot turn tokens to text as {decoder} asks")));
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for DecoderDescription {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<DecoderDescription, D::Error> {
        Value::deserialize(deserializer).map(|value| DecoderDescription(Some(value)))
    }
}

impl tokenizers::Decoder for DecoderDescription {
    fn decode_chain(&self, _: Vec<String>) -> tokenizers::Result<Vec<String>> {
        Err("decoding goes through the vocabulary's pieces".into())
    }
}

/// What must hold of a file before the crate may read it: its BPE copies merged names into a buffer of the longest name's length,
/// and would panic where a merge makes a longer one.
#[derive(Deserialize)]
struct Shape {
    model: ModelShape,
}

#[derive(Deserialize)]
struct ModelShape {
    #[serde(default)]
    vocab: LongestName,
    #[serde(default)]
    merges: LongestMerge,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
}

impl ModelShape {
    fn check(&self) -> Result<(), String> {
        let prefix = self.continuing_subword_prefix.as_deref().unwrap_or_default().len();
        if self.merges.any && self.merges.shortest_right < prefix {
            return Err("model.merges: a right piece is shorter than continuing_subword_prefix".into());
        }
        if self.merges.longest > self.vocab.0 + prefix {
            return Err("model.merges: a merge makes a longer token than any in model.vocab".into());
        }
        Ok(())
    }
}

/// Bytes of the longest name of a vocabulary; 0 where it is not a map (Unigram's).
#[derive(Default)]
struct LongestName(usize);

impl<'de> Deserialize<'de> for LongestName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<LongestName, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = LongestName;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LongestName, A::Error> {
                let mut longest = 0;
                while let Some((name, IgnoredAny)) = map.next_entry::<String, _>()? {
                    longest = longest.max(name.len());
                }
                Ok(LongestName(longest))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<LongestName, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(LongestName(0))
            }
        }
        deserializer.deserialize_any(Names)
    }
}

/// What the merges of a BPE make, in bytes.
#[derive(Default)]
struct LongestMerge {
    any: bool,
    longest: usize,
    shortest_right: usize,
}

impl<'de> Deserialize<'de> for LongestMerge {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<LongestMerge, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Merge {
            Pair(String, String),
            Line(String),
        }
        let merges: Vec<Merge> = Deserialize::deserialize(deserializer)?;
        let mut found = LongestMerge { any: !merges.is_empty(), longest: 0, shortest_right: usize::MAX };
        for merge in merges {
            let (len, right) = match &merge {
                Merge::Pair(left, right) => (left.len() + right.len(), right.len()),
                Merge::Line(line) => (line.len().saturating_sub(1), line.rsplit(' ').next().map_or(0, str::len)),
            };
            found.longest = found.longest.max(len);
            found.shortest_right = found.shortest_right.min(right);
        }
        Ok(found)
    }
}
