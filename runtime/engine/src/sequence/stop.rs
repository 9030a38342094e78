//! Stop strings, wherever token borders fall.

use std::collections::VecDeque;
use std::sync::Arc;

/// Watches a text that arrives in pieces for strings that end it.
///
/// What is passed on never contains, nor ends in the beginning of, a stop string that may still complete. Of several that could
/// match, the one completed first ends the text, and of those completed by the same byte the longest; so the outcome
/// doesn't depend on how the text is cut. The cost of a text is linear in its length, however many stop strings there are.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    automaton: Arc<Automaton>,
    /// Where the automaton is: its node's text is the longest end of the text that a stop string begins with.
    state: u32,
    /// The end of the text so far that may be the beginning of a stop string. Starts at a character, because stop strings do.
    held: String,
}

/// All stop strings as one automaton over bytes (A. V. Aho, M. J. Corasick, 1975). Node 0 is the empty text.
#[derive(Clone, Debug)]
struct Automaton {
    nodes: Vec<Node>,
    /// Bytes of each stop string.
    lengths: Vec<usize>,
}

/// The beginning of some stop strings.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Its bytes.
    depth: usize,
    /// Longer beginnings, by their next byte, sorted by it.
    next: Vec<(u8, u32)>,
    /// The longest proper end of it that is a node too.
    fail: u32,
    /// The longest stop string that it ends in; of equal ones the first.
    ended: Option<usize>,
}

impl Default for Automaton {
    fn default() -> Automaton {
        Automaton { nodes: vec![Node::default()], lengths: Vec::new() }
    }
}

impl Automaton {
    fn new(stops: &[String]) -> Automaton {
        let mut automaton = Automaton { lengths: stops.iter().map(String::len).collect(), ..Automaton::default() };
        for (index, stop) in stops.iter().enumerate() {
            let mut at = 0;
            for &byte in stop.as_bytes() {
                at = automaton.grow(at, byte);
            }
            automaton.nodes[at as usize].ended.get_or_insert(index);
        }
        // Shorter beginnings first: what a node falls back to is known before it.
        let mut queue: VecDeque<u32> = automaton.nodes[0].next.iter().map(|(_, node)| *node).collect();
        while let Some(at) = queue.pop_front() {
            let (fail, children) = (automaton.nodes[at as usize].fail, automaton.nodes[at as usize].next.clone());
            let ended = automaton.nodes[fail as usize].ended;
            let node = &mut automaton.nodes[at as usize];
            node.ended = node.ended.or(ended);
            for (byte, child) in children {
                automaton.nodes[child as usize].fail = automaton.step(fail, byte);
                queue.push_back(child);
            }
        }
        automaton
    }

    /// The node one byte further, made if it is not there.
    fn grow(&mut self, at: u32, byte: u8) -> u32 {
        let made = self.nodes.len() as u32;
        let node = &mut self.nodes[at as usize];
        match node.next.binary_search_by_key(&byte, |(byte, _)| *byte) {
            Ok(found) => node.next[found].1,
            Err(place) => {
                node.next.insert(place, (byte, made));
                let depth = node.depth + 1;
                self.nodes.push(Node { depth, ..Node::default() });
                made
            }
        }
    }

    /// The longest end of a node's text and this byte that is a node.
    fn step(&self, mut at: u32, byte: u8) -> u32 {
        loop {
            let node = &self.nodes[at as usize];
            match node.next.binary_search_by_key(&byte, |(byte, _)| *byte) {
                Ok(found) => return node.next[found].1,
                Err(_) if at == 0 => return 0,
                Err(_) => at = node.fail,
            }
        }
    }
}

impl StopStrings {
    /// Watches for `stops`, none of which is empty. Clones share what is made of them.
    pub fn new(stops: &[String]) -> StopStrings {
        StopStrings { automaton: Arc::new(Automaton::new(stops)), state: 0, held: String::new() }
    }

