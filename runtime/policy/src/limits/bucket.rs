//! Token buckets and budgets, exact in integers.
//!
//! A bucket counts in *parts*, of which a token has 60,000, one for each millisecond of a minute. So a limit of `n` tokens a minute
//! brings exactly `n` parts a millisecond: there is no division in a refill, nothing is rounded, and ten refills of a millisecond are one
//! of ten.

use serde::{Deserialize, Serialize};

use super::time::{FAR, Millis};

/// Parts of a token.
const PARTS: i64 = 60_000;

/// Levels stay within plus and minus 2^53 parts, so that every JSON reader keeps them.
const BOUND: i64 = FAR as i64;

/// Most tokens that a limit, a price or a total can say: 10^11, below 2^53 parts. What says more means this.
pub const MOST: u64 = 100_000_000_000;

/// A limit a minute. What is not used adds up, as far as its capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LimitForm", into = "LimitForm")]
pub struct Limit {
    per_minute: u64,
    capacity: u64,
}

/// As configuration and journals write a limit.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitForm {
    per_minute: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capacity: Option<u64>,
}

impl TryFrom<LimitForm> for Limit {
    type Error = LimitError;

    fn try_from(form: LimitForm) -> Result<Limit, LimitError> {
        let limit = Limit::per_minute(form.per_minute)?;
        form.capacity.map_or(Ok(limit), |capacity| limit.with_capacity(capacity))
    }
}

impl From<Limit> for LimitForm {
    fn from(limit: Limit) -> LimitForm {
        LimitForm { per_minute: limit.per_minute, capacity: (limit.capacity != limit.per_minute).then_some(limit.capacity) }
    }
}

/// A limit that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitError {
    field: &'static str,
    value: u64,
}

impl std::fmt::Display for LimitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} is not within 1 and {MOST}; leave the limit out where there is none", self.field, self.value)
    }
}

impl std::error::Error for LimitError {}

fn within(field: &'static str, value: u64) -> Result<u64, LimitError> {
    if (1..=MOST).contains(&value) { Ok(value) } else { Err(LimitError { field, value }) }
}

impl Limit {
    /// So many a minute, and as many at once.
    ///
    /// # Errors
    /// What is not within 1 and [`MOST`].
    pub fn per_minute(count: u64) -> Result<Limit, LimitError> {
        let per_minute = within("per_minute", count)?;
        Ok(Limit { per_minute, capacity: per_minute })
    }

    /// How many a minute.
    pub const fn a_minute(self) -> u64 {
        self.per_minute
    }

    /// At most so many at once, be it more or fewer than come in a minute.
    ///
    /// # Errors
    /// What is not within 1 and [`MOST`].
    pub fn with_capacity(self, count: u64) -> Result<Limit, LimitError> {
        Ok(Limit { capacity: within("capacity", count)?, ..self })
    }
}

/// Tokens for a period of time, which begins anew at every multiple of its length since 1970: 86,400,000 is the day in UTC. What is not
/// used is lost, what was used beyond it is taken from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BudgetForm", into = "BudgetForm")]
pub struct Budget {
    tokens: u64,
    period: Millis,
}

/// As configuration and journals write a budget.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetForm {
    tokens: u64,
    period_ms: Millis,
}

impl TryFrom<BudgetForm> for Budget {
    type Error = LimitError;

    fn try_from(form: BudgetForm) -> Result<Budget, LimitError> {
        Budget::new(form.tokens, form.period_ms)
    }
}

impl From<Budget> for BudgetForm {
    fn from(budget: Budget) -> BudgetForm {
        BudgetForm { tokens: budget.tokens, period_ms: budget.period }
    }
}

impl Budget {
    /// So many tokens, input and output together, in each period.
    ///
    /// # Errors
    /// What is not within 1 and [`MOST`].
    pub fn new(tokens: u64, period: Millis) -> Result<Budget, LimitError> {
        Ok(Budget { tokens: within("tokens", tokens)?, period: within("period_ms", period)? })
    }
}

