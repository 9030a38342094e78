//! Template expressions from a seeded generator, and all templates at hand, against jinja2 (templates.py beside this file).
//!
//! Runs in `cargo xtask test --full`, or if `FIRECREST_TEMPLATE_EXPRESSIONS` says how many expressions.

use std::process::Command;

use firecrest_engine::text::{ChatTemplate, WallTime};
use firecrest_tests::{count, oracle, repository, shared_data_or_skip};
use serde_json::Value;

const SEED: &str = "1";
const NOW: WallTime = WallTime { unix_seconds: 1_721_952_000, utc_offset_seconds: 0 };

#[test]
fn expressions_and_templates_give_what_jinja_gives() {
    let Some(python) = oracle("the template oracle") else { return };
    let expressions = count("FIRECREST_TEMPLATE_EXPRESSIONS", 2_000);
    let mut script = Command::new(python);
    script.args(["-W", "ignore"]).arg(repository().join("tests/oracle/templates.py")).args([&expressions.to_string(), SEED]);
    if let Some(data) = shared_data_or_skip("the templates of the template oracle") {
        script.arg(data.join("chat"));
    }
    let output = script.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What Jinja raises may render here: a list that is none counts as empty, so that a template made for tools runs without.
    let (mut agreed, mut refused, mut lenient, mut differing) = (0, 0, 0, Vec::new());
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let source = case["source"].as_str().unwrap();
        let found = ChatTemplate::new(source).and_then(|t| t.render(&case["context"], Some(NOW)));
        match (case["text"].as_str(), found) {
            (Some(expected), Ok(text)) if text == expected => agreed += 1,
            (None, Err(_)) => refused += 1,
            (None, Ok(_)) => lenient += 1,
            (expected, found) => {
                let what = case["name"].as_str().unwrap_or(source);
                differing.push(format!("{what}\n  Jinja: {expected:?}\n  here:  {:?}", found.map_err(|e| e.to_string())));
            }
        }
    }
    println!("templates: {agreed} give the same text, {refused} are refused by both, {lenient} by Jinja alone, {} differ", differing.len());
    assert!(agreed > 0 && differing.is_empty(), "{}", differing.join("\n"));
}
