//! What an account means, written for reading: time passes a millisecond at a time, every lease is kept, every taking is listed.

use super::super::*;

/// Units of a token: thousandths of what a bucket itself counts in.
const UNIT: i128 = 60_000_000;

#[derive(Clone, Debug)]
struct Bucket {
    level: i128,
    rate: i128,
    capacity: i128,
    /// Told apart by when they began.
    began: Millis,
}

impl Bucket {
    fn minute(bucket: &mut Option<Bucket>, limit: Option<Limit>, now: Millis, passed: u64) {
        let Some(limit) = limit else {
            *bucket = None;
            return;
        };
        let form = serde_json::to_value(limit).expect("JSON");
        let rate = i128::from(form["per_minute"].as_u64().expect("a number"));
        let capacity = form["capacity"].as_u64().map_or(rate, i128::from) * UNIT;
        let Some(bucket) = bucket else {
            *bucket = Some(Bucket { level: capacity, rate, capacity, began: now });
            return;
        };
        let (slow, small) = (rate.min(bucket.rate), capacity.min(bucket.capacity));
        for _ in 0..passed {
            if bucket.level >= small {
                break;
            }
            bucket.level += slow * UNIT / 60_000;
        }
        bucket.level = bucket.level.min(small);
        (bucket.rate, bucket.capacity) = (rate, capacity);
    }

    fn ready(&self, tokens: u64, now: Millis) -> Option<Millis> {
        let need = i128::from(tokens) * UNIT;
        if need > self.capacity {
            return None;
        }
        let lacking = (need - self.level).max(0);
        let step = self.rate * 1_000;
        Some(now + ((lacking + step - 1) / step) as u64)
    }

    fn level(&self, now: Millis) -> Level {
        let full = (self.capacity / UNIT) as u64;
        Level { limit: self.rate as u64, remaining: (self.level.max(0) / UNIT) as u64, reset: self.ready(full, now).expect("it fits") }
    }
}

#[derive(Clone, Debug)]
struct Purse {
    spent: i128,
    tokens: i128,
    period: u64,
    began: Millis,
}

impl Purse {
    fn period(purse: &mut Option<Purse>, budget: Option<Budget>, now: Millis) {
        let Some(budget) = budget else {
            *purse = None;
            return;
        };
        let form = serde_json::to_value(budget).expect("JSON");
        let (tokens, period) = (i128::from(form["tokens"].as_u64().expect("a number")), form["period_ms"].as_u64().expect("a number"));
        let began = now / period * period;
        let Some(purse) = purse else {
            *purse = Some(Purse { spent: 0, tokens, period, began });
            return;
        };
        if purse.period == period {
            while purse.began < began {
                purse.spent = (purse.spent - tokens.min(purse.tokens)).max(0);
                purse.began += period;
            }
        }
        *purse = Purse { spent: purse.spent, tokens, period, began };
    }

    fn ready(&self, tokens: u64) -> Option<Millis> {
        let need = i128::from(tokens);
        if need > self.tokens {
            return None;
        }
        let (mut spent, mut at) = (self.spent, self.began);
        while spent + need > self.tokens {
            spent = (spent - self.tokens).max(0);
            at += self.period;
        }
        Some(at)
    }

    fn level(&self, now: Millis) -> Level {
        let (mut spent, mut at) = (self.spent, self.began);
        while spent > 0 {
            spent -= self.tokens;
            at += self.period;
        }
        Level { limit: self.tokens as u64, remaining: (self.tokens - self.spent).max(0) as u64, reset: at.max(now) }
    }
}

#[derive(Clone, Debug)]
struct Lease {
    id: LeaseId,
    expires: Millis,
    first: Option<u64>,
    seq: u64,
    wanted: u64,
    input: u64,
    output: u64,
    used: Tally,
    /// Of which source, which of its lives, and how much; what came back is negative.
    taken: Vec<(usize, Millis, i128)>,
    closed: Option<Millis>,
    settled: bool,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    now: Millis,
    requests: Option<Bucket>,
    tokens: [Option<Bucket>; 2],
    purse: Option<Purse>,
    leases: Vec<Lease>,
}

