//! The plain float64 interpreter of plans: the op-level oracle of every backend.
//!
//! It follows the words of [`firecrest_engine::model::plan`] with loops and nothing else: no tiling, no online softmax, no
//! integer dot. Weights are what a file's blocks mean (dequantised, f32), everything computed from them is f64.
//! Two settings let a test take a backend's *stated* roundings into account, so that what remains is tight: the KV cache
//! may be rounded to f16 or 8 bits as caches store it, and the inputs of quantised matrices to 8 bits per block of 32. A third takes on ggml's
//! roundings, to tell those from errors.

use std::collections::BTreeMap;

use firecrest_engine::Format;
use firecrest_engine::backend::cpu::CpuBackend;
use firecrest_engine::backend::{AdapterId, MatrixId, VectorId};
use firecrest_engine::batch::{Batch, Row, RowToken};
use firecrest_engine::kv::{KvFormat, KvGroup, PAGE_LEN, PageId};
use firecrest_engine::model::AdapterWeights;
use firecrest_engine::model::plan::{Activation, Attention, Join, Linear, Norm, Op, Plan, Rope, RopePairs};
use firecrest_shaders::reference::quantise_head;
use half::f16;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvPrecision {
    /// As computed.
    F64,
    /// Rounded to f16, as caches store them.
    F16,
    /// Rounded to 8 bits a head, as caches of [`KvFormat::Int8`] store them.
    Int8,
}

impl KvPrecision {
    /// What a cache of this format keeps.
    pub fn of(format: KvFormat) -> KvPrecision {
        match format {
            KvFormat::F16 => KvPrecision::F16,
            KvFormat::Int8 => KvPrecision::Int8,
        }
    }

    fn round(self, head: &[f64]) -> Vec<f64> {
        match self {
            KvPrecision::F64 => head.to_vec(),
            KvPrecision::F16 => head.iter().map(|&v| round_to_half(v)).collect(),
            KvPrecision::Int8 => {
                let (scale, codes) = quantise_head(head);
                codes.into_iter().map(|code| f64::from(code) * scale.to_f64()).collect()
            }
        }
    }
}

/// How the inputs of quantised matrices are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// As computed.
    Exact,
    /// In blocks of 32: `d = max|x| / 127`, `round(x / d)·d`, which is what integer-dot kernels do.
    Int8,
    /// As ggml's plain CPU kernels take them: for F16 matrices in f16, for Q4_0 and Q8_0 as Q8_0 blocks (32, an f16 scale), for K-quants as Q8_K
    /// blocks (256); and, since it is one choice of theirs, queries and attention weights in f16, and GELU from a table of f16.
    Ggml,
}

/// A weight matrix as its blocks mean it.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// How a backend would store it; decides only whether [`Inputs::Int8`] applies.
    pub format: Format,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub columns: usize,
    /// `[rows, columns]`.
    pub values: Vec<f32>,
}

/// One layer's cache: K and V, each `[page][kv head][position in page][head dim]`.
struct LayerKv {
    keys: Vec<f64>,
    values: Vec<f64>,
}

/// Interprets plans over batches; holds weights and the KV cache between steps.
pub struct Interpreter {
    matrices: BTreeMap<MatrixId, Matrix>,
    vectors: BTreeMap<VectorId, Vec<f64>>,
    layers: BTreeMap<u32, LayerKv>,
    adapters: BTreeMap<AdapterId, AdapterWeights>,
    kv: KvPrecision,
    inputs: Inputs,
}

/// Activation buffers of one step, one `Vec` a row.
struct Buffers {
    /// The residual stream, `[rows][dim]`.
    x: Vec<Vec<f64>>,
    /// Q heads, K heads, V heads, `[rows][qkv]`.
    qkv: Vec<Vec<f64>>,
    /// Attention's output, `[rows][heads · head_dim]`.
    att: Vec<Vec<f64>>,
    /// The feed-forward's hidden row, `[rows][ff]`.
    h: Vec<Vec<f64>>,
    /// `[outputs][out]`.
    out: Vec<Vec<f64>>,
}

