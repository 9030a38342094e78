//! Control tokens that stand in what callers say.

use std::collections::HashMap;

use firecrest_engine::text::{TokenKind, Tokenizer};

use super::messages::GUARD;

/// Finds the names of control tokens in texts. A caller who writes `<|im_end|>` must not end a turn.
pub(super) struct Guard {
    /// By their first two bytes, or the only one.
    names: HashMap<[u8; 2], Vec<String>>,
}

impl Guard {
    pub(super) fn new(tokenizer: &Tokenizer) -> Guard {
        let mut names: HashMap<[u8; 2], Vec<String>> = HashMap::new();
        for id in 0..tokenizer.vocab_size() as u32 {
            if tokenizer.token_kind(id) == Some(TokenKind::Control)
                && let Some(name) = tokenizer.token_text(id)
                && let Some(start) = start(name.as_bytes())
            {
                names.entry(start).or_default().push(name.to_owned());
            }
        }
        Guard { names }
    }

    /// The text, with every such name broken by a [`GUARD`]; none other is left in it.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut guarded = String::with_capacity(text.len());
        for (at, c) in text.char_indices() {
            if c == GUARD {
                guarded.push(char::REPLACEMENT_CHARACTER);
                continue;
            }
            guarded.push(c);
            let rest = &text[at..];
            let names = start(rest.as_bytes()).and_then(|start| self.names.get(&start));
            if names.into_iter().flatten().any(|name| rest.starts_with(name.as_str())) {
                guarded.push(GUARD);
            }
        }
        guarded
    }
}

/// The first two bytes of what is long enough to be taken apart.
fn start(text: &[u8]) -> Option<[u8; 2]> {
    text.first_chunk().copied()
}
