"""Template expressions and what Jinja makes of them, set up as transformers documents it.

templates.py COUNT SEED [FOLDER]   COUNT expressions, then every template of FOLDER/templates in three contexts
Writes a JSON object a line: source, context, text (null if Jinja raises), error.
"""

import json
import random
import sys
from datetime import datetime
from pathlib import Path

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = 1_721_952_000  # 2024-07-26 00:00:00 UTC


class Generation(jinja2.ext.Extension):
    """{% generation %}: what it holds, in a scope of its own."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("held"), [], [], body).set_lineno(line)

    def held(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: datetime.utcfromtimestamp(NOW).strftime(format)
    return env


ENV = environment()


def judged(source, context):
    try:
        text = ENV.from_string(source).render(**{"tools": None, "documents": None, **context})
        text.encode()
        return {"source": source, "context": context, "text": text, "error": None}
    except Exception as e:  # what Python raises, whatever it is
        return {"source": source, "context": context, "text": None, "error": f"{type(e).__name__}: {e}"}


CONTEXT = {
    "s": "Hello, World",
    "t": " a <b>tag</b> & 'q' ",
    "u": "ünïcode ß Ωmega 😀",
    "e": "",
    "lines": "one\ntwo\r\n\nthree",
    "n": 7,
    "z": 0,
    "neg": -3,
    "f": 2.5,
    "big": 12345678901234567,
    "yes": True,
    "no": False,
    "nil": None,
    "l": [3, 1, 2],
    "words": ["pear", "Apple", "fig", "apple"],
    "mixed": [1, "a", None, True, 2.0, [1], {"k": 1}],
    "empty": [],
    "d": {"b": 1, "a": 2, "C": 3},
    "nest": {"x": {"y": [1, {"z": "deep"}]}, "items": [1, 2], "type": "object"},
    "rows": [{"n": "x", "v": 3, "g": "A"}, {"n": "y", "v": 1, "g": "b"}, {"n": "z", "v": 2, "g": "a"}, {"n": "w", "v": 3}],
    "tools": None,
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo", "tool_calls": None}],
}


class Maker:
    """Expressions by the kind of value they most often make."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def pick(self, *of):
        return self.r.choice(of)

    def fill(self, pattern, depth):
        out, at = [], 0
        while (found := pattern.find("$", at)) >= 0:
            out.append(pattern[at:found])
            out.append(self.make(pattern[found + 1], depth - 1))
            at = found + 2
        return "".join(out) + pattern[at:]

    def make(self, kind, depth):
        # N int, F number, S text, L list, D dict, B truth, A anything, R rows, W list of text
        leaves = LEAVES[kind]
        if depth <= 0 or self.r.random() < 0.15:
            return self.pick(*leaves)
        return self.fill(self.pick(*PATTERNS.get(kind, leaves)), depth)


LEAVES = {
    "N": ["n", "z", "neg", "3", "10", "big", "1", "-1", "1_000", "true", "0", "255"],
    "F": ["f", "n", "2.0", "1e3", "0.1", "neg", "1e16", "123456.789", "1e-7", "3", "1e20", "-0.0"],
    "S": ["s", "t", "u", "e", "lines", "'abc'", '"it\'s"', "'a,b,,c'", "'  x  '", "'42'", "'they\\'re here'", "'-3.5'", "'x_y-z w'", "'tab\\there'",
          "'\\u00e9\\x41'", "'ABC'", "'a-b-c'", "'%'", "'100'", "'Ab1'"],
    "L": ["l", "mixed", "empty", "words", "[1, 2, 3]", "[[1, 2], [3]]", "(1, 'a')", "(1,)", "[none, true]", "[1.5, 2]", "range(4)|list"],
    "W": ["words", "['a', 'b']", "s.split(',')", "['x']", "empty", "lines.splitlines()", "'a b c'.split()"],
    "D": ["d", "nest", "{}", "{'k': 'v', 'n': none}", "{'a': [1], 'b': {'c': 2}}", "{1: 'one'}", "dict(a=1, b='x')"],
    "B": ["yes", "no", "true", "false", "n > 3", "nil is none", "missing is defined", "l", "e"],
    "A": ["n", "f", "s", "nil", "yes", "l", "d", "missing", "e", "empty", "z", "mixed", "nest.x", "nest.x.nope", "messages[0]", "tools", "(1, 2)", "'7'", "1.0"],
    "R": ["rows", "rows[:2]", "rows[1:]"],
}

