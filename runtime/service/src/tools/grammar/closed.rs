//! Objects without `additionalProperties` are closed: small models invent members for as long as they may. JSON Schema leaves them open, and a key of a
//! model's configuration does too.
//!
//! What `allOf`, `anyOf`, `oneOf` and references put together is closed as one: no part forbids what another names.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// Work that closing may take, in subschemas visited; a schema that takes more stays open.
const MOST: usize = 20_000;

/// Subschemas inside each other, or referring to the next.
const DEEPEST: usize = 256;

/// A schema whose objects are closed, if that can be done.
pub(super) fn closed(schema: &Value) -> Option<Value> {
    let mut closing = Closing { root: schema, definitions: HashMap::new(), made: Map::new(), visits: 0, depth: 0 };
    let mut made = closing.subschema(schema, None)?;
    if let Value::Object(members) = &mut made
        && !closing.made.is_empty()
    {
        let definitions = members.entry("$defs").or_insert_with(|| json!({}));
        if let Value::Object(definitions) = definitions {
            definitions.extend(closing.made);
        }
    }
    Some(made)
}

/// What a part of an object is closed by: the names that other parts have.
type Others = Vec<String>;

struct Closing<'a> {
    root: &'a Value,
    /// Names of closed definitions, by what they close and the other names that they allow; `None`: the part stays open.
    definitions: HashMap<(String, Option<Option<Others>>), String>,
    made: Map<String, Value>,
    visits: usize,
    depth: usize,
}

/// How an object is to be closed.
#[derive(Clone)]
enum How {
    /// It is a part of what is closed elsewhere.
    Open,
    /// With these names beside its own.
    Beside(Others),
}

impl<'a> Closing<'a> {
    fn subschema(&mut self, schema: &'a Value, how: Option<How>) -> Option<Value> {
        self.visits += 1;
        self.depth += 1;
        let made = if self.visits > MOST || self.depth > DEEPEST { None } else { self.object(schema, how) };
        self.depth -= 1;
        made
    }

    fn object(&mut self, schema: &'a Value, how: Option<How>) -> Option<Value> {
        let Value::Object(members) = schema else { return Some(schema.clone()) };
        let how = how.unwrap_or(How::Beside(Vec::new()));
        let parts = ["$ref", "allOf", "anyOf", "oneOf"].iter().filter(|key| members.contains_key(**key)).count();
        let says = members.contains_key("additionalProperties") || members.contains_key("patternProperties");
        let own = members.contains_key("properties") || members.contains_key("required") || members.contains_key("patternProperties");
        let mut made = Map::new();
        for (key, value) in members {
            let value = match key.as_str() {
                // Definitions are made where they are referred to; what else refers to them finds them as they were.
                "properties" | "patternProperties" => self.each(value)?,
                "items" | "additionalProperties" | "additionalItems" if !value.is_array() => self.subschema(value, None)?,
                "prefixItems" | "items" => self.all(value, None)?,
                "$ref" | "allOf" | "anyOf" | "oneOf" => continue,
                _ => value.clone(),
            };
            made.insert(key.clone(), value);
        }
        let options = |key: &str| members.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        match &how {
            // Only options, or only a reference: each is closed by itself.
            How::Beside(_) if parts == 1 && !own && !members.contains_key("allOf") => self.parts(members, &mut made, &how)?,
            How::Beside(_) if parts == 0 => close(members, &mut made, &how),
            // One list of options beside what holds for all of them: each is closed with the names of the rest.
            How::Beside(others) if options("anyOf") + options("oneOf") > 0 && !says && parts == 1 => {
                let mut names = others.clone();
                named(members, &mut names);
                self.parts(members, &mut made, &How::Beside(names))?;
            }
            How::Beside(others) => {
                let mut names = others.clone();
                let closable = self.names(schema, &mut names, 0);
                self.parts(members, &mut made, &How::Open)?;
                if closable {
                    close(members, &mut made, &How::Beside(names));
                }
            }
            How::Open => self.parts(members, &mut made, &How::Open)?,
        }
        Some(Value::Object(made))
    }

    fn parts(&mut self, members: &'a Map<String, Value>, made: &mut Map<String, Value>, how: &How) -> Option<()> {
        for (key, value) in members {
            match key.as_str() {
                "$ref" => drop(made.insert(key.clone(), self.reference(value, how)?)),
                "allOf" | "anyOf" | "oneOf" => drop(made.insert(key.clone(), self.all(value, Some(how))?)),
                _ => {}
            }
        }
        Some(())
    }

    fn reference(&mut self, value: &'a Value, how: &How) -> Option<Value> {
        let Some((text, target)) = value.as_str().and_then(|text| Some((text, self.target(text)?))) else { return Some(value.clone()) };
        let key = match how {
            How::Open => None,
            How::Beside(others) => Some(Some(others.clone())),
        };
        let key = (text.to_owned(), key);
        let name = match self.definitions.get(&key) {
            Some(name) => name.clone(),
            None => {
                let name = format!("closed {}", self.definitions.len());
                self.definitions.insert(key, name.clone());
                let made = self.subschema(target, Some(how.clone()))?;
                self.made.insert(name.clone(), made);
                name
            }
        };
        Some(Value::from(format!("#/$defs/{}", name.replace(' ', "%20"))))
    }

