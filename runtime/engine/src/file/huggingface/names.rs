//! Hugging Face's tensor names in GGUF's words.

/// How a family names its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// llama, mistral, qwen2, qwen3, phi3: two norms a layer, each before its block.
    Decoder,
    /// gemma2, gemma3: four norms a layer, before and after each block.
    Gemma,
    /// bert.
    Bert,
    /// nomic_bert.
    NomicBert,
}

impl Family {
    /// The family of an architecture by GGUF's name.
    pub(super) fn of(architecture: &str) -> Option<Family> {
        Some(match architecture {
            "llama" | "qwen2" | "qwen3" | "phi3" => Family::Decoder,
            "gemma2" | "gemma3" => Family::Gemma,
            "bert" => Family::Bert,
            "nomic-bert" => Family::NomicBert,
            _ => return None,
        })
    }

    /// Gemma stores g − 1 for every norm; its GGUF files hold g.
    pub(super) fn norms_hold_gain_less_one(self) -> bool {
        self == Family::Gemma
    }

    /// Whether models end in a head over the vocabulary.
    pub(super) fn has_head(self) -> bool {
        matches!(self, Family::Decoder | Family::Gemma)
    }
}

/// What a name means.
pub(super) enum Name {
    /// GGUF has a name for it.
    Known(String),
    /// Inference does not need it.
    Unused,
    /// Not a name of this family: kept as it is, for `inspect` to show.
    Unknown,
}

const DECODER_TOP: &[(&str, &str)] = &[("embed_tokens", "token_embd"), ("norm", "output_norm"), ("lm_head", "output")];

/// What decoders of all families share within a layer.
const DECODER_LAYER: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    // Phi 3's gate and up in one matrix, gate first; GGUF keeps it whole under this name.
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

const TWO_NORMS: &[(&str, &str)] = &[("post_attention_layernorm", "ffn_norm")];

const FOUR_NORMS: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

const BERT_TOP: &[(&str, &str)] = &[
    ("embeddings.word_embeddings", "token_embd"),
    ("embeddings.position_embeddings", "position_embd"),
    ("embeddings.token_type_embeddings", "token_types"),
    ("embeddings.LayerNorm", "token_embd_norm"),
    ("emb_ln", "token_embd_norm"),
];

const BERT_LAYER: &[(&str, &str)] = &[
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
];

const NOMIC_LAYER: &[(&str, &str)] = &[
    ("attn.Wqkv", "attn_qkv"),
    ("attn.out_proj", "attn_output"),
    ("norm1", "attn_output_norm"),
    ("mlp.fc11", "ffn_up"),
    ("mlp.fc12", "ffn_gate"),
    ("mlp.fc2", "ffn_down"),
    ("norm2", "layer_output_norm"),
];

/// Beginnings and endings of what training, or another modality, left in a file.
const UNUSED_STARTS: &[&str] =
    &["vision_tower.", "model.vision_tower.", "multi_modal_projector.", "model.multi_modal_projector.", "cls.", "pooler.", "bert.pooler."];
const UNUSED_ENDS: &[&str] = &[".rotary_emb.inv_freq", "embeddings.position_ids"];

fn lookup(tables: &[&[(&str, &'static str)]], stem: &str) -> Option<&'static str> {
    tables.iter().flat_map(|table| table.iter()).find(|(theirs, _)| *theirs == stem).map(|(_, ours)| *ours)
}

/// The GGUF name of a tensor.
pub(super) fn gguf_name(family: Family, name: &str) -> Name {
    if UNUSED_STARTS.iter().any(|s| name.starts_with(s)) || UNUSED_ENDS.iter().any(|s| name.ends_with(s)) {
        return Name::Unused;
    }
    translate(family, name).map_or(Name::Unknown, Name::Known)
}

fn translate(family: Family, name: &str) -> Option<String> {
    // Encoders' older checkpoints call a norm's gain and bias gamma and beta.
    let (stem, kind) = name.rsplit_once('.')?;
    let kind = match kind {
        "weight" | "gamma" => "weight",
        "bias" | "beta" => "bias",
        _ => return None,
    };
    // A wrapper puts its own name before the model's: `model.`, `language_model.model.`, `model.language_model.`, `bert.`.
    let wrappers = ["language_model.", "model.", "language_model.", "bert."];
    let stem = wrappers.iter().fold(stem, |stem, wrapper| stem.strip_prefix(wrapper).unwrap_or(stem));
    let (top, layers, layer): (_, _, &[&[_]]) = match family {
        Family::Decoder => (DECODER_TOP, "layers.", &[DECODER_LAYER, TWO_NORMS]),
        Family::Gemma => (DECODER_TOP, "layers.", &[DECODER_LAYER, FOUR_NORMS]),
        Family::Bert => (BERT_TOP, "encoder.layer.", &[BERT_LAYER]),
        Family::NomicBert => (BERT_TOP, "encoder.layers.", &[NOMIC_LAYER]),
    };
    match stem.strip_prefix(layers) {
        Some(rest) => {
            let (number, part) = rest.split_once('.')?;
            let number: u32 = number.parse().ok()?;
            Some(format!("blk.{number}.{}.{kind}", lookup(layer, part)?))
        }
        None => Some(format!("{}.{kind}", lookup(&[top], stem)?)),
    }
}
