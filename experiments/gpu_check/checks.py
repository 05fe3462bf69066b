"""The list of checks, the cheapest and most informative first.

Nothing heavy is imported here: the program that starts the checks needs none of it.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
        # Found without being imported: the process that starts the checks needs none of them.
        absent = [name for name in self.packages if importlib.util.find_spec(name) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""


def _lazily(module: str, function: str, *arguments: Any) -> Callable[["Setting"], None]:  # noqa: ANN401
    """Return a check that imports its module when it runs."""

    def run(setting: "Setting") -> None:
        imported = importlib.import_module(f"experiments.gpu_check.{module}")
        getattr(imported, function)(setting, *arguments)

    return run


def _strategy(name: str) -> Check:
    return Check(
        name=f"strategy {name}",
        what=f"steps of stage 2 with a 1-billion Llama under trainer.strategy={name}",
        limit_seconds=60,
        run=_lazily("strategy", "train_under", name),
        packages=("deepspeed",) if name.startswith("deepspeed") else (),
    )


CHECKS = (
    Check(
        name="machine",
        what="hardware, versions, and the chip's own rates of bf16 matrix products and copies",
        limit_seconds=60,
        run=_lazily("machine", "measure"),
    ),
    Check(
        # Early and in the background: it takes a CPU alone, and has to end before "memory".
        name="estimates",
        what="the memory that the checks below are estimated to take, on the CPU beside them",
        limit_seconds=400,
        run=_lazily("memory", "estimate"),
        needs_gpu=False,
        background=True,
    ),
    Check(
        name="tests",
        what="pytest -m gpu",
        limit_seconds=150,
        run=_lazily("gpu_tests", "run_gpu_tests"),
        packages=("pytest",),
    ),
    # All four start from one seed and see one batch: their losses have to agree.
    _strategy("auto"),
    _strategy("fsdp2"),
    _strategy("deepspeed_zero2"),
    _strategy("deepspeed_zero3"),
    Check(
        name="nf4",
        what="the same on weights of 4 bits",
        limit_seconds=60,
        run=_lazily("strategy", "train_in_four_bits"),
        packages=("bitsandbytes",),
    ),
    Check(
        name="perception",
        what="a 720p video through ViCLIP-B/16 and SAM ViT-H, with random weights",
        limit_seconds=90,
        run=_lazily("real_sizes", "perceive"),
    ),
    Check(
        name="stage 1",
        what="steps of the longest batch of stage 1 with Llama-3-8B in bf16, random weights",
        limit_seconds=60,
        run=_lazily("real_sizes", "train_stage", "alignment"),
    ),
    Check(
        name="generation",
        what="an answer to the longest prompt of stage 2 with it",
        limit_seconds=60,
        run=_lazily("real_sizes", "generate"),
    ),
    Check(
        name="stage 2",
        what="steps of the longest batch of stage 2 with it",
        limit_seconds=90,
        run=_lazily("real_sizes", "train_stage", "instruction"),
    ),
    Check(
        name="steps 1",
        what="the benchmark of training steps, stage 1, with Llama-3-8B in bf16",
        limit_seconds=100,
        run=_lazily("step_benchmark", "measure_steps", "alignment"),
    ),
    Check(
        name="steps 2",
        what="the same of stage 2",
        limit_seconds=100,
        run=_lazily("step_benchmark", "measure_steps", "instruction"),
    ),
    Check(
        # After all whose peaks it compares.
        name="memory",
        what="each peak above beside its estimate",
        limit_seconds=400,
        run=_lazily("memory", "compare"),
        needs_gpu=False,
        waits_for="estimates",
    ),
    Check(
        name="compile",
        what="steps as under 'strategy auto', with trainer.compile",
        limit_seconds=90,
        run=_lazily("strategy", "train_compiled"),
    ),
)
