//! One case table per op, over every backend here, with the float64 interpreter as judge; and invariance, bit for bit.
//!
//! A subject states its roundings (whether it takes inputs of quantised matrices in 8 bits), the interpreter makes the same
//! ones, and what is left must be f32 arithmetic.

#[path = "ops/attention.rs"]
mod attention;

use std::collections::BTreeMap;

use firecrest_engine::Format;
use firecrest_engine::backend::cpu::{CpuBackend, CpuOptions, InstructionSet};
use firecrest_engine::backend::gpu::Without;
use firecrest_engine::backend::{Backend, Outputs, VectorId};
use firecrest_engine::batch::{Batch, Class, Row, RowToken, SequenceView, Slot};
use firecrest_engine::kv::{KvFormat, KvGroup, PAGE_LEN, PageId};
use firecrest_engine::model::plan::{Activation, Attention, Join, Linear, Norm, Op, Plan, PlanKind, Rope, RopePairs, Widths};
use firecrest_tests::adapters::{quick_software, with_backend};
use firecrest_tests::interpreter::{Inputs, KvPrecision, largest_error, nmse};
use firecrest_tests::random::Random;
use firecrest_tests::world::World;

use attention::{Sequences, group_of};

/// Something that runs plans.
struct Subject {
    name: String,
    make: Box<dyn Fn() -> Backend>,
    /// The rounding it makes of inputs to quantised matrices.
    inputs: Inputs,
}

/// Every backend, instruction set and adapter that this machine can run.
fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    for set in InstructionSet::available() {
        for threads in [1, 2] {
            let options = CpuOptions { threads: Some(threads), instruction_set: Some(set) };
            subjects.push(Subject {
                name: format!("cpu {} × {threads}", set.name()),
                make: Box::new(move || Backend::Cpu(CpuBackend::new(options).expect("a CPU backend"))),
                inputs: Inputs::Int8,
            });
        }
    }
    subjects
}

fn run(backend: &mut Backend, plan: &Plan, batch: &Batch) -> Vec<f32> {
    let mut outputs = Outputs::default();
    pollster::block_on(async {
        backend.run(plan, batch).await?;
        backend.read(&mut outputs).await
    })
    .expect("the step runs");
    outputs.values
}

/// Runs the batches in order on every subject and on the interpreter, and compares each step's OUT.
/// `bound` is on max|Δ| / max|want|.
fn judge(case: &str, world: &World, plan: &Plan, batches: &[Batch], bound: f64) {
    let mut wants: BTreeMap<bool, Vec<Vec<f64>>> = BTreeMap::new();
    for subject in subjects() {
        let wants = wants.entry(subject.inputs == Inputs::Int8).or_insert_with(|| {
            let mut interpreter = world.interpreter(KvPrecision::of(world.kv_format()), subject.inputs);
            batches.iter().map(|batch| interpreter.run(plan, batch).concat()).collect()
        });
        let mut backend = (subject.make)();
        world.upload(&mut backend).expect("weights upload");
        for (step, (batch, want)) in batches.iter().zip(wants).enumerate() {
            let got = run(&mut backend, plan, batch);
            assert_eq!(got.len(), want.len(), "{case}, {}, step {step}: values in OUT", subject.name);
            agrees(&format!("{case}, {}, step {step}", subject.name), &got, want, bound, world.kv_format());
        }
    }
    judge_adapters(case, world, plan, batches, bound);
}

/// The same on every GPU adapter, whose kernels take inputs as they are.
fn judge_adapters(case: &str, world: &World, plan: &Plan, batches: &[Batch], bound: f64) {
    let mut interpreter = world.interpreter(KvPrecision::of(world.kv_format()), Inputs::Exact);
    let wants: Vec<Vec<f64>> = batches.iter().map(|batch| interpreter.run(plan, batch).concat()).collect();
    for adapter in quick_software(case) {
        with_backend(adapter, Without::default(), |backend| {
            world.upload(backend).expect("weights upload");
            for (step, (batch, want)) in batches.iter().zip(&wants).enumerate() {
                let got = run(backend, plan, batch);
                assert_eq!(got.len(), want.len(), "{case}, {adapter}, step {step}: values in OUT");
                agrees(&format!("{case}, {adapter}, step {step}"), &got, want, bound.max(GPU_BOUND), world.kv_format());
            }
        });
    }
}

