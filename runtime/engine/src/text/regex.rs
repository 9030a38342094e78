//! Regular expressions that never stop in silence.
//!
//! Tokenisers' patterns end in `\s+(?!\S)|\s+`: a run of white space without its last character where a word follows, so that the
//! word can have it. The look-ahead makes `fancy-regex` backtrack over the run, keep a stack entry for each character, and give up
//! at a million, which the `tokenizers` crate takes for the end of the matches: 1.2 million spaces came back as one piece.
//! So that ending is taken off the pattern and done by hand. What is left has no look-around and runs in linear time on the
//! automata of the `regex` crate. A pattern that ends otherwise runs as it is, and giving up is an error.

use std::ops::Range;

use fancy_regex::RegexBuilder;
use tokenizers::tokenizer::pattern::Pattern;

use crate::error::{Error, Result};

/// Ends a catastrophic pattern of a hostile file within seconds.
const BACKTRACK_LIMIT: usize = 100_000_000;

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Regex {
    pattern: fancy_regex::Regex,
    last_space: LastSpace,
}

/// Whether a run of white space leaves its last character to a word behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastSpace {
    Stays,
    Goes,
    /// It goes, but a run that ends in a line break was matched by `\s*[\r\n]`, which stands before `\s+` and takes all.
    GoesUnlessLineBreak,
}

impl Regex {
    /// Compiles `pattern`.
    pub(super) fn new(pattern: &str) -> Result<Regex> {
        let (body, last_space) = match pattern.strip_suffix(r"|\s+(?!\S)|\s+") {
            Some(body) if body.contains(r"|\s*[\r\n]") => (format!(r"{body}|\s+"), LastSpace::GoesUnlessLineBreak),
            Some(body) => (format!(r"{body}|\s+"), LastSpace::Goes),
            None => (pattern.to_string(), LastSpace::Stays),
        };
        let compiled = RegexBuilder::new(&body).backtrack_limit(BACKTRACK_LIMIT).build();
        let wrong = |e| Error::unsupported(format!("the pre-tokeniser's pattern {pattern:?} does not compile: {e}"));
        Ok(Regex { pattern: compiled.map_err(wrong)?, last_space })
    }

    /// Calls `piece` with each match in `text` and each stretch between matches, in order; together they cover `text`.
    /// The flag says whether it is a match. Empty matches cut, and are not reported.
    pub(super) fn split(&self, text: &str, mut piece: impl FnMut(Range<usize>, bool)) -> Result<()> {
        let gave_up = |e| Error::request(format!("the pre-tokeniser gave up on a text of {} bytes: {e}", text.len()));
        let (mut done, mut from) = (0, 0);
        while let Some(found) = self.pattern.find_from_pos(text, from).map_err(gave_up)? {
            let (start, end) = (found.start(), self.end_of(text, found.range()));
            if done < start {
                piece(done..start, false);
            }
            if start < end {
                piece(start..end, true);
            }
            done = end;
            // Behind an empty match, one character on.
            from = if start < end { end } else { end + text[end..].chars().next().map_or(1, char::len_utf8) };
            if from > text.len() {
                break;
            }
        }
        if done < text.len() {
            piece(done..text.len(), false);
        }
        Ok(())
    }

    fn end_of(&self, text: &str, found: Range<usize>) -> usize {
        let run = &text[found.clone()];
        let Some(last) = run.chars().next_back() else { return found.end };
        let goes = match self.last_space {
            LastSpace::Stays => false,
            LastSpace::Goes => true,
            LastSpace::GoesUnlessLineBreak => !matches!(last, '\r' | '\n'),
        };
        // The run is maximal, so what follows it is no white space; at the end of the text nothing wants the last character.
        let shortened = found.end - last.len_utf8();
        match goes && found.end < text.len() && found.start < shortened && run.chars().all(char::is_whitespace) {
            true => shortened,
            false => found.end,
        }
    }
}

impl Pattern for &Regex {
    fn find_matches(&self, inside: &str) -> tokenizers::Result<Vec<(tokenizers::Offsets, bool)>> {
        if inside.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        let mut pieces = Vec::new();
        self.split(inside, |range, matched| pieces.push(((range.start, range.end), matched)))?;
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every text over a small alphabet, against the look-ahead itself.
    #[test]
    fn the_ending_done_by_hand_is_the_look_ahead() {
        for body in [r" ?a+| ?[^\sa]+", r"[^\r\na]?a+| ?[^\sa]+[\r\n]*|\s*[\r\n]+", r"a|[\r\n]"] {
            let pattern = format!(r"{body}|\s+(?!\S)|\s+");
            let by_hand = Regex::new(&pattern).unwrap();
            assert_ne!(by_hand.last_space, LastSpace::Stays);
            let look_ahead = Regex { pattern: fancy_regex::Regex::new(&pattern).unwrap(), last_space: LastSpace::Stays };
            let alphabet = ['a', '.', ' ', '\n', '\u{3000}'];
            for n in 0..5_usize.pow(6) {
                let text: String = (0..6).map(|place| alphabet[n / 5_usize.pow(place) % 5]).collect();
                let pieces = |regex: &Regex| {
                    let mut pieces = Vec::new();
                    regex.split(&text, |range, matched| pieces.push((range, matched))).unwrap();
                    pieces
                };
                assert_eq!(pieces(&by_hand), pieces(&look_ahead), "{pattern} on {text:?}");
            }
        }
    }
}
