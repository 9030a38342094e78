//! LoRA adapters on this processor: A and B as matrices of f32 in panels, run by the same kernels as weights.
//!
//! Rows of one adapter that stand together are a run and share the pass over its matrices. A row's bits depend on neither: a matrix kernel gives
//! a (row, output) the same arithmetic whatever the tile.

use std::collections::BTreeMap;

use super::Matrix;
use super::buffer::AlignedBytes;
use super::layout::Layout;
use crate::Format;
use crate::backend::AdapterId;
use crate::batch::Batch;
use crate::error::Result;
use crate::model::{AdapterPart, AdapterWeights};

/// Rows of a run at most, so that workers share long prompts.
const RUN: u32 = 32;

/// Panels of B that a worker takes at once.
pub(super) const PANELS: usize = 16;

/// One adapted matrix.
pub(super) struct Part {
    pub(super) first_row: usize,
    /// `[rank, columns]`.
    pub(super) a: Matrix,
    /// `[rows, rank]`.
    pub(super) b: Matrix,
}

impl Part {
    pub(super) fn rank(&self) -> usize {
        self.a.layout.rows
    }
}

/// One adapter.
pub(super) struct Adapter {
    pub(super) id: AdapterId,
    /// By op of the plan.
    pub(super) parts: BTreeMap<u32, Vec<Part>>,
}

impl Adapter {
    pub(super) fn new(id: AdapterId, weights: &AdapterWeights) -> Result<Adapter> {
        let mut parts: BTreeMap<u32, Vec<Part>> = BTreeMap::new();
        for part in &weights.parts {
            let AdapterPart { name, op, first_row, rows, columns, rank, a, b } = part;
            let (rows, columns, rank) = (*rows as usize, *columns as usize, *rank as usize);
            let part = Part {
                first_row: *first_row as usize,
                a: matrix(format!("{name}.lora_a"), a, rank, columns)?,
                b: matrix(format!("{name}.lora_b"), b, rows, rank)?,
            };
            parts.entry(*op).or_default().push(part);
        }
        Ok(Adapter { id, parts })
    }

    pub(super) fn bytes(&self) -> usize {
        self.parts.values().flatten().map(|p| p.a.bytes.len() + p.b.bytes.len()).sum()
    }
}

fn matrix(name: String, values: &[f32], rows: usize, columns: usize) -> Result<Matrix> {
    let layout = Layout::new(&name, Format::F32, rows, columns)?;
    let mut bytes = AlignedBytes::zeroed(layout.bytes(), &name)?;
    for (row, values) in values.chunks_exact(columns).enumerate() {
        layout.write_row(bytes.bytes_mut(), row, bytemuck::cast_slice(values));
    }
    Ok(Matrix { name, layout, bytes, rows_written: rows })
}

/// What the adapters that are held ask of the program at one op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) op: u32,
    /// The most parts of one adapter.
    pub(super) parts: usize,
    /// The most groups of [`PANELS`] of one adapter's B.
    pub(super) groups: usize,
    /// The largest sum of an adapter's ranks.
    pub(super) ranks: usize,
}

impl Site {
    /// None where no adapter adapts the op.
    pub(super) fn of(op: u32, adapters: &[Adapter]) -> Option<Site> {
        let parts = || adapters.iter().filter_map(move |adapter| adapter.parts.get(&op));
        Some(Site {
            op,
            parts: parts().map(Vec::len).max()?,
            groups: parts().map(|parts| parts.iter().map(|p| groups(&p.b)).sum()).max()?,
            ranks: parts().map(|parts| parts.iter().map(Part::rank).sum()).max()?,
        })
    }
}

/// Groups of panels that B falls into.
pub(super) fn groups(b: &Matrix) -> usize {
    b.layout.panels().div_ceil(PANELS)
}

/// Rows of one adapter that stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: usize,
    pub(super) count: usize,
    /// Index among the adapters that are held.
    pub(super) adapter: usize,
}

/// Fills the runs of all rows, and of the output rows counted as outputs.
pub(super) fn runs(batch: &Batch, adapters: &[Adapter], runs: &mut [Vec<Run>; 2]) {
    let adapter_of = |row: usize| {
        let id = batch.sequences[batch.rows[row].sequence as usize].adapter?;
        adapters.iter().position(|adapter| adapter.id == id)
    };
    let fill = |list: &mut Vec<Run>, adapters: &mut dyn Iterator<Item = Option<usize>>| {
        list.clear();
        for (row, adapter) in adapters.enumerate() {
            let Some(adapter) = adapter else { continue };
            match list.last_mut() {
                Some(run) if run.adapter == adapter && run.first + run.count == row && run.count < RUN as usize => run.count += 1,
                _ => list.push(Run { first: row, count: 1, adapter }),
            }
        }
    };
    let [all, outputs] = runs;
    fill(all, &mut (0..batch.rows.len()).map(adapter_of));
    fill(outputs, &mut batch.outputs.iter().map(|&row| adapter_of(row as usize)));
}
