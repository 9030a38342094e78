//! The field table against the schemas.

#[cfg(feature = "schema")]
mod table {
    use std::collections::{BTreeSet, HashSet};

    use serde_json::{Map, Value};

    use crate::messages::{FIELDS, schemas};

    /// Paths of all fields and types under a schema. What a named type is made of is listed where it stands first.
    struct Walk<'a> {
        components: &'a Map<String, Value>,
        known: HashSet<&'a str>,
        paths: Vec<String>,
    }

    impl<'a> Walk<'a> {
        fn walk(&mut self, path: &str, schema: &'a Value) {
            if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
                let name = reference.rsplit('/').next().expect("a name");
                if self.known.insert(name) {
                    self.walk(path, self.components.get(name).expect("a component"));
                }
            }
            for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                if name == "type" {
                    continue;
                }
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                self.paths.push(path.clone());
                self.walk(&path, property);
            }
            if let Some(items) = schema.get("items") {
                self.walk(&format!("{path}.*"), items);
            }
            for arm in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
                let tags = arm.pointer("/allOf/1/properties/type").map_or(Vec::new(), |tag| match tag.get("enum") {
                    Some(tags) => tags.as_array().expect("tags").iter().collect(),
                    None => vec![&tag["const"]],
                });
                let arms: Vec<String> = tags.iter().filter_map(|tag| tag.as_str()).map(|tag| format!("{path}{{{tag}}}")).collect();
                self.paths.extend(arms.iter().cloned());
                if arm.pointer("/properties/type/not").is_some() {
                    self.paths.push(format!("{path}{{*}}"));
                }
                match arms.last() {
                    Some(last) => self.walk(last, &arm["allOf"][0]),
                    None => self.walk(path, arm),
                }
            }
        }
    }

    #[test]
    fn every_field_has_a_row_and_every_row_a_field() {
        let components = schemas();
        let mut walk = Walk { components: &components, known: HashSet::new(), paths: Vec::new() };
        walk.walk("", &components["MessageCreateParams"]);
        let fields: BTreeSet<&str> = walk.paths.iter().map(String::as_str).collect();
        let rows: BTreeSet<&str> = FIELDS.iter().map(|row| row.path).collect();
        assert_eq!(rows.len(), FIELDS.len(), "a path has two rows");
        let without: Vec<&String> = walk.paths.iter().filter(|path| !rows.contains(path.as_str())).collect();
        let nowhere: Vec<&&str> = rows.difference(&fields).collect();
        assert!(without.is_empty() && nowhere.is_empty(), "fields without a row:\n{without:#?}\nrows without a field:\n{nowhere:#?}");
        let order: Vec<&str> = FIELDS.iter().map(|row| row.path).collect();
        assert_eq!(order, walk.paths, "rows stand in the order of the schema");
    }

    #[test]
    fn counting_knows_no_field_that_creating_does_not() {
        let components = schemas();
        let names = |of: &str| -> BTreeSet<String> { components[of]["properties"].as_object().expect("fields").keys().cloned().collect() };
        let (count, create) = (names("CountTokensParams"), names("MessageCreateParams"));
        assert!(count.is_subset(&create), "{:?}", count.difference(&create));
    }

    #[test]
    fn what_goes_out_has_every_key() {
        let components = schemas();
        let required = |of: &str| -> Vec<&str> {
            components[of]["required"].as_array().expect("a list").iter().map(|name| name.as_str().expect("a name")).collect()
        };
        for key in ["stop_reason", "stop_sequence", "stop_details", "container", "diagnostics", "usage"] {
            assert!(required("Message").contains(&key), "{key}");
        }
        assert!(required("ErrorBody").contains(&"request_id"));
        // Clients that check answers take it to be an array or nothing.
        assert!(!required("TextBlock").contains(&"citations"));
        assert_eq!(required("MessageCreateParams"), ["model", "messages", "max_tokens"]);
    }

    #[test]
    fn references_lead_to_components() {
        fn check(value: &Value, components: &Map<String, Value>) {
            match value {
                Value::Object(members) => {
                    if let Some(reference) = members.get("$ref") {
                        let name = reference.as_str().and_then(|reference| reference.strip_prefix("#/components/schemas/"));
                        assert!(name.is_some_and(|name| components.contains_key(name)), "{reference}");
                    }
                    members.values().for_each(|value| check(value, components));
                }
                Value::Array(items) => items.iter().for_each(|value| check(value, components)),
                _ => {}
            }
        }
        let components = schemas();
        components.values().for_each(|schema| check(schema, &components));
        let roots = [
            "MessageCreateParams",
            "CountTokensParams",
            "Message",
            "StreamEvent",
            "TokensCount",
            "ModelPage",
            "RateLimitPage",
            "ErrorBody",
        ];
        for name in roots {
            assert!(components.contains_key(name), "{name}");
        }
    }
}
