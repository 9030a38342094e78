//! Single cases, for what they show.

use super::super::*;
use super::limit;
use firecrest_contract::error::ErrorKind;

pub(super) const NOW: Millis = 1_000_000;

fn price(input: u64, exactness: Exactness) -> Price {
    Price { input, exactness, output_cap: 4_096 }
}

pub(super) fn open(lease: u128, input: u64, output: u64) -> Command {
    Command::Open { at: NOW, lease: LeaseId(lease), expires: NOW + 30_000, price: price(input, Exactness::Exact), output }
}

fn input_only(per_minute: u64) -> Tier {
    Tier { input: Some(limit(per_minute, per_minute)), ..Tier::default() }
}

#[test]
fn a_prompt_that_never_fits() {
    let tier = input_only(1_000);
    let (outcome, _) = apply(&mut Account::default(), &tier, open(1, 1_001, 0));
    assert_eq!(outcome, Outcome::Impossible { bound: Bound::Input, asked: 1_001, capacity: 1_000 });
    let error = outcome.error().expect("an error");
    assert_eq!((error.kind, error.should_retry, error.retry_after_ms), (ErrorKind::InvalidRequest, Some(false), None));
    assert!(error.message.contains("1001") && error.message.contains("input tokens per minute"), "{}", error.message);
}

/// A bound that may be four times too high is no reason to refuse for good: it takes what there is, and what it did use counts.
#[test]
fn an_upper_bound_takes_the_whole_bucket_at_most() {
    let tier = input_only(1_000);
    let mut account = Account::default();
    let lease = LeaseId(1);
    let command = Command::Open { at: NOW, lease, expires: NOW + 30_000, price: price(3_000, Exactness::UpperBound), output: 0 };
    assert!(matches!(apply(&mut account, &tier, command).0, Outcome::Granted { .. }));
    assert_eq!(account.levels().input.map(|l| l.remaining), Some(0));
    apply(&mut account, &tier, Command::Settle { at: NOW, lease, total: Tally { input: Some(750), output: 0 } });
    assert_eq!(account.levels().input.map(|l| l.remaining), Some(250));
}

#[test]
fn debt_is_repaid_before_anything_new() {
    let tier = input_only(60_000);
    let mut account = Account::default();
    let first = Command::Open { at: NOW, lease: LeaseId(1), expires: NOW + 30_000, price: price(100, Exactness::Estimate), output: 0 };
    apply(&mut account, &tier, first);
    apply(&mut account, &tier, Command::Settle { at: NOW, lease: LeaseId(1), total: Tally { input: Some(60_500), output: 0 } });
    // 500 short, and a token comes each millisecond.
    let (outcome, _) = apply(&mut account, &tier, open(2, 0, 0));
    assert!(matches!(outcome, Outcome::Denied { retry_at, bound: Bound::Input, .. } if retry_at == NOW + 500), "{outcome:?}");
    let error = outcome.error().expect("an error");
    assert_eq!((error.kind, error.retry_after_ms), (ErrorKind::RateLimit, Some(500)));
}

#[test]
fn cached_tokens_come_back_after_prefill() {
    let tier = input_only(1_000);
    let mut account = Account::default();
    apply(&mut account, &tier, open(1, 900, 0));
    let usage = firecrest_contract::event::Usage { input: 20, cache_read: 850, cache_write_5m: 30, ..Default::default() };
    let so_far = Tally::from(usage);
    assert_eq!(so_far.input, Some(50));
    apply(&mut account, &tier, Command::Extend { at: NOW, lease: LeaseId(1), seq: 1, expires: NOW + 30_000, so_far, more: 0 });
    assert_eq!(account.levels().input.map(|l| l.remaining), Some(950));
}

