//! Messages into turns.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::tools::is_word;
use super::{Seen, turn_of};
use crate::ask::{CacheTtl, Content, Part, Role, Turn, Version, add_line};
use crate::error::{ApiError, plain};
use crate::leaf::Unknown;
use crate::messages::at::At;
use crate::messages::blocks::*;
use crate::messages::params::{ClearAt, MessageParam, RoleParam, SystemParam};

const EMPTY_TEXT: &str = "text content blocks must contain non-whitespace text";
const NO_IMAGES: &str = "pictures can't be read here; describe it in text";
const NO_CITATIONS: &str = "citations can't be given here; ask for quotes in the text instead";
const NOT_A_BLOCK: &str = "is a block that can't be read here";

/// Calls of the assistant's last turn, and what became of them.
#[derive(Default)]
struct Calls {
    /// By id: whether the result came.
    open: HashMap<String, bool>,
    /// Every id of the conversation.
    all: HashSet<String>,
    /// The message that called first, for the error.
    message: usize,
}

impl Calls {
    /// The assistant's turn is over, and the answering one with it: each of its calls must have a result.
    fn close(&mut self) -> Result<(), ApiError> {
        let missing = self.open.iter().filter(|(_, answered)| !**answered).map(|(id, _)| id).min();
        if let Some(id) = missing {
            let message = format_args!(
                "`tool_use` `{}` has no `tool_result` in the next message; each call must have its result right behind it",
                plain(id)
            );
            return Err(At::field("messages").index(self.message).invalid(message));
        }
        // A map keeps the room that it once needed, and looking through it costs that each time.
        self.open = HashMap::new();
        Ok(())
    }
}

impl Seen {
    /// The system text, as the first turn.
    pub(super) fn system(&mut self, system: Option<SystemParam>, turns: &mut Vec<Turn>) -> Result<(), ApiError> {
        let at = At::field("system");
        match system {
            None => {}
            Some(SystemParam::Text(text)) if text.is_empty() => {}
            Some(SystemParam::Text(text)) => turn_of(turns, Role::System).parts.push(Part { content: Content::Text(text), cache: None }),
            Some(SystemParam::Blocks(blocks)) => {
                for (index, block) in blocks.into_iter().enumerate() {
                    let at = at.index(index);
                    let part = match block {
                        TextBlockParam::Text(text) => self.text(&at, text, false)?,
                        TextBlockParam::Other(value) => self.other_part(&at, &value, "can't be read here; only text may stand here"),
                    };
                    turn_of(turns, Role::System).parts.push(part);
                }
            }
        }
        Ok(())
    }

    /// The conversation.
    pub(super) fn messages(&mut self, messages: Vec<MessageParam>, turns: &mut Vec<Turn>) -> Result<(), ApiError> {
        let root = At::field("messages");
        let speaks = |role: RoleParam| role != RoleParam::System;
        match messages.iter().position(|message| speaks(message.role)) {
            None => return Err(root.invalid("at least one message of the user's is required")),
            Some(first) => {
                if messages.get(first).is_some_and(|message| message.role != RoleParam::User) {
                    return Err(root.index(first).key("role").invalid("the first message must use the `user` role"));
                }
            }
        }
        let last = messages.len().saturating_sub(1);
        let last_user = messages.iter().rposition(|message| message.role == RoleParam::User).unwrap_or(0);
        let mut calls = Calls::default();
        let mut speaker = RoleParam::User;
        for (index, message) in messages.into_iter().enumerate() {
            let at = root.index(index);
            if speaks(message.role) {
                if message.role == RoleParam::Assistant && speaker != RoleParam::Assistant {
                    calls.close()?;
                    calls.message = index;
                }
                speaker = message.role;
            }
            let cleared = message.clear_at == Some(ClearAt::NextUserMessage) && index < last_user;
            let role = message.role;
            let parts = self.message(&at, message, index == last, &mut calls)?;
            if !cleared && !parts.is_empty() {
                turn_of(turns, role_of(role)).parts.extend(parts);
            }
        }
        // Of an assistant's last turn too: an answer can't begin behind a call.
        calls.close()?;
        if let Some(Turn { role: Role::Assistant, parts }) = turns.last()
            && let Some(Part { content: Content::Text(text), .. }) = parts.last()
            && text.ends_with(char::is_whitespace)
        {
            let message = "final assistant content cannot end with trailing whitespace";
            return Err(root.index(last).key("content").invalid(message));
        }
        Ok(())
    }

