//! What a model is, as data: read from metadata, checked, and complete enough that a plan follows from it.
//!
//! Keys are GGUF's (`llama.block_count`, …); Hugging Face folders are translated to them by [`crate::file`]. Every number
//! is bounded here, so that nothing after it can overflow or be asked for an absurd allocation.

use crate::error::{Error, Result};
use crate::file::{Metadata, ModelFile};
use crate::kv::KvFormat;

use super::families;
use super::plan::{Activation, RopePairs};
use super::rope::{RopeConfig, RopeScaling};

/// The most layers, and the widest anything, that is believed. Real models are far below; a wrong header is far above.
const MAX_LAYERS: u32 = 1024;
const MAX_WIDTH: u32 = 1 << 20;
const MAX_CONTEXT: u32 = 1 << 27;

/// Which statistic a norm divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Root mean square; a gain.
    Rms,
    /// Mean and variance; a gain and a bias.
    Layer,
}

/// Where a block's norms stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before attention and before the feed-forward network.
    Pre,
    /// Before and after each, the latter on what joins the residual stream (Gemma).
    PreAndPost,
    /// After each, on the residual stream itself (BERT).
    Post,
}

/// The feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedForward {
    /// The non-linearity.
    pub activation: Activation,
    /// Whether one half of the up projection gates the other.
    pub gated: bool,
}

/// How token ids become the residual stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmbeddingConfig {
    /// Multiplies the table's row.
    pub scale: f32,
    /// Whether rows of `token_types` are added.
    pub segments: bool,
    /// Whether rows of `position_embd` are added.
    pub positions: bool,
    /// Whether the sum is normalised.
    pub norm: bool,
}

/// Which linear layers add a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Q, K and V.
    pub qkv: bool,
    /// The attention's output.
    pub output: bool,
    /// The feed-forward network's up projection (never with a gate).
    pub up: bool,
    /// The feed-forward network's down projection.
    pub down: bool,
    /// The head.
    pub head: bool,
}

/// What is particular to one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerConfig {
    /// Positions a row sees, itself included; `None` is all.
    pub window: Option<u32>,
    /// Index into [`Config::ropes`]; `None` rotates nothing.
    pub rope: Option<usize>,
}

/// How an encoder's final states become one embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over positions.
    Mean,
    /// The first position's.
    Cls,
    /// The last position's.
    Last,
}

/// A model, as data.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// `general.name`, where given.
    pub name: Option<String>,
    /// Rows of the embedding table.
    pub vocab: u32,
    /// Width of the residual stream.
    pub dim: u32,
    /// Width inside the feed-forward network.
    pub ff: u32,
    /// Query heads.
    pub heads: u32,
    /// Key-value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Positions the model was trained for.
    pub trained_context: u32,
    /// Positions it will be run with. Longrope chooses its factors by it; a window no smaller than it is no window.
    pub context: u32,
    /// The kind of every norm over whole rows.
    pub norm: NormKind,
    /// The norms' eps.
    pub eps: f32,
    /// Where a block's norms stand.
    pub placement: NormPlacement,
    /// Token ids to the residual stream.
    pub embedding: EmbeddingConfig,
    /// Whether heads of Q and K are RMS-normalised before they rotate.
    pub qk_norm: bool,
    /// Multiplies q·k.
    pub attention_scale: f32,
    /// c·tanh(score / c) on attention scores.
    pub attention_softcap: Option<f32>,
    /// Whether a row sees only positions up to its own. Where not, a sequence's rows must all be in one step.
    pub causal: bool,
    /// The feed-forward network.
    pub feed_forward: FeedForward,
    /// Linear layers with biases.
    pub biases: Biases,
    /// The rotary embeddings that layers choose from.
    pub ropes: Vec<RopeConfig>,
    /// One a layer.
    pub layers: Vec<LayerConfig>,
    /// Whether a norm stands after the last block.
    pub final_norm: bool,
    /// Whether there is a head that gives logits. Encoders have none.
    pub head: bool,
    /// c·tanh(logit / c).
    pub final_softcap: Option<f32>,
    /// How final states become an embedding, where the file says.
    pub pooling: Option<Pooling>,
}

