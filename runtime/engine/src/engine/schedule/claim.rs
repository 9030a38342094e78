//! Who gets how many rows of a step, and the pages for them.

use super::{Schedule, Span, let_go, shared};
use crate::kv::PAGE_LEN;
use crate::model::plan::PlanKind;
use crate::sequence::{MOST_DRAFTS, Phase, Sequence, SequenceId};

impl Schedule {
    /// Shares the budget out and finds pages for it.
    pub(super) fn claim(&mut self, kind: PlanKind) -> Vec<Span> {
        let few = self.sequences.values().filter(|s| s.phase == Phase::Decoding).count() <= MOST_DRAFTS as usize;
        let of_kind = self.sequences.values().filter(|s| s.plan_kind() == kind && s.is_ready(self.limits.context, few));
        let mut ids: Vec<_> = of_kind.map(|s| (self.order(s), s.id, s.phase == Phase::Decoding, s.is_running())).collect();
        ids.sort_unstable();
        let decoding = ids.iter().filter(|(_, _, decoding, _)| *decoding).count() as u32;
        let mut prompts = ids.len() as u32 - decoding;
        let mut budget = self.limits.step_rows.saturating_sub(decoding);
        let mut outputs = match kind {
            PlanKind::Logits => self.limits.logits_rows.saturating_sub(decoding),
            PlanKind::States => u32::MAX,
        };
        // Rows for drafts: more rows than the kernels for few of them take would cost as much as they save.
        let mut spare = (MOST_DRAFTS + 1).saturating_sub(decoding);
        let (mut full, mut closed) = (false, false);
        let mut spans: Vec<Span> = Vec::new();
        for (_, id, decoding, was_running) in ids {
            if decoding {
                // Unless one before it has just taken its pages.
                if self.sequences[&id].is_running() {
                    // Prompts must move on beside drafts.
                    let room = if prompts > 0 { budget / 2 } else { budget };
                    let span = self.claim_decoding(id, spare.min(room).min(outputs));
                    let drafts = span.as_ref().map_or(0, |span| span.positions.len() as u32 - 1);
                    (spare, budget, outputs) = (spare - drafts, budget - drafts, outputs.saturating_sub(drafts));
                    spans.extend(span);
                }
                continue;
            }
            prompts -= 1;
            full = full || budget == 0 || outputs == 0;
            if was_running && !self.sequences[&id].is_running() {
                // One before it has just taken its pages. It may have risen, but those before it have their rows now.
                continue;
            }
            if !self.sequences[&id].is_running() {
                // Who follows another's prefix gains by waiting for it, and others go before it. Otherwise nobody overtakes in the queue.
                closed = closed || full || !self.follows(id) && !self.admit(id);
            }
            if full || !self.sequences[&id].is_running() {
                continue;
            }
            let sequence = &self.sequences[&id];
            let remaining = sequence.len() - sequence.computed;
            let (most, least) = if self.limits.encoder {
                // Every position sees every other, so all go together, alone where they pass the budget.
                full = remaining > budget && !spans.is_empty();
                if full {
                    continue;
                }
                (remaining, remaining)
            } else {
                // A long prompt leaves half of what there is to those behind it.
                let share = if prompts > 0 { budget.div_ceil(2) } else { budget };
                (sequence.rows_within(share.min(remaining), outputs), 1)
            };
            if let Some(span) = self.claim_rows(id, most, least) {
                budget = budget.saturating_sub(span.positions.len() as u32);
                outputs = outputs.saturating_sub(span.outputs.len() as u32);
                spans.push(span);
            }
        }
        // What those behind did not need goes back to the oldest.
        for span in &mut spans {
            let sequence = &self.sequences[&span.sequence];
            let rows = span.positions.len() as u32;
            let most = (sequence.len() - span.positions.start).min(rows + budget);
            let most = sequence.rows_within(most, outputs.saturating_add(span.outputs.len() as u32));
            if most > rows
                && let Some(longer) = self.claim_rows(span.sequence, most, rows)
            {
                budget -= longer.positions.len() as u32 - rows;
                outputs -= (longer.outputs.len() - span.outputs.len()) as u32;
                *span = longer;
            }
        }
        spans
    }

