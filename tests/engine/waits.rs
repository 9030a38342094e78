//! Where a device draws, it never waits for the host: steps are issued before those ahead of them are read.

use super::*;
use firecrest_engine::engine::Speculation;
use firecrest_engine::grammar::{Constraint, Grammar, Trigger};
use firecrest_tests::backends::every_backend;

/// SwiftShader computes a few tokens a second.
fn tokens_on(backend: &BackendChoice) -> u32 {
    if backend.to_string().to_lowercase().contains("swiftshader") { 7 } else { 40 }
}

fn ways(tokens: u32) -> Vec<Generate> {
    let plain = Generate { max_tokens: Some(tokens), speculation: Speculation::Off, ..Generate::default() };
    let with = |sampling| Generate { sampling, ..plain.clone() };
    vec![
        with(Sampling::greedy()),
        with(Sampling { seed: 3, temperature: 1.5, top_p: 0.95, ..Sampling::default() }),
        // What is in flight counts for penalties, and is known to the device only.
        with(Sampling { seed: 4, repeat_penalty: 1.5, frequency_penalty: 0.3, presence_penalty: 0.2, ..Sampling::default() }),
        with(Sampling { seed: 5, repeat_penalty: 1.3, penalty_last_n: Some(2), logit_bias: vec![(432, -2.0)], ..Sampling::greedy() }),
        with(Sampling {
            seed: 6,
            top_k: 20,
            typical_p: 0.9,
            min_p: 0.05,
            frequency_penalty: 1.0,
            penalty_last_n: None,
            ..Sampling::default()
        }),
        Generate { logprobs: Some(2), logits: true, ..with(Sampling { seed: 7, ..Sampling::default() }) },
    ]
}

fn requests(tokens: u32) -> impl Iterator<Item = Request> {
    let sharing = Sharing { private: true, ..Sharing::default() };
    ways(tokens).into_iter().map(move |generate| Request { sharing: sharing.clone(), ..Request::generate(vec![1], generate) })
}

#[test]
fn plain_rows_never_wait_for_the_host() {
    let what = "engine: waits";
    let Some((file, _)) = stories(what) else { return };
    for backend in every_backend(what).into_iter().filter(|backend| *backend != BackendChoice::Cpu) {
        let tokens = tokens_on(&backend);
        let told = |steps_in_flight| {
            let options = EngineOptions { steps_in_flight, ..EngineOptions::default() };
            let mut engine = load(&file, &backend, options);
            for request in requests(tokens) {
                engine.submit(request).unwrap().accepted().unwrap();
            }
            finish(&mut engine)
        };
        let (one, four) = (told(1), told(4));
        for ((id, one), four) in one.into_iter().zip(four.into_values()) {
            let waits = |transcript: &Transcript| transcript.end.as_ref().unwrap().1.host_waits;
            assert_eq!(waits(&four), 0, "{backend}: {id:?}");
            // The count counts: with one step in flight each token but the last is waited for.
            assert_eq!(waits(&one), tokens - 1, "{backend}: {id:?}");
            assert_eq!(four.apart_from_cost(), one.apart_from_cost(), "{backend}: {id:?}");
        }
    }
}

#[test]
fn a_grammar_waits_once_a_token_at_most() {
    let what = "engine: a grammar's waits";
    let Some((file, _)) = stories(what) else { return };
    for backend in every_backend(what).into_iter().filter(|backend| *backend != BackendChoice::Cpu) {
        let mut engine = load(&file, &backend, EngineOptions::default());
        let regex = |pattern: &str, trigger| Constraint { grammar: Grammar::Regex(pattern.into()), trigger };
        let constraints = [regex("([a-z]+ ){12}end", Trigger::Start), regex("[0-9]{3}", Trigger::Text("time,".into()))];
        let mut ids = Vec::new();
        for (seed, constraint) in (0..).zip(constraints) {
            let sampling = Sampling { seed, ..Sampling::default() };
            let generate = Generate { max_tokens: Some(tokens_on(&backend)), sampling, grammar: Some(constraint), ..Generate::default() };
            ids.push(engine.submit(Request::generate(vec![1], generate)).unwrap().accepted().unwrap());
        }
        let plain: Vec<SequenceId> =
            requests(tokens_on(&backend)).take(2).map(|request| engine.submit(request).unwrap().accepted().unwrap()).collect();
        let told = finish(&mut engine);
        let usage = |id: &SequenceId| told[id].end.as_ref().unwrap().1;
        for id in &ids {
            let Usage { host_waits, generated_tokens, .. } = usage(id);
            assert!((1..=generated_tokens).contains(&host_waits), "{backend}: {host_waits} waits for {generated_tokens} tokens");
        }
        for id in &plain {
            assert_eq!(usage(id).host_waits, 0, "{backend}: one without a grammar beside them");
        }
    }
}
