//! One request's life: its tokens, its phase, and what its outputs become.
//!
//! `Waiting → Prefilling → Decoding → Draining → Done`, and `Preempted` when an older sequence needed the pages. A sequence is done when it is
//! no longer there: its last event says why.

mod lookup;
mod stop;

use std::time::Duration;

pub(crate) use lookup::MOST as MOST_DRAFTS;
pub use stop::StopStrings;

use lookup::Lookup;

use crate::backend::AdapterId;
use crate::batch::{Class, Slot};
use crate::engine::{Embed, Event, FinishReason, Pooling, Priority, Request, Sharing, Speculation, Usage, Work};
use crate::error::Error;
use crate::grammar::{Governed, Progress};
use crate::kv::{BlockTables, KvCache};
use crate::model::plan::PlanKind;
use crate::sampling::{Logprobs, Sampler};
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
    /// The prompt, then what was drawn.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_len: u32,
    /// Positions that are in the cache.
    pub(crate) computed: u32,
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
    lookup: Lookup,
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
        Sequence {
            id,
            phase: Phase::Waiting,
            tokens: request.prompt,
            prompt_len,
            computed: 0,
            tables,
            slot: None,
            usage: Usage { prompt_tokens: prompt_len, ..Usage::default() },
            sharing: request.sharing,
            rank: request.priority.lane,
            priority: request.priority,
            adapter: request.adapter,
            submitted: None,
            work: request.work,
            lost: 0,
            taken: 0,
            pooled: Vec::new(),
            text,
            grammar,
            drafts: Vec::new(),
            lookup: Lookup::default(),
        }
    }

    /// Whether it may hold pages and be given rows.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Prefilling | Phase::Decoding)
    }

    /// Tokens it may still generate.
    pub(crate) fn remaining(&self, context: u32) -> u32 {
        let room = context.saturating_sub(self.len());
        match &self.work {
            Work::Generate(generate) => generate.max_tokens.map_or(room, |most| room.min(most - self.usage.generated_tokens)),
            _ => 0,
        }
    }

    /// What its outputs are made by.
    pub(crate) fn plan_kind(&self) -> PlanKind {
        match self.work {
            Work::Generate(_) | Work::Logits => PlanKind::Logits,
            Work::Embed(_) => PlanKind::States,
        }
    }

    /// Positions known, prompt and drawn.
    pub(crate) fn len(&self) -> u32 {
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
        if let Work::Generate(generate) = &self.work
            && generate.speculation == Speculation::Auto
            // A grammar's forced tokens are better than any draft.
            && self.grammar.is_none()
        {
            let most = most.min(self.remaining(context).saturating_sub(1));
            self.drafts = self.lookup.draft(&self.tokens, most);
        }
        self.drafts.len() as u32
    }

    /// Only so many of its drafts found room.
    pub(crate) fn keep_drafts(&mut self, count: u32) {
        self.drafts.truncate(count as usize);
    }

    /// The token at a position, known or drafted.
    pub(crate) fn token(&self, position: u32) -> u32 {
        let position = position as usize;
        self.tokens.get(position).copied().unwrap_or_else(|| self.drafts[position - self.tokens.len()])
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
        self.lost = std::mem::take(&mut self.computed);
        self.phase = Phase::Preempted;
    }

    /// Positions up to `computed` are in the cache, and `outputs`, `[rows, width]`, hold the wanted rows' results, the first that of
    /// position `first`.
    pub(crate) fn take(&mut self, computed: u32, first: u32, outputs: &[f32], taking: &mut Taking<'_>) {
        // What drafts left in the cache counts as far as they prove right.
        self.computed = computed.min(self.len());
        let whole = computed >= self.len();
        match &self.work {
            Work::Generate(generate) if whole => {
                if generate.max_tokens == Some(0) {
                    self.drain(FinishReason::MaxTokens, taking.events);
                } else if let Err(reason) = self.draw_all(outputs, taking) {
                    self.drain(reason, taking.events);
                } else {
                    // Tokens that were forced are fed like a prompt's.
                    self.phase = if self.computed + 1 == self.len() { Phase::Decoding } else { Phase::Prefilling };
                }
            }
            Work::Generate(_) => {}
            Work::Logits => {
                if let Some(reason) = not_finite(outputs, first, taking.width) {
                    return self.drain(reason, taking.events);
                }
                if !outputs.is_empty() {
                    let values = outputs.to_vec();
                    taking.events.push(Event::Logits { sequence: self.id, position: first, values });
                }
                self.taken = self.taken.max(computed);
                if whole {
                    self.drain(FinishReason::Complete, taking.events);
                }
            }
            Work::Embed(embed) => {
                if let Some(reason) = not_finite(outputs, first, taking.width) {
                    return self.drain(reason, taking.events);
                }
                self.pooled.resize(taking.width, 0.0);
                for row in outputs.chunks_exact(taking.width) {
                    self.pooled.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
                }
                self.taken = self.taken.max(computed);
                if whole {
                    let values = embedding(&self.pooled, *embed, self.prompt_len);
                    taking.events.push(Event::Embedding { sequence: self.id, values });
                    self.drain(FinishReason::Complete, taking.events);
                }
            }
        }
    }

    /// Works out what its grammar allows, while a device is busy. What fails here fails again, and is told, when the token is drawn.
    pub(crate) fn prepare(&mut self) {
        if let Some(grammar) = &mut self.grammar {
            let _ = grammar.prepare();
        }
    }

    /// Draws a token from its row, and from the rows behind it as long as they were computed for the token that was drawn.
    fn draw_all(&mut self, outputs: &[f32], taking: &mut Taking<'_>) -> Result<(), FinishReason> {
        let mut rows = outputs.chunks_exact(taking.width);
        // A step that was composed and never run may have left others.
        let mut drafts = std::mem::take(&mut self.drafts);
        drafts.truncate(rows.len().saturating_sub(1));
        let mut right = 0;
        let mut result = Ok(());
        for row in &mut rows {
            let at = self.tokens.len();
            result = self.draw(row, taking);
            if result.is_err() || drafts.get(right).is_none_or(|draft| self.tokens.get(at) != Some(draft)) {
                break;
            }
            right += 1;
            self.computed += 1;
        }
        if !drafts.is_empty() {
            let (drafted, right) = (drafts.len() as u32, right as u32);
            self.usage.drafted_tokens += drafted;
            self.usage.accepted_tokens += right;
            self.lookup.learn(drafted, right);
        }
        result
    }

    /// Draws the next token from its row of logits, and takes those that its grammar forces behind it; an error is the reason to end.
    fn draw(&mut self, logits: &[f32], taking: &mut Taking<'_>) -> Result<(), FinishReason> {
        let Work::Generate(generate) = &self.work else { return Ok(()) };
        let id = match &mut self.grammar {
            None => taking.sampler.sample(logits, &generate.sampling, &self.tokens, None).map_err(failed)?,
            Some(grammar) => {
                let mut allowed = grammar.allowed().map_err(failed)?.map(<[u32]>::to_vec);
                loop {
                    let id = taking.sampler.sample(logits, &generate.sampling, &self.tokens, allowed.as_deref()).map_err(failed)?;
                    if grammar.admits(id) {
                        break id;
                    }
                    // It completes the trigger and goes on in a way that the grammar does not.
                    let all = || vec![u32::MAX; logits.len().div_ceil(32)];
                    allowed.get_or_insert_with(all)[id as usize / 32] &= !(1 << (id % 32));
                }
            }
        };
        if generate.logits {
            let position = self.len() - 1;
            taking.events.push(Event::Logits { sequence: self.id, position, values: logits.to_vec() });
        }
        self.usage.generated_tokens += 1;
        if !generate.ignore_eos && taking.end_of_generation.contains(&id) {
            return Err(FinishReason::EndOfGeneration(id));
        }
        let logprobs = generate.logprobs.map(|top| taking.sampler.logprobs(logits, id, top));
        let wants_rows = generate.logits || logprobs.is_some();
        self.append(id, logprobs, taking)?;
        if wants_rows {
            return Ok(());
        }
        let forced = self.grammar.as_mut().map_or(Vec::new(), Governed::forced);
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
        if self.len() >= taking.context {
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