impl Interpreter {
    /// An interpreter without weights.
    pub fn new(kv: KvPrecision, inputs: Inputs) -> Interpreter {
        Interpreter { matrices: BTreeMap::new(), vectors: BTreeMap::new(), layers: BTreeMap::new(), adapters: BTreeMap::new(), kv, inputs }
    }

    /// An interpreter that holds all weights of a backend under their ids, as the backend's blocks mean them. What a model
    /// loaded can so be judged without reading its file again.
    pub fn of(backend: &CpuBackend, kv: KvPrecision, inputs: Inputs) -> Interpreter {
        let mut interpreter = Interpreter::new(kv, inputs);
        for id in (0..).map(MatrixId) {
            let Some((spec, values)) = backend.matrix_values(id) else { break };
            let matrix = Matrix { format: spec.format, rows: spec.rows, columns: spec.columns, values };
            interpreter.set_matrix(id, matrix);
        }
        for id in (0..).map(VectorId) {
            let Some(values) = backend.vector_values(id) else { break };
            interpreter.set_vector(id, values);
        }
        interpreter
    }

    /// Gives the matrix that plans call `id`.
    pub fn set_matrix(&mut self, id: MatrixId, matrix: Matrix) {
        assert_eq!(matrix.values.len(), matrix.rows * matrix.columns, "matrix {id:?}: values are not rows × columns");
        self.matrices.insert(id, matrix);
    }

    /// Gives the vector that plans call `id`.
    pub fn set_vector(&mut self, id: VectorId, values: &[f32]) {
        self.vectors.insert(id, values.iter().map(|&v| v as f64).collect());
    }

    /// Allocates the cache. What was never written reads as NaN, so that a plan that looks there shows it.
    pub fn allocate_kv(&mut self, groups: &[KvGroup]) {
        for group in groups {
            let len = group.pages as usize * group.kv_heads as usize * PAGE_LEN * group.head_dim as usize;
            for &layer in &group.layers {
                self.layers.insert(layer, LayerKv { keys: vec![f64::NAN; len], values: vec![f64::NAN; len] });
            }
        }
    }

    /// Gives the adapter that batches call `id`.
    pub fn adapt(&mut self, id: AdapterId, adapter: AdapterWeights) {
        self.adapters.insert(id, adapter);
    }

    /// Runs one step and returns OUT, `[outputs][plan.widths.out]`.
    pub fn run(&mut self, plan: &Plan, batch: &Batch) -> Vec<Vec<f64>> {
        let rows = batch.rows.len();
        let widths = &plan.widths;
        let mut b = Buffers {
            x: vec![vec![f64::NAN; widths.dim as usize]; rows],
            qkv: vec![vec![f64::NAN; widths.qkv as usize]; rows],
            att: vec![vec![f64::NAN; widths.attention as usize]; rows],
            h: vec![vec![f64::NAN; widths.ff as usize]; rows],
            out: Vec::new(),
        };
        for (index, op) in plan.ops.iter().enumerate() {
            self.run_op(index, op, batch, &mut b);
        }
        b.out
    }

