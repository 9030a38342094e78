//! The API on real models: long conversations, long prompts from cold, tools, JSON, streams and vectors. `cargo xtask setup` fetches the models.
#![cfg(feature = "server")]

use bytes::Bytes;
use firecrest::Service;
use firecrest::engine::engine::{Engine, EngineOptions, Event, Request};
use firecrest::engine::text::EncodeOptions;
use firecrest::server::config::{Config, ModelConfig};
use http_body_util::BodyExt;
use pollster::block_on;
use serde_json::{Value, json};

const SMOLLM2: &str = "smollm2-135m-instruct-q4_1.gguf";
const MINILM: &str = "all-minilm-l6-v2";

fn service(models: &[(&str, &str, Option<&str>)]) -> Option<Service> {
    let mut config = Config { auth: false, store: ":memory:".into(), ..Config::default() };
    for (name, file, adapter) in models {
        let path = firecrest_tests::real_model(file)?;
        config.models.push(ModelConfig {
            name: Some((*name).to_owned()),
            backend: Some(if adapter.is_some() { "gpu" } else { "cpu" }.to_owned()),
            adapter: adapter.map(str::to_owned),
            ..ModelConfig::from(path.to_str().expect("a path in UTF-8"))
        });
    }
    Some(Service::builder().config(config).build().expect("a service"))
}

fn post(service: &Service, path: &str, body: &Value) -> (u16, String) {
    let request = http::Request::post(path).header("anthropic-version", "2023-06-01").header("content-type", "application/json");
    let request = request.body(Bytes::from(body.to_string())).expect("a request");
    block_on(async {
        let response = service.call(request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a whole body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    })
}

fn answer(service: &Service, path: &str, body: &Value) -> Value {
    let (status, text) = post(service, path, body);
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

/// About so many tokens of plain English.
fn prose(tokens: usize) -> String {
    let words = ["the", "river", "ran", "past", "old", "stone", "houses", "and", "children", "threw", "bread", "to", "small", "birds"];
    words.iter().copied().cycle().take(tokens).collect::<Vec<_>>().join(" ")
}

/// A conversation in which each question follows the answers before it. Returns tokens read from the cache, by turn.
fn converse(service: &Service, first: &str, turns: usize, most: u32) -> Vec<u64> {
    let mut messages = vec![json!({"role": "user", "content": first})];
    let mut cached = Vec::new();
    for turn in 0..turns {
        let body = json!({"model": "chat", "max_tokens": most, "temperature": 0, "messages": messages});
        let answer = answer(service, "/v1/messages", &body);
        let text = answer["content"][0]["text"].as_str().unwrap_or_default().to_owned();
        assert!(answer["usage"]["output_tokens"].as_u64().is_some_and(|n| n > 0), "turn {turn}: {answer}");
        cached.push(answer["usage"]["cache_read_input_tokens"].as_u64().unwrap_or(0));
        messages.push(json!({"role": "assistant", "content": if text.is_empty() { "…".to_owned() } else { text }}));
        messages.push(json!({"role": "user", "content": format!("And what about number {turn}?")}));
    }
    cached
}

#[test]
fn a_conversation_of_20_turns_reads_its_beginning_from_the_cache() {
    let Some(service) = service(&[("chat", SMOLLM2, None)]) else { return };
    let cached = converse(&service, "My name is Ada. Tell me about the sea.", 20, 24);
    assert!(cached[1] > 0 && cached[19] > cached[1] && cached[19] > 400, "{cached:?}");
    block_on(service.stop());
}

#[test]
fn a_long_prompt_may_be_the_first_request() {
    let Some(service) = service(&[("chat", SMOLLM2, None)]) else { return };
    let ask =
        |tokens| json!({"model": "chat", "max_tokens": 4, "temperature": 0, "messages": [{"role": "user", "content": prose(tokens)}]});
    let found = answer(&service, "/v1/messages", &ask(3_950));
    assert!(found["usage"]["input_tokens"].as_u64().is_some_and(|n| n > 3_900), "{found}");
    let (status, text) = post(&service, "/v1/messages", &ask(9_000));
    assert!(status == 400 && text.contains("prompt is too long"), "{text}");
    block_on(service.stop());
}

#[test]
fn answers_are_json_and_calls_when_they_must_be() {
    let Some(service) = service(&[("chat", SMOLLM2, None)]) else { return };
    let schema = json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
        "required": ["name", "age"], "additionalProperties": false});
    let messages = json!([{"role": "user", "content": "Describe a person."}]);
    let format = json!({"type": "json_schema", "json_schema": {"name": "person", "schema": schema}});
    let body = json!({"model": "chat", "max_tokens": 80, "messages": messages, "seed": 7, "response_format": format});
    let found = answer(&service, "/v1/chat/completions", &body);
    let text = found["choices"][0]["message"]["content"].as_str().expect("text");
    let person: Value = serde_json::from_str(text).expect("JSON");
    assert!(person["name"].is_string() && person["age"].as_u64().is_some_and(|age| age <= 120), "{person}");
    // The same in pieces.
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let (status, events) = post(&service, "/v1/chat/completions", &streamed);
    assert!(status == 200 && events.trim_end().ends_with("data: [DONE]"), "{events}");
    let pieces = events.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let joined: String = pieces.filter_map(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned())).collect();
    assert_eq!(joined, text);

    let tool = json!({"name": "weather_at", "input_schema": {"type": "object", "properties": {"place": {"type": "string", "maxLength": 30}},
        "required": ["place"], "additionalProperties": false}});
    let body = json!({"model": "chat", "max_tokens": 100, "temperature": 0, "messages": [{"role": "user", "content": "Weather in Oslo?"}],
        "tools": [tool], "tool_choice": {"type": "tool", "name": "weather_at"}, "stop_sequences": ["name"]});
    let found = answer(&service, "/v1/messages", &body);
    let call = found["content"].as_array().and_then(|blocks| blocks.iter().find(|block| block["type"] == "tool_use")).expect("a call");
    assert!(found["stop_reason"] == "tool_use" && call["input"]["place"].is_string(), "{found}");
    block_on(service.stop());
}

