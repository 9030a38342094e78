//! Regular expressions for numbers within bounds, exactly: the compiler's own go by 64-bit floating point, and end nowhere.

use serde_json::Number;

/// Digits before the point: as many as whole numbers of 64 bits have.
const WHOLE: usize = 20;

/// Digits behind the point: what 64-bit floating point needs, from 0.0001 on; less is written with an exponent.
const FRACTION: usize = 24;

/// Digits before the point of a bound that are told apart, and zeros behind it.
const FURTHEST: i64 = 40;
const FINEST: i64 = 6;

/// The largest exponent of 64-bit floating point.
const EXPONENT: u32 = 307;

/// A decimal number that is not negative.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Decimal {
    /// Without zeros in front; empty for 0.
    whole: String,
    /// Without zeros behind.
    fraction: String,
}

/// A bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    negative: bool,
    magnitude: Decimal,
    exclusive: bool,
}

impl Bound {
    /// Of a number as it is written; `lower`: of one that is not to be gone below. One with more digits than anybody writes out is rounded to a power of
    /// ten within.
    pub(super) fn new(number: &Number, exclusive: bool, lower: bool) -> Option<Bound> {
        let text = number.to_string();
        let (negative, text) = text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
        let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent: i64 = exponent.trim_start_matches('+').parse().ok()?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = format!("{whole}{fraction}");
        let point = whole.len() as i64 + exponent;
        let nothing = all.bytes().all(|digit| digit == b'0');
        let negative = negative && !nothing;
        let away = lower != negative;
        if nothing || point < -FINEST {
            return Some(Bound {
                negative: negative && !nothing,
                magnitude: Decimal::default(),
                exclusive: if nothing { exclusive } else { away },
            });
        }
        if point > FURTHEST {
            let whole = format!("1{}", "0".repeat((point - i64::from(!away)) as usize));
            return Some(Bound { negative, magnitude: Decimal { whole, fraction: String::new() }, exclusive });
        }
        let (whole, fraction) = match usize::try_from(point) {
            Ok(point) if point >= all.len() => (format!("{all}{}", "0".repeat(point - all.len())), String::new()),
            Ok(point) => (all[..point].to_owned(), all[point..].to_owned()),
            Err(_) => (String::new(), format!("{}{all}", "0".repeat(point.unsigned_abs() as usize))),
        };
        let magnitude = Decimal { whole: whole.trim_start_matches('0').to_owned(), fraction: fraction.trim_end_matches('0').to_owned() };
        Some(Bound { negative, magnitude, exclusive })
    }

    /// From the other side of 0.
    fn mirrored(&self) -> Bound {
        Bound { negative: !self.negative && self.magnitude != Decimal::default(), ..self.clone() }
    }
}

/// A regular expression of numbers of one sign, that are not below a bound, or not above.
struct Numbers {
    integer: bool,
    /// Digits that a whole part may have.
    digits: usize,
}

/// Matches no text.
const NOTHING: &str = "[^\\x00-\\x{10FFFF}]";

/// Regular expressions that a number must match, all of them; `None`: no number does.
pub(super) fn regexes(integer: bool, least: Option<&Bound>, most: Option<&Bound>) -> Vec<String> {
    let longest = [least, most].into_iter().flatten().map(|bound| bound.magnitude.whole.len()).max().unwrap_or(0);
    let numbers = Numbers { integer, digits: longest.clamp(WHOLE, FURTHEST as usize) };
    let mut all = Vec::new();
    if let Some(least) = least {
        all.push(numbers.not_below(least, false));
    }
    if let Some(most) = most {
        // What is not above a number is, mirrored, not below the mirrored number.
        all.push(numbers.not_below(&most.mirrored(), true));
    }
    if all.is_empty() {
        all.push(format!("({}|{})", numbers.any(""), numbers.any("-")));
    }
    all
}

impl Numbers {
    fn fraction(&self) -> String {
        if self.integer { String::new() } else { format!("(\\.[0-9]{{1,{FRACTION}}})?") }
    }

    /// Whether 0 may have a sign: no whole number is written as -0.
    fn signs_zero(&self, sign: &str) -> bool {
        !self.integer || sign.is_empty()
    }

    /// Any of a sign.
    fn any(&self, sign: &str) -> String {
        let exponent = if self.integer { String::new() } else { "([eE][+-]?[0-9]{1,3})?".to_owned() };
        let zero = if self.signs_zero(sign) { "0|" } else { "" };
        format!("{sign}({zero}[1-9][0-9]{{0,{}}}){}{exponent}", self.digits - 1, self.fraction())
    }

