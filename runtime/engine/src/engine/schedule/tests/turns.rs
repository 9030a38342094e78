//! Owners take turns within a lane. Everything is counted in steps.

use super::*;

/// A request that shares its prompt with no other.
fn of(owner: u64, lane: u8, tokens: u32) -> Request {
    let generate = Generate { max_tokens: Some(tokens), ignore_eos: true, speculation: Speculation::Off, ..Generate::default() };
    let (priority, sharing) = (Priority { owner, lane, ..Priority::default() }, Sharing { private: true, ..Sharing::default() });
    Request { priority, sharing, ..Request::generate((0..20).map(|i| (i * 7 + owner as u32) % VOCAB).collect(), generate) }
}

fn tokens(bench: &Bench, ids: &[SequenceId]) -> usize {
    let of_one = |id| bench.events.get(id).map_or(0, |events| events.iter().filter(|e| matches!(e, Event::Token { .. })).count());
    ids.iter().map(of_one).sum()
}

fn usage(bench: &Bench, id: SequenceId) -> Option<Usage> {
    match bench.events.get(&id)?.last()? {
        Event::Done { usage, .. } => Some(*usage),
        _ => None,
    }
}

fn running(bench: &Bench, owner: u64) -> usize {
    bench.schedule.sequences.values().filter(|s| s.is_running() && s.priority.owner == owner).count()
}

/// Steps until a sequence is done.
fn steps_until_done(bench: &mut Bench, id: SequenceId) -> u32 {
    let before = bench.steps;
    while usage(bench, id).is_none() {
        bench.step();
    }
    bench.steps - before
}

#[test]
fn an_owners_backlog_holds_up_no_other() {
    for depth in [0, 4] {
        let mut bench = Setup { depth, ..Setup::wide(vec![None]) }.bench();
        let backlog: Vec<_> = (0..50).map(|_| bench.submit(of(1, 1, 40))).collect();
        // It takes 500 steps. Far beyond the 20 after which those that wait rise, others are served as if they were alone.
        for _ in 0..20 {
            (0..15).for_each(|_| bench.step());
            let alone = {
                let mut bench = Setup { depth, ..Setup::wide(vec![None]) }.bench();
                let id = bench.submit(of(2, 1, 5));
                steps_until_done(&mut bench, id)
            };
            let other = bench.submit(of(2, 1, 5));
            assert!(steps_until_done(&mut bench, other) <= alone + depth as u32);
        }
        bench.finish();
        assert_eq!(tokens(&bench, &backlog), 50 * 40, "depth {depth}");
    }
}

#[test]
fn owners_have_equal_parts_of_the_slots() {
    let mut bench = Setup { sequences: 6, ..Setup::wide(vec![None]) }.bench();
    let mut ids: Vec<Vec<SequenceId>> = vec![Vec::new(); 3];
    let mut come = |bench: &mut Bench, owner: usize, count: usize| {
        (0..count).for_each(|_| ids[owner].push(bench.submit(of(owner as u64, 1, 60))));
        (0..3).for_each(|_| bench.step());
        ids.clone()
    };
    come(&mut bench, 0, 20);
    assert_eq!(running(&bench, 0), 6, "who is alone has everything");
    come(&mut bench, 1, 20);
    assert_eq!([running(&bench, 0), running(&bench, 1)], [3, 3]);
    // One that asks for less leaves the rest to others.
    come(&mut bench, 2, 1);
    assert_eq!(running(&bench, 2), 1);
    assert!([running(&bench, 0), running(&bench, 1)].iter().all(|count| (2..=3).contains(count)));
    let ids = come(&mut bench, 2, 9);
    assert_eq!([running(&bench, 0), running(&bench, 1), running(&bench, 2)], [2, 2, 2]);
    let before: Vec<usize> = ids.iter().map(|ids| tokens(&bench, ids)).collect();
    (0..100).for_each(|_| bench.step());
    let made: Vec<usize> = ids.iter().zip(before).map(|(ids, before)| tokens(&bench, ids) - before).collect();
    assert!(made.iter().all(|made| (170..=210).contains(made)), "{made:?}");
    bench.finish();
    assert_eq!(ids.iter().map(|ids| tokens(&bench, ids)).sum::<usize>(), 50 * 60);
}

#[test]
fn one_owner_alone_is_served_in_order_and_loses_nothing() {
    let mut bench = Setup::wide(vec![None]).bench();
    let ids: Vec<_> = (0..40).map(|_| bench.submit(of(7, 1, 30))).collect();
    bench.finish();
    let ends: Vec<usize> = ids.iter().map(|&id| usage(&bench, id).expect("it is done").preemptions as usize).collect();
    assert_eq!(ends, vec![0; 40]);
    // Four at once: ten times a prompt's step and thirty tokens', of which the first comes with the prompt.
    assert!((300..=310).contains(&bench.steps), "{}", bench.steps);
}

