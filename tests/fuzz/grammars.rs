//! Hostile schemas, regular expressions and Lark grammars: each compiles or is refused in bounded time, stack and memory, and where it compiles so do the
//! masks of the first tokens.
//!
//! `FIRECREST_GRAMMAR_FUZZ` says how many are made by chance (500 unless given; 100,000 with `FIRECREST_FULL=1`).

use std::time::{Duration, Instant};

use firecrest_engine::file::ModelFile;
use firecrest_engine::grammar::{Compiler, Constraint, Grammar, Progress, Trigger};
use firecrest_engine::text::Tokenizer;
use firecrest_tests::random::Random;
use serde_json::{Map, Value, json};

use crate::allocator;

/// What a grammar may hold while it is compiled.
const MEMORY: usize = 64 << 20;

/// A page's stack.
const STACK: usize = 1 << 20;

/// A fuse against what hangs: a second is asked of a quiet machine, and machines are noisy.
const FUSE: Duration = Duration::from_secs(10);

fn schema(value: Value) -> Grammar {
    Grammar::JsonSchema(value)
}

/// Definitions that lead from one to the next.
fn chain(length: usize, link: impl Fn(Value) -> Value) -> Grammar {
    let mut definitions: Map<String, Value> =
        (0..length).map(|at| (at.to_string(), link(json!({ "$ref": format!("#/$defs/{}", at + 1) })))).collect();
    definitions.insert(length.to_string(), json!({ "type": "integer" }));
    schema(json!({ "$defs": definitions, "$ref": "#/$defs/0" }))
}

fn properties(count: usize, property: impl Fn(usize) -> Value) -> Map<String, Value> {
    (0..count).map(|at| (format!("p{at}"), property(at))).collect()
}

fn list(count: usize, element: impl Fn(usize) -> Value) -> Vec<Value> {
    (0..count).map(element).collect()
}

