//! Accounts, and the one function that changes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::bucket::{Bucket, MOST, Share, Source, Spending};
use super::time::{FAR, Millis};
use super::{Bound, Command, Exactness, LeaseId, Levels, Outcome, Price, Tally, Tier};

/// How long a closed lease is remembered.
pub const GRACE: Millis = 120_000;

/// Closed leases that an account remembers. Past that the oldest go before their [`GRACE`] ends.
pub const MOST_CLOSED: usize = 4096;

/// Leases that an account has open at once, whatever its tier says.
pub const MOST_OPEN: usize = 16_384;

/// How far ahead a lease's expiry counts, so that every lease ends.
pub const TERM: Millis = 3_600_000;

/// What one caller used and holds. [`apply`] is all that changes it. It goes into journals as JSON of integers within plus and minus 2^53.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Account {
    /// The latest moment that any command told of.
    clock: Millis,
    #[serde(flatten)]
    buckets: Buckets,
    leases: BTreeMap<LeaseId, Lease>,
    closed: BTreeMap<LeaseId, Closed>,
    /// When each of the closed ones did, in order.
    closings: VecDeque<(Millis, LeaseId)>,
    /// Leases that closed by then may be forgotten. A command from before it about a lease that is not known comes too late.
    forgotten: Option<Millis>,
    /// Open leases by expiry.
    #[serde(skip)]
    expiries: BTreeSet<(Millis, LeaseId)>,
}

/// An account without what follows from the rest.
#[derive(Deserialize)]
struct Stored {
    clock: Millis,
    #[serde(flatten)]
    buckets: Buckets,
    leases: BTreeMap<LeaseId, Lease>,
    closed: BTreeMap<LeaseId, Closed>,
    closings: VecDeque<(Millis, LeaseId)>,
    forgotten: Option<Millis>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Buckets {
    requests: Option<Bucket>,
    input: Option<Bucket>,
    output: Option<Bucket>,
    budget: Option<Spending>,
}

/// An open lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    expires: Millis,
    /// What its `Open` was answered.
    first: u64,
    /// Of the last `Extend` that counted.
    seq: u64,
    /// The output that this one wanted and was not granted; 0 if it was.
    wanted: u64,
    /// What it last said that it used. The rest of what was counted is held, and may come back.
    #[serde(default)]
    used: Tally,
    counted: Counted,
}

/// What a lease was charged until now. Its output is also what it may reach, or what it did reach if that is more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    input: u64,
    output: u64,
    of_input: Share,
    of_output: Share,
    of_budget: Share,
}

/// A lease that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Closed {
    /// What its `Open` was answered; `None` if it was settled before it was opened.
    first: Option<u64>,
    /// As it was, if it expired: it may still settle, or go on. Few do, so the others need not have room for it.
    expired: Option<Box<Lease>>,
}

impl Counted {
    /// Charges or gives back what is between what was counted and this.
    fn set(&mut self, buckets: &mut Buckets, input: u64, output: u64) {
        self.of_input.recount(&mut buckets.input, self.input, input);
        self.of_output.recount(&mut buckets.output, self.output, output);
        self.of_budget.recount(&mut buckets.budget, self.input.saturating_add(self.output), input.saturating_add(output));
        (self.input, self.output) = (input, output);
    }

    fn settle(&mut self, buckets: &mut Buckets, total: Tally) {
        self.set(buckets, total.input.unwrap_or(self.input).min(MOST), total.output.min(MOST));
    }

    /// Gives back what is held and was not used: as it would be if the lease settled now.
    fn return_to(&self, buckets: &mut Buckets, used: Tally) {
        let mut counted = *self;
        counted.set(buckets, used.input.unwrap_or(0).min(self.input), used.output.min(self.output));
    }

    /// The clock is set back, and with it when the buckets of input, output and budget began.
    fn follow(&mut self, before: [Option<Millis>; 3], after: [Option<Millis>; 3]) {
        let shares = [&mut self.of_input, &mut self.of_output, &mut self.of_budget];
        for (share, (before, after)) in shares.into_iter().zip(before.into_iter().zip(after)) {
            share.follow(before, after);
        }
    }
}

/// Takes a command. Answers it, and says when to come back with [`Command::Expire`] if no other command does earlier; `None` if nothing
/// is to be done.
///
/// Costs the logarithm of the leases that the account remembers, and of each that ends now; where an [`Command::Open`] is denied, a look at
/// each that is open.
pub fn apply(account: &mut Account, tier: &Tier, command: Command) -> (Outcome, Option<Millis>) {
    account.pass(tier, command.at());
    account.carry_out(tier, command)
}

