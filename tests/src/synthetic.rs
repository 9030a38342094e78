//! Small models made of random weights, whose features bite: what backends are compared on with the interpreter.
//!
//! A [`Recipe`] says what a family does; [`Recipe::build`] makes its plan and weights, which go to a backend and to the
//! interpreter alike. [`Sequences`] keeps pages and turns "these positions of these sequences" into batches.

use std::collections::BTreeMap;

use firecrest_engine::Format;
use firecrest_engine::backend::{Backend, MatrixId, MatrixSpec, VectorId};
use firecrest_engine::batch::{Batch, Class, Row, RowToken, SequenceView};
use firecrest_engine::kv::{KvFormat, KvGroup, PAGE_LEN, PageId};
use firecrest_engine::model::plan::{Activation, Attention, Join, Linear, Norm, Op, Plan, PlanKind, Rope, RopePairs, Widths};
use firecrest_engine::quant::{GgmlType, dequantise, quantise};

use crate::interpreter::{Interpreter, Matrix};
use crate::random::Random;

/// What a small model does.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What snapshots and messages call it.
    pub name: &'static str,
    /// Layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub dim: u32,
    /// Query heads.
    pub heads: u32,
    /// Key-value heads.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Width of the hidden layer.
    pub ff: u32,
    /// Tokens.
    pub vocabulary: u32,
    /// Of matrices.
    pub format: Format,
    /// Of V where it differs from Q and K (Q4_K_M).
    pub value_format: Option<Format>,
    /// Of the embedding table, which is the head too.
    pub head_format: Format,
    /// Biases on Q, K and V.
    pub qkv_bias: bool,
    /// Norms on Q and K heads.
    pub qk_norm: bool,
    /// Norms after attention and the hidden layer (Gemma).
    pub post_norms: bool,
    /// LayerNorm after each block, no causal mask, no rope: BERT.
    pub encoder: bool,
    /// Window of every layer (`Some(.., 1)`) or every second one (`Some(.., 2)`).
    pub window: Option<(u32, u32)>,
    /// Of attention scores.
    pub softcap: Option<f32>,
    /// Of logits.
    pub final_softcap: Option<f32>,
    /// Of ropes.
    pub pairs: RopePairs,
    /// Of the hidden layer.
    pub activation: Activation,
    /// Multiplies embeddings.
    pub embedding_scale: f32,
    /// How keys and values are stored.
    pub kv: KvFormat,
}

impl Recipe {
    /// Llama with grouped heads.
    pub const fn llama() -> Recipe {
        Recipe {
            name: "llama",
            layers: 2,
            dim: 256,
            heads: 8,
            kv_heads: 2,
            head_dim: 32,
            ff: 512,
            vocabulary: 300,
            format: Format::Q8_0,
            value_format: None,
            head_format: Format::Q8_0,
            qkv_bias: false,
            qk_norm: false,
            post_norms: false,
            encoder: false,
            window: None,
            softcap: None,
            final_softcap: None,
            pairs: RopePairs::Adjacent,
            activation: Activation::Silu,
            embedding_scale: 1.0,
            kv: KvFormat::F16,
        }
    }

    /// Mistral: every layer has a window.
    pub const fn mistral() -> Recipe {
        Recipe { name: "mistral", window: Some((20, 1)), ..Recipe::llama() }
    }

    /// Qwen 2: biases on Q, K and V.
    pub const fn qwen2() -> Recipe {
        Recipe { name: "qwen2", qkv_bias: true, pairs: RopePairs::Halves, ..Recipe::llama() }
    }

    /// Qwen 3: norms on Q and K heads.
    pub const fn qwen3() -> Recipe {
        Recipe { name: "qwen3", qk_norm: true, pairs: RopePairs::Halves, ..Recipe::llama() }
    }

    /// Gemma 2: post-norms, softcaps, a window every second layer, scaled embedding, GeGLU.
    pub const fn gemma2() -> Recipe {
        Recipe {
            name: "gemma2",
            post_norms: true,
            window: Some((24, 2)),
            softcap: Some(5.0),
            final_softcap: Some(3.0),
            pairs: RopePairs::Halves,
            activation: Activation::GeluTanh,
            embedding_scale: 16.0,
            head_dim: 64,
            heads: 4,
            ..Recipe::llama()
        }
    }

    /// Gemma 3: as Gemma 2, with QK-norm in place of softcaps.
    pub const fn gemma3() -> Recipe {
        Recipe { name: "gemma3", qk_norm: true, softcap: None, final_softcap: None, ..Recipe::gemma2() }
    }

