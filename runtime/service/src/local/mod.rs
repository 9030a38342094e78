//! The backend over an engine of this machine.
//!
//! The engine runs where its host puts it ([`drive`]): natively on a thread of its own, in a page in place. Reading, tokenising and rendering happen here.

mod answer;
mod budget;
mod decode;
mod driver;
mod embed;
mod held;
pub(crate) mod length;
mod usage;

pub use driver::{Commands, EnginePort, Handle, Running, Submitted, Told, commands, drive};

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use firecrest_contract::ask::{Ask, Beyond, Content, RawPrompt, Role, Thinking, ToolChoice};
use firecrest_contract::embed::{EmbedAsk, Embedded};
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Event, Finish};
use firecrest_engine::engine::{AdapterId, Engine, Generate, Pin, Priority, Request, Sampling, Sharing, Work};
use firecrest_engine::grammar::Compiler;
use firecrest_engine::text::{EncodeOptions, TokenKind, Tokenizer, WallTime};
use firecrest_engine::{Error, ErrorCode};
use firecrest_policy::safety::gate::Unjudged;
use firecrest_policy::safety::judge::PromptText;
use futures_util::StreamExt;

use crate::aside::{Aside, NEVER_SHORT};
use crate::backend::{Backend, Events, Exactness, Grant, Owner, Price, Queue, StartError};
use crate::length::ask_bytes;
use crate::prompt::{Prompt, Prompter, refused};
use crate::tools::grammar::{Hold, Schemas, Vocabulary, hold, holds_from_start};
use crate::tools::{Body, GENERIC, Parser, Reading, Stops, ToolFormat};
use answer::{AHEAD, Answer, Asked, Choice, Echo, Probable};
use budget::Budget;
use decode::Decoder;
use held::Held;
use length::{Length, fits, room, too_long};
use usage::within_quota;

/// What the backend must know of a model whose engine lives elsewhere.
#[derive(Clone, Debug)]
pub struct ModelFacts {
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What compiles grammars for it, shared with its engine.
    pub grammars: Option<Compiler>,
    /// Its chat template, where it chats.
    pub template: Option<String>,
    /// Positions one sequence may have.
    pub context: u32,
    /// Sequences that its engine runs at once.
    pub max_sequences: u32,
    /// Requests that it holds at once, running and waiting.
    pub max_requests: u32,
    /// Numbers of a vector that it makes.
    pub width: u32,
}

impl ModelFacts {
    /// Of an engine, and the template that its file or its user brings.
    ///
    /// # Errors
    /// A model without a tokenizer.
    pub fn of(engine: &Engine, template: Option<String>) -> Result<ModelFacts, Error> {
        let tokenizer = engine.tokenizer().ok_or_else(|| Error::unsupported("the model's file has no tokenizer, so it can't be served"))?;
        Ok(ModelFacts {
            tokenizer: tokenizer.clone(),
            grammars: engine.grammars().cloned(),
            template,
            context: engine.context(),
            max_sequences: engine.max_sequences(),
            max_requests: engine.max_requests(),
            width: engine.model().config.dim,
        })
    }
}

/// What a host lends the backend.
pub struct Lent {
    /// Now, as templates are told it.
    pub wall: Box<dyn Fn() -> Option<WallTime>>,
    /// Random numbers, for ids and seeds.
    pub random: Rc<dyn Fn() -> u64>,
}

/// Answers of this machine's engine.
pub struct Local<P> {
    port: P,
    prompter: Arc<Prompter>,
    context: u32,
    lent: Lent,
    adapter: Option<AdapterId>,
    schemas: Arc<Schemas>,
    grammars: Option<Compiler>,
    /// Answers of one ask that are in the engine at once.
    at_once: u32,
    max_requests: u32,
    width: u32,
    matryoshka: bool,
    /// Sequences that are in the engine or on their way, by lane.
    held: Rc<Cell<[u32; 3]>>,
    /// Prompts made last, oldest first: an ask is priced, and then begun.
    recent: RefCell<VecDeque<Made>>,
}

/// An ask, and its prompts.
type Made = (Arc<Ask>, Arc<Vec<Prompt>>);

