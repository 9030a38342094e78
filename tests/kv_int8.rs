//! What an int8 KV cache costs in quality and saves in memory, on the model that ships.
//!
//! `data/held_out_chat.txt` is what `runtime/models/train/talk.py` says from a seed (20261121) that training never used.

use firecrest_engine::engine::{Engine, EngineOptions, Event, KvFormat, Request};
use firecrest_engine::text::EncodeOptions;
use firecrest_tests::backends::{BackendChoice, backends};
use firecrest_tests::{repository, runner};

const TEXT: &str = include_str!("data/held_out_chat.txt");

/// Tokens of a row: what training saw at once.
const ROW: usize = 512;

/// The most that the perplexity may rise, as a ratio.
const RISE: f64 = 1.01;

fn load(backend: &BackendChoice, kv_format: KvFormat) -> Engine {
    let file = runner::open(&repository().join("runtime/models/chat.gguf")).unwrap();
    let options = EngineOptions { context: Some(ROW as u32), max_sequences: 4, kv_format, ..EngineOptions::default() };
    pollster::block_on(Engine::load(&file, backend.take(), options, &mut |_, _| {})).unwrap()
}

/// Perplexity over the rows: exp of the mean of −log p(token | those before it in its row).
fn perplexity(engine: &mut Engine, rows: &[&[u32]]) -> f64 {
    let vocab = engine.model().config.vocab as usize;
    let (mut sum, mut count) = (0.0, 0.0);
    for row in rows {
        engine.submit(Request::logits(row.to_vec())).unwrap().accepted().unwrap();
        while !engine.is_idle() {
            for event in pollster::block_on(engine.step()).unwrap() {
                let Event::Logits { position, values, .. } = event else { continue };
                let next = &row[position as usize + 1..];
                for (logits, &token) in values.chunks_exact(vocab).zip(next) {
                    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let total: f64 = logits.iter().map(|&l| f64::from(l - largest).exp()).sum();
                    sum += total.ln() - f64::from(logits[token as usize] - largest);
                    count += 1.0;
                }
            }
        }
    }
    (sum / count).exp()
}

#[test]
fn an_int8_cache_keeps_the_perplexity() {
    for backend in backends("perplexity with an int8 cache") {
        let mut engines = [KvFormat::F16, KvFormat::Int8].map(|kv| load(&backend, kv));
        let ids = engines[0].tokenizer().unwrap().encode(TEXT, EncodeOptions { add_special: false, parse_special: true }).unwrap();
        // A software GPU takes its time.
        let length = if backend == BackendChoice::Cpu { ROW } else { 256 };
        let rows: Vec<&[u32]> = ids.chunks_exact(length).take(if backend == BackendChoice::Cpu { usize::MAX } else { 2 }).collect();
        let [f16, int8] = [0, 1].map(|i| perplexity(&mut engines[i], &rows));
        let tokens = rows.len() * length;
        println!("{backend}: perplexity over {tokens} tokens: f16 {f16:.5}, int8 {int8:.5}, ratio {:.5}", int8 / f16);
        assert!(f16 < 4.0, "the text is of the kind the model knows: {f16}");
        assert!(int8 <= f16 * RISE, "{backend}: {int8} is more than {RISE} times {f16}");
        assert_ne!(f16.to_bits(), int8.to_bits(), "the format was not taken on");
        engines.into_iter().for_each(|engine| backend.give_back(engine.unload()));
    }
}

#[test]
fn an_int8_cache_takes_little_more_than_half() {
    for backend in backends("memory of an int8 cache") {
        let [f16, int8] = [KvFormat::F16, KvFormat::Int8].map(|kv| {
            let engine = load(&backend, kv);
            let bytes = engine.memory().kv;
            let groups = engine.model().kv_groups(0, kv);
            // Heads of 64 need no padding: what is planned is what is held.
            let pages = u64::from(engine.occupancy().pages);
            assert_eq!(bytes, pages * groups[0].page_bytes(), "{backend}, {kv}");
            backend.give_back(engine.unload());
            (bytes, pages)
        });
        assert_eq!(f16.1, int8.1, "the same room");
        let ratio = int8.0 as f64 / f16.0 as f64;
        println!("{backend}: {} bytes of f16, {} of int8: {ratio:.4}", f16.0, int8.0);
        assert!((0.51..0.52).contains(&ratio), "{ratio}");
    }
}
