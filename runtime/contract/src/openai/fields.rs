//! What becomes of each field of OpenAI's requests. A test holds these rows against the schemas, both ways.

use crate::field_table::{Field, Verdict};

const fn native(path: &'static str, note: &'static str) -> Field {
    Field { path, verdict: Verdict::Native, note }
}

const fn forward(path: &'static str, note: &'static str) -> Field {
    Field { path, verdict: Verdict::Forward, note }
}

const fn hint(path: &'static str, note: &'static str) -> Field {
    Field { path, verdict: Verdict::Hint, note }
}

/// `/v1/chat/completions`.
pub const CHAT_FIELDS: &[Field] = &[
    native("messages", "text in every role; results of tools; images, sound and files are for upstreams that read them"),
    native("model", ""),
    forward("audio", "no answer is spoken here"),
    native("frequency_penalty", "-2 to 2"),
    forward("function_call", "gave way to `tool_choice`"),
    forward("functions", "gave way to `tools`"),
    native("logit_bias", "by token id of the model's own vocabulary, -100 to 100"),
    native("logprobs", "of the answer's text"),
    native("max_completion_tokens", "1 or more"),
    native("max_tokens", "the same as `max_completion_tokens`"),
    hint("metadata", "completions are not stored"),
    native("modalities", "`text`; `audio` is for upstreams that speak"),
    forward("moderation", "ask `/v1/moderations`; what may be said is judged in any case"),
    native("n", "1 to 128"),
    native("parallel_tool_calls", "false: one call in an answer"),
    hint("prediction", "not used"),
    native("presence_penalty", "-2 to 2"),
    hint("prompt_cache_key", "known prefixes are found by themselves"),
    hint("prompt_cache_options", "known prefixes are found by themselves"),
    hint("prompt_cache_retention", "known prefixes are kept while there is room"),
    native(
        "reasoning_effort",
        "none: no thoughts; minimal 1024, low 2048, medium 8192, high 24576 tokens of thoughts at most; xhigh, max: no bound",
    ),
    native("response_format", "`json_schema` and `json_object` can't be broken, whatever `strict` says"),
    native("safety_identifier", "who the caller asks for"),
    native("seed", "one backend, one seed, one text"),
    native("service_tier", "as the key allows; `flex` may wait"),
    native("stop", "64 texts at most"),
    hint("store", "completions are not stored"),
    native("stream", ""),
    native("stream_options", "`include_usage`; `include_obfuscation` is a hint"),
    native("temperature", "0 to 2"),
    native("tool_choice", "all of it; tools that are not allowed are left out of the prompt"),
    native("tools", "functions; `strict` can't be broken. Custom tools are for upstreams that know them"),
    native("top_k", "not OpenAI's"),
    native("top_logprobs", "0 to 20, with `logprobs`"),
    native("top_p", "0 to 1"),
    native("user", "the same as `safety_identifier`"),
    hint("verbosity", "say it in the prompt"),
    forward("web_search_options", "the web is not searched here"),
];

/// `/v1/responses`.
pub const RESPONSES_FIELDS: &[Field] = &[
    hint("access_programs", "there are none"),
    forward("background", "false is served"),
    hint("context_management", "conversations are not shortened"),
    forward("conversation", "give `previous_response_id`"),
    hint("image", "images can't be read here"),
    native("include", "`message.output_text.logprobs`; the rest are hints"),
    native("input", "text, messages, thoughts, function calls and their outputs; other items are for upstreams that know them"),
    native("instructions", ""),
    native("max_output_tokens", "1 or more"),
    hint("max_tool_calls", "counts calls of tools that don't run here"),
    native("metadata", "given back"),
    native("model", ""),
    forward("moderation", "ask `/v1/moderations`; what may be said is judged in any case"),
    native("parallel_tool_calls", "false: one call in an answer"),
    native("previous_response_id", "where responses are stored"),
    forward("prompt", "give `instructions` and `input`"),
    hint("prompt_cache_key", "known prefixes are found by themselves"),
    hint("prompt_cache_options", "known prefixes are found by themselves"),
    hint("prompt_cache_retention", "known prefixes are kept while there is room"),
    native("reasoning", "`effort` as `reasoning_effort` in chat; thoughts are told whole as the summary; `context` and `mode` are hints"),
    native("safety_identifier", "who the caller asks for"),
    native("service_tier", "as the key allows; `flex` may wait"),
    native("store", "true by default"),
    native("stream", ""),
    native("stream_options", "`include_obfuscation` is a hint"),
    native("temperature", "0 to 2"),
    native("text", "`format` can't be broken, whatever `strict` says; `verbosity` is a hint"),
    native("tool_choice", "all of it for functions; tools that are not allowed are left out of the prompt"),
    native("tools", "functions; `strict` can't be broken. Tools that OpenAI runs are for OpenAI"),
    native("top_k", "not OpenAI's"),
    native("top_logprobs", "0 to 20"),
    native("top_p", "0 to 1"),
    native("truncation", "`disabled`; `auto` is a hint"),
    native("user", "the same as `safety_identifier`"),
];

