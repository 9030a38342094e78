//! Which rows the next step runs, and what its outputs change.
//!
//! Sequences are served by lane, round, deadline and order of submission. A round is the place that a sequence has among its owner's: all first ones
//! of a lane go before all second ones, so owners take turns. Those that decode get a row in every step; prompts are cut into
//! chunks that fill the rest of the budget. Pages are claimed in that order: who finds none takes them from the last that
//! runs, or sits the step out. So the first always moves, and alone it always fits: no deadlock. The first of an owner's that wait rises a
//! lane at a time, and keeps the lane it was admitted in, so that nobody starves and no two take each other's pages in turns.

mod claim;
mod order;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::admission::{Admission, Rates};
use super::options::check_step_rows;
use super::{Embed, Event, FinishReason, Occupancy, Pooling, Priority, Request, Sharing, Usage, Work};
use crate::backend::{AdapterId, Outputs};
use crate::batch::{Batch, Class, Row, SequenceView, Slot};
use crate::error::{Error, Result};
use crate::grammar::Governed;
use crate::kv::{KvCache, Prefix};
use crate::model::plan::PlanKind;
use crate::sampling::Sampler;
use crate::sequence::{Found, Phase, Sequence, SequenceId, Taking};
use crate::text::TextStream;

/// What requests and steps are held to.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Token ids are below it.
    pub(crate) vocab: u32,
    /// Positions a sequence may have.
    pub(crate) context: u32,
    /// Sequences that run at once.
    pub(crate) max_sequences: u32,
    /// Requests held at once.
    pub(crate) max_requests: u32,
    /// Rows of a step; more than `max_sequences`.
    pub(crate) step_rows: u32,
    /// Rows of logits a step may leave; more than `max_sequences`.
    pub(crate) logits_rows: u32,
    /// Whether every position sees every other, so that a text can't be cut.
    pub(crate) encoder: bool,
    /// Whether the model has a head: without, it only embeds.
    pub(crate) generates: bool,
    /// How long an idle engine waits for company.
    pub(crate) gather: Duration,
    /// How long a request waits before it rises a lane.
    pub(crate) ageing: Duration,
    /// For embeddings that ask for none.
    pub(crate) pooling: Pooling,
    /// Whether the backend computes prompts as it does generated positions.
    pub(crate) one_class: bool,
    /// Whether the backend draws tokens, so that rows may feed what was not read yet.
    pub(crate) device_draws: bool,
    /// Tokens that end generation.
    pub(crate) end_of_generation: Vec<u32>,
}

/// Every sequence, the pages they hold, and the order they are served in.
pub(crate) struct Schedule {
    limits: Limits,
    /// In order of submission, which is the order of ids.
    sequences: BTreeMap<SequenceId, Sequence>,
    cache: KvCache,
    free_slots: Vec<Slot>,
    next_id: u64,
    /// What the last step was of, so that kinds take turns.
    last: PlanKind,
    sampler: Sampler,
    events: Vec<Event>,
    /// The host's time, where it lends its clock.
    now: Option<Duration>,
    rates: Rates,
}

/// A step to run.
#[derive(Debug)]
pub(crate) struct Step {
    /// Whose outputs.
    pub(crate) kind: PlanKind,
    /// Its rows.
    pub(crate) batch: Batch,
    spans: Vec<Span>,
}

/// The rows of one sequence in a step.
#[derive(Clone, Debug)]
struct Span {
    sequence: SequenceId,
    /// [`Sequence::attempt`] when it was composed.
    attempt: u32,
    positions: Range<u32>,
    /// Its rows among the step's outputs.
    outputs: Range<usize>,
    /// The first output's position.
    first_output: u32,
    /// Its draws among the step's.
    draws: Range<usize>,
    /// Its rows among the values that are read.
    values: Range<usize>,
}

impl Step {
    /// Whether some of its draws wait to be told what is allowed.
    pub(crate) fn waits(&self) -> bool {
        self.batch.draws.last().is_some_and(|draw| draw.waits)
    }
}

