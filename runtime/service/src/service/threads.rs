//! Requests that go on with a conversation that is kept here: `thread` of the Messages API, `previous_response_id` of responses.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use firecrest_contract::ask::{Ask, Beyond};
use firecrest_contract::error::{ApiError, ErrorKind, shown};
use firecrest_contract::messages::{
    CacheMiss, Diagnostics, DiagnosticsParam, MessageCreateParams, MessageParam, SystemParam, ThreadParam, ToolParam,
};
use firecrest_contract::openai::responses::{Asked as AskedResponse, Item, Request};
use firecrest_contract::path::{Path, Segment};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Exchange, Service};
use crate::host::{Host, Principal};
use crate::length::ask_bytes;
use crate::threads::{Asked, Conversation, Fingerprint, Gone, Keeper, Texts};

/// What a thread has once and for all.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Fixed {
    #[serde(default)]
    system: Option<SystemParam>,
    #[serde(default)]
    tools: Option<Vec<ToolParam>>,
}

/// What was put before a request.
pub(super) struct Before {
    /// Where it stands: `messages` or `input`.
    root: &'static str,
    /// How many members of it are not the request's own.
    count: usize,
    /// What is not known of `thread`.
    hints: Vec<String>,
}

impl Before {
    /// An error's leaf, as the caller counts.
    pub(super) fn error(&self, error: ApiError) -> ApiError {
        match error.path.as_ref().and_then(|path| self.own(path)) {
            Some(own) => moved(error, own),
            None => error,
        }
    }

    /// What was asked beyond, as the caller counts. Hints of what was there before were listed then.
    pub(super) fn ask(&self, mut ask: Ask) -> Ask {
        let beyond = std::mem::take(&mut ask.beyond).into_iter().filter_map(|mut beyond| {
            if let Some(own) = self.own(&beyond.path) {
                if *own == *self.root && beyond.hint {
                    return None;
                }
                beyond.path = own;
            }
            Some(beyond)
        });
        let hints = self.hints.iter().map(|name| Beyond {
            path: Path::from("thread").key(name),
            why: "no such field is known here".to_owned(),
            hint: true,
        });
        ask.beyond = beyond.chain(hints).collect();
        ask
    }

    fn own(&self, path: &Path) -> Option<Path> {
        let mut segments = path.segments();
        let (Some(Segment::Key(root)), Some(Segment::Index(index))) = (segments.next(), segments.next()) else { return None };
        (root == self.root).then(|| match index.checked_sub(self.count) {
            Some(index) => segments.fold(Path::from(root).index(index), Path::step),
            None => root.into(),
        })
    }
}

/// An error at another leaf: where its message begins with the old one, it begins with the new one.
pub(super) fn moved(mut error: ApiError, to: Path) -> ApiError {
    if let Some(rest) = error.path.as_ref().and_then(|from| error.message.strip_prefix(from.as_str())) {
        error.message = format!("{to}{rest}");
    }
    error.path = Some(to);
    error
}

impl<H: Host> Service<H> {
    /// Puts the whole of its thread into a request, and makes an ask of it.
    pub(super) async fn thread(
        &self,
        exchange: &Exchange<H>,
        principal: &Rc<Principal>,
        (params, thread): (MessageCreateParams, ThreadParam),
        lower: impl FnOnce(MessageCreateParams) -> Result<Ask, ApiError> + Send + 'static,
    ) -> Result<(Ask, Keeper), ApiError> {
        if params.context_management.as_ref().is_some_and(|management| management.edits.as_ref().is_some_and(|edits| !edits.is_empty())) {
            return Err(unsupported("context_management", "what is left out of a conversation can't be kept with it"));
        }
        if params.fallbacks.as_ref().is_some_and(|fallbacks| !fallbacks.is_null()) {
            return Err(unsupported("fallbacks", "answers of other models are not kept"));
        }
        let (unknown, goes_on) = match thread {
            ThreadParam::Create(create) => (create.unknown, None),
            ThreadParam::Continue(on) => {
                let claimed = self.threads.claim(self.host.monotonic(), &principal.key, &on.previous_message_id);
                let claimed = claimed.map_err(|gone| lost(gone, &on.previous_message_id))?;
                (on.unknown, Some((claimed, on.previous_message_id)))
            }
            ThreadParam::Other(_) => return Err(ApiError::invalid("thread.type", "is `create` or `continue`")),
        };
        let hints = names(unknown);
        let kept = goes_on.as_ref().map(|((conversation, _), id)| (conversation.texts(), id.clone()));
        let cost = kept.as_ref().map_or(0, |(texts, _)| texts.bytes()) + exchange.bytes;
        let prepared = exchange.aside.run(cost, move || match kept {
            None => created(params),
            Some((texts, id)) => continued(params, &texts, &id),
        });
        let Prepared { params, count, new, fixed } = prepared.await??;
        if !self.threads.has_room(new.len() + fixed.as_ref().map_or(0, Vec::len)) {
            return Err(unsupported("messages", "this conversation is too long to be kept here"));
        }
        let before = Before { root: "messages", count, hints };
        let ask = exchange.aside.run(cost, move || lower(*params).map_err(|error| before.error(error)).map(|ask| before.ask(ask)));
        let ask = ask.await??;
        let (before, claim) = goes_on.map(|(claimed, _)| claimed).unzip();
        let asked = Asked { before, claim, fixed, new };
        Ok((ask, Keeper::message(&self.threads, &principal.key, exchange.ledger.id(), asked)))
    }

