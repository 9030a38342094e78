//! Structured output: what may come next is masked, token by token.
//!
//! A [`Grammar`] is compiled by `llguidance` against the model's vocabulary. It holds from the first token on, or is *entered* where the text
//! reaches a [`Trigger`], holds until it is complete, and leaves the text free again: so tool calls stand in the middle of prose.

mod lark;
mod limits;
mod schema;
mod vocabulary;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

pub use schema::SchemaFault;

use crate::error::{Error, Result};
use crate::text::Tokenizer;

/// What the text must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// JSON that this schema accepts (draft 2020-12, as far as `llguidance` knows it), members in the schema's order, without white space between
    /// tokens: small models lose themselves in it. A schema with `x-guidance` says otherwise.
    JsonSchema(Value),
    /// A text that this regular expression matches whole.
    Regex(String),
    /// `llguidance`'s dialect of Lark; `start` is the root.
    Lark(String),
}

/// Where a grammar begins to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trigger {
    /// At once. Where the grammar is complete the sequence ends.
    #[default]
    Start,
    /// Behind any of these tokens, each time one comes. Where the grammar is complete the text is free again.
    Tokens(Vec<u32>),
    /// Behind this text, wherever token borders fall, each time it comes.
    Text(String),
}

/// A grammar and where it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Constraint {
    /// What the text must be.
    pub grammar: Grammar,
    /// From where on.
    pub trigger: Trigger,
}

/// Grammars of one vocabulary. Clones share what they made, also on other threads: compiled beside an engine, a grammar costs its steps nothing.
#[derive(Clone)]
pub struct Compiler(Arc<Shared>);

impl fmt::Debug for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiler").field("tokenizer", &self.0.tokenizer).field("vocab", &self.0.vocab).finish_non_exhaustive()
    }
}

struct Shared {
    tokenizer: Tokenizer,
    vocab: u32,
    /// Made for the first grammar, not with the model: of 49,152 tokens it takes a quarter of a second, of 262,144 more than one and 100 MB, and many
    /// never ask for a grammar.
    parsers: OnceLock<Parsers>,
    /// Grammars compiled before any text, the last used last: many requests have one schema. Never held while one is compiled.
    compiled: Mutex<Vec<(Grammar, Matcher)>>,
}

/// What makes parsers for a vocabulary.
struct Parsers {
    factory: ParserFactory,
    environment: TokEnv,
}

/// Grammars that are kept.
const KEPT: usize = 16;

impl Compiler {
    /// For a model of `vocab` tokens, of which the tokenizer may know fewer. Costs nothing before the first grammar.
    pub fn new(tokenizer: &Tokenizer, vocab: u32) -> Compiler {
        let (parsers, compiled) = (OnceLock::new(), Mutex::default());
        Compiler(Arc::new(Shared { tokenizer: tokenizer.clone(), vocab, parsers, compiled }))
    }

    /// Makes a grammar ready to follow a text.
    ///
    /// # Errors
    /// A grammar that does not compile: the message names the place. A tokenizer that names no end of generation, by which a grammar's end is told.
    pub fn compile(&self, constraint: &Constraint) -> Result<Governed> {
        match &constraint.trigger {
            Trigger::Tokens(ids) if ids.is_empty() => return Err(Error::request("a grammar's trigger names no token")),
            Trigger::Text(text) if text.is_empty() => return Err(Error::request("a grammar's trigger is an empty text; use the start")),
            _ => {}
        }
        let Shared { tokenizer, vocab, parsers, compiled } = &*self.0;
        let parsers = match parsers.get() {
            Some(parsers) => parsers,
            None => {
                let made = Parsers::new(vocabulary::environment(tokenizer, *vocab)?)?;
                parsers.get_or_init(|| made)
            }
        };
        let known = {
            let mut compiled = compiled.lock().unwrap_or_else(PoisonError::into_inner);
            let at = compiled.iter().position(|(grammar, _)| *grammar == constraint.grammar);
            at.map(|at| {
                let kept = compiled.remove(at);
                let fresh = kept.1.deep_clone();
                compiled.push(kept);
                fresh
            })
        };
        let fresh = match known {
            Some(fresh) => fresh,
            None => {
                let fresh = parsers.compile(&constraint.grammar)?;
                let mut compiled = compiled.lock().unwrap_or_else(PoisonError::into_inner);
                if compiled.len() >= KEPT {
                    compiled.remove(0);
                }
                compiled.push((constraint.grammar.clone(), fresh.deep_clone()));
                fresh
            }
        };
        let active = (constraint.trigger == Trigger::Start).then(|| Active { matcher: fresh.deep_clone(), mask: None });
        let environment = Arc::clone(&parsers.environment);
        Ok(Governed { fresh, active, trigger: constraint.trigger.clone(), behind: Vec::new(), environment })
    }
}

