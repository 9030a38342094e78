//! JSON that arrives character by character, held to its grammar.

/// Says of each next character whether an object's JSON can go on with it. So whatever was let pass is the beginning of an object's JSON.
#[derive(Clone, Debug, Default)]
pub(super) struct Json {
    state: State,
    /// Open brackets: whether each is an object's.
    open: Vec<bool>,
    /// The number that is open.
    number: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing came.
    #[default]
    Before,
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    Colon,
    /// A comma or the end.
    Behind,
    String {
        name: bool,
    },
    Escape {
        name: bool,
    },
    /// So many digits of an escape are missing. `low`: it must be the second half of a pair.
    Hex {
        name: bool,
        missing: u8,
        value: u16,
        low: bool,
    },
    /// Behind the first half of a pair: so many characters of `\u`.
    Pair {
        name: bool,
        come: u8,
    },
    /// So many characters of a word came.
    Word(&'static str, usize),
    Number(Digits),
    Done,
}

/// How far a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digits {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

/// Nothing that calls a tool nests deeper; `serde_json` would not read it.
const DEEPEST: usize = 120;

/// No number is longer.
const LONGEST_NUMBER: usize = 1024;

impl Json {
    /// The next character. False where no object's JSON goes on so.
    pub(super) fn push(&mut self, c: char) -> bool {
        let space = matches!(c, ' ' | '\t' | '\n' | '\r');
        let next = match self.state {
            State::Before if c == '{' => self.enter(true),
            State::Value | State::ValueOrEnd | State::Name | State::NameOrEnd | State::Colon | State::Behind if space => Some(self.state),
            State::ValueOrEnd if c == ']' => self.leave(false),
            State::NameOrEnd if c == '}' => self.leave(true),
            State::Value | State::ValueOrEnd => match c {
                '{' | '[' => self.enter(c == '{'),
                '"' => Some(State::String { name: false }),
                't' => Some(State::Word("true", 1)),
                'f' => Some(State::Word("false", 1)),
                'n' => Some(State::Word("null", 1)),
                '-' | '0'..='9' => {
                    self.number = c.to_string();
                    Some(State::Number(match c {
                        '-' => Digits::Minus,
                        '0' => Digits::Zero,
                        _ => Digits::Whole,
                    }))
                }
                _ => None,
            },
            State::Name | State::NameOrEnd => (c == '"').then_some(State::String { name: true }),
            State::Colon => (c == ':').then_some(State::Value),
            State::Behind => self.behind(c),
            State::String { name } => match c {
                '"' => Some(if name { State::Colon } else { State::Behind }),
                '\\' => Some(State::Escape { name }),
                c => (c >= ' ').then_some(self.state),
            },
            State::Escape { name } => match c {
                'u' => Some(State::Hex { name, missing: 4, value: 0, low: false }),
                '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => Some(State::String { name }),
                _ => None,
            },
            State::Hex { name, missing, value, low } => c.to_digit(16).and_then(|digit| {
                let value = value << 4 | digit as u16;
                match (missing, value) {
                    (2.., _) => Some(State::Hex { name, missing: missing - 1, value, low }),
                    (_, 0xdc00..=0xdfff) => low.then_some(State::String { name }),
                    (_, 0xd800..=0xdbff) => (!low).then_some(State::Pair { name, come: 0 }),
                    _ => (!low).then_some(State::String { name }),
                }
            }),
            State::Pair { name, come: 0 } => (c == '\\').then_some(State::Pair { name, come: 1 }),
            State::Pair { name, .. } => (c == 'u').then_some(State::Hex { name, missing: 4, value: 0, low: true }),
            State::Word(word, come) => (word.as_bytes().get(come).copied().map(char::from) == Some(c))
                .then_some(if come + 1 == word.len() { State::Behind } else { State::Word(word, come + 1) }),
            State::Number(digits) => self.digit(digits, c),
            State::Before | State::Done => None,
        };
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }

    /// Whether the object is whole.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn enter(&mut self, object: bool) -> Option<State> {
        self.open.push(object);
        (self.open.len() <= DEEPEST).then_some(if object { State::NameOrEnd } else { State::ValueOrEnd })
    }

    fn leave(&mut self, object: bool) -> Option<State> {
        (self.open.pop() == Some(object)).then_some(if self.open.is_empty() { State::Done } else { State::Behind })
    }

    fn behind(&mut self, c: char) -> Option<State> {
        match (c, self.open.last()) {
            (',', Some(object)) => Some(if *object { State::Name } else { State::Value }),
            ('}' | ']', _) => self.leave(c == '}'),
            _ => None,
        }
    }

    fn digit(&mut self, digits: Digits, c: char) -> Option<State> {
        use Digits::{Exponent, Fraction, Minus, Point, Power, Sign, Whole, Zero};
        let next = match (digits, c) {
            (Minus, '0') => Zero,
            (Minus | Whole, '0'..='9') => Whole,
            (Zero | Whole, '.') => Point,
            (Point | Fraction, '0'..='9') => Fraction,
            (Zero | Whole | Fraction, 'e' | 'E') => Exponent,
            (Exponent, '+' | '-') => Sign,
            (Exponent | Sign | Power, '0'..='9') => Power,
            (Zero | Whole | Fraction | Power, ' ' | '\t' | '\n' | '\r') => return Some(State::Behind),
            (Zero | Whole | Fraction | Power, ',' | '}' | ']') => return self.behind(c),
            _ => return None,
        };
        self.number.push(c);
        // What no reader can hold is no number: only long ones and powers may be.
        let holds = self.number.len() < 300 && next != Power || self.number.parse::<f64>().is_ok_and(f64::is_finite);
        (holds && self.number.len() <= LONGEST_NUMBER).then_some(State::Number(next))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn read(text: &str) -> Option<bool> {
        let mut json = Json::default();
        text.chars().all(|c| json.push(c)).then_some(json.state == State::Done)
    }

    #[test]
    fn as_serde_reads_it() {
        for text in [
            "{}",
            r#"{"a":1}"#,
            r#"{ "a" : [ 1 , -0.5e+3, true,false , null, {"b":"\u00e9\ud83d\ude00\n"} ] }"#,
            r#"{"a":[]}"#,
            r#"{"":{}}"#,
            "[]",
            "1",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":[1,]}"#,
            r#"{,}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":.5}"#,
            r#"{"a":+1}"#,
            r#"{"a":1e}"#,
            r#"{"a":-}"#,
            r#"{"a":tru}"#,
            r#"{"a":nul1}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\ud800\u0041"}"#,
            r#"{"a":"\udc00"}"#,
            "{\"a\":\"\n\"}",
            r#"{"a":1e999}"#,
            r#"{"a":1e308}"#,
            r#"{"a":[}"#,
            r#"{"a":{]}"#,
            r#"{}x"#,
            r#"{"a":1 2}"#,
            r#"{"a" "b"}"#,
        ] {
            let object = serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object());
            assert_eq!(read(text) == Some(true), object, "{text}");
        }
        let deep = |depth: usize| format!("{}{}", "{\"a\":".repeat(depth), "1");
        assert_eq!((read(&deep(DEEPEST)), read(&deep(DEEPEST + 1))), (Some(false), None));
        assert_eq!(read(&format!("{{\"a\":{}", "1".repeat(5000))), None);
    }

    proptest! {
        /// Whatever is let pass can be closed, and what is whole is an object.
        #[test]
        fn what_passes_is_a_beginning(text in r#"\{["a{}\[\]:,0-9.eE+\\u-]{0,24}"#) {
            let object = serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object());
            prop_assert_eq!(read(&text) == Some(true), object, "{}", text);
        }
    }
}
