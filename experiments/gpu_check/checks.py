"""The list of checks, the cheapest and most informative first.

Nothing heavy is imported here: the program that starts the checks needs none of it.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.gpu_check.setting import Setting


@dataclass(frozen=True, kw_only=True)
class Check:
    """Something to be run once, in a process of its own."""

    name: str
    what: str
    """One line for ``--list``."""
    limit_seconds: float
    run: Callable[["Setting"], None]
    packages: tuple[str, ...] = ()
    """Without one of these it is skipped."""
    needs_gpu: bool = True
    background: bool = False
    """Runs beside the checks after it, on the CPU."""
    waits_for: str = ""
    """A check in the background that has to end before."""

    def missing(self) -> str:
        """Say which package is missing; nothing if none is."""
        absent = [name for name in self.packages if importlib.util.find_spec(name) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""


def _machine(setting: "Setting") -> None:
    from experiments.gpu_check.machine import measure

    measure(setting)


def _estimates(setting: "Setting") -> None:
    from experiments.gpu_check.memory import estimate

    estimate(setting)


def _tests(setting: "Setting") -> None:
    from experiments.gpu_check.gpu_tests import run_gpu_tests

    run_gpu_tests(setting)


def _strategy(name: str) -> Check:
    def run(setting: "Setting") -> None:
        from experiments.gpu_check.strategy import train_under

        train_under(setting, name)

    return Check(
        name=f"strategy {name}",
        what=f"steps of stage 2 with a 1-billion Llama under trainer.strategy={name}",
        limit_seconds=60,
        run=run,
        packages=("deepspeed",) if name.startswith("deepspeed") else (),
    )


def _compiled(setting: "Setting") -> None:
    from experiments.gpu_check.strategy import train_under

    train_under(setting, "auto", compiled=True)


def _four_bits(setting: "Setting") -> None:
    from experiments.gpu_check.strategy import train_in_four_bits

    train_in_four_bits(setting)


def _perception(setting: "Setting") -> None:
    from experiments.gpu_check.real_sizes import perceive

    perceive(setting)


def _stage_1(setting: "Setting") -> None:
    from experiments.gpu_check.real_sizes import train_stage

    train_stage(setting, "alignment")


def _stage_2(setting: "Setting") -> None:
    from experiments.gpu_check.real_sizes import train_stage

    train_stage(setting, "instruction")


def _generation(setting: "Setting") -> None:
    from experiments.gpu_check.real_sizes import generate

    generate(setting)


def _steps_1(setting: "Setting") -> None:
    from experiments.gpu_check.step_benchmark import measure_steps

    measure_steps(setting, "alignment")


def _steps_2(setting: "Setting") -> None:
    from experiments.gpu_check.step_benchmark import measure_steps

    measure_steps(setting, "instruction")


def _memory(setting: "Setting") -> None:
    from experiments.gpu_check.memory import compare

    compare(setting)


CHECKS = (
    Check(
        name="machine",
        what="hardware, versions, and the chip's own rates of bf16 matrix products and copies",
        limit_seconds=60,
        run=_machine,
    ),
    Check(
        name="estimates",
        what="the memory that the checks below are estimated to take, on the CPU beside them",
        limit_seconds=400,
        run=_estimates,
        needs_gpu=False,
        background=True,
    ),
    Check(
        name="tests",
        what="pytest -m gpu",
        limit_seconds=150,
        run=_tests,
        packages=("pytest",),
    ),
    _strategy("auto"),
    _strategy("fsdp2"),
    _strategy("deepspeed_zero2"),
    _strategy("deepspeed_zero3"),
    Check(
        name="nf4",
        what="the same on weights of 4 bits",
        limit_seconds=60,
        run=_four_bits,
        packages=("bitsandbytes",),
    ),
    Check(
        name="perception",
        what="a 720p video through ViCLIP-B/16 and SAM ViT-H, with random weights",
        limit_seconds=90,
        run=_perception,
    ),
    Check(
        name="stage 1",
        what="steps of the longest batch of stage 1 with Llama-3-8B in bf16, random weights",
        limit_seconds=60,
        run=_stage_1,
    ),
    Check(
        name="generation",
        what="an answer to the longest prompt of stage 2 with it",
        limit_seconds=60,
        run=_generation,
    ),
    Check(
        name="stage 2",
        what="steps of the longest batch of stage 2 with it",
        limit_seconds=90,
        run=_stage_2,
    ),
    Check(
        name="steps 1",
        what="the benchmark of training steps, stage 1, with Llama-3-8B in bf16",
        limit_seconds=100,
        run=_steps_1,
    ),
    Check(
        name="steps 2",
        what="the same of stage 2",
        limit_seconds=100,
        run=_steps_2,
    ),
    Check(
        name="memory",
        what="each peak above beside its estimate",
        limit_seconds=400,
        run=_memory,
        needs_gpu=False,
        waits_for="estimates",
    ),
    Check(
        name="compile",
        what="steps as under 'strategy auto', with trainer.compile",
        limit_seconds=90,
        run=_compiled,
    ),
)
