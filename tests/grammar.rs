//! Structured output against the JSON Schema test suite: what is drawn under a mask is valid, and what is valid is never masked.

use std::path::PathBuf;

use firecrest_engine::engine::{Engine, EngineOptions, Event, FinishReason, Generate, Request, Sampling};
use firecrest_engine::grammar::{Compiler, Constraint, Governed, Grammar, Progress, Trigger};
use firecrest_engine::text::{EncodeOptions, Tokenizer};
use firecrest_tests::backends::{BackendChoice, backends};
use firecrest_tests::random::Random;
use firecrest_tests::{count, runner, shared_data_or_skip};
use serde_json::{Value, json};

fn schema(value: &Value) -> Constraint {
    Constraint { grammar: Grammar::JsonSchema(value.clone()), trigger: Trigger::Start }
}

/// A tokenizer with every byte among its 512 tokens, and the folder it lies in.
fn tokenizer(what: &str) -> Option<(Tokenizer, PathBuf)> {
    let data = shared_data_or_skip(what)?;
    let file = runner::open(&data.join("models/stories260K.gguf")).unwrap();
    Some((Tokenizer::from_file(&file).unwrap().unwrap(), data))
}

/// An instance, and whether the schema accepts it.
type Instance = (Value, bool);

/// Every schema of the suite with its tests, by file and description.
fn suite(data: &std::path::Path) -> Vec<(String, Value, Vec<Instance>)> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(data.join("json-schema/draft2020-12")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let groups: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for group in groups.as_array().unwrap() {
            let tests = group["tests"].as_array().unwrap().iter().map(|t| (t["data"].clone(), t["valid"].as_bool().unwrap())).collect();
            let name = format!("{}: {}", path.file_stem().unwrap().to_string_lossy(), group["description"].as_str().unwrap());
            all.push((name, group["schema"].clone(), tests));
        }
    }
    all
}

fn allows(allowed: &[u32], id: u32) -> bool {
    allowed[id as usize / 32] >> (id % 32) & 1 == 1
}

/// Whether a text is let through whole, and may end there. Any cut into tokens will do: the grammar is of bytes.
fn reaches(mut governed: Governed, tokenizer: &Tokenizer, text: &str) -> bool {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let allowed = governed.allowed().unwrap().unwrap().to_vec();
        let fits = |id: &u32| tokenizer.token_bytes(*id).is_some_and(|bytes| !bytes.is_empty() && rest.starts_with(bytes));
        let longest = (3..512).filter(|&id| allows(&allowed, id)).filter(fits).max_by_key(|&id| tokenizer.token_bytes(id).map(<[u8]>::len));
        let Some(id) = longest else { return false };
        rest = &rest[tokenizer.token_bytes(id).unwrap().len()..];
        if governed.take(id).unwrap() == Progress::Complete {
            return rest.is_empty();
        }
    }
    let end = tokenizer.end_of_generation()[0];
    allows(governed.allowed().unwrap().unwrap(), end)
}

/// The value with whole numbers written as such.
fn whole_numbers(value: &Value) -> Value {
    match value {
        Value::Number(n) if n.as_f64().is_some_and(|n| n.fract() == 0.0 && n.abs() < 1e16) => json!(n.as_f64().unwrap_or_default() as i64),
        Value::Array(elements) => elements.iter().map(whole_numbers).collect(),
        Value::Object(members) => Value::Object(members.iter().map(|(k, v)| (k.clone(), whole_numbers(v))).collect()),
        other => other.clone(),
    }
}

/// A value's texts, by every order of the members of its outermost object: a grammar wants the schema's.
fn orders(value: &Value) -> Vec<String> {
    let Some(members) = value.as_object().filter(|members| (2..=5).contains(&members.len())) else { return vec![value.to_string()] };
    let mut orders: Vec<Vec<(&String, &Value)>> = vec![Vec::new()];
    for member in members {
        let longer = |order: &Vec<_>| {
            (0..=order.len())
                .map(|at| {
                    let mut longer = order.clone();
                    longer.insert(at, member);
                    longer
                })
                .collect::<Vec<_>>()
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    let text = |order: Vec<(&String, &Value)>| Value::Object(order.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect()).to_string();
    orders.into_iter().map(text).collect()
}

/// Whether a number in the text is beyond what parsers and validators of f64 tell apart.
fn beyond_f64(text: &str) -> bool {
    let mut digits = 0;
    text.chars().any(|c| {
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
        digits > 15
    }) || text
        .split(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)))
        .any(|word| word.starts_with(|c: char| c.is_ascii_digit() || c == '-') && word.contains(['e', 'E']))
}

