"""Cells and other records as tables (text, Markdown, LaTeX, rows of JSON), in one number format."""

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, NamedTuple

from vidreason.evaluation.cells import Cell
from vidreason.evaluation.items import Column
from vidreason.evaluation.protocols import ALL
from vidreason.evaluation.statistics.intervals import Interval
from vidreason.markdown import escaped, one_line
from vidreason.markdown import table as markdown_table

CHANCE = "chance"
NOT_APPLICABLE = "n/a"
"""Shown for what a run cannot answer, which is not zero."""

Value = Interval | float | str | None
"""Content of a table's cell: a number with its interval, a number, a count, a text, or nothing."""
Cells = Mapping[str, Mapping[Column, Cell]]
"""Cells by run and column."""

# Signs that LaTeX would take as commands.
_LATEX = {
    **{sign: f"\\{sign}" for sign in "%&_#${}"},
    **{sign: f"${sign}$" for sign in "<>+|"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
}


@dataclass(frozen=True)
class Table:
    """A table of texts with a title."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_text(self) -> str:
        """Aligned columns for a terminal."""
        lines = [tuple(map(one_line, line)) for line in (self.header, *self.rows)]
        # Names to the left, numbers to the right, over the widest of each column.
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = [
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        rule = "-" * len(aligned[0])
        return "\n".join([one_line(self.title), rule, aligned[0], rule, *aligned[1:], rule])

    def to_markdown(self) -> str:
        """A GitHub table, the title in bold above it; names are shown as they are."""
        header, *rows = ([*map(escaped, line)] for line in (self.header, *self.rows))
        return f"**{escaped(self.title)}**\n\n{markdown_table(header, rows)}"

    def to_latex(self) -> str:
        """A ``tabular`` for the package booktabs, its title as a comment above it."""
        header, *rows = map(_latex_row, (self.header, *self.rows))
        return "\n".join(
            [
                f"% {one_line(self.title)}",
                f"\\begin{{tabular}}{{l{'r' * (len(self.header) - 1)}}}",
                *("\\toprule", header, "\\midrule", *rows, "\\bottomrule"),
                "\\end{tabular}\n",
            ]
        )


def value_text(value: Value, *, factor: float = 100.0, decimals: int = 1, sign: str = "") -> str:
    """``61.2 [55.0, 67.3]``: the one form of a number.

    Args:
        value: A number with its interval, ``[-]`` where there is none; a number without; a count or
            a text as it is; a dash for None, and ``n/a`` for NaN, which is not defined.
        factor: Of all but counts: 100 shows fractions as percentages.
        decimals: Digits after the point.
        sign: ``+`` shows the sign of positive numbers.
    """
    match value:
        case None:
            return "-"
        case str() | int():
            return str(value)
        case float():
            return NOT_APPLICABLE if isnan(value) else f"{factor * value:{sign}.{decimals}f}"
    if isnan(value.mean):
        return NOT_APPLICABLE
    # An interval: all three numbers by one format.
    mean, low, high = (f"{factor * bound:{sign}.{decimals}f}" for bound in value)
    return f"{mean} [-]" if isnan(value.low) else f"{mean} [{low}, {high}]"


def seeds_text(cell: Cell) -> str:
    """``61.2 [55.0, 67.3] (sd 1.3)``: the mean over seeds, its interval, and their deviation."""
    spread = seed_deviation(cell)
    mean = value_text(cell.score)
    return mean if isnan(spread) else f"{mean} (sd {value_text(spread)})"


def seed_deviation(cell: Cell) -> float:
    """Standard deviation of the score over seeds; NaN with one."""
    scores = cell.seed_scores
    return statistics.stdev(scores) if len(scores) > 1 else float("nan")


def p_value_text(value: float | None) -> str:
    """``0.013`` or ``<0.001``; a dash for None."""
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


class Field(NamedTuple):
    """A column of a table of records, and how its numbers are shown; see :func:`value_text`."""

    name: str
    """Key in the records."""
    title: str
    factor: float = 100.0
    decimals: int = 1


def record_table(
    title: str, header: str, records: Mapping[str, Mapping[str, Any]], fields: Sequence[Field]
) -> Table:
    """A row for each record.

    Args:
        title: Of the table.
        header: Of the first column, which holds the records' names.
        records: By name, values by the names of fields.
        fields: The further columns.
    """
    return Table(
        title,
        (header, *(field.title for field in fields)),
        tuple(
            (
                name,
                *(
                    value_text(record[field.name], factor=field.factor, decimals=field.decimals)
                    for field in fields
                ),
            )
            for name, record in records.items()
        ),
    )


def record_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record for JSON: an interval is three values, and each NaN is None."""
    row: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Interval):
            row |= dict(
                zip((name, f"{name}_low", f"{name}_high"), map(none_for_nan, value), strict=True)
            )
        else:
            row[name] = none_for_nan(value) if isinstance(value, float) else value
    return row


def none_for_nan(value: float) -> float | None:
    """Turn what is not defined, such as an interval over one video, into None: JSON has no NaN."""
    return None if isnan(value) else value


def csv_text(header: Iterable[str], rows: Iterable[Iterable[str | float | None]]) -> str:
    """Rows as CSV for other programs; see :func:`csv_value`."""
    text = io.StringIO()
    # The module's own line end is that of Windows.
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(map(csv_value, row) for row in rows)
    return text.getvalue()


