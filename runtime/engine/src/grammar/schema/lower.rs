//! JSON schemas as rules of Lark, where that says more than the compiler's own reading of them: numbers within bounds exactly and with an end, and values
//! as they are written. Texts with patterns, and what `allOf` and the like put together, stay schemas inside the grammar.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::number::{self, Bound};

/// Characters of a JSON text, as the compiler writes them.
const CHARACTER: &str = r#"([^"\\\x00-\x1F\x7F]|\\["\\bfnrt]|\\u00[01][0-9a-fA-F]|\\u007[fF])"#;

/// Bytes that rules may have; what needs more is compiled as it is.
const MOST: usize = 1 << 20;

/// Members that stay apart in `prefixItems` and `properties` by nested rules.
const APART: usize = 16;

/// Rules for a prepared schema, and the rule to begin with; `None` where it is better compiled as it is. `prefix` begins all names.
pub(in crate::grammar) fn lower(schema: &Value, prefix: &str) -> Option<(String, String)> {
    let guidance = schema.get("x-guidance");
    let known = |key: &str, among: &[&str], or: &str| {
        let text = guidance.and_then(|guidance| guidance.get(key)).map_or(Some(or), Value::as_str)?;
        among.contains(&text).then(|| text.to_owned())
    };
    let item = known("item_separator", &[",", ", "], ",")?;
    let key = known("key_separator", &[":", ": "], ":")?;
    let fixed = guidance.is_none_or(|guidance| guidance.get("whitespace_flexible") == Some(&Value::Bool(false)));
    let plain = guidance.and_then(Value::as_object).is_none_or(|guidance| {
        guidance.keys().all(|key| matches!(key.as_str(), "item_separator" | "key_separator" | "whitespace_flexible"))
    });
    if !fixed || !plain {
        return None;
    }
    let mut lowering = Lowering {
        root: schema,
        prefix,
        item: quoted(&item),
        separator: item,
        key,
        rules: String::new(),
        count: 0,
        terminals: HashMap::new(),
        referred: HashSet::new(),
        waiting: VecDeque::new(),
        any: None,
        wrong: false,
    };
    let start = lowering.value(schema)?;
    let start = lowering.rule(&start);
    while let Some((name, definition)) = lowering.waiting.pop_front() {
        let target = schema.pointer(definition.trim_start_matches('#'))?;
        // What has no value is compiled as it is, which says so.
        let made = lowering.value(target)?;
        let _ = writeln!(lowering.rules, "{name}: {made}");
    }
    (!lowering.wrong && lowering.rules.len() <= MOST).then_some((lowering.rules, start))
}

struct Lowering<'a> {
    root: &'a Value,
    prefix: &'a str,
    /// Between elements: as a literal of Lark, and as it is.
    item: String,
    separator: String,
    key: String,
    rules: String,
    count: usize,
    /// Terminals by what they are.
    terminals: HashMap<String, String>,
    referred: HashSet<String>,
    /// Definitions whose rules are still to be made.
    waiting: VecDeque<(String, String)>,
    any: Option<String>,
    wrong: bool,
}

impl<'a> Lowering<'a> {
    fn rule(&mut self, is: &str) -> String {
        let name = format!("{}{}", self.prefix, self.count);
        self.count += 1;
        let _ = writeln!(self.rules, "{name}: {is}");
        name
    }

    fn terminal(&mut self, is: String) -> String {
        if let Some(name) = self.terminals.get(&is) {
            return name.clone();
        }
        let name = format!("{}{}", self.prefix.to_uppercase(), self.count);
        self.count += 1;
        let _ = writeln!(self.rules, "{name}: {is}");
        self.terminals.insert(is, name.clone());
        name
    }

    fn text(&mut self, least: u64, most: Option<u64>) -> String {
        let most = most.map_or(String::new(), |most| most.to_string());
        self.terminal(format!("/\"{CHARACTER}{{{least},{most}}}\"/"))
    }

    fn any(&mut self) -> String {
        if let Some(any) = &self.any {
            return any.clone();
        }
        let name = format!("{}any", self.prefix);
        self.any = Some(name.clone());
        let (item, key) = (self.item.clone(), quoted(&self.key));
        let number = self.number(false, &Map::new());
        let (text, truth) = (self.text(0, None), self.terminal("\"true\" | \"false\"".to_owned()));
        let list = self.rule(&format!("\"[\" ({name} ({item} {name})*)? \"]\""));
        let pair = self.rule(&format!("{text} {key} {name}"));
        let object = self.rule(&format!("\"{{\" ({pair} ({item} {pair})*)? \"}}\""));
        let _ = writeln!(self.rules, "{name}: \"null\" | {truth} | {number} | {text} | {list} | {object}");
        name
    }

