use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

fn ticket(permit: Permit) -> Ticket {
    match permit {
        Permit::Yes(ticket) => ticket,
        Permit::No { retry_at } => panic!("not before {retry_at}"),
    }
}

/// A call that is let through and ends at once.
fn call(breaker: &mut Breaker, settings: &Settings, at: Millis, status: u16, retry_after: Option<Millis>) {
    let ticket = ticket(breaker.permit(settings, at));
    breaker.observe(settings, Observation { at, ticket, took: 1, class: Class::of_status(status), retry_after }, 0);
}

#[test]
fn statuses() {
    for (status, class) in [
        (200, Class::Fine),
        (400, Class::Fine),
        (404, Class::Fine),
        (302, Class::Failed),
        (408, Class::Unreachable),
        (429, Class::Limited),
        (500, Class::Failed),
        (503, Class::Overloaded),
        (504, Class::Unreachable),
        (529, Class::Overloaded),
        (0, Class::Failed),
        (999, Class::Failed),
    ] {
        assert_eq!(Class::of_status(status), class, "{status}");
    }
}

#[test]
fn failures_in_a_row() {
    let settings = Settings::default();
    let mut breaker = Breaker::default();
    for at in 0..4 {
        call(&mut breaker, &settings, at, 500, None);
    }
    call(&mut breaker, &settings, 4, 400, None);
    for at in 5..9 {
        call(&mut breaker, &settings, at, 500, None);
        assert_eq!(breaker.state(at), State::Closed);
    }
    call(&mut breaker, &settings, 9, 0, None);
    assert_eq!(breaker.state(9), State::Open { until: 1_009 });
}

#[test]
fn a_rate_over_a_window_that_slides() {
    let settings = Settings { consecutive: 1_000, ..Settings::default() };
    let mut breaker = Breaker::default();
    // 18 calls that fail every other time, and are forgotten; then 18 more are too few.
    for at in 0..18 {
        call(&mut breaker, &settings, at * 10, if at % 2 == 0 { 500 } else { 200 }, None);
    }
    for at in 0..18 {
        call(&mut breaker, &settings, 33_000 + at * 100, if at % 2 == 0 { 500 } else { 200 }, None);
    }
    call(&mut breaker, &settings, 43_000, 200, None);
    call(&mut breaker, &settings, 44_000, 500, None);
    assert_eq!(breaker.state(44_000), State::Open { until: 45_000 });
    // A rate below the bound is none.
    let mut breaker = Breaker::default();
    for at in 0..1_000 {
        call(&mut breaker, &settings, at * 10, if at % 5 < 2 { 500 } else { 200 }, None);
    }
    assert_eq!(breaker.state(10_000), State::Closed);
}

#[test]
fn slow_is_as_bad() {
    let settings = Settings { slow_ms: Some(100), consecutive: 2, ..Settings::default() };
    let mut breaker = Breaker::default();
    for (at, took) in [(0, 101), (1, 100), (2, 101), (3, 900)] {
        assert_eq!(breaker.state(at), State::Closed);
        let ticket = ticket(breaker.permit(&settings, at));
        breaker.observe(&settings, Observation { at, ticket, took, class: Class::Fine, retry_after: None }, 0);
    }
    assert!(matches!(breaker.state(3), State::Open { .. }));
}

#[test]
fn what_the_upstream_says_is_kept_to_the_millisecond() {
    let settings = Settings::default();
    for status in [429, 503, 529] {
        let mut breaker = Breaker::default();
        call(&mut breaker, &settings, 1_000, status, Some(7_001));
        assert_eq!(breaker.permit(&settings, 8_000), Permit::No { retry_at: 8_001 });
        // It is no failure of a probe: the next cooldown is as the first.
        call(&mut breaker, &settings, 8_001, status, Some(500));
        assert_eq!(breaker.state(8_001), State::Open { until: 8_501 });
        call(&mut breaker, &settings, 8_501, 500, None);
        assert_eq!(breaker.state(8_501), State::Open { until: 9_501 });
    }
    let mut breaker = Breaker::default();
    call(&mut breaker, &settings, 0, 429, Some(u64::MAX));
    assert_eq!(breaker.state(0), State::Open { until: settings.retry_after_cap_ms });
    // Of two that say so the later moment counts, whichever is heard first.
    let mut breaker = Breaker::default();
    let tickets = [0, 0].map(|at| ticket(breaker.permit(&settings, at)));
    for (ticket, wait) in tickets.into_iter().zip([9_000, 4_000]) {
        let seen = Observation { at: 10, ticket, took: 10, class: Class::Limited, retry_after: Some(wait) };
        breaker.observe(&settings, seen, 0);
    }
    assert_eq!(breaker.state(10), State::Open { until: 9_010 });
    // 500 has nothing to say about that.
    let mut breaker = Breaker::default();
    call(&mut breaker, &settings, 0, 500, Some(5_000));
    assert_eq!(breaker.state(0), State::Closed);
}

