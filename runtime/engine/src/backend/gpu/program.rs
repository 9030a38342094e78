//! What a plan becomes for one shape: an ordered list of dispatches, without a device.

use std::fmt::Write;

use firecrest_shaders::{BindingKind, Variant};

use crate::backend::{MatrixId, VectorId};

/// Activation buffers, and the tables written once a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StepBuffer {
    /// The residual stream, `f32[rows, dim]`.
    X,
    /// X normalised, for kernels that don't do it themselves, `f32[rows, dim]`.
    Normed,
    /// Q, K and V heads, `f32[rows, qkv]`.
    Qkv,
    /// What attention gives, `f32[rows, heads · head_dim]`.
    Att,
    /// Splits of attention, `f32[generated rows, heads, splits, head_dim + 2]`.
    Partials,
    /// The hidden layer, `f32[rows, ff]`.
    Hidden,
    /// A product that is normalised before it joins X, `f32[rows, dim]`.
    Product,
    /// A·x of rows that have an adapter, `f32[rows, parts · ranks]`.
    Low,
    /// What adapters add to a product, `f32[rows, head + outputs]`.
    Delta,
    /// `f32[outputs, out]`, not padded.
    Out,
    /// `RowInfo[rows]`.
    Rows,
    /// `u32[groups, sequences, blocks]`: page tables.
    Tables,
    /// `Tile[tiles]`: runs of prompt rows.
    Tiles,
    /// `u32[outputs]`: rows with outputs.
    Outputs,
    /// `DrawInfo[draws]`.
    Draws,
    /// `Adjustment[]`: bias and occurrences of all draws.
    Adjustments,
    /// `u32[masks, vocab / 32]`: tokens allowed.
    Masks,
    /// `u32[draws]`: tokens drawn.
    Drawn,
}

impl StepBuffer {
    /// Every buffer.
    pub const ALL: [StepBuffer; 18] = [
        StepBuffer::X,
        StepBuffer::Normed,
        StepBuffer::Qkv,
        StepBuffer::Att,
        StepBuffer::Partials,
        StepBuffer::Hidden,
        StepBuffer::Product,
        StepBuffer::Low,
        StepBuffer::Delta,
        StepBuffer::Out,
        StepBuffer::Rows,
        StepBuffer::Tables,
        StepBuffer::Tiles,
        StepBuffer::Outputs,
        StepBuffer::Draws,
        StepBuffer::Adjustments,
        StepBuffer::Masks,
        StepBuffer::Drawn,
    ];

    /// The name in program texts and buffer labels.
    pub const fn name(self) -> &'static str {
        match self {
            StepBuffer::X => "X",
            StepBuffer::Normed => "NORMED",
            StepBuffer::Qkv => "QKV",
            StepBuffer::Att => "ATT",
            StepBuffer::Partials => "PARTIALS",
            StepBuffer::Hidden => "H",
            StepBuffer::Product => "PRODUCT",
            StepBuffer::Low => "LOW",
            StepBuffer::Delta => "DELTA",
            StepBuffer::Out => "OUT",
            StepBuffer::Rows => "rows",
            StepBuffer::Tables => "tables",
            StepBuffer::Tiles => "tiles",
            StepBuffer::Outputs => "outputs",
            StepBuffer::Draws => "draws",
            StepBuffer::Adjustments => "adjustments",
            StepBuffer::Masks => "masks",
            StepBuffer::Drawn => "drawn",
        }
    }

    /// Its place in arrays of all.
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// What a binding is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// The parameter block of this dispatch.
    Params,
    /// A step buffer from this byte on, a multiple of 256.
    Step(StepBuffer, u64),
    /// A piece of a weight.
    Matrix(MatrixId, u32),
    /// A vector.
    Vector(VectorId),
    /// A and B of every adapter of this op.
    Adapters(u32),
    /// Where each adapter's stand among them.
    AdapterTable(u32),
    /// The K pages of a layer.
    Keys(u32),
    /// The V pages of a layer.
    Values(u32),
    /// Last drawn tokens, a ring a sequence.
    Slots,
    /// Not used by this dispatch: a zeroed buffer.
    Zero,
}

