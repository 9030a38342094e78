//! Items: what was said and done.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::leaf::{self, Unknown, either, tagged};
use crate::openai::CacheBreakpoint;

/// An item. A message may leave its `type` out, and so may a reference that is an `id` and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Item(pub TypedItem);

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Item {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ResponsesItem".into()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        concat!(module_path!(), "::Item").into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let typed = generator.subschema_for::<TypedItem>();
        let message = generator.subschema_for::<MessageItem>();
        let reference = generator.subschema_for::<ItemReference>();
        schemars::json_schema!({
            "anyOf": [
                typed,
                { "allOf": [message, { "not": { "required": ["type"] } }] },
                { "allOf": [reference, { "maxProperties": 1 }] },
            ],
            "description": "An item. A message may leave its `type` out, and so may a reference that is an `id` and nothing else.",
        })
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Item, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Value::Object(members) = &mut value
            && members.get("type").is_none_or(Value::is_null)
        {
            let only_id = members.contains_key("id") && members.keys().all(|name| name == "id" || name == "type");
            let kind = if members.contains_key("role") { Some("message") } else { only_id.then_some("item_reference") };
            if let Some(kind) = kind {
                members.insert("type".to_owned(), Value::from(kind));
            }
        }
        leaf::part(value).map(Item)
    }
}

tagged! {
    /// An item by its type. Items of tools that OpenAI runs itself have no neutral form, and are kept as they came.
    pub enum TypedItem named "ResponsesTypedItem" {
        /// What one side said.
        "message" => Message(MessageItem),
        /// What the model thought.
        "reasoning" => Reasoning(ReasoningItem),
        /// A function that the model called.
        "function_call" => FunctionCall(FunctionCallItem),
        /// What it gave back.
        "function_call_output" => FunctionOutput(FunctionOutputItem),
        /// An item that the service keeps.
        "item_reference" => Reference(ItemReference),
    }
}

/// What one side said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesMessageItem"))]
#[serde(expecting = "an object")]
pub struct MessageItem {
    /// Who.
    pub role: MessageRole,
    /// What.
    pub content: ItemContent,
    /// Its name, where a response had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How far it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Whether it is an answer or said on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

words! {
    /// Sides.
    #[cfg_attr(feature = "schema", schemars(rename = "ResponsesMessageRole"))]
    pub enum MessageRole {
        /// Who asks.
        "user" => User,
        /// The model.
        "assistant" => Assistant,
        /// Who runs the model.
        "system" => System,
        /// The same, to newer models.
        "developer" => Developer,
    }
}

words! {
    /// How far an item came.
    #[cfg_attr(feature = "schema", schemars(rename = "ResponsesStatus"))]
    pub enum Status {
        /// It was being made.
        "in_progress" => InProgress,
        /// To its end.
        "completed" => Completed,
        /// It was cut.
        "incomplete" => Incomplete,
    }
}

words! {
    /// What a message of the model is.
    #[cfg_attr(feature = "schema", schemars(rename = "ResponsesPhase"))]
    pub enum Phase {
        /// Said on the way.
        "commentary" => Commentary,
        /// The answer.
        "final_answer" => FinalAnswer,
    }
}

either! {
    /// What was said.
    #[cfg_attr(feature = "schema", schemars(rename = "ResponsesItemContent"))]
    pub enum ItemContent {
        /// Short for one part of text.
        String => Text(String),
        /// In parts.
        Array => Parts(Vec<ItemPart>),
    }
    expected "a string or an array of parts"
}

tagged! {
    /// A part of what was said. Images and files have no neutral form, and are kept as they came.
    pub enum ItemPart named "ResponsesItemPart" {
        /// Text that was sent.
        "input_text" => Input(TextPart),
        /// Text that was answered.
        "output_text" => Output(TextPart),
        /// What the model said instead of an answer.
        "refusal" => Refusal(super::super::chat::RefusalPart),
    }
}

/// Text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesTextPart"))]
#[serde(expecting = "an object")]
pub struct TextPart {
    /// The text.
    pub text: String,
    /// The prompt up to here is worth keeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_cache_breakpoint: Option<CacheBreakpoint>,
    /// Sources that an answer named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Vec<Value>>,
    /// Of an answer's tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<Value>>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What the model thought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesReasoningItem"))]
#[serde(expecting = "an object")]
pub struct ReasoningItem {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The thoughts as they were told.
    #[serde(default)]
    pub summary: Vec<ReasoningText>,
    /// The thoughts as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Vec<ReasoningText>>,
    /// Opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted_content: Option<String>,
    /// How far it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

words! {
    /// Whether a part of thoughts was told, or is as it was.
    #[cfg_attr(feature = "schema", schemars(rename = "ResponsesReasoningTag"))]
    pub enum ReasoningTag {
        /// It was told.
        "summary_text" => Summary,
        /// It is as it was.
        "reasoning_text" => Reasoning,
    }
}

/// A part of thoughts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesReasoningText"))]
#[serde(expecting = "an object")]
pub struct ReasoningText {
    /// Whether it was told, or is as it was.
    pub r#type: ReasoningTag,
    /// As text.
    pub text: String,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A function that the model called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesFunctionCallItem"))]
#[serde(expecting = "an object")]
pub struct FunctionCallItem {
    /// By which its output names it.
    pub call_id: String,
    /// The function.
    pub name: String,
    /// The JSON text of an object; empty text is the empty object.
    pub arguments: String,
    /// The item's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How far it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a function gave back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesFunctionOutputItem"))]
#[serde(expecting = "an object")]
pub struct FunctionOutputItem {
    /// Of which call.
    pub call_id: String,
    /// As text.
    pub output: ItemContent,
    /// The item's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How far it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// An item that the service keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesItemReference"))]
#[serde(expecting = "an object")]
pub struct ItemReference {
    /// Its name.
    pub id: String,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}
