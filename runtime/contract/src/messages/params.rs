//! Requests.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::blocks::{CacheControl, ContentParam, TextBlockParam};
use super::read::{given, object, whole, whole_or_null};
use super::tools::{ToolChoiceParam, ToolParam};
use crate::leaf::{Unknown, either, tagged};

/// `POST /v1/messages`, in both versions and in the beta shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct MessageCreateParams {
    /// The model's name.
    pub model: String,
    /// The conversation, at most 100,000 messages. Turns of the same side that follow each other are one. A last one of the assistant is the
    /// beginning of the answer.
    pub messages: Vec<MessageParam>,
    /// Tokens of the answer at most. 0 fills the prompt cache and answers nothing.
    #[serde(deserialize_with = "whole")]
    pub max_tokens: u32,
    /// Who the model is and what it shall do.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "SystemParam"))]
    pub system: Option<SystemParam>,
    /// Tools that may be called.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<ToolParam>"))]
    pub tools: Option<Vec<ToolParam>>,
    /// Which of them must be.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "ToolChoiceParam"))]
    pub tool_choice: Option<ToolChoiceParam>,
    /// Whether the model thinks first.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "ThinkingConfigParam"))]
    pub thinking: Option<ThinkingConfigParam>,
    /// What the answer must be like.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "OutputConfig"))]
    pub output_config: Option<OutputConfig>,
    /// The beta's older name of `output_config.format`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_format: Option<OutputFormat>,
    /// Texts that end the answer.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub stop_sequences: Option<Vec<String>>,
    /// Whether the answer is sent as it comes.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool"))]
    pub stream: Option<bool>,
    /// From 0 (the most probable token) to 1. Version 2023-06-01 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus, from 0 to 1. Version 2023-06-01 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// The k most probable. Version 2023-06-01 only.
    #[serde(default, deserialize_with = "whole_or_null", skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// About the request.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Metadata"))]
    pub metadata: Option<Metadata>,
    /// How urgent it is.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "ServiceTierParam"))]
    pub service_tier: Option<ServiceTierParam>,
    /// A breakpoint at the last block that can have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
    /// Asks why the prompt cache missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<DiagnosticsParam>,
    /// The conversation is kept by the server (beta). For whoever keeps it: lowering a request does not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<ThreadParam>,
    /// The same as the `anthropic-beta` header.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub betas: Option<Vec<String>>,
    /// A machine for code and skills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Value>,
    /// Where it is to be computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference_geo: Option<String>,
    /// How fast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// Servers whose tools the service shall call (beta).
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Value>"))]
    pub mcp_servers: Option<Vec<Value>>,
    /// What may be left out of a long conversation (beta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_management: Option<ContextManagement>,
    /// Summarises the conversation (beta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compaction: Option<Value>,
    /// Other models to try when this one refuses (beta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallbacks: Option<Value>,
    /// What a refusal gave towards a fallback (beta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_credit_token: Option<Value>,
    /// Who pays (beta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_policy: Option<Value>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `POST /v1/messages/count_tokens`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct CountTokensParams {
    /// The model's name.
    pub model: String,
    /// The conversation.
    pub messages: Vec<MessageParam>,
    /// Who the model is and what it shall do.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "SystemParam"))]
    pub system: Option<SystemParam>,
    /// Tools that may be called.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<ToolParam>"))]
    pub tools: Option<Vec<ToolParam>>,
    /// Which of them must be.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "ToolChoiceParam"))]
    pub tool_choice: Option<ToolChoiceParam>,
    /// Whether the model thinks first.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "ThinkingConfigParam"))]
    pub thinking: Option<ThinkingConfigParam>,
    /// What the answer must be like.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "OutputConfig"))]
    pub output_config: Option<OutputConfig>,
    /// The beta's older name of `output_config.format`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_format: Option<OutputFormat>,
    /// A breakpoint at the last block that can have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
    /// The same as the `anthropic-beta` header.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub betas: Option<Vec<String>>,
    /// How fast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// Servers whose tools the service shall call (beta).
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Value>"))]
    pub mcp_servers: Option<Vec<Value>>,
    /// What may be left out of a long conversation (beta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_management: Option<ContextManagement>,
    /// Summarises the conversation (beta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compaction: Option<Value>,
    /// Who pays (beta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_policy: Option<Value>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What one side said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct MessageParam {
    /// Who.
    pub role: RoleParam,
    /// What. A `system` message of the beta may go without, and holds text only.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "ContentParam"))]
    pub content: Option<ContentParam>,
    /// How long a `system` message stays before the model (beta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear_at: Option<ClearAt>,
    /// From a `system` message on, what answers must be like (beta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_config: Option<Map<String, Value>>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Sides of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RoleParam {
    /// Who asks.
    User,
    /// The model.
    Assistant,
    /// Who runs the model.
    System,
}

