//! Lists of texts: one Aho–Corasick automaton for all of them.

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;

/// Stands in front of each byte that begins or ends a word, in texts to be found as in the text that is searched. So "whole words only" is part
/// of what is found, decided by the automaton's state alone. UTF-8 has no such byte.
pub(super) const BORDER: u8 = 0xff;

/// Bytes that words are made of. Letters of other scripts are none: an English phrase shall be found also where one of them leans on it.
pub(super) const fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Texts to be found, each of a rule.
#[derive(Debug)]
pub(super) struct Literals {
    automaton: NFA,
    start: StateID,
    /// By state: how much of the text's end may become one of these, without borders.
    alive: Vec<u16>,
    /// By state: how long the shortest of these is that it may become.
    nearest: Vec<u16>,
    /// By text: its rule and length.
    texts: Vec<(u16, u16)>,
}

impl Literals {
    /// Of (rule, normalised text, whether it must be whole words).
    pub(super) fn new(texts: &[(u16, String, bool)]) -> Result<Option<Literals>, String> {
        if texts.is_empty() {
            return Ok(None);
        }
        let marked: Vec<Vec<u8>> = texts.iter().map(|(_, text, words)| mark(text.as_bytes(), *words)).collect();
        let automaton = NFA::new(&marked).map_err(|e| e.to_string())?;
        let start = automaton.start_state(Anchored::No).map_err(|e| e.to_string())?;
        let (mut alive, mut nearest) = (Vec::new(), Vec::new());
        for text in &marked {
            // What was walked is the state's own text: no other is longer and its end.
            let (mut state, mut length) = (start, 0u16);
            let whole = text.iter().filter(|byte| **byte != BORDER).count() as u16;
            for &byte in text {
                state = automaton.next_state(Anchored::No, state, byte);
                length += u16::from(byte != BORDER);
                if alive.len() <= state.as_usize() {
                    alive.resize(state.as_usize() + 1, 0);
                    nearest.resize(state.as_usize() + 1, u16::MAX);
                }
                alive[state.as_usize()] = length;
                nearest[state.as_usize()] = whole.min(nearest[state.as_usize()]);
            }
        }
        let texts = texts.iter().map(|(rule, text, _)| (*rule, text.len() as u16)).collect();
        Ok(Some(Literals { automaton, start, alive, nearest, texts }))
    }

    pub(super) fn start(&self) -> StateID {
        self.start
    }

    pub(super) fn step(&self, state: StateID, byte: u8) -> StateID {
        self.automaton.next_state(Anchored::No, state, byte)
    }

    /// How many bytes at the end of the text may become a match.
    pub(super) fn alive(&self, state: StateID) -> u64 {
        self.alive.get(state.as_usize()).copied().unwrap_or_default().into()
    }

    /// How long the shortest text is that the end of what came may become.
    pub(super) fn nearest(&self, state: StateID) -> u64 {
        self.nearest.get(state.as_usize()).copied().unwrap_or_default().into()
    }

    /// The texts that end here: rule and length.
    pub(super) fn ended(&self, state: StateID) -> impl Iterator<Item = (u16, u64)> {
        let count = if self.automaton.is_match(state) { self.automaton.match_len(state) } else { 0 };
        (0..count).filter_map(move |index| {
            let text = self.automaton.match_pattern(state, index);
            self.texts.get(text.as_usize()).map(|(rule, length)| (*rule, u64::from(*length)))
        })
    }
}

/// A text with its borders.
fn mark(text: &[u8], words: bool) -> Vec<u8> {
    let mut marked = Vec::with_capacity(text.len() + 8);
    let mut inside = !words && text.first().is_some_and(|b| in_word(*b));
    for &byte in text {
        if in_word(byte) != inside {
            inside = !inside;
            marked.push(BORDER);
        }
        marked.push(byte);
    }
    if words && inside {
        marked.push(BORDER);
    }
    marked
}