    /// What a value may be, as a name or a literal; `None`: there is none.
    fn value(&mut self, schema: &'a Value) -> Option<String> {
        if self.rules.len() > MOST {
            self.wrong = true;
            return Some("\"null\"".to_owned());
        }
        let members = match schema {
            Value::Object(members) => members,
            Value::Bool(false) => return None,
            _ => return Some(self.any()),
        };
        let keys: Vec<&str> = members.keys().map(String::as_str).filter(|key| !matches!(*key, "$defs" | "x-guidance")).collect();
        let has = |key: &str| members.contains_key(key);
        match keys.as_slice() {
            [] => return Some(self.any()),
            ["$ref"] => return self.reference(members.get("$ref")?.as_str()?),
            ["anyOf"] => return self.options(members.get("anyOf")?.as_array()?),
            ["oneOf"] => {
                let options = members.get("oneOf")?.as_array()?;
                return if self.apart(options) { self.options(options) } else { Some(self.leaf(schema)) };
            }
            _ => {}
        }
        if ["$ref", "anyOf", "oneOf", "allOf"].into_iter().any(has) {
            return Some(self.leaf(schema));
        }
        if has("enum") || has("const") {
            return match keys.iter().all(|key| matches!(*key, "enum" | "const" | "type")) && !(has("enum") && has("const")) {
                true => self.literals(members),
                false => Some(self.leaf(schema)),
            };
        }
        let types: Vec<&str> = match members.get("type") {
            Some(Value::String(name)) => vec![name.as_str()],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => vec!["null", "boolean", "number", "string", "array", "object"],
        };
        let mut ways = Vec::new();
        for name in types {
            ways.extend(self.of_type(name, members));
        }
        self.one_of(ways)
    }

    fn one_of(&mut self, mut ways: Vec<String>) -> Option<String> {
        match ways.len() {
            0 | 1 => ways.pop(),
            _ => Some(self.rule(&ways.join(" | "))),
        }
    }

    fn options(&mut self, options: &'a [Value]) -> Option<String> {
        let ways: Vec<String> = options.iter().filter_map(|option| self.value(option)).collect();
        self.one_of(ways)
    }

    fn reference(&mut self, to: &str) -> Option<String> {
        let name = format!("{}{}", self.prefix, to.trim_start_matches("#/$defs/").replace('#', "root"));
        if self.referred.insert(to.to_owned()) {
            self.waiting.push_back((name.clone(), to.to_owned()));
        }
        Some(name)
    }

