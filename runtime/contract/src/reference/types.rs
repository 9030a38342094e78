//! Schemas as types of TypeScript.
//!
//! Only what our schemas use is known here: objects, lists, unions, intersections, literals, references. Two things are left out on purpose.
//! Members that no schema names may be sent, but an index signature would take the checking of the others away. And the arm of a union for types that
//! nobody knows here would match all of them, so that `switch (block.type)` could tell none.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Declarations of all schemas, for a `.d.ts` file.
pub fn types(schemas: &Map<String, Value>) -> String {
    let mut text = BEGINNING.to_owned();
    for (name, schema) in schemas {
        text.push('\n');
        comment(&mut text, schema, 0);
        // An index signature in a type of its own would refuse every interface.
        let is_open = schema.get("type").is_some_and(|named| named == "object") && schema.get("properties").is_none();
        let said = if is_open { "object".to_owned() } else { of(schema, 0) };
        let _ = writeln!(text, "export type {} = {said};", identifier(name));
    }
    text
}

const BEGINNING: &str = "// Made from the types in runtime/contract: change those, then run
// `cargo run -p firecrest-contract --features schema --example reference`.
//
// Bodies of requests and responses. Members and types of blocks that are not named here may be sent too: they are refused with their path, or
// dropped and listed in `firecrest-ignored-fields`.
";

/// What a schema says of a value, at so many steps of indentation.
fn of(schema: &Value, depth: usize) -> String {
    let Some(schema) = schema.as_object() else { return "unknown".to_owned() };
    let mut all: Vec<String> = Vec::new();
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        all.push(identifier(reference.rsplit('/').next().unwrap_or(reference)));
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(arms) = schema.get(key).and_then(Value::as_array) {
            all.push(union(arms.iter().filter(|arm| !is_rest(arm)).map(|arm| of(arm, depth)).collect()));
        }
    }
    if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
        // What a part only rules out, types can't say.
        all.extend(parts.iter().map(|part| of(part, depth)).filter(|part| part != "unknown"));
    }
    if let Some(value) = schema.get("const") {
        all.push(value.to_string());
    } else if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        all.push(union(values.iter().map(Value::to_string).collect()));
    } else if let Some(named) = schema.get("type") {
        let names: Vec<&str> = match named {
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        all.push(union(names.into_iter().map(|name| typed(name, schema, depth)).collect()));
    } else if schema.contains_key("properties") {
        all.push(object(schema, depth));
    }
    match all.as_slice() {
        [] => "unknown".to_owned(),
        [one] => one.clone(),
        several => several.iter().map(|part| in_group(part, " | ")).collect::<Vec<_>>().join(" & "),
    }
}

fn typed(name: &str, schema: &Map<String, Value>, depth: usize) -> String {
    match name {
        "string" | "boolean" | "null" => name.to_owned(),
        "integer" | "number" => "number".to_owned(),
        "array" => {
            let items = schema.get("items").map_or_else(|| "unknown".to_owned(), |items| of(items, depth));
            format!("{}[]", in_group(&items, " "))
        }
        "object" => object(schema, depth),
        _ => "unknown".to_owned(),
    }
}

fn object(schema: &Map<String, Value>, depth: usize) -> String {
    let properties = schema.get("properties").and_then(Value::as_object).filter(|properties| !properties.is_empty());
    let Some(properties) = properties else {
        let values = schema.get("additionalProperties").filter(|values| values.is_object());
        return format!("{{ [member: string]: {} }}", values.map_or_else(|| "unknown".to_owned(), |values| of(values, depth)));
    };
    let required: Vec<&str> = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut text = "{\n".to_owned();
    for (name, property) in properties {
        comment(&mut text, property, depth + 1);
        let optional = if required.contains(&name.as_str()) { "" } else { "?" };
        let key = if is_identifier(name) { name.clone() } else { Value::from(name.as_str()).to_string() };
        let _ = writeln!(text, "{}{key}{optional}: {};", indent(depth + 1), of(property, depth + 1));
    }
    text + &indent(depth) + "}"
}

/// Whether an arm of a union stands for all types that the others don't name.
fn is_rest(arm: &Value) -> bool {
    arm.pointer("/properties/type/not").is_some()
}

fn union(mut arms: Vec<String>) -> String {
    let mut seen = std::collections::HashSet::new();
    arms.retain(|arm| seen.insert(arm.clone()));
    match arms.len() {
        0 => "never".to_owned(),
        _ => arms.join(" | "),
    }
}

/// In parentheses where what is inside would be torn apart.
fn in_group(text: &str, by: &str) -> String {
    if !text.starts_with('{') && text.contains(by) { format!("({text})") } else { text.to_owned() }
}

fn comment(text: &mut String, schema: &Value, depth: usize) {
    if let Some(about) = schema.get("description").and_then(Value::as_str) {
        // What would end the comment can't stand in it.
        let about = about.replace("*/", "*\u{200b}/");
        let lines: Vec<&str> = about.lines().collect();
        match lines.as_slice() {
            [one] => {
                let _ = writeln!(text, "{}/** {one} */", indent(depth));
            }
            several => {
                let _ = writeln!(text, "{}/**", indent(depth));
                for line in several {
                    let _ = writeln!(text, "{} * {line}", indent(depth));
                }
                let _ = writeln!(text, "{} */", indent(depth));
            }
        }
    }
}

fn indent(depth: usize) -> String {
    "    ".repeat(depth)
}

fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn is_identifier(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shapes() {
        let ts = |schema: Value| of(&schema, 0);
        assert_eq!(ts(json!({ "type": ["string", "null"] })), "string | null");
        assert_eq!(ts(json!({ "type": "array", "items": { "type": ["integer", "null"] } })), "(number | null)[]");
        assert_eq!(ts(json!({ "type": "array", "items": { "$ref": "#/components/schemas/A" } })), "A[]");
        assert_eq!(ts(json!({ "enum": ["a", null] })), "\"a\" | null");
        assert_eq!(ts(json!({ "type": "object", "additionalProperties": { "type": "number" } })), "{ [member: string]: number }");
        assert_eq!(ts(json!(true)), "unknown");
        let part = json!({ "allOf": [{ "$ref": "#/components/schemas/A" }, { "not": { "required": ["type"] } }] });
        assert_eq!(ts(part), "A");
        let tagged = json!({ "anyOf": [
            { "allOf": [{ "$ref": "#/components/schemas/A" }, { "type": "object", "properties": { "type": { "const": "a" } }, "required": ["type"] }] },
            { "type": "object", "required": ["type"], "properties": { "type": { "type": "string", "not": { "enum": ["a"] } } } },
        ] });
        assert_eq!(ts(tagged), "A & {\n    type: \"a\";\n}");
        let object =
            json!({ "type": "object", "required": ["a"], "properties": { "a": { "type": "string", "description": "A." }, "b-c": true } });
        assert_eq!(ts(object), "{\n    /** A. */\n    a: string;\n    \"b-c\"?: unknown;\n}");
    }
}
