"""Tests of paired differences: against counting by hand, and whether they keep what they promise.

The simulations draw binary answers with a difficulty of each question, several questions a video
that are hard together, and several seeds a run, averaged. Each says how many it draws, and what
the binomial distribution allows.
"""

import itertools
import math

import numpy as np
import pytest

from vidreason.evaluation.statistics.few_clusters import MIN_CLUSTERS
from vidreason.evaluation.statistics.intervals import paired_difference
from vidreason.evaluation.statistics.paired_tests import holm, paired_test

LEVEL = 0.05


def by_counting(sums: np.ndarray) -> float:
    """Share of all assignments of signs whose total is at least as far from 0."""
    totals = [abs(np.dot(signs, sums)) for signs in itertools.product((1, -1), repeat=len(sums))]
    return float(np.mean(np.array(totals) >= abs(sums.sum()) - 1e-9))


def p_value(sums: np.ndarray, **settings: int) -> float:
    names = [str(n) for n in range(len(sums))]
    return paired_test(sums, np.zeros(len(sums)), names, **settings).p_value


def most_allowed(num_draws: int, probability: float, tail: float = 1e-3) -> int:
    """The count that a binomial variable exceeds with a probability of at most ``tail``."""
    rest = 1.0
    for count in range(num_draws):
        ways = math.lgamma(num_draws + 1) - math.lgamma(count + 1)
        ways -= math.lgamma(num_draws - count + 1)
        rest -= math.exp(
            ways + count * math.log(probability) + (num_draws - count) * math.log1p(-probability)
        )
        if rest <= tail:
            return count
    return num_draws