/// Prompts that are kept for the ask to come back.
const KEPT: usize = 4;

/// Answers one ask may have, over all its prompts.
const MOST_CHOICES: u64 = 128;

impl<P: EnginePort> Local<P> {
    /// Over an engine's port.
    ///
    /// # Errors
    /// A chat template that does not compile.
    pub fn new(port: P, facts: &ModelFacts, lent: Lent) -> Result<Local<P>, Error> {
        let prompter = Prompter::new(facts.tokenizer.clone(), facts.template.as_deref())?;
        Ok(Local {
            port,
            prompter: Arc::new(prompter),
            context: facts.context,
            lent,
            adapter: None,
            schemas: Arc::default(),
            grammars: facts.grammars.clone(),
            // As many as it runs, and as many again, so that one is there for each that ends.
            at_once: facts.max_sequences.saturating_mul(2).clamp(1, facts.max_requests.max(1)),
            max_requests: facts.max_requests,
            width: facts.width,
            matryoshka: false,
            held: Rc::default(),
            recent: RefCell::default(),
        })
    }

    /// With this LoRA adapter.
    pub fn with_adapter(self, adapter: Option<AdapterId>) -> Local<P> {
        Local { adapter, ..self }
    }

    /// Whether it was trained so that the first numbers of its vectors are vectors too.
    pub fn matryoshka(self, is: bool) -> Local<P> {
        Local { matryoshka: is, ..self }
    }

    /// Whether objects of schemas are open where they don't say `additionalProperties`; they are closed if not.
    pub fn open_objects(self, open: bool) -> Local<P> {
        Local { schemas: Arc::new(Schemas::new(open)), ..self }
    }

    /// What makes its prompts.
    pub fn prompter(&self) -> &Prompter {
        &self.prompter
    }