PATTERNS = {
    "N": ["$N + $N", "$N - $N", "$N * $N", "$N // $N", "$N % $N", "$N ** 2", "2 ** 3 ** 2", "-$N", "-2 ** 2", "$S|length", "$L|length", "$D|length", "$A|length", "$A|count",
          "$S|int", "$A|int", "$F|int", "$S|int(5)", "$S|int(default=9)", "'ff'|int(base=16)", "'0x1f'|int(0, 16)", "'0b11'|int(base=2)", "' 12 '|int", "'1_000'|int", "$N|abs",
          "$S.find('l')", "$S.find('a', 2)", "$S.rfind('a')", "$S.count('a')", "$S.count('')", "$S.count('l', 3)", "$S.index('a')", "$L.index(1)", "$L.count(1)", "$S|wordcount",
          "$L|sum", "l|sum(start=10)", "$R|sum(attribute='v')", "$N if $B else $N", "($N, $N)|max", "[$N, $N]|min", "$F|round|int", "$N.bit_length()", "$W|map('length')|sum",
          "$L|first", "$L|last", "nest.x.y[0]", "$N|default(5)", "rows[0]['v']", "rows.0.v", "'7'|int + 1", "$F // 2", "(1, 2, 3)|length", "d.get('b')", "d['a']", "l[0]", "l[-1]", "$S.rindex('a', 1)"],
    "F": ["$F + $F", "$F - $F", "$F * $F", "$N / $N", "$F / 4", "$F // 0.5", "$F % 3", "$F ** 0.5", "$F ** 2", "-$F", "$F|round", "$F|round(1)", "$F|round(2, 'floor')", "$F|round(0, 'ceil')",
          "$F|round(-1)", "$S|float", "$A|float", "$S|float(1.5)", "'1e3'|float", "'nan'|float", "'inf'|float", "$F|abs", "$F|int", "[$F, $F]|max", "[$F, $F]|sum", "$N|float", "f.is_integer()"],
    "S": ["$S + $S", "$S ~ $A", "$A ~ $S", "$S * 2", "2 * $S", "$S * neg", "$S|upper", "$S|lower", "$S|title", "$S|capitalize", "$S|trim", "$S|trim(' a')", "$S|replace('a', 'bb')",
          "$S|replace('', '-')", "$S|replace('l', 'L', 1)", "$S|replace('o', '0', count=1)", "$L|join", "$L|join(', ')", "$W|join('-')", "$R|join(',', attribute='n')", "$S|e", "$S|escape",
          "$S|forceescape", "$S|striptags", "$S|truncate(5)", "$S|truncate(5, true)", "$S|truncate(6, true, '..')", "$S|truncate(3, false, '', 0)", "$S|truncate(length=8, killwords=true, end='~', leeway=0)",
          "$S|center(20)", "$S|center", "$S|wordwrap(5)", "$S|wordwrap(4, false)", "$S|wordwrap(6, true, '|')", "$S|urlencode", "$D|urlencode", "$F|filesizeformat", "$N|filesizeformat(true)", "1500000|filesizeformat",
          "$S|indent", "$S|indent(2)", "$S|indent(2, true)", "$S|indent(width=3, first=true, blank=true)", "$S|indent('> ')", "$A|string", "$A|pprint", "$D|xmlattr", "d|xmlattr(false)",
          "$S|format(1)", "'%s-%d'|format('a', 3)", "'%s' % $A", "'%s-%s' % ($A, $S)", "'%d %5.2f %x %o %e %g' % ($N, $F, 255, 8, $F, $F)", "'%05d|%-5d|%+d|% d' % ($N, $N, $N, $N)", "'%r' % $A", "'%r' % $S",
          "'%%' % ()", "'%c' % 'x'", "'%s' % ($A,)", "'%(a)s' % {'a': $A}", "'%10s|%-10s|%.2s' % ($S, $S, $S)", "'%#x %X' % (255, 255)", "$S.upper()", "$S.lower()", "$S.title()", "$S.capitalize()", "$S.swapcase()",
          "$S.strip()", "$S.lstrip()", "$S.rstrip()", "$S.strip(' a')", "$S.lstrip('xH')", "$S.rstrip('dc')", "$S.replace('a', 'b')", "$S.replace('a', 'bb', 1)", "$S.center(15)", "$S.center(14, '*')", "$S.ljust(9, '.')",
          "$S.rjust(9)", "$S.zfill(6)", "'-42'.zfill(6)", "$S.expandtabs(4)", "$S.expandtabs()", "$S.casefold()", "$S.removeprefix('a')", "$S.removesuffix('c')", "$S.join($W)", "$S.encode()", "$S.encode('utf-8').decode()",
          "'{} {}'.format($A, $S)", "'{0}{1}{0}'.format($S, $N)", "'{a}'.format(a=$A)", "'{!r}'.format($A)", "'{!s:>6}'.format($N)", "'{:>8}|{:<8}|{:^8}'.format($S, $S, $S)", "'{:*^9}'.format($S)", "'{:,}'.format($N)",
          "'{:.2f}'.format($F)", "'{:e}'.format($F)", "'{:g}'.format($F)", "'{:.3}'.format($F)", "'{:%}'.format($F)", "'{:b} {:x} {:o} {:#x} {:X}'.format(5, 255, 8, 255, 255)", "'{:05d}'.format($N)", "'{:+}'.format($N)",
          "'{0[k]}'.format({'k': 1})", "'{{}}'.format()", "'{:_}'.format($N)", "'{:10.3f}'.format($F)", "'{:=+7}'.format($N)", "$S[1:3]", "$S[::-1]", "$S[-2:]", "$S[0]", "$S|first", "$S|last", "$S|reverse", "$S|list|join('.')",
          "$S if $B else $S", "$S if $B", "$A|default('d')", "$A|default('d', true)", "$A|default(default_value='q')", "$A|default('d', boolean=true)", "$A|d('x', false)", "$B and $S", "$B or $S", "$D|tojson", "$L|tojson",
          "$A|tojson", "$S|tojson", "$S|tojson(ensure_ascii=true)", "$D|tojson(indent=2)", "$L|tojson(indent=1)", "$D|tojson(sort_keys=true)", "$D|tojson(separators=(',', ':'))", "$L|tojson(indent='--')", "$D|tojson(indent=0)",
          "{none: 1, true: 2, 1.5: 3, 4: 5}|tojson", "$F|tojson", "$S.partition(',')[2]", "$S.split('a')|last", "$W|first", "'a' 'b'", "$S|lower|title|trim", "strftime_now('%d %b %Y')", "strftime_now('%Y-%m-%d %H:%M %j %p')",
          "'%s' % missing", "'%-8s|' % $S", "'%.3f' % $F", "'%i' % $F", "$S|string|upper", "$S.translate({97: 'Z'})", "(1, $A)|string", "$D|string", "$L|string", "$S|safe", "$S|urlize if false else 'no'"],
    "L": ["$L + $L", "$L * 2", "$L[1:]", "$L[::-1]", "$L[:-1]", "$L|list", "$L|reverse|list", "$S|list", "l|sort", "$W|sort", "$W|sort(true)", "$W|sort(case_sensitive=true)", "$R|sort(attribute='v')",
          "rows[:3]|sort(attribute='g,v')", "$W|unique|list", "$L|unique|list", "$W|unique(true)|list", "$R|map(attribute='n')|list", "$R|map(attribute='g', default='?')|list", "$W|map('upper')|list", "$W|map('replace', 'a', 'o')|list",
          "$R|selectattr('v', 'gt', 1)|map(attribute='n')|list", "$R|rejectattr('g')|list", "$R|selectattr('g', 'defined')|list", "$R|selectattr('n', 'in', ['x'])|list", "$L|select|list", "$L|reject('none')|list", "$L|select('number')|list",
          "$L|reject('string')|list", "$L|select('sameas', true)|list", "l|select('odd')|list", "l|select('divisibleby', 2)|list", "$L|batch(2)|list", "$L|batch(2, 'x')|list", "$L|slice(2)|list", "$L|slice(2, 'f')|list", "$D|dictsort",
          "d|dictsort(false, 'value')", "d|dictsort(reverse=true)", "d|dictsort(true)", "$D|items|list", "$D.items()|list", "$D.keys()|list", "$D.values()|list", "$D|list", "$S.split()", "$S.split(',')", "$S.split(',', 1)", "$S.rsplit(' ', 1)",
          "$S.rsplit(none, 1)", "$S.split(maxsplit=1)", "$S.splitlines()", "$S.splitlines(true)", "$S.partition('-')", "$S.rpartition('-')", "$R|groupby('v')|list", "rows[:3]|groupby('g')|map('first')|list", "$R|groupby('g', default='-')|list",
          "[$A, $A]", "($A, $A)", "[$L, $S]", "range(5)|list", "range(1, 9, 3)|list", "range(5, 0, -2)|list", "$L|map('string')|list", "$L.copy()", "($A,)", "$B and $L", "$L or $L", "$D|dictsort|map('last')|list", "missing|list",
          "$W|map('first')|list", "$W|map('int')|list", "$L|map('default', 'x')|list", "$W|map('length')|list", "$W|map('trim')|list"],
    "W": ["$S.split()", "$S.split(',')", "$S.splitlines()", "$W|sort", "$W|map('lower')|list", "$W + $W", "$R|map(attribute='n')|list", "$W|reverse|list", "$S|list"],
    "D": ["{'a': $A, 'b': $A}", "dict(x=$A)", "dict($D)", "dict($D, k=$A)", "$D.copy()", "rows[0]", "nest.x", "{$S: $A}", "$D if $B else $D", "$D or $D", "{'k': $D}"],
    "B": ["$A == $A", "$A != $A", "$N < $N", "$F >= $N", "$S < $S", "1 < $N < 10", "$N in $L", "$S in $S", "$S in $D", "$A not in $L", "not $A", "$B and $B", "$B or $B", "$A is defined", "$A is undefined", "$A is none", "$A is not none",
          "$A is string", "$A is number", "$A is integer", "$A is float", "$A is boolean", "$A is true", "$A is false", "$A is mapping", "$A is sequence", "$A is iterable", "$A is callable", "$N is odd", "$N is even", "$N is divisibleby 3",
          "$N is divisibleby(2)", "$A is sameas none", "$A is sameas $A", "$A is eq $A", "$N is gt 2", "$N is le(3)", "$N is in l", "$S is lower", "$S is upper", "$A is escaped", "'upper' is filter", "'nope' is filter", "'odd' is test",
          "$S.startswith('a')", "$S.startswith(('H', 'x'))", "$S.startswith('e', 1)", "$S.endswith('c')", "$S.endswith('l', 0, 4)", "$S.isdigit()", "$S.isalpha()", "$S.isalnum()", "$S.isspace()", "$S.islower()", "$S.isupper()", "$S.istitle()",
          "$S.isnumeric()", "$S.isdecimal()", "$S.isidentifier()", "$S.isascii()", "$S.isprintable()", "$L == $L", "$D == $D", "(1, 2) == [1, 2]", "1 == 1.0", "true == 1", "'1' == 1", "$A is not string and $A is iterable", "nest.items is callable",
          "nest.items is defined", "nest['items'] is sequence", "d.nope is defined", "d['nope'] is undefined", "range is callable", "missing is iterable", "missing is sequence", "nil is iterable", "n is not number", "$A and true"],
    "A": ["$N", "$F", "$S", "$L", "$D", "$B", "$A|default($A)", "$A if $B else $A", "$A or $A", "$A and $A", "$A|first", "$A|last", "$D.get('a')", "$D.get('zz', $A)", "$D['a']", "$D.a", "$L[0]", "$L[-1]", "$A|attr('x')", "$D|attr('items') is defined",
          "$A[0]", "$A.x", "$A|min", "$A|max", "l|min", "words|min", "words|max(case_sensitive=true)", "rows|max(attribute='v')", "$A|random is defined", "$R|first", "nest.x.y[1].z", "nest['x']['y'][1]['z']", "[].x", "mixed[5]", "messages[-1].content", "{}.get('a')"],
    "R": ["rows|sort(attribute='v')", "rows|selectattr('v')|list", "rows|rejectattr('v', 'eq', 3)|list", "rows[::-1]", "rows|list"],
}