    /// Phi 3: all heads have K and V of their own, and they are narrow.
    pub const fn phi3() -> Recipe {
        Recipe { name: "phi3", kv_heads: 8, pairs: RopePairs::Halves, ..Recipe::llama() }
    }

    /// BERT: LayerNorm after each block, ungated, every position sees all.
    pub const fn bert() -> Recipe {
        Recipe { name: "bert", encoder: true, qkv_bias: true, kv_heads: 8, activation: Activation::GeluErf, ..Recipe::llama() }
    }

    /// Every family.
    pub const ALL: [Recipe; 8] = [
        Recipe::llama(),
        Recipe::mistral(),
        Recipe::qwen2(),
        Recipe::qwen3(),
        Recipe::gemma2(),
        Recipe::gemma3(),
        Recipe::phi3(),
        Recipe::bert(),
    ];

    /// The same with matrices of another format, the head's too.
    pub const fn with_format(self, format: Format) -> Recipe {
        Recipe { format, head_format: format, ..self }
    }

    /// Makes plan and weights.
    pub fn build(&self, seed: u64) -> Synthetic {
        let mut maker = Maker { random: Random::new(seed), matrices: Vec::new(), vectors: Vec::new() };
        let (heads, kv_heads, head_dim, dim, ff) = (self.heads, self.kv_heads, self.head_dim, self.dim, self.ff);
        let table = maker.matrix("token_embd", self.vocabulary, dim, self.head_format, 1.0);
        let (segments, positions) = match self.encoder {
            true => (
                Some(maker.matrix("token_types", 2, dim, Format::F32, 0.5)),
                Some(maker.matrix("position_embd", 512, dim, Format::F32, 0.5)),
            ),
            false => (None, None),
        };
        let embed_norm = self.encoder.then(|| maker.layer_norm(dim));
        let mut ops = vec![Op::Embed { table, scale: self.embedding_scale, segments, positions, norm: embed_norm }];
        let frequencies: Vec<f32> = (0..head_dim / 2).map(|i| 10000f32.powf(-2.0 * i as f32 / head_dim as f32)).collect();
        let frequencies = maker.vector("frequencies", frequencies);
        let mut groups: BTreeMap<u32, KvGroup> = BTreeMap::new();
        for layer in 0..self.layers {
            let window = self.window.filter(|(_, every)| (layer + 1) % every == 0).map(|(window, _)| window);
            // Group 0 is what layer 0 does; whatever differs from it is group 1.
            let group = u32::from(groups.get(&0).is_some_and(|first| first.window != window));
            groups
                .entry(group)
                .or_insert(KvGroup { layers: Vec::new(), window, kv_heads, head_dim, format: self.kv, pages: 0 })
                .layers
                .push(layer);
            let attention = Attention {
                layer,
                group,
                heads,
                kv_heads,
                head_dim,
                window,
                scale: 1.0 / (head_dim as f32).sqrt(),
                softcap: self.softcap,
                causal: !self.encoder,
            };
            let norm = (!self.encoder).then(|| maker.rms_norm(dim));
            let rows = [heads * head_dim, kv_heads * head_dim, kv_heads * head_dim];
            let parts = match self.value_format {
                None => vec![(maker.matrix("attn_qkv", rows.iter().sum(), dim, self.format, 1.5), 0)],
                Some(other) => vec![
                    (maker.matrix("attn_qk", rows[0] + rows[1], dim, self.format, 1.5), 0),
                    (maker.matrix("attn_v", rows[2], dim, other, 1.5), rows[0] + rows[1]),
                ],
            };
            let total = rows.iter().sum();
            let bias = self.qkv_bias.then(|| maker.random_vector("attn_qkv.bias", total, 0.5));
            ops.push(Op::NormQkv { norm, linear: Linear { parts, columns: dim, rows: total, bias } });
            let qk_norm = self.qk_norm.then(|| (maker.gain(head_dim), maker.gain(head_dim), 1e-6));
            let rope = (!self.encoder).then_some(Rope { frequencies, rotated: head_dim, pairs: self.pairs, magnitude: 1.0 });
            ops.push(Op::RopeWrite { rope, qk_norm, attention });
            ops.push(Op::Attend { attention });
            let linear = maker.linear("attn_output", dim, heads * head_dim, self.format, self.encoder);
            ops.push(Op::ProjectResidual { linear, join: self.join(&mut maker) });
            let norm = (!self.encoder).then(|| maker.rms_norm(dim));
            let linear = maker.linear("ffn_gate_up", if self.encoder { ff } else { 2 * ff }, dim, self.format, self.encoder);
            ops.push(Op::NormGatedUp { norm, linear, activation: self.activation, gated: !self.encoder });
            let linear = maker.linear("ffn_down", dim, ff, self.format, self.encoder);
            ops.push(Op::DownResidual { linear, join: self.join(&mut maker) });
        }
        let (kind, out) = match self.encoder {
            true => {
                ops.push(Op::States { norm: None });
                (PlanKind::States, dim)
            }
            false => {
                let linear = Linear { parts: vec![(table, 0)], columns: dim, rows: self.vocabulary, bias: None };
                ops.push(Op::Head { norm: Some(maker.rms_norm(dim)), linear, softcap: self.final_softcap });
                (PlanKind::Logits, self.vocabulary)
            }
        };
        let widths = Widths { dim, qkv: (heads + 2 * kv_heads) * head_dim, attention: heads * head_dim, ff, out };
        let Maker { matrices, vectors, .. } = maker;
        Synthetic {
            plan: Plan { kind, ops, widths },
            matrices,
            vectors,
            groups: groups.into_values().collect(),
            vocabulary: self.vocabulary,
        }
    }

