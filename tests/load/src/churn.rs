//! Callers who come, read slowly and go away, at any byte: whether the server counts each token once, and keeps nothing of those who left.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use firecrest::server::store::Store;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::http::{Answer, post};
use crate::random::Random;
use crate::server::{Holds, Key, Scratch, Server, label, make_keys, metrics};

/// Opens many streams that end anyhow, and checks that nothing of them is left and every token is charged once.
#[derive(Args)]
pub(crate) struct Churn {
    /// Keys in the server's store.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    keys: usize,
    /// Streams at once.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    streams: usize,
    /// How long, over all rounds. Between rounds all streams end, and what the server holds is looked at.
    #[arg(long, default_value_t = 30, value_name = "N")]
    seconds: u64,
    /// Rounds. What the server holds may grow in the first, not from there on.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: u64,
    /// MiB that the server's memory may grow by from the end of the first round to the end of the last.
    #[arg(long, default_value_t = 32, value_name = "MIB")]
    growth: u64,
    /// Seconds that the server has for its last answers when it is told to stop.
    #[arg(long, default_value_t = 4, value_name = "N")]
    drain: u64,
    /// Repeats a run's choices; the times at which things happen are not repeated.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The server: takes `--config FILE` and serves the models `hello` and `endless`. This program's own if not given.
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
}

/// The tiers that keys are of, round about. Those with little output dry up and pause in the middle of answers.
const TIERS: [&str; 5] = ["free", "dry", "dry", "narrow", "short"];

/// One key in so many is patient. Prime to the tiers, so that some of each are.
const PATIENT: usize = 7;

const CONFIG: &str = r#"
listen = "127.0.0.1:0"
store = "STORE"
timeouts = { drain = DRAIN }

[tiers.free]
tokens_per_day = 100_000_000_000

[tiers.dry]
output_tokens_per_minute = 600
tokens_per_day = 100_000_000_000

[tiers.narrow]
concurrent = 1
requests_per_minute = 600
tokens_per_day = 100_000_000_000

[tiers.short]
input_tokens_per_minute = 900
output_tokens_per_minute = 1_500
tokens_per_day = 100_000_000_000
"#;

/// How one request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// With its last byte. The tokens it says it took, where it says so.
    Whole(Option<u64>),
    /// Told no, in a whole answer.
    Refused(u16),
    /// By us.
    Left,
    /// By the server, before its end.
    Cut,
    /// In no way that there should be.
    Wrong(String),
}

/// What one key saw.
#[derive(Default)]
struct Seen {
    tokens: u64,
    /// Requests of which nobody here knows what they took.
    unknown: u64,
}

/// What all callers saw.
#[derive(Default)]
struct Tally {
    ends: BTreeMap<String, u64>,
    wrong: Vec<String>,
    keys: BTreeMap<String, Seen>,
}

impl Tally {
    fn note(&mut self, key: &str, end: End) {
        let seen = self.keys.entry(key.to_owned()).or_default();
        let name = match end {
            End::Whole(Some(tokens)) => {
                seen.tokens += tokens;
                "whole, with usage".to_owned()
            }
            End::Whole(None) => {
                seen.unknown += 1;
                "whole".to_owned()
            }
            End::Refused(status) => format!("refused: {status}"),
            End::Left => {
                seen.unknown += 1;
                "left".to_owned()
            }
            End::Cut => {
                seen.unknown += 1;
                "cut by the server".to_owned()
            }
            End::Wrong(why) => {
                seen.unknown += 1;
                self.wrong.push(why);
                "wrong".to_owned()
            }
        };
        *self.ends.entry(name).or_default() += 1;
    }

    fn add(&mut self, other: Tally) {
        for (name, count) in other.ends {
            *self.ends.entry(name).or_default() += count;
        }
        self.wrong.extend(other.wrong);
        for (key, seen) in other.keys {
            let own = self.keys.entry(key).or_default();
            own.tokens += seen.tokens;
            own.unknown += seen.unknown;
        }
    }
}

/// One request as it is to go.
struct Plan {
    request: Vec<u8>,
    /// Bytes of the request that are sent.
    sends: usize,
    /// Bytes of the answer after which the caller leaves.
    leaves_after: Option<usize>,
    /// Or when it does.
    until: Instant,
    /// Waits so long between reads of a few bytes.
    slow: Option<Duration>,
    /// Leaves by RST, not FIN.
    resets: bool,
}

