//! The gate: the one way from a backend's events to a caller's.
//!
//! What a backend makes is [`Unjudged`], which nobody can open; what encoders take is [`Judged`], which nobody else can make.
//!
//! Two things hold, whatever a backend does and however it cuts its text: no byte of a match of a rule that blocks leaves, and where there is a
//! classifier no byte leaves that it has not scored. Text, thoughts and arguments of tools leave as they come, but for the end that may be the
//! beginning of such a match. JSON's strings are judged decoded. Text is judged within its block and across the blocks of its answer, and as what goes
//! on from what the caller [began](Begun). So is the stop text that ended it. What an answer ends in that is most of a match is never shown, and so
//! is no [alternative](firecrest_contract::event::TokenLogprob::top) to a token that would have been.
//!
//! An answer that must not go on ends with what was safe, the open block's `Close` and a `Finish` of [`Finish::Refusal`]; its other events are
//! dropped, and other answers go on. Events that no backend that works would make become a [`Event::Fault`].
//!
//! Nobody else opens what is unjudged:
//!
//! ```compile_fail
//! use firecrest_policy::safety::gate::Unjudged;
//! use firecrest_contract::event::{Event, Usage};
//! let event = Unjudged::new(Event::Start { usage: Usage::default() });
//! let Unjudged(inside) = event;
//! ```
//!
//! ```compile_fail
//! use firecrest_policy::safety::gate::Unjudged;
//! use firecrest_contract::event::{Event, Usage};
//! let inside = Unjudged::new(Event::Start { usage: Usage::default() }).0;
//! ```
//!
//! or makes what is judged:
//!
//! ```compile_fail
//! use firecrest_policy::safety::gate::Judged;
//! use firecrest_contract::event::{Event, Usage};
//! let event = Judged(Event::Start { usage: Usage::default() });
//! ```
//!
//! ```compile_fail
//! use firecrest_policy::safety::gate::Judged;
//! use firecrest_contract::event::{Event, Usage};
//! let event = Judged::from(Event::Start { usage: Usage::default() });
//! ```
//!
//! Only the gate does both:
//!
//! ```
//! use std::sync::Arc;
//! use firecrest_contract::event::{Event, Usage};
//! use firecrest_policy::safety::gate::{Gate, GateOptions, Unjudged};
//! use firecrest_policy::safety::rules::Policy;
//! let mut gate = Gate::new(Arc::new(Policy::standard()?), GateOptions::default());
//! let judged = gate.push(Unjudged::new(Event::Start { usage: Usage::default() }));
//! assert!(matches!(judged[0].event(), Event::Start { .. }));
//! # Ok::<(), firecrest_policy::safety::rules::LoadError>(())
//! ```
//!
//! [`Finish::Refusal`]: firecrest_contract::event::Finish::Refusal

mod choice;
mod stream;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use choice::{Choice, Court, State};
use firecrest_contract::ask::{Ask, Content, Role};
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Event, Usage};

use super::classifier::Classifier;
use super::decision::{Decision, Finding, decide};
use super::judge::PromptText;
use super::rules::{Direction, Policy, Scan, Severity};
use watch::Watch;

/// An event as a backend made it. Only the gate can open it.
#[derive(Debug)]
pub struct Unjudged(Event);

impl Unjudged {
    /// What a backend made.
    pub fn new(event: Event) -> Unjudged {
        Unjudged(event)
    }

    /// Which answer it adds text to, and how many bytes. It says nothing of what they are.
    pub fn adds(&self) -> Option<(u32, usize)> {
        adds(&self.0)
    }
}

/// An event that a caller may see. Only the gate makes them.
#[derive(Debug, PartialEq)]
pub struct Judged(Event);

impl Judged {
    /// What may be seen.
    pub fn event(&self) -> &Event {
        &self.0
    }

    /// What may be seen.
    pub fn into_event(self) -> Event {
        self.0
    }

    /// Which answer it adds text to, and how many bytes.
    pub fn adds(&self) -> Option<(u32, usize)> {
        adds(&self.0)
    }
}

fn adds(event: &Event) -> Option<(u32, usize)> {
    match event {
        Event::Text { choice, text, .. } | Event::Thinking { choice, text } | Event::Arguments { choice, json: text } => {
            Some((*choice, text.len()))
        }
        _ => None,
    }
}