    fn join(&self, maker: &mut Maker) -> Join {
        if self.encoder {
            Join::AddThenNorm(maker.layer_norm(self.dim))
        } else if self.post_norms {
            Join::NormThenAdd(maker.rms_norm(self.dim))
        } else {
            Join::Add
        }
    }
}

struct Maker {
    random: Random,
    matrices: Vec<(MatrixSpec, Vec<u8>)>,
    vectors: Vec<(String, Vec<f32>)>,
}

impl Maker {
    /// A matrix whose products have about the size of their inputs, times `gain`.
    fn matrix(&mut self, name: &str, rows: u32, columns: u32, format: Format, gain: f32) -> MatrixId {
        // Embedding rows are looked up, not summed over.
        let scale = if name.ends_with("_embd") || name.ends_with("_types") { gain } else { gain * (3.0 / columns as f32).sqrt() };
        let values: Vec<f32> = (0..rows * columns).map(|_| self.random.value() * scale).collect();
        let mut blocks = Vec::new();
        quantise(format, &values, &mut blocks);
        let name = format!("{name}.{}", self.matrices.len());
        self.matrices.push((MatrixSpec { name, rows: rows as usize, columns: columns as usize, format }, blocks));
        MatrixId(self.matrices.len() as u32 - 1)
    }

    fn linear(&mut self, name: &str, rows: u32, columns: u32, format: Format, bias: bool) -> Linear {
        let matrix = self.matrix(name, rows, columns, format, 1.0);
        let bias = bias.then(|| self.random_vector(name, rows, 0.2));
        Linear { parts: vec![(matrix, 0)], columns, rows, bias }
    }

    fn vector(&mut self, name: &str, values: Vec<f32>) -> VectorId {
        self.vectors.push((format!("{name}.{}", self.vectors.len()), values));
        VectorId(self.vectors.len() as u32 - 1)
    }

    fn random_vector(&mut self, name: &str, len: u32, scale: f32) -> VectorId {
        let values = (0..len).map(|_| self.random.value() * scale).collect();
        self.vector(name, values)
    }

    fn gain(&mut self, len: u32) -> VectorId {
        let values = (0..len).map(|_| 1.0 + 0.3 * self.random.value()).collect();
        self.vector("gain", values)
    }

    fn rms_norm(&mut self, dim: u32) -> Norm {
        Norm::Rms { gain: self.gain(dim), eps: 1e-5 }
    }

    fn layer_norm(&mut self, dim: u32) -> Norm {
        Norm::Layer { gain: self.gain(dim), bias: self.random_vector("norm.bias", dim, 0.2), eps: 1e-12 }
    }
}

/// A plan with its weights.
pub struct Synthetic {
    /// What a step computes.
    pub plan: Plan,
    /// By [`MatrixId`]: what it is, and its GGML blocks.
    pub matrices: Vec<(MatrixSpec, Vec<u8>)>,
    /// By [`VectorId`].
    pub vectors: Vec<(String, Vec<f32>)>,
    /// Without pages yet.
    pub groups: Vec<KvGroup>,
    /// Tokens.
    pub vocabulary: u32,
}

impl Synthetic {
    /// Specs by [`MatrixId`].
    pub fn specs(&self) -> Vec<MatrixSpec> {
        self.matrices.iter().map(|(spec, _)| spec.clone()).collect()
    }

    fn groups(&self, pages: u32) -> Vec<KvGroup> {
        self.groups.iter().map(|group| KvGroup { pages, ..group.clone() }).collect()
    }

