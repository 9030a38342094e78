//! Lowering: plan × shape × capabilities → program. Nothing here knows a device, so that programs can be tested as text.
//!
//! Rows 0..P of every activation buffer are the prompt class, rows P..P + G the generated class. Matrix products and
//! attention run each class on its own family of kernels; what computes a row without regard to class (embedding, norms,
//! rope) runs once over all.

mod attention;
mod lora;

use std::ops::Range;

use bytemuck::Pod;
use firecrest_shaders::params::{
    self, AttendParams, EmbedParams, MatrixParams, NormParams, RopeParams, activation, embed_source, epilogue, norm_join, norm_kind,
    prologue, rope_pairs,
};
use firecrest_shaders::planes::Layout;
use firecrest_shaders::{BindingKind, Kernel, Variant, shuffle_width};

use crate::backend::{MatrixId, MatrixSpec, VectorId};
use crate::batch::{BatchShape, Class};
use crate::error::{Error, ErrorCode, Result};
use crate::kv::{KvFormat, KvGroup, PAGE_LEN};
use crate::model::plan::{Activation, Attention, Join, Linear, Norm, Op, Plan, Rope, RopePairs};

use super::lora::LoraSite;
use super::program::{Dispatch, Operand, Program, StepBuffer};
use super::select::Selection;
use super::weights::pieces;

use lora::Adapted;

const _: () = assert!(PAGE_LEN == params::PAGE_LEN as usize);

/// The most workgroups of one dimension that WebGPU promises.
const MAX_GRID: u32 = 65535;

/// Rows of activation buffers are padded to whole chunks of a weight row, so that kernels may read past `columns`.
fn stride(width: u32) -> u32 {
    width.next_multiple_of(params::CHUNK)
}

/// What programs are lowered for.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The variants chosen.
    pub selection: &'a Selection,
    /// Matrices by [`MatrixId`].
    pub matrices: &'a [MatrixSpec],
    /// KV groups, which say how keys and values are stored.
    pub groups: &'a [KvGroup],
    /// What adapters adapt, by op.
    pub adapters: &'a [LoraSite],
    /// The most bytes a storage binding may span.
    pub binding_limit: u64,
}

/// The shape a program is cached for: sequences and the longest one are rounded up, so that a growing sequence changes its
/// program a few times only.
pub(super) fn bucket(shape: &BatchShape) -> BatchShape {
    let splits = shape.longest.max(1).div_ceil(params::SPLIT).next_power_of_two();
    BatchShape { sequences: shape.sequences.max(1).next_power_of_two(), longest: splits.saturating_mul(params::SPLIT), ..*shape }
}

/// The program of a plan for a shape.
///
/// # Errors
/// `Unsupported` where no kernel can run an op here, `Memory` where the step is too large for the device's bindings.
pub fn lower(plan: &Plan, shape: &BatchShape, target: Target<'_>) -> Result<Program> {
    let mut lowering = Lowering { plan, target, shape: bucket(shape), op: 0, program: Program::default() };
    lowering.tables();
    for (index, op) in plan.ops.iter().enumerate() {
        lowering.op = index;
        lowering.lower_op(op)?;
    }
    lowering.finish()
}

/// A matrix product as the plan's ops ask for it.
struct Product<'a> {
    linear: &'a Linear,
    input: StepBuffer,
    input_width: u32,
    norm: Option<Norm>,
    output: StepBuffer,
    output_stride: u32,
    epilogue: u32,
    activation: u32,
}

/// A family's share of the rows.
#[derive(Clone, Copy)]
struct Rows {
    class: Class,
    first: u32,
    count: u32,
}

struct Lowering<'a> {
    plan: &'a Plan,
    target: Target<'a>,
    shape: BatchShape,
    op: usize,
    program: Program,
}

