//! Which tensors of a file a configuration needs, how they are joined into matrices, and in which format each runs.
//!
//! Nothing is read here but the file's table of tensors: loading walks a layout, and so does `inspect`.

use firecrest_shaders::Format;

use crate::error::{Error, Result};
use crate::file::{ModelFile, TensorInfo};

use super::config::{Config, NormKind, NormPlacement};

/// A tensor that is wanted, and how many rows it must have.
pub(super) struct Want {
    pub(super) name: String,
    pub(super) rows: u32,
}

/// A whole matrix for a backend: rows of one or more tensors of equal format, one after the other.
pub(super) struct MatrixLayout<'a> {
    pub(super) tensors: Vec<&'a TensorInfo>,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) format: Format,
}

impl MatrixLayout<'_> {
    /// What messages call it.
    pub(super) fn name(&self) -> String {
        self.tensors.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join("+")
    }
}

/// A linear layer: matrices in order of output rows.
pub(super) struct LinearLayout<'a> {
    pub(super) matrices: Vec<MatrixLayout<'a>>,
    pub(super) rows: u32,
    pub(super) columns: u32,
    /// One after the other they make the bias.
    pub(super) bias: Vec<&'a TensorInfo>,
}

/// A norm's vectors.
pub(super) struct NormLayout<'a> {
    pub(super) gain: &'a TensorInfo,
    pub(super) bias: Option<&'a TensorInfo>,
}

/// One block.
pub(super) struct LayerLayout<'a> {
    pub(super) attention_norm: Option<NormLayout<'a>>,
    pub(super) qkv: LinearLayout<'a>,
    pub(super) qk_norm: Option<(&'a TensorInfo, &'a TensorInfo)>,
    pub(super) output: LinearLayout<'a>,
    pub(super) attention_post_norm: Option<NormLayout<'a>>,
    pub(super) up_norm: Option<NormLayout<'a>>,
    pub(super) up: LinearLayout<'a>,
    pub(super) down: LinearLayout<'a>,
    pub(super) down_post_norm: Option<NormLayout<'a>>,
}

/// A whole model.
pub(super) struct Layout<'a> {
    pub(super) table: MatrixLayout<'a>,
    pub(super) segments: Option<MatrixLayout<'a>>,
    pub(super) positions: Option<MatrixLayout<'a>>,
    pub(super) embedding_norm: Option<NormLayout<'a>>,
    pub(super) layers: Vec<LayerLayout<'a>>,
    pub(super) final_norm: Option<NormLayout<'a>>,
    pub(super) head: Option<LinearLayout<'a>>,
    /// Divisors of each of the configuration's ropes, where it has any.
    pub(super) rope_divisors: Vec<Option<&'a TensorInfo>>,
}

impl<'a> Layout<'a> {
    /// Finds every tensor and checks its shape.
    ///
    /// # Errors
    /// The first tensor that is missing or mis-shaped, with its shape and what was expected.
    pub(super) fn resolve(config: &Config, file: &'a ModelFile) -> Result<Layout<'a>> {
        let find = Find { config, file };
        let dim = config.dim;
        let embedding = &config.embedding;
        let tied = file.tensor("output.weight").is_none();
        let head_name = if tied { "token_embd.weight" } else { "output.weight" };
        Ok(Layout {
            table: find.table("token_embd.weight", None)?,
            segments: embedding.segments.then(|| find.table("token_types.weight", None)).transpose()?,
            positions: embedding.positions.then(|| find.table("position_embd.weight", Some(config.context))).transpose()?,
            embedding_norm: embedding.norm.then(|| find.norm("token_embd_norm")).transpose()?,
            layers: (0..config.layers.len()).map(|i| find.layer(i)).collect::<Result<_>>()?,
            final_norm: config.final_norm.then(|| find.norm("output_norm")).transpose()?,
            head: config
                .head
                .then(|| {
                    let bias = if config.biases.head { vec![("output.bias".to_owned(), config.vocab)] } else { Vec::new() };
                    find.linear(vec![Want { name: head_name.to_owned(), rows: config.vocab }], dim, bias, false)
                })
                .transpose()?,
            rope_divisors: config
                .ropes
                .iter()
                .map(|rope| match rope.divisors(config.context) {
                    Some(name) => find.vector(name, rope.rotated / 2).map(Some),
                    None => Ok(None),
                })
                .collect::<Result<_>>()?,
        })
    }

    /// Every matrix, in the order they are loaded. A tied head's appears once.
    pub(super) fn matrices(&self) -> Vec<&MatrixLayout<'a>> {
        let mut all = vec![&self.table];
        all.extend(&self.segments);
        all.extend(&self.positions);
        for layer in &self.layers {
            for linear in [&layer.qkv, &layer.output, &layer.up, &layer.down] {
                all.extend(&linear.matrices);
            }
        }
        all.extend(self.untied_head());
        all
    }

