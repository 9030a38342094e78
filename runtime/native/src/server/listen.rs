//! HTTP: connections, limits on what they may hold, and the way to the service and back.

mod forward;
mod names;

pub(super) use forward::pass;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use firecrest_contract::error::ApiError;
use http::request::Parts;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tower_http::add_extension::AddExtension;

use super::bodies::{Bodies, Held};
use super::config::Config;
use super::connections::{Connections, Failures, Seat, Socket};
use super::log::Throttle;
use super::metrics::Metrics;
use super::readiness::Readiness;
use forward::{counted, forward, metrics_text, only_read, ready};
use names::{cors, known_names};

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
}