#[test]
fn what_is_valid_is_reached_and_what_is_drawn_is_valid() {
    let Some((tokenizer, data)) = tokenizer("grammar: the JSON Schema suite") else { return };
    let compiler = Compiler::new(&tokenizer, 512);
    let end = tokenizer.end_of_generation()[0];
    let (mut compiled, mut reached, mut drawn, mut beyond, mut refused) = (0, 0, 0, 0, 0);
    let mut failures = Vec::new();
    for (name, value, tests) in suite(&data) {
        if let Err(error) = compiler.compile(&schema(&value)) {
            let message = error.message();
            assert!(message.contains("the JSON schema at #"), "{name}: {message}");
            refused += 1;
            continue;
        }
        // Formats are asserted, as somebody who asks for one expects; dialects of one's own are not known.
        let Ok(validator) = jsonschema::draft202012::options().should_validate_formats(true).build(&value) else { continue };
        if name.starts_with("vocabulary") {
            continue;
        }
        compiled += 1;
        for (instance, _) in tests.iter().filter(|(instance, valid)| *valid && validator.is_valid(instance)) {
            match orders(&whole_numbers(instance)).iter().any(|text| reaches(compiler.compile(&schema(&value)).unwrap(), &tokenizer, text))
            {
                true => reached += 1,
                false => failures.push(format!("{name}: {instance} is valid and can't be reached")),
            }
        }
        // Drawn evenly among what is allowed, and ended as soon as it may end once it has gone on for a while.
        let mut random = Random::new(compiled);
        for _ in 0..count("FIRECREST_GRAMMAR_DRAWS", 4) {
            let mut governed = compiler.compile(&schema(&value)).unwrap();
            let mut ids = Vec::new();
            let ended = loop {
                let allowed = governed.allowed().unwrap().unwrap().to_vec();
                let choices: Vec<u32> = (0..512).filter(|&id| allows(&allowed, id)).collect();
                if choices.is_empty() {
                    failures.push(format!("{name}: nothing may follow {:?}", tokenizer.decode(&ids, true)));
                    break false;
                }
                if choices.contains(&end) && (ids.len() > 20 || choices.len() == 1 || random.one_in(3)) {
                    break true;
                }
                let id = *random.pick(&choices);
                if id == end {
                    break true;
                }
                ids.push(id);
                if governed.take(id).unwrap() == Progress::Complete {
                    break true;
                }
                if ids.len() > 150 {
                    break false;
                }
            };
            if ended {
                let text = String::from_utf8(ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap().to_vec()).collect()).unwrap();
                if beyond_f64(&text) {
                    beyond += 1;
                    continue;
                }
                drawn += 1;
                match serde_json::from_str::<Value>(&text) {
                    Ok(value) if validator.is_valid(&value) => {}
                    Ok(_) => failures.push(format!("{name}: {text} was drawn and is not valid")),
                    Err(error) => failures.push(format!("{name}: {text:?} was drawn and is no JSON: {error}")),
                }
            }
        }
    }
    println!("{compiled} schemas, {refused} refused; {reached} valid instances reached, {drawn} drawn, {beyond} beyond f64");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(compiled > 100 && drawn > 200, "{compiled} compiled, {drawn} drawn");
}

