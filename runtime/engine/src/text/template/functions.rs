//! What templates may call: Jinja's filters and tests, Python's methods, and the globals of `apply_chat_template`.
//!
//! Jinja's own filters stand where they make no more than they are given; those that can make more are written here, and pay
//! before they do.

use std::sync::Arc;

use minijinja::value::{Kwargs, Rest, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, filters, formatting, functions, tests};
use minijinja_contrib::pycompat;

use super::budget::{Budget, ENTRY};
use super::json::Layout;
use super::rewrite::{CONCATENATED, HELD, PAID, SLICED, TIMES, VISITED};
use super::time::WallTime;

/// The widest field that a format may ask for.
const MAX_FIELD: usize = 4096;

fn refused(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

pub(super) fn register(environment: &mut Environment<'_>, budget: &Arc<Budget>, now: Option<WallTime>) {
    operators(environment, budget);
    text_filters(environment, budget);
    list_filters(environment, budget);
    all_tests(environment);
    globals(environment, now);

    let paying = budget.clone();
    environment.set_formatter(move |out, _, value| Ok(out.write_str(&paying.print(value)?)?));
    let paying = budget.clone();
    environment.set_unknown_method_callback(move |state, value, method, args| methods(&paying, state, value, method, args));
}

fn operators(environment: &mut Environment<'_>, budget: &Arc<Budget>) {
    let paying = budget.clone();
    environment.add_function(PAID, move |value: Value| paying.spend_on(&value).map(|()| value));
    let paying = budget.clone();
    environment.add_function(VISITED, move |value: Value| paying.visit(&value).map(|()| value));
    let paying = budget.clone();
    environment.add_function(HELD, move |value: Value| paying.visit_for_namespace(&value).map(|()| value));
    let paying = budget.clone();
    environment.add_function(TIMES, move |left: Value, right: Value| times(&paying, &left, &right));
    let paying = budget.clone();
    environment
        .add_function(SLICED, move |value: Value, start: Value, stop: Value, step: Value| slice(&paying, &value, [&start, &stop, &step]));
    let paying = budget.clone();
    environment.add_function(CONCATENATED, move |left: Value, right: Value| {
        let mut text = paying.print(&left)?;
        text.push_str(&paying.print(&right)?);
        Ok::<_, Error>(text)
    });
}

/// Python's slices, which reach past ends and count from behind.
fn slice(budget: &Budget, value: &Value, bounds: [&Value; 3]) -> Result<Value, Error> {
    let [start, stop, step] = bounds.map(|bound| match bound.is_none() {
        true => Ok(None),
        false => i64::try_from(bound.clone()).map(Some).map_err(|_| refused("slices take integers")),
    });
    let (start, stop, step) = (start?, stop?, step?.unwrap_or(1));
    if step == 0 {
        return Err(refused("cannot slice by steps of 0"));
    }
    let indices = |len: usize| {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        // Where a bound may stand: before the first item of the walk, and behind its last.
        let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
        let place = |bound: i64| (if bound < 0 { bound.saturating_add(len) } else { bound }).clamp(low, high.max(low));
        let (first, end) = if step > 0 { (low, high) } else { (high, low) };
        let (first, end) = (start.map_or(first, place), stop.map_or(end, place));
        let within = move |at: &i64| if step > 0 { *at < end } else { *at > end };
        std::iter::successors(Some(first), move |at| at.checked_add(step)).take_while(within).filter_map(|at| usize::try_from(at).ok())
    };
    if let Some(text) = value.as_str() {
        budget.spend(text.len().saturating_mul(5))?;
        let characters: Vec<char> = text.chars().collect();
        return Ok(Value::from(indices(characters.len()).map(|at| characters[at]).collect::<String>()));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            budget.spend(items.len().saturating_mul(2 * ENTRY))?;
            Ok(Value::from(indices(items.len()).map(|at| items[at].clone()).collect::<Vec<_>>()))
        }
        kind => Err(refused(format!("a {kind} cannot be sliced"))),
    }
}

