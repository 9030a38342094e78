//! The first request of an engine: whatever it is, and in whatever order requests come, each gets what it gets of an engine that answered others before.

use firecrest_engine::engine::AdapterId;
use firecrest_engine::grammar::{Constraint, Grammar, Trigger};

use super::*;

/// Rows of a step: prompts of more begin with steps that leave nothing to read.
const ROWS: u32 = 17;

/// How engines of a case are made.
struct Cold<'a> {
    file: &'a ModelFile,
    backend: &'a BackendChoice,
    options: EngineOptions,
    adapted: bool,
}

impl Cold<'_> {
    fn engine(&self) -> Borrowed {
        let mut engine = load(self.file, self.backend, self.options.clone());
        if self.adapted {
            adapters::two(self.file, &mut engine);
        }
        engine
    }

    /// What each request gets of an engine that has answered others, in a seeded order, and as the first of a fresh engine.
    fn check(&self, requests: &[Request], first: usize) {
        let Cold { backend, options, .. } = self;
        let name = format!("{backend}, {:?}", options.kv_format);
        let private = |request: &Request| Request { sharing: Sharing { private: true, ..Sharing::default() }, ..request.clone() };
        let mut engine = self.engine();
        // As many outputs as rows: from here on every buffer is there.
        run(&mut engine, Request::embed(vec![1; ROWS as usize], Embed { pooling: Some(Pooling::Mean), normalise: false }));
        let warm: Vec<Transcript> = requests.iter().map(|request| run(&mut engine, private(request)).apart_from_cost()).collect();
        for (request, transcript) in requests.iter().zip(&warm) {
            assert!(!matches!(transcript.reason(), FinishReason::Failed { .. }), "{name}: {request:?}: {:?}", transcript.reason());
        }
        drop(engine);
        for seed in 0..3 {
            let mut order: Vec<usize> = (0..requests.len()).collect();
            let mut random = Random::new(seed);
            (1..order.len()).rev().for_each(|at| order.swap(at, random.below(at + 1)));
            let mut engine = self.engine();
            for which in order {
                let got = run(&mut engine, requests[which].clone()).apart_from_cost();
                assert_eq!(got, warm[which], "{name}: order {seed}, request {which}: {:?}", requests[which]);
            }
        }
        for (which, request) in requests.iter().enumerate().step_by(first) {
            let got = run(&mut self.engine(), request.clone()).apart_from_cost();
            assert_eq!(got, warm[which], "{name}: request {which} as the first: {request:?}");
        }
    }
}

/// Requests of each kind, within one step and over several, at the borders of steps and pages.
fn requests(longest: u32, generates: bool, adapted: bool) -> Vec<Request> {
    let mut random = Random::new(11);
    let mut requests = Vec::new();
    for length in [1, 3, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS, longest] {
        let prompt: Vec<u32> = (0..length).map(|_| random.token(96)).collect();
        let pooled = |pooling| Request::embed(prompt.clone(), Embed { pooling: Some(pooling), normalise: false });
        requests.extend([Pooling::Mean, Pooling::Cls, Pooling::Last].map(pooled));
        if generates {
            requests.push(Request::logits(prompt.clone()));
            requests.extend([(0, false), (0, true), (1, true), (7, false)].map(|(most, logits)| {
                let sampling = Sampling { seed: length.into(), ..Sampling::default() };
                let generate = Generate { max_tokens: Some(most), sampling, ignore_eos: true, logits, ..Generate::default() };
                Request::generate(prompt.clone(), generate)
            }));
        }
    }
    if adapted {
        let with = |id| requests.iter().map(move |request| Request { adapter: Some(AdapterId(id)), ..request.clone() });
        requests = requests.iter().cloned().chain(with(0)).chain(with(1)).collect();
    }
    requests
}

#[test]
fn any_request_may_be_the_first() {
    let cases = [
        ("llama", Format::Q8_0, KvFormat::F16, true),
        ("gemma3", Format::Q4_0, KvFormat::Int8, false),
        ("gemma2", Format::F16, KvFormat::F16, false),
        ("phi3", Format::F32, KvFormat::Int8, true),
        ("qwen3", Format::Q4_0, KvFormat::F16, false),
        ("bert", Format::F16, KvFormat::F16, false),
    ];
    for backend in backends("engine: from cold") {
        let on_cpu = backend == BackendChoice::Cpu;
        for (family, format, kv_format, adapted) in cases.into_iter().take(if on_cpu || full() { cases.len() } else { 1 }) {
            let file = tiny(family, format);
            let options = EngineOptions { context: Some(64), max_sequences: 4, step_rows: ROWS, kv_format, ..EngineOptions::default() };
            let cold = Cold { file: &file, backend: &backend, options, adapted: adapted && on_cpu };
            cold.check(&requests(55, family != "bert", cold.adapted), if on_cpu { 1 } else { 5 });
        }
    }
}

/// Prompts of more rows than a step of an engine as it is by default, natively and in a page; and what a grammar holds.
#[test]
fn a_first_prompt_may_be_longer_than_a_step() {
    let what = "engine: long prompts from cold";
    let Some((file, _)) = stories(what) else { return };
    for backend in backends(what) {
        for (step_rows, lengths) in [(512, &[512u32, 513, 1030][..]), (64, &[64, 65, 128, 129])] {
            let options = EngineOptions { context: Some(1100), step_rows, ..EngineOptions::default() };
            let mut requests = Vec::new();
            for &length in lengths {
                let prompt: Vec<u32> = (0..length).map(|at| 3 + at * 31 % 500).collect();
                let constraint = Constraint { grammar: Grammar::Regex("[a-c]{3}".to_owned()), trigger: Trigger::Start };
                let held =
                    Generate { grammar: Some(constraint), sampling: Sampling { seed: 5, ..Sampling::default() }, ..Generate::default() };
                requests.extend([greedy(&prompt, 0), greedy(&prompt, 3), Request::generate(prompt.clone(), held)]);
                requests.push(Request::embed(prompt, Embed::default()));
            }
            let some = if backend == BackendChoice::Cpu { 1 } else { 4 };
            Cold { file: &file, backend: &backend, options, adapted: false }.check(&requests, some);
        }
    }
}