    /// The head's matrices, but for those that are the embedding table.
    fn untied_head(&self) -> impl Iterator<Item = &MatrixLayout<'a>> {
        let head = self.head.iter().flat_map(|h| &h.matrices);
        head.filter(|m| m.name() != self.table.name())
    }

    /// Every vector.
    pub(super) fn vectors(&self) -> Vec<&'a TensorInfo> {
        let mut all: Vec<&TensorInfo> = Vec::new();
        let norms = |norm: &Option<NormLayout<'a>>, all: &mut Vec<&'a TensorInfo>| {
            all.extend(norm.iter().flat_map(|n| [Some(n.gain), n.bias]).flatten());
        };
        norms(&self.embedding_norm, &mut all);
        for layer in &self.layers {
            let placed = [&layer.attention_norm, &layer.attention_post_norm, &layer.up_norm, &layer.down_post_norm];
            placed.into_iter().for_each(|n| norms(n, &mut all));
            all.extend(layer.qk_norm.iter().flat_map(|(q, k)| [*q, *k]));
            for linear in [&layer.qkv, &layer.output, &layer.up, &layer.down] {
                all.extend(&linear.bias);
            }
        }
        norms(&self.final_norm, &mut all);
        all.extend(self.head.iter().flat_map(|h| &h.bias));
        all.extend(self.rope_divisors.iter().flatten());
        all
    }
}

/// Looks tensors up for one configuration.
struct Find<'c, 'a> {
    config: &'c Config,
    file: &'a ModelFile,
}

