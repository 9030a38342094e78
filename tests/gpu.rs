//! The GPU backend on two software adapters: right answers on every rung, the same bits whatever shares a batch, clear errors.

use std::sync::Arc;

use firecrest_engine::backend::gpu::{self, GpuBackend, GpuOptions, Without};
use firecrest_engine::backend::{Backend, Drawn, MatrixSpec, Outputs};
use firecrest_engine::batch::{Batch, Class, Draw, RowToken, Slot};
use firecrest_engine::engine::Sampling;
use firecrest_engine::kv::KvFormat;
use firecrest_engine::{ErrorCode, Format};
use firecrest_tests::adapters::{open, quick_software, reports, software, with_backend};
use firecrest_tests::full;
use firecrest_tests::interpreter::{Inputs, Interpreter, KvPrecision};
use firecrest_tests::synthetic::{Recipe, Run, Sequences, Synthetic};

fn run(backend: &mut Backend, model: &Synthetic, batch: &Batch) -> Vec<Vec<f32>> {
    let mut outputs = Outputs::default();
    pollster::block_on(async {
        backend.run(&model.plan, batch).await.expect("runs");
        backend.read(&mut outputs).await.expect("reads");
    });
    outputs.values.chunks(model.plan.widths.out as usize).map(<[f32]>::to_vec).collect()
}

/// max|Δ| / max|value| over all rows.
fn difference(got: &[Vec<f32>], wanted: &[Vec<f64>]) -> f64 {
    assert_eq!(got.len(), wanted.len(), "rows of output");
    let largest = wanted.iter().flatten().fold(0.0f64, |most, value| most.max(value.abs()));
    let mut most = 0.0f64;
    for (got, wanted) in got.iter().zip(wanted) {
        assert_eq!(got.len(), wanted.len(), "width of output");
        for (&got, &wanted) in got.iter().zip(wanted) {
            assert!(got.is_finite(), "an output is {got}");
            most = most.max((f64::from(got) - wanted).abs());
        }
    }
    most / largest
}

/// A prompt in two chunks beside other sequences' decode rows, then decode rows only.
fn steps() -> Vec<Vec<Run>> {
    let run = |sequence, positions, class| Run { sequence, positions, class };
    vec![
        vec![run(0, 0..37, Class::Prompt)],
        vec![run(1, 0..50, Class::Prompt), run(0, 37..38, Class::Generated)],
        vec![run(2, 0..5, Class::Prompt), run(1, 50..71, Class::Prompt), run(0, 38..39, Class::Generated)],
        vec![run(0, 39..40, Class::Generated), run(1, 71..72, Class::Generated), run(2, 5..6, Class::Generated)],
    ]
}

/// The largest difference from the interpreter over [`steps`].
fn compare(adapter: &str, without: Without, model: &Synthetic) -> f64 {
    let (sequences, pages) = Sequences::new(model, 3, 80, 7);
    let mut interpreter = Interpreter::new(KvPrecision::of(model.groups[0].format), Inputs::Exact);
    model.interpret(&mut interpreter, pages);
    with_backend(adapter, without, |backend| {
        model.install(backend, pages);
        let mut most = 0.0f64;
        for runs in steps() {
            let batch = sequences.batch(&runs);
            most = most.max(difference(&run(backend, model, &batch), &interpreter.run(&model.plan, &batch)));
        }
        most
    })
}

#[test]
fn families_are_as_interpreted() {
    for adapter in quick_software("gpu families") {
        for recipe in Recipe::ALL {
            if recipe.encoder {
                continue;
            }
            let difference = compare(adapter, Without::default(), &recipe.build(3));
            eprintln!("{adapter} {}: {difference:.1e}", recipe.name);
            assert!(difference < 2e-3, "{} on {adapter}: {difference:e}", recipe.name);
        }
    }
}

#[test]
fn caches_of_codes_are_as_interpreted() {
    for adapter in quick_software("gpu int8 caches") {
        for recipe in [Recipe::llama(), Recipe::gemma2()] {
            let recipe = Recipe { kv: KvFormat::Int8, ..recipe };
            let difference = compare(adapter, Without::default(), &recipe.build(3));
            eprintln!("{adapter} {} with an int8 cache: {difference:.1e}", recipe.name);
            assert!(difference < 2e-3, "{} on {adapter}: {difference:e}", recipe.name);
        }
    }
}

