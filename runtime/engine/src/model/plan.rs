//! The plan: an ordered list of semantic, fused ops over weights and activation buffers.
//!
//! A plan says what a step means and nothing of how a device does it; each backend lowers it with its capabilities to a
//! program of its own. The `reference` interpreter (float64) is its oracle.
//!
//! Activation buffers, all f32, one row per batch row: `X [dim]` the residual stream, `QKV [q + k + v]`, `ATT [heads ·
//! head_dim]`, `H [ff]`; and per output row `OUT [vocab]` (logits) or `[dim]` (states). In `QKV` a row holds Q heads, then K
//! heads, then V heads.

use crate::backend::{MatrixId, VectorId};

/// A matrix product `y = W·x (+ bias)`, its rows perhaps in several pieces of different formats.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Pieces, in order of output rows: the matrix and its first output row. Pieces of equal format are one matrix.
    pub parts: Vec<(MatrixId, u32)>,
    /// Inputs.
    pub columns: u32,
    /// Outputs, over all pieces.
    pub rows: u32,
    /// Added to the product, `[rows]`.
    pub bias: Option<VectorId>,
}

/// A normalisation of whole rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// x · rsqrt(mean(x²) + eps) · g. (Gemma's 1 + g is folded into g while loading.)
    Rms {
        /// g, `[dim]`.
        gain: VectorId,
        /// eps.
        eps: f32,
    },
    /// (x − mean) · rsqrt(var + eps) · g + b.
    Layer {
        /// g, `[dim]`.
        gain: VectorId,
        /// b, `[dim]`.
        bias: VectorId,
        /// eps.
        eps: f32,
    },
}

/// How a block's output joins the residual stream X.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Join {
    /// X += y (llama, qwen, phi).
    Add,
    /// X += norm(y) (Gemma's post-norms).
    NormThenAdd(Norm),
    /// X = norm(X + y) (BERT).
    AddThenNorm(Norm),
}

/// Which elements of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopePairs {
    /// (2i, 2i + 1): GGUF's llama layout.
    Adjacent,
    /// (i, i + n/2): everything else.
    Halves,
}

/// Rotary position embedding of one kind of layer.
///
/// Angle of pair i at position p is `p · frequencies[i]`; cosine and sine are multiplied by `magnitude`. Frequencies hold
/// every scaling (Llama 3's, linear, longrope's short or long factors), so that kernels know none of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Radians per position, `[rotated / 2]`.
    pub frequencies: VectorId,
    /// Elements of a head that rotate, from its start; the rest pass.
    pub rotated: u32,
    /// Which elements make a pair.
    pub pairs: RopePairs,
    /// longrope's attention factor; 1 elsewhere.
    pub magnitude: f32,
}

/// The gate's non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// GELU by tanh (Gemma).
    GeluTanh,
    /// GELU by erf (BERT).
    GeluErf,
}

/// The geometry of one layer's attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Index of the layer (its K and V buffers).
    pub layer: u32,
    /// Index of the KV group that holds it.
    pub group: u32,
    /// Query heads.
    pub heads: u32,
    /// Key-value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of every head.
    pub head_dim: u32,
    /// Positions a row sees, itself included; `None` is all.
    pub window: Option<u32>,
    /// Multiplies q·k.
    pub scale: f32,
    /// c·tanh(score / c) where given (Gemma 2), before the mask.
    pub softcap: Option<f32>,
    /// Whether a row sees only positions up to its own. Encoders see the whole sequence.
    pub causal: bool,
}

/// One fused op. Each is one or few dispatches on a GPU, one kernel call on a CPU.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `X = table[token]·scale (+ segments[segment]) (+ positions[position])`, then `norm`.
    Embed {
        /// `[vocab, dim]`.
        table: MatrixId,
        /// √dim for Gemma; 1 elsewhere.
        scale: f32,
        /// BERT's token types `[types, dim]`.
        segments: Option<MatrixId>,
        /// BERT's learned positions `[context, dim]`.
        positions: Option<MatrixId>,
        /// BERT's embedding norm.
        norm: Option<Norm>,
    },
    /// QKV = W·norm(X) + bias.
    NormQkv {
        /// Absent in BERT, whose norms come after.
        norm: Option<Norm>,
        /// Rows: Q, K, V.
        linear: Linear,
    },
    /// Normalises Q and K heads where asked, rotates them, and writes K and V to the row's page. Rotated Q goes back to QKV.
    RopeWrite {
        /// Absent in BERT.
        rope: Option<Rope>,
        /// Gain per head element for Q and for K `[head_dim]`, and eps (qwen3, gemma3).
        qk_norm: Option<(VectorId, VectorId, f32)>,
        /// Geometry.
        attention: Attention,
    },
    /// ATT = softmax(mask(softcap(scale·Q·Kᵀ)))·V over the row's pages.
    Attend {
        /// Geometry.
        attention: Attention,
    },
    /// X = join(X, W·ATT + bias).
    ProjectResidual {
        /// `[dim, heads·head_dim]`.
        linear: Linear,
        /// How it joins.
        join: Join,
    },
    /// H = act(G·norm(X)) ⊙ (U·norm(X)) where gated: rows of `linear` are G then U, `2·ff`. Ungated: H = act(U·norm(X) + bias).
    NormGatedUp {
        /// Absent in BERT.
        norm: Option<Norm>,
        /// `[2·ff, dim]` gated, `[ff, dim]` ungated. Gated pieces always have one format.
        linear: Linear,
        /// The non-linearity.
        activation: Activation,
        /// Whether the first half gates the second.
        gated: bool,
    },
    /// X = join(X, W·H + bias).
    DownResidual {
        /// `[dim, ff]`.
        linear: Linear,
        /// How it joins.
        join: Join,
    },
    /// `OUT = softcap(W·norm(X[outputs]) + bias)`. Always the generated family, whatever the rows' class.
    Head {
        /// The final norm.
        norm: Option<Norm>,
        /// `[vocab, dim]`.
        linear: Linear,
        /// c·tanh(y / c) where given.
        softcap: Option<f32>,
    },
    /// `OUT = norm(X[outputs])`: final states, for embeddings. Pooling is the host's.
    States {
        /// The final norm.
        norm: Option<Norm>,
    },
}

/// Widths that buffers are sized from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths {
    /// X.
    pub dim: u32,
    /// QKV.
    pub qkv: u32,
    /// ATT.
    pub attention: u32,
    /// H.
    pub ff: u32,
    /// OUT.
    pub out: u32,
}

/// What a plan leaves in OUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlanKind {
    /// Logits of the output rows.
    Logits,
    /// Final states of the output rows.
    States,
}

/// What a step computes, for any batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it leaves in OUT; with a batch's shape, the key programs are cached by.
    pub kind: PlanKind,
    /// In order.
    pub ops: Vec<Op>,
    /// Sizes of a row of each buffer.
    pub widths: Widths,
}
