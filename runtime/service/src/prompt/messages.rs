//! Neutral turns as the messages that chat templates read.

use std::collections::HashMap;

use firecrest_contract::ask::{Ask, Content, Role, Tool, Turn};
use serde_json::{Map, Value, json};

use super::Traits;
use crate::tools::{Body, GENERIC, Ids};

/// Stands within a text where it must not be read as a control token. No text has this character: it is none.
pub(super) const GUARD: char = '\u{fdd0}';

/// What is rendered in place of, or beside, what an ask says.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark<'a> {
    /// A text that stands nowhere else, put behind this part of this turn.
    pub(super) behind: Option<(usize, usize, &'a str)>,
    /// The conversation's turns, if not all.
    pub(super) turns: Option<usize>,
    /// A user's turn behind them.
    pub(super) then: Option<&'a str>,
}

pub(super) struct Messages<'a> {
    traits: &'a Traits,
    guard: &'a dyn Fn(&str) -> String,
    mark: Mark<'a>,
    list: Vec<Value>,
    /// The tools that calls so far named, by the calls' ids.
    called: HashMap<String, String>,
}

/// Messages of an ask.
pub(super) fn messages(ask: &Ask, traits: &Traits, guard: &dyn Fn(&str) -> String, mark: Mark<'_>) -> Vec<Value> {
    let mut messages = Messages { traits, guard, mark, list: Vec::new(), called: HashMap::new() };
    for (at, turn) in ask.turns.iter().enumerate().take(mark.turns.unwrap_or(usize::MAX)) {
        match turn.role {
            Role::System => messages.system(at, turn),
            Role::User => messages.user(at, turn),
            Role::Assistant => messages.assistant(at, turn),
        }
    }
    if let Some(text) = mark.then {
        messages.say("user", text.to_owned());
    }
    if !traits.format.in_template && !ask.tools.is_empty() {
        messages.instruct(&instructions(&ask.tools, guard));
    }
    if !traits.system {
        messages.without_system();
    }
    messages.list
}

