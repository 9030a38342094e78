//! Exactness under churn: whatever joins, leaves, is cancelled, loses its pages, shares a prefix or is drafted ahead, every sequence gets bit for
//! bit what it gets alone.

use firecrest_engine::engine::{AdapterId, Priority, Sharing, Speculation};
use firecrest_tests::count;

use super::*;

const VOCAB: u32 = 96;
const CONTEXT: u32 = 64;

/// Requests that are made again and again, so that what each gets alone is computed once. Half of them begin alike.
fn requests(generates: bool) -> Vec<Request> {
    let mut random = Random::new(2024);
    let beginning: Vec<u32> = (0..40).map(|i| i * 13 % VOCAB).collect();
    (0..14usize)
        .map(|index| {
            let shared = if index % 2 == 0 { 16 + random.below(24) } else { 0 };
            let own = 1 + random.below(16);
            let prompt: Vec<u32> = beginning[..shared].iter().copied().chain((0..own).map(|_| random.token(VOCAB))).collect();
            if !generates || index == 13 {
                return Request::embed(prompt, Embed::default());
            }
            if index == 12 {
                return Request::logits(prompt);
            }
            // A few tokens far likelier than others make texts that repeat themselves.
            let logit_bias = if index % 3 == 0 { (3..VOCAB).map(|token| (token, -60.0)).collect() } else { Vec::new() };
            let sampling = Sampling { seed: index as u64, logit_bias, ..Sampling::default() };
            let max_tokens = Some(1 + random.token(24));
            let generate = Generate { max_tokens, sampling, ignore_eos: true, logits: true, ..Generate::default() };
            Request::generate(prompt, generate)
        })
        .collect()
}

/// `schedules` schedules on one engine, a third of its requests each with one of two adapters and with none where `adapted`; where pages run out, because the cache holds less than two full sequences.
fn churn(family: &str, format: Format, kv_format: KvFormat, backend: &BackendChoice, schedules: usize, adapted: bool) {
    let file = tiny(family, format);
    let mut requests = requests(family != "bert");
    if adapted {
        // What begins alike is asked of all.
        let with = |(index, request): (usize, &Request)| Request {
            adapter: [None, Some(AdapterId(0)), Some(AdapterId(1))][index % 3],
            ..request.clone()
        };
        requests = requests.iter().flat_map(|request| [request; 2]).enumerate().map(with).collect();
    }
    let load = |options: EngineOptions| {
        let mut engine = load(&file, backend, options);
        if adapted {
            assert_eq!(adapters::two(&file, &mut engine), [AdapterId(0), AdapterId(1)], "ids count from 0");
        }
        engine
    };
    let roomy = EngineOptions { context: Some(CONTEXT), kv_format, ..EngineOptions::default() };
    let alone: Vec<Transcript> = {
        let mut engine = load(roomy.clone());
        let plain = |request: &Request| {
            let mut request = Request { sharing: Sharing { private: true, ..Sharing::default() }, ..request.clone() };
            if let Work::Generate(generate) = &mut request.work {
                generate.speculation = Speculation::Off;
            }
            request
        };
        requests.iter().map(|request| run(&mut engine, plain(request)).apart_from_cost()).collect()
    };
    let tight = EngineOptions { cache: CacheSize::Positions(112), max_sequences: 6, step_rows: 24, ..roomy.clone() };
    let mut engines = [load(tight), load(EngineOptions { max_sequences: 12, step_rows: 80, ..roomy })];
    let mut cost = Usage::default();
    for schedule in 0..schedules {
        let mut random = Random::new(schedule as u64);
        let engine = &mut engines[schedule % 2];
        if random.one_in(4) {
            engine.forget_prefixes();
        }
        let mut mine: BTreeMap<SequenceId, usize> = BTreeMap::new();
        let mut transcripts = BTreeMap::new();
        let mut joining = 3 + random.below(10);
        while joining > 0 || !engine.is_idle() {
            match random.below(5) {
                0 | 1 if joining > 0 => {
                    let which = random.below(requests.len());
                    let priority = Priority { lane: random.below(3) as u8, ..Priority::default() };
                    let sharing = Sharing { private: random.one_in(6), ..Sharing::default() };
                    let request = Request { priority, sharing, ..requests[which].clone() };
                    mine.insert(engine.submit(request).unwrap().accepted().unwrap(), which);
                    joining -= 1;
                }
                2 if random.one_in(8) && !mine.is_empty() => {
                    let id = *mine.keys().nth(random.below(mine.len())).unwrap();
                    engine.cancel(id);
                }
                _ => pollster::block_on(engine.step()).unwrap().into_iter().for_each(|event| note(&mut transcripts, event)),
            }
        }
        assert_eq!(engine.occupancy().pages_used, 0, "pages leak");
        for (id, which) in mine {
            let got: Transcript = transcripts.remove(&id).unwrap();
            let usage = got.end.as_ref().unwrap().1;
            cost.cached_tokens += usage.cached_tokens;
            cost.accepted_tokens += usage.accepted_tokens;
            cost.recomputed_tokens += usage.recomputed_tokens;
            if got.reason() == &FinishReason::Cancelled {
                assert!(alone[which].tokens.starts_with(&got.tokens) && alone[which].logits.starts_with(&got.logits), "{backend} {family}");
            } else {
                assert_eq!(got.apart_from_cost(), alone[which], "{backend} {family}: schedule {schedule}, request {which}");
            }
        }
    }
    println!("{backend} {family} {format}, {kv_format} cache: {schedules} schedules, {cost:?}");
    if family == "llama" && schedules >= 20 {
        assert!(cost.cached_tokens > 0 && cost.accepted_tokens > 0 && cost.recomputed_tokens > 0, "{cost:?} shows too little");
    }
}

#[test]
fn whatever_happens_around_it_a_sequence_is_itself() {
    for backend in backends("engine: churn") {
        let schedules = match rounds_on(&backend) {
            4 => count("FIRECREST_SCHEDULES", 200),
            _ => 20,
        };
        churn("llama", Format::Q8_0, KvFormat::F16, &backend, schedules, false);
        churn("llama", Format::Q8_0, KvFormat::F16, &backend, schedules / 2, true);
        churn("gemma3", Format::F16, KvFormat::F16, &backend, schedules / 4, false);
        churn("llama", Format::Q8_0, KvFormat::Int8, &backend, 20, false);
        churn("gemma2", Format::Q4_0, KvFormat::Int8, &backend, 4, true);
        if rounds_on(&backend) == 4 {
            churn("gemma2", Format::Q4_0, KvFormat::F16, &backend, schedules / 4, false);
            churn("gemma2", Format::Q4_0, KvFormat::F16, &backend, schedules / 4, true);
            churn("bert", Format::F16, KvFormat::F16, &backend, schedules / 10, false);
        }
    }
}
