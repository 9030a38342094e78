//! The path of a request, from its bytes to its body. Everything that happens to one is here, in order, or called from here by name.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use firecrest_contract::ask::{Beyond, Dialect};
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::leaf::parse;
use firecrest_contract::messages;
use firecrest_policy::lanes;
use firecrest_policy::limits::{Command, Levels, Outcome, openai_headers, ratelimit_headers};
use firecrest_policy::routing::{Alias, meant};
use firecrest_policy::safety::rules::Policy;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::aside::Aside;
use crate::body::Body;
use crate::host::{Host, Principal};
use crate::lease::{Denial, WhenDry, denial};
use crate::ledger::Ledger;
use crate::record::Caller;
use crate::refusal::{FALLBACK, envelope, id_header, new_id};
use crate::route::{Route, presented, route};
use crate::threads::{ThreadLimits, Threads};
use crate::turns::Turns;

mod embed;
mod generate;
mod lists;
mod moderate;
mod threads;

/// How a service runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// After this a stream's headers are sent, though nothing came yet. Until then another backend may still be asked, and an error has a status.
    pub head_after: Duration,
    /// A stream that says nothing for so long says that it is alive.
    pub quiet: Duration,
    /// An answer ends after this, as far as it has come.
    pub answer_limit: Duration,
    /// All work on a request outside its backend, and its backend's on texts, may take so long together.
    pub work_limit: Duration,
    /// Whether fields that change no answer are dropped and listed, or refused.
    pub lenient: bool,
    /// What becomes of an answer whose key is out of output.
    pub when_dry: WhenDry,
    /// Takes sampling fields in version 2026-10-21 too.
    pub relaxed: bool,
    /// Other names of models, which go behind models' own.
    pub aliases: Vec<Alias>,
    /// Who waits how long, and how a queue is shared.
    pub lanes: lanes::Settings,
    /// What may be said.
    pub safety: Arc<Policy>,
}

/// A service: requests in, responses out.
pub struct Service<H: Host> {
    host: Rc<H>,
    options: Options,
    threads: Rc<Threads>,
    turns: Turns,
}

/// One request on its way.
struct Exchange<H: Host> {
    ledger: Ledger<H>,
    dialect: Dialect,
    /// The caller sent `anthropic-beta`, or named betas in the body: its answers have the beta's members.
    beta: bool,
    /// What the response's headers will be.
    headers: HeaderMap,
    /// Of its body.
    bytes: usize,
    /// It asks for the head alone.
    head: bool,
    /// Where its long work is done, once it is known whose it is.
    aside: Aside,
}

/// A request that may go on: its path is there, its key holds, and it counts among that key's. Its body is still to come.
pub struct Admitted<H: Host> {
    exchange: Exchange<H>,
    route: Route,
    principal: Rc<Principal>,
    query: Option<String>,
    /// When it was admitted, by the host's clock.
    since: Duration,
}

type Outcomes = Result<Response<Body>, ApiError>;

impl<H: Host> Service<H> {
    /// A service on a host.
    pub fn new(host: Rc<H>, options: Options) -> Service<H> {
        Service { host, options, threads: Threads::new(ThreadLimits::default()), turns: Turns::default() }
    }

    /// With other limits to what is kept of conversations.
    #[must_use]
    pub fn keeping(self, limits: ThreadLimits) -> Service<H> {
        Service { threads: Threads::new(limits), ..self }
    }

    /// The host.
    pub fn host(&self) -> &Rc<H> {
        &self.host
    }

    /// With other options, and what is kept of conversations: for requests that come from now on.
    #[must_use]
    pub fn with_options(&self, options: Options) -> Service<H> {
        Service { host: Rc::clone(&self.host), options, threads: Rc::clone(&self.threads), turns: self.turns.clone() }
    }

