//! What grammars may cost. A compiler can't be stopped once it runs, so everything a caller controls is bounded before: by counts here, and by the
//! compiler's own fuel.

use llguidance::api::ParserLimits;
use llguidance::derivre::RegexBuilder;

/// Levels of subschemas inside each other, through references too, and of rules of a Lark grammar: each takes some kilobytes of stack, and a page has
/// one megabyte.
pub(super) const DEPTH: usize = 64;

/// Levels of arrays and objects in a schema's JSON.
pub(super) const JSON_DEPTH: usize = 256;

/// Properties in all objects of a schema together: what compiling takes grows with their square.
pub(super) const PROPERTIES: usize = 1024;

/// Patterns of `patternProperties` in one object: each pair is compared.
pub(super) const PATTERN_PROPERTIES: usize = 32;

/// Bytes of one value of `enum`, or of one name.
pub(super) const LONGEST_TEXT: usize = 8 << 10;

/// Bytes of all names, values and patterns of a schema.
pub(super) const TEXT: usize = 128 << 10;

/// Values in all `enum`s of a schema.
pub(super) const VALUES: usize = 20_000;

/// Bytes of a regular expression.
pub(super) const REGEX: usize = 4 << 10;

/// The least length of what a regular expression matches: forced text is written out at once.
pub(super) const REGEX_LEAST: usize = 16 << 10;

/// Patterns and formats of a schema, each weighed by what it takes.
pub(super) const WEIGHT: usize = 1_024;

/// Patterns, formats and lengths that one string must satisfy at once: each multiplies the work.
pub(super) const INTERSECTED: usize = 6;

/// The largest `multipleOf`, its decimal point left out: remainders are states.
pub(super) const MULTIPLE: u32 = 10_000;

/// The sum of the different multiples of a grammar, its tools' together: ten microseconds and a kilobyte for each remainder.
pub(super) const MULTIPLES: u64 = 20_000;

/// Digits behind the decimal point of a `multipleOf`: more overflow the compiler's numbers.
pub(super) const MULTIPLE_SCALE: u32 = 8;

/// The least length that a text, a list or a repetition may ask for.
pub(super) const LEAST: u64 = 65_536;

/// Ways to choose options of nested `anyOf`, `oneOf` and `allOf` that are weighed.
pub(super) const CHOICES: usize = 2_048;

/// Bytes of a Lark grammar: a request's tools make one.
pub(super) const LARK: usize = 2 << 20;

/// Rules and terminals of a Lark grammar.
pub(super) const RULES: usize = 4_096;

/// Grammars inside a Lark grammar (`%json`, `%lark`).
pub(super) const NESTED: usize = 1_024;

/// Of those, such as have rules with attributes, or white space of their own: the compiler counts classes of these in 8 bits.
pub(super) const CLASSES: usize = 100;

/// The largest count of a repetition in a Lark grammar.
pub(super) const REPEAT: u64 = 10_000;

/// Least counts of repetitions inside each other, multiplied.
pub(super) const REPEATED: u64 = 65_536;

/// The compiler's own bounds: half a second of work and 64 MB at worst, on a slow machine.
pub(super) fn set(limits: &mut ParserLimits) {
    // The state would be the user's text, and errors may be logged.
    limits.verbose_errors = false;
    // An object of a thousand optional properties has four items for each.
    limits.max_items_in_row = 5_000;
    limits.initial_lexer_fuel = 500_000;
    limits.step_lexer_fuel = 200_000;
    limits.step_max_items = 50_000;
    // 1 to 2 kB each.
    limits.max_lexer_states = 32_000;
    // More than 65,000 panic.
    limits.max_grammar_size = 30_000;
}

/// Checks a regular expression, as `pattern` of a schema has it.
///
/// # Errors
/// Why it can't be used.
pub(super) fn pattern(text: &str) -> Result<(), String> {
    length(text)?;
    let anywhere = llguidance::regex_to_lark(text, "dw");
    least(&anywhere)?;
    RegexBuilder::new().mk_regex_for_serach(&anywhere).map(drop).map_err(|why| super::reason(&format!("{why:#}")))
}

/// Checks a regular expression that stands for a whole text.
///
/// # Errors
/// Why it can't be used.
pub(super) fn regex(text: &str) -> Result<(), String> {
    length(text)?;
    least(text)?;
    RegexBuilder::new().mk_regex(text).map(drop).map_err(|why| super::reason(&format!("{why:#}")))
}

/// Checks how long a text must be to match. What is no regular expression passes: the compiler says why.
pub(super) fn least(text: &str) -> Result<(), String> {
    let Ok(parsed) = regex_syntax::parse(text) else { return Ok(()) };
    match parsed.properties().minimum_len() {
        Some(least) if least > REGEX_LEAST => {
            Err(format!("what it matches has {least} bytes at least; at most {REGEX_LEAST} can be held to"))
        }
        _ => Ok(()),
    }
}

fn length(text: &str) -> Result<(), String> {
    match text.len() > REGEX {
        true => Err(format!("a regular expression of {} bytes; at most {REGEX} can be held to, shorten it", text.len())),
        false => Ok(()),
    }
}