    fn run_op(&mut self, index: usize, op: &Op, batch: &Batch, b: &mut Buffers) {
        let rows = batch.rows.len();
        match op {
            Op::Embed { table, scale, segments, positions, norm } => {
                for (x, row) in b.x.iter_mut().zip(&batch.rows) {
                    let token = self.token(row);
                    *x = self.matrix_row(*table, token).into_iter().map(|v| v * *scale as f64).collect();
                    if let Some(segments) = segments {
                        add(x, &self.matrix_row(*segments, row.segment));
                    }
                    if let Some(positions) = positions {
                        add(x, &self.matrix_row(*positions, row.position));
                    }
                    *x = self.norm(norm.as_ref(), x);
                }
            }
            Op::NormQkv { norm, linear } => {
                for i in 0..rows {
                    b.qkv[i] = self.adapted(index, batch, i, linear, &self.norm(norm.as_ref(), &b.x[i]));
                }
            }
            Op::RopeWrite { rope, qk_norm, attention } => {
                for (qkv, row) in b.qkv.iter_mut().zip(&batch.rows) {
                    self.rope_write(rope.as_ref(), qk_norm.as_ref(), attention, batch, row, qkv);
                }
            }
            Op::Attend { attention } => {
                for i in 0..rows {
                    b.att[i] = self.attend(attention, batch, &batch.rows[i], &b.qkv[i]);
                }
            }
            Op::ProjectResidual { linear, join } => {
                for i in 0..rows {
                    let y = self.adapted(index, batch, i, linear, &b.att[i]);
                    b.x[i] = self.join(join, &b.x[i], &y);
                }
            }
            Op::NormGatedUp { norm, linear, activation, gated } => {
                for i in 0..rows {
                    let y = self.adapted(index, batch, i, linear, &self.norm(norm.as_ref(), &b.x[i]));
                    b.h[i] = if *gated {
                        let (gate, up) = y.split_at(y.len() / 2);
                        gate.iter().zip(up).map(|(&g, &u)| self.activate(*activation, g) * u).collect()
                    } else {
                        y.into_iter().map(|v| self.activate(*activation, v)).collect()
                    };
                }
            }
            Op::DownResidual { linear, join } => {
                for i in 0..rows {
                    let y = self.adapted(index, batch, i, linear, &b.h[i]);
                    b.x[i] = self.join(join, &b.x[i], &y);
                }
            }
            Op::Head { norm, linear, softcap } => {
                b.out = batch
                    .outputs
                    .iter()
                    .map(|&i| {
                        let mut y = self.adapted(index, batch, i as usize, linear, &self.norm(norm.as_ref(), &b.x[i as usize]));
                        if let Some(c) = softcap.map(f64::from) {
                            y.iter_mut().for_each(|v| *v = c * (*v / c).tanh());
                        }
                        y
                    })
                    .collect();
            }
            Op::States { norm } => {
                b.out = batch.outputs.iter().map(|&i| self.norm(norm.as_ref(), &b.x[i as usize])).collect();
            }
        }
    }

    /// What ggml keeps in f16.
    fn half(&self, x: f64) -> f64 {
        if self.inputs == Inputs::Ggml { round_to_half(x) } else { x }
    }

