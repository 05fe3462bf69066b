"""Conformal sets: scores and quantiles by hand, and the coverage that is promised."""

import math

import numpy as np
import pytest

from vidreason.evaluation.confidence.conformal import (
    conformal_scores,
    conformal_set,
    draw_of,
    fit_conformal,
)

SHARES = {"stops": 0.5, "leaves": 0.3, "turns": 0.2}


def test_a_score_is_what_stands_above_and_a_share_of_its_own() -> None:
    assert conformal_scores(SHARES) == pytest.approx({"stops": 0, "leaves": 0.5, "turns": 0.8})
    assert conformal_scores(SHARES, 0.5) == pytest.approx(
        {"stops": 0.25, "leaves": 0.65, "turns": 0.9}
    )


def test_the_quantile_counts_the_question_that_is_asked() -> None:
    scores = [number / 10 for number in range(1, 10)]  # the tenth question is asked
    assert fit_conformal(scores, 0.9).quantile == 0.9
    assert fit_conformal(scores[::-1], 0.8).quantile == 0.8
    assert fit_conformal(scores, 0.75).quantile == 0.8
    assert fit_conformal(scores[:8], 0.9).quantile == math.inf
    assert fit_conformal([*scores[:8], math.inf], 0.9).quantile == math.inf
    assert fit_conformal([0.1] * 18 + [math.inf], 0.9).quantile == 0.1
    with pytest.raises(ValueError, match="at least one validation question"):
        fit_conformal([])


def test_a_set_holds_events_up_to_the_quantile() -> None:
    for quantile, events in ((0.0, 1), (0.49, 1), (0.5, 2), (0.85, 3), (math.inf, 3)):
        fit = fit_conformal([quantile] * 9)
        assert conformal_set(SHARES, fit) == tuple(SHARES)[:events]
    # With a draw, the most probable event is in the set where its own share allows it.
    fit = fit_conformal([0.2] * 9)
    assert conformal_set(SHARES, fit, 0.3) == ("stops",)
    assert conformal_set(SHARES, fit, 0.9) == ()


def test_draws_belong_to_ids_and_are_even() -> None:
    draws = np.array([draw_of(f"causal_vid_instruct:test:{number}") for number in range(4000)])
    assert draw_of("a\ud800") == draw_of("a\ud800")
    assert 0 <= draws.min() <= draws.max() < 1
    counts, _ = np.histogram(draws, bins=4, range=(0, 1))
    assert counts.min() > 900


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_sets_cover_as_promised_however_wrong_the_probabilities_are(sharpness: float) -> None:
    """Outcomes are drawn of true distributions; what is predicted is flatter or sharper."""
    generator = np.random.default_rng(0)
    true = generator.dirichlet(np.full(6, 0.4), size=4000)
    outcomes = np.array([generator.choice(6, p=row) for row in true])
    wrong = true**sharpness
    wrong /= wrong.sum(axis=1, keepdims=True)
    drawn, sizes, covered, always = [], [], [], []
    rows = [dict(sorted(enumerate(row.tolist()), key=lambda item: -item[1])) for row in wrong]
    draws = generator.random(4000)
    for draw in (draws, np.zeros(4000)):
        scores = [
            conformal_scores(row, one)[int(outcome)]  # type: ignore[arg-type, index]
            for row, one, outcome in zip(rows, draw, outcomes, strict=True)
        ]
        fit = fit_conformal(scores[:2000])
        sets = [
            conformal_set(row, fit, one)  # type: ignore[arg-type]
            for row, one in zip(rows[2000:], draw[2000:], strict=True)
        ]
        covered.append(
            np.mean([out in held for out, held in zip(outcomes[2000:], sets, strict=True)])
        )
        sizes.append(np.mean(list(map(len, sets))))
        drawn.append(fit.quantile)
        always.append(min(map(len, sets)))
    # Three standard deviations of validation and test together are 2.8 points.
    assert 0.87 < covered[0] < 0.93
    assert covered[1] > 0.87
    assert always[1] >= 1
    assert 1 < sizes[0] < 5
