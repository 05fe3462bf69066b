"""The parts of a page: the document around them, its data, its tables."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from vidreason.atomic_file import atomic_file
from vidreason.evaluation.tables import Table

_STYLE = Path(__file__).with_name("style.css")
_BEGINS_A_NUMBER = re.compile(r"[+-]?\d")


def write_page(
    path: Path, title: str, sections: Sequence[str], *, style: str = "", script: str = ""
) -> None:
    """Write one file that needs no other one; it appears whole or not at all.

    A browser is told to load nothing and to run no script but ``script``: whatever a model or a
    data set says stays text.

    Args:
        path: Where to.
        title: In words, not yet escaped.
        sections: HTML of the body.
        style: CSS besides that of all pages.
        script: JavaScript, run at the end.
    """
    # Only a script of this very hash may run.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"script-src 'sha256-{digest}'" if script else "script-src 'none'"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {allowed}"
    body = [*sections, f"<script>{script}</script>"] if script else sections
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE.read_text()}{style}</style>\n</head>\n"
        "<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )
    with atomic_file(path) as file:
        # Half a character, which JSON may hold, is no text in UTF-8.
        file.write(page.encode("utf-8", errors="replace"))


def header_element(title: str, facts: Mapping[str, str]) -> str:
    """The title of a page, and below it facts by their names; texts, not HTML."""
    listed = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items()
    )
    return f"<header><h1>{escape(title)}</h1><dl>{listed}</dl></header>"


def data_element(name: str, data: Any) -> str:  # noqa: ANN401 - any JSON value
    """Data for a script, which reads it with ``JSON.parse``.

    No text in it can end the element or begin a comment, and none needs a character set.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


def table_element(table: Table, strong: str = "") -> str:
    """A table whose rows begin with a name; the row of the name ``strong`` stands out."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows = [table_row(row, "first" if row[0] == strong else "") for row in table.rows]
    return (
        f'<div class="scroll"><table><caption>{escape(table.title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>"
    )


def _number(text: str) -> str:
    """A cell, which breaks before the interval of a number but nowhere else in it."""
    if _BEGINS_A_NUMBER.match(text):
        text = text.replace(" ", "\u00a0").replace("\u00a0[", " [")
    return escape(text)


def table_row(cells: Sequence[str], kind: str = "") -> str:
    """A row whose first cell is its heading."""
    first, others = escape(cells[0]), map(_number, cells[1:])
    mark = f' class="{kind}"' if kind else ""
    return (
        f'<tr{mark}><th scope="row">{first}</th>'
        f"{''.join(f'<td>{cell}</td>' for cell in others)}</tr>"
    )