impl Schedule {
    pub(crate) fn new(limits: Limits, cache: KvCache) -> Schedule {
        Schedule {
            sequences: BTreeMap::new(),
            cache,
            free_slots: (0..limits.max_sequences).rev().map(Slot).collect(),
            next_id: 0,
            last: PlanKind::States,
            sampler: Sampler::new(),
            events: Vec::new(),
            now: None,
            rates: Rates::default(),
            limits,
        }
    }

    /// Takes a request in, or says why not. `stream` makes text of its tokens, `grammar` says what that must be.
    pub(crate) fn submit(&mut self, mut request: Request, stream: Option<TextStream>, grammar: Option<Governed>) -> Result<Admission> {
        self.check(&request, stream.is_some())?;
        self.count_rounds();
        if self.sequences.len() >= self.limits.max_requests as usize {
            // Where nothing was measured a second is as good a guess as any.
            let waiting = self.seconds_kept_waiting(&request).unwrap_or(1.0);
            return Ok(Admission::Busy { retry_after: Duration::try_from_secs_f64(waiting).unwrap_or(Duration::MAX) });
        }
        if let Some(patience) = request.priority.patience
            && let Some(waiting) = self.seconds_kept_waiting(&request)
            && waiting > patience.as_secs_f64()
        {
            let longer = waiting - patience.as_secs_f64();
            return Ok(Admission::Busy { retry_after: Duration::try_from_secs_f64(longer).unwrap_or(Duration::MAX) });
        }
        if let Work::Embed(Embed { pooling, .. }) = &mut request.work {
            pooling.get_or_insert(self.limits.pooling);
        }
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let mut sequence = Sequence::new(id, request, stream, grammar, self.cache.tables());
        (sequence.submitted, sequence.waits_since) = (self.now, self.now);
        self.sequences.insert(id, sequence);
        Ok(Admission::Accepted(id))
    }

    /// A step of so many rows took so long.
    pub(crate) fn observe(&mut self, prompt_rows: u32, generated_rows: u32, took: Duration) {
        self.rates.observe(prompt_rows, generated_rows, took);
    }

    fn check(&self, request: &Request, has_text: bool) -> Result<()> {
        let Limits { vocab, context, generates, .. } = self.limits;
        let prompt = &request.prompt;
        let Priority { lane, deadline, patience, .. } = request.priority;
        if lane >= Priority::LANES {
            return Err(Error::request(format!("lane {lane}; there are {}, from 0", Priority::LANES)));
        }
        if (deadline.is_some() || patience.is_some()) && self.now.is_none() {
            return Err(Error::request("a deadline and patience need a clock, and none was lent to the engine (Engine::lend_clock)"));
        }
        if prompt.is_empty() {
            return Err(Error::request("the prompt is empty; give at least one token (a BOS token where there is no text)"));
        }
        if let Some(at) = prompt.iter().position(|&t| t >= vocab) {
            return Err(Error::request(format!("token {} at {at} is not among the model's {vocab}", prompt[at])));
        }
        if prompt.len() > context as usize {
            return Err(Error::request(format!("the prompt has {} tokens, the context only {context}; shorten it", prompt.len())));
        }
        if let Some(pin) = request.sharing.pins.iter().find(|pin| pin.positions as usize > prompt.len()) {
            return Err(Error::request(format!("a pin of {} positions is longer than the prompt, {}", pin.positions, prompt.len())));
        }
        if !request.sharing.pins.is_empty() && self.now.is_none() {
            return Err(Error::request("pins have lifetimes, and no clock was lent to the engine (Engine::lend_clock)"));
        }
        if !generates && !matches!(request.work, Work::Embed(_)) {
            return Err(Error::request("this model is an encoder: it makes embeddings and generates nothing"));
        }
        if let Work::Logprobs { top } = request.work
            && top > vocab
        {
            return Err(Error::request(format!("{top} logprobs were asked for, but the model has only {vocab} tokens")));
        }
        let Work::Generate(generate) = &request.work else { return Ok(()) };
        if prompt.len() == context as usize && generate.max_tokens != Some(0) {
            return Err(Error::request(format!("the prompt's {context} tokens fill the context, no room is left to generate; shorten it")));
        }
        if let Some(at) = generate.stop.iter().position(String::is_empty) {
            return Err(Error::request(format!("stop string {at} is empty")));
        }
        if !generate.stop.is_empty() && !has_text {
            return Err(Error::request("stop strings need text, but the model's file has no tokenizer"));
        }
        if let Some(top) = generate.logprobs.filter(|&top| top > vocab) {
            return Err(Error::request(format!("{top} logprobs were asked for, but the model has only {vocab} tokens")));
        }
        generate.sampling.check(vocab)
    }