#[test]
fn a_lease_that_expires_pays_for_what_it_might_have_used() {
    let tier = Tier { output: Some(limit(60, 10_000)), ..Tier::default() };
    let mut account = Account::default();
    apply(&mut account, &tier, open(1, 10, 256));
    let so_far = Tally { input: None, output: 200 };
    let lease = LeaseId(1);
    apply(&mut account, &tier, Command::Extend { at: NOW, lease, seq: 1, expires: NOW + 40_000, so_far, more: 256 });
    let (_, wake_at) = apply(&mut account, &tier, Command::Expire { at: NOW + 30_000 });
    assert_eq!((account.open_leases(), wake_at), (1, Some(NOW + 40_000)));
    apply(&mut account, &tier, Command::Expire { at: NOW + 40_000 });
    // 456, less the 40 that came back in 40 s.
    assert_eq!(account.open_leases(), 0);
    assert_eq!(account.levels().output.map(|l| l.remaining), Some(10_000 - 456 + 40));
    // It was only slow to say so.
    let total = Tally { input: None, output: 300 };
    apply(&mut account, &tier, Command::Settle { at: NOW + 50_000, lease, total });
    assert_eq!(account.levels().output.map(|l| l.remaining), Some(10_000 - 300 + 50));
    let extend = Command::Extend { at: NOW + 50_000, lease, seq: 2, expires: NOW + 90_000, so_far, more: 256 };
    assert!(matches!(apply(&mut account, &tier, extend).0, Outcome::Closed { .. }));
}

/// As where a machine slept: nobody was there to extend anything.
#[test]
fn a_lease_that_expired_goes_on_where_it_is_heard_of_again() {
    let tier = Tier { output: Some(limit(60, 10_000)), concurrent: std::num::NonZeroU32::new(1), ..Tier::default() };
    let mut account = Account::default();
    let so_far = Tally { input: None, output: 200 };
    let extend = |at, seq| Command::Extend { at, lease: LeaseId(1), seq, expires: at + 30_000, so_far, more: 256 };
    apply(&mut account, &tier, open(1, 10, 256));
    apply(&mut account, &tier, extend(NOW + 1_000, 1));
    let later = NOW + 100_000;
    apply(&mut account, &tier, Command::Expire { at: later });
    assert_eq!(account.open_leases(), 0);
    // Its place may be another's by then.
    let second = Command::Open { at: later, lease: LeaseId(2), expires: later + 30_000, price: price(10, Exactness::Exact), output: 0 };
    assert!(matches!(apply(&mut account, &tier, second).0, Outcome::Granted { .. }));
    assert!(matches!(apply(&mut account, &tier, extend(later, 2)).0, Outcome::Closed { .. }));
    apply(&mut account, &tier, Command::Settle { at: later, lease: LeaseId(2), total: Tally::default() });
    // What was said before it expired opens nothing, nor what expires at once.
    assert!(matches!(apply(&mut account, &tier, extend(NOW + 1_000, 1)).0, Outcome::Closed { .. }));
    assert!(matches!(apply(&mut account, &tier, extend(NOW + 2_000, 2)).0, Outcome::Closed { .. }));
    let (outcome, wake_at) = apply(&mut account, &tier, extend(later + 1_000, 2));
    assert!(matches!(outcome, Outcome::Granted { output: 456, .. }), "{outcome:?}");
    assert_eq!((account.open_leases(), wake_at), (1, Some(later + 31_000)));
    let read: Account = serde_json::from_str(&serde_json::to_string(&account).expect("JSON")).expect("an account");
    assert_eq!(read, account);
    apply(&mut account, &tier, Command::Settle { at: later + 1_000, lease: LeaseId(1), total: Tally { input: None, output: 300 } });
    assert_eq!(account.levels().output.map(|l| l.remaining), Some(10_000 - 300 + 101));
    assert!(matches!(apply(&mut account, &tier, extend(later + 2_000, 3)).0, Outcome::Closed { .. }));
}

#[test]
fn an_upstream_that_runs_ahead_of_its_grant() {
    let tier = Tier { output: Some(limit(60, 500)), ..Tier::default() };
    let mut account = Account::default();
    apply(&mut account, &tier, open(1, 10, 256));
    let so_far = Tally { input: None, output: 800 };
    let extend = |seq, at| Command::Extend { at, lease: LeaseId(1), seq, expires: at + 30_000, so_far, more: 100 };
    // 300 beyond the bucket, and 100 more are wanted: 400 s.
    assert_eq!(apply(&mut account, &tier, extend(1, NOW)).0, Outcome::Wait { until: NOW + 400_000, bound: Bound::Output });
    assert_eq!(account.levels().output.map(|l| (l.remaining, l.reset)), Some((0, NOW + 800_000)));
}

