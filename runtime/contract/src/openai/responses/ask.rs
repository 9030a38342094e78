//! A request for a response as a neutral one.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    AllowedTools, ChoiceOf, Input, Item, ItemContent, ItemPart, MessageRole, Reasoning, Request, Shown, TextFormat, Tool, ToolChoice,
    Truncation, TypedItem,
};
use crate::ask::{self, Ask, Content, Format, Part, Role, Sampling, ServiceTier, Thinking, Turn};
use crate::error::ApiError;
use crate::names::Names;
use crate::openai::beyond::Beyonds;
use crate::openai::chat::ask::{by_mode, known, lines, no_part, short};
use crate::openai::{CacheBreakpoint, Effort, StreamOptions, Tier, Verbosity, range};
use crate::path::Path;

/// Items of one conversation.
const MOST_ITEMS: usize = 100_000;

/// A request, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What is asked of a backend.
    pub ask: Ask,
    /// The response that this goes on from. [`Request::go_on`] puts its items before the new ones; without that they are missing in the
    /// ask.
    pub previous: Option<String>,
    /// Whether the response is to be kept, so that another can go on from it.
    pub store: bool,
    /// What the response repeats of its request.
    pub echo: Echo,
}

/// What a response repeats of its request: members of a JSON object, without its braces, written once for all places that hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo(String);

impl Echo {
    /// The members, at least one.
    pub fn members(&self) -> &str {
        &self.0
    }
}

impl Request {
    /// Puts what was said and done before `input`: the items of the response that this goes on from. Instructions are not handed on.
    pub fn go_on(&mut self, before: Vec<Item>) {
        let new = self.take_items();
        self.input = Some(Input::Items(before.into_iter().chain(new).collect()));
    }

