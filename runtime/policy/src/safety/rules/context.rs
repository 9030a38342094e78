//! What may stand beside a match so that it is none.

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::pattern::TABLES;

/// Normalised bytes before a match that are looked at.
pub(super) const BEFORE: usize = 96;

/// Normalised bytes after a match that are looked at. A match waits for so many.
pub(super) const AFTER: usize = 64;

/// Texts beside a match by which it is no match: `refuse questions like "` before, ` detector` after; and those without which it may be none: `card`
/// near sixteen digits.
#[derive(Debug, Default)]
pub(super) struct Context {
    before: Option<dense::DFA<Vec<u32>>>,
    after: Option<dense::DFA<Vec<u32>>>,
    near: Option<dense::DFA<Vec<u32>>>,
}

impl Context {
    /// Compiles the alternatives of both sides, and of either.
    pub(super) fn new(before: &[String], after: &[String], near: &[String]) -> Result<Context, String> {
        let any = |list: &[String]| list.iter().map(|one| format!("(?:{one})")).collect::<Vec<_>>().join("|");
        let side = |name: &str, list: &[String], whole: String, start| match list.is_empty() {
            true => Ok(None),
            false => compile(&whole, start).map(Some).map_err(|why| format!("`{name}`: {why}")),
        };
        Ok(Context {
            before: side("unless_before", before, format!("(?:{})\\z", any(before)), StartKind::Unanchored)?,
            after: side("unless_after", after, any(after), StartKind::Anchored)?,
            near: side("near", near, any(near), StartKind::Unanchored)?,
        })
    }

    /// Whether a match has to wait for what comes after it.
    pub(super) fn waits(&self) -> bool {
        self.after.is_some() || self.near.is_some()
    }

    /// Normalised bytes beside a match that have to be known.
    pub(super) fn width(&self) -> usize {
        if self.before.is_some() || self.waits() { BEFORE + AFTER } else { 0 }
    }

    /// Whether a match stands between these texts; `near`: it needs one of those that it may be near to.
    pub(super) fn accepts(&self, before: &[u8], after: &[u8], near: bool) -> bool {
        let found = |automaton: &Option<dense::DFA<Vec<u32>>>, text: &[u8], anchored| {
            let input = Input::new(text).anchored(anchored).earliest(true);
            automaton.as_ref().is_some_and(|automaton| !matches!(automaton.try_search_fwd(&input), Ok(None)))
        };
        let is_near = || self.near.is_none() || found(&self.near, before, Anchored::No) || found(&self.near, after, Anchored::No);
        !found(&self.before, before, Anchored::No) && !found(&self.after, after, Anchored::Yes) && (!near || is_near())
    }
}

fn compile(pattern: &str, start: StartKind) -> Result<dense::DFA<Vec<u32>>, String> {
    let config = dense::Config::new().start_kind(start).accelerate(false).dfa_size_limit(Some(TABLES)).determinize_size_limit(Some(TABLES));
    dense::Builder::new()
        .syntax(syntax::Config::new().unicode(false).utf8(false).nest_limit(50))
        .thompson(thompson::Config::new().nfa_size_limit(Some(TABLES)))
        .configure(config)
        .build(pattern)
        .map_err(|e| format!("the pattern is no regular expression, or too large: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_side_undoes_a_match() {
        let context = Context::new(&["never ".to_owned(), "not (?:to )?".to_owned()], &[" proof\\b".to_owned()], &[]).expect("a context");
        let accepts = |before: &str, after: &str| context.accepts(before.as_bytes(), after.as_bytes(), false);
        assert!(accepts("do it ", " now") && accepts("never say it ", "") && accepts("", " proofs"));
        assert!(!accepts("never ", "") && !accepts("better not to ", "") && !accepts("", " proof"));
        assert!(Context::new(&["(".to_owned()], &[], &[]).is_err());
    }

    #[test]
    fn a_match_may_need_a_word_near() {
        let context = Context::new(&[], &[], &["\\bcards?\\b".to_owned()]).expect("a context");
        let accepts = |before: &str, after: &str, near| context.accepts(before.as_bytes(), after.as_bytes(), near);
        assert!(accepts("my card: ", "", true) && accepts("", " is my card", true) && accepts("number ", "", false));
        assert!(!accepts("number ", "", true) && !accepts("cardinal ", "", true));
    }
}
