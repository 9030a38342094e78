//! Arguments of tool calls. APIs carry them as JSON text, and some templates want the object that the text describes.

use serde_json::{Map, Value};

/// How templates that want objects read them. Known by its text, as llama.cpp's minja knows it; every other template gets arguments as
/// they were given.
const READS_OBJECTS: [&str; 2] = ["tool_call.arguments | items", "tool_call.arguments | tojson"];

/// `context` with all arguments that are a JSON object's text as that object, where the template at `source` wants objects; `None`
/// where nothing changes.
pub(super) fn as_objects(source: &str, context: &Map<String, Value>) -> Option<Map<String, Value>> {
    if !READS_OBJECTS.iter().any(|reads| source.contains(reads)) {
        return None;
    }
    let mut objects = context.clone();
    let messages = objects.get_mut("messages").and_then(Value::as_array_mut);
    for message in messages.into_iter().flatten() {
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten() {
            let Some(arguments) = call.get_mut("function").and_then(|f| f.get_mut("arguments")) else { continue };
            if let Some(object) = arguments.as_str().and_then(|text| serde_json::from_str(text).ok()).filter(Value::is_object) {
                *arguments = object;
            }
        }
    }
    Some(objects)
}
