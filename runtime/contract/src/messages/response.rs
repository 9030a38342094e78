//! Answers. What is written here has every key that the contract names; what is read from elsewhere may lack them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::read::given;
use crate::event;
use crate::leaf::tagged;

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct Message {
    /// `msg_…`.
    pub id: String,
    /// `message`.
    pub r#type: MessageTag,
    /// `assistant`.
    pub role: AssistantTag,
    /// The model that answered.
    pub model: String,
    /// What it said.
    pub content: Vec<ContentBlock>,
    /// Why it ended; `null` in `message_start`.
    #[serde(default)]
    pub stop_reason: Option<StopReason>,
    /// The text that ended it, where `stop_reason` is `stop_sequence`.
    #[serde(default)]
    pub stop_sequence: Option<String>,
    /// Why it was refused, where `stop_reason` is `refusal`.
    #[serde(default)]
    pub stop_details: Option<RefusalDetails>,
    /// A machine for code: always `null` here.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub container: Option<Value>,
    /// Why the prompt cache missed, where the request asked and it did.
    #[serde(default)]
    pub diagnostics: Option<Diagnostics>,
    /// What was left out of the conversation. In the beta's shape only, where it is `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub context_management: Option<Value>,
    /// What it took.
    pub usage: Usage,
}

/// The `type` of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MessageTag {
    /// The only one.
    Message,
}

/// The `role` of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AssistantTag {
    /// The only one.
    Assistant,
}

tagged! {
    /// A block of an answer.
    pub enum ContentBlock {
        /// Text.
        "text" => Text(TextBlock),
        /// Thoughts.
        "thinking" => Thinking(ThinkingBlock),
        /// Thoughts, encrypted. Never made here.
        "redacted_thinking" => RedactedThinking(RedactedThinkingBlock),
        /// A call of a tool.
        "tool_use" => ToolUse(ToolUseBlock),
    }
}

/// Text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct TextBlock {
    /// The text.
    pub text: String,
    /// Never given here. Left out, although the SDKs' types name it: clients that check answers take it to be an array or nothing, and not `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Value>"))]
    pub citations: Option<Vec<Value>>,
}

/// Thoughts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ThinkingBlock {
    /// Empty where the request asked to leave them out.
    pub thinking: String,
    /// To be sent back with them.
    #[serde(default)]
    pub signature: String,
}

/// Thoughts, encrypted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct RedactedThinkingBlock {
    /// Opaque.
    pub data: String,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ToolUseBlock {
    /// By which its result names it.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments, an object.
    pub input: Value,
    /// Who calls.
    #[serde(default)]
    pub caller: Caller,
}

tagged! {
    /// Who calls a tool.
    pub enum Caller {
        /// The model.
        "direct" => Direct(Direct),
    }
}

impl Default for Caller {
    fn default() -> Caller {
        Caller::Direct(Direct {})
    }
}

/// The model itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct Direct {}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model had said what it wanted to.
    EndTurn,
    /// `max_tokens`.
    MaxTokens,
    /// A text of `stop_sequences`.
    StopSequence,
    /// The caller is to run tools.
    ToolUse,
    /// A tool of the service's takes long. Never made here.
    PauseTurn,
    /// The conversation was summarised. Never made here.
    Compaction,
    /// It was not safe to say.
    Refusal,
    /// The context is full.
    ModelContextWindowExceeded,
}

/// Why an answer was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct RefusalDetails {
    /// `refusal`.
    pub r#type: RefusalTag,
    /// `cyber`, `bio`, `frontier_llm`, `reasoning_extraction` or `general_harms`; here the last or none.
    #[serde(default)]
    pub category: Option<String>,
    /// For the caller.
    #[serde(default)]
    pub explanation: Option<String>,
    /// In the beta's shape only, where it is `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub fallback_credit_token: Option<Value>,
    /// In the beta's shape only, where it is `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub fallback_has_prefill_claim: Option<Value>,
    /// In the beta's shape only, where it is `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub recommended_model: Option<Value>,
}

