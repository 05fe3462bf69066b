"""A study's numbers as tables (Markdown, LaTeX, CSV) and as a plot (SVG)."""

import csv
import io
import statistics
from collections.abc import Callable, Sequence
from html import escape
from math import isnan

from experiments.ablate.numbers import EVERYTHING, Cell, Column, StudyResult
from experiments.demo.results import CORPORA, TYPES
from vidreason.evaluation.metrics import ALL
from vidreason.evaluation.report import Table
from vidreason.evaluation.statistics.intervals import Interval
from vidreason.markdown import one_line

_LATEX = {
    **{sign: f"\\{sign}" for sign in "%&_#${}"},
    **{sign: f"${sign}$" for sign in "<>+|"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
}
CAPTION = (
    "Accuracy and differences in %, mean over {seeds} seeds; differences to the full system on the "
    "same questions with 95% intervals over {videos} videos; p over seeds and videos (a control's "
    "over videos), corrected by Holm over the variants of a column"
)


def main_table(result: StudyResult) -> Table:
    """All questions and each benchmark, one row a variant."""
    columns = [name for name in result.columns if name == EVERYTHING or name[1] == ALL]
    header = [""]
    for column in columns:
        cell = result.cells[0, column]
        header += [f"{column_title(column)}, n={cell.num_items}", "difference"]
        if column == EVERYTHING:
            header += ["seeds' differences", "p (Holm)"]
    rows = []
    for number, row in enumerate(result.rows):
        texts = [row.title]
        for column in columns:
            cell = result.cells[number, column]
            texts += [accuracy_text(cell), interval_text(cell.difference)]
            if column == EVERYTHING:
                texts += [_seed_differences(cell), p_text(cell.adjusted_p_value)]
        rows.append((*texts, row.cost))
    full = result.cells[0, EVERYTHING]
    title = CAPTION.format(seeds=len(full.seed_accuracies), videos=full.num_videos)
    return Table(title, (*header, "training"), tuple(rows))


def group_tables(result: StudyResult) -> list[Table]:
    """For each benchmark, its groups of questions: the difference to the full system, and p."""
    tables = []
    for corpus in dict.fromkeys(corpus for corpus, _ in result.columns if corpus != ALL):
        columns = [name for name in result.columns if name[0] == corpus and name[1] != ALL]
        if not columns:
            continue
        sizes = [result.cells[0, column].num_items for column in columns]
        rows = [
            (
                row.title,
                *(_group_text(result.cells[number, column]) for column in columns),
            )
            for number, row in enumerate(result.rows)
        ]
        header = [f"{column_title(c)}, n={size}" for c, size in zip(columns, sizes, strict=True)]
        tables.append(
            Table(
                f"{CORPORA.get(corpus, corpus)}: accuracy in % of the full system, and differences "
                "to it; * p < 0.05 after Holm's correction over the variants",
                ("", *header),
                tuple(rows),
            )
        )
    return tables


def to_latex(table: Table) -> str:
    """A ``tabular`` for the package booktabs, its title as a comment above it."""
    lines = [
        f"% {one_line(table.title)}",
        f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        "\\toprule",
        _latex_row(table.header),
        "\\midrule",
        *(_latex_row(row) for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def to_csv(result: StudyResult) -> str:
    """One line a variant and group of questions, with all numbers as fractions."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            *("variant", "corpus", "group", "num_items", "num_videos", "num_seeds"),
            *("accuracy", "accuracy_low", "accuracy_high", "seed_deviation"),
            *("difference", "difference_low", "difference_high", "seed_differences"),
            *("p_value", "p_value_holm", "training_cost"),
        ]
    )
    for (number, (corpus, group)), cell in result.cells.items():
        row = result.rows[number]
        writer.writerow(
            [
                *(row.title, corpus, group, cell.num_items, cell.num_videos),
                len(cell.seed_accuracies),
                *map(_number, cell.accuracy),
                _number(deviation(cell.seed_accuracies)),
                *map(_number, cell.difference or (None, None, None)),
                " ".join(map(_number, cell.seed_differences)),
                *(_number(cell.p_value), _number(cell.adjusted_p_value), row.cost),
            ]
        )
    return stream.getvalue()


def to_svg(result: StudyResult) -> str:
    """Differences to the full system with their intervals: one panel for each benchmark and all."""
    columns = [name for name in result.columns if name == EVERYTHING or name[1] == ALL]
    variants = range(1, len(result.rows))
    cells = {(n, c): result.cells[n, c] for n in variants for c in columns}
    bounds = [x for cell in cells.values() for x in cell.difference or () if not isnan(x)]
    low, high = min([*bounds, -0.02]), max([*bounds, 0.02])
    line, panel, gap, left, top = 24, 190, 24, 250, 48
    width = left + len(columns) * (panel + gap)
    height = top + line * len(variants) + 36
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for place, number in enumerate(variants):
        y = top + line * place + line / 2
        title = escape(result.rows[number].title)
        drawn.append(f'<text x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">{title}</text>')
    for index, column in enumerate(columns):
        start = left + index * (panel + gap)

        def across(value: float, start: float = start) -> float:
            return start + (value - low) / (high - low) * panel

        bottom, name = top + line * len(variants), escape(column_title(column))
        drawn.append(f'<text x="{start}" y="20" font-weight="bold">{name}</text>')
        for tick in _ticks(low, high):
            x, colour = across(tick), "#555" if tick == 0 else "#ddd"
            drawn.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 6}" y2="{bottom}" stroke="{colour}"/>'
                f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{100 * tick:+.0f}</text>'
            )
        for place, number in enumerate(variants):
            y = top + line * place + line / 2
            drawn.append(_mark(cells[number, column], across, y))
    drawn.append(
        f'<text x="{left}" y="{height - 4}" fill="#555">difference to the full system in points, '
        "95% interval over videos; filled: p &lt; 0.05 (Holm)</text>"
    )
    return "\n".join([*drawn, "</svg>"]) + "\n"


def column_title(column: Column) -> str:
    """A readable name of a group of questions."""
    corpus, group = column
    if column == EVERYTHING:
        return "all questions"
    if group == ALL:
        return CORPORA.get(corpus, corpus).split(" (")[0]
    return TYPES.get(corpus, {}).get(group, group)


def accuracy_text(cell: Cell) -> str:
    """``61.2 (sd 1.3)``: the mean over seeds, and the standard deviation over them."""
    spread = deviation(cell.seed_accuracies)
    mean = f"{100 * cell.accuracy.mean:.1f}"
    return mean if isnan(spread) else f"{mean} (sd {100 * spread:.1f})"


def interval_text(interval: Interval | None) -> str:
    """``-3.1 [-5.0, -1.2]`` in points; a dash for the full system itself."""
    if interval is None:
        return "-"
    mean, low, high = (100 * value for value in interval)
    return f"{mean:+.1f}" if isnan(low) else f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def p_text(p_value: float | None) -> str:
    """``0.013``, ``<0.001``; a dash for the full system itself."""
    if p_value is None:
        return "-"
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def deviation(values: Sequence[float]) -> float:
    """Standard deviation over seeds; NaN with one."""
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def _seed_differences(cell: Cell) -> str:
    return ", ".join(f"{100 * value:+.1f}" for value in cell.seed_differences) or "-"


def _group_text(cell: Cell) -> str:
    if cell.difference is None:
        return f"{100 * cell.accuracy.mean:.0f}"
    sign = "*" if cell.adjusted_p_value is not None and cell.adjusted_p_value < 0.05 else ""
    return f"{100 * cell.difference.mean:+.0f}{sign}"


def _number(value: float | None) -> str:
    return "" if value is None or isnan(value) else f"{value:.6g}"


def _latex_row(cells: Sequence[str]) -> str:
    texts = ["".join(_LATEX.get(sign, sign) for sign in one_line(cell)) for cell in cells]
    # A bracket after the end of a row would be read as the distance to the next one.
    return " & ".join(f"{{}}{text}" if text.startswith("[") else text for text in texts) + " \\\\"


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``, 0 among them, at most 7."""
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / step <= 6)
    first = int(low / step)
    return [step * n for n in range(first, int(high / step) + 1)]


def _mark(cell: Cell, across: Callable[[float], float], y: float) -> str:
    assert cell.difference is not None
    mean, low, high = cell.difference
    clear = cell.adjusted_p_value is not None and cell.adjusted_p_value < 0.05
    fill = "#1f5fa8" if clear else "white"
    drawn = f'<circle cx="{across(mean):.1f}" cy="{y:.1f}" r="4.5" fill="{fill}" stroke="#1f5fa8"/>'
    if isnan(low):
        return drawn
    return (
        f'<line x1="{across(low):.1f}" x2="{across(high):.1f}" y1="{y:.1f}" y2="{y:.1f}" '
        f'stroke="#1f5fa8" stroke-width="2"/>{drawn}'
    )