impl Config {
    /// Reads and checks the configuration of a file's model.
    ///
    /// # Errors
    /// An unknown architecture (the message lists those known), and any key that is missing, of the wrong type or out of bounds.
    pub fn from_file(file: &ModelFile) -> Result<Config> {
        let architecture = file.metadata.require_str("general.architecture")?;
        let family = families::find(architecture)?;
        let keys = Keys { architecture: family.architecture, file };
        let config = (family.configure)(&keys)?;
        config.check()?;
        Ok(config)
    }

    /// The same model run with `context` positions.
    pub fn with_context(mut self, context: u32) -> Result<Config> {
        if context == 0 || context > MAX_CONTEXT {
            return Err(Error::request(format!("a context of {context} positions was asked for; give 1 to {MAX_CONTEXT}")));
        }
        if self.embedding.positions && context > self.trained_context {
            return Err(Error::request(format!(
                "a context of {context} positions was asked for, but this {} model has learned only {}",
                self.architecture, self.trained_context
            )));
        }
        self.context = context;
        Ok(self)
    }

    /// The window of a layer where it hides anything in this context.
    pub fn window(&self, layer: usize) -> Option<u32> {
        self.layers[layer].window.filter(|w| *w < self.context)
    }

    /// Rows of Q, of K and of V.
    pub fn qkv_rows(&self) -> [u32; 3] {
        let kv = self.kv_heads * self.head_dim;
        [self.heads * self.head_dim, kv, kv]
    }

    /// Bytes of K and V that one more position takes, over the layers that keep every position.
    pub fn kv_bytes_per_position(&self, format: KvFormat) -> u64 {
        let full = (0..self.layers.len()).filter(|l| self.window(*l).is_none()).count() as u64;
        full * self.kv_bytes_per_layer_position(format)
    }

    /// Bytes of K and V of one position in one layer.
    pub fn kv_bytes_per_layer_position(&self, format: KvFormat) -> u64 {
        2 * u64::from(self.kv_heads) * format.head_bytes(self.head_dim)
    }

