//! Calls as Python writes them: `[f(a=1, b='x'), g()]`.

use serde_json::{Map, Number, Value};

/// Reads a list of calls character by character; a call is told when it is whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    state: State,
    name: String,
    arguments: String,
    /// Whether a call is whole.
    any: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Before,
    /// A name, or, behind a comma, the end.
    NameOrEnd,
    InName,
    /// Within the parentheses, so many brackets deeper.
    InArguments {
        depth: u32,
        quote: Option<char>,
        escaped: bool,
    },
    CommaOrEnd,
    Done,
}

/// What a character made known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    Nothing,
    /// A call begins.
    Name(String),
    /// It is whole; the arguments as JSON.
    Whole(String),
}

/// Nothing that calls a tool nests deeper.
const DEEPEST: u32 = 60;

/// Longest name of a tool.
const LONGEST_NAME: usize = 128;

impl Calls {
    /// The next character; `None` where it can't stand there.
    pub(super) fn push(&mut self, c: char) -> Option<Found> {
        let space = matches!(c, ' ' | '\t' | '\n' | '\r');
        self.state = match self.state {
            State::Before if c == '[' => State::NameOrEnd,
            State::NameOrEnd | State::CommaOrEnd if space => self.state,
            State::NameOrEnd if c == ']' && self.any => State::Done,
            State::CommaOrEnd if c == ']' => State::Done,
            State::NameOrEnd | State::InName if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') => {
                self.name.push(c);
                if self.name.len() > LONGEST_NAME {
                    return None;
                }
                State::InName
            }
            State::InName if c == '(' => {
                self.state = State::InArguments { depth: 0, quote: None, escaped: false };
                return Some(Found::Name(std::mem::take(&mut self.name)));
            }
            State::InArguments { depth: 0, quote: None, .. } if c == ')' => {
                (self.state, self.any) = (State::CommaOrEnd, true);
                let arguments = arguments(&std::mem::take(&mut self.arguments))?;
                return Some(Found::Whole(arguments));
            }
            State::InArguments { depth, quote, escaped } => {
                self.arguments.push(c);
                match (quote, c) {
                    (Some(_), _) if escaped => State::InArguments { depth, quote, escaped: false },
                    (Some(_), '\\') => State::InArguments { depth, quote, escaped: true },
                    (Some(open), c) if c == open => State::InArguments { depth, quote: None, escaped },
                    (Some(_), _) => self.state,
                    (None, '"' | '\'') => State::InArguments { depth, quote: Some(c), escaped },
                    (None, '(' | '[' | '{') if depth == DEEPEST => return None,
                    (None, '(' | '[' | '{') => State::InArguments { depth: depth + 1, quote, escaped },
                    (None, ')' | ']' | '}') => State::InArguments { depth: depth.checked_sub(1)?, quote, escaped },
                    (None, _) => self.state,
                }
            }
            State::CommaOrEnd if c == ',' => State::NameOrEnd,
            _ => return None,
        };
        Some(Found::Nothing)
    }

    /// Whether nothing came.
    pub(super) fn is_new(&self) -> bool {
        self.state == State::Before
    }

    /// Whether the list is whole.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