#[test]
fn settled_before_it_was_opened() {
    let mut account = Account::default();
    let total = Tally { input: Some(0), output: 0 };
    apply(&mut account, &Tier::default(), Command::Settle { at: NOW, lease: LeaseId(1), total });
    assert!(matches!(apply(&mut account, &Tier::default(), open(1, 10, 10)).0, Outcome::Closed { .. }));
    assert_eq!(account.open_leases(), 0);
}

#[test]
fn places_come_free_as_leases_end() {
    let tier = Tier { concurrent: std::num::NonZeroU32::new(2), ..Tier::default() };
    let mut account = Account::default();
    let at = |n: u64| Command::Open {
        at: NOW,
        lease: LeaseId(n.into()),
        expires: NOW + n * 1_000,
        price: price(1, Exactness::Exact),
        output: 0,
    };
    assert!(matches!(apply(&mut account, &tier, at(7)).0, Outcome::Granted { .. }));
    assert!(matches!(apply(&mut account, &tier, at(4)).0, Outcome::Granted { .. }));
    let (outcome, _) = apply(&mut account, &tier, at(9));
    assert!(matches!(outcome, Outcome::Denied { retry_at, bound: Bound::Concurrent, .. } if retry_at == NOW + 4_000));
    assert_eq!(outcome.error().and_then(|e| e.retry_after_ms), Some(2_000));
    // Under a tier for one, both have to end.
    let tier = Tier { concurrent: std::num::NonZeroU32::new(1), ..Tier::default() };
    let (outcome, _) = apply(&mut account, &tier, at(9));
    assert!(matches!(outcome, Outcome::Denied { retry_at, .. } if retry_at == NOW + 7_000));
}

/// A limit that is raised after a long silence is not raised for that silence; one that is lowered holds at once.
#[test]
fn a_change_of_tier_mints_nothing() {
    let mut account = Account::default();
    apply(&mut account, &input_only(1_000), open(1, 1_000, 0));
    apply(&mut account, &input_only(600_000), Command::Expire { at: NOW + 6_000 });
    assert_eq!(account.levels().input.map(|l| l.remaining), Some(100));
    apply(&mut account, &input_only(600_000), Command::Expire { at: NOW + 7_000 });
    assert_eq!(account.levels().input.map(|l| l.remaining), Some(10_100));
    apply(&mut account, &input_only(60), Command::Expire { at: NOW + 7_000 });
    assert_eq!(account.levels().input.map(|l| l.remaining), Some(60));
    // What was taken of a bucket that is gone is not given back to the next.
    apply(&mut account, &Tier::default(), Command::Expire { at: NOW + 7_500 });
    apply(&mut account, &input_only(2_000), open(2, 1_500, 0));
    let apply_late = Command::Settle { at: NOW + 7_500, lease: LeaseId(1), total: Tally { input: Some(0), output: 0 } };
    apply(&mut account, &input_only(2_000), apply_late);
    assert_eq!(account.levels().input.map(|l| l.remaining), Some(500));
}

#[test]
fn memory_is_bounded() {
    let mut account = Account::default();
    let tier = Tier::default();
    let mut at = NOW;
    for n in 0..30_000u64 {
        at += n % 2;
        let lease = LeaseId(n.into());
        let open = Command::Open { at, lease, expires: at + TERM, price: price(1, Exactness::Exact), output: 1 };
        let (outcome, _) = apply(&mut account, &tier, open);
        assert_eq!(matches!(outcome, Outcome::Granted { .. }), account.open_leases() <= MOST_OPEN && n < MOST_OPEN as u64);
    }
    assert_eq!(account.open_leases(), MOST_OPEN);
    for n in 0..30_000u64 {
        apply(&mut account, &tier, Command::Settle { at, lease: LeaseId(n.into()), total: Tally::default() });
    }
    assert_eq!((account.open_leases(), account.closed_leases()), (0, MOST_CLOSED));
    // The first was forgotten long before its grace, and is known to be by its time.
    let open = Command::Open { at: NOW, lease: LeaseId(0), expires: at + TERM, price: price(1, Exactness::Exact), output: 1 };
    assert!(matches!(apply(&mut account, &tier, open).0, Outcome::Closed { .. }));
}

