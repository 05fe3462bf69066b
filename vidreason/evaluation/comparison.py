"""Two runs side by side: whether their numbers may be compared, and how far they differ.

Items are paired, intervals are of a bootstrap over videos, and the p-values of one comparison are
corrected together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from vidreason.evaluation.manifest import MUST_AGREE, Manifest, manifest_differences
from vidreason.evaluation.metrics import Difference, compare_runs
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.protocols import PROTOCOLS, Protocol
from vidreason.evaluation.report import Table, interval_text, p_value_text
from vidreason.evaluation.statistics.paired_tests import holm


@dataclass(frozen=True, kw_only=True)
class Run:
    """Predictions with a name."""

    name: str
    predictions: Sequence[BenchmarkPrediction]
    manifest: Manifest | None
    """None where the file does not say what its answers were made with."""
    incomplete: Mapping[str, str] = field(default_factory=dict)
    """Of each corpus of which questions could not be read, how many were."""


@dataclass(frozen=True, kw_only=True)
class Comparability:
    """What two manifests say about a comparison, a line each."""

    against: tuple[str, ...]
    """What must agree and does not, or is not known."""
    compared: tuple[str, ...]
    """Other differences: what is compared, and circumstances."""


def comparability(first: Run, second: Run) -> Comparability:
    """Whether two runs, of the same items, were asked, answered and parsed alike.

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
    found = manifest_differences(first.manifest, second.manifest)
    differing = tuple(line for name in found if name in MUST_AGREE for line in found[name])
    return Comparability(
        against=incomplete + differing,
        compared=tuple(line for name in found if name not in MUST_AGREE for line in found[name]),
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
    differences = compare_runs(first.predictions, second.predictions, protocols, groups=None)
    adjusted = holm([row.test.p_value for row in differences])
    mark = "" if comparable else "NOT COMPARABLE, "
    tables = []
    numbered = list(zip(differences, adjusted, strict=True))
    for corpus, own in groupby(numbered, key=lambda pair: pair[0].corpus):
        rows = [
            (
                _group_text(row),
                *(f"{100 * mean:.1f}" for mean in row.means),
                interval_text(row.difference, sign="+"),
                p_value_text(row.test.p_value),
                p_value_text(p_value),
            )
            for row, p_value in own
        ]
        tables.append(
            Table(
                f"{mark}{corpus}: {first.name} - {second.name} in points, 95% interval over "
                "videos, p by exchange of runs within videos",
                ("group", first.name, second.name, "difference", "p", f"p (Holm, {len(adjusted)})"),
                tuple(rows),
            )
        )
    return tables


def _group_text(row: Difference) -> str:
    measure = "" if row.measure in ("accuracy", row.group) else f", {row.measure}"
    return f"{row.group}{measure} (n={row.num_questions}, {row.num_videos} videos)"


def _item(row: BenchmarkPrediction) -> tuple[object, ...]:
    return row.video_id, row.question_type, row.group_id, row.options, row.reference
