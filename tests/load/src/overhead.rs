//! What a request's path costs: the whole of it less a bare handler that gives back the same bytes, in one run, turn and turn about.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use clap::Args;
use serde_json::{Value, json};

use crate::http::{Answer, post};
use crate::open_loop::{Callers, Percentiles, Sample};
use crate::server::{Scratch, Server, fetch, make_keys, metrics};

/// Measures what keys, limits, rules and everything else of the path cost a request.
#[derive(Args)]
pub(crate) struct Overhead {
    /// Requests a second.
    #[arg(long, default_value_t = 1000.0, value_name = "N")]
    rate: f64,
    /// How long each of the two is measured, for each kind of request.
    #[arg(long, default_value_t = 20, value_name = "N")]
    seconds: u64,
    /// Keys that requests take turns with.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    keys: usize,
    /// Connections to each, at most so many requests are under way.
    #[arg(long, default_value_t = 64, value_name = "N")]
    connections: usize,
    /// The server, as for `churn`.
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Results as JSON.
    #[arg(long)]
    json: bool,
}

const CONFIG: &str = r#"
listen = "127.0.0.1:0"
store = "STORE"

[tiers.load]
requests_per_minute = 1_000_000
input_tokens_per_minute = 1_000_000_000
output_tokens_per_minute = 1_000_000_000
tokens_per_day = 100_000_000_000
concurrent = 1000
"#;

/// The two kinds of requests.
const KINDS: [&str; 2] = ["whole", "stream"];

/// Seconds before anything counts, for each kind and server.
const WARM: u64 = 2;

impl Overhead {
    pub(crate) fn run(self) -> Result<(), String> {
        if !(self.rate > 0.0 && self.rate <= 1e6) || self.seconds == 0 || self.keys == 0 || self.connections == 0 {
            return Err("--rate, --seconds, --keys and --connections are above 0".to_owned());
        }
        let scratch = Scratch::new()?;
        let store = scratch.file("store.sqlite");
        let keys = make_keys(&store, std::iter::repeat_n("load", self.keys))?;
        let config = scratch.write("config.toml", &CONFIG.replace("STORE", &store.display().to_string()))?.display().to_string();
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        // Log lines are part of the path: they are written, and nobody reads them.
        let full = match &self.server {
            Some(program) => Server::start(program, &["--config", &config], true)?,
            None => Server::start(&own, &["serve", "--config", &config], true)?,
        };
        let requests = |host: &str| {
            let of = |stream: bool| {
                let made = keys.iter().map(|key| {
                    let turns = json!([{ "role": "user", "content": "Hello there, how are you today?" }]);
                    let body = json!({ "model": "hello", "max_tokens": 64, "stream": stream, "messages": turns });
                    let headers = [("x-api-key", key.secret.as_str()), ("anthropic-version", "2023-06-01")];
                    Arc::from(post(host, if stream { "/v1/messages?stream" } else { "/v1/messages" }, &headers, &body.to_string()))
                });
                made.collect::<Vec<Arc<[u8]>>>()
            };
            KINDS.map(|kind| of(kind == "stream"))
        };
        let to_full = requests(&full.address.to_string());
        let mut answers = Vec::new();
        for (kind, requests) in KINDS.iter().zip(&to_full) {
            let answer = fetch(full.address, &requests[0])?;
            if answer.status != 200 {
                return Err(format!("{kind}: the server answers {}: {:.300}", answer.status, answer.text()));
            }
            answers.push(answer);
        }
        let answers = scratch.write("answers.json", &recorded(&answers).to_string())?.display().to_string();
        let bare = Server::start(&own, &["bare", &answers], true)?;
        let to_bare = requests(&bare.address.to_string());
        let same = |kind: usize| -> Result<bool, String> {
            let (a, b) = (fetch(full.address, &to_full[kind][0])?, fetch(bare.address, &to_bare[kind][0])?);
            Ok(a.body.len() == b.body.len() && a.chunks.len() == b.chunks.len())
        };
        for (at, kind) in KINDS.iter().enumerate() {
            if !same(at)? {
                return Err(format!("{kind}: the bare handler's answer is not as long as the server's"));
            }
        }

        let (mut callers, mut beside) = (Callers::new(full.address, self.connections)?, Callers::new(bare.address, self.connections)?);
        let before = (Inside::read(&full.get("/metrics")?), full.ran(), bare.ran());
        let second = Duration::from_secs(1);
        for at in 0..(self.seconds + WARM) as usize {
            for kind in 0..KINDS.len() {
                let slice = at * KINDS.len() + kind;
                let patience = Duration::from_secs(20);
                let a = callers.slice(slice, &to_full[kind], self.rate, second, patience)?;
                let b = beside.slice(slice, &to_bare[kind], self.rate, second, patience)?;
                if !(a && b) {
                    return Err(format!("{} requests a second are more than it can do: 20 s later some are not answered", self.rate));
                }
            }
        }
        let after = (Inside::read(&full.get("/metrics")?), full.ran(), bare.ran());
        let samples = [callers.end(), beside.end()];
        let each = |before: &Ran, after: &Ran| {
            let ran = after.iter().map(|(name, ran)| {
                let ran = ran.saturating_sub(before.get(name).copied().unwrap_or_default());
                (name.clone(), ran.as_secs_f64() * 1e3 / samples[0].len().max(1) as f64)
            });
            ran.collect()
        };
        let ran = [each(&before.1, &after.1), each(&before.2, &after.2)];
        self.tell(&samples, &after.0.since(&before.0), &ran)
    }

