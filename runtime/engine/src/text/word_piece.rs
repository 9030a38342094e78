//! BERT's WordPiece.

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// Lower-casing and accent-stripping, splitting at white space, punctuation and Han characters, then the longest known prefix again
/// and again.
pub(super) struct BertWords {
    normalizer: BertNormalizer,
    model: WordPiece,
}

impl BertWords {
    /// `vocabulary` names tokens as BERT does: "##" continues a word.
    pub(super) fn new(vocabulary: &Vocabulary, unknown: u32, lowercase: bool, strip_accents: bool) -> Result<BertWords> {
        let Some(unknown) = vocabulary.name(unknown) else {
            return Err(Error::malformed(format!("tokenizer.ggml.unknown_token_id is {unknown}, outside the vocabulary")));
        };
        let mut names = tokenizers::models::bpe::Vocab::with_capacity(vocabulary.len());
        for (id, name, _) in vocabulary.iter() {
            names.entry(name.to_string()).or_insert(id);
        }
        let model = WordPiece::builder()
            .vocab(names)
            .unk_token(unknown.to_string())
            .continuing_subword_prefix("##".to_string())
            .build()
            .map_err(|e| Error::malformed(format!("tokenizer.ggml.tokens: {e}")))?;
        Ok(BertWords { normalizer: BertNormalizer::new(true, true, Some(strip_accents), lowercase), model })
    }

    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let failed = |e: tokenizers::Error| Error::request(format!("the text cannot be tokenised: {e}"));
        let mut normalized = NormalizedString::from(text);
        self.normalizer.normalize(&mut normalized).map_err(failed)?;
        let mut words = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut words).map_err(failed)?;
        for (word, _, _) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            ids.extend(self.model.tokenize(word).map_err(failed)?.iter().map(|token| token.id));
        }
        Ok(())
    }
}
