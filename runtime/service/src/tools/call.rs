//! Calls as they are written, whatever the format: names, then arguments, then their ends.

use super::json::Json;
use super::object::{Object, as_object};
use super::python;
use super::{Body, ToolFormat};

/// What became known of a call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// One begins.
    Name(String),
    /// JSON of its arguments, to append. Together they are at any time the beginning of an object, and a whole one only with the last, which comes
    /// right before the end: whoever runs a call as soon as its arguments are whole must not run one that is none.
    Arguments(String),
    /// It is whole, and its arguments, if there were any, are an object.
    End,
}

/// Reads what stands behind an opening, character by character.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    body: Reading,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Reading {
    Object(ObjectCall),
    Array { state: List, call: ObjectCall, arguments: &'static str },
    Named(NamedCall),
    Python(python::Calls),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Before,
    Item,
    InItem,
    CommaOrEnd,
    Done,
}

impl Calls {
    pub(super) fn new(format: &ToolFormat) -> Calls {
        let body = match format.body {
            Body::Object { arguments } => Reading::Object(ObjectCall::new(arguments)),
            Body::Array { arguments } => Reading::Array { state: List::Before, call: ObjectCall::new(arguments), arguments },
            Body::Named { between } => Reading::Named(NamedCall { between, ..NamedCall::default() }),
            Body::Python => Reading::Python(python::Calls::default()),
        };
        Calls { body, parts: Vec::new() }
    }

    /// Whether calls may begin with this character.
    pub(super) fn may_begin(format: &ToolFormat, c: char) -> bool {
        match format.body {
            Body::Object { .. } => c == '{',
            Body::Array { .. } | Body::Python => c == '[',
            Body::Named { .. } => is_name(c),
        }
    }

    /// The next character. False where no call of this format goes on like that, or its arguments are no object. A list holds one call at least. White space may stand before.
    pub(super) fn push(&mut self, c: char) -> bool {
        let space = matches!(c, ' ' | '\t' | '\n' | '\r');
        let parts = &mut self.parts;
        match &mut self.body {
            Reading::Object(call) => space && call.object.text().is_empty() || call.push(c, parts),
            Reading::Array { state, call, arguments } => {
                *state = match *state {
                    List::InItem => {
                        if !call.push(c, parts) {
                            return false;
                        }
                        if call.object.is_done() {
                            *call = ObjectCall::new(arguments);
                            List::CommaOrEnd
                        } else {
                            List::InItem
                        }
                    }
                    state if space => state,
                    List::Before if c == '[' => List::Item,
                    List::CommaOrEnd if c == ']' => List::Done,
                    List::Item if c == '{' => {
                        call.push(c, parts);
                        List::InItem
                    }
                    List::CommaOrEnd if c == ',' => List::Item,
                    _ => return false,
                };
                true
            }
            Reading::Named(call) => call.push(c, parts),
            Reading::Python(calls) if space && calls.is_new() => true,
            Reading::Python(calls) => calls.push(c, parts),
        }
    }

    /// What became known since this was last asked, all arguments included that have come.
    pub(super) fn take(&mut self) -> Vec<Part> {
        match &mut self.body {
            Reading::Object(call) | Reading::Array { call, .. } => call.settle(&mut self.parts),
            Reading::Named(call) => call.settle(&mut self.parts),
            Reading::Python(calls) => calls.settle(&mut self.parts),
        }
        std::mem::take(&mut self.parts)
    }

    /// Whether something became known but for arguments.
    pub(super) fn is_ready(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Whether nothing more belongs to it.
    pub(super) fn is_done(&self) -> bool {
        match &self.body {
            Reading::Object(call) => call.object.is_done(),
            Reading::Array { state, .. } => *state == List::Done,
            Reading::Named(call) => call.whole,
            Reading::Python(calls) => calls.is_done(),
        }
    }
}

/// What an object's arguments are, by their first character.
#[derive(Clone, Debug, Default)]
enum Kind {
    #[default]
    Unknown,
    /// An object: they are told as they come.
    Object(Box<Json>),
    /// A string or null that may stand for one: told when it is whole, because only then it is known.
    Other,
}

/// `{"name": "f", "arguments": {…}}`, members in any order.
#[derive(Clone, Debug)]
struct ObjectCall {
    object: Object,
    arguments: &'static str,
    named: bool,
    kind: Kind,
    /// Bytes of the arguments that were told, and that are known to be the beginning of an object.
    told: usize,
    known: usize,
}

impl ObjectCall {
    fn new(arguments: &'static str) -> ObjectCall {
        ObjectCall { object: Object::default(), arguments, named: false, kind: Kind::default(), told: 0, known: 0 }
    }

