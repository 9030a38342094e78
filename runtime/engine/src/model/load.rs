//! Streams a file's weights to where they will run, a few megabytes at a time, and builds the plans that use them.

use std::collections::BTreeMap;

use crate::backend::{Backend, MatrixId, MatrixSpec, VectorId};
use crate::error::Result;
use crate::file::{ModelFile, TensorInfo};

use super::adapter::AdapterTarget;
use super::config::Config;
use super::layout::{LayerLayout, Layout, LinearLayout, MatrixLayout, NormLayout};
use super::plan::{Attention, Join, Linear, Norm, Op, Plan, PlanKind, Rope, Widths};
use super::{NormKind, NormPlacement, kv_group_of_layers};

/// Bytes that one read brings, about: large enough that requests are few, small enough that three of them are nothing
/// beside a model.
const CHUNK_BYTES: usize = 4 << 20;

/// Where weights go: a backend, or an oracle.
pub trait WeightTarget {
    /// Reserves a matrix; every row follows once by [`WeightTarget::write_rows`].
    fn matrix(&mut self, spec: &MatrixSpec) -> Result<MatrixId>;

    /// Stores rows given as GGML blocks of the matrix's format.
    fn write_rows(&mut self, matrix: MatrixId, first_row: usize, blocks: &[u8]) -> Result<()>;

    /// Stores a vector.
    fn vector(&mut self, name: &str, values: &[f32]) -> Result<VectorId>;
}

impl WeightTarget for Backend {
    fn matrix(&mut self, spec: &MatrixSpec) -> Result<MatrixId> {
        Backend::matrix(self, spec)
    }

    fn write_rows(&mut self, matrix: MatrixId, first_row: usize, blocks: &[u8]) -> Result<()> {
        Backend::write_rows(self, matrix, first_row, blocks)
    }

    fn vector(&mut self, name: &str, values: &[f32]) -> Result<VectorId> {
        Backend::vector(self, name, values)
    }
}

/// The plans of a loaded model.
pub(super) struct Plans {
    /// None in encoders.
    pub(super) logits: Option<Plan>,
    pub(super) states: Plan,
    /// What adapters may adapt.
    pub(super) targets: Vec<AdapterTarget>,
}

/// Uploads everything the layout names, then says what a step computes.
pub(super) async fn load<T: WeightTarget>(
    config: &Config,
    file: &ModelFile,
    target: &mut T,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Plans> {
    let layout = Layout::resolve(config, file)?;
    let total = layout.matrices().iter().flat_map(|m| &m.tensors).map(|t| t.bytes()).sum();
    let mut loader = Loader { config, file, target, progress, done: 0, total, matrices: BTreeMap::new(), targets: Vec::new() };
    loader.plans(&layout).await
}

struct Loader<'l, T> {
    config: &'l Config,
    file: &'l ModelFile,
    target: &'l mut T,
    progress: &'l mut dyn FnMut(u64, u64),
    done: u64,
    total: u64,
    /// By name, so that a tied head is the embedding table and not a second copy.
    matrices: BTreeMap<String, MatrixId>,
    targets: Vec<AdapterTarget>,
}

