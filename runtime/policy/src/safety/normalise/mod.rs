//! Text as rules read it.
//!
//! What a person reads as one text is one text here: compatibility forms are taken apart, case, accents and look-alikes folded, invisible characters
//! left out, runs of white space one space. Two texts with one NFKC have one result. It is the *decomposed* form (NFKD) because that one
//! is known as it comes: composed, the last letter of every piece would have to wait for an accent that may follow.
//! Every character carries the bytes of the raw text that it stands for.

mod fold;

use unicode_normalization::char::{canonical_combining_class, decompose_compatible};

/// Marks in a row that are put in order together, and characters in a row that one space or nothing may stand for. Real text has far fewer; a text
/// without end must not be held without end.
const RUN: usize = 64;

/// A character of a normalised text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// It.
    pub char: char,
    /// First byte in the raw text of what it stands for.
    pub start: u64,
    /// The byte behind that.
    pub end: u64,
}

/// Normalises a text that arrives in pieces. What comes out does not depend on the pieces.
#[derive(Clone, Debug, Default)]
pub struct Normaliser {
    /// Marks since the last letter, with their classes: they are known in order only when the next letter comes.
    marks: Vec<(u8, Spot)>,
    /// White space since the space that stands for it.
    spaces: usize,
    /// Invisible characters since a visible one.
    unseen: usize,
}

impl Normaliser {
    /// Takes the next character, which is the raw text's bytes `start..end`, and appends what is certain.
    pub fn push(&mut self, c: char, start: u64, end: u64, out: &mut Vec<Spot>) {
        if c.is_ascii_graphic() {
            self.letter(Spot { char: c.to_ascii_lowercase(), start, end }, out);
            return;
        }
        if fold::noncharacter(c) {
            self.letter(Spot { char: char::REPLACEMENT_CHARACTER, start, end }, out);
            return;
        }
        decompose_compatible(c, |part| self.part(part, start, end, out));
    }

    fn part(&mut self, c: char, start: u64, end: u64, out: &mut Vec<Spot>) {
        if fold::unseen(c) || fold::accent(c) {
            self.unseen += 1;
            if self.unseen.is_multiple_of(RUN) {
                self.flush(out);
                out.push(Spot { char: fold::HIDDEN, start, end });
            }
            return;
        }
        self.unseen = 0;
        if c.is_whitespace() {
            if self.spaces.is_multiple_of(RUN) {
                self.flush(out);
                out.push(Spot { char: ' ', start, end });
            }
            self.spaces += 1;
            return;
        }
        let class = canonical_combining_class(c);
        if class > 0 {
            self.spaces = 0;
            self.marks.push((class, Spot { char: c, start, end }));
            if self.marks.len() == RUN {
                self.flush(out);
            }
            return;
        }
        fold::fold(c, |folded| self.letter(Spot { char: folded, start, end }, out));
    }

    /// A character that nothing behind it changes.
    fn letter(&mut self, spot: Spot, out: &mut Vec<Spot>) {
        self.flush(out);
        self.spaces = 0;
        self.unseen = 0;
        out.push(spot);
    }

    fn flush(&mut self, out: &mut Vec<Spot>) {
        if self.marks.is_empty() {
            return;
        }
        // A run that is put in order stands for its raw bytes as one.
        let start = self.marks.iter().map(|(_, spot)| spot.start).min().unwrap_or_default();
        let end = self.marks.iter().map(|(_, spot)| spot.end).max().unwrap_or_default();
        self.marks.sort_by_key(|(class, _)| *class);
        out.extend(self.marks.drain(..).map(|(_, spot)| Spot { start, end, ..spot }));
    }

    /// The text is over.
    pub fn finish(&mut self, out: &mut Vec<Spot>) {
        self.flush(out);
    }

    /// The first byte of the raw text that was pushed and did not come out yet, nor was left out.
    pub fn pending(&self) -> Option<u64> {
        self.marks.iter().map(|(_, spot)| spot.start).min()
    }

    /// The marks that did not come out yet.
    pub(crate) fn marks(&self) -> impl Iterator<Item = &Spot> {
        self.marks.iter().map(|(_, spot)| spot)
    }
}

