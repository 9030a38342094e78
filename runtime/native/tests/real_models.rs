//! The API on real models: long conversations, long prompts from cold, tools, JSON, streams and vectors. `cargo xtask setup` fetches the models.
#![cfg(feature = "server")]

use bytes::Bytes;
use firecrest::Service;
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