    fn target(&self, text: &str) -> Option<&'a Value> {
        let fragment = text.strip_prefix('#')?;
        let mut bytes = Vec::new();
        let mut rest = fragment.bytes();
        while let Some(byte) = rest.next() {
            let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
            bytes.push(if byte == b'%' { (digit()? * 16 + digit()?) as u8 } else { byte });
        }
        self.root.pointer(&String::from_utf8(bytes).ok()?)
    }

    fn each(&mut self, value: &'a Value) -> Option<Value> {
        let Value::Object(members) = value else { return Some(value.clone()) };
        let mut made = Map::new();
        for (name, schema) in members {
            made.insert(name.clone(), self.subschema(schema, None)?);
        }
        Some(Value::Object(made))
    }

    fn all(&mut self, value: &'a Value, how: Option<&How>) -> Option<Value> {
        let Value::Array(schemas) = value else { return Some(value.clone()) };
        let mut made = Vec::new();
        for schema in schemas {
            made.push(self.subschema(schema, how.cloned())?);
        }
        Some(Value::Array(made))
    }

    /// Adds all names of what is put together; whether any part names some, and none says itself what else there may be.
    fn names(&self, schema: &Value, names: &mut Others, depth: usize) -> bool {
        let Value::Object(members) = schema else { return false };
        if depth > 64 || names.len() > MOST {
            return false;
        }
        let before = names.len();
        named(members, names);
        let mut any = names.len() > before || members.contains_key("properties");
        if members.contains_key("additionalProperties") || members.contains_key("patternProperties") {
            return false;
        }
        if let Some(target) = members.get("$ref").and_then(Value::as_str).and_then(|text| self.target(text)) {
            any |= self.names(target, names, depth + 1);
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            for part in members.get(key).and_then(Value::as_array).into_iter().flatten() {
                any |= self.names(part, names, depth + 1);
            }
        }
        any
    }
}

/// Adds the names that a schema itself has.
fn named(members: &Map<String, Value>, names: &mut Others) {
    let properties = members.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let required = members.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for name in properties.map(String::as_str).chain(required) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
}

/// Closes an object, where it has properties and does not say itself what else there may be.
fn close(members: &Map<String, Value>, made: &mut Map<String, Value>, how: &How) {
    let How::Beside(others) = how else { return };
    let object = match members.get("type") {
        None => true,
        Some(Value::String(name)) => name == "object",
        Some(Value::Array(names)) => names.iter().any(|name| name == "object"),
        Some(_) => false,
    };
    let free = !members.contains_key("properties") && others.is_empty();
    if !object || free || members.contains_key("additionalProperties") {
        return;
    }
    let mut names = others.clone();
    named(members, &mut names);
    let least = members.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
    if least > names.len() as u64 && !members.contains_key("patternProperties") {
        return;
    }
    let properties = made.entry("properties").or_insert_with(|| json!({}));
    if let Value::Object(properties) = properties {
        for name in names {
            properties.entry(name).or_insert(Value::Bool(true));
        }
    }
    made.insert("additionalProperties".to_owned(), Value::Bool(false));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(schema: Value, want: Value) {
        assert_eq!(closed(&schema), Some(want), "{schema}");
    }

    #[test]
    fn objects_are_closed_and_free_json_is_not() {
        is(
            json!({"type": "object", "properties": {"a": {}}}),
            json!({"type": "object", "properties": {"a": {}}, "additionalProperties": false}),
        );
        is(json!({"type": "object", "properties": {}}), json!({"type": "object", "properties": {}, "additionalProperties": false}));
        for open in
            [json!({}), json!(true), json!({"type": "object"}), json!({"type": "object", "additionalProperties": {"type": "integer"}})]
        {
            is(open.clone(), open);
        }
        let open = json!({"type": "object", "properties": {"a": true}, "additionalProperties": true});
        is(open.clone(), open);
        // What is required is named.
        is(
            json!({"properties": {"a": true}, "required": ["b"]}),
            json!({"properties": {"a": true, "b": true}, "required": ["b"], "additionalProperties": false}),
        );
        let more = json!({"type": "object", "properties": {"a": true}, "minProperties": 3});
        is(more.clone(), more);
    }

    #[test]
    fn what_is_put_together_is_closed_as_one() {
        let a = json!({"properties": {"a": {"properties": {"x": true}}}});
        let b = json!({"properties": {"b": true}});
        is(
            json!({"type": "object", "allOf": [a, b]}),
            json!({
                "type": "object",
                "allOf": [{"properties": {"a": {"properties": {"x": true}, "additionalProperties": false}}}, {"properties": {"b": true}}],
                "properties": {"a": true, "b": true},
                "additionalProperties": false,
            }),
        );
        // Options are closed each, with the names of what holds for all.
        is(
            json!({"properties": {"kind": true}, "anyOf": [{"properties": {"a": true}}, {"required": ["c"]}]}),
            json!({
                "properties": {"kind": true},
                "anyOf": [
                    {"properties": {"a": true, "kind": true}, "additionalProperties": false},
                    {"required": ["c"], "properties": {"kind": true, "c": true}, "additionalProperties": false},
                ],
            }),
        );
    }

    #[test]
    fn definitions_are_closed_as_they_are_used() {
        let made = closed(&json!({
            "$defs": {"base": {"properties": {"id": true, "next": {"$ref": "#/$defs/base"}}}},
            "properties": {"one": {"$ref": "#/$defs/base"}, "more": {"allOf": [{"$ref": "#/$defs/base"}, {"properties": {"more": true}}]}},
        }));
        let made = made.expect("closed");
        let follow =
            |at: &Value| made.pointer(&at["$ref"].as_str().expect("a reference")[1..].replace("%20", " ")).expect("a definition").clone();
        let alone = follow(&made["properties"]["one"]);
        assert_eq!(alone["additionalProperties"], json!(false), "{made}");
        assert_eq!(follow(&alone["properties"]["next"]), alone);
        let part = follow(&made["properties"]["more"]["allOf"][0]);
        assert!(part.get("additionalProperties").is_none(), "{made}");
        assert_eq!(made["properties"]["more"]["properties"], json!({"id": true, "next": true, "more": true}));
    }
}