    fn activate(&self, activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::GeluTanh | Activation::GeluErf => self.half(activate(activation, self.half(x))),
            Activation::Silu => activate(activation, x),
        }
    }

    fn token(&self, row: &Row) -> u32 {
        match row.token {
            RowToken::Known(id) => id,
            RowToken::Slot(slot) => panic!("the interpreter draws nothing into {slot:?}"),
        }
    }

    fn matrix(&self, id: MatrixId) -> &Matrix {
        self.matrices.get(&id).unwrap_or_else(|| panic!("the plan names {id:?}, which was never given"))
    }

    fn vector(&self, id: VectorId) -> &[f64] {
        self.vectors.get(&id).unwrap_or_else(|| panic!("the plan names {id:?}, which was never given"))
    }

    fn matrix_row(&self, id: MatrixId, row: u32) -> Vec<f64> {
        let m = self.matrix(id);
        assert!((row as usize) < m.rows, "row {row} of {id:?}, which has {}", m.rows);
        m.values[row as usize * m.columns..][..m.columns].iter().map(|&v| v as f64).collect()
    }

    fn norm(&self, norm: Option<&Norm>, x: &[f64]) -> Vec<f64> {
        let n = x.len() as f64;
        match norm {
            None => x.to_vec(),
            Some(Norm::Rms { gain, eps }) => rms_norm(x, self.vector(*gain), *eps),
            Some(Norm::Layer { gain, bias, eps }) => {
                let mean = x.iter().sum::<f64>() / n;
                let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                let inverse = 1.0 / (variance + *eps as f64).sqrt();
                let (gain, bias) = (self.vector(*gain), self.vector(*bias));
                x.iter().zip(gain).zip(bias).map(|((v, g), b)| (v - mean) * inverse * g + b).collect()
            }
        }
    }

    fn join(&self, join: &Join, x: &[f64], y: &[f64]) -> Vec<f64> {
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<_>>();
        match join {
            Join::Add => sum(x, y),
            Join::NormThenAdd(norm) => sum(x, &self.norm(Some(norm), y)),
            Join::AddThenNorm(norm) => self.norm(Some(norm), &sum(x, y)),
        }
    }

    /// A linear's product, and what the row's adapter adds to that of op `index`. Adapters take their inputs as computed.
    fn adapted(&self, index: usize, batch: &Batch, row: usize, linear: &Linear, x: &[f64]) -> Vec<f64> {
        let mut y = self.linear(linear, x);
        let Some(id) = batch.sequences[batch.rows[row].sequence as usize].adapter else { return y };
        let adapter = self.adapters.get(&id).unwrap_or_else(|| panic!("the batch names {id:?}, which was never given"));
        for part in adapter.parts.iter().filter(|part| part.op as usize == index) {
            let dot = |row: &[f32], x: &[f64]| row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum::<f64>();
            let low: Vec<f64> = part.a.chunks_exact(part.columns as usize).map(|a| dot(a, x)).collect();
            for (y, b) in y[part.first_row as usize..].iter_mut().zip(part.b.chunks_exact(part.rank as usize)) {
                *y += dot(b, &low);
            }
        }
        y
    }

    fn linear(&self, linear: &Linear, x: &[f64]) -> Vec<f64> {
        assert_eq!(x.len(), linear.columns as usize, "inputs of a linear");
        let int8 = (self.inputs == Inputs::Int8).then(|| round_to_int8(x));
        let mut y = vec![f64::NAN; linear.rows as usize];
        for &(id, first_row) in &linear.parts {
            let m = self.matrix(id);
            assert_eq!(m.columns, x.len(), "columns of {id:?}");
            let ggml = (self.inputs == Inputs::Ggml).then(|| round_as_ggml(m.format, x));
            let x = match &int8 {
                Some(rounded) if m.format.is_quantised() => rounded,
                _ => ggml.as_deref().unwrap_or(x),
            };
            for (out, w) in y[first_row as usize..].iter_mut().zip(m.values.chunks_exact(m.columns)) {
                *out = w.iter().zip(x).map(|(&w, &x)| w as f64 * x).sum();
            }
        }
        if let Some(bias) = linear.bias {
            add(&mut y, self.vector(bias));
        }
        y
    }

    fn rope_write(
        &mut self,
        rope: Option<&Rope>,
        qk_norm: Option<&(VectorId, VectorId, f32)>,
        a: &Attention,
        batch: &Batch,
        row: &Row,
        qkv: &mut [f64],
    ) {
        let (heads, kv_heads, dim) = (a.heads as usize, a.kv_heads as usize, a.head_dim as usize);
        assert_eq!(qkv.len(), (heads + 2 * kv_heads) * dim, "QKV of layer {}", a.layer);
        for (index, head) in qkv.chunks_exact_mut(dim).take(heads + kv_heads).enumerate() {
            if let Some((q_gain, k_gain, eps)) = qk_norm {
                let gain = self.vector(if index < heads { *q_gain } else { *k_gain });
                head.copy_from_slice(&rms_norm(head, gain, *eps));
            }
            if let Some(rope) = rope {
                rotate(rope, self.vector(rope.frequencies), row.position, head);
            }
        }
        let page = page_of(batch, row, a.group, row.position);
        let layer = self.layers.get_mut(&a.layer).unwrap_or_else(|| panic!("layer {} has no cache", a.layer));
        for head in 0..kv_heads {
            let at = ((page.0 as usize * kv_heads + head) * PAGE_LEN + row.position as usize % PAGE_LEN) * dim;
            layer.keys[at..][..dim].copy_from_slice(&self.kv.round(&qkv[(heads + head) * dim..][..dim]));
            layer.values[at..][..dim].copy_from_slice(&self.kv.round(&qkv[(heads + kv_heads + head) * dim..][..dim]));
        }
    }

    fn attend(&self, a: &Attention, batch: &Batch, row: &Row, qkv: &[f64]) -> Vec<f64> {
        let (heads, kv_heads, dim) = (a.heads as usize, a.kv_heads as usize, a.head_dim as usize);
        let layer = &self.layers[&a.layer];
        let length = batch.sequences[row.sequence as usize].length;
        let seen = if a.causal { row.position + 1 } else { length };
        let first = match a.window {
            Some(window) => (row.position + 1).saturating_sub(window),
            None => 0,
        };
        let mut out = Vec::with_capacity(heads * dim);
        for head in 0..heads {
            let q: Vec<f64> = qkv[head * dim..][..dim].iter().map(|&q| self.half(q)).collect();
            let kv_head = head / (heads / kv_heads);
            let at = |position: u32| {
                let page = page_of(batch, row, a.group, position);
                ((page.0 as usize * kv_heads + kv_head) * PAGE_LEN + position as usize % PAGE_LEN) * dim
            };
            let scores: Vec<f64> = (first..seen)
                .map(|position| {
                    let k = &layer.keys[at(position)..][..dim];
                    let score = q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() * a.scale as f64;
                    match a.softcap.map(f64::from) {
                        Some(c) => c * (score / c).tanh(),
                        None => score,
                    }
                })
                .collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut sum = vec![0.0; dim];
            for (position, weight) in (first..seen).zip(&weights) {
                let v = &layer.values[at(position)..][..dim];
                sum.iter_mut().zip(v).for_each(|(s, v)| *s += self.half(weight / total) * v);
            }
            out.extend(sum);
        }
        out
    }
}