impl Lowering<'_> {
    fn rows(&self) -> u32 {
        self.shape.prompt_rows + self.shape.generated_rows
    }

    /// The classes that have rows.
    fn families(&self) -> impl Iterator<Item = Rows> + use<> {
        let BatchShape { prompt_rows, generated_rows, .. } = self.shape;
        [
            Rows { class: Class::Prompt, first: 0, count: prompt_rows },
            Rows { class: Class::Generated, first: prompt_rows, count: generated_rows },
        ]
        .into_iter()
        .filter(|rows| rows.count > 0)
    }

    fn reserve(&mut self, buffer: StepBuffer, bytes: u64) {
        let held = &mut self.program.bytes[buffer.index()];
        *held = (*held).max(bytes);
    }

    /// Sizes of what is written once a step.
    fn tables(&mut self) {
        let BatchShape { prompt_rows, sequences, longest, outputs, .. } = self.shape;
        self.program.table_stride = longest.div_ceil(params::PAGE_LEN);
        self.program.table_sequences = sequences;
        // The most tiles that so many rows of so many sequences can make: each sequence may end in a partial tile.
        let runs = sequences.min(prompt_rows);
        self.program.tiles = runs + (prompt_rows - runs) / params::QUERY_TILE;
        self.reserve(StepBuffer::Rows, u64::from(self.rows()) * size_of::<params::RowInfo>() as u64);
        self.reserve(StepBuffer::Tiles, u64::from(self.program.tiles) * size_of::<params::Tile>() as u64);
        self.reserve(StepBuffer::Outputs, u64::from(outputs) * 4);
        let groups =
            self.plan.ops.iter().filter_map(|op| if let Op::Attend { attention } = op { Some(attention.group + 1) } else { None }).max();
        let entries = u64::from(groups.unwrap_or(0)) * u64::from(sequences) * u64::from(self.program.table_stride);
        self.reserve(StepBuffer::Tables, entries * 4);
        // Even an op-less plan has X to read states from.
        self.reserve(StepBuffer::X, u64::from(self.rows()) * u64::from(stride(self.plan.widths.dim)) * 4);
    }

    /// Adds a dispatch. Overrides that the variant lacks are dropped where they are 0, the default of all of them.
    fn dispatch<P: Pod>(
        &mut self,
        variant: &'static Variant,
        params: &P,
        overrides: &[(&'static str, u32)],
        operands: &[(&'static str, Operand)],
        grid: [u32; 3],
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        if grid.iter().any(|&side| side > MAX_GRID) {
            return Err(Error::new(
                ErrorCode::Memory,
                format!("`{}` would need {grid:?} workgroups, past {MAX_GRID} in one dimension; run fewer rows a step", variant.name),
            ));
        }
        let mut constants: Vec<(&'static str, u32)> = Vec::new();
        for &(name, value) in overrides {
            if variant.overrides.iter().any(|o| o.name == name) {
                constants.push((name, value));
            } else if value != 0 {
                return Err(Error::internal(format!("kernel `{}` has no override {name}", variant.name)));
            }
        }
        if variant.overrides.iter().any(|o| o.name == "SHUFFLE_WIDTH") {
            constants.push(("SHUFFLE_WIDTH", shuffle_width(self.target.selection.caps())));
        }
        constants.sort_unstable();
        let operands = variant
            .bindings
            .iter()
            .map(|binding| match (binding.kind, operands.iter().find(|(name, _)| *name == binding.name)) {
                (BindingKind::Uniform(_), _) => Ok(Operand::Params),
                (_, Some((_, operand))) => Ok(*operand),
                (BindingKind::Read, None) => Ok(Operand::Zero),
                (BindingKind::ReadWrite, None) => {
                    Err(Error::internal(format!("kernel `{}` writes `{}`, bound to nothing", variant.name, binding.name)))
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let params = bytemuck::bytes_of(params).to_vec();
        self.program.dispatches.push(Dispatch { op: self.op, variant, overrides: constants, operands, params, grid });
        Ok(())
    }

    fn lower_op(&mut self, op: &Op) -> Result<()> {
        let widths = self.plan.widths;
        match op {
            Op::Embed { table, scale, segments, positions, norm } => {
                self.embed(*table, *scale, embed_source::TOKEN)?;
                for (table, source) in [(segments, embed_source::SEGMENT), (positions, embed_source::POSITION)] {
                    if let Some(table) = table {
                        self.embed(*table, 1.0, source)?;
                    }
                }
                match norm {
                    Some(norm) => self.norm(*norm, norm_join::IN_PLACE, None, StepBuffer::X, 0..self.rows()),
                    None => Ok(()),
                }
            }
            Op::NormQkv { norm, linear } => self.product(&Product {
                linear,
                input: StepBuffer::X,
                input_width: widths.dim,
                norm: *norm,
                output: StepBuffer::Qkv,
                output_stride: stride(widths.qkv),
                epilogue: epilogue::STORE,
                activation: 0,
            }),
            Op::RopeWrite { rope, qk_norm, attention } => self.rope_write(rope.as_ref(), *qk_norm, attention),
            Op::Attend { attention } => self.attend(attention),
            Op::ProjectResidual { linear, join } => self.residual(linear, StepBuffer::Att, widths.attention, *join),
            Op::NormGatedUp { norm, linear, activation, gated } => self.product(&Product {
                linear,
                input: StepBuffer::X,
                input_width: widths.dim,
                norm: *norm,
                output: StepBuffer::Hidden,
                output_stride: stride(widths.ff),
                epilogue: if *gated { epilogue::GATED } else { epilogue::ACTIVATE },
                activation: match activation {
                    Activation::Silu => activation::SILU,
                    Activation::GeluTanh => activation::GELU_TANH,
                    Activation::GeluErf => activation::GELU_ERF,
                },
            }),
            Op::DownResidual { linear, join } => self.residual(linear, StepBuffer::Hidden, widths.ff, *join),
            Op::Head { norm, linear, softcap } => self.head(*norm, linear, *softcap),
            Op::States { norm } => self.states(*norm),
        }
    }

    /// `X (=, +=) scale · table[id]`, one dispatch a piece: each writes the rows whose id it holds.
    fn embed(&mut self, table: MatrixId, scale: f32, source: u32) -> Result<()> {
        let spec = self.spec(table)?;
        let (format, columns) = (spec.format, spec.columns as u32);
        let variant = self.target.selection.only(Kernel::Embed, Some(format))?;
        for (index, piece) in pieces(self.spec(table)?, self.target.binding_limit)?.into_iter().enumerate() {
            let params = EmbedParams {
                columns,
                rows: self.rows(),
                first_row: 0,
                source,
                first_id: piece.start as u32,
                ids: piece.len() as u32,
                accumulate: u32::from(source != embed_source::TOKEN),
                x_stride: stride(self.plan.widths.dim),
                planes: Layout::new(format, piece.len(), columns as usize).offsets(),
                scale,
                pad: [0; 3],
            };
            let weight = Operand::Matrix(table, index as u32);
            let operands = [
                ("rows", Operand::Step(StepBuffer::Rows, 0)),
                ("slots", Operand::Slots),
                ("weights", weight),
                ("words", weight),
                ("x", Operand::Step(StepBuffer::X, 0)),
            ];
            self.dispatch(variant, &params, &[], &operands, [columns.div_ceil(params::CHUNK).div_ceil(64), self.rows(), 1])?;
        }
        Ok(())
    }

    /// A norm of whole rows of `dim` values into `output`; `input` is absent where it is done in place.
    fn norm(&mut self, norm: Norm, join: u32, input: Option<StepBuffer>, output: StepBuffer, rows: Range<u32>) -> Result<()> {
        self.norm_rows(norm, join, input, output, rows, false)
    }

    /// [`Lowering::norm`], where `rows` may count into the outputs rather than the batch's rows.
    fn norm_rows(
        &mut self,
        norm: Norm,
        join: u32,
        input: Option<StepBuffer>,
        output: StepBuffer,
        rows: Range<u32>,
        gather: bool,
    ) -> Result<()> {
        let dim = self.plan.widths.dim;
        let output_stride = if output == StepBuffer::Out { self.plan.widths.out } else { stride(dim) };
        let (kind, gain, bias, eps) = match norm {
            Norm::Rms { gain, eps } => (norm_kind::RMS, gain, Operand::Zero, eps),
            Norm::Layer { gain, bias, eps } => (norm_kind::LAYER, gain, Operand::Vector(bias), eps),
        };
        let params = NormParams {
            columns: dim,
            rows: rows.len() as u32,
            first_row: rows.start,
            gather: u32::from(gather),
            input_stride: stride(dim),
            output_stride,
            eps,
            pad: 0,
        };
        self.reserve(output, u64::from(rows.end) * u64::from(output_stride) * 4);
        let operands = [
            ("input", input.map_or(Operand::Zero, |buffer| Operand::Step(buffer, 0))),
            ("gain", Operand::Vector(gain)),
            ("bias", bias),
            ("indices", if gather { Operand::Step(StepBuffer::Outputs, 0) } else { Operand::Zero }),
            ("output", Operand::Step(output, 0)),
        ];
        let variant = self.target.selection.only(Kernel::Norm, None)?;
        self.dispatch(variant, &params, &[("KIND", kind), ("JOIN", join)], &operands, [rows.len() as u32, 1, 1])
    }

    /// X = join(X, W·input + bias).
    fn residual(&mut self, linear: &Linear, input: StepBuffer, input_width: u32, join: Join) -> Result<()> {
        let dim_stride = stride(self.plan.widths.dim);
        let (output, epilogue) = match join {
            Join::Add | Join::AddThenNorm(_) => (StepBuffer::X, epilogue::ADD),
            Join::NormThenAdd(_) => (StepBuffer::Product, epilogue::STORE),
        };
        self.product(&Product { linear, input, input_width, norm: None, output, output_stride: dim_stride, epilogue, activation: 0 })?;
        match join {
            Join::Add => Ok(()),
            Join::NormThenAdd(norm) => self.norm(norm, norm_join::NORM_THEN_ADD, Some(StepBuffer::Product), StepBuffer::X, 0..self.rows()),
            Join::AddThenNorm(norm) => self.norm(norm, norm_join::IN_PLACE, None, StepBuffer::X, 0..self.rows()),
        }
    }

    /// A product over all rows, each class by its family.
    fn product(&mut self, product: &Product<'_>) -> Result<()> {
        self.reserve(product.output, u64::from(self.rows()) * u64::from(product.output_stride) * 4);
        for rows in self.families() {
            // Only the generated family normalises in its own pass over x, and only by RMS.
            let fused = rows.class == Class::Generated && matches!(product.norm, Some(Norm::Rms { .. }));
            let mut input = product.input;
            if let Some(norm) = product.norm.filter(|_| !fused) {
                self.norm(norm, norm_join::STORE, Some(input), StepBuffer::Normed, rows.first..rows.first + rows.count)?;
                input = StepBuffer::Normed;
            }
            let prologue = product.norm.filter(|_| fused);
            let x = Operand::Step(input, 0);
            let delta = self.adapters(&Adapted {
                columns: product.linear.columns,
                x_stride: stride(product.input_width),
                outputs: product.linear.rows,
                rows: rows.count,
                first_row: rows.first,
                x,
                prologue,
                indices: None,
                gather_x: false,
            })?;
            let template = MatrixParams {
                rows: rows.count,
                first_row: rows.first,
                x_stride: stride(product.input_width),
                y_stride: product.output_stride,
                delta_stride: delta.unwrap_or(0),
                ..MatrixParams::default()
            };
            let ends = MatrixEnds {
                class: rows.class,
                prologue,
                epilogue: product.epilogue,
                activation: product.activation,
                x,
                indices: Operand::Zero,
                y: Operand::Step(product.output, 0),
            };
            self.matrix(product.linear, template, &ends)?;
        }
        Ok(())
    }

    /// One dispatch for each piece of each part of a linear.
    fn matrix(&mut self, linear: &Linear, template: MatrixParams, ends: &MatrixEnds) -> Result<()> {
        let gated = ends.epilogue == epilogue::GATED;
        for &(matrix, first) in &linear.parts {
            let spec = self.spec(matrix)?;
            let pieces = pieces(spec, self.target.binding_limit)?;
            let format = spec.format;
            if gated && (pieces.len() > 1 || linear.parts.len() > 1) {
                return Err(Error::new(
                    ErrorCode::Memory,
                    format!(
                        "`{}` does not fit one binding of {} bytes on this GPU; use a smaller format or the CPU",
                        spec.name, self.target.binding_limit
                    ),
                ));
            }
            let kernel = if ends.class == Class::Prompt { Kernel::Matmul } else { Kernel::Matvec };
            let variant = self.target.selection.matrix(kernel, format, template.rows)?;
            for (index, piece) in pieces.into_iter().enumerate() {
                let outputs = piece.len() as u32 / if gated { 2 } else { 1 };
                let mut params = MatrixParams {
                    columns: linear.columns,
                    outputs,
                    y_offset: first + piece.start as u32,
                    planes: Layout::new(format, piece.len(), linear.columns as usize).offsets(),
                    ..template
                };
                let mut gain = Operand::Zero;
                if let Some(Norm::Rms { gain: id, eps }) = ends.prologue {
                    gain = Operand::Vector(id);
                    params.eps = eps;
                }
                let weight = Operand::Matrix(matrix, index as u32);
                let operands = [
                    ("weights", weight),
                    ("words", weight),
                    ("x", ends.x),
                    ("gain", gain),
                    ("bias", linear.bias.map_or(Operand::Zero, Operand::Vector)),
                    ("indices", ends.indices),
                    ("delta", if params.delta_stride > 0 { Operand::Step(StepBuffer::Delta, 0) } else { Operand::Zero }),
                    ("y", ends.y),
                ];
                let overrides = [
                    ("PROLOGUE", if ends.prologue.is_some() { prologue::RMS } else { prologue::NONE }),
                    ("EPILOGUE", ends.epilogue),
                    ("ACTIVATION", ends.activation),
                    ("HAS_BIAS", u32::from(linear.bias.is_some())),
                    ("HAS_DELTA", u32::from(params.delta_stride > 0)),
                ];
                let across = outputs.div_ceil((variant.outputs() / if gated { 2 } else { 1 }).max(1));
                let along = params.rows.div_ceil(variant.rows());
                let grid = if ends.class == Class::Prompt { [across, along, 1] } else { [across, 1, along] };
                self.dispatch(variant, &params, &overrides, &operands, grid)?;
            }
        }
        Ok(())
    }

    /// `OUT = softcap(W·norm(X[outputs]) + bias)`, by the generated family whatever the rows' class.
    fn head(&mut self, norm: Option<Norm>, linear: &Linear, softcap: Option<f32>) -> Result<()> {
        let BatchShape { outputs, .. } = self.shape;
        let (dim, out) = (self.plan.widths.dim, self.plan.widths.out);
        self.reserve(StepBuffer::Out, u64::from(outputs) * u64::from(out) * 4);
        let mut x = StepBuffer::X;
        let fused = matches!(norm, Some(Norm::Rms { .. }));
        if let Some(norm) = norm.filter(|_| !fused) {
            self.norm_rows(norm, norm_join::STORE, Some(StepBuffer::X), StepBuffer::Normed, 0..outputs, true)?;
            x = StepBuffer::Normed;
        }
        let gather = x == StepBuffer::X;
        // OUT may pass the binding limit: it is bound in parts, which begin at multiples of 64 rows so that every offset is a
        // multiple of 256 bytes.
        let fit = self.target.binding_limit / (u64::from(out) * 4);
        let part = if fit >= u64::from(outputs) { outputs } else { (fit / 64 * 64) as u32 };
        if part == 0 && outputs > 0 {
            return Err(Error::new(
                ErrorCode::Memory,
                format!("{out} logits a row do not fit this GPU's bindings of {} bytes", self.target.binding_limit),
            ));
        }
        let mut first = 0;
        while first < outputs {
            let count = part.min(outputs - first);
            let prologue = norm.filter(|_| fused);
            let rows_of = Operand::Step(StepBuffer::Outputs, u64::from(first) * 4);
            let x = Operand::Step(x, if gather { 0 } else { u64::from(first) * u64::from(stride(dim)) * 4 });
            let delta = self.adapters(&Adapted {
                columns: linear.columns,
                x_stride: stride(dim),
                outputs: linear.rows,
                rows: count,
                first_row: 0,
                x,
                prologue,
                indices: Some(rows_of),
                gather_x: gather,
            })?;
            let template = MatrixParams {
                rows: count,
                x_stride: stride(dim),
                y_stride: out,
                gather: u32::from(gather),
                softcap: softcap.unwrap_or(0.0),
                delta_stride: delta.unwrap_or(0),
                ..MatrixParams::default()
            };
            let ends = MatrixEnds {
                class: Class::Generated,
                prologue,
                epilogue: epilogue::STORE,
                activation: 0,
                x,
                indices: if gather { rows_of } else { Operand::Zero },
                y: Operand::Step(StepBuffer::Out, u64::from(first) * u64::from(out) * 4),
            };
            self.matrix(linear, template, &ends)?;
            first += count;
        }
        Ok(())
    }

    /// `OUT = norm(X[outputs])`. Without a norm no kernel runs: rows are copied as they are.
    fn states(&mut self, norm: Option<Norm>) -> Result<()> {
        let bytes = u64::from(self.shape.outputs) * u64::from(self.plan.widths.out) * 4;
        self.reserve(StepBuffer::Out, bytes);
        match norm {
            Some(norm) => self.norm_rows(norm, norm_join::STORE, Some(StepBuffer::X), StepBuffer::Out, 0..self.shape.outputs, true),
            None => {
                self.program.copied_states = Some(stride(self.plan.widths.dim));
                Ok(())
            }
        }
    }

    fn spec(&self, matrix: MatrixId) -> Result<&MatrixSpec> {
        self.target
            .matrices
            .get(matrix.0 as usize)
            .ok_or_else(|| Error::internal(format!("the plan names matrix {}, which was never made", matrix.0)))
    }

    /// Checks that every step buffer can be bound.
    fn finish(self) -> Result<Program> {
        for buffer in StepBuffer::ALL {
            let bytes = self.program.size(buffer);
            if buffer != StepBuffer::Out && bytes > self.target.binding_limit {
                return Err(Error::new(
                    ErrorCode::Memory,
                    format!(
                        "a step of {} rows needs {bytes} bytes for {}, but this GPU binds at most {}; run fewer rows a step",
                        self.rows(),
                        buffer.name(),
                        self.target.binding_limit
                    ),
                ));
            }
        }
        Ok(self.program)
    }
}

/// What stands at both ends of a matrix product.
struct MatrixEnds {
    class: Class,
    /// RMS only, generated family only.
    prologue: Option<Norm>,
    epilogue: u32,
    activation: u32,
    x: Operand,
    indices: Operand,
    y: Operand,
}
