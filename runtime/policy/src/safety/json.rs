//! Strings of a JSON text as they come, decoded.

/// What a byte of JSON text brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A string begins.
    Begin,
    /// A character of the open string, which is the raw text's bytes from here to where the reader is.
    Char(char, u64),
    /// The string ends.
    End,
}

/// Reads JSON text character by character and sees its strings, keys as well as values. It holds no more than one escape, and knows no errors: text
/// that is no JSON, or cut, has strings all the same.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Strings {
    state: State,
    /// Where the open escape began.
    from: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Outside,
    Inside,
    /// Behind a backslash, and the high surrogate before it.
    Escape(Option<u16>),
    /// Behind `\u` and so many digits.
    Hex {
        high: Option<u16>,
        digits: u8,
        value: u16,
    },
    /// Behind a high surrogate.
    Surrogate(u16),
}

impl Strings {
    /// Takes the next character, the raw text's bytes from `start` on.
    pub(crate) fn push(&mut self, c: char, start: u64, mut emit: impl FnMut(Piece)) {
        match self.state {
            State::Outside => {
                if c == '"' {
                    self.state = State::Inside;
                    emit(Piece::Begin);
                }
            }
            State::Inside => self.inside(c, start, emit),
            State::Surrogate(high) => {
                if c == '\\' {
                    self.state = State::Escape(Some(high));
                } else {
                    emit(Piece::Char(char::REPLACEMENT_CHARACTER, self.from));
                    self.inside(c, start, emit);
                }
            }
            State::Escape(high) => {
                if c == 'u' {
                    self.state = State::Hex { high, digits: 0, value: 0 };
                    return;
                }
                if high.is_some() {
                    emit(Piece::Char(char::REPLACEMENT_CHARACTER, self.from));
                }
                self.state = State::Inside;
                let decoded = match c {
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                };
                emit(Piece::Char(decoded, self.from));
            }
            State::Hex { high, digits, value } => {
                let Some(digit) = c.to_digit(16) else {
                    // No escape: what stands there is taken as a reader might that forgives.
                    emit(Piece::Char(char::REPLACEMENT_CHARACTER, self.from));
                    self.inside(c, start, emit);
                    return;
                };
                let value = (value << 4) | digit as u16;
                if digits < 3 {
                    self.state = State::Hex { high, digits: digits + 1, value };
                    return;
                }
                self.unit(high, value, emit);
            }
        }
    }

    fn inside(&mut self, c: char, start: u64, mut emit: impl FnMut(Piece)) {
        self.state = State::Inside;
        match c {
            '"' => {
                self.state = State::Outside;
                emit(Piece::End);
            }
            '\\' => {
                self.state = State::Escape(None);
                self.from = start;
            }
            c => emit(Piece::Char(c, start)),
        }
    }

    /// A UTF-16 unit was escaped, and perhaps one before it.
    fn unit(&mut self, high: Option<u16>, unit: u16, mut emit: impl FnMut(Piece)) {
        self.state = State::Inside;
        if let Some(high) = high {
            match char::decode_utf16([high, unit]).next() {
                Some(Ok(whole)) => return emit(Piece::Char(whole, self.from)),
                _ => emit(Piece::Char(char::REPLACEMENT_CHARACTER, self.from)),
            }
        }
        match char::from_u32(unit.into()) {
            Some(c) => emit(Piece::Char(c, self.from)),
            None if unit < 0xdc00 => self.state = State::Surrogate(unit),
            None => emit(Piece::Char(char::REPLACEMENT_CHARACTER, self.from)),
        }
    }

    /// Where the open escape began: it may become a character of what is held.
    pub(crate) fn pending(&self) -> Option<u64> {
        (!matches!(self.state, State::Outside | State::Inside)).then_some(self.from)
    }
}

/// Every string of a JSON text.
#[cfg(test)]
pub(crate) fn strings(text: &str) -> Vec<String> {
    let mut reader = Strings::default();
    let mut found: Vec<String> = Vec::new();
    for (at, c) in text.char_indices() {
        reader.push(c, at as u64, |piece| match piece {
            Piece::Begin => found.push(String::new()),
            Piece::Char(c, _) => found.last_mut().into_iter().for_each(|string| string.push(c)),
            Piece::End => {}
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes() {
        assert_eq!(strings(r#"{"a\n\u0062": ["\ud83d\ude00", "\"\\\/", 3, ""]}"#), ["a\nb", "😀", "\"\\/", ""]);
        assert_eq!(
            strings(r#"["\ud83dx", "\udc00", "\ud83d\n", "\ud83d\u0041", "\u00g1"]"#),
            ["\u{fffd}x", "\u{fffd}", "\u{fffd}\n", "\u{fffd}A", "\u{fffd}g1"]
        );
        assert_eq!(strings(r#"{"cut": "of"#), ["cut", "of"]);
    }

    proptest! {
        #[test]
        fn as_serde_reads_them(texts in prop::collection::vec(any::<String>(), 0..6)) {
            let json = serde_json::to_string(&texts).expect("JSON");
            prop_assert_eq!(&strings(&json), &texts);
            let escaped: String = json.chars().map(|c| if c.is_ascii() { c.to_string() } else {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            }).collect();
            prop_assert_eq!(strings(&escaped), texts);
        }
    }
}
