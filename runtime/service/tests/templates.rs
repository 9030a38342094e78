//! Chat templates that others wrote (`shared/data/chat`).

use firecrest_service::tools::ToolFormat;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/chat");

fn template(name: &str) -> Option<String> {
    let path = format!("{FOLDER}/templates/{name}.jinja");
    let source = std::fs::read_to_string(&path).ok();
    if source.is_none() {
        eprintln!("SKIPPED: there is no {path}");
    }
    source
}

#[test]
fn formats_are_told_by_their_templates() {
    for (name, format) in [
        ("Qwen-Qwen2.5-7B-Instruct", "hermes"),
        ("Qwen-Qwen2-7B-Instruct", "generic"),
        ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", "hermes"),
        ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "hermes"),
        ("meta-llama-Meta-Llama-3.1-8B-Instruct", "llama"),
        ("CohereForAI-c4ai-command-r-plus-tool_use", "generic"),
        ("mistralai-Mistral-7B-Instruct-v0.2", "generic"),
    ] {
        if let Some(source) = template(name) {
            assert_eq!(ToolFormat::of_template(&source).name, format, "{name}");
        }
    }
}
