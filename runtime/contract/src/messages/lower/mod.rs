//! Requests into neutral asks.
//!
//! What the hosted service refuses is refused here, in words that name the leaf. What is right there but has no place in an [`Ask`] is listed in
//! [`Ask::beyond`], so that whoever chooses a backend can refuse it, drop it, or hand the body to one that knows it.

mod tools;
mod turns;

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::at::At;
use super::blocks::{CacheControl, TtlParam};
use super::params::*;
use crate::ask::{Ask, Beyond, CacheTtl, Content, Format, Role, Sampling, ServiceTier, Thinking, Turn, Version};
use crate::error::{ApiError, plain};
use crate::leaf::Unknown;
use crate::limits::{STOP_BYTES, STOPS};
use crate::names::Names;
use crate::path::Path;

/// Messages of a request at most.
const MESSAGES: usize = 100_000;
/// Breakpoints of a request at most.
const BREAKPOINTS: usize = 4;
/// The smallest `budget_tokens`.
const BUDGET: u32 = 1024;
/// Characters of `metadata.user_id` at most.
const USER: usize = 512;
/// Entries of [`Ask::beyond`] of either sort at most: one is enough to refuse a request, and a body may hold millions.
const BEYOND: usize = 64;

/// What a service lets pass that the hosted one does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Sampling fields may stand in requests of version 2026-10-21 too.
    pub relaxed: bool,
}

/// What a request asks. Where its `thread` goes on with a kept conversation, `messages` has to be the whole of it by now.
///
/// # Errors
/// `invalid_request_error`, led by the leaf, for what the hosted service refuses too.
pub fn into_ask(params: MessageCreateParams, version: Version, options: Options) -> Result<Ask, ApiError> {
    if let Some(ThinkingConfigParam::Enabled(enabled)) = &params.thinking
        && enabled.budget_tokens >= params.max_tokens
    {
        return Err(ApiError::invalid("thinking.budget_tokens", "must be less than `max_tokens`: thoughts count towards it"));
    }
    lower(params, version, options)
}

/// As [`into_ask`], of a request to count the tokens of one. The ask has `max_tokens` 0.
///
/// # Errors
/// As [`into_ask`]'s.
pub fn count_into_ask(params: CountTokensParams, version: Version, options: Options) -> Result<Ask, ApiError> {
    let params = MessageCreateParams {
        model: params.model,
        messages: params.messages,
        max_tokens: 0,
        system: params.system,
        tools: params.tools,
        tool_choice: params.tool_choice,
        thinking: params.thinking,
        output_config: params.output_config,
        output_format: params.output_format,
        stop_sequences: None,
        stream: None,
        temperature: None,
        top_p: None,
        top_k: None,
        metadata: None,
        service_tier: None,
        cache_control: params.cache_control,
        diagnostics: None,
        thread: None,
        betas: params.betas,
        container: None,
        inference_geo: None,
        speed: params.speed,
        mcp_servers: params.mcp_servers,
        context_management: params.context_management,
        compaction: params.compaction,
        fallbacks: None,
        fallback_credit_token: None,
        billing_policy: params.billing_policy,
        unknown: params.unknown,
    };
    lower(params, version, options)
}