/// Numbers, references and patterns that the compiler's own reading of schemas gets wrong: what is let through whole, and what is not.
#[test]
fn schemas_are_held_to_exactly() {
    let Some((tokenizer, _)) = tokenizer("grammar: exact schemas") else { return };
    let compiler = Compiler::new(&tokenizer, 512);
    let ones = "1".repeat(60);
    let (endless, fraction) = (format!("{{\"a\":{ones}}}"), format!("0.{ones}"));
    let cases: Vec<(Value, Vec<&str>, Vec<&str>)> = vec![
        // 64-bit whole numbers, and their ends.
        (json!({ "const": 9_007_199_254_740_993_u64 }), vec!["9007199254740993"], vec!["9007199254740992"]),
        (json!({ "enum": [1_234_567_890_123_456_789_u64, "a"] }), vec!["1234567890123456789", "\"a\""], vec!["1234567890123456768"]),
        (json!({ "const": 12_345_678_901_234_567_890_u64 }), vec!["12345678901234567890"], vec!["12345678901234567000"]),
        (json!({ "const": i64::MIN }), vec!["-9223372036854775808"], vec!["-9223372036854775807"]),
        (json!({ "properties": { "id": { "const": { "n": [i64::MAX] } } } }), vec!["{\"id\":{\"n\":[9223372036854775807]}}"], vec![]),
        (
            json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MIN + 8 }),
            vec!["-9223372036854775808", "-9223372036854775800"],
            vec!["-9223372036854775799", "-9223372036854775809", "0"],
        ),
        (json!({ "type": "integer", "minimum": i64::MIN }), vec!["5", "-9223372036854775808"], vec!["-9223372036854775809"]),
        (json!({ "type": "integer", "maximum": u64::MAX }), vec!["18446744073709551615"], vec!["18446744073709551616"]),
        (
            json!({ "type": "integer", "minimum": -1e30, "maximum": -1e19 }),
            vec!["-10000000000000000000"],
            vec!["-1", "-9999999999999999999"],
        ),
        // Bounds of floating point.
        (
            json!({ "type": "number", "minimum": -3.402_823_466_385_288_6e38, "maximum": 3.402_823_466_385_288_6e38 }),
            vec!["1.5", "-3.4e37", "0", "1e-30", "340282346638528860000000000000000000000"],
            vec!["3.5e38", "340282346638528870000000000000000000000"],
        ),
        (json!({ "type": "number", "minimum": 5e-324 }), vec!["1", "0.5", "1e10"], vec!["0", "-1"]),
        (json!({ "type": "number", "maximum": 1.8e307 }), vec!["1e300", "-1e300"], vec!["1e308"]),
        (json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1 }), vec!["0.01", "1", "1.0"], vec!["0", "1.01", "-0.5"]),
        // Numbers end.
        (json!({ "type": "integer" }), vec!["0", "-5", "18446744073709551615"], vec![ones.as_str(), "00", "1.0", "-0"]),
        (json!({ "type": "integer", "minimum": -5 }), vec!["0", "-5", "7"], vec!["-6", "-0"]),
        (json!({ "type": "integer", "minimum": -12, "maximum": 0 }), vec!["0", "-12", "-9"], vec!["1", "-13", "-0"]),
        (json!({ "type": "integer", "minimum": 0, "maximum": 3 }), vec!["0", "3"], vec!["4", "-1", "-0"]),
        (json!({ "type": "integer", "exclusiveMinimum": -0.5, "maximum": 0.5 }), vec!["0"], vec!["1", "-1", "-0"]),
        (
            json!({ "type": "number" }),
            vec!["1.25", "1e10", "1.7976931348623157e308", "5e-324", "-2.5E-10"],
            vec![ones.as_str(), fraction.as_str()],
        ),
        (json!({ "type": "object" }), vec!["{}", "{\"a\":[1,2.5,null,{\"b\":\"c\"}]}"], vec![endless.as_str()]),
        // JSON Pointer and its escapes.
        (
            json!({ "prefixItems": [{ "$ref": "#/$defs/a~1b" }, { "$ref": "#/$defs/a~0b" }, { "$ref": "#/$defs/a%20b" }], "minItems": 3, "type": "array",
                "$defs": { "a/b": { "enum": ["yes"] }, "a~b": { "enum": [1] }, "a b": { "type": "null" } } }),
            vec!["[\"yes\",1,null]"],
            vec!["[\"no\",1,null]"],
        ),
        // Patterns of properties that a named one matches too.
        (
            json!({ "type": "object", "properties": { "score": { "type": "integer", "multipleOf": 5 } }, "required": ["score"],
                "additionalProperties": false, "patternProperties": { "^score$": { "type": "integer" } } }),
            vec!["{\"score\":15}"],
            vec!["{\"score\":16}"],
        ),
        (
            json!({ "type": "object", "properties": { "score": { "type": "integer" } }, "required": ["score"],
                "additionalProperties": false, "patternProperties": { "^s": { "maximum": 9 } } }),
            vec!["{\"score\":5}", "{\"score\":5,\"sa\":4}"],
            vec!["{\"score\":15}"],
        ),
        // Formats that are annotations, and one that is not.
        (json!({ "type": "string", "format": "password" }), vec!["\"abc\""], vec![]),
        (json!({ "type": "string", "format": "date" }), vec!["\"2024-01-31\""], vec!["\"abc\""]),
        (
            json!({ "type": "object", "properties": { "kids": { "type": "array", "items": { "$ref": "#" } } }, "required": ["kids"] }),
            vec!["{\"kids\":[{\"kids\":[]}]}"],
            vec![],
        ),
    ];
    for (value, yes, no) in cases {
        for constraint in [schema(&value), lark(&value)] {
            let governed = || compiler.compile(&constraint).unwrap_or_else(|error| panic!("{value}: {error}"));
            for text in &yes {
                assert!(reaches(governed(), &tokenizer, text), "{text} is valid under {value}");
            }
            for text in &no {
                assert!(!reaches(governed(), &tokenizer, text), "{text} is not valid under {value}");
            }
        }
    }
}