    /// All that are not below a bound; where `mirrored`, with the other sign.
    fn not_below(&self, bound: &Bound, mirrored: bool) -> String {
        let (same, other) = if mirrored { ("-", "") } else { ("", "-") };
        if bound.negative {
            // All that have this sign, and of the others those near enough to 0.
            let near = self.at_most(&bound.magnitude, bound.exclusive, self.signs_zero(other));
            let near = near.map_or(String::new(), |near| format!("|{other}({near})"));
            return format!("({}{near}{})", self.any(same), if self.integer { "|0" } else { "" });
        }
        let far = self.at_least(&bound.magnitude, bound.exclusive, self.signs_zero(same));
        // 0 has both signs.
        let zero = bound.magnitude == Decimal::default() && !bound.exclusive;
        let fraction = if self.integer { String::new() } else { format!("(\\.0{{1,{FRACTION}}})?") };
        let zero = match zero {
            true if self.integer => "|0".to_owned(),
            true => format!("|{other}0{fraction}"),
            false => String::new(),
        };
        format!("({same}({far}){zero})")
    }

    /// `zero`: with 0 among them, if the bound has it.
    fn at_least(&self, bound: &Decimal, exclusive: bool, zero: bool) -> String {
        let Decimal { whole, fraction } = bound;
        let mut ways = Vec::new();
        // A longer whole part.
        if whole.len() < self.digits {
            let (fewest, most) = (whole.len(), self.digits - 1);
            ways.push(format!("[1-9][0-9]{{{fewest},{most}}}{}", self.fraction()));
        }
        // One as long, and larger.
        for (at, digit) in whole.char_indices().filter(|_| whole.len() <= self.digits) {
            if let Some(larger) = above(digit) {
                ways.push(format!("{}{larger}[0-9]{{{}}}{}", &whole[..at], whole.len() - at - 1, self.fraction()));
            }
        }
        // The same, and a fraction that is not below.
        let same = if whole.is_empty() { "0" } else { whole };
        if self.integer {
            if fraction.is_empty() && !exclusive && same.len() <= self.digits && (zero || !whole.is_empty()) {
                ways.push(same.to_owned());
            }
            if ways.is_empty() {
                ways.push(NOTHING.to_owned());
            }
            return ways.join("|");
        }
        let rest = FRACTION.saturating_sub(fraction.len());
        if same.len() > self.digits {
            // Only with an exponent.
        } else if fraction.is_empty() && !exclusive {
            ways.push(format!("{same}{}", self.fraction()));
        } else {
            for (at, digit) in fraction.char_indices() {
                if let Some(larger) = above(digit) {
                    ways.push(format!("{same}\\.{}{larger}[0-9]{{0,{FRACTION}}}", &fraction[..at]));
                }
            }
            let behind = if exclusive { format!("[0-9]{{0,{rest}}}[1-9][0-9]{{0,{rest}}}") } else { format!("[0-9]{{0,{rest}}}") };
            ways.push(format!("{same}\\.{fraction}{behind}"));
        }
        // By their exponents: such are 10^exponent at least.
        let exponent = exponents(whole.len() as u32, EXPONENT);
        if let Some(exponent) = exponent {
            ways.push(format!("[1-9](\\.[0-9]{{1,{FRACTION}}})?[eE]\\+?{exponent}"));
        }
        if *bound == Decimal::default() {
            ways.push(format!("[1-9](\\.[0-9]{{1,{FRACTION}}})?[eE]-[1-9][0-9]{{0,2}}"));
        }
        if ways.is_empty() {
            ways.push(NOTHING.to_owned());
        }
        ways.join("|")
    }

    /// `None`: there is none. `zero`: with 0 among them, if the bound has it.
    fn at_most(&self, bound: &Decimal, exclusive: bool, zero: bool) -> Option<String> {
        let Decimal { whole, fraction } = bound;
        let mut ways = Vec::new();
        if whole.len() > 1 {
            ways.push(format!("[1-9][0-9]{{0,{}}}{}", whole.len().min(self.digits + 1) - 2, self.fraction()));
        }
        if !whole.is_empty() && zero {
            ways.push(format!("0{}", self.fraction()));
        }
        for (at, digit) in whole.char_indices().filter(|_| whole.len() <= self.digits) {
            if let Some(smaller) = below(digit, at == 0) {
                ways.push(format!("{}{smaller}[0-9]{{{}}}{}", &whole[..at], whole.len() - at - 1, self.fraction()));
            }
        }
        let same = if whole.is_empty() { "0" } else { whole };
        match (fraction.is_empty(), exclusive) {
            (true, false) if same.len() > self.digits || (whole.is_empty() && !zero) => {}
            (true, false) => {
                let zeros = if self.integer { String::new() } else { format!("(\\.0{{1,{FRACTION}}})?") };
                ways.push(format!("{same}{zeros}"));
            }
            (true, true) => {}
            (false, _) if self.integer && whole.is_empty() && !zero => {}
            (false, _) if self.integer => ways.push(same.to_owned()),
            (false, _) => {
                ways.push(same.to_owned());
                for (at, digit) in fraction.char_indices() {
                    if let Some(smaller) = below(digit, false) {
                        ways.push(format!("{same}\\.{}{smaller}[0-9]{{0,{FRACTION}}}", &fraction[..at]));
                    }
                    if at > 0 {
                        ways.push(format!("{same}\\.{}", &fraction[..at]));
                    }
                }
                if !exclusive {
                    ways.push(format!("{same}\\.{fraction}0{{0,{FRACTION}}}"));
                }
            }
        }
        if !self.integer {
            // By their exponents: such are below 10^(exponent + 1).
            if let Some(exponent) = (whole.len() as u32).checked_sub(2).and_then(|most| exponents(1, most)) {
                ways.push(format!("[1-9](\\.[0-9]{{1,{FRACTION}}})?[eE]\\+?{exponent}"));
            }
            if !whole.is_empty() {
                ways.push(format!("[0-9](\\.[0-9]{{1,{FRACTION}}})?[eE]-[1-9][0-9]{{0,2}}"));
            }
        }
        (!ways.is_empty()).then(|| ways.join("|"))
    }
}