    /// Why a prompt does not begin as the one before it did, where the caller asks that and it does not, and what keeps it for the next to be held
    /// against.
    pub(super) async fn diagnose(
        &self,
        exchange: &Exchange<H>,
        principal: &Rc<Principal>,
        asked: &DiagnosticsParam,
        ask: Ask,
        keeper: Option<Keeper>,
    ) -> Result<(Ask, Option<Diagnostics>, Keeper), ApiError> {
        let model = self.alias(&ask.model).to_owned();
        let id = asked.previous_message_id.as_ref();
        let before = id.map(|id| self.threads.print(self.host.monotonic(), &principal.key, id));
        let compared = exchange.aside.run(ask_bytes(&ask), move || {
            let missed = before.and_then(|print| match print {
                Some(print) => print.missed_by(&ask, &model),
                None => Some(CacheMiss::PreviousMessageNotFound),
            });
            let print = Fingerprint::of(&ask, &model);
            (ask, missed, print)
        });
        let (ask, missed, print) = compared.await?;
        let keeper = keeper.unwrap_or_else(|| Keeper::nothing(&self.threads, &principal.key, exchange.ledger.id()));
        // A reason of `null` would say that it is not known yet.
        let found = missed.map(|reason| Diagnostics { cache_miss_reason: Some(reason) });
        Ok((ask, found, keeper.with_print(print)))
    }

    /// Puts the response that a request goes on from before it, and items that it refers to into it, and makes an ask of it.
    pub(super) async fn go_on(
        &self,
        exchange: &Exchange<H>,
        principal: &Rc<Principal>,
        request: Request,
    ) -> Result<(Asked, AskedResponse), ApiError> {
        let now = self.host.monotonic();
        let response = |id: &str| Some(format!("resp_{}", id.split_once('_')?.1.rsplit_once('_')?.0));
        let referred: BTreeSet<String> = request.references().filter_map(response).collect();
        let referred = referred.iter().filter_map(|id| self.threads.find(now, &principal.key, id).ok());
        let referred: Vec<Texts> = referred.map(|conversation| conversation.latest()).collect();
        let before = request.previous_response_id.as_ref().map(|id| {
            let found = self.threads.find(now, &principal.key, id).ok();
            let why = || format!("previous response with id '{}' not found; send the whole conversation", shown(id));
            found.ok_or_else(|| ApiError::invalid("previous_response_id", why()).code("previous_response_not_found"))
        });
        let before = before.transpose()?;
        let kept = before.as_ref().map(Conversation::texts);
        let cost = exchange.bytes + referred.iter().chain(&kept).map(Texts::bytes).sum::<usize>();
        let read = exchange.aside.run(cost, move || resumed(request, kept.as_ref(), &referred));
        let (new, asked) = read.await??;
        Ok((Asked { before, ..Asked::of(new) }, asked))
    }

    /// What keeps a response, where that is wanted and there is room.
    pub(super) fn keeper(&self, exchange: &Exchange<H>, principal: &Rc<Principal>, of: &AskedResponse, asked: Asked) -> Option<Keeper> {
        let keeps = of.store && self.threads.has_room(asked.new.len());
        keeps.then(|| Keeper::response(&self.threads, &principal.key, exchange.ledger.id(), of.echo.clone(), asked))
    }
}

/// Puts what is kept of the response before it, and of items that it refers to, into a request, and makes an ask of it. Also its own items, as JSON.
pub(super) fn resumed(mut request: Request, kept: Option<&Texts>, referred: &[Texts]) -> Result<(Vec<u8>, AskedResponse), ApiError> {
    let mut items = HashMap::new();
    for item in referred.iter().flat_map(|texts| texts.said::<Value>().unwrap_or_default()) {
        if let Some(id) = item.get("id").and_then(Value::as_str) {
            items.insert(id.to_owned(), item);
        }
    }
    // Each item is given out once: a short request could make a very long one of itself.
    request.resolve(|id| serde_json::from_value::<Item>(items.remove(id)?).ok());
    let new = written(&request.items())?;
    let mut place = Before { root: "input", count: 0, hints: Vec::new() };
    if let Some(kept) = kept {
        let items = kept.said().ok_or_else(|| {
            let why = "the previous response is too large to be read again; send the whole conversation";
            ApiError::invalid("previous_response_id", why).code("previous_response_not_found")
        })?;
        place.count = items.len();
        request.go_on(items);
    }
    let mut asked = request.into_ask().map_err(|error| place.error(error))?;
    asked.ask = place.ask(asked.ask);
    Ok((new, asked))
}

