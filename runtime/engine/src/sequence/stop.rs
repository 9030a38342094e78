//! Stop strings, wherever token borders fall.

/// Watches a text that arrives in pieces for strings that end it.
///
/// What is passed on never contains, nor ends in the beginning of, a stop string that may still complete. Of several that could
/// match, the one completed first ends the text, and of those completed by the same byte the longest; so the outcome
/// doesn't depend on how the text is cut.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<Stop>,
    /// The end of the text so far that may be the beginning of a stop string. Starts at a character, because stop strings do.
    held: String,
}

/// One stop string as a Knuth–Morris–Pratt automaton over bytes.
#[derive(Clone, Debug)]
struct Stop {
    text: Box<[u8]>,
    /// `borders[n]`: length of the longest proper suffix of the first `n + 1` bytes that is also their prefix.
    borders: Box<[usize]>,
    /// Bytes matched so far: the longest suffix of the text that is a prefix of the stop string.
    matched: usize,
}

impl Stop {
    fn new(text: &str) -> Stop {
        let text: Box<[u8]> = text.as_bytes().into();
        let mut borders = vec![0; text.len()];
        let mut border = 0;
        for n in 1..text.len() {
            while border > 0 && text[n] != text[border] {
                border = borders[border - 1];
            }
            if text[n] == text[border] {
                border += 1;
            }
            borders[n] = border;
        }
        Stop { text, borders: borders.into(), matched: 0 }
    }

    /// Takes one byte; says whether it completes the string.
    fn advance(&mut self, byte: u8) -> bool {
        if self.matched == self.text.len() {
            self.matched = self.borders.last().copied().unwrap_or(0);
        }
        while self.matched > 0 && self.text[self.matched] != byte {
            self.matched = self.borders[self.matched - 1];
        }
        if self.text[self.matched] == byte {
            self.matched += 1;
        }
        self.matched == self.text.len()
    }
}

impl StopStrings {
    /// Watches for `stops`, none of which is empty.
    pub fn new(stops: &[String]) -> StopStrings {
        StopStrings { stops: stops.iter().map(|s| Stop::new(s)).collect(), held: String::new() }
    }

    /// Takes the next piece of text. Returns what has become certain, and the index of the stop string that ended it, after which
    /// nothing may be pushed.
    pub fn push(&mut self, piece: &str) -> (String, Option<usize>) {
        let before = self.held.len();
        self.held.push_str(piece);
        for (offset, byte) in piece.bytes().enumerate() {
            let mut ended: Option<usize> = None;
            for index in 0..self.stops.len() {
                let longest = ended.map_or(0, |e| self.stops[e].text.len());
                if self.stops[index].advance(byte) && self.stops[index].text.len() > longest {
                    ended = Some(index);
                }
            }
            if let Some(index) = ended {
                let start = before + offset + 1 - self.stops[index].text.len();
                let mut certain = std::mem::take(&mut self.held);
                certain.truncate(start);
                return (certain, Some(index));
            }
        }
        let keep = self.stops.iter().map(|s| s.matched).max().unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, kept), None)
    }

    /// The text is over and no stop string ended it: what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Watches a text that begins here: what came before is no part of any stop string. What was held back of it.
    pub fn begin_again(&mut self) -> String {
        self.stops.iter_mut().for_each(|stop| stop.matched = 0);
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
        // Nobody should, and nothing breaks.
        assert_eq!(watch.push("b").1, Some(1));
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
