"""Judgements as numbers: means with intervals over videos, and everything that was not judged."""

from collections.abc import Sequence
from dataclasses import dataclass

from vidreason.evaluation.judge.judging import PairwiseJudgement, PointwiseJudgement
from vidreason.evaluation.judge.rubric import AXES, MAX_SCORE, MIN_SCORE, Axis
from vidreason.evaluation.statistics.intervals import Interval, bootstrap_interval
from vidreason.evaluation.statistics.paired_tests import paired_test

_SCORES = (float(MIN_SCORE), float(MAX_SCORE))


@dataclass(frozen=True, kw_only=True)
class AxisSummary:
    """Scores of one system on one axis."""

    axis: Axis
    num_judged: int
    """Items with a score."""
    num_invalid: int
    """Items whose judge's output was no verdict."""
    num_not_judged: int
    """Items that lack what the axis needs: evidence, for factual grounding."""
    score: Interval | None
    """Mean over the scored items, from 1 to 5; None without any."""
    score_invalid_lowest: Interval | None
    """The same with 1 for each invalid output: what the mean cannot be below."""


@dataclass(frozen=True, kw_only=True)
class PairwiseSummary:
    """The first system against the second on one axis."""

    axis: Axis
    num_judged: int
    num_invalid: int
    num_not_judged: int
    num_wins: int
    """Of the first system, in both orders."""
    num_ties: int
    num_losses: int
    win_rate: Interval | None
    """Wins and half of the ties, as a share; 0.5 says that the systems are equal."""
    p_value: float | None
    """Of the test that wins and losses are equally likely, by exchange of the systems within
    videos; not corrected for the other axes."""
    consistency: float | None
    """Share of items on which both orders gave the same result. What is inconsistent counts as a
    tie; a low share says that the judge looks at the order."""
    length_ratio: float | None
    """Mean length of the first system's answers over that of the second's."""


def summarise_pointwise(judgements: Sequence[PointwiseJudgement]) -> list[AxisSummary]:
    """Summaries by axis; intervals are over videos."""
    summaries = []
    for axis in AXES:
        asked = [own for own in judgements if axis in own.axes]
        scored = [own for own in asked if not own.invalid]
        summaries.append(
            AxisSummary(
                axis=axis,
                num_judged=len(scored),
                num_invalid=len(asked) - len(scored),
                num_not_judged=len(judgements) - len(asked),
                score=_interval([own.scores[axis] for own in scored], scored, _SCORES),
                score_invalid_lowest=_interval(
                    [MIN_SCORE if own.invalid else own.scores[axis] for own in asked],
                    asked,
                    _SCORES,
                ),
            )
        )
    return summaries


def summarise_pairwise(judgements: Sequence[PairwiseJudgement]) -> list[PairwiseSummary]:
    """Summaries by axis; intervals are over videos."""
    points = {"first": 1.0, "tie": 0.5, "second": 0.0}
    summaries = []
    for axis in AXES:
        asked = [own for own in judgements if axis in own.axes]
        valid = [own for own in asked if not own.invalid]
        winners = [own.winners[axis] for own in valid]
        shares = [points[winner] for winner in winners]
        second_chars = sum(own.answer_chars[1] for own in valid)
        summaries.append(
            PairwiseSummary(
                axis=axis,
                num_judged=len(valid),
                num_invalid=len(asked) - len(valid),
                num_not_judged=len(judgements) - len(asked),
                num_wins=winners.count("first"),
                num_ties=winners.count("tie"),
                num_losses=winners.count("second"),
                win_rate=_interval(shares, valid),
                p_value=_p_value(shares, valid),
                consistency=sum(own.consistent[axis] for own in valid) / len(valid)
                if valid
                else None,
                length_ratio=sum(own.answer_chars[0] for own in valid) / second_chars
                if second_chars
                else None,
            )
        )
    return summaries


def _interval(
    values: Sequence[float],
    judgements: Sequence[PointwiseJudgement | PairwiseJudgement],
    limits: tuple[float, float] = (0.0, 1.0),
) -> Interval | None:
    if not values:
        return None
    return bootstrap_interval(values, [own.video_id for own in judgements], limits=limits)


def _p_value(shares: Sequence[float], judgements: Sequence[PairwiseJudgement]) -> float | None:
    if not shares:
        return None
    lost = [1 - share for share in shares]
    return paired_test(shares, lost, [own.video_id for own in judgements]).p_value
