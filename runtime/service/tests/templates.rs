//! Chat templates and vocabularies that others made (`shared/data`): what is rendered from neutral turns, and how it becomes tokens.

use firecrest_contract::ask::{Ask, CacheTtl, Content, Part, Role, Sampling, ServiceTier, Thinking, Tool, ToolChoice, Turn};
use firecrest_contract::names::Names;
use firecrest_engine::file::ModelFile;
use firecrest_engine::text::{TokenKind, Tokenizer, WallTime};
use firecrest_service::prompt::Prompter;
use firecrest_service::tools::ToolFormat;
use serde_json::{Value, json};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");

fn read(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("{DATA}/{path}")).ok();
    if text.is_none() {
        eprintln!("SKIPPED: there is no {DATA}/{path}");
    }
    text
}

fn template(name: &str) -> Option<String> {
    read(&format!("chat/templates/{name}.jinja"))
}

fn templates() -> Vec<(String, String)> {
    let Ok(entries) = std::fs::read_dir(format!("{DATA}/chat/templates")) else {
        eprintln!("SKIPPED: there are no templates in {DATA}");
        return Vec::new();
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".jinja")?.to_owned())).collect();
    names.sort();
    names.into_iter().filter_map(|name| Some((name.clone(), template(&name)?))).collect()
}

fn tokenizer(source: firecrest_weights::MemorySource) -> Tokenizer {
    let file = pollster::block_on(ModelFile::open(vec![Box::new(source)])).expect("a GGUF file");
    Tokenizer::from_file(&file).expect("a tokenizer").expect("one with text")
}

fn shipped() -> Tokenizer {
    tokenizer(firecrest_weights::MemorySource::new("chat", firecrest_models::CHAT))
}

const NOW: Option<WallTime> = Some(WallTime { unix_seconds: 1_722_000_000, utc_offset_seconds: 0 });

fn ask(turns: Vec<Turn>) -> Ask {
    Ask {
        names: Names::MESSAGES,
        last: "messages".into(),
        model: "m".to_owned(),
        turns,
        raw: Vec::new(),
        echo: false,
        tools: Vec::new(),
        tool_choice: ToolChoice::Auto,
        parallel_tools: true,
        format: None,
        thinking: Thinking::Unsaid,
        max_tokens: None,
        stop: Vec::new(),
        sampling: Sampling::default(),
        logprobs: None,
        choices: 1,
        stream: false,
        tier: ServiceTier::Auto,
        user: None,
        beyond: Vec::new(),
    }
}

fn turn(role: Role, content: Content) -> Turn {
    Turn { role, parts: vec![Part { content, cache: None }] }
}

fn says(role: Role, text: &str) -> Turn {
    turn(role, Content::Text(text.to_owned()))
}

fn kept(mut turn: Turn) -> Turn {
    turn.parts.last_mut().expect("a part").cache = Some(CacheTtl::FiveMinutes);
    turn
}

/// An ask of what stands in OpenAI's form.
fn of_context(context: &Value) -> Ask {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut turns = Vec::new();
    for message in context["messages"].as_array().expect("messages") {
        let content = text(&message["content"]);
        match message["role"].as_str().expect("a role") {
            "system" => turns.push(says(Role::System, &content)),
            "user" => turns.push(says(Role::User, &content)),
            "tool" => {
                let id = text(&message["tool_call_id"]);
                turns.push(turn(Role::User, Content::ToolResult { id, text: content, is_error: false }));
            }
            _ => {
                let mut parts = Vec::new();
                if !content.is_empty() {
                    parts.push(Part { content: Content::Text(content), cache: None });
                }
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    let input = serde_json::from_str(&text(&call["function"]["arguments"])).expect("arguments");
                    let content = Content::ToolUse { id: text(&call["id"]), name: text(&call["function"]["name"]), input };
                    parts.push(Part { content, cache: None });
                }
                turns.push(Turn { role: Role::Assistant, parts });
            }
        }
    }
    let tools = context["tools"].as_array().into_iter().flatten().map(|tool| Tool {
        at: 0,
        name: text(&tool["function"]["name"]),
        description: tool["function"]["description"].as_str().map(str::to_owned),
        schema: tool["function"]["parameters"].clone(),
        strict: false,
        cache: None,
    });
    Ask { tools: tools.collect(), ..ask(turns) }
}

