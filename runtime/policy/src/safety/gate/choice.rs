//! One answer on its way through the gate.

use std::collections::VecDeque;

use firecrest_contract::event::{Block, Event, Finish, TokenLogprob};

use super::watch::Watch;
use super::{GateOptions, Judged};
use crate::safety::classifier::{Classifier, Exchange, Medium, WINDOW, window};
use crate::safety::decision::{Action, By, Decision, Finding, decide, matched, scored};
use crate::safety::json;
use crate::safety::judge::scores;
use crate::safety::rules::{Direction, Found, Hit, Policy, Scan, Severity};

/// What a choice is judged with.
pub(super) struct Court<'a> {
    pub(super) policy: &'a Policy,
    pub(super) options: &'a GateOptions,
    pub(super) classifier: Option<&'a mut (dyn Classifier + 'static)>,
    pub(super) findings: &'a mut Vec<(u32, Finding)>,
    pub(super) out: &'a mut Vec<Judged>,
}

impl Court<'_> {
    fn emit(&mut self, event: Event) {
        self.out.push(Judged(event));
    }
}

/// Why an event ends an answer or all of them.
pub(super) enum Breach {
    /// It must not be seen; nothing from this byte of the open stream on leaves.
    Unsafe(Decision),
    /// No backend that works makes it here.
    Order(&'static str),
}

impl From<Decision> for Breach {
    fn from(decision: Decision) -> Breach {
        Breach::Unsafe(decision)
    }
}

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Going,
    Finished,
    Refused,
}

/// A block that a backend opened.
#[derive(Debug)]
enum Open {
    Text,
    Thinking,
    Tool { id: String, name: String, json: String },
}

/// What waits to leave, in order.
#[derive(Debug)]
enum Item {
    Open(Block),
    Text { medium: Medium, text: String, start: u64, units: VecDeque<Unit> },
    Signature(String),
    Close,
    Tool { id: String, name: String, json: String },
}

/// Tokens that spell some whole characters together, and where.
#[derive(Debug)]
struct Unit {
    start: u64,
    end: u64,
    tokens: Vec<TokenLogprob>,
}

/// Text of one medium.
#[derive(Debug)]
struct Stream {
    medium: Medium,
    watch: Watch,
    /// The end of the text, where there is a classifier.
    context: String,
    /// Characters since the last score, and up to where scores reach.
    unscored: usize,
    scored: u64,
    /// Nothing from here on leaves, ever: it was refused.
    cap: u64,
    /// Nothing from here on leaves while its block is open.
    whole: u64,
}

impl Stream {
    fn new(medium: Medium, json: bool) -> Stream {
        Stream { medium, watch: Watch::new(json), context: String::new(), unscored: 0, scored: 0, cap: u64::MAX, whole: u64::MAX }
    }