fn times(budget: &Budget, left: &Value, right: &Value) -> Result<Value, Error> {
    let repeated = |value: &Value, n: &Value| -> Result<Value, Error> {
        // A count below zero is zero, as in Python.
        let n = match (n.is_integer(), n.as_i64()) {
            (true, Some(n)) => usize::try_from(n).unwrap_or(0),
            _ => return Err(refused(format!("a {} can be multiplied with integers only", value.kind()))),
        };
        if let Some(text) = value.as_str() {
            budget.spend(text.len().saturating_mul(n))?;
            return Ok(Value::from(text.repeat(n)));
        }
        let items: Vec<Value> = value.try_iter()?.collect();
        budget.spend(items.len().saturating_mul(n).saturating_mul(ENTRY))?;
        let repeated = Value::from((0..n).flat_map(|_| items.iter().cloned()).collect::<Vec<_>>());
        budget.visit(&repeated).map(|()| repeated)
    };
    let repeats = |value: &Value| matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Iterable);
    if repeats(left) {
        return repeated(left, right);
    }
    if repeats(right) {
        return repeated(right, left);
    }
    let number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    if !number(left) || !number(right) {
        return Err(refused(format!("tried to multiply {} with {}", left.kind(), right.kind())));
    }
    match (i128::try_from(left.clone()), i128::try_from(right.clone())) {
        (Ok(a), Ok(b)) if !is_float(left) && !is_float(right) => {
            let product = a.checked_mul(b).ok_or_else(|| refused(format!("{a} * {b} is too large")))?;
            Ok(i64::try_from(product).map_or_else(|_| Value::from(product), Value::from))
        }
        _ => Ok(Value::from(f64::try_from(left.clone())? * f64::try_from(right.clone())?)),
    }
}

fn is_float(value: &Value) -> bool {
    value.is_number() && !value.is_integer()
}

/// Filters that print what they are given before they work on it.
fn text_filters(environment: &mut Environment<'_>, budget: &Arc<Budget>) {
    macro_rules! text_filter {
        ($name:expr, |$text:ident, $paying:ident $(, $arg:ident: $type:ty)*| $body:expr) => {
            let $paying = budget.clone();
            environment.add_filter($name, move |value: Value $(, $arg: $type)*| -> Result<Value, Error> {
                let $text = $paying.print(&value)?;
                $body
            });
        };
    }
    text_filter!("string", |text, paying| Ok(Value::from(text)));
    text_filter!("safe", |text, paying| Ok(Value::from(text)));
    text_filter!("upper", |text, paying| Ok(Value::from(text.to_uppercase())));
    text_filter!("lower", |text, paying| Ok(Value::from(text.to_lowercase())));
    text_filter!("title", |text, paying| Ok(Value::from(title(&text))));
    text_filter!("capitalize", |text, paying| Ok(Value::from(capitalize(&text))));
    text_filter!("trim", |text, paying, characters: Option<String>| {
        Ok(Value::from(match characters {
            Some(characters) => text.trim_matches(|c| characters.contains(c)),
            None => text.trim(),
        }))
    });
    text_filter!("lines", |text, paying| {
        paying.spend(text.lines().count().saturating_mul(ENTRY))?;
        Ok(text.lines().map(Value::from).collect())
    });
    for name in ["escape", "e"] {
        text_filter!(name, |text, paying| {
            paying.spend(text.len().saturating_mul(6))?;
            let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            Ok(Value::from(escaped.replace('"', "&#34;").replace('\'', "&#39;")))
        });
    }
    text_filter!("replace", |text, paying, old: String, new: String, count: Option<i64>, options: Kwargs| {
        let count = count.or(options.get("count")?).unwrap_or(-1);
        options.assert_all_used()?;
        replace(&paying, &text, &old, &new, count).map(Value::from)
    });
    text_filter!("indent", |text, paying, width: Option<Value>, first: Option<bool>, blank: Option<bool>, options: Kwargs| {
        let width = width.or(options.get("width")?);
        let (first, blank) = (first.or(options.get("first")?), blank.or(options.get("blank")?));
        options.assert_all_used()?;
        indent(&paying, &text, width, first.unwrap_or(false), blank.unwrap_or(false)).map(Value::from)
    });
    text_filter!("format", |text, paying, args: Rest<Value>| {
        pay_for_format(&paying, &text, &args)?;
        formatting::format(formatting::FormatStyle::Printf, &text, &args).map(Value::from)
    });
    text_filter!("split", |text, paying, separator: Option<Value>, limit: Option<i64>| {
        paying.spend(text.len().saturating_mul(ENTRY))?;
        filters::split(&Value::from(text), separator_text(separator)?, limit)
    });

    let paying = budget.clone();
    environment.add_filter("join", move |value: Value, separator: Option<Value>, options: Kwargs| {
        let attribute: Option<String> = options.get("attribute")?;
        let separator = separator.or(options.get("d")?).map_or(Ok(String::new()), |s| paying.print(&s))?;
        options.assert_all_used()?;
        let items = value.try_iter()?;
        let items: Vec<Value> = match attribute {
            Some(name) => items.map(|item| item.get_attr(&name)).collect::<Result<_, _>>()?,
            None => items.collect(),
        };
        join(&paying, &separator, items.into_iter())
    });
    let paying = budget.clone();
    environment.add_filter("tojson", move |value: Value, indent: Option<Value>, options: Kwargs| {
        Layout::new(indent, &options)?.write(&value, &paying)
    });
}

