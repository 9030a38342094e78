//! Schedules against a made-up model whose every output is a hash of exactly what its row sees through the pages: a token,
//! class or position out of place changes all that follows. Whatever shares the steps, a sequence must get what it gets alone.

mod cases;
mod turns;

use std::collections::{BTreeMap, HashMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::ErrorCode;
use crate::backend::Drawn;
use crate::batch::{Draw, MOST_IN_FLIGHT, RowToken};
use crate::engine::{Admission, Generate, Pin, Priority, Sampling, Sharing, Speculation, Usage};
use crate::kv::{CacheSize, KvFormat, KvGroup, PAGE_LEN, PageId, Sizing};

const VOCAB: u32 = 24;
const WIDTH: usize = 6;

fn width(kind: PlanKind) -> usize {
    match kind {
        PlanKind::Logits => VOCAB as usize,
        PlanKind::States => WIDTH,
    }
}

/// The made-up model: what each page of each group holds, and the tokens drawn last.
struct Pages {
    windows: Vec<Option<u32>>,
    causal: bool,
    one_class: bool,
    cells: HashMap<(usize, PageId, usize), (u32, u32, Class)>,
    slots: HashMap<(Slot, u32), u32>,
    sampler: Sampler,
}

impl Pages {
    /// What a step leaves when all before it are done.
    fn run(&mut self, step: &Step) -> Outputs {
        let batch = &step.batch;
        assert!(batch.rows.is_sorted_by_key(|r| r.class), "prompt rows come first");
        assert!(batch.outputs.is_sorted());
        for row in &batch.rows {
            let view = &batch.sequences[row.sequence as usize];
            assert!(row.position < view.length);
            let token = match row.token {
                RowToken::Known(token) => token,
                RowToken::Slot(slot) => self.slots[&(slot, row.position)],
            };
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
        let rows: Vec<Vec<f32>> = batch.outputs.iter().map(|&output| self.output(batch, &batch.rows[output as usize], width)).collect();
        let drawn = batch.draws.iter().map(|draw| self.draw(draw, &rows[draw.output as usize], batch)).collect();
        let values = match &batch.values {
            None => rows.concat(),
            Some(read) => read.iter().flat_map(|&output| rows[output as usize].clone()).collect(),
        };
        Outputs { values, drawn }
    }

    /// What the host's sampler draws, out of what a device is told.
    fn draw(&mut self, draw: &Draw, logits: &[f32], batch: &Batch) -> Drawn {
        let position = batch.rows[batch.outputs[draw.output as usize] as usize].position;
        // A text that begins with nothing of interest and ends in the tokens that count.
        let mut history: Vec<u32> = draw.occurrences.iter().flat_map(|&(token, count)| vec![token; count as usize]).collect();
        history.extend((position + 1 - draw.in_flight..=position).map(|p| self.slots[&(draw.slot, p)]));
        let counted = history.len();
        history.splice(0..0, vec![0; position as usize + 1 - counted]);
        let sampling = Sampling { penalty_last_n: Some(counted as u32), ..(*draw.sampling).clone() };
        let token = self.sampler.sample(logits, &sampling, &history, None).unwrap();
        // A device keeps no more.
        self.slots.retain(|&(slot, p), _| slot != draw.slot || p + MOST_IN_FLIGHT > position);
        self.slots.insert((draw.slot, position + 1), token);
        Drawn::Token(token)
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
    /// Steps that may be in flight, and those that are.
    depth: usize,
    in_flight: VecDeque<(Step, Outputs)>,
    events: BTreeMap<SequenceId, Vec<Event>>,
    steps: u32,
}

#[derive(Clone, Debug)]
struct Setup {
    windows: Vec<Option<u32>>,
    causal: bool,
    one_class: bool,
    /// Steps in flight; 0 where the host draws.
    depth: usize,
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
            depth: 0,
            context,
            sequences,
            step_rows,
            logits_rows: 1000,
            cache: CacheSize::Auto,
            gather: Duration::ZERO,
        }
    }

    fn bench(&self) -> Bench {
        let group = |window| KvGroup { layers: vec![0], window, kv_heads: 1, head_dim: 8, format: KvFormat::F16, pages: 0 };
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
            device_draws: self.depth > 0,
            end_of_generation: vec![3],
        };
        let mut schedule = Schedule::new(limits, KvCache::new(&groups));
        schedule.set_now(Duration::ZERO);
        Bench {
            schedule,
            pages: Pages {
                windows: self.windows.clone(),
                causal: self.causal,
                one_class: self.one_class,
                cells: HashMap::new(),
                slots: HashMap::new(),
                sampler: Sampler::new(),
            },
            depth: self.depth.max(1),
            in_flight: VecDeque::new(),
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
        let issued = self.in_flight.len() < self.depth && self.issue();
        if !issued || self.in_flight.len() >= self.depth {
            self.read();
        }
        while self.in_flight.pop_front_if(|(oldest, _)| !self.schedule.concerns(oldest)).is_some() {}
        for event in self.schedule.take_events() {
            let (Event::Token { sequence, .. }
            | Event::Text { sequence, .. }
            | Event::Logits { sequence, .. }
            | Event::Logprobs { sequence, .. }
            | Event::Embedding { sequence, .. }
            | Event::Done { sequence, .. }) = &event;
            let events = self.events.entry(*sequence).or_default();
            assert!(!matches!(events.last(), Some(Event::Done { .. })), "an event after the last");
            events.push(event);
        }
    }

    /// Issues a step, if there is one.
    fn issue(&mut self) -> bool {
        let Some(step) = self.schedule.compose(!self.in_flight.is_empty()).unwrap() else { return false };
        let limits = &self.schedule.limits;
        assert!(step.batch.rows.len() <= limits.step_rows as usize || limits.encoder && step.batch.sequences.len() == 1);
        assert!(step.kind == PlanKind::States || step.batch.outputs.len() <= limits.logits_rows as usize);
        let outputs = self.pages.run(&step);
        self.schedule.issued(&step);
        self.in_flight.push_back((step, outputs));
        true
    }

    /// Reads the oldest.
    fn read(&mut self) {
        if let Some((step, outputs)) = self.in_flight.pop_front() {
            self.schedule.absorb(&step, &outputs, width(step.kind));
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
                all.4 = Usage { prompt_tokens: usage.prompt_tokens, generated_tokens: usage.generated_tokens, ..Usage::default() };
            }
            Event::Text { .. } | Event::Logprobs { .. } => {}
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
    let priority = (0..Priority::LANES, 0..3u64, prop::option::of(0..400u64)).prop_map(|(lane, owner, deadline)| Priority {
        lane,
        owner,
        deadline: deadline.map(Duration::from_secs),
        patience: None,
    });
    (prompt, work, sharing, priority).prop_map(|(prompt, work, mut sharing, priority)| {
        sharing.pins.iter_mut().for_each(|pin| pin.positions = pin.positions.min(prompt.len() as u32));
        Request { prompt, work, sharing, priority, adapter: None }
    })
}

/// What is done between steps.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a handful, in a test")]
enum Call {
    Submit(Request),
    Cancel(usize),
    /// So many tokens are allowed from now on.
    Allow(usize, u32),
    /// A step that is composed and never issued.
    Drop,
    Step,
    /// What is in flight is lost.
    Fault,
}

fn calls(causal: bool) -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        6 => request(causal).prop_map(Call::Submit),
        2 => any::<usize>().prop_map(Call::Cancel),
        3 => (any::<usize>(), 0..24u32).prop_map(|(n, tokens)| Call::Allow(n, tokens)),
        2 => Just(Call::Drop),
        16 => Just(Call::Step),
        1 => Just(Call::Fault),
    ];
    prop::collection::vec(call, 1..60)
}

fn setup(causal: bool) -> impl Strategy<Value = Setup> {
    let windows = if causal {
        prop_oneof![Just(vec![None]), Just(vec![None, Some(20)]), Just(vec![Some(33)]), Just(vec![Some(5), None, Some(64)])].boxed()
    } else {
        Just(vec![None]).boxed()
    };
    (windows, any::<bool>(), 0..=MOST_IN_FLIGHT as usize, 1..6u32, 1..120u32, 1..50u32, 150..700u64).prop_map(
        move |(windows, one_class, depth, sequences, rows, outputs, positions)| Setup {
            windows,
            causal,
            one_class,
            depth,
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
            Call::Allow(n, tokens) => {
                if let Some(&id) = requests.keys().nth(n % requests.len().max(1)) {
                    bench.schedule.allow(id, tokens);
                }
            }
            Call::Drop => drop(bench.schedule.compose(!bench.in_flight.is_empty()).unwrap()),
            Call::Step => bench.step(),
            Call::Fault => {
                bench.in_flight.clear();
                bench.schedule.abandon();
            }
        }
    }
    for &id in requests.keys() {
        bench.schedule.allow(id, u32::MAX);
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
