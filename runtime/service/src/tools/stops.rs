//! Texts that end an answer's text, looked for as it comes.

use std::sync::Arc;

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;

/// Texts that end an answer's text. Clones share what looks for them, and each looks from where it is.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    search: Option<Arc<Search>>,
    state: StateID,
    /// The end of the text so far that may be the beginning of one of them. Starts at a character, because they do.
    held: String,
}

#[derive(Debug)]
struct Search {
    automaton: NFA,
    start: StateID,
    /// By state: how much of the text's end is the beginning of one of them.
    depths: Vec<usize>,
    texts: Vec<String>,
}

impl Stops {
    /// Of these texts, of which empty ones are passed over. More than an automaton can hold are none.
    pub fn new(texts: &[String]) -> Stops {
        let texts: Vec<String> = texts.iter().filter(|text| !text.is_empty()).cloned().collect();
        let search = (!texts.is_empty()).then(|| Search::new(texts)).flatten().map(Arc::new);
        let state = search.as_ref().map(|search| search.start).unwrap_or_default();
        Stops { search, state, held: String::new() }
    }

    /// Takes the next piece of text. Gives what has become certain, and which of the texts ended it: the one completed first, and of those completed by
    /// the same byte the longest. Nothing may be pushed behind that.
    pub(super) fn push(&mut self, piece: &str) -> (String, Option<&str>) {
        let Some(search) = &self.search else { return (piece.to_owned(), None) };
        let before = self.held.len();
        self.held.push_str(piece);
        for (offset, byte) in piece.bytes().enumerate() {
            self.state = search.automaton.next_state(Anchored::No, self.state, byte);
            if let Some(stop) = search.ended(self.state) {
                let mut certain = std::mem::take(&mut self.held);
                certain.truncate((before + offset + 1).saturating_sub(stop.len()));
                self.state = search.start;
                return (certain, Some(stop));
            }
        }
        let depth = search.depths.get(self.state.as_usize()).copied().unwrap_or_default();
        let kept = self.held.split_off(self.held.len().saturating_sub(depth));
        (std::mem::replace(&mut self.held, kept), None)
    }

    /// Looks at a text that begins here. What was held back of the one before, which is none of these.
    pub(super) fn begin_again(&mut self) -> String {
        self.state = self.search.as_ref().map(|search| search.start).unwrap_or_default();
        std::mem::take(&mut self.held)
    }

    /// Bytes that are held back.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }
}

impl Search {
    fn new(texts: Vec<String>) -> Option<Search> {
        let automaton = NFA::new(&texts).ok()?;
        let start = automaton.start_state(Anchored::No).ok()?;
        let mut depths = Vec::new();
        for text in &texts {
            // What was walked is the state's own text: no other is longer and its end.
            let mut state = start;
            for (at, byte) in text.bytes().enumerate() {
                state = automaton.next_state(Anchored::No, state, byte);
                if depths.len() <= state.as_usize() {
                    depths.resize(state.as_usize() + 1, 0);
                }
                depths[state.as_usize()] = at + 1;
            }
        }
        Some(Search { automaton, start, depths, texts })
    }

    /// The longest text that ends here.
    fn ended(&self, state: StateID) -> Option<&str> {
        if !self.automaton.is_match(state) {
            return None;
        }
        let ended = (0..self.automaton.match_len(state)).map(|index| self.automaton.match_pattern(state, index));
        ended.filter_map(|pattern| self.texts.get(pattern.as_usize())).map(String::as_str).max_by_key(|text| text.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All text and the stop text, fed in these pieces.
    fn feed(texts: &[String], pieces: &[String]) -> (String, Option<String>) {
        let mut stops = Stops::new(texts);
        let mut all = String::new();
        for piece in pieces {
            let (certain, stop) = stops.push(piece);
            all.push_str(&certain);
            if let Some(stop) = stop {
                return (all, Some(stop.to_owned()));
            }
        }
        (all + &stops.begin_again(), None)
    }

    #[test]
    fn many_with_one_beginning() {
        let texts: Vec<String> = (0..2000).map(|n| format!("{}{n:04}", "a".repeat(100))).collect();
        let (said, stop) = feed(&texts, &["a".repeat(200_000), "1234".to_owned()]);
        assert_eq!((said.len(), stop), (199_900, Some(texts[1234].clone())));
    }

    proptest! {
        /// However it is cut, the text ends where a scan of the whole says, and no piece shows what is cut off.
        #[test]
        fn as_a_scan_of_the_whole(
            pieces in prop::collection::vec("[abé]{0,3}", 0..12),
            texts in prop::collection::vec("[abé]{0,4}", 0..4),
        ) {
            let whole: String = pieces.concat();
            let first = (0..=whole.len()).filter(|&end| whole.is_char_boundary(end)).find_map(|end| {
                let ended = texts.iter().filter(|text| !text.is_empty() && whole[..end].ends_with(text.as_str()));
                ended.max_by_key(|text| text.len()).map(|text| (whole[..end - text.len()].to_owned(), Some(text.clone())))
            });
            prop_assert_eq!(feed(&texts, &pieces), first.unwrap_or((whole, None)));
        }
    }
}
