//! Whether a schema that refers to itself has a value that ends.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Checks a prepared schema.
///
/// # Errors
/// A pointer to a definition that no finite value satisfies.
pub(super) fn check(schema: &Value) -> Result<(), (String, String)> {
    let none = Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&none);
    let mut ends: HashMap<String, bool> = definitions.keys().map(|name| (format!("#/$defs/{name}"), false)).collect();
    ends.insert("#".to_owned(), false);
    loop {
        let mut changed = false;
        let all = definitions.iter().map(|(name, made)| (format!("#/$defs/{name}"), made)).chain([("#".to_owned(), schema)]);
        for (name, made) in all {
            if !ends.get(&name).copied().unwrap_or(true) && finite(made, &ends) {
                ends.insert(name, true);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let why = || {
        "it refers to itself without an end: no finite value satisfies it; let one property be optional, or give an option that ends"
            .to_owned()
    };
    match definitions.keys().find(|name| ends.get(&format!("#/$defs/{name}")) == Some(&false)) {
        Some(name) => Err((format!("/$defs/{name}"), why())),
        None if ends.get("#") == Some(&false) => Err((String::new(), why())),
        None => Ok(()),
    }
}

/// Whether a value may end, as far as is known of what it refers to.
fn finite(schema: &Value, ends: &HashMap<String, bool>) -> bool {
    let Value::Object(members) = schema else { return true };
    let list = |key: &str| members.get(key).and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
    if let Some(to) = members.get("$ref").and_then(Value::as_str)
        && ends.get(to) == Some(&false)
    {
        return false;
    }
    if !list("allOf").iter().all(|part| finite(part, ends)) {
        return false;
    }
    for key in ["anyOf", "oneOf"] {
        let options = list(key);
        if !options.is_empty() && !options.iter().any(|option| finite(option, ends)) {
            return false;
        }
    }
    // Another type may do in place of an object or a list.
    let only = |name: &str| match members.get("type") {
        Some(Value::String(own)) => own == name,
        Some(Value::Array(names)) => names.iter().all(|own| own == name),
        _ => false,
    };
    if only("object") {
        let required = list("required").iter().filter_map(Value::as_str);
        let property =
            |name: &str| members.get("properties").and_then(|properties| properties.get(name)).or(members.get("additionalProperties"));
        if !required.filter_map(property).all(|property| finite(property, ends)) {
            return false;
        }
    }
    if only("array") {
        let least = members.get("minItems").and_then(Value::as_u64).unwrap_or(0) as usize;
        let first = list("prefixItems");
        if !first.iter().take(least).all(|item| finite(item, ends)) {
            return false;
        }
        if least > first.len() && members.get("items").is_some_and(|items| !finite(items, ends)) {
            return false;
        }
    }
    true
}
