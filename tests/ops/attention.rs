//! Attention and ropes over pages: every geometry, window and position.

use super::*;

/// Sequences over scattered pages of one or more KV groups.
pub(super) struct Sequences {
    views: Vec<SequenceView>,
    free: Vec<Vec<PageId>>,
    vocabulary: u32,
}

impl Sequences {
    pub(super) fn new(count: usize, groups: &[KvGroup], vocabulary: u32, random: &mut Random) -> Sequences {
        let free = groups.iter().map(|group| {
            let mut pages: Vec<PageId> = (0..group.pages).map(PageId).collect();
            for i in (1..pages.len()).rev() {
                pages.swap(i, random.below(i + 1));
            }
            pages
        });
        let view = |_| SequenceView { length: 0, tables: vec![vec![]; groups.len()], adapter: None };
        Sequences { views: (0..count).map(view).collect(), free: free.collect(), vocabulary }
    }

    /// A batch that adds `lengths[i]` positions to sequence i, prompt rows of several before generated ones.
    pub(super) fn step(&mut self, lengths: &[u32]) -> Batch {
        let mut batch = Batch::default();
        for class in [Class::Prompt, Class::Generated] {
            for (index, &length) in lengths.iter().enumerate() {
                if length == 0 || (length == 1) != (class == Class::Generated) {
                    continue;
                }
                let view = &mut self.views[index];
                for position in view.length..view.length + length {
                    let token = RowToken::Known((position * 7 + index as u32 * 13) % self.vocabulary);
                    batch.rows.push(Row { sequence: index as u32, position, token, class, segment: 0 });
                }
                view.length += length;
                for (table, free) in view.tables.iter_mut().zip(&mut self.free) {
                    while table.len() * PAGE_LEN < view.length as usize {
                        table.push(free.pop().expect("the case has pages enough"));
                    }
                }
            }
        }
        batch.sequences = self.views.clone();
        batch.outputs = (0..batch.rows.len() as u32).collect();
        batch
    }
}

/// One attention layer between an embedding and states.
pub(super) fn attention_plan(
    world: &mut World,
    a: Attention,
    dim: usize,
    rope: Option<(u32, RopePairs, f32)>,
    qk_norm: bool,
    random: &mut Random,
) -> Plan {
    let (heads, kv_heads, head_dim) = (a.heads as usize, a.kv_heads as usize, a.head_dim as usize);
    let (qkv, attention) = ((heads + 2 * kv_heads) * head_dim, heads * head_dim);
    let embed = embed(world, 50, dim, random);
    let linear = whole(world.matrix(Format::F32, qkv, dim, random), qkv, dim);
    let project = whole(world.matrix(Format::F32, dim, attention, random), dim, attention);
    let rope = rope.map(|(rotated, pairs, magnitude)| {
        let frequencies = (0..rotated / 2).map(|i| 10_000f32.powf(-2.0 * i as f32 / rotated as f32)).collect();
        Rope { frequencies: world.vector(frequencies), rotated, pairs, magnitude }
    });
    let qk_norm = qk_norm.then(|| (world.vector(random.values(head_dim, 2.0)), world.vector(random.values(head_dim, 2.0)), 1e-6));
    Plan {
        kind: PlanKind::States,
        ops: vec![
            embed,
            Op::NormQkv { norm: None, linear },
            Op::RopeWrite { rope, qk_norm, attention: a },
            Op::Attend { attention: a },
            Op::ProjectResidual { linear: project, join: Join::Add },
            Op::States { norm: None },
        ],
        widths: Widths { dim: dim as u32, qkv: qkv as u32, attention: attention as u32, ff: 0, out: dim as u32 },
    }
}

pub(super) fn group_of(a: &Attention, pages: u32) -> KvGroup {
    KvGroup { layers: vec![a.layer], window: a.window, kv_heads: a.kv_heads, head_dim: a.head_dim, format: KvFormat::F16, pages }
}

/// What cases vary.
const GEOMETRY: Attention =
    Attention { layer: 3, group: 0, heads: 4, kv_heads: 2, head_dim: 64, window: None, scale: 0.125, softcap: None, causal: true };

/// Heads of every width that matters.
fn of_every_width(base: Attention) -> Vec<Attention> {
    let of_width = |head_dim: u32| Attention { head_dim, scale: 1.0 / (head_dim as f32).sqrt(), ..base };
    [8, 20, 33, 64, 80, 96, 128, 256].map(of_width).into()
}

