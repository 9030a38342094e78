//! The account against a slow model of itself, over any commands in any order.

mod budgets;
mod cases;
mod model;
mod network;

use std::num::NonZeroU32;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use model::Model;

/// The same cases each time: a failure is a change's, not a day's.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(0xf17e), failure_persistence: None, ..ProptestConfig::default() }
}

fn limit(per_minute: u64, capacity: u64) -> Limit {
    Limit::per_minute(per_minute).and_then(|l| l.with_capacity(capacity)).expect("a limit")
}

fn limits() -> impl Strategy<Value = Option<Limit>> {
    // From a token in ten minutes' worth of steps to thousands in each, divisors of a minute or not.
    let rate = prop_oneof![1..20u64, 50..5_000u64, 60_000..600_001u64];
    prop::option::weighted(0.8, (rate, 1..3_000u64).prop_map(|(rate, capacity)| limit(rate, capacity)))
}

fn tiers() -> impl Strategy<Value = Tier> {
    let budget = (1..5_000u64, prop_oneof![Just(7_000u64), Just(100_000), Just(3_333)]);
    let budget = prop::option::weighted(0.4, budget.prop_map(|(tokens, period)| Budget::new(tokens, period).expect("a budget")));
    (limits(), limits(), limits(), prop::option::weighted(0.4, 1..4u32), budget).prop_map(
        |(requests, input, output, concurrent, budget)| Tier {
            requests,
            input,
            output,
            concurrent: concurrent.and_then(NonZeroU32::new),
            budget,
        },
    )
}

/// Later by this, and then: a command of few leases, few sequence numbers, and any amounts. Or an earlier command again.
#[derive(Clone, Debug)]
enum Step {
    Command(i64, Command),
    Again(prop::sample::Index),
    Tier(Tier),
}