    /// Ids of the items that `input` refers to.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        let items = match &self.input {
            Some(Input::Items(items)) => items.as_slice(),
            Some(Input::Text(_)) | None => &[],
        };
        items.iter().filter_map(|item| match &item.0 {
            TypedItem::Reference(reference) => Some(reference.id.as_str()),
            _ => None,
        })
    }

    /// Puts items that the service keeps in the place of references to them. References that `find` knows nothing of stay.
    pub fn resolve(&mut self, mut find: impl FnMut(&str) -> Option<Item>) {
        let Some(Input::Items(items)) = &mut self.input else { return };
        for item in items {
            if let TypedItem::Reference(reference) = &item.0
                && let Some(found) = find(&reference.id)
            {
                *item = found;
            }
        }
    }

    /// The items of `input`, a text as a message: what is kept of a request.
    pub fn items(&self) -> Vec<Item> {
        match self.input.clone() {
            None => Vec::new(),
            Some(input) => items(input),
        }
    }

    fn take_items(&mut self) -> Vec<Item> {
        self.input.take().map(items).unwrap_or_default()
    }

    /// The neutral request and what belongs to it.
    ///
    /// # Errors
    /// `invalid_request_error` with the leaf that is out of bounds or contradicts another.
    pub fn into_ask(mut self) -> Result<Asked, ApiError> {
        range::model(&self.model)?;
        let mut beyond = Beyonds::default();
        let stream = self.stream.unwrap_or(false);
        StreamOptions::ask(self.stream_options.as_ref(), stream, &mut beyond)?;
        let sampling = Sampling {
            temperature: range::number("temperature", self.temperature, 0.0, 2.0)?,
            top_p: range::number("top_p", self.top_p, 0.0, 1.0)?,
            top_k: range::count("top_k", self.top_k, 1, u32::MAX)?,
            ..Sampling::default()
        };
        let max_tokens = range::count("max_output_tokens", self.max_output_tokens, 1, u32::MAX)?;
        let top = range::count("top_logprobs", self.top_logprobs, 0, 20)?;
        let wanted = self.include.iter().flatten().any(|name| name == "message.output_text.logprobs");
        let logprobs = if wanted { Some(top.unwrap_or(0)) } else { top.filter(|top| *top > 0) };
        range::metadata(self.metadata.as_ref())?;
        let echo = self.echo();
        if self.input.is_none() && self.previous_response_id.is_none() && self.prompt.is_none() && self.conversation.is_none() {
            return Err(ApiError::invalid("input", "field required; give a text or an array of items"));
        }
        let tools = read_tools(self.tools.take().unwrap_or_default(), &mut beyond)?;
        let (tools, tool_choice) = choose(tools, self.tool_choice.take(), &mut beyond)?;
        let last = match &self.input {
            Some(Input::Items(items)) if !items.is_empty() => Path::from("input").index(items.len() - 1),
            _ => "input".into(),
        };
        let turns = self.turns(&mut beyond)?;
        let format = self.format(&mut beyond);
        let thinking = self.thinking(&mut beyond);
        let tier = self.service_tier.map_or(ServiceTier::Auto, Tier::service_tier);
        self.leave(&mut beyond);
        let ask = Ask {
            names: Names::RESPONSES,
            model: self.model,
            turns,
            last,
            raw: Vec::new(),
            echo: false,
            tools,
            tool_choice,
            parallel_tools: self.parallel_tool_calls.unwrap_or(true),
            format,
            thinking,
            max_tokens,
            stop: Vec::new(),
            sampling,
            logprobs,
            choices: 1,
            stream,
            tier,
            user: self.safety_identifier.or(self.user),
            beyond: beyond.into_list(),
        };
        Ok(Asked { ask, previous: self.previous_response_id, store: self.store.unwrap_or(true), echo })
    }

    fn turns(&mut self, beyond: &mut Beyonds) -> Result<Vec<Turn>, ApiError> {
        let mut turns = Vec::new();
        if let Some(text) = self.instructions.take().filter(|text| !text.is_empty()) {
            turns.push(Turn { role: Role::System, parts: vec![plain(Content::Text(text))] });
        }
        match self.input.take() {
            None => {}
            Some(Input::Text(text)) => turns.push(Turn { role: Role::User, parts: vec![plain(Content::Text(text))] }),
            Some(Input::Items(items)) if items.len() > MOST_ITEMS => {
                return Err(ApiError::invalid("input", format_args!("{} items are too many; give at most {MOST_ITEMS}", items.len())));
            }
            Some(Input::Items(items)) => add_items(items, &mut turns, beyond)?,
        }
        Ok(turns)
    }

    fn format(&mut self, beyond: &mut Beyonds) -> Option<Format> {
        let text = self.text.take()?;
        beyond.hint_if(
            text.verbosity.is_some_and(|v| v != Verbosity::Medium),
            "text.verbosity",
            "say in the prompt how long answers shall be",
        );
        beyond.unknown("text", &text.unknown);
        match text.format? {
            TextFormat::Text(_) => None,
            TextFormat::JsonObject(_) => Some(Format::JsonObject),
            TextFormat::JsonSchema(of) => {
                beyond.unknown("text.format", &of.unknown);
                Some(Format::JsonSchema { name: Some(of.name), schema: Value::Object(of.schema) })
            }
            TextFormat::Other(_) => {
                beyond.refuse("text.format.type", "answers can't be made so here; give text, json_object or json_schema");
                None
            }
        }
    }

    fn thinking(&mut self, beyond: &mut Beyonds) -> Thinking {
        let Some(Reasoning { effort, summary, generate_summary, context, mode, unknown }) = self.reasoning.take() else {
            return Thinking::Unsaid;
        };
        // Thoughts are told as they are, which is more than any summary that could be asked for.
        let _ = (summary, generate_summary);
        beyond.hint_if(
            context.is_some_and(|c| c != Shown::Auto),
            "reasoning.context",
            "the model's template says which thoughts it sees again",
        );
        beyond.hint_if(mode.is_some_and(|m| m != "standard"), "reasoning.mode", "there is only the standard mode here");
        beyond.unknown("reasoning", &unknown);
        effort.map_or(Thinking::Unsaid, Effort::thinking)
    }

    /// Lists what is asked and can't be had.
    fn leave(&self, beyond: &mut Beyonds) {
        for (index, name) in self.include.iter().flatten().enumerate() {
            match name.as_str() {
                "message.output_text.logprobs" => {}
                // Thoughts are sent as text, and as text they come back.
                "reasoning.encrypted_content" => beyond.hint(format!("include.{index}"), "thoughts are told as text here, not encrypted"),
                _ => beyond.hint(format!("include.{index}"), "the tools that this is about don't run here"),
            }
        }
        beyond.refuse_if(self.background == Some(true), "background", "a response can't be made after its request here; leave it out");
        beyond.refuse_if(self.conversation.is_some(), "conversation", "conversations are not kept here; give `previous_response_id`");
        beyond.refuse_if(self.prompt.is_some(), "prompt", "prompts are not kept here; give `instructions` and `input`");
        beyond.refuse_if(self.moderation.is_some(), "moderation", "moderation scores are not part of answers here; ask /v1/moderations");
        beyond.hint_if(self.access_programs.is_some(), "access_programs", "there are no such programs here");
        beyond.hint_if(self.context_management.is_some(), "context_management", "conversations are not shortened here");
        beyond.hint_if(self.image.is_some(), "image", "images can't be read here");
        beyond.hint_if(self.max_tool_calls.is_some(), "max_tool_calls", "this counts calls of tools that don't run here");
        beyond.hint_if(self.prompt_cache_key.is_some(), "prompt_cache_key", "known prefixes are found by themselves here");
        beyond.hint_if(self.prompt_cache_options.is_some(), "prompt_cache_options", "known prefixes are found by themselves here");
        beyond.hint_if(self.prompt_cache_retention.is_some(), "prompt_cache_retention", "known prefixes are kept while there is room");
        beyond.hint_if(self.truncation == Some(Truncation::Auto), "truncation", "a conversation that is too long is refused here, not cut");
        beyond.unknown("", &self.unknown);
    }

    /// What the response repeats.
    fn echo(&self) -> Echo {
        #[derive(Serialize)]
        struct Members<'a> {
            /// None was ever joined.
            access_programs: Option<&'a str>,
            background: bool,
            instructions: Option<&'a str>,
            max_output_tokens: Option<i64>,
            max_tool_calls: Option<i64>,
            metadata: &'a Map<String, Value>,
            parallel_tool_calls: bool,
            previous_response_id: Option<&'a str>,
            prompt_cache_key: Option<&'a str>,
            reasoning: Value,
            safety_identifier: Option<&'a str>,
            temperature: Option<f64>,
            text: Value,
            tool_choice: Value,
            tools: &'a [Tool],
            top_logprobs: i64,
            top_p: Option<f64>,
            truncation: Truncation,
            user: Option<&'a str>,
        }
        // Serialising our own types to a value can't fail; if it did, the member would be null.
        let value = |value: Result<Value, serde_json::Error>| value.unwrap_or_default();
        let effort = self.reasoning.as_ref().and_then(|r| r.effort);
        let summary = self.reasoning.as_ref().and_then(|r| r.summary);
        let mut text = self.text.as_ref().map(|t| value(serde_json::to_value(t))).unwrap_or_else(|| Value::Object(Map::new()));
        if let Value::Object(text) = &mut text {
            text.entry("format").or_insert_with(|| serde_json::json!({ "type": "text" }));
        }
        let none = Map::new();
        let members = Members {
            access_programs: None,
            background: false,
            instructions: self.instructions.as_deref(),
            max_output_tokens: self.max_output_tokens,
            max_tool_calls: self.max_tool_calls,
            metadata: self.metadata.as_ref().unwrap_or(&none),
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            previous_response_id: self.previous_response_id.as_deref(),
            prompt_cache_key: self.prompt_cache_key.as_deref(),
            reasoning: serde_json::json!({ "effort": effort, "summary": summary }),
            safety_identifier: self.safety_identifier.as_deref(),
            temperature: self.temperature,
            text,
            tool_choice: self.tool_choice.as_ref().map_or_else(|| Value::from("auto"), |choice| value(serde_json::to_value(choice))),
            tools: self.tools.as_deref().unwrap_or_default(),
            top_logprobs: self.top_logprobs.unwrap_or(0),
            top_p: self.top_p,
            truncation: self.truncation.unwrap_or(Truncation::Disabled),
            user: self.user.as_deref(),
        };
        let object = serde_json::to_string(&members).unwrap_or_default();
        let members = object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        Echo(members.unwrap_or(r#""background":false"#).to_owned())
    }
}

