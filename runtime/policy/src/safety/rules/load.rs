//! From TOML to tables, and what is refused on the way.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use super::begin::Begin;
use super::context::{Context, Phrases, Sides, Tables};
use super::literals::Literals;
use super::pattern::{LONGEST, Pattern};
use super::validator::{Check, Validator};
use super::{Category, Direction, Entry, Form, Matcher, Policy, Rule, Scan, Severity, Speakers};
use crate::safety::decision::Thresholds;
use crate::safety::normalise::normalised;

/// The version of the files' form.
const FORMAT: u32 = 1;

/// Rules at most, over all files.
const RULES: usize = 4096;

/// Bytes of a piece of patterns at most.
const PIECE: usize = 16 << 10;

/// Why rules are not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The rule, category or change that is wrong; `None`: the file.
    pub id: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "rules: `{id}`: {}", self.message),
            None => write!(f, "rules: {}", self.message),
        }
    }
}

impl std::error::Error for LoadError {}

fn wrong(id: &str, message: impl Into<String>) -> LoadError {
    LoadError { id: Some(id.to_owned()), message: message.into() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    revision: String,
    #[serde(default)]
    category: Vec<CategoryEntry>,
    /// Pieces of patterns, by their names: `{name}` in a pattern of this file stands for one.
    #[serde(default)]
    pieces: BTreeMap<String, String>,
    #[serde(default)]
    history: HistoryEntry,
    #[serde(default)]
    rule: Vec<RuleEntry>,
    #[serde(default)]
    change: Vec<ChangeEntry>,
}

/// How what was said before is judged.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryEntry {
    /// Patterns: a newest turn that holds one asks for what stands elsewhere, which is judged as if it stood there.
    #[serde(default)]
    refers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CategoryEntry {
    id: String,
    about: String,
    openai: Option<String>,
    #[serde(default)]
    general_harms: bool,
    #[serde(default)]
    scores: Thresholds,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Literal,
    Regex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    id: String,
    category: String,
    about: String,
    #[serde(default)]
    input: Severity,
    #[serde(default)]
    output: Severity,
    /// Severities on input where somebody else than the user speaks.
    #[serde(default)]
    speakers: Speakers,
    kind: Kind,
    /// Texts of a literal, alternatives of a regex.
    any: Vec<String>,
    /// Of a literal: its edges are words' edges.
    #[serde(default = "yes")]
    words: bool,
    validator: Option<Validator>,
    /// Of a regex: a match that contains one of these is none.
    #[serde(default)]
    except: Vec<String>,
    /// Of a regex: a match that stands directly after one of these is none.
    #[serde(default)]
    unless_before: Vec<String>,
    /// Of a regex: a match that stands directly before one of these is none.
    #[serde(default)]
    unless_after: Vec<String>,
    /// Of a regex whose validator can leave it open: a match stands only near one of these, before or after.
    #[serde(default)]
    near: Vec<String>,
    /// Of a regex: blanks and marks may stand between the characters of a match, as Markdown and quotes put them there.
    #[serde(default)]
    spaced: bool,
    /// Of a regex: it is searched for within words too, and `any` at the beginning of a word only.
    inside: Option<Inside>,
    /// Of a regex: only what stands directly after one of these is a match.
    #[serde(default)]
    only_before: Vec<String>,
    /// Of a regex: only what stands directly before one of these is a match.
    #[serde(default)]
    only_after: Vec<String>,
    examples: Vec<String>,
    #[serde(default)]
    counter: Vec<String>,
}

fn yes() -> bool {
    true
}

/// How a match may stand within a word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inside {
    /// Alternatives, where they are not the rule's `any`.
    #[serde(default)]
    any: Vec<String>,
    /// So many bytes at its beginning leave before the rest is known, and are no part of the match.
    #[serde(default)]
    public: u8,
    /// In place of the rule's own.
    validator: Option<Validator>,
    /// Its letters are capitals in the raw text.
    #[serde(default)]
    capitals: bool,
    /// It begins with one of these in the raw text, capitals as they are here.
    #[serde(default)]
    begins: Vec<String>,
}