/// How answers are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateOptions {
    /// Answers there may be; at least 1.
    pub choices: u32,
    /// Text is JSON ([`Ask::format`]): its strings are judged decoded too.
    pub structured: bool,
    /// Such text, and calls of tools, leave only when their block is whole: one that is refused then shows nothing.
    pub whole_blocks: bool,
    /// A classifier scores text every so many characters, and at a block's end; text waits for it as long. Verdicts then don't depend on how a
    /// backend cuts its text. 0: whenever text comes, without delay and with verdicts that do.
    pub stride: usize,
    /// Bytes that an answer may have held back at once. One that needs more is refused.
    pub max_held: usize,
    /// What was asked, for a classifier to know.
    pub question: String,
}

impl Default for GateOptions {
    fn default() -> GateOptions {
        GateOptions { choices: 1, structured: false, whole_blocks: false, stride: 64, max_held: 8 << 20, question: String::new() }
    }
}

impl GateOptions {
    /// For the answers to a request.
    pub fn of(ask: &Ask) -> GateOptions {
        let said = ask.turns.iter().rev().filter(|turn| turn.role == Role::User).flat_map(|turn| turn.parts.iter().rev());
        let question = said.filter_map(|part| match &part.content {
            Content::Text(text) => Some(text.clone()),
            _ => None,
        });
        GateOptions {
            choices: ask.answers(),
            structured: ask.format.is_some(),
            question: question.take(1).collect(),
            ..GateOptions::default()
        }
    }
}

/// What a caller wrote of the texts that answers go on from: an answer that was begun, or raw prompts.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    /// One a prompt.
    prompts: Vec<Watch>,
    /// Answers to each.
    choices: u32,
}

/// Bytes of a prompt's end that are looked at: more than any match is long.
const BEGUN: usize = 16 << 10;

