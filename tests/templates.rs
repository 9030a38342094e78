//! Chat templates: the shared data's goldens, Python's ways, and limits.

use firecrest_engine::ErrorCode;
use firecrest_engine::text::{ChatTemplate, TemplateLimits, WallTime};
use firecrest_tests::shared_data_or_skip;
use serde_json::{Value, json};

#[test]
fn every_shared_golden_is_rendered() {
    let Some(data) = shared_data_or_skip("chat templates") else { return };
    let chat = data.join("chat");
    let read = |folder: &str, name: &str| std::fs::read_to_string(chat.join(folder).join(name)).unwrap();
    let mut cases = 0;
    for golden in std::fs::read_dir(chat.join("goldens")).unwrap() {
        let name = golden.unwrap().file_name().into_string().unwrap();
        let case = name.strip_suffix(".txt").unwrap();
        let (template, context) = case.rsplit_once('-').unwrap();
        let context: Value = serde_json::from_str(&read("contexts", &format!("{context}.json"))).unwrap();
        let source = read("templates", &format!("{template}.jinja"));
        let rendered = ChatTemplate::new(&source).unwrap().render(&context, None);
        assert_eq!(rendered.unwrap_or_else(|e| panic!("{case}: {e}")), read("goldens", &name), "{case}");
        cases += 1;
    }
    assert!(cases >= 40, "only {cases} goldens found");
}

#[track_caller]
fn renders(source: &str, context: Value, expected: &str) {
    let rendered = ChatTemplate::new(source).unwrap().render(&context, None);
    assert_eq!(rendered.unwrap_or_else(|e| panic!("{source}: {e}")), expected, "{source}");
}

#[track_caller]
fn fails(source: &str, context: Value, says: &str) {
    let failed = ChatTemplate::new(source).and_then(|t| t.render(&context, None)).map(|text| text.len());
    let error = failed.err().unwrap_or_else(|| panic!("{source:.200} rendered"));
    assert_eq!(error.code(), ErrorCode::Template, "{error}");
    assert!(error.message().contains(says), "{source:.200}: {error}");
}

#[test]
fn values_print_as_python_prints_them() {
    renders("{{ true }} {{ none }} {{ 1.0 }} {{ 2 * 3.5 }} {{ 7 // 2 }} {{ missing }}|", json!({}), "True None 1.0 7.0 3 |");
    renders("{{ [1, 'a', none, true] }} {{ {'k': 'v'} }}", json!({}), "[1, 'a', None, True] {'k': 'v'}");
    renders("{{ x ~ 1 ~ none }}", json!({"x": "a"}), "a1None");
}