#[test]
fn encoders_are_as_interpreted() {
    for adapter in quick_software("gpu encoders") {
        let model = Recipe::bert().build(3);
        let (sequences, pages) = Sequences::new(&model, 3, 80, 7);
        let mut interpreter = Interpreter::new(KvPrecision::of(model.groups[0].format), Inputs::Exact);
        model.interpret(&mut interpreter, pages);
        let whole = |sequence, length| Run { sequence, positions: 0..length, class: Class::Prompt };
        with_backend(adapter, Without::default(), |backend| {
            model.install(backend, pages);
            for runs in [vec![whole(0, 70)], vec![whole(1, 33), whole(2, 7), whole(0, 1)]] {
                let batch = sequences.batch(&runs);
                let difference = difference(&run(backend, &model, &batch), &interpreter.run(&model.plan, &batch));
                eprintln!("{adapter} bert: {difference:.1e}");
                assert!(difference < 2e-3, "bert on {adapter}: {difference:e}");
            }
        });
    }
}

#[test]
fn formats_are_as_interpreted_without_rungs() {
    let forced = [
        ("as probed", Without::default()),
        ("no subgroups", Without { subgroups: true, ..Without::default() }),
        ("nothing optional", Without { subgroups: true, f16: true, int_dot: true }),
    ];
    for adapter in quick_software("gpu formats") {
        for format in Format::ALL {
            // Software drivers compile kernels slowly: every rung of every format is for the full run.
            let few = if format == Format::Q4_0 { &forced[..] } else { &forced[..1] };
            for &(name, without) in if full() { &forced[..] } else { few } {
                let model = Recipe::llama().with_format(format).build(5);
                let difference = compare(adapter, without, &model);
                eprintln!("{adapter} {format}, {name}: {difference:.1e}");
                assert!(difference < 2e-3, "{format} on {adapter}, {name}: {difference:e}");
            }
        }
        let mixed = Recipe { value_format: Some(Format::Q6K), head_format: Format::Q6K, ..Recipe::llama().with_format(Format::Q4K) };
        let difference = compare(adapter, Without::default(), &mixed.build(5));
        assert!(difference < 2e-3, "mixed formats on {adapter}: {difference:e}");
    }
}

/// Bits of every output row, by sequence and position.
fn bits(backend: &mut Backend, model: &Synthetic, sequences: &Sequences, runs: &[Run]) -> Vec<((u32, u32), Vec<u32>)> {
    let batch = sequences.batch(runs);
    let rows = run(backend, model, &batch);
    // `batch` puts prompt runs first.
    let mut ordered: Vec<&Run> = runs.iter().filter(|run| run.class == Class::Prompt).collect();
    ordered.extend(runs.iter().filter(|run| run.class == Class::Generated));
    let keys = ordered.iter().flat_map(|run| run.positions.clone().map(|position| (run.sequence, position)));
    keys.zip(rows).map(|(key, row)| (key, row.iter().map(|value| value.to_bits()).collect())).collect()
}

#[test]
fn what_shares_a_batch_changes_no_bit() {
    let recipes = [
        Recipe::llama().with_format(Format::Q4_0),
        Recipe { kv: KvFormat::Int8, ..Recipe::gemma2().with_format(Format::Q4_0) },
        Recipe { value_format: Some(Format::Q6K), head_format: Format::Q6K, ..Recipe::gemma2().with_format(Format::Q4K) },
        Recipe::qwen3().with_format(Format::F16),
    ];
    for adapter in quick_software("gpu class invariance") {
        let rungs = [Without::default(), Without { subgroups: true, ..Without::default() }];
        for &without in if full() { &rungs[..] } else { &rungs[..1] } {
            for recipe in if full() { &recipes[..] } else { &recipes[..2] } {
                with_backend(adapter, without, |backend| invariance(&format!("{adapter}, {without:?}"), backend, recipe));
            }
        }
    }
}

