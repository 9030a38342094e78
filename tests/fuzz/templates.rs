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

/// What a hostile template may hold at its peak, under the limits that ship.
const HELD: usize = 64 << 20;

/// A loop that does something to a text that it keeps.
fn grows(step: &str) -> String {
    format!(
        "{{% set ns = namespace(s='0123456789abcdef' * 8, l=[], d={{}}) %}}{{% for i in range(99999) %}}{step}{{% endfor %}}{{{{ ns.s }}}}"
    )
}

/// Templates that make as much as they can, of text, of lists, of what stands in lists, of scopes.
fn hostile() -> Vec<String> {
    let mut all: Vec<String> = [
        "{% set ns.s = ns.s ~ ns.s %}",
        "{% set ns.s = ns.s + ns.s %}",
        "{% set ns.s = ns.s * 2 %}",
        "{% set ns.s = ns.s|replace('0', '00') %}",
        "{% set ns.s = ns.s.replace('', ns.s) %}",
        "{% set ns.s = ns.s.join(['a', 'b', 'c']) %}",
        "{% set ns.s = [ns.s, ns.s, ns.s]|join(ns.s) %}",
        "{% set ns.s = ns.s|list|join('--') %}",
        "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}",
        "{% set ns.s = ns.s.upper() %}{% set ns.l = ns.l + [ns.s ~ i] %}",
        "{% set ns.l = ns.l + [ns.l] %}",
        "{% set ns.l = [ns.l, ns.l] %}",
        "{% set ns.l = ns.l + [i] %}",
        "{% set ns.l = ns.l + ['this is a text of thirty bytes' ~ i] %}",
        "{% set ns.l = ns.l + [[i]] %}",
        "{% set ns.l = ns.l + [{}] %}",
        "{% set ns.l = ns.l + [{i: i}] %}",
        "{% set ns.l = ns.l + [namespace(a=i)] %}",
        "{% set ns.l = ns.l + [range(i)] %}",
        "{% set ns.l = ns.l + [ns.s.split('')] %}",
        "{% set ns.l = ns.l + [ns.s|list] %}",
        "{% set ns.l = [ns.l, namespace(l=ns.l)] %}",
        "{% set ns.d = dict(ns.d, k=ns.d) %}",
        "{% set ns.d = dict([(i, ns.d)]) %}",
        "{% set ns.l = ns.l * 2 + [1] %}",
        "{% set ns.l = (ns.l + [1])|batch(2)|list %}",
        "{% set ns.l = ns.l + [cycler(i, ns.s)] %}",
        "{% set ns.l = ns.l + [joiner(ns.s)] %}",
        "{% do ns.l.append(ns.s ~ i) %}",
        "{% do ns.l.append(ns.l) %}",
        "{% do ns.d.update({i: ns.s ~ i}) %}",
        "{% set ns.s = ns.l|string ~ ns.s %}{% set ns.l = ns.l + [i] %}",
        "{{ ns.s }}{% set ns.s = ns.s ~ i %}",
        "{% set a = ns.s ~ i %}{% set b = a ~ a %}{% set c = b ~ b %}{{ c }}",
        "{% set ns.s = ns.s|tojson|tojson %}",
        "{% set ns.s = ns.s.encode() %}",
        "{% set ns.s = ns.s|indent(1000) %}",
        "{% set ns.s = ns.s|format(ns.s, ns.s) %}",
        "{% set ns.s = '%s%s%s' % (ns.s, ns.s, i) %}",
        "{% set ns.s = ns.s[::-1] ~ ns.s[1:] %}",
        "{% set ns.l = ns.l + ns.s|groupby(0)|list %}",
        "{% set ns.l = (ns.l + [i, i + 1])|sort|unique|list %}",
        "{% set ns.l = ns.l + [[ns.s] * 1000] %}",
    ]
    .into_iter()
    .map(grows)
    .collect();
    all.extend(
        [
            "{{ 'a' * 10**9 }}",
            "{{ ('a' * 4000000)|list|length }}",
            "{{ ['a' * 100] * 10**7 }}",
            "{{ [[]] * 10**6 }}",
            "{{ range(10**9)|list|length }}",
            "{{ (range(99999) * 10**9)|length }}{{ range(99999)[::-1] * 100 }}",
            "{{ ('a' * 4000000)|sort|length }}",
            "{{ ('a' * 4000000)|unique|list }}",
            "{{ ('a' * 4000000)|map('upper')|join }}",
            "{{ ('a' * 4000000)|select|list }}{{ ('a' * 4000000)|reject('none')|list }}",
            "{{ ('a' * 4000000)|selectattr('x')|list }}",
            "{{ ('a' * 4000000)|groupby('x') }}",
            "{{ ('a' * 4000000)|batch(1)|list }}",
            "{{ ('a' * 4000000)|slice(2)|list }}",
            "{{ ('a' * 4000000)|reverse|list }}{{ ('a' * 4000000)[::-1]|max }}",
            "{{ ','.join('a' * 4000000) }}",
            "{{ ('a' * 4000000).split('a') }}{{ ('a ' * 2000000).split() }}",
            "{{ ('a' * 4000000)|wordwrap(1) }}",
            "{{ ('a\n' * 2000000).splitlines()|list }}{{ ('a\n' * 2000000)|lines }}",
            "{% filter list %}{% for i in range(99999) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfilter %}",
            "{% set ns = namespace(l=[]) %}{% for i in range(10000) %}{% set ns.l = ns.l + ['a' * 100] %}{% set ns.m = ns.l|map('replace', 'a', 'bb')|list %}{% endfor %}",
            "{{ range(10**9)|length }}",
            "{{ range(10**9)|join(',') }}",
            "{{ range(10**9)|map('string')|list }}",
            "{{ range(400000)|map('string')|list|length }}",
            "{{ range(10**9)|reverse|first }}",
            "{{ range(10**9)|sort|first }}",
            "{{ range(10**9)|batch(3)|list|length }}",
            "{{ range(10**9)|groupby('x')|list|length }}",
            "{{ range(10**9)|sum }}",
            "{{ range(10**9)|tojson }}",
            "{{ range(10**9)|string }}",
            "{{ range(10**9)|slice(10**9)|list|length }}",
            "{{ [1]|slice(10**9)|list|length }}",
            "{{ 10**9 in range(10**9) }}{{ 5 in range(10**9)|list }}",
            "{{ dict(range(10**6)|zip(range(10**6))) }}",
            "{% for i in range(10**9) %}{% endfor %}",
            "{% for i in range(10**9) %}x{% endfor %}",
            "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}",
            "{% for x in range(10**9)|list %}{% endfor %}",
            "{% for x in range(300000)|list %}{% set y = [x] * 10 %}{% endfor %}",
            "{% for x in range(300000) if x % 2 %}{{ loop.length }}{% endfor %}",
            "{% for x in 'a' * 4000000 %}{% endfor %}",
            "{% for a in range(300000)|map('string') %}{{ loop.previtem }}{{ loop.changed(a) }}{% endfor %}",
            "{% macro m(n) %}{{ 'x' * 1000 }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
            "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
            "{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) }}{{ m(n - 1) }}{% else %}{{ 'x' * 1000 }}{% endif %}{% endmacro %}{{ m(60) }}",
            "{% macro m(n, s) %}{% if n > 0 %}{{ m(n - 1, s ~ s) }}{% endif %}{% endmacro %}{{ m(60, 'x') }}",
            "{% macro m(n) %}{% set a = 'x' * 100000 %}{{ m(n + 1) }}{{ a }}{% endmacro %}{{ m(0) }}",
            "{% for x in [[[]]] recursive %}{{ loop([x, x]) }}{% endfor %}",
            "{% set a = 'x' * 100000 %}{% for i in range(90) %}{% set a = a ~ a %}{{ a }}{% endfor %}",
            "{{ messages|map(attribute='content')|list|string * 1000 }}",
            "{% for i in range(99999) %}{{ messages|tojson }}{{ messages|string }}{{ messages|pprint }}{% endfor %}",
            "{% for i in range(99999) %}{{ messages + messages }}{% endfor %}",
            "{{ lipsum(10**6) }}{{ '%*d' % (10**9, 1) }}{{ 'a'|center(10**9) }}{{ 2**(10**7) }}",
            "{% filter upper %}{% for i in range(10**9) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfilter %}",
            "{% call m() %}x{% endcall %}{% macro m() %}{% for i in range(99999) %}{{ caller() ~ caller() }}{% endfor %}{% endmacro %}",
        ]
        .map(String::from),
    );
    all.push(format!("{{% set s = 'x' * 1000 %}}{}", "{% set s = s ~ s %}".repeat(64)));
    all.push(format!("{{{{ 'x'{} }}}}", "|replace('x', 'xx')".repeat(60)));
    all.push(format!("{{{{ [{}] }}}}", "'x' * 100000,".repeat(300)));
    all.push("{{ x }}".repeat(100_000));
    all.push("{% set a = 1 %}".repeat(50_000));
    all
}

#[test]
fn hostile_templates_stay_within_their_memory() {
    // What a caller gives is a part of it: short, and, for one in three, long.
    for (words, step) in [(1, 1), (20_000, 3)] {
        let mut context = context();
        context["messages"][1]["content"] = json!("weather ".repeat(words));
        let (mut largest, mut wrong) = (0, Vec::new());
        for source in hostile().into_iter().skip(step / 2).step_by(step) {
            let (outcome, held) =
                allocator::peak(|| ChatTemplate::new(&source).and_then(|template| template.render(&context, None)).map(|text| text.len()));
            if held > HELD / 4 {
                eprintln!("{:6} kB {source:.120}: {:.100}", held >> 10, format!("{outcome:?}"));
            }
            if held > HELD {
                wrong.push(format!("{} kB: {source:.160}", held >> 10));
            }
            largest = largest.max(held);
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        eprintln!("{words} words: {} kB at most", largest >> 10);
    }
}
