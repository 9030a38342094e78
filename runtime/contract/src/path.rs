//! Where in a body something stands.

use std::fmt;
use std::ops::Deref;

use crate::error::plain;

/// Stands before a key that looks like an index, where a path has to travel as text. No path holds it otherwise: names lose their control characters.
const KEY: char = '\u{2}';

/// The path to a leaf of a body, dotted: `messages.0.content`. It reads as that text. Of a segment of digits alone the text can't say whether it is an
/// index or a key of the caller's (`logit_bias.5`), which dialects that write indexes in brackets must know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    text: String,
    /// Bit n: its nth segment is a key, though it looks like an index. No body has such keys deeper than there are bits.
    keys: u64,
}

/// A step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    /// Into an object.
    Key(&'a str),
    /// Into an array.
    Index(usize),
}

impl Path {
    /// The dotted text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// On into an object. A key may be anything: it is cut, and not taken for structure.
    #[must_use]
    pub fn key(mut self, name: &str) -> Path {
        let name = plain(name);
        for (nth, _) in name.split('.').enumerate().filter(|(_, part)| index(part).is_some()) {
            self.keys |= bit(self.steps() + nth);
        }
        self.dot();
        self.text.push_str(&name);
        self
    }

    /// On into an array.
    #[must_use]
    pub fn index(mut self, index: usize) -> Path {
        self.dot();
        self.text.push_str(&index.to_string());
        self
    }

    /// On by a step of another path.
    #[must_use]
    pub fn step(self, segment: Segment<'_>) -> Path {
        match segment {
            Segment::Key(name) => self.key(name),
            Segment::Index(at) => self.index(at),
        }
    }

    /// On along another path.
    #[must_use]
    pub fn join(mut self, rest: &Path) -> Path {
        if !rest.text.is_empty() {
            self.keys |= u32::try_from(self.steps()).ok().and_then(|by| rest.keys.checked_shl(by)).unwrap_or(0);
            self.dot();
            self.text.push_str(&rest.text);
        }
        self
    }

    /// Its steps, in order. A key with dots in it is taken for several.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        self.text.split('.').enumerate().map(|(nth, segment)| {
            let index = index(segment).filter(|_| self.keys & bit(nth) == 0);
            index.map_or(Segment::Key(segment), Segment::Index)
        })
    }

    /// How many steps it has.
    fn steps(&self) -> usize {
        if self.text.is_empty() { 0 } else { self.text.split('.').count() }
    }

    /// As text from which [`Path::from_marked`] makes the same path.
    pub(crate) fn marked(&self) -> String {
        let segments = self.text.split('.').enumerate();
        let marked = segments.map(|(nth, segment)| if self.keys & bit(nth) == 0 { segment.to_owned() } else { format!("{KEY}{segment}") });
        marked.collect::<Vec<_>>().join(".")
    }

    pub(crate) fn from_marked(marked: &str) -> Path {
        let marks = marked.split('.').enumerate().filter(|(_, segment)| segment.starts_with(KEY));
        Path { keys: marks.fold(0, |keys, (nth, _)| keys | bit(nth)), text: marked.replace(KEY, "") }
    }

    fn dot(&mut self) {
        if !self.text.is_empty() {
            self.text.push('.');
        }
    }
}

fn bit(nth: usize) -> u64 {
    u32::try_from(nth).ok().and_then(|nth| 1_u64.checked_shl(nth)).unwrap_or(0)
}

/// What a segment would be as an index.
fn index(segment: &str) -> Option<usize> {
    segment.bytes().all(|b| b.is_ascii_digit()).then(|| segment.parse().ok())?
}

/// A path in our own words, whose digits are indexes.
impl From<String> for Path {
    fn from(text: String) -> Path {
        Path { text, keys: 0 }
    }
}

impl From<&str> for Path {
    fn from(text: &str) -> Path {
        text.to_owned().into()
    }
}

impl From<&String> for Path {
    fn from(text: &String) -> Path {
        text.as_str().into()
    }
}

impl From<&Path> for Path {
    fn from(path: &Path) -> Path {
        path.clone()
    }
}

impl Deref for Path {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_look_like_indexes() {
        let path = Path::from("tools.0").key("5").index(7).join(&Path::default().key("12").key("a\u{2}b"));
        assert_eq!(path.as_str(), "tools.0.5.7.12.a\u{fffd}b");
        let expected = [
            Segment::Key("tools"),
            Segment::Index(0),
            Segment::Key("5"),
            Segment::Index(7),
            Segment::Key("12"),
            Segment::Key("a\u{fffd}b"),
        ];
        assert_eq!(path.segments().collect::<Vec<_>>(), expected);
        assert_eq!(Path::from_marked(&path.marked()), path);
        assert_eq!(Path::default().key("a.5").segments().collect::<Vec<_>>(), [Segment::Key("a"), Segment::Key("5")]);
        // One that is deeper than anybody looks.
        let deep = (0..80).fold(Path::default(), |path, _| path.key("1"));
        assert_eq!(deep.segments().filter(|segment| *segment == Segment::Key("1")).count(), 64);
        assert_eq!(Path::from_marked(&deep.clone().join(&deep).marked()), deep.clone().join(&deep));
        assert_eq!(Path::from_marked(""), Path::default());
    }
}
