//! How long each part of one step took.

use std::time::Duration;

/// One kernel call or dispatch of a step that was traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timed {
    /// What ran: its line of [`super::Backend::program_text`].
    pub what: String,
    /// When it began, counted from when the first did.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
}

/// Pairs the lines of a program with the moments at which each began and ended.
pub(super) fn timed<'a>(lines: impl Iterator<Item = &'a str>, moments: impl Iterator<Item = (Duration, Duration)>) -> Vec<Timed> {
    let mut first = None;
    lines
        .zip(moments)
        .map(|(line, (began, ended))| {
            let first = *first.get_or_insert(began);
            Timed { what: line.trim().to_owned(), began: began.saturating_sub(first), took: ended.saturating_sub(began) }
        })
        .collect()
}
