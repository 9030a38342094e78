//! What `limits::apply` costs: nanoseconds a command, by command, with few and with many leases open.
//!
//! `cargo run --release -p firecrest-policy --example limits_cost`

use std::hint::black_box;
use std::time::Instant;

use firecrest_policy::limits::{
    Account, Budget, Command, Exactness, LeaseId, Limit, LimitError, MOST, Millis, Outcome, Price, Tally, Tier, apply,
};

/// Commands of each kind in a round.
const COUNT: u64 = 200_000;

/// A lease's name as a host draws them: not in order (an odd multiplier scatters).
fn lease(n: u64) -> LeaseId {
    LeaseId(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn open(at: Millis, n: u64) -> Command {
    let price = Price { input: 100, exactness: Exactness::Exact, output_cap: 4_096 };
    Command::Open { at, lease: lease(n), expires: at + 60_000, price, output: 256 }
}

/// Runs the commands; nanoseconds each.
fn time(account: &mut Account, tier: &Tier, commands: impl Iterator<Item = Command>) -> f64 {
    let (begun, mut count) = (Instant::now(), 0u64);
    for command in commands {
        black_box(apply(account, tier, black_box(command)));
        count += 1;
    }
    begun.elapsed().as_nanos() as f64 / count.max(1) as f64
}

fn main() -> Result<(), LimitError> {
    let wide = Limit::per_minute(MOST)?;
    let tier =
        Tier { requests: Some(wide), input: Some(wide), output: Some(wide), concurrent: None, budget: Some(Budget::new(MOST, MOST)?) };
    println!("{:>8} {:>9} {:>9} {:>9} {:>9} {:>9}", "leases", "request", "open", "extend", "settle", "again");
    for leases in [10, 100, 1_000, 10_000] {
        let mut account = Account::default();
        for n in 0..leases {
            let (outcome, _) = apply(&mut account, &tier, open(1_000_000, n));
            assert!(matches!(outcome, Outcome::Granted { .. }), "{outcome:?}");
        }
        let rounds = COUNT / leases.min(1_000);
        let (mut opened, mut extended, mut settled, mut again) = (vec![], vec![], vec![], vec![]);
        let request = time(&mut account, &tier, (0..COUNT).map(|n| Command::Request { at: 1_000_000 + n / 1_000 }));
        // In each round some extend, settle, are told of it again, and others come in their place: as many as before are open.
        for round in 0..rounds {
            let some = leases.min(1_000);
            let (at, first) = (1_001_000 + round * 10, round * some);
            let so_far = Tally { input: Some(90), output: 200 };
            let extend = |n| Command::Extend { at, lease: lease(n), seq: 1, expires: at + 60_000, so_far, more: 256 };
            let settle = |n| Command::Settle { at, lease: lease(n), total: Tally { input: Some(90), output: 333 } };
            extended.push(time(&mut account, &tier, (first..first + some).map(extend)));
            settled.push(time(&mut account, &tier, (first..first + some).map(settle)));
            again.push(time(&mut account, &tier, (first..first + some).map(settle)));
            opened.push(time(&mut account, &tier, (first + leases..first + leases + some).map(|n| open(at, n))));
        }
        // The median of the rounds: others may be at work on this machine.
        let each = |mut rounds: Vec<f64>| {
            rounds.sort_by(f64::total_cmp);
            rounds.get(rounds.len() / 2).copied().unwrap_or(0.0)
        };
        println!("{leases:>8} {request:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>9.0}", each(opened), each(extended), each(settled), each(again));
    }
    Ok(())
}
