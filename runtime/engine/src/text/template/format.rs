//! `'%5.2f' % x` and `'{:>5}'.format(x)`, as Python has them. Every field pays for its width before it is made.

use minijinja::Error;
use minijinja::value::{Kwargs, Value, ValueKind};

use super::budget::Budget;
use super::python::{as_f64, as_i128, exponent, float, is_float, is_numeric, refused, write_repr, write_str};

/// The widest field that a format may ask for, and the most digits behind a point.
pub(super) const MAX_FIELD: usize = 4096;

/// What one field asks for.
#[derive(Clone, Copy)]
struct Field {
    fill: char,
    /// `<`, `>`, `^` or `=`; `None` is the type's own.
    align: Option<char>,
    /// `+`, `-` or ` `.
    sign: char,
    alternate: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

const PLAIN: Field = Field { fill: ' ', align: None, sign: '-', alternate: false, width: 0, grouping: None, precision: None, kind: None };

fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, Error> {
    let mut value = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        let n = value.unwrap_or(0) * 10 + digit as usize;
        if n > MAX_FIELD {
            return Err(refused(format!("format: a field may be at most {MAX_FIELD} wide")));
        }
        value = Some(n);
    }
    Ok(value)
}

fn printed(budget: &Budget, value: &Value, repr: bool) -> Result<String, Error> {
    let mut out = String::new();
    budget.visit(value)?;
    if repr {
        write_repr(budget, value, &mut out)?
    } else {
        write_str(budget, value, &mut out)?
    }
    Ok(out)
}

/// `format % args`.
pub(super) fn percent(budget: &Budget, format: &str, args: &[Value], mapping: Option<&Value>) -> Result<String, Error> {
    let mut out = String::new();
    let mut given = args.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut keyed = None;
        if chars.peek() == Some(&'(') {
            let name: String = chars.by_ref().skip(1).take_while(|c| *c != ')').collect();
            let mapping = mapping.ok_or_else(|| refused("format: a name needs a dictionary"))?;
            let value = mapping.get_item(&Value::from(name.as_str()))?;
            if value.is_undefined() {
                return Err(refused(format!("format: the dictionary has no key `{name}`")));
            }
            keyed = Some(value);
        }
        let mut field = Field { align: Some('>'), ..PLAIN };
        let mut zeros = false;
        while let Some(&flag) = chars.peek() {
            match flag {
                '-' => field.align = Some('<'),
                '0' => zeros = true,
                '+' => field.sign = '+',
                ' ' if field.sign != '+' => field.sign = ' ',
                ' ' => {}
                '#' => field.alternate = true,
                _ => break,
            }
            chars.next();
        }
        if chars.peek() == Some(&'*') {
            return Err(refused("format: a width cannot be an argument"));
        }
        field.width = number(&mut chars)?.unwrap_or(0);
        if chars.peek() == Some(&'.') {
            chars.next();
            if chars.peek() == Some(&'*') {
                return Err(refused("format: a precision cannot be an argument"));
            }
            field.precision = Some(number(&mut chars)?.unwrap_or(0));
        }
        let mut conversion = chars.next();
        while matches!(conversion, Some('h' | 'l' | 'L')) {
            conversion = chars.next();
        }
        let conversion = conversion.ok_or_else(|| refused("format: it ends within a field"))?;
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let value = match keyed {
            Some(value) => value,
            None => given.next().ok_or_else(|| refused("format: there are fewer arguments than fields"))?.clone(),
        };
        budget.spend(field.width.saturating_add(field.precision.unwrap_or(0)))?;
        let numeric = |field: &mut Field| {
            if zeros && field.align == Some('>') {
                (field.fill, field.align) = ('0', Some('='));
            }
        };
        match conversion {
            's' | 'r' | 'a' => {
                let text = printed(budget, &value, conversion != 's')?;
                out.push_str(&pad(&field, "", &cut(&text, field.precision), '<'));
            }
            'c' => {
                let c = match (value.as_str(), as_i128(&value)) {
                    (Some(text), _) if text.chars().count() == 1 => text.to_string(),
                    (None, Some(code)) => character(code)?,
                    _ => return Err(refused("format: %c takes one character or its number")),
                };
                out.push_str(&pad(&field, "", &c, '<'));
            }
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
                numeric(&mut field);
                let value = match conversion {
                    'd' | 'i' | 'u' if is_float(&value) => as_f64(&value).filter(|f| f.is_finite()).map(|f| f.trunc() as i128),
                    _ => as_i128(&value),
                };
                let value = value.ok_or_else(|| refused(format!("format: %{conversion} takes an integer")))?;
                field.kind = Some(if matches!(conversion, 'i' | 'u') { 'd' } else { conversion });
                let (sign, prefix, mut digits) = of_integer(&field, value)?;
                if let Some(least) = field.precision {
                    digits = format!("{digits:0>least$}");
                }
                out.push_str(&pad(&field, &format!("{sign}{prefix}"), &digits, '>'));
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                numeric(&mut field);
                let value = as_f64(&value).ok_or_else(|| refused(format!("format: %{conversion} takes a number")))?;
                field.kind = Some(conversion);
                let (sign, digits) = of_float(&field, value);
                out.push_str(&pad(&field, sign, &digits, '>'));
            }
            other => return Err(refused(format!("format: there is no %{other}"))),
        }
    }
    if given.next().is_some() && mapping.is_none() {
        return Err(refused("format: there are more arguments than fields"));
    }
    budget.spend(format.len())?;
    Ok(out)
}