impl RefusalDetails {
    /// Why it was not safe to say. `beta`: in the beta's shape.
    pub fn new(refusal: event::Refusal, beta: bool) -> RefusalDetails {
        let null = || beta.then_some(Value::Null);
        RefusalDetails {
            r#type: RefusalTag::Refusal,
            category: refusal.category.map(str::to_owned),
            explanation: Some(refusal.explanation),
            fallback_credit_token: null(),
            fallback_has_prefill_claim: null(),
            recommended_model: null(),
        }
    }
}

/// The `type` of a refusal's details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RefusalTag {
    /// The only one.
    Refusal,
}

/// Why the prompt cache missed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct Diagnostics {
    /// `null` where nobody knows yet, which does not happen here.
    #[serde(default)]
    pub cache_miss_reason: Option<CacheMiss>,
}

/// Why the prompt cache missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CacheMiss {
    /// Another model.
    ModelChanged {
        /// Tokens that were computed again.
        cache_missed_input_tokens: u64,
    },
    /// Another system text.
    SystemChanged {
        /// Tokens that were computed again.
        cache_missed_input_tokens: u64,
    },
    /// Other tools.
    ToolsChanged {
        /// Tokens that were computed again.
        cache_missed_input_tokens: u64,
    },
    /// Other messages before the new ones.
    MessagesChanged {
        /// Tokens that were computed again.
        cache_missed_input_tokens: u64,
    },
    /// The answer before this one is not known, or no longer.
    PreviousMessageNotFound,
    /// It can't be said here.
    Unavailable,
}

/// What an answer took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct Usage {
    /// Of the prompt, neither read from the cache nor written to it.
    pub input_tokens: u64,
    /// Generated.
    pub output_tokens: u64,
    /// Of the prompt, written to the cache.
    #[serde(default)]
    pub cache_creation_input_tokens: Option<u64>,
    /// Of the prompt, read from the cache.
    #[serde(default)]
    pub cache_read_input_tokens: Option<u64>,
    /// What was written to the cache, by how long it is kept.
    #[serde(default)]
    pub cache_creation: Option<CacheCreation>,
    /// What was generated, by kind.
    #[serde(default)]
    pub output_tokens_details: Option<OutputTokensDetails>,
    /// Tools that the service ran: always `null` here.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub server_tool_use: Option<Value>,
    /// `standard`, `priority` or `batch`.
    #[serde(default)]
    pub service_tier: Option<String>,
    /// Always `null` here: there is one speed.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub speed: Option<String>,
    /// Always `null` here.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub inference_geo: Option<String>,
    /// In the beta's shape only, where it is `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub fallback_credit: Option<Value>,
    /// In the beta's shape only, where it is `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub iterations: Option<Value>,
}

impl Usage {
    /// What it took. `beta`: in the beta's shape.
    pub fn new(usage: &event::Usage, tier: &str, beta: bool) -> Usage {
        Usage {
            input_tokens: usage.input,
            output_tokens: usage.output,
            cache_creation_input_tokens: Some(usage.cache_write_5m.saturating_add(usage.cache_write_1h)),
            cache_read_input_tokens: Some(usage.cache_read),
            cache_creation: Some(CacheCreation {
                ephemeral_5m_input_tokens: usage.cache_write_5m,
                ephemeral_1h_input_tokens: usage.cache_write_1h,
            }),
            output_tokens_details: Some(OutputTokensDetails { thinking_tokens: usage.thinking }),
            server_tool_use: None,
            service_tier: Some(tier.to_owned()),
            speed: None,
            inference_geo: None,
            fallback_credit: beta.then_some(Value::Null),
            iterations: beta.then_some(Value::Null),
        }
    }
}

/// What was written to the cache, by how long it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct CacheCreation {
    /// An hour.
    #[serde(default)]
    pub ephemeral_1h_input_tokens: u64,
    /// Five minutes.
    #[serde(default)]
    pub ephemeral_5m_input_tokens: u64,
}

/// What was generated, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct OutputTokensDetails {
    /// Thoughts, also those that were left out of the answer.
    #[serde(default)]
    pub thinking_tokens: u64,
}

/// `POST /v1/messages/count_tokens` answers this.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct TokensCount {
    /// The prompt's length.
    pub input_tokens: u64,
    /// The beta's shape has this too, `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub context_management: Option<Value>,
}