/// [`apply`], at an owner with a clock of its own, which says `now`. No command takes an account past it. An account that is ahead of it is
/// from before that clock was set back, and is set back too. A command's own time could not tell that: one that was long on its way is
/// from before as well, and if the account went back for it and forward again, that time would refill its buckets twice.
pub fn apply_at(account: &mut Account, tier: &Tier, command: Command, now: Millis) -> (Outcome, Option<Millis>) {
    account.clock_set_back(now);
    account.pass(tier, command.at().min(now));
    account.carry_out(tier, command)
}

impl Account {
    /// Whether it is ahead of its owner's clock. Then what [`apply`] answered last says nothing about when to come back.
    pub fn is_ahead(&self, now: Millis) -> bool {
        self.clock > now
    }

    /// The owner's clock was found to be ahead and was set back to this; nothing happens to an account that is not ahead. All times move
    /// with it, as if it had never been: nothing is refilled for time that passes again, and nothing stands still until then, as it would
    /// without this call. Leases last as long as they would have. A budget's period that begins a second time brings nothing.
    pub fn clock_set_back(&mut self, to: Millis) {
        if !self.is_ahead(to) {
            return;
        }
        let by = self.clock - to;
        self.clock = to;
        // What is sent in this very millisecond does not come too late.
        self.forgotten = self.forgotten.and_then(|at| Some(at.saturating_sub(by).min(to.checked_sub(1)?)));
        let buckets = &mut self.buckets;
        let before = buckets.began();
        for bucket in [&mut buckets.requests, &mut buckets.input, &mut buckets.output].into_iter().flatten() {
            bucket.turn_back(by);
        }
        if let Some(budget) = &mut buckets.budget {
            budget.turn_back(to);
        }
        for lease in self.leases.values_mut() {
            lease.expires = lease.expires.saturating_sub(by);
        }
        for (closed, _) in &mut self.closings {
            *closed = closed.saturating_sub(by);
        }
        let after = buckets.began();
        for lease in self.leases.values_mut().chain(self.closed.values_mut().filter_map(|c| c.expired.as_deref_mut())) {
            lease.counted.follow(before, after);
        }
        self.index();
    }

    /// What is left, as of the last command.
    pub fn levels(&self) -> Levels {
        let level = |bucket: &Option<Bucket>| bucket.as_ref().map(|b| b.level(self.clock));
        Levels {
            at: self.clock,
            requests: level(&self.buckets.requests),
            input: level(&self.buckets.input),
            output: level(&self.buckets.output),
            budget: self.buckets.budget.as_ref().map(|b| b.level(self.clock)),
        }
    }

    /// Leases that are open.
    pub fn open_leases(&self) -> usize {
        self.leases.len()
    }

    /// Leases that are over and remembered.
    pub fn closed_leases(&self) -> usize {
        self.closed.len()
    }

    /// The account without the leases that are over, for a journal that is read again only when nobody is left who could speak of them: by
    /// an owner in the same process as all who hold leases. A few hundred bytes, however many leases ended lately.
    pub fn without_closed(&self) -> Account {
        Account {
            clock: self.clock,
            buckets: self.buckets.clone(),
            leases: self.leases.clone(),
            forgotten: self.forgotten.max(self.closings.back().map(|&(closed, _)| closed)),
            expiries: self.expiries.clone(),
            ..Account::default()
        }
    }

    /// Finds what is in order of time from what is in order of name.
    fn index(&mut self) {
        self.expiries = self.leases.iter().map(|(id, lease)| (lease.expires, *id)).collect();
    }

    fn carry_out(&mut self, tier: &Tier, command: Command) -> (Outcome, Option<Millis>) {
        let outcome = match command {
            Command::Request { .. } => self.request(),
            Command::Open { at, lease, expires, price, output } => self.open(tier, at, lease, expires, price, output),
            Command::Extend { lease, seq, expires, so_far, more, .. } => self.extend(tier, lease, seq, expires, so_far, more),
            Command::Settle { at, lease, total } => self.settle(at, lease, total),
            Command::Expire { .. } => Outcome::Closed { levels: self.levels() },
        };
        (outcome, self.wake_at())
    }