/// A choice of a completion, as it was told whole or in pieces: its text, its tokens' bytes, their logarithms of probability, and where they begin.
#[derive(Default)]
struct Told {
    text: String,
    tokens: Vec<Vec<u8>>,
    logprobs: Vec<Option<f64>>,
    offsets: Vec<u64>,
}

/// Two answers to a prompt.
fn complete(service: &Service, body: &Value) -> Vec<Told> {
    let (status, text) = post(service, "/v1/completions", body);
    assert_eq!(status, 200, "{text}");
    let pieces: Vec<Value> = match body["stream"] == true {
        true => text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect(),
        false => vec![serde_json::from_str(&text).expect("JSON")],
    };
    let bytes = |token: &Value| {
        let token = token.as_str().expect("a token");
        let byte = |digits: &str| u8::from_str_radix(digits, 16).expect("a byte");
        token.strip_prefix("bytes:").map_or(token.as_bytes().to_vec(), |rest| rest.split("\\x").skip(1).map(byte).collect())
    };
    let mut told = [Told::default(), Told::default()];
    for choice in pieces.iter().flat_map(|piece| piece["choices"].as_array().expect("choices")) {
        let own = &mut told[choice["index"].as_u64().expect("an index") as usize];
        own.text.push_str(choice["text"].as_str().expect("text"));
        let list = |name: &str| choice["logprobs"][name].as_array().cloned().unwrap_or_default();
        own.tokens.extend(list("tokens").iter().map(bytes));
        own.logprobs.extend(list("token_logprobs").iter().map(Value::as_f64));
        own.offsets.extend(list("text_offset").iter().filter_map(Value::as_u64));
        // The token that came is among the most probable, or beside them.
        for (token, top) in list("tokens").iter().zip(list("top_logprobs")) {
            assert!(top.is_null() || top.get(token.as_str().expect("a token")).is_some(), "{token} {top}");
        }
    }
    told.into()
}

/// Whether the prompt is repeated or not, streamed or whole, and whatever a stop text holds back.
#[test]
fn tokens_of_completions_stand_where_they_are_said_to() {
    let Some(service) = service(&[("m", SMOLLM2, None)]) else { return };
    for prompt in ["One, two, three,", "Größe: 🦊🌊 → naïve 🦊"] {
        for (echo, stream, stop) in [(true, true, "two"), (true, false, ","), (false, true, "z 🦊"), (false, false, "two")] {
            let body = json!({"model": "m", "prompt": prompt, "max_tokens": 9, "n": 2, "seed": 3, "logprobs": 2, "echo": echo, "stream": stream, "stop": stop});
            for told in complete(&service, &body) {
                assert_eq!(String::from_utf8_lossy(&told.tokens.concat()), told.text, "{body}");
                let (whole, mut at) = match echo {
                    true => (told.text.clone(), 0),
                    false => (format!("{prompt}{}", told.text), prompt.len()),
                };
                assert!(whole.starts_with(prompt) && !whole[prompt.len()..].contains(stop), "{body} {whole}");
                for (token, offset) in told.tokens.iter().zip(&told.offsets) {
                    assert_eq!(whole[..whole.floor_char_boundary(at)].chars().count() as u64, *offset, "{body} {whole} at {at}");
                    at += token.len();
                }
                assert_eq!((told.offsets.len(), told.logprobs.len()), (told.tokens.len(), told.tokens.len()));
                assert!(told.logprobs.iter().enumerate().all(|(at, logprob)| logprob.is_some() == (at > 0 || !echo)), "{body}");
            }
        }
        // Token ids begin where their text ends.
        let ids = json!({"model": "m", "prompt": [[504, 253], [504]], "max_tokens": 1, "logprobs": 0, "seed": 1});
        let spelled = |list: Value| {
            let echoed = json!({"model": "m", "prompt": list, "max_tokens": 0, "echo": true});
            answer(&service, "/v1/completions", &echoed)["choices"][0]["text"].as_str().expect("text").chars().count() as u64
        };
        let told = complete(&service, &ids);
        assert_eq!((told[0].offsets[0], told[1].offsets[0]), (spelled(json!([504, 253])), spelled(json!([504]))));
    }
    block_on(service.stop());
}

