//! What a sequence makes of the outputs of a step: tokens, text, logits, an embedding, and its end.

use super::{Found, Phase, Sequence, Taking};
use crate::backend::Drawn;
use crate::engine::{Embed, Event, FinishReason, Pooling, Work};
use crate::error::Error;
use crate::grammar::{Governed, Progress};
use crate::sampling::{Logprobs, Sampler};

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
            &Work::Logprobs { top } => {
                if let Some(reason) = not_finite(found.values, first, taking.width) {
                    self.drain(reason, taking.events);
                    return true;
                }
                // Made here, row by row: the logits themselves are many times larger, and nobody is sent them.
                let next = self.tokens.get(first as usize + 1..).unwrap_or_default();
                let rows = found.values.chunks_exact(taking.width).zip(next);
                let list: Vec<Logprobs> = rows.map(|(row, &id)| taking.sampler.logprobs(row, id, top)).collect();
                if !list.is_empty() {
                    taking.events.push(Event::Logprobs { sequence: self.id, position: first + 1, list });
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