fn page_of(batch: &Batch, row: &Row, group: u32, position: u32) -> PageId {
    let table = &batch.sequences[row.sequence as usize].tables[group as usize];
    let page = table[position as usize / PAGE_LEN];
    assert_ne!(page, PageId::NONE, "sequence {} looks at position {position}, which its window let go", row.sequence);
    page
}

fn add(x: &mut [f64], y: &[f64]) {
    assert_eq!(x.len(), y.len(), "lengths of a sum");
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// x · (mean(x²) + eps)^−½ · g.
fn rms_norm(x: &[f64], gain: &[f64], eps: f32) -> Vec<f64> {
    assert_eq!(x.len(), gain.len(), "gain of a norm");
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    let inverse = 1.0 / (mean + eps as f64).sqrt();
    x.iter().zip(gain).map(|(v, g)| v * inverse * g).collect()
}

fn rotate(rope: &Rope, frequencies: &[f64], position: u32, head: &mut [f64]) {
    let half = rope.rotated as usize / 2;
    assert_eq!(frequencies.len(), half, "frequencies of a rope");
    for (i, frequency) in frequencies.iter().enumerate() {
        let (a, b) = match rope.pairs {
            RopePairs::Adjacent => (2 * i, 2 * i + 1),
            RopePairs::Halves => (i, i + half),
        };
        let (sin, cos) = (position as f64 * frequency).sin_cos();
        let (sin, cos) = (sin * rope.magnitude as f64, cos * rope.magnitude as f64);
        (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
    }
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::GeluErf => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
    }
}

/// The error function: its Maclaurin series where that converges fast, the continued fraction of erfc beyond. Error below 1e-14.
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < 2.5 {
        // erf x = 2/√π · e^(−x²) · Σ 2^n x^(2n+1) / (2n+1)!!, all terms positive.
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        return (std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() * sum).copysign(x);
    }
    // erfc x = e^(−x²)/√π · 1/(x + ½/(x + 1/(x + 1½/(x + …)))), from the innermost out.
    let fraction = (1..=60).rev().fold(a, |f, k| a + 0.5 * k as f64 / f);
    (1.0 - (-a * a).exp() * 0.5 * std::f64::consts::FRAC_2_SQRT_PI / fraction).copysign(x)
}

