//! What kernels are told: one uniform struct a kernel, the per-row and per-tile tables, and the values of overrides.
//!
//! Every struct is `bytemuck::Pod` and laid out exactly as its WGSL twin (a test compares size and offsets with what naga
//! reflects). All strides and counts are in elements, not bytes. A *batch row* is an index into the step's rows; a
//! dispatch covers `rows` of them from `first_row`, so that prompt and generated rows share activation buffers.

use crate::KvFormat;
use bytemuck::{Pod, Zeroable};

/// Set in [`RowInfo::token`] where the token stands in a slot.
pub const TOKEN_IN_SLOT: u32 = 1 << 31;

/// Stands in a page table where a window group has let a page go.
pub const NO_PAGE: u32 = u32::MAX;

/// Positions in one KV page.
pub const PAGE_LEN: u32 = 16;

/// Values that one decode step yields; matrix rows are padded to a multiple of it.
pub const CHUNK: u32 = 32;

/// Positions that one workgroup of `attend_split` folds. Splits begin at absolute multiples of it.
pub const SPLIT: u32 = 128;

/// Most rows in one tile of `attend_prompt`.
pub const QUERY_TILE: u32 = 32;

/// Widest head that attention kernels take.
pub const MAX_HEAD_DIM: u32 = 256;

/// What kernels know of one batch row. Binding `rows` is an array of these.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RowInfo {
    /// Token id, or [`TOKEN_IN_SLOT`] | slot.
    pub token: u32,
    /// Absolute position in the sequence.
    pub position: u32,
    /// Index of the sequence: which page table.
    pub sequence: u32,
    /// Segment id (BERT).
    pub segment: u32,
    /// Positions of the sequence once this step has written its rows; what a non-causal row sees.
    pub length: u32,
    /// The LoRA adapter it has: 1 + its index in the tables of [`LoraEntry`], or 0.
    pub adapter: u32,
    /// Zero.
    pub pad: [u32; 2],
}

/// A run of rows of one sequence at ascending positions, at most [`QUERY_TILE`]. Binding `tiles` is an array of these.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Tile {
    /// First batch row (absolute: not counted from `first_row`).
    pub first_row: u32,
    /// Rows.
    pub rows: u32,
}

/// Which id of a row `embed` looks up.
pub mod embed_source {
    /// The row's token (or what its slot holds).
    pub const TOKEN: u32 = 0;
    /// The row's segment.
    pub const SEGMENT: u32 = 1;
    /// The row's position.
    pub const POSITION: u32 = 2;
}

/// `embed`: `X[row] (=, +=) scale · table[id]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct EmbedParams {
    /// Values in a table row.
    pub columns: u32,
    /// Batch rows in this dispatch.
    pub rows: u32,
    /// First batch row.
    pub first_row: u32,
    /// [`embed_source`].
    pub source: u32,
    /// First id that this piece of the table holds.
    pub first_id: u32,
    /// Ids that this piece holds. A row whose id is elsewhere is left as it is: another piece's dispatch writes it.
    pub ids: u32,
    /// 1 adds to X, 0 replaces.
    pub accumulate: u32,
    /// Floats between rows of X; a multiple of 4.
    pub x_stride: u32,
    /// Plane offsets of the piece, in 16-byte units ([`crate::planes::Layout::offsets`]).
    pub planes: [u32; 4],
    /// Multiplies the looked-up values.
    pub scale: f32,
    /// Zero.
    pub pad: [u32; 3],
}

/// Override `KIND` of `norm`.
pub mod norm_kind {
    /// x · rsqrt(mean(x²) + eps) · gain.
    pub const RMS: u32 = 0;
    /// (x − mean) · rsqrt(var + eps) · gain + bias.
    pub const LAYER: u32 = 1;
}

/// Override `JOIN` of `norm`: what is normalised and where it goes.
pub mod norm_join {
    /// out = norm(in).
    pub const STORE: u32 = 0;
    /// out += norm(in).
    pub const NORM_THEN_ADD: u32 = 1;
    /// out = norm(out + in).
    pub const ADD_THEN_NORM: u32 = 2;
    /// out = norm(out); `in` is not read.
    pub const IN_PLACE: u32 = 3;
}