/// Another severity for a rule of an earlier file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeEntry {
    id: String,
    input: Option<Severity>,
    output: Option<Severity>,
}

/// What a rule searches for.
enum Search {
    Literals(Vec<String>, bool),
    Forms(Vec<Form>),
}

impl Policy {
    /// Reads rules. A later file adds to the ones before, and may change their severities.
    ///
    /// # Errors
    /// [`LoadError`] with the rule's id for what is not in the form, an id that comes twice, a category that is not there, a pattern without a
    /// greatest length or that is too large, a text that is empty, and an example that does not match or a counter-example that does.
    pub fn load<'a>(files: impl IntoIterator<Item = &'a str>) -> Result<Policy, LoadError> {
        let mut revisions = Vec::new();
        let mut categories: Vec<Category> = Vec::new();
        let mut rules: Vec<Rule> = Vec::new();
        let mut searches = Vec::new();
        let mut refers = Vec::new();
        let mut tables = Tables::default();
        for text in files {
            let file: File = toml::from_str(text).map_err(|e| LoadError { id: None, message: e.to_string() })?;
            if file.format != FORMAT {
                let message = format!("`format` is {}; this program reads {FORMAT}", file.format);
                return Err(LoadError { id: None, message });
            }
            revisions.push(file.revision);
            let pieces = Pieces::new(file.pieces)?;
            refers.extend(file.history.refers.iter().map(|pattern| pieces.fill(pattern)));
            for entry in file.category {
                if categories.iter().any(|c| c.id == entry.id) {
                    return Err(wrong(&entry.id, "the category is there twice; give it another id"));
                }
                entry.scores.check().map_err(|message| wrong(&entry.id, message))?;
                let CategoryEntry { id, about, openai, general_harms, scores } = entry;
                categories.push(Category { id, about, openai, general_harms, scores });
            }
            let mut known: BTreeMap<String, usize> = rules.iter().enumerate().map(|(at, rule)| (rule.id.clone(), at)).collect();
            for entry in file.change {
                let rule = known.get(&entry.id).and_then(|at| rules.get_mut(*at));
                let rule = rule.ok_or_else(|| wrong(&entry.id, "no earlier file has the rule that is to be changed"))?;
                rule.input = entry.input.unwrap_or(rule.input);
                rule.output = entry.output.unwrap_or(rule.output);
            }
            for mut entry in file.rule {
                if known.insert(entry.id.clone(), rules.len()).is_some() {
                    return Err(wrong(&entry.id, "the rule is there twice; give it another id, or use [[change]] for its severities"));
                }
                if rules.len() == RULES {
                    return Err(wrong(&entry.id, format!("there are more than {RULES} rules; join some")));
                }
                let category = categories.iter().position(|c| c.id == entry.category);
                let category =
                    category.ok_or_else(|| wrong(&entry.id, format!("there is no category `{}`; declare it", entry.category)))?;
                entry.fill(&pieces);
                searches.push(entry.search(&mut tables).map_err(|message| wrong(&entry.id, message))?);
                let RuleEntry { id, input, output, speakers, about, examples, counter, .. } = entry;
                if [speakers.system, speakers.tool, speakers.assistant, speakers.earlier].into_iter().flatten().any(|own| own > input) {
                    return Err(wrong(&id, "a severity in `speakers` is greater than `input`; `input` is the greatest"));
                }
                if examples.is_empty() {
                    return Err(wrong(&id, "the rule has no examples; give at least one text that it matches"));
                }
                rules.push(Rule { id, category, input, speakers, output, about, examples, counter });
            }
        }
        let matcher = |direction| Matcher::new(&rules, &searches, direction).map_err(|message| LoadError { id: None, message });
        let refers = Phrases::new(&refers).map_err(|message| LoadError { id: None, message: format!("`refers`: {message}") })?;
        let (input, output) = (matcher(Direction::Input)?, matcher(Direction::Output)?);
        let policy = Policy { input, output, refers, contexts: tables.size(), revisions, categories, rules };
        policy.check_examples()?;
        Ok(policy)
    }

    fn check_examples(&self) -> Result<(), LoadError> {
        for (index, rule) in self.rules.iter().enumerate() {
            let direction = if rule.output > Severity::Off { Direction::Output } else { Direction::Input };
            if rule.severity(direction) == Severity::Off {
                continue;
            }
            let matches = |text: &str| Scan::whole(self.matcher(direction), text).iter().any(|hit| hit.rule == index);
            if let Some(text) = rule.examples.iter().find(|text| !matches(text)) {
                return Err(wrong(
                    &rule.id,
                    format!("the rule does not match its example `{text}`, which is read as `{}`", normalised(text)),
                ));
            }
            if let Some(text) = rule.counter.iter().find(|text| matches(text)) {
                return Err(wrong(&rule.id, format!("the rule matches its counter-example `{text}`")));
            }
        }
        Ok(())
    }
}