    fn pass(&mut self, tier: &Tier, at: Millis) {
        let now = self.clock.max(at.min(FAR));
        let passed = now - self.clock;
        self.clock = now;
        Bucket::pass(&mut self.buckets.requests, tier.requests, now, passed);
        Bucket::pass(&mut self.buckets.input, tier.input, now, passed);
        Bucket::pass(&mut self.buckets.output, tier.output, now, passed);
        Spending::pass(&mut self.buckets.budget, tier.budget, now);
        while let Some(&(expires, id)) = self.expiries.first()
            && expires <= now
        {
            self.expiries.pop_first();
            if let Some(lease) = self.leases.remove(&id) {
                // All that it took is what it may have used: nothing is to be counted.
                self.close(id, Closed { first: Some(lease.first), expired: Some(Box::new(lease)) });
            }
        }
        while let Some(&(closed, _)) = self.closings.front()
            && closed.saturating_add(GRACE) <= now
        {
            self.forget();
        }
    }

    fn wake_at(&self) -> Option<Millis> {
        match self.expiries.first() {
            Some(&(expires, _)) => Some(expires),
            // All closed ones at once. While leases are open, any command sees to them.
            None => self.closings.back().map(|&(closed, _)| closed.saturating_add(GRACE)),
        }
    }

    fn close(&mut self, id: LeaseId, closed: Closed) {
        self.closings.push_back((self.clock, id));
        self.closed.insert(id, closed);
        if self.closings.len() > MOST_CLOSED {
            self.forget();
        }
    }

    fn forget(&mut self) {
        if let Some((at, id)) = self.closings.pop_front() {
            self.closed.remove(&id);
            self.forgotten = self.forgotten.max(Some(at));
        }
    }

    /// Whether a command from then may be about a lease that was forgotten. Whatever was said of a lease was said before it closed, or is
    /// said again.
    fn late(&self, at: Millis) -> bool {
        self.forgotten.is_some_and(|forgotten| at <= forgotten)
    }

    fn request(&mut self) -> Outcome {
        if let Some(bucket) = &mut self.buckets.requests {
            let ready = bucket.ready(1, self.clock);
            if ready > self.clock {
                return Outcome::Denied { retry_at: ready, soonest: ready, bound: Bound::Requests, levels: self.levels() };
            }
            bucket.take(1);
        }
        Outcome::Granted { output: 0, levels: self.levels() }
    }

    fn open(&mut self, tier: &Tier, at: Millis, id: LeaseId, expires: Millis, price: Price, output: u64) -> Outcome {
        if let Some(lease) = self.leases.get(&id) {
            return Outcome::Granted { output: lease.first, levels: self.levels() };
        }
        if let Some(closed) = self.closed.get(&id) {
            let levels = self.levels();
            return closed.first.map_or(Outcome::Closed { levels }, |output| Outcome::Granted { output, levels });
        }
        let expires = self.term(expires);
        if expires <= self.clock || self.late(at) {
            return Outcome::Closed { levels: self.levels() };
        }
        let Buckets { input: of_input, output: of_output, budget, .. } = &self.buckets;
        let mut output = fitting(output.min(MOST), of_output, budget);
        let mut input = price.input.min(MOST);
        if price.exactness == Exactness::UpperBound {
            input = input.min(of_input.as_ref().map_or(MOST, Bucket::capacity));
            input = input.min(budget.as_ref().map_or(MOST, |b| b.capacity().saturating_sub(output)));
        }
        if let Some(budget) = budget {
            // Beside a long prompt there is less room for a quantum, but there may be some.
            output = output.min(budget.capacity().saturating_sub(input).max(1));
        }
        let places = places(tier);
        let over = (self.leases.len() + 1).saturating_sub(places);
        // The place that comes free last of those that must.
        let place = over.checked_sub(1).and_then(|n| self.expiries.iter().nth(n)).map_or(0, |&(expires, _)| expires);
        let (retry_at, bound) = self.buckets.admits(input, output, place, self.clock);
        if retry_at > self.clock {
            let whole = [(Bound::Input, input), (Bound::Output, output), (Bound::Budget, input + output)];
            let never = whole.into_iter().rev().find_map(|(bound, asked)| {
                let capacity = self.buckets.capacity(bound)?;
                (asked > capacity).then_some(Outcome::Impossible { bound, asked, capacity })
            });
            return never.unwrap_or_else(|| self.denied(input, output, retry_at, bound));
        }
        let mut counted = Counted::default();
        counted.set(&mut self.buckets, input, output);
        self.leases.insert(id, Lease { expires, first: output, seq: 0, wanted: 0, used: Tally::default(), counted });
        self.expiries.insert((expires, id));
        Outcome::Granted { output, levels: self.levels() }
    }