    fn tell(&self, samples: &[Vec<Sample>; 2], inside: &Inside, ran: &[BTreeMap<String, f64>; 2]) -> Result<(), String> {
        let warm = WARM as usize * KINDS.len();
        let mut all = serde_json::Map::new();
        for (at, kind) in KINDS.iter().enumerate() {
            let counted = |of: &Vec<Sample>, from: fn(&Sample) -> Duration| {
                Percentiles::of(of.iter().filter(|s| s.slice >= warm && s.slice % KINDS.len() == at).map(from))
            };
            let mut kinds = serde_json::Map::new();
            if !self.json {
                println!("{kind}: {} requests a second for {} s, milliseconds", self.rate, self.seconds);
                println!("{:24} {:>8} {:>8} {:>8} {:>8}", "", "p50", "p90", "p99", "p99.9");
            }
            for (name, from) in [("due", (|s| s.from_due) as fn(&Sample) -> Duration), ("sent", |s| s.from_sent)] {
                let (Some(full), Some(bare)) = (counted(&samples[0], from), counted(&samples[1], from)) else {
                    return Err("nothing was answered".to_owned());
                };
                let overhead = full.less(bare);
                if !self.json {
                    for (who, figures) in [("full path", full), ("bare handler", bare), ("overhead", overhead)] {
                        println!("{:24} {}", format!("{who}, from {name}"), figures.line());
                    }
                }
                kinds.insert(name.to_owned(), json!({ "full": full.json(), "bare": bare.json(), "overhead": overhead.json() }));
            }
            all.insert((*kind).to_owned(), kinds.into());
        }
        let bad = samples.iter().flatten().filter(|sample| sample.status != 200).count();
        if bad > 0 {
            return Err(format!("{bad} requests were refused"));
        }
        let Inside { own, requests, writing, writes } = inside;
        let (own, write) = (own / requests.max(1.0) * 1e3, writing / writes.max(1.0) * 1e3);
        if self.json {
            let ran = json!({ "full": ran[0], "bare": ran[1] });
            let inside = json!({ "own_mean": own, "write_mean": write, "writes": writes });
            println!("{}", json!({ "rate": self.rate, "seconds": self.seconds, "kinds": all, "processor": ran, "server": inside }));
            return Ok(());
        }
        for (who, ran) in ["full path", "bare handler"].iter().zip(ran) {
            let threads: Vec<String> = ran.iter().map(|(name, ms)| format!("{name} {ms:.3}")).collect();
            println!("{who}: {:.3} of a processor a request ({})", ran.values().sum::<f64>(), threads.join(", "));
        }
        println!("as the server counts: {own:.3} of its own a request, {write:.3} for each of {writes} writes of limits");
        Ok(())
    }
}

type Ran = BTreeMap<String, Duration>;

/// What the server itself counts, in seconds.
struct Inside {
    /// Its own part of requests.
    own: f64,
    requests: f64,
    /// Writing limits to its store.
    writing: f64,
    writes: f64,
}

impl Inside {
    fn read(text: &str) -> Inside {
        let of = |wanted: &str| metrics(text).filter(|(name, ..)| *name == wanted).map(|(.., value)| value).sum();
        Inside {
            own: of("firecrest_overhead_seconds_sum"),
            requests: of("firecrest_overhead_seconds_count"),
            writing: of("firecrest_store_write_seconds_sum"),
            writes: of("firecrest_store_write_seconds_count"),
        }
    }

    fn since(&self, before: &Inside) -> Inside {
        Inside {
            own: self.own - before.own,
            requests: self.requests - before.requests,
            writing: self.writing - before.writing,
            writes: self.writes - before.writes,
        }
    }
}

/// Answers as the bare handler is told them: type, and pieces.
fn recorded(answers: &[Answer]) -> Value {
    let each = answers.iter().map(|answer| {
        let mut pieces = Vec::new();
        let mut from = 0;
        let whole = [answer.body.len()];
        for &end in if answer.chunks.is_empty() { &whole[..] } else { &answer.chunks } {
            pieces.push(String::from_utf8_lossy(&answer.body[from..end]).into_owned());
            from = end;
        }
        json!({ "type": answer.header("content-type"), "pieces": pieces, "streams": !answer.chunks.is_empty() })
    });
    each.collect()
}

/// An answer of the bare handler's.
struct Recorded {
    kind: header::HeaderValue,
    pieces: Vec<Bytes>,
    streams: bool,
}

/// The bare handler: takes a request's bytes, gives back what was recorded. Nothing else.
pub(crate) fn bare(answers: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(answers).map_err(|e| format!("{}: {e}", answers.display()))?;
    let read: Vec<Value> = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let mut recorded = Vec::new();
    for answer in read {
        let kind = header::HeaderValue::from_str(answer["type"].as_str().unwrap_or_default()).map_err(|e| e.to_string())?;
        let pieces = answer["pieces"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let pieces = pieces.map(|piece| Bytes::from(piece.to_owned())).collect();
        recorded.push(Recorded { kind, pieces, streams: answer["streams"] == true });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(|e| e.to_string())?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        println!("listening on http://{address}");
        let router = axum::Router::new().route("/v1/messages", axum::routing::post(give)).with_state(Arc::new(recorded));
        let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
        axum::serve(listener, router).await.map_err(|e| e.to_string())
    })
}

async fn give(State(recorded): State<Arc<Vec<Recorded>>>, uri: axum::http::Uri, _body: Bytes) -> Response {
    let Some(answer) = recorded.get(usize::from(uri.query().is_some())) else { return axum::http::StatusCode::NOT_FOUND.into_response() };
    let body = match answer.streams {
        false => Body::from(answer.pieces.concat()),
        true => {
            let pieces = answer.pieces.clone().into_iter().map(Ok::<_, Infallible>);
            Body::from_stream(futures_util::stream::iter(pieces))
        }
    };
    ([(header::CONTENT_TYPE, answer.kind.clone())], body).into_response()
}
