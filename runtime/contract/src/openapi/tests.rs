//! What a generator of clients would trip over.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{document, every, schemas};

/// Every object of the document with its place.
fn objects(value: &Value, at: &str, seen: &mut dyn FnMut(&str, &serde_json::Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            seen(at, members);
            members.iter().for_each(|(name, value)| objects(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), seen));
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| objects(value, &format!("{at}/{index}"), seen)),
        _ => {}
    }
}

#[test]
fn references_lead_somewhere() {
    let document = document();
    let mut count = 0;
    objects(&document, "", &mut |at, members| {
        if let Some(reference) = members.get("$ref") {
            let target = reference.as_str().and_then(|reference| reference.strip_prefix('#')).unwrap_or_default();
            assert!(!target.is_empty() && document.pointer(target).is_some(), "{at}: {reference}");
            count += 1;
        }
    });
    assert!(count > 300, "{count}");
}

#[test]
fn no_two_types_have_one_name() {
    let all: BTreeSet<String> = schemas().keys().cloned().collect();
    let names: BTreeSet<String> = every().names().into_iter().collect();
    assert_eq!(
        names.difference(&all).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "a number behind a name means a second type of that name"
    );
    assert_eq!(names, all);
    // Each dialect's own are all there, as they are alone.
    for (name, alone) in crate::messages::schemas().into_iter().chain(crate::openai::schemas()) {
        assert_eq!(schemas().get(&name), Some(&alone), "{name} has another meaning in the whole");
    }
}

#[test]
fn components_have_names_that_openapi_allows() {
    let document = document();
    for (kind, components) in document["components"].as_object().expect("components") {
        for name in components.as_object().expect("a map").keys() {
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')), "{kind}: {name}");
        }
    }
}

#[test]
fn no_component_is_for_nobody() {
    let document = document();
    let mut referred = BTreeSet::new();
    objects(&document, "", &mut |_, members| {
        if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
            referred.insert(reference.to_owned());
        }
    });
    for kind in ["schemas", "responses", "parameters", "headers"] {
        for name in document["components"][kind].as_object().expect("components").keys() {
            assert!(referred.contains(&format!("#/components/{kind}/{name}")), "nothing refers to {kind}/{name}");
        }
    }
}

#[test]
fn descriptions_speak_of_the_wire() {
    let document = document();
    objects(&document, "", &mut |at, members| {
        let about = members.get("description").and_then(Value::as_str).unwrap_or_default();
        assert!(!about.contains("[`") && !about.contains("::"), "{at}: {about}");
    });
}

#[test]
fn operations_are_told_apart_and_say_how_they_fail() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            let responses = operation["responses"].as_object().expect("responses");
            assert!(responses.contains_key("200") && responses.contains_key("403"), "{method} {path}");
            let open = operation.get("security").is_some();
            assert_eq!(responses.contains_key("401"), !open, "{method} {path}");
            let named = path.matches('{').count();
            let parameters = operation["parameters"]
                .as_array()
                .map_or(0, |all| all.iter().filter(|p| p["$ref"].as_str().is_some_and(|r| r.ends_with("/model"))).count());
            assert_eq!(named, parameters, "{method} {path}");
        }
    }
    assert_eq!(ids.len(), 16);
}
