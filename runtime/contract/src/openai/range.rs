//! Numbers, lists and names within their bounds, errors with their leaf.

use std::collections::HashSet;
use std::fmt::Display;

use serde_json::{Map, Value, json};

use crate::ask::{Role, Turn};
use crate::error::ApiError;
use crate::limits::{BIASES, STOP_BYTES, STOPS, TOOLS};
use crate::path::Path;
use crate::values::Values;

/// Longest name of a tool, as the neutral form allows. OpenAI allows 64.
const NAME: usize = 128;

/// A number within bounds, both included. A parser reads no NaN, and none is let through.
pub(super) fn number(path: impl Into<Path>, value: Option<f64>, low: f64, high: f64) -> Result<Option<f32>, ApiError> {
    match value {
        None => Ok(None),
        Some(x) if (low..=high).contains(&x) => Ok(Some(x as f32)),
        Some(x) => Err(outside(path, x, low, high)),
    }
}

/// A count within bounds, both included.
pub(super) fn count(path: &str, value: Option<i64>, low: u32, high: u32) -> Result<Option<u32>, ApiError> {
    match value {
        None => Ok(None),
        Some(n) => match u32::try_from(n) {
            Ok(n) if (low..=high).contains(&n) => Ok(Some(n)),
            _ if high == u32::MAX => Err(ApiError::invalid(path, format_args!("{n} is not a count; give {low} or more"))),
            _ => Err(outside(path, n, low, high)),
        },
    }
}

fn outside(path: impl Into<Path>, value: impl Display, low: impl Display, high: impl Display) -> ApiError {
    ApiError::invalid(path, format_args!("{value} is out of range; give {low} to {high}"))
}

/// Notes of a caller's own: texts by name.
pub(super) fn metadata(notes: Option<&Map<String, Value>>) -> Result<(), ApiError> {
    match notes.into_iter().flatten().find(|(_, value)| !value.is_string()) {
        Some((name, value)) => {
            let path = Path::from("metadata").key(name);
            Err(ApiError::invalid(path, format_args!("expected a string, found {}", crate::leaf::kind_of(value))))
        }
        None => Ok(()),
    }
}

/// Biases by token id.
pub(super) fn logit_bias(bias: Option<&Map<String, Value>>) -> Result<Vec<(u32, f32)>, ApiError> {
    let Some(bias) = bias else { return Ok(Vec::new()) };
    if bias.len() > BIASES {
        return Err(ApiError::invalid("logit_bias", format_args!("{} biases are too many; give at most {BIASES}", bias.len())));
    }
    let mut list = Vec::with_capacity(bias.len());
    for (id, value) in bias {
        let path = Path::from("logit_bias").key(id);
        let token: u32 = id.parse().map_err(|_| ApiError::invalid(&path, "the key is not a token id; give whole numbers as keys"))?;
        let value = value.as_f64().ok_or_else(|| ApiError::invalid(&path, "expected a number from -100 to 100"))?;
        list.extend(number(&path, Some(value), -100.0, 100.0)?.map(|value| (token, value)));
    }
    // Two spellings of one id ("7", "07") would count twice.
    list.sort_by_key(|(id, _)| *id);
    match list.windows(2).find(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
        Some([(id, _), _]) => Err(ApiError::invalid(Path::from("logit_bias").key(&id.to_string()), "this token id is given twice")),
        _ => Ok(list),
    }
}