/// The same inside a Lark grammar, as tools have it.
fn lark(value: &Value) -> Constraint {
    let mut value = value.clone();
    value["x-guidance"] = json!({ "item_separator": ",", "key_separator": ":", "whitespace_flexible": false });
    Constraint { grammar: Grammar::Lark(format!("start: %json {value}")), trigger: Trigger::Start }
}

fn engine(backend: &BackendChoice, data: &std::path::Path) -> Engine {
    let file = runner::open(&data.join("models/stories260K.gguf")).unwrap();
    pollster::block_on(Engine::load(&file, backend.take(), EngineOptions::default(), &mut |_, _| {})).unwrap()
}

/// The text, its tokens, why it ended, and the steps it took.
fn tell(engine: &mut Engine, generate: Generate) -> (String, Vec<u32>, FinishReason, usize) {
    engine.submit(Request::generate(vec![1], generate)).unwrap().accepted().unwrap();
    let (mut text, mut tokens, mut end, mut steps) = (String::new(), Vec::new(), None, 0);
    while !engine.is_idle() {
        steps += 1;
        for event in pollster::block_on(engine.step()).unwrap() {
            match event {
                Event::Text { text: piece, .. } => text += &piece,
                Event::Token { id, .. } => tokens.push(id),
                Event::Done { reason, .. } => end = Some(reason),
                _ => {}
            }
        }
    }
    (text, tokens, end.unwrap(), steps)
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 12 },
            "age": { "type": "integer", "minimum": 0, "maximum": 120 },
            "likes": { "enum": ["apples", "stories", "the sea"] },
        },
        "required": ["name", "age", "likes"],
        "additionalProperties": false,
    })
}

#[test]
fn a_model_answers_in_the_form_that_was_asked_for() {
    let Some(data) = shared_data_or_skip("grammar: a model's answers") else { return };
    let validator = jsonschema::draft202012::new(&person()).unwrap();
    for backend in backends("grammar: a model's answers") {
        let mut engine = engine(&backend, &data);
        for seed in 0..8 {
            let sampling = Sampling { seed, ..Sampling::default() };
            let generate = Generate { sampling, grammar: Some(schema(&person())), max_tokens: Some(300), ..Generate::default() };
            let (text, tokens, end, steps) = tell(&mut engine, generate.clone());
            assert!(matches!(end, FinishReason::GrammarComplete | FinishReason::EndOfGeneration(_)), "{backend}: {text:?} {end:?}");
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{backend}: {text:?}: {error}"));
            assert!(validator.is_valid(&value), "{backend}: {text}");
            assert!(steps < tokens.len(), "{backend}: nothing was forced: {steps} steps for {} tokens", tokens.len());
        }
        let regex = Constraint { grammar: Grammar::Regex("(yes|no), (Lily|Tom)[.]".into()), trigger: Trigger::Start };
        let (text, ..) = tell(&mut engine, Generate { grammar: Some(regex), ..Generate::default() });
        assert!(["yes, Lily.", "yes, Tom.", "no, Lily.", "no, Tom."].contains(&text.as_str()), "{text:?}");
        let lark = Constraint { grammar: Grammar::Lark("start: \"a\" (\"b\" | start)".into()), trigger: Trigger::Start };
        let (text, ..) = tell(&mut engine, Generate { grammar: Some(lark), ..Generate::default() });
        assert!(text.ends_with('b') && text.trim_end_matches('b').chars().all(|c| c == 'a') && text.len() > 1, "{text:?}");
        backend.give_back(engine.unload());
    }
}

/// Prose, then what the grammar wants behind each trigger, then prose.
#[test]
fn a_grammar_is_entered_where_its_trigger_stands() {
    let Some(data) = shared_data_or_skip("grammar: triggers") else { return };
    for backend in backends("grammar: triggers") {
        let mut engine = engine(&backend, &data);
        enter(&mut engine);
        backend.give_back(engine.unload());
    }
}

