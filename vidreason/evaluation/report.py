"""Tables of scores: one row a run, one column a group of questions, with 95% intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from vidreason.evaluation.metrics import Score, accuracy_difference, score_predictions
from vidreason.evaluation.predictions_file import BenchmarkPrediction
from vidreason.evaluation.statistics import Interval


@dataclass(frozen=True)
class Table:
    """A table of texts with a title."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_text(self) -> str:
        """Aligned columns for a terminal."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        aligned = [_aligned(line, widths, "  ") for line in lines]
        rule = "-" * max(len(line) for line in aligned)
        return "\n".join([self.title, rule, aligned[0], rule, *aligned[1:], rule])

    def to_markdown(self) -> str:
        """A GitHub table, the title in bold above it."""
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        lines = [self.header, rule, *self.rows]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"**{self.title}**\n\n{body}"


def accuracy_table(
    runs: Mapping[str, Sequence[BenchmarkPrediction]], corpus: str, title: str = ""
) -> Table:
    """Accuracy in percent of several runs on one corpus.

    Args:
        runs: Name -> predictions; all runs answer the same questions.
        corpus: The corpus to show.
        title: Title of the table, by default the corpus' name.

    Raises:
        ValueError: A run has no scored prediction of the corpus, or the runs do not answer the same
            questions.
    """
    own = {name: _of(predictions, corpus, name) for name, predictions in runs.items()}
    ids = [prediction.id for prediction in next(iter(own.values()))]
    scores = {
        name: {score.group: score for score in score_predictions(predictions, ids)}
        for name, predictions in own.items()
    }
    groups = list(next(iter(scores.values())))
    first = next(iter(scores.values()))
    all_scores = first[groups[0]]
    header = ("run", *(f"{group} (n={first[group].num_questions})" for group in groups), "invalid")
    rows = [
        (
            name,
            *(_percent(of_run[group].accuracy) for group in groups),
            str(of_run[groups[0]].num_invalid),
        )
        for name, of_run in scores.items()
    ]
    title = title or corpus
    return Table(
        f"{title}: accuracy in %, 95% interval over {all_scores.num_videos} videos",
        header,
        tuple(rows),
    )


def difference_table(
    runs: Mapping[str, Sequence[BenchmarkPrediction]], corpus: str, against: str
) -> Table:
    """Paired differences in accuracy, in points, of the run ``against`` minus each other run.

    Raises:
        ValueError: ``against`` is no run, or the runs do not answer the same questions.
    """
    if against not in runs:
        raise ValueError(f"there is no run {against!r}; found {', '.join(runs)}")
    full = _of(runs[against], corpus, against)
    rows = [
        (f"{against} - {name}", _percent(accuracy_difference(full, _of(other, corpus, name)), "+"))
        for name, other in runs.items()
        if name != against
    ]
    return Table(
        f"{corpus}: paired difference in points, 95% interval over videos",
        ("runs", "difference"),
        tuple(rows),
    )


def score_rows(scores: Sequence[Score]) -> list[dict[str, str | int | float | None]]:
    """Scores as plain rows for JSON: accuracies are fractions, missing bounds are None."""
    return [
        {
            "corpus": score.corpus,
            "group": score.group,
            "measure": score.measure,
            "num_questions": score.num_questions,
            "num_videos": score.num_videos,
            "num_correct": score.num_correct,
            "num_invalid": score.num_invalid,
            "accuracy": score.accuracy.mean,
            "low": None if isnan(score.accuracy.low) else score.accuracy.low,
            "high": None if isnan(score.accuracy.high) else score.accuracy.high,
        }
        for score in scores
    ]


def _of(
    predictions: Sequence[BenchmarkPrediction], corpus: str, name: str
) -> list[BenchmarkPrediction]:
    own = [
        prediction
        for prediction in predictions
        if prediction.corpus == corpus and prediction.reference is not None
    ]
    if not own:
        raise ValueError(f"run {name!r} has no prediction with a reference of corpus {corpus!r}")
    return own


def _percent(interval: Interval, sign: str = "") -> str:
    mean = f"{100 * interval.mean:{sign}.1f}"
    if isnan(interval.low):
        return f"{mean} [-]"
    return f"{mean} [{100 * interval.low:{sign}.1f}, {100 * interval.high:{sign}.1f}]"


def _aligned(cells: Sequence[str], widths: Sequence[int], gap: str) -> str:
    first, *rest = cells
    padded = [first.ljust(widths[0])]
    padded += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
    return gap.join(padded)
