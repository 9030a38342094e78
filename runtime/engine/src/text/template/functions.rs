//! What templates may call but filters and methods: operators, Jinja's tests, and the globals of `apply_chat_template`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use minijinja::value::{Object, ObjectRepr, Rest, Tuple, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, functions, tests};

use super::budget::{Budget, ENTRY};
use super::filters;
use super::format::{MAX_FIELD, remainder};
use super::methods;
use super::python::{as_f64, as_i128, bind, from_i128, integer, is_float, is_numeric, refused, truth};
use super::rewrite::{ATTRIBUTE, CONCATENATED, HELD, PAID, POWER, REMAINDER, SLICED, TIMES, VISITED};
use super::time::WallTime;

/// What stands before the words of `raise_exception`.
pub(super) const RAISED: &str = "the template raised an exception: ";

pub(super) fn register(environment: &mut Environment<'_>, budget: &Arc<Budget>, now: Option<WallTime>) {
    operators(environment, budget);
    filters::register(environment, budget);
    all_tests(environment);
    globals(environment, budget, now);

    let paying = budget.clone();
    environment.set_formatter(move |out, _, value| Ok(out.write_str(&paying.print(value)?)?));
    let paying = budget.clone();
    environment.set_unknown_method_callback(move |state, value, method, args| methods::call(&paying, state, value, method, args));
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
    environment.add_function(REMAINDER, move |left: Value, right: Value| match left.as_str() {
        Some(format) => remainder(&paying, format, &right).map(Value::from),
        None => modulo(&left, &right),
    });
    environment.add_function(POWER, |left: Value, right: Value| power(&left, &right));
    let paying = budget.clone();
    environment.add_function(ATTRIBUTE, move |value: Value, name: String| methods::attribute(&paying, &value, &name));
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
    if let (ValueKind::Bytes, Some(bytes)) = (value.kind(), value.as_bytes()) {
        budget.spend(bytes.len())?;
        return Ok(Value::from_bytes(indices(bytes.len()).map(|at| bytes[at]).collect()));
    }
    if let Some(text) = value.as_str() {
        budget.spend(text.len().saturating_mul(5))?;
        let characters: Vec<char> = text.chars().collect();
        return Ok(Value::from(indices(characters.len()).map(|at| characters[at]).collect::<String>()));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            budget.spend(items.len().saturating_mul(2 * ENTRY))?;
            let sliced = indices(items.len()).map(|at| items[at].clone()).collect::<Vec<_>>();
            Ok(if value.is_tuple() { Value::from(Tuple::from(sliced)) } else { Value::from(sliced) })
        }
        kind => Err(refused(format!("a {kind} cannot be sliced"))),
    }
}

fn times(budget: &Budget, left: &Value, right: &Value) -> Result<Value, Error> {
    let repeated = |value: &Value, n: &Value| -> Result<Value, Error> {
        // A count below zero is zero, as in Python.
        let n = match as_i128(n) {
            Some(n) => usize::try_from(n).unwrap_or(0),
            _ => return Err(refused(format!("a {} can be multiplied with integers only", value.kind()))),
        };
        if let Some(text) = value.as_str() {
            budget.spend(text.len().saturating_mul(n))?;
            return Ok(Value::from(text.repeat(n)));
        }
        let items: Vec<Value> = value.try_iter()?.collect();
        budget.spend(items.len().saturating_mul(n).saturating_mul(ENTRY))?;
        let copies = (0..n).flat_map(|_| items.iter().cloned()).collect::<Vec<_>>();
        let repeated = if value.is_tuple() { Value::from(Tuple::from(copies)) } else { Value::from(copies) };
        budget.visit(&repeated).map(|()| repeated)
    };
    let repeats = |value: &Value| matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Iterable);
    if repeats(left) {
        return repeated(left, right);
    }
    if repeats(right) {
        return repeated(right, left);
    }
    let (a, b) = numbers("multiply", left, right)?;
    match (as_i128(left), as_i128(right)) {
        (Some(a), Some(b)) => Ok(from_i128(a.checked_mul(b).ok_or_else(|| refused(format!("{a} * {b} is too large")))?)),
        _ => Ok(Value::from(a * b)),
    }
}

fn numbers(what: &str, left: &Value, right: &Value) -> Result<(f64, f64), Error> {
    let wrong = || refused(format!("tried to {what} {} with {}", left.kind(), right.kind()));
    Ok((as_f64(left).ok_or_else(wrong)?, as_f64(right).ok_or_else(wrong)?))
}

/// Python's `%` of numbers: it has the sign of the divisor.
fn modulo(left: &Value, right: &Value) -> Result<Value, Error> {
    let (a, b) = numbers("divide", left, right)?;
    if b == 0.0 {
        return Err(refused("division by zero"));
    }
    match (as_i128(left), as_i128(right)) {
        (Some(a), Some(b)) => {
            let rest = a.checked_rem(b).unwrap_or(0);
            Ok(from_i128(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }))
        }
        _ => {
            let rest = a % b;
            Ok(Value::from(if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
                rest + b
            } else if rest == 0.0 {
                0.0_f64.copysign(b)
            } else {
                rest
            }))
        }
    }
}

fn power(left: &Value, right: &Value) -> Result<Value, Error> {
    let (a, b) = numbers("raise", left, right)?;
    match (as_i128(left), as_i128(right)) {
        (Some(base), Some(exponent)) if exponent >= 0 => {
            let power = u32::try_from(exponent).ok().and_then(|exponent| base.checked_pow(exponent));
            Ok(from_i128(power.ok_or_else(|| refused(format!("{base} ** {exponent} is too large")))?))
        }
        _ if a == 0.0 && b < 0.0 => Err(refused("zero can't be raised to a negative power")),
        _ if a < 0.0 && b.fract() != 0.0 => Err(refused("the power of a negative number would be complex")),
        _ => {
            let power = a.powf(b);
            if power.is_infinite() && a.is_finite() && b.is_finite() {
                Err(refused("the power is too large"))
            } else {
                Ok(Value::from(power))
            }
        }
    }
}

