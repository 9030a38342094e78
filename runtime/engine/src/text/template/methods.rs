//! Python's methods of strings, lists and dictionaries. Those that change a list or a dictionary are not there, as in transformers'
//! sandbox.

use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State, filters};
use minijinja_contrib::pycompat;

use super::budget::{Budget, ENTRY};
use super::filters::{join, replace, words};
use super::format::{MAX_FIELD, braces};
use super::python::{bind, integer, is_float, printable, refused, text, truth};

/// Names that a dictionary's attributes have before its entries: `d.items` is the method though `d` has an entry `items`.
pub(super) const OF_DICTIONARIES: [&str; 6] = ["copy", "get", "items", "keys", "update", "values"];

/// A method that is not called yet.
#[derive(Debug)]
pub(super) struct Method {
    budget: Arc<Budget>,
    value: Value,
    name: &'static str,
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        call(&self.budget, state, &self.value, self.name, args)
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<method {}>", self.name)
    }
}

/// `value.name` for a name of [`OF_DICTIONARIES`].
pub(super) fn attribute(budget: &Arc<Budget>, value: &Value, name: &str) -> Result<Value, Error> {
    let namespace = value.as_object().is_some_and(|o| o.type_name().ends_with("Namespace"));
    match OF_DICTIONARIES.into_iter().find(|n| *n == name) {
        Some(name) if (value.kind() == ValueKind::Map && !namespace) || (name == "copy" && value.kind() == ValueKind::Seq) => {
            Ok(Value::from_object(Method { budget: budget.clone(), value: value.clone(), name }))
        }
        _ => value.get_attr(name),
    }
}

