//! `tojson`, as Python's `json.dumps` writes it: `", "` and `": "` between, characters outside ASCII as they are.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::budget::Budget;
use super::python::{bind, float, is_float, truth};

pub(super) struct Layout {
    /// What one level is indented by; `None` writes one line.
    indent: Option<String>,
    between_items: String,
    after_key: String,
    ensure_ascii: bool,
    sort_keys: bool,
}

impl Layout {
    /// `tojson(ensure_ascii, indent, separators, sort_keys)`, as transformers has it.
    pub(super) fn new(args: &[Value]) -> Result<Layout, Error> {
        let [ensure_ascii, indent, separators, sort_keys] = bind("tojson", args, ["ensure_ascii", "indent", "separators", "sort_keys"])?;
        let (ensure_ascii, sort_keys) = (truth(&ensure_ascii, false), truth(&sort_keys, false));
        let separators = separators.filter(|v| !v.is_none());
        let indent = match indent.filter(|v| !v.is_none() && !v.is_undefined()) {
            None => None,
            Some(indent) => match (indent.as_str(), indent.as_usize()) {
                (Some(text), _) => Some(text.to_string()),
                (None, Some(width)) if width <= 64 => Some(" ".repeat(width)),
                _ => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: indent must be a string or at most 64")),
            },
        };
        let (mut between_items, mut after_key) = (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string());
        if let Some(separators) = separators {
            let pair: Vec<Value> = separators.try_iter()?.take(3).collect();
            let [items, key] = &pair[..] else {
                return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators must be two strings"));
            };
            (between_items, after_key) = (items.to_string(), key.to_string());
        }
        Ok(Layout { indent, between_items, after_key, ensure_ascii, sort_keys })
    }

    pub(super) fn write(&self, value: &Value, budget: &Budget) -> Result<String, Error> {
        budget.visit(value)?;
        let mut out = String::new();
        self.value(value, 0, &mut out, budget)?;
        Ok(out)
    }

    fn value(&self, value: &Value, level: usize, out: &mut String, budget: &Budget) -> Result<(), Error> {
        let before = out.len();
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
            ValueKind::Number => out.push_str(&number(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                return self
                    .entries(value.try_iter()?, ['[', ']'], level, out, budget, |item, out| self.value(&item, level + 1, out, budget));
            }
            ValueKind::Map => {
                let object = value.as_object();
                let mut pairs: Vec<(Value, Value)> = object.and_then(|o| o.try_iter_pairs()).into_iter().flatten().collect();
                if self.sort_keys {
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                }
                return self.entries(pairs.into_iter(), ['{', '}'], level, out, budget, |(key, value), out| {
                    match key.as_str() {
                        Some(key) => self.string(key, out),
                        None if key.is_none() => out.push_str("\"null\""),
                        None if key.kind() == ValueKind::Bool => out.push_str(if key.is_true() { "\"true\"" } else { "\"false\"" }),
                        None if is_float(&key) => self.string(&number(f64::try_from(key)?), out),
                        None if key.is_integer() => self.string(&key.to_string(), out),
                        None => return Err(Error::new(ErrorKind::BadSerialization, "a key must be a string or a number")),
                    }
                    out.push_str(&self.after_key);
                    self.value(&value, level + 1, out, budget)
                });
            }
            kind => return Err(Error::new(ErrorKind::BadSerialization, format!("{kind} is not JSON serializable"))),
        }
        budget.spend(out.len() - before)
    }

    fn entries<T>(
        &self,
        entries: impl Iterator<Item = T>,
        [open, close]: [char; 2],
        level: usize,
        out: &mut String,
        budget: &Budget,
        mut write: impl FnMut(T, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |level: usize, out: &mut String| -> Result<(), Error> {
            let Some(indent) = &self.indent else { return Ok(()) };
            budget.spend(1 + level * indent.len())?;
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), level));
            Ok(())
        };
        out.push(open);
        let mut any = false;
        for entry in entries {
            if any {
                out.push_str(&self.between_items);
            }
            budget.spend(self.between_items.len() + self.after_key.len() + 2)?;
            line(level + 1, out)?;
            write(entry, out)?;
            any = true;
        }
        if any {
            line(level, out)?;
        }
        out.push(close);
        budget.spend(2)
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x08' => out.push_str("\\b"),
                '\x0C' => out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// As `json.dumps` writes a float.
fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        _ => float(value),
    }
}
