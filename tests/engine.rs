//! The engine whole: requests in, events out, on every backend there is.
//!
//! The trained stories260K says whether text is right; tiny random models whose features bite say whether a sequence's bits
//! depend on anything but itself.

#[path = "engine/adapters.rs"]
mod adapters;
#[path = "engine/churn.rs"]
mod churn;
#[path = "engine/cold.rs"]
mod cold;
#[path = "engine/waits.rs"]
mod waits;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use firecrest_engine::Format;
use firecrest_engine::engine::{
    CacheSize, Embed, Engine, EngineOptions, Event, FinishReason, Generate, Pooling, Priority, Request, Sampling, SequenceId, Sharing,
    Usage, Work,
};
use firecrest_engine::file::ModelFile;
use firecrest_engine::kv::{KvFormat, PAGE_LEN};
use firecrest_tests::backends::{BackendChoice, backends};
use firecrest_tests::random::Random;
use firecrest_tests::random_models::{RandomModel, open_bytes};
use firecrest_tests::{full, runner, shared_data_or_skip};
use serde_json::Value;

fn stories(what: &str) -> Option<(ModelFile, Value)> {
    let models = shared_data_or_skip(what)?.join("models");
    let expected = std::fs::read_to_string(models.join("stories260K.expected.json")).unwrap();
    Some((runner::open(&models.join("stories260K.gguf")).unwrap(), serde_json::from_str(&expected).unwrap()))
}

fn tiny(family: &str, format: Format) -> ModelFile {
    open_bytes(family, RandomModel::of(family, format, false).finish()).unwrap()
}

/// An engine whose backend goes back to where it was taken from.
struct Borrowed {
    engine: Option<Engine>,
    choice: BackendChoice,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // After a failure nobody knows what state it is in.
        if let (Some(engine), false) = (self.engine.take(), std::thread::panicking()) {
            self.choice.give_back(engine.unload());
        }
    }
}

impl Deref for Borrowed {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap()
    }
}

fn load(file: &ModelFile, choice: &BackendChoice, options: EngineOptions) -> Borrowed {
    let engine = pollster::block_on(Engine::load(file, choice.take(), options, &mut |_, _| {})).unwrap();
    Borrowed { engine: Some(engine), choice: choice.clone() }
}

/// What one sequence was sent.
#[derive(Clone, Debug, Default, PartialEq)]
struct Transcript {
    tokens: Vec<u32>,
    text: String,
    /// Rows of logits one after the other, as bits: NaN-proof and exact.
    logits: Vec<u32>,
    embedding: Vec<f32>,
    end: Option<(FinishReason, Usage)>,
}

impl Transcript {
    fn reason(&self) -> &FinishReason {
        &self.end.as_ref().expect("the sequence has ended").0
    }

    /// The same, but for what company changed in its cost.
    fn apart_from_cost(mut self) -> Transcript {
        let counts = |Usage { prompt_tokens, generated_tokens, .. }| Usage { prompt_tokens, generated_tokens, ..Usage::default() };
        self.end = self.end.map(|(reason, usage)| (reason, counts(usage)));
        self
    }
}

/// Steps until idle; transcripts by sequence.
fn finish(engine: &mut Engine) -> BTreeMap<SequenceId, Transcript> {
    let mut transcripts: BTreeMap<SequenceId, Transcript> = BTreeMap::new();
    while !engine.is_idle() {
        for event in pollster::block_on(engine.step()).unwrap() {
            note(&mut transcripts, event);
        }
    }
    assert_eq!(engine.occupancy().pages_used, 0, "pages leak");
    transcripts
}

