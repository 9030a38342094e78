//! The CPU's program: a plan lowered to kernel calls, checked once so that kernels need not check.

use std::fmt::Write;

use super::Weights;
use super::attention::QUERIES;
use super::isa::LANES;
use super::lora::{Adapter, Site};
use crate::backend::{MatrixId, VectorId};
use crate::batch::BatchShape;
use crate::error::{Error, Result};
use crate::kv::KvGroup;
use crate::model::plan::{Activation, Attention, Join, Linear, Norm, Op, Plan, Rope};

/// The widest head attention takes.
pub(super) const MAX_HEAD_DIM: usize = 512;

/// A buffer that a linear reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    X,
    Att,
    H,
    /// What [`Call::Prepare`] left.
    Prepared,
}

/// A buffer that a linear writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Qkv,
    /// Added to the residual stream.
    AddToX,
    /// A branch's output that is normalised before it joins.
    Y,
    /// What is activated: gate and up, or up.
    Up,
    Out,
}

/// The rows a call goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    All,
    Outputs,
}

/// One kernel call: all workers share its items and meet after it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    /// Cosines and sines of every row's angles for rope `rope` of the program. Items: rows.
    Angles { rope: usize },
    /// See [`Op::Embed`]. Items: rows.
    Embed { table: MatrixId, scale: f32, segments: Option<MatrixId>, positions: Option<MatrixId>, norm: Option<Norm> },
    /// Normalises, gathers output rows and quantises, as far as the linear after it needs. Items: rows, or pieces of rows where
    /// there is no norm.
    Prepare { source: Source, width: usize, norm: Option<Norm>, rows: Rows, codes: bool },
    /// One matrix product. Items: panels of all parts.
    Linear { linear: Linear, source: Source, target: Target, rows: Rows, softcap: f32 },
    /// A·x of rows that have an adapter. Items: runs of rows × parts.
    Shrink { site: Site, source: Source, rows: Rows },
    /// Adds B·(A·x) to what [`Call::Linear`] left of these rows. Items: runs of rows × groups of panels.
    Expand { site: Site, width: usize, target: Target, rows: Rows },
    /// OUT = c·tanh(OUT / c), where adapters stand between a product and its cap. Items: pieces of outputs.
    Cap { width: usize, softcap: f32 },
    /// See [`Op::RopeWrite`]; the rope is an index into the program's. Items: rows.
    RopeWrite { rope: Option<usize>, qk_norm: Option<(VectorId, VectorId, f32)>, attention: Attention },
    /// See [`Op::Attend`]. Items: tiles of rows × KV heads.
    Attend { attention: Attention },
    /// Activates what is in Up, and quantises it where the linear after it needs that. Items: pieces of rows.
    Activate { activation: Activation, gated: bool, codes: bool },
    /// X = X + norm(Y), or X = norm(X) after a sum. Items: rows.
    Join { norm: Norm, add_y: bool },
    /// `OUT = X[outputs]`, normalised. Items: outputs.
    States { norm: Option<Norm> },
}

/// Columns of a piece where rows are dealt out in pieces.
pub(super) const PIECE: usize = 256;

/// A lowered plan.
pub(super) struct Program {
    pub(super) plan: Plan,
    pub(super) calls: Vec<Call>,
    /// Distinct ropes, whose angles are computed once a step.
    pub(super) ropes: Vec<Rope>,
    /// Width of Up.
    pub(super) up: usize,
    /// The widest input that is quantised.
    pub(super) widest_codes: usize,
    /// The largest number of query heads to a KV head decides how many rows make a tile: `(group, rows)` never matters to results.
    pub(super) attends: bool,
    /// Whether rows may have adapters.
    pub(super) adapted: bool,
    /// The largest sum of ranks at one op.
    pub(super) ranks: usize,
}

/// Checks a plan against the weights and the cache, and turns it into calls.
struct Lowering<'a> {
    weights: &'a Weights,
    groups: &'a [KvGroup],
    adapters: &'a [Adapter],
    op: u32,
    program: Program,
}

impl Program {
    /// Lowers `plan`, for rows that may have one of `adapters` where they are given.
    pub(super) fn lower(plan: &Plan, weights: &Weights, groups: &[KvGroup], adapters: Option<&[Adapter]>) -> Result<Program> {
        let program = Program {
            plan: plan.clone(),
            calls: Vec::new(),
            ropes: Vec::new(),
            up: 0,
            widest_codes: 0,
            attends: false,
            adapted: adapters.is_some(),
            ranks: 0,
        };
        let mut lowering = Lowering { weights, groups, adapters: adapters.unwrap_or_default(), op: 0, program };
        for (index, op) in plan.ops.iter().enumerate() {
            lowering.op = index as u32;
            lowering.op(op).map_err(|e| Error::new(e.code(), format!("op {index} of the plan: {}", e.message())))?;
        }
        Ok(lowering.program)
    }

