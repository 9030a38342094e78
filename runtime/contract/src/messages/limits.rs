//! `GET /v1/organizations/rate_limits`: what a key may use.

use serde::{Deserialize, Serialize};

/// A page of limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RateLimitPage {
    /// Limits.
    pub data: Vec<RateLimit>,
    /// Where the next page begins.
    pub next_page: Option<String>,
}

/// Limits of one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RateLimit {
    /// Its id.
    pub id: String,
    /// `rate_limit`.
    pub r#type: RateLimitTag,
    /// What it limits.
    pub group: RateLimitGroup,
    /// How.
    pub limits: Vec<RateLimitValue>,
    /// Models that it limits; `null` where the group is not one of models.
    pub models: Option<Vec<String>>,
}

/// The `type` of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RateLimitTag {
    /// The only one.
    RateLimit,
}

/// What a limit limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RateLimitGroup {
    /// Some models.
    ModelGroup {
        /// Its id.
        id: String,
        /// For a person.
        display_name: String,
    },
    /// Batches.
    Batch {
        /// Its id.
        id: String,
    },
    /// Counting of tokens.
    TokenCount {
        /// Its id.
        id: String,
    },
    /// Files.
    Files {
        /// Its id.
        id: String,
    },
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RateLimitValue {
    /// Of what: `requests_per_minute`, `input_tokens_per_minute_cache_aware`, `output_tokens_per_minute` and the like.
    pub r#type: String,
    /// How many.
    pub value: u64,
}