fn separator_text(separator: Option<Value>) -> Result<Option<Arc<str>>, Error> {
    match separator {
        None => Ok(None),
        Some(value) if value.is_none() || value.is_undefined() => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text.to_string().into())),
            None => Err(refused("split: the separator must be a string")),
        },
    }
}

/// Jinja's filters that make no more than they are given; what they make is paid for by the tree around them.
fn list_filters(environment: &mut Environment<'_>, budget: &Arc<Budget>) {
    environment.add_filter("length", filters::length);
    environment.add_filter("count", filters::length);
    environment.add_filter("dictsort", filters::dictsort);
    environment.add_filter("items", filters::items);
    environment.add_filter("reverse", filters::reverse);
    environment.add_filter("default", filters::default);
    environment.add_filter("d", filters::default);
    environment.add_filter("round", filters::round);
    environment.add_filter("abs", filters::abs);
    environment.add_filter("int", filters::int);
    environment.add_filter("float", filters::float);
    environment.add_filter("attr", filters::attr);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_filter("min", filters::min);
    environment.add_filter("max", filters::max);
    environment.add_filter("sort", filters::sort);
    environment.add_filter("list", filters::list);
    environment.add_filter("bool", filters::bool);
    environment.add_filter("sum", filters::sum);
    environment.add_filter("select", filters::select);
    environment.add_filter("reject", filters::reject);
    environment.add_filter("selectattr", filters::selectattr);
    environment.add_filter("rejectattr", filters::rejectattr);
    environment.add_filter("map", filters::map);
    environment.add_filter("groupby", filters::groupby);
    environment.add_filter("unique", filters::unique);
    type Cut = fn(&State, Value, usize, Option<Value>) -> Result<Value, Error>;
    for (name, filter) in [("batch", filters::batch as Cut), ("slice", filters::slice as Cut)] {
        let paying = budget.clone();
        environment.add_filter(name, move |state: &mut State, value: Value, count: usize, fill: Option<Value>, options: Kwargs| {
            let fill = fill.or(options.get("fill_with")?);
            options.assert_all_used()?;
            paying.spend(count.saturating_mul(ENTRY))?;
            filter(state, value, count, fill)
        });
    }
}

