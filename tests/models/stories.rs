//! stories260K, a trained model, against a float64 forward pass that nobody here wrote: logits, greedy ids and text.

use firecrest_engine::batch::Class;
use firecrest_engine::model::{Config, PlanKind};
use firecrest_engine::text::Tokenizer;
use firecrest_tests::backends::every_backend;
use firecrest_tests::interpreter::{Inputs, KvPrecision, largest_error};
use firecrest_tests::runner::{Reference, Runner, Session, open};
use firecrest_tests::shared_data_or_skip;
use serde_json::Value;

struct Story {
    prompt: Vec<u32>,
    /// The prompt and its continuation.
    greedy: Vec<u32>,
    text: String,
    /// By position: logits of its row.
    logits: Vec<(usize, Vec<f64>)>,
}

fn stories(expected: &[u8]) -> Vec<Story> {
    let expected: Value = serde_json::from_slice(expected).unwrap();
    let ids = |v: &Value| -> Vec<u32> { v.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect() };
    let cases = expected["cases"].as_array().unwrap();
    cases
        .iter()
        .map(|case| Story {
            prompt: ids(&case["prompt_ids"]),
            greedy: ids(&case["greedy_ids"]),
            text: case["greedy_text"].as_str().unwrap().to_owned(),
            logits: case["logits"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(step, row)| {
                    let row = row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
                    (step.parse().unwrap(), row)
                })
                .collect(),
        })
        .collect()
}

fn largest(row: &[f32]) -> u32 {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0) as u32
}

/// Tells a story greedily and holds it against the given one. What it was told on.
fn tell<R: Runner>(what: &str, story: &Story, mut session: Session<R>, bound: f64) -> R {
    let vocab = session.model.config.vocab as usize;
    let mut ids = story.prompt.clone();
    let mut rows = session.feed(PlanKind::Logits, &ids, Class::Prompt).unwrap();
    while ids.len() < story.greedy.len() {
        ids.push(largest(&rows[rows.len() - vocab..]));
        rows.extend(session.feed(PlanKind::Logits, &ids[ids.len() - 1..], Class::Generated).unwrap());
    }
    let error = |(position, want): &(usize, Vec<f64>)| largest_error(&rows[position * vocab..][..vocab], want);
    let worst = story.logits.iter().map(error).fold(0.0, f64::max);
    println!("{what:24} largest error {worst:9.2e}");
    assert_eq!(ids, story.greedy, "{what}");
    assert!(worst <= bound, "{what}: largest error {worst:e} of the largest logit; the bound is {bound:e}");
    session.into_runner()
}

#[test]
fn stories_are_told_as_expected() {
    let Some(data) = shared_data_or_skip("stories260K") else { return };
    let file = open(&data.join("models/stories260K.gguf")).unwrap();
    let stories = stories(&std::fs::read(data.join("models/stories260K.expected.json")).unwrap());
    let config = Config::from_file(&file).unwrap();
    let tokenizer = Tokenizer::from_file(&file).unwrap().unwrap();
    for story in &stories {
        assert_eq!(tokenizer.decode(&story.greedy, true).trim_start(), story.text.trim_start());
        for (what, kv, bound) in [("reference, f64 cache", KvPrecision::F64, 1e-6), ("reference, f16 cache", KvPrecision::F16, 3e-3)] {
            let session = Session::open(Reference::new(kv, Inputs::Exact), &file, config.clone()).unwrap();
            tell(what, story, session, bound);
        }
        for backend in every_backend("stories260K on GPU backends") {
            let session = Session::open(backend.take(), &file, config.clone()).unwrap();
            backend.give_back(tell(&backend.to_string(), story, session, 3e-3));
        }
    }
}
