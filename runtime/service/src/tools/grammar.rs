//! What a model is held to: calls of tools, and answers of a form.

mod closed;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use firecrest_contract::ask::{Ask, Format, Tool, ToolChoice};
use firecrest_contract::error::ApiError;
use firecrest_contract::names::Names;
use firecrest_contract::path::Path;
use firecrest_engine::grammar::{Checker, Constraint, Grammar, SchemaFault, Trigger};
use serde_json::{Map, Value, json};

use super::{Body, Thoughts, ToolFormat};

/// What of a vocabulary a grammar names.
pub struct Vocabulary<'a> {
    /// The control token that is written so, if there is one: such a token is no text.
    pub control: &'a dyn Fn(&str) -> Option<u32>,
    /// Tokens that end generation.
    pub ends: &'a [u32],
    /// What is known of schemas.
    pub schemas: &'a Schemas,
}

/// Makes schemas ready to hold to, and remembers: an agent asks with the same tools again and again.
#[derive(Default)]
pub struct Schemas {
    checker: OnceLock<Option<Checker>>,
    known: Mutex<Known>,
    open_objects: bool,
}

/// A schema to hold to; why there is none.
type Outcome = Result<Arc<Value>, SchemaFault>;

/// What became of schemas, by their text.
#[derive(Default)]
struct Known {
    outcomes: HashMap<String, Outcome>,
    bytes: usize,
}

/// Bytes of schemas that are remembered.
const MOST_KNOWN: usize = 4 << 20;

impl Schemas {
    /// Schemas whose objects are open where they don't say `additionalProperties`, as the standard has it, or closed.
    pub fn new(open_objects: bool) -> Schemas {
        Schemas { open_objects, ..Schemas::default() }
    }

    /// The schema that is held to for one that a caller sent.
    ///
    /// # Errors
    /// One that can't be compiled: the place, and why.
    fn ready(&self, schema: &Value) -> Outcome {
        let text = schema.to_string();
        if let Some(known) = self.known().outcomes.get(&text) {
            return known.clone();
        }
        let outcome = self.make(schema);
        let mut known = self.known();
        known.bytes += 2 * text.len();
        if known.bytes > MOST_KNOWN {
            *known = Known { bytes: 2 * text.len(), ..Known::default() };
        }
        known.outcomes.insert(text, outcome.clone());
        outcome
    }

    fn make(&self, schema: &Value) -> Outcome {
        let fault = || SchemaFault { place: "#".to_owned(), why: "schemas can't be compiled here: a fault of this service".to_owned() };
        let checker = self.checker.get_or_init(|| Checker::new().ok()).as_ref().ok_or_else(fault)?;
        // As it was sent, so that its own places are named.
        checker.check_schema(schema)?;
        let closed = if self.open_objects { None } else { closed::closed(schema).filter(|closed| checker.check_schema(closed).is_ok()) };
        Ok(Arc::new(closed.unwrap_or_else(|| schema.clone())))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About the bytes that a value takes as text.
pub(crate) fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| 1 + size(item)).sum::<usize>() + 2,
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + 4 + size(value)).sum::<usize>() + 2,
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
    }
}

/// What holds an answer to its form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hold {
    /// For the engine.
    pub constraint: Option<Constraint>,
}

/// Whether an ask's answer is held to its form from its first token on, thoughts apart.
pub fn holds_from_start(ask: &Ask) -> bool {
    ask.format.is_some() || !ask.tools.is_empty() && matches!(ask.tool_choice, ToolChoice::Any | ToolChoice::Tool(_))
}

/// What holds the answer to an ask. `thoughts`: what ends those that the prompt ends in, if it does.
///
/// # Errors
/// A schema that can't be compiled, with its leaf; a choice of a tool that is not there; what a format can't hold to.
pub fn hold(ask: &Ask, format: &ToolFormat, thoughts: Option<&Thoughts>, vocabulary: &Vocabulary<'_>) -> Result<Hold, ApiError> {
    let names = ask.names;
    let writer = Writer { format, vocabulary, parallel: !ask.one_call(), text: String::new() };
    let offered: Vec<&Tool> = match &ask.tool_choice {
        ToolChoice::None => Vec::new(),
        ToolChoice::Tool(name) => {
            let chosen: Vec<_> = ask.tools.iter().filter(|tool| tool.name == *name).collect();
            if chosen.is_empty() {
                return Err(ApiError::invalid(names.chosen, format!("{name:?} is not among the tools")));
            }
            chosen
        }
        ToolChoice::Auto | ToolChoice::Any => ask.tools.iter().collect(),
    };
    if offered.is_empty() && ask.tool_choice == ToolChoice::Any {
        return Err(ApiError::invalid("tool_choice", "a tool must be called, but none is given"));
    }
    let answer = ask.format.as_ref().map(|format| answer_schema(format, names, vocabulary.schemas)).transpose()?;
    let forced = matches!(ask.tool_choice, ToolChoice::Any | ToolChoice::Tool(_));
    let arguments =
        offered.iter().map(|tool| arguments_schema(tool, forced, format, names, vocabulary.schemas)).collect::<Result<Vec<_>, _>>()?;
    let tools: Vec<(&str, Value)> = offered.iter().map(|tool| tool.name.as_str()).zip(arguments).collect();
    let strict = offered.iter().any(|tool| tool.strict);
    match answer {
        None if tools.is_empty() => Ok(Hold::default()),
        None if forced => Ok(writer.throughout(thoughts, &tools, "calls", None)),
        Some(answer) if tools.is_empty() => Ok(writer.throughout(thoughts, &[], "answer", Some(&answer))),
        Some(answer) if forced => Ok(writer.throughout(thoughts, &tools, "calls", Some(&answer))),
        Some(answer) => Ok(writer.throughout(thoughts, &tools, "calls | answer", Some(&answer))),
        // Only a grammar that also holds prose can keep an answer from beginning with a call that breaks its schema.
        None if format.bare && strict => Ok(writer.throughout(thoughts, &tools, "calls | prose", None)),
        None => Ok(writer.behind_trigger(&tools)),
    }
}

