//! OpenAI's API: [`chat`] completions, [`responses`], [`completions`], [`embeddings`], [`moderations`], [`models`] and the [`error`]
//! envelope.
//!
//! A body is read by [`crate::leaf::parse`] into a `Request`, which keeps what it does not name, and becomes a neutral request by
//! `into_ask`: ranges are
//! checked there, and what has no neutral form is listed with its path. An explicit `null` is the same as leaving a member out. Answers are
//! written from
//! events by the service; their types here are what OpenAPI and tests go by.
//!
//! Beyond OpenAI's own: `top_k` is read where `top_p` is, and thoughts are `reasoning_content` beside `content`, as other servers of
//! open models have it.

use serde::{Deserialize, Serialize};

use crate::ask::{CacheTtl, ServiceTier, Thinking};
use crate::leaf::{Unknown, either};

/// Declares an enum of words. Derived, a number in its place is a syntax error to `serde_json`, which has no leaf.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$arm_meta:meta])* $word:literal => $arm:ident,)* }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        $(#[$meta])*
        pub enum $name {
            $($(#[$arm_meta])* #[serde(rename = $word)] $arm,)*
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let word = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                match word.as_ref() {
                    $($word => Ok($name::$arm),)*
                    other => {
                        // A caller's word may be anything: it must not be taken for a mark in the error, nor flood a log.
                        let other = crate::error::plain(other);
                        Err(serde::de::Error::unknown_variant(&other, &[$($word),*]))
                    }
                }
            }
        }
    };
}
mod beyond;
pub mod chat;
pub mod completions;
pub mod embeddings;
pub mod error;
mod fields;
mod input;
pub mod models;
pub mod moderations;
mod range;
pub mod responses;

pub use fields::{CHAT_FIELDS, COMPLETIONS_FIELDS, EMBEDDINGS_FIELDS, MODERATE_FIELDS, MODERATIONS_FIELDS, RESPONSES_FIELDS};
pub use input::Input;

use beyond::Beyonds;

either! {
    /// Texts that end an answer.
    #[cfg_attr(feature = "schema", schemars(rename = "OpenAiStop"))]
    pub enum Stop {
        /// One.
        String => Text(String),
        /// At most 64.
        Array => Texts(Vec<String>),
    }
    expected "a string or an array of strings"
}

/// How a stream is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "OpenAiStreamOptions"))]
#[serde(expecting = "an object")]
pub struct StreamOptions {
    /// Whether a last chunk without choices says what it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_usage: Option<bool>,
    /// Whether chunks are padded against watchers who know their lengths. Nothing is padded here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_obfuscation: Option<bool>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl StreamOptions {
    fn ask(options: Option<&StreamOptions>, stream: bool, beyond: &mut Beyonds) -> Result<(), crate::error::ApiError> {
        let Some(options) = options else { return Ok(()) };
        if !stream {
            return Err(crate::error::ApiError::invalid("stream_options", "these are for streams; set `stream` to true or leave them out"));
        }
        beyond.hint_if(options.include_obfuscation == Some(true), "stream_options.include_obfuscation", "chunks are not padded here");
        beyond.unknown("stream_options", &options.unknown);
        Ok(())
    }
}

words! {
    /// How much the model thinks before it answers.
    #[cfg_attr(feature = "schema", schemars(rename = "OpenAiEffort"))]
    pub enum Effort {
        /// Not at all.
        "none" => None,
        /// 1,024 tokens at most.
        "minimal" => Minimal,
        /// 2,048 tokens at most.
        "low" => Low,
        /// 8,192 tokens at most.
        "medium" => Medium,
        /// 24,576 tokens at most.
        "high" => High,
        /// As long as it likes.
        "xhigh" => XHigh,
        /// As long as it likes.
        "max" => Max,
    }
}

impl Effort {
    /// What a backend is asked for. A model that was not trained to think does not.
    pub const fn thinking(self) -> Thinking {
        let tokens = match self {
            Effort::None => return Thinking::Off,
            Effort::Minimal => 1_024,
            Effort::Low => 2_048,
            Effort::Medium => 8_192,
            Effort::High => 24_576,
            Effort::XHigh | Effort::Max => return Thinking::Adaptive { hidden: false },
        };
        Thinking::Budget { tokens, hidden: false }
    }
}