fn commands() -> impl Strategy<Value = Command> {
    let lease = || (0..5u128).prop_map(LeaseId);
    let tokens = || prop_oneof![3 => 0..400u64, 1 => 0..4_000u64];
    let tally = move || (prop::option::of(tokens()), tokens()).prop_map(|(input, output)| Tally { input, output });
    let exactness = prop_oneof![Just(Exactness::Exact), Just(Exactness::UpperBound), Just(Exactness::Estimate)];
    let price = (tokens(), exactness).prop_map(|(input, exactness)| Price { input, exactness, output_cap: 4_096 });
    // Expiries are spans here, and made moments when the time is known.
    let expires = || prop_oneof![4 => 0..40_000u64, 1 => 0..5_000_000u64];
    prop_oneof![
        2 => Just(Command::Request { at: 0 }),
        4 => (lease(), expires(), price, tokens())
            .prop_map(|(lease, expires, price, output)| Command::Open { at: 0, lease, expires, price, output }),
        4 => (lease(), 0..4u64, expires(), tally(), tokens())
            .prop_map(|(lease, seq, expires, so_far, more)| Command::Extend { at: 0, lease, seq, expires, so_far, more }),
        2 => (lease(), tally()).prop_map(|(lease, total)| Command::Settle { at: 0, lease, total }),
        1 => Just(Command::Expire { at: 0 }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let later = prop_oneof![6 => 0..50i64, 4 => 0..5_000i64, 1 => -3_000..0i64, 1 => 100_000..300_000i64];
    let step = prop_oneof![
        12 => (later, commands()).prop_map(|(later, command)| Step::Command(later, command)),
        3 => any::<prop::sample::Index>().prop_map(Step::Again),
        1 => tiers().prop_map(Step::Tier),
    ];
    prop::collection::vec(step, 1..60)
}

/// The command, sent at this moment.
fn sent(command: Command, now: Millis) -> Command {
    match command {
        Command::Request { .. } => Command::Request { at: now },
        Command::Open { lease, expires, price, output, .. } => Command::Open { at: now, lease, expires: now + expires, price, output },
        Command::Extend { lease, seq, expires, so_far, more, .. } => {
            Command::Extend { at: now, lease, seq, expires: now + expires, so_far, more }
        }
        Command::Settle { lease, total, .. } => Command::Settle { at: now, lease, total },
        Command::Expire { .. } => Command::Expire { at: now },
    }
}

/// Runs the steps; after each, `check` sees the account from before, the tier, the command, and what came of it.
fn run(tier: Tier, steps: Vec<Step>, mut check: impl FnMut(&Account, &Tier, Command, &Outcome, &Account)) -> (Account, Tier) {
    let (mut tier, mut account, mut now) = (tier, Account::default(), 1_000_000i64);
    let mut past: Vec<Command> = Vec::new();
    for step in steps {
        let command = match step {
            Step::Tier(new) => {
                tier = new;
                continue;
            }
            Step::Again(_) if past.is_empty() => continue,
            Step::Again(index) => *index.get(&past),
            Step::Command(later, command) => {
                now += later;
                sent(command, now as Millis)
            }
        };
        past.push(command);
        let before = account.clone();
        let (outcome, _) = apply(&mut account, &tier, command);
        check(&before, &tier, command, &outcome, &account);
    }
    (account, tier)
}

proptest! {
    #![proptest_config(config(1000))]

    /// Each answer, each level to the last part, each lease.
    #[test]
    fn as_the_model_says(tier in tiers(), steps in steps()) {
        let mut model = Model::default();
        run(tier, steps, |_, tier, command, outcome, account| {
            let expected = model.apply(tier, command);
            assert_eq!(*outcome, expected, "{command:?}");
            assert_eq!(account.parts(), model.parts(), "{command:?}");
            assert_eq!(account.open_leases(), model.open_leases());
        });
    }

    /// A wait that is told is exact: a millisecond earlier it is too early, then it is not.
    #[test]
    fn told_waits_are_exact(tier in tiers(), steps in steps()) {
        run(tier, steps, |_, tier, command, outcome, after| {
            match *outcome {
                Outcome::Denied { retry_at, soonest, levels, .. } => {
                    assert!(retry_at > levels.at && (levels.at..=retry_at).contains(&soonest));
                    let again = |account: &Account, at| {
                        let again = match command {
                            Command::Open { lease, price, output, .. } => Command::Open { at, lease, expires: at + 1, price, output },
                            _ => Command::Request { at },
                        };
                        apply(&mut account.clone(), tier, again).0
                    };
                    let (early, then) = (again(after, retry_at - 1), again(after, retry_at));
                    assert!(matches!(early, Outcome::Denied { retry_at: r, .. } if r == retry_at), "{early:?}");
                    assert!(matches!(then, Outcome::Granted { .. }), "{then:?}");
                    // So is the one until what others hold is back, if they end now.
                    let mut ended = after.clone();
                    for (lease, used) in after.under_way() {
                        let total = Tally { input: Some(used.input.unwrap_or(0)), output: used.output };
                        apply(&mut ended, tier, Command::Settle { at: levels.at, lease, total });
                    }
                    let then = again(&ended, soonest);
                    assert!(matches!(then, Outcome::Granted { .. }), "{then:?}");
                    if soonest > levels.at {
                        let early = again(&ended, soonest - 1);
                        assert!(matches!(early, Outcome::Denied { retry_at: r, .. } if r == soonest), "{early:?}");
                    }
                }
                Outcome::Wait { .. } => {
                    let Command::Extend { lease, seq, so_far, more, .. } = command else { panic!("only an Extend waits") };
                    // Kept alive as a caller would, in steps shorter than the term.
                    let mut account = after.clone();
                    let mut clock = account.levels().at;
                    let mut next = seq.max(3) + 1;
                    let mut ask = |account: &mut Account, at| {
                        next += 1;
                        apply(account, tier, Command::Extend { at, lease, seq: next, expires: at + TERM, so_far, more }).0
                    };
                    // This one counts, be the command what it may.
                    let Outcome::Wait { until, .. } = ask(&mut account, clock) else { return };
                    assert!(until > clock);
                    // Longer waits would have to be kept alive thousands of times.
                    if until > clock + 20 * TERM {
                        return;
                    }
                    while clock < until - 1 {
                        clock = (clock + TERM / 2).min(until - 1);
                        let outcome = ask(&mut account, clock);
                        assert!(matches!(outcome, Outcome::Wait { until: u, .. } if u == until), "{outcome:?}");
                    }
                    let outcome = ask(&mut account, until);
                    assert!(matches!(outcome, Outcome::Granted { .. }), "{outcome:?}");
                }
                _ => {}
            }
        });
    }

    /// The same command again changes nothing, whenever it comes.
    #[test]
    fn again_changes_nothing(tier in tiers(), steps in steps()) {
        run(tier, steps, |_, tier, command, outcome, after| {
            let mut again = after.clone();
            let (second, _) = apply(&mut again, tier, command);
            match (command, outcome) {
                (Command::Request { .. }, _) => {}
                // Nothing is remembered of what was not let in.
                (_, Outcome::Denied { .. } | Outcome::Impossible { .. }) => assert_eq!(second, *outcome),
                _ => {
                    assert_eq!(again, *after, "{command:?}");
                    if let (Outcome::Granted { output: first, .. }, Outcome::Granted { output: second, .. }) = (*outcome, second) {
                        assert_eq!(first, second);
                    } else {
                        assert_eq!(std::mem::discriminant(outcome), std::mem::discriminant(&second), "{outcome:?} {second:?}");
                    }
                }
            }
        });
    }

    /// A journal loses nothing, and what is read from it goes on as what was written.
    #[test]
    fn journals(tier in tiers(), steps in steps()) {
        run(tier, steps, |before, tier, command, outcome, after| {
            let written = serde_json::to_string(before).expect("JSON");
            let mut read: Account = serde_json::from_str(&written).expect("an account");
            assert_eq!(read, *before);
            let text = serde_json::to_string(&command).expect("JSON");
            let command: Command = serde_json::from_str(&text).expect("a command");
            let text = serde_json::to_string(outcome).expect("JSON");
            let answered: Outcome = serde_json::from_str(&text).expect("an outcome");
            assert_eq!((apply(&mut read, tier, command).0, answered), (*outcome, *outcome));
            assert_eq!(read, *after);
        });
    }

    /// Woken when it asks to be, an account ends with no lease and nothing to remember, in few steps.
    #[test]
    fn every_lease_ends(tier in tiers(), steps in steps()) {
        let (mut account, tier) = run(tier, steps, |_, _, _, _, _| {});
        let at = account.levels().at;
        let (mut wakes, mut next) = (0, apply(&mut account, &tier, Command::Expire { at }).1);
        while let Some(at) = next {
            assert!(wakes < 10, "{account:?}");
            wakes += 1;
            let later = apply(&mut account, &tier, Command::Expire { at }).1;
            assert!(later.is_none_or(|l| l > at));
            next = later;
        }
        assert_eq!((account.open_leases(), account.closed_leases()), (0, 0));
    }
}
