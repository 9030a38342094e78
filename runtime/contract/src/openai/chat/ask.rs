//! A chat request as a neutral one.

use std::collections::HashSet;

use super::{
    AllowedTools, AssistantMessage, Call, Called, ChoiceOf, Content, ContentPart, Function, Message, Mode, Request, ResponseFormat, Tool,
    ToolChoice,
};
use crate::ask::{self, Ask, CacheTtl, Format, Part, Role, Sampling, ServiceTier, Thinking, Turn, add_line};
use crate::error::ApiError;
use crate::names::Names;
use crate::openai::beyond::Beyonds;
use crate::openai::{CacheBreakpoint, Effort, StreamOptions, Tier, Verbosity, range};
use crate::path::Path;

/// What has no neutral form in a conversation, by a part's `type`. `text`: what text is to be sent as.
pub(in crate::openai) fn no_part(tag: &str, text: &str) -> String {
    match tag {
        "image_url" | "input_image" => "images can't be read here; describe them in text".to_owned(),
        "input_audio" => "sound can't be heard here; send a transcript".to_owned(),
        "file" | "input_file" => "files can't be read here; send their text".to_owned(),
        _ => format!("a part of this type can't be read here; send {text}"),
    }
}

impl Request {
    /// Whether a stream ends with a chunk that says what it took.
    pub fn include_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage == Some(true))
    }

    /// The neutral request.
    ///
    /// # Errors
    /// `invalid_request_error` with the leaf that is out of bounds or contradicts another.
    pub fn into_ask(self) -> Result<Ask, ApiError> {
        range::model(&self.model)?;
        let mut beyond = Beyonds::default();
        let stream = self.stream.unwrap_or(false);
        StreamOptions::ask(self.stream_options.as_ref(), stream, &mut beyond)?;
        let logprobs = match (self.logprobs.unwrap_or(false), range::count("top_logprobs", self.top_logprobs, 0, 20)?) {
            (true, top) => Some(top.unwrap_or(0)),
            // Clients leave a 0 there.
            (false, None | Some(0)) => None,
            (false, Some(_)) => return Err(ApiError::invalid("top_logprobs", "these need `logprobs`; set it to true")),
        };
        let max_tokens = max_tokens(self.max_tokens, self.max_completion_tokens)?;
        let sampling = Sampling {
            temperature: range::number("temperature", self.temperature, 0.0, 2.0)?,
            top_p: range::number("top_p", self.top_p, 0.0, 1.0)?,
            top_k: range::count("top_k", self.top_k, 1, u32::MAX)?,
            seed: self.seed.map(i64::cast_unsigned),
            presence_penalty: range::number("presence_penalty", self.presence_penalty, -2.0, 2.0)?,
            frequency_penalty: range::number("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?,
            logit_bias: range::logit_bias(self.logit_bias.as_ref())?,
        };
        let choices = range::count("n", self.n, 1, 128)?.unwrap_or(1);
        let stop = range::stop(self.stop)?;
        let (tools, tool_choice) = choose(read_tools(self.tools.unwrap_or_default(), &mut beyond)?, self.tool_choice, &mut beyond)?;
        let last = Path::from("messages").index(self.messages.len().saturating_sub(1));
        let turns = turns(self.messages, &mut beyond)?;
        let format = format(self.response_format, &mut beyond);
        let tier = self.service_tier.map_or(ServiceTier::Auto, Tier::service_tier);

        beyond.refuse_if(self.functions.is_some(), "functions", "these gave way to `tools`; give tools of type `function`");
        beyond.refuse_if(self.function_call.is_some(), "function_call", "this gave way to `tool_choice`; give that");
        beyond.refuse_if(self.audio.is_some(), "audio", "answers can't be spoken here; leave it out");
        beyond.refuse_if(self.moderation.is_some(), "moderation", "moderation scores are not part of answers here; ask /v1/moderations");
        beyond.refuse_if(self.web_search_options.is_some(), "web_search_options", "the web can't be searched here; leave it out");
        for (index, modality) in self.modalities.iter().flatten().enumerate().filter(|(_, modality)| *modality != "text") {
            let shown: String = modality.chars().take(32).collect();
            beyond.refuse(format!("modalities.{index}"), format!("answers can't be {shown:?} here; give only \"text\""));
        }
        range::metadata(self.metadata.as_ref())?;
        beyond.hint_if(self.metadata.is_some_and(|m| !m.is_empty()), "metadata", "completions are not stored here, nor notes about them");
        beyond.hint_if(self.store == Some(true), "store", "completions are not stored here");
        beyond.hint_if(self.prediction.is_some(), "prediction", "predicted text is not used here");
        beyond.hint_if(self.prompt_cache_key.is_some(), "prompt_cache_key", "known prefixes are found by themselves here");
        beyond.hint_if(self.prompt_cache_options.is_some(), "prompt_cache_options", "known prefixes are found by themselves here");
        beyond.hint_if(self.prompt_cache_retention.is_some(), "prompt_cache_retention", "known prefixes are kept while there is room");
        beyond.hint_if(self.verbosity.is_some_and(|v| v != Verbosity::Medium), "verbosity", "say in the prompt how long answers shall be");
        beyond.unknown("", &self.unknown);

        Ok(Ask {
            names: Names::CHAT,
            model: self.model,
            turns,
            last,
            raw: Vec::new(),
            echo: false,
            tools,
            tool_choice,
            parallel_tools: self.parallel_tool_calls.unwrap_or(true),
            format,
            thinking: self.reasoning_effort.map_or(Thinking::Unsaid, Effort::thinking),
            max_tokens,
            stop,
            sampling,
            logprobs,
            choices,
            stream,
            tier,
            user: self.safety_identifier.or(self.user),
            beyond: beyond.into_list(),
        })
    }
}

