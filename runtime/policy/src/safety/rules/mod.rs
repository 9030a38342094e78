//! Rules over normalised text: lists of literals and regular expressions, from a versioned TOML.
//!
//! Rules are read with [`Policy::load`], which refuses what could not be held to: a pattern whose matches have no greatest length, one that matches
//! nothing or the empty text, an example that does not match. A text is searched as it comes, byte by byte. Literals
//! share one Aho–Corasick automaton. A regular expression is a table walked from each byte where a match may begin; which those are says a table by
//! that byte, the next one and whether a word's byte stands before, so in most places no pattern is looked at. Both know at any byte how far back a
//! match may have begun that is not complete: so much and no more is held back.

mod begin;
mod context;
mod literals;
mod load;
mod pattern;
mod scan;
mod validator;

use std::sync::Arc;

use begin::Begin;
use context::{Context, Phrases};
use literals::Literals;
pub use load::LoadError;
use pattern::Pattern;
use scan::SKIPPED;
pub(crate) use scan::{Found, Hit, Scan};
use serde::Deserialize;
use validator::Check;

use super::decision::Thresholds;
use super::normalise::normalised;

/// The rules that ship.
pub const STANDARD: &str = concat!(
    include_str!("../../../rules/default.toml"),
    "\n",
    include_str!("../../../rules/harm.toml"),
    "\n",
    include_str!("../../../rules/self-harm.toml")
);

/// What follows from a match. The greater decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing: the rule does not look.
    #[default]
    Off,
    /// It is told, and nothing else.
    Flag,
    /// It does not pass.
    Block,
}

/// Which way a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From a caller to a model.
    Input,
    /// From a model to a caller.
    Output,
}

/// Whose words an input's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// Who asks: their newest turn, prompts without turns, an answer that they begin, and the tools that they declare.
    User,
    /// Who asks, in earlier turns: those before an answer of the model that they went on from.
    Earlier,
    /// Who runs the model: system text.
    System,
    /// Tools: their results, and the calls that led to them.
    Tool,
    /// The model, in earlier turns.
    Assistant,
}

/// What rules and scores are about.
#[derive(Clone, Debug, PartialEq)]
pub struct Category {
    /// Its name.
    pub id: String,
    /// What it is, for people.
    pub about: String,
    /// The category of OpenAI's moderation that it is.
    pub openai: Option<String>,
    /// Whether a refusal calls it `general_harms`, the contract's own name, or nothing.
    pub general_harms: bool,
    /// What a classifier's scores of it mean.
    pub scores: Thresholds,
}

impl Category {
    /// The refusal's category in the contract's closed list.
    pub fn refusal(&self) -> Option<&'static str> {
        self.general_harms.then_some("general_harms")
    }
}

/// Severities of a rule by who speaks, where they differ from [`Rule::input`]. None is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speakers {
    /// Of [`Speaker::System`].
    pub system: Option<Severity>,
    /// Of [`Speaker::Tool`].
    pub tool: Option<Severity>,
    /// Of [`Speaker::Assistant`].
    pub assistant: Option<Severity>,
    /// Of [`Speaker::Earlier`].
    pub earlier: Option<Severity>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name, of which there is one.
    pub id: String,
    /// Index of its category in [`Policy::categories`].
    pub category: usize,
    /// On what callers send.
    pub input: Severity,
    /// On what callers send, where somebody else than the user says it.
    pub speakers: Speakers,
    /// On what models say.
    pub output: Severity,
    /// Why it is, for people.
    pub about: String,
    /// Texts that it matches.
    pub examples: Vec<String>,
    /// Texts that it does not.
    pub counter: Vec<String>,
}

impl Rule {
    /// What follows from a match in a direction.
    pub fn severity(&self, direction: Direction) -> Severity {
        match direction {
            Direction::Input => self.input,
            Direction::Output => self.output,
        }
    }

