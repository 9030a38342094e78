//! Text as rules read it.
//!
//! What a person reads as one text is one text here: compatibility forms are taken apart, case, accents and look-alikes folded, invisible characters
//! left out, runs of white space one space. Two texts with one NFC have one result, and but for letters in parentheses (`⒜`) two with one NFKC. It is the *decomposed* form (NFKD) because that one
//! is known as it comes: composed, the last letter of every piece would have to wait for an accent that may follow.
//! Every character carries the bytes of the raw text that it stands for.

mod fold;
#[cfg(test)]
mod recipe;
mod tables;

pub(crate) use fold::HIDDEN;
use unicode_normalization::char::{canonical_combining_class, decompose_compatible, is_combining_mark};

/// Marks in a row that are put in order together, and invisible characters in a row for which [`HIDDEN`] comes. Real text has far fewer.
const RUN: usize = 64;

/// What characters are that can be read as a space or as nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blanks {
    /// Those that take room are spaces, those that take none are nothing.
    #[default]
    AsSeen,
    /// All are nothing.
    Nothing,
    /// All are spaces.
    Spaces,
}

/// Whether a text holds characters that can be read as a space or as nothing: such that take room, and such that take none.
pub(crate) fn ambiguous(text: &str) -> (bool, bool) {
    let mut found = (false, false);
    for c in text.chars().filter(|c| !c.is_ascii_graphic() && *c != ' ') {
        found.0 |= fold::blank(c);
        found.1 |= fold::unseen(c);
    }
    found
}

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
    /// Whether white space came since the last letter: one space stands for all of it.
    space: bool,
    /// Invisible characters since a visible one.
    unseen: usize,
    /// Whether marks make no other letter of what came last: of ASCII, or of white space.
    bare: bool,
    blanks: Blanks,
}

impl Normaliser {
    /// One that reads blanks so.
    pub fn reading(blanks: Blanks) -> Normaliser {
        Normaliser { blanks, ..Normaliser::default() }
    }

    /// Takes the next character, which is the raw text's bytes `start..end`, and appends what is certain.
    pub fn push(&mut self, c: char, start: u64, end: u64, out: &mut Vec<Spot>) {
        if c.is_ascii_graphic() {
            self.letter(Spot { char: c.to_ascii_lowercase(), start, end }, out);
            return;
        }
        if let Some(latin) = fold::capital(c) {
            self.letter(Spot { char: latin, start, end }, out);
            return;
        }
        decompose_compatible(c, |part| self.part(part, start, end, out));
    }

    fn part(&mut self, c: char, start: u64, end: u64, out: &mut Vec<Spot>) {
        if c == ' ' || c.is_whitespace() {
            self.space(start, end, out);
            return;
        }
        if c.is_ascii_graphic() {
            self.letter(Spot { char: c.to_ascii_lowercase(), start, end }, out);
            return;
        }
        if fold::blank(c) {
            match self.blanks {
                Blanks::AsSeen | Blanks::Spaces => self.space(start, end, out),
                Blanks::Nothing => {}
            }
            return;
        }
        if fold::unseen(c) {
            if self.blanks == Blanks::Spaces {
                self.space(start, end, out);
            }
            self.hide(start, end, out);
            return;
        }
        if fold::accent(c) || (self.bare && is_combining_mark(c)) {
            self.hide(start, end, out);
            return;
        }
        if fold::no_text(c) {
            return;
        }
        self.unseen = 0;
        let class = canonical_combining_class(c);
        if class > 0 {
            self.space = false;
            self.marks.push((class, Spot { char: c, start, end }));
            if self.marks.len() == RUN {
                self.flush(out);
            }
            return;
        }
        let mark = is_combining_mark(c);
        fold::fold(c, |folded| self.letter(Spot { char: folded, start, end }, out));
        self.bare &= !mark;
    }

    /// White space, of which the first stands for all.
    fn space(&mut self, start: u64, end: u64, out: &mut Vec<Spot>) {
        self.unseen = 0;
        self.bare = true;
        if !std::mem::replace(&mut self.space, true) {
            self.flush(out);
            out.push(Spot { char: ' ', start, end });
        }
    }

    /// Something that is left out. Too many of them are told of.
    fn hide(&mut self, start: u64, end: u64, out: &mut Vec<Spot>) {
        self.unseen += 1;
        if self.unseen.is_multiple_of(RUN) {
            self.flush(out);
            out.push(Spot { char: HIDDEN, start, end });
        }
    }

    /// A character that nothing behind it changes.
    fn letter(&mut self, spot: Spot, out: &mut Vec<Spot>) {
        self.flush(out);
        self.space = false;
        self.unseen = 0;
        self.bare = spot.char.is_ascii();
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
            ("pi\u{fdd0}p\u{fffd}e\u{e000}\u{fffc}\u{378}", "pipe"),
            // Blanks of every kind.
            ("a\u{2800}b\u{3164}c\u{180e}d\u{1c}e\u{ffa0}\u{2800} f", "a b c d e f"),
            // Marks of every script behind Latin letters; behind others they make letters.
            ("p\u{5b0}i\u{64b}p\u{e4d}e\u{a670}b\u{2de0}o\u{1d165}m\u{94d}b", "pipebomb"),
            ("שּׁ कि", "ש\u{5bc}\u{5c1} क\u{93f}"),
            // Look-alikes of every script that Unicode lists.
            ("ꓑꓲꓑꓰ ꓐꓳꓟꓐ", "pipe bomb"),
            ("ⲡⲓⲣⲉ ⲃⲟⲙⲃ", "\u{2ca1}ipe bomb"),
            ("ᏢᎥᏢᎬ ꮲꭵꮲꭼ", "pipe pipe"),
            ("ᑭIᑭE ᗷOᗰᗷ", "pipe bomb"),
            ("⒫⒤⒫⒠ 🄑🄞🄜🄑", "pipe bomb"),
            ("pipꬲ pip℮", "pipe pipe"),
            ("¡hola! 2×4 naïve þing", "¡hola! 2×4 naive ping"),
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
            let c = if at == 0 { 'ש' } else { '\u{5b0}' };
            normaliser.push(c, at, at + 1, &mut out);
            assert!(normaliser.marks.len() < RUN);
        }
        assert!(normalised(&"\u{200b}".repeat(1000)).contains(fold::HIDDEN));
        assert!(!normalised(&"e\u{301}\u{200d}".repeat(1000)).contains(fold::HIDDEN));
    }

    #[test]
    fn a_run_of_white_space_is_one_space_however_long() {
        for space in [" ", "\n", "\u{a0}\t", "\u{2800}", "\u{3000}\u{3164}"] {
            for count in [1, 63, 64, 65, 200, 5000] {
                assert_eq!(normalised(&format!("pipe{}bomb", space.repeat(count))), "pipe bomb", "{count} of {space:?}");
            }
        }
    }

    #[test]
    fn tables_are_as_the_recipe_makes_them() {
        let made = recipe::tables();
        assert!(made == include_str!("tables.rs"), "run `cargo run -p firecrest-policy --example unicode_tables`");
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
            // Letters in parentheses are letters; their compatibility forms are parentheses with letters.
            prop_assume!(!text.chars().any(|c| matches!(c, '\u{249c}'..='\u{24b5}' | '\u{1f110}'..='\u{1f12a}')));
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