#[test]
fn json_is_written_as_python_writes_it() {
    let context = json!({"x": {"b": [1, 2.5, "ü\n\""], "a": {}, "e": []}});
    renders("{{ x | tojson }}", context.clone(), r#"{"b": [1, 2.5, "ü\n\""], "a": {}, "e": []}"#);
    renders("{{ x.b | tojson(indent=2) }}", context.clone(), "[\n  1,\n  2.5,\n  \"ü\\n\\\"\"\n]");
    renders("{{ x | tojson(separators=(',', ':'), sort_keys=true) }}", context.clone(), r#"{"a":{},"b":[1,2.5,"ü\n\""],"e":[]}"#);
    renders("{{ x.b[2] | tojson(ensure_ascii=true) }}", context, r#""\u00fc\n\"""#);
    renders("{{ [1e20, 1e-7, 1e16, 123456789.0, true] | tojson }}", json!({}), "[1e+20, 1e-07, 1e+16, 123456789.0, true]");
    fails("{{ missing | tojson }}", json!({}), "not JSON serializable");
}

#[test]
fn python_methods_work_on_strings_lists_and_dictionaries() {
    let x = json!({"s": " <a>b</a> ", "d": {"k": 1, "l": 2}, "l": ["a", "b"]});
    renders("{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}|", x.clone(), "<a>b</a>|<a>b</a> | <a>b</a>|");
    renders("{{ s.split('<')[-1] }}|{{ s.split('a', 1)[1] }}", x.clone(), "/a> |>b</a> ");
    renders("{{ 'a b'.split() }}{{ 'a-b-c'.rsplit('-', maxsplit=1) }}", x.clone(), "['a', 'b']['a-b', 'c']");
    renders("{{ s.startswith(' <') }}{{ s.endswith('x') }}{{ s.find('b') }}{{ s.upper() }}", x.clone(), "TrueFalse4 <A>B</A> ");
    renders("{{ s.replace('a', 'xx') }}{{ s.removeprefix(' ') }}{{ 'x.py'.removesuffix('.py') }}", x.clone(), " <xx>b</xx> <a>b</a> x");
    renders(
        "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{{ d.get('z', 3) }}{{ d.keys() | list }}",
        x.clone(),
        "k=1;l=2;3['k', 'l']",
    );
    renders("{{ '-'.join(l) }}{{ '{}:{:>3}'.format('a', 1) }}{{ 'ab'.title() }}{{ '7'.zfill(3) }}", x.clone(), "a-ba:  1Ab007");
    renders("{{ 'k=v'.partition('=') | list }}{{ l.index('b') }}{{ 'aXb'.lower() }}", x, "['k', '=', 'v']1axb");
}

#[test]
fn jinja_s_own_means_are_there() {
    renders(
        "{%- set ns = namespace(n=0, last='') -%}{%- for m in messages if m.role != 'x' -%}{%- set ns.n = ns.n + 1 -%}{{ loop.index0 }}{{ m.role }}{%- if not loop.last %},{% endif -%}{%- endfor -%}={{ ns.n }}",
        json!({"messages": [{"role": "a"}, {"role": "x"}, {"role": "b"}]}),
        "0a,1b=2",
    );
    renders(
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
        json!({}),
        "023",
    );
    renders("{% macro m(a, b='z') %}<{{ a }}{{ b }}>{% endmacro %}{{ m('x') }}{{ m('y', b='w') }}", json!({}), "<xz><yw>");
    renders(
        "{{ l | selectattr('t', 'equalto', 1) | map(attribute='n') | join(', ') }}",
        json!({"l": [{"t": 1, "n": "a"}, {"t": 2, "n": "b"}, {"t": 1, "n": "c"}]}),
        "a, c",
    );
    renders("{{ l[::-1] }}{{ l[1:] | length }}{{ l | first }}{{ 'abc'[:2] }}{{ l[-1] }}", json!({"l": [1, 2, 3]}), "[3, 2, 1]21ab3");
    renders(
        "{{ x is defined }}{{ y is defined }}{{ x is string }}{{ x is mapping }}{{ m is mapping }}{{ x is iterable }}{{ n is none }}",
        json!({"x": "a", "m": {}, "n": null}),
        "TrueFalseTrueFalseTrueTrueTrue",
    );
    renders(
        "{{ 'a' in x }}{{ 'z' not in x }}{{ 'k' in m }}{{ (x or 'no') if x else 'none' }}",
        json!({"x": "abc", "m": {"k": 0}}),
        "TrueTrueTrueabc",
    );
    renders("{% set x %}a{{ 1 }}{% endset %}{{ x * 2 }}{{ x | upper }}{{ '%s-%d' | format('a', 3) }}", json!({}), "a1a1A1a-3");
    renders("{% filter upper %}a{{ 'b' }}{% endfilter %}", json!({}), "AB");
    renders(
        "{{ 'a\nb' | indent(2) }}{{ 'a\n\nb' | indent(width=1, first=true, blank=true) }}|{{ 'x' | default('d') }}{{ q | default('d') }}{{ [3, 1, 2] | sort }}{{ {'b': 1, 'a': 2} | dictsort }}",
        json!({}),
        "a\n  b a\n \n b|xd[1, 2, 3][('a', 2), ('b', 1)]",
    );
    renders(
        "{% for a in t recursive %}{{ a.n }}{% if a.c %}({{ loop(a.c) }}){% endif %}{% endfor %}",
        json!({"t": [{"n": 1, "c": [{"n": 2}, {"n": 3}]}, {"n": 4}]}),
        "1(23)4",
    );
    renders("{% macro w() %}[{{ caller() }}]{% endmacro %}{% call w() %}x{% endcall %}", json!({}), "[x]");
}

#[test]
fn slices_are_those_of_python() {
    for (slice, expected) in [
        ("''[::-1]", ""),
        ("'abc'[::-1]", "cba"),
        ("'abcdef'[1:4:2]", "bd"),
        ("'abcdef'[4:1:-2]", "ec"),
        ("'abc'[-2:]", "bc"),
        ("'abc'[5:]", ""),
        ("'abc'[:-5]", ""),
        ("'abc'[0:5:-1]", ""),
        ("'abc'[9::-1]", "cba"),
        ("'abc'[:0:-1]", "cb"),
        ("'éü'[1:]", "ü"),
        ("[1, 2, 3][::-2]", "[3, 1]"),
        ("[][::-1]", "[]"),
        ("[1, 2, 3][:9999999999]", "[1, 2, 3]"),
    ] {
        renders(&format!("{{{{ {slice} }}}}"), json!({}), expected);
    }
    fails("{{ 'a'[::0] }}", json!({}), "steps of 0");
}

#[test]
fn blocks_are_trimmed_as_transformers_trims_them() {
    renders("a\n  {% if true %}\nb\n  {% endif %}\nc\n", json!({}), "a\nb\nc");
    renders("{% generation %}\nx\n{%- endgeneration -%}\n y", json!({}), "xy");
}

#[test]
fn tool_arguments_take_the_form_that_the_template_wants() {
    let context = |arguments: Value| json!({"messages": [{"tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}]});
    let each = |body: &str| format!("{{% for m in messages %}}{{% for c in m.tool_calls %}}{body}{{% endfor %}}{{% endfor %}}");
    let (text, object) = (json!(r#"{"a": [1]}"#), json!({"a": [1]}));
    // An object is read, and text becomes one.
    let json = each("{% set tool_call = c.function %}{{ tool_call.arguments | tojson }}");
    renders(&json, context(text.clone()), r#"{"a": [1]}"#);
    renders(&json, context(object), r#"{"a": [1]}"#);
    let pairs = each("{% set tool_call = c.function %}{% for k, v in tool_call.arguments | items %}{{ k }}={{ v }}{% endfor %}");
    renders(&pairs, context(text.clone()), "a=[1]");
    // Text is read, and stays as it was written.
    renders(&each("{{ '>' + c.function.arguments }}"), context(text), r#">{"a": [1]}"#);
    // What is no object stays text.
    renders(&json, context(json!("f(x)")), r#""f(x)""#);
}

#[test]
fn time_is_the_host_s() {
    let template = ChatTemplate::new("{{ strftime_now('%d %b %Y') }}").unwrap();
    let now = WallTime { unix_seconds: 1_721_952_000, utc_offset_seconds: 0 };
    assert_eq!(template.render(&json!({}), Some(now)).unwrap(), "26 Jul 2024");
    fails("{{ strftime_now('%d') }}", json!({}), "none was given");
}

#[test]
fn errors_name_the_line_and_the_reason() {
    fails(
        "a\nb {{ raise_exception('roles must alternate') }}",
        json!({}),
        "line 2: invalid operation: the template raised an exception: roles must alternate",
    );
    fails("\n\n{% if %}", json!({}), "line 3");
    fails("\n{{ x.y.z }}", json!({"x": {}}), "line 2");
    fails("{%}", json!({}), "line 1");
    fails("{{ f() }}", json!({}), "unknown function");
    fails("{{ 'a' | nothing }}", json!({}), "unknown filter");
    fails("{% include 'x' %}", json!({}), "stands alone");
    let error = ChatTemplate::new("x").unwrap().render(&json!([]), None).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Request);
}

#[test]
fn nothing_runs_without_end_or_grows_without_bound() {
    let x = || json!({"s": "abc", "l": [1, 2]});
    for source in [
        "{{ 'a' * 1000000000 }}",
        "{{ 1000000000 * 'a' * 1000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{{ range(1000000000) | list }}",
        "{{ 'a' ~ ('b' * 100000000) ~ 'c' }}",
        "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l == ns.l }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s.replace('b', 'bbbbb') %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] | join('x') %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}a long stretch of text that a loop repeats again and again and again and again and again and again and again and again and again and again and again and again{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{{ '{:>1000000000}'.format('a') }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ 'a' | indent(1000000000) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ l | batch(1000000000, 'x') | list }}",
        "{{ l | slice(1000000000) | list }}",
        "{{ l | tojson(indent=1000000000) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(a) %}{{ m(a + a) }}{% endmacro %}{{ m('ab') }}",
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns }}",
        "{% set ns = namespace(b=1) %}{% set ms = namespace(a=ns) %}{% set ns.b = ms %}{{ ns == ms }}",
    ] {
        // What it says differs; that it says something, soon, is the point.
        fails(source, x(), "chat template");
    }
}

#[test]
fn nesting_never_exhausts_the_stack() {
    // On a thread with the stack that a browser gives.
    let check = || {
        for (source, allowed) in [
            (format!("{{{{ {}1{} }}}}", "(".repeat(1_000), ")".repeat(1_000)), false),
            (format!("{{{{ {}1{} }}}}", "[".repeat(30), "]".repeat(30)), true),
            (format!("{{{{ 1{} }}}}", "+1".repeat(100_000)), false),
            (format!("{{{{ 1{} }}}}", "+1".repeat(390)), true),
            (format!("{{{{ {}1 }}}}", "not ".repeat(100_000)), false),
            (format!("{{{{ {}1 }}}}", "not ".repeat(390)), true),
            (format!("{{{{ {}1 }}}}", "-".repeat(100_000)), false),
            (format!("{{{{ x{} }}}}", ".y".repeat(100_000)), false),
            (format!("{{{{ x{} }}}}", "|list".repeat(100_000)), false),
            (format!("{{{{ {}1 }}}}", "1 if 1 else ".repeat(100_000)), false),
            (format!("{{{{ {}1 }}}}", "0 if 0 else ".repeat(130)), true),
            (format!("{}{}", "{% if 1 %}".repeat(1_000), "{% endif %}".repeat(1_000)), false),
            (format!("{}{}", "{% if 1 %}".repeat(60), "{% endif %}".repeat(60)), true),
            (format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(100_000)), false),
            (format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(60)), true),
        ] {
            let outcome = ChatTemplate::new(&source).and_then(|t| t.render(&json!({"x": 1}), None));
            assert_eq!(outcome.is_ok(), allowed, "{source:.60}: {:?}", outcome.err());
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(check).unwrap().join().unwrap();
}

#[test]
fn long_conversations_fit_the_limits() {
    let source = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content | trim + '\n' }}{% endfor %}";
    let messages: Vec<Value> = (0..5_000).map(|i| json!({"role": "user", "content": format!("{i} {}", "x".repeat(1_000))})).collect();
    let template = ChatTemplate::new(source).unwrap();
    let text = template.clone().render(&json!({ "messages": messages }), None).unwrap();
    assert!(text.len() > 5_000_000);
    let tight = template.with_limits(TemplateLimits { instructions: 1_000, ..TemplateLimits::default() });
    let error = tight.render(&json!({ "messages": messages }), None).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Template);
}

/// Sources and what jinja2 3.1.6 makes of them, set up as transformers sets it up (tests/oracle/templates.py).
#[rustfmt::skip]
const GOLDEN: &[(&str, &str)] = &[
    ("{{ tools is none }}{{ tools is defined }}{{ documents is none }}{{ tools is iterable }}", "TrueTrueTrueFalse"),
    ("{% if tools is iterable and tools|length > 0 %}T{% else %}N{% endif %}", "N"),
    ("{{ missing|length }}{{ missing|first }}{{ missing|items|list }}{{ missing|list }}", "0[][]"),
    ("{{ none is iterable }}{{ 'abc' is sequence }}{{ {} is sequence }}{{ true is integer }}{{ 1 is float }}", "FalseTrueTrueFalseFalse"),
    ("{{ e|default('d', boolean=true) }}{{ missing|default(default_value='v') }}{{ none|default('x') }}", "dvNone"),
    ("{{ '%s-%d' % ('a', 3) }}{{ '%(k)s %5.2f|%-4s|%05d' % ('', 1.5, 'x', 42) if false else '%.1f%%' % 99.55 }}", "a-399.5%"),
    ("{{ 'x'|int }}{{ ' 5 '|int }}{{ '0x1f'|int(0, 16) }}{{ '3.9'|int }}{{ 'x'|float }}{{ '1e3'|float }}{{ none|int(7) }}", "053130.01000.07"),
    ("{{ s|wordcount }}|{{ s|truncate(9) }}|{{ s|truncate(9, true, '~', 0) }}|{{ 'ab'|center(7) }}|{{ 'a b/ü&c'|urlencode }}|{{ {'a': 'x y', 'b': 1}|urlencode }}", "2|Hello, World|Hello, W~|   ab  |a%20b/%C3%BC%26c|a=x+y&b=1"),
    ("{{ 1|filesizeformat }}|{{ 13000|filesizeformat }}|{{ 4100000|filesizeformat(true) }}|{{ '<b>x</b> &amp; y'|striptags }}|{{ '<&>'|forceescape }}", "1 Byte|13.0 kB|3.9 MiB|x & y|&lt;&amp;&gt;"),
    ("{{ [1, 'a', none]|pprint }}|{{ 'the quick brown fox jumps'|wordwrap(9) }}|{{ {'class': 'a b', 'no': none}|xmlattr }}", "[1, 'a', None]|the quick\nbrown fox\njumps| class=\"a b\""),
    ("{{ range is callable }}{{ s is callable }}{{ 'tojson' is filter }}{{ 'nope' is test }}", "TrueFalseTrueFalse"),
    ("{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ j() }}c", "a|b|c"),
    ("{% set c = cycler('x', 'y') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}", "xyxy"),
    ("{% block body %}in {{ s|length }}{% endblock %}", "in 12"),
    ("{{ 'abcb'.startswith('b', 1) }}{{ 'abcb'.find('b', 2) }}{{ 'abcb'.count('b') }}{{ 'abcb'.endswith(('x', 'b')) }}{{ 'abcb'.rindex('b') }}", "True32True3"),
    ("{{ '{!r}|{:>6}|{:,}|{:.2e}|{0[k]}'.format('a', 'b', 1234567, 12.5) if false else '{!r}|{:>6}|{:,}|{:.2e}|{:+08.2f}'.format('a', 'b', 1234567, 12.5, 3.14159) }}", "'a'|     b|1,234,567|1.25e+01|+0003.14"),
    ("{{ 'Ab'.encode() }}{{ 'aB'.swapcase() }}{{ 'a\\tb'.expandtabs(4) }}|{{ \"they're\".title() }}|{{ \"they're\"|title }}", "b'Ab'Aba   b|They'Re|They're"),
    ("{{ 1e16 }} {{ 1e20 }} {{ 0.00001 }} {{ 123456.5 }} {{ -0.0 }} {{ 1e15 }}", "1e+16 1e+20 1e-05 123456.5 -0.0 1000000000000000.0"),
    ("{{ {none: 1, true: 2, 1.5: 3, 4: 'ü'}|tojson }}", "{\"null\": 1, \"true\": 2, \"1.5\": 3, \"4\": \"ü\"}"),
    ("{% raw %}{% generation %}x{% endgeneration %}{% endraw %}", "{% generation %}x{% endgeneration %}"),
    ("{% generation %}{% set y = 1 %}{{ y }}{% endgeneration %}{{ y is defined }}", "1False"),
    ("a{% if true %}\r\nb\r\n{% endif %}c{{ 'x\r\ny'|length }}", "ab\nc3"),
    ("{{ nest.items is callable }}{{ nest['items'] }}{% for k, v in nest.items() %}{{ k }},{% endfor %}", "True[1, 2]x,items,type,"),
    ("{{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7.5 // 2 }} {{ 2 ** -1 }} {{ true + 1 }}", "4 64 -4 2 3.0 0.5 2"),
    ("{{ [\"it's\", 'a\"b', 'x\\ny', 'é'] }} {{ (1,) }} {{ () }} {{ {'k': (1, 2.0)} }}", "[\"it's\", 'a\"b', 'x\\ny', 'é'] (1,) () {'k': (1, 2.0)}"),
    ("{{ [3, 1, 2]|sum }} {{ [1.5, 2]|sum }} {{ rows|sum(attribute='v') }} {{ words|sort|join(',') }} {{ words|unique|join(',') }}", "6 3.5 9 Apple,apple,fig,pear pear,Apple,fig"),
    ("{{ rows|map(attribute='g', default='?')|join(',') }} {{ rows|groupby('v')|map('first')|list }} {{ rows|max(attribute='v') }}", "A,b,a,? [1, 2, 3] {'n': 'x', 'v': 3, 'g': 'A'}"),
    ("{{ 'a,b,c'.rsplit(',', 1) }}{{ ' a b  c '.split(none, 1) }}{{ 'x=1'.partition('=') }}{{ 'a\\r\\nb\\n'.splitlines(true) }}", "['a,b', 'c']['a', 'b  c ']('x', '=', '1')['a\\r\\n', 'b\\n']"),
    ("{{ 2.675|round(2) }} {{ 2.5|round }} {{ 3.5|round }} {{ 7|round }} {{ 1.21|round(1, 'ceil') }} {{ 15|round(-1) }}", "2.67 2.0 4.0 7 1.3 20"),
    ("{{ 'ab cd'|capitalize }}{{ 'AbC'.istitle() }}{{ 'Ab C'.istitle() }}{{ '٣'.isdigit() }}{{ 'x1'.isidentifier() }}{{ ''.isalpha() }}", "Ab cdFalseTrueTrueTrueFalse"),
    ("{{ 'a\\nb\\n\\nc'|indent(2, true, true) }}|{{ 'a\\nb'|indent('> ') }}", "  a\n  b\n  \n  c|a\n> b"),
    ("{{ d|dictsort }}{{ d|dictsort(false, 'value', true) }}{{ dict(d, z=9)|tojson(sort_keys=true, separators=(',', ':')) }}", "[('a', 2), ('b', 1), ('C', 3)][('C', 3), ('a', 2), ('b', 1)]{\"C\":3,\"a\":2,\"b\":1,\"z\":9}"),
    ("{{ [[1, {'a': []}], {}]|tojson(indent=2) }}", "[\n  [\n    1,\n    {\n      \"a\": []\n    }\n  ],\n  {}\n]"),
    ("{{ strftime_now('%d %b %Y') }} {{ loop is defined }} {{ (1, 2)[::-1] }} {{ 'abc'[-2:] }}", "26 Jul 2024 False (2, 1) bc"),
];

#[test]
fn jinja_s_goldens_are_rendered() {
    let context = json!({
        "s": "Hello, World", "e": "", "words": ["pear", "Apple", "fig", "apple"], "d": {"b": 1, "a": 2, "C": 3},
        "nest": {"x": {"y": [1, {"z": "deep"}]}, "items": [1, 2], "type": "object"},
        "rows": [{"n": "x", "v": 3, "g": "A"}, {"n": "y", "v": 1, "g": "b"}, {"n": "z", "v": 2, "g": "a"}, {"n": "w", "v": 3}],
    });
    let now = WallTime { unix_seconds: 1_721_952_000, utc_offset_seconds: 0 };
    for (source, expected) in GOLDEN {
        let rendered = ChatTemplate::new(source).and_then(|t| t.render(&context, Some(now)));
        assert_eq!(rendered.unwrap_or_else(|e| panic!("{source}: {e}")), *expected, "{source}");
    }
}

#[test]
fn what_a_sandbox_refuses_is_refused() {
    for source in [
        "{{ [1].append(2) }}",
        "{{ {}.update({'a': 1}) }}",
        "{{ d.pop('k') }}",
        "{{ [2, 1].sort() }}",
        "{{ [].insert(0, 1) }}",
        "{{ open('/etc/passwd') }}",
        "{{ ''.__class__() }}",
        "{{ '{0.__class__}'.format('a') }}",
        "{{ '%s %s' % ('a',) }}",
        "{{ '%d' % 'a' }}",
        "{{ '{'.format() }}",
        "{{ 'a'.split('') }}",
        "{{ none|length }}",
        "{{ 1|length }}",
        "{{ 'a' + 1 }}",
        "{{ missing.x }}",
    ] {
        fails(source, json!({"d": {"k": 1}}), "chat template");
    }
}

/// Hostile templates: each ends with an error or a text, on a browser's stack, and soon. Only a hang takes long enough to fail.
#[test]
fn hostile_templates_end() {
    let s = "x".repeat(1000);
    let corpus = [
        "{{ lipsum(1000000000) }}".to_string(),
        "{{ lipsum(1, true, 1000000000, 1000000001) }}".into(),
        "{{ 'a'.center(1000000000) }}{{ 'a'|center(1000000000) }}".into(),
        "{{ '\t'.expandtabs(1000000000) }}".into(),
        "{{ '%*d' % (1000000000, 1) }}".into(),
        "{{ '%.1000000000f' % 1.5 }}".into(),
        "{{ '{:.1000000000f}'.format(1.5) }}".into(),
        "{{ '{:>{}}'.format('a', 1000000000) }}".into(),
        "{{ '%99999999999999999999d' % 1 }}".into(),
        "{{ 10 ** 10 ** 10 }}{{ 2 ** 1000000000 }}".into(),
        "{{ 'a' * 10 ** 9 }}".into(),
        "{% set ns = namespace(s=s) %}{% for i in range(99999) %}{% set ns.s = ns.s.replace('', 'xxxxxxxx') %}{% endfor %}".into(),
        "{% set ns = namespace(s=s) %}{% for i in range(99999) %}{% set ns.s = ns.s|replace('x', 'xx') %}{% endfor %}".into(),
        "{% set ns = namespace(s=s) %}{% for i in range(99999) %}{% set ns.s = ns.s|escape|forceescape|urlencode %}{% endfor %}".into(),
        "{% set ns = namespace(s=s) %}{% for i in range(99999) %}{% set ns.s = '{0}{0}{0}'.format(ns.s) %}{% endfor %}".into(),
        "{% set ns = namespace(s=s) %}{% for i in range(99999) %}{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}".into(),
        "{% set ns = namespace(s=s) %}{% for i in range(99999) %}{% set ns.s = ns.s|wordwrap(1)|indent(99) %}{% endfor %}".into(),
        "{% set ns = namespace(s=s) %}{% for i in range(99999) %}{% set ns.s = ns.s.translate({120: 'xxxxxxxxx'}) %}{% endfor %}".into(),
        "{% set ns = namespace(s=s) %}{% for i in range(99999) %}{% set ns.s = [ns.s, ns.s]|pprint %}{% endfor %}".into(),
        "{% set ns = namespace(s=s) %}{% for i in range(99999) %}{% set ns.s = ns.s|tojson|tojson(ensure_ascii=true) %}{% endfor %}".into(),
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ s.upper().lower().title() }}{% endfor %}{% endfor %}".into(),
        "{% for i in range(99999) %}{{ s|striptags|wordcount }}{% endfor %}".into(),
        "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}".into(),
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}".into(),
        "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}".into(),
        "{% block a %}{{ self.a() }}{% endblock %}".into(),
        "{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}".into(),
        "{% set f = {}.get %}{% set ns = namespace(f=f) %}{% for i in range(9999) %}{% set ns.f = [ns.f] %}{% endfor %}{{ ns.f }}".into(),
        "{% set c = cycler(s, s) %}{% for i in range(99999) %}{{ c.next() }}{% endfor %}".into(),
        format!("{}x{}", "{% block a %}".repeat(500), "{% endblock %}".repeat(500)),
        format!("{}x{}", "{% generation %}".repeat(500), "{% endgeneration %}".repeat(500)),
        format!("{{{{ s{} }}}}", ".items".repeat(300)),
        format!("{{{{ {}s{} }}}}", "'%s' % (".repeat(40), ")".repeat(40)),
        format!("{{{{ s{} }}}}", "|replace('x', 'xx')".repeat(60)),
        format!("{{{{ s{} }}}}", "|urlencode|escape".repeat(60)),
        "{% raw %}".repeat(10_000),
        "{{ '".repeat(10_000),
        "{%".repeat(100_000),
        "\r".repeat(900_000),
    ];
    let check = move || {
        for source in corpus {
            let began = std::time::Instant::now();
            let outcome = ChatTemplate::new(&source).and_then(|t| t.render(&json!({ "s": s }), None));
            assert!(outcome.as_ref().map_or(0, String::len) < 32 << 20, "{source:.80}");
            assert!(began.elapsed() < std::time::Duration::from_secs(20), "{source:.80} took {:?}", began.elapsed());
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(check).unwrap().join().unwrap();
}
