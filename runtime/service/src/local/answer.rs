//! An ask under way: what the engine says of its sequences becomes neutral events.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use firecrest_contract::ask::Ask;
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Event, Finish, TokenLogprob, TokenText, Usage};
use firecrest_engine::engine::{self, FinishReason, Logprobs, Request};
use firecrest_engine::text::{TextStream, Tokenizer};
use firecrest_engine::{Error, ErrorCode};
use futures_util::{Stream, StreamExt};

use super::Held;
use super::budget::Budget;
use super::decode::Decoder;
use super::driver::{Running, Submitted, Told};
use super::usage::prompt_usage;
use crate::backend::{Allowance, busy};
use crate::prompt::Breakpoint;
use crate::tools::{Ending, Parser};

/// Tokens that a sequence may be ahead of whoever reads it. So a reader that is slow, or stops, holds the sequence back, and little is kept for it.
pub(super) const AHEAD: u32 = 64;

/// A prompt of the ask.
pub(super) struct Asked {
    pub(super) tokens: u32,
    pub(super) breakpoints: Vec<Breakpoint>,
    /// Of its tokens, once one of its answers was begun.
    pub(super) usage: Option<Usage>,
}

/// One answer.
pub(super) struct Choice {
    pub(super) prompt: usize,
    /// While it lasts.
    pub(super) running: Option<Running>,
    /// It begins when others of its ask have ended.
    pub(super) waiting: Option<Box<Request>>,
    /// Its prompt is told by the first answer to it, behind which this one begins.
    pub(super) follows: bool,
    /// Its sequence was ended to end its thoughts, and the next is about to go on behind them.
    pub(super) resuming: Option<Resuming>,
    /// Its prompt, if it begins with it and that is not said yet.
    pub(super) echo: Option<Echo>,
    /// Of its thoughts.
    pub(super) budget: Option<Budget>,
    pub(super) decoder: Decoder,
    pub(super) parser: Option<Parser>,
    /// Tokens it was allowed so far, and that came.
    pub(super) allowed: u32,
    pub(super) used: u32,
    /// Of those that came, the ones up to the last that said something.
    pub(super) told: u32,
    /// Of those that came, the ones of sequences before this one.
    pub(super) before: u32,
    /// Tokens that it may have: `max_tokens`, or what its context has room for.
    pub(super) most: u32,
    /// Why it ends where it has so many.
    pub(super) full: Finish,
}

/// A prompt that is said before its answer.
pub(super) struct Echo {
    pub(super) text: String,
    /// How probable its tokens were, if that is asked for: then the choice's first sequence tells it, and this request follows.
    pub(super) probable: Option<Box<Probable>>,
}

/// The tokens of a prompt, as they are told.
pub(super) struct Probable {
    pub(super) ids: Vec<u32>,
    /// How many of the first are not written in its text.
    pub(super) unwritten: usize,
    pub(super) stream: TextStream,
    /// The answer. `None`: nothing but the prompt is wanted.
    pub(super) request: Option<Request>,
}

/// A request on its way to the engine.
pub(super) type Resuming = Pin<Box<dyn Future<Output = Result<Submitted, Error>>>>;

impl Choice {
    /// Whether more may come of it.
    fn goes_on(&self) -> bool {
        self.is_begun() || self.waiting.is_some() || self.follows
    }

    /// Whether it is in the engine, or on its way there.
    fn is_begun(&self) -> bool {
        self.running.is_some() || self.resuming.is_some()
    }

    fn stop(&mut self) {
        (self.running, self.resuming, self.waiting) = (None, None, None);
    }
}

/// All answers to an ask. Dropping it cancels those under way.
pub(super) struct Answer {
    /// Its places in the engine's queue: no more of its answers are there at once.
    pub(super) held: Held,
    pub(super) ask: Arc<Ask>,
    pub(super) submit: Rc<dyn Fn(Request, u32) -> Resuming>,
    pub(super) tokenizer: Tokenizer,
    pub(super) output: Allowance,
    pub(super) prompts: Vec<Asked>,
    pub(super) choices: Vec<Choice>,
    pub(super) queue: VecDeque<Event>,
    pub(super) started: bool,
    pub(super) thinking: u64,
    pub(super) ended: bool,
}