    /// One line a call.
    pub(super) fn text(&self, shape: &BatchShape, weights: &Weights) -> String {
        let all = shape.prompt_rows + shape.generated_rows;
        let count = |rows: Rows| if rows == Rows::All { all } else { shape.outputs };
        let norm_name = |norm: &Norm| match norm {
            Norm::Rms { .. } => "rms",
            Norm::Layer { .. } => "layer",
        };
        let mut text = String::new();
        for call in &self.calls {
            // Writing to a String cannot fail.
            let _ = match call {
                Call::Angles { rope } => writeln!(text, "angles rope{rope} rows={all} pairs={}", self.ropes[*rope].rotated / 2),
                Call::Embed { table, norm, .. } => {
                    let layout = weights.matrices[table.0 as usize].layout;
                    let norm = norm.as_ref().map_or(String::new(), |n| format!(" {}", norm_name(n)));
                    writeln!(text, "embed {} [{}, {}]{norm} rows={all}", layout.format, layout.rows, layout.columns)
                }
                Call::Prepare { source, width, norm, rows, codes } => {
                    let norm = norm.as_ref().map_or("copy", norm_name);
                    let into = if *codes { "int8" } else { "f32" };
                    writeln!(text, "prepare {norm} {source:?} [{width}] {into} rows={}", count(*rows))
                }
                Call::Linear { linear, target, rows, softcap, .. } => {
                    let parts: Vec<String> = linear
                        .parts
                        .iter()
                        .map(|(id, first)| {
                            let layout = weights.matrices[id.0 as usize].layout;
                            format!("{}@{first}[{}]", layout.format, layout.rows)
                        })
                        .collect();
                    let bias = if linear.bias.is_some() { " bias" } else { "" };
                    let cap = if *softcap != 0.0 { " softcap" } else { "" };
                    let (columns, rows) = (linear.columns, count(*rows));
                    writeln!(text, "linear {} [{columns}] -> {target:?}{bias}{cap} rows={rows}", parts.join("+"))
                }
                Call::Shrink { site, source, rows } => {
                    writeln!(text, "shrink {source:?} parts={} ranks={} rows={}", site.parts, site.ranks, count(*rows))
                }
                Call::Expand { width, target, rows, .. } => writeln!(text, "expand [{width}] -> {target:?} rows={}", count(*rows)),
                Call::Cap { width, .. } => writeln!(text, "cap Out [{width}] rows={}", shape.outputs),
                Call::RopeWrite { rope, qk_norm, attention } => {
                    let rope = rope.map_or(String::new(), |r| format!(" rope{r}"));
                    let norm = if qk_norm.is_some() { " qk-norm" } else { "" };
                    writeln!(
                        text,
                        "rope-write layer={} heads={}+{}{rope}{norm} rows={all}",
                        attention.layer, attention.heads, attention.kv_heads
                    )
                }
                Call::Attend { attention: a } => {
                    let window = a.window.map_or(String::new(), |w| format!(" window={w}"));
                    writeln!(text, "attend layer={} heads={}/{} dim={}{window} rows={all}", a.layer, a.heads, a.kv_heads, a.head_dim)
                }
                Call::Activate { activation, gated, codes } => {
                    let (gated, codes) = (if *gated { " gated" } else { "" }, if *codes { " int8" } else { " f32" });
                    writeln!(text, "activate {activation:?}{gated} [{}]{codes} rows={all}", self.plan.widths.ff)
                }
                Call::Join { norm, add_y } => {
                    writeln!(text, "join {} {} rows={all}", norm_name(norm), if *add_y { "X += norm(Y)" } else { "X = norm(X)" })
                }
                Call::States { norm } => writeln!(text, "states {} outputs={}", norm.as_ref().map_or("copy", norm_name), shape.outputs),
            };
        }
        text
    }
}

/// Rows of one sequence that attend together, so that four queries share each key.
pub(super) fn rows_per_tile(attention: &Attention) -> usize {
    QUERIES.div_ceil((attention.heads / attention.kv_heads) as usize)
}