/// A class of the digits above one.
fn above(digit: char) -> Option<String> {
    let digit = digit.to_digit(10)?;
    (digit < 9).then(|| format!("[{}-9]", digit + 1))
}

/// A class of the digits below one; a first digit is no 0.
fn below(digit: char, first: bool) -> Option<String> {
    let (digit, least) = (digit.to_digit(10)?, u32::from(first));
    (digit > least).then(|| format!("[{least}-{}]", digit - 1))
}

/// Exponents from one to another, at most 3 digits.
fn exponents(from: u32, to: u32) -> Option<String> {
    let from = from.max(1);
    let all: Vec<String> = (from..=to.min(EXPONENT)).map(|exponent| exponent.to_string()).collect();
    (!all.is_empty()).then(|| format!("({})", all.join("|")))
}

/// A number of `enum` or `const` as it is written.
pub(super) fn literal(number: &Number) -> String {
    const MOST: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        // Whole, but written with a point.
        Some(n) if !(number.is_i64() || number.is_u64()) && n.fract() == 0.0 && n.abs() < MOST => format!("{}", n as i64),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a text is a number within bounds, by the expressions.
    fn matches(all: &[String], text: &str) -> bool {
        all.iter().all(|regex| fancy_regex::Regex::new(&format!("^(?:{regex})$")).expect("a regex").is_match(text).expect("a match"))
    }

    #[test]
    fn numbers_within_bounds_match_and_no_others() {
        let bounds = [
            "-9223372036854775808",
            "-100",
            "-12.5",
            "-1",
            "-0.25",
            "0",
            "0.5",
            "7",
            "9.99",
            "120",
            "1e21",
            "9223372036854775807",
            "3.4028234663852886e38",
        ];
        let values = [
            "-9223372036854775809",
            "-9223372036854775808",
            "-9223372036854775807",
            "-101",
            "-100",
            "-99.5",
            "-12.51",
            "-12.5",
            "-12.50",
            "-12.4",
            "-2",
            "-1",
            "-0.5",
            "-0.25",
            "-0.2",
            "0",
            "0.25",
            "0.5",
            "0.50",
            "0.51",
            "1",
            "6",
            "7",
            "7.01",
            "9.98",
            "9.99",
            "9.991",
            "10",
            "119",
            "120",
            "121",
            "1000000000000000000000",
            "9223372036854775807",
            "9223372036854775808",
            "99999999999999999999",
        ];
        let number = |text: &str| -> f64 { text.parse().expect("a number") };
        let exact = |text: &str| -> Option<i128> { text.parse().ok() };
        // Whole numbers beyond 2^53 are compared as such.
        let less = |a: &str, b: &str| match (exact(a), exact(b)) {
            (Some(a), Some(b)) => a < b,
            _ => number(a) < number(b),
        };
        for low in bounds {
            for high in bounds {
                for (exclusive, integer) in [(false, false), (true, false), (false, true), (true, true)] {
                    let bound = |text: &str, lower| Bound::new(&text.parse().expect("a number"), exclusive, lower).expect("a bound");
                    let all = regexes(integer, Some(&bound(low, true)), Some(&bound(high, false)));
                    for value in values {
                        let within = match exclusive {
                            true => less(low, value) && less(value, high),
                            false => !less(value, low) && !less(high, value),
                        };
                        // No whole number is written so.
                        if integer {
                            assert!(!matches(&all, "-0"), "{low}..{high}");
                        }
                        let whole = !value.contains('.');
                        assert_eq!(
                            matches(&all, value),
                            within && (whole || !integer),
                            "{value} in {low}..{high} (exclusive {exclusive}, integer {integer}): {all:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_end() {
        for integer in [true, false] {
            let all = regexes(integer, None, None);
            for value in ["0", "-1", "18446744073709551615", "-9223372036854775808"] {
                assert!(matches(&all, value), "{value}");
            }
            assert!(!matches(&all, &"1".repeat(21)) && !matches(&all, "01") && !matches(&all, "-") && !matches(&all, "-01"));
            assert_eq!(matches(&all, "-0"), !integer);
            for value in ["0.1", "1.7976931348623157e308", "5e-324", "-2.5E-10", "0.00012345678901234567"] {
                assert_eq!(matches(&all, value), !integer, "{value}");
            }
        }
    }
}