/// What 8-bit caches leave, as NMSE: a value that lies between two codes may be rounded otherwise here than in f64, by a 127th of its head.
/// Few do; what codes change at all is tested to be ten times this.
const INT8_NMSE: f64 = 5e-8;
/// One such value.
const INT8_BOUND: f64 = 2e-3;

fn agrees(what: &str, got: &[f32], want: &[f64], bound: f64, kv: KvFormat) {
    let (error, nmse) = (largest_error(got, want), nmse(got, want));
    match kv {
        KvFormat::F16 => assert!(error <= bound, "{what}: {error:.2e} is past {bound:.2e}, NMSE {nmse:.2e}"),
        KvFormat::Int8 => {
            assert!(nmse <= INT8_NMSE && error <= bound.max(INT8_BOUND), "{what}: NMSE {nmse:.2e}, largest error {error:.2e}");
        }
    }
}

/// f32 arithmetic in another order.
const F32_BOUND: f64 = 3e-6;

/// The same on GPUs, whose exponentials and roots are a few units off and whose fma need not be fused.
const GPU_BOUND: f64 = 2e-5;

/// Rows that feed tokens 0.. of one sequence, all with outputs, no cache.
fn rows_of_tokens(count: u32) -> Batch {
    let rows = (0..count).map(|i| Row { sequence: 0, position: i, token: RowToken::Known(i), class: Class::Prompt, segment: 0 }).collect();
    let sequences = vec![SequenceView { length: count, tables: vec![], adapter: None }];
    Batch { rows, sequences, outputs: (0..count).collect(), ..Batch::default() }
}

fn whole(id: firecrest_engine::backend::MatrixId, rows: usize, columns: usize) -> Linear {
    Linear { parts: vec![(id, 0)], columns: columns as u32, rows: rows as u32, bias: None }
}

fn widths(dim: usize, out: usize) -> Widths {
    Widths { dim: dim as u32, qkv: 0, attention: 0, ff: 0, out: out as u32 }
}

/// An F32 table whose rows are the inputs of a case.
fn embed(world: &mut World, rows: usize, dim: usize, random: &mut Random) -> Op {
    let values = random.values(rows * dim, 2.0).iter().flat_map(|v| v.to_le_bytes()).collect();
    let table = world.blocks(Format::F32, rows, dim, values);
    Op::Embed { table, scale: 1.0, segments: None, positions: None, norm: None }
}

#[test]
fn products_of_every_format_size_and_row_count() {
    let mut random = Random::new(1);
    let sizes = |format: Format| -> &[(usize, usize)] {
        match format.block_len() {
            1 => &[(1, 1), (7, 3), (16, 32), (19, 33), (40, 100), (129, 64)],
            32 => &[(1, 32), (16, 64), (17, 96), (33, 256), (129, 160)],
            _ => &[(1, 256), (16, 512), (33, 768), (129, 256)],
        }
    };
    for format in Format::ALL {
        for &(rows, columns) in sizes(format) {
            let counts: &[u32] = if rows == 33 || rows == 40 { &[1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 33, 100, 130] } else { &[1, 3, 6] };
            let mut world = World::default();
            let most = counts.iter().copied().max().unwrap_or(1);
            let embed = embed(&mut world, most as usize, columns, &mut random);
            let matrix = world.matrix(format, rows, columns, &mut random);
            let head = Op::Head { norm: None, linear: whole(matrix, rows, columns), softcap: None };
            let plan = Plan { kind: PlanKind::Logits, ops: vec![embed, head], widths: widths(columns, rows) };
            let batches: Vec<Batch> = counts.iter().map(|&n| rows_of_tokens(n)).collect();
            judge(&format!("{format} {rows}×{columns}"), &world, &plan, &batches, F32_BOUND);
        }
    }
}