    /// The first byte that may not leave yet.
    fn limit(&self, court: &Court<'_>) -> u64 {
        let held = self.watch.held(court.policy.matcher(Direction::Output)).min(self.cap).min(self.whole);
        if court.classifier.is_some() { held.min(self.scored) } else { held }
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Choice {
    number: u32,
    state: State,
    open: Option<Open>,
    text: Stream,
    thinking: Stream,
    queue: VecDeque<Item>,
    /// Bytes in `queue` and in an open tool block, about.
    held: usize,
    /// A block whose beginning shows only with what it holds.
    opening: Option<Block>,
    /// Whether a block is open at the caller.
    shown: bool,
    found: Found,
}

/// What an item weighs beside its text.
const ITEM: usize = 64;

impl Choice {
    pub(super) fn new(number: u32, options: &GateOptions) -> Choice {
        Choice {
            number,
            state: State::Going,
            open: None,
            text: Stream::new(Medium::Text, options.structured),
            thinking: Stream::new(Medium::Thinking, false),
            queue: VecDeque::new(),
            held: 0,
            opening: None,
            shown: false,
            found: Found::default(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Takes one of its events.
    pub(super) fn push(&mut self, court: &mut Court<'_>, event: Event) -> Result<(), &'static str> {
        match self.state {
            State::Going => {}
            State::Finished => return Err("something of an answer came behind its end"),
            State::Refused => return Ok(()),
        }
        match self.take(court, event) {
            Ok(()) => self.release(court),
            Err(Breach::Unsafe(decision)) => self.refuse(court, decision),
            Err(Breach::Order(what)) => return Err(what),
        }
        Ok(())
    }

    fn take(&mut self, court: &mut Court<'_>, event: Event) -> Result<(), Breach> {
        let matcher = court.policy.matcher(Direction::Output);
        match event {
            Event::Open { block, .. } => {
                if self.open.is_some() {
                    return Err(Breach::Order("a block began in another"));
                }
                if !matches!(block, Block::Thinking) {
                    // Thoughts are told apart from what follows; text around other blocks may be shown as one.
                    self.thinking.watch.finish();
                }
                let fits = match &block {
                    Block::Text => self.text.watch.open(matcher),
                    Block::Thinking => self.thinking.watch.open(matcher),
                    Block::ToolUse { .. } => true,
                };
                self.open = Some(match block {
                    Block::Text => {
                        if court.options.structured && court.options.buffer_structured {
                            self.text.whole = self.text.watch.length();
                        }
                        self.queue.push_back(Item::Open(Block::Text));
                        Open::Text
                    }
                    Block::Thinking => {
                        self.queue.push_back(Item::Open(Block::Thinking));
                        Open::Thinking
                    }
                    Block::ToolUse { id, name } => {
                        self.held += id.len() + name.len();
                        Open::Tool { id, name, json: String::new() }
                    }
                });
                self.weigh(court, ITEM)?;
                if fits { Ok(()) } else { Err(self.failed(court, "a text in too many blocks").into()) }
            }
            Event::Text { text, logprobs, .. } => match self.open {
                Some(Open::Text) => self.text(court, Medium::Text, text, logprobs),
                _ => Err(Breach::Order("text came outside a block of text")),
            },
            Event::Thinking { text, .. } => match self.open {
                Some(Open::Thinking) => self.text(court, Medium::Thinking, text, Vec::new()),
                _ => Err(Breach::Order("thoughts came outside a block of thoughts")),
            },
            Event::Signature { signature, .. } => match self.open {
                Some(Open::Thinking) if signature.bytes().all(|b| b.is_ascii_graphic()) => {
                    self.weigh(court, ITEM + signature.len())?;
                    self.queue.push_back(Item::Signature(signature));
                    Ok(())
                }
                // It is not judged, so it must not be able to say anything.
                Some(Open::Thinking) => Err(Breach::Order("a signature is no opaque word")),
                _ => Err(Breach::Order("a signature came outside a block of thoughts")),
            },
            Event::Arguments { json: piece, .. } => {
                let Some(Open::Tool { json, .. }) = &mut self.open else {
                    return Err(Breach::Order("arguments came outside a call of a tool"));
                };
                json.push_str(&piece);
                self.weigh(court, piece.len())
            }
            Event::Close { .. } => match self.open.take() {
                None => Err(Breach::Order("a block ended that had not begun")),
                Some(Open::Text) => self.close(court, Medium::Text),
                Some(Open::Thinking) => self.close(court, Medium::Thinking),
                Some(Open::Tool { id, name, json }) => {
                    self.tool(court, &id, &name, &json)?;
                    self.queue.push_back(Item::Tool { id, name, json });
                    Ok(())
                }
            },
            Event::Finish { reason, .. } => {
                if self.open.is_some() {
                    return Err(Breach::Order("an answer ended within a block"));
                }
                if let Finish::StopSequence(text) = &reason {
                    let mut hits = Scan::whole(matcher, text);
                    self.note(court, &mut hits).map_or(Ok(()), |(decision, _)| Err(decision))?;
                }
                self.text.watch.finish();
                self.thinking.watch.finish();
                self.release(court);
                court.emit(Event::Finish { choice: self.number, reason });
                self.state = State::Finished;
                Ok(())
            }
            Event::Start { .. } | Event::End { .. } | Event::Fault(_) => Err(Breach::Order("an event of all answers came as one answer's")),
        }
    }

    fn stream(&mut self, medium: Medium) -> &mut Stream {
        if medium == Medium::Thinking { &mut self.thinking } else { &mut self.text }
    }

    /// A piece of the open block's text.
    fn text(&mut self, court: &mut Court<'_>, medium: Medium, text: String, logprobs: Vec<TokenLogprob>) -> Result<(), Breach> {
        if text.is_empty() && logprobs.is_empty() {
            return Ok(());
        }
        let matcher = court.policy.matcher(Direction::Output);
        let start = self.stream(medium).watch.length();
        let weight = weight(&text, &logprobs);
        let units = units(&text, start, logprobs);
        // As much of it as may leave does so at the end or, where it breaches, up to there.
        match self.queue.back_mut() {
            Some(Item::Text { medium: of, text: before, units: earlier, .. }) if *of == medium => {
                before.push_str(&text);
                earlier.extend(units);
            }
            _ => self.queue.push_back(Item::Text { medium, text: text.clone(), start, units: units.into() }),
        }
        let mut hits = Vec::new();
        for c in text.chars() {
            let stream = self.stream(medium);
            stream.watch.push(matcher, c, &mut hits);
            if !hits.is_empty()
                && let Some((decision, start)) = self.note(court, &mut hits)
            {
                let stream = self.stream(medium);
                stream.cap = stream.cap.min(start);
                return Err(decision.into());
            }
            if court.classifier.is_some() {
                let stream = self.stream(medium);
                stream.context.push(c);
                stream.unscored += 1;
                if stream.unscored == court.options.stride {
                    self.score(court, medium)?;
                }
            }
        }
        self.stream(medium).watch.settle(matcher);
        if court.options.stride == 0 {
            self.score(court, medium)?;
        }
        self.weigh(court, weight)
    }

    /// The open block of text ends.
    fn close(&mut self, court: &mut Court<'_>, medium: Medium) -> Result<(), Breach> {
        let matcher = court.policy.matcher(Direction::Output);
        let mut hits = Vec::new();
        let stream = self.stream(medium);
        stream.watch.close(matcher, &mut hits);
        if let Some((decision, start)) = self.note(court, &mut hits) {
            let stream = self.stream(medium);
            stream.cap = stream.cap.min(start);
            return Err(decision.into());
        }
        self.score(court, medium)?;
        self.stream(medium).whole = u64::MAX;
        self.queue.push_back(Item::Close);
        Ok(())
    }

    /// A whole call of a tool: its names, its arguments as they are written, where numbers stand too, and every string in them, decoded.
    fn tool(&mut self, court: &mut Court<'_>, id: &str, name: &str, arguments: &str) -> Result<(), Breach> {
        let matcher = court.policy.matcher(Direction::Output);
        let strings = json::strings(arguments);
        for text in [id, name, arguments].into_iter().chain(strings.iter().map(String::as_str)) {
            let mut hits = Scan::whole(matcher, text);
            if let Some((decision, _)) = self.note(court, &mut hits) {
                return Err(decision.into());
            }
        }
        if let Some(classifier) = court.classifier.as_deref_mut() {
            let exchange = Exchange { direction: Direction::Output, medium: Medium::Arguments, question: &court.options.question };
            // What is no JSON may say something outside strings.
            let bare = serde_json::from_str::<serde::de::IgnoredAny>(arguments).is_err();
            let text = [name].into_iter().chain(strings.iter().map(String::as_str)).chain(bare.then_some(arguments)).collect::<Vec<_>>();
            let text = text.join("\n");
            let findings = scores(court.policy, exchange, &text, classifier);
            self.told(court, findings)?;
        }
        Ok(())
    }

    /// Notes matches. Where one blocks: the decision, and where the first of those begins.
    fn note(&mut self, court: &mut Court<'_>, hits: &mut Vec<Hit>) -> Option<(Decision, u64)> {
        let matcher = court.policy.matcher(Direction::Output);
        hits.sort_unstable();
        let blocking: Vec<Hit> = hits.iter().copied().filter(|hit| matcher.severity(hit.rule) == Severity::Block).collect();
        let known = self.found.hits.len();
        self.found.take(hits);
        let new = matched(court.policy, Direction::Output, self.found.hits.get(known..).unwrap_or_default());
        court.findings.extend(new.into_iter().map(|finding| (self.number, finding)));
        let start = blocking.iter().map(|hit| hit.start).min()?;
        let decision = decide(court.policy, &matched(court.policy, Direction::Output, &blocking));
        Some((decision, start))
    }

    /// Scores what came since the last score, with what stands before it.
    fn score(&mut self, court: &mut Court<'_>, medium: Medium) -> Result<(), Breach> {
        let stream = self.stream(medium);
        let Some(classifier) = court.classifier.as_deref_mut() else { return Ok(()) };
        if stream.unscored > 0 {
            let exchange = Exchange { direction: Direction::Output, medium: stream.medium, question: &court.options.question };
            let findings = scored(court.policy, classifier.score(window(&stream.context), &exchange));
            if stream.context.len() > 4 * WINDOW {
                stream.context = window(&stream.context).to_owned();
            }
            self.told(court, findings)?;
        }
        let stream = self.stream(medium);
        stream.unscored = 0;
        stream.scored = stream.watch.length();
        Ok(())
    }

    /// Notes what a classifier found, each category's first of each kind.
    fn told(&mut self, court: &mut Court<'_>, findings: Vec<Finding>) -> Result<(), Breach> {
        let decision = decide(court.policy, &findings);
        for finding in findings {
            let same = |(choice, known): &(u32, Finding)| {
                *choice == self.number
                    && !matches!(known.by, By::Rule(_))
                    && known.category == finding.category
                    && known.action == finding.action
            };
            if !court.findings.iter().any(same) {
                court.findings.push((self.number, finding));
            }
        }
        if decision.blocks() { Err(decision.into()) } else { Ok(()) }
    }

    /// So much more is held, until it leaves.
    fn weigh(&mut self, court: &mut Court<'_>, weight: usize) -> Result<(), Breach> {
        self.held += weight;
        if self.held <= court.options.max_held {
            return Ok(());
        }
        // What may leave is not held.
        self.release(court);
        if self.held <= court.options.max_held { Ok(()) } else { Err(self.failed(court, "more than may be held back to be judged").into()) }
    }

    /// A decision that something could not be judged.
    fn failed(&mut self, court: &mut Court<'_>, why: &str) -> Decision {
        let finding = Finding { action: Action::Block, category: None, by: By::Fault(why.to_owned()), span: None };
        let decision = decide(court.policy, std::slice::from_ref(&finding));
        court.findings.push((self.number, finding));
        decision
    }

    /// Ends it: what judges it failed.
    pub(super) fn fail(&mut self, court: &mut Court<'_>, why: &str) {
        if self.state == State::Going {
            let decision = self.failed(court, why);
            self.refuse(court, decision);
        }
    }

    /// Ends it: what is safe leaves, the open block closes, and no other begins.
    fn refuse(&mut self, court: &mut Court<'_>, decision: Decision) {
        self.release(court);
        self.queue.clear();
        self.opening = None;
        self.open = None;
        if self.shown {
            court.emit(Event::Close { choice: self.number });
        }
        court.emit(Event::Finish { choice: self.number, reason: Finish::Refusal(decision.into_refusal()) });
        self.state = State::Refused;
    }

    /// Lets out what may leave.
    fn release(&mut self, court: &mut Court<'_>) {
        let choice = self.number;
        while let Some(item) = self.queue.pop_front() {
            match item {
                Item::Open(block) => self.opening = Some(block),
                Item::Text { medium, mut text, start, mut units } => {
                    let stream = if medium == Medium::Thinking { &self.thinking } else { &self.text };
                    let mut until = stream.limit(court).clamp(start, start + text.len() as u64);
                    let mut logprobs = Vec::new();
                    // Never a part of what tokens spell together.
                    while let Some(unit) = units.pop_front_if(|unit| unit.end <= until) {
                        logprobs.extend(unit.tokens);
                    }
                    until = units.front().map_or(until, |unit| until.min(unit.start));
                    if until == start && logprobs.is_empty() {
                        // Put back as it is: text that is held whole must not be copied for each piece.
                        self.queue.push_front(Item::Text { medium, text, start, units });
                        return;
                    }
                    let leaving = usize::try_from(until - start).unwrap_or(usize::MAX);
                    let rest = text.split_off(text.floor_char_boundary(leaving));
                    let done = rest.is_empty() && units.is_empty();
                    self.show(court);
                    self.held = self.held.saturating_sub(weight(&text, &logprobs));
                    court.emit(match medium {
                        Medium::Thinking => Event::Thinking { choice, text },
                        Medium::Text | Medium::Arguments => Event::Text { choice, text, logprobs },
                    });
                    if !done {
                        self.queue.push_front(Item::Text { medium, text: rest, start: until, units });
                        return;
                    }
                }
                Item::Signature(signature) => {
                    self.show(court);
                    self.held = self.held.saturating_sub(ITEM + signature.len());
                    court.emit(Event::Signature { choice, signature });
                }
                Item::Close => {
                    self.show(court);
                    self.shown = false;
                    self.held = self.held.saturating_sub(ITEM);
                    court.emit(Event::Close { choice });
                }
                Item::Tool { id, name, json } => {
                    self.held = self.held.saturating_sub(ITEM + id.len() + name.len() + json.len());
                    court.emit(Event::Open { choice, block: Block::ToolUse { id, name } });
                    if !json.is_empty() {
                        court.emit(Event::Arguments { choice, json });
                    }
                    court.emit(Event::Close { choice });
                }
            }
        }
    }

    /// The block that something is shown of is open at the caller.
    fn show(&mut self, court: &mut Court<'_>) {
        if let Some(block) = self.opening.take() {
            court.emit(Event::Open { choice: self.number, block });
            self.shown = true;
        }
    }
}

/// What text and its tokens take, about.
fn weight(text: &str, logprobs: &[TokenLogprob]) -> usize {
    text.len() + logprobs.iter().map(|token| ITEM * (1 + token.top.len())).sum::<usize>()
}

/// Tokens by the whole characters that they spell together. Tokens that do not spell the text are one with all of it.
fn units(text: &str, start: u64, logprobs: Vec<TokenLogprob>) -> Vec<Unit> {
    if logprobs.is_empty() {
        return Vec::new();
    }
    let spelled = logprobs.iter().flat_map(|token| &token.token.0);
    if !spelled.eq(text.as_bytes()) {
        return vec![Unit { start, end: start + text.len() as u64, tokens: logprobs }];
    }
    let mut units = Vec::new();
    let (mut tokens, mut from, mut at) = (Vec::new(), 0, 0);
    for token in logprobs {
        at += token.token.0.len();
        tokens.push(token);
        if text.is_char_boundary(at) {
            units.push(Unit { start: start + from as u64, end: start + at as u64, tokens: std::mem::take(&mut tokens) });
            from = at;
        }
    }
    units
}
