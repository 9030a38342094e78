//! What one caller's long requests cost the short ones of others: the same short requests at the same rate, alone and beside them, turn and turn about.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::http::post;
use crate::open_loop::{Callers, Percentiles, Sample};
use crate::server::{Scratch, Server, fetch};

/// Measures how long short requests take while one caller sends long ones, one after the other.
#[derive(Args)]
pub(crate) struct Beside {
    /// Bytes of a long request.
    #[arg(long, default_value_t = 1 << 20, value_name = "N")]
    bytes: usize,
    /// Short requests a second.
    #[arg(long, default_value_t = 200.0, value_name = "N")]
    rate: f64,
    /// How long short ones are measured, alone and beside.
    #[arg(long, default_value_t = 10, value_name = "N")]
    seconds: u64,
    /// The server, as for `churn`.
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Results as JSON.
    #[arg(long)]
    json: bool,
}

const CONFIG: &str = "listen = \"127.0.0.1:0\"\nstore = \":memory:\"\nauth = false\n";

/// What a long request says: few words, for a script counts those and has a context too. Nothing of it matches a rule.
const WORDS: &str = "the-quick-brown-fox-jumps-over-the-lazy-dog, ";

impl Beside {
    pub(crate) fn run(self) -> Result<(), String> {
        if !(self.rate > 0.0 && self.rate <= 1e6) || self.seconds == 0 {
            return Err("--rate and --seconds are above 0".to_owned());
        }
        let scratch = Scratch::new()?;
        let config = scratch.write("config.toml", CONFIG)?.display().to_string();
        let program = match &self.server {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(|e| e.to_string())?,
        };
        let server = Server::start(&program, &["serve", "--config", &config], true)?;
        let request = |text: &str| -> Arc<[u8]> {
            let body = json!({ "model": "hello", "max_tokens": 64, "messages": [{ "role": "user", "content": text }] });
            let headers = [("anthropic-version", "2023-06-01")];
            post(&server.address.to_string(), "/v1/messages", &headers, &body.to_string()).into()
        };
        let (short, long) = (request("Hello there, how are you today?"), request(&WORDS.repeat(self.bytes.div_ceil(WORDS.len()))));
        for request in [&short, &long] {
            let answer = fetch(server.address, request)?;
            if answer.status != 200 {
                return Err(format!("the server answers {}: {:.300}", answer.status, answer.text()));
            }
        }
        let mut callers = Callers::new(server.address, 64)?;
        let mut took = Vec::new();
        for second in 0..self.seconds as usize {
            let mut slice = |slice: usize| {
                let all = callers.slice(slice, &[Arc::clone(&short)], self.rate, Duration::from_secs(1), Duration::from_secs(60))?;
                if all { Ok(()) } else { Err("short requests were not answered within a minute".to_owned()) }
            };
            slice(2 * second)?;
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let longs = scope.spawn(|| -> Result<Vec<Duration>, String> {
                    let mut took = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        let since = Instant::now();
                        let answer = fetch(server.address, &long)?;
                        if answer.status != 200 {
                            return Err(format!("a long request is answered {}: {:.300}", answer.status, answer.text()));
                        }
                        took.push(since.elapsed());
                    }
                    Ok(took)
                });
                let done = slice(2 * second + 1);
                over.store(true, Ordering::Relaxed);
                took.extend(longs.join().map_err(|_| "the long requests' thread panicked")??);
                done
            })?;
        }
        let samples = callers.end();
        let of = |odd: usize| {
            let some = samples.iter().filter(|sample| sample.slice % 2 == odd);
            let longest = some.clone().map(|sample: &Sample| sample.from_due).max().unwrap_or_default();
            Percentiles::of(some.map(|sample| sample.from_due)).map(|figures| (figures, longest.as_secs_f64() * 1e3))
        };
        let (Some((alone, alone_longest)), Some((beside, beside_longest)), Some(long)) =
            (of(0), of(1), Percentiles::of(took.iter().copied()))
        else {
            return Err("nothing was answered".to_owned());
        };
        if self.json {
            let figures = |figures: Percentiles, longest: f64| json!({ "percentiles": figures.json(), "longest": longest });
            let all = json!({ "alone": figures(alone, alone_longest), "beside": figures(beside, beside_longest), "long": long.json() });
            println!("{}", json!({ "bytes": self.bytes, "rate": self.rate, "seconds": self.seconds, "milliseconds": all }));
            return Ok(());
        }
        println!("{} short requests a second for {} s, milliseconds from when each was due", self.rate, self.seconds);
        println!("{:24} {:>8} {:>8} {:>8} {:>8} {:>8}", "", "p50", "p90", "p99", "p99.9", "longest");
        for (name, figures, longest) in [("alone", alone, alone_longest), ("beside long ones", beside, beside_longest)] {
            println!("{name:24} {} {longest:8.3}", figures.line());
        }
        println!("{:24} {}", format!("{} long ones themselves", took.len()), long.line());
        Ok(())
    }
}