#[test]
fn products_in_parts_with_bias_norm_and_softcap() {
    let mut random = Random::new(2);
    for norm in [false, true] {
        for formats in [[Format::Q4_0, Format::Q6K, Format::F16], [Format::F32, Format::Q4K, Format::Q8_0]] {
            let (dim, rows) = (512, [21, 16, 35]);
            let mut world = World::default();
            let embed = embed(&mut world, 9, dim, &mut random);
            let mut parts = Vec::new();
            let mut first = 0;
            for (format, rows) in formats.into_iter().zip(rows) {
                parts.push((world.matrix(format, rows, dim, &mut random), first));
                first += rows as u32;
            }
            let bias = world.vector(random.values(first as usize, 1.0));
            let linear = Linear { parts, columns: dim as u32, rows: first, bias: Some(bias) };
            let gain = world.vector(random.values(dim, 1.0));
            let norm = norm.then_some(Norm::Rms { gain, eps: 1e-5 });
            let head = Op::Head { norm, linear, softcap: Some(1.5) };
            let plan = Plan { kind: PlanKind::Logits, ops: vec![embed, head], widths: widths(dim, first as usize) };
            let mut batch = rows_of_tokens(9);
            batch.outputs = vec![1, 2, 4, 8];
            // A rounding to 8 bits may flip where the norm's last bit differs: one step of one input.
            let bound = if norm.is_some() { 2e-3 } else { F32_BOUND };
            judge(&format!("parts {formats:?} {norm:?}"), &world, &plan, &[batch], bound);
        }
    }
}

#[test]
fn embeddings_of_every_format() {
    let mut random = Random::new(3);
    for format in Format::ALL {
        let (vocabulary, dim) = (37, 256);
        let mut world = World::default();
        let table = world.matrix(format, vocabulary, dim, &mut random);
        let segments = world.matrix(Format::F32, 2, dim, &mut random);
        let positions = world.matrix(Format::F16, 40, dim, &mut random);
        let (gain, bias) = (world.vector(random.values(dim, 1.0)), world.vector(random.values(dim, 1.0)));
        let mut batch = rows_of_tokens(37);
        batch.rows.iter_mut().for_each(|row| row.segment = row.position % 2);
        let plain = Op::Embed { table, scale: 3.5, segments: None, positions: None, norm: None };
        let norm = Some(Norm::Layer { gain, bias, eps: 1e-12 });
        let bert = Op::Embed { table, scale: 1.0, segments: Some(segments), positions: Some(positions), norm };
        for op in [plain, bert] {
            let plan = Plan { kind: PlanKind::States, ops: vec![op, Op::States { norm: None }], widths: widths(dim, dim) };
            judge(&format!("embedding {format}"), &world, &plan, std::slice::from_ref(&batch), F32_BOUND);
        }
    }
}

#[test]
fn norms_of_odd_widths() {
    let mut random = Random::new(4);
    for dim in [1, 7, 16, 31, 48, 100, 1000] {
        let mut world = World::default();
        let embed = embed(&mut world, 5, dim, &mut random);
        let (gain, bias) = (world.vector(random.values(dim, 1.0)), world.vector(random.values(dim, 1.0)));
        for norm in [Norm::Rms { gain, eps: 1e-5 }, Norm::Layer { gain, bias, eps: 1e-5 }] {
            let ops = vec![embed.clone(), Op::States { norm: Some(norm) }];
            let plan = Plan { kind: PlanKind::States, ops, widths: widths(dim, dim) };
            judge(&format!("{norm:?} of {dim}"), &world, &plan, &[rows_of_tokens(5)], 1e-5);
        }
    }
}

