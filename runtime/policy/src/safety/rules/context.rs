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

/// Texts beside a match by which it is no match: `refuse questions like "` before, ` detector` after.
#[derive(Debug, Default)]
pub(super) struct Context {
    before: Option<dense::DFA<Vec<u32>>>,
    after: Option<dense::DFA<Vec<u32>>>,
}

impl Context {
    /// Compiles the alternatives of both sides.
    pub(super) fn new(before: &[String], after: &[String]) -> Result<Context, String> {
        let any = |list: &[String]| list.iter().map(|one| format!("(?:{one})")).collect::<Vec<_>>().join("|");
        let side = |name: &str, list: &[String], whole: String, start| match list.is_empty() {
            true => Ok(None),
            false => compile(&whole, start).map(Some).map_err(|why| format!("`{name}`: {why}")),
        };
        Ok(Context {
            before: side("unless_before", before, format!("(?:{})\\z", any(before)), StartKind::Unanchored)?,
            after: side("unless_after", after, any(after), StartKind::Anchored)?,
        })
    }

    /// Whether a match has to wait for what comes after it.
    pub(super) fn waits(&self) -> bool {
        self.after.is_some()
    }

    /// Normalised bytes beside a match that have to be known.
    pub(super) fn width(&self) -> usize {
        if self.before.is_some() || self.after.is_some() { BEFORE + AFTER } else { 0 }
    }

    /// Whether a match stands between these texts.
    pub(super) fn accepts(&self, before: &[u8], after: &[u8]) -> bool {
        let found = |automaton: &Option<dense::DFA<Vec<u32>>>, text: &[u8], anchored| {
            let input = Input::new(text).anchored(anchored).earliest(true);
            automaton.as_ref().is_some_and(|automaton| !matches!(automaton.try_search_fwd(&input), Ok(None)))
        };
        !found(&self.before, before, Anchored::No) && !found(&self.after, after, Anchored::Yes)
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
        let context = Context::new(&["never ".to_owned(), "not (?:to )?".to_owned()], &[" proof\\b".to_owned()]).expect("a context");
        assert!(context.accepts(b"do it ", b" now") && context.accepts(b"never say it ", b"") && context.accepts(b"", b" proofs"));
        assert!(!context.accepts(b"never ", b"") && !context.accepts(b"better not to ", b"") && !context.accepts(b"", b" proof"));
        assert!(Context::new(&["(".to_owned()], &[]).is_err());
    }
}
