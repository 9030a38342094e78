//! JSON schemas made ready for the compiler: references resolved, annotations left out, and everything bounded that compiling costs.

mod combine;
mod lower;
mod names;
mod number;
mod offending;
mod productive;

use std::collections::HashMap;

use serde_json::{Map, Number, Value, json};

use super::limits;
pub(super) use combine::Spent;
pub(in crate::grammar) use lower::lower;
use names::Names;
pub(in crate::grammar) use offending::offending;

/// What is wrong with a JSON schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFault {
    /// A JSON pointer, as a URI fragment.
    pub place: String,
    /// Why it can't be compiled.
    pub why: String,
}

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// Formats that are held to. All others are annotations (JSON Schema 2020-12, Validation, 7.2.1).
const FORMATS: [&str; 10] = ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Keywords that the standard has, and that can't be held to.
const BEYOND: [&str; 17] = [
    "not",
    "contains",
    "propertyNames",
    "if",
    "then",
    "else",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "minContains",
    "maxContains",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    "$dynamicRef",
    "$recursiveRef",
    "$recursiveAnchor",
];

/// The name of a definition in a prepared schema.
fn definition(index: usize) -> String {
    format!("r{index}")
}

/// A schema as the compiler takes it. All references lead to `$defs` of the root, or to the root.
///
/// # Errors
/// The place of what is wrong or too much.
pub(super) fn prepare(schema: &Value) -> Result<Value, SchemaFault> {
    prepare_within(schema, &mut Spent::default())
}

/// [`prepare`] for one of the schemas of a grammar, which took `spent` together before.
///
/// # Errors
/// The place of what is wrong or too much.
pub(super) fn prepare_within(schema: &Value, spent: &mut Spent) -> Result<Value, SchemaFault> {
    shallow(schema)?;
    let mut preparing =
        Preparing { root: schema, targets: HashMap::new(), definitions: Vec::new(), properties: 0, text: 0, values: 0, weight: 0 };
    let mut prepared = match preparing.subschema(schema, &mut Vec::new(), 0)? {
        Value::Object(members) => members,
        other => return Ok(other),
    };
    if let Some(options) = schema.get("x-guidance") {
        if let Some(Value::String(white)) = options.get("whitespace_pattern") {
            limits::regex(white).map_err(|why| fault(&["x-guidance".to_owned(), "whitespace_pattern".to_owned()], why))?;
        }
        prepared.insert("x-guidance".to_owned(), options.clone());
    }
    let definitions: Vec<(String, Value)> =
        preparing.definitions.into_iter().map(|(at, made)| (at, made.unwrap_or(Value::Bool(true)))).collect();
    if !definitions.is_empty() {
        let definitions: Map<String, Value> =
            definitions.iter().enumerate().map(|(index, (_, made))| (definition(index), made.clone())).collect();
        prepared.insert("$defs".to_owned(), Value::Object(definitions));
    }
    let prepared = Value::Object(prepared);
    let original = |pointer: String| match pointer.strip_prefix("/$defs/r").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
        // Where a definition stood before.
        Some((index, rest)) => match index.parse::<usize>().ok().and_then(|index| definitions.get(index)) {
            Some((at, _)) if rest.is_empty() => at.clone(),
            Some((at, _)) => format!("{at}/{rest}"),
            None => pointer.clone(),
        },
        None => pointer.clone(),
    };
    let relocate = |(pointer, why): (String, String)| SchemaFault { place: format!("#{}", original(pointer)), why };
    productive::check(&prepared).map_err(relocate)?;
    combine::check(&prepared, spent).map_err(relocate)?;
    Ok(prepared)
}

