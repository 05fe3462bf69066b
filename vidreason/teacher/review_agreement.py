"""Agreement of reviewers with each other, and of the quality gate with them.

Intervals are over videos, because rows of one video are not independent of each other.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidreason.evaluation.judge.agreement import agreement
from vidreason.evaluation.statistics.clusters import cluster_numbers
from vidreason.evaluation.statistics.few_clusters import share_bounds
from vidreason.evaluation.statistics.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_statistic,
)
from vidreason.teacher.reviews import DECISIONS, Review, Reviews, newest_of_each

ACCEPTED = "accepted"
"""The gate's verdict on a row of the set; on others it is the cause of the rejection."""
ALL = "(all)"
"""Name of what is over all sources or causes; no source and no cause begins with a bracket."""


class RowFacts(NamedTuple):
    """A row of a set, or an answer that the gate rejected, as far as reviews are counted by it."""

    sha: str
    """:func:`vidreason.teacher.reviews.row_sha`."""
    source: str
    video_id: str
    verdict: str
    """``accepted``, or the cause of the rejection."""


@dataclass(frozen=True, kw_only=True)
class AgreementReport:
    """Numbers of a review; shares and coefficients with their intervals, NaN where undefined."""

    reviewers: dict[str, dict[str, int]]
    """Number of each decision, by reviewer."""
    num_stale: int
    """Reviews of another version of a row, which count nowhere."""
    num_unknown: int
    """Reviews of rows that the set has not, which count nowhere."""
    groups: dict[str, dict[str, Any]]
    """By ``(all)``, ``source: NAME`` and ``gate: accepted`` or ``rejected``: agreement of all
    reviewers on rows that at least two have reviewed. ``exact`` is the share of equal pairs of
    decisions and ``alpha`` Krippendorff's for names; those of ``keep`` take an edit as accepted."""
    pairs: dict[str, dict[str, Any]]
    """By ``NAME and NAME``: agreement of two, with Cohen's ``kappa`` and the ``confusion``, the
    number of rows by the first one's decision and the second one's."""
    accepted: dict[str, dict[str, Any]]
    """By source, of reviewed rows that the gate accepted: shares that the reviewers together accept
    as they are (``precision``), and accept or edit (``kept``)."""
    rejected: dict[str, dict[str, Any]]
    """By cause, of reviewed answers that the gate rejected: share that reviewers reject, too."""


def review_report(
    reviews: Sequence[Review],
    rows: Mapping[str, RowFacts],
    sizes: Mapping[tuple[str, str], int],
) -> AgreementReport:
    """Count how far reviewers agree with each other, and the gate with them.

    Pages are drawn evenly over sources and causes, so shares over all sources, or all causes, are
    weighted by how many rows of each there are in the set.

    Args:
        reviews: Of all reviewers.
        rows: By id, at least those that were reviewed and exist.
        sizes: Rows of the set by source and verdict, reviewed or not.

    Raises:
        ValueError: No review is of a row of the set as it is now.
    """
    current = [one for one in reviews if one.id in rows and one.row_sha == rows[one.id].sha]
    num_unknown = sum(one.id not in rows for one in reviews)
    num_stale = len(reviews) - len(current) - num_unknown
    if not current:
        raise ValueError(
            f"none of {len(reviews)} reviews is of a row of this set as it is now: {num_unknown} "
            f"of rows that it has not, {num_stale} of other versions of its rows; name the set "
            "that was reviewed (run_dir), or review it again"
        )
    by_id = Reviews(current).by_id
    decided = {
        name: {who: review.decision for who, review in newest_of_each(of_row).items()}
        for name, of_row in by_id.items()
    }
    names = sorted({review.reviewer for review in current})
    return AgreementReport(
        reviewers={
            name: dict(Counter(of_row[name] for of_row in decided.values() if name in of_row))
            for name in names
        },
        num_stale=num_stale,
        num_unknown=num_unknown,
        groups=_groups(decided, rows),
        pairs={
            f"{one} and {other}": _pair(one, other, decided, rows)
            for one, other in combinations(names, 2)
            if any(one in of_row and other in of_row for of_row in decided.values())
        },
        **_gate(Reviews(current), rows, sizes),
    )


