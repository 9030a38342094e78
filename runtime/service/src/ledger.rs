//! What a request's record is made of, kept while it runs and told once, whatever becomes of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use firecrest_contract::event::{Event, Finish, Usage};
use firecrest_policy::safety::decision::Decision;

use crate::host::{Host, Principal};
use crate::record::{Caller, Record};

/// One request's, held by whoever works on it. When the last of them lets go, it is told.
pub(crate) struct Ledger<H: Host>(Rc<Page<H>>);

impl<H: Host> Clone for Ledger<H> {
    fn clone(&self) -> Ledger<H> {
        Ledger(Rc::clone(&self.0))
    }
}

struct Page<H: Host> {
    host: Rc<H>,
    id: Rc<str>,
    route: &'static str,
    caller: Option<Caller>,
    began: Duration,
    entries: RefCell<Entries>,
}

struct Entries {
    principal: Option<Rc<Principal>>,
    model: Option<String>,
    lane: Option<u8>,
    status: u16,
    outcome: &'static str,
    decision: Decision,
    usage: Usage,
    first: Option<Duration>,
    /// Waiting for others, so far.
    waited: Duration,
}

impl<H: Host> Ledger<H> {
    /// A request came in.
    pub(crate) fn new(host: &Rc<H>, id: Rc<str>, route: &'static str, caller: Option<Caller>) -> Ledger<H> {
        let entries = Entries {
            principal: None,
            model: None,
            lane: None,
            status: 200,
            outcome: "gone",
            decision: Decision::pass(),
            usage: Usage::default(),
            first: None,
            waited: Duration::ZERO,
        };
        Ledger(Rc::new(Page { host: Rc::clone(host), id, route, caller, began: host.monotonic(), entries: RefCell::new(entries) }))
    }

    /// The request's id.
    pub(crate) fn id(&self) -> &Rc<str> {
        &self.0.id
    }

    /// It is this caller's.
    pub(crate) fn of(&self, principal: &Rc<Principal>) {
        self.0.entries.borrow_mut().principal = Some(Rc::clone(principal));
    }

    /// It goes to this model, in this lane.
    pub(crate) fn runs(&self, model: &str, lane: u8) {
        let mut entries = self.0.entries.borrow_mut();
        entries.model = Some(model.to_owned());
        entries.lane = Some(lane);
    }

    /// It ended so.
    pub(crate) fn ended(&self, status: u16, outcome: &'static str) {
        let mut entries = self.0.entries.borrow_mut();
        entries.status = status;
        entries.outcome = outcome;
    }

    /// The safety rules decided so. The gravest of what they decide counts.
    pub(crate) fn judged(&self, decision: Decision) {
        let mut entries = self.0.entries.borrow_mut();
        if decision.action > entries.decision.action {
            entries.decision = decision;
        }
    }

    /// By the host's clock, to measure a wait from.
    pub(crate) fn now(&self) -> Duration {
        self.0.host.monotonic()
    }

    /// Somebody else was waited for since then.
    pub(crate) fn waited_since(&self, since: Duration) {
        self.0.entries.borrow_mut().waited += self.now().saturating_sub(since);
    }

    /// So much output is charged. What a backend told in its last event may be the same, and is never more.
    pub(crate) fn charged(&self, output: u64) {
        let mut entries = self.0.entries.borrow_mut();
        entries.usage.output = entries.usage.output.max(output);
    }

    /// Nothing is charged after all.
    pub(crate) fn refunded(&self) {
        self.0.entries.borrow_mut().usage = Usage::default();
    }

    /// The caller is to see this.
    pub(crate) fn saw(&self, event: &Event) {
        let mut entries = self.0.entries.borrow_mut();
        if entries.first.is_none() {
            entries.first = Some(self.now().saturating_sub(self.0.began));
        }
        match event {
            Event::Start { usage } | Event::End { usage } => entries.usage = *usage,
            Event::Finish { reason, .. } => entries.outcome = finish_name(reason),
            Event::Fault(error) => entries.outcome = error.kind.name(),
            _ => {}
        }
    }
}

/// Why an answer ended, as records say it.
const fn finish_name(finish: &Finish) -> &'static str {
    match finish {
        Finish::EndTurn => "end_turn",
        Finish::MaxTokens => "max_tokens",
        Finish::StopSequence(_) => "stop_sequence",
        Finish::ToolUse => "tool_use",
        Finish::ContextFull => "context_full",
        Finish::Refusal(_) => "refusal",
    }
}

impl<H: Host> Drop for Page<H> {
    fn drop(&mut self) {
        let entries = self.entries.get_mut();
        let took = self.host.monotonic().saturating_sub(self.began);
        self.host.record(&Record {
            id: &self.id,
            route: self.route,
            caller: self.caller.map(|Caller(address)| address),
            key: entries.principal.as_ref().map(|principal| &*principal.key),
            model: entries.model.as_deref(),
            lane: entries.lane,
            status: entries.status,
            outcome: entries.outcome,
            action: entries.decision.action,
            rule: entries.decision.rule.as_deref(),
            category: entries.decision.category.as_deref(),
            usage: entries.usage,
            first: entries.first,
            took,
            overhead: took.saturating_sub(entries.waited),
        });
    }
}