    fn message(&mut self, at: &At<'_>, message: MessageParam, last: bool, calls: &mut Calls) -> Result<Vec<Part>, ApiError> {
        let MessageParam { role, content, clear_at, output_config, unknown } = message;
        self.unknown(at, unknown);
        let system = role == RoleParam::System;
        if clear_at.is_some() && !system {
            return Err(at.key("clear_at").invalid("is only permitted on `system` messages"));
        }
        if output_config.is_some() && !system {
            return Err(at.key("output_config").invalid("is only permitted on `system` messages"));
        }
        let configured = output_config.is_some_and(|config| !config.is_empty());
        if configured {
            self.hint(&at.key("output_config"), "it is the same for the whole conversation here; use the top-level `output_config`");
        }
        let at = at.key("content");
        // A final turn of the assistant may be empty: then nothing is begun for it.
        let empty_allowed = (last && role == RoleParam::Assistant) || (system && configured);
        let parts = match content {
            None if system && configured => Vec::new(),
            None => return Err(at.invalid("field required")),
            Some(ContentParam::Text(text)) if text.is_empty() => Vec::new(),
            Some(ContentParam::Text(text)) => {
                if text.trim().is_empty() {
                    return Err(at.invalid(EMPTY_TEXT));
                }
                vec![Part { content: Content::Text(text), cache: None }]
            }
            Some(ContentParam::Blocks(blocks)) => {
                let mut parts = Vec::with_capacity(blocks.len());
                for (index, block) in blocks.into_iter().enumerate() {
                    parts.push(self.block(&at.index(index), block, role, calls)?);
                }
                parts
            }
        };
        if parts.is_empty() && !empty_allowed {
            return Err(at.invalid("all messages must have non-empty content, except for the optional final assistant message"));
        }
        Ok(parts)
    }

    fn block(&mut self, at: &At<'_>, block: BlockParam, role: RoleParam, calls: &mut Calls) -> Result<Part, ApiError> {
        let only = |wanted: RoleParam, name: &str| {
            let tag = block.tag();
            match role == wanted {
                true => Ok(()),
                false => Err(at.key("type").invalid(format_args!("`{tag}` blocks can only be in `{name}` messages"))),
            }
        };
        match &block {
            BlockParam::Text(_) | BlockParam::Other(_) => {}
            _ if role == RoleParam::System => return Err(at.key("type").invalid("only `text` blocks can be in `system` messages")),
            BlockParam::Thinking(_) | BlockParam::RedactedThinking(_) | BlockParam::ToolUse(_) => only(RoleParam::Assistant, "assistant")?,
            BlockParam::ToolResult(_) => only(RoleParam::User, "user")?,
            BlockParam::Document(_) if role == RoleParam::Assistant && self.version >= Version::October2026 => {
                let message = format_args!("`document` blocks can't be in `assistant` messages of version {}", self.version.name());
                return Err(at.key("type").invalid(message));
            }
            BlockParam::Document(_) | BlockParam::Image(_) | BlockParam::SearchResult(_) => {}
        }
        match block {
            BlockParam::Text(text) => self.text(at, text, role == RoleParam::User),
            BlockParam::Image(image) => self.image(at, image),
            BlockParam::Document(document) => self.document(at, document),
            BlockParam::SearchResult(result) => self.search_result(at, result),
            BlockParam::Thinking(thinking) => {
                self.unknown(at, thinking.unknown);
                let signature = (!thinking.signature.is_empty()).then_some(thinking.signature);
                Ok(Part { content: Content::Thinking { text: thinking.thinking, signature }, cache: None })
            }
            BlockParam::RedactedThinking(thinking) => {
                self.hint(&at.key("type"), "`redacted_thinking` can only be read by the service that made it");
                self.unknown(at, thinking.unknown);
                Ok(Part { content: Content::Beyond, cache: None })
            }
            BlockParam::ToolUse(call) => self.tool_use(at, call, calls),
            BlockParam::ToolResult(result) => self.tool_result(at, result, calls),
            BlockParam::Other(value) => Ok(self.other_part(at, &value, NOT_A_BLOCK)),
        }
    }

    fn other_part(&mut self, at: &At<'_>, value: &Value, why: &str) -> Part {
        self.other(at, value, why);
        Part { content: Content::Beyond, cache: None }
    }

    /// Text. `asked`: it is the user's, who can't cite anything under the newer version.
    fn text(&mut self, at: &At<'_>, text: TextParam, asked: bool) -> Result<Part, ApiError> {
        let TextParam { text, cache_control, citations, unknown } = text;
        if text.trim().is_empty() {
            return Err(at.key("text").invalid(EMPTY_TEXT));
        }
        if citations.is_some_and(|citations| !citations.is_empty()) {
            if asked && self.version >= Version::October2026 {
                let message = format_args!("must be empty in `user` messages of version {}", self.version.name());
                return Err(at.key("citations").invalid(message));
            }
            self.hint(&at.key("citations"), "what a text was taken from is not shown to the model");
        }
        self.unknown(at, unknown);
        let cache = self.cache(at, cache_control)?;
        Ok(Part { content: Content::Text(text), cache })
    }

