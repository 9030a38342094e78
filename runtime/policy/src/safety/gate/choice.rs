//! One answer on its way through the gate.

use std::collections::VecDeque;

use firecrest_contract::event::{Block, Event, Finish, TokenLogprob};

use super::stream::{Stream, Unit, judge_alternatives, units, weight};
use super::watch::Watch;
use super::{GateOptions, Judged};
use crate::safety::classifier::{Classifier, Exchange, Medium, WINDOW, window};
use crate::safety::decision::{Action, By, Decision, Finding, decide, matched, scored};
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

/// What waits to leave, in order.
#[derive(Debug)]
enum Item {
    Open(Block),
    Text(Piece),
    Signature(String),
    Close,
}

/// Text that waits.
#[derive(Debug)]
struct Piece {
    medium: Medium,
    text: String,
    /// Where it begins in its stream.
    start: u64,
    units: VecDeque<Unit>,
    /// Whether its stream is over: nothing is held back of it any more.
    over: bool,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Choice {
    number: u32,
    state: State,
    /// Of what kind the open block is.
    open: Option<Medium>,
    text: Stream,
    thinking: Stream,
    /// Of the call that is open, or was last.
    arguments: Stream,
    queue: VecDeque<Item>,
    /// Bytes in `queue`, about.
    held: usize,
    /// A block whose beginning shows only with what it holds.
    opening: Option<Block>,
    /// Whether a block is open at the caller.
    shown: bool,
    found: Found,
}

/// What an item weighs beside its text.
pub(super) const ITEM: usize = 64;

impl Choice {
    /// `begun`: what the caller began of its text.
    pub(super) fn new(number: u32, options: &GateOptions, begun: Option<&Watch>) -> Choice {
        let watch = begun.cloned().unwrap_or_else(|| Watch::new(options.structured));
        Choice {
            number,
            state: State::Going,
            open: None,
            text: Stream::new(Medium::Text, watch),
            thinking: Stream::new(Medium::Thinking, Watch::new(false)),
            arguments: Stream::new(Medium::Arguments, Watch::new(true)),
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
        match event {
            Event::Open { block, .. } => self.begin(court, block),
            Event::Text { text, logprobs, .. } => self.text(court, Medium::Text, text, logprobs),
            Event::Thinking { text, .. } => self.text(court, Medium::Thinking, text, Vec::new()),
            Event::Arguments { json, .. } => self.text(court, Medium::Arguments, json, Vec::new()),
            Event::Signature { signature, .. } => match self.open {
                Some(Medium::Thinking) if signature.bytes().all(|b| b.is_ascii_graphic()) => {
                    self.weigh(court, ITEM + signature.len())?;
                    self.queue.push_back(Item::Signature(signature));
                    Ok(())
                }
                // It is not judged, so it must not be able to say anything.
                Some(Medium::Thinking) => Err(Breach::Order("a signature is no opaque word")),
                _ => Err(Breach::Order("a signature came outside a block of thoughts")),
            },
            Event::Close { .. } => match self.open.take() {
                None => Err(Breach::Order("a block ended that had not begun")),
                Some(medium) => self.close(court, medium),
            },
            Event::Finish { reason, .. } => {
                if self.open.is_some() {
                    return Err(Breach::Order("an answer ended within a block"));
                }
                if let Finish::StopSequence(text) = &reason {
                    self.stop(court, text)?;
                }
                self.over(court, Medium::Text);
                self.over(court, Medium::Thinking);
                self.release(court);
                court.emit(Event::Finish { choice: self.number, reason });
                self.state = State::Finished;
                Ok(())
            }
            Event::Start { .. } | Event::End { .. } | Event::Fault(_) => Err(Breach::Order("an event of all answers came as one answer's")),
        }
    }

    /// A block begins.
    fn begin(&mut self, court: &mut Court<'_>, block: Block) -> Result<(), Breach> {
        let matcher = court.policy.matcher(Direction::Output);
        if self.open.is_some() {
            return Err(Breach::Order("a block began in another"));
        }
        if !matches!(block, Block::Thinking) {
            // Thoughts are told apart from what follows; text around other blocks may be shown as one.
            self.over(court, Medium::Thinking);
        }
        let mut weight = ITEM;
        let fits = match &block {
            Block::Text => {
                self.open = Some(Medium::Text);
                if court.options.structured && court.options.whole_blocks {
                    self.text.whole = self.text.watch.length();
                }
                self.text.watch.open(matcher)
            }
            Block::Thinking => {
                self.open = Some(Medium::Thinking);
                self.thinking.watch.open(matcher)
            }
            Block::ToolUse { id, name } => {
                for text in [id, name] {
                    self.whole(court, text)?;
                }
                weight += id.len() + name.len();
                self.open = Some(Medium::Arguments);
                self.arguments = Stream::arguments(matcher, name, court.options.whole_blocks);
                true
            }
        };
        self.queue.push_back(Item::Open(block));
        self.weigh(court, weight)?;
        if fits { Ok(()) } else { Err(self.failed(court, "a text in too many blocks").into()) }
    }

    /// A text that stands by itself.
    fn whole(&mut self, court: &mut Court<'_>, text: &str) -> Result<(), Breach> {
        let mut hits = Scan::whole(court.policy.matcher(Direction::Output), text);
        self.note(court, &mut hits).map_or(Ok(()), |(decision, _)| Err(decision.into()))
    }

    /// The text ended with this, which is no part of it. A caller knows it stood there.
    fn stop(&mut self, court: &mut Court<'_>, text: &str) -> Result<(), Breach> {
        self.whole(court, text)?;
        let matcher = court.policy.matcher(Direction::Output);
        let mut hits = Vec::new();
        for c in text.chars() {
            self.text.watch.push(matcher, c, &mut hits);
        }
        self.text.watch.close(matcher, &mut hits);
        match self.note(court, &mut hits) {
            None => Ok(()),
            Some((decision, start)) => {
                self.text.cap = self.text.cap.min(start);
                Err(decision.into())
            }
        }
    }

    /// The text of a medium is over: what comes next is another. What it says at its end and must not be said never leaves, though no match was
    /// complete; all else is free to.
    fn over(&mut self, court: &mut Court<'_>, medium: Medium) {
        let stream = self.stream(medium);
        let from = stream.watch.revealing(court.policy.matcher(Direction::Output)).unwrap_or(u64::MAX);
        stream.watch.finish();
        for item in &mut self.queue {
            let Item::Text(piece) = item else { continue };
            if piece.medium != medium || piece.over {
                continue;
            }
            piece.over = true;
            let kept = usize::try_from(from.saturating_sub(piece.start)).unwrap_or(usize::MAX);
            if kept < piece.text.len() {
                piece.units.retain(|unit| unit.end <= from);
                // Of what tokens spell together nothing stays where not all does.
                let spelled = piece.units.back().map_or(u64::MAX, |unit| unit.end);
                let kept = if piece.units.is_empty() { kept } else { kept.min((spelled - piece.start) as usize) };
                piece.text.truncate(piece.text.floor_char_boundary(kept));
            }
        }
    }

    fn stream(&mut self, medium: Medium) -> &mut Stream {
        match medium {
            Medium::Text => &mut self.text,
            Medium::Thinking => &mut self.thinking,
            Medium::Arguments => &mut self.arguments,
        }
    }

    /// A piece of the open block's text.
    fn text(&mut self, court: &mut Court<'_>, medium: Medium, text: String, logprobs: Vec<TokenLogprob>) -> Result<(), Breach> {
        if self.open != Some(medium) {
            return Err(Breach::Order(match medium {
                Medium::Text => "text came outside a block of text",
                Medium::Thinking => "thoughts came outside a block of thoughts",
                Medium::Arguments => "arguments came outside a call of a tool",
            }));
        }
        if text.is_empty() && logprobs.is_empty() {
            return Ok(());
        }
        let start = self.stream(medium).watch.length();
        let weight = weight(&text, &logprobs);
        let mut units = if logprobs.is_empty() { VecDeque::new() } else { units(&text, start, logprobs) };
        // As much of it as may leave does so at the end or, where it breaches, up to there.
        match self.queue.back_mut() {
            Some(Item::Text(piece)) if piece.medium == medium && !piece.over => piece.text.push_str(&text),
            _ => self.queue.push_back(Item::Text(Piece { medium, text: text.clone(), start, units: VecDeque::new(), over: false })),
        }
        let judged = self.judge(court, medium, &text, &mut units);
        if let Some(Item::Text(piece)) = self.queue.back_mut().filter(|_| !units.is_empty()) {
            piece.units.append(&mut units);
        }
        judged?;
        self.weigh(court, weight)
    }

    /// Judges a piece of text, and what else might have stood in it.
    fn judge(&mut self, court: &mut Court<'_>, medium: Medium, text: &str, units: &mut VecDeque<Unit>) -> Result<(), Breach> {
        let matcher = court.policy.matcher(Direction::Output);
        let mut hits = Vec::new();
        let spelled = !units.is_empty();
        let mut units = units.iter_mut().peekable();
        for c in text.chars() {
            let stream = self.stream(medium);
            if spelled {
                while let Some(unit) = units.next_if(|unit| unit.start <= stream.watch.length()) {
                    judge_alternatives(unit, &stream.watch, matcher);
                }
            }
            stream.watch.push(matcher, c, &mut hits);
            if !hits.is_empty()
                && let Some((decision, start)) = self.note(court, &mut hits)
            {
                let stream = self.stream(medium);
                stream.cap = stream.cap.min(start);
                // Those that were not judged stand behind what leaves.
                return Err(decision.into());
            }
            if court.classifier.is_some() {
                let stream = self.stream(medium);
                stream.show(c);
                if court.options.stride > 0 && stream.unscored >= court.options.stride {
                    self.score(court, medium)?;
                }
            }
        }
        let stream = self.stream(medium);
        units.for_each(|unit| judge_alternatives(unit, &stream.watch, matcher));
        stream.watch.settle(matcher);
        if court.options.stride == 0 {
            self.score(court, medium)?;
        }
        Ok(())
    }

    /// The open block ends.
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
        if medium == Medium::Arguments {
            // Each call is judged by itself.
            self.over(court, medium);
        }
        self.queue.push_back(Item::Close);
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
        stream.scored = stream.watch.complete();
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
                Item::Text(mut piece) => {
                    let limit = if piece.over { u64::MAX } else { self.stream(piece.medium).limit(court) };
                    let mut until = limit.clamp(piece.start, piece.start + piece.text.len() as u64);
                    let mut logprobs = Vec::new();
                    // Never a part of what tokens spell together.
                    while let Some(unit) = piece.units.pop_front_if(|unit| unit.end <= until) {
                        logprobs.extend(unit.tokens);
                    }
                    until = piece.units.front().map_or(until, |unit| until.min(unit.start));
                    if until == piece.start && logprobs.is_empty() {
                        if piece.over {
                            continue;
                        }
                        // Put back as it is: text that is held whole must not be copied for each piece.
                        self.queue.push_front(Item::Text(piece));
                        return;
                    }
                    let leaving = usize::try_from(until - piece.start).unwrap_or(usize::MAX);
                    let rest = piece.text.split_off(piece.text.floor_char_boundary(leaving));
                    let text = std::mem::replace(&mut piece.text, rest);
                    piece.start = until;
                    self.show(court);
                    self.held = self.held.saturating_sub(weight(&text, &logprobs));
                    court.emit(match piece.medium {
                        Medium::Thinking => Event::Thinking { choice, text },
                        Medium::Arguments => Event::Arguments { choice, json: text },
                        Medium::Text => Event::Text { choice, text, logprobs },
                    });
                    if !(piece.text.is_empty() && piece.units.is_empty()) {
                        self.queue.push_front(Item::Text(piece));
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
