//! `/v1/responses`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::chat::{Empty, Mode};
use super::{Effort, Retention, StreamOptions, Tier, Verbosity};
use crate::leaf::{Unknown, either, tagged};

mod ask;
mod item;
mod reply;

pub use ask::{Asked, Echo};
pub use item::{
    FunctionCallItem, FunctionOutputItem, Item, ItemContent, ItemPart, ItemReference, MessageItem, MessageRole, Phase, ReasoningItem,
    ReasoningTag, ReasoningText, Status, TextPart, TypedItem,
};
pub use reply::{Incomplete, InputDetails, OutputDetails, OutputItem, OutputPart, Response, ResponseError, SummaryPart, Usage};

/// What is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesRequest"))]
#[serde(expecting = "an object")]
pub struct Request {
    /// Who may be asked for what, upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_programs: Option<Value>,
    /// Whether the answer is made after the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<bool>,
    /// How the upstream shortens the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_management: Option<Value>,
    /// A conversation that the upstream keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<Value>,
    /// How the upstream treats images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Value>,
    /// What more to tell: `message.output_text.logprobs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<String>>,
    /// The conversation so far, or what is new behind `previous_response_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// Text of the system's side. It is not kept for the next response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Tokens of the answer at most, thoughts included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<i64>,
    /// Calls of the upstream's own tools at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tool_calls: Option<i64>,
    /// Notes, given back with the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// The model.
    #[serde(default)]
    pub model: String,
    /// Moderation by the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moderation: Option<Value>,
    /// Whether one answer may hold several calls; true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// The response that this goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_response_id: Option<String>,
    /// A prompt that the upstream keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Value>,
    /// Which prompts begin alike. Known prefixes are found by themselves here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_cache_key: Option<String>,
    /// How the upstream's prompt cache works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_cache_options: Option<Value>,
    /// How long the upstream keeps prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_cache_retention: Option<Retention>,
    /// How the model thinks first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Reasoning>,
    /// Who the caller asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety_identifier: Option<String>,
    /// How urgent it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<Tier>,
    /// Whether the response is kept, so that another can go on from it; true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<bool>,
    /// Whether the answer is sent as it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// From 0 (always the most probable token) to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// What the text of the answer must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
    /// Which tools must be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// Tools that may be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Tool>>,
    /// Not OpenAI's: the k most probable tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
    /// Of so many most probable tokens at each place, 0 to 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<i64>,
    /// From 0 to 1: nucleus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// What happens to a conversation that is too long: `disabled`, the default, refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncation: Option<Truncation>,
    /// Who the caller asks for, by its old name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

either! {
    /// The conversation.
    #[cfg_attr(feature = "schema", schemars(rename = "ResponsesInput"))]
    pub enum Input {
        /// Short for one message of the user.
        String => Text(String),
        /// What was said and done, in order.
        Array => Items(Vec<Item>),
    }
    expected "a string or an array of items"
}

/// How the model thinks first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesReasoning"))]
#[serde(expecting = "an object")]
pub struct Reasoning {
    /// How much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// How thoughts are told. They are always told whole here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// The same, by its old name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate_summary: Option<Summary>,
    /// Which earlier thoughts the upstream shows the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Shown>,
    /// How the upstream runs the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

words! {
    /// How thoughts are told.
    #[cfg_attr(feature = "schema", schemars(rename = "ResponsesSummary"))]
    pub enum Summary {
        /// As the upstream likes.
        "auto" => Auto,
        /// In short.
        "concise" => Concise,
        /// At length.
        "detailed" => Detailed,
    }
}

words! {
    /// Which earlier thoughts a model is shown.
    #[cfg_attr(feature = "schema", schemars(rename = "ResponsesShown"))]
    pub enum Shown {
        /// As the model's template says.
        "auto" => Auto,
        /// Those since the last message of the user's.
        "current_turn" => CurrentTurn,
        /// All.
        "all_turns" => AllTurns,
    }
}

/// What the text of the answer must be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesTextConfig"))]
#[serde(expecting = "an object")]
pub struct TextConfig {
    /// Its form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<TextFormat>,
    /// How long it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verbosity: Option<Verbosity>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

tagged! {
    /// A form of text.
    pub enum TextFormat named "ResponsesTextFormat" {
        /// Anything.
        "text" => Text(Empty),
        /// A JSON object.
        "json_object" => JsonObject(Empty),
        /// JSON of a schema.
        "json_schema" => JsonSchema(SchemaFormat),
    }
}

/// JSON of a schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesSchemaFormat"))]
#[serde(expecting = "an object")]
pub struct SchemaFormat {
    /// What the caller calls it.
    pub name: String,
    /// The schema.
    pub schema: Map<String, Value>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Answers keep to the schema whatever this says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

words! {
    /// What happens to a conversation that is too long.
    #[cfg_attr(feature = "schema", schemars(rename = "ResponsesTruncation"))]
    pub enum Truncation {
        /// It is cut at its beginning. Not here.
        "auto" => Auto,
        /// It is refused.
        "disabled" => Disabled,
    }
}

tagged! {
    /// A tool. Tools that OpenAI runs itself have no neutral form.
    pub enum Tool named "ResponsesTool" {
        /// A function with a JSON Schema.
        "function" => Function(FunctionTool),
    }
}

/// A function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesFunctionTool"))]
#[serde(expecting = "an object")]
pub struct FunctionTool {
    /// Its name, 1 to 128 of `[a-zA-Z0-9_-]`.
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON Schema of its arguments. Without one it takes none.
    // Written as `null` where it is left out, as is `strict`: a response repeats its tools, and clients know both as always there.
    #[serde(default)]
    pub parameters: Option<Map<String, Value>>,
    /// Whether arguments that break the schema must be impossible.
    #[serde(default)]
    pub strict: Option<bool>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

either! {
    /// Which tools must be called.
    #[cfg_attr(feature = "schema", schemars(rename = "ResponsesToolChoice"))]
    pub enum ToolChoice {
        /// None, some, at least one.
        String => Mode(Mode),
        /// A certain one, or of certain ones.
        Object => Of(ChoiceOf),
    }
    expected "`none`, `auto`, `required` or an object"
}

tagged! {
    /// A tool that must be called, or tools of which one may.
    pub enum ChoiceOf named "ResponsesChoiceOf" {
        /// This function.
        "function" => Function(NamedChoice),
        /// Of these.
        "allowed_tools" => Allowed(AllowedTools),
    }
}

/// A function by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesNamedChoice"))]
#[serde(expecting = "an object")]
pub struct NamedChoice {
    /// As `tools` has it.
    pub name: String,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Some of the tools. The others are left out of the prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesAllowedTools"))]
#[serde(expecting = "an object")]
pub struct AllowedTools {
    /// `auto` or `required`.
    pub mode: Mode,
    /// Which.
    pub tools: Vec<ChoiceOf>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}