    /// Answers a request. Dropped before it is ready, or with its body, it stops whatever runs for it.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        match self.admit(parts).await {
            Ok(admitted) => self.answer(admitted, body).await,
            Err(response) => response,
        }
    }

    /// Looks at a request's head: whether its path is there, and its key holds. So a host reads no body for those who may not send one.
    ///
    /// # Errors
    /// The response to one that goes no further.
    pub async fn admit(&self, parts: Parts) -> Result<Admitted<H>, Response<Body>> {
        let id: Rc<str> = new_id(|bytes| self.host.random(bytes)).into();
        let routed = route(&parts.method, parts.uri.path(), &parts.headers);
        let name = routed.route.as_ref().map_or("none", Route::name);
        let dialect = *routed.dialect.as_ref().unwrap_or(&FALLBACK);
        let caller = parts.extensions.get::<Caller>().copied();
        let mut exchange = Exchange {
            ledger: Ledger::new(&self.host, id, name, caller),
            dialect,
            beta: parts.headers.contains_key("anthropic-beta") || parts.uri.query().is_some_and(|query| query.contains("beta=true")),
            headers: HeaderMap::new(),
            bytes: 0,
            head: parts.method == Method::HEAD,
            aside: Aside::in_place(),
        };
        if let Some(methods) = routed.allow {
            exchange.headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        }
        let admitted = match (routed.dialect, routed.route) {
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(_), Ok(route)) => self.enter(&mut exchange, &parts.headers).await.map(|principal| (route, principal)),
        };
        match admitted {
            Ok((route, principal)) => {
                let since = exchange.ledger.now();
                Ok(Admitted { exchange, route, principal, query: parts.uri.query().map(str::to_owned), since })
            }
            Err(error) => Err(exchange.refused(&error)),
        }
    }

    /// Answers a request that was admitted, now that its body is there.
    pub async fn answer(&self, admitted: Admitted<H>, body: Bytes) -> Response<Body> {
        let Admitted { mut exchange, route, principal, query, since } = admitted;
        exchange.ledger.waited_since(since);
        exchange.bytes = body.len();
        match self.carry_out(&mut exchange, route, &principal, query.as_deref(), body).await {
            Ok(response) => exchange.told(response),
            Err(error) => exchange.refused(&error),
        }
    }

    /// A body that is packed would be read as what it is not.
    fn unpacked(headers: &HeaderMap) -> Result<(), ApiError> {
        let packed = headers.get(header::CONTENT_ENCODING).filter(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
        match packed {
            None => Ok(()),
            Some(_) => {
                let message = "content-encoding: packed bodies are not read here; send it as it is";
                Err(ApiError::new(ErrorKind::InvalidRequest, message).code("request_body_encoding_unsupported"))
            }
        }
    }

    /// All that a request's head is asked for.
    async fn enter(&self, exchange: &mut Exchange<H>, headers: &HeaderMap) -> Result<Rc<Principal>, ApiError> {
        let principal = self.authenticate(exchange, headers).await?;
        self.count_request(exchange, &principal).await?;
        Self::unpacked(headers)?;
        Ok(principal)
    }

    async fn carry_out(
        &self,
        exchange: &mut Exchange<H>,
        route: Route,
        principal: &Rc<Principal>,
        query: Option<&str>,
        body: Bytes,
    ) -> Outcomes {
        match route {
            Route::Messages => self.messages(exchange, principal, &body).await,
            Route::CountTokens => self.count_tokens(exchange, &body).await,
            Route::Chat => self.chat(exchange, principal, &body).await,
            Route::Responses => self.responses(exchange, principal, &body).await,
            Route::Completions => self.completions(exchange, principal, &body).await,
            Route::Embeddings => self.embeddings(exchange, principal, &body).await,
            Route::Moderations => self.moderations(exchange, &body).await,
            Route::Moderate => self.moderate(exchange, &body).await,
            Route::Models => self.model_list(exchange, query),
            Route::Model(id) => self.model(exchange, &id),
            Route::RateLimits => self.rate_limits(exchange, principal),
            Route::Admin { model, load } => self.admin(exchange, principal, &model, load).await,
        }
    }

    async fn authenticate(&self, exchange: &mut Exchange<H>, headers: &HeaderMap) -> Result<Rc<Principal>, ApiError> {
        let presented = presented(headers);
        let principal = self.host.find_key(presented).await?.ok_or_else(|| {
            ApiError::new(
                ErrorKind::Authentication,
                match presented {
                    Some(_) => "this key is not valid here; it may be mistyped, revoked, or another service's",
                    None => "no key: send `x-api-key: <key>` or `authorization: Bearer <key>`",
                },
            )
        })?;
        exchange.ledger.of(&principal);
        exchange.aside = Aside::new(&self.host, &principal.key, self.options.work_limit);
        Ok(principal)
    }

    async fn count_request(&self, exchange: &mut Exchange<H>, principal: &Principal) -> Result<(), ApiError> {
        let at = self.host.wall();
        match self.host.apply(principal, Command::Request { at }).await? {
            Outcome::Granted { levels, .. } | Outcome::Closed { levels } => {
                exchange.levels(&levels);
                Ok(())
            }
            other => Err(exchange.denied(denial(&other))),
        }
    }

    /// Reads a body, and makes of it what is asked.
    async fn read<T, R>(
        &self,
        exchange: &Exchange<H>,
        body: &Bytes,
        make: impl FnOnce(T) -> Result<R, ApiError> + Send + 'static,
    ) -> Result<R, ApiError>
    where
        T: DeserializeOwned,
        R: Send + 'static,
    {
        let body = body.clone();
        exchange.aside.run(body.len(), move || make(parse(&body)?)).await?
    }

    async fn count_tokens(&self, exchange: &mut Exchange<H>, body: &Bytes) -> Outcomes {
        let Dialect::Messages(version) = exchange.dialect else { return Err(exchange.no_version()) };
        let options = messages::Options { relaxed: self.options.relaxed };
        let read = self.read(exchange, body, move |params: messages::CountTokensParams| {
            Ok((names_betas(params.betas.as_deref()), messages::count_into_ask(params, version, options)?))
        });
        let (beta, ask) = read.await?;
        exchange.beta |= beta;
        let ask = Arc::new(ask);
        let (_, backend) = self.backend(&ask.model).await?;
        let input = self.price(exchange, &backend, &ask).await?.input;
        let context_management = exchange.beta.then_some(serde_json::Value::Null);
        exchange.json(&messages::TokensCount { input_tokens: input, context_management })
    }

    /// The model that a name means.
    fn alias<'a>(&'a self, name: &'a str) -> &'a str {
        match meant(&self.options.aliases, name) {
            Some(model) if !self.host.models().iter().any(|card| card.id == name) => model,
            _ => name,
        }
    }
}

