//! One request's life: its tokens, its phase, and what its outputs become.
//!
//! `Waiting → Prefilling → Decoding → Draining → Done`, and `Preempted` when an older sequence needed the pages. A sequence is done when it is
//! no longer there: its last event says why.

mod lookup;
mod stop;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use lookup::MOST as MOST_DRAFTS;
pub use stop::StopStrings;

use lookup::Lookup;

use crate::backend::{AdapterId, Drawn};
use crate::batch::{Class, Draw, RowToken, Slot};
use crate::engine::{Embed, Event, FinishReason, Pooling, Priority, Request, Sharing, Speculation, Usage, Work};
use crate::error::Error;
use crate::grammar::{Governed, Progress};
use crate::kv::{BlockTables, KvCache};
use crate::model::plan::PlanKind;
use crate::sampling::{Logprobs, Sampler, Sampling};
use crate::text::TextStream;

/// Names a sequence. Ids rise with the order of submission and are never used twice by one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// Where a sequence stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Submitted, nothing computed.
    Waiting,
    /// Positions before its last token are still to be computed.
    Prefilling,
    /// Only its newest token is still to be computed.
    Decoding,
    /// It lost its pages to an older sequence; everything is to be computed again, each position in the class it had.
    Preempted,
    /// It has ended; its pages and slot are still held.
    Draining(FinishReason),
}

/// A request under way.
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    pub(crate) phase: Phase,
    /// The prompt, then what was drawn, as far as it was read.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_len: u32,
    /// Positions that are in the cache for steps issued from now on.
    pub(crate) computed: u32,
    /// Tokens behind `tokens` whose draws were issued and not read yet.
    pub(crate) pending: u32,
    /// Rises when what was issued for it no longer counts.
    pub(crate) attempt: u32,
    pub(crate) tables: BlockTables,
    /// Held while it runs.
    pub(crate) slot: Option<Slot>,
    pub(crate) usage: Usage,
    pub(crate) sharing: Sharing,
    pub(crate) priority: Priority,
    pub(crate) adapter: Option<AdapterId>,
    /// When it was submitted, by the host's clock.
    pub(crate) submitted: Option<Duration>,
    /// The lane it runs in: the one it had risen to when it was admitted.
    pub(crate) rank: u8,
    work: Work,
    sampling: Arc<Sampling>,
    /// Positions that were in the cache when its pages were taken.
    lost: u32,
    /// Positions whose outputs were taken, so that none is taken twice after a preemption.
    taken: u32,
    /// The sum or the copy of final states that becomes the embedding, `[dim]`. f64, so that a long mean stays exact.
    pooled: Vec<f64>,
    /// Where the model has a tokenizer.
    text: Option<Text>,
    /// What its text must be.
    grammar: Option<Governed>,
    /// Tokens that may follow those known, computed with them in the step that is composed.
    drafts: Vec<u32>,
    /// Whether rows for drafts were issued and not read: until then it is not known where it goes on.
    drafting: bool,
    lookup: Lookup,
    /// Tokens drawn for the next position that the grammar can't go on with.
    refused: Vec<u32>,
    /// Whether a token was read since the last row was issued, so that the next submission had to wait for it.
    read_since: bool,
}

/// From tokens to text that is safe to send.
struct Text {
    stream: TextStream,
    stops: StopStrings,
}

/// What sequences share while they take their outputs.
pub(crate) struct Taking<'a> {
    pub(crate) sampler: &'a mut Sampler,
    /// Tokens that end generation.
    pub(crate) end_of_generation: &'a [u32],
    /// Positions a sequence may have.
    pub(crate) context: u32,
    /// Width of an output row.
    pub(crate) width: usize,
    pub(crate) events: &'a mut Vec<Event>,
}

/// What a step left for one sequence: by output, either or both.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    /// `[outputs, width]`, where they were read.
    pub(crate) values: &'a [f32],
    /// Where the backend draws.
    pub(crate) drawn: &'a [Drawn],
}

