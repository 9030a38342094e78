//! What is answered, as types. The service writes it from events without them.

use serde::{Deserialize, Serialize};

use crate::event;
use crate::leaf::Unknown;
use crate::openai::chat::TokenLogprob;

/// A response. It repeats members of its request, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Response {
    /// `resp_…`.
    pub id: String,
    /// Always `response`.
    pub object: String,
    /// Seconds since 1970.
    pub created_at: u64,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    pub status: String,
    /// What went wrong.
    pub error: Option<ResponseError>,
    /// Why it is incomplete.
    pub incomplete_details: Option<Incomplete>,
    /// The model that answered.
    pub model: String,
    /// What was said and done.
    pub output: Vec<OutputItem>,
    /// What it took, when it is over.
    pub usage: Option<Usage>,
    /// How urgent it was served.
    pub service_tier: Option<String>,
    /// Members of the request.
    #[serde(flatten)]
    pub echo: Unknown,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResponseError {
    /// `server_error`, `rate_limit_exceeded` or `invalid_prompt`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// Why a response is incomplete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesIncomplete"))]
pub struct Incomplete {
    /// `max_output_tokens` or `content_filter`.
    pub reason: String,
}

/// What was said or done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesOutputItem"))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputItem {
    /// Thoughts.
    Reasoning {
        /// `rs_…`.
        id: String,
        /// How far it came.
        status: String,
        /// The thoughts.
        summary: Vec<SummaryPart>,
        /// Their signature, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
    },
    /// Text.
    Message {
        /// `msg_…`.
        id: String,
        /// How far it came.
        status: String,
        /// Always `assistant`.
        role: String,
        /// One part.
        content: Vec<OutputPart>,
    },
    /// A function to run.
    FunctionCall {
        /// `fc_…`.
        id: String,
        /// How far it came.
        status: String,
        /// By which the output names it.
        call_id: String,
        /// The function.
        name: String,
        /// The JSON text of an object.
        arguments: String,
    },
}

/// A part of thoughts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesSummaryPart"))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SummaryPart {
    /// Text.
    SummaryText {
        /// The text.
        text: String,
    },
}

/// A part of what was said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesOutputPart"))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputPart {
    /// Text.
    OutputText {
        /// The text.
        text: String,
        /// Sources: none are named here.
        annotations: Vec<()>,
        /// Of its tokens, where asked for.
        logprobs: Vec<TokenLogprob>,
    },
    /// What was said instead of an answer.
    Refusal {
        /// Why.
        refusal: String,
    },
}

/// What it took, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesUsage"))]
pub struct Usage {
    /// Of the prompt, known ones included.
    pub input_tokens: u64,
    /// Of the prompt.
    pub input_tokens_details: InputDetails,
    /// Generated, thoughts included.
    pub output_tokens: u64,
    /// Of what was generated.
    pub output_tokens_details: OutputDetails,
    /// Both.
    pub total_tokens: u64,
}

/// Of the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesInputDetails"))]
pub struct InputDetails {
    /// Known already.
    pub cached_tokens: u64,
    /// Kept from now on.
    pub cache_write_tokens: u64,
}

/// Of what was generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ResponsesOutputDetails"))]
pub struct OutputDetails {
    /// Thought.
    pub reasoning_tokens: u64,
}

impl From<event::Usage> for Usage {
    fn from(usage: event::Usage) -> Usage {
        Usage {
            input_tokens: usage.prompt(),
            input_tokens_details: InputDetails {
                cached_tokens: usage.cache_read,
                cache_write_tokens: usage.cache_write_5m.saturating_add(usage.cache_write_1h),
            },
            output_tokens: usage.output,
            output_tokens_details: OutputDetails { reasoning_tokens: usage.thinking },
            total_tokens: usage.prompt().saturating_add(usage.output),
        }
    }
}