pub(super) fn call(budget: &Budget, state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let (ValueKind::String, Some(text)) = (value.kind(), value.as_str()) {
        return of_text(budget, state, value, text, method, args);
    }
    match (method, args) {
        ("index", [item]) if value.kind() == ValueKind::Seq => {
            let at = value.try_iter()?.position(|other| other == *item);
            at.map(Value::from).ok_or_else(|| refused("index: the list does not hold this item"))
        }
        ("copy", []) if matches!(value.kind(), ValueKind::Seq | ValueKind::Map) => Ok(value.clone()),
        ("decode", _) => match value.as_bytes().map(std::str::from_utf8) {
            Some(Ok(text)) => Ok(Value::from(text)),
            Some(Err(_)) => Err(refused("decode: these bytes are not UTF-8")),
            None => Err(Error::from(ErrorKind::UnknownMethod)),
        },
        ("get", [key] | [key, _]) if value.kind() == ValueKind::Map && !key.is_kwargs() => {
            let found = value.as_object().and_then(|object| object.get_value(key));
            Ok(found.or(args.get(1).cloned()).unwrap_or_else(|| Value::from(())))
        }
        // What bytes are asked about their letters has the answer of the text.
        (method, []) if method.starts_with("is") && value.as_bytes().is_some_and(<[u8]>::is_ascii) => {
            let text = value.as_str().unwrap_or_default().to_owned();
            of_text(budget, state, value, &text, method, args)
        }
        ("bit_length", []) if value.kind() == ValueKind::Bool => Ok(Value::from(i64::from(value.is_true()))),
        ("bit_length", []) if value.is_integer() => {
            Ok(Value::from(i128::try_from(value.clone()).map_or(0, |n| 128 - n.unsigned_abs().leading_zeros())))
        }
        ("is_integer", []) if is_float(value) => Ok(Value::from(f64::try_from(value.clone())?.fract() == 0.0)),
        ("append" | "clear" | "extend" | "insert" | "pop" | "remove" | "reverse" | "sort" | "popitem" | "setdefault" | "update", _)
            if matches!(value.kind(), ValueKind::Seq | ValueKind::Map) =>
        {
            Err(refused(format!("`{method}` would change a {}, and templates may not", value.kind())))
        }
        _ => pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// The part of `text` between two places counted in characters, and what is before it in characters. `None` if the first is past the end.
fn part<'a>(what: &str, text: &'a str, start: &Option<Value>, end: &Option<Value>) -> Result<Option<(&'a str, usize)>, Error> {
    let none = |v: &Option<Value>| v.as_ref().is_none_or(Value::is_none);
    if none(start) && none(end) {
        return Ok(Some((text, 0)));
    }
    let len = text.chars().count() as i64;
    let place = |bound: &Option<Value>, default: i64| -> Result<i64, Error> {
        let at = if none(bound) { default } else { integer(what, bound, default)? };
        Ok(if at < 0 { (at.saturating_add(len)).max(0) } else { at })
    };
    let (start, end) = (place(start, 0)?, place(end, len)?.min(len));
    if start > end {
        return Ok(None);
    }
    let byte = |at: i64| text.char_indices().nth(at as usize).map_or(text.len(), |(byte, _)| byte);
    Ok(Some((&text[byte(start)..byte(end)], start as usize)))
}

/// One string, or a tuple of them.
fn any_of(what: &str, value: Option<Value>, holds: impl Fn(&str) -> bool) -> Result<bool, Error> {
    let value = value.ok_or_else(|| refused(format!("{what} needs a string")))?;
    if let Some(text) = value.as_str() {
        return Ok(holds(text));
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Err(refused(format!("{what} takes a string or a tuple of strings, not a {}", value.kind())));
    }
    for item in value.try_iter()? {
        if holds(item.as_str().ok_or_else(|| refused(format!("{what}: the tuple holds a {}", item.kind())))?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn of_text(budget: &Budget, state: &mut State<'_, '_>, value: &Value, s: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    // Nothing here makes more than three times what it is given, but for what pays by itself.
    budget.spend(s.len())?;
    let needed = |what: &Option<Value>| -> Result<String, Error> {
        text(method, what)?.map(String::from).ok_or_else(|| refused(format!("{method} needs a string")))
    };
    let every = |holds: fn(char) -> bool| Ok(Value::from(!s.is_empty() && s.chars().all(holds)));
    match method {
        "replace" => {
            let [old, new, count] = bind(method, args, ["old", "new", "count"])?;
            replace(budget, s, &needed(&old)?, &needed(&new)?, integer(method, &count, -1)?).map(Value::from)
        }
        "join" => {
            let [items] = bind(method, args, ["iterable"])?;
            let items = items.ok_or_else(|| refused("join needs a list"))?;
            budget.spend_on_items(&items)?;
            let strings: Vec<Value> = items.try_iter()?.collect();
            if let Some(other) = strings.iter().find(|item| item.as_str().is_none()) {
                return Err(refused(format!("join: the list holds a {}, not only strings", other.kind())));
            }
            join(budget, s, strings.into_iter())
        }
        "format" => braces(budget, s, args).map(Value::from),
        "splitlines" => {
            let [keep] = bind(method, args, ["keepends"])?;
            budget.spend(s.len().saturating_mul(ENTRY))?;
            Ok(Value::from(lines(s, truth(&keep, false)).into_iter().map(Value::from).collect::<Vec<_>>()))
        }
        "split" | "rsplit" => {
            let [separator, limit] = bind(method, args, ["sep", "maxsplit"])?;
            budget.spend(s.len().saturating_mul(ENTRY))?;
            let separator = separator.filter(|v| !v.is_none());
            let separator = text(method, &separator)?;
            if separator == Some("") {
                return Err(refused(format!("{method}: the separator is empty")));
            }
            let most = usize::try_from(integer(method, &limit, -1)?).unwrap_or(usize::MAX);
            Ok(Value::from(split(s, separator, most, method == "rsplit").into_iter().map(Value::from).collect::<Vec<_>>()))
        }
        "partition" | "rpartition" => {
            let [separator] = bind(method, args, ["sep"])?;
            let separator = needed(&separator)?;
            if separator.is_empty() {
                return Err(refused("partition: the separator is empty"));
            }
            let found = if method == "partition" { s.split_once(&separator) } else { s.rsplit_once(&separator) };
            let parts = match found {
                Some((before, after)) => [before, separator.as_str(), after],
                None if method == "partition" => [s, "", ""],
                None => ["", "", s],
            };
            Ok(Value::from(Tuple::from(parts.map(Value::from))))
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = bind(method, args, ["affix"])?;
            let affix = needed(&affix)?;
            let rest = if method == "removeprefix" { s.strip_prefix(&affix) } else { s.strip_suffix(&affix) };
            Ok(Value::from(rest.unwrap_or(s)))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [what, start, end] = bind(method, args, ["sub", "start", "end"])?;
            let what = needed(&what)?;
            let within = part(method, s, &start, &end)?;
            if method == "count" {
                return Ok(Value::from(within.map_or(0, |(text, _)| text.matches(&what).count())));
            }
            let found = within.and_then(|(text, before)| {
                let at = if method.starts_with('r') { text.rfind(&what) } else { text.find(&what) };
                at.map(|at| before + text[..at].chars().count())
            });
            match found {
                Some(at) => Ok(Value::from(at)),
                None if method.ends_with("find") => Ok(Value::from(-1)),
                None => Err(refused(format!("{method}: the string does not hold this part"))),
            }
        }
        "startswith" | "endswith" => {
            let [what, start, end] = bind(method, args, ["affix", "start", "end"])?;
            let within = part(method, s, &start, &end)?;
            let holds = |affix: &str| {
                within.is_some_and(|(text, _)| if method == "startswith" { text.starts_with(affix) } else { text.ends_with(affix) })
            };
            any_of(method, what, holds).map(Value::from)
        }
        "strip" | "lstrip" | "rstrip" => {
            let [characters] = bind(method, args, ["chars"])?;
            let characters = characters.filter(|v| !v.is_none());
            let characters = text(method, &characters)?;
            let stripped = |c: char| characters.map_or(is_space(c), |all| all.contains(c));
            Ok(Value::from(match method {
                "strip" => s.trim_matches(stripped),
                "lstrip" => s.trim_start_matches(stripped),
                _ => s.trim_end_matches(stripped),
            }))
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            let [width, fill] = bind(method, args, ["width", "fillchar"])?;
            let width = integer(method, &width, 0)?.max(0);
            let width = usize::try_from(width).ok().filter(|w| *w <= MAX_FIELD);
            let width = width.ok_or_else(|| refused(format!("{method}: the width must be at most {MAX_FIELD}")))?;
            let fill = text(method, &fill)?.unwrap_or(if method == "zfill" { "0" } else { " " });
            let mut characters = fill.chars();
            match (characters.next(), characters.next()) {
                (Some(fill), None) => {
                    budget.spend(width.saturating_mul(fill.len_utf8()))?;
                    Ok(Value::from(padded(s, method, width, fill)))
                }
                _ => Err(refused(format!("{method}: the fill must be one character"))),
            }
        }
        "expandtabs" => {
            let [size] = bind(method, args, ["tabsize"])?;
            let size = usize::try_from(integer(method, &size, 8)?.max(0)).unwrap_or(MAX_FIELD).min(MAX_FIELD);
            budget.spend(s.matches('\t').count().saturating_mul(size))?;
            let (mut out, mut column) = (String::new(), 0_usize);
            for c in s.chars() {
                match c {
                    '\t' if size == 0 => {}
                    '\t' => {
                        let spaces = size - column % size;
                        out.extend(std::iter::repeat_n(' ', spaces));
                        column += spaces;
                    }
                    c => {
                        column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                        out.push(c);
                    }
                }
            }
            Ok(Value::from(out))
        }
        "casefold" => Ok(Value::from(s.replace('ß', "ss").to_lowercase())),
        "swapcase" => Ok(Value::from(
            s.chars()
                .flat_map(|c| if c.is_uppercase() { c.to_lowercase().collect::<Vec<_>>() } else { c.to_uppercase().collect() })
                .collect::<String>(),
        )),
        "title" => Ok(Value::from(words(s, |c| !is_cased(c)))),
        "capitalize" => Ok(Value::from(super::filters::capitalize(s))),
        "encode" => {
            let [encoding, _] = bind(method, args, ["encoding", "errors"])?;
            let encoding = text(method, &encoding)?.unwrap_or("utf-8").to_lowercase();
            match encoding.as_str() {
                "utf-8" | "utf8" => Ok(Value::from_bytes(s.as_bytes().to_vec())),
                "ascii" if s.is_ascii() => Ok(Value::from_bytes(s.as_bytes().to_vec())),
                other => Err(refused(format!("encode: `{other:.20}` can't be had; use utf-8"))),
            }
        }
        "isdigit" => every(|c| {
            c.is_ascii_digit()
                || (c.is_numeric() && !c.is_alphabetic() && matches!(c, '²' | '³' | '¹' | '⁰'..='⁹' | '₀'..='₉' | '①'..='⑨') || decimal(c))
        }),
        "isdecimal" => every(decimal),
        "isnumeric" => every(char::is_numeric),
        "isalpha" => every(|c| c.is_alphabetic() && !c.is_numeric()),
        "isalnum" => every(char::is_alphanumeric),
        "isspace" => every(is_space),
        "isascii" => Ok(Value::from(s.is_ascii())),
        "isprintable" => Ok(Value::from(s.chars().all(printable))),
        "isidentifier" => {
            let mut chars = s.chars();
            let first = chars.next().is_some_and(|c| c == '_' || c.is_alphabetic());
            Ok(Value::from(first && chars.all(|c| c == '_' || c.is_alphanumeric())))
        }
        "islower" => Ok(Value::from(s.chars().any(char::is_lowercase) && !s.chars().any(char::is_uppercase))),
        "isupper" => Ok(Value::from(s.chars().any(char::is_uppercase) && !s.chars().any(char::is_lowercase))),
        "istitle" => {
            let (mut any, mut within) = (false, false);
            for c in s.chars() {
                if (c.is_uppercase() && within) || (c.is_lowercase() && !within) {
                    return Ok(Value::from(false));
                }
                within = is_cased(c);
                any |= within;
            }
            Ok(Value::from(any))
        }
        "translate" => {
            let [table] = bind(method, args, ["table"])?;
            let table = table.ok_or_else(|| refused("translate needs a table"))?;
            let mut out = String::new();
            for c in s.chars() {
                let found = table.get_item(&Value::from(u32::from(c))).unwrap_or(Value::UNDEFINED);
                match (found.as_str(), found.as_usize()) {
                    (Some(text), _) => {
                        budget.spend(text.len())?;
                        out.push_str(text);
                    }
                    (None, Some(code)) => out.extend(u32::try_from(code).ok().and_then(char::from_u32)),
                    _ if found.is_none() => {}
                    _ => out.push(c),
                }
            }
            Ok(Value::from(out))
        }
        "upper" | "lower" => pycompat::unknown_method_callback(state, value, method, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn decimal(c: char) -> bool {
    // Digits of other scripts than these are left to nobody's template.
    c.is_ascii_digit() || matches!(c, '٠'..='٩' | '۰'..='۹' | '०'..='९' | '০'..='৯' | '０'..='９')
}

pub(super) fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase()
}

/// What `str.isspace` and `str.strip` take for white space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1C}'..='\u{1F}')
}

/// As `str.splitlines`.
pub(super) fn lines(s: &str, keep: bool) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = s;
    while let Some(at) = rest.find(['\n', '\r', '\u{B}', '\u{C}', '\u{1C}', '\u{1D}', '\u{1E}', '\u{85}', '\u{2028}', '\u{2029}']) {
        let end = at + if rest[at..].starts_with("\r\n") { 2 } else { rest[at..].chars().next().map_or(1, char::len_utf8) };
        out.push(&rest[..if keep { end } else { at }]);
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        out.push(rest);
    }
    out
}

fn split<'a>(s: &'a str, separator: Option<&str>, most: usize, from_end: bool) -> Vec<&'a str> {
    let pieces = most.saturating_add(1);
    match (separator, from_end) {
        (Some(separator), false) => s.splitn(pieces, separator).collect(),
        (Some(separator), true) => {
            let mut parts: Vec<&str> = s.rsplitn(pieces, separator).collect();
            parts.reverse();
            parts
        }
        (None, from_end) => {
            let mut parts = Vec::new();
            let mut rest = if from_end { s.trim_end_matches(is_space) } else { s.trim_start_matches(is_space) };
            while !rest.is_empty() {
                let cut = if parts.len() == most {
                    None
                } else if from_end {
                    rest.char_indices().rev().find(|(_, c)| is_space(*c)).map(|(at, c)| (at, at + c.len_utf8()))
                } else {
                    rest.char_indices().find(|(_, c)| is_space(*c)).map(|(at, c)| (at, at + c.len_utf8()))
                };
                let Some((start, end)) = cut else {
                    // The last takes all that is left, but for the white space at its own side.
                    parts.push(match (parts.len() == most, from_end) {
                        (true, true) => rest.trim_end_matches(is_space),
                        _ => rest,
                    });
                    break;
                };
                if from_end {
                    parts.push(&rest[end..]);
                    rest = rest[..start].trim_end_matches(is_space);
                } else {
                    parts.push(&rest[..start]);
                    rest = rest[end..].trim_start_matches(is_space);
                }
            }
            if from_end {
                parts.reverse();
            }
            parts
        }
    }
}

fn padded(text: &str, method: &str, width: usize, fill: char) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let fills = |n: usize| std::iter::repeat_n(fill, n).collect::<String>();
    match method {
        "ljust" => format!("{text}{}", fills(missing)),
        "rjust" => format!("{}{text}", fills(missing)),
        // The sign stays in front.
        "zfill" => match text.strip_prefix(['+', '-']) {
            Some(digits) => format!("{}{}{digits}", &text[..1], fills(missing)),
            None => format!("{}{text}", fills(missing)),
        },
        // An odd rest goes where CPython puts it.
        _ => {
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", fills(left), fills(missing - left))
        }
    }
}

/// The filter `split`, which minijinja has and Jinja lacks.
pub(super) fn split_filter(text: &str, separator: Option<Value>, limit: Option<i64>) -> Result<Value, Error> {
    let separator = match separator.filter(|v| !v.is_none() && !v.is_undefined()) {
        None => None,
        Some(value) => Some(value.to_str().ok_or_else(|| refused("split: the separator must be a string"))?),
    };
    filters::split(&Value::from(text), separator, limit)
}