/// What a key's next request is. Those of patient keys are short and read to their end, so that what is charged for all of them is known.
fn plan(random: &mut Random, key: &Key, patient: bool, host: &str, until: Instant) -> Plan {
    let words = random.any_size(256);
    let prompt: String = (0..words).map(|at| format!("word{at} ")).collect();
    let model = if !patient && random.percent(75) { "endless" } else { "hello" };
    let stream = random.percent(85);
    let most = random.any_size(8192);
    let turns = json!([{ "role": "user", "content": prompt }]);
    let request = match random.percent(70) {
        true => {
            let body = json!({ "model": model, "max_tokens": most, "stream": stream, "messages": turns });
            post(host, "/v1/messages", &[("x-api-key", &key.secret), ("anthropic-version", "2023-06-01")], &body.to_string())
        }
        false => {
            let mut body = json!({ "model": model, "max_tokens": most, "stream": stream, "messages": turns, "n": 1 + random.below(3) });
            if stream && let Some(body) = body.as_object_mut() {
                body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
            }
            post(host, "/v1/chat/completions", &[("authorization", &format!("Bearer {}", key.secret))], &body.to_string())
        }
    };
    let whole = request.len();
    Plan {
        request,
        sends: if !patient && random.percent(3) { random.below(whole as u64) as usize } else { whole },
        leaves_after: (!patient && random.percent(60)).then(|| random.any_size(1 << 16) as usize - 1),
        until,
        slow: random.percent(10).then(|| Duration::from_millis(1 + random.below(400))),
        resets: random.percent(50),
    }
}

/// Sends a request and reads as much of the answer as is planned. The connection comes back where it can be used again.
async fn carry_out(address: SocketAddr, held: Option<TcpStream>, plan: Plan) -> (End, Option<TcpStream>) {
    let reused = held.is_some();
    let mut socket = match held {
        Some(socket) => socket,
        None => match TcpStream::connect(address).await {
            Ok(socket) => socket,
            Err(error) => return (End::Wrong(format!("no connection: {error}")), None),
        },
    };
    let _ = socket.set_nodelay(true);
    let read = tokio::time::timeout_at(plan.until.into(), read(&mut socket, &plan)).await;
    let end = match read {
        // The time is over; so it was for those who wait for a bucket to fill, and the server owes them nothing.
        Err(_) => End::Left,
        Ok(Ok(end)) => end,
        Ok(Err(error)) => End::Wrong(format!("{error}{}", if reused { " (on a connection that was used before)" } else { "" })),
    };
    if end == End::Left && plan.resets {
        let _ = socket.set_zero_linger();
    }
    let again = matches!(end, End::Whole(_) | End::Refused(_));
    (end, again.then_some(socket))
}

async fn read(socket: &mut TcpStream, plan: &Plan) -> Result<End, String> {
    socket.write_all(&plan.request[..plan.sends]).await.map_err(|e| format!("sending: {e}"))?;
    if plan.sends < plan.request.len() {
        return Ok(End::Left);
    }
    let mut answer = Answer::default();
    let mut bytes = vec![0; if plan.slow.is_some() { 512 } else { 16 << 10 }];
    let mut came = 0;
    while !answer.is_over() {
        let room = plan.leaves_after.map_or(bytes.len(), |after| bytes.len().min(after - came));
        if room == 0 {
            return Ok(End::Left);
        }
        let count = socket.read(&mut bytes[..room]).await.map_err(|e| format!("reading: {e}"))?;
        if count == 0 {
            return Ok(End::Cut);
        }
        came += count;
        answer.push(&bytes[..count])?;
        if let Some(wait) = plan.slow {
            tokio::time::sleep(wait).await;
        }
    }
    if answer.status == 200 {
        return Ok(End::Whole(usage(&answer.text())));
    }
    match answer.status {
        429 => Ok(End::Refused(429)),
        status => Err(format!("status {status}: {:.300}", answer.text())),
    }
}

/// Prompt and generated tokens, as an answer of either dialect says them last.
fn usage(text: &str) -> Option<u64> {
    let last = |name: &str| {
        let at = text.rfind(&format!("\"{name}\":"))? + name.len() + 3;
        let digits = text[at..].find(|c: char| !c.is_ascii_digit())?;
        text[at..at + digits].parse::<u64>().ok()
    };
    let input = last("input_tokens").or_else(|| last("prompt_tokens"))?;
    Some(input + last("output_tokens").or_else(|| last("completion_tokens"))?)
}