#[test]
fn a_journal_without_what_is_over() {
    let tier = input_only(60_000);
    let mut account = Account::default();
    for n in 0..100 {
        apply(&mut account, &tier, open(n, 10, 0));
        let total = Tally { input: Some(10), output: 0 };
        apply(&mut account, &tier, Command::Settle { at: NOW + 1, lease: LeaseId(n), total });
    }
    apply(&mut account, &tier, open(100, 500, 0));
    let journal = serde_json::to_string(&account.without_closed()).expect("JSON");
    assert!(journal.len() < 1_000, "{journal}");
    let mut read: Account = serde_json::from_str(&journal).expect("an account");
    assert_eq!((read.levels(), read.open_leases(), read.closed_leases()), (account.levels(), 1, 0));
    // What is left out is not opened again by a command that comes late; what is open ends when it would have.
    for n in [0, 99] {
        assert!(matches!(apply(&mut read, &tier, open(n, 10, 0)).0, Outcome::Closed { .. }));
    }
    let until = |account: &mut Account| apply(account, &tier, Command::Expire { at: NOW + 2 }).1;
    assert_eq!(until(&mut read), until(&mut account));
    assert!(until(&mut read).is_some());
}

#[test]
fn a_clock_that_was_wrong_for_a_while() {
    let tier = input_only(60_000);
    let mut account = Account::default();
    apply(&mut account, &tier, open(1, 30_000, 0));
    let wrong = NOW + 400_000_000;
    let command = Command::Open { at: wrong, lease: LeaseId(2), expires: wrong + 5_000, price: price(60_000, Exactness::Exact), output: 0 };
    apply(&mut account, &tier, command);
    // Without a word, time stands still until then.
    apply(&mut account, &tier, Command::Expire { at: NOW + 1_000 });
    assert_eq!(account.levels().input.map(|l| l.remaining), Some(0));
    account.clock_set_back(NOW + 1_000);
    let (_, wake_at) = apply(&mut account, &tier, Command::Expire { at: NOW + 1_000 });
    assert_eq!((account.levels().input.map(|l| l.remaining), wake_at), (Some(0), Some(NOW + 6_000)));
    apply(&mut account, &tier, Command::Settle { at: NOW + 2_000, lease: LeaseId(2), total: Tally { input: Some(10), output: 0 } });
    assert_eq!(account.levels().input.map(|l| l.remaining), Some(60_000));
}

/// Whatever it is set back to, it is as good as before: answered, in the same millisecond already, and without a gift.
#[test]
fn an_owner_whose_clock_steps_back() {
    let tier = input_only(60_000);
    for back in [1, 500, 4_000, 31_000, 3_600_000, NOW + 3_600_000] {
        let mut account = Account::default();
        let ahead = NOW + 3_600_000;
        let open = |at, lease, input| {
            let price = price(input, Exactness::Exact);
            Command::Open { at, lease: LeaseId(lease), expires: at + 30_000, price, output: 0 }
        };
        apply_at(&mut account, &tier, open(ahead, 1, 100), ahead);
        apply_at(&mut account, &tier, open(ahead, 2, 60_000 - 100), ahead);
        apply_at(&mut account, &tier, Command::Settle { at: ahead, lease: LeaseId(1), total: Tally { input: Some(90), output: 0 } }, ahead);
        // As it is read when the process begins again.
        let written = serde_json::to_string(&account.without_closed()).expect("JSON");
        let mut account: Account = serde_json::from_str(&written).expect("an account");
        let now = ahead - back;
        assert!(account.is_ahead(now));
        let (outcome, wake_at) = apply_at(&mut account, &tier, open(now, 3, 10), now);
        assert!(matches!(outcome, Outcome::Granted { .. }), "{back}: {outcome:?}");
        assert_eq!((account.levels().at, wake_at), (now, Some(now + 30_000)), "{back}");
        assert!(!account.is_ahead(now));
        // What it had to refill is refilled once; what was leased comes back.
        let (outcome, _) = apply_at(&mut account, &tier, Command::Request { at: now + 1 }, now + 1);
        assert!(matches!(outcome, Outcome::Granted { .. }));
        assert_eq!(account.levels().input.map(|l| l.remaining), Some(1), "{back}");
        let total = Tally { input: Some(60_000 - 100 - 5), output: 0 };
        apply_at(&mut account, &tier, Command::Settle { at: now + 1, lease: LeaseId(2), total }, now + 1);
        assert_eq!(account.levels().input.map(|l| l.remaining), Some(6), "{back}");
    }
}