fn max_tokens(old: Option<i64>, new: Option<i64>) -> Result<Option<u32>, ApiError> {
    let old = range::count("max_tokens", old, 1, u32::MAX)?;
    let new = range::count("max_completion_tokens", new, 1, u32::MAX)?;
    match (old, new) {
        (Some(old), Some(new)) if old != new => {
            Err(ApiError::invalid("max_tokens", "this contradicts `max_completion_tokens`; give only `max_completion_tokens`"))
        }
        (old, new) => Ok(new.or(old)),
    }
}

fn format(format: Option<ResponseFormat>, beyond: &mut Beyonds) -> Option<Format> {
    match format? {
        ResponseFormat::Text(_) => None,
        ResponseFormat::JsonObject(_) => Some(Format::JsonObject),
        ResponseFormat::JsonSchema(of) => {
            beyond.unknown("response_format", &of.unknown);
            beyond.unknown("response_format.json_schema", &of.json_schema.unknown);
            let schema = serde_json::Value::Object(of.json_schema.schema.unwrap_or_default());
            Some(Format::JsonSchema { name: Some(of.json_schema.name), schema })
        }
        ResponseFormat::Other(_) => {
            beyond.refuse("response_format.type", "answers can't be made so here; give text, json_object or json_schema");
            None
        }
    }
}

fn read_tools(tools: Vec<Tool>, beyond: &mut Beyonds) -> Result<Vec<ask::Tool>, ApiError> {
    range::tools(tools.len())?;
    let mut names = HashSet::new();
    let mut list = Vec::with_capacity(tools.len());
    for (index, tool) in tools.into_iter().enumerate() {
        let path = format!("tools.{index}");
        match tool {
            Tool::Function(tool) => {
                beyond.unknown(&path, &tool.unknown);
                let Function { name, description, parameters, strict, unknown } = tool.function;
                let path = path + ".function";
                range::tool_name(&format!("{path}.name"), &name, &mut names)?;
                beyond.unknown(&path, &unknown);
                let schema = range::parameters(&format!("{path}.parameters"), parameters)?;
                list.push(ask::Tool { at: index, name, description, schema, strict: strict.unwrap_or(false), cache: None });
            }
            // Programs give all that they have, and an answer without a call of it is one that the hosted model may give as well.
            Tool::Other(_) => beyond.hint(path + ".type", "only functions can be called here; give a tool of type `function`"),
        }
    }
    Ok(list)
}

