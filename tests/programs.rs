//! Programs the GPU backend lowers plans to, as text and as counts: no device is needed.

use std::fmt::Write;
use std::path::PathBuf;

use firecrest_engine::Format;
use firecrest_engine::backend::gpu::{LoraSite, Program, Selection, StepBuffer, Target, Without, lower};
use firecrest_engine::batch::BatchShape;
use firecrest_engine::kv::KvFormat;
use firecrest_engine::model::plan::Op;
use firecrest_shaders::Caps;
use firecrest_tests::synthetic::{Recipe, Synthetic};

/// What a desktop GPU offers.
const DESKTOP: Caps = Caps { min_subgroup: 32, f16: true, storage_buffers: 16, invocations: 1024, workgroup_bytes: 32768 };

const LIMIT: u64 = 128 << 20;

fn shape(prompt_rows: u32, generated_rows: u32, outputs: u32, sequences: u32, longest: u32) -> BatchShape {
    BatchShape { prompt_rows, generated_rows, outputs, sequences, longest, adapted: false }
}

fn program(model: &Synthetic, shape: &BatchShape, caps: Caps, limit: u64) -> Program {
    let selection = Selection::new(caps, Without::default());
    let specs = model.specs();
    lower(
        &model.plan,
        shape,
        Target { selection: &selection, matrices: &specs, groups: &model.groups, adapters: &[], binding_limit: limit },
    )
    .expect("lowers")
}

/// Dispatches between one op and another, by op index.
fn count(program: &Program, ops: std::ops::Range<usize>) -> usize {
    program.dispatches.iter().filter(|dispatch| ops.contains(&dispatch.op)).count()
}

/// Indices of the ops of one layer.
fn layer(model: &Synthetic, layer: usize) -> std::ops::Range<usize> {
    let starts: Vec<usize> =
        model.plan.ops.iter().enumerate().filter(|(_, op)| matches!(op, Op::NormQkv { .. })).map(|(index, _)| index).collect();
    let end = model.plan.ops.iter().position(|op| matches!(op, Op::Head { .. } | Op::States { .. })).expect("a last op");
    starts[layer]..starts.get(layer + 1).copied().unwrap_or(end)
}

#[test]
fn dispatches_a_layer_at_decode() {
    let table = [
        (Recipe::llama(), 7),
        (Recipe::mistral(), 7),
        (Recipe::qwen2(), 7),
        (Recipe::qwen3(), 7),
        (Recipe::phi3(), 7),
        (Recipe::gemma2(), 9),
        (Recipe::gemma3(), 9),
        // Q4_K_M: V is of another format than Q and K.
        (Recipe { value_format: Some(Format::Q6K), ..Recipe::llama().with_format(Format::Q4K) }, 8),
    ];
    for (recipe, expected) in table {
        let model = recipe.build(1);
        for caps in [Caps::BASE, DESKTOP] {
            for rows in 1..=8 {
                let program = program(&model, &shape(0, rows, rows, rows, 3000), caps, LIMIT);
                for index in 0..recipe.layers as usize {
                    assert_eq!(count(&program, layer(&model, index)), expected, "{} at {rows} rows, layer {index}", recipe.name);
                }
                let layers = expected * recipe.layers as usize;
                assert_eq!(program.dispatches.len(), layers + 2, "{}: layers, embedding and head", recipe.name);
            }
        }
    }
}

#[test]
fn texts_are_as_recorded() {
    let shapes = [
        ("decode 1 row", shape(0, 1, 1, 1, 40)),
        ("decode 5 rows", shape(0, 5, 5, 5, 2000)),
        ("decode 31 rows", shape(0, 31, 31, 31, 300)),
        ("prompt 37 rows", shape(37, 0, 1, 1, 37)),
        ("mixed 70 + 3 rows", shape(70, 3, 4, 5, 400)),
    ];
    let mut recipes = Recipe::ALL.to_vec();
    recipes.push(Recipe {
        name: "llama_mixed",
        value_format: Some(Format::Q6K),
        head_format: Format::Q6K,
        ..Recipe::llama().with_format(Format::Q4K)
    });
    recipes.push(Recipe { name: "gemma2_int8", kv: KvFormat::Int8, ..Recipe::gemma2() });
    let mut wrong = Vec::new();
    for recipe in recipes {
        // Two layers where they differ.
        let layers = if recipe.window.is_some_and(|(_, every)| every > 1) { 2 } else { 1 };
        let model = Recipe { layers, ..recipe.clone() }.build(1);
        let mut text = String::new();
        let base = [("decode 1 row, base", &shapes[0].1, Caps::BASE)];
        for (name, shape, caps) in base.into_iter().chain(shapes.iter().map(|(name, shape)| (*name, shape, DESKTOP))) {
            let _ = writeln!(text, "## {name}");
            text.push_str(&program(&model, shape, caps, LIMIT).text(&model.plan));
            text.push('\n');
        }
        let path = snapshots().join(format!("{}.txt", recipe.name));
        if std::env::var_os("FIRECREST_RECORD").is_some() {
            std::fs::create_dir_all(snapshots()).expect("snapshot folder");
            std::fs::write(&path, &text).expect("snapshot");
        } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
            wrong.push(recipe.name);
        }
    }
    assert!(
        wrong.is_empty(),
        "programs of {wrong:?} differ from tests/snapshots/programs; look at the change with FIRECREST_RECORD=1 and git diff"
    );
}

