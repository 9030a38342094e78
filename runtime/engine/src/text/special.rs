//! Finding tokens that are written out in a text (`<|im_start|>`, user-defined pieces) before the text is cut any further.
//!
//! Longer tokens are found before shorter ones anywhere in the text, and of equally long ones the lower id first, as llama.cpp
//! does; leftmost-longest matching would differ where tokens overlap.

use std::collections::BTreeMap;
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
        let mut cuts = Cuts { text, taken: BTreeMap::new() };
        if let Some(finder) = &self.finder {
            let mut counts = vec![0usize; self.tokens.len()];
            for found in finder.find_overlapping_iter(text) {
                counts[found.pattern().as_usize()] += 1;
            }
            for (token, count) in self.tokens.iter().zip(&mut counts) {
                *count *= usize::from(control || !token.control);
            }
            // A text can hold every token, so it is searched again only for those that are in it often or are few: the others' places are kept.
            let occurring = counts.iter().filter(|count| **count > 0).count();
            let is_kept = |count: usize| occurring > SEARCHED && (1..=text.len() / OFTEN).contains(&count);
            let mut places: Vec<(usize, usize)> = Vec::new();
            if counts.iter().any(|count| is_kept(*count)) {
                let found = finder.find_overlapping_iter(text).map(|found| (found.pattern().as_usize(), found.start()));
                places.extend(found.filter(|(token, _)| is_kept(counts[*token])));
                places.sort_unstable();
            }
            let mut places = places.into_iter().peekable();
            for (at, (token, count)) in self.tokens.iter().zip(counts).enumerate().filter(|(_, (_, count))| *count > 0) {
                if is_kept(count) {
                    while let Some((_, place)) = places.next_if(|(of, _)| *of == at) {
                        cuts.take(token, place);
                    }
                } else {
                    cuts.take_all(token);
                }
            }
        }
        cuts.fragments()
    }
}

/// So many tokens are searched for one by one, however seldom they occur.
const SEARCHED: usize = 8;

/// A token of which there is one in so many bytes, or more, is searched for: there can't be many such.
const OFTEN: usize = 64;

/// A text that is being cut.
struct Cuts<'a> {
    text: &'a str,
    /// What tokens have taken, with white space beside them: by its start, its end and the token.
    taken: BTreeMap<usize, (usize, u32)>,
}

impl Cuts<'_> {
    /// A token stands here, if no other has taken it.
    fn take(&mut self, token: &Special, place: usize) {
        let end = place + token.text.len();
        let from = self.taken.range(..end).next_back().map_or(0, |(_, (end, _))| *end);
        if from <= place {
            let until = self.taken.range(end..).next().map_or(self.text.len(), |(start, _)| *start);
            let range = token.widen(self.text, from..until, place);
            self.taken.insert(range.start, (range.end, token.id));
        }
    }

    /// All that a token can have.
    fn take_all(&mut self, token: &Special) {
        let mut found = Vec::new();
        let mut start = 0;
        let ends = self.taken.iter().map(|(start, (end, _))| (*start, *end)).chain([(self.text.len(), self.text.len())]);
        for (until, next) in ends {
            while let Some(at) = self.text[start..until].find(&*token.text) {
                let range = token.widen(self.text, start..until, start + at);
                start = range.end;
                found.push((range.start, (range.end, token.id)));
            }
            start = next;
        }
        self.taken.extend(found);
    }

    fn fragments(self) -> Vec<Fragment> {
        let mut fragments = Vec::with_capacity(2 * self.taken.len() + 1);
        let mut done = 0;
        for (start, (end, token)) in self.taken {
            if done < start {
                fragments.push(Fragment::Text(done..start));
            }
            fragments.push(Fragment::Token(token));
            done = end;
        }
        if done < self.text.len() {
            fragments.push(Fragment::Text(done..self.text.len()));
        }
        fragments
    }
}

impl Special {
    /// What it takes of a free stretch in which it stands here: the white space beside it, if it swallows that.
    fn widen(&self, text: &str, free: Range<usize>, place: usize) -> Range<usize> {
        let (mut left, mut right) = (place, place + self.text.len());
        if self.strip_left {
            left = free.start + text[free.start..left].trim_end_matches(is_space).len();
        }
        if self.strip_right {
            right = free.end - text[right..free.end].trim_start_matches(is_space).len();
        }
        left..right
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

    /// However many tokens a text holds, it is cut as by searching for one after another.
    #[test]
    fn many_tokens_are_cut_as_few_are() {
        let names: Vec<String> = (0..40)
            .map(|at| format!("<{}{}>", at % 10, "x".repeat(at / 10)))
            .chain(["xx", "x>", "<l>", "<r>", "l"].map(String::from))
            .collect();
        let specials = tokens(&names.iter().map(|name| (name.as_str(), TokenKind::UserDefined)).collect::<Vec<_>>());
        let one_by_one = |text: &str| {
            let mut cuts = Cuts { text, taken: BTreeMap::new() };
            specials.tokens.iter().for_each(|token| cuts.take_all(token));
            cuts.fragments()
        };
        let mut state = 7u64;
        for _ in 0..300 {
            let mut text = String::new();
            for _ in 0..60 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let draw = (state >> 33) as usize;
                text.push_str([names[draw / 8 % names.len()].as_str(), "x", " ", "<", ">", " \n ", "é", "0x"][draw % 8]);
            }
            text.push_str(&".".repeat(64 * 64));
            assert_eq!(specials.partition(&text, true), one_by_one(&text), "{text}");
        }
    }

    #[test]
    fn an_empty_text_has_no_fragments() {
        assert_eq!(tokens(&[("a", TokenKind::Control)]).partition("", true), []);
    }
}