/// `format.format(args…, name=…)`.
pub(super) fn braces(budget: &Budget, format: &str, args: &[Value]) -> Result<String, Error> {
    let (positional, named) = match args.split_last() {
        Some((last, before)) if last.is_kwargs() => (before, Some(Kwargs::try_from(last.clone())?)),
        _ => (args, None),
    };
    budget.spend(format.len())?;
    let mut out = String::new();
    let mut automatic = 0_usize;
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' | '}' if chars.peek() == Some(&c) => {
                chars.next();
                out.push(c);
            }
            '}' => return Err(refused("format: a single `}`")),
            '{' => {
                let inside: String = chars.by_ref().take_while(|c| *c != '}').collect();
                if inside.contains('{') {
                    return Err(refused("format: a field within a field"));
                }
                let (path, spec) = inside.split_once(':').unwrap_or((&inside, ""));
                let (path, conversion) = path.split_once('!').map_or((path, None), |(path, c)| (path, Some(c)));
                let head = path.find(['.', '[']).unwrap_or(path.len());
                let mut value = match &path[..head] {
                    "" => {
                        automatic += 1;
                        positional.get(automatic - 1).cloned()
                    }
                    name => match name.parse::<usize>() {
                        Ok(at) => positional.get(at).cloned(),
                        Err(_) => named.as_ref().filter(|n| n.has(name)).map(|n| n.get::<Value>(name)).transpose()?,
                    },
                }
                .ok_or_else(|| refused(format!("format: there is no argument for `{{{inside}}}`")))?;
                let mut rest = &path[head..];
                while !rest.is_empty() {
                    let (key, after) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
                        Some(found) => found,
                        // Attributes of Python's objects are closed to templates.
                        None => return Err(refused(format!("format: `{inside}` can't be reached"))),
                    };
                    let key = key.parse::<i64>().map_or_else(|_| Value::from(key), Value::from);
                    value = value.get_item(&key)?;
                    if value.is_undefined() {
                        return Err(refused(format!("format: there is nothing at `{inside}`")));
                    }
                    rest = after;
                }
                let value = match conversion {
                    None => value,
                    Some("r" | "a") => Value::from(printed(budget, &value, true)?),
                    Some("s") => Value::from(printed(budget, &value, false)?),
                    Some(other) => return Err(refused(format!("format: there is no conversion `!{other}`"))),
                };
                let text = formatted(budget, &value, spec)?;
                out.push_str(&text);
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