#[test]
fn no_command_takes_an_account_past_its_owners_clock() {
    let tier = input_only(60_000);
    let mut account = Account::default();
    apply_at(&mut account, &tier, open(1, 60_000, 0), NOW);
    // Sent before the clock was set back; nor does one from long before set it back.
    for at in [NOW + 3_600_000, NOW - 500_000] {
        apply_at(&mut account, &tier, Command::Settle { at, lease: LeaseId(9), total: Tally::default() }, NOW);
        assert_eq!((account.levels().at, account.levels().input.map(|l| l.remaining)), (NOW, Some(0)));
    }
}

#[test]
fn a_day_that_begins_twice_brings_nothing_twice() {
    let day = 86_400_000;
    let tier = Tier { budget: Budget::new(1_000, day).ok(), ..Tier::default() };
    let mut account = Account::default();
    let left = |account: &Account| account.levels().budget.map(|l| l.remaining);
    let spend = |account: &mut Account, at, lease, input| {
        let price = price(input, Exactness::Exact);
        let open = Command::Open { at, lease: LeaseId(lease), expires: at + 30_000, price, output: 0 };
        let (outcome, _) = apply_at(account, &tier, open, at);
        assert!(matches!(outcome, Outcome::Granted { .. }), "{outcome:?}");
    };
    let pass = |account: &mut Account, at| {
        apply_at(account, &tier, Command::Expire { at }, at);
    };
    let morning = 5 * day + day / 2;
    spend(&mut account, morning, 1, 900);
    // Within a day.
    pass(&mut account, morning - 3_600_000);
    assert_eq!(left(&account), Some(100));
    pass(&mut account, morning);
    assert_eq!(left(&account), Some(100));
    // From the next day to this one, and on again.
    spend(&mut account, 6 * day + 1_000, 2, 300);
    assert_eq!(left(&account), Some(700));
    pass(&mut account, 6 * day - 5_000);
    let levels = account.levels().budget.expect("a budget");
    assert_eq!((levels.remaining, levels.reset), (700, 7 * day));
    // What is there may be used at once, and what a lease holds comes back to it.
    spend(&mut account, 6 * day - 4_000, 3, 700);
    let total = Tally { input: Some(100), output: 0 };
    apply_at(&mut account, &tier, Command::Settle { at: 6 * day - 4_000, lease: LeaseId(3), total }, 6 * day - 4_000);
    apply_at(&mut account, &tier, Command::Settle { at: 6 * day - 4_000, lease: LeaseId(2), total }, 6 * day - 4_000);
    assert_eq!(left(&account), Some(800));
    pass(&mut account, 6 * day + 2_000);
    assert_eq!(left(&account), Some(800));
    pass(&mut account, 7 * day);
    assert_eq!(left(&account), Some(1_000));
    // It was years ahead: that is over after tomorrow, not after years.
    spend(&mut account, 4_000 * day, 4, 1_000);
    pass(&mut account, 7 * day);
    assert_eq!(left(&account), Some(0));
    pass(&mut account, 9 * day);
    assert_eq!(left(&account), Some(1_000));
}

#[test]
fn numbers_of_any_size() {
    let tier = Tier {
        requests: Some(limit(MOST, MOST)),
        input: Some(limit(MOST, MOST)),
        output: Some(limit(1, 1)),
        budget: Budget::new(MOST, 1).ok(),
        ..Tier::default()
    };
    let mut account = Account::default();
    let lease = LeaseId(u128::MAX);
    for at in [0, 1, u64::MAX, FAR, 5] {
        for n in [0, 1, MOST, FAR, u64::MAX] {
            let tally = Tally { input: Some(n), output: n };
            for exactness in [Exactness::Exact, Exactness::UpperBound, Exactness::Estimate] {
                let open = Command::Open { at, lease: LeaseId(n.into()), expires: n, price: price(n, exactness), output: n };
                apply(&mut account, &tier, open);
            }
            apply(&mut account, &tier, Command::Open { at, lease, expires: n, price: price(0, Exactness::Exact), output: n });
            apply(&mut account, &tier, Command::Extend { at, lease, seq: n, expires: n, so_far: tally, more: n });
            let (outcome, _) = apply(&mut account, &tier, Command::Settle { at, lease: LeaseId(n.into()), total: tally });
            apply(&mut account, &tier, Command::Request { at });
            let Outcome::Closed { levels } = outcome else { panic!() };
            assert_eq!(ratelimit_headers(&levels).len(), 12);
            assert_eq!(openai_headers(&levels).len(), 6);
            let read: Account = serde_json::from_str(&serde_json::to_string(&account).expect("JSON")).expect("an account");
            assert_eq!(read, account);
        }
    }
}

