//! Calls as they are written, whatever the format: names, then arguments, then their ends.

use super::object::{Object, as_object};
use super::python;
use super::{Body, ToolFormat};

/// What became known of a call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// One begins.
    Name(String),
    /// JSON of its arguments, to append.
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
            Reading::Python(calls) => match calls.push(c) {
                None => false,
                Some(found) => {
                    match found {
                        python::Found::Nothing => {}
                        python::Found::Name(name) => parts.push(Part::Name(name)),
                        python::Found::Whole(json) => parts.extend([Part::Arguments(json), Part::End]),
                    }
                    true
                }
            },
        }
    }

    /// What became known since this was last asked, all arguments included that have come.
    pub(super) fn take(&mut self) -> Vec<Part> {
        match &mut self.body {
            Reading::Object(call) | Reading::Array { call, .. } => call.settle(&mut self.parts),
            Reading::Named(call) => call.settle(&mut self.parts),
            Reading::Python(_) => {}
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
            Reading::Named(call) => call.arguments.is_done(),
            Reading::Python(calls) => calls.is_done(),
        }
    }
}

/// What an object's arguments are, by their first character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Unknown,
    /// An object: they can be told as they come.
    Object,
    /// Something that may stand for one: they are told when they are whole.
    Other,
}

/// `{"name": "f", "arguments": {…}}`, members in any order.
#[derive(Clone, Debug)]
struct ObjectCall {
    object: Object,
    arguments: &'static str,
    named: bool,
    kind: Kind,
    /// Bytes of the arguments that were told.
    told: usize,
}

impl ObjectCall {
    fn new(arguments: &'static str) -> ObjectCall {
        ObjectCall { object: Object::default(), arguments, named: false, kind: Kind::default(), told: 0 }
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
        if self.kind == Kind::Unknown
            && let Some((text, _)) = self.object.member(self.arguments)
        {
            self.kind = match text.chars().next() {
                Some('{') => Kind::Object,
                Some('"' | 'n') => Kind::Other,
                _ => return false,
            };
        }
        if !self.object.is_done() {
            return true;
        }
        self.settle(parts);
        if let Some((text, _)) = self.object.member(self.arguments) {
            let Some(object) = as_object(text) else { return false };
            if self.kind == Kind::Other {
                parts.push(Part::Arguments(object));
            }
        }
        parts.push(Part::End);
        self.named
    }

    /// Tells arguments that have come.
    fn settle(&mut self, parts: &mut Vec<Part>) {
        if self.named
            && self.kind == Kind::Object
            && let Some((text, _)) = self.object.member(self.arguments)
            && text.len() > self.told
        {
            parts.push(Part::Arguments(text[self.told..].to_owned()));
            self.told = text.len();
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
    arguments: Object,
    told: usize,
}

/// Longest name of a tool, and longest text between it and the arguments.
const LONGEST: usize = 128;

impl NamedCall {
    fn push(&mut self, c: char, parts: &mut Vec<Part>) -> bool {
        let space = matches!(c, ' ' | '\t' | '\n' | '\r');
        if !self.arguments.text().is_empty() {
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
        if !self.arguments.push(c) {
            return false;
        }
        if self.arguments.is_done() {
            self.settle(parts);
            if as_object(self.arguments.text()).is_none() {
                return false;
            }
            parts.push(Part::End);
        }
        true
    }

    fn settle(&mut self, parts: &mut Vec<Part>) {
        let text = self.arguments.text();
        if text.len() > self.told {
            parts.push(Part::Arguments(text[self.told..].to_owned()));
            self.told = text.len();
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}