impl<H: Host> Admitted<H> {
    /// The public part of the key that it came with.
    pub fn key(&self) -> &str {
        &self.principal.key
    }

    /// Answers with this error: its body did not come as it should.
    pub fn refuse(self, error: &ApiError) -> Response<Body> {
        let mut exchange = self.exchange;
        exchange.ledger.waited_since(self.since);
        exchange.refused(error)
    }
}

impl<H: Host> Exchange<H> {
    /// A response with the headers that were collected for it.
    fn told(&mut self, mut response: Response<Body>) -> Response<Body> {
        self.headers.insert(id_header(self.dialect), text(self.ledger.id()));
        for (name, value) in std::mem::take(&mut self.headers) {
            if let Some(name) = name {
                response.headers_mut().insert(name, value);
            }
        }
        if self.head {
            if let Some(length) = response.body().len() {
                response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            *response.body_mut() = Body::whole(Bytes::new());
        }
        response
    }

    /// An error's answer, with the headers that were collected for it.
    fn refused(&mut self, error: &ApiError) -> Response<Body> {
        let response = self.refuse(error);
        self.told(response)
    }

    fn levels(&mut self, levels: &Levels) {
        let headers = match self.dialect {
            Dialect::Messages(_) => ratelimit_headers(levels),
            Dialect::OpenAi => openai_headers(levels),
        };
        for (name, value) in headers {
            self.headers.insert(HeaderName::from_static(name), text(&value));
        }
    }

    /// A limit's refusal; its levels are among the headers.
    fn denied(&mut self, denial: Denial) -> ApiError {
        if let Some(levels) = &denial.levels {
            self.levels(levels);
        }
        denial.error
    }

    /// What is asked beyond what this service can do is refused, or, where it is lenient and the answer is right without it, dropped and listed. What a backend
    /// of the caller's dialect might do it has refused already, where it can't.
    fn drop_hints(&mut self, beyond: &[Beyond], lenient: bool) -> Result<(), ApiError> {
        if let Some(first) = beyond.iter().find(|beyond| beyond.hint && !lenient) {
            return Err(ApiError::invalid(&first.path, &first.why));
        }
        let hints: Vec<&str> = beyond.iter().filter(|beyond| beyond.hint).map(|beyond| beyond.path.as_str()).collect();
        if !hints.is_empty() {
            let listed: String = hints.join(", ").chars().take(1024).collect();
            self.headers.insert("firecrest-ignored-fields", text(&listed));
        }
        Ok(())
    }

    fn no_version(&self) -> ApiError {
        ApiError::new(ErrorKind::Api, "this path was taken for another dialect's")
    }

    /// An error's answer.
    fn refuse(&mut self, error: &ApiError) -> Response<Body> {
        self.ledger.ended(error.status(), error.kind.name());
        envelope(self.dialect, error, self.ledger.id()).map(Body::whole)
    }

    /// What no model said, as JSON.
    fn json(&mut self, value: &impl Serialize) -> Outcomes {
        let bytes = serde_json::to_vec(value);
        let bytes = bytes.map_err(|_| ApiError::new(ErrorKind::Api, "the answer could not be written"))?;
        self.ledger.ended(200, "ok");
        Ok(response(StatusCode::OK, "application/json", Body::whole(bytes.into())))
    }
}

/// Whether a body has `betas`, which are what the header is.
fn names_betas(betas: Option<&[String]>) -> bool {
    betas.is_some_and(|betas| !betas.is_empty())
}

fn response(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if kind == "text/event-stream" {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Proxies that collect a response before they pass it on, and ask this first.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
    response
}

/// A header's value of what we wrote ourselves; whatever can't stand in one is left out.
fn text(value: &str) -> HeaderValue {
    let clean: Cow<'_, str> = match value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        true => value.into(),
        false => value.chars().filter(|c| (' '..='~').contains(c)).collect(),
    };
    HeaderValue::from_str(&clean).unwrap_or_else(|_| HeaderValue::from_static(""))
}
