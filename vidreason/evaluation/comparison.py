"""Two runs side by side: whether their numbers may be compared, and how far they differ.

Items are paired, intervals are of a bootstrap over videos, and the p-values of one comparison are
corrected together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vidreason.evaluation.cells import make_cell, with_difference, with_holm
from vidreason.evaluation.items import run_items
from vidreason.evaluation.manifest import MUST_AGREE, Manifest, manifest_differences
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.protocols import ACCURACY, PROTOCOLS, Protocol
from vidreason.evaluation.tables import Table, p_value_text, value_text


@dataclass(frozen=True, kw_only=True)
class Run:
    """Predictions with a name."""

    name: str
    predictions: Sequence[BenchmarkPrediction]
    manifest: Manifest | None
    """None where the file does not say what its answers were made with."""
    incomplete: Mapping[str, str] = field(default_factory=dict)
    """Number of questions read, by corpus, where some could not be."""


@dataclass(frozen=True, kw_only=True)
class Comparability:
    """Differences of two manifests that matter for a comparison, a line each."""

    against: tuple[str, ...]
    """Differences in what must agree or is not known."""
    compared: tuple[str, ...]
    """Other differences: what is compared, and circumstances."""


def comparability(first: Run, second: Run) -> Comparability:
    """Compare how two runs of the same items were asked, answered and parsed.

    A run over a part of a benchmark, because some of its questions could not be read, is comparable
    with none.
    """
    incomplete = tuple(
        f"incomplete.{corpus}: {run.name} has {read}; the others could not be read, so its number "
        "is not the benchmark's: repair the file, and evaluate again"
        for run in (first, second)
        for corpus, read in run.incomplete.items()
    )
    unknown = tuple(
        f"{run.name} does not say what its answers were made with"
        for run in (first, second)
        if run.manifest is None
    )
    if first.manifest is None or second.manifest is None:
        return Comparability(against=incomplete + unknown, compared=())
    # What must agree stands against a comparison; all other differences are what is compared.
    differences = manifest_differences(first.manifest, second.manifest)
    differing = tuple(
        line for name in differences if name in MUST_AGREE for line in differences[name]
    )
    return Comparability(
        against=incomplete + differing,
        compared=tuple(
            line for name in differences if name not in MUST_AGREE for line in differences[name]
        ),
    )


def check_same_items(first: Run, second: Run) -> None:
    """Refuse runs that were not asked the same.

    Raises:
        ValueError: A question is missing in one of them, or has another video, type, options or
            reference there.
    """
    items, others = ({row.id: _item(row) for row in run.predictions} for run in (first, second))
    missing = sorted(items.keys() ^ others.keys())
    changed = [name for name in items if name in others and items[name] != others[name]]
    if missing or changed:
        raise ValueError(
            f"{first.name} and {second.name} were not asked the same: {len(missing)} questions are "
            f"in one of them only {missing[:3]}, {len(changed)} have other options, references, "
            f"types or videos {changed[:3]}; evaluate both on the same files"
        )


def comparison_tables(
    first: Run,
    second: Run,
    protocols: Mapping[str, Protocol] = PROTOCOLS,
    *,
    comparable: bool = True,
) -> list[Table]:
    """For each corpus, both runs and their paired difference in each group of questions.

    Args:
        first: Is taken the second from.
        second: Of the same items.
        protocols: How each corpus is scored.
        comparable: What :func:`comparability` says; if not, each title does too.
    """
    runs = {first.name: first.predictions, second.name: second.predictions}
    items, others = run_items(runs, protocols).values()
    cells = {
        column: (
            # Each run is a single seed.
            with_difference(make_cell(column, [of_column]), [of_column], [others[column]]),
            make_cell(column, [others[column]]),
        )
        for column, of_column in items.items()
        if of_column and others[column]
    }
    # One family: the groups of all corpora that both runs answer.
    corrected = with_holm(cell for cell, _ in cells.values())
    mark = "" if comparable else "NOT COMPARABLE, "
    rows: dict[str, list[tuple[str, ...]]] = {}
    for cell, (_, other) in zip(corrected, cells.values(), strict=True):
        measure = "" if cell.measure in (ACCURACY, cell.group) else f", {cell.measure}"
        rows.setdefault(cell.corpus, []).append(
            (
                f"{cell.group}{measure} (n={cell.num_items}, {cell.num_videos} videos)",
                *(value_text(score.seed_scores[0]) for score in (cell, other)),
                value_text(cell.difference, sign="+"),
                p_value_text(cell.p_value),
                p_value_text(cell.p_value_holm),
            )
        )
    return [
        Table(
            f"{mark}{corpus}: {first.name} - {second.name} in points, 95% interval over "
            "videos, p by exchange of runs within videos",
            ("group", first.name, second.name, "difference", "p", f"p (Holm, {len(corrected)})"),
            tuple(of_corpus),
        )
        for corpus, of_corpus in rows.items()
    ]


def _item(row: BenchmarkPrediction) -> tuple[object, ...]:
    true = row.reference, row.outcome_kind, row.outcome_seconds, row.true_futures
    return row.video_id, row.question_type, row.group_id, row.options, *true
