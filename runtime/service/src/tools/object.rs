//! A JSON object that arrives character by character.

use serde_json::Value;

/// Reads one JSON object and says which span of its text each of its members' values has. Values are only told apart, not understood: whoever wants to
/// know whether they are JSON parses them once the object is whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    /// What came so far, from the brace that opens it.
    text: String,
    state: State,
    /// Members so far: name and span. An open span ends where the text does.
    members: Vec<Member>,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    start: usize,
    end: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing came.
    #[default]
    Before,
    /// A name, or the end where there is no member yet.
    NameOrEnd,
    /// A name.
    Name,
    /// Within a name.
    InName {
        start: usize,
        escaped: bool,
    },
    Colon,
    Value,
    /// Within a value, so many brackets deep.
    InValue {
        depth: u32,
        string: bool,
        escaped: bool,
    },
    /// A comma or the end.
    CommaOrEnd,
    Done,
}

/// Nothing that calls a tool nests deeper; `serde_json` would not read it.
const DEEPEST: u32 = 120;

/// A call has two or three.
const MOST_MEMBERS: usize = 32;

impl Object {
    /// The next character. False where it can't stand there.
    pub(super) fn push(&mut self, c: char) -> bool {
        let at = self.text.len();
        let space = matches!(c, ' ' | '\t' | '\n' | '\r');
        self.state = match self.state {
            State::Before if c == '{' => State::NameOrEnd,
            State::NameOrEnd | State::Name | State::Colon | State::Value | State::CommaOrEnd if space => self.state,
            State::NameOrEnd | State::CommaOrEnd if c == '}' => State::Done,
            State::NameOrEnd | State::Name if c == '"' => State::InName { start: at, escaped: false },
            State::InName { start, escaped: true } => State::InName { start, escaped: false },
            State::InName { start, .. } if c == '\\' => State::InName { start, escaped: true },
            State::InName { start, .. } if c == '"' => {
                let Ok(name) = serde_json::from_str(&format!("{}\"", &self.text[start..])) else { return false };
                if self.members.len() == MOST_MEMBERS {
                    return false;
                }
                self.members.push(Member { name, start: at, end: Some(at) });
                State::Colon
            }
            State::InName { start, .. } => State::InName { start, escaped: false },
            State::Colon if c == ':' => State::Value,
            State::Value => {
                let Some(state) = value(0, c) else { return false };
                if let Some(member) = self.members.last_mut() {
                    (member.start, member.end) = (at, None);
                }
                state
            }
            State::InValue { depth, string: true, escaped } => match c {
                _ if escaped => State::InValue { depth, string: true, escaped: false },
                '\\' => State::InValue { depth, string: true, escaped: true },
                '"' if depth == 0 => self.end_value(at + 1, State::CommaOrEnd),
                '"' => State::InValue { depth, string: false, escaped: false },
                _ => self.state,
            },
            State::InValue { depth: 0, .. } => match c {
                ',' => self.end_value(at, State::Name),
                '}' => self.end_value(at, State::Done),
                _ if space => self.end_value(at, State::CommaOrEnd),
                c if c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.') => self.state,
                _ => return false,
            },
            State::InValue { depth, .. } => match c {
                '}' | ']' if depth == 1 => self.end_value(at + 1, State::CommaOrEnd),
                '}' | ']' => State::InValue { depth: depth - 1, string: false, escaped: false },
                '{' | '[' if depth == DEEPEST => return false,
                '{' | '[' => State::InValue { depth: depth + 1, string: false, escaped: false },
                '"' => State::InValue { depth, string: true, escaped: false },
                _ => self.state,
            },
            State::CommaOrEnd if c == ',' => State::Name,
            _ => return false,
        };
        self.text.push(c);
        true
    }

    fn end_value(&mut self, end: usize, next: State) -> State {
        if let Some(member) = self.members.last_mut() {
            member.end = Some(end);
        }
        next
    }

    /// Whether it is whole.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// All of it so far.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The value of a member so far, and whether it is whole. Of several with one name the first.
    pub(super) fn member(&self, name: &str) -> Option<(&str, bool)> {
        let member = self.members.iter().find(|member| member.name == name)?;
        let begun = member.end.is_none_or(|end| end > member.start);
        begun.then(|| (&self.text[member.start..member.end.unwrap_or(self.text.len())], member.end.is_some()))
    }

    /// A member's value, where it is a whole string.
    pub(super) fn string(&self, name: &str) -> Option<Result<String, ()>> {
        let (text, whole) = self.member(name)?;
        whole.then(|| serde_json::from_str(text).map_err(drop))
    }
}

fn value(depth: u32, first: char) -> Option<State> {
    match first {
        '{' | '[' => Some(State::InValue { depth: depth + 1, string: false, escaped: false }),
        '"' => Some(State::InValue { depth, string: true, escaped: false }),
        c if c.is_ascii_alphanumeric() || c == '-' => Some(State::InValue { depth, string: false, escaped: false }),
        _ => None,
    }
}

/// The text of an object, where it is one; that of an object within a string, where it is a string: some models write arguments so.
pub(super) fn as_object(text: &str) -> Option<String> {
    match serde_json::from_str::<Value>(text).ok()? {
        Value::Object(_) => Some(text.to_owned()),
        Value::String(inner) => serde_json::from_str::<Value>(&inner).ok().filter(Value::is_object).map(|_| inner),
        Value::Null => Some("{}".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Object> {
        let mut object = Object::default();
        text.chars().all(|c| object.push(c)).then_some(object)
    }

    #[test]
    fn members_have_spans() {
        let object = read("{ \"na\\u006de\" : \"f\", \"arguments\":{\"a\":[1,{\"b\":\"}\\\"\"}]} ,\"n\":-1.5e3}").expect("an object");
        assert!(object.is_done());
        assert_eq!(object.string("name"), Some(Ok("f".to_owned())));
        assert_eq!(object.member("arguments"), Some((r#"{"a":[1,{"b":"}\""}]}"#, true)));
        assert_eq!(object.member("n"), Some(("-1.5e3", true)));
        assert_eq!(object.member("o"), None);
        let object = read(r#"{"name": "f", "arguments": {"a"#).expect("a beginning");
        assert_eq!(object.member("arguments"), Some((r#"{"a"#, false)));
        assert_eq!(read(r#"{"name""#).expect("a beginning").member("name"), None);
        assert_eq!(read(r#"{"name":"#).expect("a beginning").member("name"), None);
        assert_eq!(read(r#"{"name": "f"#).expect("a beginning").string("name"), None);
    }

    #[test]
    fn what_is_no_object_ends_at_once() {
        for text in ["a", "[", "{a", "{,", r#"{"a" 1"#, r#"{"a":}"#, r#"{"a":1"b""#, r#"{"a":1,}"#, r#"{"a":"x"y"#, "{}x"] {
            assert!(read(text).is_none(), "{text}");
        }
        assert!(read(&format!(r#"{{"a":{}"#, "[".repeat(10_000))).is_none());
    }
}