#[test]
fn cooldowns_double_to_a_cap_and_start_over_when_it_is_well() {
    let settings = Settings { consecutive: 1, probes: 1, cooldown_cap_ms: 5_000, ..Settings::default() };
    let mut breaker = Breaker::default();
    let mut at = 0;
    for cooldown in [1_000, 2_000, 4_000, 5_000, 5_000] {
        call(&mut breaker, &settings, at, 500, None);
        assert_eq!(breaker.state(at), State::Open { until: at + cooldown });
        at += cooldown;
    }
    call(&mut breaker, &settings, at, 200, None);
    call(&mut breaker, &settings, at, 500, None);
    assert_eq!(breaker.state(at), State::Open { until: at + 1_000 });
    // All the jitter there may be is a quarter.
    let mut breaker = Breaker::default();
    let ticket = ticket(breaker.permit(&settings, 0));
    breaker.observe(&settings, Observation { at: 0, ticket, took: 0, class: Class::Failed, retry_after: None }, u16::MAX);
    assert_eq!(breaker.state(0), State::Open { until: 1_250 });
}

#[test]
fn a_call_from_before_is_no_probe() {
    let settings = Settings { consecutive: 1, probes: 1, ..Settings::default() };
    let mut breaker = Breaker::default();
    let early = ticket(breaker.permit(&settings, 0));
    call(&mut breaker, &settings, 0, 500, None);
    let probe = ticket(breaker.permit(&settings, 1_000));
    let seen = |ticket, class| Observation { at: 1_001, ticket, took: 1_001, class, retry_after: None };
    breaker.observe(&settings, seen(early, Class::Fine), 0);
    breaker.observe(&settings, seen(early, Class::Failed), 0);
    assert_eq!(breaker.state(1_001), State::HalfOpen);
    breaker.observe(&settings, seen(probe, Class::Fine), 0);
    assert_eq!(breaker.state(1_001), State::Closed);
}

#[test]
fn a_probe_that_is_lost() {
    let settings = Settings { consecutive: 1, probes: 2, probe_ms: 500, ..Settings::default() };
    let mut breaker = Breaker::default();
    call(&mut breaker, &settings, 0, 500, None);
    let lost = ticket(breaker.permit(&settings, 1_000));
    breaker.permit(&settings, 1_100);
    assert_eq!(breaker.permit(&settings, 1_499), Permit::No { retry_at: 1_500 });
    call(&mut breaker, &settings, 1_500, 200, None);
    breaker.observe(&settings, Observation { at: 1_500, ticket: lost, took: 500, class: Class::Failed, retry_after: None }, 0);
    call(&mut breaker, &settings, 1_500, 200, None);
    assert_eq!(breaker.state(1_500), State::Closed);
}

fn settings() -> impl Strategy<Value = Settings> {
    let small = || prop_oneof![0..4u64, 0..3_000u64, Just(u64::MAX)];
    ((small(), 0..6u32, any::<u8>(), 0..6u32, prop::option::of(small())), (small(), small(), any::<u8>(), small(), 0..4u32, small()))
        .prop_map(
            |(
                (window_ms, minimum, error_percent, consecutive, slow_ms),
                (cooldown_ms, cooldown_cap_ms, jitter_percent, retry_after_cap_ms, probes, probe_ms),
            )| {
                Settings {
                    window_ms,
                    minimum,
                    error_percent,
                    consecutive,
                    slow_ms,
                    cooldown_ms,
                    cooldown_cap_ms,
                    jitter_percent,
                    retry_after_cap_ms,
                    probes,
                    probe_ms,
                }
            },
        )
}