/// `norm`: whole rows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct NormParams {
    /// Values in a row.
    pub columns: u32,
    /// Rows in this dispatch.
    pub rows: u32,
    /// First row of `input` and `output`. With `gather` it counts into `indices` and `output`.
    pub first_row: u32,
    /// 1 reads input row `indices[first_row + r]` in place of `first_row + r`.
    pub gather: u32,
    /// Floats between input rows; a multiple of 4.
    pub input_stride: u32,
    /// Floats between output rows.
    pub output_stride: u32,
    /// eps.
    pub eps: f32,
    /// Zero.
    pub pad: u32,
}

/// Override `PROLOGUE` of `matvec`.
pub mod prologue {
    /// x as it is.
    pub const NONE: u32 = 0;
    /// x · rsqrt(mean(x²) + eps) · gain, computed in the same pass over x (the root is applied to the finished sum).
    pub const RMS: u32 = 1;
}

/// Override `EPILOGUE` of `matvec` and `matmul`. `v` is the product, plus bias where override `HAS_BIAS` is 1, plus delta where `HAS_DELTA` is 1
/// and the row's delta says that it has one.
pub mod epilogue {
    /// y = v, or softcap·tanh(v / softcap) where `softcap` > 0.
    pub const STORE: u32 = 0;
    /// y += v.
    pub const ADD: u32 = 1;
    /// y\[j\] = act(v\[j\]) · v\[outputs + j\]: the matrix has 2·`outputs` rows, gates first.
    pub const GATED: u32 = 2;
    /// y = act(v).
    pub const ACTIVATE: u32 = 3;
}

/// Override `ACTIVATION` of `matvec` and `matmul`.
pub mod activation {
    /// x · sigmoid(x).
    pub const SILU: u32 = 0;
    /// 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
    pub const GELU_TANH: u32 = 1;
    /// 0.5·x·(1 + erf(x/√2)).
    pub const GELU_ERF: u32 = 2;
}

/// `matvec` and `matmul`: Y[row, y_offset + n] = epilogue(Σₖ W[n, k] · x[row, k]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct MatrixParams {
    /// K: inputs, before padding.
    pub columns: u32,
    /// Columns of Y that this dispatch writes: rows of the weight piece, half of them with [`epilogue::GATED`].
    pub outputs: u32,
    /// Batch rows in this dispatch.
    pub rows: u32,
    /// First row of x and Y. With `gather` it counts into `indices` and Y.
    pub first_row: u32,
    /// Floats between rows of x; a multiple of 4. What pads a row past `columns` must be finite.
    pub x_stride: u32,
    /// Floats between rows of Y.
    pub y_stride: u32,
    /// First column of Y, and first entry of the bias (gated biases: `outputs` gates at `y_offset`, then `outputs` ups).
    pub y_offset: u32,
    /// 1 reads x row `indices[first_row + r]` in place of `first_row + r`.
    pub gather: u32,
    /// Plane offsets of the weight, in 16-byte units ([`crate::planes::Layout::offsets`]).
    pub planes: [u32; 4],
    /// eps of [`prologue::RMS`].
    pub eps: f32,
    /// c of c·tanh(v / c); 0 for none. [`epilogue::STORE`] only.
    pub softcap: f32,
    /// Floats between rows of delta; 0 where override `HAS_DELTA` is.
    pub delta_stride: u32,
    /// Zero.
    pub pad: u32,
}

/// Floats before the values of a row of delta. The first is 1 where there are values, else 0; the others are not used.
pub const DELTA_HEAD: u32 = 4;

/// `lora_shrink` and `lora_expand`: delta[row, n] = Σᵣ B[n, r] · Σₖ A[r, k] · x[row, k], for the adapter of each row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct LoraParams {
    /// K: inputs, before padding. Rows of A are padded to a multiple of 4 with zeros.
    pub columns: u32,
    /// Outputs of the linear.
    pub outputs: u32,
    /// Rows in this dispatch.
    pub rows: u32,
    /// First row of `low` and `delta`. With `gather` it counts into `indices`.
    pub first_row: u32,
    /// Floats between rows of x; a multiple of 4.
    pub x_stride: u32,
    /// Floats between rows of `low`.
    pub low_stride: u32,
    /// Floats between rows of `delta`.
    pub delta_stride: u32,
    /// Entries of one adapter in the table.
    pub parts: u32,
    /// Floats between parts in a row of `low`: the largest rank.
    pub ranks: u32,
    /// 1 where the batch row of row r is `indices[r]`, else it is r.
    pub gather: u32,
    /// 1 where x is by batch row, 0 where it is by row.
    pub gather_x: u32,
    /// eps of [`prologue::RMS`] (shrink).
    pub eps: f32,
}