    /// Not now, but where all that is open ended now, it might be sooner.
    fn denied(&self, input: u64, output: u64, retry_at: Millis, bound: Bound) -> Outcome {
        let mut buckets = self.buckets.clone();
        for lease in self.leases.values() {
            lease.counted.return_to(&mut buckets, lease.used);
        }
        let (soonest, lasting) = buckets.admits(input, output, 0, self.clock);
        let bound = if soonest > self.clock { lasting } else { bound };
        Outcome::Denied { retry_at, soonest: soonest.max(self.clock), bound, levels: self.levels() }
    }

    fn extend(&mut self, tier: &Tier, id: LeaseId, seq: u64, expires: Millis, so_far: Tally, more: u64) -> Outcome {
        let expires = self.term(expires);
        if !self.leases.contains_key(&id) {
            self.reopen(tier, id, seq, expires);
        }
        let Some(lease) = self.leases.get_mut(&id) else {
            return Outcome::Closed { levels: self.levels() };
        };
        let (buckets, counted) = (&mut self.buckets, &mut lease.counted);
        if seq > lease.seq {
            lease.seq = seq;
            if expires > lease.expires {
                self.expiries.remove(&(lease.expires, id));
                self.expiries.insert((expires, id));
                lease.expires = expires;
            }
            // An upstream that does not keep to what was granted: what it sent is counted, be there room for it or not.
            let reached = counted.output.max(so_far.output.min(MOST));
            counted.set(buckets, so_far.input.unwrap_or(counted.input).min(MOST), reached);
            lease.used = Tally { input: so_far.input.map(|input| input.min(MOST)).or(lease.used.input), output: so_far.output.min(MOST) };
            let wanted = so_far.output.saturating_add(more).min(MOST);
            let quantum = fitting(wanted.saturating_sub(counted.output), &buckets.output, &buckets.budget);
            lease.wanted = 0;
            if quantum > 0 {
                lease.wanted = counted.output + quantum;
                if buckets.ready(quantum, self.clock) <= self.clock {
                    counted.set(buckets, counted.input, lease.wanted);
                    lease.wanted = 0;
                }
            }
        } else if seq < lease.seq {
            return Outcome::Granted { output: counted.output, levels: self.levels() };
        }
        match lease.wanted.checked_sub(lease.counted.output) {
            Some(quantum) if quantum > 0 => {
                let (until, bound) = buckets.lacking(quantum, self.clock);
                Outcome::Wait { until: until.max(self.clock), bound }
            }
            _ => Outcome::Granted { output: lease.counted.output, levels: self.levels() },
        }
    }

    /// An expired lease that is heard of again goes on, if there is a place for it: all that it took is still taken. So a clock that steps
    /// ahead, as when a machine slept, ends no answer that runs.
    fn reopen(&mut self, tier: &Tier, id: LeaseId, seq: u64, expires: Millis) {
        let Some(lease) = self.closed.get(&id).and_then(|closed| closed.expired.as_deref()) else { return };
        // What was sent before it expired says nothing new.
        if seq <= lease.seq || expires <= self.clock || self.leases.len() >= places(tier) {
            return;
        }
        if let Some(Closed { expired: Some(lease), .. }) = self.closed.remove(&id) {
            self.closings.retain(|(_, closed)| *closed != id);
            self.expiries.insert((expires, id));
            self.leases.insert(id, Lease { expires, ..*lease });
        }
    }

    fn settle(&mut self, at: Millis, id: LeaseId, total: Tally) -> Outcome {
        if let Some(mut lease) = self.leases.remove(&id) {
            self.expiries.remove(&(lease.expires, id));
            lease.counted.settle(&mut self.buckets, total);
            self.close(id, Closed { first: Some(lease.first), expired: None });
        } else if let Some(closed) = self.closed.get_mut(&id) {
            if let Some(mut lease) = closed.expired.take() {
                lease.counted.settle(&mut self.buckets, total);
            }
        } else if !self.late(at) {
            // Whoever gave up before an answer came has used nothing. Should its `Open` still be on the way, it must not be granted.
            self.close(id, Closed { first: None, expired: None });
        }
        Outcome::Closed { levels: self.levels() }
    }

    fn term(&self, expires: Millis) -> Millis {
        expires.min(self.clock.saturating_add(TERM)).min(FAR)
    }
}

impl Buckets {
    /// When those of input, output and budget began.
    fn began(&self) -> [Option<Millis>; 3] {
        [self.input.as_ref().map(Source::since), self.output.as_ref().map(Source::since), self.budget.as_ref().map(Source::since)]
    }

