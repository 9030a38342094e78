//! What may stand beside a match so that it is none.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

use super::pattern::TABLES;

/// Normalised bytes before a match that are looked at.
pub(super) const BEFORE: usize = 200;

/// Normalised bytes after a match that are looked at. A match waits for so many.
pub(super) const AFTER: usize = 96;

/// Of these, as many before and after a match that a word which it needs is looked for in: what is farther away is about something else.
pub(super) const NEAR: (usize, usize) = (96, 64);

type Table = dense::DFA<Vec<u32>>;

/// Texts beside a match that decide whether it is one: `refuse questions like "` before or ` detector` after undo it, and some matches
/// are ones only after ` tell me ` or before a full stop.
#[derive(Debug, Default)]
pub(super) struct Context {
    // A table an alternative: together they would remember every pair of what each is halfway through.
    unless_before: Vec<Arc<Table>>,
    unless_after: Vec<Arc<Table>>,
    only_before: Vec<Arc<Table>>,
    only_after: Vec<Arc<Table>>,
    near: Vec<Arc<Table>>,
}

/// The alternatives of a context, as rules give them. `\A` is the text's begin, `\z` its end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sides<'a> {
    /// What may not stand directly before a match.
    pub(super) unless_before: &'a [String],
    /// What may not stand directly after it.
    pub(super) unless_after: &'a [String],
    /// Of these one has to stand directly before it.
    pub(super) only_before: &'a [String],
    /// Of these one has to stand directly after it.
    pub(super) only_after: &'a [String],
    /// Of these one may have to stand on either side.
    pub(super) near: &'a [String],
}

/// What stands on one side of a match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Beside {
    /// The normalised bytes, in the text's order.
    pub(super) text: Vec<u8>,
    /// Whether more of the text stands beyond them.
    pub(super) cut: bool,
}

impl Context {
    /// Compiles the alternatives of both sides.
    pub(super) fn new(sides: Sides<'_>, tables: &mut Tables) -> Result<Context, String> {
        let mut table = |name: &str, list: &[String], walk| {
            let tables = list.iter().map(|one| tables.compiled(one, walk).map_err(|why| format!("`{name}`: {why}")));
            tables.collect::<Result<Vec<_>, _>>()
        };
        Ok(Context {
            unless_before: table("unless_before", sides.unless_before, Walk::Back)?,
            unless_after: table("unless_after", sides.unless_after, Walk::On)?,
            only_before: table("only_before", sides.only_before, Walk::Back)?,
            only_after: table("only_after", sides.only_after, Walk::On)?,
            near: table("near", sides.near, Walk::Anywhere)?,
        })
    }

    /// Whether a match has to wait for what comes after it.
    pub(super) fn waits(&self) -> bool {
        !self.unless_after.is_empty() || !self.only_after.is_empty() || !self.near.is_empty()
    }

    /// Normalised bytes beside a match that have to be known.
    pub(super) fn width(&self) -> usize {
        if self.waits() || !self.unless_before.is_empty() || !self.only_before.is_empty() { BEFORE + AFTER } else { 0 }
    }

    /// Whether one of the texts stands on either side that some matches need.
    pub(super) fn is_near(&self, before: &[u8], after: &[u8]) -> bool {
        let found = |table: &Arc<Table>, text: &[u8]| !matches!(table.try_search_fwd(&Input::new(text).earliest(true)), Ok(None));
        self.near.is_empty() || self.near.iter().any(|table| found(table, before) || found(table, after))
    }

    /// Whether a match stands between these texts.
    pub(super) fn accepts(&self, before: &Beside, after: &Beside) -> bool {
        // A byte beyond the edge, so that `\A` and `\z` are not found where the text goes on.
        let beyond = |side: &Beside| if side.cut { 1 } else { 0 };
        let left: Vec<u8> = std::iter::repeat_n(b'x', beyond(before)).chain(before.text.iter().copied()).collect();
        let right: Vec<u8> = after.text.iter().copied().chain(std::iter::repeat_n(b'x', beyond(after))).collect();
        let left = Input::new(&left).range(beyond(before)..).anchored(Anchored::Yes).earliest(true);
        let right = Input::new(&right).range(..after.text.len()).anchored(Anchored::Yes).earliest(true);
        let left = |table: &Arc<Table>| !matches!(table.try_search_rev(&left), Ok(None));
        let right = |table: &Arc<Table>| !matches!(table.try_search_fwd(&right), Ok(None));
        let Context { unless_before, unless_after, only_before, only_after, .. } = self;
        (only_after.is_empty() || only_after.iter().any(right))
            && (only_before.is_empty() || only_before.iter().any(left))
            && !unless_after.iter().any(right)
            && !unless_before.iter().any(left)
    }
}

/// Phrases of which a text may hold one.
#[derive(Debug, Default)]
pub(super) struct Phrases(Vec<Arc<Table>>);