/// What was found by attack, and its like.
fn hostile() -> Vec<Grammar> {
    let mut all = Vec::new();
    for length in [20, 60, 64, 300, 873, 5_000] {
        all.push(chain(length, |next| next));
        all.push(chain(length, |next| json!({ "anyOf": [next] })));
        all.push(chain(length, |next| json!({ "allOf": [next, { "type": ["integer", "object"] }] })));
        all.push(chain(length, |next| json!({ "type": "array", "items": next })));
        all.push(chain(length, |next| json!({ "type": "array", "prefixItems": [next] })));
        all.push(chain(length, |next| json!({ "type": "object", "additionalProperties": next })));
        all.push(chain(length, |next| json!({ "type": "object", "properties": { "x": next } })));
        let rules: String = (0..length).map(|at| format!("r{at}: r{}\n", at + 1)).collect();
        all.push(Grammar::Lark(format!("start: r0\n{rules}r{length}: \"a\"\n")));
        let terminals: String = (0..length).map(|at| format!("T{at}: T{}\n", at + 1)).collect();
        all.push(Grammar::Lark(format!("start: T0\n{terminals}T{length}: \"a\"\n")));
        let deep = (0..length.min(900)).fold(json!({ "type": "integer" }), |inner, _| json!({ "type": "array", "items": inner }));
        all.push(schema(deep));
    }
    for multiple in [1.0, 7.0, 9_991.0, 99_991.0, 999_983.0, 9_999_991.0, 1e300, 1e-9, 0.001, 5e-324] {
        all.push(schema(
            json!({ "type": "object", "properties": { "a": { "type": "integer", "multipleOf": multiple } }, "required": ["a"] }),
        ));
        all.push(schema(
            json!({ "type": "number", "allOf": [{ "multipleOf": multiple }, { "multipleOf": 9_973 }, { "multipleOf": 9_967 }] }),
        ));
    }
    for (count, first) in [(3, 9_000), (40, 9_000), (150, 9_000), (900, 2)] {
        let multiple = |at: usize| json!({ "type": "integer", "multipleOf": first + at });
        all.push(schema(json!({ "type": "object", "properties": properties(count, multiple) })));
        all.push(schema(json!({ "anyOf": list(count, multiple) })));
        all.push(schema(json!({ "$defs": properties(count, multiple), "type": "array",
            "prefixItems": list(count, |at| json!({ "$ref": format!("#/$defs/p{at}") })) })));
        // One multiple, and other bounds each time; two small ones, whose common multiple is not small.
        all.push(schema(json!({ "type": "object",
            "properties": properties(count, |at| json!({ "type": "integer", "multipleOf": first, "minimum": at }) ) })));
        all.push(schema(json!({ "type": "object", "properties": properties(count, |at| json!({ "type": "integer",
            "allOf": [{ "multipleOf": 97 }, { "multipleOf": 2 + at % 100 }] }) ) })));
        let tools: Vec<String> = (0..count).map(|at| format!("t{at}: \"t\" %json {}\n", multiple(at))).collect();
        let names: Vec<String> = (0..count).map(|at| format!("t{at}")).collect();
        all.push(Grammar::Lark(format!("start: {}\n{}", names.join(" | "), tools.concat())));
    }
    for count in [2, 4, 6, 12, 20, 40] {
        let pattern = |at: usize| json!({ "pattern": format!(".*[a-b].{{{at}}}z.*") });
        all.push(schema(json!({ "type": "string", "allOf": list(count, pattern) })));
        all.push(schema(json!({ "allOf": list(count, |at| json!({ "properties": { "same": pattern(at) } })) })));
        all.push(schema(json!({ "type": "string", "allOf": list(count, |at| json!({ "anyOf": [pattern(at), pattern(at + 50)] })) })));
        let patterns: Vec<String> = (0..count).map(|at| format!("/.*[a-b].{{{at}}}z.*/")).collect();
        all.push(Grammar::Lark(format!("start: A\nA: {}", patterns.join(" & "))));
        let keys: Map<String, Value> = (0..count).map(|at| (format!("a.*{at}.{{5}}z"), json!({ "type": "integer" }))).collect();
        all.push(schema(json!({ "type": "object", "patternProperties": keys })));
        all.push(schema(json!({ "type": "object", "allOf": list(count, |at| json!({ "anyOf": [
            { "properties": { format!("a{at}"): { "type": "integer" } } }, { "properties": { format!("b{at}"): { "type": "string" } } }] })) })));
        let doubled =
            (0..count.min(12)).fold(json!({ "type": "null" }), |inner, _| json!({ "anyOf": [inner, { "type": "array", "items": inner }] }));
        all.push(schema(doubled));
    }
    for (low, high) in [(i64::MIN, i64::MIN + 8), (i64::MIN, i64::MAX), (-1, i64::MAX), (i64::MAX - 1, i64::MAX)] {
        all.push(schema(json!({ "type": "integer", "minimum": low, "maximum": high })));
        all.push(schema(json!({ "enum": [low, high] })));
        all.push(Grammar::Lark(format!("start: %json {{\"type\":\"integer\",\"minimum\":{low},\"exclusiveMaximum\":{high}}}")));
    }
    for bound in [1e18, 1e19, 1e21, 1e30, 3.402_823_466_385_288_6e38, 1e300, f64::MAX, 5e-324, 1e-30] {
        for kind in ["integer", "number"] {
            all.push(schema(json!({ "type": kind, "minimum": bound })));
            all.push(schema(json!({ "type": kind, "maximum": -bound })));
            all.push(schema(json!({ "type": kind, "exclusiveMinimum": -bound, "exclusiveMaximum": bound })));
            all.push(schema(json!({ "allOf": [{ "type": kind, "minimum": -bound }, { "maximum": bound }] })));
        }
        all.push(schema(json!({ "const": bound })));
    }
    for pattern in [
        "^(a{1000}){1000}$".to_owned(),
        "((a{1000}){1000}){1000}".to_owned(),
        "(a|aa|aaa){1,1000}b{5}(a|ab){3,900}".to_owned(),
        ".*a.{1000}$".to_owned(),
        "a?".repeat(2_000),
        "^(a?){2000}a{2000}$".to_owned(),
        "^(x+x+)+y$".to_owned(),
        "(?i)^(\\p{Lu}|\\p{Greek}){50}x$".to_owned(),
        "^[^\\p{L}\\p{N}]{1,100}$".to_owned(),
        "(".repeat(1_000),
        format!("{}a{}", "(".repeat(800), ")*".repeat(800)),
        "[".repeat(300),
        "\\p{L}".repeat(700),
        (0..60).map(|at| format!(".*{}.{{{at}}}x", (b'a' + at % 26) as char)).collect::<Vec<_>>().join("|"),
        "(?=a)b\\1(?<!c)".to_owned(),
        "\u{1f9ca}é\u{0}[а-я]{3,}".to_owned(),
    ] {
        all.push(schema(json!({ "type": "string", "pattern": pattern })));
        all.push(schema(json!({ "type": "string", "pattern": pattern, "minLength": 10, "maxLength": 20_000, "format": "uri" })));
        all.push(schema(json!({ "type": "object", "patternProperties": { pattern.clone(): true }, "properties": { "a": true } })));
        all.push(Grammar::Regex(pattern));
    }
    for huge in [1_000, 65_536, 1_000_000, 1_000_000_000, u64::MAX] {
        all.push(schema(json!({ "type": "string", "maxLength": huge })));
        all.push(schema(json!({ "type": "string", "minLength": huge })));
        all.push(schema(json!({ "type": "array", "items": { "const": 1 }, "minItems": huge })));
        all.push(schema(json!({ "type": "array", "items": { "type": "object" }, "maxItems": huge })));
        all.push(schema(
            json!({ "type": "array", "minItems": huge, "items": { "type": "array", "items": { "const": null }, "minItems": huge } }),
        ));
        all.push(Grammar::Lark(format!("start: A{{{huge}}}\nA: \"a\"{{{huge}}}")));
    }
    for count in [100, 1_023, 4_000] {
        all.push(schema(json!({ "type": "object", "properties": properties(count, |_| json!({ "type": "integer" })) })));
        all.push(schema(json!({ "type": "object", "additionalProperties": false,
            "properties": properties(count, |at| json!({ "type": "string", "pattern": format!("^[a-z]{{{at}}}[0-9]+$") })) })));
        let names: Vec<String> = (0..count).map(|at| format!("r{at}")).collect();
        all.push(schema(json!({ "type": "object", "required": names })));
        all.push(schema(json!({ "type": "array", "prefixItems": list(count, |at| json!({ "const": at })) })));
        all.push(schema(
            json!({ "oneOf": list(count, |at| json!({ "type": "object", "properties": { "t": { "const": at } }, "required": ["t"] })) }),
        ));
        all.push(schema(
            json!({ "anyOf": list(count, |at| json!({ "type": "object", "properties": { format!("k{at}"): { "type": "integer" } } })) }),
        ));
        all.push(schema(json!({ "anyOf": list(count, |at| json!({ "type": "string", "format": "uri", "maxLength": at + 10 })) })));
        all.push(Grammar::Lark(format!(
            "start: {}",
            (0..count).map(|at| format!("%json {{\"const\":{at}}}")).collect::<Vec<_>>().join(" | ")
        )));
        let attributed = (0..count).map(|at| format!("r{at}[max_tokens=3]: %json {{\"const\":{at}}}\n")).collect::<String>();
        all.push(Grammar::Lark(format!("start: {}\n{attributed}", (0..count).map(|at| format!("r{at}")).collect::<Vec<_>>().join(" | "))));
    }
    all.push(schema(json!({ "enum": list(100_000, |at| json!(at)) })));
    all.push(schema(json!({ "enum": list(100_000, |at| json!(format!("value {at}"))) })));
    all.push(schema(json!({ "enum": list(1_000, |at| json!({ "a": at, "b": [at] })) })));
    all.push(schema(json!({ "$ref": "#" })));
    all.push(schema(json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } })));
    all.push(schema(json!({ "type": "object", "properties": { "a": { "$ref": "#" } }, "required": ["a"] })));
    all.push(schema(json!({ "allOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/b" }], "$defs": {
        "a": { "type": "object", "properties": { "c": { "$ref": "#/$defs/a" } } }, "b": { "type": "object", "properties": { "c": { "$ref": "#/$defs/b" } } } } })));
    for text in [
        "",
        "start: start",
        "start: /(/",
        "start: \"",
        "start: %json {",
        "start: %json [1]",
        "%ignore /a/\nstart: \"a\"*",
        "start: a{1,}\na: \"\"",
        "start: (a | a a)*\na: \"x\"?",
    ] {
        all.push(Grammar::Lark(text.to_owned()));
    }
    all.push(Grammar::Lark(format!("start: {}\"a\"{}", "(".repeat(200), ")".repeat(200))));
    all
}

