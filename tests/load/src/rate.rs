//! Any server at a rate, and the highest rate that it sustains: for peers beside ours.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::http::post;
use crate::open_loop::{Callers, Percentiles};
use crate::server::fetch;

/// Sends one request at a rate to any server: how long answers take, and whether it keeps up.
#[derive(Args)]
pub(crate) struct Rate {
    /// `host:port`.
    #[arg(long, value_name = "ADDRESS")]
    address: String,
    /// The path.
    #[arg(long, default_value = "/v1/messages", value_name = "PATH")]
    path: String,
    /// A header; may be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The body.
    #[arg(long, value_name = "JSON")]
    body: String,
    /// Requests a second.
    #[arg(long, default_value_t = 100.0, value_name = "N")]
    rate: f64,
    /// How long.
    #[arg(long, default_value_t = 10, value_name = "N")]
    seconds: u64,
    /// Looks for the highest rate at which all are answered and the 99th percentile stays below this: doubled from `--rate`, then halved between.
    #[arg(long, value_name = "MILLISECONDS")]
    sustain: Option<f64>,
    /// Connections.
    #[arg(long, default_value_t = 64, value_name = "N")]
    connections: usize,
    /// Results as JSON.
    #[arg(long)]
    json: bool,
}

/// What came of a rate.
struct Found {
    all: bool,
    from_due: Percentiles,
    from_sent: Percentiles,
    reached: f64,
}

impl Rate {
    pub(crate) fn run(self) -> Result<(), String> {
        if !(self.rate > 0.0 && self.rate <= 1e6) || self.seconds == 0 || self.connections == 0 {
            return Err("--rate, --seconds and --connections are above 0".to_owned());
        }
        let mut addresses = self.address.to_socket_addrs().map_err(|e| format!("{}: {e}", self.address))?;
        let address = addresses.next().ok_or_else(|| format!("{}: no address", self.address))?;
        let headers: Option<Vec<_>> = self.headers.iter().map(|header| header.split_once(": ")).collect();
        let headers = headers.ok_or("--header is `name: value`")?;
        let request: Arc<[u8]> = post(&self.address, &self.path, &headers, &self.body).into();
        let first = fetch(address, &request)?;
        if first.status != 200 {
            return Err(format!("it answers {}: {:.300}", first.status, first.text()));
        }
        let Some(most) = self.sustain else {
            let found = self.at(address, &request, self.rate)?;
            self.tell(self.rate, &found);
            return Ok(());
        };
        let (mut good, mut bad, mut rate) = (None, None, self.rate);
        loop {
            let found = self.at(address, &request, rate)?;
            self.tell(rate, &found);
            match found.all && found.from_due.p99 <= most {
                true => good = Some(rate),
                false => bad = Some(rate),
            }
            rate = match (good, bad) {
                (_, None) => rate * 2.0,
                (None, Some(_)) => rate / 2.0,
                (Some(good), Some(bad)) if bad / good > 1.15 => f64::midpoint(good, bad),
                (Some(good), Some(_)) => {
                    println!("sustains {good} requests a second with a 99th percentile of at most {most} ms");
                    return Ok(());
                }
            };
            if rate < 1.0 {
                return Err("it does not sustain one request a second".to_owned());
            }
        }
    }

    fn at(&self, address: SocketAddr, request: &Arc<[u8]>, rate: f64) -> Result<Found, String> {
        let mut callers = Callers::new(address, self.connections)?;
        let requests = [Arc::clone(request)];
        let all = callers.slice(0, &requests, rate, Duration::from_secs(self.seconds), Duration::from_secs(20))?;
        let samples = callers.end();
        if let Some(refused) = samples.iter().find(|sample| sample.status != 200) {
            return Err(format!("at {rate} requests a second it answers {}", refused.status));
        }
        let from_due = Percentiles::of(samples.iter().map(|sample| sample.from_due)).ok_or("nothing was answered")?;
        let from_sent = Percentiles::of(samples.iter().map(|sample| sample.from_sent)).ok_or("nothing was answered")?;
        let longest = samples.iter().map(|sample| sample.from_due).max().unwrap_or_default();
        Ok(Found { all, from_due, from_sent, reached: samples.len() as f64 / (self.seconds as f64 + longest.as_secs_f64()) })
    }

    fn tell(&self, rate: f64, found: &Found) {
        let Found { all, from_due, from_sent, reached } = found;
        if self.json {
            println!("{}", json!({ "rate": rate, "all": all, "reached": reached, "due": from_due.json(), "sent": from_sent.json() }));
            return;
        }
        println!("{rate:7.1} a second, all answered: {all}, at least {reached:.1} a second; milliseconds p50 p90 p99 p99.9");
        println!("  from due  {}\n  from sent {}", from_due.line(), from_sent.line());
    }
}
