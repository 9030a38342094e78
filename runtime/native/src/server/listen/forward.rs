//! A request's way: what is answered here, its body, the way to the service and back.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use firecrest_contract::ask::Dialect;
use firecrest_contract::error::{ApiError, ErrorKind, shown};
use firecrest_service::record::Caller;
use firecrest_service::refusal;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use tokio::sync::{mpsc, oneshot};

use super::super::bodies::{busy, too_large};
use super::super::connections::{Answer, Seat};
use super::super::log::Throttle;
use super::{Incoming, Job, Reply, Shared};

/// Counts a request as open until its answer is over.
pub(super) async fn counted(mut request: Request<Body>, next: axum::middleware::Next) -> Response {
    let Some(seat) = request.extensions().get::<Arc<Seat>>().cloned() else { return next.run(request).await };
    let open = Arc::new(std::sync::Mutex::new(Some(seat.opened(!request.body().is_end_stream()))));
    request.extensions_mut().insert(Opened(Arc::clone(&open)));
    let spare = seat.spare && !PROBES.contains(&request.uri().path());
    let mut response = match spare {
        true => refuse(&request, &busy("this server has as many connections as it can hold")),
        false => next.run(request).await,
    };
    if seat.spare {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let open = open.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    match open {
        Some(open) => response.map(|body| Body::new(Answer { body, _open: open })),
        None => response,
    }
}

/// Paths that tell how the server is, and wait for nothing.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// A request that is counted as open.
#[derive(Clone)]
struct Opened(Arc<std::sync::Mutex<Option<super::super::connections::Open>>>);

pub(super) async fn ready(State(shared): State<Shared>) -> (StatusCode, String) {
    if shared.draining.load(Ordering::Relaxed) || shared.jobs.is_closed() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    // Names of parts: why they are not ready is for the log.
    let mut troubled = shared.readiness.troubled();
    if !shared.metrics.models_are_ready() {
        troubled.push("models".to_owned());
    }
    match troubled.is_empty() {
        true => (StatusCode::OK, "ok\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", troubled.join(", "))),
    }
}

pub(super) async fn metrics_text(State(shared): State<Shared>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text()).into_response()
}

/// What the paths above say to any other method.
pub(super) async fn only_read(request: Request<Body>) -> Response {
    let message = format!("{} takes GET, not {}", shown(request.uri().path()), shown(request.method().as_str()));
    let error = ApiError::new(ErrorKind::InvalidRequest, message).code("method_not_allowed");
    let mut response = refuse(&request, &error);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
    response
}

/// Everything else is the service's. Its body is read when the service has looked at its head.
pub(super) async fn forward(State(shared): State<Shared>, request: Request<Body>) -> Response {
    static WRONG: Throttle = Throttle::new();
    if content_length(request.headers()).is_some_and(|length| length > shared.config.body_limit as u64) {
        return refuse(&request, &too_large(&shared.config));
    }
    let (mut parts, body) = request.into_parts();
    let (dialect, caller) = (refusal::dialect_of(&parts.uri, &parts.headers), caller(&shared, &parts));
    let (seat, open) = (parts.extensions.remove::<Arc<Seat>>(), parts.extensions.remove::<Opened>());
    if let Some(address) = caller {
        parts.extensions.insert(Caller(address));
    }
    let (reply, answer) = oneshot::channel();
    let response = if body.is_end_stream() {
        answers(open.as_ref());
        pass(&shared.jobs, Job { parts, body: Incoming::Whole(Bytes::new()), reply }, answer, dialect).await
    } else {
        let ((go, asked), (give, taken)) = (oneshot::channel(), oneshot::channel());
        let reading = async {
            // If nobody asks for it, the request is refused, and its answer on its way.
            let Ok(key) = asked.await else { return std::future::pending().await };
            let key: String = key;
            let body = shared.bodies.read(body, &key, &shared.config).await;
            if let (Ok(_), Some(seat)) = (&body, &seat) {
                seat.read();
            }
            answers(open.as_ref());
            let _ = give.send(body);
            std::future::pending().await
        };
        let passed = pass(&shared.jobs, Job { parts, body: Incoming::Asked { go, body: taken }, reply }, answer, dialect);
        tokio::select! {
            response = passed => response,
            response = reading => response,
        }
    };
    if response.status() == StatusCode::UNAUTHORIZED
        && let Some(caller) = caller
        && let Some(wait) = shared.failures.wrong_key(caller)
    {
        if let Some(left_out) = WRONG.pass() {
            tracing::warn!(%caller, left_out, "too many requests with wrong keys come from this address");
        }
        let message = "too many requests with wrong keys came from your address; look at your key, and try again in a minute";
        let error = ApiError::new(ErrorKind::RateLimit, message).retry_after_ms(wait.as_millis() as u64);
        return refusal::envelope(dialect, &error, &refusal::new_id(super::super::host::random)).map(Body::from);
    }
    response
}

/// From now on the caller waits for us.
fn answers(open: Option<&Opened>) {
    if let Some(Opened(open)) = open
        && let Some(open) = open.lock().unwrap_or_else(std::sync::PoisonError::into_inner).as_mut()
    {
        open.answers();
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Where a request comes from: as a proxy of ours says, where one passed it on.
fn caller(shared: &Shared, parts: &Parts) -> Option<IpAddr> {
    let peer = parts.extensions.get::<Arc<Seat>>()?.peer.to_canonical();
    if !shared.connections.is_proxy(peer) {
        return Some(peer);
    }
    let named = parts.headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let named: Vec<IpAddr> = named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    // What stands before the last that is no proxy may be anybody's invention.
    named.into_iter().rev().find(|address| !shared.connections.is_proxy(*address)).or(Some(peer))
}

/// To the service and back.
pub(in crate::server) async fn pass(
    jobs: &mpsc::Sender<Job>,
    job: Job,
    answer: oneshot::Receiver<http::Response<Reply>>,
    dialect: Dialect,
) -> Response {
    let sent = jobs.send(job).await;
    let Some(response) = (if sent.is_ok() { answer.await.ok() } else { None }) else {
        let error = ApiError::new(ErrorKind::Api, "the service has stopped");
        return refusal::envelope(dialect, &error, &refusal::new_id(super::super::host::random)).map(Body::from);
    };
    response.map(|reply| match reply {
        Reply::Whole(bytes) => Body::from(bytes),
        Reply::Stream(mut pieces) => {
            let stream = futures_util::stream::poll_fn(move |context| {
                pieces.poll_recv(context).map(|piece| piece.map_or(Some(Err(Cut)), |p| p.map(Ok)))
            });
            Body::from_stream(stream)
        }
    })
}

/// Ends a connection in the middle of a body, which is how HTTP says that there was more.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer was cut")
    }
}

impl std::error::Error for Cut {}

/// An error from before the service heard of the request.
pub(super) fn refuse(request: &Request<Body>, error: &ApiError) -> Response {
    static REFUSED: Throttle = Throttle::new();
    let dialect = refusal::dialect_of(request.uri(), request.headers());
    let id = refusal::new_id(super::super::host::random);
    if let Some(left_out) = REFUSED.pass() {
        let caller = request.extensions().get::<Arc<Seat>>().map(|seat| seat.peer.to_string());
        tracing::info!(id, caller, status = error.status(), outcome = error.kind.name(), left_out, "request refused");
    }
    refusal::envelope(dialect, error, &id).map(Body::from)
}