    /// Lets a waiting sequence run if there are a slot and pages for all it has so far, or if those have them that give way to it. True if it runs then.
    fn admit(&mut self, id: SequenceId) -> bool {
        let lane = self.lane(&self.sequences[&id]);
        let (length, step) = (self.sequences[&id].len(), self.limits.step_rows);
        // Nobody loses what it has done if that makes no room.
        let mut running: Vec<&Sequence> = self.sequences.values().filter(|s| s.is_running()).collect();
        running.sort_unstable_by_key(|s| self.order(s));
        let behind = running.iter().rev().take_while(|s| self.gives_way(s, &self.sequences[&id])).count();
        let (ahead, behind) = running.split_at(running.len() - behind);
        if !self.cache.has_room(length, step, ahead.iter().map(|s| (&s.tables, s.len())), behind.iter().map(|s| &s.tables)) {
            return false;
        }
        let slot = loop {
            let running = self.sequences.values().filter(|s| s.is_running()).map(|s| (&s.tables, s.len()));
            let room = self.cache.has_room(length, step, running, std::iter::empty());
            if let Some(slot) = self.free_slots.pop_if(|_| room) {
                break slot;
            }
            let last = self.last_running().filter(|last| self.gives_way(&self.sequences[last], &self.sequences[&id]));
            let Some(last) = last else { return false };
            self.preempt(last);
        };
        if let Some(sequence) = self.sequences.get_mut(&id) {
            let skippable = sequence.skippable();
            let known = shared(&self.limits, &sequence.sharing, sequence.adapter, &sequence.tokens, sequence.prompt_len)
                .map_or(0, |prefix| self.cache.attach(&mut sequence.tables, &prefix, skippable));
            sequence.admit(slot, known, lane);
        }
        true
    }

    /// Whether a waiting sequence's text begins with pages that one before it, which runs, is about to compute.
    fn follows(&self, id: SequenceId) -> bool {
        let sequence = &self.sequences[&id];
        let Some(prefix) = shared(&self.limits, &sequence.sharing, sequence.adapter, &sequence.tokens, sequence.prompt_len)
            .filter(|_| !sequence.is_running())
        else {
            return false;
        };
        let skippable = sequence.skippable();
        let known = self.cache.known(&prefix, skippable);
        let order = self.order(sequence);
        self.sequences.values().filter(|other| other.phase == Phase::Prefilling && self.order(other) < order).any(|other| {
            let Some(theirs) = shared(&self.limits, &other.sharing, other.adapter, &other.tokens, other.prompt_len)
                .filter(|theirs| (theirs.namespace, theirs.adapter) == (prefix.namespace, prefix.adapter))
            else {
                return false;
            };
            let alike = prefix.tokens.iter().zip(theirs.tokens).take_while(|(a, b)| a == b).count() as u32;
            // Positions of both classes are alike only within both prompts.
            let alike = alike.min(prefix.generated_from).min(theirs.generated_from).min(skippable) / PAGE_LEN as u32 * PAGE_LEN as u32;
            alike > known && other.computed < alike
        })
    }

    /// The row of a decoding sequence, and rows for up to `most` drafts behind it.
    fn claim_decoding(&mut self, id: SequenceId, most: u32) -> Option<Span> {
        let drafts = self.sequences.get_mut(&id)?.draft(most, self.limits.context);
        let span = self.claim_rows(id, 1 + drafts, 1)?;
        self.sequences.get_mut(&id)?.keep_drafts(span.positions.len() as u32 - 1);
        Some(span)
    }

    /// Between `least` and `most` of a running sequence's next rows, as many as there are pages for, taken from sequences behind it where they must be.
    fn claim_rows(&mut self, id: SequenceId, most: u32, least: u32) -> Option<Span> {
        loop {
            let sequence = self.sequences.get_mut(&id)?;
            let start = sequence.computed;
            let rows = self.cache.extend(&mut sequence.tables, start, most);
            if rows >= least {
                let wanted = (start..start + rows).filter(|&p| sequence.wants_output(p));
                return Some(Span {
                    sequence: id,
                    attempt: sequence.attempt,
                    positions: start..start + rows,
                    first_output: wanted.clone().next().unwrap_or(start),
                    outputs: 0..wanted.count(),
                    draws: 0..0,
                    values: 0..0,
                });
            }
            let order = self.order(&self.sequences[&id]);
            let last = self.last_running().filter(|last| self.order(&self.sequences[last]) > order)?;
            self.preempt(last);
        }
    }

    /// The last sequence that runs.
    fn last_running(&self) -> Option<SequenceId> {
        self.sequences.values().filter(|s| s.is_running()).max_by_key(|s| self.order(s)).map(|s| s.id)
    }

    /// Takes a sequence's pages.
    fn preempt(&mut self, id: SequenceId) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            let_go(&mut self.cache, &mut self.free_slots, sequence);
            sequence.preempt(self.now);
        }
    }
}