    /// How many requests an adapter is held for.
    pub(crate) fn users(&self, adapter: AdapterId) -> usize {
        self.sequences.values().filter(|s| s.adapter == Some(adapter)).count()
    }

    /// Ends a sequence and frees its pages now; its last event comes with the next step. False where there is no such sequence (any more).
    pub(crate) fn cancel(&mut self, id: SequenceId) -> bool {
        let Some(sequence) = self.sequences.get_mut(&id) else { return false };
        sequence.drain(FinishReason::Cancelled, &mut self.events);
        self.retire();
        true
    }

    /// How many tokens a sequence may generate in all. False where there is no such sequence (any more).
    pub(crate) fn allow(&mut self, id: SequenceId, tokens: u32) -> bool {
        self.sequences.get_mut(&id).map(|sequence| sequence.allowance = tokens).is_some()
    }

    /// What a sequence has taken so far.
    pub(crate) fn usage(&self, id: SequenceId) -> Option<Usage> {
        self.sequences.get(&id).map(|sequence| sequence.usage)
    }

    /// Whether there are sequences, all paused, and nothing to tell.
    pub(crate) fn is_paused(&self) -> bool {
        !self.sequences.is_empty() && self.events.is_empty() && self.sequences.values().all(Sequence::is_paused)
    }

    /// Whether there is nothing to run and nothing to tell.
    pub(crate) fn is_idle(&self) -> bool {
        self.sequences.is_empty() && self.events.is_empty()
    }

    /// What happened since this was last asked.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Changes the token budget.
    pub(crate) fn set_step_rows(&mut self, step_rows: u32) -> Result<()> {
        check_step_rows(step_rows, self.limits.max_sequences)?;
        self.limits.step_rows = step_rows;
        Ok(())
    }

    pub(crate) fn occupancy(&self) -> Occupancy {
        let running = self.sequences.values().filter(|s| s.is_running()).count() as u32;
        Occupancy {
            waiting: self.sequences.len() as u32 - running,
            running,
            pages_used: self.cache.used_pages(),
            pages_idle: self.cache.idle_pages(),
            pages: self.cache.total_pages(),
        }
    }

    /// The host's time has come this far.
    pub(crate) fn set_now(&mut self, now: Duration) {
        self.now = Some(now);
        self.cache.expire(now);
        let mut passed = false;
        for sequence in self.sequences.values_mut().filter(|s| s.priority.deadline.is_some_and(|deadline| deadline <= now)) {
            sequence.drain(FinishReason::DeadlinePassed, &mut self.events);
            passed = true;
        }
        if passed {
            self.retire();
        }
    }

    /// Gives up prefixes that no sequence holds.
    pub(crate) fn forget_prefixes(&mut self) {
        self.cache.forget();
    }

    /// The next step; `None` where there is nothing to run, before what is in flight is read. Composing changes no sequence's tokens: a step that is
    /// never issued is composed again.
    pub(crate) fn compose(&mut self, in_flight: bool) -> Result<Option<Step>> {
        if self.sequences.is_empty() || self.gathers_until().is_some() {
            return Ok(None);
        }
        self.count_rounds();
        let turn = match self.last {
            PlanKind::Logits => [PlanKind::States, PlanKind::Logits],
            PlanKind::States => [PlanKind::Logits, PlanKind::States],
        };
        for kind in turn {
            let spans = self.claim(kind);
            if !spans.is_empty() {
                self.last = kind;
                return Ok(Some(self.gather(kind, spans)));
            }
        }
        if in_flight || self.sequences.values().all(Sequence::is_paused) {
            return Ok(None);
        }
        Err(Error::internal(format!("none of {} sequences can go on", self.sequences.len())))
    }

    /// Until when an idle engine waits for company, if it still does.
    pub(crate) fn gathers_until(&self) -> Option<Duration> {
        if self.sequences.len() >= self.limits.max_sequences as usize || self.sequences.values().any(Sequence::is_running) {
            return None;
        }
        let first = self.sequences.values().next()?.submitted?;
        Some(first.saturating_add(self.limits.gather)).filter(|until| self.now.is_some_and(|now| now < *until))
    }