fn lower(params: MessageCreateParams, version: Version, options: Options) -> Result<Ask, ApiError> {
    if params.model.is_empty() || params.model.chars().count() > 256 {
        return Err(ApiError::invalid("model", "must have 1 to 256 characters"));
    }
    if params.messages.len() > MESSAGES {
        return Err(ApiError::invalid("messages", format_args!("at most {MESSAGES} messages, found {}", params.messages.len())));
    }
    let mut seen = Seen { version, beyond: Vec::new(), hints: 0, refusals: 0, breakpoints: 0, short_lived: false };
    let sampling = sampling(params.temperature, params.top_p, params.top_k, version, options)?;
    let stop = stop_sequences(params.stop_sequences.unwrap_or_default())?;

    let names = if params.output_format.is_some() { Names::MESSAGES_WITH_OUTPUT_FORMAT } else { Names::MESSAGES };
    let (tools, called) = seen.tools(params.tools.unwrap_or_default())?;
    let mut turns = Vec::new();
    seen.system(params.system, &mut turns)?;
    let last = Path::from("messages").index(params.messages.len().saturating_sub(1));
    seen.messages(params.messages, &mut turns)?;
    seen.last_breakpoint(params.cache_control, &mut turns)?;
    let (tool_choice, parallel_tools) = seen.tool_choice(params.tool_choice, &called)?;

    let mut thinking = seen.thinking(params.thinking)?;
    let format = seen.output(params.output_config, params.output_format, params.max_tokens, &mut thinking)?;
    let user = seen.user(params.metadata)?;

    if let Some(diagnostics) = params.diagnostics {
        seen.unknown(&At::field("diagnostics"), diagnostics.unknown);
    }
    if let Some(Speed::Fast) = params.speed {
        seen.hint(&At::field("speed"), "there is one speed here");
    }
    if params.inference_geo.is_some() {
        seen.refuse(&At::field("inference_geo"), "where it is computed can't be chosen here; leave it out");
    }
    if params.mcp_servers.is_some_and(|servers| !servers.is_empty()) {
        seen.refuse(&At::field("mcp_servers"), "MCP servers are not called from here; call them yourself and pass their tools");
    }
    if let Some(management) = params.context_management {
        let at = At::field("context_management");
        let edits = management.edits.unwrap_or_default();
        let clears = |edit: &Value| edit.get("type").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("clear_"));
        if edits.iter().any(|edit| !clears(edit)) {
            seen.refuse(&at.key("edits"), "conversations are not shortened here; send the messages that shall be read");
        } else if !edits.is_empty() {
            // What would be cleared is read: a longer prompt, and no wrong answer.
            seen.hint(&at.key("edits"), "nothing is cleared here; what is sent is read");
        }
        seen.unknown(&at, management.unknown);
    }
    if params.container.is_some() {
        seen.refuse(&At::field("container"), "there is no code execution here");
    }
    if params.compaction.is_some() {
        seen.refuse(&At::field("compaction"), "conversations are not summarised here");
    }
    if params.billing_policy.is_some() {
        seen.refuse(&At::field("billing_policy"), "there is nobody else to bill here");
    }
    if params.fallbacks.is_some() {
        seen.hint(&At::field("fallbacks"), "no other model is tried when one refuses");
    }
    if params.fallback_credit_token.is_some() {
        seen.hint(&At::field("fallback_credit_token"), "there are no credits here");
    }
    for (name, value) in params.unknown {
        if !value.is_null() {
            seen.refuse(&At::field(&name), "extra inputs are not permitted: no such field is known here");
        }
    }

    Ok(Ask {
        names,
        model: params.model,
        turns,
        last,
        raw: Vec::new(),
        echo: false,
        tools,
        tool_choice,
        parallel_tools,
        format,
        thinking,
        max_tokens: Some(params.max_tokens),
        stop,
        sampling,
        logprobs: None,
        choices: 1,
        stream: params.stream.unwrap_or(false),
        tier: match params.service_tier {
            Some(ServiceTierParam::StandardOnly) => ServiceTier::Standard,
            Some(ServiceTierParam::Auto) | None => ServiceTier::Auto,
        },
        user,
        beyond: seen.beyond,
    })
}

fn sampling(
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u32>,
    version: Version,
    options: Options,
) -> Result<Sampling, ApiError> {
    let given = [("temperature", temperature.is_some()), ("top_p", top_p.is_some()), ("top_k", top_k.is_some())];
    if version >= Version::October2026
        && !options.relaxed
        && let Some((name, _)) = given.iter().find(|(_, given)| *given)
    {
        let message =
            format_args!("is not accepted by version {}; leave it out, or send version {}", version.name(), Version::June2023.name());
        return Err(ApiError::invalid(*name, message));
    }
    let share = |name: &str, value: Option<f64>| match value {
        Some(value) if !(0.0..=1.0).contains(&value) => Err(ApiError::invalid(name, format_args!("must be from 0 to 1, found {value}"))),
        value => Ok(value.map(|value| value as f32)),
    };
    Ok(Sampling { temperature: share("temperature", temperature)?, top_p: share("top_p", top_p)?, top_k, ..Sampling::default() })
}

fn stop_sequences(stops: Vec<String>) -> Result<Vec<String>, ApiError> {
    let at = At::field("stop_sequences");
    if stops.len() > STOPS {
        return Err(at.invalid(format_args!("at most {STOPS} stop sequences, found {}", stops.len())));
    }
    if let Some(index) = stops.iter().position(|stop| stop.len() > STOP_BYTES) {
        return Err(at.index(index).invalid(format_args!("must have at most {STOP_BYTES} bytes")));
    }
    match stops.iter().position(|stop| stop.trim().is_empty()) {
        Some(index) => Err(At::field("stop_sequences").index(index).invalid("each stop sequence must contain non-whitespace")),
        None => Ok(stops),
    }
}

