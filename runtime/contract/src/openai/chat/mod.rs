//! `/v1/chat/completions`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Effort, Retention, Stop, StreamOptions, Tier, Verbosity};
use crate::leaf::{Unknown, either, tagged};

pub(in crate::openai) mod ask;
mod message;
mod reply;

pub use message::{
    AssistantMessage, Call, Called, Content, ContentPart, FunctionCall, FunctionMessage, Message, RefusalPart, Role, TextMessage, TextPart,
    ToolMessage,
};
pub use reply::{
    Choice, Chunk, ChunkChoice, Completion, Delta, DeltaCall, DeltaFunction, Logprobs, Reply, ReplyCall, ReplyFunction, TokenLogprob,
    TopLogprob, Usage,
};

/// What is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatRequest"))]
#[serde(expecting = "an object")]
pub struct Request {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// The model.
    pub model: String,
    /// How spoken answers sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<Value>,
    /// From −2 to 2: less of a token the more often it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Before there was `tool_choice`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function_call: Option<Value>,
    /// Before there were `tools`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functions: Option<Value>,
    /// By token id, from −100 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_bias: Option<Map<String, Value>>,
    /// Whether each token's logarithm of probability is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
    /// Tokens of each answer at most, thoughts included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_completion_tokens: Option<i64>,
    /// The same, by its old name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<i64>,
    /// Notes for stored completions. None are stored here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// `["text"]`; audio can't be made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modalities: Option<Vec<String>>,
    /// Moderation by the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moderation: Option<Value>,
    /// Answers, 1 to 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<i64>,
    /// Whether one answer may hold several calls; true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// Text that the answer will likely hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Value>,
    /// From −2 to 2: less of a token once it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Which prompts begin alike. Known prefixes are found by themselves here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_cache_key: Option<String>,
    /// How the upstream's prompt cache works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_cache_options: Option<Value>,
    /// How long the upstream keeps prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_cache_retention: Option<Retention>,
    /// How much the model thinks first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<Effort>,
    /// What the answer must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    /// Who the caller asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety_identifier: Option<String>,
    /// Same seed, same answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// How urgent it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<Tier>,
    /// Texts that end an answer, 64 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Whether the upstream keeps the completion. None are kept here.
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
    /// Which tools must be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// Tools that may be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Tool>>,
    /// Not OpenAI's: the k most probable tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
    /// With `logprobs`: of so many most probable tokens at each place, 0 to 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<i64>,
    /// From 0 to 1: nucleus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Who the caller asks for, by its old name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How long answers are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verbosity: Option<Verbosity>,
    /// A search of the web before the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_search_options: Option<Value>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

tagged! {
    /// A tool. Custom tools (free text instead of JSON) have no neutral form.
    pub enum Tool named "ChatTool" {
        /// A function with a JSON Schema.
        "function" => Function(FunctionTool),
    }
}

/// A function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatFunctionTool"))]
#[serde(expecting = "an object")]
pub struct FunctionTool {
    /// The function.
    pub function: Function,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a function is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatFunction"))]
#[serde(expecting = "an object")]
pub struct Function {
    /// Its name, 1 to 128 of `[a-zA-Z0-9_-]`.
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON Schema of its arguments. Without one it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Map<String, Value>>,
    /// Whether arguments that break the schema must be impossible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

either! {
    /// Which tools must be called.
    #[cfg_attr(feature = "schema", schemars(rename = "ChatToolChoice"))]
    pub enum ToolChoice {
        /// None, some, at least one.
        String => Mode(Mode),
        /// A certain one, or of certain ones.
        Object => Of(ChoiceOf),
    }
    expected "`none`, `auto`, `required` or an object"
}

words! {
    /// Whether tools are called.
    #[cfg_attr(feature = "schema", schemars(rename = "ChatMode"))]
    pub enum Mode {
        /// Not at all.
        "none" => None,
        /// As the model sees fit.
        "auto" => Auto,
        /// At least one.
        "required" => Required,
    }
}

tagged! {
    /// A tool that must be called, or tools of which one may.
    pub enum ChoiceOf named "ChatChoiceOf" {
        /// This function.
        "function" => Function(NamedChoice),
        /// Of these.
        "allowed_tools" => Allowed(AllowedChoice),
    }
}

/// A function by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatNamedChoice"))]
#[serde(expecting = "an object")]
pub struct NamedChoice {
    /// Which.
    pub function: Named,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatNamed"))]
#[serde(expecting = "an object")]
pub struct Named {
    /// As `tools` has it.
    pub name: String,
}

/// A choice among some of the tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatAllowedChoice"))]
#[serde(expecting = "an object")]
pub struct AllowedChoice {
    /// The choice.
    pub allowed_tools: AllowedTools,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Some of the tools. The others are left out of the prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatAllowedTools"))]
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

tagged! {
    /// What an answer must be.
    pub enum ResponseFormat named "ChatResponseFormat" {
        /// Anything.
        "text" => Text(Empty),
        /// A JSON object.
        "json_object" => JsonObject(Empty),
        /// JSON of a schema.
        "json_schema" => JsonSchema(SchemaFormat),
    }
}

/// Nothing more to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatEmpty"))]
#[serde(expecting = "an object")]
pub struct Empty {
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// JSON of a schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatSchemaFormat"))]
#[serde(expecting = "an object")]
pub struct SchemaFormat {
    /// The schema and its name.
    pub json_schema: NamedSchema,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A schema with its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatNamedSchema"))]
#[serde(expecting = "an object")]
pub struct NamedSchema {
    /// What the caller calls it.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The schema; any JSON where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Map<String, Value>>,
    /// Answers keep to the schema whatever this says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}
