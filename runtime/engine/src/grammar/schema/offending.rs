//! Which keyword of a JSON schema can't be compiled.

use serde_json::Value;

use super::pointer;

/// Compilations tried before the place found so far must do: a refusal must not cost more than many a request.
const TRIES: usize = 24;

/// Bytes compiled for it altogether: what each try costs grows with these.
const BYTES: usize = 256 << 10;

/// A JSON pointer, as a URI fragment, to the deepest subschema or keyword without which the schema compiles.
pub(in crate::grammar) fn offending(schema: &Value, compiles: &dyn Fn(&Value) -> bool) -> String {
    let mut path: Vec<String> = Vec::new();
    let bytes = schema.to_string().len();
    let most = TRIES.min(BYTES / bytes.max(1));
    let mut tries = 0;
    // One step down as long as leaving out a single member or element mends the whole.
    while let Some(at) = schema.pointer(&pointer(&path)) {
        let mut keys: Vec<String> = match at {
            Value::Object(members) => members.keys().cloned().collect(),
            Value::Array(elements) => (0..elements.len()).map(|i| i.to_string()).collect(),
            _ => break,
        };
        // Without its type a schema asks for little: another keyword is the better answer.
        keys.sort_by_key(|key| key == "type");
        let culprit = keys.into_iter().find(|key| {
            tries += 1;
            tries <= most && without(schema, &path, key).is_some_and(|rest| compiles(&rest))
        });
        match culprit {
            Some(key) => path.push(key),
            None => break,
        }
    }
    format!("#{}", pointer(&path))
}

/// The schema without one member, or with one element that accepts anything.
fn without(schema: &Value, path: &[String], key: &str) -> Option<Value> {
    let mut rest = schema.clone();
    match rest.pointer_mut(&pointer(path))? {
        Value::Object(members) => {
            members.shift_remove(key)?;
        }
        Value::Array(elements) => *elements.get_mut(key.parse::<usize>().ok()?)? = Value::Bool(true),
        _ => return None,
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_deepest_place_is_named() {
        let has = |schema: &Value| !schema.to_string().contains("bad");
        let schema = json!({ "type": "object", "properties": { "a/b": { "anyOf": [{ "type": "string" }, { "bad": 1, "type": "null" }] }, "c": true } });
        assert_eq!(offending(&schema, &has), "#/properties/a~1b/anyOf/1/bad");
        assert_eq!(offending(&json!({ "x": "bad", "y": "bad" }), &has), "#");
    }
}