    fn check(&self) -> Result<()> {
        let a = self.architecture;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::malformed(format!(
                "{a}.attention.head_count is {}, which {a}.attention.head_count_kv, {}, does not divide",
                self.heads, self.kv_heads
            )));
        }
        let widest = u64::from(self.heads) * u64::from(self.head_dim);
        if widest > u64::from(MAX_WIDTH) {
            return Err(Error::malformed(format!(
                "{a}.attention.head_count × head width is {widest}; no more than {MAX_WIDTH} is believed"
            )));
        }
        for rope in &self.ropes {
            if rope.rotated == 0 || !rope.rotated.is_multiple_of(2) || rope.rotated > self.head_dim {
                return Err(Error::malformed(format!(
                    "{a}.rope.dimension_count is {}; it must be even and at most the head width, {}",
                    rope.rotated, self.head_dim
                )));
            }
        }
        Ok(())
    }

    /// What every family reads the same way: a causal decoder with RMS norms before its blocks, rope in every layer and a
    /// gated SiLU network. Families change what differs.
    pub(super) fn decoder(keys: &Keys<'_>, pairs: RopePairs) -> Result<Config> {
        Config::common(keys, pairs, NormKind::Rms, "attention.layer_norm_rms_epsilon")
    }

    /// The same with layer norms.
    pub(super) fn encoder_base(keys: &Keys<'_>) -> Result<Config> {
        Config::common(keys, RopePairs::Halves, NormKind::Layer, "attention.layer_norm_epsilon")
    }

    fn common(keys: &Keys<'_>, pairs: RopePairs, norm: NormKind, eps: &str) -> Result<Config> {
        let dim = keys.width("embedding_length")?;
        let heads = keys.width("attention.head_count")?;
        let head_dim = match keys.optional_width("attention.key_length")? {
            Some(width) => width,
            None if dim.is_multiple_of(heads) => dim / heads,
            None => {
                return Err(Error::malformed(format!(
                    "{} is {dim}, which {}, {heads}, does not divide, and {} is missing",
                    keys.key("embedding_length"),
                    keys.key("attention.head_count"),
                    keys.key("attention.key_length")
                )));
            }
        };
        if let Some(value) = keys.optional_width("attention.value_length")?
            && value != head_dim
        {
            return Err(Error::unsupported(format!(
                "{} is {value} and the key heads are {head_dim} wide; heads of K and V must be equally wide",
                keys.key("attention.value_length")
            )));
        }
        if let Some(bias) = ["blk.0.ffn_gate.bias", "blk.0.attn_norm.bias"].into_iter().find(|b| norm == NormKind::Rms && keys.has(b)) {
            return Err(Error::unsupported(format!("tensor {bias}: {} models with such a bias are not known", keys.architecture)));
        }
        let layers = keys.bounded("block_count", 1, MAX_LAYERS)?;
        let trained_context = keys.bounded("context_length", 1, MAX_CONTEXT)?;
        let rope = RopeConfig::read(keys, head_dim, trained_context, pairs)?;
        Ok(Config {
            architecture: keys.architecture,
            name: keys.metadata().str("general.name")?.map(str::to_owned),
            vocab: keys.vocab()?,
            dim,
            ff: keys.width("feed_forward_length")?,
            heads,
            kv_heads: keys.optional_width("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            trained_context,
            context: trained_context,
            norm,
            eps: keys.eps(eps)?,
            placement: NormPlacement::Pre,
            embedding: EmbeddingConfig { scale: 1.0, segments: false, positions: false, norm: false },
            qk_norm: false,
            attention_scale: keys.positive("attention.scale")?.unwrap_or(1.0 / (head_dim as f32).sqrt()),
            attention_softcap: None,
            causal: true,
            feed_forward: FeedForward { activation: Activation::Silu, gated: true },
            biases: Biases {
                qkv: keys.has("blk.0.attn_q.bias") || keys.has("blk.0.attn_qkv.bias"),
                output: keys.has("blk.0.attn_output.bias"),
                up: false,
                down: keys.has("blk.0.ffn_down.bias"),
                head: keys.has("output.bias"),
            },
            ropes: vec![rope],
            layers: vec![LayerConfig { window: None, rope: Some(0) }; layers as usize],
            final_norm: true,
            head: true,
            final_softcap: None,
            pooling: keys.pooling()?,
        })
    }

    /// Gives every layer the same window, where the file names one.
    pub(super) fn slide_every_layer(&mut self, keys: &Keys<'_>) -> Result<()> {
        let window = keys.window()?;
        self.layers.iter_mut().for_each(|l| l.window = window);
        Ok(())
    }

    /// Gives a window to all layers but each `period`-th (Gemma: local, …, local, global).
    pub(super) fn slide_local_layers(&mut self, keys: &Keys<'_>, window: Option<u32>, period: u32) -> Result<()> {
        let key = "attention.sliding_window_pattern";
        let period = match keys.optional(key)? {
            Some(given) if given == 0 || given > MAX_LAYERS => {
                return Err(Error::malformed(format!("{} is {given}; it must be 1 to {MAX_LAYERS}", keys.key(key))));
            }
            given => given.unwrap_or(period),
        };
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.window = window.filter(|_| i as u32 % period < period - 1);
        }
        Ok(())
    }
}

/// A file's metadata under its architecture's prefix, and which tensors it has.
pub(super) struct Keys<'a> {
    pub(super) architecture: &'static str,
    file: &'a ModelFile,
}

