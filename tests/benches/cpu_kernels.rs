//! The CPU backend alone: steps of a 12-layer, 768-wide Llama (32,000 tokens, random weights) for every format and
//! instruction set. `cargo xtask bench kernels [-- FILTER…]`; a filter is part of a format's or a set's name.
//!
//! One thread's time is what the scheduler says it ran, so that a busy machine disturbs little; figures are the best of
//! several steps. GMAC/s counts the multiply-adds of all weight matrices, GB/s the bytes of weights that a step passes over once.

use std::time::Instant;

use firecrest_engine::Format;
use firecrest_engine::backend::cpu::{CpuBackend, CpuOptions, InstructionSet};
use firecrest_engine::backend::{Backend, MatrixId, MatrixSpec};
use firecrest_engine::batch::{Batch, Class, Row, RowToken, SequenceView};
use firecrest_engine::kv::{KvFormat, KvGroup, PAGE_LEN, PageId};
use firecrest_engine::model::plan::{Activation, Attention, Join, Linear, Norm, Op, Plan, PlanKind, Rope, RopePairs, Widths};
use firecrest_tests::random::Random;
use firecrest_tests::world::random_blocks;

const DIM: usize = 768;
const LAYERS: u32 = 12;
const HEADS: usize = 12;
const HEAD_DIM: usize = 64;
const FF: usize = 2048;
const VOCABULARY: usize = 32_000;

/// Seconds that this thread ran, or that went by where the system doesn't say.
fn seconds(since: Instant) -> f64 {
    let ran = if cfg!(target_os = "linux") { std::fs::read_to_string("/proc/thread-self/schedstat").ok() } else { None };
    let nanoseconds = ran.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| since.elapsed().as_secs_f64(), |ns| ns / 1e9)
}

/// The best of as many runs as fit into a second or so, at least three.
fn best(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    let mut runs = 0;
    while runs < 3 || start.elapsed().as_secs_f64() < 1.5 {
        let before = seconds(start);
        run();
        best = best.min(seconds(start) - before);
        runs += 1;
    }
    best
}

fn matrix(backend: &mut Backend, format: Format, rows: usize, columns: usize, random: &mut Random) -> MatrixId {
    let spec = MatrixSpec { name: format!("{format} {rows}×{columns}"), rows, columns, format };
    let id = backend.matrix(&spec).expect("memory for weights");
    // One row's blocks again and again: speed doesn't depend on what weights say.
    let row = random_blocks(format, 1, columns, random);
    for first in 0..rows {
        backend.write_rows(id, first, &row).expect("rows of the format");
    }
    id
}

fn llama(backend: &mut Backend, format: Format, random: &mut Random) -> Plan {
    let whole =
        |id: MatrixId, rows: usize, columns: usize| Linear { parts: vec![(id, 0)], columns: columns as u32, rows: rows as u32, bias: None };
    let gain = backend.vector("gain", &[1.0; DIM]).expect("a vector");
    let norm = Some(Norm::Rms { gain, eps: 1e-5 });
    let frequencies: Vec<f32> = (0..HEAD_DIM / 2).map(|i| 10_000f32.powf(-2.0 * i as f32 / HEAD_DIM as f32)).collect();
    let frequencies = backend.vector("frequencies", &frequencies).expect("a vector");
    let rope = Some(Rope { frequencies, rotated: HEAD_DIM as u32, pairs: RopePairs::Adjacent, magnitude: 1.0 });
    let table = matrix(backend, format, VOCABULARY, DIM, random);
    let mut ops = vec![Op::Embed { table, scale: 1.0, segments: None, positions: None, norm: None }];
    for layer in 0..LAYERS {
        let (heads, head_dim) = (HEADS as u32, HEAD_DIM as u32);
        let attention =
            Attention { layer, group: 0, heads, kv_heads: heads, head_dim, window: None, scale: 0.125, softcap: None, causal: true };
        ops.push(Op::NormQkv { norm, linear: whole(matrix(backend, format, 3 * DIM, DIM, random), 3 * DIM, DIM) });
        ops.push(Op::RopeWrite { rope, qk_norm: None, attention });
        ops.push(Op::Attend { attention });
        ops.push(Op::ProjectResidual { linear: whole(matrix(backend, format, DIM, DIM, random), DIM, DIM), join: Join::Add });
        let linear = whole(matrix(backend, format, 2 * FF, DIM, random), 2 * FF, DIM);
        ops.push(Op::NormGatedUp { norm, linear, activation: Activation::Silu, gated: true });
        ops.push(Op::DownResidual { linear: whole(matrix(backend, format, DIM, FF, random), DIM, FF), join: Join::Add });
    }
    ops.push(Op::Head { norm, linear: whole(table, VOCABULARY, DIM), softcap: None });
    let widths = Widths { dim: DIM as u32, qkv: 3 * DIM as u32, attention: DIM as u32, ff: FF as u32, out: VOCABULARY as u32 };
    Plan { kind: PlanKind::Logits, ops, widths }
}

