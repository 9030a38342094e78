//! Jinja's filters of numbers, and how Python reads numbers.

use minijinja::value::{Rest, Value, ValueOrKwargs};
use minijinja::{Environment, Error, filters};

use super::methods::is_space;
use super::python::{as_f64, as_i128, bind, from_i128, integer, is_float, refused, text, truth};

/// `abs`, `int`, `float`, `round`, `filesizeformat`.
pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_filter("abs", filters::abs);
    environment.add_filter("int", |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let [default, base] = bind("int", &args.into_values(), ["default", "base"])?;
        let default = default.unwrap_or_else(|| Value::from(0));
        if value.is_undefined() {
            return Err(refused("int: the value is undefined"));
        }
        let base = integer("int", &base, 10)?;
        Ok(match value.as_str() {
            Some(s) => parse_int(s, base).map(from_i128).or_else(|| parse_float(s).and_then(truncated)).unwrap_or(default),
            None if is_float(&value) => as_f64(&value).and_then(truncated).unwrap_or(default),
            None => as_i128(&value).map_or(default, from_i128),
        })
    });
    environment.add_filter("float", |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let [default] = bind("float", &args.into_values(), ["default"])?;
        if value.is_undefined() {
            return Err(refused("float: the value is undefined"));
        }
        let found = value.as_str().map_or_else(|| as_f64(&value), parse_float);
        Ok(found.map_or_else(|| default.unwrap_or_else(|| Value::from(0.0)), Value::from))
    });
    environment.add_filter("round", |value: Value, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let [precision, method] = bind("round", &args.into_values(), ["precision", "method"])?;
        let precision = integer("round", &precision, 0)?;
        let method = text("round", &method)?.unwrap_or("common");
        let number = as_f64(&value).ok_or_else(|| refused(format!("round: a {} is no number", value.kind())))?;
        if !matches!(method, "common" | "ceil" | "floor") {
            return Err(refused("round: the method is common, ceil or floor"));
        }
        if method == "common" {
            // An integer stays one, as in Python.
            if let Some(n) = as_i128(&value) {
                return Ok(from_i128(if precision >= 0 { n } else { rounded_integer(n, precision.unsigned_abs()) }));
            }
            return Ok(Value::from(rounded(number, precision)));
        }
        let factor = 10_f64.powi(precision.clamp(-400, 400) as i32);
        let scaled = number * factor;
        Ok(Value::from(if method == "ceil" { scaled.ceil() } else { scaled.floor() } / factor))
    });
    environment.add_filter("filesizeformat", |value: Value, args: Rest<ValueOrKwargs>| -> Result<String, Error> {
        let [binary] = bind("filesizeformat", &args.into_values(), ["binary"])?;
        let binary = truth(&binary, false);
        let bytes = value.as_str().map_or_else(|| as_f64(&value), parse_float);
        let bytes = bytes.ok_or_else(|| refused("filesizeformat: this is no number"))?;
        let base = if binary { 1024.0 } else { 1000.0 };
        if bytes.is_nan() {
            return Ok(format!("nan {}", if binary { "YiB" } else { "YB" }));
        }
        if bytes == 1.0 {
            return Ok("1 Byte".into());
        }
        if bytes < base {
            return Ok(format!("{} Bytes", bytes.trunc()));
        }
        let prefixes = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
        let mut unit = base;
        for (index, prefix) in prefixes.iter().enumerate() {
            unit *= base;
            if bytes < unit || index + 1 == prefixes.len() {
                let (prefix, suffix) = if binary { (prefix.to_uppercase(), "iB") } else { ((*prefix).to_string(), "B") };
                return Ok(format!("{:.1} {prefix}{suffix}", base * bytes / unit));
            }
        }
        Err(refused("filesizeformat: this is no number"))
    });
}

fn truncated(value: f64) -> Option<Value> {
    // Past the integers we have, a value would be wrong: the default is what Jinja gives for what can't be converted.
    (value.is_finite() && value.abs() < 1.7e38).then(|| from_i128(value.trunc() as i128))
}

/// As Python's `int(text, base)`.
fn parse_int(text: &str, base: i64) -> Option<i128> {
    let text = text.trim_matches(is_space);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixed = |prefix: &str| digits.get(..2).is_some_and(|p| p.eq_ignore_ascii_case(prefix)).then(|| &digits[2..]);
    let (base, digits) = match base {
        16 => (16, prefixed("0x").unwrap_or(digits)),
        8 => (8, prefixed("0o").unwrap_or(digits)),
        2 => (2, prefixed("0b").unwrap_or(digits)),
        0 => prefixed("0x").map(|d| (16, d)).or(prefixed("0o").map(|d| (8, d))).or(prefixed("0b").map(|d| (2, d))).unwrap_or((10, digits)),
        base => (u32::try_from(base).ok().filter(|b| (2..=36).contains(b))?, digits),
    };
    let plain = underscored(digits)?;
    let value = i128::from_str_radix(&plain, base).ok().filter(|_| plain.starts_with(|c: char| c.is_digit(base)))?;
    Some(if negative { -value } else { value })
}

/// Digits without the underscores that Python allows between them.
fn underscored(digits: &str) -> Option<String> {
    let wrong = digits.is_empty() || digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    (!wrong).then(|| digits.replace('_', ""))
}

/// As Python's `float(text)`.
fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    let plain = if text.contains('_') { underscored(text)? } else { text.to_string() };
    let known = plain.trim_start_matches(['+', '-']).to_ascii_lowercase();
    let number = known.starts_with(|c: char| c.is_ascii_digit() || c == '.') || matches!(known.as_str(), "inf" | "infinity" | "nan");
    plain.parse().ok().filter(|_| number)
}

fn rounded_integer(n: i128, places: u64) -> i128 {
    let Some(unit) = u32::try_from(places).ok().and_then(|p| 10_i128.checked_pow(p)) else { return 0 };
    let (floor, rest) = (n.div_euclid(unit), n.rem_euclid(unit));
    let up = match (rest * 2).cmp(&unit) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Greater => 1,
        // Halves go to the even.
        std::cmp::Ordering::Equal => floor.rem_euclid(2),
    };
    (floor + up) * unit
}

fn rounded(value: f64, precision: i64) -> f64 {
    if !value.is_finite() || precision > 300 {
        return value;
    }
    if precision >= 0 {
        // Rust prints the exact value's nearest decimal, halves to the even, which is what Python rounds to.
        return format!("{value:.*}", precision as usize).parse().unwrap_or(value);
    }
    let unit = 10_f64.powi(i32::try_from(-precision).unwrap_or(i32::MAX));
    if unit.is_finite() { (value / unit).round_ties_even() * unit } else { 0.0 * value }
}
