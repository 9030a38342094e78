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
    /// Where in the text keys that look like indexes begin, in order.
    keys: Vec<usize>,
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
        self.dot();
        if index(&name).is_some() {
            self.keys.push(self.text.len());
        }
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
            self.dot();
            self.keys.extend(rest.keys.iter().map(|at| self.text.len() + at));
            self.text.push_str(&rest.text);
        }
        self
    }

    /// Its steps, in order. A key with dots in it is taken for several.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let mut at = 0;
        self.text.split('.').map(move |segment| {
            let index = index(segment).filter(|_| self.keys.binary_search(&at).is_err());
            at += segment.len() + 1;
            index.map_or(Segment::Key(segment), Segment::Index)
        })
    }

    /// As text from which [`Path::from_marked`] makes the same path.
    pub(crate) fn marked(&self) -> String {
        let mut marked = String::with_capacity(self.text.len() + self.keys.len());
        let mut from = 0;
        for at in &self.keys {
            marked.push_str(&self.text[from..*at]);
            marked.push(KEY);
            from = *at;
        }
        marked.push_str(&self.text[from..]);
        marked
    }

    pub(crate) fn from_marked(marked: &str) -> Path {
        let mut path = Path::default();
        for (nth, part) in marked.split(KEY).enumerate() {
            if nth > 0 {
                path.keys.push(path.text.len());
            }
            path.text.push_str(part);
        }
        path
    }

    fn dot(&mut self) {
        if !self.text.is_empty() {
            self.text.push('.');
        }
    }
}

/// What a segment would be as an index.
fn index(segment: &str) -> Option<usize> {
    segment.bytes().all(|b| b.is_ascii_digit()).then(|| segment.parse().ok())?
}

/// A path in our own words, whose digits are indexes.
impl From<String> for Path {
    fn from(text: String) -> Path {
        Path { text, keys: Vec::new() }
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
        assert_eq!(Path::from_marked(""), Path::default());
    }
}
