//! What is left, as headers and errors say it.

use firecrest_contract::error::{ApiError, BUDGET_SPENT, ErrorKind};
use serde::{Deserialize, Serialize};

use super::bucket::Level;
use super::time::{Millis, rfc3339, span};
use super::{Bound, Outcome};

/// What a caller is told to wait, at most, for others of its own requests to end. Nobody knows when they do: their leases last for as long as they
/// are heard of. Milliseconds.
const SOON: Millis = 2_000;

/// What is left of each limit that there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// As of when.
    pub at: Millis,
    /// Requests.
    pub requests: Option<Level>,
    /// Tokens of prompts.
    pub input: Option<Level>,
    /// Tokens generated.
    pub output: Option<Level>,
    /// The budget. No header tells of it.
    pub budget: Option<Level>,
}

impl Levels {
    /// Input and output together: sums, and the later of the two moments. If only one is limited, that one.
    pub fn tokens(&self) -> Option<Level> {
        match (self.input, self.output) {
            (Some(input), Some(output)) => Some(Level {
                limit: input.limit + output.limit,
                remaining: input.remaining + output.remaining,
                reset: input.reset.max(output.reset),
            }),
            (one, other) => one.or(other),
        }
    }
}

/// `anthropic-ratelimit-*`: for each limit that there is what it is, what is left of it, and when it is full again (RFC 3339).
///
/// ```
/// use firecrest_policy::limits::*;
/// let tier = Tier { requests: Some(Limit::per_minute(60).unwrap()), ..Tier::default() };
/// let (outcome, _) = apply(&mut Account::default(), &tier, Command::Request { at: 1_730_835_030_000 });
/// let Outcome::Granted { levels, .. } = outcome else { panic!() };
/// let headers = ratelimit_headers(&levels);
/// assert_eq!(headers[1], ("anthropic-ratelimit-requests-remaining", "59".to_owned()));
/// assert_eq!(headers[2], ("anthropic-ratelimit-requests-reset", "2024-11-05T19:30:31Z".to_owned()));
/// ```
pub fn ratelimit_headers(levels: &Levels) -> Vec<(&'static str, String)> {
    const NAMES: [[&str; 3]; 4] = [
        ["anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"],
        ["anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"],
        ["anthropic-ratelimit-input-tokens-limit", "anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"],
        [
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
        ],
    ];
    write(&NAMES, [levels.requests, levels.tokens(), levels.input, levels.output], rfc3339)
}

/// `x-ratelimit-*` of OpenAI's dialect: requests, and tokens of both kinds together. `reset` is how long that takes from now: `6m0s`.
pub fn openai_headers(levels: &Levels) -> Vec<(&'static str, String)> {
    const NAMES: [[&str; 3]; 2] = [
        ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
        ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
    ];
    write(&NAMES, [levels.requests, levels.tokens()], |reset| span(reset.saturating_sub(levels.at)))
}

fn write<const N: usize>(
    names: &'static [[&'static str; 3]; N],
    levels: [Option<Level>; N],
    moment: impl Fn(Millis) -> String,
) -> Vec<(&'static str, String)> {
    let there = names.iter().zip(levels).filter_map(|(names, level)| level.map(|l| (names, l)));
    there
        .flat_map(|(&[limit, left, reset], l)| [(limit, l.limit.to_string()), (left, l.remaining.to_string()), (reset, moment(l.reset))])
        .collect()
}

impl Bound {
    /// In a person's words.
    pub const fn name(self) -> &'static str {
        match self {
            Bound::Requests => "requests per minute",
            Bound::Input => "input tokens per minute",
            Bound::Output => "output tokens per minute",
            Bound::Concurrent => "requests at once",
            Bound::Budget => "tokens per budget period",
        }
    }
}

impl Outcome {
    /// What a caller is told that may not start: 429 with the wait, 400 if what it asks for can never be. `None` if it may. What requests under way
    /// hold comes back as they end, and is waited for shortly. Where a budget has no room besides, clients shall not wait by themselves: that may take a
    /// day.
    pub fn error(&self) -> Option<ApiError> {
        match *self {
            Outcome::Denied { retry_at, soonest, bound, levels } if soonest <= levels.at => {
                let wait = retry_at.saturating_sub(levels.at).min(SOON);
                let name = bound.name();
                let why = match bound {
                    Bound::Concurrent => format!("this key's limit of {name} is reached"),
                    _ => format!("this key's requests under way hold what is left of its {name}, and give back what they don't use"),
                };
                let message = format!("{why}; try again in {}", span(wait));
                Some(ApiError::new(ErrorKind::RateLimit, message).retry_after_ms(wait))
            }
            Outcome::Denied { soonest, bound: Bound::Budget, levels, .. } => {
                let (limit, left) = levels.budget.map_or((0, 0), |b| (b.limit, b.remaining));
                let again = rfc3339(soonest);
                let message = format!(
                    "this request does not fit in what is left of this key's budget, {left} of {limit} tokens; there is room from {again}"
                );
                let error = ApiError::new(ErrorKind::RateLimit, message).code(BUDGET_SPENT).should_retry(false);
                Some(error.retry_after_ms(soonest.saturating_sub(levels.at)))
            }
            Outcome::Denied { soonest, bound, levels, .. } => {
                let wait = soonest.saturating_sub(levels.at);
                let message = format!("this key's limit of {} is reached; try again in {}", bound.name(), span(wait));
                Some(ApiError::new(ErrorKind::RateLimit, message).retry_after_ms(wait))
            }
            Outcome::Impossible { bound, asked, capacity } => {
                let message =
                    format!("this request needs {asked} of a limit of {capacity} {}, so it can never run; make it shorter", bound.name());
                Some(ApiError::new(ErrorKind::InvalidRequest, message).should_retry(false))
            }
            Outcome::Granted { .. } | Outcome::Wait { .. } | Outcome::Closed { .. } => None,
        }
    }
}
