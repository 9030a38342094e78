//! What structured output costs: compiling a schema, compiling it again, and the mask of each token, on real vocabularies.
//!
//! usage: cargo run --release -p firecrest-tests --bin grammar-masks

use std::time::{Duration, Instant};

use firecrest_engine::grammar::{Compiler, Constraint, Grammar, Progress, Trigger};
use firecrest_engine::text::Tokenizer;
use firecrest_tests::random::Random;
use firecrest_tests::{runner, shared_data};
use serde_json::json;

/// Texts drawn a vocabulary.
const TEXTS: usize = 40;

fn main() {
    let Some(data) = shared_data() else {
        eprintln!("the shared test data is absent: set FIRECREST_SHARED to its folder");
        std::process::exit(1);
    };
    // Of the kind that tools have: nested objects, an enumeration, a list, numbers.
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 40 },
            "age": { "type": "integer", "minimum": 0, "maximum": 120 },
            "email": { "type": "string", "format": "email" },
            "kind": { "enum": ["person", "company", "robot"] },
            "tags": { "type": "array", "items": { "type": "string", "maxLength": 20 }, "maxItems": 4 },
            "address": {
                "type": "object",
                "properties": { "street": { "type": "string", "maxLength": 30 }, "number": { "type": "number" } },
                "required": ["street"],
                "additionalProperties": false,
            },
        },
        "required": ["name", "age", "kind"],
        "additionalProperties": false,
    });
    let constraint = Constraint { grammar: Grammar::JsonSchema(schema), trigger: Trigger::Start };
    println!(
        "{:24} {:>7} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "VOCABULARY", "TOKENS", "PREPARE", "COMPILE", "AGAIN", "MASK mean", "MASK p99"
    );
    for name in ["ggml-vocab-gpt-2", "ggml-vocab-phi-3", "ggml-vocab-deepseek-coder"] {
        let file = runner::open(&data.join(format!("tokenizers/{name}.gguf"))).expect("a vocabulary");
        let tokenizer = Tokenizer::from_file(&file).expect("understood").expect("there");
        let vocab = tokenizer.vocab_size() as u32;
        let began = Instant::now();
        let compiler = Compiler::new(&tokenizer, vocab);
        // The first grammar makes what all need.
        compiler.compile(&Constraint { grammar: Grammar::Regex("a".into()), trigger: Trigger::Start }).expect("compiles");
        let prepare = began.elapsed();
        let began = Instant::now();
        compiler.compile(&constraint).expect("compiles");
        let compile = began.elapsed();
        let began = Instant::now();
        compiler.compile(&constraint).expect("compiles");
        let again = began.elapsed();
        let mut masks: Vec<Duration> = Vec::new();
        let mut random = Random::new(1);
        for _ in 0..TEXTS {
            let mut governed = compiler.compile(&constraint).expect("compiles");
            for _ in 0..120 {
                let began = Instant::now();
                governed.prepare().expect("a mask");
                masks.push(began.elapsed());
                let allowed = governed.allowed().expect("a mask").expect("a grammar holds").to_vec();
                let choices: Vec<u32> = (0..vocab).filter(|id| allowed[*id as usize / 32] >> (id % 32) & 1 == 1).collect();
                let id = *random.pick(&choices);
                if tokenizer.end_of_generation().contains(&id) || governed.take(id).expect("allowed") == Progress::Complete {
                    break;
                }
            }
        }
        masks.sort_unstable();
        let mean = masks.iter().sum::<Duration>() / masks.len() as u32;
        let ms = |d: Duration| format!("{:.3} ms", d.as_secs_f64() * 1e3);
        let p99 = masks[masks.len() * 99 / 100];
        println!("{name:24} {vocab:>7} {:>10} {:>10} {:>10} {:>10} {:>10}", ms(prepare), ms(compile), ms(again), ms(mean), ms(p99));
    }
}