impl std::fmt::Display for Operand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Operand::Params => f.write_str("params"),
            Operand::Step(buffer, 0) => f.write_str(buffer.name()),
            Operand::Step(buffer, offset) => write!(f, "{}+{offset}", buffer.name()),
            Operand::Matrix(MatrixId(id), piece) => write!(f, "m{id}.{piece}"),
            Operand::Vector(VectorId(id)) => write!(f, "v{id}"),
            Operand::Adapters(op) => write!(f, "adapters{op}"),
            Operand::AdapterTable(op) => write!(f, "adapters{op}.table"),
            Operand::Keys(layer) => write!(f, "k{layer}"),
            Operand::Values(layer) => write!(f, "v{layer}.pages"),
            Operand::Slots => f.write_str("slots"),
            Operand::Zero => f.write_str("-"),
        }
    }
}

/// One dispatch.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// Index of the plan's op that it belongs to.
    pub op: usize,
    /// What runs.
    pub variant: &'static Variant,
    /// Constants of the pipeline, sorted by name.
    pub overrides: Vec<(&'static str, u32)>,
    /// What each of the variant's bindings is bound to, in their order.
    pub operands: Vec<Operand>,
    /// The parameter block.
    pub params: Vec<u8>,
    /// Workgroups.
    pub grid: [u32; 3],
}

/// The dispatches of one step, and what they need.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// In order.
    pub dispatches: Vec<Dispatch>,
    /// Bytes of each step buffer, by [`StepBuffer::ALL`].
    pub bytes: [u64; StepBuffer::ALL.len()],
    /// Page-table entries of one sequence.
    pub table_stride: u32,
    /// Sequences that tables have room for.
    pub table_sequences: u32,
    /// Tiles of prompt rows that there is room for; those beyond the batch's have no rows.
    pub tiles: u32,
    /// Set where OUT is rows of X as they are: floats between rows of X. No kernel runs; the rows are copied.
    pub copied_states: Option<u32>,
}

impl Program {
    /// Bytes of a step buffer.
    pub fn size(&self, buffer: StepBuffer) -> u64 {
        self.bytes[buffer.index()]
    }

    /// One line a dispatch: op, variant, constants, grid, parameters, and what is bound where.
    pub fn text(&self, plan: &crate::model::plan::Plan) -> String {
        let mut text = String::new();
        for dispatch in &self.dispatches {
            let name = plan.ops.get(dispatch.op).map_or("", op_name);
            let [x, y, z] = dispatch.grid;
            let _ = write!(text, "{:>3} {name:<15} {} ({x},{y},{z})", dispatch.op, dispatch.variant.name);
            for (constant, value) in dispatch.overrides.iter().filter(|(_, value)| *value != 0) {
                let _ = write!(text, " {constant}={value}");
            }
            let _ = write!(text, " |");
            for (binding, operand) in dispatch.variant.bindings.iter().zip(&dispatch.operands) {
                match (binding.kind, operand) {
                    (_, Operand::Params | Operand::Zero) => {}
                    (BindingKind::ReadWrite, operand) => {
                        let _ = write!(text, " {}:>{operand}", binding.name);
                    }
                    (_, operand) => {
                        let _ = write!(text, " {}:{operand}", binding.name);
                    }
                }
            }
            let _ = write!(text, " |");
            for member in dispatch.variant.params.iter().filter(|m| !m.name.starts_with("pad")) {
                write_member(
                    &mut text,
                    member.name,
                    member.size,
                    dispatch.params.get(member.offset as usize..(member.offset + member.size) as usize),
                );
            }
            text.push('\n');
        }
        text
    }
}

/// Writes a parameter that is not zero: floats where the bits look like one (counts never reach 2²³ · 2⁷).
fn write_member(text: &mut String, name: &str, size: u32, bytes: Option<&[u8]>) {
    let words: Vec<u32> =
        bytes.unwrap_or_default().as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).take(size as usize / 4).collect();
    if words.iter().all(|&word| word == 0) {
        return;
    }
    let shown: Vec<String> = words
        .iter()
        .map(|&word| if word >= 0x3000_0000 && word != u32::MAX { format!("{:e}", f32::from_bits(word)) } else { word.to_string() })
        .collect();
    let _ = write!(text, " {name}={}", shown.join(","));
}

/// The name of an op in program texts.
fn op_name(op: &crate::model::plan::Op) -> &'static str {
    use crate::model::plan::Op;
    match op {
        Op::Embed { .. } => "Embed",
        Op::NormQkv { .. } => "NormQkv",
        Op::RopeWrite { .. } => "RopeWrite",
        Op::Attend { .. } => "Attend",
        Op::ProjectResidual { .. } => "ProjectResidual",
        Op::NormGatedUp { .. } => "NormGatedUp",
        Op::DownResidual { .. } => "DownResidual",
        Op::Head { .. } => "Head",
        Op::States { .. } => "States",
    }
}
