//! What an adapter's file means to a model: which rows of which op each pair adapts, checked and read whole before a backend sees any.

use super::{Config, Model};
use crate::error::{Error, Result};
use crate::file::{AdapterFile, quoted};
use crate::model::plan::RopePairs;

/// A matrix of the base model that adapters may adapt: rows of one op's linear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterTarget {
    /// The tensor's name; the head's is `output.weight`, tied or not.
    pub name: String,
    /// Index of the op in the plan (both plans have it at the same place).
    pub op: u32,
    /// Its first row among the linear's.
    pub first_row: u32,
    /// Outputs.
    pub rows: u32,
    /// Inputs.
    pub columns: u32,
}

/// One adapted matrix, ready for a backend: `y[first_row + n] += Σᵣ b[n, r] · Σₖ a[r, k] · x[k]`.
///
/// Values are f32, which holds every format that adapters come in exactly; the scale (α / rank, strength) stands in `b`.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterPart {
    /// The base tensor's name.
    pub name: String,
    /// Index of the op in the plan.
    pub op: u32,
    /// Its first row among the linear's.
    pub first_row: u32,
    /// Outputs.
    pub rows: u32,
    /// Inputs.
    pub columns: u32,
    /// At least 1.
    pub rank: u32,
    /// `[rank, columns]`.
    pub a: Vec<f32>,
    /// `[rows, rank]`.
    pub b: Vec<f32>,
}

/// A whole adapter, ready for a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterWeights {
    /// What messages call it.
    pub name: String,
    /// By op and first row.
    pub parts: Vec<AdapterPart>,
}

impl AdapterWeights {
    /// Bytes of its values.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|p| (p.a.len() + p.b.len()) as u64 * 4).sum()
    }
}

impl Model {
    /// What adapters may adapt: every linear of every layer, and the head.
    pub fn adapter_targets(&self) -> &[AdapterTarget] {
        &self.targets
    }

    /// Checks an adapter against this model and reads it. Names and shapes are checked before the first value is read.
    ///
    /// # Errors
    /// Another architecture, a tensor that this model doesn't have or that can't be adapted, a shape that doesn't fit, a value that is not finite;
    /// and a strength that is not.
    pub async fn read_adapter(&self, file: &AdapterFile, strength: f32) -> Result<AdapterWeights> {
        let config = &self.config;
        let name = file.name();
        if !strength.is_finite() {
            return Err(Error::request(format!("{name}: a strength of {strength}; it must be finite")));
        }
        if let Some(architecture) = file.architecture().filter(|a| *a != config.architecture) {
            return Err(Error::malformed(format!(
                "{name}: the adapter was made for the architecture {}, but the model is {}",
                quoted(architecture),
                config.architecture
            )));
        }
        let mut fitting = Vec::with_capacity(file.pairs().len());
        for pair in file.pairs() {
            let refused = |what: std::fmt::Arguments<'_>| Err(Error::malformed(format!("{name}: tensor {} {what}", quoted(&pair.a.name))));
            let Some(base) = file.base_tensor(pair, config.architecture) else {
                return refused(format_args!("adapts nothing that a model of the architecture {} has", config.architecture));
            };
            if base == "token_embd.weight" {
                return Err(Error::unsupported(format!(
                    "{name}: tensor {} adapts token_embd.weight: adapters of the embedding table are not run",
                    quoted(&pair.a.name)
                )));
            }
            let Some(target) = self.targets.iter().find(|target| target.name == base) else {
                return refused(format_args!("adapts {}, which the model does not have or which is no linear layer of it", quoted(&base)));
            };
            if pair.a.columns() != target.columns as usize {
                return refused(format_args!(
                    "has the shape {:?}; {base} needs [{}, {}] (outermost first)",
                    pair.a.shape,
                    pair.rank(),
                    target.columns
                ));
            }
            if pair.b.rows() != target.rows as usize {
                return Err(Error::malformed(format!(
                    "{name}: tensor {} has the shape {:?}; {base} needs [{}, {}] (outermost first)",
                    quoted(&pair.b.name),
                    pair.b.shape,
                    target.rows,
                    pair.rank()
                )));
            }
            fitting.push((pair, target, row_order(config, file, target)?));
        }
        fitting.sort_by_key(|(_, target, _)| (target.op, target.first_row));
        if let Some(pair) = fitting.windows(2).find(|pair| pair[0].1 == pair[1].1) {
            return Err(Error::malformed(format!("{name}: two pairs adapt {}", pair[0].1.name)));
        }
        let mut parts = Vec::with_capacity(fitting.len());
        for (pair, target, order) in fitting {
            let a = file.values(&pair.a).await?;
            let mut b = file.values(&pair.b).await?;
            let rank = pair.rank();
            if let Some(order) = order {
                b = order.applied(&b, rank);
            }
            let scale = pair.scale * strength;
            b.iter_mut().for_each(|v| *v *= scale);
            if let Some(at) = b.iter().position(|v| !v.is_finite()) {
                return Err(Error::malformed(format!(
                    "{name}: tensor {}, row {}: a value times the scale {scale} is not finite",
                    quoted(&pair.b.name),
                    at / rank
                )));
            }
            let AdapterTarget { name, op, first_row, rows, columns } = target.clone();
            parts.push(AdapterPart { name, op, first_row, rows, columns, rank: rank as u32, a, b });
        }
        Ok(AdapterWeights { name: name.to_owned(), parts })
    }
}