/// Keyword arguments as a JSON object's text.
fn arguments(text: &str) -> Option<String> {
    let mut reader = Reader { rest: text };
    let mut members = Map::new();
    reader.space();
    while !reader.rest.is_empty() {
        let name = reader.name()?;
        reader.space();
        reader.take("=")?;
        members.insert(name.to_owned(), reader.value()?);
        reader.space();
        if !reader.rest.is_empty() {
            reader.take(",")?;
            reader.space();
        }
    }
    serde_json::to_string(&members).ok()
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, text: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    fn word(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !of(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn name(&mut self) -> Option<&'a str> {
        let name = self.word(|c| c.is_alphanumeric() || c == '_' || c == '-');
        (!name.is_empty()).then_some(name)
    }

    /// A literal. Nesting was measured before.
    fn value(&mut self) -> Option<Value> {
        self.space();
        match self.rest.chars().next()? {
            '"' | '\'' => self.string().map(Value::String),
            '[' => self.list("[", "]"),
            '(' => self.list("(", ")"),
            '{' => self.dict(),
            c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => self.number(),
            _ => match self.word(|c| c.is_ascii_alphanumeric()) {
                "True" | "true" => Some(Value::Bool(true)),
                "False" | "false" => Some(Value::Bool(false)),
                "None" | "null" => Some(Value::Null),
                _ => None,
            },
        }
    }

    fn list(&mut self, open: &str, close: &str) -> Option<Value> {
        self.take(open)?;
        let mut items = Vec::new();
        loop {
            self.space();
            if self.take(close).is_some() {
                return Some(Value::Array(items));
            }
            items.push(self.value()?);
            self.comma_or(close)?;
        }
    }

    fn dict(&mut self) -> Option<Value> {
        self.take("{")?;
        let mut members = Map::new();
        loop {
            self.space();
            if self.take("}").is_some() {
                return Some(Value::Object(members));
            }
            let name = self.string()?;
            self.space();
            self.take(":")?;
            members.insert(name, self.value()?);
            self.comma_or("}")?;
        }
    }

    fn comma_or(&mut self, close: &str) -> Option<()> {
        self.space();
        if self.rest.starts_with(close) { Some(()) } else { self.take(",") }
    }

    fn number(&mut self) -> Option<Value> {
        let text = self.word(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_')).replace('_', "");
        let text = text.strip_prefix('+').unwrap_or(&text);
        if let Ok(whole) = text.parse::<i64>() {
            return Some(Value::from(whole));
        }
        // Rust reads `nan` and `infinity` as numbers too; JSON has neither.
        text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number)
    }

    fn string(&mut self) -> Option<String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let mut chars = self.rest[1..].chars();
        let mut text = String::new();
        loop {
            match chars.next()? {
                c if c == quote => break,
                '\\' => match chars.next()? {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    '0' => text.push('\0'),
                    '\n' => {}
                    'x' => text.push(hex(&mut chars, 2)?),
                    'u' => {
                        let high = hex_digits(&mut chars, 4)?;
                        // JSON's habit of writing one character as two halves.
                        let code = if (0xd800..0xdc00).contains(&high) {
                            (chars.next()? == '\\' && chars.next()? == 'u').then_some(())?;
                            let low = hex_digits(&mut chars, 4)?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                            0x10000 + ((high - 0xd800) << 10) + low
                        } else {
                            high
                        };
                        text.push(char::from_u32(code)?);
                    }
                    'U' => text.push(hex(&mut chars, 8)?),
                    c @ ('\\' | '\'' | '"' | '/') => text.push(c),
                    // As Python does.
                    c => text.extend(['\\', c]),
                },
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }
}

fn hex_digits(chars: &mut std::str::Chars<'_>, count: usize) -> Option<u32> {
    (0..count).try_fold(0, |code, _| Some(code << 4 | chars.next()?.to_digit(16)?))
}

fn hex(chars: &mut std::str::Chars<'_>, count: usize) -> Option<char> {
    hex_digits(chars, count).and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_become_json() {
        let json = |text: &str| arguments(text);
        assert_eq!(json("").as_deref(), Some("{}"));
        assert_eq!(json(" a = 1 , b='it\\'s',").as_deref(), Some(r#"{"a":1,"b":"it's"}"#));
        assert_eq!(
            json(r#"a=True, b=None, c=-2.5, d=[1, (2,), {'x': "y", "z": []}], e='\u00e9\ud83d\ude00\x41\d'"#).as_deref(),
            Some(r#"{"a":true,"b":null,"c":-2.5,"d":[1,[2],{"x":"y","z":[]}],"e":"é😀A\\d"}"#)
        );
        for wrong in ["a", "a=", "1", "a=b", "a=1 b=2", "a='x", "a=[1", "a=nan", r"a='\ud83d'", "a=1-2"] {
            assert_eq!(json(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lists_of_calls_end_where_they_close() {
        let mut calls = Calls::default();
        let mut told = Vec::new();
        for c in "[ f(a=')', b=[(1)]), g.h() ]".chars() {
            match calls.push(c).expect("a call") {
                Found::Nothing => {}
                found => told.push(found),
            }
        }
        assert!(calls.is_done());
        let whole = |json: &str| Found::Whole(json.to_owned());
        assert_eq!(told, [Found::Name("f".into()), whole(r#"{"a":")","b":[[1]]}"#), Found::Name("g.h".into()), whole("{}")]);
        for wrong in ["f", "[(", "[1 ", "[f(])", "[f(a)", "[f()x"] {
            let mut calls = Calls::default();
            assert!(wrong.chars().any(|c| calls.push(c).is_none()), "{wrong}");
        }
    }
}