fn enter(engine: &mut Engine) {
    let greedy = |grammar| Generate { sampling: Sampling::greedy(), max_tokens: Some(60), grammar, ..Generate::default() };
    let (free, ..) = tell(engine, greedy(None));
    assert!(free.starts_with("Once upon a time, there was a little girl named Lily."), "{free}");
    let number = Grammar::Regex("#[0-9]{3}#".into());
    for trigger in [" was", "as", "time,", "Once"] {
        let constraint = Constraint { grammar: number.clone(), trigger: Trigger::Text(trigger.into()) };
        let (text, ..) = tell(engine, greedy(Some(constraint)));
        let at = free.find(trigger).unwrap() + trigger.len();
        assert_eq!(text[..at], free[..at], "before the trigger nothing changes");
        // Every time it comes.
        for (at, _) in text.match_indices(trigger) {
            let behind = &text[at + trigger.len()..];
            let whole = behind.len() >= 5;
            let fits = behind.as_bytes().iter().zip(b"#ddd#").all(|(b, want)| if *want == b'd' { b.is_ascii_digit() } else { b == want });
            assert!(fits && (whole || text.ends_with(behind)), "{trigger:?}: {text:?}");
        }
        assert!(text.len() > at + 10, "the text goes on freely: {text:?}");
    }
    let tokenizer = engine.tokenizer().unwrap();
    let was = tokenizer.encode(" was", EncodeOptions::default()).unwrap();
    let constraint = Constraint { grammar: number, trigger: Trigger::Tokens(vec![*was.last().unwrap()]) };
    let (text, ..) = tell(engine, greedy(Some(constraint)));
    assert!(text.contains("was#"), "{text:?}");
}

#[test]
fn grammars_are_compiled_on_any_thread_for_all() {
    let Some((tokenizer, _)) = tokenizer("grammar: threads") else { return };
    let compiler = Compiler::new(&tokenizer, 512);
    let constraints = ["a+", "b+", "a+"].map(|regex| Constraint { grammar: Grammar::Regex(regex.into()), trigger: Trigger::Start });
    let masks: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let threads = constraints.each_ref().map(|constraint| {
            let compiler = compiler.clone();
            scope.spawn(move || compiler.compile(constraint).expect("compiles").allowed().expect("goes on").expect("holds").to_vec())
        });
        threads.map(|thread| thread.join().expect("no panic")).into()
    });
    let mut here = compiler.compile(&constraints[1]).expect("compiles");
    assert_eq!(here.allowed().expect("goes on"), Some(masks[1].as_slice()));
    assert!(masks[0] == masks[2] && masks[0] != masks[1]);
}