/// How rows of Q or K heads are to be put where adapter and base pair a head's elements differently.
struct RowOrder {
    head_dim: usize,
    /// From halves to neighbours, or back.
    to_adjacent: bool,
}

impl RowOrder {
    /// Rows of `width` values in the base's order. Element (half j, i) of a head is (2i + j) among neighbours.
    fn applied(&self, rows: &[f32], width: usize) -> Vec<f32> {
        let half = self.head_dim / 2;
        let source = |n: usize| {
            let (head, e) = (n / self.head_dim * self.head_dim, n % self.head_dim);
            head + if self.to_adjacent { e % 2 * half + e / 2 } else { e % half * 2 + e / half }
        };
        (0..rows.len() / width).flat_map(|n| &rows[source(n) * width..][..width]).copied().collect()
    }
}

/// The reordering that a target needs. GGUF's llama files have Q and K rows permuted for pairs of neighbours, Hugging Face's have not, and either
/// kind of adapter may meet either kind of base.
fn row_order(config: &Config, file: &AdapterFile, target: &AdapterTarget) -> Result<Option<RowOrder>> {
    let rotated = ["attn_q.weight", "attn_k.weight", "attn_qkv.weight"].iter().any(|part| target.name.ends_with(part));
    let base_adjacent = config.ropes.iter().any(|rope| rope.pairs == RopePairs::Adjacent);
    let file_adjacent = config.architecture == "llama" && !file.keeps_hugging_face_rows();
    if config.architecture != "llama" || !rotated || base_adjacent == file_adjacent {
        return Ok(None);
    }
    let head_dim = config.head_dim as usize;
    if target.name.ends_with("attn_qkv.weight") || !head_dim.is_multiple_of(2) {
        return Err(Error::unsupported(format!(
            "{}: {} would need its rows in another order, which is known of attn_q and attn_k only",
            file.name(),
            target.name
        )));
    }
    Ok(Some(RowOrder { head_dim, to_adjacent: base_adjacent }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_there_and_back() {
        // Two heads of six: halves 0 1 2 | 3 4 5 become the neighbours 0 3 1 4 2 5.
        let rows: Vec<f32> = (0..24).map(|v| v as f32).collect();
        let there = RowOrder { head_dim: 6, to_adjacent: true }.applied(&rows, 2);
        assert_eq!(there[..12], [0.0, 1.0, 6.0, 7.0, 2.0, 3.0, 8.0, 9.0, 4.0, 5.0, 10.0, 11.0]);
        assert_eq!(RowOrder { head_dim: 6, to_adjacent: false }.applied(&there, 2), rows);
    }
}