/// Texts that end an answer.
pub(super) fn stop(stop: Option<super::Stop>) -> Result<Vec<String>, ApiError> {
    let list = match stop {
        None => return Ok(Vec::new()),
        Some(super::Stop::Text(text)) if text.is_empty() => {
            return Err(ApiError::invalid("stop", "a text that ends the answer may not be empty; leave `stop` out instead"));
        }
        Some(super::Stop::Text(text)) if text.len() > STOP_BYTES => return Err(ApiError::invalid("stop", long_stop())),
        Some(super::Stop::Text(text)) => return Ok(vec![text]),
        Some(super::Stop::Texts(list)) => list,
    };
    if list.len() > STOPS {
        return Err(ApiError::invalid("stop", format_args!("{} texts are too many; give at most {STOPS}", list.len())));
    }
    if let Some(index) = list.iter().position(|text| text.len() > STOP_BYTES) {
        return Err(ApiError::invalid(format!("stop.{index}"), long_stop()));
    }
    match list.iter().position(String::is_empty) {
        Some(index) => Err(ApiError::invalid(format!("stop.{index}"), "a text that ends the answer may not be empty")),
        None => Ok(list),
    }
}

fn long_stop() -> String {
    format!("a text that ends the answer has at most {STOP_BYTES} bytes; give a shorter one")
}

/// Refuses more tools than a request may have.
pub(super) fn tools(count: usize) -> Result<(), ApiError> {
    match count > TOOLS {
        true => Err(ApiError::invalid("tools", format_args!("{count} tools are too many; give at most {TOOLS}"))),
        false => Ok(()),
    }
}

/// A model's name.
pub(super) fn model(model: &str) -> Result<(), ApiError> {
    if model.is_empty() {
        return Err(ApiError::invalid("model", "a model's name may not be empty; GET /v1/models lists them"));
    }
    Ok(())
}

/// Checks that a name is one that a tool may have. Names of earlier calls land in the prompt too, between the model's own marks.
pub(super) fn called(path: &str, name: &str) -> Result<(), ApiError> {
    let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if name.is_empty() || name.len() > NAME || !fits {
        return Err(ApiError::invalid(path, format_args!("a tool's name is 1 to {NAME} letters, digits, `_` or `-` of ASCII")));
    }
    Ok(())
}

/// A tool's name: well formed, and not given before.
pub(super) fn tool_name(path: &str, name: &str, known: &mut HashSet<String>) -> Result<(), ApiError> {
    called(path, name)?;
    if !known.insert(name.to_owned()) {
        return Err(ApiError::invalid(path, format_args!("two tools are called `{name}`; names must differ")));
    }
    Ok(())
}

/// The schema of a tool's arguments, at this path. A tool without one takes none, and one that does not say so takes objects only all the same.
pub(super) fn parameters(path: &str, given: Option<Map<String, Value>>) -> Result<Value, ApiError> {
    let Some(mut schema) = given else {
        return Ok(json!({ "type": "object", "properties": {}, "additionalProperties": false }));
    };
    let object = || Value::from("object");
    match schema.get("type") {
        Some(Value::String(kind)) if kind == "object" => {}
        // A call has arguments: `null` beside `object` can't be meant.
        Some(Value::Array(kinds)) if kinds.contains(&object()) => {
            schema.insert("type".to_owned(), object());
        }
        Some(_) => return Err(ApiError::invalid(format!("{path}.type"), "must be `object`")),
        // First, as people write it: models are shown the schema.
        None => {
            schema.shift_insert(0, "type".to_owned(), object());
        }
    }
    Ok(Value::Object(schema))
}

/// Arguments that a model gave, which must be an object's JSON. None at all are the empty object. They count towards the values of their body.
pub(super) fn arguments(path: &str, text: &str, values: &mut Values) -> Result<Value, ApiError> {
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    values.take(text.as_bytes())?;
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(other) => {
            Err(ApiError::invalid(path, format_args!("expected the JSON text of an object, found {}", crate::leaf::kind_of(&other))))
        }
        Err(error) => Err(ApiError::invalid(path, format_args!("this is not JSON text: {error}"))),
    }
}

/// The turn that a part of this role goes on with: the last one where the role is the same, else a new one.
pub(super) fn turn(turns: &mut Vec<Turn>, role: Role, goes_on: bool) -> &mut Turn {
    let same = goes_on && turns.last().is_some_and(|last| last.role == role);
    if !same {
        turns.push(Turn { role, parts: Vec::new() });
    }
    let last = turns.len() - 1;
    &mut turns[last]
}