impl Lowering<'_> {
    fn op(&mut self, op: &Op) -> Result<()> {
        let widths = self.program.plan.widths;
        match op {
            Op::Embed { table, scale, segments, positions, norm } => {
                for id in [Some(*table), *segments, *positions].into_iter().flatten() {
                    self.expect("columns of an embedding table", self.matrix_columns(id)?, widths.dim as usize)?;
                }
                self.check_norm(norm.as_ref(), widths.dim)?;
                self.push(Call::Embed { table: *table, scale: *scale, segments: *segments, positions: *positions, norm: *norm });
            }
            Op::NormQkv { norm, linear } => {
                self.linear(Source::X, widths.dim, norm.as_ref(), linear, Target::Qkv, widths.qkv, Rows::All, 0.0)?;
            }
            Op::RopeWrite { rope, qk_norm, attention } => {
                self.check_attention(attention)?;
                if let Some((q, k, _)) = qk_norm {
                    self.check_vector(*q, attention.head_dim)?;
                    self.check_vector(*k, attention.head_dim)?;
                }
                let rope = match rope {
                    Some(rope) => Some(self.rope(rope, attention)?),
                    None => None,
                };
                self.push(Call::RopeWrite { rope, qk_norm: *qk_norm, attention: *attention });
            }
            Op::Attend { attention } => {
                self.check_attention(attention)?;
                self.program.attends = true;
                self.push(Call::Attend { attention: *attention });
            }
            Op::ProjectResidual { linear, join } => self.residual(Source::Att, widths.attention, linear, join)?,
            Op::NormGatedUp { norm, linear, activation, gated } => {
                let up = widths.ff as usize * if *gated { 2 } else { 1 };
                self.program.up = self.program.up.max(up);
                self.linear(Source::X, widths.dim, norm.as_ref(), linear, Target::Up, up as u32, Rows::All, 0.0)?;
                // Whether H is quantised depends on who reads it: settled when the down projection is lowered.
                self.push(Call::Activate { activation: *activation, gated: *gated, codes: false });
            }
            Op::DownResidual { linear, join } => self.residual(Source::H, widths.ff, linear, join)?,
            Op::Head { norm, linear, softcap } => {
                let softcap = softcap.unwrap_or(0.0);
                self.linear(Source::X, widths.dim, norm.as_ref(), linear, Target::Out, widths.out, Rows::Outputs, softcap)?;
            }
            Op::States { norm } => {
                self.check_norm(norm.as_ref(), widths.dim)?;
                self.expect("width of OUT for states", widths.out as usize, widths.dim as usize)?;
                self.push(Call::States { norm: *norm });
            }
        }
        Ok(())
    }

    fn push(&mut self, call: Call) {
        self.program.calls.push(call);
    }

    fn residual(&mut self, source: Source, width: u32, linear: &Linear, join: &Join) -> Result<()> {
        let dim = self.program.plan.widths.dim;
        let target = if matches!(join, Join::NormThenAdd(_)) { Target::Y } else { Target::AddToX };
        self.linear(source, width, None, linear, target, dim, Rows::All, 0.0)?;
        if let Join::NormThenAdd(norm) | Join::AddThenNorm(norm) = join {
            self.check_norm(Some(norm), dim)?;
            self.push(Call::Join { norm: *norm, add_y: target == Target::Y });
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "each is one fact about a product")]
    fn linear(
        &mut self,
        source: Source,
        width: u32,
        norm: Option<&Norm>,
        linear: &Linear,
        target: Target,
        out: u32,
        rows: Rows,
        softcap: f32,
    ) -> Result<()> {
        self.expect("inputs of a linear", linear.columns as usize, width as usize)?;
        self.expect("outputs of a linear", linear.rows as usize, out as usize)?;
        let (mut next, mut codes, mut floats) = (0, false, false);
        for &(id, first) in &linear.parts {
            self.expect("first row of a linear's part", first as usize, next)?;
            self.expect("columns of a linear's part", self.matrix_columns(id)?, width as usize)?;
            let layout = self.weights.matrices[id.0 as usize].layout;
            next += layout.rows;
            codes |= layout.format.is_quantised();
            floats |= !layout.format.is_quantised();
        }
        self.expect("rows of a linear's parts", next, linear.rows as usize)?;
        if let Some(bias) = linear.bias {
            self.check_vector(bias, linear.rows)?;
        }
        self.check_norm(norm, width)?;
        if codes {
            self.program.widest_codes = self.program.widest_codes.max(width as usize);
        }
        let copied = norm.is_some() || rows == Rows::Outputs;
        // The call before may quantise as it goes.
        match self.program.calls.last_mut() {
            Some(Call::Activate { codes: also, .. }) if source == Source::H => *also = codes,
            _ if copied || codes => self.push(Call::Prepare { source, width: width as usize, norm: norm.copied(), rows, codes }),
            _ => {}
        }
        let source = if copied && (floats || codes) { Source::Prepared } else { source };
        let Some(site) = Site::of(self.op, self.adapters) else {
            self.push(Call::Linear { linear: linear.clone(), source, target, rows, softcap });
            return Ok(());
        };
        // The cap comes behind what adapters add; for rows without one it is the same function of the same value.
        self.push(Call::Linear { linear: linear.clone(), source, target, rows, softcap: 0.0 });
        self.program.ranks = self.program.ranks.max(site.ranks);
        let columns = linear.columns as usize;
        for part in self.adapters.iter().filter_map(|adapter| adapter.parts.get(&self.op)).flatten() {
            self.expect("inputs of an adapter", part.a.layout.columns, columns)?;
            self.expect(
                "outputs of an adapter's last row",
                (part.first_row + part.b.layout.rows).min(out as usize),
                part.first_row + part.b.layout.rows,
            )?;
            self.expect("ranks of an adapter", part.b.layout.columns, part.rank())?;
        }
        self.push(Call::Shrink { site, source, rows });
        self.push(Call::Expand { site, width: out as usize, target, rows });
        if softcap != 0.0 {
            self.push(Call::Cap { width: out as usize, softcap });
        }
        Ok(())
    }

    /// The index of a rope among the program's; its angles are computed where it is first met.
    fn rope(&mut self, rope: &Rope, attention: &Attention) -> Result<usize> {
        if !rope.rotated.is_multiple_of(2) || rope.rotated > attention.head_dim {
            return Err(Error::internal(format!("{} elements of a head of {} cannot rotate in pairs", rope.rotated, attention.head_dim)));
        }
        self.check_vector(rope.frequencies, rope.rotated / 2)?;
        // Angles don't depend on which elements are paired, but two ropes that differ in that alone are rarely one model's.
        if let Some(index) = self.program.ropes.iter().position(|known| known == rope) {
            return Ok(index);
        }
        self.program.ropes.push(*rope);
        let index = self.program.ropes.len() - 1;
        self.push(Call::Angles { rope: index });
        Ok(index)
    }

    fn expect(&self, what: &str, got: usize, want: usize) -> Result<()> {
        if got == want { Ok(()) } else { Err(Error::internal(format!("{what}: {got}, not {want}"))) }
    }

    fn matrix_columns(&self, id: MatrixId) -> Result<usize> {
        match self.weights.matrices.get(id.0 as usize) {
            Some(matrix) => Ok(matrix.layout.columns),
            None => Err(Error::internal(format!("no matrix has the id {}", id.0))),
        }
    }

    fn check_vector(&self, id: VectorId, len: u32) -> Result<()> {
        match self.weights.vectors.get(id.0 as usize) {
            Some(vector) if vector.values.len() == len as usize => Ok(()),
            Some(vector) => Err(Error::malformed(format!("{} has {} values, not {len}", vector.name, vector.values.len()))),
            None => Err(Error::internal(format!("no vector has the id {}", id.0))),
        }
    }

    fn check_norm(&self, norm: Option<&Norm>, width: u32) -> Result<()> {
        match norm {
            None => Ok(()),
            Some(Norm::Rms { gain, .. }) => self.check_vector(*gain, width),
            Some(Norm::Layer { gain, bias, .. }) => {
                self.check_vector(*gain, width)?;
                self.check_vector(*bias, width)
            }
        }
    }

    fn check_attention(&self, a: &Attention) -> Result<()> {
        let widths = self.program.plan.widths;
        if a.kv_heads == 0 || a.heads == 0 || !a.heads.is_multiple_of(a.kv_heads) {
            return Err(Error::malformed(format!("layer {}: {} heads over {} KV heads", a.layer, a.heads, a.kv_heads)));
        }
        if a.head_dim == 0 || a.head_dim as usize > MAX_HEAD_DIM {
            return Err(Error::unsupported(format!("layer {}: heads of {}; 1 to {MAX_HEAD_DIM} are supported", a.layer, a.head_dim)));
        }
        if a.window == Some(0) {
            return Err(Error::malformed(format!("layer {}: a window of 0 positions", a.layer)));
        }
        self.expect("width of QKV", widths.qkv as usize, (a.heads + 2 * a.kv_heads) as usize * a.head_dim as usize)?;
        self.expect("width of ATT", widths.attention as usize, a.heads as usize * a.head_dim as usize)?;
        let Some(group) = self.groups.get(a.group as usize).filter(|g| g.layers.contains(&a.layer)) else {
            return Err(Error::internal(format!("layer {} has no cache in KV group {}", a.layer, a.group)));
        };
        self.expect("KV heads of the cache", group.kv_heads as usize, a.kv_heads as usize)?;
        self.expect("head width of the cache", group.head_dim as usize, a.head_dim as usize)
    }
}

/// Floats that a head of `head_dim` takes in a worker's scratch.
pub(super) const fn scratch_len() -> usize {
    QUERIES * MAX_HEAD_DIM.next_multiple_of(LANES)
}