/// What an adapter does to a part of a linear's outputs. Binding `table` is `[adapters][parts]` of these.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct LoraEntry {
    /// Where A `[rank, columns]` begins in `weights`, in vec4s.
    pub a: u32,
    /// Where B, transposed to `[rank, rows]`, begins in `weights`, in floats.
    pub b: u32,
    /// 0 where the adapter has no such part.
    pub rank: u32,
    /// First output that it adapts.
    pub first_row: u32,
    /// Outputs that it adapts.
    pub rows: u32,
    /// Zero.
    pub pad: [u32; 3],
}

/// Override `PAIRS` of `rope_write`.
pub mod rope_pairs {
    /// No rotation.
    pub const NONE: u32 = 0;
    /// (2i, 2i + 1).
    pub const ADJACENT: u32 = 1;
    /// (i, i + rotated/2).
    pub const HALVES: u32 = 2;
}

/// `rope_write`: QK-norm, rotation, K and V to their page.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct RopeParams {
    /// Query heads.
    pub heads: u32,
    /// Key-value heads.
    pub kv_heads: u32,
    /// Width of a head; even, at most [`MAX_HEAD_DIM`].
    pub head_dim: u32,
    /// Width of a head in the cache: [`kv_stride`] of `head_dim`.
    pub kv_stride: u32,
    /// Floats between rows of QKV.
    pub qkv_stride: u32,
    /// Batch rows in this dispatch.
    pub rows: u32,
    /// First batch row.
    pub first_row: u32,
    /// Elements of a head that rotate; even, at most `head_dim`.
    pub rotated: u32,
    /// First entry of this KV group's page tables in `tables`.
    pub table_offset: u32,
    /// Entries of one sequence's page table.
    pub table_stride: u32,
    /// Multiplies cosine and sine.
    pub magnitude: f32,
    /// eps of the QK-norm.
    pub eps: f32,
}

/// `attend_split`, `attend_reduce`, `attend_prompt`: ATT = softmax(mask(softcap(scale·Q·Kᵀ)))·V.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct AttendParams {
    /// Query heads.
    pub heads: u32,
    /// Key-value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of a head; even, at most [`MAX_HEAD_DIM`].
    pub head_dim: u32,
    /// Width of a head in the cache: [`kv_stride`] of `head_dim`.
    pub kv_stride: u32,
    /// Floats between rows of QKV.
    pub qkv_stride: u32,
    /// Floats between rows of ATT.
    pub att_stride: u32,
    /// Batch rows in this dispatch (split, reduce); tiles (prompt).
    pub rows: u32,
    /// First batch row (split, reduce); first tile (prompt).
    pub first_row: u32,
    /// First entry of this KV group's page tables in `tables`.
    pub table_offset: u32,
    /// Entries of one sequence's page table.
    pub table_stride: u32,
    /// Positions a row sees, itself included; 0 is all.
    pub window: u32,
    /// 1 where a row sees only positions up to its own.
    pub causal: u32,
    /// Splits that `partials` has room for, and `attend_split`'s grid.y: [`splits`] of the longest sequence. Unused by prompt.
    pub splits: u32,
    /// Multiplies q·k.
    pub scale: f32,
    /// c of c·tanh(s / c); 0 for none.
    pub softcap: f32,
    /// Zero.
    pub pad: u32,
}

/// Width of a head in the cache, in values: `head_dim` rounded up to whole 16-byte loads.
pub const fn kv_stride(head_dim: u32, format: KvFormat) -> u32 {
    match format {
        KvFormat::F16 => head_dim.next_multiple_of(8),
        KvFormat::Int8 => head_dim.next_multiple_of(16),
    }
}

/// Bytes of one page of K (or V), a multiple of 16: `[kv head][PAGE_LEN][kv_stride]` values, and behind 8-bit codes their scales,
/// `[kv head][PAGE_LEN]` f16.
pub const fn page_bytes(kv_heads: u32, head_dim: u32, format: KvFormat) -> u64 {
    kv_heads as u64 * PAGE_LEN as u64 * format.head_bytes(kv_stride(head_dim, format))
}

