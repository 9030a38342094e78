//! HTTP: connections, limits on what they may hold, and the way to the service and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use firecrest_contract::ask::Dialect;
use firecrest_contract::error::{ApiError, ErrorKind, shown};
use firecrest_service::refusal;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutError};

use super::config::Config;
use super::metrics::Metrics;

/// A request on its way to the service.
pub(super) struct Job {
    pub(super) request: Request<Bytes>,
    /// Dropped by a caller that went away.
    pub(super) reply: oneshot::Sender<http::Response<Reply>>,
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
    draining: Arc<AtomicBool>,
}

/// Serves until `stop` is ready, then until all answers are told or `drain` is over.
pub(super) async fn serve(
    listener: TcpListener,
    config: Arc<Config>,
    jobs: mpsc::Sender<Job>,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
) {
    let draining = Arc::new(AtomicBool::new(false));
    let shared = Shared { jobs, config: Arc::clone(&config), metrics, draining: Arc::clone(&draining) };
    let router = Router::new()
        .route("/healthz", axum::routing::get(async || "ok\n"))
        .route("/readyz", axum::routing::get(ready))
        .route("/metrics", axum::routing::get(metrics_text))
        .method_not_allowed_fallback(only_read)
        .fallback(forward)
        .layer(RequestBodyTimeoutLayer::new(config.timeouts.body()))
        .layer(axum::middleware::from_fn_with_state(shared.clone(), known_names))
        .layer(cors(&config))
        .with_state(shared);
    let service = TowerToHyperService::new(router);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(config.timeouts.head());
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20)).keep_alive_timeout(config.timeouts.head());
    let graceful = GracefulShutdown::new();
    let (phase, phases) = watch::channel(Phase::Serving);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of file descriptors, most often: others end, and then there are some again.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = socket.set_nodelay(true);
        let (builder, service, config, watcher) = (builder.clone(), service.clone(), Arc::clone(&config), graceful.watcher());
        let mut phases = phases.clone();
        tokio::spawn(async move {
            let begun = tokio::select! {
                begun = tokio::time::timeout(config.timeouts.head(), first_bytes(&socket)) => begun,
                _ = phases.wait_for(|phase| *phase != Phase::Serving) => return,
            };
            if !matches!(begun, Ok(Ok(()))) {
                return;
            }
            let connection = watcher.watch(builder.serve_connection(TokioIo::new(socket), service).into_owned());
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                }
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

async fn ready(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    if shared.draining.load(Ordering::Relaxed) || shared.jobs.is_closed() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    (StatusCode::OK, "ok\n")
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text()).into_response()
}

/// What the paths above say to any other method.
async fn only_read(request: Request<axum::body::Body>) -> Response {
    let message = format!("{} takes GET, not {}", shown(request.uri().path()), shown(request.method().as_str()));
    let error = ApiError::new(ErrorKind::InvalidRequest, message).code("method_not_allowed");
    let mut response = refuse(refusal::dialect_of(request.uri(), request.headers()), &error);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
    response
}

/// Everything else is the service's.
async fn forward(State(shared): State<Shared>, request: Request<axum::body::Body>) -> Response {
    let (parts, body) = request.into_parts();
    let dialect = refusal::dialect_of(&parts.uri, &parts.headers);
    let bytes = match Limited::new(body, shared.config.body_limit).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => return refuse(dialect, &not_whole(error.as_ref(), &shared.config)),
    };
    pass(&shared.jobs, Request::from_parts(parts, bytes)).await
}

/// To the service and back.
pub(super) async fn pass(jobs: &mpsc::Sender<Job>, request: Request<Bytes>) -> Response {
    let dialect = refusal::dialect_of(request.uri(), request.headers());
    let (reply, answer) = oneshot::channel();
    let sent = jobs.send(Job { request, reply }).await;
    let Some(response) = (if sent.is_ok() { answer.await.ok() } else { None }) else {
        return refuse(dialect, &ApiError::new(ErrorKind::Api, "the service has stopped"));
    };
    response.map(|reply| match reply {
        Reply::Whole(bytes) => axum::body::Body::from(bytes),
        Reply::Stream(mut pieces) => {
            let stream = futures_util::stream::poll_fn(move |context| {
                pieces.poll_recv(context).map(|piece| piece.map_or(Some(Err(Cut)), |p| p.map(Ok)))
            });
            axum::body::Body::from_stream(stream)
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

/// Why a body is not there.
fn not_whole(error: &(dyn std::error::Error + 'static), config: &Config) -> ApiError {
    // What the layers say comes wrapped in one another's errors.
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    if error.is::<http_body_util::LengthLimitError>() {
        return ApiError::new(ErrorKind::TooLarge, format!("the body is larger than {} bytes", config.body_limit));
    }
    if causes.any(|cause| cause.is::<TimeoutError>()) {
        let message = format!("nothing more of the body came for {} seconds; send the request again", config.timeouts.body);
        return ApiError::new(ErrorKind::InvalidRequest, message).code("request_timeout");
    }
    ApiError::new(ErrorKind::InvalidRequest, "the body did not come whole")
}

/// An error from before the service heard of the request.
fn refuse(dialect: Dialect, error: &ApiError) -> Response {
    let id = refusal::new_id(super::host::random);
    tracing::info!(id, status = error.status(), outcome = error.kind.name(), "request refused");
    refusal::envelope(dialect, error, &id).map(axum::body::Body::from)
}

/// Refuses names and pages that we don't know: a page may point a name of its own at this machine, and would then be this server's origin.
async fn known_names(State(shared): State<Shared>, request: Request<axum::body::Body>, next: axum::middleware::Next) -> Response {
    let dialect = || refusal::dialect_of(request.uri(), request.headers());
    if shared.config.listen.ip().is_loopback() {
        let host =
            request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).or(request.uri().authority().map(|a| a.as_str()));
        let name = host.map(without_port).unwrap_or_default();
        if !is_loopback_name(name) && !shared.config.hosts.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let message = format!("this server is not called `{}`; add the name to `hosts` if it is", shown(name));
            return refuse(dialect(), &ApiError::new(ErrorKind::Permission, message));
        }
    }
    if let Some(origin) = request.headers().get(header::ORIGIN)
        && !origin_allowed(&shared.config, origin)
    {
        let message = "pages of this origin may not call this server; add it to `origins` if they should";
        return refuse(dialect(), &ApiError::new(ErrorKind::Permission, message));
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
                serve(listener, Arc::new(config), jobs, Arc::new(Metrics::new()), async { drop(stopped.await) }).await;
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
            let slow = "nothing more of the body came for 0.05 seconds; send the request again";
            assert_eq!(refused("content-length: 4", "12"), told("408", slow));
            assert_eq!(refused("transfer-encoding: chunked", "zz\r\n"), told("400", "the body did not come whole"));
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