#[test]
fn gates_activations_and_joins() {
    let mut random = Random::new(5);
    let every = [Activation::Silu, Activation::GeluTanh, Activation::GeluErf];
    for (dim, ff, formats) in [(48, 100, [Format::F32; 2]), (256, 512, [Format::Q4_0, Format::Q6K]), (64, 288, [Format::F16, Format::Q8_0])]
    {
        for activation in every {
            for gated in [false, true] {
                for join in 0..3 {
                    let mut world = World::default();
                    let embed = embed(&mut world, 7, dim, &mut random);
                    let up_rows = if gated { 2 * ff } else { ff };
                    let mut up = whole(world.matrix(formats[0], up_rows, dim, &mut random), up_rows, dim);
                    up.bias = Some(world.vector(random.values(up_rows, 4.0)));
                    let mut down = whole(world.matrix(formats[1], dim, ff, &mut random), dim, ff);
                    down.bias = Some(world.vector(random.values(dim, 1.0)));
                    let (gain, bias) = (world.vector(random.values(dim, 1.0)), world.vector(random.values(dim, 1.0)));
                    let join = match join {
                        0 => Join::Add,
                        1 => Join::NormThenAdd(Norm::Rms { gain, eps: 1e-6 }),
                        _ => Join::AddThenNorm(Norm::Layer { gain, bias, eps: 1e-6 }),
                    };
                    let ops = vec![
                        embed,
                        Op::NormGatedUp { norm: None, linear: up, activation, gated },
                        Op::DownResidual { linear: down, join },
                        Op::States { norm: None },
                    ];
                    let widths = Widths { ff: ff as u32, ..widths(dim, dim) };
                    let plan = Plan { kind: PlanKind::States, ops, widths };
                    let bound = if formats[1].is_quantised() { 2e-3 } else { 1e-5 };
                    let case = format!("{activation:?} gated={gated} {join:?} {formats:?}");
                    judge(&case, &world, &plan, &[rows_of_tokens(7)], bound);
                }
            }
        }
    }
}

/// A model of two layers in two KV groups, one with a window, and mixed formats.
fn small_model(world: &mut World, kv: KvFormat, random: &mut Random) -> Plan {
    let (dim, ff, vocabulary, heads, kv_heads, head_dim) = (256, 512, 101, 4, 2, 64);
    let (qkv, attention) = ((heads + 2 * kv_heads) * head_dim, heads * head_dim);
    let table = world.matrix(Format::Q6K, vocabulary, dim, random);
    let frequencies = world.vector((0..head_dim / 2).map(|i| 10_000f32.powf(-2.0 * i as f32 / head_dim as f32)).collect());
    let rope = Some(Rope { frequencies, rotated: head_dim as u32, pairs: RopePairs::Adjacent, magnitude: 1.0 });
    let gain = |world: &mut World, random: &mut Random| -> VectorId {
        world.vector(random.values(dim, 1.0).iter().map(|v| 1.0 + 0.2 * v).collect())
    };
    let mut ops = vec![Op::Embed { table, scale: 16.0, segments: None, positions: None, norm: None }];
    let mut groups = Vec::new();
    for (layer, formats) in [[Format::Q4_0, Format::Q8_0], [Format::Q4K, Format::F16]].into_iter().enumerate() {
        let window = (layer == 1).then_some(24);
        let a = Attention {
            layer: layer as u32,
            group: layer as u32,
            heads: heads as u32,
            kv_heads: kv_heads as u32,
            head_dim: head_dim as u32,
            window,
            scale: 0.125,
            softcap: None,
            causal: true,
        };
        groups.push(KvGroup { format: kv, ..group_of(&a, 400) });
        let norm = Some(Norm::Rms { gain: gain(world, random), eps: 1e-5 });
        ops.push(Op::NormQkv { norm, linear: whole(world.matrix(formats[0], qkv, dim, random), qkv, dim) });
        ops.push(Op::RopeWrite { rope, qk_norm: None, attention: a });
        ops.push(Op::Attend { attention: a });
        ops.push(Op::ProjectResidual { linear: whole(world.matrix(formats[1], dim, attention, random), dim, attention), join: Join::Add });
        let norm = Some(Norm::Rms { gain: gain(world, random), eps: 1e-5 });
        let linear = whole(world.matrix(formats[1], 2 * ff, dim, random), 2 * ff, dim);
        ops.push(Op::NormGatedUp { norm, linear, activation: Activation::Silu, gated: true });
        ops.push(Op::DownResidual { linear: whole(world.matrix(formats[0], dim, ff, random), dim, ff), join: Join::Add });
    }
    let norm = Some(Norm::Rms { gain: gain(world, random), eps: 1e-5 });
    ops.push(Op::Head { norm, linear: whole(table, vocabulary, dim), softcap: None });
    world.kv(groups);
    let widths = Widths { dim: dim as u32, qkv: qkv as u32, attention: attention as u32, ff: ff as u32, out: vocabulary as u32 };
    Plan { kind: PlanKind::Logits, ops, widths }
}

