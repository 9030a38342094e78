//! Jinja's filters. Those that can make more than they are given pay before they do.

use std::borrow::Cow;
use std::sync::Arc;

use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, filters};

use super::budget::{Budget, ENTRY};
use super::format::{MAX_FIELD, percent};
use super::json::Layout;
use super::methods::{OF_DICTIONARIES, attribute, is_space, lines, split_filter};
use super::numbers;
use super::python::{as_f64, as_i128, bind, from_i128, integer, is_numeric, refused, text, truth};

pub(super) fn register(environment: &mut Environment<'_>, budget: &Arc<Budget>) {
    text_filters(environment, budget);
    list_filters(environment, budget);
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

/// What Jinja's `attribute=` names: a path with dots, of which numbers are indices.
fn attribute_of(value: &Value, path: &Value) -> Result<Value, Error> {
    let Some(text) = path.as_str() else { return value.get_item(path) };
    let mut found = value.clone();
    for name in text.split('.') {
        found = match name.parse::<usize>() {
            Ok(at) => found.get_item_by_index(at)?,
            Err(_) => found.get_attr(name)?,
        };
    }
    Ok(found)
}

/// Jinja's filters of lists. What they collect is paid for first, and what they make by the tree around them: it is no more.
fn list_filters(environment: &mut Environment<'_>, budget: &Arc<Budget>) {
    for name in ["length", "count"] {
        environment.add_filter(name, |value: Value| match value.is_undefined() {
            true => Ok(0),
            false => filters::length(&value),
        });
    }
    for name in ["default", "d"] {
        environment.add_filter(name, |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let [default, boolean] = bind("default", &args.into_values(), ["default_value", "boolean"])?;
            let missing = value.is_undefined() || (truth(&boolean, false) && !value.is_true());
            Ok(if missing { default.unwrap_or_else(|| Value::from("")) } else { value })
        });
    }
    for name in ["first", "last"] {
        environment.add_filter(name, move |value: Value| -> Result<Value, Error> {
            if value.is_none() || is_numeric(&value) {
                return Err(refused(format!("{name}: a {} has no items", value.kind())));
            }
            let mut items = value.try_iter()?;
            Ok(if name == "first" { items.next() } else { items.last() }.unwrap_or(Value::UNDEFINED))
        });
    }
    environment.add_filter(
        "items",
        |value: Value| if value.is_undefined() { Ok(Value::from(Vec::<Value>::new())) } else { filters::items(&value) },
    );
    environment.add_filter("sum", |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let [attribute, start] = bind("sum", &args.into_values(), ["attribute", "start"])?;
        let mut total = start.unwrap_or_else(|| Value::from(0));
        for item in value.try_iter()? {
            let item = match &attribute {
                Some(path) if !path.is_none() => attribute_of(&item, path)?,
                _ => item,
            };
            if !is_numeric(&item) || !is_numeric(&total) {
                return Err(refused(format!("sum: a {} can't be added to a {}", item.kind(), total.kind())));
            }
            total = match (as_i128(&total), as_i128(&item)) {
                (Some(a), Some(b)) => from_i128(a.checked_add(b).ok_or_else(|| refused("sum: the sum is too large"))?),
                _ => Value::from(as_f64(&total).unwrap_or(f64::NAN) + as_f64(&item).unwrap_or(f64::NAN)),
            };
        }
        Ok(total)
    });
    environment.add_filter("random", |value: Value| -> Result<Value, Error> {
        // A rendering is repeatable: the first is as random as any.
        Ok(value.try_iter()?.next().unwrap_or(Value::UNDEFINED))
    });
    environment.add_filter("dictsort", |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let [case, by, reverse] = bind("dictsort", &args.into_values(), ["case_sensitive", "by", "reverse"])?;
        let by = by.unwrap_or_else(|| Value::from("key"));
        if !matches!(by.as_str(), Some("key" | "value")) {
            return Err(refused("dictsort: `by` is \"key\" or \"value\""));
        }
        let options = [("case_sensitive", truth(&case, false).into()), ("by", by), ("reverse", Value::from(truth(&reverse, false)))];
        filters::dictsort(&value, options.into_iter().collect::<Kwargs>())
    });
    let paying = budget.clone();
    environment.add_filter("unique", move |state: &mut State, value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        paying.spend_on_items(&value)?;
        let [case, attribute] = bind("unique", &args.into_values(), ["case_sensitive", "attribute"])?;
        let mut options = vec![("case_sensitive", Value::from(truth(&case, false)))];
        options.extend(attribute.map(|a| ("attribute", a)));
        filters::unique(state, value, options.into_iter().collect::<Kwargs>())
    });
    let paying = budget.clone();
    environment.add_filter("sort", move |state: &mut State, value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        paying.spend_on_items(&value)?;
        let [reverse, case, attribute] = bind("sort", &args.into_values(), ["reverse", "case_sensitive", "attribute"])?;
        let items: Vec<Value> = value.try_iter()?.collect();
        if attribute.as_ref().is_none_or(Value::is_none) && items.windows(2).any(|pair| !comparable(&pair[0], &pair[1])) {
            return Err(refused("sort: the items are of kinds that have no order"));
        }
        let mut options = vec![("case_sensitive", Value::from(truth(&case, false))), ("reverse", Value::from(truth(&reverse, false)))];
        options.extend(attribute.map(|a| ("attribute", a)));
        filters::sort(state, value, options.into_iter().collect::<Kwargs>())
    });
    for (name, largest) in [("min", false), ("max", true)] {
        environment.add_filter(name, move |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let [case, attribute] = bind(name, &args.into_values(), ["case_sensitive", "attribute"])?;
            let mut best: Option<(Value, Value)> = None;
            for item in value.try_iter()? {
                let key = match &attribute {
                    Some(path) if !path.is_none() => attribute_of(&item, path)?,
                    _ => item.clone(),
                };
                let key = match key.as_str() {
                    Some(text) if !truth(&case, false) => Value::from(text.to_lowercase()),
                    _ => key,
                };
                best = match best {
                    Some((known, _)) if !comparable(&known, &key) => return Err(refused(format!("{name}: the items have no order"))),
                    Some(known) if if largest { key <= known.0 } else { key >= known.0 } => Some(known),
                    _ => Some((key, item)),
                };
            }
            Ok(best.map_or(Value::UNDEFINED, |(_, item)| item))
        });
    }
    environment.add_filter("reverse", |value: Value| match value.is_none() || is_numeric(&value) {
        true => Err(refused(format!("reverse: a {} has no items", value.kind()))),
        false => filters::reverse(&value),
    });
    let paying = budget.clone();
    environment.add_filter("attr", move |value: Value, name: Value| -> Result<Value, Error> {
        // As Jinja: attributes, and a dictionary's entries are none.
        Ok(match value.kind() {
            ValueKind::Map if value.as_object().is_some_and(|o| !o.type_name().ends_with("Namespace")) => match name.as_str() {
                Some(name) if OF_DICTIONARIES.contains(&name) => attribute(&paying, &value, name)?,
                _ => Value::UNDEFINED,
            },
            _ => name.as_str().and_then(|name| value.get_attr(name).ok()).unwrap_or(Value::UNDEFINED),
        })
    });
    let paying = budget.clone();
    environment.add_filter("list", move |state: &mut State, value: Value| {
        paying.spend_on_items(&value)?;
        filters::list(state, value)
    });
    environment.add_filter("bool", filters::bool);
    for (name, kept) in [("select", true), ("reject", false)] {
        let paying = budget.clone();
        environment.add_filter(name, move |state: &mut State, value: Value, test: Option<String>, args: Rest<ValueOrKwargs>| {
            paying.spend_on_items(&value)?;
            let test = test.map(Cow::Owned);
            if kept { filters::select(state, value, test, args) } else { filters::reject(state, value, test, args) }
        });
    }
    for (name, kept) in [("selectattr", true), ("rejectattr", false)] {
        let paying = budget.clone();
        environment.add_filter(
            name,
            move |state: &mut State, value: Value, attribute: String, test: Option<String>, args: Rest<ValueOrKwargs>| {
                paying.spend_on_items(&value)?;
                let (attribute, test) = (Cow::Owned(attribute), test.map(Cow::Owned));
                match kept {
                    true => filters::selectattr(state, value, attribute, test, args),
                    false => filters::rejectattr(state, value, attribute, test, args),
                }
            },
        );
    }
    let paying = budget.clone();
    environment.add_filter("map", move |state: &mut State, value: Value, args: Rest<ValueOrKwargs>| {
        paying.spend_on_items(&value)?;
        filters::map(state, value, args)
    });
    let paying = budget.clone();
    environment.add_filter("groupby", move |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        paying.spend_on_items(&value)?;
        let [path, default, case] = bind("groupby", &args.into_values(), ["attribute", "default", "case_sensitive"])?;
        let path = path.ok_or_else(|| refused("groupby needs an attribute"))?;
        let mut items = Vec::new();
        for item in value.try_iter()? {
            let grouper = attribute_of(&item, &path)?;
            let grouper = match &default {
                Some(default) if grouper.is_undefined() => default.clone(),
                _ => grouper,
            };
            let key = match grouper.as_str() {
                Some(text) if !truth(&case, false) => Value::from(text.to_lowercase()),
                _ => grouper.clone(),
            };
            items.push((key, grouper, item));
        }
        items.sort_by(|a, b| a.0.cmp(&b.0));
        let groups = items.chunk_by(|a, b| a.0 == b.0);
        let group = |some: &[(Value, Value, Value)]| {
            // The first one's spelling is the group's.
            let list = some.iter().map(|(.., item)| item.clone()).collect::<Vec<_>>();
            Value::from_object(GroupTuple { grouper: some[0].1.clone(), list: Value::from(list) })
        };
        Ok(Value::from(groups.map(group).collect::<Vec<_>>()))
    });
    type Cut = fn(&State, Value, usize, Option<Value>) -> Result<Value, Error>;
    for (name, filter) in [("batch", filters::batch as Cut), ("slice", filters::slice as Cut)] {
        let paying = budget.clone();
        environment.add_filter(name, move |state: &mut State, value: Value, count: usize, fill: Option<Value>, options: Kwargs| {
            let fill = fill.or(options.get("fill_with")?);
            options.assert_all_used()?;
            paying.spend(count.saturating_mul(ENTRY))?;
            paying.spend_on_items(&value)?;
            filter(state, value, count, fill)
        });
    }
}

/// A group: a pair whose parts have names.
#[derive(Debug)]
struct GroupTuple {
    grouper: Value,
    list: Value,
}

impl Object for GroupTuple {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match (key.as_usize(), key.as_str()) {
            (Some(0), _) | (_, Some("grouper")) => Some(self.grouper.clone()),
            (Some(1), _) | (_, Some("list")) => Some(self.list.clone()),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }
}

/// Whether Python's `<` has an answer.
pub(super) fn comparable(a: &Value, b: &Value) -> bool {
    let list = |v: &Value| matches!(v.kind(), ValueKind::Seq | ValueKind::Iterable);
    (is_numeric(a) && is_numeric(b))
        || (a.as_str().is_some() && b.as_str().is_some())
        || (list(a) && list(b) && a.is_tuple() == b.is_tuple())
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
