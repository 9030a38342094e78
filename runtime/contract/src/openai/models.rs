//! `/v1/models` in OpenAI's shape.

use serde::{Deserialize, Serialize};

/// A model that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "OpenAiModel"))]
pub struct Model {
    /// Its name, as requests give it.
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Who made it.
    pub owned_by: String,
}

impl Model {
    /// A model.
    pub fn new(id: impl Into<String>, created: u64, owned_by: impl Into<String>) -> Model {
        Model { id: id.into(), object: "model".to_owned(), created, owned_by: owned_by.into() }
    }
}

/// All of them, on one page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "OpenAiModels"))]
pub struct Models {
    /// Always `list`.
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}

impl Models {
    /// A list.
    pub fn new(data: Vec<Model>) -> Models {
        Models { object: "list".to_owned(), data }
    }
}