impl<'a> Find<'_, 'a> {
    fn tensor(&self, name: &str, expected: &str) -> Result<&'a TensorInfo> {
        self.file.tensor(name).ok_or_else(|| {
            Error::malformed(format!("tensor {name} is missing; {} needs one of shape {expected}", self.config.architecture))
        })
    }

    fn mis_shaped(&self, tensor: &TensorInfo, expected: &str) -> Error {
        Error::malformed(format!(
            "tensor {} has shape {:?}; {} needs {expected} (outermost first)",
            tensor.name, tensor.shape, self.config.architecture
        ))
    }

    /// A vector of exactly `width` values.
    fn vector(&self, name: &str, width: u32) -> Result<&'a TensorInfo> {
        let expected = format!("[{width}]");
        let tensor = self.tensor(name, &expected)?;
        let values: usize = tensor.shape.iter().product();
        if values != width as usize || tensor.columns() != values {
            return Err(self.mis_shaped(tensor, &expected));
        }
        Ok(tensor)
    }

    /// A norm over whole rows, named without `.weight`.
    fn norm(&self, name: &str) -> Result<NormLayout<'a>> {
        let dim = self.config.dim;
        let bias = self.config.norm == NormKind::Layer;
        Ok(NormLayout {
            gain: self.vector(&format!("{name}.weight"), dim)?,
            bias: bias.then(|| self.vector(&format!("{name}.bias"), dim)).transpose()?,
        })
    }

    /// A table of rows `dim` wide: the vocabulary, token types, learned positions. At least `rows` of them, where given.
    fn table(&self, name: &str, rows: Option<u32>) -> Result<MatrixLayout<'a>> {
        let dim = self.config.dim as usize;
        let expected = match rows {
            Some(rows) => format!("[at least {rows}, {dim}]"),
            None => format!("[any, {dim}]"),
        };
        let tensor = self.tensor(name, &expected)?;
        if tensor.columns() != dim || tensor.rows() == 0 || rows.is_some_and(|r| tensor.rows() < r as usize) {
            return Err(self.mis_shaped(tensor, &expected));
        }
        Ok(MatrixLayout { rows: tensor.rows(), columns: dim, format: runs_in(tensor)?, tensors: vec![tensor] })
    }

    /// A linear layer of the wanted tensors, one after the other. Neighbours of equal format become one matrix; where `uniform`
    /// all must be one format, and are requantised where they are not.
    fn linear(&self, wants: Vec<Want>, columns: u32, bias: Vec<(String, u32)>, uniform: bool) -> Result<LinearLayout<'a>> {
        let mut pieces = Vec::with_capacity(wants.len());
        for want in &wants {
            let expected = format!("[{}, {columns}]", want.rows);
            let tensor = self.tensor(&want.name, &expected)?;
            if (tensor.rows(), tensor.columns()) != (want.rows as usize, columns as usize) {
                return Err(self.mis_shaped(tensor, &expected));
            }
            pieces.push((tensor, runs_in(tensor)?));
        }
        if uniform && pieces.iter().any(|(_, f)| *f != pieces[0].1) {
            let quantised = pieces.iter().any(|(_, f)| f.is_quantised()) && columns.is_multiple_of(32);
            let common = if quantised { Format::Q8_0 } else { Format::F32 };
            pieces.iter_mut().for_each(|(_, f)| *f = common);
        }
        let mut matrices: Vec<MatrixLayout<'a>> = Vec::new();
        for (tensor, format) in pieces {
            match matrices.last_mut().filter(|m| m.format == format) {
                Some(matrix) => {
                    matrix.tensors.push(tensor);
                    matrix.rows += tensor.rows();
                }
                None => matrices.push(MatrixLayout { tensors: vec![tensor], rows: tensor.rows(), columns: columns as usize, format }),
            }
        }
        Ok(LinearLayout {
            matrices,
            rows: wants.iter().map(|w| w.rows).sum(),
            columns,
            bias: bias.iter().map(|(name, width)| self.vector(name, *width)).collect::<Result<_>>()?,
        })
    }

    fn layer(&self, index: usize) -> Result<LayerLayout<'a>> {
        let config = self.config;
        let name = |part: &str| format!("blk.{index}.{part}");
        let weight = |part: &str, rows| Want { name: name(&format!("{part}.weight")), rows };
        let biases = |on: bool, of: &[(&str, u32)]| -> Vec<(String, u32)> {
            if !on {
                return Vec::new();
            }
            of.iter().map(|(part, rows)| (name(&format!("{part}.bias")), *rows)).collect()
        };
        let has = |part: &str| self.file.tensor(&name(&format!("{part}.weight"))).is_some();
        let (dim, ff) = (config.dim, config.ff);

        let [q, k, v] = config.qkv_rows();
        let fused_qkv = [("attn_qkv", q + k + v)];
        let split_qkv = [("attn_q", q), ("attn_k", k), ("attn_v", v)];
        let qkv: &[(&str, u32)] = if has("attn_qkv") { &fused_qkv } else { &split_qkv };

        let gated = config.feed_forward.gated;
        let (fused_up, split_up) = ([("ffn_up", 2 * ff)], [("ffn_gate", ff), ("ffn_up", ff)]);
        let up: &[(&str, u32)] = match (gated, has("ffn_gate")) {
            (false, _) => &[("ffn_up", ff)],
            (true, false) if self.file.tensor(&name("ffn_up.weight")).is_some_and(|t| t.rows() == 2 * ff as usize) => &fused_up,
            (true, _) => &split_up,
        };
        let wants = |of: &[(&str, u32)]| of.iter().map(|(part, rows)| weight(part, *rows)).collect();

        let (before, after): (_, Option<[&str; 2]>) = match config.placement {
            NormPlacement::Pre => (true, None),
            NormPlacement::PreAndPost => (true, Some(["post_attention_norm", "post_ffw_norm"])),
            NormPlacement::Post => (false, Some(["attn_output_norm", "layer_output_norm"])),
        };
        let norm = |part: &str| self.norm(&name(part));
        Ok(LayerLayout {
            attention_norm: before.then(|| norm("attn_norm")).transpose()?,
            qkv: self.linear(wants(qkv), dim, biases(config.biases.qkv, qkv), false)?,
            qk_norm: config
                .qk_norm
                .then(|| {
                    let gain = |part: &str| self.vector(&name(part), config.head_dim);
                    Ok::<_, Error>((gain("attn_q_norm.weight")?, gain("attn_k_norm.weight")?))
                })
                .transpose()?,
            output: self.linear(vec![weight("attn_output", dim)], q, biases(config.biases.output, &[("attn_output", dim)]), false)?,
            attention_post_norm: after.map(|[first, _]| norm(first)).transpose()?,
            up_norm: before.then(|| norm("ffn_norm")).transpose()?,
            up: self.linear(wants(up), dim, biases(config.biases.up, up), gated)?,
            down: self.linear(vec![weight("ffn_down", dim)], ff, biases(config.biases.down, &[("ffn_down", dim)]), false)?,
            down_post_norm: after.map(|[_, second]| norm(second)).transpose()?,
        })
    }
}

/// The format a matrix of this tensor's type runs in.
fn runs_in(tensor: &TensorInfo) -> Result<Format> {
    tensor
        .ty
        .kernel_format()
        .ok_or_else(|| Error::unsupported(format!("tensor {} is of type {}, which Firecrest cannot decode", tensor.name, tensor.ty.name())))
}