def nominal_alpha(counts: NDArray[np.int64]) -> float:
    """Krippendorff's alpha of names, of any number of raters with gaps.

    NaN where it is not defined: all ratings are equal, or no item has two.

    Args:
        counts: Shape ``(items, names)``, how many raters gave an item that name. Items with fewer
            than two ratings do not count.
    """
    counts = counts[counts.sum(axis=1) >= 2]
    ratings = counts.sum(axis=1)  # (items,)
    total = int(ratings.sum())
    if not total:
        return nan
    # Ordered pairs of different names within each item, by its ratings less one.
    differing = (ratings**2 - (counts**2).sum(axis=1)) / (ratings - 1)
    # Those among all ratings, whatever their item: what chance would give.
    expected = total**2 - int((counts.sum(axis=0) ** 2).sum())
    return float(1 - (total - 1) * differing.sum() / expected) if expected else nan


def _groups(
    decided: Mapping[str, Mapping[str, str]], rows: Mapping[str, RowFacts]
) -> dict[str, dict[str, Any]]:
    shared = [name for name, of_row in decided.items() if len(of_row) >= 2]
    members: dict[str, list[str]] = {ALL: shared}
    for name in shared:
        members.setdefault(f"source: {rows[name].source}", []).append(name)
    # In a second pass, so that the gate's groups come after all sources.
    for name in shared:
        is_accepted = rows[name].verdict == ACCEPTED
        members.setdefault(f"gate: {ACCEPTED if is_accepted else 'rejected'}", []).append(name)
    groups = {}
    for group, ids in members.items():
        if not ids:
            continue
        videos = [_video(rows[name]) for name in ids]
        # (rows, decisions): how many reviewers decided so.
        counts = np.array(
            [[list(decided[name].values()).count(one) for one in DECISIONS] for name in ids]
        )
        # An edit keeps the row: (rows, kept or rejected).
        keep = np.stack([counts.sum(axis=1) - counts[:, _REJECT], counts[:, _REJECT]], axis=1)
        groups[group] = {
            "num_rows": len(ids),
            "exact": bootstrap_interval(_equal_pairs(counts), videos),
            "alpha": _alpha(counts, videos),
            "keep_exact": bootstrap_interval(_equal_pairs(keep), videos),
            "keep_alpha": _alpha(keep, videos),
        }
    return groups


_REJECT = DECISIONS.index("reject")