#[test]
fn what_cannot_be_compiled_is_refused_by_place() {
    let Some((tokenizer, data)) = tokenizer("grammar: refusals") else { return };
    let compiler = Compiler::new(&tokenizer, 512);
    let cases = [
        (json!({ "properties": { "a": { "type": "strin" } } }), "#/properties/a/type"),
        (json!({ "type": "object", "properties": { "a": { "items": { "pattern": "(" } } } }), "#/properties/a/items/pattern"),
        (json!({ "anyOf": [{ "type": "null" }, { "$ref": "#/$defs/none" }] }), "#/anyOf/1/$ref"),
        (json!({ "not": { "type": "null" } }), "#/not"),
        (
            json!({ "properties": { "o": { "properties": { "tags": { "type": "array", "uniqueItems": true } } } } }),
            "#/properties/o/properties/tags/uniqueItems",
        ),
        (json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" }), "#/$defs/a"),
        (json!({ "properties": { "a": { "type": "integer", "multipleOf": 9_999_991 } } }), "#/properties/a/multipleOf"),
    ];
    for (value, place) in cases {
        let error = compiler.compile(&schema(&value)).err().unwrap_or_else(|| panic!("{value} compiles"));
        assert!(error.message().contains(&format!("at {place} ")), "{}", error.message());
    }
    // What is wrong, where, and what to do, in words that need no compiler's.
    let deep = (0..70).fold(json!({ "type": "null" }), |inner, _| json!({ "items": inner }));
    let own = [
        (json!({ "type": "string", "minLength": 5, "maxLength": 2 }), "Length"),
        (json!({ "type": "object", "properties": { "a": { "type": "array", "minItems": 3, "maxItems": 1 } }, "required": ["a"] }), "#/"),
        (json!({ "type": "integer", "minimum": 5, "maximum": 2 }), "#"),
        (
            json!({ "type": "object", "properties": { "a": { "allOf": [{ "type": "string" }, { "type": "null" }] } }, "required": ["a"] }),
            "#/",
        ),
        (json!({ "type": "string", "pattern": "^a$", "minLength": 4 }), "#"),
        (json!({ "enum": [] }), "#"),
        (json!(false), "#"),
        (json!({ "anyOf": [] }), "#"),
        (
            json!({ "type": "string", "allOf": [{ "pattern": "^(.*a.{3}){20}$" }, { "pattern": "^(.*b.{5}){20}$" }, { "pattern": "^(.*c){30}$" }] }),
            "#",
        ),
        (json!({ "oneOf": [{ "type": "object" }, { "type": "object", "minProperties": 1 }] }), "#"),
        (json!({ "type": "string", "pattern": "(?=a)b" }), "#/pattern"),
        (json!({ "type": "string", "pattern": "(a)\\1" }), "#/pattern"),
        (json!({ "type": "string", "pattern": "[" }), "#/pattern"),
        (json!({ "type": ["string", "strung"] }), "#/type"),
        (json!({ "$ref": "https://example.org/schema" }), "#/$ref"),
        (json!({ "$ref": "#anchor" }), "#/$ref"),
        (json!({ "type": "object", "minProperties": 3, "properties": { "a": true }, "additionalProperties": false }), "#"),
        (json!({ "type": "number", "multipleOf": 0.000_000_000_001 }), "#/multipleOf"),
        (json!({ "type": "string", "minLength": 1_000_000 }), "#/minLength"),
        (json!({ "if": { "type": "string" }, "then": { "minLength": 1 } }), "#/if"),
        (deep, "#/items"),
    ];
    let mut wrong = Vec::new();
    for (value, place) in own {
        let Err(error) = compiler.compile(&schema(&value)) else {
            wrong.push(format!("{value} compiles"));
            continue;
        };
        let message = error.message();
        let says = message.starts_with("the JSON schema at #") && message.contains(place) && message.contains("; ");
        let jargon = ["nsatisfiable", "Unimplemented", "coerce", "NoExtension", "Unable", "regex", "Regex", "llguidance", "lexer"];
        if !says || jargon.iter().any(|word| message.contains(word)) {
            wrong.push(format!("{value}: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for grammar in [Grammar::Regex("(".into()), Grammar::Lark("start: nothing".into()), Grammar::Lark(String::new())] {
        let constraint = Constraint { grammar, trigger: Trigger::Start };
        let error = compiler.compile(&constraint).err().unwrap_or_else(|| panic!("{constraint:?} compiles"));
        assert_eq!(error.code(), firecrest_engine::ErrorCode::Request);
    }
    let why = |grammar| compiler.compile(&Constraint { grammar, trigger: Trigger::Start }).err().expect("an error").message().to_owned();
    assert!(why(Grammar::Regex("(".into())).contains("unclosed group"));
    assert!(why(Grammar::Lark("start: start".into())).contains("no text satisfies it"));
    assert!(why(schema(&json!({ "oneOf": [{ "type": "object" }, { "type": "object" }] })).grammar).contains("use anyOf"));
    // Remainders are counted over the whole grammar: a number that stands there twice once.
    let multiples = |number: fn(usize) -> usize| {
        let properties = (0..40).map(|at| (format!("p{at}"), json!({ "type": "integer", "multipleOf": number(at) })));
        json!({ "type": "object", "properties": properties.collect::<serde_json::Map<_, _>>() })
    };
    assert!(why(schema(&multiples(|at| 9_000 + at)).grammar).contains("add up to more than"));
    assert!(compiler.compile(&schema(&multiples(|_| 9_000))).is_ok());
    assert!(compiler.compile(&schema(&multiples(|at| 1 + at))).is_ok());
    let tools: String = (0..40).map(|at| format!("t{at}: %json {{\"type\":\"integer\",\"multipleOf\":{}}}\n", 9_000 + at)).collect();
    let any = (0..40).map(|at| format!("t{at}")).collect::<Vec<_>>().join(" | ");
    assert!(why(Grammar::Lark(format!("start: {any}\n{tools}"))).contains("add up to more than"));
    let empty = Constraint { grammar: Grammar::Regex("a".into()), trigger: Trigger::Text(String::new()) };
    assert!(compiler.compile(&empty).is_err());
    // Refused when it is submitted, before any work.
    let mut engine = engine(&BackendChoice::Cpu, &data);
    let generate = Generate { grammar: Some(schema(&json!({ "type": "thing" }))), ..Generate::default() };
    assert!(engine.submit(Request::generate(vec![1], generate)).is_err());
    assert!(engine.is_idle());
}
