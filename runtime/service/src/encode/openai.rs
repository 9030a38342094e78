//! What OpenAI's encoders share: the order of events, names, frames.

use std::collections::BTreeMap;

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Block, Event, Finish, TokenLogprob as Logprob};
use firecrest_contract::openai::chat::{TokenLogprob, TopLogprob};
use firecrest_contract::openai::error::{code, param};

use super::json;

/// Kinds of open blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Thinking,
    ToolUse,
}

impl Kind {
    pub(super) fn of(block: &Block) -> Kind {
        match block {
            Block::Text => Kind::Text,
            Block::Thinking => Kind::Thinking,
            Block::ToolUse { .. } => Kind::ToolUse,
        }
    }
}

/// What is to be done with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is told.
    Take,
    /// It comes behind the end of its answer, or of an answer that nobody asked for.
    Pass,
    /// It can't stand here: a fault of ours. Nothing is guessed.
    Broken,
}

/// Watches that events come in an order that can be told.
#[derive(Debug)]
pub(super) struct Order {
    /// Answers that were asked for.
    answers: u32,
    state: State,
    /// Of each answer begun: its open block, and whether it is finished.
    choices: BTreeMap<u32, (Option<Kind>, bool)>,
    finished: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Before,
    Running,
    Done,
}

impl Order {
    pub(super) fn new(answers: u32) -> Order {
        Order { answers, state: State::Before, choices: BTreeMap::new(), finished: 0 }
    }

    /// Nothing more is to be told.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether `Start` came.
    pub(super) fn is_started(&self) -> bool {
        self.state != State::Before
    }

    /// Ends it here.
    pub(super) fn finish(&mut self) {
        self.state = State::Done;
    }

    pub(super) fn take(&mut self, event: &Event) -> Step {
        let step = self.step(event);
        if step == Step::Broken {
            self.state = State::Done;
        }
        step
    }

    fn step(&mut self, event: &Event) -> Step {
        let choice = match (event, self.state) {
            (_, State::Done) => return Step::Pass,
            (Event::Fault(_), _) => {
                self.state = State::Done;
                return Step::Take;
            }
            (Event::Start { .. }, State::Before) => {
                self.state = State::Running;
                return Step::Take;
            }
            (Event::Start { .. }, State::Running) | (_, State::Before) => return Step::Broken,
            (Event::End { .. }, State::Running) if self.finished < self.answers => return Step::Broken,
            (Event::End { .. }, State::Running) => {
                self.state = State::Done;
                return Step::Take;
            }
            (
                Event::Open { choice, .. }
                | Event::Text { choice, .. }
                | Event::Thinking { choice, .. }
                | Event::Signature { choice, .. }
                | Event::Arguments { choice, .. }
                | Event::Close { choice }
                | Event::Finish { choice, .. },
                State::Running,
            ) => *choice,
        };
        if choice >= self.answers {
            return Step::Pass;
        }
        let (open, finished) = self.choices.entry(choice).or_default();
        if *finished {
            return Step::Pass;
        }
        let stands = match event {
            Event::Open { block, .. } => open.replace(Kind::of(block)).is_none(),
            Event::Text { .. } => *open == Some(Kind::Text),
            Event::Thinking { .. } | Event::Signature { .. } => *open == Some(Kind::Thinking),
            Event::Arguments { .. } => *open == Some(Kind::ToolUse),
            Event::Close { .. } => open.take().is_some(),
            // What is not safe may end in the middle of a block; nothing else does.
            Event::Finish { reason, .. } => {
                *finished = true;
                self.finished += 1;
                open.take().is_none() || matches!(reason, Finish::Refusal(_))
            }
            Event::Start { .. } | Event::End { .. } | Event::Fault(_) => false,
        };
        if stands { Step::Take } else { Step::Broken }
    }
}

/// The backend said something that can't stand where it stands.
pub(super) fn out_of_order() -> ApiError {
    ApiError::new(ErrorKind::Api, "the answer came in an order that can't be told; try again")
}

/// The backend stopped without an end.
pub(super) fn broke_off() -> ApiError {
    ApiError::new(ErrorKind::Api, "the answer broke off; try again")
}

/// `finish_reason`.
pub(super) fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::EndTurn | Finish::StopSequence(_) => "stop",
        Finish::MaxTokens | Finish::ContextFull => "length",
        Finish::ToolUse => "tool_calls",
        Finish::Refusal(_) => "content_filter",
    }
}

/// `service_tier`, from the neutral name.
pub(super) fn tier(name: &str) -> &'static str {
    match name {
        "priority" => "priority",
        "batch" => "flex",
        _ => "default",
    }
}

/// Writes the object of an error, `{message, type, param, code}`.
pub(super) fn error(error: &ApiError, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"message\":");
    json::string(&error.message, out);
    out.extend_from_slice(b",\"type\":");
    json::string(error.kind.openai_name(), out);
    out.extend_from_slice(b",\"param\":");
    nullable(error.path.as_ref().map(param).as_deref(), out);
    out.extend_from_slice(b",\"code\":");
    nullable(code(error), out);
    out.push(b'}');
}

/// Writes a string or `null`.
pub(super) fn nullable(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => json::string(text, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// Writes a frame around an error, behind which a stream is closed.
pub(super) fn error_frame(of: &ApiError, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: {\"error\":");
    error(of, out);
    out.extend_from_slice(b"}\n\n");
}

/// A comment, which every reader passes over.
pub(super) const PING: &[u8] = b": ping\n\n";

/// A token as chat and responses tell it.
pub(super) fn told(logprob: Logprob) -> TokenLogprob {
    let top = logprob.top.into_iter().map(|(token, logprob)| TopLogprob {
        token: token.text(),
        logprob: json::finite(logprob),
        bytes: Some(token.0),
    });
    TokenLogprob {
        token: logprob.token.text(),
        logprob: json::finite(logprob.logprob),
        top_logprobs: top.collect(),
        bytes: Some(logprob.token.0),
    }
}
