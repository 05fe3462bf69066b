"""Differences of ways of training, several seeds each: levels and power, by simulation."""

import math

import numpy as np
import pytest

from vidreason.evaluation.statistics.paired_tests import paired_test
from vidreason.evaluation.statistics.seeds import seeds_p_value
from vidreason.evaluation.statistics.student import student_p_value, student_quantile

VIDEOS = [f"v{video}" for video in range(60) for _ in range(4)]


def runs(rng: np.random.Generator, spread: float, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Three seeds of two ways, shape ``(3, 240)``: questions of one video are hard together, and a
    seed shifts the log-odds of all its answers by a draw of deviation ``spread``."""
    hard = rng.normal(0, 1, (60, 1)) + rng.normal(0, 1.5, (60, 4))
    first, second = (
        (rng.random((3, 60, 4)) < 1 / (1 + np.exp(-hard - one - rng.normal(0, spread, (3, 1, 1)))))
        .reshape(3, -1)
        .astype(float)
        for one in (gain, 0.0)
    )
    return first, second


@pytest.mark.parametrize("spread", [0.0, 0.2, 0.4])
@pytest.mark.slow
def test_a_null_of_seeds_is_not_significant_too_often(spread: float) -> None:
    # 300 pairs of ways that do not differ, at the level 5%: more than 27 findings have a
    # probability of less than 0.001, if 5% is the truth.
    rng = np.random.default_rng(0)
    careful = single = 0
    for _ in range(300):
        first, second = runs(rng, spread, 0.0)
        careful += seeds_p_value(first, second, VIDEOS) <= 0.05
        means = (first.mean(axis=0), second.mean(axis=0))
        single += paired_test(*means, VIDEOS).p_value <= 0.05
    assert careful <= 27
    # A test of these runs takes what a seed is worth for the way of training.
    assert (single > 27) == (spread > 0)


def test_a_large_planted_difference_is_found() -> None:
    # About 16 points, where seeds deviate by 2.5 points: in 8 of 10 of 100 pairs.
    rng = np.random.default_rng(1)
    p_values = [seeds_p_value(*runs(rng, 0.2, 1.0), VIDEOS) for _ in range(100)]
    assert sum(p_value <= 0.05 for p_value in p_values) >= 80


def test_without_differences_of_seeds_it_is_the_clustered_test() -> None:
    first = np.random.default_rng(0).random(240) - 0.45
    p_value = seeds_p_value([first, first], [0 * first, 0 * first], VIDEOS)
    sums = first.reshape(60, 4).sum(axis=1) - 4 * first.mean()
    error = math.sqrt((sums**2).sum() / 240**2 * 60 / 59)
    assert p_value == pytest.approx(student_p_value(first.mean() / error, 59))
    assert 0 < p_value < 1
    assert seeds_p_value([first] * 2, [first] * 2, VIDEOS) == 1


def test_the_other_way_round() -> None:
    first, second = runs(np.random.default_rng(3), 0.2, 0.5)
    result, turned = (seeds_p_value(*pair, VIDEOS) for pair in ((first, second), (second, first)))
    assert turned == pytest.approx(result)


@pytest.mark.parametrize(
    ("degrees", "quantile"),  # printed tables of Student's t, two-sided 5%
    [(1, 12.7062), (2, 4.30265), (4, 2.77645), (9, 2.26216), (59, 2.00100), (10_000, 1.96020)],
)
def test_students_t(degrees: float, quantile: float) -> None:
    assert student_quantile(degrees) == pytest.approx(quantile, abs=2e-5 * quantile)
    assert student_p_value(quantile, degrees) == pytest.approx(0.05, abs=1e-5)
    assert student_p_value(0, degrees) == 1
    # At two degrees of freedom: 1 - t / sqrt(2 + t ** 2).
    assert student_p_value(3, 2) == pytest.approx(1 - 3 / math.sqrt(11), abs=1e-9)


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least two seeds"):
        seeds_p_value([[1.0, 0.0]], [[1.0, 0.0]] * 2, ["a", "b"])
    with pytest.raises(ValueError, match="items of 1 videos"):
        seeds_p_value([[1.0, 0.0]] * 2, [[1.0, 0.0]] * 2, ["a", "a"])