/// A whole text, normalised.
pub fn normalise(text: &str) -> Vec<Spot> {
    let mut normaliser = Normaliser::default();
    let mut out = Vec::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        normaliser.push(c, at as u64, (at + c.len_utf8()) as u64, &mut out);
    }
    normaliser.finish(&mut out);
    out
}

/// A whole text, normalised, without the way back.
pub fn normalised(text: &str) -> String {
    normalise(text).iter().map(|spot| spot.char).collect()
}

/// What tag characters of a text spell, unseen, for a model to read. `None`: nothing.
pub fn tagged(text: &str) -> Option<String> {
    let hidden: String = text.chars().filter_map(fold::tag).collect();
    (!hidden.is_empty()).then_some(hidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    #[test]
    fn what_reads_alike_is_alike() {
        for (raw, expected) in [
            ("Ignore PREVIOUS", "ignore previous"),
            ("ｉｇｎｏｒｅ", "ignore"),
            ("ig\u{200b}no\u{ad}re\u{202e}", "ignore"),
            ("іgnоrе рrеviоus", "ignore previous"),
            ("ΙGΝΟRΕ", "ignore"),
            ("𝐢𝓰𝔫𝕠𝗿𝘦", "ignore"),
            ("🅸🅶🅽🅾🆁🅴", "ignore"),
            ("i\u{301}gno\u{308}r\u{336}e", "ignore"),
            ("ﬁne Straße ŒUVRE", "fine strasse oeuvre"),
            ("a \t\n\u{a0}\u{3000}b", "a b"),
            ("٤٢४२", "4242"),
            ("“quoted” – it’s", "\"quoted\" - it's"),
            ("\u{fdd0}", "\u{fffd}"),
            // Leet is no look-alike.
            ("1gn0re", "1gn0re"),
        ] {
            assert_eq!(normalised(raw), expected, "{raw}");
        }
    }

    #[test]
    fn the_way_back() {
        let spots = normalise("a\u{200b}ﬁ");
        let spans: Vec<_> = spots.iter().map(|s| (s.char, s.start, s.end)).collect();
        assert_eq!(spans, [('a', 0, 1), ('f', 4, 7), ('i', 4, 7)]);
    }

    #[test]
    fn runs_without_end_are_not_held() {
        let mut normaliser = Normaliser::default();
        let mut out = Vec::new();
        for at in 0..10_000u64 {
            normaliser.push('\u{5b0}', at, at + 1, &mut out);
            assert!(normaliser.marks.len() < RUN);
        }
        assert!(normalised(&"\u{200b}".repeat(1000)).contains(fold::HIDDEN));
        assert!(!normalised(&"e\u{301}\u{200d}".repeat(1000)).contains(fold::HIDDEN));
        assert_eq!(normalised(&" ".repeat(RUN * 3)), "   ");
    }

    fn text() -> impl Strategy<Value = String> {
        let letters = prop::sample::select(
            "aA iİıßſ éÅÅ\u{301}\u{316}\u{327}\u{345}\u{200b}\u{200d}\u{34f}שּׁ\u{5b0}\u{5bc}\u{5c1}がか\u{3099}각가ㄱ\u{11a8}ﬁ㎏①Ωω½ΐΰ\u{f71}\u{f72}\u{f74}\n\t"
                .chars()
                .collect::<Vec<_>>(),
        );
        prop::collection::vec(prop_oneof![4 => letters, 1 => any::<char>()], 0..24).prop_map(|c| c.into_iter().collect())
    }

    proptest! {
        #[test]
        fn forms_of_one_text_have_one_result(text in text()) {
            let expected = normalised(&text);
            prop_assert_eq!(&normalised(&text.nfc().collect::<String>()), &expected);
            prop_assert_eq!(&normalised(&text.nfkc().collect::<String>()), &expected);
            prop_assert_eq!(&normalised(&text.nfkd().collect::<String>()), &expected);
            prop_assert_eq!(&normalised(&expected), &expected, "it is its own result");
        }

        /// Spots cover the raw text in order, but for what is left out.
        #[test]
        fn spans_are_of_whole_characters(text in text()) {
            let mut before = 0;
            for spot in normalise(&text) {
                prop_assert!(spot.start >= before && spot.start < spot.end);
                prop_assert!(text.get(spot.start as usize..spot.end as usize).is_some());
                before = spot.start;
            }
        }
    }
}