/// Pieces of patterns, by their names in braces.
struct Pieces(Vec<(String, String)>);

impl Pieces {
    /// A piece may hold such as stand before it by name. That is bounded, like a pattern.
    fn new(pieces: BTreeMap<String, String>) -> Result<Pieces, LoadError> {
        let mut all = Pieces(Vec::new());
        for (name, piece) in pieces {
            // `\x{fd}` and `\p{greek}` are no pieces, and `a{2}` is none.
            if !name.contains('-') || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
                return Err(wrong(&name, "a piece's name is words of small letters with `-` between, such as `what-is-made`"));
            }
            let piece = all.fill(&piece);
            if piece.len() > PIECE {
                return Err(wrong(&name, format!("the piece is longer than {PIECE} bytes, with the pieces that it holds")));
            }
            all.0.push((format!("{{{name}}}"), format!("(?:{piece})")));
        }
        Ok(all)
    }

    fn fill(&self, pattern: &str) -> String {
        self.0.iter().fold(pattern.to_owned(), |pattern, (name, piece)| pattern.replace(name, piece))
    }
}

impl RuleEntry {
    /// Puts pieces where their names stand.
    fn fill(&mut self, pieces: &Pieces) {
        if matches!(self.kind, Kind::Regex) {
            let lists = [&mut self.any, &mut self.unless_before, &mut self.unless_after, &mut self.only_before, &mut self.only_after];
            lists.into_iter().flatten().for_each(|pattern| *pattern = pieces.fill(pattern));
        }
    }

    fn search(&self, tables: &mut Tables) -> Result<Search, String> {
        if self.any.is_empty() {
            return Err("`any` is empty; give what to search for".to_owned());
        }
        match self.kind {
            Kind::Literal => {
                let lists = [&self.except, &self.unless_before, &self.unless_after, &self.only_before, &self.only_after, &self.near];
                if self.validator.is_some() || self.spaced || self.inside.is_some() || lists.iter().any(|list| !list.is_empty()) {
                    return Err("a literal needs no validator and no exceptions, and is searched for as it is".to_owned());
                }
                let texts = self.any.iter().map(|text| match normalised(text).trim() {
                    "" => Err(format!("`{text}` is read as nothing; give a text that can be seen")),
                    read if read.len() > LONGEST => Err(format!("`{text}` is longer than {LONGEST} bytes")),
                    read => Ok(read.to_owned()),
                });
                Ok(Search::Literals(texts.collect::<Result<_, _>>()?, self.words))
            }
            Kind::Regex => {
                let any = |list: &[String]| list.iter().map(|pattern| format!("(?:{pattern})")).collect::<Vec<_>>().join("|");
                let RuleEntry { unless_before, unless_after, only_before, only_after, near, .. } = self;
                let context = Arc::new(Context::new(Sides { unless_before, unless_after, only_before, only_after, near }, tables)?);
                let form = |whole: &str, validator, begins: &[String], public: u8, capitals: bool| -> Result<Form, String> {
                    let check = Check::new(validator, &self.except, begins);
                    let pattern = Arc::new(Pattern::new(whole)?);
                    let form = Form { pattern, check, context: context.clone(), spaced: self.spaced, capitals, public };
                    match form.width() - form.context.width() {
                        width if width <= LONGEST => Ok(form),
                        width => Err(format!("a match with what may stand between can be {width} bytes long; bound it to {LONGEST}")),
                    }
                };
                let Some(inside) = &self.inside else {
                    return Ok(Search::Forms(vec![form(&any(&self.any), self.validator, &[], 0, false)?]));
                };
                let within = if inside.any.is_empty() { &self.any } else { &inside.any };
                let within = form(&any(within), inside.validator.or(self.validator), &inside.begins, inside.public, inside.capitals)?;
                if within.pattern.shortest <= inside.public.into() {
                    return Err("all of a match is `public`; leave something to find".to_owned());
                }
                Ok(Search::Forms(vec![form(&format!("(?:\\b|_)(?:{})", any(&self.any)), self.validator, &[], 0, false)?, within]))
            }
        }
    }
}

