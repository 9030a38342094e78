//! Messages, told apart by their `role`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::leaf::{self, Unknown, either, tagged};
use crate::openai::CacheBreakpoint;

/// What one side said.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Who runs the model.
    System(TextMessage),
    /// The same, to newer models.
    Developer(TextMessage),
    /// Who asks.
    User(TextMessage),
    /// The model.
    Assistant(Box<AssistantMessage>),
    /// What a tool gave back.
    Tool(ToolMessage),
    /// What a function gave back, before there were tools.
    Function(FunctionMessage),
}

words! {
    /// Sides, as messages name them.
    #[cfg_attr(feature = "schema", schemars(rename = "ChatRole"))]
    pub enum Role {
        /// Who runs the model.
        "system" => System,
        /// The same, to newer models.
        "developer" => Developer,
        /// Who asks.
        "user" => User,
        /// The model.
        "assistant" => Assistant,
        /// A tool that the model called.
        "tool" => Tool,
        /// The same, before there were tools.
        "function" => Function,
    }
}

#[derive(Deserialize)]
struct OnlyRole {
    role: Role,
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Message, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let Value::Object(mut members) = value else {
            return Err(serde::de::Error::custom(format_args!("expected an object with a `role`, found {}", leaf::kind_of(&value))));
        };
        // Read by itself, so that the error is at `role`.
        let role = members.shift_remove("role").map(|role| ("role".to_owned(), role));
        let OnlyRole { role } = leaf::part(Value::Object(role.into_iter().collect()))?;
        let rest = Value::Object(members);
        match role {
            Role::System => leaf::part(rest).map(Message::System),
            Role::Developer => leaf::part(rest).map(Message::Developer),
            Role::User => leaf::part(rest).map(Message::User),
            Role::Assistant => leaf::part(rest).map(Message::Assistant),
            Role::Tool => leaf::part(rest).map(Message::Tool),
            Role::Function => leaf::part(rest).map(Message::Function),
        }
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Said<'a, T> {
            role: Role,
            #[serde(flatten)]
            content: &'a T,
        }
        match self {
            Message::System(content) => Said { role: Role::System, content }.serialize(serializer),
            Message::Developer(content) => Said { role: Role::Developer, content }.serialize(serializer),
            Message::User(content) => Said { role: Role::User, content }.serialize(serializer),
            Message::Assistant(content) => Said { role: Role::Assistant, content }.serialize(serializer),
            Message::Tool(content) => Said { role: Role::Tool, content }.serialize(serializer),
            Message::Function(content) => Said { role: Role::Function, content }.serialize(serializer),
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Message {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ChatMessage".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let arms = [
            ("system", generator.subschema_for::<TextMessage>()),
            ("developer", generator.subschema_for::<TextMessage>()),
            ("user", generator.subschema_for::<TextMessage>()),
            ("assistant", generator.subschema_for::<AssistantMessage>()),
            ("tool", generator.subschema_for::<ToolMessage>()),
            ("function", generator.subschema_for::<FunctionMessage>()),
        ];
        let arms = arms.map(|(role, of)| {
            serde_json::json!({ "allOf": [of, { "type": "object", "properties": { "role": { "const": role } }, "required": ["role"] }] })
        });
        schemars::json_schema!({ "anyOf": arms })
    }
}

/// What the system's, the developer's or the user's side said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatTextMessage"))]
#[serde(expecting = "an object")]
pub struct TextMessage {
    /// Its text.
    pub content: Content,
    /// Who of several it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What the model said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatAssistantMessage"))]
#[serde(expecting = "an object")]
pub struct AssistantMessage {
    /// Its text; none where it only called tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// What it thought, as an answer's `reasoning_content` had it. Not OpenAI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// What it said instead of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Tools that it called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<Call>>,
    /// A function that it called, before there were tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function_call: Option<Called>,
    /// Who of several it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<Value>,
    /// Sources that an answer of OpenAI's named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Vec<Value>>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a tool gave back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatToolMessage"))]
#[serde(expecting = "an object")]
pub struct ToolMessage {
    /// As text.
    pub content: Content,
    /// Of which call.
    pub tool_call_id: String,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a function gave back, before there were tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatFunctionMessage"))]
#[serde(expecting = "an object")]
pub struct FunctionMessage {
    /// As text, if there is any.
    pub content: Option<String>,
    /// Which function.
    pub name: String,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

either! {
    /// What was said.
    #[cfg_attr(feature = "schema", schemars(rename = "ChatContent"))]
    pub enum Content {
        /// Short for one part of text.
        String => Text(String),
        /// In parts.
        Array => Parts(Vec<ContentPart>),
    }
    expected "a string or an array of parts"
}

tagged! {
    /// A part of a message. Images (`image_url`), sound (`input_audio`) and files (`file`) have no neutral form, and are kept as they came.
    pub enum ContentPart named "ChatContentPart" {
        /// Text.
        "text" => Text(TextPart),
        /// What the model said instead of an answer.
        "refusal" => Refusal(RefusalPart),
    }
}

/// Text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatTextPart"))]
#[serde(expecting = "an object")]
pub struct TextPart {
    /// The text.
    pub text: String,
    /// The prompt up to here is worth keeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_cache_breakpoint: Option<CacheBreakpoint>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What the model said instead of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatRefusalPart"))]
#[serde(expecting = "an object")]
pub struct RefusalPart {
    /// As text.
    pub refusal: String,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

tagged! {
    /// A tool that was called. Calls of custom tools have no neutral form.
    pub enum Call named "ChatCall" {
        /// A function.
        "function" => Function(FunctionCall),
    }
}

/// A function that was called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatFunctionCall"))]
#[serde(expecting = "an object")]
pub struct FunctionCall {
    /// By which its result names it.
    pub id: String,
    /// Which, and with what.
    pub function: Called,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Which function was called, and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ChatCalled"))]
#[serde(expecting = "an object")]
pub struct Called {
    /// The function.
    pub name: String,
    /// The JSON text of an object; empty text is the empty object.
    pub arguments: String,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}
