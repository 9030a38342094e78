//! Asks that a model answers: price, lease, start, and the body from the first event on.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use firecrest_contract::ask::{Ask, Beyond, Dialect, Thinking, ToolChoice};
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Event, Finish};
use firecrest_contract::{messages, openai};
use firecrest_policy::lanes::Place;
use firecrest_policy::limits::Price;
use firecrest_policy::safety::gate::{Begun, Gate, GateOptions, Judged, Unjudged};
use firecrest_policy::safety::judge::{PromptText, judge_input};
use futures_util::future::{Either, select};
use futures_util::{FutureExt, stream};
use http::StatusCode;

use super::threads::resumed;
use super::{Exchange, Outcomes, Service, names_betas, response, text};
use crate::answer::Answer;
use crate::backend::{Backend, Events, Grant, Owner, StartError, busy};
use crate::body::Body;
use crate::encode::{self, Encoder, Head};
use crate::host::{Host, Principal};
use crate::lease::Lease;
use crate::length::ask_bytes;
use crate::threads::{Asked, Keeper};
use crate::turns::Turn;

/// A body of the Messages API, read.
enum Read {
    Whole(Box<Ask>),
    /// What is new in a conversation that is kept here.
    OfThread(Box<messages::MessageCreateParams>, messages::ThreadParam),
}

/// Which encoder an answer needs, once its head is known, and what raw prompts say.
type Encode = Box<dyn FnOnce(Head, &Ask, &[PromptText]) -> Encoder>;

impl<H: Host> Service<H> {
    pub(super) async fn messages(&self, exchange: &mut Exchange<H>, principal: &Rc<Principal>, body: &Bytes) -> Outcomes {
        let Dialect::Messages(version) = exchange.dialect else { return Err(exchange.no_version()) };
        let options = messages::Options { relaxed: self.options.relaxed };
        let read = self.read(exchange, body, move |mut params: messages::MessageCreateParams| {
            let (beta, diagnosed) = (names_betas(params.betas.as_deref()), params.diagnostics.clone());
            let asked = match params.thread.take() {
                None => Read::Whole(Box::new(messages::into_ask(params, version, options)?)),
                Some(thread) => Read::OfThread(Box::new(params), thread),
            };
            Ok((beta, diagnosed, asked))
        });
        let (beta, diagnosed, asked) = read.await?;
        exchange.beta |= beta;
        let (ask, keeper) = match asked {
            Read::Whole(ask) => (*ask, None),
            Read::OfThread(params, thread) => {
                let lower = move |params| messages::into_ask(params, version, options);
                let (ask, keeper) = self.thread(exchange, principal, (*params, thread), lower).await?;
                (ask, Some(keeper))
            }
        };
        let (ask, diagnostics, keeper) = match diagnosed {
            None => (ask, None, keeper),
            Some(asked) => {
                let (ask, found, keeper) = self.diagnose(exchange, principal, &asked, ask, keeper).await?;
                (ask, found, Some(keeper))
            }
        };
        let (beta, id) = (exchange.beta, exchange.ledger.id().to_string());
        let encode = move |head, ask: &Ask, _: &[PromptText]| {
            let hidden_thinking = matches!(ask.thinking, Thinking::Adaptive { hidden: true } | Thinking::Budget { hidden: true, .. });
            let shape = encode::messages::Shape { beta, hidden_thinking, diagnostics, request_id: Some(id) };
            Encoder::messages(ask.stream, head, shape)
        };
        self.generate(exchange, principal, ask, Box::new(encode), keeper).await
    }

    pub(super) async fn chat(&self, exchange: &mut Exchange<H>, principal: &Rc<Principal>, body: &Bytes) -> Outcomes {
        let read = self.read(exchange, body, |params: openai::chat::Request| Ok((params.include_usage(), params.into_ask()?)));
        let (usage, ask) = read.await?;
        let encode = move |head, ask: &Ask, _: &[PromptText]| {
            let calls = !ask.tools.is_empty() && ask.tool_choice != ToolChoice::None;
            Encoder::chat(ask.stream, head, encode::chat::Shape { choices: ask.choices, include_usage: usage, calls })
        };
        self.generate(exchange, principal, ask, Box::new(encode), None).await
    }

    pub(super) async fn completions(&self, exchange: &mut Exchange<H>, principal: &Rc<Principal>, body: &Bytes) -> Outcomes {
        let read = self.read(exchange, body, |params: openai::completions::Request| Ok((params.include_usage(), params.into_ask()?)));
        let (usage, ask) = read.await?;
        let encode = move |head, ask: &Ask, prompts: &[PromptText]| {
            Encoder::completions(ask.stream, head, encode::completions::Shape::of(ask, prompts, usage))
        };
        self.generate(exchange, principal, ask, Box::new(encode), None).await
    }

