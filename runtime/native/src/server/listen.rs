//! HTTP: connections, limits on what they may hold, and the way to the service and back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use firecrest_contract::ask::Dialect;
use firecrest_contract::error::{ApiError, ErrorKind, shown};
use firecrest_service::record::Caller;
use firecrest_service::refusal;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tower_http::add_extension::AddExtension;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::bodies::{Bodies, Held, busy, too_large};
use super::config::Config;
use super::connections::{Answer, Connections, Failures, Seat, Socket};
use super::log::Throttle;
use super::metrics::Metrics;
use super::readiness::Readiness;

/// Bytes of a head at most, and of what is read from a connection at once.
const HEAD: usize = 64 * 1024;

/// Requests at once on a connection of HTTP/2.
const STREAMS: u32 = 128;

/// A request on its way to the service.
pub(super) struct Job {
    pub(super) parts: Parts,
    pub(super) body: Incoming,
    /// Dropped by a caller that went away.
    pub(super) reply: oneshot::Sender<http::Response<Reply>>,
}

/// A body on its way to the service.
pub(super) enum Incoming {
    /// All of it.
    Whole(Bytes),
    /// It is read once `go` is told whose it is: whoever may not send one sends it to nobody.
    Asked { go: oneshot::Sender<String>, body: oneshot::Receiver<Result<(Bytes, Held), ApiError>> },
}

/// A body on its way back.
pub(super) enum Reply {
    Whole(Bytes),
    /// Bounded: a caller that reads slowly slows its answer. `None` is the end: a stream that is closed without it was cut, and its caller must not take
    /// it for whole.
    Stream(mpsc::Receiver<Option<Bytes>>),
}

/// How connections are held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Those on which nothing was said yet are closed, the others when their answers have ended.
    Draining,
    /// All are closed.
    Cut,
}

#[derive(Clone)]
struct Shared {
    jobs: mpsc::Sender<Job>,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    bodies: Arc<Bodies>,
    connections: Arc<Connections>,
    failures: Arc<Failures>,
    draining: Arc<AtomicBool>,
}

/// What a server's parts tell its listener, and it them.
pub(super) struct Ports {
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
}

/// Serves until `stop` is ready, then until all answers are told or `drain` is over.
pub(super) async fn serve(listener: TcpListener, config: Arc<Config>, ports: Ports, stop: impl Future<Output = ()>) {
    static REFUSED: Throttle = Throttle::new();
    let Ports { jobs, metrics, readiness } = ports;
    let draining = Arc::new(AtomicBool::new(false));
    let connections = Connections::new(&config);
    let shared = Shared {
        jobs,
        config: Arc::clone(&config),
        metrics,
        readiness,
        bodies: Bodies::new(&config),
        connections: Arc::clone(&connections),
        failures: Arc::default(),
        draining: Arc::clone(&draining),
    };
    let router = Router::new()
        .route("/healthz", axum::routing::get(async || "ok\n"))
        .route("/readyz", axum::routing::get(ready))
        .route("/metrics", axum::routing::get(metrics_text))
        .method_not_allowed_fallback(only_read)
        .fallback(forward)
        .layer(axum::middleware::from_fn_with_state(shared.clone(), known_names))
        .layer(cors(&config))
        .layer(axum::middleware::from_fn(counted))
        .with_state(shared);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(config.timeouts.head()).max_buf_size(HEAD);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20)).keep_alive_timeout(config.timeouts.head());
    builder.http2().max_concurrent_streams(STREAMS).max_header_list_size(HEAD as u32);
    let graceful = GracefulShutdown::new();
    let (phase, phases) = watch::channel(Phase::Serving);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most often: others end, and then there are some again.
                if let Some(left_out) = REFUSED.pass() {
                    tracing::warn!(%error, left_out, "a connection could not be accepted");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(seat) = connections.enter(peer.ip()) else {
            if let Some(left_out) = REFUSED.pass() {
                tracing::warn!(caller = %peer.ip(), left_out, "a connection was closed: there are too many, and all are answered");
            }
            continue;
        };
        let _ = socket.set_nodelay(true);
        let (builder, config, watcher) = (builder.clone(), Arc::clone(&config), graceful.watcher());
        let service = TowerToHyperService::new(AddExtension::new(router.clone(), Arc::clone(&seat)));
        let mut phases = phases.clone();
        tokio::spawn(async move {
            let begun = tokio::select! {
                begun = tokio::time::timeout(config.timeouts.head(), first_bytes(&socket)) => begun,
                () = seat.gives_way() => return,
                _ = phases.wait_for(|phase| *phase != Phase::Serving) => return,
            };
            if !matches!(begun, Ok(Ok(()))) {
                return;
            }
            let socket = Socket::new(socket, Arc::clone(&seat));
            let connection = watcher.watch(builder.serve_connection(TokioIo::new(socket), service).into_owned());
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                }
                () = seat.gives_way() => (),
                () = useless(&seat, &config) => (),
                // What runs for it ends with it.
                _ = phases.wait_for(|phase| *phase == Phase::Cut) => (),
            }
        });
    }
    draining.store(true, Ordering::Relaxed);
    let _ = phase.send(Phase::Draining);
    drop(listener);
    tracing::info!(seconds = config.timeouts.drain, "stopping: answers that run may end");
    if tokio::time::timeout(config.timeouts.drain(), graceful.shutdown()).await.is_err() {
        tracing::warn!("answers that still ran were cut");
        // Each connection holds the way to the service, which ends, and writes what is to be kept, when the last is gone.
        let _ = phase.send(Phase::Cut);
    }
}

