//! Regular expressions, as automata that can be stopped and gone on with at any byte.

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::{Hir, HirKind, Look};

/// Bytes that a match may have at most: so much of a text may have to be held back.
pub(super) const LONGEST: usize = 1024;

/// Bytes of a rule's tables at most.
pub(super) const TABLES: usize = 4 << 20;

/// A pattern's automaton for matches that begin at a given byte. It says of each further byte whether a match may still come, and whether one ended
/// *before* that byte.
#[derive(Debug)]
pub(super) struct Pattern {
    automaton: dense::DFA<Vec<u32>>,
    /// Where no word's byte stands before the match, and where one does.
    starts: [StateID; 2],
    /// Bytes of a match at least, and at most.
    pub(super) shortest: usize,
    pub(super) longest: usize,
}

impl Pattern {
    /// Compiles a pattern over normalised text. Classes and `\b` are ASCII's (`(?u:…)` for others).
    pub(super) fn new(pattern: &str) -> Result<Pattern, String> {
        let parsed = regex_syntax::ParserBuilder::new()
            .unicode(false)
            .utf8(true)
            .nest_limit(50)
            .build()
            .parse(pattern)
            .map_err(|e| format!("the pattern is no regular expression over text: {e}"))?;
        let longest = match parsed.properties().maximum_len() {
            Some(longest) if longest <= LONGEST => longest,
            Some(longest) => return Err(format!("a match can be {longest} bytes long; bound it to {LONGEST}")),
            None => {
                return Err(format!(
                    "a match can be of any length, so text would be held back without end; bound every repeat, to {LONGEST} bytes in all"
                ));
            }
        };
        let shortest = parsed.properties().minimum_len().unwrap_or(0);
        if shortest == 0 {
            return Err("the pattern matches the empty text; make some part of it necessary".to_owned());
        }
        if let Some(look) = parsed.properties().look_set().iter().find(|look| !border(*look)) {
            return Err(format!("the pattern uses {look:?}; text comes in pieces and blocks and has no lines: use \\b only"));
        }
        if let Some(letter) = capital(&parsed) {
            return Err(format!("the pattern asks for `{letter}`, but text is lower case before rules see it; write it in lower case"));
        }
        let nfa = thompson::Compiler::new()
            .configure(thompson::Config::new().nfa_size_limit(Some(TABLES)))
            .build_from_hir(&parsed)
            .map_err(|e| format!("the pattern is too large: {e}"))?;
        let config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .match_kind(MatchKind::All)
            .accelerate(false)
            .dfa_size_limit(Some(TABLES))
            .determinize_size_limit(Some(TABLES));
        let automaton =
            dense::Builder::new().configure(config).build_from_nfa(&nfa).map_err(|e| format!("the pattern's tables are too large: {e}"))?;
        let start = |before: u8| {
            let config = start::Config::new().anchored(Anchored::Yes).look_behind(Some(before));
            automaton.start_state(&config).map_err(|e| format!("the pattern has no start: {e}"))
        };
        let starts = [start(b' ')?, start(b'a')?];
        Ok(Pattern { starts, shortest, longest, automaton })
    }

    /// The state before a match's first byte; `word`: whether a word's byte stands before it.
    pub(super) fn start(&self, word: bool) -> StateID {
        self.starts[usize::from(word)]
    }

    pub(super) fn step(&self, state: StateID, byte: u8) -> StateID {
        self.automaton.next_state(state, byte)
    }

    /// The state behind the text's end: whether it [`Pattern::ended`] says whether a match ended there.
    pub(super) fn stop(&self, state: StateID) -> StateID {
        self.automaton.next_eoi_state(state)
    }

    /// Whether no match can come.
    pub(super) fn dead(&self, state: StateID) -> bool {
        self.automaton.is_dead_state(state) || self.automaton.is_quit_state(state)
    }

    /// Whether a match ended before the byte that led here.
    pub(super) fn ended(&self, state: StateID) -> bool {
        self.automaton.is_match_state(state)
    }

    /// Whether either is so.
    pub(super) fn special(&self, state: StateID) -> bool {
        self.automaton.is_special_state(state)
    }

    /// Bytes of tables.
    pub(super) fn size(&self) -> usize {
        self.automaton.memory_usage()
    }
}

fn border(look: Look) -> bool {
    matches!(look, Look::WordAscii | Look::WordStartAscii | Look::WordEndAscii | Look::WordStartHalfAscii | Look::WordEndHalfAscii)
}

/// A capital that a match must hold.
fn capital(pattern: &Hir) -> Option<char> {
    match pattern.kind() {
        HirKind::Literal(literal) => literal.0.iter().find(|b| b.is_ascii_uppercase()).map(|b| char::from(*b)),
        HirKind::Repetition(repetition) => capital(&repetition.sub),
        HirKind::Capture(capture) => capital(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().find_map(capital),
        HirKind::Empty | HirKind::Class(_) | HirKind::Look(_) => None,
    }
}
