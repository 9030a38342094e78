//! Asks for tests.

use firecrest_contract::ask::{Ask, CacheTtl, Content, Part, Role, Sampling, ServiceTier, Thinking, Tool, ToolChoice, Turn};
use firecrest_contract::names::Names;
use serde_json::Value;

/// An ask of these turns and nothing else.
pub(crate) fn ask(turns: Vec<Turn>) -> Ask {
    Ask {
        names: Names::MESSAGES,
        model: "m".to_owned(),
        last: "messages".into(),
        turns,
        raw: Vec::new(),
        echo: false,
        tools: Vec::new(),
        tool_choice: ToolChoice::Auto,
        parallel_tools: true,
        format: None,
        thinking: Thinking::Unsaid,
        max_tokens: None,
        stop: Vec::new(),
        sampling: Sampling::default(),
        logprobs: None,
        choices: 1,
        stream: false,
        tier: ServiceTier::Auto,
        user: None,
        beyond: Vec::new(),
    }
}

pub(crate) fn turn(role: Role, contents: Vec<Content>) -> Turn {
    Turn { role, parts: contents.into_iter().map(|content| Part { content, cache: None }).collect() }
}

pub(crate) fn says(role: Role, text: &str) -> Turn {
    turn(role, vec![Content::Text(text.to_owned())])
}

/// The same turn, to be kept.
pub(crate) fn kept(mut turn: Turn) -> Turn {
    if let Some(last) = turn.parts.last_mut() {
        last.cache = Some(CacheTtl::FiveMinutes);
    }
    turn
}

pub(crate) fn tool(name: &str, schema: Value) -> Tool {
    Tool { at: 0, name: name.to_owned(), description: None, schema, strict: false, cache: None }
}