fn formatted(budget: &Budget, value: &Value, spec: &str) -> Result<String, Error> {
    if spec.is_empty() {
        return printed(budget, value, false);
    }
    let mut field = PLAIN;
    let start: Vec<char> = spec.chars().take(2).collect();
    let mut rest = spec;
    match start[..] {
        [fill, align @ ('<' | '>' | '^' | '=')] => {
            (field.fill, field.align) = (fill, Some(align));
            rest = &spec[fill.len_utf8() + 1..];
        }
        [align @ ('<' | '>' | '^' | '='), ..] => {
            field.align = Some(align);
            rest = &spec[1..];
        }
        _ => {}
    }
    let mut chars = rest.chars().peekable();
    if let Some(&sign @ ('+' | '-' | ' ')) = chars.peek() {
        field.sign = sign;
        chars.next();
    }
    if chars.peek() == Some(&'#') {
        field.alternate = true;
        chars.next();
    }
    if chars.peek() == Some(&'0') {
        chars.next();
        if field.align.is_none() {
            (field.fill, field.align) = ('0', Some(if is_numeric(value) { '=' } else { '<' }));
        }
    }
    field.width = number(&mut chars)?.unwrap_or(0);
    if let Some(&grouping @ (',' | '_')) = chars.peek() {
        field.grouping = Some(grouping);
        chars.next();
    }
    if chars.peek() == Some(&'.') {
        chars.next();
        field.precision = Some(number(&mut chars)?.ok_or_else(|| refused("format: a precision is missing"))?);
    }
    field.kind = chars.next();
    if chars.next().is_some() {
        return Err(refused(format!("format: `{spec}` is no format")));
    }
    budget.spend(field.width.saturating_add(field.precision.unwrap_or(0)))?;
    let wrong = || refused(format!("format: `{spec}` does not fit a {}", value.kind()));
    if let Some(text) = value.as_str() {
        if !matches!(field.kind, None | Some('s'))
            || field.align == Some('=')
            || field.sign != '-'
            || field.alternate
            || field.grouping.is_some()
        {
            return Err(wrong());
        }
        budget.spend(text.len())?;
        return Ok(pad(&field, "", &cut(text, field.precision), '<'));
    }
    match (as_i128(value), as_f64(value), field.kind) {
        (Some(n), _, None | Some('d' | 'n' | 'b' | 'o' | 'x' | 'X' | 'c')) => {
            if field.precision.is_some() {
                return Err(wrong());
            }
            if field.kind == Some('c') {
                return Ok(pad(&field, "", &character(n)?, '<'));
            }
            // `format(True, '5')` formats the integer; without a type and width it printed above.
            let (sign, prefix, digits) = of_integer(&field, n)?;
            Ok(pad(&field, &format!("{sign}{prefix}"), &digits, '>'))
        }
        (_, Some(f), None | Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'n' | '%')) => {
            let (sign, digits) = of_float(&field, f);
            Ok(pad(&field, sign, &digits, '>'))
        }
        _ => Err(wrong()),
    }
}

fn character(code: i128) -> Result<String, Error> {
    let c = u32::try_from(code).ok().and_then(char::from_u32);
    c.map(String::from).ok_or_else(|| refused("format: no character has this number"))
}

fn cut(text: &str, most: Option<usize>) -> String {
    most.map_or_else(|| text.to_string(), |most| text.chars().take(most).collect())
}

fn sign_of(field: &Field, negative: bool) -> &'static str {
    match (negative, field.sign) {
        (true, _) => "-",
        (false, '+') => "+",
        (false, ' ') => " ",
        _ => "",
    }
}