    fn format(&self) -> &'static ToolFormat {
        self.prompter.traits().map_or(&GENERIC, |traits| traits.format)
    }

    /// Prompts of an ask, made once where it comes twice.
    ///
    /// # Errors
    /// Those of [`Prompter::prompts`], and a prompt that is longer than the context.
    pub async fn prompts(&self, ask: &Arc<Ask>, aside: &Aside) -> Result<Arc<Vec<Prompt>>, ApiError> {
        if let Some((_, prompts)) = self.recent.borrow().iter().find(|(known, _)| Arc::ptr_eq(known, ask) || known == ask) {
            return Ok(Arc::clone(prompts));
        }
        let room = room(ask, self.context);
        let made = {
            let (prompter, ask, now) = (Arc::clone(&self.prompter), Arc::clone(ask), (self.lent.wall)());
            aside.run(ask_bytes(&ask), move || prompter.prompts(&ask, now, room)).await??
        };
        if let Some(long) = made.iter().find(|prompt| prompt.ids.len() > room) {
            return Err(too_long(ask, Length::Exactly(long.ids.len()), room));
        }
        let prompts = Arc::new(made);
        let mut recent = self.recent.borrow_mut();
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back((Arc::clone(ask), Arc::clone(&prompts)));
        Ok(prompts)
    }

    /// What holds an answer to its form. `prompt`: once it is made, and the answer is about to begin.
    async fn hold(&self, ask: &Arc<Ask>, prompt: Option<&Prompt>, aside: &Aside) -> Result<Hold, ApiError> {
        if !ask.raw.is_empty() {
            return Ok(Hold::default());
        }
        let (prompter, schemas, grammars) = (Arc::clone(&self.prompter), Arc::clone(&self.schemas), self.grammars.clone());
        let (ask, format, begins, thoughts) = (Arc::clone(ask), self.format(), prompt.is_some(), prompt.and_then(|prompt| prompt.thinks));
        // What it takes to compile a schema does not follow from its size.
        let free = ask.format.is_none() && (ask.tools.is_empty() || ask.tool_choice == ToolChoice::None);
        let cost = if free { 0 } else { NEVER_SHORT };
        let work = move || {
            let control = |text: &str| control(prompter.tokenizer(), text);
            let vocabulary = Vocabulary { control: &control, ends: prompter.tokenizer().end_of_generation(), schemas: &schemas };
            let hold = hold(&ask, format, thoughts, &vocabulary)?;
            // Compiled here, it costs the engine's steps nothing.
            if let (true, Some(grammars), Some(constraint)) = (begins, grammars, &hold.constraint) {
                grammars.compile(constraint).map_err(|error| refusal(&ask, &error))?;
            }
            Ok(hold)
        };
        aside.run(cost, work).await?
    }

    fn reading(&self, ask: &Ask, prompt: &Prompt, hold: &Hold, stops: &Stops, index: u32) -> Reading {
        let tools = !ask.tools.is_empty() && ask.tool_choice != ToolChoice::None && ask.raw.is_empty();
        let hides_thoughts =
            matches!(ask.thinking, Thinking::Off | Thinking::Adaptive { hidden: true } | Thinking::Budget { hidden: true, .. });
        Reading {
            choice: index,
            format: tools.then(|| self.format()),
            tools: ask.tools.iter().map(|tool| tool.name.clone()).collect(),
            thoughts: self.prompter.traits().and_then(|traits| traits.thoughts).filter(|_| ask.raw.is_empty()),
            thinks_already: prompt.thinks.is_some(),
            continues: prompt.continues,
            hides_thoughts,
            one_call: ask.one_call(),
            ends_repeating: ask.tool_choice == ToolChoice::Any,
            only_calls: hold.constraint.is_some() && matches!(ask.tool_choice, ToolChoice::Any | ToolChoice::Tool(_)),
            stops: stops.clone(),
        }
    }

    /// Control tokens that the parser must see.
    fn marks(&self, reading: &Reading) -> Vec<&'static str> {
        let format = reading.format.into_iter().flat_map(|format| {
            let between = match format.body {
                Body::Named { between } => between,
                _ => "",
            };
            // Mistral writes the ids of calls behind this.
            [format.open, format.close, between, if between.is_empty() { "" } else { "[CALL_ID]" }]
        });
        let thoughts = reading.thoughts.into_iter().flat_map(|thoughts| [thoughts.open, thoughts.close]);
        format.chain(thoughts).filter(|mark| !mark.is_empty()).collect()
    }

    /// What bounds the thoughts of an answer, where anything does.
    fn budget(&self, ask: &Ask, request: &Request) -> Option<Budget> {
        let Thinking::Budget { tokens, .. } = ask.thinking else { return None };
        let thoughts = self.prompter.traits()?.thoughts.filter(|_| ask.raw.is_empty())?;
        let options = EncodeOptions { add_special: false, parse_special: true };
        let close = self.prompter.tokenizer().encode(&format!("\n{}\n\n", thoughts.close), options).ok()?;
        Some(Budget::new(tokens, thoughts, close, request.clone()))
    }

    /// Submits every sequence of an ask, and waits for the first to begin.
    async fn begin(&self, ask: &Arc<Ask>, grant: &Grant) -> Result<Answer, StartError> {
        self.check(ask).map_err(StartError::Refused)?;
        // From here on, before anything is waited for: others come to the door meanwhile.
        let held = Held::new(&self.held, grant.lane, self.places(ask.answers()));
        let prompts = self.prompts(ask, &grant.aside).await.map_err(StartError::Refused)?;
        let count = (prompts.len() as u64).saturating_mul(ask.choices.into());
        let mut answer = Answer {
            held,
            ask: Arc::clone(ask),
            submit: {
                let port = self.port.clone();
                Rc::new(move |mut request, allowance| {
                    let port = port.clone();
                    // What follows within an ask is taken in any case: the ask was.
                    request.priority.patience = None;
                    Box::pin(async move { port.submit(request, allowance).await })
                })
            },
            tokenizer: self.prompter.tokenizer().clone(),
            output: grant.output.clone(),
            prompts: Vec::new(),
            choices: Vec::new(),
            queue: VecDeque::new(),
            started: false,
            thinking: 0,
            ended: false,
        };
        let seed = ask.sampling.seed.unwrap_or_else(|| (self.lent.random)());
        let mut free = grant.output.granted();
        // Not the engine's, which sees what marks calls and thoughts.
        let stops = Stops::new(&ask.stop);
        for (at, prompt) in prompts.iter().enumerate() {
            let hold = self.hold(ask, Some(prompt), &grant.aside).await.map_err(StartError::Refused)?;
            let room = self.context.saturating_sub(prompt.ids.len() as u32);
            let (most, full) = match ask.max_tokens {
                Some(most) if most <= room => (most, Finish::MaxTokens),
                _ => (room, Finish::ContextFull),
            };
            let breakpoints = within_quota(&prompt.breakpoints, grant.pin_quota);
            for choice in 0..ask.choices {
                let index = at as u32 * ask.choices + choice;
                let waits = index >= self.at_once;
                let left = count.min(u64::from(self.at_once)).saturating_sub(index.into()).max(1);
                // How probable a prompt is follows from the prompt alone: it is computed for the first answer to it.
                let follows = choice > 0 && prompt.echo.is_some() && ask.logprobs.is_some();
                let allowed = if waits || follows { 0 } else { free.div_ceil(left).min(AHEAD.min(most).into()) as u32 };
                free = free.saturating_sub(allowed.into());
                let pins = if choice == 0 { breakpoints.as_slice() } else { &[] };
                let pins = pins.iter().map(|at| Pin { positions: at.positions, lifetime: lifetime(at.ttl) }).collect();
                let request = Request {
                    prompt: prompt.ids.clone(),
                    work: Work::Generate(Generate {
                        max_tokens: ask.max_tokens,
                        sampling: sampling(&ask.sampling, seed.wrapping_add(index.into())),
                        logprobs: ask.logprobs,
                        grammar: hold.constraint.clone(),
                        ..Generate::default()
                    }),
                    sharing: Sharing { namespace: grant.namespace.clone(), private: false, pins },
                    priority: Priority { lane: grant.lane, owner: grant.owner.0, deadline: grant.deadline, patience: grant.patience },
                    adapter: self.adapter,
                };
                let budget = self.budget(ask, &request);
                // How probable its prompt was is told before its answer is begun.
                let (request, probable) = match (&prompt.echo, ask.logprobs) {
                    (Some((_, unwritten)), Some(top)) => {
                        let first = Request { work: Work::Logprobs { top }, ..request.clone() };
                        let probable = Probable {
                            ids: prompt.ids.clone(),
                            unwritten: *unwritten,
                            stream: self.prompter.tokenizer().stream_with_control(),
                            request: (most > 0).then_some(request),
                        };
                        (first, Some(Box::new(probable)))
                    }
                    _ => (request, None),
                };
                let echo = prompt.echo.as_ref().map(|(text, _)| Echo { text: text.clone(), probable });
                let (running, waiting) = match (follows, waits) {
                    (true, _) => (None, None),
                    (false, true) => (None, Some(Box::new(request))),
                    (false, false) => match self.port.submit(request, allowed).await {
                        Ok(Submitted::Running(running)) => (Some(running), None),
                        // Those begun already are cancelled with what is dropped here.
                        Ok(Submitted::Busy { retry_after }) => return Err(StartError::Busy { retry_after }),
                        Err(error) => return Err(start_error(ask, &error)),
                    },
                };
                let reading = self.reading(ask, prompt, &hold, &stops, index);
                let decoder = Decoder::new(self.prompter.tokenizer(), &prompt.ids, self.marks(&reading));
                let random = Rc::clone(&self.lent.random);
                let parser = Parser::new(reading, Box::new(move || call_id(&*random)));
                answer.choices.push(Choice {
                    prompt: at,
                    running,
                    waiting,
                    follows,
                    resuming: None,
                    echo,
                    budget,
                    decoder,
                    parser: Some(parser),
                    allowed,
                    used: 0,
                    told: 0,
                    before: 0,
                    most,
                    full: full.clone(),
                });
            }
            answer.prompts.push(Asked { tokens: prompt.ids.len() as u32, breakpoints, usage: None });
        }
        // What fails before the first token fails here, so that somebody else may be asked.
        match answer.next().await {
            Some(Event::Fault(error)) => Err(StartError::Before { retry: error.should_retry == Some(true), error }),
            Some(first) => {
                answer.queue.push_front(first);
                Ok(answer)
            }
            None => Err(StartError::Before { error: ApiError::new(ErrorKind::Api, "the model said nothing"), retry: false }),
        }
    }
}