/// A request with the whole of its thread in it.
struct Prepared {
    params: Box<MessageCreateParams>,
    /// Messages that are not the request's own.
    count: usize,
    /// A JSON array of those that are.
    new: Vec<u8>,
    /// What is the same in all of the thread, where nothing was before.
    fixed: Option<Vec<u8>>,
}

/// The first request of a thread.
fn created(params: MessageCreateParams) -> Result<Prepared, ApiError> {
    let (new, _) = plain(&params.messages)?;
    let fixed = written(&Fixed { system: params.system.clone(), tools: params.tools.clone() })?;
    Ok(Prepared { params: Box::new(params), count: 0, new, fixed: Some(fixed) })
}

/// A request that goes on with what is kept under this id.
fn continued(mut params: MessageCreateParams, kept: &Texts, id: &str) -> Result<Prepared, ApiError> {
    let (new, breaks) = plain(&params.messages)?;
    let read = kept.fixed::<Value>().zip(kept.said::<MessageParam>());
    let (mut fixed, mut messages) = read.ok_or_else(|| lost(Gone::NotFound, id))?;
    if params.messages.is_empty() {
        return Err(ApiError::invalid("messages", "at least one new message is required to continue a thread"));
    }
    same(&serde_json::from_value(fixed.clone()).unwrap_or_default(), &params)?;
    // One prompt has few breakpoints, and a later one covers what an earlier one does.
    if breaks || params.cache_control.is_some() {
        without_breakpoints(&mut fixed);
    }
    let Fixed { system, tools } = serde_json::from_value(fixed).unwrap_or_default();
    (params.system, params.tools) = (system, tools);
    let count = messages.len();
    messages.append(&mut params.messages);
    params.messages = messages;
    Ok(Prepared { params: Box::new(params), count, new, fixed: None })
}

fn unsupported(name: &str, why: &str) -> ApiError {
    let mut error = ApiError::invalid("thread", format_args!("{why}; send the whole conversation without `thread`"));
    error.unsupported = vec![name.to_owned()];
    error.code("thread_unsupported_request")
}

fn lost(gone: Gone, id: &str) -> ApiError {
    let id = shown(id);
    let invalid = |message: String| ApiError::invalid("thread.previous_message_id", message);
    match gone {
        Gone::NotFound => ApiError::new(
            ErrorKind::NotFound,
            format!("thread.previous_message_id: no thread goes on from `{id:.64}`; send the whole conversation with `thread: {{\"type\": \"create\"}}`"),
        )
        .at("thread.previous_message_id")
        .code("thread_not_found"),
        Gone::InFlight => invalid(format!("another request goes on from `{id:.64}` just now; wait for its answer and go on from that"))
            .code("thread_continue_in_flight"),
        Gone::Continued => {
            invalid(format!("`{id:.64}` was gone on from already; go on from the thread's last answer")).code("thread_already_continued")
        }
    }
}

/// What a thread has once and for all may be repeated, but not be changed.
fn same(fixed: &Fixed, params: &MessageCreateParams) -> Result<(), ApiError> {
    let changed = [
        ("system", params.system.is_some() && params.system != fixed.system),
        ("tools", params.tools.is_some() && params.tools != fixed.tools),
    ];
    match changed.iter().find(|(_, changed)| *changed) {
        None => Ok(()),
        Some((name, _)) => {
            let message = "is not what the thread was created with; leave it out, or create a new thread with the whole conversation";
            Err(ApiError::invalid(*name, message).code("thread_fingerprint_mismatch"))
        }
    }
}

fn names(unknown: Map<String, Value>) -> Vec<String> {
    unknown.into_iter().map(|(name, _)| name).take(16).collect()
}

fn written(value: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|_| ApiError::new(ErrorKind::Api, "the conversation has no JSON form"))
}

/// Messages as they are kept, without their breakpoints: those are of the request that brought them. Also whether there were any.
fn plain(messages: &[MessageParam]) -> Result<(Vec<u8>, bool), ApiError> {
    let unwritten = |_| ApiError::new(ErrorKind::Api, "the conversation has no JSON form");
    let mut messages = serde_json::to_value(messages).map_err(unwritten)?;
    let breaks = without_breakpoints(&mut messages);
    Ok((written(&messages)?, breaks))
}

/// Takes the breakpoints out of messages, blocks and tools, and says whether there were any. What tools are called with is not looked into.
fn without_breakpoints(value: &mut Value) -> bool {
    match value {
        Value::Array(members) => members.iter_mut().fold(false, |any, member| without_breakpoints(member) | any),
        Value::Object(members) => {
            let mut any = members.shift_remove("cache_control").is_some_and(|breakpoint| !breakpoint.is_null());
            for name in ["content", "source", "system", "tools"] {
                any |= members.get_mut(name).is_some_and(without_breakpoints);
            }
            any
        }
        _ => false,
    }
}