fn items(input: Input) -> Vec<Item> {
    match input {
        Input::Items(items) => items,
        Input::Text(text) => vec![Item(TypedItem::Message(super::MessageItem {
            role: MessageRole::User,
            content: ItemContent::Text(text),
            id: None,
            status: None,
            phase: None,
            unknown: Map::new(),
        }))],
    }
}

fn plain(content: Content) -> Part {
    Part { content, cache: None }
}

/// Items of the model that follow each other are one turn, and so are outputs of its calls.
fn add_items(items: Vec<Item>, turns: &mut Vec<Turn>, beyond: &mut Beyonds) -> Result<(), ApiError> {
    // Whether the last turn is of the model, or of outputs, and so may go on.
    let (mut model, mut outputs) = (false, false);
    for (index, item) in items.into_iter().enumerate() {
        let path = format!("input.{index}");
        let is_output = matches!(&item.0, TypedItem::FunctionOutput(_));
        let (was_model, was_output) = (model, outputs);
        model = false;
        outputs = is_output;
        match item.0 {
            TypedItem::Message(said) => {
                beyond.unknown(&path, &said.unknown);
                let parts = content(said.content, &format!("{path}.content"), beyond);
                let role = match said.role {
                    MessageRole::User => Role::User,
                    MessageRole::System | MessageRole::Developer => Role::System,
                    MessageRole::Assistant => Role::Assistant,
                };
                model = role == Role::Assistant;
                range::turn(turns, role, model && was_model).parts.extend(parts);
            }
            TypedItem::Reasoning(thought) => {
                beyond.unknown(&path, &thought.unknown);
                model = true;
                let texts = thought.content.filter(|content| !content.is_empty()).unwrap_or(thought.summary);
                let text = texts.into_iter().map(|text| text.text).collect::<Vec<_>>().join("\n\n");
                let turn = range::turn(turns, Role::Assistant, was_model);
                if !text.is_empty() {
                    turn.parts.push(plain(Content::Thinking { text, signature: thought.encrypted_content }));
                }
            }
            TypedItem::FunctionCall(call) => {
                beyond.unknown(&path, &call.unknown);
                model = true;
                range::called(&format!("{path}.name"), &call.name)?;
                let input = range::arguments(&format!("{path}.arguments"), &call.arguments, beyond.values())?;
                let part = plain(Content::ToolUse { id: call.call_id, name: call.name, input });
                range::turn(turns, Role::Assistant, was_model).parts.push(part);
            }
            TypedItem::FunctionOutput(output) => {
                beyond.unknown(&path, &output.unknown);
                let (text, cache) = lines(content(output.output, &format!("{path}.output"), beyond));
                let content = Content::ToolResult { id: output.call_id, text, is_error: false };
                range::turn(turns, Role::User, was_output).parts.push(Part { content, cache });
            }
            TypedItem::Reference(reference) => {
                // Clients refer to thoughts of ours that they got; an answer is right without them.
                model = was_model;
                outputs = was_output;
                let id = short(&reference.id);
                if id.starts_with("rs_") {
                    beyond.hint(path, format!("the thoughts {id:?} are not kept; the answer goes on without them"));
                } else {
                    beyond.refuse(
                        path,
                        format!("no item {id:?} is kept here; send the item itself, or `store: false` where a library makes references"),
                    );
                }
            }
            TypedItem::Other(_) => {
                beyond.refuse(path + ".type", "items of this type can't be read here; give messages, function calls and their outputs");
            }
        }
    }
    Ok(())
}

