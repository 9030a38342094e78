//! Tiny files of every family through the whole way: file, configuration, layout, plan, backend; the reference judges.

use firecrest_engine::kv::KvFormat;
use firecrest_engine::model::plan::Op;
use firecrest_engine::model::{Config, Model, PlanKind, Runs};
use firecrest_engine::quant::Format;
use firecrest_tests::GgufWriter;
use firecrest_tests::backends::{BackendChoice, backends};
use firecrest_tests::full;
use firecrest_tests::interpreter::{Inputs, KvPrecision, largest_error, nmse};
use firecrest_tests::random_models::{CONTEXT, FAMILIES, RandomModel, VOCAB, open_bytes};
use firecrest_tests::runner::{Reference, Runner, Session};

/// Formats, and whether some matrices have another one.
const FORMATS: [(Format, bool); 4] = [(Format::F16, false), (Format::Q4_0, true), (Format::F32, false), (Format::Q8_0, true)];

fn prompt() -> Vec<u32> {
    (0..52u32).map(|i| (i * 37 + 11) % VOCAB as u32).collect()
}

fn generated() -> Vec<u32> {
    (0..6u32).map(|i| (i * 29 + 5) % VOCAB as u32).collect()
}

/// The logits or final states of a random model, and what they were computed on.
fn answer<R: Runner>(runner: R, family: &str, format: Format, mixed: bool, chunk: usize) -> (Vec<f32>, R) {
    answer_with(runner, family, format, mixed, chunk, KvFormat::F16)
}

