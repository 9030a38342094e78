//! [`Tokenizer`]: the one face of every vocabulary.

use std::collections::HashSet;
use std::sync::Arc;

use super::bpe::{MergedBpe, ScoredBpe, byte_token};
use super::hugging_face::Pipeline;
use super::infill::Infill;
use super::special::{Fragment, SpecialTokens};
use super::stream::TextStream;
use super::vocabulary::{TokenKind, Vocabulary};
use super::word_piece::BertWords;
use crate::error::{Error, Result};
use crate::file::{ModelFile, TextAssets};

/// How a text is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Put BOS, EOS, `[CLS]` and `[SEP]` where the model expects them. Not wanted for what a chat template wrote: it writes its own.
    pub add_special: bool,
    /// Read control tokens that are written out in the text (`<|im_start|>`) as those tokens. Wanted for what a chat template
    /// wrote; without it such text is only text, so that a user cannot forge a turn.
    pub parse_special: bool,
}

/// A model's tokenizer. Cheap to clone.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

pub(super) struct Inner {
    pub(super) vocabulary: Arc<Vocabulary>,
    pub(super) encoder: Encoder,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) end_of_generation: Vec<u32>,
    pub(super) infill: Option<Infill>,
    pub(super) notes: Vec<String>,
}

#[allow(clippy::large_enum_variant, reason = "there is one a model")]
pub(super) enum Encoder {
    /// A vocabulary from GGUF metadata.
    Listed(Listed),
    /// A `tokenizer.json`.
    Pipeline(Box<Pipeline>),
}

/// What GGUF metadata describes.
pub(super) struct Listed {
    pub(super) model: Model,
    pub(super) special: SpecialTokens,
    /// Put before and behind a text, where `add_special` asks for it.
    pub(super) first: Option<u32>,
    pub(super) last: Option<u32>,
    /// Bytes of text that one token may stand for. `None` where text may be lost on its way.
    pub(super) longest: Option<usize>,
}

pub(super) enum Model {
    Merged(MergedBpe),
    /// With whether a space goes before a first word.
    Scored(ScoredBpe, bool),
    Words(BertWords),
}

impl Tokenizer {
    pub(super) fn from_inner(inner: Inner) -> Tokenizer {
        Tokenizer(Arc::new(inner))
    }

    /// The tokenizer of an opened model; `None` where the model has none and only token ids go in and come out.
    pub fn from_file(file: &ModelFile) -> Result<Option<Tokenizer>> {
        match &file.text {
            TextAssets::Gguf if file.metadata.value("tokenizer.ggml.model").is_none() => Ok(None),
            TextAssets::Gguf => Tokenizer::from_gguf(&file.metadata).map(Some),
            TextAssets::HuggingFace { tokenizer_json, tokenizer_config_json } => {
                let ends = file.metadata.u32s("firecrest.eos_token_ids")?.unwrap_or_default();
                Tokenizer::from_json_with_ends(tokenizer_json, tokenizer_config_json.as_deref(), &ends).map(Some)
            }
            TextAssets::Absent => Ok(None),
        }
    }