/// The small model's groups, for block tables.
fn small_groups() -> Vec<KvGroup> {
    (0..2)
        .map(|layer| KvGroup { layers: vec![layer], window: None, kv_heads: 2, head_dim: 64, format: KvFormat::F16, pages: 400 })
        .collect()
}

#[test]
fn a_sequence_has_the_same_bits_alone_among_others_and_cut_anywhere() {
    KvFormat::ALL.into_iter().for_each(is_itself_in_company);
}

fn is_itself_in_company(kv: KvFormat) {
    const VOCABULARY: u32 = 101;
    let mut world = World::default();
    let plan = small_model(&mut world, kv, &mut Random::new(9));
    let total = 90u32;
    // A sequence's logits by position, given in pieces, with `others` sequences that also move in every step.
    let logits_of = |options: CpuOptions, pieces: &[u32], others: usize, seed: u64| -> Vec<Vec<u32>> {
        let mut random = Random::new(seed);
        let mut backend = Backend::Cpu(CpuBackend::new(options).expect("a CPU backend"));
        world.upload(&mut backend).expect("weights upload");
        let mut sequences = Sequences::new(1 + others, &small_groups(), VOCABULARY, &mut random);
        let mut logits = Vec::new();
        for &piece in pieces {
            let mut lengths = vec![piece];
            lengths.extend((0..others).map(|_| [1, 1, 0, 3, 5][random.below(5)]));
            let batch = sequences.step(&lengths);
            let out = run(&mut backend, &plan, &batch);
            for (row, values) in batch.rows.iter().zip(out.chunks_exact(VOCABULARY as usize)) {
                if row.sequence == 0 {
                    logits.push(values.iter().map(|v| v.to_bits()).collect());
                }
            }
        }
        logits
    };
    for set in InstructionSet::available() {
        let options = |threads| CpuOptions { threads: Some(threads), instruction_set: Some(set) };
        let want = logits_of(options(1), &[total], 0, 1);
        assert_eq!(want.len(), total as usize);
        let ones = vec![1; total as usize];
        let mixed = [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 11, 1];
        for (threads, pieces, others, seed) in
            [(1, &ones[..], 0, 2), (1, &mixed, 0, 3), (1, &mixed, 31, 4), (2, &mixed, 31, 5), (3, &[total][..], 7, 6), (3, &ones, 3, 7)]
        {
            let got = logits_of(options(threads), pieces, others, seed);
            let differs = got.iter().zip(&want).position(|(g, w)| g != w);
            assert_eq!(differs, None, "{}, {kv}: {threads} threads, {others} others: the first position whose bits differ", set.name());
            assert_eq!(got.len(), want.len());
        }
    }
}

