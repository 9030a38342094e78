//! A configuration in GGUF's keys.
//!
//! Defaults are those of Hugging Face's own configuration classes, which leave fields out of files where they have them.

use std::f32::consts::TAU;

use super::super::head::quoted;
use super::super::metadata::{Metadata, MetadataWriter};
use super::config::{Config, GenerationConfig, Ids, LayerType, PoolingConfig, Rope};
use super::names::Family;
use crate::error::{Error, Result};

/// More layers than any model has; bounds the per-layer arrays written here.
const MOST_LAYERS: u32 = 4_096;

/// Wider heads than any model has; bounds the vectors that are computed here.
const WIDEST_HEAD: u32 = 8_192;

/// A configuration, translated.
pub(super) struct Translated {
    pub(super) metadata: Metadata,
    pub(super) family: Family,
    /// Whether the head is the embedding; `None` where the file alone can tell.
    pub(super) tied: Option<bool>,
    /// Vectors that GGUF files hold as tensors.
    pub(super) computed: Vec<(&'static str, Vec<f32>)>,
}

/// What a model type needs to be known of before its configuration is read.
struct Kind {
    /// GGUF's name of the architecture.
    arch: &'static str,
    family: Family,
    activations: &'static [&'static str],
    context: u32,
    rope_base: f32,
    eps: f32,
    head_dim: Option<u32>,
    window: Option<u32>,
    /// `tie_word_embeddings` where it is absent.
    tied: Option<bool>,
}

fn kind(model_type: &str) -> Option<Kind> {
    const SILU: &[&str] = &["silu", "swish"];
    const GELU_TANH: &[&str] = &["gelu_pytorch_tanh"];
    let llama = Kind {
        arch: "llama",
        family: Family::Decoder,
        activations: SILU,
        context: 2048,
        rope_base: 10_000.0,
        eps: 1e-6,
        head_dim: None,
        window: None,
        tied: None,
    };
    Some(match model_type {
        "llama" => llama,
        "mistral" => Kind { context: 131_072, window: Some(4096), ..llama },
        "qwen2" => Kind { arch: "qwen2", context: 32_768, ..llama },
        "qwen3" => Kind { arch: "qwen3", context: 32_768, head_dim: Some(128), ..llama },
        "phi3" => Kind { arch: "phi3", context: 4096, eps: 1e-5, ..llama },
        "gemma2" => Kind {
            arch: "gemma2",
            family: Family::Gemma,
            activations: GELU_TANH,
            context: 8192,
            head_dim: Some(256),
            window: Some(4096),
            tied: Some(true),
            ..llama
        },
        "gemma3" | "gemma3_text" => Kind {
            arch: "gemma3",
            family: Family::Gemma,
            activations: GELU_TANH,
            context: 131_072,
            rope_base: 1_000_000.0,
            head_dim: Some(256),
            window: Some(4096),
            tied: Some(true),
            ..llama
        },
        "bert" => Kind { arch: "bert", family: Family::Bert, activations: &["gelu"], context: 512, eps: 1e-12, ..llama },
        "nomic_bert" => {
            Kind { arch: "nomic-bert", family: Family::NomicBert, activations: &["swiglu"], eps: 1e-12, rope_base: 1000.0, ..llama }
        }
        _ => return None,
    })
}

/// Writes keys of one architecture.
struct Keys {
    arch: &'static str,
    writer: MetadataWriter,
}

impl Keys {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    fn u32(&mut self, name: &str, value: u32) {
        self.writer.u32(&self.key(name), value);
    }

    fn f32(&mut self, name: &str, value: f32) {
        self.writer.f32(&self.key(name), value);
    }

    fn str(&mut self, name: &str, value: &str) {
        self.writer.str(&self.key(name), value);
    }
}