    fn of_type(&mut self, name: &str, members: &'a Map<String, Value>) -> Option<String> {
        let count = |key: &str| members.get(key).and_then(Value::as_u64);
        match name {
            "null" => Some("\"null\"".to_owned()),
            "boolean" => Some(self.terminal("\"true\" | \"false\"".to_owned())),
            "integer" | "number" if members.contains_key("multipleOf") => {
                Some(self.part(name, members, &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]))
            }
            "integer" | "number" => Some(self.number(name == "integer", members)),
            "string" if members.contains_key("pattern") || members.contains_key("format") => {
                Some(self.part(name, members, &["pattern", "format", "minLength", "maxLength"]))
            }
            "string" => {
                let (least, most) = (count("minLength").unwrap_or(0), count("maxLength"));
                if most.is_some_and(|most| most < least) {
                    return None;
                }
                Some(if most == Some(0) { "\"\\\"\\\"\"".to_owned() } else { self.text(least, most) })
            }
            "array" => self.array(members),
            _ => self.object(members),
        }
    }

    fn number(&mut self, integer: bool, members: &Map<String, Value>) -> String {
        let bound = |plain: &str, exclusive: &str, lower: bool| -> Vec<Bound> {
            // As draft 4 writes it.
            let beside = members.get(exclusive) == Some(&Value::Bool(true));
            let of = |key: &str, exclusive: bool| {
                members.get(key).and_then(|value| match value {
                    Value::Number(number) => Bound::new(number, exclusive, lower),
                    _ => None,
                })
            };
            of(plain, beside).into_iter().chain(of(exclusive, true)).collect()
        };
        let (lower, upper) = (bound("minimum", "exclusiveMinimum", true), bound("maximum", "exclusiveMaximum", false));
        let mut all: Vec<String> = Vec::new();
        for at in 0..lower.len().max(upper.len()).max(1) {
            for regex in number::regexes(integer, lower.get(at), upper.get(at)) {
                let name = self.terminal(format!("/{regex}/"));
                if !all.contains(&name) {
                    all.push(name);
                }
            }
        }
        if all.len() == 1 { all.pop().unwrap_or_default() } else { self.terminal(all.join(" & ")) }
    }

    fn literals(&mut self, members: &'a Map<String, Value>) -> Option<String> {
        let values: Vec<&Value> = match (members.get("enum").and_then(Value::as_array), members.get("const")) {
            (Some(values), _) => values.iter().collect(),
            (None, Some(value)) => vec![value],
            (None, None) => return None,
        };
        let fits = |value: &Value| match members.get("type") {
            Some(Value::String(name)) => is(value, name),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(|name| is(value, name)),
            _ => true,
        };
        let mut texts: Vec<String> = values.into_iter().filter(|value| fits(value)).map(|value| quoted(&self.literal(value))).collect();
        let mut seen = HashSet::new();
        texts.retain(|text| seen.insert(text.clone()));
        (!texts.is_empty()).then(|| self.terminal(texts.join(" | ")))
    }

    fn literal(&self, value: &Value) -> String {
        match value {
            Value::Number(number) => number::literal(number),
            Value::Array(elements) => {
                format!("[{}]", elements.iter().map(|element| self.literal(element)).collect::<Vec<_>>().join(&self.separator))
            }
            Value::Object(members) => {
                let members =
                    members.iter().map(|(name, value)| format!("{}{}{}", Value::from(name.as_str()), self.key, self.literal(value)));
                format!("{{{}}}", members.collect::<Vec<_>>().join(&self.separator))
            }
            other => other.to_string(),
        }
    }

    fn array(&mut self, members: &'a Map<String, Value>) -> Option<String> {
        let count = |key: &str| members.get(key).and_then(Value::as_u64);
        let (least, most) = (count("minItems").unwrap_or(0), count("maxItems").unwrap_or(u64::MAX));
        if least > most {
            return None;
        }
        let first: &'a [Value] = members.get("prefixItems").and_then(Value::as_array).map_or(&[], Vec::as_slice);
        if first.len() > APART {
            return Some(self.part("array", members, &["prefixItems", "items", "minItems", "maxItems"]));
        }
        let item = self.item.clone();
        let rest = match members.get("items") {
            Some(items) => self.value(items),
            None => Some(self.any()),
        };
        let mut elements: Vec<String> = Vec::new();
        let mut ended = false;
        for schema in first.iter().take(usize::try_from(most).unwrap_or(usize::MAX)) {
            match self.value(schema) {
                Some(element) => elements.push(element),
                None => {
                    ended = true;
                    break;
                }
            }
        }
        let reached = elements.len() as u64;
        let (fewest, further) = (least.saturating_sub(reached), most - reached);
        let rest = rest.filter(|_| !ended && further > 0);
        if fewest > 0 && rest.is_none() {
            return None;
        }
        // What follows from behind: each may be followed by the next.
        let mut made = match rest {
            None => String::new(),
            Some(rest) => {
                let again = match (fewest.max(1) - 1, (most != u64::MAX).then(|| further - 1)) {
                    (_, Some(0)) => String::new(),
                    (0, None) => format!(" ({item} {rest})*"),
                    (least, None) => format!(" ({item} {rest}){{{least},}}"),
                    (least, Some(most)) => format!(" ({item} {rest}){{{least},{}}}", most.min(i32::MAX as u64)),
                };
                let all = self.rule(&format!("{rest}{again}"));
                let separated = if elements.is_empty() { all } else { format!("{item} {all}") };
                if fewest > 0 { separated } else { format!("({separated})?") }
            }
        };
        for (at, element) in elements.iter().enumerate().rev() {
            let separated = if at == 0 { element.clone() } else { format!("{item} {element}") };
            let all = format!("{separated} {made}");
            made = if (at as u64) < least {
                all
            } else {
                let rule = self.rule(&all);
                format!("{rule}?")
            };
        }
        Some(self.rule(&format!("\"[\" {made} \"]\"")))
    }

    fn object(&mut self, members: &'a Map<String, Value>) -> Option<String> {
        let named = members.get("properties").and_then(Value::as_object);
        let required: Vec<&'a str> =
            members.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let least = members.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
        if members.contains_key("patternProperties") || members.contains_key("maxProperties") || least > required.len() as u64 {
            return Some(self.part(
                "object",
                members,
                &["properties", "patternProperties", "additionalProperties", "required", "minProperties", "maxProperties"],
            ));
        }
        static ANY: Value = Value::Bool(true);
        let additional: &'a Value = members.get("additionalProperties").unwrap_or(&ANY);
        let mut all: Vec<(&'a str, &'a Value)> = named.into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)).collect();
        for name in &required {
            if named.is_none_or(|named| !named.contains_key(*name)) {
                all.push((name, additional));
            }
        }
        let needed: HashSet<&str> = required.iter().copied().collect();
        let mut fields: Vec<(String, bool)> = Vec::new();
        for (name, schema) in &all {
            let needed = needed.contains(name);
            match self.value(schema) {
                Some(value) => fields.push((format!("{} {value}", quoted(&format!("{}{}", Value::from(*name), self.key))), needed)),
                None if needed => return None,
                None => {}
            }
        }
        if let Some(value) = self.value(additional) {
            let text = self.text(0, None);
            let name = match all.is_empty() {
                true => text,
                false => {
                    let taken = all.iter().map(|(name, _)| quoted(&Value::from(*name).to_string())).collect::<Vec<_>>().join(" | ");
                    let taken = self.terminal(taken);
                    self.terminal(format!("{text} & ~{taken}"))
                }
            };
            let (item, pair) = (self.item.clone(), format!("{name} {} {value}", quoted(&self.key)));
            let pair = self.rule(&pair);
            fields.push((format!("{pair} ({item} {pair})*"), false));
        }
        let fields = self.fields(fields);
        Some(self.rule(&format!("\"{{\" {fields} \"}}\"")))
    }

    /// Members in their order, of which some may be left out.
    fn fields(&mut self, fields: Vec<(String, bool)>) -> String {
        let item = self.item.clone();
        let flat = |fields: &[(String, bool)]| {
            let one = |(field, needed): &(String, bool)| if *needed { format!("{item} {field}") } else { format!("({item} {field})?") };
            fields.iter().map(one).collect::<Vec<_>>().join(" ")
        };
        // Up to the first that must come, any may be the first.
        let first = fields.iter().position(|(_, needed)| *needed).unwrap_or(fields.len());
        if first == 0 {
            return fields.split_first().map_or(String::new(), |((field, _), rest)| format!("{field} {}", flat(rest)));
        }
        let mut ways = Vec::new();
        let mut rest = match fields.get(first) {
            Some((field, _)) => {
                let field = self.rule(field);
                let behind = flat(fields.get(first + 1..).unwrap_or_default());
                let behind = if behind.is_empty() { behind } else { self.rule(&behind) };
                ways.push(format!("{field} {behind}"));
                self.rule(&format!("{item} {field} {behind}"))
            }
            None => String::new(),
        };
        for (field, _) in fields[..first].iter().rev() {
            let field = self.rule(field);
            ways.push(format!("{field} {rest}"));
            rest = self.rule(&format!("({item} {field})? {rest}"));
        }
        // From the last on: so the compiler, which descends into what it meets first, never descends far.
        let ways = self.rule(&ways.join(" | "));
        if first == fields.len() { format!("{ways}?") } else { ways }
    }

    /// A schema of one type, as it is.
    fn part(&mut self, name: &str, members: &Map<String, Value>, keys: &[&str]) -> String {
        let mut made = Map::new();
        made.insert("type".to_owned(), Value::from(name));
        made.extend(members.iter().filter(|(key, _)| keys.contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone())));
        self.leaf(&Value::Object(made))
    }

    /// A schema as it is.
    fn leaf(&mut self, schema: &Value) -> String {
        let mut members = schema.as_object().cloned().unwrap_or_default();
        members.insert(
            "x-guidance".to_owned(),
            json!({ "item_separator": self.separator, "key_separator": self.key, "whitespace_flexible": false }),
        );
        members.shift_remove("$defs");
        let text = Value::Object(members.clone()).to_string();
        if text.contains("\"$ref\"") {
            self.wrong |= text.contains("\"$ref\":\"#\"");
            members.insert("$defs".to_owned(), self.root.get("$defs").cloned().unwrap_or(json!({})));
        }
        let text = match super::plain(&Value::Object(members)) {
            Ok(plain) => plain.to_string(),
            Err(_) => {
                self.wrong = true;
                return "\"null\"".to_owned();
            }
        };
        self.rule(&format!("%json {text}"))
    }

    /// Whether no value is of two of some schemas, as far as that can be told.
    fn apart(&self, options: &[Value]) -> bool {
        let options: Vec<&Value> = options.iter().map(|option| self.resolved(option)).collect();
        options.len() <= 256 && options.iter().enumerate().all(|(at, a)| options[at + 1..].iter().all(|b| self.differ(a, b)))
    }

    fn resolved<'s>(&'s self, schema: &'s Value) -> &'s Value {
        let mut schema = schema;
        for _ in 0..8 {
            match schema.as_object().filter(|members| members.len() == 1).and_then(|members| members.get("$ref")).and_then(Value::as_str) {
                Some(to) => schema = self.root.pointer(to.trim_start_matches('#')).unwrap_or(schema),
                None => break,
            }
        }
        schema
    }

    fn differ(&self, a: &Value, b: &Value) -> bool {
        if a == &Value::Bool(false) || b == &Value::Bool(false) || kinds(a) & kinds(b) == 0 {
            return true;
        }
        let values = |schema: &Value| match (schema.get("enum").and_then(Value::as_array), schema.get("const")) {
            (Some(values), _) => Some(values.clone()),
            (None, Some(value)) => Some(vec![value.clone()]),
            (None, None) => None,
        };
        if let (Some(a), Some(b)) = (values(a), values(b)) {
            return !a.iter().any(|value| b.contains(value));
        }
        // Objects, by a member that both must have.
        let only = |schema: &Value| kinds(schema) == 1 << 5;
        let needs =
            |schema: &Value, name: &Value| schema.get("required").and_then(Value::as_array).is_some_and(|names| names.contains(name));
        let named =
            a.get("required").and_then(Value::as_array).into_iter().flatten().filter(|name| needs(b, name)).filter_map(Value::as_str);
        let member = |schema: &'_ Value, name: &str| {
            schema.get("properties").and_then(|properties| properties.get(name)).map(|member| self.resolved(member).clone())
        };
        only(a)
            && only(b)
            && named.into_iter().any(|name| match (member(a, name), member(b, name)) {
                (Some(a), Some(b)) => {
                    values(&a).zip(values(&b)).is_some_and(|(a, b)| !a.iter().any(|value| b.contains(value))) || kinds(&a) & kinds(&b) == 0
                }
                _ => false,
            })
    }
}

