"""Tables of judged scores. Each names judge and prompts: without them the numbers say nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from vidreason.evaluation.judge.summary import AxisSummary, PairwiseSummary
from vidreason.evaluation.judge.video_chatgpt import AspectSummary
from vidreason.evaluation.report import Table, interval_text, p_value_text
from vidreason.evaluation.statistics.intervals import Interval
from vidreason.evaluation.statistics.paired_tests import holm

Summaries = Sequence[AxisSummary] | Sequence[PairwiseSummary] | Sequence[AspectSummary]


def judged_table(
    summaries: Summaries, *, title: str, judge_id: str, prompt_hashes: Sequence[str]
) -> Table:
    """A row for each axis or aspect.

    Args:
        summaries: All of one kind, of one judge and one set of answers.
        title: What was judged.
        judge_id: Pinned id of the judge.
        prompt_hashes: Of the prompts that it was asked with.
    """
    header, rows = _header(summaries), [_row(own) for own in summaries]
    compared = [own for own in summaries if isinstance(own, PairwiseSummary)]
    if compared:
        known = [own.p_value for own in compared if own.p_value is not None]
        adjusted = iter(holm(known))
        for number, own in enumerate(compared):
            cells = ["-", "-"]
            if own.p_value is not None:
                cells = [p_value_text(own.p_value), p_value_text(next(adjusted))]
            rows[number] = (*rows[number], *cells)
    return Table(
        f"{title}, 95% intervals over videos; judge {judge_id}, prompts {' '.join(prompt_hashes)}",
        header,
        tuple(rows),
    )


def agreement_table(judge_id: str, by_judgements: Mapping[str, Mapping[str, Any]]) -> Table:
    """How far a judge agrees with others.

    Args:
        judge_id: Of the judge.
        by_judgements: For each file of another judge, by axis the fields of
            :class:`vidreason.evaluation.judge.agreement.Agreement`; None where no item is shared.
    """
    names = ("exact", "kappa", "weighted_kappa", "alpha", "spearman")
    return Table(
        f"agreement of judge {judge_id} with",
        ("judgements", "axis", "n", *(name.replace("_", " ") for name in names)),
        tuple(
            (path, axis, str(found["num_items"]), *(f"{found[name]:.2f}" for name in names))
            if found
            else (path, axis, "0", *("-" for _ in names))
            for path, by_axis in by_judgements.items()
            for axis, found in by_axis.items()
        ),
    )


def _header(summaries: Summaries) -> tuple[str, ...]:
    match summaries[0]:
        case AxisSummary():
            return ("axis", "n", "score (1-5)", "invalid as 1", "invalid", "not judged")
        case PairwiseSummary():
            ends = ("p", f"p (Holm, {len(summaries)} tests)")
            results = ("n", "wins", "ties", "losses", "win rate in %", "same in both orders in %")
            return ("axis", *results, "length ratio", "invalid", "not judged", *ends)
        case AspectSummary():
            return ("aspect", "n", "score (0-5)", "accuracy in %", "invalid")


def _row(summary: AxisSummary | PairwiseSummary | AspectSummary) -> tuple[str, ...]:
    match summary:
        case AxisSummary():
            return (
                summary.axis,
                str(summary.num_judged),
                _score(summary.score),
                _score(summary.score_invalid_lowest),
                str(summary.num_invalid),
                str(summary.num_not_judged),
            )
        case PairwiseSummary():
            return (
                summary.axis,
                *map(str, (summary.num_judged, summary.num_wins)),
                *map(str, (summary.num_ties, summary.num_losses)),
                "-" if summary.win_rate is None else interval_text(summary.win_rate),
                "-" if summary.consistency is None else f"{100 * summary.consistency:.1f}",
                "-" if summary.length_ratio is None else f"{summary.length_ratio:.2f}",
                *map(str, (summary.num_invalid, summary.num_not_judged)),
            )
        case AspectSummary():
            return (
                summary.aspect,
                str(summary.num_judged),
                _score(summary.score),
                "-" if summary.accuracy is None else interval_text(summary.accuracy),
                str(summary.num_invalid),
            )


def _score(interval: Interval | None) -> str:
    return "-" if interval is None else interval_text(interval, factor=1.0, decimals=2)