    fn push(&mut self, c: char, parts: &mut Vec<Part>) -> bool {
        if !self.object.push(c) {
            return false;
        }
        if !self.named && c == '"' {
            match self.object.string("name") {
                Some(Ok(name)) => {
                    self.named = true;
                    parts.push(Part::Name(name));
                }
                Some(Err(())) => return false,
                None => {}
            }
        }
        if let Some((text, _)) = self.object.member(self.arguments) {
            if matches!(self.kind, Kind::Unknown) {
                self.kind = match text.chars().next() {
                    Some('{') => Kind::Object(Box::default()),
                    Some('"' | 'n') => Kind::Other,
                    _ => return false,
                };
            }
            if let Kind::Object(json) = &mut self.kind {
                for c in text[self.known..].chars() {
                    if !json.push(c) {
                        return false;
                    }
                    self.known += c.len_utf8();
                }
            }
        }
        if !self.object.is_done() {
            return true;
        }
        if !self.named {
            return false;
        }
        if let Some((text, _)) = self.object.member(self.arguments) {
            match self.kind {
                Kind::Object(_) => parts.push(Part::Arguments(text[self.told..].to_owned())),
                _ => {
                    let Some(object) = as_object(text) else { return false };
                    parts.push(Part::Arguments(object));
                }
            }
            self.told = text.len();
        }
        parts.push(Part::End);
        true
    }

    /// Tells arguments that have come, but for the brace that makes them whole.
    fn settle(&mut self, parts: &mut Vec<Part>) {
        if self.named
            && !self.object.is_done()
            && matches!(self.kind, Kind::Object(_))
            && let Some((text, whole)) = self.object.member(self.arguments)
        {
            let until = if whole && self.known == text.len() { self.known - 1 } else { self.known };
            if until > self.told {
                parts.push(Part::Arguments(text[self.told..until].to_owned()));
                self.told = until;
            }
        }
    }
}

/// `f[ARGS]{…}`, or `f[CALL_ID]x[ARGS]{…}`.
#[derive(Clone, Debug, Default)]
struct NamedCall {
    between: &'static str,
    name: String,
    /// From the first bracket behind the name to the arguments.
    head: Option<String>,
    /// Its arguments so far, and what holds them to be an object.
    arguments: String,
    json: Json,
    told: usize,
    whole: bool,
}

/// Longest name of a tool, and longest text between it and the arguments.
const LONGEST: usize = 128;

impl NamedCall {
    fn push(&mut self, c: char, parts: &mut Vec<Part>) -> bool {
        let space = matches!(c, ' ' | '\t' | '\n' | '\r');
        if !self.arguments.is_empty() {
            return self.push_argument(c, parts);
        }
        match &mut self.head {
            None if is_name(c) => {
                self.name.push(c);
                return self.name.len() <= LONGEST;
            }
            None if self.name.is_empty() => return space,
            None => {
                parts.push(Part::Name(self.name.clone()));
                self.head = Some(String::new());
            }
            Some(_) => {}
        }
        let Some(head) = &mut self.head else { return false };
        if c == '{' && (head.trim().is_empty() || head.trim_end().ends_with(self.between)) {
            return self.push_argument(c, parts);
        }
        head.push(c);
        let begun = head.trim_start();
        let marked = begun.starts_with("[CALL_ID]") || "[CALL_ID]".starts_with(begun);
        head.len() <= LONGEST && (marked || begun.starts_with(self.between) || self.between.starts_with(begun))
    }

    fn push_argument(&mut self, c: char, parts: &mut Vec<Part>) -> bool {
        if !self.json.push(c) {
            return false;
        }
        self.arguments.push(c);
        self.whole = self.json.is_done();
        if self.whole {
            self.settle(parts);
            parts.push(Part::End);
        }
        true
    }

    fn settle(&mut self, parts: &mut Vec<Part>) {
        if self.arguments.len() > self.told {
            parts.push(Part::Arguments(self.arguments[self.told..].to_owned()));
            self.told = self.arguments.len();
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}
