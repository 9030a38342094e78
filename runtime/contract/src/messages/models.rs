//! `GET /v1/models`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::read::given;

/// A page of models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelPage {
    /// Models, the newest first.
    pub data: Vec<ModelInfo>,
    /// Whether there are more behind the last.
    pub has_more: bool,
    /// The first one here.
    pub first_id: Option<String>,
    /// The last one here.
    pub last_id: Option<String>,
}

impl ModelPage {
    /// A page of these.
    pub fn new(data: Vec<ModelInfo>, has_more: bool) -> ModelPage {
        let first_id = data.first().map(|model| model.id.clone());
        let last_id = data.last().map(|model| model.id.clone());
        ModelPage { data, has_more, first_id, last_id }
    }
}

/// A model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelInfo {
    /// Its name in requests.
    pub id: String,
    /// `model`.
    pub r#type: ModelTag,
    /// For a person.
    pub display_name: String,
    /// RFC 3339.
    pub created_at: String,
    /// Whether it is served, and for how long.
    pub lifecycle: Lifecycle,
    /// The hosted service's own families: always `null` here.
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub line: Option<String>,
    /// The longest prompt.
    pub max_input_tokens: Option<u64>,
    /// The longest answer.
    pub max_tokens: Option<u64>,
    /// RFC 3339.
    pub deprecated_at: Option<String>,
    /// RFC 3339.
    pub retires_at: Option<String>,
    /// What it can do here.
    pub capabilities: Option<ModelCapabilities>,
    /// Models that are tried where it refuses. In the beta's shape only, where it is `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub allowed_fallback_models: Option<Value>,
}

/// The `type` of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ModelTag {
    /// The only one.
    Model,
}

/// Whether a model is served, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// It is.
    Active,
    /// Not for much longer.
    Deprecated,
    /// No longer.
    Retired,
}

/// What decides a model's [`ModelCapabilities`] here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// It was trained to think before it answers.
    pub thinking: bool,
    /// Answers can be held to a grammar.
    pub structured_outputs: bool,
    /// Batches are served.
    pub batch: bool,
}

/// What a model can do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelCapabilities {
    /// Batches.
    pub batch: Support,
    /// Citing documents.
    pub citations: Support,
    /// Running code on the service's side.
    pub code_execution: Support,
    /// Leaving things out of long conversations.
    pub context_management: ContextManagementSupport,
    /// `output_config.effort`.
    pub effort: EffortSupport,
    /// Pictures.
    pub image_input: Support,
    /// PDFs.
    pub pdf_input: Support,
    /// Tools that the service runs.
    pub server_tools: ServerToolsSupport,
    /// Answers of a schema.
    pub structured_outputs: Support,
    /// Thinking.
    pub thinking: ThinkingSupport,
    /// Summarising long conversations. In the beta's shape only, where it is `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "()"))]
    pub compaction: Option<()>,
}

/// Whether something is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Support {
    /// Whether it is.
    pub supported: bool,
}

/// What may be left out of long conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(missing_docs, reason = "they are called as the wire names them")]
pub struct ContextManagementSupport {
    pub supported: bool,
    pub clear_thinking_20251015: Option<Support>,
    pub clear_tool_uses_20250919: Option<Support>,
    pub compact_20260112: Option<Support>,
}

/// Which efforts make a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(missing_docs, reason = "they are called as the wire names them")]
pub struct EffortSupport {
    pub supported: bool,
    pub low: Support,
    pub medium: Support,
    pub high: Support,
    pub xhigh: Option<Support>,
    pub max: Support,
}

/// Tools that the service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(missing_docs, reason = "they are called as the wire names them")]
pub struct ServerToolsSupport {
    pub supported: bool,
    pub code_execution: Support,
    pub web_search: Support,
}

/// How a model can think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(missing_docs, reason = "they are called as the wire names them")]
pub struct ThinkingSupport {
    pub supported: bool,
    pub types: ThinkingTypes,
}

/// Types of `thinking`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(missing_docs, reason = "they are called as the wire names them")]
pub struct ThinkingTypes {
    pub adaptive: Support,
    pub between_tools: Support,
    pub disabled: Support,
    pub enabled: Support,
}

impl ModelCapabilities {
    /// What [`super::FIELDS`] does for a model of these abilities, and no more. `beta`: in the beta's shape.
    pub fn new(abilities: Abilities, beta: bool) -> ModelCapabilities {
        const YES: Support = Support { supported: true };
        const NO: Support = Support { supported: false };
        let thinking = Support { supported: abilities.thinking };
        ModelCapabilities {
            batch: Support { supported: abilities.batch },
            citations: NO,
            code_execution: NO,
            context_management: ContextManagementSupport {
                supported: false,
                clear_thinking_20251015: Some(NO),
                clear_tool_uses_20250919: Some(NO),
                compact_20260112: Some(NO),
            },
            // Effort is a bound on thoughts: without thoughts there is none, and from `high` on there is nothing to bound.
            effort: EffortSupport {
                supported: abilities.thinking,
                low: thinking,
                medium: thinking,
                high: thinking,
                xhigh: Some(NO),
                max: NO,
            },
            image_input: NO,
            pdf_input: NO,
            server_tools: ServerToolsSupport { supported: false, code_execution: NO, web_search: NO },
            structured_outputs: Support { supported: abilities.structured_outputs },
            thinking: ThinkingSupport {
                supported: abilities.thinking,
                types: ThinkingTypes { adaptive: thinking, between_tools: NO, disabled: YES, enabled: thinking },
            },
            compaction: beta.then_some(()),
        }
    }
}
