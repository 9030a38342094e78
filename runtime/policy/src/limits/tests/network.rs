//! Callers and an owner with a network between them that loses commands and answers, doubles them, and delivers them in any order.

use proptest::prelude::*;

use super::super::*;
use super::{config, limit};

/// Numbers from a seed (Marsaglia's xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Someone who generates `output` tokens after a prompt of `input`, as far as they are granted, and settles.
struct Caller {
    lease: LeaseId,
    priced: u64,
    input: u64,
    output: u64,
    used: u64,
    seq: u64,
    /// What it waits to have answered. Sent again as it is.
    open: Option<Command>,
    granted: bool,
    settled: bool,
}

impl Caller {
    fn short(&self) -> u64 {
        self.input.saturating_sub(self.priced)
    }

    fn next(&mut self, now: Millis) -> Command {
        let (lease, expires) = (self.lease, now + 5_000);
        let tally = Tally { input: Some(self.input), output: self.used };
        *self.open.get_or_insert_with(|| {
            if !self.granted {
                let price = Price { input: self.priced, exactness: Exactness::Estimate, output_cap: self.output };
                return Command::Open { at: now, lease, expires, price, output: 64 };
            }
            if self.used < self.output {
                self.seq += 1;
                return Command::Extend { at: now, lease, seq: self.seq, expires, so_far: tally, more: 64.min(self.output - self.used) };
            }
            Command::Settle { at: now, lease, total: tally }
        })
    }

    fn answered(&mut self, command: Command, outcome: Outcome) {
        self.open = None;
        match (command, outcome) {
            (Command::Settle { .. }, _) => self.settled = true,
            (_, Outcome::Granted { output, .. }) => {
                self.granted = true;
                self.used = self.output.min(self.used.max(output));
            }
            // Expired meanwhile: no more than it had. If that was before it knew of its grant, it has used nothing, not even its prompt.
            (_, Outcome::Closed { .. }) => {
                if !self.granted {
                    self.input = 0;
                }
                (self.granted, self.output) = (true, self.used);
            }
            _ => {}
        }
    }
}

/// Lets the callers go on for so many turns, then until all have settled, and delivers what strayed once more. After each delivery,
/// `check` sees the account and the callers.
fn play(
    account: &mut Account,
    tier: &Tier,
    callers: &mut [Caller],
    turns: u64,
    seed: u64,
    mut check: impl FnMut(&Account, &[Caller], Command),
) -> Millis {
    let (mut dice, mut now, mut strays) = (Dice(seed | 1), account.levels().at, Vec::<Command>::new());
    let mut turn = 0;
    while callers.iter().any(|c| !c.settled) {
        turn += 1;
        assert!(turn < turns + 100_000, "they never end");
        // All in all less than the grace: who comes later than that pays for all it was granted.
        now += dice.below(if turn < turns { 80_000 / turns } else { 4 }.min(200) + 1);
        if dice.one_in(4) && !strays.is_empty() {
            let stray = strays[dice.below(strays.len() as u64) as usize];
            apply(account, tier, stray);
            check(account, callers, stray);
            continue;
        }
        let index = dice.below(callers.len() as u64) as usize;
        let index = if turn < turns { index } else { callers.iter().position(|c| !c.settled).unwrap_or(index) };
        if callers[index].settled {
            continue;
        }
        let command = callers[index].next(now);
        if dice.one_in(3) {
            strays.push(command);
        }
        if dice.one_in(5) {
            continue;
        }
        let (outcome, _) = apply(account, tier, command);
        if !dice.one_in(5) {
            callers[index].answered(command, outcome);
        }
        check(account, callers, command);
    }
    for stray in strays {
        apply(account, tier, stray);
        check(account, callers, stray);
    }
    now
}

fn callers(count: u64, seed: u64, exact: bool) -> Vec<Caller> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..count)
        .map(|n| {
            let input = dice.below(300);
            let priced = if exact { input + dice.below(200) } else { dice.below(300) };
            let (lease, output) = (LeaseId(u128::from(n)), dice.below(400));
            Caller { lease, priced, input, output, used: 0, seq: 0, open: None, granted: false, settled: false }
        })
        .collect()
}