/// Ready when enough came to tell which version of HTTP is spoken. hyper waits for that without an end, and then for a head with one.
async fn first_bytes(socket: &tokio::net::TcpStream) -> std::io::Result<()> {
    const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut bytes = [0; HTTP2.len()];
    loop {
        let count = socket.peek(&mut bytes).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if count == HTTP2.len() || !HTTP2.starts_with(&bytes[..count]) {
            return Ok(());
        }
        // A part of it, which is there to be peeked at again at once.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Ready when a connection is of no more use: nothing is asked on it, though its caller answers pings, or nothing is read of what it is told.
async fn useless(seat: &Seat, config: &Config) {
    // hyper counts how long it waits for a head itself, and says so if part of one came.
    let idle = config.timeouts.head() + Duration::from_millis(500);
    let often = (config.timeouts.head() / 4).clamp(Duration::from_millis(50), Duration::from_secs(5));
    while !seat.is_idle(idle) && !seat.is_stuck(config.timeouts.answer()) {
        tokio::time::sleep(often).await;
    }
}

/// Counts a request as open until its answer is over.
async fn counted(mut request: Request<Body>, next: axum::middleware::Next) -> Response {
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
struct Opened(Arc<std::sync::Mutex<Option<super::connections::Open>>>);

async fn ready(State(shared): State<Shared>) -> (StatusCode, String) {
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

async fn metrics_text(State(shared): State<Shared>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text()).into_response()
}

/// What the paths above say to any other method.
async fn only_read(request: Request<Body>) -> Response {
    let message = format!("{} takes GET, not {}", shown(request.uri().path()), shown(request.method().as_str()));
    let error = ApiError::new(ErrorKind::InvalidRequest, message).code("method_not_allowed");
    let mut response = refuse(&request, &error);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
    response
}

/// Everything else is the service's. Its body is read when the service has looked at its head.
async fn forward(State(shared): State<Shared>, request: Request<Body>) -> Response {
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
        return refusal::envelope(dialect, &error, &refusal::new_id(super::host::random)).map(Body::from);
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
pub(super) async fn pass(
    jobs: &mpsc::Sender<Job>,
    job: Job,
    answer: oneshot::Receiver<http::Response<Reply>>,
    dialect: Dialect,
) -> Response {
    let sent = jobs.send(job).await;
    let Some(response) = (if sent.is_ok() { answer.await.ok() } else { None }) else {
        let error = ApiError::new(ErrorKind::Api, "the service has stopped");
        return refusal::envelope(dialect, &error, &refusal::new_id(super::host::random)).map(Body::from);
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
fn refuse(request: &Request<Body>, error: &ApiError) -> Response {
    static REFUSED: Throttle = Throttle::new();
    let dialect = refusal::dialect_of(request.uri(), request.headers());
    let id = refusal::new_id(super::host::random);
    if let Some(left_out) = REFUSED.pass() {
        let caller = request.extensions().get::<Arc<Seat>>().map(|seat| seat.peer.to_string());
        tracing::info!(id, caller, status = error.status(), outcome = error.kind.name(), left_out, "request refused");
    }
    refusal::envelope(dialect, error, &id).map(Body::from)
}

/// Refuses names and pages that we don't know: a page may point a name of its own at this machine, and would then be this server's origin.
async fn known_names(State(shared): State<Shared>, request: Request<Body>, next: axum::middleware::Next) -> Response {
    if shared.config.listen.ip().is_loopback() {
        let host =
            request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).or(request.uri().authority().map(|a| a.as_str()));
        let name = host.map(without_port).unwrap_or_default();
        if !is_loopback_name(name) && !shared.config.hosts.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let message = format!("this server is not called `{}`; add the name to `hosts` if it is", shown(name));
            return refuse(&request, &ApiError::new(ErrorKind::Permission, message));
        }
    }
    if let Some(origin) = request.headers().get(header::ORIGIN)
        && !origin_allowed(&shared.config, origin)
    {
        let message = "pages of this origin may not call this server; add it to `origins` if they should";
        return refuse(&request, &ApiError::new(ErrorKind::Permission, message));
    }
    next.run(request).await
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(host, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_loopback_name(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn origin_allowed(config: &Config, origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let own = |rest: &str| is_loopback_name(without_port(rest));
    config.origins.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
        || origin.strip_prefix("http://").or(origin.strip_prefix("https://")).is_some_and(own)
}

fn cors(config: &Arc<Config>) -> CorsLayer {
    let known = Arc::clone(config);
    const EXPOSED: [&str; 25] = [
        "request-id",
        "x-request-id",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
        "anthropic-ratelimit-output-tokens-limit",
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
        "firecrest-ignored-fields",
        "firecrest-model",
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| origin_allowed(&known, origin)))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(Duration::from_secs(600))
}

/// Listens.
///
/// # Errors
/// An address that is taken, or not ours.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|e| format!("can't listen on {address}: {e}; choose another with --port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        for name in ["localhost", "LOCALHOST:8484", "127.0.0.1", "127.9.9.9:1", "[::1]:8484", "[::1]"] {
            assert!(is_loopback_name(without_port(name)), "{name}");
        }
        for name in ["", "example.org", "localhost.example.org:80", "10.0.0.1", "[::2]:1", "127.0.0.1.nip.io"] {
            assert!(!is_loopback_name(without_port(name)), "{name}");
        }
    }

    /// One who connects and says nothing, or too little, is not waited for without an end; nor one who has said all that it wanted.
    #[tokio::test(flavor = "current_thread")]
    async fn nobody_holds_a_connection_for_nothing() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let timeouts = super::super::config::Timeouts { head: 0.3, ..Default::default() };
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config { listen, auth: false, store: ":memory:".into(), timeouts, ..Config::default() };
        let (address, known) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = super::super::Server::new(config).expect("a server");
        let serving = server.serve(|at| address.send(at).expect("somebody waits"), async { drop(stopped.await) });
        let calling = async {
            let address = known.await.expect("it listens");
            for said in ["", "P", "PRI * HT", "GET /healthz", "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
                let mut socket = tokio::net::TcpStream::connect(address).await.expect("a connection");
                socket.write_all(said.as_bytes()).await.expect("sent");
                let mut answer = Vec::new();
                let ended = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await;
                assert!(ended.is_ok(), "`{said}` holds a connection");
                assert_eq!(answer.starts_with(b"HTTP/1.1 200"), said.ends_with("\r\n"), "{}", String::from_utf8_lossy(&answer));
            }
            stop.send(()).expect("it runs");
        };
        let (served, ()) = tokio::join!(serving, calling);
        served.expect("it ends");
    }

    /// What the server sends back for these bytes, until it closes.
    fn exchange(address: SocketAddr, sent: &[u8]) -> String {
        use std::io::{Read, Write};
        let mut connection = std::net::TcpStream::connect(address).expect("a connection");
        connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        connection.write_all(sent).expect("sent");
        let mut received = Vec::new();
        connection.read_to_end(&mut received).expect("an answer and its end");
        String::from_utf8(received).expect("text")
    }

    #[test]
    fn what_is_refused_before_the_service_hears_of_it_has_an_id_and_a_dialect() {
        let mut config = Config { listen: ([127, 0, 0, 1], 0).into(), body_limit: 8, ..Config::default() };
        config.timeouts.body = 0.05;
        let (stop, stopped) = oneshot::channel::<()>();
        let (listening, listens) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = bind(config.listen).await.expect("a listener");
                listening.send(listener.local_addr().expect("an address")).expect("somebody waits");
                // Nobody takes what is sent on: the service has stopped.
                let (jobs, _) = mpsc::channel(1);
                let ports = Ports { jobs, metrics: Arc::new(Metrics::new()), readiness: Arc::default() };
                serve(listener, Arc::new(config), ports, async { drop(stopped.await) }).await;
            });
        });
        let address = listens.recv().expect("an address");
        let refused = |head: &str, body: &str| {
            let answer = exchange(address, format!("POST {head}\r\nconnection: close\r\n\r\n{body}").as_bytes());
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            let id = header("request-id:").or(header("x-request-id:")).expect("an id");
            assert_eq!((id.len(), header("content-type:").as_deref()), (24, Some("application/json")));
            match header("request-id:") {
                Some(id) => assert_eq!((&body["type"], &body["request_id"]), (&"error".into(), &id.into()), "{answer}"),
                None => assert_eq!(body["error"].as_object().map(|error| error.len()), Some(4), "{answer}"),
            }
            (head[9..12].to_owned(), header("request-id:").is_some(), body["error"]["message"].as_str().expect("a message").to_owned())
        };
        for (path, messages) in [("/v1/messages", true), ("/v1/chat/completions", false)] {
            let told = |status: &str, message: &str| (status.to_owned(), messages, message.to_owned());
            let host = format!("{path} HTTP/1.1\r\nhost: localhost\r\n");
            let refused = |more: &str, body: &str| refused(&format!("{host}{more}"), body);
            assert_eq!(refused("content-length: 9", "123456789"), told("413", "the body is larger than 8 bytes"));
            assert_eq!(refused("content-length: 2", "{}"), told("500", "the service has stopped"));
            assert_eq!(refused("origin: https://evil.example", "").0, "403");
        }
        for (path, key, messages) in [("/healthz", "", false), ("/readyz", "", false), ("/metrics", "x-api-key: k\r\n", true)] {
            let told = refused(&format!("{path} HTTP/1.1\r\n{key}host: localhost"), "");
            assert_eq!(told, ("405".to_owned(), messages, format!("{path} takes GET, not POST")));
        }
        let answer = exchange(address, b"DELETE /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        assert!(answer.contains("\r\nallow: GET,HEAD\r\n") && answer.contains("\"method_not_allowed\""), "{answer}");
        let stranger = refused("/v1/models HTTP/1.1\r\nhost: evil.example\r\nx-api-key: k", "");
        assert_eq!((stranger.0.as_str(), stranger.1), ("403", true));
        drop(stop);
        server.join().expect("it stops");
    }

    #[test]
    fn pages_that_may_call() {
        let config = Config { origins: vec!["https://app.example".to_owned()], ..Config::default() };
        let allowed = |origin: &'static str| origin_allowed(&config, &HeaderValue::from_static(origin));
        assert!(allowed("https://app.example") && allowed("http://localhost:5173") && allowed("http://[::1]:1"));
        assert!(!allowed("https://app.example.evil") && !allowed("null") && !allowed("http://localhost.evil") && !allowed("file://"));
    }
}