impl Stream for Answer {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.queue.pop_front() {
                return Poll::Ready(Some(event));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let mut moved = this.begin_more();
            for at in 0..this.choices.len() {
                let resumed =
                    this.choices.get_mut(at).and_then(|choice| choice.resuming.as_mut()).map(|resuming| resuming.as_mut().poll(context));
                if let Some(Poll::Ready(submitted)) = resumed {
                    moved = true;
                    this.resumed(at, submitted);
                    if this.ended {
                        break;
                    }
                }
                let Some(running) = this.choices.get_mut(at).and_then(|choice| choice.running.as_mut()) else { continue };
                match running.poll_next_unpin(context) {
                    Poll::Pending => {}
                    Poll::Ready(told) => {
                        moved = true;
                        this.take(at, told);
                        if this.ended {
                            break;
                        }
                    }
                }
            }
            if !this.ended && !this.choices.iter().any(Choice::goes_on) {
                this.end();
                moved = true;
            }
            if !moved {
                // Who is out of tokens waits to be granted more, or ends.
                let seen = this.output.granted();
                if !this.share_out() {
                    return Poll::Pending;
                }
                if this.output.poll_more(seen, context).is_pending() {
                    return Poll::Pending;
                }
                if this.output.is_closed() && !this.end_starved() {
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Answer {
    /// Begins choices that wait, as others end. Whether there was one.
    fn begin_more(&mut self) -> bool {
        let begun = self.choices.iter().filter(|choice| choice.is_begun()).count() as u32;
        let waiting = self.choices.iter().filter(|choice| choice.waiting.is_some()).count() as u32;
        if waiting == 0 {
            if !self.choices.iter().any(|choice| choice.follows) {
                self.held.keep(begun);
            }
            return false;
        }
        let places = self.held.count.saturating_sub(begun).min(waiting);
        if places == 0 {
            return false;
        }
        let mut free = self.output.granted().saturating_sub(self.spent());
        let mut left = places;
        for choice in self.choices.iter_mut().filter(|choice| choice.waiting.is_some()).take(places as usize) {
            let Some(request) = choice.waiting.take() else { continue };
            let allowed = free.div_ceil(left.max(1).into()).min(AHEAD.min(choice.most).into()).min(free);
            (free, left) = (free - allowed, left - 1);
            choice.allowed = allowed as u32;
            choice.resuming = Some((self.submit)(*request, choice.allowed));
        }
        true
    }

    /// Tokens that choices were allowed, or used if they have ended.
    fn spent(&self) -> u64 {
        self.choices.iter().map(|choice| u64::from(if choice.is_begun() { choice.allowed } else { choice.used })).sum()
    }

    /// What was told of a choice.
    fn take(&mut self, at: usize, told: Option<Told>) {
        match told {
            Some(Told::Started(usage)) => self.start(at, usage),
            Some(Told::Event(event)) => self.take_event(at, event),
            Some(Told::Lost(why)) => self.fault(ApiError::new(ErrorKind::Api, format!("the model stopped: {why}")).should_retry(true)),
            None => self.fault(ApiError::new(ErrorKind::Api, "the model stopped: its engine is gone").should_retry(true)),
        }
    }

    fn take_event(&mut self, at: usize, event: engine::Event) {
        match event {
            engine::Event::Token { id, logprobs, .. } => self.token(at, id, logprobs),
            engine::Event::Logprobs { position, list, .. } => self.prompt_tokens(at, position as usize, list),
            engine::Event::Done { reason: FinishReason::Complete, .. }
                if self.choices.get(at).is_some_and(|choice| choice.echo.is_some()) =>
            {
                self.end_echo(at);
            }
            engine::Event::Done { reason, usage, .. } => {
                if let Some(choice) = self.choices.get_mut(at) {
                    choice.used = choice.used.max(choice.before.saturating_add(usage.generated_tokens));
                    choice.stop();
                }
                self.account();
                self.done(at, reason);
            }
            // The raw text is made of tokens; nothing else was asked for.
            _ => {}
        }
    }

    fn start(&mut self, at: usize, usage: engine::Usage) {
        if let Some(prompt) = self.choices.get(at).map(|choice| choice.prompt).and_then(|prompt| self.prompts.get_mut(prompt))
            && prompt.usage.is_none()
        {
            prompt.usage = Some(prompt_usage(prompt.tokens, usage.cached_tokens, &prompt.breakpoints));
        }
        if !std::mem::replace(&mut self.started, true) {
            let usage = self.usage();
            self.queue.push_back(Event::Start { usage });
        }
        let Some(choice) = self.choices.get_mut(at) else { return };
        match &choice.echo {
            Some(echo) if echo.probable.is_some() => self.prompt_tokens(at, 0, Vec::new()),
            Some(_) => {
                let text = choice.echo.take().map(|echo| echo.text).unwrap_or_default();
                let mut events = Vec::new();
                if let Some(parser) = &mut choice.parser {
                    parser.echo(&text, &mut events);
                }
                self.queue.extend(events);
            }
            None => {}
        }
    }

    /// How probable the tokens of a prompt from a position on were; at position 0, which nothing is known of, the first alone. All answers to it begin
    /// with them.
    fn prompt_tokens(&mut self, at: usize, position: usize, list: Vec<Logprobs>) {
        let mut events = Vec::new();
        let Some(prompt) = self.choices.get(at).map(|choice| choice.prompt) else { return };
        let first = (position == 0).then_some(None);
        let told: Vec<Option<Logprobs>> = first.into_iter().chain(list.into_iter().map(Some)).collect();
        for choice in self.choices.iter_mut().filter(|choice| choice.prompt == prompt) {
            let (Some(probable), Some(parser)) = (choice.echo.as_mut().and_then(|echo| echo.probable.as_mut()), &mut choice.parser) else {
                continue;
            };
            for (index, logprobs) in told.iter().enumerate() {
                let (Some(&id), written) = (probable.ids.get(position + index), position + index >= probable.unwritten) else { break };
                let token = |id| TokenText(self.tokenizer.token_bytes(id).unwrap_or_default().to_vec());
                // What a vocabulary puts before every text is not the caller's, and stands nowhere in the answer.
                if !written {
                    continue;
                }
                let text = probable.stream.push(id);
                // Nothing comes before the first: it has no probability.
                let (logprob, top) = logprobs.as_ref().map_or((f32::NAN, &[][..]), |l| (l.chosen, &l.top[..]));
                let top = top.iter().map(|&(id, logprob)| (token(id), logprob)).collect();
                parser.expect(text.len(), TokenLogprob { token: token(id), logprob, top });
                parser.echo(&text, &mut events);
            }
        }
        self.queue.extend(events);
    }

    /// All tokens of a prompt are told: the answers to it follow, the first at once and the others as there are places.
    fn end_echo(&mut self, at: usize) {
        let (mut events, mut over) = (Vec::new(), Vec::new());
        let Some(prompt) = self.choices.get(at).map(|choice| choice.prompt) else { return };
        for (of, choice) in self.choices.iter_mut().enumerate().filter(|(_, choice)| choice.prompt == prompt) {
            let Some(mut probable) = choice.echo.take().and_then(|echo| echo.probable) else { continue };
            if let Some(parser) = &mut choice.parser {
                parser.echo(&probable.stream.finish(), &mut events);
            }
            choice.running = None;
            (choice.allowed, choice.before) = (choice.used, choice.used);
            match (probable.request.take(), std::mem::take(&mut choice.follows)) {
                (Some(request), true) => choice.waiting = Some(Box::new(request)),
                (Some(request), false) => choice.resuming = Some((self.submit)(request, 0)),
                (None, _) => over.push(of),
            }
        }
        self.queue.extend(events);
        over.into_iter().for_each(|of| self.finish(of, Ending::Cut(Finish::MaxTokens)));
    }

    fn token(&mut self, at: usize, id: u32, logprobs: Option<Logprobs>) {
        let mut events = Vec::new();
        let Some(choice) = self.choices.get_mut(at) else { return };
        choice.used += 1;
        let Some(parser) = &mut choice.parser else { return };
        self.thinking += u64::from(parser.is_thinking());
        if let Some(text) = choice.decoder.push(id) {
            if let Some(logprobs) = logprobs {
                let token = |id| TokenText(self.tokenizer.token_bytes(id).unwrap_or_default().to_vec());
                let top = logprobs.top.iter().map(|&(id, logprob)| (token(id), logprob)).collect();
                parser.expect(text.len(), TokenLogprob { token: token(id), logprob: logprobs.chosen, top });
            }
            parser.push(&text, &mut events);
        }
        let enough = choice.budget.as_mut().is_some_and(|budget| budget.spend(id, parser.is_thinking()));
        // The one call that may be is whole, or a stop text is: whatever else would come is not wanted.
        let finished = parser.is_finished();
        if !events.is_empty() {
            choice.told = choice.used;
        }
        self.queue.extend(events);
        if finished {
            self.finish(at, Ending::Complete);
        } else if enough {
            self.end_thoughts(at);
        }
        self.account();
    }

    /// A choice has thought enough: its sequence ends, its thoughts are ended for it, and another sequence goes on from there.
    fn end_thoughts(&mut self, at: usize) {
        let mut events = Vec::new();
        let Some(choice) = self.choices.get_mut(at) else { return };
        let (Some(budget), Some(parser)) = (choice.budget.take(), &mut choice.parser) else { return };
        choice.running = None;
        let (close, request) = budget.end(choice.most);
        for id in close {
            choice.used += 1;
            self.thinking += u64::from(parser.is_thinking());
            let Some(text) = choice.decoder.push(id) else { continue };
            if self.ask.logprobs.is_some() {
                // Nothing else could have come.
                let token = TokenText(self.tokenizer.token_bytes(id).unwrap_or_default().to_vec());
                parser.expect(text.len(), TokenLogprob { token, logprob: 0.0, top: Vec::new() });
            }
            parser.push(&text, &mut events);
        }
        self.queue.extend(events);
        // What it was allowed beyond that is shared out anew.
        (choice.allowed, choice.before) = (choice.used, choice.used);
        match request {
            Some(request) => choice.resuming = Some((self.submit)(request, 0)),
            None => {
                let full = choice.full.clone();
                self.finish(at, Ending::Cut(full));
            }
        }
    }

    fn resumed(&mut self, at: usize, submitted: Result<Submitted, Error>) {
        let Some(choice) = self.choices.get_mut(at) else { return };
        choice.resuming = None;
        match submitted {
            Ok(Submitted::Running(running)) => choice.running = Some(running),
            Ok(Submitted::Busy { retry_after }) => self.fault(busy(retry_after)),
            Err(error) => self.fault(super::failed(&error)),
        }
    }

    fn done(&mut self, at: usize, reason: FinishReason) {
        let ending = match reason {
            FinishReason::EndOfGeneration(_) | FinishReason::GrammarComplete | FinishReason::Complete => Ending::Complete,
            FinishReason::MaxTokens => Ending::Cut(Finish::MaxTokens),
            FinishReason::ContextFull => Ending::Cut(Finish::ContextFull),
            FinishReason::StopString(_) => {
                return self.fault(ApiError::new(ErrorKind::Api, "the model stopped at a text that it was not told of"));
            }
            FinishReason::Cancelled => return self.fault(ApiError::new(ErrorKind::Api, "the answer was cancelled")),
            FinishReason::DeadlinePassed => {
                return self
                    .fault(ApiError::new(ErrorKind::Timeout, "the answer took longer than it may; ask for less, or try again later"));
            }
            FinishReason::Failed { code, message } => {
                let kind = match code {
                    ErrorCode::Request => ErrorKind::InvalidRequest,
                    ErrorCode::Memory => ErrorKind::Overloaded,
                    _ => ErrorKind::Api,
                };
                return self.fault(ApiError::new(kind, message));
            }
        };
        self.finish(at, ending);
    }

    /// The last of a choice.
    fn finish(&mut self, at: usize, ending: Ending) {
        let mut events = Vec::new();
        if let Some(choice) = self.choices.get_mut(at) {
            choice.stop();
            if let Some(mut parser) = choice.parser.take() {
                parser.push(&choice.decoder.finish(), &mut events);
                parser.finish(ending, &mut events);
            }
            choice.told = choice.used;
        }
        self.queue.extend(events);
    }

    /// Everything is over, with or without a last word for the caller.
    fn end(&mut self) {
        self.ended = true;
        self.held.keep(0);
        let usage = self.usage();
        self.queue.push_back(Event::End { usage });
    }

    fn fault(&mut self, error: ApiError) {
        self.ended = true;
        self.choices.iter_mut().for_each(Choice::stop);
        self.held.keep(0);
        self.queue.push_back(Event::Fault(error));
    }

    fn account(&self) {
        let sum = |of: fn(&Choice) -> u32| self.choices.iter().map(|choice| u64::from(of(choice))).sum();
        self.output.use_and_tell(sum(|choice| choice.used), sum(|choice| choice.told));
    }

    fn usage(&self) -> Usage {
        let mut usage = Usage { thinking: self.thinking, ..Usage::default() };
        for prompt in &self.prompts {
            let of = prompt.usage.unwrap_or(Usage { input: prompt.tokens.into(), ..Usage::default() });
            usage.input += of.input;
            usage.cache_read += of.cache_read;
            usage.cache_write_5m += of.cache_write_5m;
            usage.cache_write_1h += of.cache_write_1h;
        }
        usage.output = self.choices.iter().map(|choice| u64::from(choice.used)).sum();
        usage
    }

    /// Allows choices more tokens where they are close to what they were allowed: no more than were granted, over all. Whether one is left with none.
    fn share_out(&mut self) -> bool {
        let mut free = self.output.granted().saturating_sub(self.spent());
        // Who may have all it will ever need waits for nothing.
        let needy = |choice: &Choice| {
            choice.running.is_some() && choice.allowed < choice.most && choice.allowed.saturating_sub(choice.used) < AHEAD / 2
        };
        let mut count = self.choices.iter().filter(|choice| needy(choice)).count() as u64;
        let mut starved = false;
        for choice in self.choices.iter_mut().filter(|choice| needy(choice)) {
            // Not more than it may have: others could use that.
            let wants = choice.used.saturating_add(AHEAD).min(choice.most).saturating_sub(choice.allowed);
            // Nobody takes what others need as much.
            let more = u64::from(wants).min(free.div_ceil(count.max(1))).min(free);
            (free, count) = (free - more, count.saturating_sub(1));
            choice.allowed = choice.allowed.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
            match &choice.running {
                Some(running) if more > 0 => running.allow(choice.allowed - choice.before),
                _ => {}
            }
            starved |= choice.used >= choice.allowed.max(1);
        }
        starved
    }

    /// Ends choices that used up what will ever be granted. Whether there was one.
    fn end_starved(&mut self) -> bool {
        let starved: Vec<usize> = (0..self.choices.len())
            .filter(|&at| {
                let starves =
                    |choice: &Choice| choice.running.is_some() && choice.allowed < choice.most && choice.used >= choice.allowed.max(1);
                self.choices.get(at).is_some_and(starves)
            })
            .collect();
        for &at in &starved {
            self.finish(at, Ending::Cut(Finish::MaxTokens));
        }
        !starved.is_empty()
    }
}
