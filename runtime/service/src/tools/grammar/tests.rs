//! Whatever a grammar allows, the parser reads as calls.

use firecrest_contract::event::{Block, Event, Finish};
use firecrest_engine::file::ModelFile;
use firecrest_engine::grammar::{Compiler, Progress};
use firecrest_engine::text::Tokenizer;

use super::super::{Ending, FORMATS, GENERIC, HERMES, LLAMA, PYTHONIC, Parser, Reading, THOUGHTS};
use super::*;
use crate::asks;

fn tokenizer() -> Tokenizer {
    let source = firecrest_weights::MemorySource::new("chat", firecrest_models::CHAT);
    let file = pollster::block_on(ModelFile::open(vec![Box::new(source)])).expect("a GGUF file");
    Tokenizer::from_file(&file).expect("a tokenizer").expect("one with text")
}

fn ask(tool_choice: ToolChoice, strict: bool, parallel_tools: bool) -> Ask {
    let city = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}, "days": {"enum": [1, 2, 3]}},
        "required": ["city"], "additionalProperties": false});
    let none = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let mut tools = vec![asks::tool("get_weather", city), asks::tool("now", none)];
    tools.iter_mut().for_each(|tool| tool.strict = strict);
    Ask { tools, tool_choice, parallel_tools, ..asks::ask(Vec::new()) }
}

/// Text that a model without any sense writes, held to a form; whether it came to an end.
fn walk(tokenizer: &Tokenizer, compiler: &Compiler, hold: &Hold, seed: u64) -> (String, bool) {
    let constraint = hold.constraint.clone().expect("a constraint");
    let mut governed = compiler.compile(&constraint).unwrap_or_else(|e| panic!("{e}: {constraint:?}"));
    let mut ids = Vec::new();
    match &constraint.trigger {
        Trigger::Start => {}
        Trigger::Text(text) => {
            ids = tokenizer.encode(text, Default::default()).expect("ids");
            for &id in &ids {
                governed.take(id).expect("free text");
            }
        }
        Trigger::Tokens(_) => panic!("this vocabulary has no such tokens"),
    }
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let ends = tokenizer.end_of_generation();
    for _ in 0..400 {
        let Some(mask) = governed.allowed().expect("a mask").map(<[u32]>::to_vec) else { break };
        let allowed: Vec<u32> = (0..tokenizer.vocab_size() as u32).filter(|id| mask[*id as usize / 32] >> (id % 32) & 1 == 1).collect();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Whoever may end does, half the time; else it would talk forever.
        let end = allowed.iter().find(|id| ends.contains(id)).filter(|_| random & 1 == 0 || allowed.len() == 1);
        let closing =
            |id: &&u32| tokenizer.token_bytes(**id).is_some_and(|b| b.first().is_some_and(|b| matches!(b, b'"' | b'}' | b'\'' | b')')));
        let closing = allowed.iter().find(closing).filter(|_| random & 6 == 0);
        let id = match end.or(closing) {
            Some(id) => *id,
            None => allowed[(random >> 8) as usize % allowed.len()],
        };
        if ends.contains(&id) {
            return (tokenizer.decode(&ids, true), true);
        }
        ids.push(id);
        if governed.take(id).expect("an allowed token") == Progress::Complete {
            return (tokenizer.decode(&ids, true), true);
        }
    }
    let whole = governed.allowed().expect("a mask").is_none();
    (tokenizer.decode(&ids, true), whole)
}

fn read(format: &'static ToolFormat, text: &str, ended: bool) -> Vec<Event> {
    let tools = ["get_weather", "now"].map(str::to_owned).to_vec();
    let reading = Reading { format: Some(format), tools, ..Reading::default() };
    let mut parser = Parser::new(reading, Box::new(|| "toolu_1".to_owned()));
    let mut events = Vec::new();
    parser.push(text, &mut events);
    parser.finish(if ended { Ending::Complete } else { Ending::Cut(Finish::MaxTokens) }, &mut events);
    events
}