fn answer_with<R: Runner>(runner: R, family: &str, format: Format, mixed: bool, chunk: usize, kv: KvFormat) -> (Vec<f32>, R) {
    let file = open_bytes(family, RandomModel::of(family, format, mixed).finish()).unwrap();
    let config = Config::from_file(&file).unwrap();
    assert_eq!(config.context, CONTEXT);
    let (head, causal) = (config.head, config.causal);
    let mut session = Session::open_with(runner, &file, config, kv).unwrap();
    if !causal {
        let states = session.states(&prompt()).unwrap();
        return (states, session.into_runner());
    }
    assert!(head, "{family} is causal and has no head");
    let logits = session.logits(&prompt(), &generated(), chunk).unwrap();
    (logits, session.into_runner())
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn every_family_agrees_with_the_reference_on_every_backend() {
    let mut failures = Vec::new();
    for backend in backends("tiny models on GPU backends") {
        for family in FAMILIES {
            // A software GPU takes seconds to compile the kernels of each format.
            let formats = if backend == BackendChoice::Cpu || full() { &FORMATS[..] } else { &FORMATS[..2] };
            for &(format, mixed) in formats {
                let inputs = if format.is_quantised() || mixed { Inputs::Int8 } else { Inputs::Exact };
                let want = wide(&answer(Reference::new(KvPrecision::F16, inputs), family, format, mixed, 64).0);
                let (got, used) = answer(backend.take(), family, format, mixed, 19);
                backend.give_back(used);
                let (error, largest) = (nmse(&got, &want), largest_error(&got, &want));
                println!("{backend:24} {family:12} {format:5} nmse {error:9.2e}  largest {largest:9.2e}");
                let good = if format.is_quantised() { error <= 5e-3 } else { error <= 1e-5 && largest <= 3e-3 };
                if !good {
                    failures.push(format!("{backend}: {family} {format}: nmse {error:e}, largest {largest:e}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Windows and softcaps, norms of heads, and neither, over caches of codes: judged by a reference that rounds as they do, which must be
/// much nearer than one that does not.
#[test]
fn caches_of_codes_agree_with_the_reference_on_every_backend() {
    for backend in backends("int8 caches of tiny models on GPU backends") {
        for family in ["llama", "qwen3", "gemma2"] {
            let reference = |kv, precision| {
                let runner = Reference::new(precision, Inputs::Exact);
                wide(&answer_with(runner, family, Format::F16, false, 64, kv).0)
            };
            let want = reference(KvFormat::Int8, KvPrecision::Int8);
            let other = reference(KvFormat::F16, KvPrecision::F16);
            let (got, used) = answer_with(backend.take(), family, Format::F16, false, 19, KvFormat::Int8);
            backend.give_back(used);
            let (error, largest, apart) = (nmse(&got, &want), largest_error(&got, &want), nmse(&got, &other));
            println!("{backend:24} {family:12} int8 cache: nmse {error:9.2e}  largest {largest:9.2e}, from f16 {apart:9.2e}");
            assert!(error <= 5e-6 && largest <= 5e-3, "{backend}: {family}: nmse {error:e}, largest {largest:e}");
            assert!(apart >= 10.0 * error, "{backend}: {family}: nmse {error:e}, and {apart:e} from a cache of f16");
        }
    }
}

#[test]
fn chunks_of_a_prompt_do_not_change_the_reference() {
    for family in FAMILIES.iter().filter(|f| !f.ends_with("bert")) {
        let whole = answer(Reference::new(KvPrecision::F16, Inputs::Exact), family, Format::F32, false, 64).0;
        let cut = answer(Reference::new(KvPrecision::F16, Inputs::Exact), family, Format::F32, false, 7).0;
        assert!(whole == cut, "{family}");
    }
}

#[test]
fn equal_formats_share_a_matrix_and_tied_heads_the_table() {
    let plan = |family: &str, mixed: bool| {
        let file = open_bytes(family, RandomModel::of(family, Format::Q4_0, mixed).finish()).unwrap();
        let config = Config::from_file(&file).unwrap();
        let runner = Reference::new(KvPrecision::F16, Inputs::Exact);
        Session::open(runner, &file, config).unwrap().model.plan(PlanKind::Logits).unwrap().clone()
    };
    let parts = |ops: &[Op]| -> Vec<usize> {
        let qkv = ops.iter().filter_map(|op| match op {
            Op::NormQkv { linear, .. } => Some(linear.parts.len()),
            _ => None,
        });
        qkv.collect()
    };
    assert_eq!(parts(&plan("llama", false).ops), [1, 1]);
    assert_eq!(parts(&plan("llama", true).ops), [1, 2]); // V of the second layer is Q8_0
    let tied = |ops: &[Op]| match (&ops[0], &ops[ops.len() - 1]) {
        (Op::Embed { table, .. }, Op::Head { linear, .. }) => linear.parts[0].0 == *table,
        _ => panic!("a plan of logits begins with Embed and ends with Head"),
    };
    assert!(tied(&plan("llama", false).ops));
    assert!(!tied(&plan("mistral", false).ops));
}

#[test]
fn inspect_says_what_runs_how() {
    let writer = RandomModel::of("llama", Format::Q4_0, true).tensor_f32("spare.weight", &[3], Format::F32, &[0.0; 3]);
    let file = open_bytes("llama", writer.finish()).unwrap();
    let description = Model::describe(&file, Some(32), KvFormat::F16).unwrap();
    let runs = |name: &str| description.tensors.iter().find(|t| t.name == name).unwrap().runs;
    assert_eq!(runs("blk.0.ffn_gate.weight"), Runs::Native(Format::Q4_0));
    // Gate (F16) and up (Q4_0) of the second layer differ: both run as Q8_0.
    assert_eq!(runs("blk.1.ffn_gate.weight"), Runs::Requantised(Format::Q8_0));
    assert_eq!(runs("blk.1.ffn_up.weight"), Runs::Requantised(Format::Q8_0));
    assert_eq!(runs("blk.1.attn_v.weight"), Runs::Native(Format::Q8_0));
    assert_eq!(runs("output_norm.weight"), Runs::Vector);
    assert_eq!(runs("spare.weight"), Runs::Unused);
    assert_eq!(description.kv_bytes_per_position, 2 * 2 * 2 * 2 * 16);

    let file = open_bytes("gemma3", RandomModel::of("gemma3", Format::F16, false).finish()).unwrap();
    let description = Model::describe(&file, None, KvFormat::F16).unwrap();
    assert_eq!(description.windows, [(Some(6), 5), (None, 1)]);
    assert_eq!(description.kv_bytes(CONTEXT), u64::from(5 * 6 + CONTEXT) * 2 * 2 * 2 * 16);
}

#[test]
fn soft_caps_have_defaults_and_zero_takes_them_away() {
    let gemma2 = |caps: &[(&str, f32)]| {
        let numbers =
            [("context_length", 8), ("embedding_length", 4), ("block_count", 2), ("feed_forward_length", 4), ("attention.head_count", 1)];
        let writer = GgufWriter::new().str("general.architecture", "gemma2").f32("gemma2.attention.layer_norm_rms_epsilon", 1e-6);
        let writer = numbers.iter().fold(writer, |w, (key, value)| w.u32(&format!("gemma2.{key}"), *value));
        let writer = caps.iter().fold(writer, |w, (key, cap)| w.f32(&format!("gemma2.{key}"), *cap));
        let writer = writer.tensor_f32("token_embd.weight", &[4, 4], Format::F32, &[0.5; 16]);
        let config = Config::from_file(&open_bytes("gemma2", writer.finish()).unwrap()).unwrap();
        (config.attention_softcap, config.final_softcap)
    };
    assert_eq!(gemma2(&[]), (Some(50.0), Some(30.0)));
    assert_eq!(gemma2(&[("attn_logit_softcapping", 0.0), ("final_logit_softcapping", 7.0)]), (None, Some(7.0)));
}
