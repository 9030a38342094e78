//! Where matches of patterns may begin.

use std::collections::HashMap;

use regex_automata::util::primitives::StateID;

use super::Entry;
use super::scan::Walk;

/// Patterns by the bytes that a match begins with. Most that may begin with one byte end at the next, so a search takes up a pattern only when both
/// are known.
#[derive(Debug)]
pub(super) struct Begin {
    /// By whether a word's byte stands before, and the first byte: the patterns, and their states after it.
    first: Vec<Vec<(u16, StateID)>>,
    /// The same of them that the second byte does not end without a match: places in `lists`.
    second: Vec<u16>,
    lists: Vec<Vec<(u16, StateID)>>,
}

impl Begin {
    pub(super) fn new(patterns: &[Entry]) -> Begin {
        let words = [false, true].into_iter().flat_map(|word| (0..=255u8).map(move |byte| (word, byte)));
        let first: Vec<Vec<(u16, StateID)>> = words
            .map(|(word, byte)| {
                let after = (0u16..)
                    .zip(patterns)
                    .map(|(at, entry)| (at, &entry.form.pattern))
                    .map(|(at, pattern)| (at, pattern, pattern.step(pattern.start(word), byte)));
                after.filter(|(_, pattern, state)| !pattern.dead(*state)).map(|(at, _, state)| (at, state)).collect()
            })
            .collect();
        let mut lists = vec![Vec::new()];
        let mut known: HashMap<Vec<(u16, StateID)>, u16> = HashMap::from([(Vec::new(), 0)]);
        let mut second = Vec::with_capacity(first.len() << 8);
        for of in &first {
            if of.is_empty() {
                second.extend([0; 256]);
                continue;
            }
            for byte in 0..=255u8 {
                let goes_on = |(at, state): &(u16, StateID)| {
                    let Some(entry) = patterns.get(usize::from(*at)) else { return false };
                    let mut walk = Walk::at(*state);
                    let (ended, alive) = walk.step(&entry.form, byte, true);
                    ended || (alive && (walk.gap() == 0 || entry.form.public <= 1))
                };
                let list: Vec<(u16, StateID)> = of.iter().copied().filter(goes_on).collect();
                let place = *known.entry(list).or_insert_with_key(|list| {
                    lists.push(list.clone());
                    // There are fewer lists than pairs of bytes, and an index too large finds none: `Policy::load` refuses so many.
                    u16::try_from(lists.len() - 1).unwrap_or(u16::MAX)
                });
                second.push(place);
            }
        }
        Begin { first, second, lists }
    }

    /// Whether all that begins is found.
    pub(super) fn is_whole(&self) -> bool {
        self.lists.len() < usize::from(u16::MAX)
    }

    /// The patterns that live on after a first byte. A pattern's match never ends before it, because none is empty.
    #[inline]
    pub(super) fn first(&self, word: bool, byte: u8) -> &[(u16, StateID)] {
        self.first.get(usize::from(word) << 8 | usize::from(byte)).map_or(&[], Vec::as_slice)
    }

    /// Those of them, in their states after the first byte, that say something about the second.
    #[inline]
    pub(super) fn second(&self, word: bool, byte: u8, next: u8) -> &[(u16, StateID)] {
        let list = self.second.get(usize::from(word) << 16 | usize::from(byte) << 8 | usize::from(next)).copied().unwrap_or_default();
        self.lists.get(usize::from(list)).map_or(&[], Vec::as_slice)
    }
}