/// Why a sequence does not simply go on with a token.
enum Halt {
    /// It has ended.
    End(FinishReason),
    /// The token is refused, and its row is to be computed and drawn from again.
    Again,
}

impl From<FinishReason> for Halt {
    fn from(reason: FinishReason) -> Halt {
        Halt::End(reason)
    }
}

impl Sequence {
    /// A checked request that waits; embeddings name their pooling.
    pub(crate) fn new(
        id: SequenceId,
        request: Request,
        stream: Option<TextStream>,
        grammar: Option<Governed>,
        tables: BlockTables,
    ) -> Sequence {
        let text = match &request.work {
            Work::Generate(g) => stream.map(|stream| Text { stream, stops: StopStrings::new(&g.stop) }),
            _ => None,
        };
        let prompt_len = request.prompt.len() as u32;
        let sampling = match &request.work {
            Work::Generate(generate) => Arc::new(generate.sampling.clone()),
            _ => Arc::default(),
        };
        Sequence {
            id,
            phase: Phase::Waiting,
            tokens: request.prompt,
            prompt_len,
            computed: 0,
            pending: 0,
            attempt: 0,
            tables,
            slot: None,
            usage: Usage { prompt_tokens: prompt_len, ..Usage::default() },
            sharing: request.sharing,
            rank: request.priority.lane,
            priority: request.priority,
            adapter: request.adapter,
            submitted: None,
            work: request.work,
            sampling,
            lost: 0,
            taken: 0,
            pooled: Vec::new(),
            text,
            grammar,
            drafts: Vec::new(),
            drafting: false,
            lookup: Lookup::default(),
            refused: Vec::new(),
            read_since: false,
        }
    }

