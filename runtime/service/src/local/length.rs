//! How long asks are, as far as that is known before they are tokenised.

use firecrest_contract::ask::{Ask, Content, RawPrompt, Role};
use firecrest_contract::error::{ApiError, CONTEXT_LENGTH_EXCEEDED};
use firecrest_engine::text::Tokenizer;

use crate::length::counted;

/// Tokens that a prompt of an ask may have.
pub(super) fn room(ask: &Ask, context: u32) -> usize {
    // One is left for the answer, where there is to be one.
    (context as usize).saturating_sub(usize::from(ask.max_tokens != Some(0)))
}

/// Refuses what is longer than the context whatever it says, before anybody reads it.
pub(super) fn fits(ask: &Ask, tokenizer: &Tokenizer, context: u32) -> Result<(), ApiError> {
    let fewest = match ask.raw.is_empty() {
        true => tokenizer.fewest_tokens(certain_bytes(ask)),
        false => {
            let fewest = |raw: &RawPrompt| match raw {
                // Control tokens may be longer than any other.
                RawPrompt::Text(text) => tokenizer.fewest_tokens_with_control(text.trim().len()),
                RawPrompt::Infill { prefix, suffix } => tokenizer.fewest_tokens_with_control(prefix.trim().len() + suffix.trim().len()),
                RawPrompt::Tokens(ids) => ids.len(),
            };
            ask.raw.iter().map(fewest).max().unwrap_or(0)
        }
    };
    match fewest > room(ask, context) {
        true => Err(too_long(ask, Length::AtLeast(fewest), room(ask, context))),
        false => Ok(()),
    }
}

/// Tokens of a prompt, as far as they are known.
#[derive(Clone, Copy)]
pub(crate) enum Length {
    Exactly(usize),
    AtLeast(usize),
}

pub(crate) fn too_long(ask: &Ask, length: Length, room: usize) -> ApiError {
    // Programs read the numbers out of these words, and make their conversations shorter by them.
    let (tokens, more) = match length {
        Length::Exactly(tokens) => (tokens, ""),
        Length::AtLeast(tokens) => (tokens, ", and more by what it says"),
    };
    let context = match ask.max_tokens {
        Some(0) => "which is the model's context".to_owned(),
        _ => format!("of a context of {}, where the answer takes 1 at least", counted(room as u64 + 1)),
    };
    let message = format!("prompt is too long: {} > {room} maximum{more}, {context}; shorten it", counted(tokens as u64));
    ApiError::invalid(ask.names.conversation, message).code(CONTEXT_LENGTH_EXCEEDED)
}

/// Bytes of what is said that every template writes: not those of answers that think or call, of which some leave out a part, nor white space around a text.
fn certain_bytes(ask: &Ask) -> usize {
    let thinks = |text: &str| text.contains("think>");
    let texts = ask.turns.iter().flat_map(|turn| {
        let answers = turn.role == Role::Assistant;
        let calls = answers && turn.parts.iter().any(|part| matches!(part.content, Content::ToolUse { .. }));
        turn.parts.iter().map(move |part| match &part.content {
            Content::Text(text) if answers && (calls || thinks(text)) => 0,
            Content::Text(text) | Content::ToolResult { text, .. } | Content::Document { text, .. } => text.trim().len(),
            _ => 0,
        })
    });
    texts.sum()
}
