"""Texts of data and models inside Markdown: as they are, whatever signs are in them."""

import re
from collections.abc import Iterable, Sequence

# What CommonMark and GitHub read as markup inside a line. Signs that say nothing where they stand,
# such as those of "61.2 [55.0, 67.3]", "p <0.001" and "a_b", are left alone.
_MARKUP = re.compile(
    r"[\\`*~|$]"  # code, emphasis, tables, formulas
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis, at the ends of words only
    r"|[!](?=\[)|\](?=[(\[:])"  # pictures and links
    r"|(?<=\[)\^"  # footnotes
    r"|^(?=\[[ xX]\])"  # boxes to tick
)
_HTML = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w)")
_ENTITIES = {"<": "&lt;", "&": "&amp;"}


def one_line(text: str) -> str:
    """The text without line ends and other signs that cannot be printed; each becomes a blank."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def escaped(text: str) -> str:
    """The text as Markdown that shows it as it is, on one line: in a table, too."""
    text = _HTML.sub(lambda match: _ENTITIES[match[0]], one_line(text))
    return _MARKUP.sub(lambda match: f"\\{match[0]}", text)


def code(text: str, *, in_table: bool = False) -> str:
    """The text as a code span, on one line."""
    text = one_line(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    if in_table:  # where a bar ends the cell, inside of code as well
        text = text.replace("|", "\\|")
    pad = " " if text[:1] in ("`", " ", "") or text[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, num_left: int | None = 1) -> str:
    """A table of cells that are Markdown already.

    Args:
        header: Names of the columns.
        rows: As many cells each.
        num_left: So many columns are aligned to the left, the others to the right; None for all.
    """
    left = len(header) if num_left is None else num_left
    rule = [*["---"] * left, *["---:"] * (len(header) - left)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))