/// What a vector becomes when each 32 values share one scale and keep 8 bits. The scale is an f32, as kernels keep it.
fn round_to_int8(x: &[f64]) -> Vec<f64> {
    x.chunks(32)
        .flat_map(|block| {
            let largest = block.iter().fold(0f32, |m, &v| m.max((v as f32).abs()));
            let d = largest / 127.0;
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            block.iter().map(move |&v| (v as f32 * inverse).round_ties_even() as f64 * d as f64).collect::<Vec<_>>()
        })
        .collect()
}

/// What a vector becomes on its way into a matrix of this format in ggml's CPU kernels.
fn round_as_ggml(format: Format, x: &[f64]) -> Vec<f64> {
    let by_blocks = |columns: usize, round: &dyn Fn(&[f64]) -> Vec<f64>| x.chunks(columns).flat_map(round).collect();
    match format {
        Format::F32 => x.to_vec(),
        Format::F16 => x.iter().map(|&v| round_to_half(v)).collect(),
        // quantize_row_q8_0: codes by the f32 scale, which is kept as f16.
        Format::Q4_0 | Format::Q8_0 => by_blocks(32, &|block| {
            let d = block.iter().fold(0f32, |m, &v| m.max((v as f32).abs())) / 127.0;
            let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
            block.iter().map(|&v| f64::from((v as f32 * inverse).round()) * round_to_half(d.into())).collect()
        }),
        // quantize_row_q8_K: the value of the largest magnitude becomes −127.
        Format::Q4K | Format::Q6K => by_blocks(256, &|block| {
            let largest = block.iter().fold(0f32, |m, &v| if (v as f32).abs() > m.abs() { v as f32 } else { m });
            let inverse = if largest == 0.0 { 0.0 } else { -127.0 / largest };
            let d = if inverse == 0.0 { 0.0 } else { 1.0 / inverse };
            block.iter().map(|&v| f64::from((v as f32 * inverse).round_ties_even().min(127.0)) * f64::from(d)).collect()
        }),
    }
}

fn round_to_half(x: f64) -> f64 {
    f16::from_f64(x).to_f64()
}

/// Normalised mean squared error: Σ(got − want)² / Σ want².
pub fn nmse(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "lengths to compare");
    let error: f64 = got.iter().zip(want).map(|(&g, &w)| (g as f64 - w).powi(2)).sum();
    error / want.iter().map(|w| w * w).sum::<f64>().max(f64::MIN_POSITIVE)
}

/// max|got − want| / max|want|, the measure of bounds on logits.
pub fn largest_error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "lengths to compare");
    let error = got.iter().zip(want).fold(0f64, |m, (&g, &w)| if g.is_nan() { f64::INFINITY } else { m.max((g as f64 - w).abs()) });
    error / want.iter().fold(f64::MIN_POSITIVE, |m, w| m.max(w.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_has_its_published_values() {
        // Abramowitz and Stegun, table 7.1.
        for (x, want) in
            [(0.0, 0.0), (0.5, 0.5204998778), (1.0, 0.8427007929), (2.0, 0.9953222650), (2.5, 0.9995930480), (3.5, 0.9999992569)]
        {
            assert!((erf(x) - want).abs() < 1e-10, "erf({x})");
            assert!((erf(-x) + want).abs() < 1e-10, "erf(-{x})");
        }
    }

    #[test]
    fn rope_turns_pairs_by_their_angle() {
        for (pairs, at) in [(RopePairs::Adjacent, (2, 3)), (RopePairs::Halves, (1, 3))] {
            let rope = Rope { frequencies: VectorId(0), rotated: 4, pairs, magnitude: 2.0 };
            let mut head = [0.0; 6];
            head[at.0] = 1.0;
            head[5] = 7.0;
            rotate(&rope, &[1.0, std::f64::consts::FRAC_PI_6], 3, &mut head);
            assert!((head[at.0]).abs() < 1e-12 && (head[at.1] - 2.0).abs() < 1e-12 && head[5] == 7.0);
        }
    }
}
