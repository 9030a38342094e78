//! How much there is to read of an ask, and how much is said in numbers.

use firecrest_contract::ask::{Ask, Content, Format, RawPrompt};

use crate::tools::grammar::size;

/// What a part costs beside its text: a message in a template, an entry in a list.
const PART: usize = 64;

/// So many tokens, in words.
pub(crate) fn counted(tokens: u64) -> String {
    if tokens == 1 { "1 token".to_owned() } else { format!("{tokens} tokens") }
}

/// About the bytes that have to be read to judge an ask, and to make prompts of it: all that a caller says in it, names and ids too.
pub(crate) fn ask_bytes(ask: &Ask) -> usize {
    let len = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let parts = ask.turns.iter().flat_map(|turn| &turn.parts).map(|part| {
        PART + match &part.content {
            Content::Text(text) => text.len(),
            Content::Thinking { text, signature } => text.len() + len(signature),
            Content::ToolResult { id, text, .. } => id.len() + text.len(),
            Content::Document { title, context, text } => len(title) + len(context) + text.len(),
            Content::ToolUse { id, name, input } => id.len() + name.len() + size(input),
            Content::Beyond => 0,
        }
    });
    let tools = ask.tools.iter().map(|tool| PART + tool.name.len() + size(&tool.schema) + len(&tool.description));
    let raw = ask.raw.iter().map(|raw| {
        PART + match raw {
            RawPrompt::Text(text) => text.len(),
            RawPrompt::Infill { prefix, suffix } => prefix.len() + suffix.len(),
            RawPrompt::Tokens(ids) => 4 * ids.len(),
        }
    });
    let format = match &ask.format {
        Some(Format::JsonSchema { schema, .. }) => size(schema),
        Some(Format::JsonObject) | None => 0,
    };
    let stops = ask.stop.iter().map(|stop| PART + stop.len());
    let turns = PART * ask.turns.len();
    parts.chain(tools).chain(raw).chain(stops).sum::<usize>() + format + turns
}