fn all_tests(environment: &mut Environment<'_>) {
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("odd", |value: Value| Ok::<_, Error>(as_f64(&modulo(&value, &Value::from(2))?) == Some(1.0)));
    environment.add_test("even", |value: Value| Ok::<_, Error>(as_f64(&modulo(&value, &Value::from(2))?) == Some(0.0)));
    environment.add_test("divisibleby", |value: Value, by: Value| Ok::<_, Error>(as_f64(&modulo(&value, &by)?) == Some(0.0)));
    environment.add_test("number", |value: Value| is_numeric(&value));
    environment.add_test("integer", |value: Value| value.kind() == ValueKind::Number && value.is_integer());
    environment.add_test("float", |value: Value| is_float(&value));
    environment.add_test("string", tests::is_string);
    // What has a length and items by place or key; an undefined value has both, as in Jinja.
    environment.add_test("sequence", |value: Value| {
        value.is_undefined() || matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Bytes)
    });
    environment.add_test("iterable", |value: Value| !value.is_none() && (value.try_iter().is_ok() || value.kind() == ValueKind::Bytes));
    environment.add_test("callable", |state: &mut State, value: Value| callable(state, &value));
    environment.add_test("escaped", |_: Value| false);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("true", tests::is_true);
    environment.add_test("false", tests::is_false);
    environment.add_test("lower", |value: Value| {
        value.as_str().is_some_and(|s| s.chars().any(char::is_lowercase) && !s.chars().any(char::is_uppercase))
    });
    environment.add_test("upper", |value: Value| {
        value.as_str().is_some_and(|s| s.chars().any(char::is_uppercase) && !s.chars().any(char::is_lowercase))
    });
    // Two undefined values are never the same object.
    environment.add_test("sameas", |value: Value, other: Value| !value.is_undefined() && tests::is_sameas(&value, &other));
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

/// Whether `value` can be called: macros, methods, and functions.
fn callable(state: &mut State<'_, '_>, value: &Value) -> bool {
    let Some(object) = value.as_object() else { return false };
    let _ = state;
    let name = object.type_name();
    ["Macro", "Method", "Joiner", "LoopObject", "Loop", "BoxedFunction"].iter().any(|callable| name.ends_with(callable))
        || name.contains("Function")
}

/// `joiner(', ')`: nothing at first, then its text.
#[derive(Debug)]
struct Joiner {
    text: Value,
    used: AtomicBool,
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        Ok(if self.used.swap(true, Ordering::Relaxed) { self.text.clone() } else { Value::from("") })
    }
}

/// `cycler('a', 'b')`: one after the other.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

impl Cycler {
    fn current(&self) -> Value {
        self.items[self.at.load(Ordering::Relaxed) % self.items.len()].clone()
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str() == Some("current")).then(|| self.current())
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, _: &[Value]) -> Result<Value, Error> {
        match method {
            "next" => {
                let item = self.current();
                self.at.fetch_add(1, Ordering::Relaxed);
                Ok(item)
            }
            "reset" => {
                self.at.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// The words that fill pages which have no text yet.
const LOREM: &str =
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna aliqua";

/// `lipsum(n, html, min, max)`: `n` paragraphs of `min` words.
fn lipsum(budget: &Budget, args: &[Value]) -> Result<String, Error> {
    let [n, html, min, _] = bind("lipsum", args, ["n", "html", "min", "max"])?;
    let count = |value: &Option<Value>, default| Ok::<_, Error>(usize::try_from(integer("lipsum", value, default)?).unwrap_or(0));
    let (n, least) = (count(&n, 5)?, count(&min, 20)?);
    budget.spend(n.saturating_mul(least.saturating_mul(12).saturating_add(16)))?;
    let words: Vec<&str> = LOREM.split(' ').cycle().take(least).collect();
    let paragraph = filters::capitalize(&words.join(" ")) + ".";
    let html = truth(&html, true);
    let one = if html { format!("<p>{paragraph}</p>") } else { paragraph };
    Ok(vec![one; n].join(if html { "\n" } else { "\n\n" }))
}

fn globals(environment: &mut Environment<'_>, budget: &Arc<Budget>, now: Option<WallTime>) {
    environment.add_function("range", functions::range);
    environment.add_function("dict", functions::dict);
    environment.add_function("joiner", |args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let [separator] = bind("joiner", &args.into_values(), ["sep"])?;
        Ok(Value::from_object(Joiner { text: separator.unwrap_or_else(|| Value::from(", ")), used: AtomicBool::new(false) }))
    });
    environment.add_function("cycler", |items: Rest<Value>| match items.is_empty() {
        true => Err(refused("cycler needs an item")),
        false => Ok(Value::from_object(Cycler { items: items.0, at: AtomicUsize::new(0) })),
    });
    let paying = budget.clone();
    environment.add_function("lipsum", move |args: Rest<ValueOrKwargs>| lipsum(&paying, &args.into_values()));
    environment.add_function("namespace", functions::namespace);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> { Err(refused(format!("{RAISED}{message}"))) });
    environment.add_function("strftime_now", move |format: String| match now {
        Some(now) if format.len() <= MAX_FIELD => Ok(now.format(&format)),
        Some(_) => Err(refused(format!("strftime_now: the format is longer than {MAX_FIELD} bytes"))),
        None => Err(refused("the template asks for the time (strftime_now), and none was given")),
    });
}