    pub(super) async fn responses(&self, exchange: &mut Exchange<H>, principal: &Rc<Principal>, body: &Bytes) -> Outcomes {
        let read = self.read(exchange, body, |params: openai::responses::Request| {
            if params.previous_response_id.is_some() || params.references().next().is_some() {
                return Ok(Either::Right(Box::new(params)));
            }
            Ok(Either::Left(Box::new(resumed(params, None, &[])?)))
        });
        let (before, asked) = match read.await? {
            Either::Left(read) => (Asked::of(read.0), read.1),
            Either::Right(params) => self.go_on(exchange, principal, *params).await?,
        };
        let keeper = self.keeper(exchange, principal, &asked, before);
        let echo = asked.echo;
        let encode = move |head, ask: &Ask, _: &[PromptText]| Encoder::responses(ask.stream, head, encode::responses::Shape { echo });
        self.generate(exchange, principal, asked.ask, Box::new(encode), keeper).await
    }

    /// The model that is meant, and what serves it.
    pub(super) async fn backend(&self, name: &str) -> Result<(String, Rc<H::Backend>), ApiError> {
        let model = self.alias(name);
        Ok((model.to_owned(), self.host.open(model).await?))
    }

    /// Whether a backend can serve all that is asked, and what it takes. What was dropped is listed in a header.
    pub(super) async fn price(&self, exchange: &mut Exchange<H>, backend: &H::Backend, ask: &Arc<Ask>) -> Result<Price, ApiError> {
        backend.check(ask)?;
        let beyond: Vec<Beyond> = ask.beyond.iter().cloned().chain(backend.hints(ask)).collect();
        exchange.drop_hints(&beyond, self.options.lenient)?;
        backend.price(ask, &exchange.aside).await
    }

    /// Answers an ask.
    async fn generate(
        &self,
        exchange: &mut Exchange<H>,
        principal: &Rc<Principal>,
        ask: Ask,
        encode: Encode,
        keeper: Option<Keeper>,
    ) -> Outcomes {
        let (model, backend) = self.backend(&ask.model).await?;
        let place = self.options.lanes.place(principal.class, ask.tier);
        exchange.ledger.runs(&model, place.lane.index());
        exchange.headers.insert("firecrest-model", text(&model));
        let head =
            Head { id: exchange.ledger.id().to_string(), model: ask.model.clone(), created: self.host.wall() / 1000, tier: place.tier };
        let ask = Arc::new(ask);
        let answers = ask.answers();
        let gate =
            Gate::new(Arc::clone(&self.options.safety), GateOptions { whole_blocks: principal.whole_blocks, ..GateOptions::of(&ask) });
        backend.check(&ask)?;
        let prompts = backend.spelled(&ask, &exchange.aside).await?;
        let encoder = encode(head, &ask, &prompts);
        let (verdict, begun) = {
            let (policy, ask) = (Arc::clone(&self.options.safety), Arc::clone(&ask));
            let bytes = ask_bytes(&ask);
            let work = move || (judge_input(&policy, &ask, &prompts, None), Begun::of(&policy, &ask, &prompts));
            exchange.aside.run(bytes, work).await?
        };
        let gate = gate.behind(begun);
        exchange.ledger.judged(verdict.decision.clone());
        if verdict.decision.blocks() {
            let refusal = Finish::Refusal(verdict.decision.into_refusal());
            return self.tell(Answer::refused(refusal, answers, gate, exchange.ledger.clone()).kept_by(keeper), encoder).await;
        }
        let since = self.host.monotonic();
        let price = self.price(exchange, &backend, &ask).await?;
        exchange.ledger.waited_since(since);
        let opened = Lease::open(&self.host, principal, price, u64::from(answers)).await.map_err(|denial| exchange.denied(denial))?;
        exchange.levels(&opened.levels);
        let mut lease = opened.lease;
        let turn = self.turn(&backend, &model, &principal.key, &place, answers)?;
        let limit = place.deadline.map_or(self.options.answer_limit, |own| self.options.answer_limit.min(Duration::from_millis(own)));
        let deadline = self.host.monotonic().saturating_add(limit);
        let grant = Grant {
            output: lease.allowance(),
            lane: place.lane.index(),
            owner: Owner::of(&principal.key),
            deadline: Some(deadline),
            patience: place.patience.map(Duration::from_millis),
            namespace: principal.namespace.clone(),
            pin_quota: principal.pin_quota,
            aside: exchange.aside.clone(),
        };
        lease.look_after(price, self.options.when_dry, u64::from(answers), deadline);
        lease.begins();
        let begun = {
            let (backend, ended) = (Rc::clone(&backend), self.host.ended(principal));
            async move {
                let mut ended = Box::pin(ended);
                match select(Box::pin(backend.start(ask, grant)), &mut ended).await {
                    Either::Left((begun, _)) => Ok(while_valid(begun?, ended, turn)),
                    Either::Right(_) => Err(StartError::Refused(no_longer_valid())),
                }
            }
        };
        let since = self.host.monotonic();
        // The headers of a stream wait for its first event, but not for ever: what fails later is told in the stream.
        let head_after = matches!(encoder, Encoder::Stream(_)).then_some(self.options.head_after);
        let patience = pin!(async {
            match head_after {
                Some(head_after) => self.host.sleep(head_after).await,
                None => std::future::pending().await,
            }
        });
        let events: Events = match select(Box::pin(begun), patience).await {
            Either::Left((begun, _)) => begun.map_err(|error| {
                lease.unused();
                start_error(error)
            })?,
            Either::Right((_, begun)) => Box::pin(begun.map(later).flatten_stream()),
        };
        exchange.ledger.waited_since(since);
        let answer = Answer::new(events, gate, Some(lease), exchange.ledger.clone(), Some(backend));
        self.tell(answer.kept_by(keeper), encoder).await
    }