impl Churn {
    pub(crate) fn run(self) -> Result<(), String> {
        let seed = self.seed.map_or_else(|| getrandom::u64().map_err(|e| e.to_string()), Ok)?;
        println!("seed {seed}");
        if self.keys == 0 || self.streams == 0 || self.rounds == 0 {
            return Err("--keys, --streams and --rounds are at least 1".to_owned());
        }
        let scratch = Scratch::new()?;
        let store = scratch.file("store.sqlite");
        // Some more, for the streams that run when the server is told to stop: what they took is not among the metrics any more.
        let late = 64.min(self.streams);
        let mut keys = make_keys(&store, (0..self.keys).map(|at| TIERS[at % TIERS.len()]).chain((0..late).map(|_| "free")))?;
        let last = keys.split_off(self.keys);
        let config = CONFIG.replace("STORE", &store.display().to_string()).replace("DRAIN", &self.drain.to_string());
        let config = scratch.write("config.toml", &config)?.display().to_string();
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut server = match &self.server {
            Some(program) => Server::start(program, &["--config", &config], false)?,
            None => Server::start(&own, &["serve", "--config", &config], false)?,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let mut failed = Vec::new();
        let mut tally = Tally::default();
        let before = server.holds();
        show("at the start", before);
        let mut first = None;
        let keys = Arc::new(keys);
        for round in 0..self.rounds {
            let time = Duration::from_secs(self.seconds) / u32::try_from(self.rounds).unwrap_or(1);
            tally.add(runtime.block_on(self.round(server.address, &keys, seed.wrapping_add(round << 32), time)));
            let quiet = quiet(&server)?;
            let holds = server.holds();
            show(&format!("after round {}, quiet in {} ms", round + 1, quiet.as_millis()), holds);
            first = first.or(holds);
            if let (Some(before), Some(holds)) = (before, holds) {
                if holds.threads > before.threads {
                    failed.push(format!("{} threads became {}", before.threads, holds.threads));
                }
                if holds.files > before.files + 4 {
                    failed.push(format!("{} open files became {}", before.files, holds.files));
                }
            }
        }
        if let (Some(first), Some(last)) = (first, server.holds()) {
            let grown = last.resident_kib.saturating_sub(first.resident_kib);
            if grown > self.growth << 10 {
                failed.push(format!("memory grew by {grown} KiB after the first round"));
            }
        }
        let reported = reported(&server.get("/metrics")?);

        // Some streams run when the server is told to stop: every second ends in time by itself.
        let (ends, took) = runtime.block_on(self.stop(&server, &last))?;
        let status = server.wait(Duration::from_secs(self.drain + 10))?;
        let took = took.elapsed();
        println!("stopped in {} ms, {} streams open: {status}", took.as_millis(), last.len());
        if !status.success() {
            failed.push(format!("the server ended with {status}"));
        }
        if took > Duration::from_secs(self.drain + 2) {
            failed.push(format!("the server took {} ms to stop, and may take {} s", took.as_millis(), self.drain));
        }

        let store = Store::open(&store).map_err(|e| e.to_string())?;
        failed.extend(accounts(&store, &keys, &reported, &tally)?);
        failed.extend(last_accounts(&store, &last, &ends)?);
        for (name, count) in &tally.ends {
            println!("{count:8} {name}");
        }
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        tally.wrong.iter().for_each(|why| *kinds.entry(why.as_str()).or_default() += 1);
        failed.extend(kinds.into_iter().take(20).map(|(why, count)| format!("{count} times: {why}")));
        match failed.is_empty() {
            true => {
                println!("all is well: every stream ended, nothing runs, nothing is leased, every token is charged once");
                Ok(())
            }
            false => Err(format!("{}\nrepeat with --seed {seed}", failed.join("\n"))),
        }
    }

    /// All streams at once, and another for each that ends, until the time is over.
    async fn round(&self, address: SocketAddr, keys: &Arc<Vec<Key>>, seed: u64, time: Duration) -> Tally {
        let until = Instant::now() + time;
        let local = LocalSet::new();
        let callers: Vec<_> = (0..self.streams as u64)
            .map(|caller| {
                let keys = Arc::clone(keys);
                local.spawn_local(async move {
                    let mut random = Random::new(seed ^ caller.wrapping_mul(0x2545_f491_4f6c_dd1d));
                    let mut tally = Tally::default();
                    let mut held = None;
                    let host = address.to_string();
                    // Not all in the same millisecond.
                    tokio::time::sleep(Duration::from_millis(random.below(500))).await;
                    while Instant::now() < until {
                        let at = random.below(keys.len() as u64) as usize;
                        let key = &keys[at];
                        let plan = plan(&mut random, key, at.is_multiple_of(PATIENT), &host, until);
                        let (end, socket) = carry_out(address, held.take(), plan).await;
                        held = socket.filter(|_| random.percent(50));
                        if matches!(end, End::Refused(_)) {
                            // As `retry-after` would say, roughly.
                            tokio::time::sleep(Duration::from_millis(random.below(200))).await;
                        }
                        tally.note(&key.id, end);
                    }
                    tally
                })
            })
            .collect();
        local
            .run_until(async {
                let mut all = Tally::default();
                for caller in callers {
                    match caller.await {
                        Ok(tally) => all.add(tally),
                        Err(error) => all.wrong.push(format!("a caller of ours failed: {error}")),
                    }
                }
                all
            })
            .await
    }

    /// Opens streams and tells the server to stop. What became of each, and since when it is told.
    async fn stop(&self, server: &Server, keys: &[Key]) -> Result<(Vec<End>, Instant), String> {
        let address = server.address;
        let host: Rc<str> = address.to_string().into();
        let until = Instant::now() + Duration::from_secs(self.drain + 20);
        let local = LocalSet::new();
        let streams: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(at, key)| {
                let most = if at % 2 == 0 { 25 } else { 8000 };
                let body = json!({ "model": "endless", "max_tokens": most, "stream": true, "messages": [{ "role": "user", "content": "Go on." }] });
                let headers = [("x-api-key", key.secret.as_str()), ("anthropic-version", "2023-06-01")];
                let request = post(&host, "/v1/messages", &headers, &body.to_string());
                let sends = request.len();
                let plan = Plan { request, sends, leaves_after: None, until, slow: None, resets: false };
                local.spawn_local(async move { carry_out(address, None, plan).await.0 })
            })
            .collect();
        local
            .run_until(async {
                // They are on their way by then.
                tokio::time::sleep(Duration::from_millis(500)).await;
                server.terminate()?;
                let told = Instant::now();
                let mut ends = Vec::new();
                for stream in streams {
                    ends.push(stream.await.map_err(|e| e.to_string())?);
                }
                Ok((ends, told))
            })
            .await
    }
}

