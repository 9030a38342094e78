//! Tools, and which of them must be called.

use serde_json::{Map, Value};

use super::{Seen, ToolNames};
use crate::ask::{Tool, ToolChoice};
use crate::error::{ApiError, plain};
use crate::limits::TOOLS;
use crate::messages::at::At;
use crate::messages::tools::{ClientTool, CustomTool, ToolChoiceParam, ToolParam};

impl Seen {
    /// Tools that a model here can call, and the names of all.
    pub(super) fn tools(&mut self, params: Vec<ToolParam>) -> Result<(Vec<Tool>, ToolNames), ApiError> {
        let root = At::field("tools");
        if params.len() > TOOLS {
            return Err(root.invalid(format_args!("at most {TOOLS} tools, found {}", params.len())));
        }
        let mut names = ToolNames::with_capacity(params.len());
        let mut tools = Vec::with_capacity(params.len());
        for (index, param) in params.into_iter().enumerate() {
            let at = root.index(index);
            let name = match param {
                ToolParam::Custom(tool) => {
                    let tool = self.custom(&at, index, tool)?;
                    let name = tool.name.clone();
                    tools.push(tool);
                    name
                }
                ToolParam::Client(tool) => {
                    let tool = self.client(&at, index, tool)?;
                    let name = tool.name.clone();
                    tools.push(tool);
                    name
                }
                ToolParam::Other(value) if is_tool_search(&value) => {
                    self.hint(&at.key("type"), "tools are not searched here; the model is shown all of them");
                    continue;
                }
                ToolParam::Other(value) => {
                    self.other(&at, &value, "is a tool that is not run here; give one of your own in its place");
                    match value.get("name").and_then(Value::as_str) {
                        Some(name) => name.to_owned(),
                        None => continue,
                    }
                }
            };
            if names.contains(&name) {
                return Err(at.key("name").invalid(format_args!("tool names must be unique, `{}` is there already", plain(&name))));
            }
            names.insert(name);
        }
        Ok((tools, names))
    }

    fn custom(&mut self, at: &At<'_>, index: usize, tool: CustomTool) -> Result<Tool, ApiError> {
        if !is_name(&tool.name) {
            return Err(at.key("name").invalid("must be 1 to 128 of the characters a-z, A-Z, 0-9, `_` and `-`"));
        }
        let schema = at.key("input_schema");
        match tool.input_schema.get("type") {
            Some(Value::String(kind)) if kind == "object" => {}
            Some(_) => return Err(schema.key("type").invalid("must be `object`")),
            None => return Err(schema.key("type").invalid("field required; it must be `object`")),
        }
        self.offers(at, tool.allowed_callers, tool.defer_loading, tool.input_examples)?;
        if tool.eager_input_streaming == Some(true) {
            self.hint(&at.key("eager_input_streaming"), "arguments are told as they come without it, and judged before");
        }
        self.unknown(at, tool.unknown);
        let cache = self.cache(at, tool.cache_control)?;
        Ok(Tool {
            at: index,
            name: tool.name,
            description: tool.description,
            schema: Value::Object(tool.input_schema),
            strict: tool.strict.unwrap_or(false),
            cache,
        })
    }

    fn client(&mut self, at: &At<'_>, index: usize, tool: ClientTool) -> Result<Tool, ApiError> {
        let name = tool.r#type.tool_name();
        if tool.name != name {
            return Err(at.key("name").invalid(format_args!("must be `{name}` for a tool of type `{}`", tool.r#type.name())));
        }
        self.offers(at, tool.allowed_callers, tool.defer_loading, tool.input_examples)?;
        self.unknown(at, tool.unknown);
        let mut description = tool.r#type.description().to_owned();
        if let Some(most) = tool.max_characters {
            description.push_str(&format!(" At most {most} characters of a file are shown at once."));
        }
        let cache = self.cache(at, tool.cache_control)?;
        Ok(Tool {
            at: index,
            name: tool.name,
            description: Some(description),
            schema: tool.r#type.schema(),
            strict: tool.strict.unwrap_or(false),
            cache,
        })
    }

    /// What tools of every type may say.
    fn offers(
        &mut self,
        at: &At<'_>,
        callers: Option<Vec<String>>,
        defer: Option<bool>,
        examples: Option<Vec<Map<String, Value>>>,
    ) -> Result<(), ApiError> {
        let (at_callers, callers) = (at.key("allowed_callers"), callers.unwrap_or_default());
        if let Some((index, caller)) =
            callers.iter().enumerate().find(|(_, caller)| *caller != "direct" && !caller.starts_with("code_execution_"))
        {
            let message = format_args!("unknown variant `{}`, expected `direct` or `code_execution_…`", plain(caller));
            return Err(at_callers.index(index).invalid(message));
        }
        // An empty list is what its absence is.
        if !callers.is_empty() && !callers.iter().any(|caller| caller == "direct") {
            self.refuse(&at_callers, "only the model itself calls tools here; it has to name `direct`");
        }
        if defer == Some(true) {
            // A longer prompt, and no wrong answer: what would be found is there.
            self.hint(&at.key("defer_loading"), "tools are not searched here; the model is shown all of them");
        }
        if examples.is_some_and(|examples| !examples.is_empty()) {
            self.hint(&at.key("input_examples"), "examples are not shown to the model; put them into the description");
        }
        Ok(())
    }

    /// Which tools must be called, and whether there may be several calls.
    pub(super) fn tool_choice(&mut self, choice: Option<ToolChoiceParam>, names: &ToolNames) -> Result<(ToolChoice, bool), ApiError> {
        let at = At::field("tool_choice");
        let some = |wanted: ToolChoice| match names.is_empty() {
            true => Err(at.invalid("may only be given together with `tools`")),
            false => Ok(wanted),
        };
        let Some(choice) = choice else { return Ok((ToolChoice::Auto, true)) };
        Ok(match choice {
            ToolChoiceParam::Auto(free) => {
                self.unknown(&at, free.unknown);
                (ToolChoice::Auto, !free.disable_parallel_tool_use.unwrap_or(false))
            }
            ToolChoiceParam::Any(free) => {
                self.unknown(&at, free.unknown);
                (some(ToolChoice::Any)?, !free.disable_parallel_tool_use.unwrap_or(false))
            }
            ToolChoiceParam::Tool(named) => {
                if !names.contains(&named.name) {
                    return Err(at.key("name").invalid(format_args!("tool `{}` not found in provided tools", plain(&named.name))));
                }
                self.unknown(&at, named.unknown);
                (ToolChoice::Tool(named.name), !named.disable_parallel_tool_use.unwrap_or(false))
            }
            ToolChoiceParam::None(none) => {
                self.unknown(&at, none.unknown);
                (ToolChoice::None, true)
            }
            ToolChoiceParam::Other(value) => {
                self.other(&at, &value, "is not known here; use `auto`, `any`, `tool` or `none`");
                (ToolChoice::Auto, true)
            }
        })
    }
}

/// Whether a tool only finds tools whose loading is deferred.
fn is_tool_search(tool: &Value) -> bool {
    tool.get("type").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("tool_search_tool_"))
}

/// Whether a tool may be called so.
fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && is_word(name)
}

/// Whether it is made of `[a-zA-Z0-9_-]`, and not empty.
pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}