/// Translates `config`, which messages call `origin`.
pub(super) fn translate(
    origin: &str,
    config: &Config,
    generation: &GenerationConfig,
    pooling: Option<&PoolingConfig>,
) -> Result<Translated> {
    let unsupported = |message: String| Error::unsupported(format!("{origin}: {message}"));
    let lacks = |field: &str| Error::malformed(format!("{origin}: {field} is missing"));
    let model_type = config.model_type.as_deref().ok_or_else(|| lacks("model_type"))?;
    let Some(kind) = kind(model_type) else {
        return Err(unsupported(format!(
            "the model type {} is not one Firecrest runs: llama, mistral, qwen2, qwen3, gemma2, gemma3, phi3, bert, nomic_bert",
            quoted(model_type)
        )));
    };
    if config.quantization_config.is_some() {
        return Err(unsupported("quantised safetensors are not read; take the original weights, or a GGUF file".into()));
    }
    let c = config.text_config.as_deref().unwrap_or(config);
    if let Some(activation) = c.hidden_activation.as_ref().or(c.hidden_act.as_ref())
        && !kind.activations.contains(&activation.as_str())
    {
        let wanted = kind.activations.join(" or ");
        return Err(unsupported(format!("the activation {} is not {wanted}, which {model_type} has", quoted(activation))));
    }
    let gemma3 = kind.arch == "gemma3";
    let hidden = c.hidden_size.ok_or_else(|| lacks("hidden_size"))?;
    let layers = c.num_hidden_layers.ok_or_else(|| lacks("num_hidden_layers"))?;
    let heads = c.num_attention_heads.or(gemma3.then_some(8)).ok_or_else(|| lacks("num_attention_heads"))?;
    let feed_forward = c.intermediate_size.ok_or_else(|| lacks("intermediate_size"))?;
    if layers == 0 || layers > MOST_LAYERS || heads == 0 {
        return Err(Error::malformed(format!("{origin}: a model of {layers} layers and {heads} heads can't be")));
    }
    let head_dim = c.head_dim.or(kind.head_dim).unwrap_or(hidden / heads);
    if head_dim == 0 || head_dim > WIDEST_HEAD {
        return Err(Error::malformed(format!("{origin}: heads of {head_dim} values can't be; {WIDEST_HEAD} is the most")));
    }
    let context = c.max_position_embeddings.unwrap_or(kind.context);

    let mut keys = Keys { arch: kind.arch, writer: MetadataWriter::default() };
    keys.writer.str("general.architecture", kind.arch);
    keys.writer.str("firecrest.source", "safetensors");
    keys.u32("context_length", context);
    keys.u32("embedding_length", hidden);
    keys.u32("block_count", layers);
    keys.u32("feed_forward_length", feed_forward);
    keys.u32("attention.head_count", heads);
    keys.u32("attention.head_count_kv", c.num_key_value_heads.or(gemma3.then_some(4)).unwrap_or(heads));
    keys.u32("attention.key_length", head_dim);
    keys.u32("attention.value_length", head_dim);
    if let Some(vocabulary) = c.vocab_size {
        keys.u32("vocab_size", vocabulary);
    }
    let mut computed = Vec::new();
    match kind.family {
        Family::Decoder | Family::Gemma => {
            keys.f32("attention.layer_norm_rms_epsilon", c.rms_norm_eps.unwrap_or(kind.eps));
            windows(origin, &mut keys, c, &kind, layers)?;
            rope(origin, &mut keys, c, &kind, head_dim, context, &mut computed)?;
        }
        Family::Bert | Family::NomicBert => encoder(origin, &mut keys, c, &kind, head_dim, pooling)?,
    }
    if kind.family == Family::Gemma {
        let gemma2 = !gemma3;
        // Gemma 2's null is written as 0: where nothing is written, its defaults count.
        let softcap = |given: Option<Option<f32>>, default: Option<f32>| given.map_or(default, |cap| cap.or(gemma2.then_some(0.0)));
        if let Some(cap) = softcap(c.attn_logit_softcapping, gemma2.then_some(50.0)) {
            keys.f32("attn_logit_softcapping", cap);
        }
        if let Some(cap) = softcap(c.final_logit_softcapping, gemma2.then_some(30.0)) {
            keys.f32("final_logit_softcapping", cap);
        }
        keys.f32("attention.scale", c.query_pre_attn_scalar.unwrap_or(256.0).sqrt().recip());
    }
    if kind.arch == "llama" {
        // GGUF's llama files have Q and K rows permuted for pairs of neighbours; these keep Hugging Face's order.
        keys.writer.str("firecrest.rope_pairs", "halves");
    }
    token_ids(&mut keys.writer, config, c, generation);
    let tied = c.tie_word_embeddings.or(config.tie_word_embeddings).or(kind.tied);
    Ok(Translated { metadata: keys.writer.finish(origin)?, family: kind.family, tied, computed })
}