fn show(when: &str, holds: Option<Holds>) {
    match holds {
        Some(Holds { resident_kib, threads, files }) => {
            println!("{when}: {resident_kib} KiB resident, {threads} threads, {files} open files")
        }
        None => println!("{when}: this system does not tell what a process holds"),
    }
}

/// Waits until nothing runs.
fn quiet(server: &Server) -> Result<Duration, String> {
    let since = Instant::now();
    loop {
        let text = server.get("/metrics")?;
        let running = metrics(&text).find(|(name, ..)| *name == "firecrest_running").map(|(.., value)| value);
        match running {
            Some(0.0) => return Ok(since.elapsed()),
            Some(running) if since.elapsed() > Duration::from_secs(20) => {
                return Err(format!("20 s after the last caller left, {running} requests run"));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(50)),
            None => return Err("/metrics has no firecrest_running".to_owned()),
        }
    }
}

/// Tokens by key, as the metrics tell.
fn reported(text: &str) -> BTreeMap<String, u64> {
    let mut keys = BTreeMap::new();
    for (name, labels, value) in metrics(text) {
        let charged = matches!(label(labels, "kind"), Some("input" | "output" | "cache_write"));
        if name == "firecrest_tokens_total" && charged {
            *keys.entry(label(labels, "key").unwrap_or_default().to_owned()).or_default() += value as u64;
        }
    }
    keys
}