    /// Uploads everything to a fresh backend, each matrix in two chunks of rows, the later first.
    ///
    /// # Panics
    /// Where the backend refuses.
    pub fn install(&self, backend: &mut Backend, pages: u32) {
        for (index, (spec, blocks)) in self.matrices.iter().enumerate() {
            let id = backend.matrix(spec).expect("matrix");
            assert_eq!(id, MatrixId(index as u32), "a fresh backend numbers matrices from 0");
            let cut = spec.rows / 3;
            let (head, tail) = blocks.split_at(cut * spec.format.row_bytes(spec.columns));
            backend.write_rows(id, cut, tail).expect("rows");
            backend.write_rows(id, 0, head).expect("rows");
        }
        for (index, (name, values)) in self.vectors.iter().enumerate() {
            assert_eq!(backend.vector(name, values).expect("vector"), VectorId(index as u32), "a fresh backend numbers vectors from 0");
        }
        backend.allocate_kv(&self.groups(pages)).expect("KV cache");
    }

    /// Gives the interpreter what the blocks mean.
    pub fn interpret(&self, interpreter: &mut Interpreter, pages: u32) {
        for (index, (spec, blocks)) in self.matrices.iter().enumerate() {
            let mut values = vec![0.0; spec.rows * spec.columns];
            dequantise(ggml_type(spec.format), blocks, &mut values);
            let matrix = Matrix { format: spec.format, rows: spec.rows, columns: spec.columns, values };
            interpreter.set_matrix(MatrixId(index as u32), matrix);
        }
        for (index, (_, values)) in self.vectors.iter().enumerate() {
            interpreter.set_vector(VectorId(index as u32), values);
        }
        interpreter.allocate_kv(&self.groups(pages));
    }
}

fn ggml_type(format: Format) -> GgmlType {
    match format {
        Format::F32 => GgmlType::F32,
        Format::F16 => GgmlType::F16,
        Format::Q4_0 => GgmlType::Q4_0,
        Format::Q8_0 => GgmlType::Q8_0,
        Format::Q4K => GgmlType::Q4K,
        Format::Q6K => GgmlType::Q6K,
    }
}

/// Some rows of one sequence in a batch.
#[derive(Clone, Debug)]
pub struct Run {
    /// Which sequence.
    pub sequence: u32,
    /// Positions, ascending by one.
    pub positions: std::ops::Range<u32>,
    /// Their class.
    pub class: Class,
}

/// Sequences of random tokens with pages of their own.
pub struct Sequences {
    tokens: Vec<Vec<u32>>,
    tables: Vec<Vec<PageId>>,
    groups: usize,
}

impl Sequences {
    /// `count` sequences of up to `longest` tokens for a model, and the pages they take together. Pages are dealt in a
    /// scrambled order, so that nothing can rely on neighbours.
    pub fn new(model: &Synthetic, count: u32, longest: u32, seed: u64) -> (Sequences, u32) {
        let mut random = Random::new(seed);
        let blocks = longest.div_ceil(PAGE_LEN as u32);
        let pages = count * blocks;
        let mut order: Vec<PageId> = (0..pages).map(PageId).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i + 1));
        }
        let tables = order.chunks(blocks as usize).map(<[PageId]>::to_vec).collect();
        let tokens = (0..count).map(|_| (0..longest).map(|_| random.token(model.vocabulary)).collect()).collect();
        (Sequences { tokens, tables, groups: model.groups.len() }, pages)
    }

    /// A batch of these runs, prompt runs first; every row's output is wanted.
    pub fn batch(&self, runs: &[Run]) -> Batch {
        let mut batch = Batch::default();
        for class in [Class::Prompt, Class::Generated] {
            for run in runs.iter().filter(|run| run.class == class && !run.positions.is_empty()) {
                let table = &self.tables[run.sequence as usize];
                batch.sequences.push(SequenceView {
                    length: run.positions.end,
                    tables: vec![table[..(run.positions.end as usize).div_ceil(PAGE_LEN)].to_vec(); self.groups],
                    adapter: None,
                });
                for position in run.positions.clone() {
                    batch.outputs.push(batch.rows.len() as u32);
                    batch.rows.push(Row {
                        sequence: batch.sequences.len() as u32 - 1,
                        position,
                        token: RowToken::Known(self.tokens[run.sequence as usize][position as usize]),
                        class,
                        segment: position % 2,
                    });
                }
            }
        }
        batch
    }

    /// The token of a sequence at a position.
    pub fn token(&self, sequence: u32, position: u32) -> u32 {
        self.tokens[sequence as usize][position as usize]
    }
}
