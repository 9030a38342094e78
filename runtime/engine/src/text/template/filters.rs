//! Jinja's filters. Those that can make more than they are given pay before they do.

use std::sync::Arc;

use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error};

use super::budget::{Budget, ENTRY};
use super::format::{MAX_FIELD, percent};
use super::json::Layout;
use super::lists::{self, attribute_of};
use super::methods::{is_space, lines, split_filter};
use super::numbers;
use super::python::{bind, integer, refused, text, truth};

pub(super) fn register(environment: &mut Environment<'_>, budget: &Arc<Budget>) {
    text_filters(environment, budget);
    lists::register(environment, budget);
    numbers::register(environment);
}

/// Filters that print what they are given before they work on it.
fn text_filters(environment: &mut Environment<'_>, budget: &Arc<Budget>) {
    type OnText = fn(&str, &Budget, &[Value]) -> Result<String, Error>;
    let all: [(&'static str, OnText); 17] = [
        ("string", |s, _, _| Ok(s.to_string())),
        ("safe", |s, _, _| Ok(s.to_string())),
        ("upper", |s, _, _| Ok(s.to_uppercase())),
        ("lower", |s, _, _| Ok(s.to_lowercase())),
        // As Jinja: a word begins after white space and these.
        ("title", |s, _, _| Ok(words(s, |c| is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<')))),
        ("capitalize", |s, _, _| Ok(capitalize(s))),
        ("trim", |s, _, args| {
            let [characters] = bind("trim", args, ["chars"])?;
            let characters = characters.filter(|c| !c.is_none());
            let characters = text("trim", &characters)?;
            Ok(s.trim_matches(|c| characters.map_or(is_space(c), |all| all.contains(c))).to_string())
        }),
        ("escape", |s, budget, _| escape(s, budget)),
        ("e", |s, budget, _| escape(s, budget)),
        ("forceescape", |s, budget, _| escape(s, budget)),
        ("striptags", |s, _, _| Ok(without_tags(s))),
        ("replace", |s, budget, args| {
            let [old, new, count] = bind("replace", args, ["old", "new", "count"])?;
            let [old, new] = [old, new].map(|v| v.ok_or_else(|| refused("replace needs what to replace, and by what")));
            let count = count.filter(|c| !c.is_none());
            replace(budget, s, &budget.print(&old?)?, &budget.print(&new?)?, integer("replace", &count, -1)?)
        }),
        ("indent", |s, budget, args| {
            let [width, first, blank] = bind("indent", args, ["width", "first", "blank"])?;
            indent(budget, s, width, truth(&first, false), truth(&blank, false))
        }),
        ("format", |s, budget, args| match args.split_last() {
            Some((names, [])) if names.is_kwargs() => percent(budget, s, &[], Some(names)),
            _ => percent(budget, s, args, None),
        }),
        ("truncate", |s, _, args| {
            let [length, kill, end, leeway] = bind("truncate", args, ["length", "killwords", "end", "leeway"])?;
            let end = text("truncate", &end)?.unwrap_or("...");
            let (length, leeway) = (integer("truncate", &length, 255)?, integer("truncate", &leeway, 5)?);
            let (len, end_len) = (s.chars().count() as i64, end.chars().count() as i64);
            if length < end_len || leeway < 0 {
                return Err(refused(format!("truncate: the length must be at least {end_len} and the leeway not below 0")));
            }
            if len <= length.saturating_add(leeway) {
                return Ok(s.to_string());
            }
            let head: String = s.chars().take((length - end_len) as usize).collect();
            let head = if truth(&kill, false) { &head } else { head.rsplit_once(' ').map_or(head.as_str(), |(before, _)| before) };
            Ok(format!("{head}{end}"))
        }),
        ("center", |s, budget, args| {
            let [width] = bind("center", args, ["width"])?;
            let width = integer("center", &width, 80)?.max(0) as usize;
            if width > MAX_FIELD {
                return Err(refused(format!("center: the width must be at most {MAX_FIELD}")));
            }
            budget.spend(width)?;
            let missing = width.saturating_sub(s.chars().count());
            let left = missing / 2 + (missing & width & 1);
            Ok(format!("{}{s}{}", " ".repeat(left), " ".repeat(missing - left)))
        }),
        ("wordwrap", |s, budget, args| {
            let [width, long, string, hyphens] = bind("wordwrap", args, ["width", "break_long_words", "wrapstring", "break_on_hyphens"])?;
            let width = usize::try_from(integer("wordwrap", &width, 79)?).unwrap_or(0);
            if width == 0 {
                return Err(refused("wordwrap: the width must be above 0"));
            }
            let string = text("wordwrap", &string)?.unwrap_or("\n");
            budget.spend(s.len().saturating_mul(ENTRY + string.len()))?;
            let wrapped = |line| wrap(line, width, truth(&long, true), truth(&hyphens, true)).join(string);
            Ok(lines(s, false).into_iter().map(wrapped).collect::<Vec<_>>().join(string))
        }),
    ];
    for (name, filter) in all {
        let paying = budget.clone();
        environment.add_filter(name, move |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            filter(&paying.print(&value)?, &paying, &args.into_values()).map(Value::from)
        });
    }
    // Those that give no text, or take none.
    let paying = budget.clone();
    environment.add_filter("wordcount", move |value: Value| -> Result<usize, Error> {
        let s = paying.print(&value)?;
        Ok(s.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).count())
    });
    let paying = budget.clone();
    environment.add_filter("lines", move |value: Value| -> Result<Value, Error> {
        let s = paying.print(&value)?;
        paying.spend(s.lines().count().saturating_mul(ENTRY))?;
        Ok(s.lines().map(Value::from).collect())
    });
    let paying = budget.clone();
    environment.add_filter("split", move |value: Value, separator: Option<Value>, limit: Option<i64>| {
        let s = paying.print(&value)?;
        paying.spend(s.len().saturating_mul(ENTRY))?;
        split_filter(&s, separator, limit)
    });
    let paying = budget.clone();
    environment.add_filter("pprint", move |value: Value| -> Result<String, Error> {
        let mut out = String::new();
        // Sorted, as Python's pprint does.
        let sorted = pairs(&value).map(|mut pairs| {
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Value::from_pairs(pairs)
        });
        super::python::write_repr(&paying, &sorted.unwrap_or(value), &mut out)?;
        Ok(out)
    });
    let paying = budget.clone();
    environment.add_filter("xmlattr", move |value: Value, space: Option<bool>| -> Result<String, Error> {
        let mut out = String::new();
        for (key, value) in pairs(&value)? {
            if value.is_none() || value.is_undefined() {
                continue;
            }
            let key = paying.print(&key)?;
            if key.contains([' ', '\t', '\n', '\u{C}', '\r', '/', '>', '=']) {
                return Err(refused(format!("xmlattr: `{key:.40}` can't be the name of an attribute")));
            }
            let value = escape(&paying.print(&value)?, &paying)?;
            let between = if out.is_empty() && space == Some(false) { "" } else { " " };
            out.push_str(&format!("{between}{}=\"{value}\"", escape(&key, &paying)?));
        }
        Ok(out)
    });
    let paying = budget.clone();
    environment.add_filter("urlencode", move |value: Value| -> Result<String, Error> {
        if value.as_str().is_some() || !matches!(value.kind(), ValueKind::Map | ValueKind::Seq | ValueKind::Iterable) {
            return url_quoted(&paying.print(&value)?, "/", &paying);
        }
        let pairs = match value.kind() {
            ValueKind::Map => pairs(&value)?,
            _ => {
                value.try_iter()?.map(|pair| Ok((pair.get_item_by_index(0)?, pair.get_item_by_index(1)?))).collect::<Result<_, Error>>()?
            }
        };
        let quoted = |v: &Value| Ok::<_, Error>(url_quoted(&paying.print(v)?, "", &paying)?.replace("%20", "+"));
        let written = pairs.iter().map(|(key, value)| Ok(format!("{}={}", quoted(key)?, quoted(value)?)));
        Ok(written.collect::<Result<Vec<_>, Error>>()?.join("&"))
    });
    let paying = budget.clone();
    environment.add_filter("join", move |value: Value, args: Rest<ValueOrKwargs>| {
        let [separator, attribute] = bind("join", &args.into_values(), ["d", "attribute"])?;
        let separator = separator.map_or(Ok(String::new()), |s| paying.print(&s))?;
        let items = value.try_iter()?;
        match attribute.filter(|a| !a.is_none()) {
            Some(path) => {
                let items: Vec<Value> = items.map(|item| attribute_of(&item, &path)).collect::<Result<_, _>>()?;
                join(&paying, &separator, items.into_iter())
            }
            None => join(&paying, &separator, items),
        }
    });
    let paying = budget.clone();
    environment.add_filter("tojson", move |value: Value, args: Rest<ValueOrKwargs>| -> Result<String, Error> {
        Layout::new(&args.into_values())?.write(&value, &paying)
    });
}

fn pairs(value: &Value) -> Result<Vec<(Value, Value)>, Error> {
    let object = value.as_object().filter(|_| value.kind() == ValueKind::Map);
    let object = object.ok_or_else(|| refused(format!("a {} has no pairs", value.kind())))?;
    Ok(object.try_iter_pairs().into_iter().flatten().collect())
}

pub(super) fn join(budget: &Budget, separator: &str, items: impl Iterator<Item = Value>) -> Result<Value, Error> {
    let mut text = String::new();
    for (index, item) in items.enumerate() {
        if index > 0 {
            budget.spend(separator.len())?;
            text.push_str(separator);
        }
        text.push_str(&budget.print(&item)?);
    }
    Ok(Value::from(text))
}

pub(super) fn replace(budget: &Budget, text: &str, old: &str, new: &str, count: i64) -> Result<String, Error> {
    let all = text.matches(old).count();
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(all);
    budget.spend(text.len().saturating_add(count.saturating_mul(new.len())))?;
    Ok(text.replacen(old, new, count))
}

fn indent(budget: &Budget, text: &str, width: Option<Value>, first: bool, blank: bool) -> Result<String, Error> {
    let prefix = match &width {
        None => " ".repeat(4),
        Some(width) => match (width.as_str(), width.as_usize()) {
            (Some(prefix), _) => prefix.to_string(),
            (None, Some(width)) if width <= MAX_FIELD => " ".repeat(width),
            _ => return Err(refused(format!("indent: the width must be a string or at most {MAX_FIELD}"))),
        },
    };
    let count = text.split('\n').count();
    budget.spend(text.len().saturating_add(count.saturating_mul(prefix.len())))?;
    // Jinja breaks lines as Python does, and joins them with "\n"; one at the end stays.
    let ended = format!("{text}\n");
    let mut out = String::new();
    for (index, line) in lines(&ended, false).into_iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if (index > 0 || first) && (blank || !line.is_empty()) {
            out.push_str(&prefix);
        }
        out.push_str(line);
    }
    Ok(out)
}

fn escape(s: &str, budget: &Budget) -> Result<String, Error> {
    budget.spend(s.len().saturating_mul(6))?;
    let escaped = s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    Ok(escaped.replace('"', "&#34;").replace('\'', "&#39;"))
}

fn url_quoted(s: &str, safe: &str, budget: &Budget) -> Result<String, Error> {
    budget.spend(s.len().saturating_mul(3))?;
    let mut out = String::new();
    for byte in s.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "_.-~".contains(c) || safe.contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(out)
}

/// As `Markup.striptags`: comments and tags go, runs of white space become one space, entities become characters.
fn without_tags(s: &str) -> String {
    let mut rest = s;
    let mut out = String::new();
    for (open, close) in [("<!--", "-->"), ("<", ">")] {
        let source = if out.is_empty() { rest.to_string() } else { std::mem::take(&mut out) };
        let mut at = source.as_str();
        while let Some(start) = at.find(open) {
            let Some(end) = at[start..].find(close) else { break };
            out.push_str(&at[..start]);
            at = &at[start + end + close.len()..];
        }
        out.push_str(at);
        rest = "";
    }
    let spaced = out.split(is_space).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ");
    let named = spaced.replace("&lt;", "<").replace("&gt;", ">").replace("&#34;", "\"").replace("&quot;", "\"");
    named.replace("&#39;", "'").replace("&nbsp;", "\u{A0}").replace("&amp;", "&")
}

/// As Python's `textwrap.wrap` without expanding tabs or replacing white space.
fn wrap(line: &str, width: usize, long: bool, hyphens: bool) -> Vec<String> {
    let mut chunks: std::collections::VecDeque<String> = chunks(line, hyphens).into();
    let mut out: Vec<String> = Vec::new();
    let len = |s: &str| s.chars().count();
    while let Some(front) = chunks.front() {
        // White space at the start of a line but the first falls away.
        if front.trim_matches(is_space).is_empty() && !out.is_empty() {
            chunks.pop_front();
            continue;
        }
        let (mut current, mut used) = (Vec::new(), 0);
        while let Some(chunk) = chunks.front().filter(|chunk| used + len(chunk) <= width) {
            used += len(chunk);
            current.extend(chunks.pop_front());
        }
        if let Some(chunk) = chunks.front().filter(|chunk| len(chunk) > width).cloned() {
            if long {
                let room = (width - used).max(1);
                let mut cut = room;
                if hyphens && len(&chunk) > room {
                    let head: Vec<char> = chunk.chars().take(room).collect();
                    if let Some(at) = head.iter().rposition(|c| *c == '-').filter(|at| head[..*at].iter().any(|c| *c != '-') && *at > 0) {
                        cut = at + 1;
                    }
                }
                current.push(chunk.chars().take(cut).collect());
                chunks[0] = chunk.chars().skip(cut).collect();
            } else if current.is_empty() {
                current.extend(chunks.pop_front());
            }
        }
        if current.last().is_some_and(|last: &String| last.trim_matches(is_space).is_empty()) {
            current.pop();
        }
        if !current.is_empty() {
            out.push(current.concat());
        }
    }
    out
}

/// Words, and the white space between them; words with hyphens break after them.
fn chunks(line: &str, hyphens: bool) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let chars: Vec<char> = line.chars().collect();
    let mut start = 0;
    for at in 1..=chars.len() {
        let boundary = at == chars.len() || is_space(chars[at]) != is_space(chars[at - 1]) || {
            let letter = |i: usize| chars.get(i).is_some_and(|c| c.is_alphabetic());
            hyphens
                && chars[at - 1] == '-'
                && at >= 3
                && letter(at)
                && letter(at + 1)
                && letter(at - 2)
                && (letter(at - 3) || chars[at - 3] == '-')
        };
        if boundary {
            out.push(chars[start..at].iter().collect());
            start = at;
        }
    }
    out
}

pub(super) fn capitalize(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or(String::new(), |first| first.to_uppercase().chain(rest.flat_map(char::to_lowercase)).collect())
}

/// Words in lower case with a capital; `between` says what stands between words.
pub(super) fn words(text: &str, between: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut within = false;
    for c in text.chars() {
        if within {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        within = !between(c);
    }
    out
}
