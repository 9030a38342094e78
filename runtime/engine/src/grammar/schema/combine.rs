//! How much must hold at once: what `allOf`, references with neighbours and options combine, the compiler intersects.

use std::collections::HashSet;

use serde_json::Value;

use super::super::limits;

/// What the schemas of one grammar took together.
#[derive(Debug, Default)]
pub(in crate::grammar) struct Spent {
    /// Multiples that were counted, with the bounds beside them.
    multiples: HashSet<String>,
    /// Their sum.
    remainders: u64,
}

/// Checks a prepared schema, and adds what it takes to `spent`.
///
/// # Errors
/// A pointer to what combines too much.
pub(super) fn check(schema: &Value, spent: &mut Spent) -> Result<(), (String, String)> {
    let mut combining = Combining { root: schema, seen: HashSet::new(), choices: 0, spent };
    combining.combine(&[schema], 0).map_err(|why| (String::new(), why))?;
    let definitions = schema.get("$defs").and_then(Value::as_object);
    for (name, made) in definitions.into_iter().flatten() {
        combining.combine(&[made], 0).map_err(|why| (format!("/$defs/{name}"), why))?;
    }
    Ok(())
}

struct Combining<'a> {
    root: &'a Value,
    /// Sets of subschemas that were combined before, by their places in memory.
    seen: HashSet<Vec<*const Value>>,
    choices: usize,
    spent: &'a mut Spent,
}

impl<'a> Combining<'a> {
    /// Weighs what has to satisfy all of some subschemas.
    fn combine(&mut self, all: &[&'a Value], depth: usize) -> Result<(), String> {
        let mut key: Vec<*const Value> = all.iter().map(|&schema| std::ptr::from_ref(schema)).collect();
        key.sort_unstable();
        key.dedup();
        if depth > 2 * limits::DEPTH || !self.seen.insert(key) {
            return Ok(());
        }
        if self.seen.len() > 16 * limits::CHOICES {
            return Err("allOf combines too much; write out what is meant".to_owned());
        }
        let mut ways: Vec<Vec<&'a Value>> = vec![Vec::new()];
        for schema in all {
            self.expand(schema, &mut ways, depth)?;
        }
        for parts in &ways {
            self.weigh(parts)?;
            self.inside(parts, depth)?;
        }
        Ok(())
    }

    /// Adds a subschema to each way, with what it consists of in place; options multiply the ways.
    fn expand(&mut self, schema: &'a Value, ways: &mut Vec<Vec<&'a Value>>, depth: usize) -> Result<(), String> {
        let Value::Object(members) = schema else { return Ok(()) };
        if ways.iter().any(|way| way.iter().any(|part| std::ptr::eq(*part, schema))) || depth > 2 * limits::DEPTH {
            return Ok(());
        }
        ways.iter_mut().for_each(|way| way.push(schema));
        if let Some(target) = members.get("$ref").and_then(Value::as_str).and_then(|to| self.root.pointer(to.trim_start_matches('#'))) {
            self.expand(target, ways, depth + 1)?;
        }
        for part in members.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.expand(part, ways, depth + 1)?;
        }
        for key in ["anyOf", "oneOf"] {
            let Some(options) = members.get(key).and_then(Value::as_array).filter(|options| !options.is_empty()) else { continue };
            // Alone, options don't multiply.
            let alone = ways.len() == 1;
            self.choices += if alone { 0 } else { ways.len() * options.len() };
            if self.choices > limits::CHOICES {
                return Err(format!("more than {} combinations of options; write out what is meant", limits::CHOICES));
            }
            let before = std::mem::take(ways);
            for option in options {
                let mut own = before.clone();
                self.expand(option, &mut own, depth + 1)?;
                ways.extend(own);
            }
        }
        Ok(())
    }

    fn weigh(&mut self, parts: &[&'a Value]) -> Result<(), String> {
        let has = |key: &str| parts.iter().filter(|part| part.get(key).is_some()).count();
        let lengths = usize::from(has("minLength") + has("maxLength") > 0);
        let patterns = has("pattern") + has("format");
        if patterns > 1 && patterns + lengths > limits::INTERSECTED {
            return Err(format!(
                "{} patterns, formats and lengths for one text; at most {} can be held to at once",
                patterns + lengths,
                limits::INTERSECTED
            ));
        }
        let mut common: u64 = 1;
        let mut scale = 0;
        for multiple in parts.iter().filter_map(|part| part.get("multipleOf")).filter_map(Value::as_f64) {
            let (mut digits, mut places) = (multiple, 0);
            while digits.fract() != 0.0 && places < limits::MULTIPLE_SCALE {
                digits *= 10.0;
                places += 1;
            }
            // In units of the finer of both.
            let mut own = digits as u64;
            common *= 10_u64.pow(places.saturating_sub(scale));
            own *= 10_u64.pow(scale.saturating_sub(places));
            scale = scale.max(places);
            common = common / divisor(common, own) * own;
            if common > u64::from(limits::MULTIPLE) {
                return Err(format!(
                    "multiples of several numbers can be held to where their common multiple is at most {}",
                    limits::MULTIPLE
                ));
            }
        }
        self.remainders(common, scale, parts)
    }

    /// Counts the remainders that a number is followed by, once for each different number.
    fn remainders(&mut self, common: u64, scale: u32, parts: &[&'a Value]) -> Result<(), String> {
        let bounds = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
        let bounds: Vec<(&str, &Value)> =
            parts.iter().flat_map(|part| bounds.iter().filter_map(|key| Some((*key, part.get(*key)?)))).collect();
        if common > 1 && self.spent.multiples.insert(format!("{common}e-{scale} {bounds:?}")) {
            self.spent.remainders += common;
        }
        match self.spent.remainders > limits::MULTIPLES {
            true => Err(format!(
                "the different numbers of multipleOf add up to more than {}; give smaller ones, or leave some out",
                limits::MULTIPLES
            )),
            false => Ok(()),
        }
    }

    /// What stands inside, property by property.
    fn inside(&mut self, parts: &[&'a Value], depth: usize) -> Result<(), String> {
        let mut names: Vec<&'a String> = Vec::new();
        for part in parts {
            names.extend(part.get("properties").and_then(Value::as_object).into_iter().flat_map(|properties| properties.keys()));
        }
        if parts.len() > 1 {
            let mut seen = HashSet::new();
            names.retain(|name| seen.insert(name.as_str()));
        }
        for name in names {
            let own = |part: &&'a Value| {
                part.get("properties").and_then(|properties| properties.get(name.as_str())).or(part.get("additionalProperties"))
            };
            self.combine(&parts.iter().filter_map(own).collect::<Vec<_>>(), depth + 1)?;
        }
        for key in ["items", "additionalItems", "additionalProperties"] {
            let all: Vec<&Value> = parts.iter().filter_map(|part| part.get(key)).filter(|value| !value.is_array()).collect();
            if !all.is_empty() {
                self.combine(&all, depth + 1)?;
            }
        }
        let longest = parts.iter().filter_map(|part| part.get("prefixItems")?.as_array()).map(Vec::len).max().unwrap_or(0);
        for at in 0..longest {
            let own = |part: &&'a Value| part.get("prefixItems").and_then(|items| items.get(at)).or(part.get("items"));
            self.combine(&parts.iter().filter_map(own).collect::<Vec<_>>(), depth + 1)?;
        }
        let patterns: Vec<&Value> =
            parts.iter().filter_map(|part| part.get("patternProperties")?.as_object()).flat_map(|all| all.values()).collect();
        for pattern in patterns {
            self.combine(&[pattern], depth + 1)?;
        }
        Ok(())
    }
}

fn divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}