/// Checks that sequence 0's logits are the same bits alone, with its prompt cut anywhere, and among others.
fn invariance(place: &str, backend: &mut Backend, recipe: &Recipe) {
    let (prompt, length, others) = (45u32, 49u32, 31u32);
    let model = recipe.build(9);
    let (sequences, pages) = Sequences::new(&model, 1 + others, 64, 11);
    model.install(backend, pages);
    let run = |sequence, positions, class| Run { sequence, positions, class };
    // Alone: the whole prompt, then one row at a time.
    let mut alone = bits(backend, &model, &sequences, &[run(0, 0..prompt, Class::Prompt)]);
    for position in prompt..length {
        alone.extend(bits(backend, &model, &sequences, &[run(0, position..position + 1, Class::Generated)]));
    }
    let check = |label: &str, rows: Vec<((u32, u32), Vec<u32>)>| {
        for (key, row) in rows.iter().filter(|((sequence, _), _)| *sequence == 0) {
            let (_, wanted) = alone.iter().find(|(k, _)| k == key).expect("a row of before");
            let differing = row.iter().zip(wanted).filter(|(a, b)| a != b).count();
            assert_eq!(differing, 0, "{} {} on {place}, {label}: logits of {key:?} differ", recipe.name, recipe.format);
        }
    };
    for cuts in [vec![0, 1, 2, 45], vec![0, 16, 33, 45], vec![0, 31, 32, 44, 45], vec![0, 7, 14, 21, 28, 35, 42, 45]] {
        for window in cuts.windows(2) {
            let rows = bits(backend, &model, &sequences, &[run(0, window[0]..window[1], Class::Prompt)]);
            check(&format!("prompt cut at {cuts:?}"), rows);
        }
    }
    // Among others: prompts beside prompts of other lengths, decode rows beside up to 31 others.
    let mut runs: Vec<Run> = (1..=others).map(|sequence| run(sequence, 0..3 + sequence % 9, Class::Prompt)).collect();
    runs.insert(9, run(0, 0..prompt, Class::Prompt));
    check("prompt among 31 others", bits(backend, &model, &sequences, &runs));
    for (neighbours, position) in [(31, prompt), (1, prompt + 1), (3, prompt + 2), (7, prompt + 3)] {
        let step = position - prompt;
        let mut runs: Vec<Run> = (1..=neighbours).map(|s| run(s, 3 + s % 9 + step..4 + s % 9 + step, Class::Generated)).collect();
        runs.insert(neighbours as usize / 2, run(0, position..position + 1, Class::Generated));
        check(&format!("decode among {neighbours} others"), bits(backend, &model, &sequences, &runs));
    }
}

/// A row fed from a slot is computed as one whose token the host names, and steps follow each other unread.
#[test]
fn what_is_drawn_feeds_the_next_row() {
    for adapter in software("gpu slots") {
        let model = Recipe::llama().build(2);
        let (sequences, pages) = Sequences::new(&model, 2, 40, 3);
        with_backend(adapter, Without::default(), |backend| {
            model.install(backend, pages);
            // Past the room there is at first.
            let slot = Slot(500);
            let sampling = Arc::new(Sampling { seed: 5, ..Sampling::default() });
            let draw = Draw { output: 8, slot, sampling, occurrences: vec![], in_flight: 0, refused: vec![], waits: false };
            let prompt = sequences.batch(&[Run { sequence: 0, positions: 0..9, class: Class::Prompt }]);
            let drawing = Batch { draws: vec![draw.clone()], values: Some(vec![8]), ..prompt.clone() };
            let mut next = sequences.batch(&[Run { sequence: 0, positions: 9..10, class: Class::Generated }]);
            next.rows[0].token = RowToken::Slot(slot);
            let plan = &model.plan;
            let read = |backend: &mut Backend| {
                let mut outputs = Outputs::default();
                pollster::block_on(backend.read(&mut outputs)).expect("reads");
                outputs
            };
            pollster::block_on(backend.run(plan, &drawing)).expect("runs");
            pollster::block_on(backend.run(plan, &next)).expect("runs");
            let (first, second) = (read(backend), read(backend));
            let Drawn::Token(token) = first.drawn[0] else { panic!("{:?}", first.drawn) };
            assert_eq!(first.values, run(backend, &model, &prompt)[8], "{adapter}: what is read was drawn from afterwards");
            next.rows[0].token = RowToken::Known(token);
            assert_eq!(second.values, run(backend, &model, &next)[0], "{adapter}");

            // One that waits for what is allowed, and one that is never asked for.
            let waiting = |output| Draw { output, waits: true, ..draw.clone() };
            let drawing = Batch { draws: vec![waiting(8), waiting(7)], values: Some(vec![]), ..prompt };
            let only = |id: u32| {
                let mut mask = vec![0; (plan.widths.out as usize).div_ceil(32)];
                mask[id as usize / 32] = 1 << (id % 32);
                Some(mask)
            };
            for id in [0, plan.widths.out - 1] {
                pollster::block_on(backend.run(plan, &drawing)).expect("runs");
                backend.draw(&[(0, only(id))]).expect("draws");
                assert_eq!(read(backend).drawn, [Drawn::Token(id), Drawn::Never], "{adapter}");
            }
            pollster::block_on(backend.run(plan, &drawing)).expect("runs");
            backend.draw(&[(1, Some(vec![])), (0, None)]).expect("draws");
            assert_eq!(read(backend).drawn, [Drawn::Token(token), Drawn::NothingAllowed], "{adapter}");
        });
    }
}