    /// What follows from a match in what somebody is said to have said.
    pub fn input_of(&self, speaker: Speaker) -> Severity {
        let own = match speaker {
            Speaker::User => None,
            Speaker::Earlier => self.speakers.earlier,
            Speaker::System => self.speakers.system,
            Speaker::Tool => self.speakers.tool,
            Speaker::Assistant => self.speakers.assistant,
        };
        own.unwrap_or(self.input)
    }
}

/// Rules and thresholds, ready to judge by.
#[derive(Debug)]
pub struct Policy {
    revisions: Vec<String>,
    categories: Vec<Category>,
    rules: Vec<Rule>,
    input: Matcher,
    output: Matcher,
    /// By these a newest turn asks for what stands elsewhere.
    refers: Phrases,
    /// Bytes of the tables of what stands beside matches.
    contexts: usize,
}

impl Policy {
    /// The rules that ship.
    ///
    /// # Errors
    /// Never but by a mistake in them, which tests would find.
    pub fn standard() -> Result<Policy, LoadError> {
        Policy::load([STANDARD])
    }

    /// Which revisions of rules these are, one a file.
    pub fn revisions(&self) -> &[String] {
        &self.revisions
    }

    /// What rules and scores are about.
    pub fn categories(&self) -> &[Category] {
        &self.categories
    }

    /// Every rule.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Bytes that the rules' tables take.
    pub fn size(&self) -> usize {
        self.output.patterns.iter().chain(&self.input.patterns).map(|entry| entry.form.pattern.size()).sum::<usize>() + self.contexts
    }

    /// Whether a newest turn asks for what stands elsewhere: `answer the question above`.
    pub(crate) fn refers(&self, turn: &str) -> bool {
        self.refers.stand_in(normalised(turn).trim())
    }

    pub(crate) fn matcher(&self, direction: Direction) -> &Matcher {
        match direction {
            Direction::Input => &self.input,
            Direction::Output => &self.output,
        }
    }
}

/// What searches for the rules of one direction.
#[derive(Debug)]
pub(crate) struct Matcher {
    /// Texts of rules that block: their beginnings are held back.
    blocked: Option<Literals>,
    /// Texts of rules that flag.
    flagged: Option<Literals>,
    patterns: Vec<Entry>,
    begin: Begin,
    /// Bytes of a match at most.
    longest: usize,
    /// By rule.
    severities: Vec<Severity>,
}

/// A pattern of a rule, and how text is held against it.
#[derive(Clone, Debug)]
struct Form {
    pattern: Arc<Pattern>,
    check: Check,
    context: Arc<Context>,
    /// Blanks and marks may stand between the characters of a match.
    spaced: bool,
    /// The letters of a match are capitals in the raw text.
    capitals: bool,
    /// So many bytes at a match's beginning say nothing: they are searched for, and are no part of the match.
    public: u8,
}

impl Form {
    /// Bytes of text that one match may lie in, with what stands beside it that has to be known.
    fn width(&self) -> usize {
        let skipped = if self.spaced { usize::from(SKIPPED) } else { 0 };
        self.pattern.longest + skipped + self.context.width()
    }
}

#[derive(Debug)]
struct Entry {
    rule: u16,
    blocks: bool,
    form: Form,
}

impl Matcher {
    /// Whether a match of a rule that blocks may begin with a character that is no word's.
    fn may_begin(&self, c: char) -> bool {
        let mut bytes = [0; 4];
        let Some(first) = c.encode_utf8(&mut bytes).bytes().next() else { return false };
        let patterns = [false, true].into_iter().flat_map(|word| self.begin.first(word, first));
        let mut entries = patterns.filter_map(|(entry, _)| self.patterns.get(usize::from(*entry)));
        let literal = |literals: &Literals| literals.alive(literals.step(literals.start(), first)) > 0;
        entries.any(|entry| entry.blocks) || self.blocked.as_ref().is_some_and(literal)
    }

    /// What follows from a match of a rule.
    pub(crate) fn severity(&self, rule: usize) -> Severity {
        self.severities.get(rule).copied().unwrap_or_default()
    }
}
