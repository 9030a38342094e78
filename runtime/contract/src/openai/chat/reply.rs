//! What is answered, as types. The service writes it from events without them; upstreams are read with them.

use serde::{Deserialize, Serialize};

use crate::event;

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatCompletion"))]
pub struct Completion {
    /// `chatcmpl-…`.
    pub id: String,
    /// Always `chat.completion`.
    pub object: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// As many as were asked for.
    pub choices: Vec<Choice>,
    /// What it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// How urgent it was served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// Tells servers apart. Not given here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_fingerprint: Option<String>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatChoice"))]
pub struct Choice {
    /// Which, from 0.
    pub index: u32,
    /// What was said.
    pub message: Reply,
    /// Of the text's tokens, where asked for.
    pub logprobs: Option<Logprobs>,
    /// `stop`, `length`, `tool_calls` or `content_filter`.
    pub finish_reason: String,
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatReply"))]
pub struct Reply {
    /// Always `assistant`.
    pub role: String,
    /// The text; `null` where there is none.
    pub content: Option<String>,
    /// What was said instead of an answer.
    #[serde(default)]
    pub refusal: Option<String>,
    /// What the model thought. Not OpenAI's, but what other servers of open models say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Tools to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ReplyCall>>,
}

/// A tool to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatReplyCall"))]
pub struct ReplyCall {
    /// By which the result names it.
    pub id: String,
    /// Always `function`.
    pub r#type: String,
    /// Which, and with what.
    pub function: ReplyFunction,
}

/// Which function to run, and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatReplyFunction"))]
pub struct ReplyFunction {
    /// The function.
    pub name: String,
    /// The JSON text of an object.
    pub arguments: String,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatChunk"))]
pub struct Chunk {
    /// `chatcmpl-…`, the same in all of them.
    pub id: String,
    /// Always `chat.completion.chunk`.
    pub object: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// One; none in the chunk with the usage.
    pub choices: Vec<ChunkChoice>,
    /// `null` but in the last, where asked for; else left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// How urgent it is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// Tells servers apart. Not given here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_fingerprint: Option<String>,
}

/// A piece of one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatChunkChoice"))]
pub struct ChunkChoice {
    /// Which, from 0.
    pub index: u32,
    /// What is to be appended.
    pub delta: Delta,
    /// Of the piece's tokens, where asked for.
    #[serde(default)]
    pub logprobs: Option<Logprobs>,
    /// Why it ended, in its last piece.
    pub finish_reason: Option<String>,
}

/// What is to be appended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatDelta"))]
pub struct Delta {
    /// `assistant`, in the first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// To the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// To the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// To the thoughts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// To the calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<DeltaCall>>,
}

/// A piece of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatDeltaCall"))]
pub struct DeltaCall {
    /// Which call of the answer, from 0.
    pub index: u32,
    /// By which the result names it, in its first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `function`, in its first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// Which, and with what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<DeltaFunction>,
}

/// A piece of which function to run, and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatDeltaFunction"))]
pub struct DeltaFunction {
    /// The function, in the call's first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// To the arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}

/// Of tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatLogprobs"))]
pub struct Logprobs {
    /// Of the text's.
    pub content: Option<Vec<TokenLogprob>>,
    /// Of the refusal's: no model makes one here.
    #[serde(default)]
    pub refusal: Option<Vec<TokenLogprob>>,
}

/// Of a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatTokenLogprob"))]
pub struct TokenLogprob {
    /// As text, with U+FFFD where its bytes are no text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its bytes: not always whole characters.
    pub bytes: Option<Vec<u8>>,
    /// The most probable ones there, best first.
    pub top_logprobs: Vec<TopLogprob>,
}

/// Of a token that might have been.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatTopLogprob"))]
pub struct TopLogprob {
    /// As text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Option<Vec<u8>>,
}

/// What it took, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatUsage"))]
pub struct Usage {
    /// Of the prompt, known ones included.
    pub prompt_tokens: u64,
    /// Generated, over all answers, thoughts included.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// Of the prompt.
    #[serde(default)]
    pub prompt_tokens_details: PromptDetails,
    /// Of what was generated.
    #[serde(default)]
    pub completion_tokens_details: CompletionDetails,
}

/// Of the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatPromptDetails"))]
pub struct PromptDetails {
    /// Known already.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Kept from now on.
    #[serde(default)]
    pub cache_write_tokens: u64,
}

/// Of what was generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatCompletionDetails"))]
pub struct CompletionDetails {
    /// Thought.
    #[serde(default)]
    pub reasoning_tokens: u64,
}

impl From<event::Usage> for Usage {
    fn from(usage: event::Usage) -> Usage {
        Usage {
            prompt_tokens: usage.prompt(),
            completion_tokens: usage.output,
            total_tokens: usage.prompt().saturating_add(usage.output),
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.cache_read,
                cache_write_tokens: usage.cache_write_5m.saturating_add(usage.cache_write_1h),
            },
            completion_tokens_details: CompletionDetails { reasoning_tokens: usage.thinking },
        }
    }
}
