"""Tables of scores: one row a run, one column a group of questions, with 95% intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from vidreason.evaluation.metrics import (
    Difference,
    Score,
    compare_runs,
    score_predictions,
)
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.protocols import PROTOCOLS, Protocol
from vidreason.evaluation.statistics.intervals import Interval
from vidreason.evaluation.statistics.paired_tests import holm
from vidreason.markdown import escaped, one_line
from vidreason.markdown import table as markdown_table

CHANCE = "chance"


@dataclass(frozen=True)
class Table:
    """A table of texts with a title."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_text(self) -> str:
        """Aligned columns for a terminal."""
        lines = [tuple(map(one_line, line)) for line in (self.header, *self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        aligned = [_aligned(line, widths, "  ") for line in lines]
        rule = "-" * max(len(line) for line in aligned)
        return "\n".join([one_line(self.title), rule, aligned[0], rule, *aligned[1:], rule])

    def to_markdown(self) -> str:
        """A GitHub table, the title in bold above it; names are shown as they are."""
        header, *rows = ([*map(escaped, line)] for line in (self.header, *self.rows))
        return f"**{escaped(self.title)}**\n\n{markdown_table(header, rows)}"


def corpus_scores(
    runs: Mapping[str, Sequence[BenchmarkPrediction]],
    corpus: str,
    protocols: Mapping[str, Protocol] = PROTOCOLS,
) -> dict[str, list[Score]]:
    """The scores of several runs on one corpus.

    Args:
        runs: Name -> predictions; all runs answer the same questions.
        corpus: The corpus.
        protocols: How each corpus is scored.

    Raises:
        ValueError: A run has no scored prediction of the corpus, or the runs do not answer the same
            questions.
    """
    own = {name: _of(predictions, corpus, name) for name, predictions in runs.items()}
    ids = [prediction.id for prediction in next(iter(own.values()))]
    return {name: score_predictions(rows, ids, protocols) for name, rows in own.items()}


def accuracy_table(
    scores: Mapping[str, Sequence[Score]],
    chances: Mapping[str, float] | None = None,
    incomplete: str = "",
) -> Table:
    """Accuracy in percent of several runs on one corpus, or what its protocol has in place of it.

    Below the runs is what random options would score, for groups that have options.

    Args:
        scores: Of each run, what :func:`corpus_scores` gave.
        chances: By group, as fractions; see :func:`vidreason.evaluation.metrics.chance_scores`.
        incomplete: How many of the corpus' questions could be read, if not all.
    """
    by_group = {name: {own.group: own for own in of_run} for name, of_run in scores.items()}
    first = next(iter(by_group.values()))
    groups = list(first)
    everything = first[groups[0]]
    header = ("run", *(f"{group} (n={first[group].num_questions})" for group in groups), "invalid")
    rows = [
        (
            name,
            *(interval_text(of_run[group].accuracy) for group in groups),
            str(of_run[groups[0]].num_invalid),
        )
        for name, of_run in by_group.items()
    ]
    if chances:
        cells = (f"{100 * chances[group]:.1f}" if group in chances else "-" for group in groups)
        rows.append((CHANCE, *cells, "-"))
    return Table(
        f"{everything.corpus}: {everything.measure} in %, "
        f"95% interval over {everything.num_videos} videos" + (incomplete and f"; {incomplete}"),
        header,
        tuple(rows),
    )


@dataclass(frozen=True, kw_only=True)
class RunDifference:
    """What :func:`difference_table` shows in one row."""

    name: str
    """Of the run that is subtracted."""
    score: Difference
    adjusted_p_value: float
    """By Holm's correction over the runs that are compared with the same one."""


def run_differences(
    runs: Mapping[str, Sequence[BenchmarkPrediction]],
    corpus: str,
    against: str,
    protocols: Mapping[str, Protocol] = PROTOCOLS,
) -> list[RunDifference]:
    """The run ``against`` minus each other run, over all questions of a corpus.

    Raises:
        ValueError: ``against`` is no run, or the runs do not answer the same questions.
    """
    if against not in runs:
        raise ValueError(f"there is no run {against!r}; found {', '.join(runs)}")
    full = _of(runs[against], corpus, against)
    found = {
        name: compare_runs(full, _of(other, corpus, name), protocols)[0]
        for name, other in runs.items()
        if name != against
    }
    adjusted = holm([difference.test.p_value for difference in found.values()])
    return [
        RunDifference(name=name, score=score, adjusted_p_value=p_value)
        for (name, score), p_value in zip(found.items(), adjusted, strict=True)
    ]


def difference_table(corpus: str, against: str, differences: Sequence[RunDifference]) -> Table:
    """Paired differences in points with their p-values, of what :func:`run_differences` gave."""
    first = differences[0].score
    return Table(
        f"{corpus}: paired difference in {first.measure} in points, n={first.num_questions}, 95% "
        f"interval over {first.num_videos} videos, p by exchange of runs within videos",
        ("runs", "difference", "p", f"p (Holm, {len(differences)} tests)"),
        tuple(
            (
                f"{against} - {row.name}",
                interval_text(row.score.difference, sign="+"),
                p_value_text(row.score.test.p_value),
                p_value_text(row.adjusted_p_value),
            )
            for row in differences
        ),
    )


def difference_rows(
    against: str, differences: Sequence[RunDifference]
) -> list[dict[str, str | int | float | bool | None]]:
    """Differences as plain rows for JSON, as fractions."""
    return [
        {
            "corpus": row.score.corpus,
            "group": row.score.group,
            "measure": row.score.measure,
            "run": against,
            "minus": row.name,
            "num_questions": row.score.num_questions,
            "num_videos": row.score.num_videos,
            "num_differing_videos": row.score.test.num_differing,
            "difference": row.score.difference.mean,
            "low": none_for_nan(row.score.difference.low),
            "high": none_for_nan(row.score.difference.high),
            "p_value": row.score.test.p_value,
            "p_is_exact": row.score.test.exact,
            "p_value_holm": row.adjusted_p_value,
        }
        for row in differences
    ]


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
            "low": none_for_nan(score.accuracy.low),
            "high": none_for_nan(score.accuracy.high),
        }
        for score in scores
    ]


def none_for_nan(value: float) -> float | None:
    """What is not defined, such as an interval over one video: JSON has no NaN."""
    return None if isnan(value) else value


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


def interval_text(
    interval: Interval, *, factor: float = 100.0, decimals: int = 1, sign: str = ""
) -> str:
    """``61.2 [55.0, 67.3]``: mean and bounds times ``factor``, ``[-]`` where there are none."""
    mean, low, high = (f"{factor * value:{sign}.{decimals}f}" for value in interval)
    return f"{mean} [-]" if isnan(interval.low) else f"{mean} [{low}, {high}]"


def interval_row(name: str, interval: Interval) -> dict[str, float | None]:
    """A number with its bounds for JSON; None where it is not defined."""
    return {
        name: none_for_nan(interval.mean),
        f"{name}_low": none_for_nan(interval.low),
        f"{name}_high": none_for_nan(interval.high),
    }


def p_value_text(value: float) -> str:
    """Three decimals."""
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _aligned(cells: Sequence[str], widths: Sequence[int], gap: str) -> str:
    first, *rest = cells
    padded = [first.ljust(widths[0])]
    padded += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
    return gap.join(padded)