    /// The batch of these spans: prompt rows of all, then generated rows of all.
    fn gather(&self, kind: PlanKind, mut spans: Vec<Span>) -> Step {
        let mut batch = Batch::default();
        for span in &spans {
            let sequence = &self.sequences[&span.sequence];
            let tables = sequence.tables.to_vecs();
            batch.sequences.push(SequenceView { length: span.positions.end, tables, adapter: sequence.adapter });
        }
        for class in [Class::Prompt, Class::Generated] {
            for (index, span) in spans.iter_mut().enumerate() {
                let sequence = &self.sequences[&span.sequence];
                let slot = sequence.slot.expect("a running sequence has a slot");
                let first = batch.outputs.len();
                for position in span.positions.clone().filter(|&p| sequence.class(p) == class) {
                    if sequence.wants_output(position) {
                        batch.outputs.push(batch.rows.len() as u32);
                    }
                    let token = sequence.token(position, slot);
                    batch.rows.push(Row { sequence: index as u32, position, token, class, segment: 0 });
                }
                // A sequence's outputs are all of one class: requests for many have a prompt only.
                if batch.outputs.len() > first {
                    span.outputs = first..batch.outputs.len();
                }
            }
        }
        self.gather_draws(&mut batch, &mut spans);
        Step { kind, batch, spans }
    }

    /// What is drawn from the outputs, those that wait last, and which are read as they are.
    fn gather_draws(&self, batch: &mut Batch, spans: &mut [Span]) {
        if !self.limits.device_draws {
            spans.iter_mut().for_each(|span| span.values = span.outputs.clone());
            return;
        }
        let mut values = Vec::new();
        for waits in [false, true] {
            for span in spans.iter_mut() {
                let sequence = &self.sequences[&span.sequence];
                if !sequence.generates() || sequence.has_grammar() != waits {
                    continue;
                }
                let slot = sequence.slot.expect("a running sequence has a slot");
                let first = batch.draws.len();
                for output in span.outputs.clone() {
                    let position = batch.rows[batch.outputs[output] as usize].position;
                    batch.draws.push(sequence.draw_at(position, output as u32, slot));
                }
                span.draws = first..batch.draws.len();
            }
        }
        for span in spans.iter_mut().filter(|span| self.sequences[&span.sequence].wants_values()) {
            span.values = values.len()..values.len() + span.outputs.len();
            values.extend(span.outputs.clone().map(|output| output as u32));
        }
        batch.values = Some(values);
    }

    /// A step was issued: whatever is issued next runs behind it, and may build on it.
    pub(crate) fn issued(&mut self, step: &Step) {
        for span in &step.spans {
            let Some(sequence) = self.sequences.get_mut(&span.sequence) else { continue };
            sequence.issue(span.positions.end, span.outputs.len() as u32);
            if let Some(prefix) = shared(&self.limits, &sequence.sharing, sequence.adapter, &sequence.tokens, sequence.prompt_len) {
                let new = self.cache.publish(&mut sequence.tables, &prefix, sequence.computed);
                // A page that begins in the prompt and ends behind it counts for neither.
                if span.positions.end <= sequence.prompt_len {
                    sequence.usage.written_tokens += new;
                }
            }
            sequence.pin(&mut self.cache, self.now);
            self.cache.release_unseen(&mut sequence.tables, sequence.computed);
        }
    }

    /// Whether anybody still waits for what a step leaves.
    pub(crate) fn concerns(&self, step: &Step) -> bool {
        step.spans.iter().any(|span| self.concerned(span).is_some())
    }

    fn concerned(&self, span: &Span) -> Option<&Sequence> {
        self.sequences.get(&span.sequence).filter(|sequence| sequence.attempt == span.attempt)
    }

    /// The sequence whose draws in a span wait for its grammar.
    fn waiting(&self, span: &Span) -> Option<&Sequence> {
        self.concerned(span).filter(|sequence| sequence.has_grammar() && !span.draws.is_empty())
    }

