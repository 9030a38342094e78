//! How models write calls of tools, as data, and what is made of what they write.
//!
//! A [`ToolFormat`] says how a call opens, how its name and arguments stand in it and how it ends. [`Parser`] reads text by it, [`grammar`] holds a model to
//! it, and the prompt writes history in it. Which one a model was trained on is told from its chat template ([`ToolFormat::of_template`]).

mod call;
#[cfg(feature = "local")]
pub mod grammar;
mod json;
mod object;
mod parser;
mod python;
mod stops;

pub use parser::{Ending, Parser, Reading};
pub use stops::Stops;

/// How a model writes calls of tools.
#[derive(Debug, PartialEq, Eq)]
pub struct ToolFormat {
    /// For messages and reports.
    pub name: &'static str,
    /// Opens a call, or all calls, anywhere in the text.
    pub open: &'static str,
    /// Whether calls also come without `open`, where the answer begins with one.
    pub bare: bool,
    /// What follows.
    pub body: Body,
    /// May follow that; empty where nothing does.
    pub close: &'static str,
    /// Stands between calls that follow each other without `open`.
    pub separator: &'static str,
    /// What ids of calls must look like in the template's history.
    pub ids: Ids,
    /// Whether the template itself shows tools and calls. Where not, both are written into the text for it.
    pub in_template: bool,
}

/// How name and arguments of a call are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// `{"name": "f", "arguments": {…}}`.
    Object {
        /// The member that holds the arguments.
        arguments: &'static str,
    },
    /// A list of such objects.
    Array {
        /// The member that holds the arguments.
        arguments: &'static str,
    },
    /// `f[ARGS]{…}`.
    Named {
        /// Stands between name and arguments.
        between: &'static str,
    },
    /// `[f(a=1), g()]`.
    Python,
}

/// What ids of calls look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// As they came.
    Any,
    /// Nine letters and digits.
    Nine,
}

/// Qwen's and Hermes's: each call between tags.
pub static HERMES: ToolFormat = TAGGED;

/// Llama's from 3.1 on: an object in place of an answer.
pub static LLAMA: ToolFormat = ToolFormat {
    name: "llama",
    open: "<|python_tag|>",
    bare: true,
    body: Body::Object { arguments: "parameters" },
    close: "",
    separator: "; ",
    ids: Ids::Any,
    in_template: true,
};

/// Mistral's up to tokenizer v7: all calls in one list.
pub static MISTRAL: ToolFormat = ToolFormat {
    name: "mistral",
    open: "[TOOL_CALLS]",
    bare: false,
    body: Body::Array { arguments: "arguments" },
    close: "",
    separator: ", ",
    ids: Ids::Nine,
    in_template: true,
};

/// Mistral's from tokenizer v11 on: each call opened anew, its name bare.
pub static MISTRAL_NAMED: ToolFormat = ToolFormat {
    name: "mistral-v11",
    open: "[TOOL_CALLS]",
    bare: false,
    body: Body::Named { between: "[ARGS]" },
    close: "",
    separator: "",
    ids: Ids::Nine,
    in_template: true,
};

/// Python, as Llama 4, small Llamas and tuned Gemmas write it: all calls in one list, in place of an answer.
pub static PYTHONIC: ToolFormat = ToolFormat {
    name: "pythonic",
    open: "<|python_start|>",
    bare: true,
    body: Body::Python,
    close: "<|python_end|>",
    separator: ", ",
    ids: Ids::Any,
    in_template: true,
};

/// For models whose template knows no tools: what is asked of them stands in the system text. As easy to tell from prose as it gets.
pub static GENERIC: ToolFormat = ToolFormat { name: "generic", in_template: false, ..TAGGED };

const TAGGED: ToolFormat = ToolFormat {
    name: "hermes",
    open: "<tool_call>",
    bare: false,
    body: Body::Object { arguments: "arguments" },
    close: "</tool_call>",
    separator: "\n",
    ids: Ids::Any,
    in_template: true,
};

/// Every format.
pub static FORMATS: [&ToolFormat; 6] = [&HERMES, &LLAMA, &MISTRAL, &MISTRAL_NAMED, &PYTHONIC, &GENERIC];

impl ToolFormat {
    /// The format that a chat template, by its text, was written for. Templates that show no tools, or write calls in a way that is not known
    /// here, get [`GENERIC`].
    pub fn of_template(source: &str) -> &'static ToolFormat {
        let has = |text: &str| source.contains(text);
        if !has("tools") {
            return &GENERIC;
        }
        if has("[TOOL_CALLS]") {
            return if has("[ARGS]") { &MISTRAL_NAMED } else { &MISTRAL };
        }
        // Before Hermes: Llama's templates may mention neither tag.
        if has("<|python_start|>") || has("func_name1(") {
            return &PYTHONIC;
        }
        // Functions in XML parameters share the tags and not the object in them.
        if has("<tool_call>") && !has("<function=") {
            return &HERMES;
        }
        if has("<|python_tag|>") || has(r#"{"name": function name, "parameters""#) {
            return &LLAMA;
        }
        &GENERIC
    }
}

/// Texts around a model's thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thoughts {
    /// Opens them, where an answer begins.
    pub open: &'static str,
    /// Ends them.
    pub close: &'static str,
}

/// Those that models are trained on.
pub static THOUGHTS: [Thoughts; 2] = [Thoughts { open: "<think>", close: "</think>" }, Thoughts { open: "[THINK]", close: "[/THINK]" }];

impl Thoughts {
    /// Those that a chat template, by its text, knows; `None` where the model does not think.
    pub fn of_template(source: &str) -> Option<&'static Thoughts> {
        THOUGHTS.iter().find(|thoughts| source.contains(thoughts.close) || source.contains(thoughts.open))
    }
}

#[cfg(test)]
mod tests;