impl<P: EnginePort> Backend for Local<P> {
    fn check(&self, ask: &Ask) -> Result<(), ApiError> {
        if let Some(beyond) = ask.beyond.iter().find(|beyond| !beyond.hint) {
            return Err(ApiError::invalid(beyond.path.as_str(), &beyond.why));
        }
        if ask.choices == 0 || u64::from(ask.choices).saturating_mul(ask.raw.len().max(1) as u64) > MOST_CHOICES {
            return Err(ApiError::invalid("n", format!("at least one answer, and at most {MOST_CHOICES} over all prompts")));
        }
        if ask.raw.is_empty() {
            if self.prompter.traits().is_none() {
                return Err(ApiError::invalid(ask.names.conversation, "this model has no chat template; use /v1/completions"));
            }
            if ask.turns.is_empty() {
                return Err(ApiError::invalid(ask.names.conversation, "at least one message is required"));
            }
            let beyond = |turn: &firecrest_contract::ask::Turn| turn.parts.iter().any(|part| part.content == Content::Beyond);
            if ask.turns.iter().any(beyond) && ask.beyond.is_empty() {
                return Err(ApiError::invalid(ask.names.conversation, "this model takes text only"));
            }
            let begun = ask.turns.last().is_some_and(|turn| turn.role == Role::Assistant && !turn.parts.is_empty());
            if begun && holds_from_start(ask) {
                let why = "an answer that is held to a form can't be begun; leave the last assistant message out";
                return Err(ApiError::invalid(ask.last.clone(), why));
            }
        }
        fits(ask, self.prompter.tokenizer(), self.context)
    }

