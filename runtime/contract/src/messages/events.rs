//! Events of a streamed answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ErrorObject;
use super::read::given;
use super::response::{ContentBlock, Message, OutputTokensDetails, RefusalDetails, StopReason};
use crate::leaf::tagged;

tagged! {
    /// An event of a stream. Its name on the `event:` line is its `type`.
    pub enum StreamEvent {
        /// The first one.
        "message_start" => MessageStart(MessageStart),
        /// A block begins.
        "content_block_start" => BlockStart(BlockStart),
        /// More of a block.
        "content_block_delta" => BlockDelta(BlockDelta),
        /// A block ends.
        "content_block_stop" => BlockStop(BlockStop),
        /// Why the answer ended, and what it took.
        "message_delta" => MessageDelta(MessageDelta),
        /// The last one.
        "message_stop" => MessageStop(Nothing),
        /// Nothing happened.
        "ping" => Ping(Nothing),
        /// It can't go on. The last one.
        "error" => Error(ErrorEvent),
    }
}

/// An answer begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct MessageStart {
    /// The answer, with no content yet.
    pub message: Message,
}

/// A block begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct BlockStart {
    /// Its place in the answer, from 0 without gaps.
    pub index: u64,
    /// The block, with nothing in it yet.
    pub content_block: ContentBlock,
}

/// More of a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct BlockDelta {
    /// Its place in the answer.
    pub index: u64,
    /// What is new.
    pub delta: Delta,
}

tagged! {
    /// What is new in a block.
    pub enum Delta {
        /// Text, to append.
        "text_delta" => Text(TextDelta),
        /// JSON of a tool's arguments, to append.
        "input_json_delta" => InputJson(InputJsonDelta),
        /// Thoughts, to append.
        "thinking_delta" => Thinking(ThinkingDelta),
        /// The signature of thoughts.
        "signature_delta" => Signature(SignatureDelta),
    }
}

/// Text, to append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct TextDelta {
    /// The text.
    pub text: String,
}

/// JSON of a tool's arguments, to append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct InputJsonDelta {
    /// A piece of an object's text.
    pub partial_json: String,
}

/// Thoughts, to append.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ThinkingDelta {
    /// The thoughts.
    pub thinking: String,
    /// Tokens of thoughts that are left out of the answer. In the beta's shape only, where it is `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub estimated_tokens: Option<Value>,
}

/// The signature of thoughts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct SignatureDelta {
    /// The whole of it.
    pub signature: String,
}

/// A block ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct BlockStop {
    /// Its place in the answer.
    pub index: u64,
}

/// Why an answer ended, and what it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct MessageDelta {
    /// What changes in the answer.
    pub delta: MessageChange,
    /// What was left out of the conversation. In the beta's shape only, where it is `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub context_management: Option<Value>,
    /// What it took, all in all.
    pub usage: DeltaUsage,
}

/// What changes in an answer at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct MessageChange {
    /// Why it ended.
    #[serde(default)]
    pub stop_reason: Option<StopReason>,
    /// The text that ended it.
    #[serde(default)]
    pub stop_sequence: Option<String>,
    /// Why it was refused.
    #[serde(default)]
    pub stop_details: Option<RefusalDetails>,
    /// Always `null` here.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub container: Option<Value>,
}

/// What an answer took, all in all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct DeltaUsage {
    /// Of the prompt, neither read from the cache nor written to it.
    #[serde(default)]
    pub input_tokens: Option<u64>,
    /// Generated.
    pub output_tokens: u64,
    /// Of the prompt, written to the cache.
    #[serde(default)]
    pub cache_creation_input_tokens: Option<u64>,
    /// Of the prompt, read from the cache.
    #[serde(default)]
    pub cache_read_input_tokens: Option<u64>,
    /// What was generated, by kind.
    #[serde(default)]
    pub output_tokens_details: Option<OutputTokensDetails>,
    /// Tools that the service ran: always `null` here.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub server_tool_use: Option<Value>,
    /// In the beta's shape only, where it is `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub fallback_credit: Option<Value>,
    /// In the beta's shape only, where it is `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub iterations: Option<Value>,
}

impl From<super::response::Usage> for DeltaUsage {
    fn from(usage: super::response::Usage) -> DeltaUsage {
        DeltaUsage {
            input_tokens: Some(usage.input_tokens),
            output_tokens: usage.output_tokens,
            cache_creation_input_tokens: usage.cache_creation_input_tokens,
            cache_read_input_tokens: usage.cache_read_input_tokens,
            output_tokens_details: usage.output_tokens_details,
            server_tool_use: usage.server_tool_use,
            fallback_credit: usage.fallback_credit,
            iterations: usage.iterations,
        }
    }
}

/// Nothing more to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct Nothing {}

/// It can't go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ErrorEvent {
    /// What went wrong.
    pub error: ErrorObject,
    /// The request that failed.
    #[serde(default)]
    pub request_id: Option<String>,
}
