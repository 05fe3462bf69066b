"""A study's numbers as tables (Markdown, LaTeX, CSV)."""

from experiments.ablate.numbers import StudyResult
from experiments.demo.results import NAMES
from vidreason.evaluation.cells import Cell
from vidreason.evaluation.items import EVERYTHING, Column
from vidreason.evaluation.protocols import ALL
from vidreason.evaluation.tables import (
    Table,
    csv_text,
    csv_value,
    p_value_text,
    seed_deviation,
    seeds_text,
    value_text,
)

CAPTION = (
    "Accuracy and differences in %, mean over {seeds} seeds; differences to the full system on the "
    "same questions; 95% intervals over {videos} videos; p over seeds and videos (a control's "
    "over videos), corrected by Holm over the variants of a column"
)


def main_table(result: StudyResult) -> Table:
    """All questions and each benchmark, one row a variant."""
    columns = [name for name in result.columns if name == EVERYTHING or name[1] == ALL]
    header = [""]
    for column in columns:
        cell = result.cells[0, column]
        header += [f"{column_title(column)} (n={cell.num_items})", "difference"]
        if column == EVERYTHING:
            header += ["seeds' differences", "p (Holm)"]
    rows = []
    for number, row in enumerate(result.rows):
        texts = [row.title]
        for column in columns:
            cell = result.cells[number, column]
            texts += [seeds_text(cell), value_text(cell.difference, sign="+")]
            if column == EVERYTHING:
                texts += [_seed_differences(cell), p_value_text(cell.p_value_holm)]
        rows.append((*texts, row.cost))
    full = result.cells[0, EVERYTHING]
    title = CAPTION.format(seeds=len(full.seed_scores), videos=full.num_videos)
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
        header = [f"{column_title(c)} (n={size})" for c, size in zip(columns, sizes, strict=True)]
        tables.append(
            Table(
                f"{NAMES.get((corpus, ALL), corpus)}: accuracy in % of the full system, and "
                "differences to it; * p < 0.05 after Holm's correction over the variants",
                ("", *header),
                tuple(rows),
            )
        )
    return tables


def to_csv(result: StudyResult) -> str:
    """One line a variant and group of questions, with all numbers as fractions."""
    header = [
        *("variant", "corpus", "group", "num_items", "num_videos", "num_seeds"),
        *("accuracy", "accuracy_low", "accuracy_high", "seed_deviation"),
        *("difference", "difference_low", "difference_high", "seed_differences"),
        *("p_value", "p_value_holm", "training_cost"),
    ]
    rows = [
        [
            *(result.rows[number].title, corpus, group, cell.num_items, cell.num_videos),
            *(len(cell.seed_scores), *cell.score, seed_deviation(cell)),
            *(cell.difference or (None, None, None)),
            " ".join(map(csv_value, cell.seed_differences)),
            *(cell.p_value, cell.p_value_holm, result.rows[number].cost),
        ]
        for (number, (corpus, group)), cell in result.cells.items()
    ]
    return csv_text(header, rows)


def column_title(column: Column) -> str:
    """A readable name of a group of questions."""
    corpus, group = column
    return NAMES.get(column, corpus if group == ALL else group)


def _seed_differences(cell: Cell) -> str:
    return ", ".join(value_text(value, sign="+") for value in cell.seed_differences) or "-"


def _group_text(cell: Cell) -> str:
    if cell.difference is None:
        return value_text(cell.score.mean, decimals=0)
    sign = "*" if cell.p_value_holm is not None and cell.p_value_holm < 0.05 else ""
    return value_text(cell.difference.mean, decimals=0, sign="+") + sign