fn note(transcripts: &mut BTreeMap<SequenceId, Transcript>, event: Event) {
    match event {
        Event::Token { sequence, id, .. } => transcripts.entry(sequence).or_default().tokens.push(id),
        Event::Text { sequence, text } => {
            assert!(!text.is_empty());
            transcripts.entry(sequence).or_default().text.push_str(&text);
        }
        Event::Logits { sequence, values, .. } => {
            transcripts.entry(sequence).or_default().logits.extend(values.iter().map(|x| x.to_bits()));
        }
        Event::Logprobs { .. } => {}
        Event::Embedding { sequence, values } => transcripts.entry(sequence).or_default().embedding = values,
        Event::Done { sequence, reason, usage } => {
            let end = &mut transcripts.entry(sequence).or_default().end;
            assert_eq!(*end, None, "a sequence ends once");
            *end = Some((reason, usage));
        }
    }
}

/// One request in an engine.
fn run(engine: &mut Engine, request: Request) -> Transcript {
    let id = engine.submit(request).unwrap().accepted().unwrap();
    finish(engine).remove(&id).unwrap()
}

fn greedy(prompt: &[u32], max_tokens: u32) -> Request {
    let sampling = Sampling::greedy();
    Request::generate(prompt.to_vec(), Generate { max_tokens: Some(max_tokens), sampling, ..Generate::default() })
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

#[test]
fn stories_are_told_word_for_word() {
    let what = "engine: stories260K";
    let Some((file, expected)) = stories(what) else { return };
    for backend in backends(what) {
        let mut engine = load(&file, &backend, EngineOptions::default());
        for case in expected["cases"].as_array().unwrap() {
            let (prompt, all) = (ids(&case["prompt_ids"]), ids(&case["greedy_ids"]));
            let told = run(&mut engine, greedy(&prompt, (all.len() - prompt.len()) as u32));
            assert_eq!(told.tokens, all[prompt.len()..], "{backend}");
            let text = case["prompt"].as_str().unwrap().to_string() + &told.text;
            assert_eq!(text, case["greedy_text"].as_str().unwrap(), "{backend}");
            let (prompt_tokens, generated_tokens) = (prompt.len() as u32, told.tokens.len() as u32);
            let usage = Usage { prompt_tokens, generated_tokens, ..Usage::default() };
            assert_eq!(told.apart_from_cost().end, Some((FinishReason::MaxTokens, usage)));
        }
    }
}

/// Requests of every kind that a model of `vocab` tokens takes, the same for the same seed.
fn neighbours(count: usize, vocab: u32, longest: u32, generates: bool, seed: u64) -> Vec<Request> {
    let mut random = Random::new(seed);
    (0..count)
        .map(|_| {
            let length = 1 + random.token(longest);
            let prompt = (0..length).map(|_| random.token(vocab)).collect();
            let work = match random.below(6) {
                0 if generates => Work::Logits,
                1..4 if generates => Work::Generate(Generate {
                    max_tokens: Some(random.token(20)),
                    sampling: Sampling { seed: random.bits(), top_p: 0.9, ..Sampling::default() },
                    ignore_eos: true,
                    ..Generate::default()
                }),
                _ => Work::Embed(Embed::default()),
            };
            Request { prompt, work, sharing: Sharing::default(), priority: Priority::default(), adapter: None }
        })
        .collect()
}

/// A sequence's logits, tokens and embeddings are the same bits alone, among 31 others, with its prompt cut anywhere, and after it lost its pages.
fn is_itself_in_company(file: &ModelFile, backend: &BackendChoice, vocab: u32, context: u32, generates: bool) {
    let mut random = Random::new(99);
    let prompt: Vec<u32> = (0..context / 2).map(|_| random.token(vocab)).collect();
    let wanted = |seed| {
        let sampling = Sampling { seed, ..Sampling::default() };
        let generate = Generate { max_tokens: Some(context / 3), sampling, ignore_eos: true, logits: true, ..Generate::default() };
        let mut wanted = vec![Request::embed(prompt.clone(), Embed { pooling: Some(Pooling::Mean), normalise: false })];
        if generates {
            wanted.extend([Request::generate(prompt.clone(), generate), Request::logits(prompt.clone())]);
        }
        wanted
    };
    let options =
        |step_rows, cache| EngineOptions { context: Some(context), max_sequences: 32, step_rows, cache, ..EngineOptions::default() };
    let mut engine = load(file, backend, options(512, CacheSize::Auto));
    let alone: Vec<Transcript> = wanted(5).into_iter().map(|request| run(&mut engine, request).apart_from_cost()).collect();
    // Pages for one and a half sequences at full length.
    let small = CacheSize::Positions(u64::from(context) * 3 / 2 / PAGE_LEN as u64);
    let mut recomputed = 0;
    let rounds = [(33, CacheSize::Auto), (64, small), (512, CacheSize::Auto), (45, CacheSize::Auto)];
    for (round, (step_rows, cache)) in rounds.into_iter().take(rounds_on(backend)).enumerate() {
        let mut engine = load(file, backend, options(step_rows, cache));
        let mut others = neighbours(31, vocab, context / 2, generates, 7 + round as u64);
        let behind = others.split_off(11);
        if cache == small && generates {
            // Older ones that grow until they need the pages.
            let endless = Generate { ignore_eos: true, ..Generate::default() };
            others = vec![Request::generate(vec![1], endless.clone()), Request::generate(vec![2], endless)];
        }
        for other in others {
            engine.submit(other).unwrap().accepted().unwrap();
        }
        let mine: Vec<SequenceId> = wanted(5).into_iter().map(|request| engine.submit(request).unwrap().accepted().unwrap()).collect();
        for other in behind {
            engine.submit(other).unwrap().accepted().unwrap();
        }
        let mut transcripts = finish(&mut engine);
        for (id, alone) in mine.iter().zip(&alone) {
            let mine = transcripts.remove(id).unwrap();
            recomputed += mine.end.as_ref().map_or(0, |(_, usage)| usage.recomputed_tokens);
            assert_eq!(&mine.apart_from_cost(), alone, "{backend}, {step_rows} rows a step");
        }
    }
    // Groups whose every layer has a window don't grow, so nothing runs out.
    let grows = engine.model().kv_groups(0, KvFormat::F16).iter().any(|group| group.window.is_none());
    assert!(!generates || !grows || recomputed > 0, "{backend}: no sequence lost its pages; make the cache smaller");
}

/// Software GPUs are slow: on those the normal run takes the rounds and families that bite most, the full one all.
fn rounds_on(backend: &BackendChoice) -> usize {
    if *backend == BackendChoice::Cpu || full() { 4 } else { 2 }
}

#[test]
fn stories_are_themselves_in_company() {
    let what = "engine: class invariance of stories260K";
    let Some((file, _)) = stories(what) else { return };
    for backend in backends(what) {
        is_itself_in_company(&file, &backend, 512, 96, true);
    }
}

#[test]
fn every_family_is_itself_in_company() {
    // Windows, softcaps, QK-norm, post-norms, fused projections, encoders.
    let cases =
        [("gemma2", Format::Q8_0), ("bert", Format::F16), ("mistral", Format::Q8_0), ("gemma3", Format::Q4_0), ("phi3", Format::F32)];
    for backend in backends("engine: class invariance of families") {
        let some = if rounds_on(&backend) == 4 { cases.len() } else { 2 };
        for (family, format) in cases.into_iter().take(some) {
            is_itself_in_company(&tiny(family, format), &backend, 96, 64, family != "bert");
        }
    }
}

/// What a text shares with those before it is not computed again, and its answer is the same bits.
#[test]
fn a_known_prefix_changes_no_bit() {
    let what = "engine: known prefixes";
    let Some((file, _)) = stories(what) else { return };
    let prompt: Vec<u32> = (0..90).map(|i| 3 + i * 31 % 500).collect();
    let ask = |prompt: &[u32]| {
        let generate = Generate { max_tokens: Some(12), logits: true, ignore_eos: true, ..Generate::default() };
        Request::generate(prompt.to_vec(), generate)
    };
    for backend in backends(what) {
        let mut engine = load(&file, &backend, EngineOptions::default());
        let first = run(&mut engine, ask(&prompt));
        let again = run(&mut engine, ask(&prompt));
        let cached = |t: &Transcript| t.end.as_ref().map(|(_, usage)| (usage.cached_tokens, usage.written_tokens));
        assert_eq!((cached(&first), cached(&again)), (Some((0, 80)), Some((80, 0))), "{backend}");
        assert_eq!(first.apart_from_cost(), again.apart_from_cost(), "{backend}");
        // Another end: the last whole page that both begin with is at 64.
        let mut other = prompt.clone();
        other[70] = 7;
        let shared = run(&mut engine, ask(&other));
        assert_eq!(cached(&shared), Some((64, 16)), "{backend}");
        engine.forget_prefixes();
        assert_eq!(run(&mut engine, ask(&other)).apart_from_cost(), shared.apart_from_cost(), "{backend}");
    }
}

#[test]
fn a_seed_gives_one_text_whatever_is_beside_it() {
    let what = "engine: seeds";
    let Some((file, _)) = stories(what) else { return };
    let sampled = |seed| {
        let sampling = Sampling { seed, temperature: 0.9, top_k: 40, top_p: 0.95, min_p: 0.02, ..Sampling::default() };
        Request::generate(vec![1], Generate { max_tokens: Some(24), sampling, ..Generate::default() })
    };
    for backend in backends(what) {
        let mut engine = load(&file, &backend, EngineOptions::default());
        let alone: Vec<Transcript> = (0..4).map(|seed| run(&mut engine, sampled(seed)).apart_from_cost()).collect();
        let ids: Vec<SequenceId> = (0..20).map(|i| engine.submit(sampled(i % 4)).unwrap().accepted().unwrap()).collect();
        let transcripts = finish(&mut engine);
        assert_eq!(transcripts.len(), 20, "more than run at once");
        for (id, i) in ids.iter().zip(0..) {
            assert_eq!(transcripts[id].clone().apart_from_cost(), alone[i % 4], "{backend}");
        }
        assert_ne!(alone[0].text, alone[1].text);
    }
}

#[test]
fn stop_strings_cut_across_tokens() {
    let what = "engine: stop strings";
    let Some((file, _)) = stories(what) else { return };
    let mut engine = load(&file, &BackendChoice::Cpu, EngineOptions::default());
    let whole = run(&mut engine, greedy(&[1], 60));
    let text = "Once upon a time, there was a little girl named Lily.";
    assert!(whole.text.starts_with(text));
    // Every substring of three characters, so that every token border falls inside some of them.
    for start in 0..text.len() - 3 {
        let stop = &text[start..start + 3];
        let mut request = greedy(&[1], 60);
        let Work::Generate(generate) = &mut request.work else { unreachable!() };
        generate.stop = vec!["never said".into(), stop.into()];
        let told = run(&mut engine, request);
        assert_eq!(told.text, text[..text.find(stop).unwrap()], "stop {stop:?}");
        assert_eq!(told.reason(), &FinishReason::StopString(1));
        assert!(whole.tokens.starts_with(&told.tokens));
    }
    // A stop string that begins but never completes holds nothing back for good.
    let mut request = greedy(&[1], 60);
    let Work::Generate(generate) = &mut request.work else { unreachable!() };
    generate.stop = vec![whole.text[whole.text.len() - 5..].to_string() + "!!"];
    assert_eq!(run(&mut engine, request).apart_from_cost(), whole.apart_from_cost());
}

#[test]
fn cancelling_in_flight_frees_pages_at_once() {
    let what = "engine: cancel";
    let Some((file, _)) = stories(what) else { return };
    for backend in backends(what) {
        let mut engine = load(&file, &backend, EngineOptions::default());
        let alone = run(&mut engine, greedy(&[1], 40));
        let kept = engine.submit(greedy(&[1], 40)).unwrap().accepted().unwrap();
        let mut transcripts = BTreeMap::new();
        let mut step = |engine: &mut Engine| pollster::block_on(engine.step()).unwrap().into_iter().for_each(|e| note(&mut transcripts, e));
        step(&mut engine);
        let only = engine.occupancy().pages_used;
        let cut = engine.submit(greedy(&[1; 100], 40)).unwrap().accepted().unwrap();
        (0..5).for_each(|_| step(&mut engine));
        assert!(engine.occupancy().pages_used > only);
        assert!(engine.cancel(cut));
        assert_eq!(engine.occupancy().pages_used, only);
        assert_eq!(engine.occupancy().running, 1);
        while !engine.is_idle() {
            step(&mut engine);
        }
        assert_eq!(transcripts[&cut].reason(), &FinishReason::Cancelled);
        assert_eq!(transcripts[&kept].tokens, alone.tokens, "{backend}");
    }
}

#[test]
fn logprobs_are_of_the_logits_sent_with_them() {
    let what = "engine: logprobs";
    let Some((file, _)) = stories(what) else { return };
    let mut engine = load(&file, &BackendChoice::Cpu, EngineOptions::default());
    let generate = Generate { max_tokens: Some(8), logprobs: Some(3), logits: true, ..Generate::default() };
    engine.submit(Request::generate(vec![1], generate)).unwrap().accepted().unwrap();
    let mut rows = 0;
    while !engine.is_idle() {
        let mut row = Vec::new();
        for event in pollster::block_on(engine.step()).unwrap() {
            match event {
                Event::Logits { values, position, .. } => {
                    assert_eq!(position, rows);
                    row = values.iter().map(|&x| f64::from(x)).collect();
                }
                Event::Token { id, logprobs, .. } => {
                    let logprobs = logprobs.unwrap();
                    let sum: f64 = row.iter().map(|x| x.exp()).sum();
                    let logprob = |id: u32| row[id as usize] - sum.ln();
                    assert!((f64::from(logprobs.chosen) - logprob(id)).abs() < 1e-4);
                    assert_eq!(logprobs.top.len(), 3);
                    for (id, given) in logprobs.top {
                        assert!((f64::from(given) - logprob(id)).abs() < 1e-4);
                    }
                    rows += 1;
                }
                _ => {}
            }
        }
    }
    assert_eq!(rows, 8);
}

#[test]
fn embeddings_pool_as_asked() {
    for backend in backends("engine: embeddings") {
        for family in ["bert", "llama"] {
            let mut engine = load(&tiny(family, Format::F16), &backend, EngineOptions::default());
            let prompt = vec![5, 9, 2, 30, 17];
            let mut embed = |pooling, normalise| run(&mut engine, Request::embed(prompt.clone(), Embed { pooling, normalise })).embedding;
            let length = |v: &[f32]| v.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            let mean = embed(Some(Pooling::Mean), false);
            assert!((length(&embed(Some(Pooling::Mean), true)) - 1.0).abs() < 1e-6);
            let (first, last) = (embed(Some(Pooling::Cls), false), embed(Some(Pooling::Last), false));
            assert!(mean != first && first != last && mean != last, "{backend}, {family}");
            // A direction is kept: normalised is mean over its length.
            let unit = embed(Some(Pooling::Mean), true);
            let scaled: Vec<f32> = mean.iter().map(|&x| (f64::from(x) / length(&mean)) as f32).collect();
            assert!(unit.iter().zip(&scaled).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }
}

#[test]
fn options_that_contradict_themselves_are_refused() {
    let file = tiny("llama", Format::F32);
    let default = EngineOptions::default;
    let cases = [
        (EngineOptions { max_sequences: 0, ..default() }, "max_sequences is 0"),
        (EngineOptions { max_requests: 3, ..default() }, "max_requests is 3"),
        (EngineOptions { step_rows: 16, ..default() }, "step_rows is 16"),
        (EngineOptions { context: Some(0), ..default() }, "context of 0"),
        (EngineOptions { cache: CacheSize::Positions(0), ..default() }, "no room for a single page"),
        (EngineOptions { cache: CacheSize::Bytes(10), ..default() }, "no room for a single page"),
    ];
    for (options, says) in cases {
        let backend = BackendChoice::Cpu.take();
        let refused = pollster::block_on(Engine::load(&file, backend, options, &mut |_, _| {})).err().expect(says);
        assert!(refused.message().contains(says), "{refused}");
    }
}
