//! Schedules against a made-up model whose every output is a hash of exactly what its row sees through the pages: a token,
//! class or position out of place changes all that follows. Whatever shares the steps, a sequence must get what it gets alone.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::ErrorCode;
use crate::engine::{Admission, Generate, Pin, Priority, Sampling, Sharing, Speculation, Usage};
use crate::kv::{CacheSize, KvGroup, PAGE_LEN, PageId, Sizing};

const VOCAB: u32 = 24;
const WIDTH: usize = 6;

fn width(kind: PlanKind) -> usize {
    match kind {
        PlanKind::Logits => VOCAB as usize,
        PlanKind::States => WIDTH,
    }
}

/// The made-up model: what each page of each group holds.
struct Pages {
    windows: Vec<Option<u32>>,
    causal: bool,
    one_class: bool,
    cells: HashMap<(usize, PageId, usize), (u32, u32, Class)>,
}

impl Pages {
    fn run(&mut self, step: &Step) -> Vec<f32> {
        let batch = &step.batch;
        assert!(batch.rows.is_sorted_by_key(|r| r.class), "prompt rows come first");
        assert!(batch.outputs.is_sorted());
        for row in &batch.rows {
            let view = &batch.sequences[row.sequence as usize];
            assert!(row.position < view.length);
            let RowToken::Known(token) = row.token else { panic!("the host knows every token here") };
            for group in 0..self.windows.len() {
                let page = view.tables[group][row.position as usize / PAGE_LEN];
                assert_ne!(page, PageId::NONE);
                self.cells.insert(
                    (group, page, row.position as usize % PAGE_LEN),
                    (row.position, token, if self.one_class { Class::Prompt } else { row.class }),
                );
            }
        }
        let width = width(step.kind);
        batch.outputs.iter().flat_map(|&output| self.output(batch, &batch.rows[output as usize], width)).collect()
    }

