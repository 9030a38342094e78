//! What the server counts, in the text format that Prometheus reads.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use firecrest_policy::safety::decision::Action;
use firecrest_service::record::Record;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// All of it. Labels are the public parts of keys and names of ours: nothing that a caller writes, so that their number is bounded.
pub(super) struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Of, Counter>,
    tokens: Family<Tokens, Counter>,
    first: Family<Lane, Histogram>,
    took: Family<Lane, Histogram>,
    overhead: Histogram,
    judged: Family<Judged, Counter>,
    running: Gauge,
    pub(super) models_loaded: Gauge,
    pub(super) model_bytes: Gauge<i64>,
    model_failures: Family<Model, Counter>,
    pub(super) models_unhealthy: Gauge,
    /// Not counted for Prometheus: only until they are there.
    pub(super) models_awaited: Gauge,
    pub(super) store_errors: Counter<u64, AtomicU64>,
    pub(super) store_write: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    route: &'static str,
    status: u16,
    outcome: String,
    key: String,
    lane: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tokens {
    kind: &'static str,
    key: String,
    model: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Model {
    model: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Judged {
    action: &'static str,
    category: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lane {
    lane: String,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 18));
        let metrics = Metrics {
            registry: Mutex::new(Registry::with_prefix("firecrest")),
            requests: Family::default(),
            tokens: Family::default(),
            first: Family::new_with_constructor(seconds),
            took: Family::new_with_constructor(seconds),
            judged: Family::default(),
            overhead: Histogram::new(exponential_buckets(0.000_01, 2.0, 16)),
            running: Gauge::default(),
            models_loaded: Gauge::default(),
            model_bytes: Gauge::default(),
            model_failures: Family::default(),
            models_unhealthy: Gauge::default(),
            models_awaited: Gauge::default(),
            store_errors: Counter::default(),
            store_write: Histogram::new(exponential_buckets(0.000_1, 2.0, 14)),
        };
        if let Ok(mut registry) = metrics.registry.lock() {
            registry.register("requests", "Requests that are over", metrics.requests.clone());
            registry.register("tokens", "Tokens of prompts (input, cache_read, cache_write) and answers (output)", metrics.tokens.clone());
            registry.register("first_event_seconds", "From a request's coming in to its first event", metrics.first.clone());
            registry.register("request_seconds", "From a request's coming in to its end", metrics.took.clone());
            registry.register("overhead_seconds", "Of that, what was not waiting for a backend", metrics.overhead.clone());
            registry.register("judged", "Requests in which the safety rules found something", metrics.judged.clone());
            registry.register("running", "Requests that run", metrics.running.clone());
            registry.register("models_loaded", "Models in memory", metrics.models_loaded.clone());
            registry.register("model_bytes", "Bytes that models take in memory", metrics.model_bytes.clone());
            registry.register(
                "model_failures",
                "Times that a model's engine failed, or could not be loaded",
                metrics.model_failures.clone(),
            );
            let unhealthy = "Models that failed several times and are not in memory";
            registry.register("models_unhealthy", unhealthy, metrics.models_unhealthy.clone());
            registry.register("store_write_seconds", "Commits of the states of limits, behind what is served", metrics.store_write.clone());
            registry.register("store_errors", "Times that the key store failed", metrics.store_errors.clone());
        }
        metrics
    }

    /// Counts a request as running for as long as what is returned is held.
    pub(super) fn run(self: &Arc<Metrics>) -> Running {
        self.running.inc();
        Running(Arc::clone(self))
    }

    /// A model's engine failed, or it could not be loaded.
    pub(super) fn model_failed(&self, model: &str) {
        self.model_failures.get_or_create(&Model { model: model.to_owned() }).inc();
    }

    /// Whether every model that is to be there from the beginning was, and none is unhealthy.
    pub(super) fn models_are_ready(&self) -> bool {
        self.models_unhealthy.get() == 0 && self.models_awaited.get() == 0
    }

    pub(super) fn observe(&self, record: &Record<'_>) {
        let key = record.key.unwrap_or_default().to_owned();
        let lane = record.lane.map(|lane| lane.to_string()).unwrap_or_default();
        let of =
            Of { route: record.route, status: record.status, outcome: record.outcome.to_owned(), key: key.clone(), lane: lane.clone() };
        self.requests.get_or_create(&of).inc();
        let lane = Lane { lane };
        if let Some(first) = record.first {
            self.first.get_or_create(&lane).observe(first.as_secs_f64());
        }
        self.took.get_or_create(&lane).observe(record.took.as_secs_f64());
        self.overhead.observe(record.overhead.as_secs_f64());
        if record.action != Action::Pass {
            let category = record.category.unwrap_or_default().to_owned();
            self.judged.get_or_create(&Judged { action: record.action.name(), category }).inc();
        }
        let usage = record.usage;
        let counts = [
            ("input", usage.input),
            ("cache_read", usage.cache_read),
            ("cache_write", usage.cache_write_5m + usage.cache_write_1h),
            ("output", usage.output),
        ];
        for (kind, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let labels = Tokens { kind, key: key.clone(), model: record.model.unwrap_or_default().to_owned() };
            self.tokens.get_or_create(&labels).inc_by(count);
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Ok(registry) = self.registry.lock() {
            // Writing to a string can't fail.
            let _ = encode(&mut text, &registry);
        }
        text
    }
}

/// A request that runs. However it ends, dropping this counts it off.
pub(super) struct Running(Arc<Metrics>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_counted_off_however_it_ends() {
        let metrics = Arc::new(Metrics::new());
        let running = |count: u32| metrics.text().lines().any(|line| line == format!("firecrest_running {count}"));
        let (first, second) = (metrics.run(), metrics.run());
        assert!(running(2), "{}", metrics.text());
        drop(second);
        assert!(running(1));
        drop(first);
        assert!(running(0));
    }
}
