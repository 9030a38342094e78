//! Chat templates made by chance out of what templates are made of, and real ones damaged; compiled, and rendered under limits.

use firecrest_engine::ErrorCode;
use firecrest_engine::text::{ChatTemplate, TemplateLimits, WallTime};
use firecrest_tests::random::Random;
use serde_json::{Value, json};

use crate::allocator;

/// What may be held beside twice the bytes given.
const SLACK: usize = 1 << 20;

/// A tenth of the slack for everything a template makes: what the engine holds beside that must fit the rest.
const LIMITS: TemplateLimits = TemplateLimits { instructions: 20_000, bytes: 100 << 10, bytes_per_context_byte: 2 };

/// Real templates' shapes, in our own words, for where the shared data is absent.
const SEEDS: [&str; 5] = [
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message['content'] | trim }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0].content %}{%- set rest = messages[1:] %}{%- else %}{%- set rest = messages %}{%- endif %}{{ bos_token }}{%- for m in rest %}{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{%- endif %}[{{ m.role | upper }}] {{ m.content }}{%- endfor %}",
    "{% set ns = namespace(found=false, text='') %}{% for m in messages | reverse %}{% if not ns.found and m.role == 'user' %}{% set ns.found = true %}{% set ns.text = m.content.strip() %}{% endif %}{% endfor %}{{ ns.text ~ '|' ~ ns.found }}",
    "{% macro show(value, depth=0) %}{% if value is mapping %}{% for k, v in value.items() %}{{ '  ' * depth }}{{ k }}: {{ show(v, depth + 1) }}{% endfor %}{% else %}{{ value | tojson }}{% endif %}{% endmacro %}{% for tool in tools or [] %}{{ show(tool) }}{% endfor %}{{ strftime_now('%d %b %Y') }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('\\n') }}{{ messages | length }}{{ range(3) | list }}{{ 'a,b'.split(',') }}{{ {'k': [1, 2.5, none]} | tojson(indent=2) }}{{ 'x' if tools is defined else 'y' }}",
];

/// What damage inserts.
const PIECES: [&str; 44] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "{%-",
    "-%}",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "|",
    ".",
    ",",
    ":",
    "~",
    "+",
    "* 1000000",
    "% 0",
    "// 0",
    "** 99",
    "not ",
    "is ",
    "in ",
    " if x else ",
    "for i in range(999999999) ",
    "loop",
    "messages",
    "recursive",
    "set x = x ~ x ",
    "macro f(x) ",
    "f(f(1))",
    "| tojson",
    "| join",
    "[::-1]",
    "['role']",
    "'a' * 99999",
    "é",
    "\u{0}",
];

fn context() -> Value {
    json!({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": " What is the weather in Zürich? "},
            {"role": "assistant", "content": null, "tool_calls": [{"name": "weather", "arguments": {"place": "Zürich", "days": 2}}]},
            {"role": "tool", "content": "{\"sky\": \"clear\"}"},
            {"role": "user", "content": "Thanks! 🎉"}
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "required": ["place"]}}}],
        "add_generation_prompt": true,
        "bos_token": "<s>",
        "eos_token": "</s>"
    })
}

/// A random expression; `depth` bounds how far it nests.
fn expression(depth: usize, random: &mut Random) -> String {
    if depth == 0 {
        return (*random.pick(&[
            "messages",
            "x",
            "1",
            "-2.5",
            "'text'",
            "none",
            "true",
            "[]",
            "{}",
            "loop",
            "m.role",
            "tools[0]",
            "eos_token",
        ]))
        .into();
    }
    let mut inner = || expression(depth - 1, random);
    let (a, b) = (inner(), inner());
    match random.below(14) {
        0 => format!("({a} ~ {b})"),
        1 => format!("{a} + {b}"),
        2 => format!("{a} * {b}"),
        3 => format!("{a}[{b}]"),
        4 => format!("{a}[{b}:]"),
        5 => format!("({a} if {b} else {a})"),
        6 => format!(
            "{a} | {}",
            random.pick(&[
                "length",
                "trim",
                "upper",
                "list",
                "tojson",
                "join(',')",
                "reverse",
                "first",
                "last",
                "items",
                "string",
                "safe",
                "unique",
                "sort"
            ])
        ),
        7 => format!(
            "{a}.{}({b})",
            random.pick(&["strip", "split", "replace", "startswith", "items", "get", "append", "upper", "lstrip", "join"])
        ),
        8 => format!("{a} is {}", random.pick(&["defined", "mapping", "string", "iterable", "none", "odd", "sequence"])),
        9 => format!("{a} == {b}"),
        10 => format!("{a} in {b}"),
        11 => format!("[{a}, {b}]"),
        12 => format!("{{'k': {a}}}"),
        _ => format!("{}({a})", random.pick(&["range", "dict", "namespace", "f", "raise_exception", "strftime_now", "debug", "lipsum"])),
    }
}

