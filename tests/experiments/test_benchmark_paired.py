"""The harness that all benchmarks share: order of turns, pairing of ratios."""

import pytest
import torch

from experiments.benchmark.paired import (
    clock_of,
    cpu_seconds,
    in_turns,
    ratios,
    seconds_in_turns,
    spread_text,
)


def test_every_second_round_goes_backwards() -> None:
    called: list[str] = []

    def way(name: str) -> int:
        called.append(name)
        return len(called)

    ways = {name: lambda name=name: way(name) for name in "abc"}
    assert in_turns(ways, 3) == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}
    assert "".join(called) == "abccbaabc"


def test_ratios_pair_the_rounds() -> None:
    """The ratio of medians would be 20 / 10 = 2; a round of slow neighbours slows both ways."""
    seconds = {"ours": [10.0, 100.0, 8.0], "other": [15.0, 170.0, 20.0]}
    assert ratios(seconds, to="ours") == {
        "ours": {"median": 1.0, "low": 1.0, "high": 1.0},
        "other": {"median": pytest.approx(1.7), "low": 1.5, "high": 2.5},
    }
    assert spread_text({"median": 1.7, "low": 1.5, "high": 2.5}) == "1.70 [1.50, 2.50]"


def test_each_way_is_timed_by_the_clock() -> None:
    now = 0.0

    def work(seconds: float) -> None:
        nonlocal now
        now += seconds

    ways = {"short": lambda: work(1.0), "long": lambda: work(3.0)}
    assert seconds_in_turns(ways, 2, lambda: now) == {"short": [1.0, 1.0], "long": [3.0, 3.0]}


def test_on_a_cpu_its_time_is_counted() -> None:
    assert clock_of(torch.device("cpu")) is cpu_seconds