/// The kinds of JSON that a schema's values may be, bit by bit.
fn kinds(schema: &Value) -> u8 {
    let kind = |name: &str| match name {
        "null" => 1,
        "boolean" => 1 << 1,
        "integer" | "number" => 1 << 2,
        "string" => 1 << 3,
        "array" => 1 << 4,
        _ => 1 << 5,
    };
    let of = |value: &Value| match value {
        Value::Null => 1,
        Value::Bool(_) => 1 << 1,
        Value::Number(_) => 1 << 2,
        Value::String(_) => 1 << 3,
        Value::Array(_) => 1 << 4,
        Value::Object(_) => 1 << 5,
    };
    let typed = match schema.get("type") {
        Some(Value::String(name)) => kind(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).fold(0, |all, name| all | kind(name)),
        _ => 0x3f,
    };
    let listed = match (schema.get("enum").and_then(Value::as_array), schema.get("const")) {
        (Some(values), _) => values.iter().fold(0, |all, value| all | of(value)),
        (None, Some(value)) => of(value),
        (None, None) => 0x3f,
    };
    typed & listed
}

fn is(value: &Value, name: &str) -> bool {
    match (value, name) {
        (Value::Null, "null") | (Value::Bool(_), "boolean") | (Value::Number(_), "number") | (Value::String(_), "string") => true,
        (Value::Array(_), "array") | (Value::Object(_), "object") => true,
        (Value::Number(number), "integer") => number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|n| n.fract() == 0.0),
        _ => false,
    }
}

/// A literal of Lark.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