def _equal_pairs(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of equal pairs of ratings, ``(items,)``, of counts ``(items, names)``."""
    ratings = counts.sum(axis=1)
    # Ordered pairs of two reviewers who decided alike, by all such pairs.
    equal = (counts * (counts - 1)).sum(axis=1) / (ratings * (ratings - 1))
    return np.asarray(equal, dtype=np.float64)


def _alpha(counts: NDArray[np.int64], videos: Sequence[str]) -> Interval:
    return bootstrap_statistic(
        lambda indices: nominal_alpha(counts[indices]), videos, limits=(-1.0, 1.0)
    )


def _pair(
    one: str,
    other: str,
    decided: Mapping[str, Mapping[str, str]],
    rows: Mapping[str, RowFacts],
) -> dict[str, Any]:
    ids = [name for name, of_row in decided.items() if one in of_row and other in of_row]
    videos = [_video(rows[name]) for name in ids]
    # (rows, 2): numbers of the decisions.
    codes = np.array(
        [[DECISIONS.index(decided[name][who]) for who in (one, other)] for name in ids]
    )
    kept = (codes != _REJECT).astype(np.int64)
    confusion: dict[str, dict[str, int]] = {
        first: dict.fromkeys(DECISIONS, 0) for first in DECISIONS
    }
    for name in ids:
        confusion[decided[name][one]][decided[name][other]] += 1
    return {
        "num_rows": len(ids),
        "exact": bootstrap_interval((codes[:, 0] == codes[:, 1]).astype(np.float64), videos),
        "kappa": _kappa(codes, videos),
        "keep_kappa": _kappa(kept, videos),
        "confusion": confusion,
    }


def _kappa(codes: NDArray[np.int64], videos: Sequence[str]) -> Interval:
    """Cohen's kappa of two raters' codes, ``(items, 2)``."""

    def kappa(indices: NDArray[np.intp]) -> float:
        # A row may be drawn several times.
        first, second = (
            {str(number): int(code) for number, code in enumerate(codes[indices, rater])}
            for rater in (0, 1)
        )
        return agreement(first, second).kappa

    return bootstrap_statistic(kappa, videos, limits=(-1.0, 1.0))


def _gate(
    reviews: Reviews, rows: Mapping[str, RowFacts], sizes: Mapping[tuple[str, str], int]
) -> dict[str, dict[str, dict[str, Any]]]:
    """The parts of the report about the gate."""
    accepted: dict[str, list[tuple[str, str]]] = {}
    rejected: dict[str, list[tuple[str, str]]] = {}
    for name in reviews.by_id:
        facts = rows[name]
        ruling = reviews.ruling(name, facts.sha)
        assert ruling is not None
        groups, group = (
            (accepted, facts.source) if facts.verdict == ACCEPTED else (rejected, facts.verdict)
        )
        groups.setdefault(group, []).append((ruling.decision, _video(facts)))
    of_sources: Counter[str] = Counter()
    of_causes: Counter[str] = Counter()
    for (source, verdict), number in sizes.items():
        if verdict == ACCEPTED:
            of_sources[source] += number
        else:
            of_causes[verdict] += number
    return {
        "accepted": _shares(accepted, of_sources, precision=("accept",), kept=("accept", "edit")),
        "rejected": _shares(rejected, of_causes, rejected=("reject",)),
    }


def _shares(
    groups: Mapping[str, Sequence[tuple[str, str]]],
    sizes: Mapping[str, int],
    **measures: tuple[str, ...],
) -> dict[str, dict[str, Any]]:
    """For each group, and for all by their sizes, the shares of some decisions."""
    of_groups = {
        group: [(decision, video, 1.0) for decision, video in groups[group]]
        for group in sorted(groups)
    }
    totals = {group: sizes.get(group, 0) for group in of_groups}
    if len(of_groups) > 1:
        # A reviewed row stands for as many as there are in its group for each reviewed one.
        weighted = [
            (decision, video, max(totals[group], 1) / len(members))
            for group, members in of_groups.items()
            for decision, video, _ in members
        ]
        of_groups = {ALL: weighted, **of_groups}
        totals[ALL] = sum(totals.values())
    return {
        group: {
            "num_rows": len(members),
            "num_in_set": totals[group],
            **{measure: _share(members, chosen) for measure, chosen in measures.items()},
        }
        for group, members in of_groups.items()
    }


def _share(members: Sequence[tuple[str, str, float]], decisions: Sequence[str]) -> Interval:
    """Weighted share with Wilson's interval over videos; there is none of one video."""
    values = np.array([decision in decisions for decision, _, _ in members], dtype=np.float64)
    weights = np.array([weight for _, _, weight in members])
    numbers = cluster_numbers([video for _, video, _ in members])
    mean = float(np.average(values, weights=weights))
    if numbers.max() == 0:
        return Interval(mean, nan, nan)
    low, high = share_bounds(values, weights, numbers)
    return Interval(mean, min(low, mean), max(high, mean))


def _video(facts: RowFacts) -> str:
    """Name of the row's video over all sources."""
    return f"{facts.source}:{facts.video_id}"
