//! A vocabulary from GGUF metadata (`tokenizer.ggml.*`).

use super::bpe::{MergedBpe, ScoredBpe};
use super::end_of_generation;
use super::infill::Infill;
use super::special::SpecialTokens;
use super::tokenizer::{Encoder, Inner, Listed, Model, Tokenizer};
use super::vocabulary::{Spelling, TokenKind, Vocabulary};
use super::word_piece::BertWords;
use crate::error::{Error, Result};
use crate::file::Metadata;

impl Tokenizer {
    /// The tokenizer that `metadata` describes: `gpt2` (BPE with a named pre-tokeniser), `llama` (SentencePiece BPE with byte
    /// fallback), `bert` (WordPiece).
    ///
    /// # Errors
    /// A key of the wrong type, arrays of different lengths, an id outside the vocabulary, a merge of unknown tokens, two tokens of
    /// one name: malformed. A model or pre-tokeniser that Firecrest does not know: unsupported.
    pub fn from_gguf(metadata: &Metadata) -> Result<Tokenizer> {
        let model = metadata.require_str("tokenizer.ggml.model")?;
        match model {
            "gpt2" => merged(metadata, metadata.str("tokenizer.ggml.pre")?.unwrap_or("default")),
            "gemma4" => merged(metadata, "gemma4"),
            "llama" => scored(metadata),
            "bert" => words(metadata),
            other => Err(Error::unsupported(format!(
                "tokenizer.ggml.model is {other:?}, a tokenizer that Firecrest does not know (it knows gpt2, gemma4, llama, bert)"
            ))),
        }
    }
}

fn merged(metadata: &Metadata, pre: &str) -> Result<Tokenizer> {
    let (_, behaviour) = super::pre_tokenizer::PreTokenizer::named(pre)?;
    let spelling = if behaviour.byte_level { Spelling::ByteLevel } else { Spelling::Escaped };
    let mut vocabulary = vocabulary(metadata, spelling, false, |name, _| name.into())?;
    let mut named = Named::read(metadata, &vocabulary)?;
    let infill = named.find_infill(&mut vocabulary);
    let merges = metadata.require_strings("tokenizer.ggml.merges")?;
    let model = MergedBpe::new(&vocabulary, &merges, pre)?;
    // Gemma 4's files say false by mistake.
    let add_bos = named.add_bos.unwrap_or(behaviour.add_bos) || (behaviour.add_bos && behaviour.whole_newlines);
    let (first, last) = (named.bos.filter(|_| add_bos), named.eos.filter(|_| named.add_eos.unwrap_or(false)));
    finish(metadata, vocabulary, Model::Merged(model), named, infill, first, last)
}

fn scored(metadata: &Metadata) -> Result<Tokenizer> {
    let space_prefix = metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut vocabulary = vocabulary(metadata, Spelling::Escaped, space_prefix, |name, _| name.into())?;
    let scores = metadata
        .f32s("tokenizer.ggml.scores")?
        .ok_or_else(|| Error::malformed("tokenizer.ggml.scores is missing, and a `llama` tokenizer needs it"))?;
    let mut named = Named::read(metadata, &vocabulary)?;
    // SentencePiece's own ids, where the file says nothing.
    let default = |id: u32| ((id as usize) < vocabulary.len()).then_some(id);
    named.bos = named.bos.or(default(1));
    named.eos = named.eos.or(default(2));
    named.unknown = named.unknown.or(default(0));
    let infill = named.find_infill(&mut vocabulary);
    let model = ScoredBpe::new(&vocabulary, &scores, named.unknown)?;
    let first = named.bos.filter(|_| named.add_bos.unwrap_or(true));
    let last = named.eos.filter(|_| named.add_eos.unwrap_or(false));
    finish(metadata, vocabulary, Model::Scored(model, space_prefix), named, infill, first, last)
}

