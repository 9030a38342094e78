//! What adapters add to a product, worked out before it: A·x, then B·(A·x) into DELTA, which the product's epilogue adds for rows that have one.

use firecrest_shaders::Kernel;
use firecrest_shaders::params::{DELTA_HEAD, LoraParams, prologue};

use super::Lowering;
use crate::backend::gpu::lora::LoraSite;
use crate::backend::gpu::program::{Operand, StepBuffer};
use crate::error::Result;
use crate::model::plan::Norm;

/// A product that adapters may add to.
pub(super) struct Adapted {
    /// Inputs, and floats between rows of them.
    pub(super) columns: u32,
    pub(super) x_stride: u32,
    /// Outputs, over all pieces.
    pub(super) outputs: u32,
    pub(super) rows: u32,
    pub(super) first_row: u32,
    pub(super) x: Operand,
    /// RMS only: x is not normalised yet.
    pub(super) prologue: Option<Norm>,
    /// The batch rows, where rows are outputs.
    pub(super) indices: Option<Operand>,
    /// Whether x is by batch row then.
    pub(super) gather_x: bool,
}

impl Lowering<'_> {
    /// Lowers what adapters add to the op's product. Floats between rows of DELTA; none where no adapter adapts the op, or no row has one.
    pub(super) fn adapters(&mut self, product: &Adapted) -> Result<Option<u32>> {
        let of_op = |site: &&LoraSite| site.op as usize == self.op;
        let Some(&site) = self.target.adapters.iter().find(of_op).filter(|_| self.shape.adapted) else { return Ok(None) };
        let (mut gain, mut eps) = (Operand::Zero, 0.0);
        if let Some(Norm::Rms { gain: id, eps: given }) = product.prologue {
            (gain, eps) = (Operand::Vector(id), given);
        }
        let params = LoraParams {
            columns: product.columns,
            outputs: product.outputs,
            rows: product.rows,
            first_row: product.first_row,
            x_stride: product.x_stride,
            low_stride: site.parts * site.ranks,
            delta_stride: (DELTA_HEAD + product.outputs).next_multiple_of(4),
            parts: site.parts,
            ranks: site.ranks,
            gather: product.indices.is_some().into(),
            gather_x: product.gather_x.into(),
            eps,
        };
        let end = u64::from(product.first_row + product.rows);
        self.reserve(StepBuffer::Low, end * u64::from(params.low_stride) * 4);
        self.reserve(StepBuffer::Delta, end * u64::from(params.delta_stride) * 4);
        let operands = [
            ("rows", Operand::Step(StepBuffer::Rows, 0)),
            ("table", Operand::AdapterTable(site.op)),
            ("weights", Operand::Adapters(site.op)),
            ("x", product.x),
            ("gain", gain),
            ("indices", product.indices.unwrap_or(Operand::Zero)),
            ("low", Operand::Step(StepBuffer::Low, 0)),
            ("delta", Operand::Step(StepBuffer::Delta, 0)),
        ];
        let shrink = self.target.selection.only(Kernel::LoraShrink, None)?;
        let expand = self.target.selection.only(Kernel::LoraExpand, None)?;
        let overrides = [("PROLOGUE", if product.prologue.is_some() { prologue::RMS } else { prologue::NONE })];
        self.dispatch(shrink, &params, &overrides, &operands, [site.ranks.div_ceil(4), site.parts, product.rows])?;
        self.dispatch(expand, &params, &[], &operands, [product.outputs.div_ceil(64), 1, product.rows])?;
        Ok(Some(params.delta_stride))
    }
}
