//! A tokenizer as `llguidance` wants it: the bytes of each token in a trie.

use std::sync::Arc;

use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenizerEnv};

use crate::error::{Error, Result};
use crate::text::{TokenKind, Tokenizer};

struct Environment {
    tokenizer: Tokenizer,
    trie: TokTrie,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        // What is no text, or can't be tokenised, is spelled out.
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            self.tokenizer.encode_continuation(text).unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.tokenizer.encodes_continuations()
    }
}

/// The vocabulary of a model with `vocab` tokens. Those without text of their own can't be part of a grammar, but for the ends of generation.
pub(super) fn environment(tokenizer: &Tokenizer, vocab: u32) -> Result<TokEnv> {
    let ends = tokenizer.end_of_generation();
    let Some(&end) = ends.iter().find(|&&id| id < vocab) else {
        return Err(Error::request("a grammar needs a token that ends generation, and this model's tokenizer names none"));
    };
    let mut words = vec![Vec::new(); vocab as usize];
    for (id, word) in (0..).zip(&mut words) {
        let (Some(bytes), Some(kind)) = (tokenizer.token_bytes(id), tokenizer.token_kind(id)) else { continue };
        match kind {
            TokenKind::Control | TokenKind::Unknown => {
                word.push(TokTrie::SPECIAL_TOKEN_MARKER);
                word.extend_from_slice(bytes);
            }
            TokenKind::Unused => {}
            // The marker begins no text: no UTF-8 has this byte.
            _ if bytes.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER) => word.extend_from_slice(bytes),
            _ => {}
        }
    }
    let trie = TokTrie::from(&TokRxInfo::new(vocab, end), &words);
    let ends: Vec<u32> = ends.iter().copied().filter(|&id| id < vocab).collect();
    Ok(Arc::new(Environment { tokenizer: tokenizer.clone(), trie: trie.with_eos_tokens(&ends) }))
}
