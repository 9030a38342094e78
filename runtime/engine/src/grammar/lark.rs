//! Lark grammars made ready for the compiler: read as it reads them, bounded, and with their JSON schemas prepared.

use std::collections::HashMap;

use serde_json::Value;

use super::{limits, schema};

/// What names of rules made of schemas begin with.
const PREFIX: &str = "json_schema_";

/// A Lark grammar as the compiler takes it.
///
/// # Errors
/// What is wrong or too much.
pub(super) fn prepare(text: &str) -> Result<String, String> {
    if text.len() > limits::LARK {
        return Err(format!("it has {} bytes; at most {} can be compiled", text.len(), limits::LARK));
    }
    // Rules of our own go beside those of the text: their names must be free, and nothing may hold for all of them.
    let lowers =
        !["%lark", "%ignore", "%llguidance", "max_tokens", "temperature", "capture", PREFIX].iter().any(|word| text.contains(word));
    let mut reader = Reader { text, lowers, made: String::with_capacity(text.len()), ..Reader::default() };
    reader.read()?;
    reader.judge()?;
    Ok(format!("{}\n{}", reader.made, reader.appended))
}

#[derive(Default)]
struct Reader<'a> {
    text: &'a str,
    at: usize,
    made: String,
    /// Whether schemas become rules, and those.
    lowers: bool,
    appended: String,
    /// What each definition names, in order; those of one name together.
    bodies: HashMap<&'a str, Vec<&'a str>>,
    /// The least counts of its repetitions, multiplied.
    repeated: HashMap<&'a str, u64>,
    current: Option<&'a str>,
    nested: usize,
    classes: usize,
    intersections: usize,
    /// By its schemas.
    spent: schema::Spent,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn copy(&mut self, bytes: usize) {
        self.made.push_str(self.text.get(self.at..self.at + bytes).unwrap_or_default());
        self.at += bytes;
    }

    fn place(&self) -> String {
        let before = self.text.get(..self.at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        format!("line {line}")
    }

    fn read(&mut self) -> Result<(), String> {
        let mut begins = true;
        let mut before = ' ';
        while let Some(c) = self.rest().chars().next() {
            let rest = self.rest();
            let line = |rest: &str| rest.find('\n').unwrap_or(rest.len());
            match c {
                '\n' => {
                    begins = true;
                    self.copy(1);
                    continue;
                }
                ' ' | '\t' | '\r' => {
                    self.copy(1);
                    continue;
                }
                '#' => {
                    self.copy(line(rest));
                    continue;
                }
                '/' if rest.starts_with("//") => {
                    self.copy(line(rest));
                    continue;
                }
                '"' => self.quoted('"')?,
                '/' => {
                    let from = self.at;
                    self.quoted('/')?;
                    let length = self.at - from;
                    if length > limits::REGEX {
                        return Err(format!(
                            "{}: a regular expression of {length} bytes; at most {} can be held to",
                            self.place(),
                            limits::REGEX
                        ));
                    }
                }
                '%' => self.directive()?,
                '<' => self.copy(rest.find('>').map_or(1, |at| at + 1)),
                '&' => {
                    self.intersections += 1;
                    self.copy(1);
                }
                '0'..='9' => {
                    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                    let counts = matches!(before, '{' | ',' | '~' | '.');
                    let number = rest.get(..digits).and_then(|digits| digits.parse::<u64>().ok());
                    if counts && number.is_none_or(|number| number > limits::REPEAT) {
                        return Err(format!("{}: at most {} repetitions can be held to", self.place(), limits::REPEAT));
                    }
                    if matches!(before, '{' | '~')
                        && let Some(product) = self.current.and_then(|current| self.repeated.get_mut(current))
                    {
                        *product = product.saturating_mul(number.unwrap_or(1).max(1));
                    }
                    self.copy(digits);
                }
                c if c.is_ascii_alphabetic()
                    || matches!(c, '_' | '!' | '?') && rest.chars().nth(1).is_some_and(|c| c.is_ascii_alphabetic() || c == '_') =>
                {
                    let end = rest.get(1..).and_then(|rest| rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))));
                    let name = rest.get(..end.map_or(rest.len(), |end| end + 1)).unwrap_or_default();
                    self.name(name.trim_start_matches(['!', '?']), begins)?;
                    self.copy(name.len());
                }
                _ => self.copy(c.len_utf8()),
            }
            begins = false;
            before = c;
        }
        Ok(())
    }

    fn name(&mut self, name: &'a str, begins: bool) -> Result<(), String> {
        if begins {
            self.bodies.entry(name).or_default();
            self.repeated.entry(name).or_insert(1);
            self.current = Some(name);
            if self.bodies.len() > limits::RULES {
                return Err(format!("it has more than {} rules", limits::RULES));
            }
        } else if let Some(body) = self.current.and_then(|current| self.bodies.get_mut(current)) {
            body.push(name);
        }
        if matches!(name, "max_tokens" | "temperature") {
            self.classes += 1;
        }
        Ok(())
    }

    /// A text or a regular expression up to its closing mark.
    fn quoted(&mut self, mark: char) -> Result<(), String> {
        let mut escaped = false;
        for (at, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == mark => {
                    self.copy(at + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(format!("{}: {mark} is not closed", self.place()))
    }

    fn directive(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let end = rest.get(1..).and_then(|rest| rest.find(|c: char| !c.is_ascii_alphabetic())).map_or(rest.len(), |end| end + 1);
        let word = rest.get(..end).unwrap_or_default();
        if matches!(word, "%json" | "%lark") {
            self.nested += 1;
        }
        if matches!(word, "%lark" | "%ignore") {
            self.classes += 1;
        }
        self.copy(end);
        if !matches!(word, "%json" | "%regex" | "%llguidance") {
            return Ok(());
        }
        let place = self.place();
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter::<Value>();
        let value = match values.next() {
            Some(Ok(value)) => value,
            Some(Err(why)) => return Err(format!("{place}: {word} is followed by JSON: {why}")),
            None => return Err(format!("{place}: {word} is followed by JSON")),
        };
        let length = values.byte_offset();
        if word != "%json" {
            if length > limits::LONGEST_TEXT {
                return Err(format!("{place}: {word} of {length} bytes; at most {} can be held to", limits::LONGEST_TEXT));
            }
            self.copy(length);
            return Ok(());
        }
        if value.get("x-guidance").is_some_and(|options| options.get("whitespace_pattern").is_some()) {
            self.classes += 1;
        }
        let prepared = schema::prepare_within(&value, &mut self.spent)
            .map_err(|fault| format!("{place}: the JSON schema at {}: {}", fault.place, fault.why))?;
        let lowered =
            (self.lowers && value.get("x-guidance").is_some()).then(|| schema::lower(&prepared, &format!("{PREFIX}{}_", self.nested)));
        match lowered.flatten() {
            Some((rules, start)) => {
                self.made.truncate(self.made.len() - word.len());
                self.made.push_str(&start);
                self.made.push(' ');
                self.appended.push_str(&rules);
            }
            None => {
                let plain = schema::plain(&prepared).map_err(|why| format!("{place}: {why}"))?;
                self.made.push(' ');
                self.made.push_str(&plain.to_string());
            }
        }
        self.at += length;
        Ok(())
    }

    fn judge(&self) -> Result<(), String> {
        if self.nested > limits::NESTED || self.classes > 0 && self.classes + self.nested > limits::CLASSES + 64 {
            return Err("it has too many grammars inside (%json, %lark), or rules with attributes".to_owned());
        }
        if self.intersections > limits::INTERSECTED {
            return Err(format!("it intersects (&) {} terminals; at most {} can be held to", self.intersections, limits::INTERSECTED));
        }
        // As the compiler descends: each name once, where it is met first. With each the most that is repeated inside it.
        let mut known: HashMap<&str, u64> = HashMap::new();
        let start = ["start"];
        let mut stack = vec![("", start.iter(), 1_u64)];
        while let Some((name, names, most)) = stack.last_mut() {
            let Some(next) = names.next() else {
                let all = most.saturating_mul(self.repeated.get(name).copied().unwrap_or(1));
                if all > limits::REPEATED {
                    return Err(format!("what {name:?} repeats, {all} times at least, is too much"));
                }
                known.insert(name, all);
                stack.pop();
                if let Some((.., most)) = stack.last_mut() {
                    *most = (*most).max(all);
                }
                continue;
            };
            if let Some(all) = known.get(next) {
                *most = (*most).max(*all);
            } else if let Some(body) = self.bodies.get(next) {
                known.insert(next, 1);
                stack.push((next, body.iter(), 1));
                if stack.len() > limits::DEPTH {
                    return Err(format!("more than {} rules, each inside the next (at {next:?}); shorten the chain", limits::DEPTH));
                }
            }
        }
        Ok(())
    }
}