fn content(said: ItemContent, path: &str, beyond: &mut Beyonds) -> Vec<Part> {
    let parts = match said {
        ItemContent::Text(text) => return vec![plain(Content::Text(text))],
        ItemContent::Parts(parts) => parts,
    };
    let mut list = Vec::with_capacity(parts.len());
    for (index, part) in parts.into_iter().enumerate() {
        let path = format!("{path}.{index}");
        match part {
            ItemPart::Input(part) | ItemPart::Output(part) => {
                beyond.unknown(&path, &part.unknown);
                let cache = CacheBreakpoint::cache(part.prompt_cache_breakpoint.as_ref(), &path, beyond);
                list.push(Part { content: Content::Text(part.text), cache });
            }
            ItemPart::Refusal(part) => {
                beyond.unknown(&path, &part.unknown);
                list.push(plain(Content::Text(part.refusal)));
            }
            other => {
                beyond.refuse(path, no_part(other.tag(), "`input_text`"));
                list.push(plain(Content::Beyond));
            }
        }
    }
    list
}

fn read_tools(tools: Vec<Tool>, beyond: &mut Beyonds) -> Result<Vec<ask::Tool>, ApiError> {
    range::tools(tools.len())?;
    let mut names = HashSet::new();
    let mut list = Vec::with_capacity(tools.len());
    for (index, tool) in tools.into_iter().enumerate() {
        let path = format!("tools.{index}");
        match tool {
            Tool::Function(tool) => {
                range::tool_name(&format!("{path}.name"), &tool.name, &mut names)?;
                beyond.unknown(&path, &tool.unknown);
                let schema = range::parameters(&format!("{path}.parameters"), tool.parameters)?;
                let strict = tool.strict.unwrap_or(false);
                list.push(ask::Tool { at: index, name: tool.name, description: tool.description, schema, strict, cache: None });
            }
            // Programs give all that they have, and an answer without a call of it is one that the hosted model may give as well.
            Tool::Other(_) => beyond.hint(path + ".type", "no tools run here; give a tool of type `function` and run it yourself"),
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
            known(tools.iter().any(|tool| tool.name == named.name), &named.name, "tool_choice.name")?;
            ask::ToolChoice::Tool(named.name)
        }
        Some(ToolChoice::Of(ChoiceOf::Allowed(AllowedTools { mode, tools: some, unknown }))) => {
            beyond.unknown("tool_choice", &unknown);
            let all: HashSet<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
            let mut names = HashSet::new();
            for (index, tool) in some.into_iter().enumerate() {
                let path = format!("tool_choice.tools.{index}");
                match tool {
                    ChoiceOf::Function(named) => {
                        known(all.contains(named.name.as_str()), &named.name, &format!("{path}.name"))?;
                        names.insert(named.name);
                    }
                    other => beyond.hint(path + ".type", format!("only functions can be called here, not `{}`", short(other.tag()))),
                }
            }
            tools.retain(|tool| names.contains(&tool.name));
            by_mode(mode, &tools, "tool_choice.mode")?
        }
        Some(ToolChoice::Of(ChoiceOf::Other(_))) => {
            beyond.refuse("tool_choice.type", "only functions can be called here; give `function` or `allowed_tools`");
            ask::ToolChoice::Auto
        }
    };
    Ok((tools, choice))
}
