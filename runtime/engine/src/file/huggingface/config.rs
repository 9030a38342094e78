//! `config.json` and its companions as types. Unknown fields are passed over without being held.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

/// What the families' configurations say, all in one. Absent fields mean the family's default; where null means something else
/// than absent, the field is doubly optional.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
pub(super) struct Config {
    pub(super) model_type: Option<String>,
    /// A multimodal model's language part.
    pub(super) text_config: Option<Box<Config>>,
    pub(super) quantization_config: Option<IgnoredAny>,

    #[serde(alias = "n_embd")]
    pub(super) hidden_size: Option<u32>,
    #[serde(alias = "n_layer")]
    pub(super) num_hidden_layers: Option<u32>,
    #[serde(alias = "n_head")]
    pub(super) num_attention_heads: Option<u32>,
    pub(super) num_key_value_heads: Option<u32>,
    pub(super) head_dim: Option<u32>,
    #[serde(alias = "n_inner")]
    pub(super) intermediate_size: Option<u32>,
    #[serde(alias = "n_positions")]
    pub(super) max_position_embeddings: Option<u32>,
    pub(super) vocab_size: Option<u32>,
    pub(super) type_vocab_size: Option<u32>,
    pub(super) tie_word_embeddings: Option<bool>,

    pub(super) rms_norm_eps: Option<f32>,
    #[serde(alias = "layer_norm_epsilon")]
    pub(super) layer_norm_eps: Option<f32>,
    #[serde(alias = "activation_function")]
    pub(super) hidden_act: Option<String>,
    /// Gemma's files give this beside `hidden_act`, and it is the one that counts.
    pub(super) hidden_activation: Option<String>,

    #[serde(alias = "rotary_emb_base")]
    pub(super) rope_theta: Option<f32>,
    pub(super) rope_local_base_freq: Option<f32>,
    pub(super) rope_scaling: Option<Box<Rope>>,
    /// Newer configurations gather everything about RoPE here.
    pub(super) rope_parameters: Option<Box<Rope>>,
    #[serde(alias = "rotary_emb_fraction")]
    pub(super) partial_rotary_factor: Option<f32>,
    pub(super) rotary_emb_interleaved: Option<bool>,
    pub(super) original_max_position_embeddings: Option<u32>,

    #[serde(deserialize_with = "present")]
    pub(super) sliding_window: Option<Option<u32>>,
    pub(super) use_sliding_window: Option<bool>,
    pub(super) sliding_window_pattern: Option<u32>,
    pub(super) layer_types: Option<Vec<LayerType>>,
    #[serde(deserialize_with = "present")]
    pub(super) attn_logit_softcapping: Option<Option<f32>>,
    #[serde(deserialize_with = "present")]
    pub(super) final_logit_softcapping: Option<Option<f32>>,
    pub(super) query_pre_attn_scalar: Option<f32>,

    pub(super) prenorm: Option<bool>,
    pub(super) position_embedding_type: Option<String>,

    pub(super) bos_token_id: Option<Ids>,
    pub(super) eos_token_id: Option<Ids>,
    pub(super) pad_token_id: Option<Ids>,
}

/// RoPE's base and scaling.
#[derive(serde::Deserialize, Default, Clone)]
#[serde(default)]
pub(super) struct Rope {
    pub(super) rope_type: Option<String>,
    /// The older name of `rope_type`; files give either or both.
    #[serde(rename = "type")]
    pub(super) older_type: Option<String>,
    pub(super) rope_theta: Option<f32>,
    pub(super) partial_rotary_factor: Option<f32>,
    pub(super) factor: Option<f32>,
    pub(super) low_freq_factor: Option<f32>,
    pub(super) high_freq_factor: Option<f32>,
    pub(super) original_max_position_embeddings: Option<u32>,
    pub(super) attention_factor: Option<f32>,
    // YaRN's.
    pub(super) beta_fast: Option<f32>,
    pub(super) beta_slow: Option<f32>,
    pub(super) mscale: Option<f32>,
    pub(super) mscale_all_dim: Option<f32>,
    pub(super) truncate: Option<bool>,
    pub(super) short_factor: Option<Vec<f32>>,
    pub(super) long_factor: Option<Vec<f32>>,
    /// Gemma 3 has one of each kind of layer.
    pub(super) full_attention: Option<Box<Rope>>,
    pub(super) sliding_attention: Option<Box<Rope>>,
}

impl Rope {
    /// The kind of scaling; `default` is none.
    pub(super) fn kind(&self) -> &str {
        self.rope_type.as_deref().or(self.older_type.as_deref()).unwrap_or("default")
    }
}

/// What a layer attends to.
#[derive(serde::Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum LayerType {
    FullAttention,
    SlidingAttention,
    #[serde(other)]
    Other,
}

/// `generation_config.json`: the ids that start and end a generation.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
pub(super) struct GenerationConfig {
    pub(super) bos_token_id: Option<Ids>,
    pub(super) eos_token_id: Option<Ids>,
}

/// A stage of a sentence-transformers model, one entry of `modules.json`.
#[derive(serde::Deserialize)]
pub(super) struct Module {
    /// The Python class, such as `sentence_transformers.models.Pooling`.
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    /// The folder of its files.
    #[serde(default)]
    pub(super) path: String,
}

/// `1_Pooling/config.json` of sentence-transformers.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
pub(super) struct PoolingConfig {
    pub(super) pooling_mode_cls_token: bool,
    pub(super) pooling_mode_mean_tokens: bool,
    pub(super) pooling_mode_lasttoken: bool,
}

/// A token id or a short list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ids(pub(super) Vec<u32>);

/// More ids than any model ends with.
const MOST_IDS: usize = 64;

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ids, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Ids;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token id or a list of them")
            }
            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<Ids, E> {
                let id = u32::try_from(id).map_err(|_| E::custom(format_args!("{id} is no token id")))?;
                Ok(Ids(vec![id]))
            }
            /// Some files say −1 for none.
            fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Ids, E> {
                Ok(Ids(Vec::new()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ids, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = seq.next_element()? {
                    if ids.len() == MOST_IDS {
                        return Err(serde::de::Error::custom(format_args!("more than {MOST_IDS} token ids")));
                    }
                    ids.push(id);
                }
                Ok(Ids(ids))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Tells null (`Some(None)`) from absence (`None`).
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}