/// What a key was charged, and how many leases it has open.
fn account(store: &Store, key: &Key) -> Result<Option<(u64, usize)>, String> {
    let Some(state) = store.account(&key.id).map_err(|e| e.to_string())? else { return Ok(None) };
    let state: Value = serde_json::from_str(&state).map_err(|e| format!("the account of key {}: {e}", key.id))?;
    let spent = state["budget"]["spent"].as_u64().ok_or_else(|| format!("the account of key {} has no budget: {state:.200}", key.id))?;
    let open = state["leases"].as_object().map(serde_json::Map::len);
    Ok(Some((spent, open.ok_or_else(|| format!("the account of key {} has no leases: {state:.200}", key.id))?)))
}

/// Whether accounts, metrics and callers agree to the token.
fn accounts(store: &Store, keys: &[Key], reported: &BTreeMap<String, u64>, tally: &Tally) -> Result<Vec<String>, String> {
    let mut failed = Vec::new();
    let (mut used, mut total, mut known) = (0, 0, 0);
    for key in keys {
        let told = reported.get(&key.id).copied().unwrap_or_default();
        let Some((charged, open)) = account(store, key)? else {
            if told > 0 || tally.keys.contains_key(&key.id) && tally.keys[&key.id].tokens > 0 {
                failed.push(format!("key {} has no account, though it used {told} tokens", key.id));
            }
            continue;
        };
        used += 1;
        total += charged;
        if open > 0 {
            failed.push(format!("key {}: {open} leases are open", key.id));
        }
        if charged != told {
            failed.push(format!("key {}: {charged} tokens are charged, {told} are reported", key.id));
        }
        if let Some(seen) = tally.keys.get(&key.id) {
            let all = seen.unknown == 0;
            known += u64::from(all);
            if seen.tokens > told || all && seen.tokens != told {
                failed.push(format!(
                    "key {}: {told} tokens are reported, its callers saw {}{}",
                    key.id,
                    seen.tokens,
                    if all { "" } else { " or more" }
                ));
            }
        }
    }
    println!("{used} accounts, {total} tokens charged; of {known} keys every answer was read to its end");
    let more = failed.len().saturating_sub(20);
    failed.truncate(20);
    if more > 0 {
        failed.push(format!("and {more} more"));
    }
    Ok(failed)
}

/// Streams that ran when the server was told to stop: those that were short are whole, the others cut, and all are settled.
fn last_accounts(store: &Store, keys: &[Key], ends: &[End]) -> Result<Vec<String>, String> {
    let mut failed = Vec::new();
    let (mut whole, mut cut) = (0, 0);
    for (key, end) in keys.iter().zip(ends) {
        let Some((charged, open)) = account(store, key)? else {
            failed.push(format!("key {} has no account, though it asked just before the end", key.id));
            continue;
        };
        if open > 0 {
            failed.push(format!("key {}: {open} leases are open after the end", key.id));
        }
        match end {
            End::Whole(tokens) => {
                whole += 1;
                if *tokens != Some(charged) {
                    failed.push(format!("key {}: {charged} tokens are charged, {tokens:?} were told just before the end", key.id));
                }
            }
            // Their record is in the log only.
            End::Cut => cut += 1,
            // A connection that is cut while we had just sent something.
            End::Wrong(why) if why.starts_with("reading") => cut += 1,
            other => failed.push(format!("a stream that ran when the server stopped ended as {other:?}")),
        }
    }
    println!("{whole} streams ended within the drain, {cut} were cut at its end");
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_in_both_dialects() {
        let stream = "event: message_start\ndata: {\"usage\":{\"input_tokens\":7,\"output_tokens\":0}}\n\nevent: message_delta\ndata: {\"usage\":{\"output_tokens\":12}}\n\n";
        assert_eq!(usage(stream), Some(19));
        assert_eq!(usage("{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}"), Some(7));
        assert_eq!(usage("{\"content\":[]}"), None);
    }

    #[test]
    fn tokens_are_added_by_key() {
        let text = "# HELP x\nfirecrest_tokens_total{kind=\"input\",key=\"a\",model=\"m\"} 3\nfirecrest_tokens_total{kind=\"output\",key=\"a\",model=\"n\"} 4\n\
                    firecrest_tokens_total{kind=\"cache_read\",key=\"a\",model=\"n\"} 9\nfirecrest_running 0\n";
        assert_eq!(reported(text), BTreeMap::from([("a".to_owned(), 7)]));
    }
}