    /// Whether it may hold pages and be given rows.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Prefilling | Phase::Decoding)
    }

    /// Tokens it may still generate, beyond those whose draws were issued.
    pub(crate) fn remaining(&self, context: u32) -> u32 {
        let room = context.saturating_sub(self.len());
        match &self.work {
            Work::Generate(generate) => {
                generate.max_tokens.map_or(room, |most| room.min(most.saturating_sub(self.usage.generated_tokens + self.pending)))
            }
            _ => 0,
        }
    }

    /// Whether there is a row to issue for it, running, before more of what was issued is read. It may hold back for drafts where the step has
    /// room for some.
    pub(crate) fn is_ready(&self, context: u32, drafts: bool) -> bool {
        match self.phase {
            Phase::Prefilling => self.computed < self.len(),
            Phase::Decoding => {
                // What a grammar allows is known a token later than what it follows.
                let waits = self.grammar.is_some() && self.pending > 1;
                let would_draft = || drafts && self.speculates() && !self.lookup.draft(&self.tokens, 1).is_empty();
                !self.drafting && !waits && self.remaining(context) > 0 && (self.pending == 0 || !would_draft())
            }
            _ => true,
        }
    }

    fn speculates(&self) -> bool {
        // A grammar's forced tokens are better than any draft.
        self.grammar.is_none() && matches!(&self.work, Work::Generate(generate) if generate.speculation == Speculation::Auto)
    }

    /// Whether its outputs are read as they are.
    pub(crate) fn wants_values(&self) -> bool {
        match &self.work {
            Work::Generate(generate) => generate.logits || generate.logprobs.is_some(),
            _ => true,
        }
    }

    /// Whether what it may say next is known only when what it said last is.
    pub(crate) fn has_grammar(&self) -> bool {
        self.grammar.is_some()
    }

    /// Whether its outputs are drawn from.
    pub(crate) fn generates(&self) -> bool {
        matches!(self.work, Work::Generate(_))
    }

    /// What its outputs are made by.
    pub(crate) fn plan_kind(&self) -> PlanKind {
        match self.work {
            Work::Generate(_) | Work::Logits => PlanKind::Logits,
            Work::Embed(_) => PlanKind::States,
        }
    }

    /// Its positions, prompt and drawn, those included whose tokens are not read yet.
    pub(crate) fn len(&self) -> u32 {
        self.known() + self.pending
    }

    /// Positions whose tokens are known.
    pub(crate) fn known(&self) -> u32 {
        self.tokens.len() as u32
    }

    /// Which kernel family computes a position: for good, so that computing it again gives the same bits.
    pub(crate) fn class(&self, position: u32) -> Class {
        if position < self.prompt_len { Class::Prompt } else { Class::Generated }
    }

    /// Whether a position's output is wanted.
    pub(crate) fn wants_output(&self, position: u32) -> bool {
        match &self.work {
            Work::Generate(generate) => position + 1 >= self.len() && generate.max_tokens != Some(0),
            Work::Logits | Work::Embed(Embed { pooling: Some(Pooling::Mean), .. }) => position >= self.taken,
            Work::Embed(Embed { pooling: Some(Pooling::Cls), .. }) => position == 0 && self.taken == 0,
            Work::Embed(_) => position + 1 == self.len(),
        }
    }

    /// How many of its next `rows` want at most `outputs` outputs.
    pub(crate) fn rows_within(&self, rows: u32, outputs: u32) -> u32 {
        let mut wanted = 0;
        let fits = |&position: &u32| {
            wanted += u32::from(self.wants_output(position));
            wanted <= outputs
        };
        (self.computed..self.computed + rows).take_while(fits).count() as u32
    }

    /// Positions that need not be computed where they are known: those before the first whose output is wanted, and never all.
    pub(crate) fn skippable(&self) -> u32 {
        (self.taken..self.len()).find(|&p| self.wants_output(p)).unwrap_or(self.len()).min(self.len() - 1)
    }

    /// Keeps the prefixes that are to be kept, once the prompt is computed.
    pub(crate) fn pin(&mut self, cache: &mut KvCache, now: Option<Duration>) {
        let Some(now) = now.filter(|_| self.computed >= self.prompt_len) else { return };
        for pin in self.sharing.pins.drain(..) {
            cache.pin(&self.tables, pin.positions, now.saturating_add(pin.lifetime));
        }
    }

    /// Drafts up to `most` tokens behind its last, for the step that is composed. How many.
    pub(crate) fn draft(&mut self, most: u32, context: u32) -> u32 {
        self.drafts.clear();
        if self.pending == 0 && self.speculates() {
            let most = most.min(self.remaining(context).saturating_sub(1));
            self.drafts = self.lookup.draft(&self.tokens, most);
        }
        self.drafts.len() as u32
    }

    /// Only so many of its drafts found room.
    pub(crate) fn keep_drafts(&mut self, count: u32) {
        self.drafts.truncate(count as usize);
    }

    /// The token at a position: known, drafted, or still in its slot.
    pub(crate) fn token(&self, position: u32, slot: Slot) -> RowToken {
        self.known_or_drafted(position).map_or(RowToken::Slot(slot), RowToken::Known)
    }

    fn known_or_drafted(&self, position: u32) -> Option<u32> {
        let position = position as usize;
        self.tokens.get(position).or_else(|| self.drafts.get(position - self.tokens.len())).copied()
    }

    /// How a token is drawn from the row at a position.
    pub(crate) fn draw_at(&self, position: u32, output: u32, slot: Slot) -> Draw {
        let sampling = Arc::clone(&self.sampling);
        let mut occurrences: Vec<(u32, u32)> = Vec::new();
        let mut in_flight = 0;
        if sampling.penalises() {
            let end = position + 1;
            let first = sampling.penalty_last_n.map_or(0, |n| end.saturating_sub(n));
            let mut known: Vec<u32> = (first..end).map_while(|p| self.known_or_drafted(p)).collect();
            in_flight = end - first - known.len() as u32;
            known.sort_unstable();
            occurrences.extend(known.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)));
        }
        Draw { output, slot, sampling, occurrences, in_flight, refused: self.refused.clone(), waits: self.grammar.is_some() }
    }

    /// Rows up to `end` were issued, drafts among them, and `outputs` of them are wanted.
    pub(crate) fn issue(&mut self, end: u32, outputs: u32) {
        self.computed = end - self.drafts.len() as u32;
        self.usage.host_waits += u32::from(std::mem::take(&mut self.read_since) && self.pending == 0);
        if self.generates() && outputs > 0 {
            self.drafting = !self.drafts.is_empty();
            self.pending += 1;
        }
        self.set_phase();
    }

    /// By what there is to compute.
    fn set_phase(&mut self) {
        // Tokens that were forced are fed like a prompt's.
        let decodes = self.computed + 1 == self.len() && self.len() > self.prompt_len;
        self.phase = if decodes { Phase::Decoding } else { Phase::Prefilling };
    }

    /// It is admitted with this many positions in the cache: rows may follow.
    pub(crate) fn admit(&mut self, slot: Slot, known: u32, rank: u8) {
        self.slot = Some(slot);
        self.rank = rank;
        self.computed = known;
        if self.phase == Phase::Waiting {
            self.usage.cached_tokens = known;
        }
        self.usage.recomputed_tokens += std::mem::take(&mut self.lost).saturating_sub(known);
        self.phase = Phase::Prefilling;
    }

    /// Its pages were taken.
    pub(crate) fn preempt(&mut self) {
        self.usage.preemptions += 1;
        self.lost = std::mem::take(&mut self.computed).min(self.known());
        self.attempt += 1;
        self.pending = 0;
        self.drafts.clear();
        self.drafting = false;
        self.read_since = false;
        self.phase = Phase::Preempted;
    }

    /// A step that computed its positions up to `end` was read; `found` is what it left at the wanted ones, the first that of position `first`. False
    /// where a row must be computed again.
    pub(crate) fn take(&mut self, end: u32, first: u32, found: Found<'_>, taking: &mut Taking<'_>) -> bool {
        match &self.work {
            Work::Generate(generate) => {
                if generate.max_tokens == Some(0) {
                    if end >= self.len() {
                        self.drain(FinishReason::MaxTokens, taking.events);
                    }
                } else if (!found.values.is_empty() || !found.drawn.is_empty()) && found.drawn.first() != Some(&Drawn::Never) {
                    self.pending -= 1;
                    self.drafting = false;
                    match self.draw_all(found, taking) {
                        Ok(()) => self.set_phase(),
                        Err(Halt::End(reason)) => self.drain(reason, taking.events),
                        Err(Halt::Again) => return false,
                    }
                }
            }
            Work::Logits => {
                if let Some(reason) = not_finite(found.values, first, taking.width) {
                    self.drain(reason, taking.events);
                    return true;
                }
                if !found.values.is_empty() {
                    let values = found.values.to_vec();
                    taking.events.push(Event::Logits { sequence: self.id, position: first, values });
                }
                self.taken = self.taken.max(end);
                if end >= self.len() {
                    self.drain(FinishReason::Complete, taking.events);
                }
            }
            Work::Embed(embed) => {
                if let Some(reason) = not_finite(found.values, first, taking.width) {
                    self.drain(reason, taking.events);
                    return true;
                }
                self.pooled.resize(taking.width, 0.0);
                for row in found.values.chunks_exact(taking.width) {
                    self.pooled.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
                }
                self.taken = self.taken.max(end);
                if end >= self.len() {
                    let values = embedding(&self.pooled, *embed, self.prompt_len);
                    taking.events.push(Event::Embedding { sequence: self.id, values });
                    self.drain(FinishReason::Complete, taking.events);
                }
            }
        }
        true
    }

    /// The tokens allowed at the draw from the row at `position`, which waits for them: `None` where it is not to be drawn, because its token is
    /// known by now.
    pub(crate) fn allowed(&mut self, position: u32) -> Option<Option<Vec<u32>>> {
        if self.known() != position + 1 {
            return None;
        }
        self.usage.host_waits += u32::from(std::mem::take(&mut self.read_since));
        // What fails here ends the sequence when its token is taken: that fails too.
        Some(self.grammar.as_mut().and_then(|grammar| grammar.allowed().ok().flatten().map(<[u32]>::to_vec)))
    }

    /// Works out what its grammar allows, while a device is busy. What fails here fails again, and is told, when the token is drawn.
    pub(crate) fn prepare(&mut self) {
        if let Some(grammar) = &mut self.grammar {
            let _ = grammar.prepare();
        }
    }

    /// Takes the token of its row, and those of the rows behind it as long as they were computed for the token that was drawn.
    fn draw_all(&mut self, found: Found<'_>, taking: &mut Taking<'_>) -> Result<(), Halt> {
        let width = taking.width;
        let rows = found.drawn.len().max(found.values.len() / width);
        // A step that was composed and never run may have left others.
        let mut drafts = std::mem::take(&mut self.drafts);
        drafts.truncate(rows.saturating_sub(1));
        let mut right = 0;
        let mut result = Ok(());
        for row in 0..rows {
            let at = self.tokens.len();
            let values = found.values.get(row * width..(row + 1) * width);
            result = self.draw(values, found.drawn.get(row).copied(), taking);
            if result.is_err() || drafts.get(right).is_none_or(|draft| self.tokens.get(at) != Some(draft)) {
                break;
            }
            right += 1;
            self.computed += 1;
        }
        let (drafted, right) = (drafts.len() as u32, right as u32);
        self.usage.drafted_tokens += drafted;
        self.usage.accepted_tokens += right;
        self.lookup.learn(drafted, right);
        result
    }

    /// The token that a row of logits comes to: the backend's, or one drawn here.
    fn choose(&mut self, values: Option<&[f32]>, drawn: Option<Drawn>, sampler: &mut Sampler) -> Result<u32, Halt> {
        match drawn {
            Some(Drawn::Token(id)) => {
                self.read_since = true;
                if self.grammar.as_ref().is_some_and(|grammar| !grammar.admits(id)) {
                    // It completes the trigger and goes on in a way that the grammar does not.
                    self.refused.push(id);
                    return Err(Halt::Again);
                }
                self.refused.clear();
                Ok(id)
            }
            Some(Drawn::NotFinite) => {
                let at = self.known() - 1;
                let message = format!("a logit at position {at} is not finite: the model's weights or a kernel are at fault");
                Err(failed(Error::internal(message)).into())
            }
            Some(Drawn::NothingAllowed) => {
                Err(failed(Error::request("logit_bias forbids every token, or every token that the grammar allows")).into())
            }
            Some(Drawn::Never) => Err(failed(Error::internal("a row was not drawn from")).into()),
            None => {
                let Some(logits) = values else { return Err(failed(Error::internal("a row was not read")).into()) };
                Ok(self.choose_allowed(logits, sampler)?)
            }
        }
    }

    /// Draws a token, one that the grammar allows where there is one.
    fn choose_allowed(&mut self, logits: &[f32], sampler: &mut Sampler) -> Result<u32, FinishReason> {
        let Some(grammar) = &mut self.grammar else {
            return sampler.sample(logits, &self.sampling, &self.tokens, None).map_err(failed);
        };
        let mut allowed = grammar.allowed().map_err(failed)?.map(<[u32]>::to_vec);
        loop {
            let id = sampler.sample(logits, &self.sampling, &self.tokens, allowed.as_deref()).map_err(failed)?;
            if grammar.admits(id) {
                return Ok(id);
            }
            // It completes the trigger and goes on in a way that the grammar does not.
            let all = || vec![u32::MAX; logits.len().div_ceil(32)];
            allowed.get_or_insert_with(all)[id as usize / 32] &= !(1 << (id % 32));
        }
    }

    /// Takes the next token, and those that its grammar forces behind it.
    fn draw(&mut self, values: Option<&[f32]>, drawn: Option<Drawn>, taking: &mut Taking<'_>) -> Result<(), Halt> {
        let id = self.choose(values, drawn, taking.sampler)?;
        let Work::Generate(generate) = &self.work else { return Ok(()) };
        let logits = values.unwrap_or_default();
        if generate.logits {
            let position = self.known() - 1;
            taking.events.push(Event::Logits { sequence: self.id, position, values: logits.to_vec() });
        }
        self.usage.generated_tokens += 1;
        if !generate.ignore_eos && taking.end_of_generation.contains(&id) {
            return Err(FinishReason::EndOfGeneration(id).into());
        }
        let logprobs = generate.logprobs.map(|top| taking.sampler.logprobs(logits, id, top));
        let wants_rows = generate.logits || logprobs.is_some();
        self.append(id, logprobs, taking)?;
        if wants_rows {
            return Ok(());
        }
        let forced = self.grammar.as_mut().map_or(Vec::new(), Governed::forced);
        if !forced.is_empty() {
            // A draw that is under way would draw the first of them.
            self.pending = 0;
        }
        for id in forced {
            self.usage.generated_tokens += 1;
            self.append(id, None, taking)?;
        }
        Ok(())
    }

    /// One more token of the text; an error is the reason to end.
    fn append(&mut self, id: u32, logprobs: Option<Logprobs>, taking: &mut Taking<'_>) -> Result<(), FinishReason> {
        let sequence = self.id;
        taking.events.push(Event::Token { sequence, id, logprobs });
        self.tokens.push(id);
        if let Some(text) = &mut self.text {
            let piece = text.stream.push(id);
            let (certain, stop) = text.stops.push(&piece);
            if !certain.is_empty() {
                taking.events.push(Event::Text { sequence, text: certain });
            }
            if let Some(index) = stop {
                return Err(FinishReason::StopString(index));
            }
        }
        if let Some(grammar) = &mut self.grammar
            && grammar.take(id).map_err(failed)? == Progress::Complete
        {
            return Err(FinishReason::GrammarComplete);
        }
        let Work::Generate(generate) = &self.work else { return Ok(()) };
        if generate.max_tokens == Some(self.usage.generated_tokens) {
            return Err(FinishReason::MaxTokens);
        }
        if self.known() >= taking.context {
            return Err(FinishReason::ContextFull);
        }
        Ok(())
    }

    /// It has ended. Text that was held back comes out, but for what a stop string or a cancellation cuts.
    pub(crate) fn drain(&mut self, reason: FinishReason, events: &mut Vec<Event>) {
        let cut = matches!(reason, FinishReason::StopString(_) | FinishReason::Cancelled | FinishReason::DeadlinePassed);
        if let Some(text) = self.text.as_mut().filter(|_| !cut) {
            // The last piece may still complete a stop string, or need no holding back.
            let (mut rest, stop) = text.stops.push(&text.stream.finish());
            if stop.is_none() {
                rest.push_str(&text.stops.finish());
            }
            if !rest.is_empty() {
                events.push(Event::Text { sequence: self.id, text: rest });
            }
        }
        self.phase = Phase::Draining(reason);
    }
}

/// The vector that pooled states become.
fn embedding(pooled: &[f64], embed: Embed, positions: u32) -> Vec<f32> {
    let count = if embed.pooling == Some(Pooling::Mean) { f64::from(positions) } else { 1.0 };
    let length = pooled.iter().map(|x| x * x).sum::<f64>().sqrt();
    // A zero vector has no direction; it stays as it is.
    let divisor = if embed.normalise && length > 0.0 { length } else { count };
    pooled.iter().map(|x| (x / divisor) as f32).collect()
}

/// Why a sequence can't go on with these outputs.
fn not_finite(outputs: &[f32], first: u32, width: usize) -> Option<FinishReason> {
    let at = outputs.iter().position(|x| !x.is_finite())?;
    Some(failed(Error::internal(format!(
        "output {} at position {} is {}: the model's weights or a kernel are at fault",
        at % width,
        first as usize + at / width,
        outputs[at]
    ))))
}

fn failed(error: Error) -> FinishReason {
    FinishReason::Failed { code: error.code(), message: error.message().to_string() }
}