    fn output(&self, batch: &Batch, row: &Row, width: usize) -> Vec<f32> {
        let view = &batch.sequences[row.sequence as usize];
        let last = if self.causal { row.position } else { view.length - 1 };
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for (group, window) in self.windows.iter().enumerate() {
            let first = window.map_or(0, |w| (row.position + 1).saturating_sub(w));
            for position in first..=last {
                let page = view.tables[group][position as usize / PAGE_LEN];
                let (written, token, class) = self.cells[&(group, page, position as usize % PAGE_LEN)];
                assert_eq!(written, position, "a page was overwritten by another");
                hash = (hash ^ (u64::from(token) << 1 | class as u64)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        (0..width as u64).map(|i| (hash.wrapping_add(i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 22) as f32).collect()
    }
}

/// A schedule over the made-up model.
struct Bench {
    schedule: Schedule,
    pages: Pages,
    events: BTreeMap<SequenceId, Vec<Event>>,
    steps: u32,
}

#[derive(Clone, Debug)]
struct Setup {
    windows: Vec<Option<u32>>,
    causal: bool,
    one_class: bool,
    context: u32,
    sequences: u32,
    step_rows: u32,
    logits_rows: u32,
    cache: CacheSize,
    gather: Duration,
}

impl Setup {
    fn wide(windows: Vec<Option<u32>>) -> Setup {
        let (context, sequences, step_rows) = (160, 4, 400);
        Setup {
            windows,
            causal: true,
            one_class: false,
            context,
            sequences,
            step_rows,
            logits_rows: 1000,
            cache: CacheSize::Auto,
            gather: Duration::ZERO,
        }
    }

    fn bench(&self) -> Bench {
        let group = |window| KvGroup { layers: vec![0], window, kv_heads: 1, head_dim: 8, pages: 0 };
        let mut groups: Vec<KvGroup> = self.windows.iter().map(|&w| group(w)).collect();
        let (context, sequences, step_rows) = (self.context, self.sequences, self.step_rows);
        let context = Sizing { context, sequences, step_rows }.apply(&mut groups, self.cache).unwrap();
        let limits = Limits {
            vocab: VOCAB,
            context,
            max_sequences: sequences,
            max_requests: 64,
            step_rows,
            logits_rows: self.logits_rows,
            gather: self.gather,
            ageing: Duration::from_secs(20),
            encoder: !self.causal,
            generates: self.causal,
            pooling: Pooling::Mean,
            one_class: self.one_class,
            end_of_generation: vec![3],
        };
        let mut schedule = Schedule::new(limits, KvCache::new(&groups));
        schedule.set_now(Duration::ZERO);
        Bench {
            schedule,
            pages: Pages { windows: self.windows.clone(), causal: self.causal, one_class: self.one_class, cells: HashMap::new() },
            events: BTreeMap::new(),
            steps: 0,
        }
    }
}

impl Bench {
    fn submit(&mut self, request: Request) -> SequenceId {
        self.schedule.submit(request, None, None).unwrap().accepted().unwrap()
    }

    fn step(&mut self) {
        self.steps += 1;
        self.schedule.set_now(Duration::from_secs(self.steps.into()));
        assert!(self.steps < 20_000, "no end in sight");
        if let Some(step) = self.schedule.compose().unwrap() {
            let limits = &self.schedule.limits;
            assert!(step.batch.rows.len() <= limits.step_rows as usize || limits.encoder && step.batch.sequences.len() == 1);
            assert!(step.kind == PlanKind::States || step.batch.outputs.len() <= limits.logits_rows as usize);
            let outputs = self.pages.run(&step);
            let width = width(step.kind);
            self.schedule.absorb(step, &outputs, width);
        }
        for event in self.schedule.take_events() {
            let (Event::Token { sequence, .. }
            | Event::Text { sequence, .. }
            | Event::Logits { sequence, .. }
            | Event::Embedding { sequence, .. }
            | Event::Done { sequence, .. }) = &event;
            let events = self.events.entry(*sequence).or_default();
            assert!(!matches!(events.last(), Some(Event::Done { .. })), "an event after the last");
            events.push(event);
        }
    }

    fn finish(&mut self) {
        while !self.schedule.is_idle() {
            self.step();
        }
        assert_eq!(self.schedule.cache.used_pages(), 0, "pages leak");
        self.schedule.forget_prefixes();
        assert_eq!((self.schedule.cache.idle_pages(), self.schedule.cache.prefix_nodes()), (0, 0), "prefixes leak");
        assert_eq!(self.schedule.free_slots.len(), self.schedule.limits.max_sequences as usize, "slots leak");
    }
}

/// What doesn't depend on how a request was cut into steps: tokens, all its rows of logits, its embedding, why it ended and its counts.
fn outcome(events: &[Event]) -> (Vec<u32>, Vec<f32>, Vec<f32>, Option<FinishReason>, Usage) {
    let mut all = (Vec::new(), Vec::new(), Vec::new(), None, Usage::default());
    let mut expected = None;
    for event in events {
        match event {
            Event::Token { id, .. } => all.0.push(*id),
            Event::Logits { position, values, .. } => {
                assert!(expected.is_none_or(|p| p == *position), "rows are missing or come twice");
                expected = Some(position + (values.len() / VOCAB as usize) as u32);
                all.1.extend(values);
            }
            Event::Embedding { values, .. } => all.2.extend(values),
            Event::Done { reason, usage, .. } => {
                all.3 = Some(reason.clone());
                all.4 =
                    Usage { recomputed_tokens: 0, cached_tokens: 0, written_tokens: 0, drafted_tokens: 0, accepted_tokens: 0, ..*usage };
            }
            Event::Text { .. } => {}
        }
    }
    all
}

fn request(causal: bool) -> impl Strategy<Value = Request> {
    // Half of them begin as one of two texts do.
    let beginning = prop_oneof![2 => Just(0), 1 => 1..90usize, 1 => 1..90usize].prop_flat_map(|length| (Just(length), 5..7u32));
    let prompt = (beginning, prop::collection::vec(0..VOCAB, 1..50)).prop_map(|((length, step), end)| {
        let beginning = (0..length as u32).map(|i| i * step % VOCAB);
        beginning.chain(end).collect::<Vec<u32>>()
    });
    let pin = (0..100u32, 0..40u64).prop_map(|(positions, seconds)| Pin { positions, lifetime: Duration::from_secs(seconds) });
    let sharing = (0..8u32, 0..5u32, prop::collection::vec(pin, 0..3)).prop_map(|(private, namespace, pins)| Sharing {
        namespace: if namespace == 0 { "other".into() } else { String::new() },
        private: private == 0,
        pins,
    });
    let generate = (0..60u32, any::<u64>(), any::<bool>()).prop_map(|(max_tokens, seed, ignore_eos)| {
        // Some draw from few tokens, so that drafts are often right.
        let logit_bias = if seed % 3 == 0 { (4..VOCAB).map(|token| (token, f32::NEG_INFINITY)).collect() } else { Vec::new() };
        let sampling = Sampling { seed, repeat_penalty: 1.2, logit_bias, ..Sampling::default() };
        Work::Generate(Generate { max_tokens: Some(max_tokens), sampling, ignore_eos, logits: true, ..Generate::default() })
    });
    let pooling = prop_oneof![Just(Pooling::Mean), Just(Pooling::Cls), Just(Pooling::Last)];
    let embed = (prop::option::of(pooling), any::<bool>()).prop_map(|(pooling, normalise)| Work::Embed(Embed { pooling, normalise }));
    let work = if causal { prop_oneof![4 => generate, 1 => Just(Work::Logits), 1 => embed].boxed() } else { embed.boxed() };
    let priority = (0..Priority::LANES, prop::option::of(0..400u64)).prop_map(|(lane, deadline)| Priority {
        lane,
        deadline: deadline.map(Duration::from_secs),
        patience: None,
    });
    (prompt, work, sharing, priority).prop_map(|(prompt, work, mut sharing, priority)| {
        sharing.pins.iter_mut().for_each(|pin| pin.positions = pin.positions.min(prompt.len() as u32));
        Request { prompt, work, sharing, priority }
    })
}

/// What is done between steps.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a handful, in a test")]
enum Call {
    Submit(Request),
    Cancel(usize),
    /// A step that is composed and never finished.
    Drop,
    Step,
}

fn calls(causal: bool) -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        3 => request(causal).prop_map(Call::Submit),
        1 => any::<usize>().prop_map(Call::Cancel),
        1 => Just(Call::Drop),
        8 => Just(Call::Step),
    ];
    prop::collection::vec(call, 1..60)
}

fn setup(causal: bool) -> impl Strategy<Value = Setup> {
    let windows = if causal {
        prop_oneof![Just(vec![None]), Just(vec![None, Some(20)]), Just(vec![Some(33)]), Just(vec![Some(5), None, Some(64)])].boxed()
    } else {
        Just(vec![None]).boxed()
    };
    (windows, any::<bool>(), 1..6u32, 1..120u32, 1..50u32, 150..700u64).prop_map(
        move |(windows, one_class, sequences, rows, outputs, positions)| Setup {
            windows,
            causal,
            one_class,
            context: 160,
            sequences,
            step_rows: sequences + rows,
            logits_rows: sequences + outputs,
            cache: CacheSize::Positions(positions),
            gather: Duration::ZERO,
        },
    )
}

/// Every sequence of a schedule gets what it gets alone in an engine with room for everything.
fn as_alone(setup: Setup, calls: Vec<Call>) -> Result<(), TestCaseError> {
    let mut bench = setup.bench();
    let mut requests = BTreeMap::new();
    for call in calls {
        match call {
            Call::Submit(request) => {
                if let Ok(Admission::Accepted(id)) = bench.schedule.submit(request.clone(), None, None) {
                    requests.insert(id, request);
                }
            }
            Call::Cancel(n) => {
                if let Some(&id) = requests.keys().nth(n % requests.len().max(1)) {
                    bench.schedule.cancel(id);
                }
            }
            Call::Drop => drop(bench.schedule.compose().unwrap()),
            Call::Step => bench.step(),
        }
    }
    bench.finish();
    let context = bench.schedule.limits.context;
    for (id, request) in requests {
        let mut alone = Setup { causal: setup.causal, one_class: setup.one_class, context, ..Setup::wide(setup.windows.clone()) }.bench();
        let mut plain = Request { priority: Priority::default(), sharing: Sharing::default(), ..request };
        if let Work::Generate(generate) = &mut plain.work {
            generate.speculation = Speculation::Off;
        }
        alone.submit(plain);
        alone.finish();
        let (ours, theirs) = (outcome(&bench.events[&id]), outcome(&alone.events[&SequenceId(0)]));
        if matches!(ours.3, Some(FinishReason::Cancelled | FinishReason::DeadlinePassed)) {
            prop_assert!(theirs.0.starts_with(&ours.0) && theirs.1.starts_with(&ours.1));
        } else {
            prop_assert_eq!(ours, theirs);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn decoders_as_alone(setup in setup(true), calls in calls(true)) {
        as_alone(setup, calls)?;
    }

    #[test]
    fn encoders_as_alone(setup in setup(false), calls in calls(false)) {
        as_alone(setup, calls)?;
    }
}

fn generate(prompt: usize, max_tokens: u32) -> Request {
    Request::generate(vec![1; prompt], Generate { max_tokens: Some(max_tokens), ignore_eos: true, ..Generate::default() })
}

#[test]
fn pages_run_out_and_the_youngest_gives_way() {
    let mut bench = Setup { cache: CacheSize::Positions(160), ..Setup::wide(vec![None]) }.bench();
    for _ in 0..3 {
        let sharing = Sharing { private: true, ..Sharing::default() };
        bench.submit(Request { sharing, ..generate(40, 100) });
    }
    bench.finish();
    let recomputed = |id| match bench.events[&SequenceId(id)].last() {
        Some(Event::Done { usage, .. }) => usage.recomputed_tokens,
        _ => panic!("no last event"),
    };
    assert_eq!(recomputed(0), 0, "the oldest never gives way");
    assert!(recomputed(2) > 0);
}

#[test]
fn cancelling_frees_pages_at_once() {
    let mut bench = Setup::wide(vec![None, Some(16)]).bench();
    let id = bench.submit(generate(100, 50));
    bench.step();
    assert!(bench.schedule.occupancy().pages_used > 0);
    assert!(bench.schedule.cancel(id));
    let Occupancy { waiting, running, pages_used, .. } = bench.schedule.occupancy();
    assert_eq!((waiting, running, pages_used), (0, 0, 0));
    assert!(!bench.schedule.cancel(id));
    bench.finish();
    assert!(matches!(bench.events[&id].last(), Some(Event::Done { reason: FinishReason::Cancelled, .. })));
}

#[test]
fn a_short_prompt_is_not_stuck_behind_a_long_one() {
    let mut bench = Setup { step_rows: 20, ..Setup::wide(vec![None]) }.bench();
    bench.submit(generate(150, 1));
    let short = bench.submit(generate(8, 1));
    let step = bench.schedule.compose().unwrap().unwrap();
    let lengths: Vec<u32> = step.batch.sequences.iter().map(|s| s.length).collect();
    assert_eq!(lengths, [12, 8], "the long one gets what the short one leaves");
    bench.step();
    assert!(bench.events.contains_key(&short));
}

#[test]
fn broken_outputs_end_one_sequence_only() {
    let mut bench = Setup::wide(vec![None]).bench();
    let broken = bench.submit(generate(5, 4));
    let whole = bench.submit(generate(5, 4));
    let step = bench.schedule.compose().unwrap().unwrap();
    let mut outputs = bench.pages.run(&step);
    outputs[7] = f32::NAN;
    bench.schedule.absorb(step, &outputs, VOCAB as usize);
    bench.finish();
    let reason = |id| outcome(&bench.events[&id]).3.unwrap();
    assert!(matches!(reason(broken), FinishReason::Failed { message, .. } if message.contains("token 7")));
    assert_eq!(reason(whole), FinishReason::MaxTokens);
}

#[test]
fn generation_ends_where_it_must() {
    let mut bench = Setup { context: 50, ..Setup::wide(vec![None]) }.bench();
    let cases = [(generate(10, 0), 0), (generate(10, 1), 1), (generate(10, 1000), 40), (generate(49, 1000), 1), (generate(50, 0), 0)];
    let ids: Vec<_> = cases.iter().map(|(request, _)| bench.submit(request.clone())).collect();
    bench.finish();
    for (id, (_, tokens)) in ids.iter().zip(cases) {
        let (drawn, .., reason, usage) = outcome(&bench.events[id]);
        assert_eq!((drawn.len(), usage.generated_tokens as usize), (tokens, tokens));
        assert_eq!(reason.unwrap().name(), if tokens < 2 && id.0 != 3 { "max_tokens" } else { "context_full" });
    }
}

#[test]
fn impossible_requests_are_refused() {
    let decoder = || Setup::wide(vec![None]).bench().schedule;
    let encoder = || Setup { causal: false, ..Setup::wide(vec![None]) }.bench().schedule;
    let with = |change: fn(&mut Generate)| {
        let mut generate = Generate::default();
        change(&mut generate);
        Request::generate(vec![1], generate)
    };
    let cases = [
        (decoder(), Request::logits(vec![]), "empty"),
        (decoder(), Request::logits(vec![1, VOCAB]), "token 24 at 1"),
        (decoder(), Request::logits(vec![1; 161]), "161 tokens"),
        (decoder(), generate(160, 1), "no room"),
        (encoder(), generate(1, 1), "encoder"),
        (encoder(), Request::logits(vec![1]), "encoder"),
        (decoder(), with(|g| g.stop = vec!["a".into(), String::new()]), "stop string 1 is empty"),
        (decoder(), with(|g| g.stop = vec!["a".into()]), "no tokenizer"),
        (decoder(), with(|g| g.logprobs = Some(25)), "25 logprobs"),
        (decoder(), with(|g| g.sampling.top_p = 2.0), "top_p is 2"),
    ];
    for (mut schedule, request, says) in cases {
        let error = schedule.submit(request, None, None).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Request);
        assert!(error.message().contains(says), "{error}");
        assert!(schedule.is_idle());
    }
    let mut full = decoder();
    for _ in 0..64 {
        assert!(matches!(full.submit(generate(1, 1), None, None), Ok(Admission::Accepted(_))));
    }
    let busy = full.submit(generate(1, 1), None, None).unwrap();
    assert!(matches!(busy, Admission::Busy { .. }));
    assert_eq!(busy.accepted().unwrap_err().code(), ErrorCode::Memory);
}

/// The same prompt again, and one that shares part of it.
#[test]
fn a_known_prefix_is_not_computed_again() {
    let mut bench = Setup::wide(vec![None, Some(20)]).bench();
    let prompt: Vec<u32> = (0..75).map(|i| i * 5 % VOCAB).collect();
    let generate =
        |prompt: &[u32]| Request::generate(prompt.to_vec(), Generate { max_tokens: Some(3), ignore_eos: true, ..Generate::default() });
    let usage = |bench: &mut Bench, request| {
        let id = bench.submit(request);
        while !bench.schedule.is_idle() {
            bench.step();
        }
        match bench.events[&id].last() {
            Some(Event::Done { usage, .. }) => (usage.cached_tokens, usage.written_tokens),
            _ => panic!("no last event"),
        }
    };
    assert_eq!(usage(&mut bench, generate(&prompt)), (0, 64));
    assert_eq!(usage(&mut bench, generate(&prompt)), (64, 0));
    assert_eq!(usage(&mut bench, generate(&[&prompt[..40], &[1; 30]].concat())), (32, 32), "two pages are shared");
    assert_eq!(usage(&mut bench, generate(&prompt[..64])), (48, 0), "the last token is computed for its output");
    assert_eq!(usage(&mut bench, Request::logits(prompt.clone())), (0, 0), "all outputs are wanted");
    let apart = |sharing| Request { sharing, ..generate(&prompt) };
    assert_eq!(usage(&mut bench, apart(Sharing { namespace: "b".into(), ..Sharing::default() })), (0, 64));
    assert_eq!(usage(&mut bench, apart(Sharing { private: true, ..Sharing::default() })), (0, 0));
    bench.schedule.forget_prefixes();
    assert_eq!(usage(&mut bench, generate(&prompt)), (0, 64));
    bench.finish();
}

#[test]
fn those_who_follow_a_prefix_wait_for_it() {
    let mut bench = Setup { step_rows: 30, ..Setup::wide(vec![None]) }.bench();
    let ids: Vec<SequenceId> = (0..4).map(|_| bench.submit(generate(100, 2))).collect();
    bench.finish();
    let cached = |id| match bench.events[id].last() {
        Some(Event::Done { usage, .. }) => usage.cached_tokens,
        _ => panic!("no last event"),
    };
    assert_eq!(ids.iter().map(cached).collect::<Vec<_>>(), [0, 96, 96, 96]);
    assert!(bench.steps < 12, "{} steps", bench.steps);
}

#[test]
fn a_pinned_prefix_outlives_others_until_its_time_is_over() {
    let cached_after = |lifetime| {
        let mut bench = Setup { sequences: 1, step_rows: 200, cache: CacheSize::Positions(160), ..Setup::wide(vec![None]) }.bench();
        let sharing = Sharing { pins: vec![Pin { positions: 64, lifetime: Duration::from_secs(lifetime) }], ..Sharing::default() };
        let pinned = Request { sharing, ..generate(70, 1) };
        bench.submit(pinned.clone());
        // Others, never seen again, fill what is left of ten pages twice.
        for token in 2..6 {
            let other = Request::generate(vec![token; 60], Generate { max_tokens: Some(1), ..Generate::default() });
            bench.submit(other);
        }
        while !bench.schedule.is_idle() {
            bench.step();
        }
        let id = bench.submit(Request { sharing: Sharing::default(), ..pinned });
        bench.finish();
        match bench.events[&id].last() {
            Some(Event::Done { usage, .. }) => usage.cached_tokens,
            _ => panic!("no last event"),
        }
    };
    assert_eq!((cached_after(1000), cached_after(1)), (64, 0));
}

/// Lanes: the first goes before others in the queue, takes their slots, and they end all the same.
#[test]
fn an_urgent_lane_takes_the_slots_of_others() {
    let mut bench = Setup { sequences: 2, ..Setup::wide(vec![None]) }.bench();
    let in_lane = |lane, tokens| Request { priority: Priority { lane, ..Priority::default() }, ..generate(20, tokens) };
    let slow: Vec<_> = (0..3).map(|_| bench.submit(in_lane(2, 30))).collect();
    bench.step();
    bench.step();
    let urgent = bench.submit(in_lane(0, 2));
    for _ in 0..2 {
        bench.step();
    }
    assert!(matches!(bench.events[&urgent].last(), Some(Event::Done { reason: FinishReason::MaxTokens, .. })));
    bench.finish();
    for id in slow {
        assert_eq!(outcome(&bench.events[&id]).0.len(), 30);
    }
}

#[test]
fn who_waits_rises_and_is_served() {
    let mut bench = Setup { sequences: 1, ..Setup::wide(vec![None]) }.bench();
    let in_lane = |lane| Request { priority: Priority { lane, ..Priority::default() }, ..generate(20, 6) };
    bench.submit(in_lane(1));
    let last = bench.submit(in_lane(2));
    // Something more urgent comes again and again.
    for _ in 0..60 {
        bench.submit(in_lane(1));
        for _ in 0..4 {
            bench.step();
        }
    }
    assert!(matches!(bench.events[&last].last(), Some(Event::Done { .. })), "lane 2 starves");
    bench.finish();
}

#[test]
fn a_deadline_ends_what_is_not_done() {
    let mut bench = Setup::wide(vec![None]).bench();
    let late =
        bench.submit(Request { priority: Priority { deadline: Some(Duration::from_secs(5)), ..Priority::default() }, ..generate(20, 100) });
    let other = bench.submit(generate(20, 8));
    bench.finish();
    let (tokens, _, _, reason, _) = outcome(&bench.events[&late]);
    assert_eq!((tokens.len(), reason), (4, Some(FinishReason::DeadlinePassed)));
    assert_eq!(outcome(&bench.events[&other]).0.len(), 8);
}

#[test]
fn an_idle_engine_may_wait_for_company() {
    let mut bench = Setup { gather: Duration::from_millis(2500), ..Setup::wide(vec![None]) }.bench();
    let apart = |token| Request::generate(vec![token; 20], Generate { max_tokens: Some(8), ignore_eos: true, ..Generate::default() });
    bench.submit(apart(1));
    bench.step();
    assert_eq!(bench.schedule.gathers_until(), Some(Duration::from_millis(2500)));
    assert_eq!(bench.schedule.occupancy().running, 0);
    bench.submit(apart(2));
    bench.step();
    bench.step();
    assert_eq!(bench.schedule.occupancy().running, 2);
    // Nobody waits for company while others run.
    bench.submit(apart(3));
    bench.step();
    assert_eq!(bench.schedule.occupancy().running, 3);
    bench.finish();
}

#[test]
fn impatient_requests_are_told_when_to_come_back() {
    let mut bench = Setup { sequences: 1, ..Setup::wide(vec![None]) }.bench();
    let impatient = |seconds| Request {
        priority: Priority { patience: Some(Duration::from_secs(seconds)), ..Priority::default() },
        ..Request::generate(vec![7; 10], Generate { max_tokens: Some(5), ..Generate::default() })
    };
    assert!(matches!(bench.schedule.submit(impatient(0), None, None), Ok(Admission::Accepted(_))), "nothing is measured yet");
    bench.finish();
    bench.schedule.observe(100, 0, Duration::from_secs(10));
    bench.schedule.observe(0, 1, Duration::from_secs(2));
    // Fifty rows and forty steps before its own ten rows: 5 + 80 + 1 seconds.
    bench.submit(generate(50, 40));
    let Ok(Admission::Busy { retry_after }) = bench.schedule.submit(impatient(30), None, None) else { panic!("it would wait too long") };
    assert!((retry_after.as_secs_f64() - 56.0).abs() < 0.1, "{retry_after:?}");
    assert!(matches!(bench.schedule.submit(impatient(1000), None, None), Ok(Admission::Accepted(_))));
    bench.finish();
}

/// A text that repeats itself takes fewer steps, and is the same.
#[test]
fn drafts_save_steps_and_change_nothing() {
    let tell = |speculation| {
        let mut bench = Setup::wide(vec![None, Some(20)]).bench();
        // Two tokens, one of them far likelier: long runs.
        let logit_bias = (0..VOCAB)
            .map(|token| (token, [0.0, -1.5][usize::from(token == 5)] - if (4..=5).contains(&token) { 0.0 } else { f32::INFINITY }));
        let sampling = Sampling { seed: 3, logit_bias: logit_bias.collect(), ..Sampling::default() };
        let generate = Generate { max_tokens: Some(80), ignore_eos: true, sampling, speculation, logits: true, ..Generate::default() };
        let id = bench.submit(Request::generate(vec![4, 4, 4, 5, 4, 4], generate));
        bench.finish();
        let Some(Event::Done { usage, .. }) = bench.events[&id].last() else { panic!("no last event") };
        (outcome(&bench.events[&id]), usage.accepted_tokens, bench.steps)
    };
    let (plain, drafted) = (tell(Speculation::Off), tell(Speculation::Auto));
    assert_eq!(plain.0, drafted.0);
    assert_eq!(plain.1, 0);
    assert!(drafted.1 > 10 && drafted.2 + drafted.1 == plain.2, "{} accepted, {} steps for {}", drafted.1, drafted.2, plain.2);
}

/// Drafts take no row that a prompt needs.
#[test]
fn prompts_move_on_beside_drafts() {
    let mut bench = Setup { sequences: 2, step_rows: 3, context: 400, ..Setup::wide(vec![None]) }.bench();
    // One token only: every draft is right.
    let logit_bias: Vec<_> = (0..VOCAB).filter(|token| *token != 7).map(|token| (token, f32::NEG_INFINITY)).collect();
    let sampling = Sampling { logit_bias, ..Sampling::default() };
    let endless = Generate { max_tokens: Some(300), ignore_eos: true, sampling, ..Generate::default() };
    bench.submit(Request::generate(vec![7; 8], endless));
    for _ in 0..10 {
        bench.step();
    }
    let prompt = bench.submit(Request::generate((0..10).collect(), Generate { max_tokens: Some(1), ..Generate::default() }));
    for _ in 0..12 {
        bench.step();
    }
    assert!(matches!(bench.events[&prompt].last(), Some(Event::Done { .. })), "the prompt starves");
    bench.finish();
}