#[derive(Clone, Debug)]
enum Step {
    Ask(i64),
    /// One of the calls that are out ends.
    End(i64, prop::sample::Index, Class, Option<Millis>, u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let later = || prop_oneof![0..3i64, 0..2_000i64, -1_000..0i64];
    let class = prop_oneof![
        Just(Class::Fine),
        Just(Class::Limited),
        Just(Class::Overloaded),
        Just(Class::Failed),
        Just(Class::Unreachable),
        Just(Class::Unknown)
    ];
    let retry_after = prop::option::weighted(0.2, prop_oneof![0..3_000u64, Just(u64::MAX)]);
    let end = (later(), any::<prop::sample::Index>(), class, retry_after, any::<u16>());
    prop::collection::vec(prop_oneof![later().prop_map(Step::Ask), end.prop_map(|(l, i, c, r, j)| Step::End(l, i, c, r, j))], 0..120)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 1000, rng_seed: RngSeed::Fixed(0xf17e), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Whatever happens: nothing goes through before the moment that was told, a half-open breaker lets no more than its probes through,
    /// a journal loses nothing, and once the upstream is well the breaker closes.
    #[test]
    fn holds_and_recovers(settings in settings(), steps in steps()) {
        let (mut breaker, mut now, mut clock) = (Breaker::default(), 10_000i64, 0u64);
        let mut out: Vec<Ticket> = Vec::new();
        let mut probes: Option<(Ticket, u32)> = None;
        for step in steps {
            let later = match step { Step::Ask(later) | Step::End(later, ..) => later };
            now = (now + later).max(0);
            let at = now as u64;
            if matches!(step, Step::End(..)) && out.is_empty() {
                continue;
            }
            clock = clock.max(at);
            let state = breaker.state(at);
            match step {
                Step::Ask(_) => {
                    match (state, breaker.permit(&settings, at)) {
                        (State::Open { until }, Permit::No { retry_at }) => prop_assert!(retry_at == until && until > clock),
                        (State::Closed, Permit::Yes(ticket)) => out.push(ticket),
                        (State::HalfOpen, Permit::No { retry_at }) => prop_assert!(retry_at > clock),
                        (State::HalfOpen, Permit::Yes(ticket)) => {
                            out.push(ticket);
                            probes = match probes {
                                Some((round, sent)) if round == ticket => Some((round, sent + 1)),
                                _ => Some((ticket, 1)),
                            };
                            prop_assert!(probes.is_some_and(|(_, sent)| sent <= settings.probes.max(1)));
                        }
                        (state, permit) => prop_assert!(false, "{state:?} {permit:?}"),
                    }
                }
                Step::End(_, index, class, retry_after, jitter) => {
                    let ticket = out.swap_remove(index.index(out.len()));
                    breaker.observe(&settings, Observation { at, ticket, took: 20, class, retry_after }, jitter);
                    if class == Class::Unknown {
                        probes = probes.map(|(round, sent)| (round, sent - u32::from(round == ticket)));
                    }
                    if let (Class::Limited | Class::Overloaded, Some(wait)) = (class, retry_after) {
                        let wait = wait.min(settings.retry_after_cap_ms);
                        let until = clock.saturating_add(wait).min(FAR);
                        let kept = matches!(breaker.state(at), State::Open { until: u } if u >= until);
                        prop_assert!(wait == 0 || until <= clock || kept);
                    }
                }
            }
            let read: Breaker = serde_json::from_str(&serde_json::to_string(&breaker).expect("JSON")).expect("a breaker");
            prop_assert_eq!(&read, &breaker);
        }
        // From here on each call is answered well at once; probes that are out never are.
        let settings = Settings { slow_ms: None, ..settings };
        let mut at = clock;
        for _ in 0..2 + 2 * settings.probes {
            match breaker.permit(&settings, at) {
                Permit::Yes(ticket) => {
                    breaker.observe(&settings, Observation { at, ticket, took: 1, class: Class::Fine, retry_after: None }, 0);
                }
                Permit::No { retry_at } if retry_at >= FAR => return Ok(()),
                Permit::No { retry_at } => at = retry_at,
            }
        }
        prop_assert_eq!(breaker.state(at), State::Closed);
    }
}