impl Parsers {
    fn new(environment: TokEnv) -> Result<Parsers> {
        let mut factory =
            ParserFactory::new_simple(&environment).map_err(|e| Error::internal(format!("grammars for this vocabulary: {e:#}")))?;
        factory.quiet();
        limits::set(factory.limits_mut());
        Ok(Parsers { factory, environment })
    }

    /// # Errors
    /// What is wrong or too much, with its place.
    fn compile(&self, grammar: &Grammar) -> Result<Matcher> {
        match grammar {
            Grammar::JsonSchema(schema) => self
                .schema(schema)
                .map_err(|SchemaFault { place, why }| Error::request(format!("the JSON schema at {place} can't be compiled: {why}"))),
            Grammar::Regex(pattern) => {
                let parsed = limits::regex(pattern).and_then(|()| self.parse(TopLevelGrammar::from_regex(pattern)));
                parsed.map_err(|why| Error::request(format!("the regular expression {} can't be compiled: {why}", shown(pattern))))
            }
            Grammar::Lark(text) => {
                let parsed = lark::prepare(text).and_then(|text| self.parse(TopLevelGrammar::from_lark(text)));
                parsed.map_err(|why| Error::request(format!("the Lark grammar can't be compiled: {why}")))
            }
        }
    }

    fn schema(&self, schema: &Value) -> Result<Matcher, SchemaFault> {
        let prepared = schema::prepare(schema)?;
        self.prepared(&prepared).map_err(|why| {
            let why = schema_reason(&why);
            let parses = |schema: &Value| schema::prepare(schema).is_ok_and(|prepared| self.prepared(&prepared).is_ok());
            SchemaFault { place: schema::offending(schema, &parses), why }
        })
    }

    fn prepared(&self, schema: &Value) -> Result<Matcher, String> {
        if let Some((rules, start)) = schema::lower(schema, "json_")
            && let Ok(matcher) = self.parse(TopLevelGrammar::from_lark(format!("start: {start}\n{rules}")))
        {
            return Ok(matcher);
        }
        self.parse(json_schema(schema::plain(schema)?))
    }

    fn parse(&self, grammar: TopLevelGrammar) -> Result<Matcher, String> {
        let parser = self.factory.create_parser(grammar).map_err(|e| reason(&format!("{e:#}")))?;
        let mut matcher = Matcher::new(Ok(parser));
        match matcher.get_error() {
            Some(why) => Err(reason(&why)),
            // Some faults show with the first mask only.
            None => matcher.compute_mask().map(|_| matcher).map_err(|e| reason(&format!("{e:#}"))),
        }
    }
}

/// Says whether grammars compile, without a model: by a vocabulary of single bytes.
pub struct Checker(Parsers);

impl Checker {
    /// For any number of grammars; dear to make.
    ///
    /// # Errors
    /// A fault of ours.
    pub fn new() -> Result<Checker> {
        Parsers::new(ApproximateTokEnv::single_byte_env()).map(Checker)
    }

    /// Whether a grammar compiles.
    ///
    /// # Errors
    /// One that does not: the message names the place. Numbered tokens (`<[7]>`) can't be told so.
    pub fn check(&self, grammar: &Grammar) -> Result<()> {
        self.0.compile(grammar).map(drop)
    }

    /// Whether a JSON schema compiles.
    ///
    /// # Errors
    /// The place of what can't be compiled, and why.
    pub fn check_schema(&self, schema: &Value) -> Result<(), SchemaFault> {
        self.0.schema(schema).map(drop)
    }
}

fn json_schema(mut schema: Value) -> TopLevelGrammar {
    if schema == Value::Bool(true) {
        schema = json!({});
    }
    if let Value::Object(members) = &mut schema {
        let compact = || json!({ "item_separator": ",", "key_separator": ":", "whitespace_flexible": false });
        members.entry("x-guidance").or_insert_with(compact);
    }
    TopLevelGrammar::from_json_schema(schema)
}