/// Sliding windows: their width and, for models that mix, which layers have one.
fn windows(origin: &str, keys: &mut Keys, c: &Config, kind: &Kind, layers: u32) -> Result<()> {
    let mixed = kind.family == Family::Gemma;
    // Qwen's files give a width and say beside it that it is not used.
    let used = if kind.arch.starts_with("qwen") { c.use_sliding_window.unwrap_or(false) } else { true };
    let Some(window) = c.sliding_window.unwrap_or(kind.window).filter(|&w| used && w > 0) else { return Ok(()) };
    if kind.arch.starts_with("qwen") {
        return Err(Error::unsupported(format!("{origin}: sliding windows in {} are not run", kind.arch)));
    }
    keys.u32("attention.sliding_window", window);
    if !mixed {
        return Ok(());
    }
    let period = match &c.layer_types {
        None => c.sliding_window_pattern.unwrap_or(if kind.arch == "gemma2" { 2 } else { 6 }).max(1),
        Some(types) => {
            let period = types.iter().position(|&ty| ty == LayerType::FullAttention).unwrap_or(types.len()) + 1;
            let expected = |i: usize| if (i + 1).is_multiple_of(period) { LayerType::FullAttention } else { LayerType::SlidingAttention };
            if types.len() != layers as usize || types.iter().enumerate().any(|(i, &ty)| ty != expected(i)) {
                return Err(Error::unsupported(format!(
                    "{origin}: layer_types must be {layers} of sliding_attention, with full_attention at every so manieth"
                )));
            }
            period as u32
        }
    };
    // Every so manieth layer, counted from 1, sees everything.
    keys.u32("attention.sliding_window_pattern", period);
    Ok(())
}

/// RoPE's base, width and scaling.
fn rope(
    origin: &str,
    keys: &mut Keys,
    c: &Config,
    kind: &Kind,
    head_dim: u32,
    context: u32,
    computed: &mut Vec<(&'static str, Vec<f32>)>,
) -> Result<()> {
    let newer = c.rope_parameters.as_deref();
    // Gemma 3's newer files have one set of parameters for each kind of layer.
    let full = newer.map(|r| r.full_attention.as_deref().unwrap_or(r));
    let local = newer.and_then(|r| r.sliding_attention.as_deref());
    let none = Rope::default();
    let scaling = full.or(c.rope_scaling.as_deref()).unwrap_or(&none);
    let base = c.rope_theta.or(scaling.rope_theta).unwrap_or(kind.rope_base);
    let fraction = c.partial_rotary_factor.or(scaling.partial_rotary_factor).unwrap_or(1.0);
    if !(fraction > 0.0 && fraction <= 1.0) || base.is_nan() || base <= 0.0 {
        return Err(Error::malformed(format!("{origin}: a RoPE of base {base} over {fraction} of a head can't be")));
    }
    let rotated = (head_dim as f32 * fraction) as u32;
    keys.f32("rope.freq_base", base);
    keys.u32("rope.dimension_count", rotated);
    if kind.arch == "gemma3" {
        let local = c.rope_local_base_freq.or(local.and_then(|r| r.rope_theta));
        keys.f32("rope.freq_base_swa", local.unwrap_or(10_000.0));
    }
    let need = |value: Option<f32>, field: &str| {
        let found = value.ok_or_else(|| Error::malformed(format!("{origin}: rope_scaling lacks {field}")))?;
        if found > 0.0 { Ok(found) } else { Err(Error::malformed(format!("{origin}: rope_scaling has a {field} of {found}"))) }
    };
    match scaling.kind() {
        "default" | "none" => {}
        "linear" => {
            keys.str("rope.scaling.type", "linear");
            keys.f32("rope.scaling.factor", need(scaling.factor, "factor")?);
        }
        "llama3" => {
            let original = need(scaling.original_max_position_embeddings.map(|n| n as f32), "original_max_position_embeddings")?;
            let factors = llama3_factors(
                base,
                rotated,
                need(scaling.factor, "factor")?,
                need(scaling.low_freq_factor, "low_freq_factor")?,
                need(scaling.high_freq_factor, "high_freq_factor")?,
                original,
            );
            computed.push(("rope_freqs.weight", factors));
        }
        "longrope" | "su" => {
            let original = scaling.original_max_position_embeddings.or(c.original_max_position_embeddings).unwrap_or(context);
            longrope(origin, keys, scaling, rotated, original, context, computed)?;
        }
        "yarn" => {
            let original = scaling.original_max_position_embeddings.or(c.original_max_position_embeddings).unwrap_or(context);
            let original = need(Some(original as f32), "original_max_position_embeddings")?;
            let factor = need(Some(scaling.factor.unwrap_or(context as f32 / original)), "factor")?;
            let (factors, magnitude) = yarn(scaling, base, rotated, factor, original);
            if !(magnitude > 0.0 && factors.iter().all(|divisor| *divisor > 0.0 && divisor.is_finite())) {
                return Err(Error::malformed(format!("{origin}: a YaRN scaling of these numbers can't be")));
            }
            computed.push(("rope_freqs.weight", factors));
            keys.f32("rope.scaling.attn_factor", magnitude);
        }
        other => {
            return Err(Error::unsupported(format!(
                "{origin}: the RoPE scaling {} is not one Firecrest runs: linear, llama3, longrope, yarn",
                quoted(other)
            )));
        }
    }
    Ok(())
}

/// Llama 3's factors, by which frequencies are divided: 1 for short wavelengths, `factor` for long ones, between them blended.
/// From the rope_scaling definition published with Llama 3.1. Returns `[rotated / 2]`.
fn llama3_factors(base: f32, rotated: u32, factor: f32, low: f32, high: f32, original: f32) -> Vec<f32> {
    let one = |pair: u32| {
        let wavelength = TAU * base.powf(2.0 * pair as f32 / rotated as f32);
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            ((1.0 - smooth) / factor + smooth).recip()
        }
    };
    (0..rotated / 2).map(one).collect()
}