/// A random run of statements.
fn statements(depth: usize, random: &mut Random) -> String {
    let mut out = String::new();
    for _ in 0..1 + random.below(3) {
        let value = expression(random.below(3), random);
        if depth == 0 {
            out += &format!("{{{{ {value} }}}}");
            continue;
        }
        let body = statements(depth - 1, random);
        out += &match random.below(6) {
            0 => format!("{{% for m in {value} %}}{body}{{% endfor %}}"),
            1 => format!("{{%- if {value} %}}{body}{{% else %}}-{{% endif -%}}"),
            2 => format!("{{% set x = {value} %}}{body}"),
            3 => format!("{{% set x %}}{body}{{% endset %}}{{{{ x ~ x }}}}"),
            4 => format!("{{% macro f(x) %}}{body}{{% endmacro %}}{{{{ f({value}) }}}}"),
            _ => format!("text {{{{ {value} }}}}\n{body}"),
        };
    }
    out
}

fn damage(text: &mut String, random: &mut Random) {
    let at = |text: &str, random: &mut Random| {
        let mut at = random.below(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let here = at(text, random);
    let mut end = (here + random.below(24)).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let end = end.max(here);
    match random.below(5) {
        0 => text.replace_range(here..end, ""),
        1 => text.insert_str(here, random.pick::<&str>(&PIECES)),
        2 => text.replace_range(here..end, random.pick::<&str>(&PIECES)),
        3 => {
            let again = text[here..end].to_owned();
            let to = at(text, random);
            text.insert_str(to, &again);
        }
        _ => {
            let piece: &str = random.pick::<&str>(&PIECES);
            let many = piece.repeat(1 + random.below(300));
            text.insert_str(here, &many);
        }
    }
}

/// Templates to damage: our own, and the shared data's that are small.
fn seeds() -> Vec<String> {
    let mut seeds: Vec<String> = SEEDS.map(str::to_owned).into();
    if let Some(data) = firecrest_tests::shared_data_or_skip("damaged real chat templates") {
        let mut paths: Vec<_> = std::fs::read_dir(data.join("chat/templates")).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        seeds.extend(paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).filter(|text| text.len() < 1500));
    }
    seeds
}

fn template(case: usize, seeds: &[String]) -> String {
    let random = &mut Random::new(case as u64);
    let mut text = if random.one_in(2) { random.pick(seeds).clone() } else { statements(random.below(4), random) };
    for _ in 0..random.below(4) {
        damage(&mut text, random);
    }
    text
}

fn compile_and_render(source: &str, context: &Value, context_bytes: usize) -> Result<(), String> {
    let now = WallTime { unix_seconds: 1_700_000_000, utc_offset_seconds: 0 };
    let ((compiled, rendered), peak) = allocator::peak(|| {
        let template = ChatTemplate::new(source).map(|template| template.with_limits(LIMITS));
        let rendered = template.as_ref().ok().map(|template| template.render(context, Some(now)));
        (template.map(drop), rendered)
    });
    let given = source.len() + context_bytes;
    assert!(peak <= 2 * given + SLACK, "{peak} bytes were held for {given} bytes given");
    let error = match (compiled, rendered) {
        (Ok(()), Some(Ok(text))) => {
            assert!(text.len() <= LIMITS.bytes + LIMITS.bytes_per_context_byte * context_bytes, "{} bytes", text.len());
            return Ok(());
        }
        (Err(error), _) | (_, Some(Err(error))) => error,
        (Ok(()), None) => unreachable!("a template that compiles is rendered"),
    };
    assert_eq!(error.code(), ErrorCode::Template, "{error}");
    assert!(!error.message().is_empty(), "no message");
    Err(error.message().to_owned())
}

#[test]
fn templates() {
    let (context, seeds) = (context(), seeds());
    let context_bytes = context.to_string().len();
    crate::sweep("templates", |case| compile_and_render(&template(case, &seeds), &context, context_bytes));
}
