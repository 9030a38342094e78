//! What becomes of each field of OpenAI's requests. A test holds these rows against the schemas, both ways.

use crate::field_table::Field;
use crate::field_table::Verdict::{Hint, Native, Refuse};
use crate::field_table::field;

mod chat;
mod responses;

pub use chat::CHAT_FIELDS;
pub use responses::RESPONSES_FIELDS;

/// `/v1/completions`.
pub const COMPLETIONS_FIELDS: &[Field] = &[
    field("model", Native, ""),
    field("prompt", Native, "texts or token ids; answers to all prompts together are 128 at most"),
    field("best_of", Refuse, "where it is more than `n`"),
    field("echo", Native, "with `logprobs` also those of the prompt's tokens; not with `suffix`"),
    field("frequency_penalty", Native, "-2 to 2"),
    field("logit_bias", Native, "by token id of the model's own vocabulary, -100 to 100"),
    field("logprobs", Native, "0 to 20"),
    field("max_tokens", Native, "16 by default; 0 fills the prompt cache"),
    field("n", Native, "1 to 128"),
    field("presence_penalty", Native, "-2 to 2"),
    field("seed", Native, "one backend, one seed, one text"),
    field("stop", Native, "64 texts at most"),
    field("stream", Native, ""),
    field("stream_options", Native, "`include_usage`; `include_obfuscation` is a hint"),
    field("stream_options.include_usage", Native, ""),
    field("stream_options.include_obfuscation", Hint, "chunks are not padded"),
    field("suffix", Native, "for models whose vocabulary has tokens that mark a gap; others refuse it"),
    field("temperature", Native, "0 to 2"),
    field("top_k", Native, "not OpenAI's"),
    field("top_p", Native, "0 to 1"),
    field("user", Native, "who the caller asks for"),
];

/// `/v1/embeddings`.
pub const EMBEDDINGS_FIELDS: &[Field] = &[
    field("input", Native, "texts or token ids, 2048 at most, none empty"),
    field("model", Native, ""),
    field("dimensions", Native, "for models that were trained for it"),
    field("encoding_format", Native, "`base64` is little-endian 32-bit floats"),
    field("user", Native, "who the caller asks for"),
];

/// `/v1/moderations`.
pub const MODERATIONS_FIELDS: &[Field] = &[
    field("input", Native, "texts, 1024 at most, or parts of one input; images are for upstreams that see them"),
    field("input.*{text}", Native, ""),
    field("input.*{text}.text", Native, ""),
    field("input.*{text}.prompt_cache_breakpoint", Native, "read; nothing is kept"),
    field("input.*{text}.prompt_cache_breakpoint.mode", Native, "`explicit`"),
    field("input.*{text}.prompt_cache_breakpoint.ttl", Native, "read; nothing is kept"),
    field("input.*{*}", Refuse, "`image_url`"),
    field("model", Native, "the service's own policy judges, whatever it says"),
];

/// `/v1/moderate`. Its messages are chat's, and have their rows there.
pub const MODERATE_FIELDS: &[Field] = &[
    field("text", Native, ""),
    field("role", Native, "`user` is judged as input, `assistant` as output"),
    field("messages", Native, "as `/v1/chat/completions` takes them"),
    field("model", Native, "the service's own policy judges, whatever it says"),
];

#[cfg(all(test, feature = "schema"))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    use serde_json::{Map, Value};

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
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                self.paths.push(path.clone());
                self.walk(&path, property);
            }
            if let Some(items) = schema.get("items") {
                self.walk(&format!("{path}.*"), items);
            }
            for arm in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
                let tag = ["type", "role"]
                    .iter()
                    .find_map(|key| arm.pointer(&format!("/allOf/1/properties/{key}/const")))
                    .and_then(Value::as_str);
                match tag {
                    Some(tag) => {
                        let path = format!("{path}{{{tag}}}");
                        self.paths.push(path.clone());
                        self.walk(&path, &arm["allOf"][0]);
                    }
                    None if arm.pointer("/properties/type/not").is_some() => self.paths.push(format!("{path}{{*}}")),
                    None => self.walk(path, arm),
                }
            }
        }
    }

    #[test]
    fn every_field_has_a_row_and_every_row_a_field() {
        let components = crate::openai::schemas();
        let tables = [
            ("ChatRequest", CHAT_FIELDS, ""),
            ("ResponsesRequest", RESPONSES_FIELDS, ""),
            ("CompletionsRequest", COMPLETIONS_FIELDS, ""),
            ("EmbeddingsRequest", EMBEDDINGS_FIELDS, ""),
            ("ModerationsRequest", MODERATIONS_FIELDS, ""),
            // Its messages are chat's, and have their rows there.
            ("ModerateRequest", MODERATE_FIELDS, "ChatMessage"),
        ];
        for (name, rows, known) in tables {
            let mut walk = Walk { components: &components, known: HashSet::from([known]), paths: Vec::new() };
            walk.walk("", components.get(name).unwrap_or_else(|| panic!("no {name}")));
            let order: Vec<&str> = rows.iter().map(|row| row.path).collect();
            let listed = walk.paths.join("\n");
            assert_eq!(order, walk.paths, "rows stand in the order of the schema: {name}\n{listed}");
        }
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
        let components = crate::openai::schemas();
        components.values().for_each(|schema| check(schema, &components));
        // A number behind a name means two types of one name.
        assert!(components.keys().all(|name| !name.ends_with(|c: char| c.is_ascii_digit())), "{:?}", components.keys());
    }
}