    /// Takes the next piece of text. Returns what has become certain, and the index of the stop string that ended it, after which
    /// nothing may be pushed.
    pub fn push(&mut self, piece: &str) -> (String, Option<usize>) {
        let before = self.held.len();
        self.held.push_str(piece);
        for (offset, byte) in piece.bytes().enumerate() {
            self.state = self.automaton.step(self.state, byte);
            if let Some(index) = self.automaton.nodes[self.state as usize].ended {
                self.state = 0;
                let mut certain = std::mem::take(&mut self.held);
                certain.truncate(before + offset + 1 - self.automaton.lengths[index]);
                return (certain, Some(index));
            }
        }
        let kept = self.held.split_off(self.held.len() - self.automaton.nodes[self.state as usize].depth);
        (std::mem::replace(&mut self.held, kept), None)
    }

    /// The text is over and no stop string ended it: what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Watches a text that begins here: what came before is no part of any stop string. What was held back of it.
    pub fn begin_again(&mut self) -> String {
        self.state = 0;
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All text and the stop string, fed in the given pieces.
    fn feed(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let mut watch = StopStrings::new(&stops);
        let mut text = String::new();
        for piece in pieces {
            let (certain, stop) = watch.push(piece);
            text.push_str(&certain);
            if stop.is_some() {
                return (text, stop);
            }
        }
        (text + &watch.finish(), None)
    }

    #[test]
    fn across_borders() {
        assert_eq!(feed(&["\nUser:"], &["Hi.", "\n", "Us", "er", ":", "x"]), ("Hi.".into(), Some(0)));
        assert_eq!(feed(&["\nUser:"], &["Hi.", "\n", "Us", "e", " her"]), ("Hi.\nUse her".into(), None));
    }

    #[test]
    fn overlapping_beginnings() {
        assert_eq!(feed(&["aab"], &["a", "a", "a", "b"]), ("a".into(), Some(0)));
        assert_eq!(feed(&["abab", "ba"], &["abab"]), ("a".into(), Some(1)));
        assert_eq!(feed(&["b", "ab"], &["xab"]), ("x".into(), Some(1)));
    }

    #[test]
    fn a_text_that_begins_again() {
        let mut watch = StopStrings::new(&["ab".to_owned(), "bb".to_owned()]);
        assert_eq!(watch.push("xa"), ("x".into(), None));
        assert_eq!(watch.begin_again(), "a");
        assert_eq!(watch.push("bc"), ("bc".into(), None));
        assert_eq!(watch.push("ab"), ("".into(), Some(0)));
        // Nothing may be pushed after that, and nothing breaks if it is.
        assert_eq!(watch.push("b"), ("".into(), None));
    }

    /// A piece costs what it is long, however many stop strings share its beginnings.
    #[test]
    fn many_stops_with_one_beginning() {
        let stops: Vec<String> = (0..2000).map(|n| format!("{}{n:04}", "a".repeat(100))).collect();
        let mut watch = StopStrings::new(&stops);
        let (certain, stop) = watch.push(&"a".repeat(200_000));
        assert_eq!((certain.len(), stop), (199_900, None));
        assert_eq!(watch.push("1234"), ("".into(), Some(1234)));
    }

    #[test]
    fn whole_characters() {
        assert_eq!(feed(&["é!"], &["caf", "é", "?"]), ("café?".into(), None));
        assert_eq!(feed(&["é!"], &["caf", "é", "!"]), ("caf".into(), Some(0)));
    }

    proptest! {
        /// However it is cut, the text ends where a scan of the whole says, and no piece leaks what is cut off.
        #[test]
        fn as_a_scan_of_the_whole(
            pieces in prop::collection::vec("[abé]{0,3}", 0..12),
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
        ) {
            let whole: String = pieces.concat();
            let first = (0..=whole.len())
                .filter(|&end| whole.is_char_boundary(end))
                .find_map(|end| {
                    let ended = stops.iter().enumerate().filter(|(_, s)| whole[..end].ends_with(s.as_str()));
                    // The first of the longest.
                    ended.rev().max_by_key(|(_, s)| s.len()).map(|(i, s)| (end - s.len(), i))
                });
            let expected = match first {
                Some((start, index)) => (whole[..start].to_string(), Some(index)),
                None => (whole.clone(), None),
            };
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(feed(&stops, &pieces), expected);
        }
    }
}