/// What was seen on the way through a request.
struct Seen {
    version: Version,
    beyond: Vec<Beyond>,
    hints: usize,
    refusals: usize,
    breakpoints: usize,
    /// A breakpoint of five minutes was seen: none of an hour may follow.
    short_lived: bool,
}

impl Seen {
    /// The answer would be wrong without it.
    fn refuse(&mut self, at: &At<'_>, why: &str) {
        if self.refusals < BEYOND {
            self.refusals += 1;
            self.beyond.push(Beyond { path: at.path(), why: why.to_owned(), hint: false });
        }
    }

    /// The answer is right without it.
    fn hint(&mut self, at: &At<'_>, why: &str) {
        if self.hints < BEYOND {
            self.hints += 1;
            self.beyond.push(Beyond { path: at.path(), why: why.to_owned(), hint: true });
        }
    }

    /// Members that nobody here knows. One of value `null` asks for nothing.
    fn unknown(&mut self, at: &At<'_>, unknown: Unknown) {
        for (name, value) in unknown {
            if !value.is_null() {
                self.refuse(&at.key(&name), "extra inputs are not permitted: no such field is known here");
            }
        }
    }

    /// A type that nobody here knows.
    fn other(&mut self, at: &At<'_>, value: &Value, why: &str) {
        let tag = value.get("type").and_then(Value::as_str).unwrap_or_default();
        let shown = plain(tag);
        self.refuse(&at.key("type"), &format!("`{shown}` {why}"));
    }

    /// The breakpoint of what stands here.
    fn cache(&mut self, at: &At<'_>, cache: Option<CacheControl>) -> Result<Option<CacheTtl>, ApiError> {
        match cache {
            Some(cache) => self.breakpoint(&at.key("cache_control"), cache).map(Some),
            None => Ok(None),
        }
    }

    /// A breakpoint. They come in the order of the prompt: tools, system, messages.
    fn breakpoint(&mut self, at: &At<'_>, cache: CacheControl) -> Result<CacheTtl, ApiError> {
        self.breakpoints += 1;
        if self.breakpoints > BREAKPOINTS {
            return Err(at.invalid(format_args!("at most {BREAKPOINTS} blocks with `cache_control` may be given, this is one more")));
        }
        for (name, value) in cache.unknown {
            if !value.is_null() {
                self.hint(&at.key(&name), "what is cached is the key's own, and there is nothing to choose but `ttl`");
            }
        }
        match cache.ttl.unwrap_or(TtlParam::FiveMinutes) {
            TtlParam::FiveMinutes => {
                self.short_lived = true;
                Ok(CacheTtl::FiveMinutes)
            }
            TtlParam::OneHour if self.short_lived => {
                Err(at.key("ttl").invalid("must not be `1h` behind a breakpoint of `5m`; the order is tools, system, messages"))
            }
            TtlParam::OneHour => Ok(CacheTtl::OneHour),
        }
    }

    /// The breakpoint that stands at the request itself: at the last block that can have one.
    fn last_breakpoint(&mut self, cache: Option<CacheControl>, turns: &mut [Turn]) -> Result<(), ApiError> {
        let Some(cache) = cache else { return Ok(()) };
        let at = At::field("cache_control");
        let cacheable = |content: &Content| !matches!(content, Content::Thinking { .. } | Content::Beyond);
        let last = turns.iter_mut().rev().flat_map(|turn| turn.parts.iter_mut().rev()).find(|part| cacheable(&part.content));
        let there = last.as_ref().and_then(|part| part.cache);
        if there.is_some() {
            // It stands there already, and does not count twice.
            self.breakpoints = self.breakpoints.saturating_sub(1);
        }
        let ttl = self.breakpoint(&at, cache)?;
        if there.is_some_and(|there| there != ttl) {
            return Err(at.key("ttl").invalid("differs from that of the last block's own `cache_control`; leave one of them out"));
        }
        if let Some(part) = last {
            part.cache = Some(ttl);
        }
        Ok(())
    }