/// How long a `system` message stays before the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ClearAt {
    /// Until a later message of the user's.
    NextUserMessage,
    /// Always.
    Never,
}

either! {
    /// Who the model is and what it shall do.
    pub enum SystemParam {
        /// Short for one text block.
        String => Text(String),
        /// Text blocks, in order.
        Array => Blocks(Vec<TextBlockParam>),
    }
    expected "a string or an array of text blocks"
}

tagged! {
    /// Whether the model thinks first.
    pub enum ThinkingConfigParam {
        /// So many tokens at most.
        "enabled" => Enabled(ThinkingEnabled),
        /// As long as it likes.
        "adaptive" => Adaptive(ThinkingAdaptive),
        /// No.
        "disabled" => Disabled(ThinkingPlain),
        /// Only after a tool's result.
        "between_tools" => BetweenTools(ThinkingPlain),
    }
}

/// So many tokens of thoughts at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ThinkingEnabled {
    /// At least 1,024 and less than `max_tokens`.
    #[serde(deserialize_with = "whole")]
    pub budget_tokens: u32,
    /// Whether the thoughts are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<Display>,
    /// What happens to thoughts sent back that are not as they were (beta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_binding: Option<Map<String, Value>>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Thoughts as long as the model likes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ThinkingAdaptive {
    /// Whether the thoughts are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<Display>,
    /// What happens to thoughts sent back that are not as they were (beta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_binding: Option<Map<String, Value>>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Nothing more to say about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ThinkingPlain {
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Whether thoughts are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Display {
    /// Yes. Here they are never summarised.
    Summarized,
    /// No: a block with a signature and no text.
    Omitted,
    /// As they come (beta).
    Updates,
}

/// What the answer must be like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct OutputConfig {
    /// What its text must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<OutputFormat>,
    /// How much effort goes into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// Tokens for a whole task (beta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_budget: Option<Map<String, Value>>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

tagged! {
    /// What the text of the answer must be.
    pub enum OutputFormat {
        /// JSON of a schema.
        "json_schema" => JsonSchema(JsonSchemaFormat),
    }
}

/// JSON of a schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct JsonSchemaFormat {
    /// The schema.
    #[serde(deserialize_with = "object")]
    pub schema: Map<String, Value>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// How much effort goes into an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Little.
    Low,
    /// Some.
    Medium,
    /// The default.
    High,
    /// More.
    Xhigh,
    /// As much as there is.
    Max,
}

/// About a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct Metadata {
    /// Who the caller asks for: an opaque name, at most 512 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// How urgent a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServiceTierParam {
    /// As the key allows.
    Auto,
    /// No faster than standard.
    StandardOnly,
}

/// How fast a request is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Speed {
    /// As always.
    Standard,
    /// Faster, for more money.
    Fast,
}

/// Asks why the prompt cache missed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct DiagnosticsParam {
    /// The answer before this one; `null` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_message_id: Option<String>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

tagged! {
    /// A conversation that the server keeps (beta).
    pub enum ThreadParam {
        /// Keep this one.
        "create" => Create(ThreadCreate),
        /// Go on with one that was kept; `messages` holds only what is new.
        "continue" => Continue(ThreadContinue),
    }
}

/// Keep this conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ThreadCreate {
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Go on with a conversation that was kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ThreadContinue {
    /// Its last answer.
    pub previous_message_id: String,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What may be left out of a long conversation (beta).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ContextManagement {
    /// How.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Value>"))]
    pub edits: Option<Vec<Value>>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}