impl Messages<'_> {
    fn system(&mut self, at: usize, turn: &Turn) {
        let text = self.joined(at, turn);
        self.say("system", text);
    }

    fn user(&mut self, at: usize, turn: &Turn) {
        let mut text = Vec::new();
        for (part, content) in turn.parts.iter().map(|part| &part.content).enumerate() {
            let Content::ToolResult { id, text: result, is_error } = content else {
                text.extend(self.text(at, part, content));
                continue;
            };
            if !text.is_empty() {
                self.say("user", std::mem::take(&mut text).join("\n\n"));
            }
            let result = if *is_error { format!("Error: {result}") } else { result.clone() };
            let result = self.marked(at, part, (self.guard)(&result));
            if self.traits.format.in_template {
                let name = self.name_of(id);
                self.list.push(json!({ "role": "tool", "tool_call_id": self.id(id), "name": name, "content": result }));
            } else {
                self.say("user", format!("<tool_response>\n{result}\n</tool_response>"));
            }
        }
        if !text.is_empty() || turn.parts.is_empty() {
            self.say("user", text.join("\n\n"));
        }
    }

    fn assistant(&mut self, at: usize, turn: &Turn) {
        let (mut text, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        for (part, content) in turn.parts.iter().map(|part| &part.content).enumerate() {
            match content {
                Content::Thinking { text, .. } => thoughts.push((self.guard)(text)),
                Content::ToolUse { id, name, input } if self.traits.format.in_template => {
                    let guarded = guarded(input, self.guard);
                    let arguments = if self.traits.arguments_as_text { Value::from(python_json(&guarded)) } else { guarded };
                    let name = (self.guard)(name);
                    self.called.insert(self.id(id), name.clone());
                    let function = json!({ "name": name, "arguments": arguments });
                    calls.push(json!({ "id": self.id(id), "type": "function", "function": function }));
                }
                Content::ToolUse { name, input, .. } => {
                    let call = json!({ "name": (self.guard)(name), "arguments": guarded(input, self.guard) });
                    let (open, close) = (GENERIC.open, GENERIC.close);
                    text.push(self.marked(at, part, format!("{open}\n{}\n{close}", python_json(&call))));
                }
                content => text.extend(self.text(at, part, content)),
            }
        }
        let mut message = json!({ "role": "assistant", "content": text.join("\n\n") });
        if !thoughts.is_empty() && self.traits.reasoning {
            message["reasoning_content"] = thoughts.join("\n\n").into();
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        self.list.push(message);
    }

    /// A part that is text.
    fn text(&self, at: usize, part: usize, content: &Content) -> Option<String> {
        let text = match content {
            Content::Text(text) => (self.guard)(text),
            Content::Document { title, context, text } => {
                let member = |name: &str, text: &Option<String>| {
                    text.as_ref().map_or_else(String::new, |text| format!("<{name}>{}</{name}>\n", (self.guard)(text)))
                };
                let (title, context) = (member("title", title), member("context", context));
                format!("<document>\n{title}{context}<content>\n{}\n</content>\n</document>", (self.guard)(text))
            }
            _ => return None,
        };
        Some(self.marked(at, part, text))
    }

    fn joined(&self, at: usize, turn: &Turn) -> String {
        let texts = turn.parts.iter().enumerate().filter_map(|(part, p)| self.text(at, part, &p.content));
        texts.collect::<Vec<_>>().join("\n\n")
    }

    fn marked(&self, at: usize, part: usize, mut text: String) -> String {
        if let Some((turn, marked, mark)) = self.mark.behind
            && (turn, marked) == (at, part)
        {
            text.push_str(mark);
        }
        text
    }

    /// A message of text. Sides take turns, so what follows one of the same side goes on in it.
    fn say(&mut self, role: &str, text: String) {
        if let Some(last) = self.list.last_mut().filter(|last| last["role"] == role)
            && let Some(Value::String(content)) = last.get_mut("content")
        {
            content.push_str("\n\n");
            content.push_str(&text);
            return;
        }
        self.list.push(json!({ "role": role, "content": text }));
    }

    /// The tool whose call had this id.
    fn name_of(&self, id: &str) -> Value {
        self.called.get(&self.id(id)).map_or(Value::Null, |name| name.as_str().into())
    }

    fn id(&self, id: &str) -> String {
        match self.traits.format.ids {
            Ids::Any => (self.guard)(id),
            Ids::Nine => nine(id),
        }
    }

    fn instruct(&mut self, text: &str) {
        match self.list.first_mut().filter(|first| first["role"] == "system").and_then(|first| first.get_mut("content")) {
            Some(Value::String(content)) => {
                content.push_str("\n\n");
                content.push_str(text);
            }
            _ => self.list.insert(0, json!({ "role": "system", "content": text })),
        }
    }

    /// What the system says leads what the user says, for templates without that side.
    fn without_system(&mut self) {
        let mut led: Vec<Value> = Vec::new();
        let mut lead: Option<String> = None;
        for mut message in std::mem::take(&mut self.list) {
            if message["role"] == "system" {
                let text = message["content"].as_str().unwrap_or_default();
                match &mut lead {
                    Some(lead) => {
                        lead.push_str("\n\n");
                        lead.push_str(text);
                    }
                    None => lead = Some(text.to_owned()),
                }
                continue;
            }
            if message["role"] == "user"
                && let Some(lead) = lead.take()
            {
                let text = message["content"].as_str().unwrap_or_default();
                message["content"] = format!("{lead}\n\n{text}").into();
            }
            led.push(message);
        }
        if let Some(lead) = lead {
            led.insert(0, json!({ "role": "user", "content": lead }));
        }
        self.list = led;
    }
}

/// Tools as templates show them.
pub(super) fn tools(tools: &[Tool], guard: &dyn Fn(&str) -> String) -> Value {
    let shown = tools.iter().map(|tool| {
        let mut function = Map::new();
        function.insert("name".to_owned(), guard(&tool.name).into());
        if let Some(description) = &tool.description {
            function.insert("description".to_owned(), guard(description).into());
        }
        function.insert("parameters".to_owned(), guarded(&tool.schema, guard));
        json!({ "type": "function", "function": function })
    });
    shown.collect()
}

/// What a model is told whose template shows no tools.
fn instructions(list: &[Tool], guard: &dyn Fn(&str) -> String) -> String {
    let Body::Object { arguments } = GENERIC.body else { return String::new() };
    let mut text = "You can call these functions, each described as JSON on a line of its own:\n<tools>\n".to_owned();
    for tool in tools(list, guard).as_array().into_iter().flatten() {
        text.push_str(&python_json(tool));
        text.push('\n');
    }
    let (open, close) = (GENERIC.open, GENERIC.close);
    text.push_str(&format!(
        "</tools>\n\nTo call a function, write nothing but its name and arguments as JSON between tags, one pair of tags a call:\n{open}\n{{\"name\": \"...\", \"{arguments}\": {{...}}}}\n{close}\nWhat it returns comes in the next message between <tool_response> tags. Call functions only where they help."
    ));
    text
}

/// JSON as Python writes it, and models read it most.
fn python_json(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(python_json).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(name, value)| format!("{}: {}", Value::from(name.as_str()), python_json(value))).collect();
            format!("{{{}}}", members.join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// The same value with all its texts guarded, names of members too.
fn guarded(value: &Value, guard: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => guard(text).into(),
        Value::Array(items) => items.iter().map(|item| guarded(item, guard)).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (guard(name), guarded(value, guard))).collect::<Map<_, _>>().into(),
        scalar => scalar.clone(),
    }
}

/// Nine letters and digits that tell ids apart: their hash (FNV-1a).
fn nine(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let digit = |_| {
        let digit = DIGITS.get((hash % 62) as usize).copied().unwrap_or(b'0');
        hash /= 62;
        char::from(digit)
    };
    (0..9).map(digit).collect()
}
