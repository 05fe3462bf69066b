"""A training step on joined rows against padded rows with all logits; ``fit`` against a bare loop.

Both formulations make optimizer steps on the same batches, in plain PyTorch. The padded one is what
a program does that hands its batches to a model of transformers: rows padded to the longest, an
attention mask, logits of all positions, the model's own loss. Loss and gradients must agree.
Then the stage's module runs under Lightning's Trainer, as ``fit`` builds it with its callbacks and
loggers, in turns with the same loop in plain PyTorch: what it takes more is the framework's.

Stage ``alignment`` trains the fusion core through the frozen language model, ``instruction`` LoRA
as well. Inputs are random tokens of log-normal lengths.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any

import torch

from experiments.benchmark.framework_overhead import measure_framework
from experiments.benchmark.gpu_numbers import gpu_numbers, gpu_tables, measure_chip
from experiments.benchmark.gpu_table import measure_table
from experiments.benchmark.paired import clock_of, ratios, seconds_in_turns, spread, spread_text
from experiments.benchmark.reasoners import (
    build,
    check_equal,
    describe,
    device_of,
    dtype_of,
)
from experiments.benchmark.training_steps import (
    BareLoop,
    StepBatch,
    batch_flops,
    copy_trained,
    draw_batches,
    gradient_difference,
    joined_mean_loss,
    padded_mean_loss,
)
from experiments.benchmark.workloads import check_positive, fill
from vidreason.markdown import table
from vidreason.reasoning.reasoner_config import LoraSettings
from vidreason.training.trainable import set_trainable, trainable_names

WAYS = {"joined": joined_mean_loss, "padded": padded_mean_loss}
"""The formulations; the first is ours."""


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure; returns what :func:`measure_in_parts` gives last."""
    *_, measured = measure_in_parts(arguments)
    return measured


def measure_in_parts(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure part after part, and yield all numbers so far after each.

    Seconds a step and their ratios, the framework's overhead, with ``--gpu`` the rows of its table.

    Raises:
        ValueError: An option is out of range, or the formulations do not agree in float32.
    """
    names = ("batch_size", "prompt_tokens", "median_tokens", "longest", "rounds", "steps")
    check_positive(arguments, *names, "num_queries", "lora_rank")
    device, dtype = device_of(arguments), dtype_of(arguments)
    chip = measure_chip(device) if arguments.gpu else None
    adapters = LoraSettings(rank=arguments.lora_rank, alpha=2 * arguments.lora_rank)
    reasoner = build(arguments, lora=adapters if arguments.stage == "instruction" else None)
    set_trainable(reasoner, trainable_names(reasoner, arguments.stage))
    reasoner.train()
    batches = draw_batches(arguments, reasoner, arguments.rounds * arguments.steps)
    # Each formulation trains a copy, from the same weights.
    loops = {
        name: BareLoop(
            copy_trained(reasoner, arguments.stage), arguments.stage, loss, len(batches) + 2, dtype
        )
        for name, loss in WAYS.items()
    }
    measured: dict[str, Any] = {
        "model": describe(arguments, reasoner),
        "stage": arguments.stage,
        "clock": "CPU" if device.type == "cpu" else "wall",
        "batches": _describe(batches),
        "equal": _compare(loops, batches[0], dtype),
    }
    # A cycle for each: in one round both make their steps on the same batches.
    turns = {name: partial(_steps, loop, cycle(batches), arguments) for name, loop in loops.items()}
    clock = clock_of(device)
    seconds = seconds_in_turns(turns, arguments.rounds, clock)
    measured["seconds_a_step"] = {
        name: spread([total / arguments.steps for total in values])
        for name, values in seconds.items()
    }
    measured["times_joined"] = ratios(seconds, to="joined")
    if chip is not None:
        flops = sum(batch_flops(reasoner, batch).total for batch in batches) / len(batches)
        # One more step each, for its memory; rates are of the seconds above.
        work = {name: partial(loop.step, batches[0]) for name, loop in loops.items()}
        measured["gpu"] = gpu_numbers(chip, flops, measured["seconds_a_step"], work, device)
        del work  # it holds the loops
    yield measured
    del loops, turns  # their optimizer states are not of the peaks below
    # One round to warm up, and one batch by which the last round ends.
    needed = (arguments.rounds + 1) * arguments.steps + 1
    measured["framework"] = measure_framework(
        reasoner,
        arguments.stage,
        list(islice(cycle(batches), needed)),
        steps=arguments.steps,
        clock=clock,
        dtype=dtype,
    )
    yield measured
    if chip is not None:
        measured["gpu"]["table"] = []
        for row in measure_table(arguments, reasoner, chip, device, dtype):
            measured["gpu"]["table"].append(row)
            yield measured


def tables(measured: Mapping[str, Any]) -> Iterator[str]:
    """The numbers of :func:`run`, or of some of its parts, as Markdown."""
    batches, equal = measured["batches"], measured["equal"]
    yield (
        f"Stage {measured['stage']}: {batches['samples_a_step']} samples a step, fill "
        f"{batches['fill']:.2f}. The formulations' losses differ by "
        f"{equal['loss_difference']:.1e}, their gradients by {equal['gradient_difference']:.1e} "
        "(relative)."
    )
    yield table(
        ["Formulation", f"{measured['clock']} s a step", "times joined"],
        (
            [name, spread_text(seconds, 3), spread_text(measured["times_joined"][name])]
            for name, seconds in measured["seconds_a_step"].items()
        ),
    )
    if framework := measured.get("framework"):
        overhead = f"{spread_text(framework['overhead_percent'])} %"
        yield table(
            ["Loop", f"{measured['clock']} s a step", "overhead"],
            (
                [name, spread_text(seconds, 3), overhead if name == "lightning" else ""]
                for name, seconds in framework["seconds_a_step"].items()
            ),
        )
    if "gpu" in measured:
        yield from gpu_tables(measured["gpu"])


def _steps(loop: BareLoop, batches: Iterator[StepBatch], arguments: argparse.Namespace) -> None:
    loop.steps(list(islice(batches, arguments.steps)))


def _describe(batches: Sequence[StepBatch]) -> dict[str, Any]:
    """Sizes of the batches: positions are video embeddings and text tokens."""
    rows = [batch.row_lengths for batch in batches]
    targets = sum(len(batch.joined["text"]["target_ids"]) for batch in batches)
    return {
        "samples_a_step": len(rows[0]),
        "positions_a_step": sum(map(sum, rows)) / len(rows),
        "targets_a_step": targets / len(rows),
        "longest_row": max(map(max, rows)),
        "fill": sum(map(fill, rows)) / len(rows),
    }


def _compare(
    loops: Mapping[str, BareLoop], batch: StepBatch, dtype: torch.dtype
) -> dict[str, float]:
    """Losses and gradients of the formulations on one batch; it also warms them up."""
    losses = {name: float(loop.gradient(batch)) for name, loop in loops.items()}
    difference = abs(losses["joined"] - losses["padded"]) / losses["padded"]
    # Before any step: after one, the two would be gradients at different weights.
    gradients = gradient_difference(loops["joined"], loops["padded"])
    for loop in loops.values():
        loop.optimizer.step()  # its first call makes its state
        loop.optimizer.zero_grad()
    check_equal("losses", difference, 1e-5, dtype)
    check_equal("gradients", gradients, 1e-4, dtype)
    return {
        "loss": losses["joined"],
        "loss_difference": difference,
        "gradient_difference": gradients,
    }
