//! Calls as Python writes them: `[f(a=1, b='x'), g()]`, made JSON as they come.

use serde_json::Number;

use super::call::Part;

/// Reads a list of calls character by character.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    state: State,
    /// The name or word or number that is open.
    word: String,
    /// JSON that is not told yet.
    json: String,
    /// Brackets that are open in the arguments of a call, each by what closes it.
    open: Vec<char>,
    /// Whether a keyword or member or item stands before the next one.
    more: bool,
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
    CommaOrEnd,
    /// A keyword, or the end of the call.
    Keyword,
    InKeyword,
    Equals,
    Value,
    /// An item of a list, or its end.
    ItemOrEnd,
    /// A member's name, or the dictionary's end.
    MemberOrEnd,
    Colon,
    /// Behind a value: a comma, or the end of what it stands in.
    Behind,
    Word,
    Number,
    String {
        quote: char,
        member: bool,
    },
    Escape {
        quote: char,
        member: bool,
    },
    /// So many digits of an escape are missing.
    Hex {
        quote: char,
        member: bool,
        missing: u8,
        code: u32,
        high: Option<u32>,
    },
    /// Behind the first half of a pair: so many characters of `\u`.
    Pair {
        quote: char,
        member: bool,
        come: u8,
        high: u32,
    },
    Done,
}

/// Nothing that calls a tool nests deeper.
const DEEPEST: usize = 60;

/// Longest name of a tool, and longest number.
const LONGEST_NAME: usize = 128;

impl Calls {
    /// The next character. False where it can't stand there.
    pub(super) fn push(&mut self, c: char, parts: &mut Vec<Part>) -> bool {
        match self.step(c, parts) {
            Some(state) => {
                self.state = state;
                true
            }
            None => false,
        }
    }

    /// Tells the arguments that have come.
    pub(super) fn settle(&mut self, parts: &mut Vec<Part>) {
        if !self.json.is_empty() {
            parts.push(Part::Arguments(std::mem::take(&mut self.json)));
        }
    }