    /// Whether an earlier step must be read before it is known what the draws of this one that wait may be.
    pub(crate) fn wants_earlier(&self, step: &Step) -> bool {
        step.spans.iter().filter_map(|span| self.waiting(span)).any(|sequence| sequence.pending > 1)
    }

    /// What the draws of a step that wait may be, where they are still to be drawn.
    pub(crate) fn allowed(&mut self, step: &Step) -> Vec<(usize, Option<Vec<u32>>)> {
        let mut named = Vec::new();
        for span in &step.spans {
            if self.waiting(span).is_some()
                && let Some(sequence) = self.sequences.get_mut(&span.sequence)
                && let Some(allowed) = sequence.allowed(span.positions.end - 1)
            {
                named.push((span.draws.start, allowed));
            }
        }
        named
    }

    /// Works out, while a device runs the step, what the grammars of its sequences allow next, where the host will draw.
    pub(crate) fn prepare(&mut self, step: &Step) {
        if self.limits.device_draws {
            return;
        }
        for span in step.spans.iter().filter(|span| !span.outputs.is_empty()) {
            if let Some(sequence) = self.sequences.get_mut(&span.sequence) {
                sequence.prepare();
            }
        }
    }

    /// Gives every sequence of a step that was read what it left; values are `[rows, width]`.
    pub(crate) fn absorb(&mut self, step: &Step, outputs: &Outputs, width: usize) {
        let mut taking = Taking {
            sampler: &mut self.sampler,
            end_of_generation: &self.limits.end_of_generation,
            context: self.limits.context,
            width,
            events: &mut self.events,
        };
        for span in &step.spans {
            let Some(sequence) = self.sequences.get_mut(&span.sequence).filter(|sequence| sequence.attempt == span.attempt) else {
                continue;
            };
            let found = Found {
                values: &outputs.values[span.values.start * width..span.values.end * width],
                drawn: outputs.drawn.get(span.draws.clone()).unwrap_or_default(),
            };
            if !sequence.take(span.positions.end, span.first_output, found, &mut taking) {
                let_go(&mut self.cache, &mut self.free_slots, sequence);
                sequence.preempt(self.now);
                continue;
            }
            // Tokens that are known only now may make a block whole.
            if let Some(prefix) = shared(&self.limits, &sequence.sharing, sequence.adapter, &sequence.tokens, sequence.prompt_len) {
                self.cache.publish(&mut sequence.tables, &prefix, sequence.computed);
            }
        }
        self.retire();
    }

    /// Steps that were issued are lost: their sequences begin again, without losing a token that was read.
    pub(crate) fn abandon(&mut self) {
        for sequence in self.sequences.values_mut().filter(|sequence| sequence.is_running()) {
            let_go(&mut self.cache, &mut self.free_slots, sequence);
            sequence.preempt(self.now);
        }
        self.forget_prefixes();
    }

    /// Frees what drained sequences hold, and says their last word.
    fn retire(&mut self) {
        self.sequences.retain(|&id, sequence| {
            let Phase::Draining(reason) = sequence.phase.clone() else { return true };
            let_go(&mut self.cache, &mut self.free_slots, sequence);
            self.rates.begun(sequence.usage.cached_tokens, sequence.prompt_len);
            if sequence.usage.generated_tokens > 0 {
                self.rates.ended(sequence.usage.generated_tokens);
            }
            self.events.push(Event::Done { sequence: id, reason, usage: sequence.usage });
            false
        });
    }
}

/// A sequence gives back what it runs on.
fn let_go(cache: &mut KvCache, free_slots: &mut Vec<Slot>, sequence: &mut Sequence) {
    cache.release(&mut sequence.tables);
    free_slots.extend(sequence.slot.take());
}

/// The text by which a sequence's prefixes are known, unless it keeps to itself or its model sees every position from every other.
fn shared<'a>(limits: &Limits, sharing: &'a Sharing, adapter: Option<AdapterId>, tokens: &'a [u32], prompt_len: u32) -> Option<Prefix<'a>> {
    let generated_from = if limits.one_class { u32::MAX } else { prompt_len };
    let prefix = Prefix { namespace: &sharing.namespace, adapter, tokens, generated_from };
    (!sharing.private && !limits.encoder).then_some(prefix)
}

#[cfg(test)]
mod tests;