STATEMENTS = [
    "{% for x in $L %}{{ loop.index }}:{{ x }}{% if not loop.last %},{% endif %}{% endfor %}",
    "{% for x in $L %}{{ x }}{% else %}none{% endfor %}",
    "{% for k, v in $D.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in $D|dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in $D %}{{ k }}{% endfor %}",
    "{% for x in $L if x %}{{ loop.index0 }}{{ x }}{{ loop.revindex }}{{ loop.length }}{% endfor %}",
    "{% for x in $L %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x) }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }}{% endfor %}",
    "{% for x in range($N % 5) %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% if $B %}A{% elif $B %}B{% else %}C{% endif %}",
    "{%- if $A is string -%}\n  S\n{%- elif $A is iterable %}\n  I\n{% else %}\n  E\n{%- endif %}",
    "{% set x = $A %}{{ x }}|{{ x|string|length }}",
    "{% set a, b = $A, $N %}{{ b }}{{ a }}",
    "{% set x %}a{{ $S }}b{% endset %}{{ x|upper }}",
    "{% set x | upper %}a{{ $S }}b{% endset %}{{ x }}",
    "{% set ns = namespace(v=$N, w='') %}{% for i in l %}{% set ns.v = ns.v + i %}{% set ns.w = ns.w ~ i %}{% endfor %}{{ ns.v }}{{ ns.w }}",
    "{% set x = 1 %}{% for i in l %}{% set x = x + i %}{% endfor %}{{ x }}",
    "{% macro m(a, b='z') %}<{{ a }}{{ b }}>{% endmacro %}{{ m($A) }}{{ m($S, b=$N) }}",
    "{% macro m() %}[{{ caller($N) }}]{% endmacro %}{% call(v) m() %}{{ v }}{% endcall %}",
    "{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% filter upper %}x{{ $S }}{% endfilter %}",
    "{% with a=$A, b=2 %}{{ a }}{{ b }}{% endwith %}",
    "{% block title %}t{{ $S }}{% endblock %}",
    "{% generation %}g{{ $S }}{% endgeneration %}",
    "{% raw %}{{ x }}{% generation %}{% endraw %}",
    "{# note #}{{ $A }}{#- more -#}  x",
    "a\r\n{% if true %}\r\nb\r\n{% endif %}\rc\n\n",
    "  {% if $B %}\n    x\n  {% endif %}\n y {{- $S -}} z\n",
    "{% set j = joiner(', ') %}{% for x in $L %}{{ j() }}{{ x }}{% endfor %}",
    "{% set c = cycler('a', 'b', 'c') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}",
    "{% for g in rows|groupby('v') %}{{ g.grouper }}:{{ g.list|map(attribute='n')|join }};{% endfor %}",
    "{% for g, items in rows[:3]|groupby('g') %}{{ g }}:{{ items|length }};{% endfor %}",
    "{% for item in nest.x.y recursive %}{{ loop.depth0 }}{% if item is mapping %}{{ loop(item.values()) }}{% else %}{{ item }}{% endif %}{% endfor %}",
    "{{ $A }}{{ '\\n' }}{{ $S }}",
    "{{ lipsum(1, false, 2, 3) is string }}",
    "{% if $A is defined and $A %}{{ $A }}{% endif %}",
    "{% for m in messages %}{% if m['role'] == 'user' and not m.get('tool_calls') %}{{ m.role|upper }}{% elif m.tool_calls is none %}N{% else %}{{ m.content }}{% endif %}{% endfor %}",
    "{% autoescape false %}{{ $S }}{% endautoescape %}",
]


