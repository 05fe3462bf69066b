"""The report of ``experiments.data check`` for a terminal: tables, notes, contamination."""

from collections.abc import Callable, Mapping, Sequence

from data_modules.contamination import KINDS, ContaminationReport
from data_modules.data_check import DataReport
from data_modules.health import PERCENTILES, PRESENT, CorpusHealth
from data_modules.multiple_choice import LETTERS
from vidreason.evaluation.tables import Table

_MANY = 10
"""Questions of which one at least should have its first option for the answer."""
Columns = dict[str, Callable[[CorpusHealth], str]]
"""From the header of a column to its text for a corpus."""


def report_text(report: DataReport) -> str:
    """The report for a terminal."""
    corpora = report.corpora
    shown = ", ".join(map(str, PERCENTILES))
    parts = [_table(f"Annotations (words: percentiles {shown})", _ROWS, corpora)]
    parts += [_table(f"Videos (seconds: percentiles {shown})", _VIDEOS, corpora)]
    parts += [_notes(health) for health in corpora]
    if report.contamination is None:
        parts.append("contamination: not looked for; it takes training data and something to test")
    else:
        parts.append(_contamination(report.contamination, report.num_not_hashed))
    parts.append("\n".join(f"PROBLEM {line}" for line in report.problems) or "no problems found")
    return "\n\n".join(parts)


def _table(title: str, columns: Columns, corpora: Sequence[CorpusHealth]) -> str:
    rows = tuple(tuple(text(health) for text in columns.values()) for health in corpora)
    return Table(title, tuple(columns), rows).to_text()


_ROWS: Columns = {
    "corpus": lambda health: health.name,
    "examples": lambda health: f"{health.num_examples:,}",
    "rows read": lambda health: _rows_read(health),  # it is defined below
    "hidden": lambda health: f"{health.num_without_reference:,}",
    "left out": lambda health: f"{health.num_skipped:,}",
    "repeated ids": lambda health: f"{health.num_duplicate_ids:,}",
    "question words": lambda health: _percentiles(health.question_words),
    "answer": lambda health: _percentiles(health.answer_words),
}

_VIDEOS: Columns = {
    "corpus": lambda health: health.name,
    "videos": lambda health: f"{health.num_videos:,}",
    "examples without": lambda health: f"{health.absent_fraction:.1%}",
    "probed": lambda health: f"{health.num_probed:,}",
    "unreadable": lambda health: f"{sum(health.unreadable.values()):,}",
    "seconds": lambda health: _percentiles(health.duration_seconds),
    "sizes": lambda health: " ".join(list(health.resolutions)[:3]) or "-",
}


def _notes(health: CorpusHealth) -> str:
    """Details of one corpus, below the tables."""
    lines = [f"{health.name} in {health.root}", f"  licence: {health.licence}"]
    absent = {cause: n for cause, n in health.media.items() if cause not in PRESENT}
    letters = {LETTERS[index]: n for index, n in sorted(health.right_options.items())}
    for title, counts in (
        ("licence tags", health.license_tags),
        ("left out", health.skipped),
        ("read, but not all of it", health.row_remarks),
        ("videos not there, by examples", absent),
        ("probed videos that cannot be read", health.unreadable),
        ("probed videos whose times are not all their own", health.remarks),
    ):
        lines += [f"  {title}: {_counts(counts)}"] if counts else []
    if letters:
        shown = ", ".join(f"{letter} {number}" for letter, number in letters.items())
        is_odd = "A" not in letters and sum(letters.values()) >= _MANY
        doubt = "; never A: indices count from 0, does the file count from 1?" if is_odd else ""
        lines.append(f"  right options: {shown}{doubt}")
    lines += [f"    {example}" for example in health.unreadable_examples[:3]]
    lines += [f"    malformed: {line}" for line in health.malformed]
    lines += [f"  cannot be used: {health.error}"] if health.error else []
    return "\n".join(lines)


def _contamination(report: ContaminationReport, num_not_hashed: int) -> str:
    header = ("found in training by", "evaluation videos", "training examples")
    rows = tuple(
        (
            kind,
            str(report.num_evaluation_videos_found[kind]),
            str(report.num_training_examples[kind]),
        )
        for kind in KINDS
    )
    title = (
        f"Contamination: {report.contaminated_fraction:.1%} of {report.num_evaluation_videos} "
        "evaluation videos by id, file or pictures"
    )
    lines = [
        Table(title, header, rows).to_text(),
        f"pictures compared: {report.num_evaluation_hashes} evaluation and "
        f"{report.num_training_hashes} training videos; {num_not_hashed} could not be read",
        f"texts compared with {report.num_evaluation_texts} different ones; the same words may be "
        "said of different videos",
    ]
    for kind in KINDS:
        shown = [match for match in report.matches if match.kind == kind][:3]
        lines += [f"  {kind}: {m.training_id} ~ {m.evaluation_id} ({m.detail})" for m in shown]
    return "\n".join(lines)


def _rows_read(health: CorpusHealth) -> str:
    """``8,563 of 8,564 official``, or of the rows of these files."""
    read = health.num_rows - health.num_skipped
    if not read and health.num_examples:
        return "-"  # of a format without rows, such as tar shards
    if health.official_rows is None:
        return f"{read:,} of {health.num_rows:,}"
    return f"{read:,} of {health.official_rows:,} official"


def _percentiles(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values) or "-"


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    return "; ".join(f"{number} x {cause}" for cause, number in ordered)