fn all_tests(environment: &mut Environment<'_>) {
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("even", tests::is_even);
    environment.add_test("divisibleby", tests::is_divisibleby);
    environment.add_test("number", tests::is_number);
    environment.add_test("integer", tests::is_integer);
    environment.add_test("float", tests::is_float);
    environment.add_test("string", tests::is_string);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("iterable", tests::is_iterable);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("true", tests::is_true);
    environment.add_test("false", tests::is_false);
    environment.add_test("lower", tests::is_lower);
    environment.add_test("upper", tests::is_upper);
    environment.add_test("sameas", tests::is_sameas);
    environment.add_test("in", tests::is_in);
    environment.add_test("filter", tests::is_filter);
    environment.add_test("test", tests::is_test);
    for (names, test) in [
        (["eq", "equalto", "=="], tests::is_eq as fn(&Value, &Value) -> bool),
        (["ne", "!=", "ne"], tests::is_ne),
        (["lt", "lessthan", "<"], tests::is_lt),
        (["le", "<=", "le"], tests::is_le),
        (["gt", "greaterthan", ">"], tests::is_gt),
        (["ge", ">=", "ge"], tests::is_ge),
    ] {
        for name in names {
            environment.add_test(name, test);
        }
    }
}

fn globals(environment: &mut Environment<'_>, now: Option<WallTime>) {
    environment.add_function("range", functions::range);
    environment.add_function("dict", functions::dict);
    environment.add_function("namespace", functions::namespace);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(refused(format!("the template raised an exception: {message}")))
    });
    environment.add_function("strftime_now", move |format: String| match now {
        Some(now) if format.len() <= MAX_FIELD => Ok(now.format(&format)),
        Some(_) => Err(refused(format!("strftime_now: the format is longer than {MAX_FIELD} bytes"))),
        None => Err(refused("the template asks for the time (strftime_now), and none was given")),
    });
}