impl Matcher {
    fn new(rules: &[Rule], searches: &[Search], direction: Direction) -> Result<Matcher, String> {
        let severities: Vec<Severity> = rules.iter().map(|rule| rule.severity(direction)).collect();
        let (mut blocked, mut flagged, mut patterns, mut longest) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (rule, (search, severity)) in (0u16..).zip(searches.iter().zip(&severities)) {
            match (search, severity) {
                (_, Severity::Off) => {}
                (Search::Literals(texts, words), severity) => {
                    let list = if *severity == Severity::Block { &mut blocked } else { &mut flagged };
                    for text in texts {
                        longest = longest.max(text.len());
                        list.push((rule, text.clone(), *words));
                    }
                }
                (Search::Forms(forms), severity) => {
                    for form in forms {
                        longest = longest.max(form.width());
                        patterns.push(Entry { rule, blocks: *severity == Severity::Block, form: form.clone() });
                    }
                }
            }
        }
        let begin = Begin::new(&patterns);
        if !begin.is_whole() || patterns.len() > usize::from(u16::MAX) {
            return Err("the patterns begin in too many ways together; join some".to_owned());
        }
        Ok(Matcher { blocked: Literals::new(&blocked)?, flagged: Literals::new(&flagged)?, patterns, begin, longest, severities })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(rule: &str) -> String {
        let file = format!(
            "format = 1\nrevision = 'x'\n[[category]]\nid = 'c'\nabout = ''\n[[rule]]\nid = 'r'\ncategory = 'c'\nabout = ''\noutput = 'block'\n{rule}"
        );
        match Policy::load([file.as_str()]) {
            Ok(_) => panic!("not refused: {rule}"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn what_is_refused_names_the_rule_and_why() {
        for (rule, why) in [
            ("kind = 'regex'\nany = ['a+']\nexamples = ['a']", "of any length"),
            ("kind = 'regex'\nany = ['[a-z]{1,2000}']\nexamples = ['a']", "2000 bytes long"),
            ("kind = 'regex'\nany = ['a?']\nexamples = ['a']", "matches the empty text"),
            ("kind = 'regex'\nany = ['^a']\nexamples = ['a']", "uses Start"),
            ("kind = 'regex'\nany = ['\\Ba']\nexamples = ['a']", "uses WordAsciiNegate"),
            ("kind = 'regex'\nany = ['(?u:\\b)a']\nexamples = ['a']", "uses WordUnicode"),
            ("kind = 'regex'\nany = ['AKIA']\nexamples = ['AKIA']", "asks for `A`"),
            ("kind = 'regex'\nany = ['a(']\nexamples = ['a']", "no regular expression"),
            ("kind = 'regex'\nany = ['a.']\nexamples = ['ab']", "no regular expression"),
            ("kind = 'regex'\nany = ['(?u:[\\pL\\pN]{1,30}[\\pL\\pM]{5,100}x){1,7}']\nexamples = ['a']", "bytes long"),
            ("kind = 'regex'\nany = ['a']\nexamples = ['b']", "does not match its example `b`"),
            ("kind = 'regex'\nany = ['a']\nexamples = ['a']\ncounter = ['ba']", "matches its counter-example `ba`"),
            ("kind = 'literal'\nany = []\nexamples = ['b']", "`any` is empty"),
            ("kind = 'literal'\nany = ['\u{200b}']\nexamples = ['b']", "read as nothing"),
            ("kind = 'literal'\nany = ['b']\nexamples = []", "no examples"),
            ("kind = 'literal'\nany = ['b']\nvalidator = 'luhn'\nexamples = ['b']", "no validator"),
        ] {
            let error = refused(rule);
            assert!(error.contains("`r`") && error.contains(why), "{rule}: {error}");
        }
        assert!(refused("kind = 'glob'\nany = ['b']\nexamples = []").contains("glob"));
        assert!(refused("kind = 'literal'\nany = ['b']\nexamples = ['b']\nseverity = 1").contains("severity"));
        assert!(refused("kind = 'literal'\nany = ['b']\nexamples = ['b']\n[[rule]]\nid='r'\ncategory='c'\nabout=''\nkind='literal'\nany=['x']\nexamples=['x']").contains("twice"));
    }

    #[test]
    fn pieces_stand_for_patterns() {
        let file = |pieces: &str, rule: &str| {
            format!(
                "format = 1\nrevision = 'x'\n[pieces]\n{pieces}\n[[category]]\nid = 'c'\nabout = ''\n[[rule]]\nid = 'r'\ncategory = 'c'\nabout = ''\ninput = 'block'\nkind = 'regex'\n{rule}"
            )
        };
        let good = file(
            "a-bird = 'heron|duck'\nb-two = '{a-bird}s?'",
            "any = ['x {b-two}']\nonly_after = ['\\z', ' {a-bird}']\nexamples = ['x herons', 'x duck duck']\ncounter = ['x ducks now']",
        );
        Policy::load([good.as_str()]).expect("pieces");
        for (pieces, rule, why) in [
            ("bird = 'heron'", "any = ['{bird}']\nexamples = ['heron']", "with `-` between"),
            ("a-bird = 'heron'", "any = ['{b-bird}']\nexamples = ['heron']", "no regular expression"),
            ("a-bird = 'heron'", "any = ['x']\nonly_before = ['(']\nexamples = ['x']", "`only_before`"),
        ] {
            let error = Policy::load([file(pieces, rule).as_str()]).expect_err(pieces).to_string();
            assert!(error.contains(why), "{error}");
        }
        let grown = (0..26u8).map(|n| {
            format!(
                "a-{}{} = '{}'",
                char::from(b'a' + n),
                "x",
                if n == 0 { "heron".to_owned() } else { format!("{{a-{0}x}}{{a-{0}x}}", char::from(b'a' + n - 1)) }
            )
        });
        let error =
            Policy::load([file(&grown.collect::<Vec<_>>().join("\n"), "any = ['x']\nexamples = ['x']").as_str()]).expect_err("too long");
        assert!(error.to_string().contains("longer than"), "{error}");
    }

    #[test]
    fn a_later_file_adds_and_changes() {
        let first = "format = 1\nrevision = 'a'\n[[category]]\nid = 'c'\nabout = ''\n[[rule]]\nid = 'r'\ncategory = 'c'\nabout = ''\noutput = 'block'\nkind = 'literal'\nany = ['x']\nexamples = ['x']";
        let second = "format = 1\nrevision = 'b'\n[[change]]\nid = 'r'\ninput = 'flag'\noutput = 'off'";
        let policy = Policy::load([first, second]).expect("rules");
        assert_eq!(policy.revisions(), ["a", "b"]);
        assert_eq!((policy.rules()[0].input, policy.rules()[0].output), (Severity::Flag, Severity::Off));
        assert!(Policy::load([second]).expect_err("no such rule").to_string().contains("no earlier file"));
        assert!(Policy::load(["format = 2\nrevision = ''"]).expect_err("a later form").to_string().contains("reads 1"));
    }

    #[test]
    fn the_rules_that_ship_are_bounded() {
        let policy = Policy::standard().expect("rules");
        for direction in [Direction::Input, Direction::Output] {
            assert!(policy.matcher(direction).longest <= LONGEST);
        }
        assert!(policy.size() < 16 << 20, "{} bytes of tables", policy.size());
    }
}