/// YaRN's factors, `[rotated / 2]`, by which frequencies are divided: 1 for pairs that turn often within the original context, `factor` for those that
/// turn seldom, between them blended; and what cosine and sine are multiplied by. As transformers' `_compute_yarn_parameters` has it.
fn yarn(scaling: &Rope, base: f32, rotated: u32, factor: f32, original: f32) -> (Vec<f32>, f32) {
    // Python's `or`: 0 is as good as absent.
    let given = |value: Option<f32>| value.filter(|value| *value != 0.0).map(f64::from);
    let (base, factor, width) = (f64::from(base), f64::from(factor), f64::from(rotated));
    let turning = |times: f64| width * (f64::from(original) / (times * std::f64::consts::TAU)).ln() / (2.0 * base.ln());
    let (first, last) = (turning(given(scaling.beta_fast).unwrap_or(32.0)), turning(given(scaling.beta_slow).unwrap_or(1.0)));
    let (first, last) = if scaling.truncate.unwrap_or(true) { (first.floor(), last.ceil()) } else { (first, last) };
    let (first, last) = (first.max(0.0), last.min(width - 1.0));
    let length = if first == last { 0.001 } else { last - first };
    let one = |pair: u32| {
        let keep = 1.0 - ((f64::from(pair) - first) / length).clamp(0.0, 1.0);
        (keep + (1.0 - keep) / factor).recip() as f32
    };
    let scale = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
    let magnitude =
        scaling.attention_factor.map(f64::from).unwrap_or_else(|| match (given(scaling.mscale), given(scaling.mscale_all_dim)) {
            (Some(one), Some(all)) => scale(one) / scale(all),
            _ => scale(1.0),
        });
    ((0..rotated / 2).map(one).collect(), magnitude as f32)
}

