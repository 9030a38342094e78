//! Finding tokens that are written out in a text (`<|im_start|>`, user-defined pieces) before the text is cut any further.
//!
//! Longer tokens are found before shorter ones anywhere in the text, and of equally long ones the lower id first, as llama.cpp
//! does; leftmost-longest matching would differ where tokens overlap.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use super::vocabulary::{TokenKind, Vocabulary};
use crate::error::{Error, Result};

/// A stretch of text, or a token found in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    Text(Range<usize>),
    Token(u32),
}

#[derive(Clone, Debug)]
struct Special {
    id: u32,
    text: Box<str>,
    /// Found only where the caller wants special tokens parsed.
    control: bool,
    strip_left: bool,
    strip_right: bool,
}

/// The tokens that are looked for.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    /// In the order of the search.
    tokens: Vec<Special>,
    /// Finds which tokens occur at all, so that a text is searched only for those.
    finder: Option<AhoCorasick>,
}

impl SpecialTokens {
    /// The control, unknown and user-defined tokens of `vocabulary`; `strips` says for a token whether white space to its left and
    /// right belongs to it.
    pub(super) fn new(vocabulary: &Vocabulary, strips: impl Fn(u32, &str) -> (bool, bool)) -> Result<SpecialTokens> {
        let mut tokens: Vec<Special> = vocabulary
            .iter()
            .filter(|(_, name, kind)| !name.is_empty() && matches!(kind, TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined))
            .map(|(id, name, kind)| {
                let (strip_left, strip_right) = strips(id, name);
                Special { id, text: name.into(), control: kind != TokenKind::UserDefined, strip_left, strip_right }
            })
            .collect();
        tokens.sort_by_key(|t| std::cmp::Reverse(t.text.len()));
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(tokens.iter().map(|t| t.text.as_bytes()))
            .map_err(|e| Error::malformed(format!("the vocabulary's special tokens cannot be searched for: {e}")))?;
        Ok(SpecialTokens { finder: (!tokens.is_empty()).then_some(finder), tokens })
    }

    /// Whether one that is found in any text swallows white space beside it.
    pub(super) fn swallows_space(&self) -> bool {
        self.tokens.iter().any(|token| !token.control && (token.strip_left || token.strip_right))
    }

    /// Whether any swallows white space beside it.
    pub(super) fn swallows_any_space(&self) -> bool {
        self.tokens.iter().any(|token| token.strip_left || token.strip_right)
    }

    /// Cuts `text` into tokens and what lies between. Without `control`, only user-defined tokens are found.
    pub(super) fn partition(&self, text: &str, control: bool) -> Vec<Fragment> {
        let mut fragments = Vec::new();
        if !text.is_empty() {
            fragments.push(Fragment::Text(0..text.len()));
        }
        let Some(finder) = &self.finder else { return fragments };
        let mut occurs = vec![false; self.tokens.len()];
        for found in finder.find_overlapping_iter(text) {
            occurs[found.pattern().as_usize()] = true;
        }
        for (token, _) in self.tokens.iter().zip(&occurs).filter(|(token, occurs)| **occurs && (control || !token.control)) {
            let mut next = Vec::with_capacity(fragments.len());
            for fragment in fragments {
                match fragment {
                    Fragment::Token(_) => next.push(fragment),
                    Fragment::Text(range) => token.cut(text, range, &mut next),
                }
            }
            fragments = next;
        }
        fragments
    }
}

impl Special {
    fn cut(&self, text: &str, range: Range<usize>, out: &mut Vec<Fragment>) {
        let mut start = range.start;
        while let Some(found) = text[start..range.end].find(&*self.text) {
            let (mut left, mut right) = (start + found, start + found + self.text.len());
            if self.strip_left {
                left = start + text[start..left].trim_end_matches(is_space).len();
            }
            if self.strip_right {
                right = range.end - text[right..range.end].trim_start_matches(is_space).len();
            }
            if start < left {
                out.push(Fragment::Text(start..left));
            }
            out.push(Fragment::Token(self.id));
            start = right;
        }
        if start < range.end {
            out.push(Fragment::Text(start..range.end));
        }
    }
}

/// C's `isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0B' | '\x0C')
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::Spelling;
    use super::*;

    fn tokens(specials: &[(&str, TokenKind)]) -> SpecialTokens {
        let mut vocabulary = Vocabulary::new(false);
        for (name, kind) in specials {
            vocabulary.push(name, *kind, Spelling::Plain).unwrap();
        }
        SpecialTokens::new(&vocabulary, |_, name| (name == "<l>", name == "<r>")).unwrap()
    }

    #[test]
    fn longer_tokens_win_wherever_they_stand() {
        let specials = tokens(&[("ab", TokenKind::UserDefined), ("bcd", TokenKind::UserDefined)]);
        assert_eq!(specials.partition("abcd", false), [Fragment::Text(0..1), Fragment::Token(1)]);
    }

    #[test]
    fn control_tokens_are_text_unless_asked_for() {
        let specials = tokens(&[("<s>", TokenKind::Control), ("<u>", TokenKind::UserDefined)]);
        assert_eq!(specials.partition("<s><u>", false), [Fragment::Text(0..3), Fragment::Token(1)]);
        assert_eq!(specials.partition("<s><u>", true), [Fragment::Token(0), Fragment::Token(1)]);
    }

    #[test]
    fn white_space_beside_a_stripping_token_is_its_own() {
        let specials = tokens(&[("<l>", TokenKind::Control), ("<r>", TokenKind::Control)]);
        assert_eq!(
            specials.partition("a \n<l> b <r>\t c", true),
            [Fragment::Text(0..1), Fragment::Token(0), Fragment::Text(6..9), Fragment::Token(1), Fragment::Text(14..15),]
        );
    }

    #[test]
    fn an_empty_text_has_no_fragments() {
        assert_eq!(tokens(&[("a", TokenKind::Control)]).partition("", true), []);
    }
}
