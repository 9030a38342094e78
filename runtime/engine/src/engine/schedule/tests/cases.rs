//! Single schedules whose outcome is known: who waits, who gives way, what is shared, what is refused.

use super::*;

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
fn what_is_not_allowed_more_is_paused() {
    for depth in 0..=MOST_IN_FLIGHT as usize {
        let mut bench = Setup { depth, ..Setup::wide(vec![None]) }.bench();
        let [stays, goes] = [bench.submit(generate(40, 60)), bench.submit(generate(30, 60))];
        assert!(bench.schedule.allow(stays, 0));
        let count = |bench: &Bench, id| bench.events.get(&id).map_or(0, |e| e.iter().filter(|e| matches!(e, Event::Token { .. })).count());
        while count(&bench, goes) < 60 {
            bench.step();
        }
        bench.step();
        assert_eq!(count(&bench, stays), 1, "a first token is always allowed");
        assert!(bench.schedule.is_paused() && !bench.schedule.is_idle());
        for allowed in [2, 9, 30] {
            bench.schedule.allow(stays, allowed);
            assert!(!bench.schedule.is_paused());
            (0..40).for_each(|_| bench.step());
            assert_eq!(count(&bench, stays), allowed as usize);
            assert!(bench.schedule.is_paused());
        }
        assert_eq!(bench.schedule.usage(stays).map(|usage| usage.generated_tokens), Some(30));
        bench.schedule.allow(stays, u32::MAX);
        bench.finish();
        assert_eq!(count(&bench, stays), 60);
        assert!(!bench.schedule.allow(stays, 1));
    }
}

#[test]
fn who_is_paused_gives_way() {
    let mut bench = Setup { sequences: 1, ..Setup::wide(vec![None]) }.bench();
    let [first, second] = [bench.submit(generate(40, 20)), bench.submit(generate(30, 20))];
    bench.schedule.allow(first, 5);
    while !bench.events.get(&second).is_some_and(|events| matches!(events.last(), Some(Event::Done { .. }))) {
        bench.step();
    }
    bench.schedule.allow(first, u32::MAX);
    bench.finish();
    let Some(Event::Done { usage, reason, .. }) = bench.events[&first].last() else { panic!("no last event") };
    assert_eq!((usage.preemptions, usage.generated_tokens, reason), (1, 20, &FinishReason::MaxTokens));
}

#[test]
fn nobody_is_preempted_for_room_that_would_not_do() {
    // Ten pages. The first holds six for a while, the last two; the one between needs eight.
    let mut bench = Setup { cache: CacheSize::Positions(160), ..Setup::wide(vec![None]) }.bench();
    let of_lane = |lane, request: Request| {
        let (priority, sharing) = (Priority { lane, ..Priority::default() }, Sharing { private: true, ..Sharing::default() });
        Request { priority, sharing, ..request }
    };
    let first = bench.submit(of_lane(0, generate(90, 6)));
    let last = bench.submit(of_lane(2, generate(20, 3)));
    bench.step();
    assert_eq!(bench.schedule.occupancy().running, 2);
    let between = bench.submit(of_lane(0, generate(120, 2)));
    bench.finish();
    for id in [first, last, between] {
        let Some(Event::Done { usage, reason, .. }) = bench.events[&id].last() else { panic!("no last event") };
        assert_eq!((usage.preemptions, reason), (0, &FinishReason::MaxTokens));
    }
}

#[test]
fn a_short_prompt_is_not_stuck_behind_a_long_one() {
    let mut bench = Setup { step_rows: 20, ..Setup::wide(vec![None]) }.bench();
    bench.submit(generate(150, 1));
    let short = bench.submit(generate(8, 1));
    let step = bench.schedule.compose(false).unwrap().unwrap();
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
    let step = bench.schedule.compose(false).unwrap().unwrap();
    let mut outputs = bench.pages.run(&step);
    outputs.values[7] = f32::NAN;
    bench.schedule.issued(&step);
    bench.schedule.absorb(&step, &outputs, VOCAB as usize);
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
        ..Request::generate(vec![7; 10], Generate { max_tokens: Some(10), ignore_eos: true, ..Generate::default() })
    };
    assert!(matches!(bench.schedule.submit(impatient(0), None, None), Ok(Admission::Accepted(_))), "nothing is measured yet");
    bench.finish();
    bench.schedule.observe(100, 0, Duration::from_secs(10));
    bench.schedule.observe(0, 1, Duration::from_secs(2));
    // Before it fifty rows of 0.08 s, and a slot's answer in steps of 2 s: forty tokens at most, but the last one had ten, the first of which comes with the
    // prompt. Its own ten rows keep nobody waiting.
    bench.submit(generate(50, 40));
    let Ok(Admission::Busy { retry_after }) = bench.schedule.submit(impatient(20), None, None) else { panic!("it would wait too long") };
    assert!((retry_after.as_secs_f64() - 4.0).abs() < 0.1, "{retry_after:?}");
    assert!(matches!(bench.schedule.submit(impatient(24), None, None), Ok(Admission::Accepted(_))));
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
