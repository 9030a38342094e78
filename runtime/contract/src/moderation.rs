//! One neutral request for a judgement, and the judgement.

use crate::ask::{Beyond, Turn};

/// What is to be judged.
#[derive(Clone, Debug, PartialEq)]
pub struct ModerateAsk {
    /// The model's name, as the caller says it. `None`: what the service judges with by itself.
    pub model: Option<String>,
    /// Each is judged by itself and gets a [`Moderation`]. At least one. Text of the assistant's side is judged as output, other text as
    /// input.
    pub inputs: Vec<Vec<Turn>>,
    /// What was asked beyond this form, by its path in the body.
    pub beyond: Vec<Beyond>,
}

/// A judgement of one input.
#[derive(Clone, Debug, PartialEq)]
pub struct Moderation {
    /// Every category that was looked for, each once.
    pub categories: Vec<Category>,
    /// What follows from it.
    pub decision: Decision,
    /// The rule that decided, by its name; never what it matched. `None`: no rule did.
    pub rule: Option<String>,
}

/// How much of a category was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Category {
    /// As the policy's file names it.
    pub name: String,
    /// The category of OpenAI's moderation that it is, where the policy's file says so: `violence/graphic`.
    pub openai: Option<String>,
    /// From 0 (nothing of it) to 1.
    pub score: f32,
    /// Whether that is more than the policy bears.
    pub flagged: bool,
}

/// What the service does with such a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It passes.
    Allow,
    /// It passes, and is noted.
    Flag,
    /// It does not pass.
    Block,
}

impl Decision {
    /// As callers see it.
    pub const fn name(self) -> &'static str {
        match self {
            Decision::Allow => "allow",
            Decision::Flag => "flag",
            Decision::Block => "block",
        }
    }
}
