//! The table: one row per pipeline that ships, linked, validated and reflected at build.

use crate::caps::{Caps, Needs, Rung};
use crate::{Format, KvFormat};

/// A kernel: one entry point, one file, one reference twin.
///
/// Bindings are all in group 0, in this order; `r` is read-only storage, `rw` read-write storage. A binding that a dispatch
/// does not use (no bias, no gather, no gain) is bound to a small zeroed buffer of at least 64 bytes. Vectors of f32 are
/// allocated in multiples of 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kernel {
    /// 0 uniform [`EmbedParams`](crate::params::EmbedParams), 1 r `rows: RowInfo[]`, 2 r `slots: u32[]`, 3 r `weights: vec4<u32>[]`,
    /// 4 r `words: u32[]` (the same buffer as 3), 5 rw `x: f32[rows, x_stride]`.
    /// Grid: (⌈⌈columns / 32⌉ / 64⌉, rows, 1).
    Embed,
    /// 0 uniform [`NormParams`](crate::params::NormParams), 1 r `input: vec4<f32>[]` (`f32[rows, input_stride]`), 2 r `gain: f32[columns]`,
    /// 3 r `bias: f32[columns]`, 4 r `indices: u32[]`, 5 rw `output: f32[rows, output_stride]`.
    /// Overrides `KIND`, `JOIN`. Grid: (rows, 1, 1).
    Norm,
    /// The generated class. 0 uniform [`MatrixParams`](crate::params::MatrixParams), 1 r `weights: vec4<u32>[]`, 2 r `words: u32[]` (the same
    /// buffer as 1), 3 r `x: vec4<f32>[]` (`f32[rows, x_stride]`), 4 r `gain: vec4<f32>[]`, 5 r `bias: f32[]`, 6 r `indices: u32[]`,
    /// 7 r `delta: f32[rows, delta_stride]`, 8 rw `y: f32[rows, y_stride]`. Overrides `PROLOGUE`, `EPILOGUE`, `ACTIVATION`, `HAS_BIAS`, `HAS_DELTA`, and on subgroup rungs
    /// `SHUFFLE_WIDTH` ([`shuffle_width`]). Grid: (⌈outputs / p⌉, 1, ⌈rows / [`Variant::rows`]⌉), p = [`Variant::outputs`], halved with
    /// `EPILOGUE` gated.
    Matvec,
    /// The prompt class. Bindings, parameters and overrides of [`Kernel::Matvec`] but for the prologue: x is normalised already,
    /// and binding 4 (`gain`) is absent, so 4 r `bias`, 5 r `indices`, 6 r `delta`, 7 rw `y`.
    /// Grid: (⌈outputs / p⌉, ⌈rows / [`Variant::rows`]⌉, 1), p as for matvec.
    Matmul,
    /// 0 uniform [`LoraParams`](crate::params::LoraParams), 1 r `rows: RowInfo[]`, 2 r `table: LoraEntry[]`, 3 r `weights: vec4<f32>[]`,
    /// 4 r `x: vec4<f32>[]` (`f32[rows, x_stride]`), 5 r `gain: vec4<f32>[]`, 6 r `indices: u32[]`, 7 rw `low: f32[rows, low_stride]`.
    /// Override `PROLOGUE`. Grid: (⌈ranks / 4⌉, parts, rows).
    LoraShrink,
    /// 0 uniform [`LoraParams`](crate::params::LoraParams), 1 r `rows: RowInfo[]`, 2 r `table: LoraEntry[]`, 3 r `weights: f32[]` (the same
    /// buffer as shrink's), 4 r `low: f32[]`, 5 r `indices: u32[]`, 6 rw `delta: f32[rows, delta_stride]`. Grid: (⌈outputs / 64⌉, 1, rows).
    LoraExpand,
    /// 0 uniform [`RopeParams`](crate::params::RopeParams), 1 r `rows: RowInfo[]`, 2 r `tables: u32[]`, 3 r `frequencies: f32[rotated / 2]`,
    /// 4 r `q_gain: f32[head_dim]`, 5 r `k_gain: f32[head_dim]`, 6 rw `qkv: f32[rows, qkv_stride]`, 7 rw `k_pages: u32[]`, 8 rw `v_pages: u32[]`
    /// ([`page_bytes`](crate::params::page_bytes); pairs of f16, or four codes; int8 rows see words as atomics, for two positions' scales share
    /// one). Overrides `PAIRS`, `QK_NORM`. Grid: (heads + 2·kv_heads, rows, 1).
    RopeWrite,
    /// The generated class. 0 uniform [`AttendParams`](crate::params::AttendParams), 1 r `rows: RowInfo[]`, 2 r `tables: u32[]`,
    /// 3 r `qkv: f32[]`, 4 r `k_pages: vec4<u32>[]`, 5 r `v_pages: vec4<u32>[]`, 6 rw `partials: f32[]`.
    /// [`Variant::group`] query heads of one KV head share a workgroup: choose the smallest ≥ heads / kv_heads, or the largest.
    /// Grid: (kv_heads · ⌈heads / kv_heads / group⌉, splits, rows).
    AttendSplit,
    /// Folds the splits. 0 uniform [`AttendParams`](crate::params::AttendParams), 1 r `rows: RowInfo[]`, 2 r `partials: f32[]`, 3 rw `att: f32[]`.
    /// Grid: (heads, rows, 1).
    AttendReduce,
    /// The prompt class. 0 uniform [`AttendParams`](crate::params::AttendParams), 1 r `rows: RowInfo[]`, 2 r `tables: u32[]`, 3 r `tiles: Tile[]`,
    /// 4 r `qkv: f32[]`, 5 r `k_pages: vec4<u32>[]`, 6 r `v_pages: vec4<u32>[]`, 7 rw `att: f32[]`.
    /// [`Variant::head_dim`] is the widest head: choose the smallest that fits. Grid: (heads, tiles, 1).
    AttendPrompt,
    /// 0 uniform [`SampleParams`](crate::params::SampleParams), 1 r `draws: DrawInfo[]`, 2 r `adjustments: Adjustment[]`, 3 r `masks: u32[]`,
    /// 4 rw `logits: f32[outputs, vocab]` (used up), 5 rw `slots: u32[sequence slots, RING]`, 6 rw `drawn: u32[draws]`.
    /// Override `FILTERS` ([`DrawInfo::filters`](crate::params::DrawInfo::filters) of all draws). Grid: (draws, 1, 1).
    Sample,
}

