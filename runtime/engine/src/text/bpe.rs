//! Byte-pair encoding: GPT-2's, whose merges a file lists, and SentencePiece's, whose merges follow from its scores.

use std::collections::HashSet;

use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Merges, Vocab};

use super::pre_tokenizer::{Behaviour, PreTokenizer};
use super::vocabulary::{TokenKind, Vocabulary, char_of_byte};
use crate::error::{Error, Result};

/// The longest piece of a score-based vocabulary, in bytes. Each is split everywhere at load, which is quadratic in its length;
/// real pieces stay under 256.
const MAX_PIECE_LEN: usize = 1024;

/// BPE over the pieces of a pre-tokeniser.
pub(super) struct MergedBpe {
    pre_tokenizer: PreTokenizer,
    behaviour: Behaviour,
    model: BPE,
}

impl MergedBpe {
    /// From merges as files write them, `left right` by rank.
    pub(super) fn new(vocabulary: &Vocabulary, merges: &[&str], pre_tokenizer_name: &str) -> Result<MergedBpe> {
        let (pre_tokenizer, behaviour) = PreTokenizer::named(pre_tokenizer_name)?;
        let names = by_name(vocabulary, |_| true)?;
        let mut seen = HashSet::with_capacity(merges.len());
        let mut pairs: Merges = Vec::with_capacity(merges.len());
        for (rank, merge) in merges.iter().enumerate() {
            let wrong = |what: String| Error::malformed(format!("tokenizer.ggml.merges: merge {rank}, {merge:?}, {what}"));
            // A piece may begin with a space, so the one that separates is looked for behind the first character.
            let first = merge.chars().next().map_or(0, char::len_utf8);
            let Some((left, right)) = merge.get(first..).and_then(|rest| rest.find(' ')).map(|at| merge.split_at(first + at)) else {
                return Err(wrong("is not two pieces with a space between".into()));
            };
            let right = &right[1..];
            let missing = [left, right].into_iter().chain([&*format!("{left}{right}")]).find(|t| !names.contains_key(*t)).map(String::from);
            if let Some(missing) = missing {
                return Err(wrong(format!("needs the token {missing:?}, which the vocabulary lacks")));
            }
            // A pair that is listed twice has the rank it was first given.
            if seen.insert((names[left], names[right])) {
                pairs.push((left.into(), right.into()));
            }
        }
        let builder =
            BPE::builder().vocab_and_merges(names, pairs).ignore_merges(behaviour.ignore_merges).byte_fallback(!behaviour.byte_level);
        let model = builder.build().map_err(|e| Error::malformed(format!("tokenizer.ggml.merges: {e}")))?;
        Ok(MergedBpe { pre_tokenizer, behaviour, model })
    }

    /// Whether its tokens are bytes in GPT-2's alphabet.
    pub(super) fn is_byte_level(&self) -> bool {
        self.behaviour.byte_level
    }

    /// What the token that stands for a byte alone is called.
    pub(super) fn name_of_byte(&self, byte: u8) -> String {
        if self.behaviour.byte_level { char_of_byte(byte).to_string() } else { byte_token(byte) }
    }

    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let escaped = (!self.behaviour.byte_level).then(|| text.replace(' ', "▁"));
        let text = escaped.as_deref().unwrap_or(text);
        let mut bytes = String::new();
        for range in self.pre_tokenizer.split(text)? {
            let mut piece = &text[range];
            if self.behaviour.whole_newlines
                && piece.starts_with('\n')
                && let Some(id) = self.model.token_to_id(piece)
            {
                ids.push(id);
                continue;
            }
            if self.behaviour.byte_level {
                bytes.clear();
                bytes.extend(piece.bytes().map(char_of_byte));
                piece = &bytes;
            }
            tokenize(&self.model, piece, ids)?;
        }
        Ok(())
    }
}

/// SentencePiece's BPE: a whole text is one piece, "▁" stands for a space, and of all neighbours those merge first whose
/// concatenation scores highest.
pub(super) struct ScoredBpe {
    model: BPE,
}

impl ScoredBpe {
    /// From the score of each token. The merges are all splits of each piece into two known pieces, by score descending, then by
    /// left and right id: what SentencePiece does when it looks up the score of each concatenation.
    pub(super) fn new(vocabulary: &Vocabulary, scores: &[f32], unknown: Option<u32>) -> Result<ScoredBpe> {
        if scores.len() < vocabulary.len() {
            let (scores, tokens) = (scores.len(), vocabulary.len());
            return Err(Error::malformed(format!("tokenizer.ggml.scores has {scores} scores for {tokens} tokens")));
        }
        let names = by_name(vocabulary, |kind| kind != TokenKind::Control)?;
        let mut merges: Vec<(f32, u32, u32)> = Vec::new();
        for (id, name, kind) in vocabulary.iter() {
            if !matches!(kind, TokenKind::Normal | TokenKind::UserDefined) {
                continue;
            }
            let score = scores[id as usize];
            if score.is_nan() {
                return Err(Error::malformed(format!("tokenizer.ggml.scores: the score of token {id}, {name:?}, is not a number")));
            }
            if name.len() > MAX_PIECE_LEN {
                let len = name.len();
                return Err(Error::malformed(format!(
                    "tokenizer.ggml.tokens: token {id} is {len} bytes long, and a piece may have {MAX_PIECE_LEN}"
                )));
            }
            for (at, _) in name.char_indices().skip(1) {
                if let (Some(&left), Some(&right)) = (names.get(&name[..at]), names.get(&name[at..])) {
                    merges.push((score, left, right));
                }
            }
        }
        merges.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let name = |id| vocabulary.name(id).unwrap_or_default().to_string();
        let merges: Merges = merges.into_iter().map(|(_, left, right)| (name(left), name(right))).collect();

        // The cache keeps pieces, and here a piece is a text.
        let mut builder = BPE::builder().vocab_and_merges(names, merges).byte_fallback(true).fuse_unk(true).cache_capacity(0);
        if let Some(unknown) = unknown {
            builder = builder.unk_token(name(unknown));
        }
        let model = builder.build().map_err(|e| Error::malformed(format!("tokenizer.ggml.tokens: {e}")))?;
        Ok(ScoredBpe { model })
    }

    /// `prefix` puts the space before the text that SentencePiece puts before a first word.
    pub(super) fn encode(&self, text: &str, prefix: bool, ids: &mut Vec<u32>) -> Result<()> {
        let mut escaped = String::with_capacity(text.len() + text.len() / 4 + 3);
        if prefix {
            escaped.push('▁');
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { '▁' } else { c }));
        tokenize(&self.model, &escaped, ids)
    }
}

/// What SentencePiece calls the token of a byte.
pub(super) fn byte_token(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

fn tokenize(model: &BPE, piece: &str, ids: &mut Vec<u32>) -> Result<()> {
    let tokens = model.tokenize(piece).map_err(|e| Error::request(format!("the text cannot be tokenised: {e}")))?;
    ids.extend(tokens.iter().map(|token| token.id));
    Ok(())
}

/// Ids by name, for the kinds that take part in merging.
fn by_name(vocabulary: &Vocabulary, takes_part: impl Fn(TokenKind) -> bool) -> Result<Vocab> {
    let mut names = Vocab::with_capacity(vocabulary.len());
    for (id, name, _) in vocabulary.iter().filter(|(_, _, kind)| takes_part(*kind)) {
        if let Some(other) = names.insert(name.to_string(), id) {
            return Err(Error::malformed(format!("tokenizer.ggml.tokens: tokens {other} and {id} are both {name:?}")));
        }
    }
    Ok(names)
}