/// A schema by chance; `depth` bounds how far it nests.
fn random_schema(depth: usize, random: &mut Random) -> Value {
    let number = |random: &mut Random| -> Value {
        match random.below(8) {
            0 => json!(i64::MIN),
            1 => json!(u64::MAX),
            2 => json!(1e300),
            3 => json!(-3.5e-7),
            4 => json!("1"),
            _ => json!(random.below(2_000) as i64 - 1_000),
        }
    };
    let text = |random: &mut Random| -> String {
        const PIECES: [&str; 24] = [
            "a",
            "b{2,900}",
            "(a|b)*",
            ".",
            ".*",
            "[^x]+",
            "\\d",
            "\\w{3}",
            "\\p{L}",
            "^",
            "$",
            "|",
            "(",
            ")",
            "?",
            "{0,70}",
            "é",
            "\u{1f9ca}",
            "/",
            "~1",
            "%20",
            "\\",
            "\"",
            "\u{0}",
        ];
        (0..random.below(8)).map(|_| *random.pick(&PIECES)).collect()
    };
    let mut made = Map::new();
    for _ in 0..1 + random.below(3) {
        let inner = |random: &mut Random| if depth == 0 { json!({ "type": "integer" }) } else { random_schema(depth - 1, random) };
        let (key, value) = match random.below(22) {
            0 => ("type", (*random.pick(&["object", "array", "string", "integer", "number", "boolean", "null", "strin"])).into()),
            1 => (
                "properties",
                (0..random.below(5)).map(|at| (format!("{}{at}", text(random)), inner(random))).collect::<Map<_, _>>().into(),
            ),
            2 => ("patternProperties", (0..random.below(3)).map(|_| (text(random), inner(random))).collect::<Map<_, _>>().into()),
            3 => ("additionalProperties", if random.one_in(2) { false.into() } else { inner(random) }),
            4 => ("required", (0..random.below(4)).map(|at| Value::from(format!("{}{at}", text(random)))).collect()),
            5 => ("items", inner(random)),
            6 => ("prefixItems", (0..random.below(4)).map(|_| inner(random)).collect()),
            7 => ("anyOf", (0..random.below(4)).map(|_| inner(random)).collect()),
            8 => ("oneOf", (0..random.below(4)).map(|_| inner(random)).collect()),
            9 => ("allOf", (0..random.below(4)).map(|_| inner(random)).collect()),
            10 => ("enum", (0..random.below(5)).map(|_| number(random)).collect()),
            11 => ("const", number(random)),
            12 => ("pattern", text(random).into()),
            13 => ("format", (*random.pick(&["date", "email", "uri", "uuid", "password", "ipv6"])).into()),
            14 => (*random.pick(&["minLength", "minItems", "minProperties"]), number(random)),
            15 => (*random.pick(&["maxLength", "maxItems", "maxProperties"]), number(random)),
            16 => (*random.pick(&["minimum", "exclusiveMinimum"]), number(random)),
            17 => (*random.pick(&["maximum", "exclusiveMaximum"]), number(random)),
            18 => ("multipleOf", number(random)),
            19 => ("$ref", (*random.pick(&["#", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/$defs/a~1b", "other.json"])).into()),
            20 => ("$defs", json!({ "a": inner(random), "b": inner(random), "a/b": inner(random) })),
            _ => (*random.pick(&["not", "uniqueItems", "if", "description", "x-other"]), inner(random)),
        };
        made.insert(key.to_owned(), value);
    }
    Value::Object(made)
}

fn random_grammar(case: usize) -> Grammar {
    let random = &mut Random::new(case as u64);
    match random.below(8) {
        0 => {
            const PIECES: [&str; 14] = ["a", "b", ".", "*", "+", "{1,300}", "(a", ")", "|", "[a-z]", "\\d", "{50}", "(.a){9}", "[^a]"];
            Grammar::Regex((0..random.below(30)).map(|_| *random.pick(&PIECES)).collect())
        }
        1 => {
            const PIECES: [&str; 18] = [
                "start: ",
                "a: ",
                "B: ",
                "\n",
                "a ",
                "B ",
                "\"x\" ",
                "/x.{3,90}/ ",
                "| ",
                "( ",
                ") ",
                "* ",
                "{2,500} ",
                "& ",
                "~",
                "%json {\"type\":\"integer\"} ",
                "<[5]> ",
                "%ignore ",
            ];
            Grammar::Lark((0..random.below(40)).map(|_| *random.pick(&PIECES)).collect())
        }
        _ => schema(random_schema(random.below(5), random)),
    }
}

fn tokenizer() -> Tokenizer {
    let source = firecrest_weights::MemorySource::new("chat", firecrest_models::CHAT);
    let file = pollster::block_on(ModelFile::open(vec![Box::new(source)])).expect("a GGUF file");
    Tokenizer::from_file(&file).expect("a tokenizer").expect("one with text")
}

/// Compiles a grammar and draws some tokens under it; whether it was accepted.
fn judge(compiler: &Compiler, grammar: Grammar, vocab: u32) -> bool {
    let shown: String = format!("{grammar:?}").chars().take(400).collect();
    let compiler = compiler.clone();
    let constraint = Constraint { grammar, trigger: Trigger::Start };
    let work = move || {
        let begun = Instant::now();
        let (compiled, peak) = allocator::peak(|| compiler.compile(&constraint));
        assert!(peak <= MEMORY, "{peak} bytes were held");
        assert!(begun.elapsed() < FUSE, "it took {:?}", begun.elapsed());
        let mut governed = match compiled {
            Ok(governed) => governed,
            Err(error) => {
                assert!(!error.message().is_empty() && error.code() == firecrest_engine::ErrorCode::Request, "{error}");
                return false;
            }
        };
        let mut random = Random::new(7);
        let ((), peak) = allocator::peak(|| {
            for _ in 0..12 {
                let begun = Instant::now();
                // A sequence may end with an error; it may not stop the others.
                let Ok(Some(mask)) = governed.allowed().map(|mask| mask.map(<[u32]>::to_vec)) else { break };
                let ids: Vec<u32> = (0..vocab).filter(|&id| mask[id as usize / 32] >> (id % 32) & 1 == 1).collect();
                if ids.is_empty() || !matches!(governed.take(*random.pick(&ids)), Ok(Progress::Going)) {
                    break;
                }
                governed.forced();
                assert!(begun.elapsed() < FUSE, "a mask took {:?}", begun.elapsed());
            }
        });
        assert!(peak <= MEMORY, "{peak} bytes were held for masks");
        true
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(work).expect("a thread");
    thread.join().unwrap_or_else(|_| panic!("broke a promise: {shown}"))
}

#[test]
fn hostile_grammars() {
    let tokenizer = tokenizer();
    let vocab = tokenizer.vocab_size() as u32;
    let compiler = Compiler::new(&tokenizer, vocab);
    let all = hostile();
    let count = all.len();
    let accepted = all.into_iter().filter(|grammar| judge(&compiler, grammar.clone(), vocab)).count();
    println!("grammars: {count} hostile ones, {accepted} accepted");
    assert!(accepted * 5 > count, "only {accepted} of {count} compile: limits are too tight");
}

#[test]
fn grammars_by_chance() {
    let tokenizer = tokenizer();
    let vocab = tokenizer.vocab_size() as u32;
    let compiler = Compiler::new(&tokenizer, vocab);
    let full = std::env::var("FIRECREST_FULL").is_ok_and(|value| value == "1");
    let count = firecrest_tests::count("FIRECREST_GRAMMAR_FUZZ", if full { 100_000 } else { 500 });
    let accepted = (0..count).filter(|&case| judge(&compiler, random_grammar(case), vocab)).count();
    println!("grammars: {count} by chance, {accepted} accepted");
    assert!(accepted * 10 > count, "only {accepted} of {count} compile: cases are too broken");
}