    fn thinking(&mut self, thinking: Option<ThinkingConfigParam>) -> Result<Thinking, ApiError> {
        let at = At::field("thinking");
        let Some(thinking) = thinking else { return Ok(Thinking::Unsaid) };
        Ok(match thinking {
            ThinkingConfigParam::Enabled(enabled) => {
                if enabled.budget_tokens < BUDGET {
                    return Err(at
                        .key("budget_tokens")
                        .invalid(format_args!("must be at least {BUDGET}, found {}", enabled.budget_tokens)));
                }
                let hidden = self.display(enabled.display, enabled.block_binding);
                self.unknown(&at, enabled.unknown);
                Thinking::Budget { tokens: enabled.budget_tokens, hidden }
            }
            ThinkingConfigParam::Adaptive(adaptive) => {
                let hidden = self.display(adaptive.display, adaptive.block_binding);
                self.unknown(&at, adaptive.unknown);
                Thinking::Adaptive { hidden }
            }
            ThinkingConfigParam::Disabled(plain) => {
                self.unknown(&at, plain.unknown);
                Thinking::Off
            }
            ThinkingConfigParam::BetweenTools(plain) => {
                self.refuse(&at.key("type"), "`between_tools` can't be had here; use `adaptive`, `enabled` or `disabled`");
                self.unknown(&at, plain.unknown);
                Thinking::Unsaid
            }
            ThinkingConfigParam::Other(value) => {
                self.other(&at, &value, "is not known here; use `adaptive`, `enabled` or `disabled`");
                Thinking::Unsaid
            }
        })
    }

    /// Whether thoughts are left out of the answer.
    fn display(&mut self, display: Option<Display>, binding: Option<Map<String, Value>>) -> bool {
        let at = At::field("thinking");
        if let Some(Display::Updates) = display {
            self.hint(&at.key("display"), "thoughts are shown as they are, there are no updates of them");
        }
        if binding.is_some_and(|binding| !binding.is_empty()) {
            self.hint(&at.key("block_binding"), "thoughts that are sent back are not checked here");
        }
        display == Some(Display::Omitted)
    }

    fn output(
        &mut self,
        config: Option<OutputConfig>,
        alias: Option<OutputFormat>,
        max_tokens: u32,
        thinking: &mut Thinking,
    ) -> Result<Option<Format>, ApiError> {
        let at = At::field("output_config");
        let mut format = None;
        if let Some(config) = config {
            format = config.format;
            if let Some(effort) = config.effort {
                self.effort(effort, max_tokens, thinking);
            }
            if config.task_budget.is_some_and(|budget| !budget.is_empty()) {
                self.hint(&at.key("task_budget"), "tokens of a whole task are not counted here");
            }
            self.unknown(&at, config.unknown);
        }
        let (at, format) = match (format, alias) {
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid("output_format", "is an older name of `output_config.format`; send one of them"));
            }
            (Some(format), None) => (at.key("format"), format),
            (None, Some(format)) => (At::field("output_format"), format),
            (None, None) => return Ok(None),
        };
        Ok(match format {
            OutputFormat::JsonSchema(format) => {
                self.unknown(&at, format.unknown);
                Some(Format::JsonSchema { name: None, schema: Value::Object(format.schema) })
            }
            OutputFormat::Other(value) => {
                self.other(&at, &value, "is not known here; use `json_schema`");
                None
            }
        })
    }

    /// Effort bounds thoughts where nothing else does. `high` is what goes without saying, and more than that is no bound either.
    fn effort(&mut self, effort: Effort, max_tokens: u32, thinking: &mut Thinking) {
        let bound = match effort {
            Effort::Low => 1024,
            Effort::Medium => 4096,
            Effort::High | Effort::Xhigh | Effort::Max => return,
        };
        match *thinking {
            Thinking::Adaptive { hidden } => {
                // Some of the answer has to be left to the answer.
                let tokens = if max_tokens == 0 { bound } else { bound.min(max_tokens.div_ceil(2)) };
                *thinking = Thinking::Budget { tokens, hidden };
            }
            _ => self.hint(&At::field("output_config").key("effort"), "it bounds thoughts, and only of `thinking` of type `adaptive`"),
        }
    }

    fn user(&mut self, metadata: Option<Metadata>) -> Result<Option<String>, ApiError> {
        let Some(metadata) = metadata else { return Ok(None) };
        let at = At::field("metadata");
        if metadata.user_id.as_ref().is_some_and(|user| user.chars().count() > USER) {
            return Err(at.key("user_id").invalid(format_args!("must have at most {USER} characters")));
        }
        self.unknown(&at, metadata.unknown);
        Ok(metadata.user_id)
    }
}

/// A turn of this side: the last one, if it is this side's, or a new one.
fn turn_of(turns: &mut Vec<Turn>, role: Role) -> &mut Turn {
    if turns.last().is_none_or(|turn| turn.role != role) {
        turns.push(Turn { role, parts: Vec::new() });
    }
    let last = turns.len() - 1;
    &mut turns[last]
}

/// Names of a request's tools, for looking up.
type ToolNames = HashSet<String>;