def answers(
    rng: np.random.Generator, num_videos: int, questions: int, seeds: int, gain: float = 0.0
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two runs' values, each averaged over seeds; ``gain`` is added to the first one's log-odds."""
    hard = rng.normal(0, 1, (num_videos, 1)) + rng.normal(0, 1.5, (num_videos, questions))
    runs = [
        (rng.random((seeds, *hard.shape)) < 1 / (1 + np.exp(-hard - one))).mean(axis=0).ravel()
        for one in (gain, 0.0)
    ]
    videos = [f"v{video}" for video in range(num_videos) for _ in range(questions)]
    return runs[0], runs[1], videos


def test_by_hand() -> None:
    # Five videos, all in favour of the first run: only all + and all - are as far from 0.
    result = paired_test([1.0] * 5, [0.0] * 5, list("abcde"))
    assert result == (2 / 32, 5, True)
    # Two questions a video; sums 2, 1, 0, -1: of 8 assignments, the totals 2, 4 and their negatives
    # are as far as 2: +2+1-1, +2-1+1, +2+1+1, and the same with the other signs.
    result = paired_test([1, 1, 1, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1, 1, 0], list("aabbccdd"))
    assert result == (6 / 8, 3, True)


def test_one_question_a_video_is_mcnemar() -> None:
    # 8 questions only the first run has right, 2 only the second, 30 both or neither.
    first = [1.0] * 8 + [0.0] * 2 + [1.0, 0.0] * 15
    second = [0.0] * 8 + [1.0] * 2 + [1.0, 0.0] * 15
    expected = 2 * sum(math.comb(10, k) for k in range(3)) / 2**10
    result = paired_test(first, second, [str(n) for n in range(40)])
    assert result.p_value == pytest.approx(expected)
    assert result.exact
    assert result.num_differing == 10


@pytest.mark.parametrize("scale", [1, 2, 3, 5, 12])
def test_whole_sums_equal_counting(scale: int) -> None:
    rng = np.random.default_rng(scale)
    for _ in range(5):
        sums = rng.integers(-4, 6, size=11) / scale
        assert p_value(sums) == pytest.approx(by_counting(sums))


def test_any_sums_of_few_videos_equal_counting() -> None:
    sums = np.random.default_rng(0).normal(0.3, 1, size=10)
    assert p_value(sums, num_flips=1) == pytest.approx(by_counting(sums))


def test_drawn_signs_are_near_counting_and_a_function_of_the_seed() -> None:
    sums = np.random.default_rng(3).normal(0.4, 1, size=16)
    names = [str(n) for n in range(16)]
    result = paired_test(sums, np.zeros(16), names, num_flips=20_000)
    expected = by_counting(sums)
    assert not result.exact
    assert result.p_value == pytest.approx(
        expected, abs=4 * math.sqrt(expected * (1 - expected) / 20_000)
    )
    assert p_value(sums) == p_value(sums)
    assert p_value(sums, seed=1) != p_value(sums, seed=0)


def test_p_is_never_0_and_1_without_a_difference() -> None:
    assert p_value(np.full(40, math.pi), num_flips=99) == 1 / 100  # (1 + 0) / (1 + 99)
    assert 0 < p_value(np.ones(3000)) < 1e-300
    same = np.random.default_rng(0).random(50)
    assert paired_test(same, same, ["a", "b"] * 25).p_value == 1.0
    assert paired_test([1.0, 1.0], [0.0, 0.0], ["a", "a"]).p_value == 1.0  # one video says nothing


def test_neither_names_nor_order_nor_side_matter() -> None:
    first, second, videos = answers(np.random.default_rng(5), 20, 3, 2)
    result = paired_test(first, second, videos)
    order = np.random.default_rng(0).permutation(len(videos))
    mixed = paired_test(first[order], second[order], [f"{videos[n]}!" for n in order])
    assert mixed == pytest.approx(result)
    other = paired_test(second, first, videos)
    assert other.p_value == pytest.approx(result.p_value)


def test_questions_of_one_video_change_sides_together() -> None:
    sums = np.array([1.0, 1, 1, 1, -1, 1, 1])
    many = np.repeat(sums, 10)
    videos = [str(n) for n in range(7) for _ in range(10)]
    assert paired_test(many, 0 * many, videos).p_value == pytest.approx(p_value(sums))
    assert p_value(many) < 1e-6 < p_value(sums)


def test_errors() -> None:
    with pytest.raises(ValueError, match="same items in both runs"):
        paired_test([1.0], [1.0, 0.0], ["a"])
    with pytest.raises(ValueError, match="at least one value"):
        paired_test([], [], [])
    with pytest.raises(ValueError, match=r"from 0 to 1, found 1\.5"):
        holm([0.1, 1.5])


def test_holm_by_hand() -> None:
    # Sorted 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1, and none below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.6, 0.5]) == (1.0, 1.0)
    assert holm([0.02]) == (0.02,)
    assert holm([]) == ()


def test_holm_keeps_the_level_of_a_family() -> None:
    # 2,000 families of 6 null tests that are the same test in pairs: at most 5% have a finding.
    rng = np.random.default_rng(0)
    draws = np.repeat(rng.random((2000, 3)), 2, axis=1)
    result = sum(min(holm(one)) <= LEVEL for one in draws)
    assert result <= most_allowed(2000, LEVEL)
    assert sum(one.min() <= LEVEL for one in draws) > most_allowed(2000, LEVEL)  # uncorrected


@pytest.mark.parametrize(("num_videos", "questions", "seeds"), [(12, 4, 1), (40, 3, 3), (60, 1, 3)])
def test_a_null_ablation_is_not_significant_too_often(
    num_videos: int, questions: int, seeds: int
) -> None:
    # 400 pairs of runs that differ by their seeds only, at the level 5%: 35 findings are allowed,
    # which a test that keeps its level exceeds once in a thousand times.
    rng = np.random.default_rng(num_videos)
    assert most_allowed(400, LEVEL) == 35
    result = sum(
        paired_test(*answers(rng, num_videos, questions, seeds)).p_value <= LEVEL
        for _ in range(400)
    )
    assert result <= 35
    assert result >= 4  # nor does it never find anything: that would have no power


def test_a_planted_difference_is_found() -> None:
    # 60 videos of 4 questions, 3 seeds a run, about 8 points better: in 9 of 10 of 100 pairs.
    rng = np.random.default_rng(1)
    pairs = [answers(rng, 60, 4, 3, gain=0.5) for _ in range(100)]
    assert np.mean([first.mean() - second.mean() for first, second, _ in pairs]) < 0.09
    assert sum(paired_test(*pair).p_value <= LEVEL for pair in pairs) >= 90


@pytest.mark.slow
@pytest.mark.parametrize("num_videos", [20, 60])
def test_intervals_of_differences_cover_as_often_as_they_say(num_videos: int) -> None:
    # 1,000 pairs; the true difference is that of a million questions.
    rng = np.random.default_rng(num_videos)
    large = answers(np.random.default_rng(7), 200_000, 5, 1, gain=0.5)
    true = large[0].mean() - large[1].mean()
    hits = 0
    for _ in range(1000):
        low, high = paired_difference(
            *answers(rng, num_videos, 4, 3, gain=0.5), num_resamples=1000
        )[1:]
        hits += low <= true <= high
    # A percentile interval of not very many clusters is a little narrow: 7% may miss.
    assert 1000 - hits <= most_allowed(1000, 0.07)
    # Those of fewer videos are made to be never narrow, and are wide for means over seeds.
    if num_videos >= MIN_CLUSTERS:
        assert hits <= most_allowed(1000, 0.95)
