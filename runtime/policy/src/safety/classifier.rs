//! A place for models that score texts.

use std::collections::BTreeMap;
use std::fmt;

use super::rules::Direction;

/// How probable it is that a text is of a category, by the category's id, 0 to 1. Categories that are left out were not looked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores(pub BTreeMap<String, f32>);

/// Why a text has no scores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassifierFault(pub String);

impl fmt::Display for ClassifierFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ClassifierFault {}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Medium {
    /// Text that people read.
    Text,
    /// A model's thoughts.
    Thinking,
    /// Strings of a tool's arguments, a line each.
    Arguments,
}

/// Where a text stands.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// Which way it goes.
    pub direction: Direction,
    /// What it is.
    pub medium: Medium,
    /// What was asked, where it is an answer and the host said so.
    pub question: &'a str,
}

/// Scores texts. Whoever holds one shows it every text before it passes, its end at most [`WINDOW`] bytes long.
pub trait Classifier {
    /// Scores a text, which may begin within a sentence.
    ///
    /// # Errors
    /// Whatever keeps it from scoring. The text does not pass then, but for categories whose `on_fault` is `flag`.
    fn score(&mut self, text: &str, context: &Exchange<'_>) -> Result<Scores, ClassifierFault>;
}

/// Bytes of a text that are scored at once, at most.
pub const WINDOW: usize = 4096;

/// The parts of a text to be scored: each at most [`WINDOW`] bytes, and half of it in common with the one before, so that nothing short is only
/// seen cut.
pub(crate) fn windows(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = (!text.is_empty()).then_some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let window = text.get(..text.floor_char_boundary(WINDOW)).unwrap_or(text);
        rest = if window.len() == text.len() { None } else { text.get(text.floor_char_boundary(WINDOW / 2)..) };
        Some(window)
    })
}

/// The end of a text that is scored.
pub(crate) fn window(text: &str) -> &str {
    text.get(text.ceil_char_boundary(text.len().saturating_sub(WINDOW))..).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_text() {
        let text = "é1".repeat(5000);
        let parts: Vec<&str> = windows(&text).collect();
        assert!(parts.iter().all(|part| part.len() <= WINDOW) && parts.len() >= 6);
        let mut covered = 0;
        for part in parts {
            let start = part.as_ptr() as usize - text.as_ptr() as usize;
            assert!(start <= covered);
            covered = start + part.len();
        }
        assert_eq!(covered, text.len());
        assert_eq!(windows("").count(), 0);
        assert_eq!(windows("a").collect::<Vec<_>>(), ["a"]);
        assert!(window(&text).len() <= WINDOW && text.ends_with(window(&text)));
    }
}
