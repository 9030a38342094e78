//! Regular expressions with look-around that never stop in silence.
//!
//! `fancy-regex` gives up at a backtrack limit, and the `tokenizers` crate takes that for the end of the matches: 1.2 million
//! spaces came back as one piece. Here the limit is far above what a linear pattern needs, and reaching it is an error.

use fancy_regex::RegexBuilder;
use tokenizers::tokenizer::pattern::Pattern;

use crate::error::{Error, Result};

/// Patterns of real tokenisers backtrack at most a few times a byte, so this is enough for texts of tens of megabytes, and ends
/// a catastrophic pattern of a hostile file within seconds.
const BACKTRACK_LIMIT: usize = 200_000_000;

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Regex(fancy_regex::Regex);

impl Regex {
    /// Compiles `pattern`.
    pub(super) fn new(pattern: &str) -> Result<Regex> {
        let compiled = RegexBuilder::new(pattern).backtrack_limit(BACKTRACK_LIMIT).build();
        compiled.map(Regex).map_err(|e| Error::unsupported(format!("the pre-tokeniser's pattern {pattern:?} does not compile: {e}")))
    }

    /// Calls `piece` with each match in `text` and each stretch between matches, in order; together they cover `text`.
    /// The flag says whether it is a match. Empty matches cut, and are not reported.
    pub(super) fn split(&self, text: &str, mut piece: impl FnMut(std::ops::Range<usize>, bool)) -> Result<()> {
        let mut done = 0;
        for found in self.0.find_iter(text) {
            let found = found.map_err(|e| Error::request(format!("the pre-tokeniser gave up on a text of {} bytes: {e}", text.len())))?;
            if done < found.start() {
                piece(done..found.start(), false);
            }
            if !found.range().is_empty() {
                piece(found.range(), true);
            }
            done = found.end();
        }
        if done < text.len() {
            piece(done..text.len(), false);
        }
        Ok(())
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