fn words(metadata: &Metadata) -> Result<Tokenizer> {
    // GGUF marks the beginning of a word with "▁" where BERT marks its continuation with "##".
    let rename = |name: &str, kind: TokenKind| match (kind, name.strip_prefix('▁')) {
        (TokenKind::Normal, Some(begins)) => begins.to_string(),
        (TokenKind::Normal, None) => format!("##{name}"),
        _ => name.to_string(),
    };
    let vocabulary = vocabulary(metadata, Spelling::Words, true, rename)?;
    let mut named = Named::read(metadata, &vocabulary)?;
    named.bos = named.bos.or(id(metadata, "tokenizer.ggml.cls_token_id", &vocabulary)?).or(Some(101));
    let separator = id(metadata, "tokenizer.ggml.seperator_token_id", &vocabulary)?.or(named.eos).unwrap_or(102);
    for (what, id) in [("[CLS]", named.bos.unwrap_or(101)), ("[SEP]", separator)] {
        if id as usize >= vocabulary.len() {
            return Err(Error::malformed(format!("the vocabulary has no {what}: no key names it, and there is no token {id}")));
        }
    }
    let lowercase = metadata.bool("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
    let strip_accents = metadata.bool("tokenizer.ggml.normalizer.strip_accents")?.unwrap_or(lowercase);
    let model = BertWords::new(&vocabulary, named.unknown.unwrap_or(100), lowercase, strip_accents)?;
    let first = named.bos;
    finish(metadata, vocabulary, Model::Words(model), named, None, first, Some(separator))
}

/// The ids and flags that a file names.
struct Named {
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
    ends: Vec<u32>,
    add_bos: Option<bool>,
    add_eos: Option<bool>,
    /// Before a prefix, before a suffix, before what is between.
    infill: [Option<u32>; 3],
}

impl Named {
    fn read(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Named> {
        let id = |key: &str| id(metadata, &format!("tokenizer.ggml.{key}_token_id"), vocabulary);
        Ok(Named {
            bos: id("bos")?,
            eos: id("eos")?,
            unknown: id("unknown")?,
            ends: [id("eot")?, id("eom")?].into_iter().flatten().collect(),
            add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?,
            add_eos: metadata.bool("tokenizer.ggml.add_eos_token")?,
            // Files from before these keys were named so have the second of each.
            infill: [id("fim_pre")?.or(id("prefix")?), id("fim_suf")?.or(id("suffix")?), id("fim_mid")?.or(id("middle")?)],
        })
    }

    /// The tokens that mark a gap. Those that end what fills one end a generation.
    fn find_infill(&mut self, vocabulary: &mut Vocabulary) -> Option<Infill> {
        let (infill, ends) = Infill::find(vocabulary, self.infill);
        self.ends.extend(ends);
        infill
    }
}

/// The token that `key` names. Files write `u32::MAX` for "none"; any other id outside the vocabulary names nothing either, as in llama.cpp.
fn id(metadata: &Metadata, key: &str, vocabulary: &Vocabulary) -> Result<Option<u32>> {
    Ok(metadata.u32(key)?.filter(|&id| (id as usize) < vocabulary.len()))
}

/// Of each id that a file names and its vocabulary does not have.
fn notes(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Vec<String>> {
    const KEYS: [&str; 14] = [
        "bos",
        "eos",
        "eot",
        "eom",
        "unknown",
        "padding",
        "seperator",
        "cls",
        "fim_pre",
        "fim_suf",
        "fim_mid",
        "prefix",
        "suffix",
        "middle",
    ];
    let len = vocabulary.len();
    let mut notes = Vec::new();
    for key in KEYS {
        let key = format!("tokenizer.ggml.{key}_token_id");
        if let Some(id) = metadata.u32(&key)?.filter(|&id| id as usize >= len && id != u32::MAX) {
            notes.push(format!("{key} is {id}, and the vocabulary has {len} tokens: the key is passed over"));
        }
    }
    Ok(notes)
}

fn vocabulary(
    metadata: &Metadata,
    spelling: Spelling,
    strip_first_space: bool,
    rename: impl Fn(&str, TokenKind) -> String,
) -> Result<Vocabulary> {
    let names = metadata.require_strings("tokenizer.ggml.tokens")?;
    let kinds = metadata.i32s("tokenizer.ggml.token_type")?;
    if let Some(kinds) = &kinds
        && kinds.len() < names.len()
    {
        return Err(Error::malformed(format!("tokenizer.ggml.token_type has {} entries for {} tokens", kinds.len(), names.len())));
    }
    let mut vocabulary = Vocabulary::new(strip_first_space);
    for (index, name) in names.iter().enumerate() {
        let kind = kinds.as_ref().map_or(TokenKind::Normal, |kinds| TokenKind::from_gguf(kinds[index]));
        // An empty name cannot be told from others; it gets one of its own, as in llama.cpp.
        match name.is_empty() {
            true => vocabulary.push(&format!("[EMPTY_{index}]"), kind, Spelling::Plain)?,
            false => vocabulary.push(&rename(name, kind), kind, spelling)?,
        }
    }
    Ok(vocabulary)
}

fn finish(
    metadata: &Metadata,
    mut vocabulary: Vocabulary,
    model: Model,
    named: Named,
    infill: Option<Infill>,
    first: Option<u32>,
    last: Option<u32>,
) -> Result<Tokenizer> {
    let end_of_generation = end_of_generation::find(&mut vocabulary, named.ends.into_iter().chain(named.eos));
    let notes = notes(metadata, &vocabulary)?;
    let strips = Strips::of(metadata)?;
    let special = SpecialTokens::new(&vocabulary, |_, name| strips.sides(name))?;
    let longest = model.longest(&vocabulary).filter(|_| !special.swallows_space());
    let encoder = Encoder::Listed(Listed { model, special, first, last, longest });
    let (bos, eos) = (named.bos, named.eos);
    Ok(Tokenizer::from_inner(Inner { vocabulary: vocabulary.into(), encoder, bos, eos, end_of_generation, infill, notes }))
}

/// Which special tokens swallow the white space beside them. GGUF has no key for this, so, as in llama.cpp, it is known by the
/// names of the few families that have it.
enum Strips {
    None,
    /// Phi 3: to the right of every special token but three.
    Phi3,
    /// To the left of this one.
    Left(&'static str),
}

impl Strips {
    fn of(metadata: &Metadata) -> Result<Strips> {
        let pre = metadata.str("tokenizer.ggml.pre")?.unwrap_or_default();
        let architecture = metadata.str("general.architecture")?.unwrap_or_default();
        let name = metadata.str("general.name")?.unwrap_or_default().to_lowercase();
        let any = |of: &[&str], within: &str| of.iter().any(|part| within.contains(part));
        Ok(if any(&["jina-v2-de", "jina-v2-es", "jina-v2-code"], pre) || any(&["nomic-bert-moe", "jina-bert-v3"], architecture) {
            Strips::Left("<mask>")
        } else if any(&["phi-3", "phi3"], &name) {
            Strips::Phi3
        } else if name.contains("modern-bert") {
            Strips::Left("[MASK]")
        } else {
            Strips::None
        })
    }

    /// Left and right.
    fn sides(&self, token: &str) -> (bool, bool) {
        match self {
            Strips::None => (false, false),
            Strips::Phi3 => (false, !["<unk>", "<s>", "<|endoftext|>"].contains(&token)),
            Strips::Left(name) => (token == *name, false),
        }
    }
}