impl Kernel {
    /// Every kernel.
    pub const ALL: [Kernel; 11] = [
        Kernel::Embed,
        Kernel::Norm,
        Kernel::Matvec,
        Kernel::Matmul,
        Kernel::LoraShrink,
        Kernel::LoraExpand,
        Kernel::RopeWrite,
        Kernel::AttendSplit,
        Kernel::AttendReduce,
        Kernel::AttendPrompt,
        Kernel::Sample,
    ];

    /// Whether only steps with LoRA adapters use it.
    pub const fn adapts(self) -> bool {
        matches!(self, Kernel::LoraShrink | Kernel::LoraExpand)
    }

    /// The name of its file, entry point and twin.
    pub const fn name(self) -> &'static str {
        match self {
            Kernel::Embed => "embed",
            Kernel::Norm => "norm",
            Kernel::Matvec => "matvec",
            Kernel::Matmul => "matmul",
            Kernel::LoraShrink => "lora_shrink",
            Kernel::LoraExpand => "lora_expand",
            Kernel::RopeWrite => "rope_write",
            Kernel::AttendSplit => "attend_split",
            Kernel::AttendReduce => "attend_reduce",
            Kernel::AttendPrompt => "attend_prompt",
            Kernel::Sample => "sample",
        }
    }
}

