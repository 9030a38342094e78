//! Text of one medium on its way through the gate, and the tokens that spell it.

use std::collections::VecDeque;

use firecrest_contract::event::TokenLogprob;

use super::choice::Court;
use super::watch::Watch;
use crate::safety::classifier::Medium;
use crate::safety::rules::{Direction, Matcher};

/// Tokens that spell some whole characters together, and where.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) tokens: Vec<TokenLogprob>,
}

/// Text of one medium.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) medium: Medium,
    pub(super) watch: Watch,
    /// The end of the text, where there is a classifier: of arguments what their strings say, decoded.
    pub(super) context: String,
    /// Whether what comes next in `context` begins a line of its own.
    breaks: bool,
    /// Characters since the last score, and up to where scores reach.
    pub(super) unscored: usize,
    pub(super) scored: u64,
    /// Nothing from here on leaves, ever: it was refused.
    pub(super) cap: u64,
    /// Nothing from here on leaves while its block is open.
    pub(super) whole: u64,
}

impl Stream {
    pub(super) fn new(medium: Medium, watch: Watch) -> Stream {
        Stream { medium, watch, context: String::new(), breaks: false, unscored: 0, scored: 0, cap: u64::MAX, whole: u64::MAX }
    }

    /// Arguments of a tool, which are judged by themselves.
    pub(super) fn arguments(matcher: &Matcher, name: &str, whole: bool) -> Stream {
        let mut stream = Stream::new(Medium::Arguments, Watch::new(true));
        stream.watch.open(matcher);
        stream.context.push_str(name);
        stream.unscored = name.chars().count();
        stream.breaks = true;
        stream.whole = if whole { 0 } else { u64::MAX };
        stream
    }

    /// The first byte that may not leave yet.
    pub(super) fn limit(&self, court: &Court<'_>) -> u64 {
        let held = self.watch.held(court.policy.matcher(Direction::Output)).min(self.cap).min(self.whole);
        if court.classifier.is_some() { held.min(self.scored) } else { held }
    }

    /// A character came that a classifier has not seen.
    pub(super) fn show(&mut self, c: char) {
        self.unscored += 1;
        if self.medium != Medium::Arguments {
            self.context.push(c);
            return;
        }
        // Marks of JSON say nothing: only letters and digits do outside of strings.
        let said = match self.watch.decoded() {
            Some(decoded) => decoded,
            None => Some(c).filter(|c| c.is_alphanumeric()),
        };
        match said {
            Some(c) => {
                if std::mem::take(&mut self.breaks) && !self.context.is_empty() {
                    self.context.push('\n');
                }
                self.context.push(c);
            }
            None => self.breaks |= self.watch.decoded().is_none(),
        }
    }
}

/// What text and its tokens take, about.
pub(super) fn weight(text: &str, logprobs: &[TokenLogprob]) -> usize {
    text.len() + logprobs.iter().map(|token| super::choice::ITEM * (1 + token.top.len())).sum::<usize>()
}

/// Tokens by the whole characters that they spell together. Tokens that do not spell the text are one with all of it.
pub(super) fn units(text: &str, start: u64, logprobs: Vec<TokenLogprob>) -> VecDeque<Unit> {
    if logprobs.is_empty() {
        return VecDeque::new();
    }
    let spelled = logprobs.iter().flat_map(|token| &token.token.0);
    if !spelled.eq(text.as_bytes()) {
        return VecDeque::from([Unit { start, end: start + text.len() as u64, tokens: logprobs }]);
    }
    let mut units = VecDeque::new();
    let (mut tokens, mut from, mut at) = (Vec::new(), 0, 0);
    for token in logprobs {
        at += token.token.0.len();
        tokens.push(token);
        if text.is_char_boundary(at) {
            units.push_back(Unit { start: start + from as u64, end: start + at as u64, tokens: std::mem::take(&mut tokens) });
            from = at;
        }
    }
    units
}

/// Leaves out the alternatives that would say, behind the text so far, what must not be said. What was chosen is in the text, and is judged there.
pub(super) fn judge_alternatives(unit: &mut Unit, watch: &Watch, matcher: &Matcher) {
    let mut before = Vec::new();
    for token in &mut unit.tokens {
        let chosen = &token.token;
        token.top.retain(|(other, _)| {
            other == chosen || !watch.would_reveal(matcher, &String::from_utf8_lossy(&[before.as_slice(), &other.0].concat()))
        });
        before.extend_from_slice(&token.token.0);
    }
}