impl Phrases {
    /// Compiles them.
    pub(super) fn new(list: &[String]) -> Result<Phrases, String> {
        Ok(Phrases(list.iter().map(|one| compile(one, Walk::Anywhere).map(Arc::new)).collect::<Result<_, _>>()?))
    }

    /// Whether a normalised text holds one.
    pub(super) fn stand_in(&self, text: &str) -> bool {
        let found = |table: &Arc<Table>| !matches!(table.try_search_fwd(&Input::new(text).earliest(true)), Ok(None));
        self.0.iter().any(found)
    }
}

/// The tables of alternatives, so that rules which have one in common share it.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<(String, Walk), Arc<Table>>);

impl Tables {
    fn compiled(&mut self, pattern: &str, walk: Walk) -> Result<Arc<Table>, String> {
        if let Some(table) = self.0.get(&(pattern.to_owned(), walk)) {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(compile(pattern, walk)?);
        self.0.insert((pattern.to_owned(), walk), Arc::clone(&table));
        Ok(table)
    }

    /// Bytes of all.
    pub(super) fn size(&self) -> usize {
        self.0.values().map(|table| table.memory_usage()).sum()
    }
}

/// How a table is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Walk {
    /// From a match's begin back, so that a table need not remember all that might end there.
    Back,
    /// From a match's end on.
    On,
    /// From anywhere on.
    Anywhere,
}

fn compile(pattern: &str, walk: Walk) -> Result<Table, String> {
    let start = if walk == Walk::Anywhere { StartKind::Unanchored } else { StartKind::Anchored };
    let config = dense::Config::new().start_kind(start).match_kind(MatchKind::All).accelerate(false);
    dense::Builder::new()
        .syntax(syntax::Config::new().unicode(false).utf8(false).nest_limit(50))
        .thompson(thompson::Config::new().reverse(walk == Walk::Back).nfa_size_limit(Some(TABLES)))
        .configure(config.dfa_size_limit(Some(TABLES)).determinize_size_limit(Some(TABLES)))
        .build(pattern)
        .map_err(|e| format!("the pattern is no regular expression, or too large: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(context: &Context, before: &str, after: &str) -> bool {
        let side = |text: &str| Beside { text: text.trim_matches('…').as_bytes().to_vec(), cut: text.contains('…') };
        context.accepts(&side(before), &side(after))
    }

    #[test]
    fn either_side_undoes_a_match() {
        let before = ["never ".to_owned(), "not (?:to )?".to_owned()];
        let after = [" proof\\b".to_owned()];
        let context = Context::new(Sides { unless_before: &before, unless_after: &after, ..Sides::default() }, &mut Tables::default())
            .expect("a context");
        assert!(accepts(&context, "do it ", " now") && accepts(&context, "never say it ", "") && accepts(&context, "", " proofs"));
        assert!(!accepts(&context, "never ", "") && !accepts(&context, "better not to ", "") && !accepts(&context, "", " proof"));
        let open = ["(".to_owned()];
        assert!(Context::new(Sides { only_after: &open, ..Sides::default() }, &mut Tables::default()).is_err());
    }

    #[test]
    fn a_match_may_need_a_word_near() {
        let near = ["\\bcards?\\b".to_owned()];
        let context = Context::new(Sides { near: &near, ..Sides::default() }, &mut Tables::default()).expect("a context");
        assert!(context.is_near(b"my card: ", b"") && context.is_near(b"", b" is my card") && Context::default().is_near(b"number ", b""));
        assert!(!context.is_near(b"number ", b"") && !context.is_near(b"cardinal ", b""));
    }

    #[test]
    fn some_matches_need_what_stands_beside_them() {
        let before = ["\\A ?".to_owned(), "tell me ".to_owned()];
        let after = [" ?\\z".to_owned(), "[.?]".to_owned()];
        let context = Context::new(Sides { only_before: &before, only_after: &after, ..Sides::default() }, &mut Tables::default())
            .expect("a context");
        for (left, right) in [("", ""), (" ", " "), ("so tell me ", "? x"), ("…tell me ", ".…")] {
            assert!(accepts(&context, left, right), "{left}|{right}");
        }
        // What is cut off is neither begin nor end.
        for (left, right) in [("…", ""), ("… ", ""), ("", "…"), ("", " …"), ("he told me ", ""), ("", " detector")] {
            assert!(!accepts(&context, left, right), "{left}|{right}");
        }
    }

    #[test]
    fn phrases_stand_anywhere() {
        let phrases = Phrases::new(&["\\bquestion above\\b".to_owned(), "\\Ago on\\z".to_owned()]).expect("phrases");
        assert!(phrases.stand_in("answer the question above, please") && phrases.stand_in("go on"));
        assert!(!phrases.stand_in("go on a trip") && !phrases.stand_in("") && !Phrases::default().stand_in("go on"));
    }
}
