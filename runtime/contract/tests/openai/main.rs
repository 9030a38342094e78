//! OpenAI's requests: what is read, what becomes of it, and which leaf is named where it is wrong.

mod chat;
mod never_panics;
mod recorded;
mod responses;

use firecrest_contract::ask::{Ask, Beyond, Content, Role};
use firecrest_contract::error::ApiError;

/// Where and whether each is a hint.
fn paths(beyond: &[Beyond]) -> Vec<(&str, bool)> {
    beyond.iter().map(|b| (b.path.as_str(), b.hint)).collect()
}

/// A conversation as text, a line a part.
fn shown(ask: &Ask) -> String {
    let mut text = String::new();
    for turn in &ask.turns {
        let role = match turn.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        text.push_str(role);
        for part in &turn.parts {
            let cached = if part.cache.is_some() { " (kept)" } else { "" };
            text.push_str(&match &part.content {
                Content::Text(text) => format!("\n  text {text}{cached}"),
                Content::Thinking { text, signature } => format!("\n  thought {text} {signature:?}"),
                Content::ToolUse { id, name, input } => format!("\n  call {id} {name} {input}"),
                Content::ToolResult { id, text, is_error } => format!("\n  result {id} {text} {is_error}{cached}"),
                other => format!("\n  {other:?}"),
            });
        }
        text.push('\n');
    }
    text
}

/// A body that is wrong: the path and the message behind it.
fn split(error: ApiError) -> (String, String) {
    let path = error.path.clone().unwrap_or_default();
    let message = error.message.strip_prefix(&format!("{path}: ")).unwrap_or(&error.message).to_owned();
    (path.to_string(), message)
}
