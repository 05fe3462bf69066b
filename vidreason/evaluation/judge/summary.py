"""Judgements as numbers and tables: means with intervals over videos, and what was not judged.

Each table names judge and prompts: without them the numbers say nothing.
"""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from vidreason.evaluation.judge.judging import PairwiseJudgement, PointwiseJudgement
from vidreason.evaluation.judge.rubric import AXES, MAX_SCORE, MIN_SCORE
from vidreason.evaluation.judge.video_chatgpt import MAX_SCORE as MAX_ASPECT_SCORE
from vidreason.evaluation.judge.video_chatgpt import Aspect, AspectJudgement
from vidreason.evaluation.statistics.intervals import Interval, bootstrap_interval
from vidreason.evaluation.statistics.paired_tests import holm, paired_test
from vidreason.evaluation.tables import (
    NOT_APPLICABLE,
    Field,
    Table,
    p_value_text,
    record_table,
    value_text,
)

Judgement = PointwiseJudgement | PairwiseJudgement | AspectJudgement
Summary = dict[str, Any]
"""Numbers of one axis or aspect, by name; None where there is nothing to count."""

_POINTWISE = (
    Field("num_judged", "n"),
    Field("score", "score (1-5)", factor=1.0, decimals=2),
    Field("score_invalid_lowest", "invalid as 1", factor=1.0, decimals=2),
    Field("num_invalid", "invalid"),
    Field("num_not_judged", "not judged"),
)
_PAIRWISE = (
    Field("num_judged", "n"),
    Field("num_wins", "wins"),
    Field("num_ties", "ties"),
    Field("num_losses", "losses"),
    Field("win_rate", "win rate in %"),
    Field("consistency", "same in both orders in %"),
    Field("length_ratio", "length ratio", factor=1.0, decimals=2),
    Field("num_invalid", "invalid"),
    Field("num_not_judged", "not judged"),
    Field("p", "p"),
    Field("p_holm", "p (Holm, {num_tests} tests)"),
)
_ASPECTS = (
    Field("num_judged", "n"),
    Field("score", "score (0-5)", factor=1.0, decimals=2),
    Field("accuracy", "accuracy in %"),
    Field("num_invalid", "invalid"),
)


def summarise_pointwise(judgements: Sequence[PointwiseJudgement]) -> list[Summary]:
    """Scores of one system by axis.

    ``score`` is the mean from 1 to 5 of what was judged; ``score_invalid_lowest`` the same with 1
    for each invalid output: what the mean cannot be below. ``num_not_judged`` are items that lack
    what the axis needs: evidence, for factual grounding.
    """
    limits = (float(MIN_SCORE), float(MAX_SCORE))
    summaries = []
    for axis in AXES:
        applicable = [one for one in judgements if axis in one.axes]
        valid = [one for one in applicable if not one.invalid]
        # Bounds the effect of leaving out what the judge could not score.
        lowest = [MIN_SCORE if one.invalid else one.scores[axis] for one in applicable]
        summaries.append(
            {
                "axis": axis,
                "num_judged": len(valid),
                "num_invalid": len(applicable) - len(valid),
                "num_not_judged": len(judgements) - len(applicable),
                "score": _interval([one.scores[axis] for one in valid], valid, limits),
                "score_invalid_lowest": _interval(lowest, applicable, limits),
            }
        )
    return summaries


def summarise_pairwise(judgements: Sequence[PairwiseJudgement]) -> list[Summary]:
    """The first system against the second by axis.

    * ``num_wins`` of the first system, in both orders, ``num_ties`` and ``num_losses``;
      ``win_rate``: wins and half of the ties, as a share; 0.5 says that the systems are equal.
    * ``p_value`` of the test that wins and losses are equally likely, by exchange of the systems
      within videos; not corrected for the other axes.
    * ``consistency``: share of items on which both orders gave the same result. What is
      inconsistent counts as a tie; a low share says that the judge looks at the order.
    * ``length_ratio``: mean length of the first system's answers over that of the second's.
    """
    # As a game: a win counts 1, a tie a half.
    points = {"first": 1.0, "tie": 0.5, "second": 0.0}
    summaries = []
    for axis in AXES:
        applicable = [one for one in judgements if axis in one.axes]
        valid = [one for one in applicable if not one.invalid]
        winners = [one.winners[axis] for one in valid]
        shares = [points[winner] for winner in winners]
        # As two runs on the same items: what one wins, the other loses.
        lost = [1 - share for share in shares]
        # Characters of all answers of either system.
        first_chars, second_chars = (
            sum(one.answer_chars[side] for one in valid) for side in (0, 1)
        )
        summaries.append(
            {
                "axis": axis,
                "num_judged": len(valid),
                "num_invalid": len(applicable) - len(valid),
                "num_not_judged": len(judgements) - len(applicable),
                "num_wins": winners.count("first"),
                "num_ties": winners.count("tie"),
                "num_losses": winners.count("second"),
                "win_rate": _interval(shares, valid),
                "p_value": paired_test(shares, lost, _videos(valid)).p_value if valid else None,
                "consistency": sum(one.consistent[axis] for one in valid) / len(valid)
                if valid
                else None,
                "length_ratio": first_chars / second_chars if second_chars else None,
            }
        )
    return summaries