words! {
    /// How urgent a request is.
    #[cfg_attr(feature = "schema", schemars(rename = "OpenAiTier"))]
    pub enum Tier {
        /// As the key allows.
        "auto" => Auto,
        /// No faster than standard.
        "default" => Default,
        /// It may wait.
        "flex" => Flex,
        /// As the key allows.
        "scale" => Scale,
        /// As the key allows.
        "priority" => Priority,
        /// As the key allows.
        "fast" => Fast,
        /// As the key allows.
        "ultrafast" => Ultrafast,
    }
}

impl Tier {
    /// What a backend is asked for.
    pub const fn service_tier(self) -> ServiceTier {
        match self {
            Tier::Auto | Tier::Scale | Tier::Priority | Tier::Fast | Tier::Ultrafast => ServiceTier::Auto,
            Tier::Default => ServiceTier::Standard,
            Tier::Flex => ServiceTier::Batch,
        }
    }
}

words! {
    /// How long answers are.
    #[cfg_attr(feature = "schema", schemars(rename = "OpenAiVerbosity"))]
    pub enum Verbosity {
        /// Short.
        "low" => Low,
        /// The default.
        "medium" => Medium,
        /// Long.
        "high" => High,
    }
}

words! {
    /// How long the upstream keeps prompts.
    #[cfg_attr(feature = "schema", schemars(rename = "OpenAiRetention"))]
    pub enum Retention {
        /// While there is room.
        "in_memory" => InMemory,
        /// The same, as it was written before.
        "in-memory" => InMemoryBefore,
        /// A day.
        "24h" => Day,
    }
}

/// A place in a prompt up to which it is worth keeping.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "OpenAiCacheBreakpoint"))]
#[serde(expecting = "an object")]
pub struct CacheBreakpoint {
    /// Always `explicit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<BreakpointMode>,
    /// How long it is kept at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<BreakpointTtl>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

words! {
    /// Kinds of breakpoints.
    #[cfg_attr(feature = "schema", schemars(rename = "OpenAiBreakpointMode"))]
    pub enum BreakpointMode {
        /// Here.
        "explicit" => Explicit,
    }
}

words! {
    /// How long a breakpoint's prefix is kept.
    #[cfg_attr(feature = "schema", schemars(rename = "OpenAiBreakpointTtl"))]
    pub enum BreakpointTtl {
        /// Half an hour.
        "30m" => HalfAnHour,
        /// Half a day.
        "12h" => HalfADay,
    }
}

impl CacheBreakpoint {
    /// How long the part that it stands in is kept, the part being at this path.
    fn cache(said: Option<&CacheBreakpoint>, part: &str, beyond: &mut Beyonds) -> Option<CacheTtl> {
        let said = said?;
        let path = format!("{part}.prompt_cache_breakpoint");
        if said.ttl == Some(BreakpointTtl::HalfADay) {
            beyond.hint(format!("{path}.ttl"), "prefixes are kept for an hour after their last use here");
        }
        beyond.unknown(&path, &said.unknown);
        // Half an hour, the shortest that can be asked for, is longer than five minutes.
        Some(CacheTtl::OneHour)
    }
}

/// The schemas of everything that goes over the wire here, by name.
#[cfg(feature = "schema")]
pub fn schemas() -> serde_json::Map<String, serde_json::Value> {
    components(crate::schema::Components::new()).finish()
}

/// The same, added to others.
#[cfg(feature = "schema")]
pub(crate) fn components(components: crate::schema::Components) -> crate::schema::Components {
    components
        .request::<chat::Request>()
        .request::<responses::Request>()
        .request::<completions::Request>()
        .request::<embeddings::Request>()
        .request::<moderations::Request>()
        .request::<moderations::ModerateRequest>()
        .response::<chat::Completion>()
        .response::<chat::Chunk>()
        .response::<responses::Response>()
        .response::<completions::Completion>()
        .response::<embeddings::Embeddings>()
        .response::<moderations::Moderations>()
        .response::<moderations::Moderate>()
        .response::<models::Model>()
        .response::<models::Models>()
        .response::<error::ErrorBody>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_none_is_shown_without_control_characters() {
        let wrong = |body: &str| crate::leaf::parse::<chat::Request>(body.as_bytes()).expect_err("no role").message;
        let message = wrong(r#"{"model": "m", "messages": [{"role": "\u0001a\u0001\n"}]}"#);
        assert!(message.starts_with("messages.0.role: unknown variant `\u{fffd}a\u{fffd}\u{fffd}`"), "{message}");
    }
}