    fn step(&mut self, c: char, parts: &mut Vec<Part>) -> Option<State> {
        let space = c.is_whitespace();
        match self.state {
            State::Before => (c == '[').then_some(State::NameOrEnd),
            State::NameOrEnd | State::CommaOrEnd if matches!(c, ' ' | '\t' | '\n' | '\r') => Some(self.state),
            State::NameOrEnd if c == ']' => self.any.then_some(State::Done),
            State::NameOrEnd | State::InName if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') => {
                self.word.push(c);
                (self.word.len() <= LONGEST_NAME).then_some(State::InName)
            }
            State::InName if c == '(' => {
                parts.push(Part::Name(std::mem::take(&mut self.word)));
                self.json.push('{');
                (self.more, self.open) = (false, vec![')']);
                Some(State::Keyword)
            }
            State::CommaOrEnd => match c {
                ']' => Some(State::Done),
                ',' => Some(State::NameOrEnd),
                _ => None,
            },
            State::NameOrEnd | State::InName | State::Done => None,
            State::Keyword | State::Equals | State::Value | State::ItemOrEnd | State::MemberOrEnd | State::Colon | State::Behind
                if space =>
            {
                Some(self.state)
            }
            State::Keyword if c == ')' => self.end(parts),
            State::Keyword | State::InKeyword if c.is_alphanumeric() || matches!(c, '_' | '-') => {
                self.word.push(c);
                (self.word.len() <= LONGEST_NAME).then_some(State::InKeyword)
            }
            State::InKeyword if space => Some(State::Equals),
            State::InKeyword | State::Equals if c == '=' => {
                let name = std::mem::take(&mut self.word);
                self.comma();
                self.json.push('"');
                name.chars().for_each(|c| self.text(c));
                self.json.push_str("\":");
                Some(State::Value)
            }
            State::Keyword | State::InKeyword | State::Equals => None,
            State::ItemOrEnd if self.open.last() == Some(&c) => self.close(']'),
            State::ItemOrEnd => {
                self.comma();
                self.value(c)
            }
            State::Value => self.value(c),
            State::MemberOrEnd => match c {
                '}' => self.close('}'),
                '"' | '\'' => {
                    self.comma();
                    self.json.push('"');
                    Some(State::String { quote: c, member: true })
                }
                _ => None,
            },
            State::Colon => (c == ':').then(|| {
                self.json.push(':');
                State::Value
            }),
            State::Behind => self.behind(c, parts),
            State::Word if c.is_ascii_alphanumeric() => {
                self.word.push(c);
                (self.word.len() <= "False".len()).then_some(State::Word)
            }
            State::Word => {
                self.json.push_str(match std::mem::take(&mut self.word).as_str() {
                    "True" | "true" => "true",
                    "False" | "false" => "false",
                    "None" | "null" => "null",
                    _ => return None,
                });
                self.behind(c, parts)
            }
            State::Number if c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_') => {
                self.word.push(c);
                (self.word.len() <= LONGEST_NAME).then_some(State::Number)
            }
            State::Number => {
                let number = number(&std::mem::take(&mut self.word))?;
                self.json.push_str(&number);
                self.behind(c, parts)
            }
            State::String { quote, member } => Some(match c {
                c if c == quote => {
                    self.json.push('"');
                    if member { State::Colon } else { State::Behind }
                }
                '\\' => State::Escape { quote, member },
                c => {
                    self.text(c);
                    self.state
                }
            }),
            State::Escape { quote, member } => self.escape(quote, member, c),
            State::Hex { quote, member, missing, code, high } => {
                let code = code << 4 | c.to_digit(16)?;
                if missing > 1 {
                    return Some(State::Hex { quote, member, missing: missing - 1, code, high });
                }
                let code = match high {
                    Some(high) => 0x10000 + ((high - 0xd800) << 10) + code.checked_sub(0xdc00).filter(|low| *low < 0x400)?,
                    // JSON's habit of writing one character as two halves.
                    None if (0xd800..0xdc00).contains(&code) => return Some(State::Pair { quote, member, come: 0, high: code }),
                    None => code,
                };
                self.text(char::from_u32(code)?);
                Some(State::String { quote, member })
            }
            State::Pair { quote, member, come: 0, high } => (c == '\\').then_some(State::Pair { quote, member, come: 1, high }),
            State::Pair { quote, member, high, .. } => {
                (c == 'u').then_some(State::Hex { quote, member, missing: 4, code: 0, high: Some(high) })
            }
        }
    }

    /// What begins a value.
    fn value(&mut self, c: char) -> Option<State> {
        match c {
            '"' | '\'' => {
                self.json.push('"');
                Some(State::String { quote: c, member: false })
            }
            '[' | '(' | '{' => {
                self.open.push(match c {
                    '[' => ']',
                    '(' => ')',
                    _ => '}',
                });
                self.json.push(if c == '{' { '{' } else { '[' });
                self.more = false;
                (self.open.len() <= DEEPEST).then_some(if c == '{' { State::MemberOrEnd } else { State::ItemOrEnd })
            }
            c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => {
                self.word.push(c);
                Some(State::Number)
            }
            c if c.is_ascii_alphabetic() => {
                self.word.push(c);
                Some(State::Word)
            }
            _ => None,
        }
    }

    /// What may stand behind a value.
    fn behind(&mut self, c: char, parts: &mut Vec<Part>) -> Option<State> {
        self.more = true;
        let of = *self.open.last()?;
        let call = self.open.len() == 1;
        match c {
            ',' if call => Some(State::Keyword),
            ',' if of == '}' => Some(State::MemberOrEnd),
            ',' => Some(State::ItemOrEnd),
            c if c == of && call => self.end(parts),
            c if c == of => self.close(if of == '}' { '}' } else { ']' }),
            c if c.is_whitespace() => Some(State::Behind),
            _ => None,
        }
    }

    fn comma(&mut self) {
        if std::mem::replace(&mut self.more, true) {
            self.json.push(',');
        }
    }

    /// A list or dictionary ends.
    fn close(&mut self, with: char) -> Option<State> {
        self.open.pop();
        self.json.push(with);
        self.more = true;
        Some(State::Behind)
    }

    /// A call ends.
    fn end(&mut self, parts: &mut Vec<Part>) -> Option<State> {
        self.json.push('}');
        self.settle(parts);
        parts.push(Part::End);
        self.any = true;
        Some(State::CommaOrEnd)
    }

    /// A character of a string.
    fn text(&mut self, c: char) {
        match c {
            '"' => self.json.push_str("\\\""),
            '\\' => self.json.push_str("\\\\"),
            '\n' => self.json.push_str("\\n"),
            '\r' => self.json.push_str("\\r"),
            '\t' => self.json.push_str("\\t"),
            '\u{8}' => self.json.push_str("\\b"),
            '\u{c}' => self.json.push_str("\\f"),
            c if c < ' ' => self.json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => self.json.push(c),
        }
    }

    fn escape(&mut self, quote: char, member: bool, c: char) -> Option<State> {
        let digits = |missing| Some(State::Hex { quote, member, missing, code: 0, high: None });
        match c {
            'x' => return digits(2),
            'u' => return digits(4),
            'U' => return digits(8),
            'n' => self.text('\n'),
            't' => self.text('\t'),
            'r' => self.text('\r'),
            '0' => self.text('\0'),
            '\n' => {}
            '\\' | '\'' | '"' | '/' => self.text(c),
            // As Python does.
            c => ['\\', c].into_iter().for_each(|c| self.text(c)),
        }
        Some(State::String { quote, member })
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

/// A number as JSON writes it.
fn number(text: &str) -> Option<String> {
    let text = text.replace('_', "");
    let text = text.strip_prefix('+').unwrap_or(&text);
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.to_string());
    }
    // Rust reads `nan` and `infinity` as numbers too; JSON has neither.
    text.parse::<f64>().ok().and_then(Number::from_f64).map(|number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a list tells, arguments joined.
    fn read(text: &str) -> Option<Vec<Part>> {
        let mut calls = Calls::default();
        let mut parts = Vec::new();
        for c in text.chars() {
            calls.push(c, &mut parts).then_some(())?;
            calls.settle(&mut parts);
        }
        let mut told: Vec<Part> = Vec::new();
        for part in parts {
            match (told.last_mut(), part) {
                (Some(Part::Arguments(json)), Part::Arguments(more)) => json.push_str(&more),
                (_, part) => told.push(part),
            }
        }
        calls.is_done().then_some(told)
    }

    #[test]
    fn literals_become_json() {
        let json = |text: &str| match read(&format!("[f({text})]"))?.get(1) {
            Some(Part::Arguments(json)) => Some(json.clone()),
            _ => None,
        };
        assert_eq!(json("").as_deref(), Some("{}"));
        assert_eq!(json(" a = 1 , b='it\\'s',").as_deref(), Some(r#"{"a":1,"b":"it's"}"#));
        assert_eq!(
            json(r#"a=True, b=None, c=-2.5, d=[1, (2,), {'x': "y", "z": []}], e='\u00e9\ud83d\ude00\x41\d'"#).as_deref(),
            Some(r#"{"a":true,"b":null,"c":-2.5,"d":[1,[2],{"x":"y","z":[]}],"e":"é😀A\\d"}"#)
        );
        assert_eq!(
            json("a=1_000, b=+.5, c={}, d={'a':1,}, e='\t\u{1}\"'").as_deref(),
            Some(r#"{"a":1000,"b":0.5,"c":{},"d":{"a":1},"e":"\t\u0001\""}"#)
        );
        for wrong in
            ["a", "a=", "1", "a=b", "a=1 b=2", "a='x", "a=[1", "a=nan", r"a='\ud83d'", "a=1-2", "a=,", "a=[,]", "a={1:2}", "a=(]", ","]
        {
            assert_eq!(json(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lists_of_calls_end_where_they_close() {
        let told = read("[ f(a=')', b=[(1)]), g.h() ]").expect("calls");
        let arguments = |json: &str| Part::Arguments(json.to_owned());
        let name = |name: &str| Part::Name(name.to_owned());
        assert_eq!(told, [name("f"), arguments(r#"{"a":")","b":[[1]]}"#), Part::End, name("g.h"), arguments("{}"), Part::End]);
        for wrong in ["f", "[(", "[1 ", "[f(])", "[f(a)", "[f()x", "[]"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn arguments_come_as_they_are_written() {
        let mut calls = Calls::default();
        let mut parts = Vec::new();
        for c in "[f(a='b\\u00e9c', n=1".chars() {
            assert!(calls.push(c, &mut parts));
        }
        calls.settle(&mut parts);
        // A number may go on.
        assert_eq!(parts, [Part::Name("f".to_owned()), Part::Arguments(r#"{"a":"béc","n":"#.to_owned())]);
    }
}