UNSAID = ("0x", "<generator", "<built-in", "<bound", "<Macro", "<Loop", " object at ", "<function", "<class", "<Namespace", "<jinja2")


def main():
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    maker = Maker(seed)
    written, seen = 0, set()
    while written < count:
        if maker.r.random() < 0.25:
            source = maker.fill(maker.pick(*STATEMENTS), 2)
        else:
            source = "{{ " + maker.make(maker.pick("N", "F", "S", "S", "S", "L", "L", "D", "B", "B", "A"), 2 if maker.r.random() < 0.7 else 3) + " }}"
        # Where Jinja prints addresses, or escapes what is joined to escaped text.
        if source in seen or ("random" in source) or ("|safe" in source or "|e" in source or "escape" in source) and ("+" in source or "~" in source):
            continue
        seen.add(source)
        case = judged(source, CONTEXT)
        if any(mark in (case["text"] or "") for mark in UNSAID) or len(case["text"] or "") > 4000:
            continue
        # Three in four expressions that raise are left out: most say no more than that types differ.
        if case["text"] is None and maker.r.random() < 0.75:
            continue
        names = {name: value for name, value in CONTEXT.items() if name in source}
        print(json.dumps(dict(case, context=names)))
        written += 1
    if len(sys.argv) > 3:
        for path in sorted(Path(sys.argv[3], "templates").glob("*.jinja")):
            source = path.read_text()
            for name, context in CONVERSATIONS.items():
                print(json.dumps(dict(judged(source, context), name=f"{path.stem} {name}")))


SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
TALK = [
    {"role": "user", "content": "What is the weather in Oslo?"},
    {"role": "assistant", "content": "Cold."},
    {"role": "user", "content": "And in São Paulo?"},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather_at",
            "description": "The weather at a place.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "Where."},
                    "days": {"type": "array", "items": {"type": "integer"}, "description": "Which."},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                },
                "required": ["place"],
            },
        },
    }
]
USE = TALK[:1] + [
    {"role": "assistant", "content": "", "tool_calls": [{"id": "abcdefgh1", "type": "function", "function": {"name": "weather_at", "arguments": {"place": "Oslo"}}}]},
    {"role": "tool", "name": "weather_at", "tool_call_id": "abcdefgh1", "content": "-3 °C"},
]
CONVERSATIONS = {
    "without tools": {**SPECIAL, "messages": TALK},
    "tools none": {**SPECIAL, "messages": TALK, "tools": None, "documents": None},
    "with tools": {**SPECIAL, "messages": TALK, "tools": TOOLS, "documents": None},
    "tool use": {**SPECIAL, "messages": USE, "tools": TOOLS, "documents": None},
}

if __name__ == "__main__":
    main()