#[test]
fn each_comer_costs_others_one_slot_at_most_and_balance_costs_nothing() {
    let mut bench = Setup::wide(vec![None]).bench();
    let ids: Vec<Vec<SequenceId>> = (0..2).map(|owner| (0..15).map(|_| bench.submit(of(owner, 1, 25))).collect()).collect();
    bench.finish();
    let preemptions = |ids: &[SequenceId]| ids.iter().map(|&id| usage(&bench, id).expect("it is done").preemptions).sum::<u32>();
    assert_eq!([preemptions(&ids[0]), preemptions(&ids[1])], [0, 0], "they came together, and alternate");
    let mut bench = Setup::wide(vec![None]).bench();
    let first: Vec<_> = (0..4).map(|_| bench.submit(of(0, 1, 100))).collect();
    bench.step();
    for _ in 0..10 {
        let other = bench.submit(of(1, 1, 2));
        steps_until_done(&mut bench, other);
        bench.step();
    }
    bench.finish();
    let preempted = first.iter().map(|&id| usage(&bench, id).expect("it is done").preemptions).sum::<u32>();
    assert!((1..=10).contains(&preempted), "{preempted}");
    assert_eq!(tokens(&bench, &first), 400);
}

#[test]
fn lanes_go_before_turns() {
    let mut bench = Setup::wide(vec![None]).bench();
    let urgent: Vec<_> = (0..12).map(|_| bench.submit(of(1, 0, 10))).collect();
    let other = bench.submit(of(2, 1, 3));
    let batch = bench.submit(of(3, 2, 3));
    steps_until_done(&mut bench, other);
    // Before it could rise, the lane before it had its twelve served first, four at a time.
    assert!(tokens(&bench, &urgent) >= 80, "{}", tokens(&bench, &urgent));
    assert!(usage(&bench, batch).is_none());
    bench.finish();
    // One owner's own lanes: its batches yield to its urgent ones, and the first of them rises.
    let mut bench = Setup { sequences: 1, ..Setup::wide(vec![None]) }.bench();
    let late: Vec<_> = (0..2).map(|_| bench.submit(of(1, 2, 30))).collect();
    for _ in 0..120 {
        bench.submit(of(1, 0, 3));
        (0..3).for_each(|_| bench.step());
    }
    assert!(usage(&bench, late[0]).is_some(), "the first of a lane starves");
    bench.finish();
}

#[test]
fn who_leaves_or_pauses_leaves_their_slot_to_whoever_has_least() {
    let mut bench = Setup::wide(vec![None]).bench();
    let ids: Vec<Vec<SequenceId>> = (0..2).map(|owner| (0..10).map(|_| bench.submit(of(owner, 1, 80))).collect()).collect();
    (0..3).for_each(|_| bench.step());
    assert_eq!([running(&bench, 0), running(&bench, 1)], [2, 2]);
    // All that run of one are cancelled: its next follow, and the other gets no more than before.
    ids[0][..2].iter().for_each(|&id| assert!(bench.schedule.cancel(id)));
    bench.step();
    assert_eq!([running(&bench, 0), running(&bench, 1)], [2, 2]);
    // Paused, they give way; allowed to go on they take back what is theirs, and only that.
    ids[0][2..].iter().for_each(|&id| assert!(bench.schedule.allow(id, 1)));
    (0..8).for_each(|_| bench.step());
    assert!(running(&bench, 1) >= 3);
    ids[0][2..].iter().for_each(|&id| assert!(bench.schedule.allow(id, u32::MAX)));
    (0..3).for_each(|_| bench.step());
    assert_eq!([running(&bench, 0), running(&bench, 1)], [2, 2]);
    ids[0].iter().for_each(|&id| assert!(usage(&bench, id).is_some() || bench.schedule.cancel(id)));
    (0..2).for_each(|_| bench.step());
    assert_eq!(running(&bench, 1), 4);
    bench.finish();
    assert_eq!(tokens(&bench, &ids[1]), 800);
}

#[test]
fn where_pages_are_few_turns_end_too() {
    // Room for two long texts. Owners take each other's pages when they must, and not in circles.
    for depth in [0, 3] {
        let mut bench = Setup { depth, cache: CacheSize::Positions(192), ..Setup::wide(vec![None]) }.bench();
        let ids: Vec<SequenceId> = (0..24).map(|at| bench.submit(of(at % 3, 1, 60))).collect();
        bench.finish();
        assert_eq!(tokens(&bench, &ids), 24 * 60);
        let preemptions: u32 = ids.iter().map(|&id| usage(&bench, id).expect("it is done").preemptions).sum();
        assert!(preemptions <= 2 * 24, "{preemptions}");
    }
}

#[test]
fn an_owner_waits_for_its_own_backlog_and_not_for_anothers() {
    let mut bench = Setup::wide(vec![None]).bench();
    bench.schedule.observe(100, 0, Duration::from_secs(1));
    bench.schedule.observe(0, 4, Duration::from_secs(1));
    for _ in 0..50 {
        bench.submit(of(1, 1, 40));
    }
    (0..3).for_each(|_| bench.step());
    let impatient = |owner| {
        let request = of(owner, 1, 40);
        Request { priority: Priority { patience: Some(Duration::from_secs(5)), ..request.priority }, ..request }
    };
    assert!(
        matches!(bench.schedule.submit(impatient(1), None, None), Ok(Admission::Busy { retry_after }) if retry_after > Duration::from_secs(100))
    );
    assert!(matches!(bench.schedule.submit(impatient(2), None, None), Ok(Admission::Accepted(_))));
    bench.finish();
}
