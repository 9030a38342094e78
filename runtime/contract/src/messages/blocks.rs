//! What the messages of a request are made of.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::read::{given, object};
use crate::leaf::{Unknown, either, tagged};

either! {
    /// What a message says.
    pub enum ContentParam {
        /// Short for one text block.
        String => Text(String),
        /// Blocks, in order.
        Array => Blocks(Vec<BlockParam>),
    }
    expected "a string or an array of content blocks"
}

tagged! {
    /// A block of a message. Blocks of server tools and the like are kept whole.
    pub enum BlockParam {
        /// Text.
        "text" => Text(TextParam),
        /// A picture.
        "image" => Image(ImageParam),
        /// A document.
        "document" => Document(DocumentParam),
        /// A result of a search that the caller made.
        "search_result" => SearchResult(SearchResultParam),
        /// What the model thought, as it was given out.
        "thinking" => Thinking(ThinkingParam),
        /// What the model thought, encrypted.
        "redacted_thinking" => RedactedThinking(RedactedThinkingParam),
        /// A tool that the model called.
        "tool_use" => ToolUse(ToolUseParam),
        /// What a tool gave back.
        "tool_result" => ToolResult(ToolResultParam),
    }
}

/// A breakpoint: the prompt up to here is worth keeping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct CacheControl {
    /// The only kind there is.
    pub r#type: CacheKind,
    /// How long after its last use; `5m` where unsaid.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "TtlParam"))]
    pub ttl: Option<TtlParam>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Kinds of breakpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CacheKind {
    /// Kept for a while.
    Ephemeral,
}

/// How long a breakpoint's prefix is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TtlParam {
    /// Five minutes.
    #[serde(rename = "5m")]
    FiveMinutes,
    /// An hour.
    #[serde(rename = "1h")]
    OneHour,
}

/// Text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct TextParam {
    /// Not empty.
    pub text: String,
    /// The prompt up to here is worth keeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
    /// What the text was taken from, in an answer that is sent back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub citations: Option<Vec<Value>>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ImageParam {
    /// Where it is.
    pub source: ImageSource,
    /// What to do to it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transformations: Option<Value>,
    /// The prompt up to here is worth keeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

tagged! {
    /// Where a picture is.
    pub enum ImageSource {
        /// Here.
        "base64" => Base64(Base64Source),
        /// On the web.
        "url" => Url(UrlSource),
        /// Among uploaded files.
        "file" => File(FileSource),
    }
}

/// Bytes in the body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct Base64Source {
    /// `image/png`, `application/pdf` and the like.
    pub media_type: String,
    /// In base64.
    pub data: String,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Something on the web.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct UrlSource {
    /// Its address.
    pub url: String,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// An uploaded file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct FileSource {
    /// Its id.
    pub file_id: String,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct DocumentParam {
    /// Where it is. Who has the files puts the text of one in place of a source of type `file` before the request is lowered.
    pub source: DocumentSource,
    /// Its title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// About it, not part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Whether the answer shall cite it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub citations: Option<CitationsParam>,
    /// The prompt up to here is worth keeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

tagged! {
    /// Where a document is.
    pub enum DocumentSource {
        /// Here, as plain text.
        "text" => Text(PlainTextSource),
        /// Here, as blocks.
        "content" => Content(ContentSource),
        /// Here, as a PDF.
        "base64" => Base64(Base64Source),
        /// On the web.
        "url" => Url(UrlSource),
        /// Among uploaded files.
        "file" => File(FileSource),
    }
}

/// Plain text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct PlainTextSource {
    /// `text/plain`.
    pub media_type: PlainText,
    /// The text.
    pub data: String,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The media type of plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PlainText {
    /// The only one.
    #[serde(rename = "text/plain")]
    TextPlain,
}

/// A document that is made of blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ContentSource {
    /// Its text.
    pub content: DocumentContent,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

either! {
    /// What a document is made of.
    pub enum DocumentContent {
        /// Short for one text block.
        String => Text(String),
        /// Blocks, in order.
        Array => Blocks(Vec<DocumentBlock>),
    }
    expected "a string or an array of text and image blocks"
}

tagged! {
    /// A block of a document.
    pub enum DocumentBlock {
        /// Text.
        "text" => Text(TextParam),
        /// A picture.
        "image" => Image(ImageParam),
    }
}

/// Whether an answer shall cite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct CitationsParam {
    /// No, where unsaid.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool"))]
    pub enabled: Option<bool>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A result of a search that the caller made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct SearchResultParam {
    /// Where it was found.
    pub source: String,
    /// Its title.
    pub title: String,
    /// What it says.
    pub content: Vec<TextBlockParam>,
    /// Whether the answer shall cite it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "CitationsParam"))]
    pub citations: Option<CitationsParam>,
    /// The prompt up to here is worth keeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

tagged! {
    /// A block where only text may stand.
    pub enum TextBlockParam {
        /// Text.
        "text" => Text(TextParam),
    }
}

/// What the model thought, as it was given out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ThinkingParam {
    /// The thoughts; empty where they were left out of the answer.
    pub thinking: String,
    /// As it was given out.
    pub signature: String,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What the model thought, encrypted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct RedactedThinkingParam {
    /// Opaque.
    pub data: String,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A tool that the model called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ToolUseParam {
    /// By which its result names it.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments, an object.
    #[serde(deserialize_with = "object")]
    pub input: Map<String, Value>,
    /// The prompt up to here is worth keeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
    /// Who called: the model, or code on the server.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "CallerParam"))]
    pub caller: Option<CallerParam>,
    /// The set of tools that the tool belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toolset_name: Option<String>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

tagged! {
    /// Who called a tool.
    pub enum CallerParam {
        /// The model.
        "direct" => Direct(DirectCaller),
    }
}

/// The model itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct DirectCaller {
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a tool gave back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ToolResultParam {
    /// Of which call.
    pub tool_use_id: String,
    /// What it gave. Nothing is a result too.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "ToolResultContent"))]
    pub content: Option<ToolResultContent>,
    /// Whether it failed.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool"))]
    pub is_error: Option<bool>,
    /// The prompt up to here is worth keeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
    /// The set of tools that the tool belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toolset_name: Option<String>,
    /// Members that are not named here.
    #[serde(flatten)]
    pub unknown: Unknown,
}

either! {
    /// What a tool gave back.
    pub enum ToolResultContent {
        /// Short for one text block.
        String => Text(String),
        /// Blocks, in order.
        Array => Blocks(Vec<ToolResultBlock>),
    }
    expected "a string or an array of content blocks"
}

tagged! {
    /// A block of a tool's result.
    pub enum ToolResultBlock {
        /// Text.
        "text" => Text(TextParam),
        /// A picture.
        "image" => Image(ImageParam),
        /// A document.
        "document" => Document(DocumentParam),
        /// A result of a search.
        "search_result" => SearchResult(SearchResultParam),
    }
}
