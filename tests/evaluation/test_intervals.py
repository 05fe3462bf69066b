"""The bootstrap over videos: against a plain loop, against theory, and its invariances."""

import math

import numpy as np
import pytest

from vidreason.evaluation.statistics.intervals import (
    bootstrap_interval,
    bootstrap_statistic,
    paired_difference,
)


def data(num_videos: int, questions: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    skill = rng.random(num_videos)
    values = (rng.random((num_videos, questions)) < skill[:, None]).astype(float)
    return values.ravel(), [f"v{video}" for video in range(num_videos) for _ in range(questions)]


def test_equals_a_loop_over_drawn_videos() -> None:
    values, videos = data(41, 4)
    values, videos = values[:-3], videos[:-3]  # one video with fewer questions
    result = bootstrap_interval(values, videos, num_resamples=1000, seed=7)
    rng = np.random.default_rng(7)
    names = list(dict.fromkeys(videos))
    by_video = [values[[v == name for v in videos]] for name in names]
    means = []
    for _ in range(1000):
        drawn = [by_video[index] for index in rng.integers(0, 41, size=41)]
        means.append(np.concatenate(drawn).mean())
    assert result.mean == pytest.approx(values.mean())
    assert result[1:] == pytest.approx(np.quantile(means, [0.025, 0.975]))


def test_width_agrees_with_the_normal_approximation() -> None:
    rng = np.random.default_rng(1)
    values = (rng.random(900) < 0.3).astype(float)
    low, high = bootstrap_interval(values, [str(n) for n in range(900)])[1:]
    half = 1.96 * math.sqrt(values.mean() * (1 - values.mean()) / 900)
    assert low == pytest.approx(values.mean() - half, abs=0.003)
    assert high == pytest.approx(values.mean() + half, abs=0.003)


def test_questions_of_one_video_are_not_independent() -> None:
    # Ten questions a video with the same outcome say no more than one.
    outcome = (np.random.default_rng(2).random(50) < 0.5).astype(float)
    one = bootstrap_interval(outcome, [f"v{n}" for n in range(50)])
    ten = bootstrap_interval(
        np.repeat(outcome, 10), [f"v{n}" for n in range(50) for _ in range(10)]
    )
    assert ten == pytest.approx(one)
    naive = bootstrap_interval(np.repeat(outcome, 10), [str(n) for n in range(500)])
    assert ten.high - ten.low > 2.5 * (naive.high - naive.low)


def test_a_pure_function_that_does_not_see_names_or_the_global_state() -> None:
    values, videos = data(44, 3)
    np.random.seed(0)
    first = bootstrap_interval(values, videos)
    np.random.seed(1)
    assert bootstrap_interval(values, [f"{hash(name)}" for name in videos]) == first
    few = [bootstrap_interval(values, videos, num_resamples=50, seed=seed) for seed in (0, 1)]
    assert few[0] != few[1]


def test_coverage_is_near_95_percent() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        skill = rng.beta(4, 4, size=60)
        values = (rng.random((60, 3)) < skill[:, None]).astype(float).ravel()
        names = [str(v) for v in range(60) for _ in range(3)]
        low, high = bootstrap_interval(values, names, num_resamples=500)[1:]
        hits += low <= 0.5 <= high
    assert 0.89 <= hits / 200 <= 0.99


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    hard, videos = data(60, 4)
    better = np.maximum(hard, np.tile([1.0, 0, 0, 0], 60))
    difference = paired_difference(better, hard, videos)
    assert difference.mean == pytest.approx(better.mean() - hard.mean())
    assert difference.low > 0
    width = np.subtract(*bootstrap_interval(hard, videos)[:0:-1])
    assert difference.high - difference.low < width
    # Of 60 videos that all agree, 1 - 0.025 ** (1 / 60) of all may be others.
    unseen = 1 - 0.025 ** (1 / 60)
    assert paired_difference(hard, hard, videos) == pytest.approx((0, -unseen, unseen))
    mirrored = paired_difference(hard, better, videos)
    assert (mirrored.mean, mirrored.low) == pytest.approx((-difference.mean, -difference.high))


@pytest.mark.parametrize("num_videos", [2, 3, 5, 10, 20])
def test_intervals_of_few_videos_cover(num_videos: int) -> None:
    """True shares of 0.9 and 0.5 in very different videos, of which a bootstrap covers a part."""
    for truth, questions, least in ((0.9, 4, 0.9), (0.5, 9, 0.92)):
        rng = np.random.default_rng(num_videos)
        names = [str(video) for video in range(num_videos) for _ in range(questions)]
        shares = differences = 0
        for _ in range(150):
            skill = rng.beta(truth, 1 - truth, size=(num_videos, 1))
            drawn = rng.random((2, num_videos, questions)) < skill
            one, other = drawn.reshape(2, -1).astype(float)
            low, high = bootstrap_interval(one, names)[1:]
            shares += low <= truth <= high
            low, high = paired_difference(one, other, names)[1:]
            differences += low <= 0 <= high
        assert shares / 150 >= least
        assert differences / 150 >= 0.93


def test_videos_that_all_agree_do_not_say_that_all_videos_do() -> None:
    for number, low in ((2, 0.158), (5, 0.478), (20, 0.832), (80, 0.955)):
        names = [str(video) for video in range(number) for _ in range(3)]
        right = bootstrap_interval([1.0] * len(names), names)
        assert right == pytest.approx((1.0, low, 1.0), abs=1e-3)
        wrong = bootstrap_interval([0.0] * len(names), names)
        assert wrong == pytest.approx((0.0, 0.0, 1 - low), abs=1e-3)
        scores = bootstrap_interval([5.0] * len(names), names, limits=(1.0, 5.0))
        assert scores == pytest.approx((5.0, 1 + 4 * low, 5.0), abs=4e-3)
        same = bootstrap_statistic(lambda indices: 1.0, names)
        assert same.mean == 1.0
        assert math.isnan(same.low)
        assert math.isnan(bootstrap_interval([2.5] * len(names), names, limits=None).low)


def test_other_numbers_of_few_videos_have_the_jackknife() -> None:
    values, videos = data(10, 4)
    result = bootstrap_statistic(lambda indices: float(values[indices].mean()), videos)
    # Of a mean over equal clusters it is Student's interval of the clusters' means.
    means = values.reshape(10, 4).mean(axis=1)
    half = 2.262157 * means.std(ddof=1) / math.sqrt(10)
    assert result == pytest.approx((means.mean(), means.mean() - half, means.mean() + half))
    unlimited = bootstrap_interval(values, videos, limits=None)
    assert unlimited == pytest.approx(tuple(result))
    undefined = bootstrap_statistic(lambda p: 1.0 if len(p) == 40 else math.nan, videos)
    assert (undefined.mean, math.isnan(undefined.high)) == (1.0, True)


def test_from_40_videos_on_it_is_the_bootstrap() -> None:
    values, videos = data(40, 4, seed=5)
    many = bootstrap_interval(values, videos)
    few = bootstrap_interval(values[:-4], videos[:-4])
    assert many.low < few.low + 0.03
    assert abs((many.high - many.low) / (few.high - few.low) - 1) < 0.15


def test_one_video_has_no_interval() -> None:
    interval = bootstrap_interval([1.0, 0.0], ["a", "a"])
    assert interval.mean == 0.5
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval([], [])
    with pytest.raises(ValueError, match="2 clusters"):
        bootstrap_interval([1.0], ["a", "b"])
    with pytest.raises(ValueError, match=r"from 0.0 to 3.0, beyond their limits \(0.0, 1.0\)"):
        bootstrap_interval([0.0, 3.0], ["a", "b"])
    with pytest.raises(ValueError, match="same items in both runs"):
        paired_difference([1.0], [1.0, 0.0], ["a"])