/// Keys and values are rounded to f16 from f32 here, from f64 in the interpreter: now and then to a neighbour.
pub(super) const KV_BOUND: f64 = 2e-4;

#[test]
fn attention_of_every_geometry() {
    let mut random = Random::new(6);
    let base = GEOMETRY;
    let mut cases = of_every_width(base);
    for (heads, kv_heads) in [(1, 1), (3, 3), (4, 4), (6, 2), (8, 1), (12, 2)] {
        cases.push(Attention { heads, kv_heads, head_dim: 16, scale: 0.25, ..base });
    }
    for window in [1, 2, 15, 16, 17, 40, 64, 65] {
        cases.push(Attention { window: Some(window), head_dim: 16, scale: 0.5, ..base });
    }
    cases.push(Attention { softcap: Some(2.0), scale: 1.0, ..base });
    cases.push(Attention { softcap: Some(2.0), window: Some(20), scale: 1.0, ..base });
    cases.push(Attention { causal: false, ..base });
    for a in cases {
        let mut world = World::default();
        let group = group_of(&a, 40);
        let plan = attention_plan(&mut world, a, 32, None, false, &mut random);
        world.kv(vec![group.clone()]);
        let mut sequences = Sequences::new(4, &[group], 50, &mut random);
        // Encoders see a whole sequence at once; others grow, mixed with decode rows of their neighbours.
        let steps: &[[u32; 4]] = if a.causal { &[[5, 100, 1, 0], [1, 1, 1, 33], [1, 31, 17, 1], [1, 1, 1, 1]] } else { &[[5, 100, 17, 1]] };
        let batches: Vec<Batch> = steps.iter().map(|lengths| sequences.step(lengths)).collect();
        judge(&format!("{a:?}"), &world, &plan, &batches, KV_BOUND);
    }
}

#[test]
fn attention_over_codes() {
    let mut random = Random::new(16);
    let base = GEOMETRY;
    let mut cases = of_every_width(base);
    cases.push(Attention { heads: 12, kv_heads: 3, head_dim: 16, scale: 0.25, ..base });
    cases.push(Attention { window: Some(17), head_dim: 16, scale: 0.5, ..base });
    cases.push(Attention { softcap: Some(2.0), window: Some(40), scale: 1.0, ..base });
    cases.push(Attention { causal: false, ..base });
    for a in cases {
        let mut world = World::default();
        let group = KvGroup { format: KvFormat::Int8, ..group_of(&a, 40) };
        let plan = attention_plan(&mut world, a, 32, None, false, &mut random);
        world.kv(vec![group.clone()]);
        let mut sequences = Sequences::new(4, &[group], 50, &mut random);
        let steps: &[[u32; 4]] = if a.causal { &[[5, 100, 1, 0], [1, 1, 1, 33], [1, 31, 17, 1], [1, 1, 1, 1]] } else { &[[5, 100, 17, 1]] };
        let batches: Vec<Batch> = steps.iter().map(|lengths| sequences.step(lengths)).collect();
        judge(&format!("int8 {a:?}"), &world, &plan, &batches, KV_BOUND);
        // What codes change is far more than what is allowed.
        let (mut codes, mut halves) =
            (world.interpreter(KvPrecision::Int8, Inputs::Exact), world.interpreter(KvPrecision::F16, Inputs::Exact));
        for batch in &batches {
            let halves: Vec<f32> = halves.run(&plan, batch).concat().into_iter().map(|v| v as f32).collect();
            let moved = nmse(&halves, &codes.run(&plan, batch).concat());
            assert!(moved > 10.0 * INT8_NMSE, "{a:?}: codes move the output by {moved:.1e} only");
        }
    }
}

