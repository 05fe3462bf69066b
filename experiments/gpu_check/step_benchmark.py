"""The benchmark of training steps (``experiments.benchmark step``) on batches as real ones are."""

import json
from pathlib import Path
from typing import Any

from experiments.benchmark import __main__ as benchmark
from experiments.gpu_check.results import Failed, Recorder, Skipped
from experiments.gpu_check.setting import Setting, Stage

_LEAST_GIB = 40  # of GPU memory for the padded side of the comparison
_REHEARSED = (
    *("--language-model", "microworld", "--batch-size", "2", "--rounds", "1", "--steps", "1"),
    *("--longest", "16", "--dtype", "bfloat16"),
)
_MEASURED = ("--gpu", "--language-model", "llama-3-8b", "--steps", "2")


def measure_steps(setting: Setting, stage: Stage) -> None:
    """Measure the steps of a stage; the benchmark's own files go to a folder of the stage.

    Raises:
        Skipped: The GPU is too small for the padded formulation, which ours is compared with.
        Failed: The benchmark says that something is wrong.
    """
    if not setting.rehearsal and setting.gpu_memory() < _LEAST_GIB:
        raise Skipped(f"padded rows with all logits of Llama-3-8B take {_LEAST_GIB} GiB")
    folder = setting.output / f"steps-{stage}"
    arguments = ["step", "--stage", stage, "--output-dir", str(folder)]
    arguments += _REHEARSED if setting.rehearsal else _MEASURED
    if status := benchmark.main(arguments):
        raise Failed(f"experiments.benchmark ended with status {status}: see the log")
    record_steps(setting.record, json.loads(Path(folder, "step.json").read_text()))


def record_steps(record: Recorder, measured: dict[str, Any]) -> None:
    """Record the benchmark's main numbers; its files have all."""
    # A rehearsal is on a CPU, of which there is no table.
    table = measured.get("gpu", {"table": []})["table"]
    if rows := [row for row in table if not row["out_of_memory"]]:
        best = max(rows, key=lambda row: float(row["samples_a_second"]))
        record("samples a second", best["samples_a_second"], f"1/s with {best['sizes']}")
        record("rate", best["tflops_a_second"], "TFLOP/s")
        record("of the chip's own rate", best["percent_of_measured"], "%")
        record("peak of it", best["peak_gib"], "GiB")
    record("padded / joined", measured["times_joined"]["padded"]["median"], "times")
    record("overhead of fit", measured["framework"]["overhead_percent"]["median"], "%")
    record("joined", measured["seconds_a_step"]["joined"]["median"], "s a step")
    record("fill", measured["batches"]["fill"])