/// A schema whose JSON is spaced as models are trained to write it.
fn spaced(schema: &Value) -> Value {
    let mut schema = match schema {
        Value::Object(members) => members.clone(),
        _ => Map::new(),
    };
    let guidance = || json!({ "item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false });
    schema.entry("x-guidance").or_insert_with(guidance);
    Value::Object(schema)
}

fn answer_schema(format: &Format, names: &Names, schemas: &Schemas) -> Result<Value, ApiError> {
    let schema = match format {
        Format::JsonSchema { schema, .. } => schema.clone(),
        Format::JsonObject => json!({ "type": "object" }),
    };
    let ready = schemas.ready(&schema).map_err(|fault| refused(names.schema.into(), fault))?;
    Ok(match Arc::unwrap_or_clone(ready) {
        // Compact: nobody was trained on this schema, and small models lose themselves in white space.
        Value::Object(mut members) => {
            let guidance = || json!({ "item_separator": ",", "key_separator": ":", "whitespace_flexible": false });
            members.entry("x-guidance").or_insert_with(guidance);
            Value::Object(members)
        }
        _ => json!({}),
    })
}

/// What a tool's arguments are held to: its schema where it is strict or must be called, else any object.
fn arguments_schema(tool: &Tool, forced: bool, format: &ToolFormat, names: &Names, schemas: &Schemas) -> Result<Value, ApiError> {
    let any = || json!({ "type": "object" });
    let leaf = |field: &str| field.split('.').fold(Path::from("tools").index(tool.at), Path::key);
    if format.body == Body::Python {
        if tool.strict {
            let why = "this model writes calls in Python's syntax, which can't be held to a JSON Schema; leave strict out";
            return Err(ApiError::invalid(leaf(names.strict), why));
        }
        return Ok(tool.schema.clone());
    }
    if !tool.strict && !forced {
        return Ok(spaced(&any()));
    }
    match schemas.ready(&tool.schema) {
        Ok(schema) => Ok(spaced(&schema)),
        Err(fault) if tool.strict => Err(refused(leaf(names.arguments), fault)),
        Err(_) => Ok(spaced(&any())),
    }
}

/// What is wrong with a caller's schema, at its own place in the body.
fn refused(leaf: Path, SchemaFault { place, why }: SchemaFault) -> ApiError {
    ApiError::invalid(format!("{leaf}{}", place.trim_start_matches('#')).as_str(), why)
}

struct Writer<'a> {
    format: &'a ToolFormat,
    vocabulary: &'a Vocabulary<'a>,
    parallel: bool,
    text: String,
}

impl Writer<'_> {
    /// A grammar for the whole answer, or for what follows the thoughts.
    fn throughout(mut self, thoughts: Option<&Thoughts>, tools: &[(&str, Value)], what: &str, answer: Option<&Value>) -> Hold {
        let end = match thoughts {
            // What was triggered is free again behind the grammar, and nothing more is wanted.
            Some(_) => format!(" {}", self.end()),
            None => String::new(),
        };
        let space = if thoughts.is_some() { "SPACE? " } else { "" };
        self.rule("start", &format!("{space}({what}){end}"));
        self.text.push_str("SPACE: /[ \\n]{1,4}/\n");
        if what.contains("prose") {
            // Not what a call begins with.
            self.text.push_str("prose: PROSE?\nPROSE: /[^\\[{<\\s](.|\\n)*/\n");
        }
        if what.contains("calls") {
            let (open, close) = (self.mark(self.format.open), self.close());
            let calls = match self.format.body {
                Body::Array { .. } => format!("{open} list"),
                Body::Python if self.format.bare => "list".to_owned(),
                Body::Python => format!("{open} list{close}"),
                Body::Named { .. } => self.repeat(&format!("{open} call"), ""),
                Body::Object { .. } if self.format.bare => self.repeat("call", self.format.separator),
                Body::Object { .. } => self.repeat(&format!("{open} \"\\n\"? call \"\\n\"?{close}"), self.format.separator),
            };
            self.rule("calls", &calls);
            self.calls(tools);
        }
        if what.contains("answer")
            && let Some(answer) = answer
        {
            self.rule("answer", &format!("%json {answer}"));
        }
        let trigger = thoughts.map_or(Trigger::Start, |thoughts| self.trigger(thoughts.close));
        Hold { constraint: Some(Constraint { grammar: Grammar::Lark(self.text), trigger }) }
    }

    /// A grammar for what follows where a call opens.
    fn behind_trigger(mut self, tools: &[(&str, Value)]) -> Hold {
        if self.format.bare && (self.vocabulary.control)(self.format.open).is_none() {
            // Such a model only knows calls in place of answers, and text may begin like one.
            return Hold::default();
        }
        let close = self.close();
        let body = match self.format.body {
            Body::Array { .. } => "list".to_owned(),
            Body::Python => format!("list{close}"),
            Body::Named { .. } => "call".to_owned(),
            Body::Object { .. } if self.format.bare => self.repeat("call", self.format.separator),
            Body::Object { .. } => format!("\"\\n\"? call \"\\n\"?{close}"),
        };
        let end = if self.parallel { String::new() } else { format!(" {}", self.end()) };
        self.rule("start", &format!("{body}{end}"));
        self.calls(tools);
        let trigger = self.trigger(self.format.open);
        Hold { constraint: Some(Constraint { grammar: Grammar::Lark(self.text), trigger }) }
    }

    fn calls(&mut self, tools: &[(&str, Value)]) {
        let list = format!("\"[\" {} \"]\"", self.repeat("call", self.format.separator));
        if matches!(self.format.body, Body::Array { .. } | Body::Python) {
            self.rule("list", &list);
        }
        let names: Vec<String> = (0..tools.len()).map(|at| format!("call_{at}")).collect();
        self.rule("call", &names.join(" | "));
        for (at, (name, schema)) in tools.iter().enumerate() {
            let call = match self.format.body {
                Body::Object { arguments } | Body::Array { arguments } => {
                    // Its name first, so that all else can follow from it.
                    let head = format!("{{\"name\": {}, {}: ", quoted(name), quoted(arguments));
                    format!("{} arguments_{at} \"}}\"", quoted(&head))
                }
                Body::Named { between } => format!("{} {} arguments_{at}", quoted(name), self.mark(between)),
                Body::Python => format!("{} python_{at} \")\"", quoted(&format!("{name}("))),
            };
            self.rule(&format!("call_{at}"), &call);
            if self.format.body == Body::Python {
                let keywords = keywords(schema);
                self.rule(&format!("python_{at}"), &format!("(keyword_{at} (\", \" keyword_{at})*)?"));
                self.rule(&format!("keyword_{at}"), &format!("({keywords}) \"=\" python"));
            } else {
                self.rule(&format!("arguments_{at}"), &format!("%json {schema}"));
            }
        }
        if self.format.body == Body::Python {
            self.text.push_str(PYTHON);
        }
    }

    fn rule(&mut self, name: &str, is: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{name}: {is}");
    }

    /// One, or several with the separator between.
    fn repeat(&self, what: &str, separator: &str) -> String {
        match (self.parallel, separator) {
            (false, _) => what.to_owned(),
            (true, "") => format!("({what})+"),
            (true, separator) => format!("{what} ({} {what})*", quoted(separator)),
        }
    }

    fn close(&self) -> String {
        if self.format.close.is_empty() { String::new() } else { format!(" {}", self.mark(self.format.close)) }
    }

    /// A text that may be a control token.
    fn mark(&self, text: &str) -> String {
        (self.vocabulary.control)(text).map_or_else(|| quoted(text), |id| format!("<[{id}]>"))
    }

    /// Any of the tokens that end generation.
    fn end(&self) -> String {
        let ends: Vec<String> = self.vocabulary.ends.iter().map(u32::to_string).collect();
        format!("<[{}]>", ends.join(","))
    }

    fn trigger(&self, text: &str) -> Trigger {
        (self.vocabulary.control)(text).map_or_else(|| Trigger::Text(text.to_owned()), |id| Trigger::Tokens(vec![id]))
    }
}

/// Literals of Python, as far as [`super::python`] reads them.
const PYTHON: &str = r#"
python: PYTHON_STRING | PYTHON_NUMBER | "True" | "False" | "None" | python_list | python_dict
python_list: "[" (python (", " python)*)? "]"
python_dict: "{" (python_item (", " python_item)*)? "}"
python_item: PYTHON_STRING ": " python
PYTHON_STRING: /"([^"\\\x00-\x1f]|\\["\\nt])*"/ | /'([^'\\\x00-\x1f]|\\['\\nt])*'/
PYTHON_NUMBER: /-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,15})?/
"#;

/// What keywords a tool's arguments have.
fn keywords(schema: &Value) -> String {
    let is_name = |name: &&String| {
        let mut chars = name.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_') && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    let names: Vec<String> = properties.into_iter().flat_map(Map::keys).filter(is_name).map(|name| quoted(name)).collect();
    if names.is_empty() { "/[a-z_][a-z0-9_]{0,63}/".to_owned() } else { names.join(" | ") }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
