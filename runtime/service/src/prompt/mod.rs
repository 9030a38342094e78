//! From an ask to the tokens that a model goes on from.
//!
//! Turns become the messages that the model's own chat template reads, and what it writes becomes tokens. What a template can do
//! (show tools, take a system text, thoughts) is found out by trying it once ([`Traits`]). Texts of an ask never make control tokens: where one stands in
//! them it is spelled out.

mod guard;
mod messages;

use std::collections::BTreeSet;

use firecrest_contract::ask::{Ask, CacheTtl, Content, RawPrompt, Role, Thinking};
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_engine::text::{ChatTemplate, EncodeOptions, Tokenizer, WallTime};
use serde_json::{Value, json};

use crate::local::length::{Length, too_long};
use crate::tools::grammar::holds_from_start;
use crate::tools::{Thoughts, ToolFormat};
use guard::Guard;
use messages::{GUARD, Mark};

/// What a template can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traits {
    /// How calls of tools are written.
    pub format: &'static ToolFormat,
    /// How thoughts are.
    pub thoughts: Option<&'static Thoughts>,
    /// Whether there is a system's side.
    pub system: bool,
    /// Whether it pastes the text of a call's arguments, rather than writing an object as JSON.
    pub arguments_as_text: bool,
    /// Whether it takes what was thought before (`reasoning_content`).
    pub reasoning: bool,
}

/// Makes prompts for one model.
pub struct Prompter {
    tokenizer: Tokenizer,
    chat: Option<(ChatTemplate, Traits)>,
    guard: Guard,
    bos: String,
    eos: String,
}

/// A prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Prefixes worth keeping, by length.
    pub breakpoints: Vec<Breakpoint>,
    /// How what is thought ends, where the prompt ends within thoughts.
    pub thinks: Option<&'static Thoughts>,
    /// Whether the prompt ends within the answer.
    pub continues: bool,
    /// Its text and how many of its first tokens are not written in it, for answers that begin with it.
    pub echo: Option<(String, usize)>,
}

/// The end of something that an ask wants kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breakpoint {
    /// Tokens before it.
    pub positions: u32,
    /// For how long.
    pub ttl: CacheTtl,
    /// Whether it lies elsewhere than asked for, because the template puts something else there.
    pub moved: bool,
}

/// The name of a control token is so many times as long as the longest other token, at most.
const NAMES: usize = 4;

/// Breakpoints that are looked for: each costs a rendering.
const MOST_BREAKPOINTS: usize = 4;

impl Prompter {
    /// For a model's tokenizer and, where it chats, its template.
    ///
    /// # Errors
    /// A template that does not compile.
    pub fn new(tokenizer: Tokenizer, template: Option<&str>) -> firecrest_engine::Result<Prompter> {
        let guard = Guard::new(&tokenizer);
        let (bos, eos) = (tokenizer.bos_text().to_owned(), tokenizer.eos_text().to_owned());
        let chat = template.map(|source| -> firecrest_engine::Result<_> {
            let template = ChatTemplate::new(source)?;
            let traits = Traits::of(&template, source);
            Ok((template, traits))
        });
        Ok(Prompter { tokenizer, chat: chat.transpose()?, guard, bos, eos })
    }

