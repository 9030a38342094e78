//! Engines that fail under load, through a step that only tests have.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use firecrest_engine::engine::{Engine, Event};
use firecrest_engine::{Error, ErrorCode, Result};

/// What is to become of a model's next steps.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    /// Steps that still go well before one fails. `None`: none fails.
    fails_after: Option<u32>,
    how: How,
    /// How much later than it is it is for its failures.
    skew: Duration,
    /// Its file can't be read to the end, as on a network's file system that is gone.
    load_hangs: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum How {
    #[default]
    Panic,
    Lost,
}

/// By a model's name.
static PLANS: LazyLock<Mutex<HashMap<String, Plan>>> = LazyLock::new(Mutex::default);

fn plan<T>(model: &str, change: impl FnOnce(&mut Plan) -> T) -> T {
    let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
    change(plans.entry(model.to_owned()).or_default())
}

pub(super) fn skew(model: &str) -> Duration {
    plan(model, |plan| plan.skew)
}

/// What is done when a model begins to be loaded.
pub(super) fn loading(model: &str) {
    while plan(model, |plan| plan.load_hangs) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How a model's engine is stepped.
pub(super) fn step(model: String) -> impl AsyncFnMut(&mut Engine) -> Result<Vec<Event>> + Send + 'static {
    async move |engine: &mut Engine| {
        let how = plan(&model, |plan| match &mut plan.fails_after {
            Some(0) => {
                plan.fails_after = None;
                Some(plan.how)
            }
            Some(left) => {
                *left -= 1;
                None
            }
            None => None,
        });
        match how {
            Some(How::Panic) => panic!("a test"),
            Some(How::Lost) => Err(Error::new(ErrorCode::Device, "the device is lost")),
            None => engine.step().await,
        }
    }
}

#[cfg(feature = "embedded")]
mod served {
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::time::Instant;

    use bytes::Bytes;
    use futures_util::future::join_all;
    use http_body_util::BodyExt;
    use pollster::block_on;
    use serde_json::{Value, json};

    use super::*;
    use crate::EMBEDDED;
    use crate::server::Service;
    use crate::server::config::{Config, ModelConfig, TierConfig};
    use crate::server::store::{Key, Store};

    /// A service of one model, and its keys: what each may do, and what it spent is read when the service has stopped.
    struct Served {
        service: Service,
        keys: Vec<(Key, String)>,
        store: PathBuf,
    }

    fn serve(name: &str, keys: usize) -> Served {
        let store = std::env::temp_dir().join(format!("firecrest-{}-{}.sqlite", name.replace(' ', "-"), std::process::id()));
        let _ = std::fs::remove_file(&store);
        let (cpu, name) = (Some("cpu".to_owned()), Some(name.to_owned()));
        let model = ModelConfig { name, backend: cpu, threads: Some(2), context: Some(256), ..ModelConfig::from(EMBEDDED) };
        let tier = TierConfig { tokens_per_day: Some(1_000_000), ..TierConfig::default() };
        let tiers = BTreeMap::from([("standard".to_owned(), tier)]);
        let config = Config { store: store.clone(), models: vec![model], tiers, ..Config::default() };
        let server = Service::builder().config(config).server().expect("a server");
        let key = |_| {
            let (key, secret) = server.store().create("a test", "standard", true).expect("a key");
            (key, secret.expose().to_owned())
        };
        let keys = (0..keys).map(key).collect();
        Served { service: server.in_process().expect("a service"), keys, store }
    }

    impl Served {
        /// Stops it. What each key spent of its budget.
        async fn spent(self) -> Vec<u64> {
            self.service.stop().await;
            let store = Store::open(&self.store).expect("the store");
            let spent = self.keys.iter().map(|(key, _)| {
                let state = store.account(&key.id).expect("an account").expect("it asked for something");
                let state: Value = serde_json::from_str(&state).expect("JSON");
                assert!(state["leases"].as_object().is_none_or(serde_json::Map::is_empty), "a lease is open: {state}");
                state["budget"]["spent"].as_u64().unwrap_or_else(|| panic!("no budget: {state}"))
            });
            let spent = spent.collect();
            let _ = std::fs::remove_file(&self.store);
            spent
        }
    }