/// What a binding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingKind {
    /// A uniform buffer of this many bytes.
    Uniform(u32),
    /// Read-only storage.
    Read,
    /// Read-write storage.
    ReadWrite,
}

/// One binding of group 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The variable's name.
    pub name: &'static str,
    /// Its index in group 0.
    pub index: u32,
    /// What it is.
    pub kind: BindingKind,
}

/// A constant that the runtime sets when it makes the pipeline, all of them scalars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Override {
    /// The name, to be given as it stands here.
    pub name: &'static str,
    /// What it is where not set.
    pub default: f64,
}

/// A member of the uniform struct as the text lays it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// One pipeline that ships.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// Unique: kernel, format, size, rung.
    pub name: &'static str,
    /// What it computes.
    pub kernel: Kernel,
    /// How its weights are stored, for kernels that read weights.
    pub format: Option<Format>,
    /// How keys and values are stored, for kernels that read or write pages.
    pub kv: Option<KvFormat>,
    /// Which way it computes.
    pub rung: Rung,
    /// The constants that make it this variant.
    pub constants: &'static [(&'static str, u32)],
    /// What its text uses beyond base WGSL.
    pub needs: Needs,
    /// The text as native wgpu takes it.
    pub wgsl: &'static str,
    /// Invocations of a workgroup.
    pub workgroup_size: [u32; 3],
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Bindings of group 0, ascending.
    pub bindings: &'static [Binding],
    /// Constants that may be set.
    pub overrides: &'static [Override],
    /// Members of the uniform at binding 0.
    pub params: &'static [Member],
}

impl Variant {
    /// The text as a browser takes it: naga refuses `enable subgroups;`, browsers require it.
    pub fn browser_text(&self) -> String {
        if self.needs.subgroups { format!("enable subgroups;\n{}", self.wgsl) } else { self.wgsl.to_owned() }
    }

    /// The name of its entry point.
    pub fn entry(&self) -> &'static str {
        self.kernel.name()
    }

    /// One of [`Variant::constants`].
    pub fn constant(&self, name: &str) -> Option<u32> {
        self.constants.iter().find(|(n, _)| *n == name).map(|&(_, value)| value)
    }

    /// Batch rows that one workgroup computes (matvec, matmul); 1 elsewhere.
    pub fn rows(&self) -> u32 {
        self.constant("ROWS").unwrap_or(1)
    }

    /// Weight rows that one workgroup computes (matvec, matmul); 1 elsewhere.
    pub fn outputs(&self) -> u32 {
        self.constant("OUTPUTS").unwrap_or(1)
    }

    /// Query heads that share a workgroup (attend_split); 1 elsewhere.
    pub fn group(&self) -> u32 {
        self.constant("GROUP").unwrap_or(1)
    }

    /// The widest head it takes (attend_prompt); [`MAX_HEAD_DIM`](crate::params::MAX_HEAD_DIM) elsewhere.
    pub fn head_dim(&self) -> u32 {
        self.constant("HEAD_DIM").unwrap_or(crate::params::MAX_HEAD_DIM)
    }
}

/// The value of override `SHUFFLE_WIDTH`: how many neighbouring invocations reduce by shuffles before workgroup memory takes
/// over. It never changes a sum: both ways pair the same partial sums in the same order.
pub const fn shuffle_width(caps: &Caps) -> u32 {
    if caps.min_subgroup >= 16 {
        16
    } else if caps.min_subgroup >= 8 {
        8
    } else {
        4
    }
}

/// Rows of the table for one kernel, weight format and rung, of every KV format, in the order of `variants.toml`.
pub fn variants(kernel: Kernel, format: Option<Format>, rung: Rung) -> impl Iterator<Item = &'static Variant> {
    TABLE.iter().filter(move |v| v.kernel == kernel && v.format == format && v.rung == rung)
}

/// Every pipeline that ships.
pub static TABLE: &[Variant] = include!(concat!(env!("OUT_DIR"), "/table.rs"));
