"""Chat templates render as in transformers, and end: whatever they are written to do."""

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from vidreason.reasoning import bounded_templates
from vidreason.reasoning.bounded_templates import render_template

MESSAGES = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": " why did it stop? <|x|> "},
    {"role": "assistant", "content": "It hit {{ a }} wall."},
]
PUBLISHED = {
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] | trim "
    "+ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% endif %}",
    "namespace": "{%- set ns = namespace(found=false, n=0) -%}\n{%- for m in messages[::-1] %}\n"
    "    {%- if m.role == 'user' and not ns.found %}{% set ns.found = true %}{% endif -%}\n"
    "    {%- set ns.n = ns.n + loop.index0 % 2 * 3 %}\n{%- endfor %}{{ ns.found }} {{ ns.n }}",
    "macro": "{% macro part(x, depth=1) %}{{ x.role | upper }}:{{ x.content.strip() }}\n"
    "{% if depth < 3 %}{{ part(x, depth + 1) }}{% endif %}{% endmacro %}"
    "{% for m in messages %}{{ part(m) }}{% endfor %}",
    "control": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}"
    "{{ m | tojson(indent=2) }}{% if loop.last %}{{ eos_token }}{% else %}\n{% endif %}"
    "{% endfor %}{{ messages | map(attribute='role') | join(', ') }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "text": "{% set head = messages[0].content.split(' ')[0] ~ '-' * 3 %}"
    "{{ head.replace('B', 'b') }}{{ '%s of %d' % (head, 3) }}{{ 'x' in head }}"
    "{{ undefined_thing }}{{ none }}"
    "{% generation %}{{ head | default('y') }}{% endgeneration %}{% set block %}a{{ 1.5 }}b"
    "{% endset %}{{ block }}{{ range(3) | list }}{{ dict(a=1).items() | list }}",
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("asks", [False, True])
def test_what_templates_write_is_what_transformers_writes(name, asks):
    variables = {"add_generation_prompt": asks, "bos_token": "<s>", "eos_token": "</s>"}
    expected, _ = render_jinja_template([MESSAGES], chat_template=PUBLISHED[name], **variables)
    rendered = render_template(PUBLISHED[name], {"messages": MESSAGES, **variables})
    assert rendered == expected[0]


HOSTILE = {
    "range": "{% for i in range(10**9) %}{% endfor %}",
    "nested loops": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "loop with break": "{% for i in range(9999) %}{% for j in range(9999) %}{% if j > 9000 %}"
    "{% break %}{% endif %}{% endfor %}{% endfor %}",
    "multiplied text": "{{ 'a' * 10**9 }}",
    "multiplied list": "{{ [0] * 10**9 }}",
    "multiplied from the left": "{% set n = 10**9 %}{{ n * 'a' }}",
    "doubled": "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}"
    "{% endfor %}",
    "doubled by ~": "{% set ns = namespace(x='a') %}{% for i in range(60) %}"
    "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubled in a block": "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set y %}"
    "{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
    "doubled lists": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}"
    "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "doubled lists compared": "{% set a = namespace(x=[1]) %}{% set b = namespace(x=[1]) %}"
    "{% for i in range(60) %}{% set a.x = [a.x, a.x] %}{% set b.x = [b.x, b.x] %}{% endfor %}"
    "{{ a.x == b.x }}",
    "written in a macro": "{% macro m(n) %}{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}"
    "{% endmacro %}{{ m(1) }}",
    "written": "{% for i in range(60000) %}{{ 'abcdefgh' * 100 }}{% endfor %}",
    "plain text written": "{% for i in range(60000) %}" + "x" * 1000 + "{% endfor %}",
    "recursion": "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "branching": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
    "{{ m(50) }}",
    "recursive loop": "{% for x in [[1], [2]] recursive %}{{ loop([[1], [2]]) }}{% endfor %}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "big numbers": "{% set ns = namespace(x=99) %}{% for i in range(60) %}"
    "{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "replace": "{{ ('a' * 9999) | replace('a', 'b' * 9999) | replace('b', 'c' * 9999) }}",
    "replace method": "{{ ('a' * 9999).replace('a', 'b' * 9999) }}",
    "join": "{{ range(9999) | list | join('x' * 9999) }}",
    "join method": "{{ ('x' * 9999).join(['a'] * 9999) }}",
    "indent": "{{ ('a\\n' * 9999) | indent(99999) }}",
    "tojson": "{{ messages | tojson(indent=10**9) }}",
    "ljust": "{{ 'a'.ljust(10**9) }}",
    "center filter": "{{ 'a' | center(10**9) }}",
    "format width": "{{ '%1000000000d' % 1 }}",
    "format star": "{{ '%*d' % (10**9, 1) }}",
    "format method": "{{ '{:1000000000}'.format(1) }}",
    "format nested": "{{ '{0:{1}}'.format(1, 10**9) }}",
    "expandtabs": "{{ 'a\\tb'.expandtabs(10**9) }}",
    "lipsum": "{{ lipsum(n=10**6) }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import '/etc/passwd' as x %}",
    "attributes": "{{ ''.__class__.__mro__ }}{{ x.__init__ }}{{ messages.__class__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "counters": "{% set __stepped = 1 %}{{ __stepped }}",
    "own error": "{{ raise_exception('roles must alternate') }}",
    "syntax": "{% for x in %}",
    "nested blocks": "{% for x in [1] %}" * 40 + "{% endfor %}" * 40,
    "nested brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "long": "a" * 2**18,
    "types": "{{ 1 + 'a' }}",
    "division": "{{ 1 / 0 }}",
    "missing": "{{ messages[9].role.upper() }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_that_would_not_end_is_one_line(name):
    with pytest.raises(ValueError, match=r".") as caught:
        render_template(HOSTILE[name], {"messages": MESSAGES, "bos_token": ""})
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 700


def test_the_message_says_what_is_wrong_and_where():
    with pytest.raises(ValueError, match=r"TemplateSyntaxError in line 2: "):
        render_template("a\n{% for x in %}", {})
    with pytest.raises(ValueError, match="TemplateError: roles must alternate"):
        render_template(HOSTILE["own error"], {})
    with pytest.raises(ValueError, match="TemplateLimitError: more than 100,000 passes"):
        render_template(HOSTILE["nested loops"], {})


def test_long_contents_are_no_hostile_templates():
    """A conversation of hours of subtitles passes; bounds are on what a template makes of it."""
    long = "word " * 100_000
    text = render_template(PUBLISHED["chatml"], {"messages": [{"role": "user", "content": long}]})
    assert long.strip() in text
    many = [{"role": "user", "content": f"turn {n}"} for n in range(2000)]
    assert "turn 1999" in render_template(PUBLISHED["chatml"], {"messages": many})


def test_renderings_do_not_share_their_budget(monkeypatch):
    monkeypatch.setattr(bounded_templates, "MAX_STEPS", 80)
    for _ in range(5):
        assert render_template("{% for i in range(40) %}.{% endfor %}", {}) == "." * 40