/// Refuses a schema of more levels than anybody writes, without descending by the stack.
fn shallow(schema: &Value) -> Result<(), SchemaFault> {
    let mut rest = vec![(schema, 0)];
    while let Some((value, depth)) = rest.pop() {
        if depth > limits::JSON_DEPTH {
            let why = format!("it has more than {} levels of arrays and objects; flatten it", limits::JSON_DEPTH);
            return Err(SchemaFault { place: "#".to_owned(), why });
        }
        match value {
            Value::Array(elements) => rest.extend(elements.iter().map(|value| (value, depth + 1))),
            Value::Object(members) => rest.extend(members.values().map(|value| (value, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn pointer(path: &[String]) -> String {
    path.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect()
}

/// Why a pattern can't be used, and what to do.
fn unusable(why: &str) -> String {
    // Words of ours say it already.
    match why.contains(';') {
        true => why.to_owned(),
        false => format!("the pattern can't be used: {why}; mend it, or leave it out"),
    }
}

fn fault(path: &[String], why: impl Into<String>) -> SchemaFault {
    SchemaFault { place: format!("#{}", pointer(path)), why: why.into() }
}

struct Preparing<'a> {
    root: &'a Value,
    /// Definitions by the pointers of what is referred to.
    targets: HashMap<String, usize>,
    /// Where each stood, and what became of it.
    definitions: Vec<(String, Option<Value>)>,
    properties: usize,
    text: usize,
    values: usize,
    weight: usize,
}

impl Preparing<'_> {
    fn subschema(&mut self, schema: &Value, path: &mut Vec<String>, depth: usize) -> Result<Value, SchemaFault> {
        if depth >= limits::DEPTH {
            let why = format!("more than {} subschemas inside each other, or referring to the next; shorten the chain", limits::DEPTH);
            return Err(fault(path, why));
        }
        let members = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(members) => members,
            _ => return Err(fault(path, "a schema is an object, true or false")),
        };
        let mut made = Map::new();
        for (key, value) in members {
            path.push(key.clone());
            if let Some(value) = self.keyword(key, value, members, path, depth)? {
                made.insert(key.clone(), value);
            }
            path.pop();
        }
        // As drafts before 2020-12 write it.
        if made.get("items").is_some_and(Value::is_array) {
            if let Some(first) = made.shift_remove("items") {
                made.insert("prefixItems".to_owned(), first);
            }
            if let Some(rest) = made.shift_remove("additionalItems") {
                made.insert("items".to_owned(), rest);
            }
        }
        made.shift_remove("additionalItems");
        self.overlap(&mut made, path)?;
        Ok(Value::Object(made))
    }

    /// What a keyword becomes; `None`: nothing.
    fn keyword(
        &mut self,
        key: &str,
        value: &Value,
        siblings: &Map<String, Value>,
        path: &mut Vec<String>,
        depth: usize,
    ) -> Result<Option<Value>, SchemaFault> {
        let value = match key {
            "$ref" => self.reference(value, path, depth)?,
            "properties" | "patternProperties" => self.named(key, value, path, depth)?,
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => self.listed(value, path, depth)?,
            "items" if value.is_array() => self.listed(value, path, depth)?,
            "items" | "additionalItems" | "additionalProperties" => self.subschema(value, path, depth + 1)?,
            "type" => types(value, path)?,
            "enum" => {
                let values = value.as_array().ok_or_else(|| fault(path, "enum is a list of values"))?;
                for value in values {
                    self.literal(value, path)?;
                }
                value.clone()
            }
            "const" => {
                self.literal(value, path)?;
                value.clone()
            }
            "required" => self.required(value, path)?,
            "pattern" => {
                let text = value.as_str().ok_or_else(|| fault(path, "a pattern is a text"))?;
                self.text(text, path)?;
                limits::pattern(text).map_err(|why| fault(path, unusable(&why)))?;
                self.weigh(1, path)?;
                value.clone()
            }
            "format" => match value.as_str().filter(|format| FORMATS.contains(format)) {
                Some(format) => {
                    self.weigh(if format == "uri" { 8 } else { 2 }, path)?;
                    value.clone()
                }
                None => return Ok(None),
            },
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                if !value.is_boolean() && value.as_f64().is_none_or(|n| !n.is_finite()) {
                    return Err(fault(path, format!("{key} is a number")));
                }
                value.clone()
            }
            "multipleOf" => multiple(value, path)?,
            "minLength" | "minItems" | "minProperties" => {
                let least = count(value, path)?;
                if least > limits::LEAST {
                    return Err(fault(path, format!("at most {} can be held to; give less", limits::LEAST)));
                }
                json!(least)
            }
            "maxLength" | "maxItems" | "maxProperties" => match count(value, path)? {
                // No answer is as long.
                most if most > u64::from(u32::MAX / 4) => return Ok(None),
                most => json!(most),
            },
            // These ask for nothing.
            "uniqueItems" if value == &Value::Bool(false) => return Ok(None),
            "minContains" | "maxContains" if !siblings.contains_key("contains") => return Ok(None),
            "then" | "else" if !siblings.contains_key("if") => return Ok(None),
            "unevaluatedProperties" | "unevaluatedItems" | "propertyNames" if asks_nothing(value) => return Ok(None),
            "dependentRequired" | "dependentSchemas" | "dependencies" if asks_nothing(value) => return Ok(None),
            key if BEYOND.contains(&key) => return Err(fault(path, "this keyword can't be held to; leave it out")),
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    fn reference(&mut self, value: &Value, path: &[String], depth: usize) -> Result<Value, SchemaFault> {
        let text = value.as_str().ok_or_else(|| fault(path, "a $ref is a text"))?;
        let Some(fragment) = text.strip_prefix('#') else {
            return Err(fault(path, "only references within the schema can be followed (#/…); put what it refers to into $defs"));
        };
        let decoded = percent_decoded(fragment).ok_or_else(|| fault(path, "the reference is no URI fragment; write % as %25"))?;
        let decoded = if decoded == "/" && self.root.get("").is_none() { String::new() } else { decoded };
        if !decoded.is_empty() && !decoded.starts_with('/') {
            return Err(fault(path, "only references by place can be followed, not by anchor; write #/$defs/…"));
        }
        if decoded.is_empty() {
            return Ok(Value::from("#"));
        }
        let target = self
            .root
            .pointer(&decoded)
            .ok_or_else(|| fault(path, format!("there is nothing at {text}; define it, or mend the reference")))?;
        let index = match self.targets.get(&decoded) {
            Some(&index) => index,
            None => {
                let index = self.definitions.len();
                self.targets.insert(decoded.clone(), index);
                self.definitions.push((decoded.clone(), None));
                let mut place = decoded.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~")).collect();
                let made = self.subschema(target, &mut place, depth + 1)?;
                self.definitions[index].1 = Some(made);
                index
            }
        };
        Ok(Value::from(format!("#/$defs/{}", definition(index))))
    }

    fn named(&mut self, key: &str, value: &Value, path: &mut Vec<String>, depth: usize) -> Result<Value, SchemaFault> {
        let members = value.as_object().ok_or_else(|| fault(path, format!("{key} is an object")))?;
        match key {
            "properties" => {
                self.properties += members.len();
                if self.properties > limits::PROPERTIES {
                    let why = format!("the schema has more than {} properties; leave some out", limits::PROPERTIES);
                    return Err(fault(path, why));
                }
            }
            _ if members.len() > limits::PATTERN_PROPERTIES => {
                return Err(fault(
                    path,
                    format!("at most {} patterns of properties can be held to; leave some out", limits::PATTERN_PROPERTIES),
                ));
            }
            _ => {}
        }
        let mut made = Map::new();
        for (name, schema) in members {
            path.push(name.clone());
            self.text(name, path)?;
            if key == "patternProperties" {
                limits::pattern(name).map_err(|why| fault(path, unusable(&why)))?;
            }
            made.insert(name.clone(), self.subschema(schema, path, depth + 1)?);
            path.pop();
        }
        Ok(Value::Object(made))
    }

    fn listed(&mut self, value: &Value, path: &mut Vec<String>, depth: usize) -> Result<Value, SchemaFault> {
        let schemas = value.as_array().ok_or_else(|| fault(path, "this is a list of schemas"))?;
        let mut made = Vec::new();
        for (at, schema) in schemas.iter().enumerate() {
            path.push(at.to_string());
            made.push(self.subschema(schema, path, depth + 1)?);
            path.pop();
        }
        Ok(Value::Array(made))
    }

    fn required(&mut self, value: &Value, path: &[String]) -> Result<Value, SchemaFault> {
        let wrong = || fault(path, "required is a list of names");
        let mut names: Vec<&str> = Vec::new();
        for name in value.as_array().ok_or_else(wrong)? {
            let name = name.as_str().ok_or_else(wrong)?;
            self.text(name, path)?;
            names.push(name);
        }
        if names.len() > limits::PROPERTIES {
            return Err(fault(path, format!("at most {} names can be required; leave some out", limits::PROPERTIES)));
        }
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(*name));
        Ok(Value::from(names))
    }

    /// Counts what a value of `enum` or `const` is made of.
    fn literal(&mut self, value: &Value, path: &[String]) -> Result<(), SchemaFault> {
        let mut rest = vec![(value, 0)];
        while let Some((value, depth)) = rest.pop() {
            self.values += 1;
            if self.values > limits::VALUES {
                return Err(fault(path, format!("the schema names more than {} values; leave some out", limits::VALUES)));
            }
            if depth > limits::DEPTH {
                return Err(fault(path, format!("a value of more than {} levels; flatten it", limits::DEPTH)));
            }
            match value {
                Value::String(text) => self.text(text, path)?,
                Value::Array(elements) => rest.extend(elements.iter().map(|value| (value, depth + 1))),
                Value::Object(members) => {
                    for (name, value) in members {
                        self.text(name, path)?;
                        rest.push((value, depth + 1));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn weigh(&mut self, weight: usize, path: &[String]) -> Result<(), SchemaFault> {
        self.weight += weight;
        match self.weight > limits::WEIGHT {
            true => Err(fault(path, "the schema has too many patterns and formats; leave some out")),
            false => Ok(()),
        }
    }

    fn text(&mut self, text: &str, path: &[String]) -> Result<(), SchemaFault> {
        if text.len() > limits::LONGEST_TEXT {
            let why = format!(
                "the schema has a text of {} bytes; at most {} of one can be held to, shorten it",
                text.len(),
                limits::LONGEST_TEXT
            );
            return Err(fault(path, why));
        }
        self.text += text.len();
        if self.text > limits::TEXT {
            let why = format!("the schema's names and values have more than {} bytes; leave some out", limits::TEXT);
            return Err(fault(path, why));
        }
        Ok(())
    }

    /// Holds named properties to the patterns that their names match, and drops patterns that match no other name: after a comma there would be
    /// nothing that may follow.
    fn overlap(&mut self, made: &mut Map<String, Value>, path: &[String]) -> Result<(), SchemaFault> {
        let Some(Value::Object(patterns)) = made.get("patternProperties").cloned() else { return Ok(()) };
        let mut named: Vec<String> = match made.get("properties") {
            Some(Value::Object(properties)) => properties.keys().cloned().collect(),
            _ => Vec::new(),
        };
        if let Some(Value::Array(required)) = made.get("required") {
            named.extend(required.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        named.sort();
        named.dedup();
        let mut kept = Map::new();
        for (pattern, schema) in patterns {
            let names = Names::of(&pattern).map_err(|why| fault(path, why))?;
            let (matched, only) = names.among(&named).map_err(|why| fault(path, why))?;
            for name in matched {
                let properties = made.entry("properties").or_insert_with(|| json!({}));
                let Value::Object(properties) = properties else { continue };
                let slot = properties.entry(name.clone()).or_insert(Value::Bool(true));
                let both = match std::mem::take(slot) {
                    Value::Bool(true) => schema.clone(),
                    own => json!({ "allOf": [own, schema.clone()] }),
                };
                *slot = both;
            }
            if !only {
                kept.insert(pattern, schema);
            }
        }
        match kept.is_empty() {
            true => drop(made.shift_remove("patternProperties")),
            false => drop(made.insert("patternProperties".to_owned(), Value::Object(kept))),
        }
        Ok(())
    }
}

/// Whether a subschema, or a map of them, accepts everything as it stands.
fn asks_nothing(value: &Value) -> bool {
    value == &Value::Bool(true) || value.as_object().is_some_and(Map::is_empty)
}

fn types(value: &Value, path: &[String]) -> Result<Value, SchemaFault> {
    let known = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match value {
        Value::String(name) if !known(value) => Err(fault(path, format!("there is no type {name:?}; give one of {}", TYPES.join(", ")))),
        Value::Array(names) if names.is_empty() || !names.iter().all(known) => {
            Err(fault(path, format!("a list of types has names of types; give some of {}", TYPES.join(", "))))
        }
        Value::Array(names) => {
            let mut unique: Vec<&Value> = Vec::new();
            names.iter().for_each(|name| {
                if !unique.contains(&name) {
                    unique.push(name)
                }
            });
            // What is a whole number is a number.
            let number = unique.iter().any(|name| *name == "number");
            unique.retain(|name| !(number && *name == "integer"));
            Ok(unique.into_iter().cloned().collect())
        }
        Value::String(_) => Ok(value.clone()),
        _ => Err(fault(path, "a type is a name, or a list of names; \"string\", for example")),
    }
}

/// A whole number from 0 on, which JSON Schema also lets be written with a point.
fn count(value: &Value, path: &[String]) -> Result<u64, SchemaFault> {
    let whole = value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| n as u64);
    value.as_u64().or(whole).ok_or_else(|| fault(path, "this is a whole number from 0 on"))
}

/// The largest magnitude of a bound that the compiler's 64-bit numbers can do with.
const FURTHEST: f64 = 9_223_372_036_854_774_784.0;

/// A prepared schema as the compiler can do with it by itself, whose numbers are 64-bit floating point.
///
/// # Errors
/// A number that it would write otherwise.
pub(super) fn plain(schema: &Value) -> Result<Value, String> {
    match schema {
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| {
                let value = match (key.as_str(), value) {
                    ("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum", Value::Number(number)) => bound(key, number)?,
                    ("enum" | "const", value) if !exact_all(value) => {
                        return Err("an integer beyond 2^53 can't be held to exactly here; write it as a text".to_owned());
                    }
                    ("enum" | "const", value) => value.clone(),
                    (_, value) => plain(value)?,
                };
                Ok((key.clone(), value))
            };
            members.iter().map(member).collect()
        }
        Value::Array(elements) => elements.iter().map(plain).collect(),
        other => Ok(other.clone()),
    }
}

/// A bound of numbers, where need be brought near: no number is allowed that was not.
fn bound(key: &str, number: &Number) -> Result<Value, String> {
    let (lower, exact) = (key.to_lowercase().ends_with("minimum"), number.as_f64().unwrap_or_default());
    if lower && exact > FURTHEST || !lower && exact < -FURTHEST {
        return Err("numbers as large can't be held to here; give a nearer bound, or leave it out".to_owned());
    }
    let clamped = exact.clamp(-FURTHEST, FURTHEST);
    if exact != 0.0 && exact.abs() < 1e-15 {
        return Ok(json!(0));
    }
    Ok(if clamped == exact { Value::Number(number.clone()) } else { json!(clamped) })
}

fn exact_all(value: &Value) -> bool {
    match value {
        Value::Number(number) => exact(number),
        Value::Array(elements) => elements.iter().all(exact_all),
        Value::Object(members) => members.values().all(exact_all),
        _ => true,
    }
}

fn multiple(value: &Value, path: &[String]) -> Result<Value, SchemaFault> {
    let number = value.as_f64().filter(|n| n.is_finite() && *n > 0.0).ok_or_else(|| fault(path, "multipleOf is a number above 0"))?;
    let (mut digits, mut scale) = (number, 0);
    while digits.fract() != 0.0 && scale <= limits::MULTIPLE_SCALE {
        digits *= 10.0;
        scale += 1;
    }
    if digits.fract() != 0.0 || scale > limits::MULTIPLE_SCALE || digits > f64::from(limits::MULTIPLE) {
        let (most, places) = (limits::MULTIPLE, limits::MULTIPLE_SCALE);
        return Err(fault(
            path,
            format!(
                "multiples can be held to up to {most}, and to {places} places behind the point with as few digits; round it, or leave it out"
            ),
        ));
    }
    Ok(value.clone())
}

/// Whether the compiler, which counts in 64-bit floating point, writes a number as it is.
fn exact(number: &Number) -> bool {
    const MOST: u64 = 1 << 53;
    match (number.as_i64(), number.as_u64()) {
        (Some(n), _) => n.unsigned_abs() <= MOST,
        (None, Some(_)) => false,
        (None, None) => number.as_f64().is_some_and(|n| n.abs() <= MOST as f64 && (n == 0.0 || n.abs() >= 1e-15)),
    }
}

/// A URI fragment without its escapes.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| (b as char).to_digit(16));
        bytes.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(bytes).ok()
}