/// The tools that stay and which of them must be called. Tools that a choice does not allow are left out of the prompt, so they can't be
/// called.
fn choose(
    mut tools: Vec<ask::Tool>,
    choice: Option<ToolChoice>,
    beyond: &mut Beyonds,
) -> Result<(Vec<ask::Tool>, ask::ToolChoice), ApiError> {
    let choice = match choice {
        None => ask::ToolChoice::Auto,
        Some(ToolChoice::Mode(mode)) => by_mode(mode, &tools, "tool_choice")?,
        Some(ToolChoice::Of(ChoiceOf::Function(named))) => {
            beyond.unknown("tool_choice", &named.unknown);
            let is_known = tools.iter().any(|tool| tool.name == named.function.name);
            known(is_known, &named.function.name, "tool_choice.function.name")?;
            ask::ToolChoice::Tool(named.function.name)
        }
        Some(ToolChoice::Of(ChoiceOf::Allowed(allowed))) => {
            beyond.unknown("tool_choice", &allowed.unknown);
            let AllowedTools { mode, tools: some, unknown } = allowed.allowed_tools;
            beyond.unknown("tool_choice.allowed_tools", &unknown);
            let all: HashSet<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
            let mut names = HashSet::new();
            for (index, tool) in some.into_iter().enumerate() {
                let path = format!("tool_choice.allowed_tools.tools.{index}");
                match tool {
                    ChoiceOf::Function(named) => {
                        known(all.contains(named.function.name.as_str()), &named.function.name, &format!("{path}.function.name"))?;
                        names.insert(named.function.name);
                    }
                    other => beyond.hint(path + ".type", format!("only functions can be called here, not `{}`", short(other.tag()))),
                }
            }
            tools.retain(|tool| names.contains(&tool.name));
            by_mode(mode, &tools, "tool_choice.allowed_tools.mode")?
        }
        Some(ToolChoice::Of(ChoiceOf::Other(_))) => {
            beyond.refuse("tool_choice.type", "only functions can be called here; give `function` or `allowed_tools`");
            ask::ToolChoice::Auto
        }
    };
    Ok((tools, choice))
}

/// What a mode asks for.
pub(in crate::openai) fn by_mode(mode: Mode, tools: &[ask::Tool], path: &str) -> Result<ask::ToolChoice, ApiError> {
    match mode {
        Mode::None => Ok(ask::ToolChoice::None),
        Mode::Auto => Ok(ask::ToolChoice::Auto),
        Mode::Required if tools.is_empty() => Err(ApiError::invalid(path, "a tool is required and none is given; give `tools`")),
        Mode::Required => Ok(ask::ToolChoice::Any),
    }
}

/// Refuses a name that no tool has.
pub(in crate::openai) fn known(is_known: bool, name: &str, path: &str) -> Result<(), ApiError> {
    if is_known {
        return Ok(());
    }
    Err(ApiError::invalid(path, format_args!("no tool is called {:?}; give a name that `tools` has", short(name))))
}

/// A caller's word, not longer than a message should be.
pub(in crate::openai) fn short(word: &str) -> String {
    word.chars().take(64).collect()
}

pub(in crate::openai) fn turns(messages: Vec<Message>, beyond: &mut Beyonds) -> Result<Vec<Turn>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "the list is empty; give at least one message"));
    }
    let mut turns: Vec<Turn> = Vec::with_capacity(messages.len());
    // Results of one answer's calls are one turn.
    let mut results = false;
    // Legacy calls have no ids: a result belongs to the last call.
    let mut function = String::new();
    for (index, message) in messages.into_iter().enumerate() {
        let path = format!("messages.{index}");
        let was_result = std::mem::replace(&mut results, matches!(message, Message::Tool(_) | Message::Function(_)));
        match message {
            Message::System(said) | Message::Developer(said) => {
                turns.push(Turn { role: Role::System, parts: text_message(said, &path, beyond) });
            }
            Message::User(said) => turns.push(Turn { role: Role::User, parts: text_message(said, &path, beyond) }),
            Message::Assistant(said) => {
                if said.function_call.is_some() {
                    function = format!("call_{index}");
                }
                turns.push(Turn { role: Role::Assistant, parts: assistant(*said, &function, &path, beyond)? });
            }
            Message::Tool(said) => {
                beyond.unknown(&path, &said.unknown);
                let (text, cache) = lines(content(said.content, &format!("{path}.content"), beyond));
                let content = ask::Content::ToolResult { id: said.tool_call_id, text, is_error: false };
                range::turn(&mut turns, Role::User, was_result).parts.push(Part { content, cache });
            }
            Message::Function(said) => {
                beyond.unknown(&path, &said.unknown);
                let text = said.content.unwrap_or_default();
                let part = plain(ask::Content::ToolResult { id: function.clone(), text, is_error: false });
                range::turn(&mut turns, Role::User, was_result).parts.push(part);
            }
        }
    }
    Ok(turns)
}