#[test]
fn whatever_is_sampled_parses() {
    let tokenizer = tokenizer();
    let compiler = Compiler::new(&tokenizer, tokenizer.vocab_size() as u32);
    let vocabulary = Vocabulary { control: &|_| None, ends: tokenizer.end_of_generation(), schemas: &Schemas::default() };
    let mut whole = 0;
    for format in FORMATS {
        for (choice, strict) in
            [(ToolChoice::Any, false), (ToolChoice::Tool("now".into()), false), (ToolChoice::Auto, true), (ToolChoice::Auto, false)]
        {
            if format.body == Body::Python && strict {
                continue;
            }
            for parallel in [true, false] {
                let ask = ask(choice.clone(), strict, parallel);
                let hold = hold(&ask, format, None, &vocabulary).expect("a grammar");
                if hold.constraint.is_none() {
                    assert!(format.bare && choice == ToolChoice::Auto && !strict);
                    continue;
                }
                for seed in 0..6 {
                    let (text, ended) = walk(&tokenizer, &compiler, &hold, seed);
                    let events = read(format, &text, ended);
                    let calls = events.iter().filter(|e| matches!(e, Event::Open { block: Block::ToolUse { .. }, .. })).count();
                    let prose = events.iter().any(|e| matches!(e, Event::Open { block: Block::Text, .. }));
                    let may_say = format.bare && choice == ToolChoice::Auto;
                    assert!(!prose || may_say, "{}: {text:?} {events:?}", format.name);
                    assert!(parallel || calls <= 1, "{}: {text:?}", format.name);
                    if ended && !prose && !(text.is_empty() && may_say) {
                        whole += 1;
                        let asks = Some(&Event::Finish { choice: 0, reason: Finish::ToolUse });
                        assert_eq!(events.last(), asks, "{}: {text:?}", format.name);
                    }
                }
            }
        }
    }
    assert!(whole > 60, "{whole} walks came to an end");
}

#[test]
fn answers_keep_their_form() {
    let tokenizer = tokenizer();
    let compiler = Compiler::new(&tokenizer, tokenizer.vocab_size() as u32);
    let vocabulary = Vocabulary { control: &|_| None, ends: tokenizer.end_of_generation(), schemas: &Schemas::default() };
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false});
    let mut ask = ask(ToolChoice::Auto, false, true);
    ask.format = Some(Format::JsonSchema { name: None, schema });
    for (tools, thoughts) in [(true, None), (false, None), (false, Some(&THOUGHTS[0])), (true, Some(&THOUGHTS[0]))] {
        let mut ask = ask.clone();
        if !tools {
            ask.tools.clear();
        }
        let hold = hold(&ask, &HERMES, thoughts, &vocabulary).expect("a grammar");
        for seed in 0..8 {
            let (text, ended) = walk(&tokenizer, &compiler, &hold, seed);
            let text = text.strip_prefix("</think>").unwrap_or(&text).trim();
            if ended && !text.contains("<tool_call>") {
                let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text:?}"));
                assert!(value["a"].is_i64() || value["a"].is_u64() || value["a"].is_number(), "{text}");
            }
        }
    }
}

#[test]
fn control_tokens_are_named_by_their_number() {
    let tokenizer = tokenizer();
    let compiler = Compiler::new(&tokenizer, tokenizer.vocab_size() as u32);
    let end = tokenizer.eos().expect("an end");
    let vocabulary = Vocabulary { control: &|_| Some(end), ends: tokenizer.end_of_generation(), schemas: &Schemas::default() };
    for format in FORMATS {
        for choice in [ToolChoice::Any, ToolChoice::Auto] {
            let hold = hold(&ask(choice, false, true), format, None, &vocabulary).expect("a grammar");
            compiler.compile(&hold.constraint.expect("a constraint")).unwrap_or_else(|e| panic!("{}: {e}", format.name));
        }
    }
}