def summarise_aspects(judgements: Sequence[AspectJudgement]) -> list[Summary]:
    """Mean scores from 0 to 5 by aspect, over valid outputs; ``accuracy`` is the share of "yes"."""
    by_aspect: dict[Aspect, list[AspectJudgement]] = {}
    for one in judgements:
        by_aspect.setdefault(one.aspect, []).append(one)
    summaries = []
    for aspect, applicable in by_aspect.items():
        valid = [one for one in applicable if one.score is not None]
        scores = [float(one.score) for one in valid if one.score is not None]
        # Only question answering has a verdict beside its score.
        hits = [float(one.pred == "yes") for one in valid] if aspect == "answer" else []
        summaries.append(
            {
                "aspect": aspect,
                "num_judged": len(valid),
                "num_invalid": len(applicable) - len(valid),
                "score": _interval(scores, valid, (0.0, float(MAX_ASPECT_SCORE))),
                "accuracy": _interval(hits, valid),
            }
        )
    return summaries


def judged_table(
    summaries: Sequence[Summary], *, title: str, judge_id: str, prompt_hashes: Sequence[str]
) -> Table:
    """A row for each axis or aspect.

    Args:
        summaries: All of one kind, of one judge and one set of answers.
        title: What was judged.
        judge_id: Pinned id of the judge.
        prompt_hashes: Of the prompts that it was asked with.
    """
    title += f", 95% intervals over videos; judge {judge_id}, prompts {' '.join(prompt_hashes)}"
    if "aspect" in summaries[0]:
        by_aspect = {summary["aspect"]: summary for summary in summaries}
        return record_table(title, "aspect", by_aspect, _ASPECTS)
    records = {summary["axis"]: summary for summary in summaries}
    if "num_wins" not in summaries[0]:
        return record_table(title, "axis", records, _POINTWISE)
    # An axis that was not judged has no p-value, and is no test.
    tested = [summary["p_value"] for summary in summaries if summary["p_value"] is not None]
    adjusted = iter(holm(tested))
    for axis, summary in records.items():
        p_value = summary["p_value"]
        p_holm = None if p_value is None else next(adjusted)
        records[axis] = {**summary, "p": p_value_text(p_value), "p_holm": p_value_text(p_holm)}
    fields = [
        field._replace(title=field.title.format(num_tests=len(tested))) for field in _PAIRWISE
    ]
    return record_table(title, "axis", records, fields)


def agreement_table(judge_id: str, by_judgements: Mapping[str, Mapping[str, Any]]) -> Table:
    """Table of a judge's agreement with others.

    Args:
        judge_id: Of the judge.
        by_judgements: For each file of another judge, by axis the fields of
            :class:`vidreason.evaluation.judge.agreement.Agreement`, of which those that are not
            defined are NaN; None where no item is shared.
    """
    names = ("exact", "kappa", "weighted_kappa", "alpha", "spearman")
    undefined = any(
        isnan(agreement[name])
        for by_axis in by_judgements.values()
        for agreement in by_axis.values()
        if agreement
        for name in names
    )
    why = f" ({NOT_APPLICABLE}: not defined where a judge gives one score only)"
    return Table(
        f"agreement of judge {judge_id} with{why if undefined else ''}",
        ("judgements", "axis", "n", *(name.replace("_", " ") for name in names)),
        tuple(
            (
                path,
                axis,
                str(agreement["num_items"]),
                *(value_text(agreement[name], factor=1.0, decimals=2) for name in names),
            )
            if agreement
            # No item that both have judged.
            else (path, axis, "0", *("-" for _ in names))
            for path, by_axis in by_judgements.items()
            for axis, agreement in by_axis.items()
        ),
    )


def _interval(
    values: Sequence[float],
    judgements: Sequence[Judgement],
    limits: tuple[float, float] = (0.0, 1.0),
) -> Interval | None:
    return bootstrap_interval(values, _videos(judgements), limits=limits) if values else None


def _videos(judgements: Sequence[Judgement]) -> list[str]:
    return [one.video_id for one in judgements]
