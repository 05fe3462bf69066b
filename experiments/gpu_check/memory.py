"""Peaks of memory beside what ``config --explain`` says of the same configurations.

Estimates need a CPU alone: they are made while the GPU is at work, or afterwards, elsewhere, from
the results that a GPU left.
"""

from collections.abc import Callable

from experiments.config.memory_estimate import (
    MemoryEstimate,
    estimate_fit,
    estimate_generate,
    estimate_perception,
)
from experiments.experiment_config import ExperimentConfig
from experiments.gpu_check.real_sizes import answering_config
from experiments.gpu_check.results import Failed, Skipped, read_results
from experiments.gpu_check.setting import GIB, Setting
from experiments.gpu_check.strategy import nf4_config, strategy_config
from experiments.gpu_check.training import PEAK
from experiments.start_checks.start import meta_reasoner

ESTIMATES = "estimates"
"""Name of the check that makes them."""
STRATEGIES = ("auto", "fsdp2", "deepspeed_zero2", "deepspeed_zero3")
"""One process has nothing to share: the estimate is the same for each."""
TOLERANCE = 0.15
"""By how much a peak may differ from its estimate, as in the tests of the estimate."""


def estimate(setting: Setting) -> None:
    """Estimate what the other checks take, in the order in which they run."""
    estimates: dict[str, Callable[[], MemoryEstimate]] = {
        # Called one by one: each writes its language model's sizes to the setting's one folder,
        # and one that is skipped leaves the others to come.
        "strategy": lambda: _training(strategy_config(setting)),
        "nf4": lambda: _training(nf4_config(setting)),
        # No language model is looked at, so any name will do.
        "perception": lambda: estimate_perception(setting.config("alignment", "none").perceiver),
        "generation": lambda: _answering(answering_config(setting)),
        "stage 1": lambda: _training(setting.reasoning_config("alignment")),
        "stage 2": lambda: _training(setting.reasoning_config("instruction")),
    }
    for name, estimated in estimates.items():
        try:
            setting.record(name, estimated().total / GIB, "GiB")
        except Skipped as reason:  # as the check of this name is
            print(f"{name}: {reason}", flush=True)


def _training(config: ExperimentConfig) -> MemoryEstimate:
    return estimate_fit(config, meta_reasoner(config, config.reasoner))


def _answering(config: ExperimentConfig) -> MemoryEstimate:
    return estimate_generate(config, meta_reasoner(config, config.reasoner), 1)


def compare(setting: Setting) -> None:
    """Compare each peak that was measured with its estimate.

    Raises:
        Skipped: There is nothing to compare.
        Failed: Some differ by more than :data:`TOLERANCE`.
    """
    results = read_results(setting.output)
    estimates = {one.name: one.value for one in results.measurements if one.check == ESTIMATES}
    far = []
    compared = 0
    for peak in results.measurements:
        name = "strategy" if peak.check.removeprefix("strategy ") in STRATEGIES else peak.check
        if peak.name != PEAK or name not in estimates:
            continue
        compared += 1
        # Both in GiB.
        ratio = float(peak.value) / float(estimates[name])
        setting.record(f"{peak.check}: peak / estimate", ratio)
        if abs(ratio - 1) > TOLERANCE:
            far.append(f"{peak.check} {ratio:.2f}")
    if not compared:
        raise Skipped("no peak was measured that has an estimate")
    if far:
        raise Failed(
            f"peaks that are not as estimated, peak / estimate: {', '.join(far)}; see "
            "experiments/config/memory_estimate.py"
        )
