//! `/v1/embeddings`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::beyond::Beyonds;
use super::{Input, range};
use crate::embed::{EmbedAsk, Embedded};
use crate::error::ApiError;
use crate::leaf::Unknown;

/// Inputs of one request.
pub const MOST_INPUTS: usize = 2048;

/// What is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "EmbeddingsRequest"))]
#[serde(expecting = "an object")]
pub struct Request {
    /// What becomes vectors: at most 2,048 texts, none of them empty.
    pub input: Input,
    /// The model.
    pub model: String,
    /// Length of the vectors, for models that were trained for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<i64>,
    /// How vectors are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding_format: Option<Encoding>,
    /// Who the caller asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

words! {
    /// How vectors are written.
    #[derive(Default)]
    #[cfg_attr(feature = "schema", schemars(rename = "EmbeddingsEncoding"))]
    pub enum Encoding {
        /// An array of numbers.
        #[default]
        "float" => Float,
        /// 32-bit floats, little-endian, in base64: a third of the size, and exact.
        "base64" => Base64,
    }
}

impl Request {
    /// The neutral request.
    ///
    /// # Errors
    /// `invalid_request_error` with the leaf that is out of bounds.
    pub fn into_ask(self) -> Result<EmbedAsk, ApiError> {
        range::model(&self.model)?;
        self.input.check("input", MOST_INPUTS, false)?;
        let dimensions = range::count("dimensions", self.dimensions, 1, u32::MAX)?;
        let mut beyond = Beyonds::default();
        beyond.unknown("", &self.unknown);
        Ok(EmbedAsk { model: self.model, inputs: self.input.into_prompts(), dimensions, user: self.user, beyond: beyond.into_list() })
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Embeddings {
    /// Always `list`.
    pub object: String,
    /// A vector for each input, in its order.
    pub data: Vec<Embedding>,
    /// The model that made them.
    pub model: String,
    /// What it took.
    pub usage: EmbeddingUsage,
}

/// One vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Embedding {
    /// Always `embedding`.
    pub object: String,
    /// Of which input.
    pub index: usize,
    /// The vector.
    pub embedding: Vector,
}

/// A vector as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "EmbeddingsVector"))]
#[serde(untagged)]
pub enum Vector {
    /// Its numbers.
    Float(Vec<f32>),
    /// Its 32-bit floats, little-endian, in base64.
    Base64(String),
}

/// What it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EmbeddingUsage {
    /// Tokens of all inputs.
    pub prompt_tokens: u64,
    /// The same: nothing is generated.
    pub total_tokens: u64,
}

impl Embeddings {
    /// Vectors as they are answered. A number that is not finite has no JSON and becomes `null` there; in base64 it stays what it is.
    pub fn new(model: String, embedded: Embedded, encoding: Encoding) -> Embeddings {
        let write = |vector: Vec<f32>| match encoding {
            Encoding::Float => Vector::Float(vector),
            Encoding::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                Vector::Base64(STANDARD.encode(bytes))
            }
        };
        let vectors = embedded.vectors.into_iter().enumerate();
        let data = vectors.map(|(index, vector)| Embedding { object: "embedding".to_owned(), index, embedding: write(vector) }).collect();
        let usage = EmbeddingUsage { prompt_tokens: embedded.tokens, total_tokens: embedded.tokens };
        Embeddings { object: "list".to_owned(), data, model, usage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::RawPrompt;
    use crate::leaf::parse;

    fn ask(body: &str) -> Result<EmbedAsk, ApiError> {
        parse::<Request>(body.as_bytes())?.into_ask()
    }

    #[test]
    fn inputs() {
        let asked = ask(r#"{"model": "m", "input": ["a", "b"], "dimensions": 64, "encoding_format": "base64", "user": null, "x": 1}"#)
            .expect("an ask");
        assert_eq!(asked.inputs, [RawPrompt::Text("a".into()), RawPrompt::Text("b".into())]);
        assert_eq!((asked.dimensions, asked.user.as_deref()), (Some(64), None));
        assert_eq!(asked.beyond.iter().map(|b| (b.path.as_str(), b.hint)).collect::<Vec<_>>(), [("x", true)]);
    }

    #[test]
    fn bounds() {
        let wrong = |body: &str| ask(body).expect_err("a body that is wrong").message;
        assert!(wrong(r#"{"model": "m", "input": ["a", ""]}"#).starts_with("input.1: this is empty"));
        assert!(wrong(r#"{"model": "m", "input": ""}"#).starts_with("input: the text is empty"));
        assert!(wrong(r#"{"model": "m", "input": [[1], []]}"#).starts_with("input.1: this is empty"));
        assert!(wrong(r#"{"model": "", "input": "a"}"#).starts_with("model: "));
        assert!(wrong(r#"{"model": "m", "input": "a", "dimensions": 0}"#).starts_with("dimensions: 0 is not a count"));
        assert!(wrong(r#"{"model": "m", "input": "a", "encoding_format": "hex"}"#).starts_with("encoding_format: unknown variant `hex`"));
        let many = format!(r#"{{"model": "m", "input": ["a"{}]}}"#, r#","a""#.repeat(MOST_INPUTS));
        assert!(wrong(&many).starts_with("input: 2049 of them are too many"));
    }

    #[test]
    fn little_endian() {
        let embedded = Embedded { vectors: vec![vec![1.0, -0.5]], tokens: 3 };
        let written = Embeddings::new("m".into(), embedded, Encoding::Base64);
        assert_eq!(
            serde_json::to_string(&written).expect("JSON"),
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPwAAAL8="}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#
        );
    }
}