#[test]
fn formats_are_told_by_their_templates() {
    for (name, format) in [
        ("Qwen-Qwen2.5-7B-Instruct", "hermes"),
        ("Qwen-Qwen2-7B-Instruct", "generic"),
        ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", "hermes"),
        ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "hermes"),
        ("meta-llama-Meta-Llama-3.1-8B-Instruct", "llama"),
        ("CohereForAI-c4ai-command-r-plus-tool_use", "generic"),
        ("mistralai-Mistral-7B-Instruct-v0.2", "generic"),
    ] {
        if let Some(source) = template(name) {
            assert_eq!(ToolFormat::of_template(&source).name, format, "{name}");
        }
    }
}

#[test]
fn neutral_turns_render_as_the_goldens_do() {
    let tokenizer = shipped();
    let mut seen = 0;
    for (name, source) in templates() {
        let prompter = Prompter::new(tokenizer.clone(), Some(&source)).expect("a template");
        let traits = prompter.traits().expect("traits").clone();
        for context_name in ["simple", "system", "tool_use"] {
            let Ok(golden) = std::fs::read_to_string(format!("{DATA}/chat/goldens/{name}-{context_name}.txt")) else { continue };
            let Some(context) = read(&format!("chat/contexts/{context_name}.json")) else { continue };
            let context: Value = serde_json::from_str(&context).expect("JSON");
            // Tools that the template writes in a way of its own are written here in the generic one; Llama's golden names built-in tools.
            if context_name == "tool_use" && (!traits.format.in_template || name.contains("Llama-3.1-8B-Instruct")) {
                continue;
            }
            // Written into the user's turn for templates that take no system text.
            if context_name == "system" && !traits.system {
                continue;
            }
            let mut asked = of_context(&context);
            // Goldens begin another answer behind an answer; asks have somebody speak in between.
            asked.turns.push(says(Role::User, "Go on."));
            let (ours, continues) = prompter.text(&asked, NOW).unwrap_or_else(|e| panic!("{name} {context_name}: {e}"));
            assert!(!continues);
            let golden = golden.replace("<|endoftext|>", tokenizer.eos_text()).replace("<|startoftext|>", tokenizer.bos_text());
            // Where templates paste arguments as text, asks have them spaced as everywhere else.
            let golden = golden.replace(r#"{"condition":true}"#, r#"{"condition": true}"#);
            let common = golden.bytes().zip(ours.bytes()).take_while(|(a, b)| a == b).count();
            let rest = &golden[golden.floor_char_boundary(common)..];
            assert!(ours.ends_with(rest), "{name} {context_name}: from {rest:?} on\n{ours}");
            seen += 1;
        }
    }
    assert!(seen > 25 || templates().is_empty(), "{seen} goldens");
}

#[test]
fn answers_can_be_begun_with_every_template() {
    let tokenizer = shipped();
    for (name, source) in templates() {
        let prompter = Prompter::new(tokenizer.clone(), Some(&source)).expect("a template");
        for system in [true, false] {
            let mut turns = vec![says(Role::User, "Who?"), says(Role::Assistant, "  It was {{ the fox")];
            if system {
                turns.insert(0, says(Role::System, "Be brief."));
            }
            let (text, continues) = prompter.text(&ask(turns.clone()), NOW).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(continues && text.ends_with("It was {{ the fox"), "{name}: {text}");
            assert!(!system || text.contains("Be brief."), "{name}: {text}");
            // An empty beginning is none.
            turns.pop();
            let plain = prompter.text(&ask(turns.clone()), NOW).expect("a text");
            turns.push(says(Role::Assistant, ""));
            assert_eq!(prompter.text(&ask(turns), NOW).expect("a text"), plain);
        }
    }
}

#[test]
fn breakpoints_are_prefixes_of_whatever_goes_on_from_there() {
    let tokenizer = shipped();
    let context = read("chat/contexts/tool_use.json").map(|text| of_context(&serde_json::from_str(&text).expect("JSON")));
    let tools = context.map_or(Vec::new(), |asked| asked.tools);
    for (name, source) in templates() {
        let prompter = Prompter::new(tokenizer.clone(), Some(&source)).expect("a template");
        let conversation = |question: &str| {
            let turns = vec![
                kept(says(Role::System, "You are a fox. You know every tree in the wood by its name.")),
                kept(says(Role::User, "Which tree is the oldest one here?")),
                kept(says(Role::Assistant, "The oak at the pond.")),
                says(Role::User, question),
            ];
            let mut tools = tools.clone();
            if let Some(last) = tools.last_mut() {
                last.cache = Some(CacheTtl::OneHour);
            }
            Ask { tools, ..ask(turns) }
        };
        let prompt =
            |question: &str| prompter.prompts(&conversation(question), NOW, usize::MAX).unwrap_or_else(|e| panic!("{name}: {e}")).remove(0);
        let (one, other) = (prompt("How old is it?"), prompt("Zebras?"));
        assert_eq!(one.breakpoints, other.breakpoints, "{name}");
        let at = &one.breakpoints;
        assert!(at.len() >= 2 && at.is_sorted_by_key(|at| at.positions), "{name}: {at:?}");
        for at in at {
            let end = at.positions as usize;
            assert_eq!(one.ids[..end], other.ids[..end], "{name}: {at:?}");
        }
        // The last one is as far as it can be: right behind the answer.
        let text = tokenizer.decode(&one.ids[..at.last().expect("breakpoints").positions as usize], false);
        let moved = at.last().expect("breakpoints").moved;
        assert!(moved || text.trim_end().ends_with("pond."), "{name}: {at:?} {text:?}");
    }
}

/// An ask that says a text in one of the places that a caller fills, and `x` in all others.
fn forged(place: usize, forged: &str) -> Option<Ask> {
    let mut number = 0;
    let mut say = || {
        number += 1;
        if number == place + 1 { forged.to_owned() } else { "x".to_owned() }
    };
    let system = Turn {
        role: Role::System,
        parts: vec![Part { content: Content::Text(say()), cache: None }, Part { content: Content::Text(say()), cache: None }],
    };
    let document = Content::Document { title: Some(say()), context: Some(say()), text: say() };
    let id = say();
    let called = Content::ToolUse { id: id.clone(), name: say(), input: json!({ say(): [say()] }) };
    let mut asked = ask(vec![
        system,
        says(Role::User, &say()),
        turn(Role::Assistant, Content::Thinking { text: say(), signature: Some(say()) }),
        says(Role::User, &say()),
        turn(Role::Assistant, called),
        turn(Role::User, Content::ToolResult { id, text: say(), is_error: true }),
        turn(Role::Assistant, Content::Text(say())),
        turn(Role::User, Content::ToolResult { id: say(), text: "x".to_owned(), is_error: false }),
        says(Role::Assistant, "x"),
        turn(Role::User, document),
    ]);
    asked.user = Some(say());
    asked.tools.push(Tool {
        at: 0,
        name: say(),
        description: Some(say()),
        schema: json!({ "title": say(), say(): 1 }),
        strict: false,
        cache: None,
    });
    (place < number).then_some(asked)
}

#[test]
fn no_place_that_a_caller_fills_makes_a_control_token() {
    let tokenizer = shipped();
    let control = |id: &u32| tokenizer.token_kind(*id) == Some(TokenKind::Control);
    let names: Vec<&str> = (0..tokenizer.vocab_size() as u32).filter(control).filter_map(|id| tokenizer.token_text(id)).collect();
    let text = names.join(" x");
    let all = "{% for message in messages %}[{{ message.role }}] {{ message.content }}{{ message.tool_calls }}{{ message.tool_call_id }}\
               {{ message.name }}{{ message.reasoning_content }}\n{% endfor %}{{ tools }}<tool_call>";
    let (mut tried, mut calls) = (0, 0);
    for (name, source) in [("all".to_owned(), all.to_owned())].into_iter().chain(templates()) {
        let prompter = Prompter::new(tokenizer.clone(), Some(&source)).expect("a template");
        let count = |asked: &Ask| {
            let ids = prompter.prompts(asked, NOW, usize::MAX).ok()?.remove(0).ids;
            Some(ids.iter().filter(|id| control(id)).count())
        };
        let Some(plain) = forged(0, "x").and_then(|asked| count(&asked)) else { continue };
        for (place, asked) in (0..).map_while(|place| Some((place, forged(place, &text)?))) {
            // Some templates refuse what others take, such as ids of another form.
            let Some(found) = count(&asked) else { continue };
            assert_eq!(found, plain, "{name}: place {place} of an ask");
            tried += 1;
        }
        calls += 1;
    }
    assert!(calls >= 1 && tried >= 15, "{calls} templates, {tried} asks");
}

#[test]
fn callers_make_no_control_tokens() {
    for name in ["ggml-vocab-phi-3", "ggml-vocab-deepseek-coder", "ggml-vocab-llama-spm", "ggml-vocab-gpt-2"] {
        let Ok(bytes) = std::fs::read(format!("{DATA}/tokenizers/{name}.gguf")) else {
            eprintln!("SKIPPED: there is no {name}");
            continue;
        };
        let tokenizer = tokenizer(firecrest_weights::MemorySource::new(name, bytes));
        let source =
            "{% for message in messages %}[{{ message.role }}] {{ message.content }}{{ message.tool_calls }}\n{% endfor %}{{ tools }}";
        let prompter = Prompter::new(tokenizer.clone(), Some(source)).expect("a template");
        let control = |id: &u32| tokenizer.token_kind(*id) == Some(TokenKind::Control);
        let names: Vec<&str> =
            (0..tokenizer.vocab_size() as u32).filter(control).filter_map(|id| tokenizer.token_text(id)).take(40).collect();
        assert!(!names.is_empty());
        let forged = names.join(" x");
        let call = Content::ToolUse { id: "a".into(), name: "f".into(), input: json!({ forged.as_str(): forged }) };
        let result = Content::ToolResult { id: "a".into(), text: forged.clone(), is_error: true };
        let mut asked =
            ask(vec![says(Role::System, &forged), says(Role::User, &forged), turn(Role::Assistant, call), turn(Role::User, result)]);
        asked.tools.push(Tool {
            at: 0,
            name: "f".into(),
            description: Some(forged.clone()),
            schema: json!({ "title": forged }),
            strict: false,
            cache: None,
        });
        let ids = prompter.prompts(&asked, NOW, usize::MAX).expect("a prompt").remove(0).ids;
        assert!(!ids.iter().any(control), "{name}");
        // And nothing is lost of what they said.
        let text = tokenizer.decode(&ids, false);
        assert!(text.replace(' ', "").contains(&forged.replace(' ', "")), "{name}: {text}");
    }
}

#[test]
fn thoughts_begin_and_end_as_asked() {
    let qwen = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}";
    let always = "{% for m in messages %}{{ m.content }}{{ m.reasoning_content }}\n{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}{# </think> #}";
    let tokenizer = shipped();
    for (source, thinking, thinks, end) in [
        (qwen, Thinking::Unsaid, false, "assistant\n"),
        (qwen, Thinking::Off, false, "</think>\n\n"),
        (qwen, Thinking::Adaptive { hidden: false }, true, "assistant\n<think>\n"),
        (always, Thinking::Unsaid, true, "<think>\n"),
        (always, Thinking::Off, false, "<think>\n\n</think>\n\n"),
        (always, Thinking::Budget { tokens: 9, hidden: true }, true, "<think>\n"),
    ] {
        let prompter = Prompter::new(tokenizer.clone(), Some(source)).expect("a template");
        let asked = Ask { thinking, ..ask(vec![says(Role::User, "Why?")]) };
        let prompt = prompter.prompts(&asked, NOW, usize::MAX).expect("a prompt").remove(0);
        assert_eq!(prompt.thinks.is_some(), thinks, "{thinking:?}");
        assert!(tokenizer.decode(&prompt.ids, false).ends_with(end), "{thinking:?}: {:?}", tokenizer.decode(&prompt.ids, false));
    }
    let prompter = Prompter::new(tokenizer, Some(always)).expect("a template");
    let thought = Turn {
        role: Role::Assistant,
        parts: vec![
            Part { content: Content::Thinking { text: "hm".into(), signature: None }, cache: None },
            Part { content: Content::Text("So.".into()), cache: None },
        ],
    };
    let asked = ask(vec![says(Role::User, "Why?"), thought, says(Role::User, "And?")]);
    assert!(prompter.text(&asked, NOW).expect("a text").0.contains("So.hm"));
}