def csv_value(value: str | float | None) -> str:
    """A number with six digits; empty for None and NaN."""
    if value is None or value != value:  # NaN
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def score_table(
    title: str,
    cells: Cells,
    columns: Sequence[Column],
    *,
    further: tuple[str, Mapping[str, str]],
    chances: Mapping[Column, float] | None = None,
    names: Mapping[Column, str] | None = None,
) -> Table:
    """Scores in percent, one row a run; below the runs what random options would score.

    Args:
        title: Of the table.
        cells: By run. A run that has no cell in a column cannot answer its questions.
        columns: What is shown.
        further: Header of the last column, and what each run has there.
        chances: Of :func:`vidreason.evaluation.items.chance_scores`; None for no such row.
        names: Of columns, in place of their groups.
    """
    named = names or {}
    # Runs that answer a column answer the same questions, so any of them says how many.
    header = []
    for column in columns:
        sizes = [of_run[column].num_items for of_run in cells.values() if column in of_run]
        header.append(f"{named.get(column, column[1])} (n={sizes[0] if sizes else 0})")
    rows = [
        (
            name,
            *(
                value_text(of_run[column].score) if column in of_run else NOT_APPLICABLE
                for column in columns
            ),
            further[1].get(name, "-"),
        )
        for name, of_run in cells.items()
    ]
    # The last row is what random options score; it has no invalid answers.
    if chances:
        rows.append((CHANCE, *(value_text(chances.get(column)) for column in columns), "-"))
    return Table(title, ("run", *header, further[0]), tuple(rows))


def accuracy_table(
    corpus: str,
    cells: Cells,
    columns: Sequence[Column],
    *,
    chances: Mapping[Column, float] | None = None,
    incomplete: str = "",
    names: Mapping[Column, str] | None = None,
) -> Table:
    """Accuracy in percent on one corpus, or what its protocol has in place of it.

    Args:
        corpus: The corpus.
        cells: By run.
        columns: Of the corpus; of other corpora are left out.
        chances: See :func:`score_table`.
        incomplete: How many of the corpus' questions could be read, if not all.
        names: Of columns, and of the corpus: that of its column ``all``.
    """
    # The name of the column `all` is the corpus' own.
    named = dict(names or {})
    title = named.pop((corpus, ALL), corpus)
    columns = [column for column in columns if column[0] == corpus]
    # What the run at the top answers says what the corpus is scored by.
    every = next(of_run[c] for of_run in cells.values() for c in columns if c in of_run)
    invalid = {
        name: str(of_run[columns[0]].num_invalid)
        for name, of_run in cells.items()
        if columns[0] in of_run
    }
    return score_table(
        f"{title}: {every.measure} in %, 95% interval over {every.num_videos} videos"
        + (incomplete and f"; {incomplete}"),
        cells,
        columns,
        further=("invalid", invalid),
        chances={column: value for column, value in (chances or {}).items() if column in columns},
        names=named,
    )


def difference_table(against: str, cells: Mapping[str, Cell]) -> Table:
    """Paired differences in points with their p-values.

    Args:
        against: Name of the run that the others are subtracted from.
        cells: Of the others, with differences.
    """
    first = next(iter(cells.values()))
    return Table(
        f"{first.corpus}: paired difference in {first.measure} in points, n={first.num_items}, 95% "
        f"interval over {first.num_videos} videos, p by exchange of runs within videos",
        ("runs", "difference", "p", f"p (Holm, {len(cells)} tests)"),
        tuple(
            (
                f"{against} - {name}",
                value_text(cell.difference, sign="+"),
                p_value_text(cell.p_value),
                p_value_text(cell.p_value_holm),
            )
            for name, cell in cells.items()
        ),
    )


def difference_rows(against: str, cells: Mapping[str, Cell]) -> list[dict[str, Any]]:
    """Differences as plain rows for JSON, as fractions; arguments as above."""
    rows = []
    for name, cell in cells.items():
        assert cell.difference is not None
        assert cell.test is not None
        rows.append(
            {
                "corpus": cell.corpus,
                "group": cell.group,
                "measure": cell.measure,
                "run": against,
                "minus": name,
                "num_questions": cell.num_items,
                "num_videos": cell.num_videos,
                "num_differing_videos": cell.test.num_differing,
                "difference": cell.difference.mean,
                "low": none_for_nan(cell.difference.low),
                "high": none_for_nan(cell.difference.high),
                "p_value": cell.p_value,
                "p_is_exact": cell.test.exact,
                "p_value_holm": cell.p_value_holm,
            }
        )
    return rows


def score_rows(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Scores as plain rows for JSON: fractions, missing bounds are None."""
    return [
        {
            "corpus": cell.corpus,
            "group": cell.group,
            "measure": cell.measure,
            "num_questions": cell.num_items,
            "num_videos": cell.num_videos,
            "num_correct": cell.num_correct,
            "num_invalid": cell.num_invalid,
            "accuracy": cell.score.mean,
            "low": none_for_nan(cell.score.low),
            "high": none_for_nan(cell.score.high),
        }
        for cell in cells
    ]


def _latex_row(cells: Sequence[str]) -> str:
    texts = ["".join(_LATEX.get(sign, sign) for sign in one_line(cell)) for cell in cells]
    # A bracket after the end of a row would be read as the distance to the next one.
    return " & ".join(f"{{}}{text}" if text.startswith("[") else text for text in texts) + " \\\\"