impl Model {
    fn count(&mut self, lease: &mut Lease, input: u64, output: u64) {
        let more = [
            i128::from(input) - i128::from(lease.input),
            i128::from(output) - i128::from(lease.output),
            i128::from(input + output) - i128::from(lease.input + lease.output),
        ];
        for (source, more) in more.into_iter().enumerate() {
            let began = if source < 2 { self.tokens[source].as_ref().map(|b| b.began) } else { self.purse.as_ref().map(|p| p.began) };
            let Some(began) = began else { continue };
            // Back goes only what came from here since it last was someone else's.
            let here = lease.taken.iter().rev().filter(|t| t.0 == source).take_while(|t| t.1 == began).map(|t| t.2).sum::<i128>();
            let more = more.max(-here);
            lease.taken.push((source, began, more));
            if let Some(bucket) = self.tokens.get_mut(source).and_then(Option::as_mut) {
                bucket.level = (bucket.level - more * UNIT).min(bucket.capacity);
            } else if let Some(purse) = &mut self.purse {
                purse.spent = (purse.spent + more).max(0);
            }
        }
        (lease.input, lease.output) = (input, output);
    }

    fn most(&self) -> u64 {
        let bucket = self.tokens[1].as_ref().map_or(MOST, |b| (b.capacity / UNIT) as u64);
        bucket.min(self.purse.as_ref().map_or(MOST, |p| p.tokens as u64))
    }

    fn output_ready(&self, tokens: u64) -> Millis {
        self.output_lacking(tokens).0
    }

    /// When so much output can be had, and what is lacking until then.
    fn output_lacking(&self, tokens: u64) -> (Millis, Bound) {
        let bucket = self.tokens[1].as_ref().map_or(0, |b| b.ready(tokens, self.now).unwrap_or(FAR));
        let budget = self.purse.as_ref().map_or(0, |p| p.ready(tokens).unwrap_or(FAR));
        if budget > bucket { (budget, Bound::Budget) } else { (bucket, Bound::Output) }
    }

    fn levels(&self) -> Levels {
        let level = |bucket: &Option<Bucket>| bucket.as_ref().map(|b| b.level(self.now));
        Levels {
            at: self.now,
            requests: level(&self.requests),
            input: level(&self.tokens[0]),
            output: level(&self.tokens[1]),
            budget: self.purse.as_ref().map(|p| p.level(self.now)),
        }
    }

    /// Commands from before it closed are too late, but for one about a lease that is remembered.
    fn late(&self, at: Millis) -> bool {
        self.leases.iter().any(|l| l.closed.is_some_and(|closed| closed + GRACE <= self.now && at <= closed))
    }

    /// The lease of this name that is not forgotten, taken out.
    fn take(&mut self, id: LeaseId) -> Option<Lease> {
        let index = self.leases.iter().position(|l| l.id == id && l.closed.is_none_or(|closed| closed + GRACE > self.now))?;
        Some(self.leases.remove(index))
    }