fn snapshots() -> PathBuf {
    firecrest_tests::repository().join("tests/snapshots/programs")
}

#[test]
fn what_passes_a_binding_is_cut() {
    let model = Recipe { vocabulary: 1150, ..Recipe::llama() }.build(1);
    let limit = 300 << 10;
    let program = program(&model, &shape(0, 100, 100, 100, 1500), Caps::BASE, limit);
    let head = model.plan.ops.len() - 1;
    assert_eq!(count(&program, 0..1), 2, "the table is looked up in two pieces");
    assert_eq!(count(&program, head..head + 1), 4, "the head runs in two pieces, each for two parts of OUT");
    let too_small = lower_error(&model, &shape(0, 100, 100, 100, 1500), 200 << 10);
    assert!(too_small.contains("ffn_gate_up") && too_small.contains("204800"), "{too_small}");
    let attend = layer(&model, 0).find(|&op| matches!(model.plan.ops[op], Op::Attend { .. })).expect("attention");
    assert!(count(&program, attend..attend + 1) > 2, "rows take turns in the partials");
    for buffer in StepBuffer::ALL {
        assert!(buffer == StepBuffer::Out || program.size(buffer) <= limit, "{} passes the limit", buffer.name());
    }
}

fn lower_error(model: &Synthetic, shape: &BatchShape, limit: u64) -> String {
    let selection = Selection::new(Caps::BASE, Without::default());
    let specs = model.specs();
    let lowered = lower(
        &model.plan,
        shape,
        Target { selection: &selection, matrices: &specs, groups: &model.groups, adapters: &[], binding_limit: limit },
    );
    lowered.err().map(|error| error.message().to_owned()).unwrap_or_default()
}

#[test]
fn only_steps_with_adapters_have_dispatches_for_them() {
    let model = Recipe::llama().build(1);
    let (selection, specs) = (Selection::new(DESKTOP, Without::default()), model.specs());
    // Q, K and V of the first layer, and the head.
    let head = model.plan.ops.len() as u32 - 1;
    let adapters = [LoraSite { op: 1, parts: 3, ranks: 16 }, LoraSite { op: head, parts: 1, ranks: 4 }];
    let lowered = |shape: BatchShape, adapters: &[LoraSite]| {
        lower(
            &model.plan,
            &shape,
            Target { selection: &selection, matrices: &specs, groups: &model.groups, adapters, binding_limit: LIMIT },
        )
        .expect("lowers")
    };
    for (prompt, generated) in [(0, 3), (40, 3), (40, 0)] {
        let plain = shape(prompt, generated, 3, 2, 100);
        let without = lowered(plain, &[]);
        assert_eq!(lowered(plain, &adapters).text(&model.plan), without.text(&model.plan), "adapters that no row has");
        let adapted = lowered(BatchShape { adapted: true, ..plain }, &adapters);
        let classes = usize::from(prompt > 0) + usize::from(generated > 0);
        assert_eq!(adapted.dispatches.len(), without.dispatches.len() + 2 * (classes + 1));
        let text = adapted.text(&model.plan);
        assert_eq!(text.matches("HAS_DELTA=1").count(), classes + 1, "{text}");
        assert!(text.contains("table:adapters1.table weights:adapters1 ") && text.contains("delta:>DELTA"), "{text}");
        let names: Vec<&str> = adapted.dispatches.iter().filter(|d| d.op == 1).map(|d| d.variant.kernel.name()).collect();
        let norm: &[&str] = if prompt > 0 { &["norm", "lora_shrink", "lora_expand", "matmul"] } else { &[] };
        assert!(names.starts_with(norm), "{names:?}");
    }
}