/// A step of `sequences` decode rows after `before` positions, or of one prompt of `prompt` rows.
fn batch(sequences: usize, before: usize, prompt: usize) -> Batch {
    let mut batch = Batch::default();
    let blocks = (before + prompt + 1).div_ceil(PAGE_LEN);
    for s in 0..sequences {
        let table = (0..blocks).map(|b| PageId((s * blocks + b) as u32)).collect();
        let length = if prompt > 0 { prompt } else { before + 1 } as u32;
        batch.sequences.push(SequenceView { length, tables: vec![table], adapter: None });
        let (positions, class) = if prompt > 0 { (0..length, Class::Prompt) } else { (length - 1..length, Class::Generated) };
        for position in positions {
            let token = RowToken::Known(position * 7919 % 250);
            batch.rows.push(Row { sequence: s as u32, position, token, class, segment: 0 });
        }
        batch.outputs.push(batch.rows.len() as u32 - 1);
    }
    batch
}

fn main() {
    let filters: Vec<String> = std::env::args().skip(1).map(|f| f.to_lowercase()).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.to_lowercase().contains(f.as_str()));
    println!("{:<13} {:<6} {:>22} {:>10} {:>8} {:>7}", "set", "format", "step", "tokens/s", "GMAC/s", "GB/s");
    for set in InstructionSet::available().into_iter().rev() {
        for format in Format::ALL {
            if !wanted(&format!("{} {format}", set.name())) {
                continue;
            }
            let options = CpuOptions { threads: Some(1), instruction_set: Some(set) };
            let mut backend = Backend::Cpu(CpuBackend::new(options).expect("the set is available"));
            let plan = llama(&mut backend, format, &mut Random::new(1));
            let in_layers = LAYERS as usize * (3 * DIM * DIM + DIM * DIM + 3 * DIM * FF);
            let (f16, int8) = (KvFormat::F16, KvFormat::Int8);
            let cases = [
                (1, 128, 0, "decode", f16),
                (8, 128, 0, "decode 8 sequences", f16),
                (1, 3000, 0, "decode after 3000", f16),
                (1, 3000, 0, "the same, int8 cache", int8),
                (1, 0, 128, "prompt of 128", f16),
                (1, 0, 1024, "prompt of 1024", f16),
                (1, 0, 1024, "the same, int8 cache", int8),
            ];
            for (sequences, before, prompt, name, kv) in cases {
                let group = KvGroup { layers: (0..LAYERS).collect(), window: None, kv_heads: 12, head_dim: 64, format: kv, pages: 256 };
                backend.allocate_kv(&[group]).expect("memory for the cache");
                let batch = batch(sequences, before, prompt);
                let step = best(|| pollster::block_on(backend.run(&plan, &batch)).expect("the step runs"));
                let (rows, outputs) = (batch.rows.len(), batch.outputs.len());
                // As floats: a prompt's products don't fit the 32 bits of a wasm usize.
                let products = in_layers as f64 * rows as f64 + (DIM * VOCABULARY * outputs) as f64;
                let bytes = format.row_bytes(in_layers + DIM * VOCABULARY);
                println!(
                    "{:<13} {:<6} {name:>22} {:>10.1} {:>8.1} {:>7.2}",
                    set.name(),
                    format.name(),
                    rows as f64 / step,
                    products / step / 1e9,
                    bytes as f64 / step / 1e9
                );
            }
        }
    }
}