impl Keys<'_> {
    pub(super) fn metadata(&self) -> &Metadata {
        &self.file.metadata
    }

    /// The whole name of a key of this architecture.
    pub(super) fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.architecture)
    }

    /// Whether the file has a tensor.
    pub(super) fn has(&self, tensor: &str) -> bool {
        self.file.tensor(tensor).is_some()
    }

    /// A number that may be absent. Counts that GGUF lets differ by layer are taken where they do not.
    pub(super) fn optional(&self, suffix: &str) -> Result<Option<u32>> {
        let key = self.key(suffix);
        let single = self.metadata().u32(&key);
        if single.is_ok() {
            return single;
        }
        let Ok(Some(each)) = self.metadata().i32s(&key) else { return single };
        match each.split_first() {
            Some((first, rest)) if *first >= 0 && rest.iter().all(|v| v == first) => Ok(Some(*first as u32)),
            _ => Err(Error::unsupported(format!("{key} differs from layer to layer; only models whose layers are alike are known"))),
        }
    }

    /// A number within bounds.
    pub(super) fn bounded(&self, suffix: &str, least: u32, most: u32) -> Result<u32> {
        let value = self.optional(suffix)?.ok_or_else(|| self.missing(suffix))?;
        if value < least || value > most {
            return Err(Error::malformed(format!("{} is {value}; {least} to {most} is believed", self.key(suffix))));
        }
        Ok(value)
    }

    /// A width or count of heads.
    pub(super) fn width(&self, suffix: &str) -> Result<u32> {
        self.bounded(suffix, 1, MAX_WIDTH)
    }

    pub(super) fn optional_width(&self, suffix: &str) -> Result<Option<u32>> {
        self.optional(suffix)?.map(|_| self.width(suffix)).transpose()
    }

    /// A finite number above zero, where given. Zero means absent, as GGUF's writers use it.
    pub(super) fn positive(&self, suffix: &str) -> Result<Option<f32>> {
        let key = self.key(suffix);
        match self.metadata().f32(&key)? {
            None => Ok(None),
            Some(0.0) => Ok(None),
            Some(v) if v.is_finite() && v > 0.0 => Ok(Some(v)),
            Some(v) => Err(Error::malformed(format!("{key} is {v}; it must be a finite number above zero"))),
        }
    }

    /// A soft cap; `default` where the file says nothing, none where it says 0.
    pub(super) fn softcap(&self, suffix: &str, default: Option<f32>) -> Result<Option<f32>> {
        match self.metadata().value(&self.key(suffix)) {
            None => Ok(default),
            Some(_) => self.positive(suffix),
        }
    }

    /// A norm's eps.
    pub(super) fn eps(&self, suffix: &str) -> Result<f32> {
        let key = self.key(suffix);
        let eps = self.metadata().require_f32(&key)?;
        if !(0.0..1.0).contains(&eps) {
            return Err(Error::malformed(format!("{key} is {eps}; it must be at least 0 and below 1")));
        }
        Ok(eps)
    }

    /// `attention.sliding_window`; 0 means none.
    pub(super) fn window(&self) -> Result<Option<u32>> {
        Ok(self.optional("attention.sliding_window")?.filter(|w| *w > 0))
    }

    /// `pooling_type`, as llama.cpp numbers it.
    fn pooling(&self) -> Result<Option<Pooling>> {
        match self.optional("pooling_type")? {
            None | Some(0) => Ok(None),
            Some(1) => Ok(Some(Pooling::Mean)),
            Some(2) => Ok(Some(Pooling::Cls)),
            Some(3) => Ok(Some(Pooling::Last)),
            Some(other) => Err(Error::unsupported(format!(
                "{} is {other}; 0 (none), 1 (mean), 2 (CLS) and 3 (last) are known",
                self.key("pooling_type")
            ))),
        }
    }

    /// Rows of the embedding table, which is the vocabulary whatever the tokenizer says.
    fn vocab(&self) -> Result<u32> {
        let table = self
            .file
            .tensor("token_embd.weight")
            .ok_or_else(|| Error::malformed("tensor token_embd.weight, the embedding table, is missing"))?;
        u32::try_from(table.rows())
            .map_err(|_| Error::malformed(format!("tensor token_embd.weight has {} rows, more than a token id can name", table.rows())))
    }

    pub(super) fn missing(&self, suffix: &str) -> Error {
        Error::malformed(format!("{} is missing from the metadata", self.key(suffix)))
    }

    /// Swaps the scaling of a rope, where only one of two kinds of layers scales.
    pub(super) fn unscaled(&self, rope: &RopeConfig, base: f32) -> RopeConfig {
        RopeConfig { base, scaling: RopeScaling::None, magnitude: 1.0, ..rope.clone() }
    }
}
