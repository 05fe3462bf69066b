"""Names out of data inside Markdown, LaTeX and cards: shown as they are, never obeyed."""

import pytest

from vidreason.evaluation.tables import Table
from vidreason.markdown import code, escaped, table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("61.2 [55.0, 67.3]", "61.2 [55.0, 67.3]"),
        ("<0.001", "<0.001"),
        ("nextqa_open_ended & more (n=5)", "nextqa_open_ended & more (n=5)"),
        ("a|b", "a\\|b"),
        ("a\nb\r\nc\x1b[2Jd\u2028e", "a b  c [2Jd e"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("<!-- no -->", "&lt;!-- no -->"),
        ("&lt; &#60;", "&amp;lt; &amp;#60;"),
        (
            "**a** _b_ `c` ~~d~~ $e$ f\\g",
            "\\*\\*a\\*\\* \\_b\\_ \\`c\\` \\~\\~d\\~\\~ \\$e\\$ f\\\\g",
        ),
        ("[a](http://b) ![c](d) [e]: f", "[a\\](http://b) \\![c\\](d) [e\\]: f"),
    ],
)
def test_markup_is_shown_and_not_obeyed(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_code_ends_where_it_should() -> None:
    assert code("a") == "`a`"
    assert code("a`b") == "``a`b``"
    assert code("``a") == "``` ``a ```"
    assert code("a\nb") == "`a b`"
    assert code("a|b") == "`a|b`"
    assert code("a|b", in_table=True) == "`a\\|b`"


def test_tables_keep_their_columns() -> None:
    hostile = "a | b\n| <img src=x onerror=alert(1)> `"
    hostile_table = Table(hostile, (hostile, "n"), ((hostile, "1"), ("x", hostile)))
    lines = hostile_table.to_markdown().splitlines()
    assert len(lines) == 6
    for line in lines[2:]:
        assert line.replace("\\|", "").count("|") == 3
    assert not any("<img" in line for line in lines)
    assert len(hostile_table.to_text().splitlines()) == 7
    assert table(("a", "b", "c"), [("1", "2", "3")], num_left=2).splitlines()[1] == (
        "| --- | --- | ---: |"
    )