/// `/v1/completions`.
pub const COMPLETIONS_FIELDS: &[Field] = &[
    native("model", ""),
    native("prompt", "texts or token ids; answers to all prompts together are 2048 at most"),
    forward("best_of", "where it is more than `n`"),
    forward("echo", "where it is true"),
    native("frequency_penalty", "-2 to 2"),
    native("logit_bias", "by token id of the model's own vocabulary, -100 to 100"),
    native("logprobs", "0 to 20"),
    native("max_tokens", "16 by default; 0 fills the prompt cache"),
    native("n", "1 to 128"),
    native("presence_penalty", "-2 to 2"),
    native("seed", "one backend, one seed, one text"),
    native("stop", "64 texts at most"),
    native("stream", ""),
    native("stream_options", "`include_usage`; `include_obfuscation` is a hint"),
    forward("suffix", "text can't be filled in here"),
    native("temperature", "0 to 2"),
    native("top_k", "not OpenAI's"),
    native("top_p", "0 to 1"),
    native("user", "who the caller asks for"),
];

/// `/v1/embeddings`.
pub const EMBEDDINGS_FIELDS: &[Field] = &[
    native("input", "texts or token ids, 2048 at most, none empty"),
    native("model", ""),
    native("dimensions", "for models that were trained for it"),
    native("encoding_format", "`base64` is little-endian 32-bit floats"),
    native("user", "who the caller asks for"),
];

/// `/v1/moderations`.
pub const MODERATIONS_FIELDS: &[Field] = &[
    native("input", "texts, 1024 at most, or parts of one input; images are for upstreams that see them"),
    native("model", "the service's own policy judges, whatever it says"),
];

/// `/v1/moderate`.
pub const MODERATE_FIELDS: &[Field] = &[
    native("text", ""),
    native("role", "`user` is judged as input, `assistant` as output"),
    native("messages", "as `/v1/chat/completions` takes them"),
    native("model", "the service's own policy judges, whatever it says"),
];

#[cfg(all(test, feature = "schema"))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every property of a request's schema has a row, and every row a property.
    #[test]
    fn rows_and_schemas_agree() {
        let tables = [
            ("openai.chat.Request", CHAT_FIELDS),
            ("openai.responses.Request", RESPONSES_FIELDS),
            ("openai.completions.Request", COMPLETIONS_FIELDS),
            ("openai.embeddings.Request", EMBEDDINGS_FIELDS),
            ("openai.moderations.Request", MODERATIONS_FIELDS),
            ("openai.moderations.ModerateRequest", MODERATE_FIELDS),
        ];
        let schemas = crate::openai::schemas();
        for (name, rows) in tables {
            let (_, schema) = schemas.iter().find(|(of, _)| *of == name).expect("a schema of this name");
            let properties = schema.get("properties").and_then(|p| p.as_object()).expect("an object's schema");
            let properties: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
            let listed: BTreeSet<&str> = rows.iter().map(|row| row.path).collect();
            assert_eq!(properties, listed, "{name}");
            assert_eq!(listed.len(), rows.len(), "{name} has a row twice");
        }
    }

    /// Whatever a definition refers to is in its own schema.
    #[test]
    fn schemas_are_closed() {
        for (name, schema) in crate::openai::schemas() {
            let text = serde_json::to_string(&schema).expect("JSON");
            let defined = schema.get("$defs").and_then(|d| d.as_object());
            for reference in text.split("\"#/$defs/").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(defined.is_some_and(|d| d.contains_key(reference)), "{name} refers to {reference}");
            }
        }
    }
}