/// How full something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// The base: what comes in a minute, or in a budget's period.
    pub limit: u64,
    /// Whole tokens that are there; 0 in debt.
    pub remaining: u64,
    /// When it is full again, if nobody takes anything.
    pub reset: Millis,
}

/// What refills bit by bit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bucket {
    /// Parts. Below 0 is debt.
    level: i64,
    limit: Limit,
    /// When it began. A lease gives back only what it took from this one.
    since: Millis,
}

impl Bucket {
    fn full(limit: Limit, at: Millis) -> Bucket {
        Bucket { level: parts(limit.capacity), limit, since: at }
    }

    /// Lets time pass in the bucket of a limit, which may have changed at any moment since it was last looked at. Only what both the old
    /// and the new limit would have brought is there, so a change mints nothing.
    pub(super) fn pass(bucket: &mut Option<Bucket>, limit: Option<Limit>, now: Millis, passed: Millis) {
        let Some(limit) = limit else {
            *bucket = None;
            return;
        };
        let Some(bucket) = bucket else {
            *bucket = Some(Bucket::full(limit, now));
            return;
        };
        let rate = limit.per_minute.min(bucket.limit.per_minute);
        let capacity = limit.capacity.min(bucket.limit.capacity);
        let level = i128::from(bucket.level) + i128::from(rate) * i128::from(passed);
        bucket.level = bounded(level).min(parts(capacity));
        bucket.limit = limit;
    }

    /// When `tokens` will be there; now, or earlier than now, if they are. Never where they are more than fit.
    pub(super) fn ready(&self, tokens: u64, now: Millis) -> Millis {
        if tokens > self.limit.capacity { FAR } else { self.reaches(parts(tokens), now) }
    }

    fn reaches(&self, level: i64, now: Millis) -> Millis {
        let lacking = u64::try_from(level - self.level).unwrap_or(0);
        now.saturating_add(lacking.div_ceil(self.limit.per_minute)).min(FAR)
    }

    pub(super) fn take(&mut self, tokens: u64) {
        self.level = bounded(i128::from(self.level) - i128::from(parts(tokens)));
    }

    fn give(&mut self, tokens: u64) {
        self.level = bounded(i128::from(self.level) + i128::from(parts(tokens))).min(parts(self.limit.capacity));
    }

    pub(super) fn capacity(&self) -> u64 {
        self.limit.capacity
    }

    pub(super) fn level(&self, now: Millis) -> Level {
        Level {
            limit: self.limit.per_minute,
            remaining: u64::try_from(self.level / PARTS).unwrap_or(0),
            reset: self.reaches(parts(self.limit.capacity), now),
        }
    }

    /// As read from a journal: whether it is one that was written.
    pub(super) fn sound(&self) -> bool {
        (-BOUND..=parts(self.limit.capacity)).contains(&self.level) && self.since <= FAR
    }

    pub(super) fn turn_back(&mut self, by: Millis) {
        self.since = self.since.saturating_sub(by);
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> i64 {
        self.level
    }
}

fn parts(tokens: u64) -> i64 {
    // Within 6 * 10^15.
    tokens.min(MOST) as i64 * PARTS
}

/// Past 1.5 * 10^11 tokens of debt the rest is forgiven: nobody repays that.
fn bounded(level: i128) -> i64 {
    level.clamp(i128::from(-BOUND), i128::from(BOUND)) as i64
}

/// What was spent of a budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spending {
    /// In this period, and beyond their budgets in those before. May be more than there was.
    spent: u64,
    budget: Budget,
    /// When this period began; where the clock was set back, when it begins again.
    since: Millis,
}

impl Spending {
    /// Lets time pass. A budget that is raised has that much more at once, one that is lowered that much less.
    pub(super) fn pass(spending: &mut Option<Spending>, budget: Option<Budget>, now: Millis) {
        let Some(budget) = budget else {
            *spending = None;
            return;
        };
        let since = now - now % budget.period;
        let Some(spending) = spending else {
            *spending = Some(Spending { spent: 0, budget, since });
            return;
        };
        if spending.budget.period != budget.period {
            // What was spent stays spent until the first new period ends.
            spending.since = since;
        } else if since > spending.since {
            let periods = (since - spending.since) / budget.period;
            let tokens = budget.tokens.min(spending.budget.tokens);
            spending.spent = spending.spent.saturating_sub(tokens.saturating_mul(periods));
            spending.since = since;
        }
        spending.budget = budget;
    }