/// An account whose buckets are far from full, so that nothing is lost at the brim: only then is the sum what was used.
fn drained(tier: &Tier) -> Account {
    let mut account = Account::default();
    let total = Tally { input: Some(100_000_000), output: 100_000_000 };
    let lease = LeaseId(u128::MAX);
    let price = Price { input: 1, exactness: Exactness::Exact, output_cap: 1 };
    apply(&mut account, tier, Command::Open { at: 1_000, lease, expires: 2_000, price, output: 1 });
    apply(&mut account, tier, Command::Settle { at: 1_000, lease, total });
    account
}

fn sums_are_exact(count: u64, turns: u64, seed: u64) {
    let rate = 7;
    let wide = limit(rate, 1_000_000_000);
    let budget = Budget::new(MOST, MOST).ok();
    let tier = Tier { input: Some(wide), output: Some(wide), budget, ..Tier::default() };
    let mut account = drained(&tier);
    let before = account.parts();
    let mut callers = callers(count, seed, false);
    play(&mut account, &tier, &mut callers, turns, seed, |_, _, _| {});
    let used_input: u64 = callers.iter().map(|c| c.input).sum();
    let used_output: u64 = callers.iter().map(|c| c.used).sum();
    let settled = |account: &Account| {
        let refilled = ((account.levels().at - 1_000) * rate) as i64;
        let ([_, input, output], spent) = account.parts();
        let ([_, input_before, output_before], spent_before) = before;
        assert_eq!(input, input_before.map(|l| l + refilled - used_input as i64 * 60_000));
        assert_eq!(output, output_before.map(|l| l + refilled - used_output as i64 * 60_000));
        assert_eq!(spent, spent_before.map(|s| s + used_input + used_output));
    };
    settled(&account);
    assert_eq!(account.open_leases(), 0);
}

proptest! {
    #![proptest_config(config(500))]

    /// What was charged is what was used, to the part.
    #[test]
    fn charged_is_used(count in 1..12u64, turns in 0..400u64, seed: u64) {
        sums_are_exact(count, turns, seed);
    }

    /// Under a tight tier: no bucket above its capacity; no debt of output, nor of input where prices are no lower than what is used;
    /// otherwise at most what the leases open by then were priced too low.
    #[test]
    fn debt_is_bounded(
        (count, turns, seed, exact) in (1..12u64, 0..400u64, any::<u64>(), any::<bool>()),
        (rate, capacity) in (10_000..200_000u64, 500..3_000u64),
    ) {
        let tight = limit(rate, capacity);
        let tier = Tier { input: Some(tight), output: Some(tight), ..Tier::default() };
        let mut account = Account::default();
        let mut callers = callers(count, seed, exact);
        let mut exposed = 0i64;
        play(&mut account, &tier, &mut callers, turns, seed, |account, callers, _| {
            let ([_, input, output], _) = account.parts();
            let (input, output) = (input.expect("a level"), output.expect("a level"));
            let brim = capacity as i64 * 60_000;
            assert!(input <= brim && output <= brim);
            assert!(output >= 0, "{output}");
            if input >= 0 {
                // Each might yet turn out to be longer than was said. The ones that settled can't; this counts all, as a caller may not
                // know of its grant.
                exposed = callers.iter().filter(|c| !c.settled).map(|c| c.short() as i64 * 60_000).sum();
            }
            assert!(input >= -exposed, "{input} {exposed}");
        });
    }
}

#[test]
fn a_thousand_leases() {
    sums_are_exact(1_000, 4_000, 0x5eed);
}

/// All that ever was said about leases that are forgotten, said again: nothing changes but for time.
#[test]
fn what_is_forgotten_stays_closed() {
    let tier = Tier { input: Some(limit(7, 1_000_000_000)), output: Some(limit(7, 1_000_000_000)), ..Tier::default() };
    let mut account = drained(&tier);
    let mut said = Vec::new();
    let mut callers = callers(30, 77, false);
    let now = play(&mut account, &tier, &mut callers, 300, 77, |_, _, command| said.push(command));
    apply(&mut account, &tier, Command::Expire { at: now + 10 * GRACE });
    assert_eq!(account.closed_leases(), 0);
    let before = account.parts();
    for command in said.into_iter().rev() {
        let (outcome, _) = apply(&mut account, &tier, command);
        assert!(matches!(outcome, Outcome::Closed { .. }), "{command:?}: {outcome:?}");
        assert_eq!((account.parts(), account.open_leases()), (before, 0));
    }
}