/// Python's methods of strings, dictionaries and lists.
fn methods(budget: &Budget, state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return match (method, args) {
            ("index", [item]) if value.kind() == ValueKind::Seq => {
                let at = value.try_iter()?.position(|other| other == *item);
                at.map(Value::from).ok_or_else(|| refused("index: the list does not hold this item"))
            }
            ("copy", []) => Ok(value.clone()),
            _ => pycompat::unknown_method_callback(state, value, method, args),
        };
    };
    fn string(args: &[Value], index: usize) -> Option<&str> {
        args.get(index)?.as_str()
    }
    match (method, args.len()) {
        ("replace", 2 | 3) => {
            let (Some(old), Some(new)) = (string(args, 0), string(args, 1)) else {
                return Err(refused("replace: both arguments must be strings"));
            };
            let count = args.get(2).and_then(Value::as_i64).unwrap_or(-1);
            replace(budget, text, old, new, count).map(Value::from)
        }
        ("join", 1) => join(budget, text, args[0].try_iter()?),
        ("format", _) => {
            pay_for_format(budget, text, args)?;
            pycompat::unknown_method_callback(state, value, method, args)
        }
        ("splitlines", _) => {
            budget.spend(text.len().saturating_mul(ENTRY))?;
            pycompat::unknown_method_callback(state, value, method, args)
        }
        ("split" | "rsplit", _) => {
            budget.spend(text.len().saturating_mul(ENTRY))?;
            let (separator, limit, options): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
            let (separator, limit) = (separator.or(options.get("sep")?), limit.or(options.get("maxsplit")?));
            options.assert_all_used()?;
            let separator = separator_text(separator)?;
            if method == "split" { filters::split(value, separator, limit) } else { rsplit(text, separator.as_deref(), limit) }
        }
        ("removeprefix", 1) => Ok(Value::from(string(args, 0).and_then(|p| text.strip_prefix(p)).unwrap_or(text))),
        ("removesuffix", 1) => Ok(Value::from(string(args, 0).and_then(|s| text.strip_suffix(s)).unwrap_or(text))),
        ("partition" | "rpartition", 1) => {
            let Some(separator) = string(args, 0).filter(|s| !s.is_empty()) else {
                return Err(refused("partition: the separator is empty"));
            };
            let found = if method == "partition" { text.split_once(separator) } else { text.rsplit_once(separator) };
            let parts = match found {
                Some((before, after)) => [before, separator, after],
                None if method == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Ok(parts.into_iter().map(Value::from).collect())
        }
        ("index", 1) => match string(args, 0).and_then(|part| text.find(part)) {
            Some(at) => Ok(Value::from(text[..at].chars().count())),
            None => Err(refused("index: the string does not hold this part")),
        },
        ("casefold", 0) => Ok(Value::from(text.to_lowercase())),
        ("ljust" | "rjust" | "center" | "zfill", 1 | 2) => {
            let width = args[0].as_usize().filter(|w| *w <= MAX_FIELD);
            let width = width.ok_or_else(|| refused(format!("{method}: the width must be at most {MAX_FIELD}")))?;
            let fill = string(args, 1).and_then(|f| f.chars().next()).unwrap_or(if method == "zfill" { '0' } else { ' ' });
            Ok(Value::from(padded(text, method, width, fill)))
        }
        _ => pycompat::unknown_method_callback(state, value, method, args),
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

fn rsplit(text: &str, separator: Option<&str>, limit: Option<i64>) -> Result<Value, Error> {
    let limit = limit.and_then(|n| usize::try_from(n).ok()).map_or(usize::MAX, |n| n.saturating_add(1));
    let mut parts: Vec<Value> = match separator {
        Some("") => return Err(refused("rsplit: the separator is empty")),
        Some(separator) => text.rsplitn(limit, separator).map(Value::from).collect(),
        None if limit == usize::MAX => text.split_whitespace().rev().map(Value::from).collect(),
        None => return Err(refused("rsplit: a limit needs a separator")),
    };
    parts.reverse();
    Ok(Value::from(parts))
}

fn join(budget: &Budget, separator: &str, items: impl Iterator<Item = Value>) -> Result<Value, Error> {
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

fn replace(budget: &Budget, text: &str, old: &str, new: &str, count: i64) -> Result<String, Error> {
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
    let lines = text.split('\n').count();
    budget.spend(text.len().saturating_add(lines.saturating_mul(prefix.len())))?;
    let mut out = String::new();
    for (index, line) in text.split('\n').enumerate() {
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

/// Pays for the most that `format` can make of `args`: every field as wide as it may be, or as long as the longest argument.
fn pay_for_format(budget: &Budget, format: &str, args: &[Value]) -> Result<(), Error> {
    let mut digits = 0_usize;
    for c in format.chars() {
        digits = c.to_digit(10).map_or(0, |d| digits.saturating_mul(10).saturating_add(d as usize));
        if digits > MAX_FIELD {
            return Err(refused(format!("format: a field may be at most {MAX_FIELD} wide")));
        }
    }
    let mut longest = MAX_FIELD;
    for arg in args {
        longest = longest.max(budget.print(arg)?.len());
    }
    let fields = format.matches(['{', '%']).count();
    if format.contains("%*") || format.contains(".*") {
        return Err(refused("format: a width cannot be an argument"));
    }
    budget.spend(format.len().saturating_add(if fields > 0 { fields.saturating_mul(longest) } else { 0 }))
}

fn capitalize(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or(String::new(), |first| first.to_uppercase().chain(rest.flat_map(char::to_lowercase)).collect())
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut within = false;
    for c in text.chars() {
        if within {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        // As Jinja: a word begins behind white space and these.
        within = !(c.is_whitespace() || matches!(c, '-' | '(' | '{' | '[' | '<'));
    }
    out
}