#[test]
fn a_small_model_agrees_with_the_interpreter() {
    let mut world = World::default();
    let mut random = Random::new(10);
    let plan = small_model(&mut world, KvFormat::F16, &mut random);
    let mut sequences = Sequences::new(3, &small_groups(), 101, &mut random);
    let batches: Vec<Batch> = [[40, 3, 0], [1, 1, 17], [1, 30, 1], [2, 1, 1]].iter().map(|l| sequences.step(l)).collect();
    let mut exact = world.interpreter(KvPrecision::F64, Inputs::Exact);
    let wants: Vec<Vec<f64>> = batches.iter().map(|batch| exact.run(&plan, batch).concat()).collect();
    for subject in subjects() {
        let mut backend = (subject.make)();
        world.upload(&mut backend).expect("weights upload");
        for (step, (batch, want)) in batches.iter().zip(&wants).enumerate() {
            let error = nmse(&run(&mut backend, &plan, batch), want);
            assert!(error <= 5e-3, "{}, step {step}: NMSE {error:.2e} against exact arithmetic", subject.name);
        }
    }
}

#[test]
fn what_was_uploaded_reads_back_bit_for_bit() {
    let mut random = Random::new(11);
    let mut world = World::default();
    let ids: Vec<_> = Format::ALL.into_iter().map(|format| world.matrix(format, 37, 512, &mut random)).collect();
    let mut backend = Backend::Cpu(CpuBackend::new(CpuOptions::default()).expect("a CPU backend"));
    world.upload(&mut backend).expect("weights upload");
    #[allow(irrefutable_let_patterns, reason = "refutable where the GPU backend is compiled in")]
    let Backend::Cpu(cpu) = &backend else { unreachable!("made as CPU above") };
    for id in ids {
        let (spec, _, want) = world.matrix_of(id);
        let (read_spec, got) = cpu.matrix_values(id).expect("it is there");
        assert_eq!(&read_spec, spec);
        let differs = got.iter().zip(want).position(|(g, w)| g.to_bits() != w.to_bits());
        assert_eq!(differs, None, "{}: the first value that differs", spec.name);
    }
}

#[test]
fn broken_batches_and_plans_are_errors() {
    let mut random = Random::new(12);
    let mut world = World::default();
    let plan = small_model(&mut world, KvFormat::F16, &mut random);
    let mut sequences = Sequences::new(1, &small_groups(), 101, &mut random);
    let good = sequences.step(&[20]);
    let mut backend = Backend::Cpu(CpuBackend::new(CpuOptions::default()).expect("a CPU backend"));
    world.upload(&mut backend).expect("weights upload");
    let mut fails = |what: &str, plan: &Plan, change: &dyn Fn(&mut Batch)| {
        let mut batch = good.clone();
        change(&mut batch);
        let result = pollster::block_on(backend.run(plan, &batch));
        let message = result.err().unwrap_or_else(|| panic!("{what} was accepted")).to_string();
        assert!(!message.is_empty());
    };
    fails("a token past the vocabulary", &plan, &|b| b.rows[3].token = RowToken::Known(101));
    fails("an empty slot", &plan, &|b| b.rows[3].token = RowToken::Slot(Slot(9)));
    fails("a sequence that isn't there", &plan, &|b| b.rows[3].sequence = 1);
    fails("a position past the length", &plan, &|b| b.rows[3].position = 20);
    fails("a missing block", &plan, &|b| b.sequences[0].tables[0].truncate(1));
    fails("a missing group", &plan, &|b| b.sequences[0].tables.truncate(1));
    fails("a page past the pool", &plan, &|b| b.sequences[0].tables[1][1] = PageId(400));
    fails("a page let go", &plan, &|b| b.sequences[0].tables[0][0] = PageId::NONE);
    fails("an output past the rows", &plan, &|b| b.outputs = vec![20]);
    fails("outputs out of order", &plan, &|b| b.outputs = vec![1, 1]);
    let mut narrow = plan.clone();
    narrow.widths.qkv -= 1;
    fails("a plan whose widths disagree", &narrow, &|_| ());
    assert!(pollster::block_on(backend.run(&plan, &good)).is_ok());
}
