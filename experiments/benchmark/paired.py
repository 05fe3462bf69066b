"""Timings that other programs on the machine change little: ways of doing a thing, in turns.

All ways run in one process. Each round goes through them, every second round backwards (A B, then
B A), and the ratio of two ways is the median of the rounds' ratios, with their range.
"""

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch

Result = TypeVar("Result")
Clock = Callable[[], float]
"""Seconds since some moment."""


def cpu_seconds() -> float:
    """CPU time of this process up to now, all threads, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def clock_of(device: torch.device) -> Clock:
    """The clock for work on a device: CPU time, or on a GPU wall time once its queue is empty."""
    if device.type == "cpu":
        return cpu_seconds

    def synchronised() -> float:
        # Calls return when work is queued, not when it is done.
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return synchronised


def in_turns(ways: Mapping[str, Callable[[], Result]], rounds: int) -> dict[str, list[Result]]:
    """Call each way once a round; returns what it returned in each round."""
    results: dict[str, list[Result]] = {name: [] for name in ways}
    for turn in range(rounds):
        # Where the machine gets slower in the course of a round, no way is always the last.
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            results[name].append(ways[name]())
    return results


def seconds_in_turns(
    ways: Mapping[str, Callable[[], object]], rounds: int, clock: Clock = cpu_seconds
) -> dict[str, list[float]]:
    """Seconds of each way in each round. The ways must have run once before, to be warm."""

    def timed(way: Callable[[], object]) -> Callable[[], float]:
        def measure() -> float:
            started = clock()
            way()
            return clock() - started

        return measure

    return in_turns({name: timed(way) for name, way in ways.items()}, rounds)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def ratios(seconds: Mapping[str, Sequence[float]], to: str) -> dict[str, dict[str, float]]:
    """Spread over the rounds of each way's seconds divided by those of the way ``to``."""
    return {
        name: spread([one / other for one, other in zip(values, seconds[to], strict=True)])
        for name, values in seconds.items()
    }


def spread_text(values: Mapping[str, float], digits: int = 2) -> str:
    """``median [low, high]``."""
    median, low, high = (f"{values[name]:.{digits}f}" for name in ("median", "low", "high"))
    return f"{median} [{low}, {high}]"
