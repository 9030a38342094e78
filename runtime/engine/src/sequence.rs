//! One request's life: its tokens, its phase, and what its outputs become.
//!
//! `Waiting → Prefilling → Decoding → Draining → Done`, and `Preempted` when an older sequence needed the pages. A sequence is done when it is
//! no longer there: its last event says why.

mod lookup;
mod stop;
mod take;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use lookup::MOST as MOST_DRAFTS;
pub use stop::StopStrings;

use lookup::Lookup;

use crate::backend::{AdapterId, Drawn};
use crate::batch::{Class, Draw, RowToken, Slot};
use crate::engine::{Embed, Event, FinishReason, Pooling, Priority, Request, Sharing, Speculation, Usage, Work};
use crate::grammar::Governed;
use crate::kv::{BlockTables, KvCache};
use crate::model::plan::PlanKind;
use crate::sampling::{Sampler, Sampling};
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
    /// Since when it waits, if it does: since then, or since its pages were taken.
    pub(crate) waits_since: Option<Duration>,
    /// The lane it runs in: the one it had risen to when it was admitted. Its own before that.
    pub(crate) rank: u8,
    /// How many of its owner's of the same lane go before it.
    pub(crate) round: u32,
    /// Tokens it may generate in all before it is paused.
    pub(crate) allowance: u32,
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
            round: 0,
            priority: request.priority,
            adapter: request.adapter,
            submitted: None,
            waits_since: None,
            allowance: u32::MAX,
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

    /// Whether it has generated all it was allowed for now, counting draws that were issued. A first token is always allowed: no prompt is computed for
    /// nothing.
    pub(crate) fn is_paused(&self) -> bool {
        self.generates() && !matches!(self.phase, Phase::Draining(_)) && self.usage.generated_tokens + self.pending >= self.allowance.max(1)
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
        if self.is_paused() {
            return false;
        }
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
            Work::Generate(_) | Work::Logits | Work::Logprobs { .. } => PlanKind::Logits,
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
            Work::Logits | Work::Logprobs { .. } | Work::Embed(Embed { pooling: Some(Pooling::Mean), .. }) => position >= self.taken,
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
            let allowed = self.allowance.saturating_sub(self.usage.generated_tokens);
            let most = most.min(self.remaining(context).min(allowed).saturating_sub(1));
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

    /// Its pages were taken, now.
    pub(crate) fn preempt(&mut self, now: Option<Duration>) {
        self.waits_since = now;
        self.usage.preemptions += 1;
        self.lost = std::mem::take(&mut self.computed).min(self.known());
        self.attempt += 1;
        self.pending = 0;
        self.drafts.clear();
        self.drafting = false;
        self.read_since = false;
        self.phase = Phase::Preempted;
    }
}