    /// When `tokens` may be spent; now, or earlier than now, if they may. Never where a period has fewer.
    pub(super) fn ready(&self, tokens: u64) -> Millis {
        if tokens > self.budget.tokens {
            return FAR;
        }
        let over = (self.spent + tokens).saturating_sub(self.budget.tokens);
        self.after(over.div_ceil(self.budget.tokens))
    }

    /// When so many more periods have begun. None need to: at once, also where the clock was set back to before this one.
    fn after(&self, periods: u64) -> Millis {
        if periods == 0 {
            return 0;
        }
        self.since.saturating_add(self.budget.period.saturating_mul(periods)).min(FAR)
    }

    fn take(&mut self, tokens: u64) {
        self.spent = self.spent.saturating_add(tokens).min(FAR);
    }

    fn give(&mut self, tokens: u64) {
        self.spent = self.spent.saturating_sub(tokens);
    }

    pub(super) fn capacity(&self) -> u64 {
        self.budget.tokens
    }

    pub(super) fn level(&self, now: Millis) -> Level {
        Level {
            limit: self.budget.tokens,
            remaining: self.budget.tokens.saturating_sub(self.spent),
            reset: self.after(self.spent.div_ceil(self.budget.tokens)).max(now),
        }
    }

    /// As read from a journal: whether it is one that was written.
    pub(super) fn sound(&self) -> bool {
        self.spent <= FAR && self.since <= FAR
    }

    pub(super) fn turn_back(&mut self, to: Millis) {
        // The next period has begun before: it brings nothing again, and what was spent counts until the one behind it. Later ones, which may be
        // years ahead, are as if they had not.
        let next = (to - to % self.budget.period).saturating_add(self.budget.period);
        self.since = self.since.min(next);
    }

    #[cfg(test)]
    pub(super) fn spent(&self) -> u64 {
        self.spent
    }
}

/// What a lease took from one bucket, or in one period of a budget. Only so much can it give back there: a bucket that begins anew, full,
/// and a new period owe nothing to what was taken from those before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Share {
    since: Millis,
    taken: u64,
}

/// What shares are taken of.
pub(super) trait Source {
    fn since(&self) -> Millis;
    fn take(&mut self, tokens: u64);
    fn give(&mut self, tokens: u64);
}

impl Source for Bucket {
    fn since(&self) -> Millis {
        self.since
    }

    fn take(&mut self, tokens: u64) {
        Bucket::take(self, tokens);
    }

    fn give(&mut self, tokens: u64) {
        Bucket::give(self, tokens);
    }
}

impl Source for Spending {
    fn since(&self) -> Millis {
        self.since
    }

    fn take(&mut self, tokens: u64) {
        Spending::take(self, tokens);
    }

    fn give(&mut self, tokens: u64) {
        Spending::give(self, tokens);
    }
}

impl Share {
    /// Changes what was counted into what shall be: takes the difference, or gives it back.
    pub(super) fn recount<S: Source>(&mut self, source: &mut Option<S>, counted: u64, now: u64) {
        let Some(source) = source else { return };
        if self.since != source.since() {
            *self = Share { since: source.since(), taken: 0 };
        }
        if now >= counted {
            source.take(now - counted);
            self.taken = self.taken.saturating_add(now - counted).min(FAR);
        } else {
            let back = (counted - now).min(self.taken);
            source.give(back);
            self.taken -= back;
        }
    }

    /// The clock is set back: its source began at another time than before. What was taken from another one is owed to nobody.
    pub(super) fn follow(&mut self, before: Option<Millis>, after: Option<Millis>) {
        let taken = if before == Some(self.since) { self.taken } else { 0 };
        *self = Share { since: after.unwrap_or(0), taken };
    }
}
