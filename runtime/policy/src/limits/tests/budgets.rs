//! Budgets, and what requests under way hold of them and of other limits.

use super::super::*;
use super::cases::{NOW, open};
use super::limit;
use firecrest_contract::error::ErrorKind;

#[test]
fn a_budget_that_is_spent() {
    let day = 86_400_000;
    let tier = Tier { budget: Budget::new(1_000, day).ok(), ..Tier::default() };
    let mut account = Account::default();
    apply(&mut account, &tier, open(1, 900, 100));
    apply(&mut account, &tier, Command::Settle { at: NOW, lease: LeaseId(1), total: Tally { input: Some(900), output: 600 } });
    let (outcome, _) = apply(&mut account, &tier, open(2, 100, 0));
    // 500 of tomorrow are spent too.
    assert!(matches!(outcome, Outcome::Denied { retry_at, bound: Bound::Budget, .. } if retry_at == day));
    let error = outcome.error().expect("an error");
    assert_eq!((error.kind, error.should_retry, error.retry_after_ms), (ErrorKind::RateLimit, Some(false), Some(day - NOW)));
    assert_eq!(error.code, Some("enforced_spend_limit_reached"));
    assert!(error.message.contains("1970-01-02T00:00:00Z") && error.message.contains("0 of 1000 tokens"), "{}", error.message);
    // A budget that is raised holds at once.
    let tier = Tier { budget: Budget::new(2_000, day).ok(), ..Tier::default() };
    assert!(matches!(apply(&mut account, &tier, open(2, 100, 0)).0, Outcome::Granted { .. }));
    assert_eq!(account.levels().budget.map(|l| l.remaining), Some(400));
    // Nobody knows when in the night the next change came: the day brought what both would have.
    let tier = Tier { budget: Budget::new(3_000, day).ok(), ..Tier::default() };
    apply(&mut account, &tier, Command::Settle { at: NOW, lease: LeaseId(2), total: Tally { input: Some(3_700), output: 0 } });
    let tier = Tier { budget: Budget::new(5_000, day).ok(), ..Tier::default() };
    apply(&mut account, &tier, Command::Expire { at: day });
    assert_eq!(account.levels().budget.map(|l| l.remaining), Some(5_000 - (5_200 - 3_000)));
}

/// What requests under way hold is not used: it comes back, and nobody need wait for tomorrow.
#[test]
fn what_is_only_held_is_waited_for_shortly() {
    let day = 86_400_000;
    let settle = |lease, input, output| Command::Settle { at: NOW, lease: LeaseId(lease), total: Tally { input: Some(input), output } };
    let daily = Tier { budget: Budget::new(1_000, day).ok(), ..Tier::default() };
    let minutely = |input, output| Tier { input, output, ..Tier::default() };
    let tiers = [
        (daily, Bound::Budget),
        (minutely(Some(limit(60, 1_000)), None), Bound::Input),
        (minutely(None, Some(limit(60, 256))), Bound::Output),
    ];
    for (tier, held) in tiers {
        let mut account = Account::default();
        assert!(matches!(apply(&mut account, &tier, open(1, 744, 256)).0, Outcome::Granted { .. }));
        let (outcome, _) = apply(&mut account, &tier, open(2, 300, 100));
        assert!(
            matches!(outcome, Outcome::Denied { soonest: NOW, bound, retry_at, .. } if bound == held && retry_at > NOW + 2_000),
            "{outcome:?}"
        );
        let error = outcome.error().expect("an error");
        assert_eq!((error.kind, error.code, error.should_retry, error.retry_after_ms), (ErrorKind::RateLimit, None, None, Some(2_000)));
        assert!(
            error.message.contains("under way")
                && error.message.ends_with(&format!("{}, and give back what they don't use; try again in 2s", held.name())),
            "{}",
            error.message
        );
        // What it says that it used does not come back.
        let so_far = Tally { input: Some(744), output: 200 };
        apply(&mut account, &tier, Command::Extend { at: NOW, lease: LeaseId(1), seq: 1, expires: NOW + 30_000, so_far, more: 56 });
        let (outcome, _) = apply(&mut account, &tier, open(2, 300, 100));
        assert!(matches!(outcome, Outcome::Denied { soonest, bound, .. } if bound == held && soonest > NOW + 10_000), "{outcome:?}");
        let error = outcome.error().expect("an error");
        assert_eq!(error.code, (held == Bound::Budget).then_some("enforced_spend_limit_reached"));
        assert!(error.retry_after_ms > Some(10_000), "{error:?}");
        // Journals keep it.
        let mut read: Account = serde_json::from_str(&serde_json::to_string(&account).expect("JSON")).expect("an account");
        assert_eq!(apply(&mut read, &tier, open(2, 300, 100)).0, outcome);
        // It fits once the first has ended, which had it from the cache.
        apply(&mut account, &tier, settle(1, 0, 0));
        assert!(matches!(apply(&mut account, &tier, open(2, 300, 100)).0, Outcome::Granted { .. }));
    }
}

/// Of what is lacking, that counts which lasts though others end.
#[test]
fn a_budget_that_is_held_does_not_hide_a_limit_that_is_used_up() {
    let tier = Tier { input: Some(limit(60, 1_000)), budget: Budget::new(1_000, 86_400_000).ok(), ..Tier::default() };
    let mut account = Account::default();
    apply(&mut account, &tier, open(1, 700, 256));
    let so_far = Tally { input: Some(700), output: 0 };
    apply(&mut account, &tier, Command::Extend { at: NOW, lease: LeaseId(1), seq: 1, expires: NOW + 30_000, so_far, more: 256 });
    let (outcome, _) = apply(&mut account, &tier, open(2, 300, 0));
    // Both have 300 when it has ended.
    assert!(matches!(outcome, Outcome::Denied { soonest: NOW, bound: Bound::Budget, retry_at: 86_400_000, .. }), "{outcome:?}");
    let (outcome, _) = apply(&mut account, &tier, open(2, 301, 0));
    assert!(matches!(outcome, Outcome::Denied { soonest: 86_400_000, bound: Bound::Budget, .. }), "{outcome:?}");
    let tier = Tier { input: Some(limit(60, 700)), ..tier };
    let mut account = Account::default();
    apply(&mut account, &tier, open(1, 700, 256));
    apply(&mut account, &tier, Command::Extend { at: NOW, lease: LeaseId(1), seq: 1, expires: NOW + 30_000, so_far, more: 256 });
    let (outcome, _) = apply(&mut account, &tier, open(2, 300, 0));
    // A token a second; none of the 700 is left.
    assert!(matches!(outcome, Outcome::Denied { soonest, bound: Bound::Input, .. } if soonest == NOW + 300_000), "{outcome:?}");
    let error = outcome.error().expect("an error");
    assert_eq!((error.code, error.should_retry), (None, None));
}