    /// What the template can do; `None` where there is none.
    pub fn traits(&self) -> Option<&Traits> {
        self.chat.as_ref().map(|(_, traits)| traits)
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Prompts of an ask: one, or as many as it has raw ones. A conversation has `room` for so many tokens, and is not tokenised where it can't be shorter.
    ///
    /// # Errors
    /// What the template does not take, or the vocabulary does not have, with its leaf; a conversation that is longer whatever it says.
    pub fn prompts(&self, ask: &Ask, now: Option<WallTime>, room: usize) -> Result<Vec<Prompt>, ApiError> {
        if ask.raw.is_empty() {
            return Ok(vec![self.chat(ask, now, room)?]);
        }
        let single = ask.raw.len() == 1;
        let path = |at: usize| if single { "prompt".to_owned() } else { format!("prompt.{at}") };
        ask.raw.iter().enumerate().map(|(at, raw)| self.raw(raw, &path(at), ask.echo)).collect()
    }

    /// A prompt without turns. What is written out in it as a control token is one: this is where callers bring templates of their own.
    fn raw(&self, raw: &RawPrompt, path: &str, echo: bool) -> Result<Prompt, ApiError> {
        let encode = |text: &str, add_special| {
            let options = EncodeOptions { add_special, parse_special: true };
            self.tokenizer.encode(text, options).map_err(|e| ApiError::invalid(path, e.message()))
        };
        let mut ids = match raw {
            RawPrompt::Tokens(ids) => ids.clone(),
            RawPrompt::Text(text) => {
                let mut ids = encode(text, true)?;
                // A text that begins as the model's texts do needs no second beginning.
                if let (Some(bos), [first, second, ..]) = (self.tokenizer.bos(), &ids[..])
                    && (*first, *second) == (bos, bos)
                    && text.starts_with(self.bos.as_str())
                {
                    ids.remove(0);
                }
                ids
            }
            RawPrompt::Infill { prefix, suffix } => {
                let made = self.tokenizer.encode_infill(prefix, suffix).map_err(|e| ApiError::invalid(path, e.message()))?;
                made.ok_or_else(|| {
                    let why = "this model's vocabulary has no tokens that mark a gap, so it can't fill one in; leave `suffix` out";
                    ApiError::invalid("suffix", why)
                })?
            }
        };
        let text = match raw {
            RawPrompt::Tokens(ids) => self.tokenizer.decode(ids, false),
            RawPrompt::Text(text) => text.clone(),
            RawPrompt::Infill { prefix, .. } => prefix.clone(),
        };
        let given = ids.len();
        let size = self.tokenizer.vocab_size();
        if let Some(id) = ids.iter().find(|&&id| id as usize >= size) {
            return Err(ApiError::invalid(path, format!("token {id} is not among the model's {size}")));
        }
        if ids.is_empty() {
            let begin = self.tokenizer.bos().or(self.tokenizer.eos());
            ids.push(begin.ok_or_else(|| ApiError::invalid(path, "this model can't begin by itself; give some text"))?);
        }
        let begun = ids.first().is_some_and(|first| Some(*first) == self.tokenizer.bos());
        let unwritten = match raw {
            RawPrompt::Text(text) => usize::from(given == 0 || (begun && !text.starts_with(self.bos.as_str()))),
            _ => usize::from(given == 0),
        };
        let echo = echo.then_some((text, unwritten));
        Ok(Prompt { ids, breakpoints: Vec::new(), thinks: None, continues: true, echo })
    }

    fn chat(&self, ask: &Ask, now: Option<WallTime>, room: usize) -> Result<Prompt, ApiError> {
        let Some((_, traits)) = &self.chat else {
            let why = "this model has no chat template; use /v1/completions";
            return Err(ApiError::invalid(ask.names.conversation, why));
        };
        let (mut text, continues) = self.text(ask, now)?;
        let mut thinks = None;
        if let Some(thoughts) = traits.thoughts.filter(|_| !continues) {
            let ends = text.trim_end().ends_with(thoughts.open);
            match (ask.thinking, ends) {
                // A template that can't be told leaves the model no choice; so thoughts end before they begin.
                (Thinking::Off, true) => text.push_str(&format!("\n{}\n\n", thoughts.close)),
                (Thinking::Unsaid, true) if holds_from_start(ask) => text.push_str(&format!("\n{}\n\n", thoughts.close)),
                (_, true) => thinks = Some(thoughts),
                (Thinking::Adaptive { .. } | Thinking::Budget { .. }, false) => {
                    text.push_str(&format!("{}\n", thoughts.open));
                    thinks = Some(thoughts);
                }
                _ => {}
            }
        }
        // Names of control tokens may be longer than any other token's, and a guard is nothing.
        let fewest = self.tokenizer.fewest_tokens(text.len() - text.matches(GUARD).count() * GUARD.len_utf8()) / NAMES;
        if fewest > room {
            return Err(too_long(ask, Length::AtLeast(fewest), room));
        }
        let ids = self.encode(ask, &text)?;
        let breakpoints = self.breakpoints(ask, now, &text, &ids)?;
        Ok(Prompt { ids, breakpoints, thinks, continues, echo: None })
    }

    /// The text of a conversation, and whether it ends within the answer.
    ///
    /// # Errors
    /// What the template does not take.
    pub fn text(&self, ask: &Ask, now: Option<WallTime>) -> Result<(String, bool), ApiError> {
        let last = ask.turns.len().wrapping_sub(1);
        let begun = ask.turns.last().filter(|turn| turn.role == Role::Assistant);
        let Some(turn) = begun.filter(|turn| turn.parts.iter().any(|part| part.content != Content::Text(String::new()))) else {
            // An answer that is begun with nothing is not begun.
            let turns = begun.map(|_| last);
            return Ok((self.render(ask, now, Mark { turns, ..Mark::default() }, true)?, false));
        };
        let Some(part) = turn.parts.iter().rposition(|part| matches!(part.content, Content::Text(_))) else {
            let why = "the answer can be begun with text only; give the tools' results in a user's turn";
            return Err(ApiError::invalid(ask.last.clone(), why));
        };
        let mark = unused(ask);
        let marked = self.render(ask, now, Mark { behind: Some((last, part, &mark)), ..Mark::default() }, false)?;
        match marked.rfind(&mark) {
            Some(end) => Ok((marked[..end].to_owned(), true)),
            None => Err(ApiError::invalid(ask.last.clone(), "this model's template does not let an answer be begun; leave it out")),
        }
    }

    fn render(&self, ask: &Ask, now: Option<WallTime>, mark: Mark<'_>, begin: bool) -> Result<String, ApiError> {
        let Some((template, traits)) = &self.chat else { return Ok(String::new()) };
        let guard = |text: &str| self.guard.apply(text);
        let mut context = json!({
            "messages": messages::messages(ask, traits, &guard, mark),
            "add_generation_prompt": begin, "bos_token": self.bos, "eos_token": self.eos,
        });
        if traits.format.in_template && !ask.tools.is_empty() {
            context["tools"] = messages::tools(&ask.tools, &guard);
        }
        let thinks = match ask.thinking {
            Thinking::Off => Some(false),
            Thinking::Unsaid if holds_from_start(ask) => Some(false),
            Thinking::Unsaid => None,
            Thinking::Adaptive { .. } | Thinking::Budget { .. } => Some(true),
        };
        if let Some(thinks) = thinks {
            // Both names are in use.
            context["enable_thinking"] = thinks.into();
            context["thinking"] = thinks.into();
        }
        template.render(&context, now).map_err(|error| template_failed(ask, &error))
    }

    /// The tokens of what a template wrote.
    fn encode(&self, ask: &Ask, text: &str) -> Result<Vec<u32>, ApiError> {
        let mut ids = Vec::new();
        for piece in text.split(GUARD) {
            let options = EncodeOptions { add_special: false, parse_special: true };
            let encoded = self.tokenizer.encode(piece, options).map_err(|e| ApiError::invalid(ask.names.conversation, e.message()))?;
            ids.extend(encoded);
        }
        Ok(ids)
    }

    /// Where what is to be kept ends. A breakpoint is where the text of what it stands behind ends; where the template does not leave that at the
    /// end of a prefix, it is where the text begins to differ from the same conversation cut there.
    fn breakpoints(&self, ask: &Ask, now: Option<WallTime>, text: &str, ids: &[u32]) -> Result<Vec<Breakpoint>, ApiError> {
        let mut found: Vec<(usize, CacheTtl, bool)> = Vec::new();
        let parts = ask.turns.iter().enumerate().flat_map(|(turn, t)| t.parts.iter().enumerate().map(move |(part, p)| (turn, part, p)));
        let wanted = parts.filter_map(|(turn, part, p)| Some((turn, part, p, p.cache?)));
        // The last ones hold those before them.
        let wanted: Vec<_> = wanted.collect::<Vec<_>>().into_iter().rev().take(MOST_BREAKPOINTS).collect();
        if wanted.is_empty() && ask.tools.iter().all(|tool| tool.cache.is_none()) {
            return Ok(Vec::new());
        }
        let mark = unused(ask);
        for (turn, part, p, ttl) in wanted {
            let inline = matches!(p.content, Content::Text(_) | Content::Document { .. } | Content::ToolResult { .. });
            if inline {
                let mark = Mark { behind: Some((turn, part, &mark)), ..Mark::default() };
                let marked = self.marked(ask, now, mark)?;
                if let Some(end) = mark.behind.and_then(|(_, _, mark)| marked.find(mark)) {
                    let shared = common(text.as_bytes(), &marked.as_bytes()[..end]);
                    found.push((shared, ttl, shared < end));
                    continue;
                }
            }
            let cut = self.render(ask, now, Mark { turns: Some(turn + 1), ..Mark::default() }, false)?;
            found.push((common(text.as_bytes(), cut.as_bytes()), ttl, true));
        }
        if let Some(ttl) = ask.tools.iter().rev().find_map(|tool| tool.cache).filter(|_| found.len() < MOST_BREAKPOINTS) {
            // Tools stand before all that is said, and where the template has it otherwise the system's text with them.
            let system = ask.turns.iter().take_while(|turn| turn.role == Role::System).count();
            let begun = self.render(ask, now, Mark { turns: Some(system), then: Some(&mark), ..Mark::default() }, true)?;
            let end = begun.find(&mark).unwrap_or(begun.len());
            let shared = common(text.as_bytes(), &begun.as_bytes()[..end]);
            found.push((shared, ttl, system > 0 || shared < end));
        }
        let mut breakpoints = Vec::new();
        let mut seen = BTreeSet::new();
        found.sort_unstable_by_key(|(end, _, _)| *end);
        for (end, ttl, moved) in found {
            let prefix = self.encode(ask, &text[..text.floor_char_boundary(end)])?;
            let positions = prefix.iter().zip(ids).take_while(|(a, b)| a == b).count() as u32;
            if positions > 0 && seen.insert(positions) {
                breakpoints.push(Breakpoint { positions, ttl, moved });
            }
        }
        Ok(breakpoints)
    }

    /// The text with a mark in it.
    fn marked(&self, ask: &Ask, now: Option<WallTime>, mark: Mark<'_>) -> Result<String, ApiError> {
        let begun = ask.turns.last().is_some_and(|turn| turn.role == Role::Assistant);
        self.render(ask, now, mark, !begun)
    }
}

impl Traits {
    /// What a template can do, by trying.
    fn of(template: &ChatTemplate, source: &str) -> Traits {
        let render = |messages: Value| {
            let context = json!({ "messages": messages, "add_generation_prompt": true, "bos_token": "", "eos_token": "" });
            template.render(&context, Some(WallTime { unix_seconds: 0, utc_offset_seconds: 0 })).unwrap_or_default()
        };
        let user = json!({ "role": "user", "content": "probe-user" });
        let with_system = render(json!([{ "role": "system", "content": "probe-system" }, user]));
        let system = with_system.contains("probe-system") && with_system.contains("probe-user");
        let called = |arguments: Value| {
            let function = json!({ "name": "probe-tool", "arguments": arguments });
            let calls = json!([{ "id": "probe1234", "type": "function", "function": function }]);
            let result = json!({ "role": "tool", "tool_call_id": "probe1234", "name": "probe-tool", "content": "probe-result" });
            render(json!([user, { "role": "assistant", "content": "", "tool_calls": calls }, result]))
        };
        let as_object = |text: &str| text.contains(r#""probe-key": "probe-value""#) || text.contains(r#""probe-key":"probe-value""#);
        let arguments = json!({ "probe-key": "probe-value" });
        let pasted = called(arguments.to_string().into());
        let written = called(arguments);
        let thoughts = Thoughts::of_template(source);
        let reasoning = source.contains("reasoning_content");
        Traits {
            format: ToolFormat::of_template(source),
            thoughts,
            system,
            arguments_as_text: as_object(&pasted) && !as_object(&written),
            reasoning,
        }
    }
}

/// Bytes that both begin with.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A text that stands nowhere in an ask: of a character that is none, one more of them than stand side by side anywhere.
fn unused(ask: &Ask) -> String {
    let longest = ask.turns.iter().flat_map(|turn| &turn.parts).map(|part| longest_in_part(&part.content));
    let tools =
        ask.tools.iter().map(|tool| longest_in(tool.description.as_deref().unwrap_or_default()).max(longest_in_value(&tool.schema)));
    let longest = longest.chain(tools).max().unwrap_or(0);
    MARK.to_string().repeat(longest + 1)
}

/// What marks are made of. No text has a use for it.
const MARK: char = '\u{fdd1}';

fn longest_in_part(content: &Content) -> usize {
    let said = |text: &Option<String>| longest_in(text.as_deref().unwrap_or_default());
    match content {
        Content::Text(text) | Content::Thinking { text, .. } => longest_in(text),
        Content::ToolResult { id, text, .. } => longest_in(id).max(longest_in(text)),
        Content::Document { title, context, text } => said(title).max(said(context)).max(longest_in(text)),
        Content::ToolUse { id, name, input } => longest_in(id).max(longest_in(name)).max(longest_in_value(input)),
        Content::Beyond => 0,
    }
}

fn longest_in_value(value: &Value) -> usize {
    match value {
        Value::String(text) => longest_in(text),
        Value::Array(items) => items.iter().map(longest_in_value).max().unwrap_or(0),
        Value::Object(members) => members.iter().map(|(name, value)| longest_in(name).max(longest_in_value(value))).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// The most marks that stand side by side in a text.
fn longest_in(text: &str) -> usize {
    let mut longest = 0;
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        rest = rest.get(at..).unwrap_or_default();
        let behind = rest.trim_start_matches(MARK);
        longest = longest.max((rest.len() - behind.len()) / MARK.len_utf8());
        rest = behind;
    }
    longest
}

/// What an error of a template is to the caller: what it raises by itself is about the messages; everything else is the template's fault, which no
/// caller can mend.
fn template_failed(ask: &Ask, error: &firecrest_engine::Error) -> ApiError {
    match firecrest_engine::text::raised(error) {
        Some(words) => ApiError::invalid(ask.names.conversation, format!("the model's template refuses them: {words}")),
        None => ApiError::new(ErrorKind::Api, format!("the model's own chat template failed, not the request: {}", error.message())),
    }
}

/// What an engine's or a template's error is to the caller.
pub(crate) fn refused(path: &str, error: &firecrest_engine::Error) -> ApiError {
    use firecrest_engine::ErrorCode;
    match error.code() {
        ErrorCode::Request | ErrorCode::Template | ErrorCode::UnknownAdapter | ErrorCode::Unsupported => {
            ApiError::invalid(path, error.message())
        }
        ErrorCode::Memory => ApiError::new(ErrorKind::Overloaded, error.message()),
        _ => ApiError::new(ErrorKind::Api, error.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asks::{ask, says, turn};

    #[test]
    fn a_mark_stands_nowhere_in_what_is_said() {
        let marks = |count: usize| "\u{fdd1}".repeat(count);
        let content = [
            Content::Text(format!("{} {}", marks(3), marks(2))),
            Content::Thinking { text: marks(4), signature: None },
            Content::ToolResult { id: marks(5), text: String::new(), is_error: false },
            Content::ToolUse { id: String::new(), name: marks(6), input: json!({}) },
            Content::ToolUse { id: String::new(), name: String::new(), input: json!({ "a": [{ (marks(8)): 1 }] }) },
            Content::Document { title: Some(marks(7)), context: None, text: String::new() },
        ];
        for (at, content) in content.into_iter().enumerate() {
            let longest = [3, 4, 5, 6, 8, 7][at];
            let asked = ask(vec![says(Role::User, "Hi"), turn(Role::Assistant, vec![content])]);
            assert_eq!(unused(&asked), marks(longest + 1));
        }
        assert_eq!(unused(&ask(vec![says(Role::User, "Hi")])), marks(1));
        // One pass: a search for each length would take hours.
        assert_eq!(unused(&ask(vec![says(Role::User, &marks(2_000_000))])).len(), 3 * 2_000_001);
    }
}
