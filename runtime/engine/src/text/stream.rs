//! Ids to text as they come, never half a character.

use std::sync::Arc;

use super::vocabulary::{TokenKind, Vocabulary};

/// Decodes one sequence token by token.
///
/// What it gives back is always whole UTF-8 characters; bytes that can no longer become one come out as U+FFFD, as late as
/// needed and as early as possible. A space that the tokeniser put before the very first word is taken off again; one before a
/// word that continues a prompt stays.
#[derive(Clone, Debug)]
pub struct TextStream {
    vocabulary: Arc<Vocabulary>,
    /// The start of a character: at most three bytes.
    partial: Vec<u8>,
    /// No text has been seen yet.
    at_start: bool,
    control: bool,
}

impl TextStream {
    pub(super) fn new(vocabulary: Arc<Vocabulary>, after: &[u32], control: bool) -> TextStream {
        let is_text = |id: &u32| vocabulary.kind(*id).is_some_and(|kind| !matches!(kind, TokenKind::Control | TokenKind::Unused));
        let at_start = !after.iter().any(is_text);
        TextStream { vocabulary, partial: Vec::new(), at_start, control }
    }

    /// The text that `id` completes; often empty, where it ends within a character or is a control token.
    /// An id outside the vocabulary is no text.
    pub fn push(&mut self, id: u32) -> String {
        let (Some(kind), Some(mut piece)) = (self.vocabulary.kind(id), self.vocabulary.piece(id)) else {
            return String::new();
        };
        if kind == TokenKind::Control && !self.control {
            return String::new();
        }
        if std::mem::take(&mut self.at_start) && self.vocabulary.strip_first_space {
            piece = piece.strip_prefix(b" ").unwrap_or(piece);
        }
        self.partial.extend_from_slice(piece);
        self.take(false)
    }

    /// The end: what is left of a character that never came is U+FFFD.
    pub fn finish(&mut self) -> String {
        self.take(true)
    }

    /// Whether bytes of a character are held back.
    pub fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    fn take(&mut self, end: bool) -> String {
        let mut text = String::new();
        let mut rest = self.partial.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, bad) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    match error.error_len() {
                        Some(len) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = &bad[len..];
                        }
                        None if end => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = &[];
                            break;
                        }
                        None => {
                            rest = bad;
                            break;
                        }
                    }
                }
            }
        }
        self.partial = rest.to_vec();
        text
    }
}