#[test]
fn only_named_software_is_taken() {
    let reports = reports();
    if reports.iter().any(|report| !report.software) {
        firecrest_tests::skip("software adapters in auto", "this machine has a GPU");
        return;
    }
    assert!(!pollster::block_on(gpu::has_gpu()), "`auto` means the CPU here");
    let error = pollster::block_on(GpuBackend::new(GpuOptions::default())).err().expect("nothing to take");
    assert_eq!(error.code(), ErrorCode::Device);
    let options = GpuOptions { adapter: Some("no such adapter".to_owned()), ..GpuOptions::default() };
    let error = pollster::block_on(GpuBackend::new(options)).err().expect("nothing to take");
    assert!(error.message().contains("no such adapter"), "{error}");
}

#[test]
fn what_cannot_be_is_an_error() {
    for adapter in software("gpu errors") {
        let mut backend = open(adapter, Without::default());
        let spec = |rows, columns| MatrixSpec { name: "blk.7.odd".to_owned(), rows, columns, format: Format::Q4K };
        let error = backend.matrix(&spec(4, 300)).expect_err("not whole blocks");
        assert!(error.message().contains("blk.7.odd"), "{error}");
        assert!(backend.matrix(&spec(usize::MAX, 256)).is_err(), "absurd rows");
        let error = backend.matrix(&spec(u32::MAX as usize, 1 << 20)).expect_err("petabytes");
        assert!(matches!(error.code(), ErrorCode::Malformed | ErrorCode::Memory), "{error}");
        let id = backend.matrix(&spec(4, 256)).expect("a matrix");
        assert!(backend.write_rows(id, 2, &[0; 144 * 3]).is_err(), "rows past the end");
        assert!(backend.write_rows(id, 0, &[0; 143]).is_err(), "half a block");

        let model = Recipe::llama().build(2);
        let (sequences, pages) = Sequences::new(&model, 2, 40, 3);
        with_backend(adapter, Without::default(), |backend| refuse(backend, &model, &sequences, pages));
    }
}

fn refuse(backend: &mut Backend, model: &Synthetic, sequences: &Sequences, pages: u32) {
    model.install(backend, pages);
    let good = sequences.batch(&[Run { sequence: 0, positions: 0..9, class: Class::Prompt }]);
    let mut bad = good.clone();
    bad.rows[3].token = RowToken::Known(model.vocabulary);
    let error = pollster::block_on(backend.run(&model.plan, &bad)).expect_err("an unknown token");
    assert!(error.message().contains("vocabulary"), "{error}");
    let mut bad = good.clone();
    bad.sequences[0].tables[0][0].0 = pages;
    assert!(pollster::block_on(backend.run(&model.plan, &bad)).is_err(), "a page past the pool");
    assert_eq!(run(backend, model, &good).len(), 9, "an error harms nothing");
}