    fn hints(&self, ask: &Ask) -> Vec<Beyond> {
        let asked = matches!(ask.thinking, Thinking::Adaptive { .. } | Thinking::Budget { .. });
        let thinks = self.prompter.traits().is_some_and(|traits| traits.thoughts.is_some());
        let hint =
            || Beyond { path: ask.names.thinking.into(), why: "this model was not trained to think; leave it out".to_owned(), hint: true };
        (asked && !thinks && ask.raw.is_empty()).then(hint).into_iter().collect()
    }

    async fn spelled(&self, ask: &Arc<Ask>, aside: &Aside) -> Result<Vec<PromptText>, ApiError> {
        if ask.raw.is_empty() {
            return Ok(Vec::new());
        }
        let (tokenizer, ask, cost) = (self.prompter.tokenizer().clone(), Arc::clone(ask), ask_bytes(ask));
        let work = move || {
            let several = |pieces: Vec<String>| if pieces.len() > 1 { pieces } else { Vec::new() };
            let spelled = |raw: &RawPrompt| match raw {
                RawPrompt::Text(text) => PromptText { text: text.clone(), pieces: several(tokenizer.pieces(text)) },
                RawPrompt::Tokens(ids) => PromptText { text: tokenizer.decode(ids, false), pieces: several(tokenizer.decode_pieces(ids)) },
                // Side by side, as the answer would join them.
                RawPrompt::Infill { prefix, suffix } => {
                    PromptText { text: format!("{prefix} {suffix}"), pieces: vec![prefix.clone(), suffix.clone()] }
                }
            };
            ask.raw.iter().map(spelled).collect()
        };
        aside.run(cost, work).await
    }

    async fn price(&self, ask: &Arc<Ask>, aside: &Aside) -> Result<Price, ApiError> {
        self.check(ask)?;
        self.hold(ask, None, aside).await?;
        let prompts = self.prompts(ask, aside).await?;
        let input = prompts.iter().map(|prompt| prompt.ids.len() as u64).sum();
        let cap = |prompt: &Prompt| {
            let room = u64::from(self.context).saturating_sub(prompt.ids.len() as u64);
            ask.max_tokens.map_or(room, |most| room.min(most.into())).saturating_mul(ask.choices.into())
        };
        Ok(Price { input, exactness: Exactness::Exact, output_cap: prompts.iter().map(cap).sum() })
    }