    /// The ids of `text`.
    ///
    /// # Errors
    /// A text of 4 GiB or more, and one that a `tokenizer.json`'s own pattern gives up on: request.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>> {
        match &self.0.encoder {
            Encoder::Listed(listed) => listed.encode(text, options),
            Encoder::Pipeline(pipeline) => pipeline.encode(text, options),
        }
    }

    /// Tokens that a text of so many bytes without special tokens has at the least, whatever it says: what can't fit is known before it is encoded. 0 where nothing is known: a
    /// WordPiece vocabulary drops white space and accents, a `tokenizer.json` what it likes, and one without all bytes what it can't write.
    pub fn fewest_tokens(&self, bytes: usize) -> usize {
        match &self.0.encoder {
            Encoder::Listed(Listed { longest: Some(longest), .. }) => bytes.div_ceil((*longest).max(1)),
            _ => 0,
        }
    }

    /// [`Tokenizer::fewest_tokens`] of a text in which control tokens are written out.
    pub fn fewest_tokens_with_control(&self, bytes: usize) -> usize {
        let special = |kind| matches!(kind, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown);
        let longest = self.0.vocabulary.iter().filter(|(.., kind)| special(*kind)).map(|(_, name, _)| name.len()).max().unwrap_or(0);
        match &self.0.encoder {
            // One that swallows the white space beside it stands for any length.
            Encoder::Listed(Listed { longest: Some(known), special, .. }) if !special.swallows_any_space() => {
                bytes.div_ceil(longest.max(*known).max(1))
            }
            _ => 0,
        }
    }

    /// The ids of text in the middle of a text: nothing is put before it, and nothing in it is a control token.
    pub(crate) fn encode_continuation(&self, text: &str) -> Result<Vec<u32>> {
        match &self.0.encoder {
            Encoder::Listed(Listed { model: Model::Scored(model, _), special, .. }) => {
                let mut ids = Vec::new();
                for fragment in special.partition(text, false) {
                    match fragment {
                        Fragment::Token(id) => ids.push(id),
                        Fragment::Text(range) => model.encode(&text[range], false, &mut ids)?,
                    }
                }
                Ok(ids)
            }
            _ => self.encode(text, EncodeOptions::default()),
        }
    }

    /// Whether [`Tokenizer::encode_continuation`] gives the ids that the text would have inside a longer one. A `tokenizer.json` may put a
    /// space or a prefix before any text.
    pub(crate) fn encodes_continuations(&self) -> bool {
        matches!(&self.0.encoder, Encoder::Listed(Listed { model: Model::Merged(_) | Model::Scored(..), .. }))
    }

    /// The text of `ids`. Control tokens are left out where `skip_special` says so; a space that encoding put before the first word
    /// is taken off. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut stream = TextStream::new(self.0.vocabulary.clone(), &[], !skip_special);
        let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// The stretches of a text between the tokens that are written out in it (control tokens, and those that its author defined).
    pub fn pieces(&self, text: &str) -> Vec<String> {
        match &self.0.encoder {
            Encoder::Listed(Listed { special, .. }) => {
                let stretches = special.partition(text, true).into_iter().filter_map(|fragment| match fragment {
                    Fragment::Text(range) => Some(text[range].to_owned()),
                    Fragment::Token(_) => None,
                });
                stretches.collect()
            }
            Encoder::Pipeline(_) => {
                let options = EncodeOptions { parse_special: true, ..EncodeOptions::default() };
                // One that can't be encoded is refused later.
                self.encode(text, options).map_or_else(|_| Vec::new(), |ids| self.decode_pieces(&ids))
            }
        }
    }

    /// The texts between the tokens of `ids` that stand for no ordinary text, as [`Tokenizer::pieces`] of what they spell.
    pub fn decode_pieces(&self, ids: &[u32]) -> Vec<String> {
        let special = |id: u32| matches!(self.token_kind(id), Some(TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown));
        let runs = ids.split(|&id| special(id)).filter(|run| !run.is_empty());
        runs.map(|run| self.decode(run, false)).collect()
    }

    /// A decoder for the text of a sequence from its start; control tokens are no text.
    pub fn stream(&self) -> TextStream {
        self.stream_after(&[])
    }

    /// A decoder for the text of a sequence from its start, in which control tokens are written out.
    pub fn stream_with_control(&self) -> TextStream {
        TextStream::new(self.0.vocabulary.clone(), &[], true)
    }

    /// The tokens that mark a gap, if the model has them.
    pub fn infill(&self) -> Option<Infill> {
        self.0.infill
    }

    /// A decoder for what comes after `prompt`, whose text keeps its leading space unless `prompt` held no text.
    pub fn stream_after(&self, prompt: &[u32]) -> TextStream {
        TextStream::new(self.0.vocabulary.clone(), prompt, false)
    }

    /// What the model's file says of its tokens and can't be so, a sentence each. It was passed over, and whoever runs the model should hear of it.
    pub fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.0.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.0.eos
    }

    /// Every token that ends a generation (end of text, of turn, of message), ascending.
    pub fn end_of_generation(&self) -> &[u32] {
        &self.0.end_of_generation
    }

    /// Ids are below this.
    pub fn vocab_size(&self) -> usize {
        self.0.vocabulary.len()
    }

    /// What the vocabulary calls `id` (`▁the`, `Ġthe`, `<0x0A>`).
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.0.vocabulary.name(id)
    }

    /// The bytes of text that `id` stands for; they need not be whole characters. Control tokens stand for their name.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.0.vocabulary.piece(id)
    }

    /// What kind of token `id` is.
    pub fn token_kind(&self, id: u32) -> Option<TokenKind> {
        self.0.vocabulary.kind(id)
    }

    /// Whether a prompt begins with BOS twice: once as its text has it, once as the model's file adds it. Few models were trained on that.
    pub fn begins_twice(&self, prompt: &[u32]) -> bool {
        matches!((prompt, self.bos()), ([first, second, ..], Some(bos)) if *first == bos && *second == bos)
    }

    /// The text of BOS as templates want it (`bos_token`); empty where there is none.
    pub fn bos_text(&self) -> &str {
        self.bos().and_then(|id| self.token_text(id)).unwrap_or("")
    }

    /// The text of EOS as templates want it (`eos_token`); empty where there is none.
    pub fn eos_text(&self) -> &str {
        self.eos().and_then(|id| self.token_text(id)).unwrap_or("")
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let model = match &self.0.encoder {
            Encoder::Listed(Listed { model: Model::Merged(_), .. }) => "BPE",
            Encoder::Listed(Listed { model: Model::Scored(..), .. }) => "SentencePiece BPE",
            Encoder::Listed(Listed { model: Model::Words(_), .. }) => "WordPiece",
            Encoder::Pipeline(_) => "tokenizer.json",
        };
        f.debug_struct("Tokenizer").field("model", &model).field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

impl Model {
    /// Bytes of text that one token may stand for. `None` where text may be lost: where not every byte of UTF-8 has a token of its own, so that some are
    /// dropped, or become one unknown token together.
    pub(super) fn longest(&self, vocabulary: &Vocabulary) -> Option<usize> {
        let name = |byte: u8| match self {
            Model::Merged(model) => model.name_of_byte(byte),
            Model::Scored(..) => byte_token(byte),
            Model::Words(_) => String::new(),
        };
        let names: HashSet<&str> = vocabulary.iter().map(|(_, name, _)| name).collect();
        let all = (0..=0xF4).filter(|b| !matches!(b, 0xC0 | 0xC1)).all(|b| names.contains(name(b).as_str()));
        let bytes = match self {
            Model::Words(_) => return None,
            Model::Merged(model) if model.is_byte_level() => vocabulary.longest_piece(),
            // A caller's own "▁" is as good as a space, and three bytes.
            Model::Merged(_) | Model::Scored(..) => vocabulary.iter().map(|(_, name, _)| name.len()).max().unwrap_or(0),
        };
        all.then_some(bytes)
    }
}

impl Listed {
    fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>> {
        if u32::try_from(text.len()).is_err() {
            return Err(Error::request(format!("a text of {} bytes is too long to tokenise at once", text.len())));
        }
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if options.add_special {
            ids.extend(self.first);
        }
        let mut after_token = true;
        for fragment in self.special.partition(text, options.parse_special) {
            match fragment {
                Fragment::Token(id) => ids.push(id),
                Fragment::Text(ref range) => {
                    let text = &text[range.clone()];
                    match &self.model {
                        Model::Merged(model) => model.encode(text, &mut ids)?,
                        Model::Scored(model, space_prefix) => model.encode(text, *space_prefix && after_token, &mut ids)?,
                        Model::Words(model) => model.encode(text, &mut ids)?,
                    }
                }
            }
            after_token = matches!(fragment, Fragment::Token(_));
        }
        if options.add_special {
            ids.extend(self.last);
        }
        Ok(ids)
    }
}