/// A head that codes can't hold reads as NaN, whoever sees it; one that is nearly nothing reads as zeros.
#[test]
fn heads_that_codes_cannot_hold() {
    let mut random = Random::new(17);
    let a = Attention { layer: 0, group: 0, heads: 2, kv_heads: 1, head_dim: 32, window: None, scale: 0.2, softcap: None, causal: true };
    for (size, finite) in [(1e-12f32, true), (1e9, false), (f32::INFINITY, false), (f32::NAN, false)] {
        let mut world = World::default();
        let group = KvGroup { format: KvFormat::Int8, ..group_of(&a, 8) };
        let mut plan = attention_plan(&mut world, a, 32, None, false, &mut random);
        // Values only: a bias of this size on V's first element.
        let mut bias = vec![0.0; 128];
        bias[96] = size;
        let bias = world.vector(bias);
        plan.ops.iter_mut().for_each(|op| {
            if let Op::NormQkv { linear, .. } = op {
                linear.bias = Some(bias);
            }
        });
        world.kv(vec![group.clone()]);
        let batch = Sequences::new(1, &[group], 50, &mut random).step(&[21]);
        for subject in subjects() {
            let mut backend = (subject.make)();
            world.upload(&mut backend).expect("weights upload");
            let out = run(&mut backend, &plan, &batch);
            assert!(out.iter().all(|v| v.is_finite() == finite), "{}: {size}", subject.name);
        }
        for adapter in quick_software("heads that codes cannot hold") {
            with_backend(adapter, Without::default(), |backend| {
                world.upload(backend).expect("weights upload");
                let out = run(backend, &plan, &batch);
                assert!(out.iter().all(|v| v.is_finite() == finite), "{adapter}: {size}");
            });
        }
    }
}

#[test]
fn ropes_and_head_norms() {
    let mut random = Random::new(7);
    let base = Attention { layer: 0, group: 0, heads: 4, kv_heads: 2, head_dim: 32, window: None, scale: 0.3, softcap: None, causal: true };
    for pairs in [RopePairs::Adjacent, RopePairs::Halves] {
        for (rotated, magnitude, qk_norm) in [(32, 1.0, false), (32, 1.0, true), (20, 1.19, false), (2, 1.0, true)] {
            let mut world = World::default();
            let group = group_of(&base, 20);
            let plan = attention_plan(&mut world, base, 32, Some((rotated, pairs, magnitude)), qk_norm, &mut random);
            world.kv(vec![group.clone()]);
            let mut sequences = Sequences::new(2, &[group], 50, &mut random);
            let batches = [sequences.step(&[40, 9]), sequences.step(&[1, 1]), sequences.step(&[3, 1])];
            judge(&format!("{pairs:?} {rotated} × {magnitude}, norm {qk_norm}"), &world, &plan, &batches, KV_BOUND);
        }
    }
}

#[test]
fn ropes_stay_exact_at_far_positions() {
    let mut random = Random::new(8);
    let a =
        Attention { layer: 0, group: 0, heads: 2, kv_heads: 1, head_dim: 64, window: Some(24), scale: 0.4, softcap: None, causal: true };
    let mut world = World::default();
    let plan = attention_plan(&mut world, a, 32, Some((64, RopePairs::Halves, 1.0)), false, &mut random);
    world.kv(vec![group_of(&a, 9)]);
    let mut batches = Vec::new();
    let start = 131_000u32 / PAGE_LEN as u32 * PAGE_LEN as u32;
    let mut table = vec![PageId::NONE; start as usize / PAGE_LEN];
    table.extend([PageId(7), PageId(2), PageId(5)]);
    for (first, count) in [(0, 23), (23, 2), (25, 1)] {
        let row = |i: u32| Row { sequence: 0, position: start + i, token: RowToken::Known(i), class: Class::Prompt, segment: 0 };
        batches.push(Batch {
            rows: (first..first + count).map(row).collect(),
            sequences: vec![SequenceView { length: start + first + count, tables: vec![table.clone()], adapter: None }],
            outputs: (0..count).collect(),
            ..Batch::default()
        });
    }
    // The first rows look at positions that were never written: start where the window is full.
    let mut opened = a;
    opened.window = Some(1);
    let mut warm = plan.clone();
    warm.ops.iter_mut().for_each(|op| {
        if let Op::Attend { attention } = op {
            *attention = opened;
        }
    });
    let mut interpreter = world.interpreter(KvPrecision::F16, Inputs::Int8);
    interpreter.run(&warm, &batches[0]);
    let wants: Vec<Vec<f64>> = batches[1..].iter().map(|batch| interpreter.run(&plan, batch).concat()).collect();
    for subject in subjects() {
        let mut backend = (subject.make)();
        world.upload(&mut backend).expect("weights upload");
        run(&mut backend, &warm, &batches[0]);
        for (batch, want) in batches[1..].iter().zip(&wants) {
            let error = largest_error(&run(&mut backend, &plan, batch), want);
            assert!(error <= KV_BOUND, "{}: {error:.2e}", subject.name);
        }
    }
}