fn of_integer(field: &Field, value: i128) -> Result<(&'static str, &'static str, String), Error> {
    let magnitude = value.unsigned_abs();
    let (prefix, digits, every) = match field.kind {
        Some('x') => ("0x", format!("{magnitude:x}"), 4),
        Some('X') => ("0X", format!("{magnitude:X}"), 4),
        Some('o') => ("0o", format!("{magnitude:o}"), 4),
        Some('b') => ("0b", format!("{magnitude:b}"), 4),
        _ => ("", magnitude.to_string(), 3),
    };
    if every == 4 && field.grouping == Some(',') {
        return Err(refused("format: `,` groups decimals only"));
    }
    Ok((sign_of(field, value < 0), if field.alternate { prefix } else { "" }, grouped(field, digits, every)))
}

fn grouped(field: &Field, digits: String, every: usize) -> String {
    let Some(separator) = field.grouping else { return digits };
    let mut out = String::new();
    for (index, c) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(every) {
            out.push(separator);
        }
        out.push(c);
    }
    out
}

fn of_float(field: &Field, value: f64) -> (&'static str, String) {
    let sign = sign_of(field, value.is_sign_negative() && !value.is_nan());
    let magnitude = value.abs();
    let upper = matches!(field.kind, Some('E' | 'F' | 'G'));
    let case = |text: String| if upper { text.to_uppercase() } else { text };
    if !magnitude.is_finite() {
        return (sign, case(format!("{}{}", float(magnitude), if field.kind == Some('%') { "%" } else { "" })));
    }
    let precision = field.precision.unwrap_or(6);
    let text = match field.kind {
        Some('f' | 'F') => format!("{magnitude:.precision$}"),
        Some('%') => format!("{:.precision$}%", magnitude * 100.0),
        Some('e' | 'E') => exponent(&format!("{magnitude:.precision$e}")),
        None if field.precision.is_none() => float(magnitude),
        kind => general(magnitude, precision.max(1), kind.is_none(), field.alternate),
    };
    let text = match (field.grouping, text.find(['.', 'e', '%'])) {
        (None, _) => text,
        (_, None) => grouped(field, text, 3),
        (_, Some(at)) => format!("{}{}", grouped(field, text[..at].to_string(), 3), &text[at..]),
    };
    (sign, case(text))
}

/// C's `%g`. `pointed` keeps one digit behind the point, as a float without a type has it.
fn general(magnitude: f64, precision: usize, pointed: bool, alternate: bool) -> String {
    let rounded = format!("{magnitude:.*e}", precision - 1);
    let power: i64 = rounded.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') && !alternate {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    let most = precision as i64 - i64::from(pointed);
    if power < -4 || power >= most.max(i64::from(!pointed)) && power >= most {
        let (mantissa, power) = rounded.split_once('e').unwrap_or((&rounded, "0"));
        return exponent(&format!("{}e{power}", trimmed(mantissa)));
    }
    let text = trimmed(&format!("{magnitude:.*}", (precision as i64 - 1 - power).max(0) as usize));
    if pointed && !text.contains('.') { text + ".0" } else { text }
}

/// `before` is a sign and a prefix, which zeros follow.
fn pad(field: &Field, before: &str, text: &str, own: char) -> String {
    let missing = field.width.saturating_sub(before.chars().count() + text.chars().count());
    let fill = |n: usize| std::iter::repeat_n(field.fill, n).collect::<String>();
    match field.align.unwrap_or(own) {
        '<' => format!("{before}{text}{}", fill(missing)),
        '^' => format!("{}{before}{text}{}", fill(missing / 2), fill(missing - missing / 2)),
        '=' => format!("{before}{}{text}", fill(missing)),
        _ => format!("{}{before}{text}", fill(missing)),
    }
}

/// Arguments of `format % value`: a tuple is several, a dictionary has names.
pub(super) fn remainder(budget: &Budget, format: &str, value: &Value) -> Result<String, Error> {
    if value.is_tuple() {
        let args: Vec<Value> = value.try_iter()?.collect();
        return percent(budget, format, &args, None);
    }
    let mapping = (value.kind() == ValueKind::Map).then_some(value);
    percent(budget, format, std::slice::from_ref(value), mapping)
}