#[test]
fn errors_name_the_leaf() {
    let vocabulary = Vocabulary { control: &|_| None, ends: &[0], schemas: &Schemas::default() };
    let wrong = |ask: &Ask, format| hold(ask, format, None, &vocabulary).expect_err("an error").message;
    let mut strict = ask(ToolChoice::Auto, true, true);
    strict.tools[1].at = 1;
    strict.tools[1].schema = json!({"type": "object", "properties": {"a": {"type": "strung"}}});
    let message = wrong(&strict, &LLAMA);
    assert!(message.starts_with("tools.1.input_schema/properties/a/type: "), "{message}");
    strict.names = firecrest_contract::names::Names::CHAT;
    assert!(wrong(&strict, &LLAMA).starts_with("tools.1.function.parameters/properties/a/type: "));
    strict.names = ask(ToolChoice::Auto, true, true).names;
    let mut loose = strict.clone();
    loose.tools.iter_mut().for_each(|tool| tool.strict = false);
    loose.tool_choice = ToolChoice::Any;
    assert!(hold(&loose, &GENERIC, None, &vocabulary).is_ok());
    assert!(wrong(&strict, &PYTHONIC).starts_with("tools.0.strict: "));
    let mut formed = ask(ToolChoice::Auto, false, true);
    formed.format = Some(Format::JsonSchema { name: None, schema: json!({"pattern": "("}) });
    assert!(wrong(&formed, &HERMES).starts_with("output_config.format.schema/pattern: "), "{}", wrong(&formed, &HERMES));
    assert!(wrong(&ask(ToolChoice::Tool("x".into()), false, true), &HERMES).starts_with("tool_choice.name: "));
    let mut none = ask(ToolChoice::Any, false, true);
    none.tools.clear();
    assert!(wrong(&none, &HERMES).starts_with("tool_choice: "));
}

/// What would take long to compile is refused before: others wait for it.
#[test]
fn schemas_have_a_size() {
    let schemas = Schemas::default();
    let refused = |schema: Value| schemas.ready(&schema).expect_err("too much").why;
    let properties = |count: usize| {
        let properties: Map<String, Value> = (0..count).map(|at| (format!("p{at}"), json!({ "type": "integer" }))).collect();
        json!({ "type": "object", "properties": { "inside": { "type": "object", "properties": properties } } })
    };
    assert!(refused(properties(1024)).contains("more than 1024 properties"));
    schemas.ready(&properties(1023)).expect("not too much");
    assert!(refused(json!({ "enum": ["a".repeat(8193)] })).contains("a text of 8193 bytes"));
    assert!(refused(json!({ "type": "string", "pattern": "a".repeat(8193) })).contains("8193 bytes"));
    let values: Vec<String> = (0..20_000).map(|at| format!("value {at}")).collect();
    assert!(refused(json!({ "enum": values })).contains("names and values have"));
    // What only people read may be long; a property may be called as it is.
    let described =
        json!({ "type": "object", "description": "a".repeat(200_000), "properties": { "title": { "enum": ["a".repeat(8192)] } } });
    schemas.ready(&described).expect("not too much");
}

/// Objects without `additionalProperties` are closed, if the model's configuration does not open them, and if they can be.
#[test]
fn objects_are_closed_by_default() {
    let pet = json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    let additional = |schemas: &Schemas, schema: &Value| schemas.ready(schema).expect("a schema").get("additionalProperties").cloned();
    assert_eq!(additional(&Schemas::new(false), &pet), Some(json!(false)));
    assert_eq!(additional(&Schemas::new(true), &pet), None);
    // Nothing can be written that satisfies this closed: it stays as it was.
    let more = json!({"allOf": [{"type": "object", "properties": {"a": true}, "minProperties": 2, "maxProperties": 2}]});
    assert!(Schemas::new(false).ready(&more).is_ok() == Schemas::new(true).ready(&more).is_ok());
}