/// Phi 3's longrope: two lists of factors and an attention factor of √(1 + ln(context / original) / ln(original)).
fn longrope(
    origin: &str,
    keys: &mut Keys,
    scaling: &Rope,
    rotated: u32,
    original: u32,
    context: u32,
    computed: &mut Vec<(&'static str, Vec<f32>)>,
) -> Result<()> {
    for (name, tensor, factors) in [
        ("short_factor", "rope_factors_short.weight", &scaling.short_factor),
        ("long_factor", "rope_factors_long.weight", &scaling.long_factor),
    ] {
        let wanted = rotated as usize / 2;
        let factors = factors.as_deref().unwrap_or_default();
        if factors.len() != wanted || !factors.iter().all(|f| f.is_finite() && *f > 0.0) {
            return Err(Error::malformed(format!("{origin}: rope_scaling's {name} should be {wanted} positive factors")));
        }
        computed.push((tensor, factors.to_vec()));
    }
    if original < 2 {
        return Err(Error::malformed(format!("{origin}: original_max_position_embeddings of {original} can't be")));
    }
    let stretch = context as f32 / original as f32;
    let magnitude = if stretch > 1.0 { (1.0 + stretch.ln() / (original as f32).ln()).sqrt() } else { 1.0 };
    keys.str("rope.scaling.type", "longrope");
    keys.u32("rope.scaling.original_context_length", original);
    keys.f32("rope.scaling.attn_factor", scaling.attention_factor.unwrap_or(magnitude));
    Ok(())
}

/// What encoders have that decoders don't.
fn encoder(origin: &str, keys: &mut Keys, c: &Config, kind: &Kind, head_dim: u32, pooling: Option<&PoolingConfig>) -> Result<()> {
    keys.f32("attention.layer_norm_epsilon", c.layer_norm_eps.unwrap_or(kind.eps));
    let key = keys.key("attention.causal");
    keys.writer.bool(&key, false);
    keys.writer.u32("tokenizer.ggml.token_type_count", c.type_vocab_size.unwrap_or(2));
    let unsupported = |what: &str| Err(Error::unsupported(format!("{origin}: {what} is not run")));
    match kind.family {
        Family::NomicBert => {
            if c.prenorm == Some(true) || c.rotary_emb_interleaved == Some(true) {
                return unsupported("a nomic_bert with prenorm or rotary_emb_interleaved");
            }
            let rotated = (head_dim as f32 * c.partial_rotary_factor.unwrap_or(1.0)) as u32;
            if rotated != head_dim {
                return unsupported("a nomic_bert that rotates parts of heads");
            }
            keys.f32("rope.freq_base", c.rope_theta.unwrap_or(kind.rope_base));
            keys.u32("rope.dimension_count", rotated);
        }
        _ => {
            if c.position_embedding_type.as_deref().is_some_and(|ty| ty != "absolute") {
                return unsupported("a bert with other than absolute positions");
            }
        }
    }
    // GGUF's numbers: 1 mean, 2 the first token's state, 3 the last token's.
    let number = match pooling {
        Some(p) if p.pooling_mode_cls_token => 2,
        Some(p) if p.pooling_mode_lasttoken => 3,
        Some(p) if !p.pooling_mode_mean_tokens => return unsupported("pooling by neither mean, first nor last token"),
        _ => 1,
    };
    keys.u32("pooling_type", number);
    Ok(())
}

/// Beginning, end and padding. `generation_config.json` knows best what ends a generation.
fn token_ids(writer: &mut MetadataWriter, config: &Config, c: &Config, generation: &GenerationConfig) {
    let first = |ids: Option<&Ids>| ids.and_then(|ids| ids.0.first().copied());
    let either = |inner: &Option<Ids>, outer: &Option<Ids>| first(inner.as_ref()).or(first(outer.as_ref()));
    if let Some(id) = either(&c.bos_token_id, &config.bos_token_id).or(first(generation.bos_token_id.as_ref())) {
        writer.u32("tokenizer.ggml.bos_token_id", id);
    }
    if let Some(id) = either(&c.pad_token_id, &config.pad_token_id) {
        writer.u32("tokenizer.ggml.padding_token_id", id);
    }
    let mut ends = Vec::new();
    for ids in [&generation.eos_token_id, &c.eos_token_id, &config.eos_token_id].into_iter().flatten() {
        ends.extend(ids.0.iter().filter(|&id| !ends.contains(id)).copied().collect::<Vec<u32>>());
    }
    if let Some(&id) = ends.first() {
        writer.u32("tokenizer.ggml.eos_token_id", either(&c.eos_token_id, &config.eos_token_id).unwrap_or(id));
        writer.u32s("firecrest.eos_token_ids", &ends);
    }
}