    async fn embed_price(&self, ask: &Arc<EmbedAsk>, aside: &Aside) -> Result<u64, ApiError> {
        Ok(self.embed_prompts(ask, aside).await?.iter().map(|ids| ids.len() as u64).sum())
    }

    fn queue(&self) -> Option<Queue> {
        // When each lane's next would have its turn the engine knows, and judges by each request's patience.
        Some(Queue { capacity: self.max_requests, waiting: self.held.get(), predicted_ttft: [0; 3] })
    }

    fn places(&self, answers: u32) -> u32 {
        answers.min(self.at_once)
    }

    async fn embed(&self, ask: Arc<EmbedAsk>, lane: u8, owner: Owner, aside: &Aside) -> Result<Embedded, ApiError> {
        self.embed_all(&ask, lane, owner, aside).await
    }

    async fn start(&self, ask: Arc<Ask>, grant: Grant) -> Result<Events, StartError> {
        let answer = self.begin(&ask, &grant).await?;
        Ok(Box::pin(answer.map(Unjudged::new)))
    }
}

fn lifetime(ttl: firecrest_contract::ask::CacheTtl) -> Duration {
    match ttl {
        firecrest_contract::ask::CacheTtl::FiveMinutes => Duration::from_secs(5 * 60),
        firecrest_contract::ask::CacheTtl::OneHour => Duration::from_secs(60 * 60),
    }
}

fn sampling(asked: &firecrest_contract::ask::Sampling, seed: u64) -> Sampling {
    let default = Sampling::default();
    Sampling {
        temperature: asked.temperature.unwrap_or(default.temperature),
        // At 0 nothing but the likeliest token is left, as close to 0.
        top_p: asked.top_p.map_or(default.top_p, |top_p| if top_p == 0.0 { f32::MIN_POSITIVE } else { top_p }),
        top_k: asked.top_k.unwrap_or(default.top_k),
        presence_penalty: asked.presence_penalty.unwrap_or(default.presence_penalty),
        frequency_penalty: asked.frequency_penalty.unwrap_or(default.frequency_penalty),
        logit_bias: asked.logit_bias.clone(),
        seed,
        ..default
    }
}

/// An id as the hosted contract makes them: what tells calls apart.
pub(crate) fn call_id(random: &dyn Fn() -> u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut id = "toolu_01".to_owned();
    for _ in 0..3 {
        let mut number = random();
        for _ in 0..8 {
            id.extend(DIGITS.get((number % 62) as usize).copied().map(char::from));
            number /= 62;
        }
    }
    id
}

/// Why the engine did not take a request.
fn start_error(ask: &Ask, error: &Error) -> StartError {
    match error.code() {
        ErrorCode::Request | ErrorCode::Unsupported | ErrorCode::UnknownAdapter | ErrorCode::Template => {
            StartError::Refused(refusal(ask, error))
        }
        ErrorCode::Memory => StartError::Busy { retry_after: Duration::from_secs(1) },
        _ => StartError::Before { error: failed(error), retry: true },
    }
}

/// An engine that failed, or is gone: nothing is wrong with what was asked. It is loaded again.
fn failed(error: &Error) -> ApiError {
    ApiError::new(ErrorKind::Api, format!("the model stopped: {}", error.message())).should_retry(true)
}

/// What the engine says is wrong with a request, at its leaf. What it refuses of sampling it names itself.
fn refusal(ask: &Ask, error: &Error) -> ApiError {
    let message = error.message();
    let fields = ["temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "stop"];
    // Schemas were checked one by one; all of them together may still be too much.
    let default = match (ask.raw.is_empty(), ask.tools.is_empty()) {
        (true, false) if message.contains("grammar") => "tools",
        _ => ask.names.conversation,
    };
    refused(fields.into_iter().find(|field| message.contains(field)).unwrap_or(default), error)
}

/// The control token that is written so.
fn control(tokenizer: &Tokenizer, text: &str) -> Option<u32> {
    let options = EncodeOptions { add_special: false, parse_special: true };
    match tokenizer.encode(text, options).ok()?.as_slice() {
        &[id] if tokenizer.token_kind(id) == Some(TokenKind::Control) => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