    /// What one of these holds when full.
    fn capacity(&self, bound: Bound) -> Option<u64> {
        match bound {
            Bound::Requests => self.requests.as_ref().map(Bucket::capacity),
            Bound::Input => self.input.as_ref().map(Bucket::capacity),
            Bound::Output => self.output.as_ref().map(Bucket::capacity),
            Bound::Budget => self.budget.as_ref().map(Spending::capacity),
            Bound::Concurrent => None,
        }
    }

    /// When so much can be taken and there is a place, and what is lacking longest until then.
    fn admits(&self, input: u64, output: u64, place: Millis, now: Millis) -> (Millis, Bound) {
        let bounds = [
            (self.input.as_ref().map_or(0, |b| b.ready(input, now)), Bound::Input),
            (self.output.as_ref().map_or(0, |b| b.ready(output, now)), Bound::Output),
            (self.budget.as_ref().map_or(0, |b| b.ready(input + output)), Bound::Budget),
            (place, Bound::Concurrent),
        ];
        bounds.into_iter().max_by_key(|(ready, _)| *ready).unwrap_or((0, Bound::Concurrent))
    }

    /// When so much output can be had.
    fn ready(&self, output: u64, now: Millis) -> Millis {
        self.lacking(output, now).0
    }

    /// When so much output can be had, and what is lacking until then.
    fn lacking(&self, output: u64, now: Millis) -> (Millis, Bound) {
        let bucket = self.output.as_ref().map_or(0, |b| b.ready(output, now));
        let budget = self.budget.as_ref().map_or(0, |b| b.ready(output));
        if budget > bucket { (budget, Bound::Budget) } else { (bucket, Bound::Output) }
    }
}

/// Leases that may be open at once.
fn places(tier: &Tier) -> usize {
    tier.concurrent.map_or(MOST_OPEN, |n| MOST_OPEN.min(n.get() as usize))
}

/// As much of a quantum as can ever be had.
fn fitting(quantum: u64, bucket: &Option<Bucket>, budget: &Option<Spending>) -> u64 {
    let most = bucket.as_ref().map_or(MOST, Bucket::capacity).min(budget.as_ref().map_or(MOST, Spending::capacity));
    quantum.min(most)
}

impl TryFrom<Stored> for Account {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Account, String> {
        let Stored { clock, buckets, leases, closed, closings, forgotten } = stored;
        for (name, bucket) in [("requests", &buckets.requests), ("input", &buckets.input), ("output", &buckets.output)] {
            if bucket.as_ref().is_some_and(|b| !b.sound()) {
                return Err(format!("{name}: the level is above what the bucket holds, or past 2^53; this journal was not written here"));
            }
        }
        if clock > FAR || buckets.budget.as_ref().is_some_and(|b| !b.sound()) {
            return Err("clock, budget: past 2^53; this journal was not written here".to_owned());
        }
        let wild = |l: &Lease| l.counted.input > MOST || l.counted.output > MOST || l.expires > FAR || l.wanted > 2 * MOST;
        if leases.values().chain(closed.values().filter_map(|c| c.expired.as_deref())).any(wild) {
            return Err("leases: a number is past 2^53; this journal was not written here".to_owned());
        }
        let known: BTreeSet<LeaseId> = closings.iter().map(|&(_, id)| id).collect();
        if !closings.iter().is_sorted_by_key(|c| c.0) || closings.len() != closed.len() || !known.iter().eq(closed.keys()) {
            return Err("closings: not the closed leases in order; this journal was not written here".to_owned());
        }
        let mut account = Account { clock, buckets, leases, closed, closings, forgotten, ..Account::default() };
        account.index();
        Ok(account)
    }
}

#[cfg(test)]
impl Account {
    /// Leases that are open, and what they said that they used.
    pub(super) fn under_way(&self) -> impl Iterator<Item = (LeaseId, Tally)> {
        self.leases.iter().map(|(id, lease)| (*id, lease.used))
    }

    /// Parts in the buckets of requests, input and output, and what was spent of the budget.
    pub(super) fn parts(&self) -> ([Option<i64>; 3], Option<u64>) {
        let parts = |bucket: &Option<Bucket>| bucket.as_ref().map(Bucket::parts);
        let Buckets { requests, input, output, budget } = &self.buckets;
        ([parts(requests), parts(input), parts(output)], budget.as_ref().map(Spending::spent))
    }
}