    fn image(&mut self, at: &At<'_>, image: ImageParam) -> Result<Part, ApiError> {
        self.refuse(&at.key("type"), NO_IMAGES);
        self.unknown(at, image.unknown);
        let cache = self.cache(at, image.cache_control)?;
        Ok(Part { content: Content::Beyond, cache })
    }

    fn document(&mut self, at: &At<'_>, document: DocumentParam) -> Result<Part, ApiError> {
        let DocumentParam { source, title, context, citations, cache_control, unknown } = document;
        self.unknown(at, unknown);
        self.citations(at, citations);
        let text = {
            let at = at.key("source");
            match source {
                DocumentSource::Text(source) => {
                    self.unknown(&at, source.unknown);
                    if source.data.is_empty() {
                        return Err(at.key("data").invalid("must not be empty"));
                    }
                    Some(source.data)
                }
                DocumentSource::Content(source) => {
                    self.unknown(&at, source.unknown);
                    self.document_content(&at.key("content"), source.content)?
                }
                DocumentSource::Base64(source) => {
                    self.refuse(&at, &format!("`{}` can't be read here; send its text", plain(&source.media_type)));
                    None
                }
                DocumentSource::Url(_) => {
                    self.refuse(&at, "nothing is fetched from the web here; send its text");
                    None
                }
                DocumentSource::File(_) => {
                    self.refuse(&at, "uploaded files are not kept here; send its text");
                    None
                }
                DocumentSource::Other(value) => {
                    self.other(&at, &value, "is not known here; use `text` or `content`");
                    None
                }
            }
        };
        let cache = self.cache(at, cache_control)?;
        Ok(Part { content: text.map_or(Content::Beyond, |text| Content::Document { title, context, text }), cache })
    }

    fn document_content(&mut self, at: &At<'_>, content: DocumentContent) -> Result<Option<String>, ApiError> {
        let blocks = match content {
            DocumentContent::Text(text) if text.is_empty() => return Err(at.invalid("must not be empty")),
            DocumentContent::Text(text) => return Ok(Some(text)),
            DocumentContent::Blocks(blocks) => blocks,
        };
        if blocks.is_empty() {
            return Err(at.invalid("must not be empty"));
        }
        let mut joined = Some(String::new());
        for (index, block) in blocks.into_iter().enumerate() {
            let at = at.index(index);
            let part = match block {
                DocumentBlock::Text(text) => self.text(&at, text, false)?,
                DocumentBlock::Image(image) => self.image(&at, image)?,
                DocumentBlock::Other(value) => self.other_part(&at, &value, NOT_A_BLOCK),
            };
            join(&mut joined, part.content);
        }
        Ok(joined)
    }

    fn search_result(&mut self, at: &At<'_>, result: SearchResultParam) -> Result<Part, ApiError> {
        let SearchResultParam { source, title, content, citations, cache_control, unknown } = result;
        self.unknown(at, unknown);
        self.citations(at, citations);
        let mut joined = Some(String::new());
        for (index, block) in content.into_iter().enumerate() {
            let at = at.key("content");
            let at = at.index(index);
            let part = match block {
                TextBlockParam::Text(text) => self.text(&at, text, false)?,
                TextBlockParam::Other(value) => self.other_part(&at, &value, NOT_A_BLOCK),
            };
            join(&mut joined, part.content);
        }
        let cache = self.cache(at, cache_control)?;
        let document = |text| Content::Document { title: Some(title), context: Some(source), text };
        Ok(Part { content: joined.map_or(Content::Beyond, document), cache })
    }

    fn citations(&mut self, at: &At<'_>, citations: Option<CitationsParam>) {
        let Some(citations) = citations else { return };
        let at = at.key("citations");
        if citations.enabled == Some(true) {
            self.refuse(&at.key("enabled"), NO_CITATIONS);
        }
        self.unknown(&at, citations.unknown);
    }

    fn tool_use(&mut self, at: &At<'_>, call: ToolUseParam, calls: &mut Calls) -> Result<Part, ApiError> {
        let ToolUseParam { id, name, input, cache_control, caller, toolset_name, unknown } = call;
        if !is_word(&id) {
            return Err(at.key("id").invalid("must be made of the characters a-z, A-Z, 0-9, `_` and `-`"));
        }
        // It lands in the prompt, between the model's own marks.
        if !is_word(&name) || name.len() > 200 {
            return Err(at.key("name").invalid("must be 1 to 200 of the characters a-z, A-Z, 0-9, `_` and `-`"));
        }
        if !calls.all.insert(id.clone()) {
            return Err(at.key("id").invalid(format_args!("`tool_use` ids must be unique, `{}` is there already", plain(&id))));
        }
        calls.open.insert(id.clone(), false);
        match caller {
            None => {}
            Some(CallerParam::Direct(direct)) => self.unknown(&at.key("caller"), direct.unknown),
            Some(CallerParam::Other(value)) => self.other(&at.key("caller"), &value, "does not call tools here, only the model does"),
        }
        self.toolset(at, toolset_name, unknown);
        let cache = self.cache(at, cache_control)?;
        Ok(Part { content: Content::ToolUse { id, name, input: Value::Object(input) }, cache })
    }

