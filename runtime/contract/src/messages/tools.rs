//! Tools of a request, and what is known of those whose names are fixed.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::blocks::CacheControl;
use super::read::{given, object, whole_or_null};
use crate::leaf::{self, Unknown, tagged};

/// A tool. Tools that the service would have to run are kept whole.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolParam {
    /// The caller's own.
    Custom(CustomTool),
    /// One that the caller runs, of a name and form that are known.
    Client(ClientTool),
    /// Another type, whole.
    Other(Value),
}

impl<'de> Deserialize<'de> for ToolParam {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ToolParam, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let Value::Object(members) = &value else {
            return Err(serde::de::Error::custom(format_args!("expected a tool, an object, found {}", leaf::kind_of(&value))));
        };
        match members.get("type") {
            None | Some(Value::Null) => leaf::part(value).map(ToolParam::Custom),
            Some(_) => match leaf::tag(&value)? {
                "custom" => leaf::part(value).map(ToolParam::Custom),
                tag if ClientKind::ALL.iter().any(|kind| kind.name() == tag) => leaf::part(value).map(ToolParam::Client),
                _ => Ok(ToolParam::Other(value)),
            },
        }
    }
}

impl Serialize for ToolParam {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ToolParam::Custom(tool) => tool.serialize(serializer),
            ToolParam::Client(tool) => tool.serialize(serializer),
            ToolParam::Other(value) => value.serialize(serializer),
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ToolParam {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ToolParam".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let known: Vec<&str> = ClientKind::ALL.iter().map(|kind| kind.name()).collect();
        let not: Vec<&str> = known.iter().copied().chain(["custom"]).collect();
        let custom = generator.subschema_for::<CustomTool>();
        let client = generator.subschema_for::<ClientTool>();
        schemars::json_schema!({ "anyOf": [
            { "allOf": [custom, { "properties": { "type": { "enum": ["custom", null] } } }] },
            { "allOf": [client, { "properties": { "type": { "enum": known } } }] },
            {
                "type": "object", "required": ["type"], "properties": { "type": { "type": "string", "not": { "enum": not } } },
                "description": "Kept for a backend that knows it; refused with its path where none does.",
            },
        ] })
    }
}

/// The caller's own tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct CustomTool {
    /// May be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<CustomKind>,
    /// Its name, 1 to 128 of `[a-zA-Z0-9_-]`.
    pub name: String,
    /// What it does, for the model.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub description: Option<String>,
    /// The JSON Schema of its arguments, of type `object`.
    #[serde(deserialize_with = "object")]
    pub input_schema: Map<String, Value>,
    /// Whether arguments that break the schema must be impossible.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool"))]
    pub strict: Option<bool>,
    /// The prompt up to here is worth keeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
    /// Who may call it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub allowed_callers: Option<Vec<String>>,
    /// It is shown to the model only once a search found it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool"))]
    pub defer_loading: Option<bool>,
    /// Whether its arguments are sent before they are whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eager_input_streaming: Option<bool>,
    /// Arguments as they could be.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Map<String, Value>>"))]
    pub input_examples: Option<Vec<Map<String, Value>>>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The type of a caller's own tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CustomKind {
    /// The only one.
    Custom,
}

/// A tool that the caller runs, of a name and form that are known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ClientTool {
    /// Which.
    pub r#type: ClientKind,
    /// Fixed by its type.
    pub name: String,
    /// Whether arguments that break the schema must be impossible.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool"))]
    pub strict: Option<bool>,
    /// The prompt up to here is worth keeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
    /// Characters of a file that are shown at most: the caller cuts, the model is told.
    #[serde(default, deserialize_with = "whole_or_null", skip_serializing_if = "Option::is_none")]
    pub max_characters: Option<u32>,
    /// Who may call it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub allowed_callers: Option<Vec<String>>,
    /// It is shown to the model only once a search found it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool"))]
    pub defer_loading: Option<bool>,
    /// Arguments as they could be.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Map<String, Value>>"))]
    pub input_examples: Option<Vec<Map<String, Value>>>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Tools that the caller runs, of a name and form that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(missing_docs, reason = "they are called as they are named")]
pub enum ClientKind {
    #[serde(rename = "bash_20241022")]
    Bash20241022,
    #[serde(rename = "bash_20250124")]
    Bash20250124,
    #[serde(rename = "text_editor_20241022")]
    TextEditor20241022,
    #[serde(rename = "text_editor_20250124")]
    TextEditor20250124,
    #[serde(rename = "text_editor_20250429")]
    TextEditor20250429,
    #[serde(rename = "text_editor_20250728")]
    TextEditor20250728,
    #[serde(rename = "memory_20250818")]
    Memory20250818,
}

impl ClientKind {
    /// Every kind.
    pub const ALL: [ClientKind; 7] = [
        ClientKind::Bash20241022,
        ClientKind::Bash20250124,
        ClientKind::TextEditor20241022,
        ClientKind::TextEditor20250124,
        ClientKind::TextEditor20250429,
        ClientKind::TextEditor20250728,
        ClientKind::Memory20250818,
    ];