    struct Answer {
        status: u16,
        headers: http::HeaderMap,
        /// `None`: cut.
        text: Option<String>,
    }

    async fn ask(service: &Service, key: &str, path: &str, body: &Value) -> Answer {
        let request = http::Request::post(path).header("x-api-key", key).header("anthropic-version", "2023-06-01");
        let response = service.call(request.body(Bytes::from(body.to_string())).expect("a request")).await;
        let (parts, body) = response.into_parts();
        let text = body.collect().await.ok().map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    fn message(model: &str, stream: bool, most: u32) -> Value {
        json!({"model": model, "max_tokens": most, "stream": stream, "temperature": 0, "messages": [{"role": "user", "content": "Tell me a story"}]})
    }

    fn chat(model: &str, stream: bool, most: u32) -> Value {
        json!({"model": model, "max_tokens": most, "stream": stream, "temperature": 0, "messages": [{"role": "user", "content": "Tell me a story"}]})
    }

    fn metric(service: &Service, name: &str) -> u64 {
        let text = service.metrics();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"))
    }

    /// What a whole answer of either dialect costs: what was read from the cache doesn't.
    fn cost(answer: &Answer) -> u64 {
        let value: Value = serde_json::from_str(answer.text.as_deref().unwrap_or_default()).expect("JSON");
        let usage = |name: &str| value["usage"].pointer(name).and_then(Value::as_u64).unwrap_or(0);
        let counted = ["/input_tokens", "/cache_creation_input_tokens", "/output_tokens", "/prompt_tokens", "/completion_tokens"];
        counted.into_iter().map(usage).sum::<u64>() - usage("/prompt_tokens_details/cached_tokens")
    }

    /// What every answer says that is whole, and the tokens that it is made of.
    struct Told {
        input: u64,
        output: u64,
        /// Where each token ends in the text.
        ends: Vec<usize>,
        text: String,
    }

    /// Asks for it. Its prompt is shorter than a page of the cache, so that nothing is ever read from there.
    async fn reference(service: &Service, key: &str, model: &str, spent: &mut u64) -> Told {
        let mut body = chat(model, false, 100);
        body["logprobs"] = true.into();
        let answer = ask(service, key, "/v1/chat/completions", &body).await;
        *spent += cost(&answer);
        let value: Value = serde_json::from_str(answer.text.as_deref().unwrap_or_default()).expect("JSON");
        let usage = &value["usage"];
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0), 0, "{usage}");
        let tokens = value["choices"][0]["logprobs"]["content"].as_array().expect("tokens").iter();
        let mut end = 0;
        let ends = tokens.map(|token| {
            end += token["bytes"].as_array().expect("bytes").len();
            end
        });
        let (ends, input) = (ends.collect(), usage["prompt_tokens"].as_u64().expect("a number"));
        assert!(input <= 16, "{input} tokens of a prompt");
        let output = usage["completion_tokens"].as_u64().expect("a number");
        Told { input, output, ends, text: value["choices"][0]["message"]["content"].as_str().expect("text").to_owned() }
    }

    impl Told {
        /// What a stream costs by what its caller saw of it.
        fn cost(&self, stream: &str) -> u64 {
            let events =
                stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter_map(|data| serde_json::from_str::<Value>(data).ok());
            let mut seen = String::new();
            for event in events {
                let texts = [event.pointer("/delta/text"), event.pointer("/choices/0/delta/content")];
                texts.into_iter().flatten().filter_map(Value::as_str).for_each(|text| seen.push_str(text));
            }
            assert!(self.text.starts_with(&seen), "{seen:?} is not a beginning of {:?}", self.text);
            if stream.contains("message_stop") || stream.contains("[DONE]") {
                assert_eq!(seen, self.text);
                return self.input + self.output;
            }
            match self.ends.iter().filter(|end| **end <= seen.len()).count() as u64 {
                0 => 0,
                tokens => self.input + tokens,
            }
        }
    }

    #[test]
    fn twenty_engines_that_fail_under_load_cost_their_answers_and_nothing_else() {
        let name = "fails twenty times";
        let served = serve(name, 2);
        let (service, whole, streams) = (&served.service, &served.keys[0].1, &served.keys[1].1);
        let (mut wholes, mut streamed) = (0, 0);
        block_on(async {
            let told = reference(service, whole, name, &mut wholes).await;
            for round in 0..20u32 {
                let how = if round % 4 == 3 { How::Lost } else { How::Panic };
                // Accidents, more than a minute apart; now and then before the first token.
                plan(name, |plan| {
                    *plan = Plan { fails_after: Some(round * 7 % 30), how, skew: plan.skew + Duration::from_secs(100), ..*plan }
                });
                // Longer than the steps that go well.
                let bodies = [message(name, false, 100), message(name, true, 100), chat(name, false, 100), chat(name, true, 100)];
                let asked = bodies.iter().cycle().take(8).enumerate().map(|(at, body)| {
                    let path = if at % 4 < 2 { "/v1/messages" } else { "/v1/chat/completions" };
                    ask(service, if at % 2 == 0 { whole } else { streams }, path, body)
                });
                let mut failures = 0;
                for (at, answer) in join_all(asked).await.into_iter().enumerate() {
                    // One that ended before that is whole, and costs what it says.
                    let text = answer.text.as_deref().unwrap_or_default();
                    if at % 2 == 1 && answer.status == 200 {
                        streamed += told.cost(text);
                    }
                    match (at % 2, answer.status) {
                        (0, 200) => {
                            wholes += cost(&answer);
                            continue;
                        }
                        (1, 200) if text.contains("message_stop") || text.contains("[DONE]") => {
                            assert!(!text.contains(r#""error""#) && !text.contains("event: error"), "{round}: {text}");
                            continue;
                        }
                        _ => failures += 1,
                    }
                    let text = answer.text.unwrap_or_default();
                    match (at % 4, answer.status) {
                        (0, 500) => {
                            assert!(text.contains(r#""type":"api_error""#) && text.contains("the model stopped"), "{round}: {text}")
                        }
                        (2, 500) => {
                            assert!(text.contains(r#""type":"server_error""#) && text.contains("the model stopped"), "{round}: {text}")
                        }
                        (1, 200) => {
                            assert!(text.contains("event: error") && text.contains("api_error"), "{round}: {text}");
                            assert!(!text.contains("message_stop") && !text.contains(r#""stop_reason":""#), "{round}: {text}");
                        }
                        (3, 200) => {
                            assert!(text.contains(r#"data: {"error""#), "{round}: {text}");
                            assert!(!text.contains("[DONE]") && !text.contains(r#""finish_reason":""#), "{round}: {text}");
                        }
                        // A stream that failed before its first event.
                        (1 | 3, 500) => assert!(text.contains("the model stopped"), "{round}: {text}"),
                        (_, status) => panic!("{round}, {at}: {status}: {text}"),
                    }
                }
                assert!(failures > 0, "{round}: nothing ran when it failed");
                // It goes on at once.
                for (path, body) in [("/v1/messages", message(name, false, 4)), ("/v1/chat/completions", chat(name, false, 3))] {
                    let after = ask(service, whole, path, &body).await;
                    assert_eq!(after.status, 200, "{round}: {:?}", after.text);
                    wholes += cost(&after);
                }
            }
        });
        assert_eq!(metric(service, &format!("firecrest_model_failures_total{{model=\"{name}\"}}")), 20);
        assert_eq!(metric(service, "firecrest_models_unhealthy"), 0);
        assert!(service.is_ready());
        let spent = block_on(served.spent());
        assert_eq!(spent[0], wholes, "whole answers that failed cost nothing");
        assert_eq!(spent[1], streamed, "streams cost what was told");
    }

    #[test]
    fn a_load_that_hangs_holds_up_nobody_and_ends_with_the_process() {
        let name = "hangs while it loads";
        plan(name, |plan| plan.load_hangs = true);
        let model = |name: &str| ModelConfig {
            name: Some(name.to_owned()),
            backend: Some("cpu".to_owned()),
            threads: Some(1),
            context: Some(256),
            ..ModelConfig::from(EMBEDDED)
        };
        let mut config = Config { auth: false, store: ":memory:".into(), models: vec![model(name), model("loads")], ..Config::default() };
        config.timeouts.answer = 1.0;
        let service = Service::builder().config(config.clone()).build().expect("a service");
        block_on(async {
            let bodies = [message(name, false, 2), message(name, true, 2), message("loads", false, 2)];
            let asked = bodies.iter().cycle().take(12).map(|body| ask(&service, "", "/v1/messages", body));
            for (at, answer) in join_all(asked).await.into_iter().enumerate() {
                let text = answer.text.unwrap_or_default();
                match at % 3 {
                    2 => assert_eq!(answer.status, 200, "{text}"),
                    // A stream may have begun by then, and tells it as an event.
                    _ => assert!(answer.status == 504 && text.contains(r#""type":"timeout_error""#), "{}: {text}", answer.status),
                }
            }
            let chat = ask(&service, "", "/v1/chat/completions", &chat(name, false, 2)).await;
            assert_eq!(chat.status, 504, "{:?}", chat.text);
            // It comes back, and nothing is wrong with it.
            plan(name, |plan| plan.load_hangs = false);
            let began = Instant::now();
            loop {
                let answer = ask(&service, "", "/v1/messages", &message(name, false, 2)).await;
                if answer.status == 200 {
                    break;
                }
                assert!(answer.status == 504 && began.elapsed() < Duration::from_secs(120), "{}", answer.status);
            }
        });
        block_on(service.stop());
        // One that still hangs when the service is stopped keeps nobody: the host that waits is the process, which ends.
        plan(name, |plan| plan.load_hangs = true);
        let service = Service::builder().config(config).build().expect("a service");
        let (stopped, stops) = std::sync::mpsc::channel();
        block_on(async { assert_eq!(ask(&service, "", "/v1/messages", &message(name, false, 2)).await.status, 504) });
        std::thread::spawn(move || {
            block_on(service.stop());
            let _ = stopped.send(());
        });
        stops.recv_timeout(Duration::from_secs(60)).expect("it stops though a model is still being loaded");
        plan(name, |plan| plan.load_hangs = false);
    }

    #[test]
    fn a_model_that_fails_again_and_again_is_unhealthy_for_a_while() {
        let name = "fails thrice";
        let served = serve(name, 1);
        let (service, key) = (&served.service, &served.keys[0].1);
        let body = message(name, false, 50);
        block_on(async {
            for _ in 0..3 {
                plan(name, |plan| plan.fails_after = Some(2));
                assert_eq!(ask(service, key, "/v1/messages", &body).await.status, 500);
            }
            let failed = Instant::now();
            let unhealthy = loop {
                let answer = ask(service, key, "/v1/messages", &body).await;
                assert!(answer.status != 200, "it should be unhealthy");
                if answer.status == 503 {
                    break answer;
                }
            };
            let wait: u64 = unhealthy.headers["retry-after"].to_str().expect("text").parse().expect("a number");
            assert!((1..=5).contains(&wait), "{wait}");
            let text = unhealthy.text.unwrap_or_default();
            assert!(text.contains("api_error") && text.contains("model_unavailable"), "{text}");
            assert!(!service.is_ready() && metric(service, "firecrest_models_unhealthy") == 1);
            // It comes back by itself.
            while !service.is_ready() {
                assert!(failed.elapsed() < Duration::from_secs(120), "it never came back");
                std::thread::sleep(Duration::from_millis(100));
            }
            assert!(failed.elapsed() >= Duration::from_secs(3), "it was not left alone");
            assert_eq!(ask(service, key, "/v1/messages", &body).await.status, 200);
            // Not proven yet: once more is enough.
            plan(name, |plan| plan.fails_after = Some(2));
            assert_eq!(ask(service, key, "/v1/messages", &body).await.status, 500);
            let again = ask(service, key, "/v1/messages", &body).await;
            assert_eq!(again.status, 503, "{:?}", again.text);
        });
        block_on(served.spent());
    }

    #[test]
    fn a_server_is_ready_when_what_it_preloads_is_there() {
        let model = |name: &str, adapter: Option<&str>| ModelConfig {
            name: Some(name.to_owned()),
            backend: Some(if adapter.is_some() { "gpu" } else { "cpu" }.to_owned()),
            adapter: adapter.map(str::to_owned),
            threads: Some(1),
            preload: true,
            ..ModelConfig::from(EMBEDDED)
        };
        let serve = |models: Vec<ModelConfig>| {
            let config = Config { auth: false, store: ":memory:".into(), models, ..Config::default() };
            Service::builder().config(config).build().expect("a service")
        };
        let (fine, broken) = (serve(vec![model("fine", None)]), serve(vec![model("fine", None), model("broken", Some("no such adapter"))]));
        block_on(async {
            for service in [&fine, &broken] {
                assert_eq!(ask(service, "", "/v1/messages", &message("fine", false, 2)).await.status, 200);
            }
            assert!(fine.is_ready());
            // Tried until it is unhealthy, and never there.
            let began = Instant::now();
            loop {
                assert!(!broken.is_ready());
                let answer = ask(&broken, "", "/v1/messages", &message("broken", false, 2)).await;
                assert!(matches!(answer.status, 500 | 503), "{}", answer.status);
                if answer.status == 503 {
                    break;
                }
                assert!(began.elapsed() < Duration::from_secs(300), "it is never unhealthy");
            }
            assert!(!broken.is_ready());
            fine.stop().await;
            broken.stop().await;
        });
    }

    #[test]
    fn a_file_that_is_gone_is_named_to_nobody() {
        let folder = std::env::temp_dir().join(format!("firecrest-secret-folder-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("gone.gguf");
        std::fs::write(&file, firecrest_models::CHAT).expect("a file");
        let model = |preload| ModelConfig { preload, ..ModelConfig::from(file.to_str().expect("text")) };
        let made = |preload| Config { auth: false, store: ":memory:".into(), models: vec![model(preload)], ..Config::default() };
        let asked = Service::builder().config(made(false)).build().expect("a service");
        let preloaded = Service::builder().config(made(true)).server().expect("a server");
        std::fs::remove_dir_all(&folder).expect("removed");
        block_on(async {
            assert!(asked.is_ready(), "nobody asked for it yet");
            for _ in 0..4 {
                let answer = ask(&asked, "", "/v1/messages", &message("gone", false, 2)).await;
                let text = answer.text.unwrap_or_default();
                assert!(matches!(answer.status, 500 | 503) && !text.contains("secret") && !text.contains('/'), "{text}");
            }
            assert!(!asked.is_ready());
            asked.stop().await;
        });
        // It can't be made without a look at its files, which says so.
        let error = preloaded.in_process().err().unwrap_or_default();
        assert!(error.contains("there is no such file"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_no_model() {
        let pipe = std::env::temp_dir().join(format!("firecrest-pipe-{}.gguf", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        let config = Config {
            auth: false,
            store: ":memory:".into(),
            models: vec![ModelConfig::from(pipe.to_str().expect("text"))],
            ..Config::default()
        };
        let error = Service::builder().config(config).build().err().unwrap_or_default();
        std::fs::remove_file(pipe).expect("removed");
        assert!(error.contains("not a regular file"), "{error}");
    }
}