    pub(super) fn apply(&mut self, tier: &Tier, command: Command) -> Outcome {
        let passed = command.at().saturating_sub(self.now);
        self.now += passed;
        Bucket::minute(&mut self.requests, tier.requests, self.now, passed);
        Bucket::minute(&mut self.tokens[0], tier.input, self.now, passed);
        Bucket::minute(&mut self.tokens[1], tier.output, self.now, passed);
        Purse::period(&mut self.purse, tier.budget, self.now);
        let now = self.now;
        for lease in &mut self.leases {
            if lease.closed.is_none() && lease.expires <= now {
                lease.closed = Some(now);
            }
        }
        match command {
            Command::Request { .. } => {
                if let Some(at) = self.requests.as_ref().and_then(|b| b.ready(1, now))
                    && at > now
                {
                    return Outcome::Denied { retry_at: at, soonest: at, bound: Bound::Requests, levels: self.levels() };
                }
                if let Some(bucket) = &mut self.requests {
                    bucket.level -= UNIT;
                }
                Outcome::Granted { output: 0, levels: self.levels() }
            }
            Command::Open { at, lease: id, expires, price, output } => self.open(tier, at, id, expires, price, output),
            Command::Extend { lease: id, seq, expires, so_far, more, .. } => {
                let Some(mut lease) = self.take(id) else { return Outcome::Closed { levels: self.levels() } };
                let outcome = self.extend(tier, &mut lease, seq, expires, so_far, more);
                self.leases.push(lease);
                outcome
            }
            Command::Settle { at, lease: id, total } => {
                if let Some(mut lease) = self.take(id) {
                    if !lease.settled {
                        let input = total.input.unwrap_or(lease.input);
                        self.count(&mut lease, input, total.output);
                        lease.settled = true;
                        lease.closed = lease.closed.or(Some(now));
                    }
                    self.leases.push(lease);
                } else if !self.late(at) {
                    let (closed, settled) = (Some(now), true);
                    self.leases.push(Lease {
                        id,
                        expires: 0,
                        first: None,
                        seq: 0,
                        wanted: 0,
                        input: 0,
                        output: 0,
                        used: Tally::default(),
                        taken: vec![],
                        closed,
                        settled,
                    });
                }
                Outcome::Closed { levels: self.levels() }
            }
            Command::Expire { .. } => Outcome::Closed { levels: self.levels() },
        }
    }

    fn open(&mut self, tier: &Tier, at: Millis, id: LeaseId, expires: Millis, price: Price, output: u64) -> Outcome {
        let now = self.now;
        if let Some(lease) = self.take(id) {
            let levels = self.levels();
            let first = lease.first;
            self.leases.push(lease);
            return first.map_or(Outcome::Closed { levels }, |output| Outcome::Granted { output, levels });
        }
        let expires = expires.min(now + TERM);
        if expires <= now || self.late(at) {
            return Outcome::Closed { levels: self.levels() };
        }
        let (mut input, mut output) = (price.input, output.min(self.most()));
        let whole = |source: &Option<Bucket>| source.as_ref().map_or(MOST, |b| (b.capacity / UNIT) as u64);
        let purse = self.purse.as_ref().map_or(MOST, |p| p.tokens as u64);
        if price.exactness == Exactness::UpperBound {
            input = input.min(whole(&self.tokens[0])).min(purse - output);
        }
        if self.purse.is_some() {
            output = output.min(purse.saturating_sub(input).max(1));
        }
        let mut last = (now, Bound::Requests);
        let [of_input, of_output] = &self.tokens;
        let bounds = [
            (Bound::Input, input, whole(of_input), of_input.as_ref().map(|b| b.ready(input, now))),
            (Bound::Output, output, whole(of_output), of_output.as_ref().map(|b| b.ready(output, now))),
            (Bound::Budget, input + output, purse, self.purse.as_ref().map(|p| p.ready(input + output))),
        ];
        // Of several that can never be, the last is named.
        if let Some(&(bound, asked, capacity, _)) = bounds.iter().rev().find(|b| b.3 == Some(None)) {
            return Outcome::Impossible { bound, asked, capacity };
        }
        for (bound, _, _, ready) in bounds {
            if let Some(Some(ready)) = ready
                && ready > now
                && ready >= last.0
            {
                last = (ready, bound);
            }
        }
        let mut ends: Vec<Millis> = self.leases.iter().filter(|l| l.closed.is_none()).map(|l| l.expires).collect();
        ends.sort_unstable();
        if let Some(places) = tier.concurrent {
            while ends.len() >= places.get() as usize {
                let end = ends.remove(0);
                if end >= last.0 {
                    last = (end, Bound::Concurrent);
                }
            }
        }
        if last.0 > now {
            let (soonest, bound) = self.when_all_end(input, output).unwrap_or((now, last.1));
            return Outcome::Denied { retry_at: last.0, soonest, bound, levels: self.levels() };
        }
        let (first, used) = (Some(output), Tally::default());
        let mut lease =
            Lease { id, expires, first, seq: 0, wanted: 0, input: 0, output: 0, used, taken: vec![], closed: None, settled: false };
        self.count(&mut lease, input, output);
        self.leases.push(lease);
        Outcome::Granted { output, levels: self.levels() }
    }