    /// Takes places of a model's queue for so many answers of a key.
    ///
    /// # Errors
    /// There are too few for its lane, or the key holds its share of them.
    pub(super) fn turn(&self, backend: &H::Backend, model: &str, key: &Rc<str>, place: &Place, answers: u32) -> Result<Turn, ApiError> {
        let places = backend.places(answers);
        let turn = self.turns.take(model, key, places, self.host.monotonic());
        let Some(queue) = backend.queue() else { return Ok(turn) };
        // If there is a place for the last of its answers, there is one for all.
        let (lanes, others) = (&self.options.lanes, places.saturating_sub(1));
        let queue = queue.with(place.lane, others);
        let share = || match turn.before() {
            0 => None,
            own => lanes.share(place, &queue, own.saturating_add(others), turn.is_alone()).error(),
        };
        lanes.admit(place, &queue).error().or_else(share).map_or(Ok(turn), Err)
    }

    /// Makes the body, of the first event on if there is one by now.
    async fn tell(&self, mut answer: Answer<H>, encoder: Encoder) -> Outcomes {
        let encoder = match encoder {
            Encoder::Whole(encoder) => {
                let bytes = answer.whole(encoder).await?;
                return Ok(response(StatusCode::OK, "application/json", Body::whole(bytes)));
            }
            Encoder::Stream(encoder) => encoder,
        };
        let mut first = Vec::new();
        let _ = answer.next(&mut first).now_or_never();
        if let Some(Event::Fault(error)) = first.first().map(Judged::event) {
            return Err(error.clone());
        }
        let pieces = answer.stream(Rc::clone(&self.host), encoder, first, self.options.quiet);
        Ok(response(StatusCode::OK, "text/event-stream", Body::stream(pieces)))
    }
}

/// The events of an answer for as long as its caller's key holds. Its turn ends with them.
fn while_valid(mut events: Events, mut ended: Pin<Box<impl Future<Output = ()> + 'static>>, turn: Turn) -> Events {
    let mut over = false;
    Box::pin(stream::poll_fn(move |context| {
        let _ = &turn;
        if !over && ended.as_mut().poll(context).is_ready() {
            over = true;
            // The backend stops now, not when its caller has read the rest.
            events = Box::pin(stream::empty());
            return Poll::Ready(Some(Unjudged::new(Event::Fault(no_longer_valid()))));
        }
        events.as_mut().poll_next(context)
    }))
}

/// What a caller is told whose key ended while it was answered.
fn no_longer_valid() -> ApiError {
    ApiError::new(ErrorKind::Authentication, "this key is no longer valid here: it was revoked, or replaced")
}

/// What a caller is told whose answer was not begun.
fn start_error(error: StartError) -> ApiError {
    match error {
        StartError::Refused(error) | StartError::Before { error, .. } => error,
        StartError::Busy { retry_after } => busy(retry_after),
    }
}

/// An answer that is begun behind its headers.
fn later(begun: Result<Events, StartError>) -> Events {
    begun.unwrap_or_else(|error| Box::pin(stream::iter([Unjudged::new(Event::Fault(start_error(error)))])))
}
