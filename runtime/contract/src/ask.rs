//! One neutral request, whatever dialect it came in.

use serde_json::Value;

use crate::names::Names;
use crate::path::Path;

/// How a caller speaks, and expects to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The Messages API.
    Messages(Version),
    /// OpenAI's API: chat completions, responses, completions.
    OpenAi,
}

/// Versions of the Messages API (`anthropic-version`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `2023-06-01`, also where a caller names none.
    June2023,
    /// `2026-10-21`: no sampling fields, no documents or citations where nobody reads them.
    October2026,
}

impl Version {
    /// As the header says it.
    pub const fn name(self) -> &'static str {
        match self {
            Version::June2023 => "2023-06-01",
            Version::October2026 => "2026-10-21",
        }
    }
}

/// What is asked of a backend: a conversation and how to go on from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// What the caller's body calls its fields.
    pub names: &'static Names,
    /// The model's name, as the caller says it.
    pub model: String,
    /// The conversation, system text first where there is any. A last turn of the assistant is the beginning of the answer.
    pub turns: Vec<Turn>,
    /// Where the last turn stands in the body: `messages.3`.
    pub last: Path,
    /// Prompts without turns or template, from `/v1/completions`. Where there are any, [`Ask::turns`] is empty and each prompt gets
    /// [`Ask::choices`] answers: answer `c` of prompt `p` is choice `p * choices + c` in every event.
    pub raw: Vec<RawPrompt>,
    /// Whether answers to raw prompts begin with their prompt, and log-probabilities with those of its tokens.
    pub echo: bool,
    /// Tools that may be called.
    pub tools: Vec<Tool>,
    /// Which of them must be.
    pub tool_choice: ToolChoice,
    /// Whether one answer may hold several calls.
    pub parallel_tools: bool,
    /// What the text of the answer must be.
    pub format: Option<Format>,
    /// Whether the model thinks first.
    pub thinking: Thinking,
    /// Tokens of each answer at most; 0 fills the prompt cache and answers nothing. `None`: until the context is full.
    pub max_tokens: Option<u32>,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// With each token, its own logarithm of probability and of this many most probable ones.
    pub logprobs: Option<u32>,
    /// Answers to give, of each prompt where there are several; at least 1.
    pub choices: u32,
    /// Whether the answer is sent as it comes.
    pub stream: bool,
    /// How urgent the caller says it is.
    pub tier: ServiceTier,
    /// Who the caller asks for: a name of theirs, never shown to anybody else.
    pub user: Option<String>,
    /// What was asked beyond this form, by its path in the body.
    pub beyond: Vec<Beyond>,
}

impl Ask {
    /// Answers that events tell of, over all prompts.
    pub fn answers(&self) -> u32 {
        self.choices.max(1).saturating_mul(u32::try_from(self.raw.len().max(1)).unwrap_or(u32::MAX))
    }

    /// Whether an answer may hold one call at most: where several are not wanted, and where the tool to be called is named. A choice that
    /// names a tool asks for one call of it in both APIs, and nothing else would end the calls of a small model.
    pub fn one_call(&self) -> bool {
        !self.parallel_tools || matches!(self.tool_choice, ToolChoice::Tool(_))
    }
}

/// A prompt as it is: no turns, no template, nothing added but what a tokenizer adds to every text. Control tokens that are written out in it are these tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawPrompt {
    /// Text, which may be empty: then the model begins by itself.
    Text(String),
    /// Ids of the model's own vocabulary, at least one. Nothing is added to them.
    Tokens(Vec<u32>),
    /// Text around a gap that the answer fills.
    Infill {
        /// Before the gap.
        prefix: String,
        /// After it.
        suffix: String,
    },
}

/// Something in a body that [`Ask`] has no place for. A backend of the same dialect gets the body as it came; others refuse it, or drop a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// Its leaf: `tools.3.type`.
    pub path: Path,
    /// Why it can't be served here, to be shown behind the path.
    pub why: String,
    /// A hint may be dropped where the service is lenient (`compat = "lenient"`): the answer is right without it.
    pub hint: bool,
}

/// What one side said.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Who.
    pub role: Role,
    /// What, in order.
    pub parts: Vec<Part>,
}

/// Sides of a conversation. Results of tools come from the user's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Who runs the model.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

/// A part of a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What.
    pub content: Content,
    /// The prompt up to here, this part included, is worth keeping so long.
    pub cache: Option<CacheTtl>,
}

/// How long a prefix is kept after its last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheTtl {
    /// `5m`, the default.
    FiveMinutes,
    /// `1h`.
    OneHour,
}

/// What a part is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text.
    Text(String),
    /// What the model thought before, as text, with the signature it was given.
    Thinking {
        /// The thoughts.
        text: String,
        /// Opaque.
        signature: Option<String>,
    },
    /// A plain-text document.
    Document {
        /// Its title.
        title: Option<String>,
        /// About it, not part of it.
        context: Option<String>,
        /// Its text.
        text: String,
    },
    /// A tool that the model called.
    ToolUse {
        /// By which its result names it.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments, an object.
        input: Value,
    },
    /// What a tool gave back.
    ToolResult {
        /// Of which call.
        id: String,
        /// As text; images and the like are [`Ask::beyond`].
        text: String,
        /// Whether it failed.
        is_error: bool,
    },
    /// Something [`Ask::beyond`] names.
    Beyond,
}

/// Adds a text to others, a line each: so all dialects join what a tool gave back in parts, and what a document is made of.
pub(crate) fn add_line(lines: &mut String, text: &str) {
    if !lines.is_empty() {
        lines.push('\n');
    }
    lines.push_str(text);
}

/// A tool.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its place in the body's list, from 0.
    pub at: usize,
    /// Its name, 1 to 128 of `[a-zA-Z0-9_-]`.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// The JSON Schema of its arguments, an object.
    pub schema: Value,
    /// Whether arguments that break the schema must be impossible.
    pub strict: bool,
    /// The prompt up to here is worth keeping so long.
    pub cache: Option<CacheTtl>,
}

/// Which tools must be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model sees fit.
    #[default]
    Auto,
    /// At least one.
    Any,
    /// This one.
    Tool(String),
    /// None, though they are shown.
    None,
}

/// What the text of an answer must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// JSON of this schema.
    JsonSchema {
        /// What the caller calls it.
        name: Option<String>,
        /// The schema.
        schema: Value,
    },
    /// Any JSON object.
    JsonObject,
}

/// Whether the model thinks before it answers, where it was trained to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thinking {
    /// As the model does by itself.
    #[default]
    Unsaid,
    /// No.
    Off,
    /// As long as it likes.
    Adaptive {
        /// Whether the thoughts are left out of the answer.
        hidden: bool,
    },
    /// So many tokens at most.
    Budget {
        /// Tokens.
        tokens: u32,
        /// Whether the thoughts are left out of the answer.
        hidden: bool,
    },
}

/// How tokens are drawn. `None` is the backend's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// 0 takes the most probable token.
    pub temperature: Option<f32>,
    /// Nucleus.
    pub top_p: Option<f32>,
    /// The k most probable.
    pub top_k: Option<u32>,
    /// Same seed, same text.
    pub seed: Option<u64>,
    /// Once a token came.
    pub presence_penalty: Option<f32>,
    /// By how often it came.
    pub frequency_penalty: Option<f32>,
    /// By token id.
    pub logit_bias: Vec<(u32, f32)>,
}

/// How urgent a caller says a request is; its key says what it may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServiceTier {
    /// As the key allows.
    #[default]
    Auto,
    /// No faster than standard.
    Standard,
    /// It may wait (`flex`, batches).
    Batch,
}