    fn tool_result(&mut self, at: &At<'_>, result: ToolResultParam, calls: &mut Calls) -> Result<Part, ApiError> {
        let ToolResultParam { tool_use_id, content, is_error, cache_control, toolset_name, unknown } = result;
        match calls.open.get_mut(&tool_use_id) {
            Some(answered @ false) => *answered = true,
            Some(true) => {
                let message = format_args!("each `tool_use` must have a single result, `{}` has one already", plain(&tool_use_id));
                return Err(at.key("tool_use_id").invalid(message));
            }
            None => {
                let message = format_args!(
                    "unexpected `{}`: each `tool_result` must have its `tool_use` in the previous message",
                    plain(&tool_use_id)
                );
                return Err(at.key("tool_use_id").invalid(message));
            }
        }
        self.toolset(at, toolset_name, unknown);
        let mut cache = None;
        let text = {
            let at = at.key("content");
            match content {
                None => Some(String::new()),
                Some(ToolResultContent::Text(text)) => Some(text),
                Some(ToolResultContent::Blocks(blocks)) => {
                    let mut joined = Some(String::new());
                    for (index, block) in blocks.into_iter().enumerate() {
                        let part = self.result_block(&at.index(index), block)?;
                        cache = part.cache.or(cache);
                        join(&mut joined, part.content);
                    }
                    joined
                }
            }
        };
        // A breakpoint inside moves to the result's own end: it is one part.
        let cache: Option<CacheTtl> = self.cache(at, cache_control)?.or(cache);
        let is_error = is_error.unwrap_or(false);
        Ok(Part { content: text.map_or(Content::Beyond, |text| Content::ToolResult { id: tool_use_id, text, is_error }), cache })
    }

    fn result_block(&mut self, at: &At<'_>, block: ToolResultBlock) -> Result<Part, ApiError> {
        match block {
            // A tool may well have nothing to say, and its caller sends that on.
            ToolResultBlock::Text(text) if text.text.is_empty() && text.cache_control.is_none() => {
                self.unknown(at, text.unknown);
                Ok(Part { content: Content::Text(String::new()), cache: None })
            }
            ToolResultBlock::Text(mut text) if text.text.trim().is_empty() => {
                self.unknown(at, std::mem::take(&mut text.unknown));
                let cache = self.cache(at, text.cache_control)?;
                Ok(Part { content: Content::Text(text.text), cache })
            }
            ToolResultBlock::Text(text) => self.text(at, text, false),
            ToolResultBlock::Image(image) => self.image(at, image),
            ToolResultBlock::Document(document) => self.document(at, document),
            ToolResultBlock::SearchResult(result) => self.search_result(at, result),
            ToolResultBlock::Other(value) => match found_tool(&value) {
                // What a search of the caller's own found.
                Some(name) => {
                    self.hint(&at.key("type"), "the model is shown all tools; what was found is told as text");
                    Ok(Part { content: Content::Text(format!("Tool found: {name}")), cache: None })
                }
                None => Ok(self.other_part(at, &value, NOT_A_BLOCK)),
            },
        }
    }

    fn toolset(&mut self, at: &At<'_>, toolset_name: Option<String>, unknown: Unknown) {
        if toolset_name.is_some() {
            self.refuse(&at.key("toolset_name"), "there are no sets of tools here");
        }
        self.unknown(at, unknown);
    }
}

fn role_of(role: RoleParam) -> Role {
    match role {
        RoleParam::User => Role::User,
        RoleParam::Assistant => Role::Assistant,
        RoleParam::System => Role::System,
    }
}

/// Appends a part's text, a line each. What has none makes the whole something that has none.
fn join(joined: &mut Option<String>, content: Content) {
    let text = match content {
        Content::Text(text) => text,
        Content::Document { title, context, text } => {
            let head: Vec<String> = title.into_iter().chain(context).collect();
            if head.is_empty() { text } else { format!("{}\n{text}", head.join("\n")) }
        }
        _ => {
            *joined = None;
            return;
        }
    };
    if let Some(joined) = joined {
        add_line(joined, &text);
    }
}

/// The name of a `tool_reference`: a tool that was found.
fn found_tool(block: &Value) -> Option<&str> {
    let is_reference = block.get("type").and_then(Value::as_str) == Some("tool_reference");
    block.get("tool_name").and_then(Value::as_str).filter(|name| is_reference && is_word(name))
}