impl Begun {
    /// Of an ask, and its raw prompts as text. Takes as long as these are, up to 16 KiB of each.
    pub fn of(policy: &Policy, ask: &Ask, prompts: &[PromptText]) -> Begun {
        let matcher = policy.matcher(Direction::Output);
        let watch = |text: &str| {
            let end = text.get(text.ceil_char_boundary(text.len().saturating_sub(BEGUN))..).unwrap_or_default();
            Watch::behind(matcher, end, ask.format.is_some())
        };
        let begun = ask.turns.last().filter(|turn| turn.role == Role::Assistant && ask.raw.is_empty());
        let said: String = begun
            .into_iter()
            .flat_map(|turn| &turn.parts)
            .filter_map(|part| match &part.content {
                Content::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let prompts = match said.is_empty() {
            // A prompt that is echoed is judged as the beginning of the answer itself.
            true if ask.echo => Vec::new(),
            true => prompts.iter().map(|prompt| watch(&prompt.text)).collect(),
            false => vec![watch(&said)],
        };
        Begun { prompts, choices: ask.choices.max(1) }
    }

    /// What one of the answers goes on from.
    fn choice(&self, choice: u32) -> Option<&Watch> {
        self.prompts.get((choice / self.choices.max(1)) as usize)
    }
}

/// Judges the events of one request.
pub struct Gate {
    policy: Arc<Policy>,
    options: GateOptions,
    classifier: Option<Box<dyn Classifier>>,
    begun: Begun,
    /// Those of which anything came.
    choices: BTreeMap<u32, Choice>,
    findings: Vec<(u32, Finding)>,
    started: bool,
    over: bool,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("options", &self.options)
            .field("findings", &self.findings)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate for one request's answers, by rules alone.
    pub fn new(policy: Arc<Policy>, options: GateOptions) -> Gate {
        Gate {
            policy,
            options,
            classifier: None,
            begun: Begun::default(),
            choices: BTreeMap::new(),
            findings: Vec::new(),
            started: false,
            over: false,
        }
    }

    /// Also by a classifier. To be said before the first event.
    #[must_use]
    pub fn with_classifier(mut self, classifier: Box<dyn Classifier>) -> Gate {
        self.classifier = Some(classifier);
        self
    }

    /// For answers that go on from this. To be said before the first event.
    #[must_use]
    pub fn behind(mut self, begun: Begun) -> Gate {
        self.begun = begun;
        self
    }

    /// Takes a backend's next event; gives what may be seen now.
    pub fn push(&mut self, event: Unjudged) -> Vec<Judged> {
        let mut out = Vec::new();
        if self.over {
            return out;
        }
        if let Err(what) = self.take(event.0, &mut out) {
            self.over = true;
            let message = format!("the backend broke the order of its events: {what}; this is a fault of the service, try again");
            out.push(Judged(Event::Fault(ApiError::new(ErrorKind::Api, message).code("backend_out_of_order"))));
        }
        out
    }

    fn take(&mut self, event: Event, out: &mut Vec<Judged>) -> Result<(), &'static str> {
        let choice = match &event {
            Event::Fault(error) => {
                self.over = true;
                out.push(Judged(self.fault(error)));
                return Ok(());
            }
            Event::Start { .. } if self.started => return Err("it began twice"),
            Event::Start { .. } => {
                self.started = true;
                out.push(Judged(event));
                return Ok(());
            }
            _ if !self.started => return Err("something came before its beginning"),
            Event::End { .. } => {
                if !self.all_ended() {
                    return Err("it ended before each of its answers had");
                }
                self.over = true;
                out.push(Judged(event));
                return Ok(());
            }
            Event::Open { choice, .. }
            | Event::Text { choice, .. }
            | Event::Thinking { choice, .. }
            | Event::Signature { choice, .. }
            | Event::Arguments { choice, .. }
            | Event::Close { choice }
            | Event::Finish { choice, .. } => *choice,
        };
        if choice >= self.options.choices.max(1) {
            return Err("there is an answer that was not asked for");
        }
        let Gate { policy, options, classifier, begun, choices, findings, .. } = self;
        let choice = choices.entry(choice).or_insert_with(|| Choice::new(choice, options, begun.choice(choice)));
        let mut court = Court { policy, options, classifier: classifier.as_deref_mut(), findings, out };
        choice.push(&mut court, event)
    }

    /// What a backend failed with, as it may be told: its message might quote what the model said.
    fn fault(&self, error: &ApiError) -> Event {
        let matcher = self.policy.matcher(Direction::Output);
        let blocked = Scan::whole(matcher, &error.message).iter().any(|hit| matcher.severity(hit.rule) == Severity::Block);
        match blocked {
            false => Event::Fault(error.clone()),
            true => Event::Fault(ApiError {
                message: "the answer failed, and why can't be shown: it holds what a rule blocks".to_owned(),
                ..error.clone()
            }),
        }
    }

    fn all_ended(&self) -> bool {
        let ended = self.choices.values().filter(|choice| choice.state() != State::Going).count();
        ended == self.options.choices.max(1) as usize
    }

    /// Ends every answer that goes on with a refusal: something that judges hangs, or has too much to do. `why` is shown to the caller. The
    /// host ends the request with an `End` of its own.
    pub fn fail(&mut self, why: &str) -> Vec<Judged> {
        let mut out = Vec::new();
        if self.over {
            return out;
        }
        if !self.started {
            self.started = true;
            out.push(Judged(Event::Start { usage: Usage::default() }));
        }
        let Gate { policy, options, classifier, begun, choices, findings, .. } = self;
        let mut court = Court { policy, options, classifier: classifier.as_deref_mut(), findings, out: &mut out };
        for number in 0..options.choices.max(1) {
            choices.entry(number).or_insert_with(|| Choice::new(number, options, begun.choice(number))).fail(&mut court, why);
        }
        out
    }

    /// Whether an answer was refused: a backend need not go on with it.
    pub fn refused(&self, choice: u32) -> bool {
        self.choices.get(&choice).is_some_and(|choice| choice.state() == State::Refused)
    }

    /// Whether no answer goes on.
    pub fn settled(&self) -> bool {
        self.over || self.all_ended()
    }

    /// What follows from all that was found so far: the gravest of it, for the record.
    pub fn decision(&self) -> Decision {
        decide(&self.policy, self.findings.iter().map(|(_, finding)| finding))
    }

    /// What was found so far, by answer, for the audit: of each rule the first match.
    pub fn findings(&self) -> &[(u32, Finding)] {
        &self.findings
    }
}
