//! LoRA adapters among other requests: rows of different adapters and of none in one step, prefixes, loading and unloading.

use firecrest_engine::ErrorCode;
use firecrest_engine::engine::AdapterId;
use firecrest_engine::quant::GgmlType;
use firecrest_tests::random_adapters::{RandomAdapter, open_gguf};

use super::*;

/// Two adapters of different ranks and targets.
pub(super) fn two(file: &ModelFile, engine: &mut Engine) -> [AdapterId; 2] {
    let all = RandomAdapter::of(file, 21, 8, true, |_| true);
    let some = RandomAdapter::of(file, 22, 3, false, |name| name.contains("attn_v") || name.contains("ffn"));
    [(all, 0.8), (some, -1.5)].map(|(adapter, strength)| {
        let opened = open_gguf(adapter.gguf(GgmlType::F32)).unwrap();
        pollster::block_on(engine.load_adapter(&opened, strength)).unwrap()
    })
}

fn story(which: usize) -> Request {
    let prompt: Vec<u32> = (0..20 + which as u32 * 7).map(|i| (i * 13 + which as u32) % 96).collect();
    let sampling = Sampling { seed: which as u64, ..Sampling::default() };
    Request::generate(prompt, Generate { max_tokens: Some(12), sampling, ignore_eos: true, logits: true, ..Generate::default() })
}

#[test]
fn rows_of_all_adapters_and_of_none_share_steps() {
    for backend in backends("engine: adapters in one step") {
        for (family, format) in [("llama", Format::Q8_0), ("gemma2", Format::F16), ("phi3", Format::F32)] {
            let file = tiny(family, format);
            // Those without an adapter must get what an engine gives that has never seen one.
            let plain: Vec<Transcript> = {
                let mut engine = load(&file, &backend, EngineOptions::default());
                (0..3).map(|which| run(&mut engine, story(which)).apart_from_cost()).collect()
            };
            let mut engine = load(&file, &backend, EngineOptions::default());
            let [a, b] = two(&file, &mut engine);
            let asked: Vec<Request> = [None, Some(a), Some(b)]
                .into_iter()
                .flat_map(|adapter| (0..3).map(move |which| Request { adapter, ..story(which) }))
                .collect();
            let alone: Vec<Transcript> = asked
                .iter()
                .map(|request| {
                    run(&mut engine, Request { sharing: Sharing { private: true, ..Sharing::default() }, ..request.clone() })
                        .apart_from_cost()
                })
                .collect();
            assert!(alone[..3] == plain, "{backend} {family}: an adapter that is held changes who has none");
            let ids: Vec<SequenceId> = asked.iter().map(|request| engine.submit(request.clone()).unwrap().accepted().unwrap()).collect();
            let mut together = finish(&mut engine);
            for ((id, alone), request) in ids.iter().zip(&alone).zip(&asked) {
                let got = together.remove(id).unwrap().apart_from_cost();
                assert!(got == *alone, "{backend} {family}: {:?} among others", request.adapter);
            }
            for which in 0..3 {
                assert!(alone[which].logits != alone[3 + which].logits && alone[3 + which].logits != alone[6 + which].logits);
            }
        }
    }
}

#[test]
fn prefixes_are_shared_within_an_adapter_only() {
    let file = tiny("llama", Format::Q8_0);
    let mut engine = load(&file, &BackendChoice::Cpu, EngineOptions::default());
    let [a, b] = two(&file, &mut engine);
    let cached = |engine: &mut Engine, adapter| run(engine, Request { adapter, ..story(2) }).end.unwrap().1.cached_tokens;
    assert_eq!([None, Some(a), Some(b)].map(|adapter| cached(&mut engine, adapter)), [0, 0, 0]);
    assert_eq!([None, Some(a), Some(b)].map(|adapter| cached(&mut engine, adapter)), [32, 32, 32]);
}

#[test]
fn adapters_come_and_go() {
    for backend in backends("engine: adapters come and go") {
        let file = tiny("qwen2", Format::F16);
        let mut engine = load(&file, &backend, EngineOptions::default());
        let before = run(&mut engine, story(1)).apart_from_cost();
        let unknown = engine.submit(Request { adapter: Some(AdapterId(0)), ..story(1) }).unwrap_err();
        assert_eq!((unknown.code(), unknown.code().name()), (ErrorCode::UnknownAdapter, "unknown_adapter"));
        let held = engine.memory().adapters;
        let [a, b] = two(&file, &mut engine);
        assert!(engine.memory().adapters > held);
        assert_eq!(
            engine.adapters().iter().map(|info| (info.id, info.rank, info.strength)).collect::<Vec<_>>(),
            [(a, 8, 0.8), (b, 3, -1.5)]
        );
        let with_b = run(&mut engine, Request { adapter: Some(b), ..story(1) }).apart_from_cost();
        // One that does not fit changes nothing.
        let other = tiny("llama", Format::F16);
        let wrong = open_gguf(RandomAdapter::of(&other, 1, 2, false, |_| true).gguf(GgmlType::F32)).unwrap();
        assert_eq!(pollster::block_on(engine.load_adapter(&wrong, 1.0)).unwrap_err().code(), ErrorCode::Malformed);
        assert_eq!(engine.adapters().len(), 2);
        // In use: refused.
        let id = engine.submit(Request { adapter: Some(a), ..story(1) }).unwrap().accepted().unwrap();
        let busy = engine.unload_adapter(a).unwrap_err();
        assert!(busy.code() == ErrorCode::Request && busy.message().contains("1 requests"), "{busy}");
        engine.cancel(id);
        finish(&mut engine);
        engine.unload_adapter(a).unwrap();
        assert_eq!(engine.unload_adapter(a).unwrap_err().code(), ErrorCode::UnknownAdapter);
        // The other one stands elsewhere now, and says the same.
        engine.forget_prefixes();
        assert!(
            run(&mut engine, Request { adapter: Some(b), ..story(1) }).apart_from_cost() == with_b,
            "{backend}: after unloading another"
        );
        let [c, _] = two(&file, &mut engine);
        assert!(c > b, "ids are never used again");
        assert!(run(&mut engine, Request { adapter: Some(b), ..story(1) }).apart_from_cost() == with_b, "{backend}: after loading others");
        assert!(run(&mut engine, story(1)).apart_from_cost() == before, "{backend}: without an adapter");
        for id in engine.adapters().iter().map(|info| info.id).collect::<Vec<_>>() {
            engine.unload_adapter(id).unwrap();
        }
        assert_eq!(engine.memory().adapters, held);
    }
}