impl<T: WeightTarget> Loader<'_, T> {
    async fn plans(&mut self, layout: &Layout<'_>) -> Result<Plans> {
        let config = self.config;
        let table = self.matrix(&layout.table).await?;
        let segments = self.optional_matrix(&layout.segments).await?;
        let positions = self.optional_matrix(&layout.positions).await?;
        let norm = self.norm(&layout.embedding_norm).await?;
        let mut ops = vec![Op::Embed { table, scale: config.embedding.scale, segments, positions, norm }];

        let ropes = self.ropes(layout).await?;
        let groups = kv_group_of_layers(config);
        for (index, layer) in layout.layers.iter().enumerate() {
            let rope = config.layers[index].rope.map(|r| ropes[r]);
            self.block(&mut ops, layer, attention(config, index, groups[index]), rope).await?;
        }

        let widths = Widths {
            dim: config.dim,
            qkv: config.qkv_rows().iter().sum(),
            attention: config.heads * config.head_dim,
            ff: config.ff,
            out: config.dim,
        };
        let norm = self.norm(&layout.final_norm).await?;
        let logits = match &layout.head {
            None => None,
            Some(head) => {
                // Both plans end in the op behind the last block's: an encoder's and a decoder's states have no linear there.
                self.adaptable(head, ops.len());
                if let Some(target) = self.targets.last_mut() {
                    target.name = "output.weight".to_owned();
                }
                let head = Op::Head { norm, linear: self.linear(head).await?, softcap: config.final_softcap };
                let ops = ops.iter().cloned().chain([head]).collect();
                Some(Plan { kind: PlanKind::Logits, ops, widths: Widths { out: config.vocab, ..widths } })
            }
        };
        ops.push(Op::States { norm });
        let targets = std::mem::take(&mut self.targets);
        Ok(Plans { logits, states: Plan { kind: PlanKind::States, ops, widths }, targets })
    }

    async fn block(&mut self, ops: &mut Vec<Op>, layer: &LayerLayout<'_>, attention: Attention, rope: Option<Rope>) -> Result<()> {
        let config = self.config;
        let norm = self.norm(&layer.attention_norm).await?;
        self.adaptable(&layer.qkv, ops.len());
        let linear = self.linear(&layer.qkv).await?;
        ops.push(Op::NormQkv { norm, linear });

        let qk_norm = match layer.qk_norm {
            None => None,
            Some((q, k)) => Some((self.vector(q).await?, self.vector(k).await?, config.eps)),
        };
        ops.push(Op::RopeWrite { rope, qk_norm, attention });
        ops.push(Op::Attend { attention });

        self.adaptable(&layer.output, ops.len());
        let linear = self.linear(&layer.output).await?;
        let join = self.join(&layer.attention_post_norm).await?;
        ops.push(Op::ProjectResidual { linear, join });

        let norm = self.norm(&layer.up_norm).await?;
        self.adaptable(&layer.up, ops.len());
        let linear = self.linear(&layer.up).await?;
        let feed_forward = config.feed_forward;
        ops.push(Op::NormGatedUp { norm, linear, activation: feed_forward.activation, gated: feed_forward.gated });

        self.adaptable(&layer.down, ops.len());
        let linear = self.linear(&layer.down).await?;
        let join = self.join(&layer.down_post_norm).await?;
        ops.push(Op::DownResidual { linear, join });
        Ok(())
    }

    async fn join(&mut self, post_norm: &Option<NormLayout<'_>>) -> Result<Join> {
        Ok(match (self.norm(post_norm).await?, self.config.placement) {
            (None, _) => Join::Add,
            (Some(norm), NormPlacement::Post) => Join::AddThenNorm(norm),
            (Some(norm), _) => Join::NormThenAdd(norm),
        })
    }

    async fn norm(&mut self, layout: &Option<NormLayout<'_>>) -> Result<Option<Norm>> {
        let Some(layout) = layout else { return Ok(None) };
        let eps = self.config.eps;
        let gain = self.vector(layout.gain).await?;
        Ok(Some(match (self.config.norm, layout.bias) {
            (NormKind::Layer, Some(bias)) => Norm::Layer { gain, bias: self.vector(bias).await?, eps },
            _ => Norm::Rms { gain, eps },
        }))
    }

    async fn ropes(&mut self, layout: &Layout<'_>) -> Result<Vec<Rope>> {
        let mut ropes = Vec::with_capacity(self.config.ropes.len());
        for (index, rope) in self.config.ropes.iter().enumerate() {
            let divisors = match layout.rope_divisors[index] {
                None => None,
                Some(tensor) => Some(self.file.read_f32(tensor).await?),
            };
            let frequencies = rope.frequencies(divisors.as_deref())?;
            ropes.push(Rope {
                frequencies: self.target.vector(&format!("rope {index}"), &frequencies)?,
                rotated: rope.rotated,
                pairs: rope.pairs,
                magnitude: rope.magnitude(),
            });
        }
        Ok(ropes)
    }

    async fn linear(&mut self, layout: &LinearLayout<'_>) -> Result<Linear> {
        let mut parts = Vec::with_capacity(layout.matrices.len());
        let mut first_row = 0;
        for matrix in &layout.matrices {
            parts.push((self.matrix(matrix).await?, first_row));
            first_row += matrix.rows as u32;
        }
        let mut bias = Vec::new();
        for tensor in &layout.bias {
            bias.extend(self.file.read_f32(tensor).await?);
        }
        let bias = match layout.bias.first() {
            None => None,
            Some(first) => Some(self.target.vector(&first.name, &bias)?),
        };
        Ok(Linear { parts, columns: layout.columns, rows: layout.rows, bias })
    }

    /// Notes the tensors of a linear that the next op of the plan is given.
    fn adaptable(&mut self, layout: &LinearLayout<'_>, op: usize) {
        let mut first_row = 0;
        for tensor in layout.matrices.iter().flat_map(|m| &m.tensors) {
            let (name, rows) = (tensor.name.clone(), tensor.rows() as u32);
            self.targets.push(AdapterTarget { name, op: op as u32, first_row, rows, columns: layout.columns });
            first_row += rows;
        }
    }

    async fn vector(&mut self, tensor: &TensorInfo) -> Result<VectorId> {
        let values = self.file.read_f32(tensor).await?;
        self.target.vector(&tensor.name, &values)
    }

    async fn optional_matrix(&mut self, layout: &Option<MatrixLayout<'_>>) -> Result<Option<MatrixId>> {
        match layout {
            None => Ok(None),
            Some(layout) => Ok(Some(self.matrix(layout).await?)),
        }
    }

    async fn matrix(&mut self, layout: &MatrixLayout<'_>) -> Result<MatrixId> {
        let name = layout.name();
        if let Some(id) = self.matrices.get(&name) {
            return Ok(*id);
        }
        let (rows, columns, format) = (layout.rows, layout.columns, layout.format);
        let id = self.target.matrix(&MatrixSpec { name: name.clone(), rows, columns, format })?;
        let mut written = 0;
        let mut blocks = Vec::new();
        for tensor in &layout.tensors {
            let stored = tensor.ty.row_bytes(columns);
            let rows_a_chunk = (CHUNK_BYTES / stored.max(format.row_bytes(columns)).max(1)).max(1);
            let mut row = 0;
            while row < tensor.rows() {
                let count = rows_a_chunk.min(tensor.rows() - row);
                self.file.read_rows(tensor, row, count, format, &mut blocks).await?;
                self.target.write_rows(id, written, &blocks)?;
                row += count;
                written += count;
                self.done += (count * stored) as u64;
                (self.progress)(self.done, self.total);
            }
        }
        self.matrices.insert(name, id);
        Ok(id)
    }
}

/// The geometry of a layer's attention.
fn attention(config: &Config, layer: usize, group: u32) -> Attention {
    Attention {
        layer: layer as u32,
        group,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        window: config.window(layer),
        scale: config.attention_scale,
        softcap: config.attention_softcap,
        causal: config.causal,
    }
}