/// What lm-eval sends (`local-completions`, a log-likelihood): the prompt's own probabilities are those that the engine's logits say.
#[test]
fn a_continuation_is_as_probable_as_the_engine_says() {
    let Some(path) = firecrest_tests::real_model(SMOLLM2) else { return };
    let backend = block_on(firecrest::Device { kind: firecrest::BackendKind::Cpu, ..Default::default() }.backend()).expect("a processor");
    let file = block_on(firecrest::open(path.to_str().expect("UTF-8"))).expect("a model");
    let mut engine = block_on(Engine::load(&file, backend, EngineOptions::default(), &mut |_, _| {})).expect("an engine");
    let tokenizer = engine.tokenizer().expect("a tokenizer").clone();
    let Some(service) = service(&[("m", SMOLLM2, None)]) else { return };
    for (context, continuation) in [("The capital of France is", " Paris"), ("Größe und", " Länge 🦊")] {
        let text = format!("{context}{continuation}");
        let ids = tokenizer.encode(&text, EncodeOptions::default()).expect("ids");
        let first = tokenizer.encode(context, EncodeOptions::default()).expect("ids").len();
        engine.submit(Request::logits(ids.clone())).expect("a good request").accepted().expect("room");
        let mut logits = Vec::new();
        while !engine.is_idle() {
            for event in block_on(engine.step()).expect("a step") {
                if let Event::Logits { values, .. } = event {
                    logits.extend(values);
                }
            }
        }
        let vocab = logits.len() / ids.len();
        let logprob = |at: usize| {
            let row = &logits[(at - 1) * vocab..at * vocab];
            let most = row.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
            f64::from(row[ids[at] as usize] - most) - sum.ln()
        };
        let truth: f64 = (first..ids.len()).map(logprob).sum();
        for prompt in [json!(text), json!(ids)] {
            let body =
                json!({"model": "m", "prompt": prompt, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": true});
            let told = complete(&service, &body);
            let own = &told[0].logprobs[first..ids.len()];
            let sum: f64 = own.iter().map(|logprob| logprob.expect("a number")).sum();
            assert!((sum - truth).abs() < 1e-4, "{body}: {sum}, and the engine says {truth}");
        }
    }
    block_on(service.stop());
}

#[test]
fn vectors_of_like_sentences_are_near_each_other() {
    let Some(service) = service(&[("vectors", MINILM, None)]) else { return };
    let input = ["A man is eating food.", "Someone eats a meal.", "The stock market fell sharply."];
    let found = answer(&service, "/v1/embeddings", &json!({"model": "vectors", "input": input}));
    let vector = |at: usize| -> Vec<f64> {
        let values = found["data"][at]["embedding"].as_array().expect("a vector");
        values.iter().map(|x| x.as_f64().expect("a number")).collect()
    };
    let dot = |a: usize, b: usize| vector(a).iter().zip(vector(b)).map(|(x, y)| x * y).sum::<f64>();
    assert!(dot(0, 1) > 0.6 && dot(0, 2) < 0.2, "{} {}", dot(0, 1), dot(0, 2));
    block_on(service.stop());
}

/// Software GPUs are slow: three turns after a prompt of 600 tokens; more in the full run.
#[test]
fn conversations_run_on_a_gpu() {
    let gpus = firecrest_tests::adapters::reports();
    let Some(gpu) = gpus.iter().find(|gpu| !gpu.name.to_lowercase().contains("swiftshader")) else {
        return firecrest_tests::skip("real models on a GPU", "there is no GPU adapter, not even lavapipe");
    };
    let Some(service) = service(&[("chat", SMOLLM2, Some(&gpu.name))]) else { return };
    let (turns, tokens) = if firecrest_tests::full() { (20, 4_000) } else { (3, 560) };
    let cached = converse(&service, &prose(tokens - 400 * usize::from(firecrest_tests::full())), turns, 6);
    assert!(cached[1] > 400, "{cached:?}");
    block_on(service.stop());
}