fn plain(content: ask::Content) -> Part {
    Part { content, cache: None }
}

fn text_message(said: super::TextMessage, path: &str, beyond: &mut Beyonds) -> Vec<Part> {
    beyond.hint_if(said.name.is_some(), &format!("{path}.name"), "names of speakers are not shown to models here");
    beyond.unknown(path, &said.unknown);
    content(said.content, &format!("{path}.content"), beyond)
}

fn content(said: Content, path: &str, beyond: &mut Beyonds) -> Vec<Part> {
    let parts = match said {
        Content::Text(text) => return vec![plain(ask::Content::Text(text))],
        Content::Parts(parts) => parts,
    };
    let mut list = Vec::with_capacity(parts.len());
    for (index, part) in parts.into_iter().enumerate() {
        let path = format!("{path}.{index}");
        match part {
            ContentPart::Text(part) => {
                beyond.unknown(&path, &part.unknown);
                let cache = CacheBreakpoint::cache(part.prompt_cache_breakpoint.as_ref(), &path, beyond);
                list.push(Part { content: ask::Content::Text(part.text), cache });
            }
            ContentPart::Refusal(part) => {
                beyond.unknown(&path, &part.unknown);
                list.push(plain(ask::Content::Text(part.refusal)));
            }
            other => {
                beyond.refuse(path, no_part(other.tag(), "`text`"));
                list.push(plain(ask::Content::Beyond));
            }
        }
    }
    list
}

/// What a tool gave back in parts: their texts, a line each, and how long they are kept. A breakpoint among them moves to the end: the result is one part.
pub(in crate::openai) fn lines(parts: Vec<Part>) -> (String, Option<CacheTtl>) {
    let (mut text, mut cache) = (String::new(), None);
    for part in parts {
        if let ask::Content::Text(line) = &part.content {
            add_line(&mut text, line);
            cache = part.cache.or(cache);
        }
    }
    (text, cache)
}

fn assistant(said: AssistantMessage, function: &str, path: &str, beyond: &mut Beyonds) -> Result<Vec<Part>, ApiError> {
    beyond.hint_if(said.name.is_some(), &format!("{path}.name"), "names of speakers are not shown to models here");
    beyond.refuse_if(said.audio.is_some(), &format!("{path}.audio"), "sound can't be heard here; send a transcript as `content`");
    beyond.hint_if(said.annotations.is_some_and(|a| !a.is_empty()), &format!("{path}.annotations"), "sources are not shown to models here");
    beyond.unknown(path, &said.unknown);
    let mut parts = Vec::new();
    if let Some(text) = said.reasoning_content.filter(|text| !text.is_empty()) {
        parts.push(plain(ask::Content::Thinking { text, signature: None }));
    }
    let text = said.content.map(|said| content(said, &format!("{path}.content"), beyond)).unwrap_or_default();
    // Beside calls, clients send back the empty text that they got.
    parts.extend(text.into_iter().filter(|part| !matches!(&part.content, ask::Content::Text(text) if text.is_empty())));
    parts.extend(said.refusal.filter(|text| !text.is_empty()).map(|text| plain(ask::Content::Text(text))));
    for (index, call) in said.tool_calls.unwrap_or_default().into_iter().enumerate() {
        let path = format!("{path}.tool_calls.{index}");
        match call {
            Call::Function(call) => {
                beyond.unknown(&path, &call.unknown);
                parts.push(called(call.id, call.function, &format!("{path}.function"), beyond)?);
            }
            Call::Other(_) => {
                beyond.refuse(path + ".type", "only functions can be called here");
                parts.push(plain(ask::Content::Beyond));
            }
        }
    }
    if let Some(call) = said.function_call {
        parts.push(called(function.to_owned(), call, &format!("{path}.function_call"), beyond)?);
    }
    Ok(parts)
}

fn called(id: String, call: Called, path: &str, beyond: &mut Beyonds) -> Result<Part, ApiError> {
    beyond.unknown(path, &call.unknown);
    range::called(&format!("{path}.name"), &call.name)?;
    let input = range::arguments(&format!("{path}.arguments"), &call.arguments, beyond.values())?;
    Ok(plain(ask::Content::ToolUse { id, name: call.name, input }))
}