/// Splits that any row needs, where the longest sequence has `longest` positions and a row sees `window` of them (0: all).
/// A window that does not begin at a multiple of [`SPLIT`] touches one split more.
pub const fn splits(longest: u32, window: u32) -> u32 {
    let all = longest.div_ceil(SPLIT);
    if window == 0 {
        return all;
    }
    let seen = (window.saturating_sub(1)).div_ceil(SPLIT) + 1;
    if seen < all { seen } else { all }
}

/// Floats of `partials`: `[rows][heads][splits][head_dim + 2]`, of which the last two are the largest score and the sum.
pub const fn partials_len(rows: u32, heads: u32, splits: u32, head_dim: u32) -> u64 {
    rows as u64 * heads as u64 * splits as u64 * (head_dim as u64 + 2)
}

/// Cells of a sequence's ring in `slots`: a token lies in cell `position % RING`. More than the steps that may be in flight.
pub const RING: u32 = 8;

/// [`DrawInfo::mask`] and [`DrawInfo::ring`] where there is none.
pub const NO_CELL: u32 = u32::MAX;

/// In `drawn` where a logit was NaN or infinite.
pub const DRAWN_NOT_FINITE: u32 = u32::MAX;

/// In `drawn` where bias and mask forbade every token.
pub const DRAWN_NOTHING: u32 = u32::MAX - 1;

/// What `sample` leaves as the logit of a token that it ruled out. As [`Adjustment::bias`]: the token is forbidden.
pub const DROPPED: f32 = f32::MIN;

/// Most tokens of a vocabulary that `sample` takes: ids have 24 bits, so that f32 counts them exactly.
pub const MAX_VOCAB: u32 = 1 << 24;

/// `sample`: a token drawn from each of some rows of logits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SampleParams {
    /// Tokens; the width of a row.
    pub vocab: u32,
    /// Draws in this dispatch.
    pub draws: u32,
    /// First draw.
    pub first_draw: u32,
    /// Zero.
    pub pad: u32,
}

/// How one token is drawn. Binding `draws` is an array of these.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct DrawInfo {
    /// The row of logits.
    pub output: u32,
    /// First cell of the sequence's ring, or [`NO_CELL`]: the token is then told to nobody but the host.
    pub ring: u32,
    /// The row's position. The token stands at the next, which with the seed is the key of its random numbers.
    pub position: u32,
    /// First word of the tokens allowed, a bit each, or [`NO_CELL`].
    pub mask: u32,
    /// Low word of the seed.
    pub seed_low: u32,
    /// High word of the seed.
    pub seed_high: u32,
    /// Keep so many most probable; 0 keeps all.
    pub top_k: u32,
    /// Divides logits at last; 0 takes the most probable.
    pub temperature: f32,
    /// In (0, 1]; 1 keeps all.
    pub top_p: f32,
    /// In [0, 1]; 0 keeps all.
    pub min_p: f32,
    /// In (0, 1]; 1 keeps all.
    pub typical_p: f32,
    /// Divides positive and multiplies other logits of tokens that occurred.
    pub repeat: f32,
    /// Subtracted from them once.
    pub presence: f32,
    /// Subtracted from them for every occurrence.
    pub frequency: f32,
    /// First of its adjustments.
    pub first_adjustment: u32,
    /// Its adjustments, each of another token.
    pub adjustments: u32,
    /// How many of the positions up to this row's hold tokens that count as occurrences and that no adjustment counts: they are in the ring.
    /// At most [`RING`], and no more than position + 1.
    pub in_flight: u32,
    /// Zero.
    pub pad: [u32; 3],
}

impl DrawInfo {
    /// Whether it may rule tokens out by their probability: the value of override `FILTERS`. Without, the kernel is a fraction of its size.
    pub fn filters(&self) -> bool {
        self.top_k > 0 || self.top_p < 1.0 || self.min_p > 0.0 || self.typical_p < 1.0
    }
}

/// What is added to one token's logit, and how often it occurred. Binding `adjustments` is an array of these.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Adjustment {
    /// The token.
    pub token: u32,
    /// Added to its logit first of all.
    pub bias: f32,
    /// Its occurrences.
    pub count: u32,
    /// Zero.
    pub pad: u32,
}