/// A text in quotes, as far as a message has room for it.
fn shown(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// What of the compiler's words says why, in ours where its own help nobody.
fn reason(message: &str) -> String {
    if let Some(known) = known_reason(message) {
        return known.to_owned();
    }
    let mut lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    // Of regular expressions a picture of the place comes first, and then what is wrong there.
    match message.lines().find_map(|line| line.trim().strip_prefix("error: ")) {
        Some(why) => why.to_owned(),
        None => first.to_owned(),
    }
}

/// Why, where the compiler says it in many ways.
fn known_reason(message: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    // Each of these may be one of its ways to say: there is no end to reach.
    if says(&["NoExtensionBias"]) {
        return Some("no text satisfies it");
    }
    if says(&["coerce_one_of"]) {
        return Some(
            "options of oneOf that may overlap can't be held to; use anyOf, or tell them apart by a required property with a const",
        );
    }
    let too_much = [
        "too many states",
        "too many expressions",
        "Too many items",
        "fuel",
        "too big",
        "too large",
        "level exceeded",
        "Unable to determine",
        "precomputation",
        "panic",
    ];
    says(&too_much).then_some("it takes too much work; simplify it (fewer options, shorter patterns and repetitions)")
}

/// [`reason`] for a JSON schema, whose author knows nothing of the compiler.
fn schema_reason(message: &str) -> String {
    const REASONS: [&str; 3] = ["no text satisfies it", "it takes too much work", "options of oneOf"];
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    let none = ["nsatisfiable", "Regex is empty", "is greater than", "be greater than", "be less than", "mpty range", "nvalid range"];
    if says(&none) || message.starts_with(REASONS[0]) {
        return "no value satisfies it; loosen or leave out one of the keywords that contradict each other here".to_owned();
    }
    if REASONS.iter().any(|known| message.starts_with(known)) || message.contains("can't be held to") {
        return message.to_owned();
    }
    if says(&["Unimplemented keys"]) {
        return "this keyword can't be held to; leave it out".to_owned();
    }
    format!("it can't be held to ({message}); simplify it, or leave it out")
}

/// A sequence's grammar, and where in it the text stands.
pub struct Governed {
    /// Before any text.
    fresh: Matcher,
    /// While the grammar holds.
    active: Option<Active>,
    trigger: Trigger,
    /// While it does not: the last bytes of text, fewer than the trigger's, in which it may have begun.
    behind: Vec<u8>,
    environment: TokEnv,
}

struct Active {
    matcher: Matcher,
    mask: Option<SimpleVob>,
}

/// What a token did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More may come.
    Going,
    /// The grammar that held from the start is complete: nothing may come.
    Complete,
}

impl Governed {
    /// Works out what may come next, ahead of [`Governed::allowed`]: while a device is busy it costs no time.
    ///
    /// # Errors
    /// A grammar that can't go on: it has grown beyond its limits.
    pub fn prepare(&mut self) -> Result<()> {
        if let Some(active) = self.active.as_mut().filter(|active| active.mask.is_none()) {
            active.mask = Some(active.matcher.compute_mask_or_eos().map_err(broken)?);
        }
        Ok(())
    }

    /// The tokens that may come next, bit by bit, `[vocab / 32]` rounded up; `None` where all may.
    ///
    /// # Errors
    /// Those of [`Governed::prepare`].
    pub fn allowed(&mut self) -> Result<Option<&[u32]>> {
        self.prepare()?;
        Ok(self.active.as_ref().and_then(|active| active.mask.as_ref()).map(SimpleVob::as_slice))
    }

    /// Whether a token may come although no mask says so: one that completes the trigger may bring text behind it with it, which the grammar
    /// must allow.
    pub fn admits(&self, id: u32) -> bool {
        match self.after_trigger(id) {
            Some(rest) => self.enter(&rest).is_some(),
            None => true,
        }
    }

    /// A token has come.
    ///
    /// # Errors
    /// A token that was not allowed.
    pub fn take(&mut self, id: u32) -> Result<Progress> {
        if let Some(active) = &mut self.active {
            active.mask = None;
            active.matcher.consume_token(id).map_err(broken)?;
        } else if let Some(rest) = self.after_trigger(id) {
            self.behind.clear();
            self.active = self.enter(&rest);
        } else if let Trigger::Text(text) = &self.trigger {
            self.behind.extend_from_slice(self.environment.tok_trie().token(id));
            let old = self.behind.len().saturating_sub(text.len() - 1);
            self.behind.drain(..old);
        }
        if self.active.as_ref().is_some_and(|active| active.matcher.is_stopped()) {
            self.active = None;
            if self.trigger == Trigger::Start {
                return Ok(Progress::Complete);
            }
        }
        Ok(Progress::Going)
    }

    /// Tokens that must come next, whatever the model makes of them. They are still to be taken.
    pub fn forced(&mut self) -> Vec<u32> {
        self.active.as_mut().map_or(Vec::new(), |active| active.matcher.compute_ff_tokens())
    }

    /// Where a token completes the trigger of a grammar that does not hold: the token's bytes behind it.
    fn after_trigger(&self, id: u32) -> Option<Vec<u8>> {
        if self.active.is_some() {
            return None;
        }
        match &self.trigger {
            Trigger::Start => None,
            Trigger::Tokens(ids) => ids.contains(&id).then(Vec::new),
            Trigger::Text(text) => {
                let mut bytes = self.behind.clone();
                bytes.extend_from_slice(self.environment.tok_trie().token(id));
                let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
                Some(bytes.split_off(at + text.len()))
            }
        }
    }

    /// The grammar behind the first bytes of its text, if it allows them.
    fn enter(&self, bytes: &[u8]) -> Option<Active> {
        let mut matcher = self.fresh.deep_clone();
        let tokens = self.environment.tok_trie().greedy_tokenize(bytes);
        let taken = matcher.try_consume_tokens(&tokens).ok()?;
        (taken == tokens.len()).then_some(Active { matcher, mask: None })
    }
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::request(format!("the grammar can't go on: {}", reason(&error.to_string())))
}
