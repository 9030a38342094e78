//! Chat templates: Jinja, as Hugging Face's `apply_chat_template` runs it.
//!
//! A template comes with a model file, so it is not to be trusted with time or memory. The template engine counts instructions
//! and nothing else; here its syntax tree is rewritten before it runs (`rewrite`), so that whatever makes text or lists is paid
//! for from a `Budget`, and its source is measured before it is parsed (`shape`), so that no nesting exhausts the stack.

mod arguments;
mod budget;
mod filters;
mod format;
mod functions;
mod json;
mod lists;
mod methods;
mod numbers;
mod python;
mod rewrite;
mod shape;
mod time;

pub use time::WallTime;

use std::borrow::Cow;
use std::sync::Arc;

use minijinja::machinery::{CodeGenerator, Token, eval, make_string_output, parse, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Value};

use crate::error::{Error, ErrorCode, Result};
use budget::Budget;

const NAME: &str = "chat template";

/// Macros within macros and loops within loops; each costs native stack, of which a browser has 1 MiB.
const RECURSION_LIMIT: usize = 96;

/// What one rendering may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateLimits {
    /// Instructions.
    pub instructions: u64,
    /// Bytes of all the text and lists it makes, intermediate ones too.
    pub bytes: usize,
    /// Bytes that are added to `bytes` for each byte of the context: templates concatenate, strip and slice the messages they
    /// write.
    pub bytes_per_context_byte: usize,
}

impl Default for TemplateLimits {
    fn default() -> TemplateLimits {
        TemplateLimits { instructions: 5_000_000, bytes: 16 << 20, bytes_per_context_byte: 64 }
    }
}

/// A chat template, known to compile.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: Arc<str>,
    limits: TemplateLimits,
}

impl ChatTemplate {
    /// The template that `source` is.
    ///
    /// # Errors
    /// Template: the syntax is wrong, with its line; or the source is too large or too deeply nested to be a chat template.
    pub fn new(source: &str) -> Result<ChatTemplate> {
        // As Jinja reads a template: every line ends with "\n", in its text and in its strings.
        let source =
            if source.contains('\r') { Cow::Owned(source.replace("\r\n", "\n").replace('\r', "\n")) } else { Cow::Borrowed(source) };
        shape::check(&source)?;
        let source: Arc<str> = with_generation_scopes(&source).into();
        let template = ChatTemplate { source, limits: TemplateLimits::default() };
        parse(&template.source, NAME, syntax()?).map_err(|e| failed(&e))?;
        Ok(template)
    }

    /// The same template under other limits.
    pub fn with_limits(self, limits: TemplateLimits) -> ChatTemplate {
        ChatTemplate { limits, ..self }
    }

    /// What the template makes of `context`: an object with `messages`, `add_generation_prompt`, `bos_token`, `eos_token`, and
    /// whatever else the template asks for (`tools`, …). Keys keep their order. `now` is what `strftime_now` formats. Arguments of
    /// tool calls that are JSON text become objects where the template reads `tool_call.arguments` as one.
    ///
    /// # Errors
    /// Template: the template raised an exception, used what is not there, or ran past its limits, with the line.
    /// Request: `context` is no object.
    pub fn render(&self, context: &serde_json::Value, now: Option<WallTime>) -> Result<String> {
        let serde_json::Value::Object(entries) = context else {
            return Err(Error::request("the context of a chat template must be an object"));
        };
        let objects = arguments::as_objects(&self.source, entries);
        self.render_entries(objects.as_ref().unwrap_or(entries), now)
    }

    fn render_entries(&self, entries: &serde_json::Map<String, serde_json::Value>, now: Option<WallTime>) -> Result<String> {
        // No template can name a variable with a space, and names of ours have one.
        let named = entries.iter().filter(|(key, _)| !key.contains(' '));
        // `apply_chat_template` passes these though a caller gives none: `tools is none` holds, and `tools is defined`.
        let absent = ["tools", "documents"].into_iter().filter(|name| !entries.contains_key(*name)).map(|name| (name, Value::from(())));
        let root = Value::from_pairs(absent.chain(named.map(|(key, value)| (key.as_str(), value_of(value)))));
        let context_len: usize = entries.values().map(budget::size).sum();
        let allowance = context_len.saturating_mul(self.limits.bytes_per_context_byte);
        let budget = Arc::new(Budget::new(self.limits.bytes.saturating_add(allowance)));

        let mut environment = Environment::empty();
        environment.set_fuel(Some(self.limits.instructions));
        environment.set_recursion_limit(RECURSION_LIMIT);
        functions::register(&mut environment, &budget, now);

        let tree = parse(&self.source, NAME, syntax()?).map_err(|e| failed(&e))?;
        let tree = rewrite::statement(&tree);
        let mut generator = CodeGenerator::new(NAME, &self.source);
        generator.compile_stmt(&tree);
        let (instructions, blocks) = generator.finish();
        let mut text = String::new();
        let outcome = eval(&environment, &instructions, root, &blocks, &mut make_string_output(&mut text), AutoEscape::None);
        outcome.map(drop).map_err(|e| failed(&e))?;
        Ok(text)
    }
}

/// The words with which a template refused its context by itself (`raise_exception`), where an error of [`ChatTemplate::render`] is that.
pub fn raised(error: &Error) -> Option<&str> {
    let words = error.message().split_once(functions::RAISED).map(|(_, words)| words);
    words.filter(|_| error.code() == ErrorCode::Template)
}

fn value_of(json: &serde_json::Value) -> Value {
    use serde_json::Value::{Array, Bool, Null, Number, Object, String};
    match json {
        Null => Value::from(()),
        Bool(value) => Value::from(*value),
        Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        String(text) => Value::from(text.as_str()),
        Array(items) => items.iter().map(value_of).collect(),
        Object(entries) => Value::from_pairs(entries.iter().map(|(key, value)| (key.as_str(), value_of(value)))),
    }
}

/// As `transformers` sets Jinja up.
fn syntax() -> Result<SyntaxConfig> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(false).build();
    syntax.map_err(|e| Error::internal(format!("the template syntax is refused: {e}")))
}

fn failed(error: &minijinja::Error) -> Error {
    let place = error.line().map_or(String::new(), |line| format!(", line {line}"));
    let mut reason = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        reason.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    Error::new(ErrorCode::Template, format!("chat template{place}: {reason}"))
}

/// `{% generation %}` marks what an assistant said, for training; a rendering passes it through. It becomes a scope of its own, which
/// trims white space just as the tag does.
fn with_generation_scopes(source: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut done, mut at_tag_start) = (0, false);
    for token in tokenize(source, false, SyntaxConfig::default()) {
        // What is no token is reported by the parser, with more words.
        let Ok((token, span)) = token else { break };
        let instead = match &token {
            Token::Ident("generation") if at_tag_start => Some("with"),
            Token::Ident("endgeneration") if at_tag_start => Some("endwith"),
            _ => None,
        };
        if let (Some(instead), Token::Ident(word)) = (instead, &token) {
            let start = span.start_offset as usize;
            out.push_str(&source[done..start]);
            out.push_str(instead);
            done = start + word.len();
        }
        at_tag_start = matches!(token, Token::BlockStart);
    }
    if done == 0 {
        return Cow::Borrowed(source);
    }
    out.push_str(&source[done..]);
    Cow::Owned(out)
}
