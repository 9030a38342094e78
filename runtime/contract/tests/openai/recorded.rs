//! Recorded exchanges with OpenAI: requests are understood and lose nothing, answers fit the types.

use std::path::{Path, PathBuf};

use firecrest_contract::leaf::parse;
use firecrest_contract::openai::{chat, completions, embeddings};
use serde_json::Value;

fn folder() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("FIRECREST_SHARED").map(PathBuf::from);
    let beside = ["../../../shared/data", "../../../../shared/data"].map(|path| root.join(path));
    let found = named.into_iter().chain(beside).map(|path| path.join("sse/openai-cassettes")).find(|path| path.is_dir());
    if found.is_none() {
        eprintln!("SKIPPED: no recorded exchanges with OpenAI beside the checkout (shared/data/sse)");
    }
    found
}

/// The bodies of a cassette, request and answer by turns. Its YAML is written by a machine: a body is a quoted string of JSON's kind or an
/// indented block.
fn bodies(text: &str) -> Vec<String> {
    let mut list = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        let Some(rest) = line.trim_start().strip_prefix("body: ") else { continue };
        if rest.starts_with('"') {
            list.push(serde_json::from_str(rest).unwrap_or_default());
        } else if rest.starts_with('|') {
            let mut block = String::new();
            while let Some(line) = lines.next_if(|line| line.trim().is_empty() || line.len() - line.trim_start().len() > indent) {
                block.push_str(line.get(indent + 4..).unwrap_or_default());
                block.push('\n');
            }
            list.push(block);
        } else {
            list.push(rest.to_owned());
        }
    }
    list
}

#[test]
fn cassettes() {
    let Some(folder) = folder() else { return };
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let bodies = bodies(&std::fs::read_to_string(&path).expect("text"));
        for exchange in bodies.chunks(2) {
            let [request, answer] = exchange else { continue };
            if request.trim().is_empty() {
                continue;
            }
            let sent: Value = serde_json::from_str(request).unwrap_or_else(|e| panic!("{name}: {e}: {request}"));
            let read = if name.contains("chat") {
                let read: chat::Request = parse(request.as_bytes()).expect("a request");
                let beyond = read.clone().into_ask().expect("an ask").beyond;
                assert_eq!(beyond.iter().any(|b| !b.hint), name.contains("web-search"), "{name}: {beyond:?}");
                serde_json::to_value(read)
            } else if name.contains("completion") {
                let read: completions::Request = parse(request.as_bytes()).expect("a request");
                read.clone().into_ask().expect("an ask");
                serde_json::to_value(read)
            } else {
                let read = parse::<embeddings::Request>(request.as_bytes());
                assert_eq!(read.clone().and_then(embeddings::Request::into_ask).is_err(), name.contains("bad-request"), "{name}");
                match read {
                    Ok(read) => serde_json::to_value(read),
                    Err(_) => Ok(sent.clone()),
                }
            };
            assert_eq!(numbers_alike(read.expect("JSON")), numbers_alike(sent), "{name}");
            answered(&name, answer);
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} exchanges were found");
}

/// 1 and 1.0 are one number.
fn numbers_alike(value: Value) -> Value {
    match value {
        Value::Number(n) => Value::from(n.as_f64()),
        Value::Array(list) => list.into_iter().map(numbers_alike).collect(),
        Value::Object(members) => members.into_iter().map(|(k, v)| (k, numbers_alike(v))).collect(),
        other => other,
    }
}

fn answered(name: &str, answer: &str) {
    let chunks: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]").collect();
    for chunk in &chunks {
        if name.contains("chat") {
            serde_json::from_str::<chat::Chunk>(chunk).unwrap_or_else(|e| panic!("{name}: {e}: {chunk}"));
        } else {
            serde_json::from_str::<completions::Completion>(chunk).unwrap_or_else(|e| panic!("{name}: {e}: {chunk}"));
        }
    }
    let Ok(whole) = serde_json::from_str::<Value>(answer) else {
        return assert!(!chunks.is_empty(), "{name}: {answer}");
    };
    if whole.get("error").is_some() {
        serde_json::from_value::<firecrest_contract::openai::error::ErrorBody>(whole).unwrap_or_else(|e| panic!("{name}: {e}"));
    } else if name.contains("chat") {
        serde_json::from_value::<chat::Completion>(whole).unwrap_or_else(|e| panic!("{name}: {e}"));
    } else if name.contains("completion") {
        serde_json::from_value::<completions::Completion>(whole).unwrap_or_else(|e| panic!("{name}: {e}"));
    } else {
        serde_json::from_value::<embeddings::Embeddings>(whole).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}