#[test]
fn headers() {
    let tier =
        Tier { requests: Some(limit(60, 60)), input: Some(limit(80_000, 80_000)), output: Some(limit(16_000, 32_000)), ..Tier::default() };
    let mut account = Account::default();
    let at = 1_730_835_030_000;
    apply(&mut account, &tier, Command::Request { at });
    let price = price(8_000, Exactness::Exact);
    let (outcome, _) = apply(&mut account, &tier, Command::Open { at, lease: LeaseId(9), expires: at + 9_000, price, output: 256 });
    let Outcome::Granted { levels, .. } = outcome else { panic!("{outcome:?}") };
    let written = |headers: Vec<(&str, String)>| headers.into_iter().map(|(n, v)| format!("{n}: {v}")).collect::<Vec<_>>();
    assert_eq!(
        written(ratelimit_headers(&levels)),
        [
            "anthropic-ratelimit-requests-limit: 60",
            "anthropic-ratelimit-requests-remaining: 59",
            "anthropic-ratelimit-requests-reset: 2024-11-05T19:30:31Z",
            "anthropic-ratelimit-tokens-limit: 96000",
            "anthropic-ratelimit-tokens-remaining: 103744",
            "anthropic-ratelimit-tokens-reset: 2024-11-05T19:30:36Z",
            "anthropic-ratelimit-input-tokens-limit: 80000",
            "anthropic-ratelimit-input-tokens-remaining: 72000",
            "anthropic-ratelimit-input-tokens-reset: 2024-11-05T19:30:36Z",
            "anthropic-ratelimit-output-tokens-limit: 16000",
            "anthropic-ratelimit-output-tokens-remaining: 31744",
            "anthropic-ratelimit-output-tokens-reset: 2024-11-05T19:30:31Z",
        ]
    );
    assert_eq!(
        written(openai_headers(&levels)),
        [
            "x-ratelimit-limit-requests: 60",
            "x-ratelimit-remaining-requests: 59",
            "x-ratelimit-reset-requests: 1s",
            "x-ratelimit-limit-tokens: 96000",
            "x-ratelimit-remaining-tokens: 103744",
            "x-ratelimit-reset-tokens: 6s",
        ]
    );
}

#[test]
fn tiers_are_read_from_configuration() {
    let tier: Tier = toml::from_str(
        "requests = { per_minute = 60 }\noutput = { per_minute = 100, capacity = 500 }\nconcurrent = 4\n\
         budget = { tokens = 9, period_ms = 1000 }",
    )
    .expect("a tier");
    assert_eq!(tier.output, Some(limit(100, 500)));
    assert_eq!(serde_json::from_str::<Tier>(&serde_json::to_string(&tier).expect("JSON")).expect("a tier"), tier);
    for (text, wrong) in [
        ("input = { per_minute = 0 }", "per_minute: 0 is not within 1"),
        ("input = { per_minute = 100000000001 }", "per_minute: 100000000001 is not within"),
        ("input = { per_minute = 5, capacity = 0 }", "capacity: 0"),
        ("concurrent = 0", "nonzero"),
        ("inputs = 3", "unknown field `inputs`"),
    ] {
        let error = toml::from_str::<Tier>(text).expect_err("a tier that can't be").to_string();
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn a_journal_that_was_tampered_with() {
    let mut account = Account::default();
    apply(&mut account, &input_only(1_000), open(1, 10, 1));
    apply(&mut account, &input_only(1_000), Command::Settle { at: NOW, lease: LeaseId(2), total: Tally::default() });
    let written = serde_json::to_string(&account).expect("JSON");
    for (from, to) in [
        ("59400000", "60000001"),
        ("59400000", "-9007199254740993"),
        ("00000001\"", "0000001\""),
        ("\"clock\":1000000", "\"clock\":9007199254740993"),
        ("\"closings\":[[1000000,", "\"closings\":[[1000000,\"00000000000000000000000000000003\"],[1000000,"),
    ] {
        assert!(written.contains(from), "{written}");
        serde_json::from_str::<Account>(&written.replace(from, to)).expect_err("an account");
    }
}