    /// Its `type`.
    pub const fn name(self) -> &'static str {
        match self {
            ClientKind::Bash20241022 => "bash_20241022",
            ClientKind::Bash20250124 => "bash_20250124",
            ClientKind::TextEditor20241022 => "text_editor_20241022",
            ClientKind::TextEditor20250124 => "text_editor_20250124",
            ClientKind::TextEditor20250429 => "text_editor_20250429",
            ClientKind::TextEditor20250728 => "text_editor_20250728",
            ClientKind::Memory20250818 => "memory_20250818",
        }
    }

    /// The name that the tool must have.
    pub const fn tool_name(self) -> &'static str {
        match self {
            ClientKind::Bash20241022 | ClientKind::Bash20250124 => "bash",
            ClientKind::TextEditor20241022 | ClientKind::TextEditor20250124 => "str_replace_editor",
            ClientKind::TextEditor20250429 | ClientKind::TextEditor20250728 => "str_replace_based_edit_tool",
            ClientKind::Memory20250818 => "memory",
        }
    }

    /// What a model that was not trained on the tool has to be told.
    pub(super) const fn description(self) -> &'static str {
        match self {
            ClientKind::Bash20241022 | ClientKind::Bash20250124 => {
                "Runs commands in a bash shell that keeps its state between calls, and gives back what they print. \
                 `restart` starts a fresh shell instead."
            }
            ClientKind::TextEditor20241022 | ClientKind::TextEditor20250124 => {
                "Views, creates and edits files. `view` shows a file, or the lines of `view_range`, or lists a directory; `create` writes `file_text`; \
                 `str_replace` puts `new_str` in place of the only occurrence of `old_str`; `insert` puts `new_str` behind line `insert_line`; \
                 `undo_edit` takes the last edit of the file back."
            }
            ClientKind::TextEditor20250429 | ClientKind::TextEditor20250728 => {
                "Views, creates and edits files. `view` shows a file, or the lines of `view_range`, or lists a directory; `create` writes `file_text`; \
                 `str_replace` puts `new_str` in place of the only occurrence of `old_str`; `insert` puts `insert_text` behind line `insert_line`."
            }
            ClientKind::Memory20250818 => {
                "Keeps notes across conversations, as files under /memories. `view` shows a file or lists a directory; `create` writes `file_text`; \
                 `str_replace` puts `new_str` in place of the only occurrence of `old_str`; `insert` puts `insert_text` behind line `insert_line`; \
                 `delete` removes; `rename` moves `old_path` to `new_path`. Look at /memories before you begin a task."
            }
        }
    }

    /// The JSON Schema of its arguments, as callers' own tools have one.
    pub(super) fn schema(self) -> Value {
        let text = json!({ "type": "string" });
        let line = json!({ "type": "integer", "minimum": 0 });
        let range = json!({ "type": "array", "items": { "type": "integer" }, "minItems": 2, "maxItems": 2 });
        let editor = |commands: &[&str], inserted: &str| {
            let mut properties = Map::new();
            properties.insert("command".to_owned(), json!({ "type": "string", "enum": commands }));
            for name in ["path", "file_text", "old_str", "new_str"] {
                properties.insert(name.to_owned(), text.clone());
            }
            properties.insert("insert_line".to_owned(), line.clone());
            properties.insert(inserted.to_owned(), text.clone());
            properties.insert("view_range".to_owned(), range.clone());
            json!({ "type": "object", "properties": properties, "required": ["command", "path"] })
        };
        match self {
            ClientKind::Bash20241022 | ClientKind::Bash20250124 => {
                json!({ "type": "object", "properties": { "command": text, "restart": { "type": "boolean" } } })
            }
            ClientKind::TextEditor20241022 | ClientKind::TextEditor20250124 => {
                editor(&["view", "create", "str_replace", "insert", "undo_edit"], "new_str")
            }
            ClientKind::TextEditor20250429 | ClientKind::TextEditor20250728 => {
                editor(&["view", "create", "str_replace", "insert"], "insert_text")
            }
            ClientKind::Memory20250818 => json!({
                "type": "object",
                "properties": {
                    "command": { "type": "string", "enum": ["view", "create", "str_replace", "insert", "delete", "rename"] },
                    "path": text, "file_text": text, "old_str": text, "new_str": text, "insert_line": line, "insert_text": text,
                    "old_path": text, "new_path": text, "view_range": range,
                },
                "required": ["command"],
            }),
        }
    }
}

tagged! {
    /// Which tools must be called.
    pub enum ToolChoiceParam {
        /// As the model sees fit.
        "auto" => Auto(ToolChoiceFree),
        /// At least one.
        "any" => Any(ToolChoiceFree),
        /// This one.
        "tool" => Tool(ToolChoiceNamed),
        /// None, though they are shown.
        "none" => None(ToolChoiceNone),
    }
}

/// Any tool may be called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ToolChoiceFree {
    /// One call at most.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool"))]
    pub disable_parallel_tool_use: Option<bool>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// One tool must be called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ToolChoiceNamed {
    /// Its name.
    pub name: String,
    /// One call at most.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool"))]
    pub disable_parallel_tool_use: Option<bool>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// No tool may be called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ToolChoiceNone {
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}
