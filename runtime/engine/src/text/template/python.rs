//! Values as Python has them: how they print, and how arguments reach their parameters.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::budget::Budget;

pub(super) fn refused(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// The arguments of a call by the places of `names`, as Python binds them.
pub(super) fn bind<const N: usize>(what: &str, args: &[Value], names: [&str; N]) -> Result<[Option<Value>; N], Error> {
    let mut bound = [const { None }; N];
    let (positional, named) = match args.split_last() {
        Some((last, before)) if last.is_kwargs() => (before, Some(Kwargs::try_from(last.clone())?)),
        _ => (args, None),
    };
    if positional.len() > N {
        return Err(refused(format!("{what} takes at most {N} arguments, and {} were given", positional.len())));
    }
    for (place, value) in bound.iter_mut().zip(positional) {
        *place = Some(value.clone());
    }
    if let Some(named) = named {
        for (place, name) in bound.iter_mut().zip(names) {
            if named.has(name) {
                if place.is_some() {
                    return Err(refused(format!("{what} got `{name}` twice")));
                }
                *place = Some(named.get::<Value>(name)?);
            }
        }
        named.assert_all_used()?;
    }
    Ok(bound)
}

pub(super) fn truth(value: &Option<Value>, default: bool) -> bool {
    value.as_ref().map_or(default, Value::is_true)
}

pub(super) fn integer(what: &str, value: &Option<Value>, default: i64) -> Result<i64, Error> {
    match value {
        None => Ok(default),
        Some(value) if value.kind() == ValueKind::Bool => Ok(value.is_true().into()),
        Some(value) => value.as_i64().filter(|_| value.is_integer()).ok_or_else(|| refused(format!("{what} must be an integer"))),
    }
}

pub(super) fn text<'a>(what: &str, value: &'a Option<Value>) -> Result<Option<&'a str>, Error> {
    match value {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(refused(format!("{what} must be a string"))),
        },
    }
}

pub(super) fn is_float(value: &Value) -> bool {
    value.is_number() && value.kind() == ValueKind::Number && !value.is_integer()
}

/// Whether Python's `bool`, `int` or `float` would hold it.
pub(super) fn is_numeric(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

pub(super) fn as_i128(value: &Value) -> Option<i128> {
    if value.kind() == ValueKind::Bool {
        return Some(value.is_true().into());
    }
    if is_float(value) {
        return None;
    }
    i128::try_from(value.clone()).ok()
}

pub(super) fn as_f64(value: &Value) -> Option<f64> {
    as_i128(value).map(|n| n as f64).or_else(|| is_float(value).then(|| f64::try_from(value.clone()).ok()).flatten())
}

pub(super) fn from_i128(value: i128) -> Value {
    i64::try_from(value).map_or_else(|_| Value::from(value), Value::from)
}

/// As Python's `repr` writes a float.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        return exponent(&format!("{value:e}"));
    }
    format!("{value:?}")
}

/// Rust's exponents as C writes them: with a sign and at least two digits.
pub(super) fn exponent(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `value` as `str` writes it, paid for.
pub(super) fn write_str(budget: &Budget, value: &Value, out: &mut String) -> Result<(), Error> {
    match value.as_str() {
        // Bytes that are UTF-8 count as a string there, and print as bytes here.
        Some(text) if value.kind() == ValueKind::String => {
            budget.spend(text.len())?;
            out.push_str(text);
            Ok(())
        }
        _ if value.is_undefined() => Ok(()),
        _ => write_repr(budget, value, out),
    }
}

/// `value` as `repr` writes it, paid for. What holds others must have been visited.
pub(super) fn write_repr(budget: &Budget, value: &Value, out: &mut String) -> Result<(), Error> {
    let plain = |out: &mut String, text: &str| {
        out.push_str(text);
        budget.spend(text.len())
    };
    match value.kind() {
        ValueKind::Undefined => plain(out, "Undefined"),
        ValueKind::None => plain(out, "None"),
        ValueKind::Bool => plain(out, if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if is_float(value) => plain(out, &float(f64::try_from(value.clone())?)),
        ValueKind::Number => plain(out, &value.to_string()),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            budget.spend(text.len().saturating_mul(2).saturating_add(2))?;
            quoted(text, out);
            Ok(())
        }
        ValueKind::Bytes => {
            let bytes = value.as_bytes().unwrap_or_default();
            budget.spend(bytes.len().saturating_mul(4).saturating_add(3))?;
            out.push('b');
            let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
            out.push(quote);
            for &byte in bytes {
                match byte {
                    b'\n' => out.push_str("\\n"),
                    b'\r' => out.push_str("\\r"),
                    b'\t' => out.push_str("\\t"),
                    b'\\' => out.push_str("\\\\"),
                    byte if char::from(byte) == quote => out.extend(['\\', quote]),
                    0x20..0x7F => out.push(char::from(byte)),
                    byte => out.push_str(&format!("\\x{byte:02x}")),
                }
            }
            out.push(quote);
            Ok(())
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let tuple = value.is_tuple() || value.as_object().is_some_and(|o| o.type_name().ends_with("GroupTuple"));
            out.push(if tuple { '(' } else { '[' });
            let mut count = 0_usize;
            for item in value.try_iter()? {
                plain(out, if count > 0 { ", " } else { "" })?;
                write_repr(budget, &item, out)?;
                count += 1;
            }
            plain(
                out,
                match (tuple, count) {
                    (true, 1) => ",)",
                    (true, _) => ")",
                    _ => "]",
                },
            )
        }
        ValueKind::Map => {
            out.push('{');
            for (index, (key, value)) in value.as_object().and_then(|o| o.try_iter_pairs()).into_iter().flatten().enumerate() {
                plain(out, if index > 0 { ", " } else { "" })?;
                write_repr(budget, &key, out)?;
                plain(out, ": ")?;
                write_repr(budget, &value, out)?;
            }
            plain(out, "}")
        }
        _ => budget.display(value, out),
    }
}

/// Whether `repr` and `str.isprintable` take `c` as it is.
pub(super) fn printable(c: char) -> bool {
    // Spaces other than the common one, controls, and what has no glyph: surrogates, private use, formats.
    !(c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{AD}' | '\u{600}'..='\u{605}' | '\u{61C}' | '\u{6DD}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{E000}'..='\u{F8FF}' | '\u{FEFF}' | '\u{FFF0}'..='\u{FFFB}' | '\u{FFFE}'..='\u{FFFF}' | '\u{E0000}'..))
}

fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if printable(c) => out.push(c),
            c if u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push(quote);
}