    /// What is lacking still if what is open gives back what it did not use, and until when; `None` if nothing is.
    fn when_all_end(&self, input: u64, output: u64) -> Option<(Millis, Bound)> {
        let mut after = Model { leases: Vec::new(), tokens: self.tokens.clone(), purse: self.purse.clone(), ..Model::default() };
        for lease in self.leases.iter().filter(|l| l.closed.is_none()) {
            let mut lease = lease.clone();
            let used = (lease.used.input.unwrap_or(0).min(lease.input), lease.used.output.min(lease.output));
            after.count(&mut lease, used.0, used.1);
        }
        let [of_input, of_output] = &after.tokens;
        let bounds = [
            (of_input.as_ref().and_then(|b| b.ready(input, self.now)), Bound::Input),
            (of_output.as_ref().and_then(|b| b.ready(output, self.now)), Bound::Output),
            (after.purse.as_ref().and_then(|p| p.ready(input + output)), Bound::Budget),
        ];
        let lacking = bounds.into_iter().filter_map(|(ready, bound)| Some((ready.filter(|r| *r > self.now)?, bound)));
        lacking.max_by_key(|(ready, _)| *ready)
    }

    fn extend(&mut self, tier: &Tier, lease: &mut Lease, seq: u64, expires: Millis, so_far: Tally, more: u64) -> Outcome {
        if lease.closed.is_some() {
            let expires = expires.min(self.now + TERM);
            let places = tier.concurrent.map_or(usize::MAX, |n| n.get() as usize);
            let goes_on = !lease.settled && seq > lease.seq && expires > self.now && self.open_leases() < places;
            if !goes_on {
                return Outcome::Closed { levels: self.levels() };
            }
            (lease.closed, lease.expires) = (None, expires);
        }
        if seq < lease.seq {
            return Outcome::Granted { output: lease.output, levels: self.levels() };
        }
        if seq > lease.seq {
            lease.seq = seq;
            lease.expires = lease.expires.max(expires.min(self.now + TERM));
            let reached = lease.output.max(so_far.output);
            let input = so_far.input.unwrap_or(lease.input);
            self.count(lease, input, reached);
            lease.used = Tally { input: so_far.input.or(lease.used.input), output: so_far.output };
            let goal = so_far.output + more;
            lease.wanted = lease.output;
            if goal > lease.output {
                lease.wanted = lease.output + (goal - lease.output).min(self.most());
                if self.output_ready(lease.wanted - lease.output) <= self.now {
                    let (input, wanted) = (lease.input, lease.wanted);
                    self.count(lease, input, wanted);
                }
            }
        }
        if lease.wanted > lease.output {
            // A tier may have shrunk since.
            let quantum = lease.wanted - lease.output;
            let (until, bound) = self.output_lacking(quantum);
            return Outcome::Wait { until: until.max(self.now), bound };
        }
        Outcome::Granted { output: lease.output, levels: self.levels() }
    }

    pub(super) fn parts(&self) -> ([Option<i64>; 3], Option<u64>) {
        let parts = |bucket: &Option<Bucket>| {
            bucket.as_ref().map(|b| {
                assert_eq!(b.level % 1_000, 0, "a part of a part");
                (b.level / 1_000) as i64
            })
        };
        ([parts(&self.requests), parts(&self.tokens[0]), parts(&self.tokens[1])], self.purse.as_ref().map(|p| p.spent as u64))
    }

    pub(super) fn open_leases(&self) -> usize {
        self.leases.iter().filter(|l| l.closed.is_none()).count()
    }
}
