"""Training steps over batch size, length, clips and objects: one of them is changed at a time."""

import argparse
from collections.abc import Iterator
from typing import Any

import torch

from experiments.benchmark.arguments import AXES
from experiments.benchmark.gpu_numbers import Chip, memory
from experiments.benchmark.paired import clock_of, seconds_in_turns, spread
from experiments.benchmark.training_steps import (
    BareLoop,
    batch_flops,
    copy_trained,
    draw_batches,
    joined_mean_loss,
)
from vidreason.model import VideoReasoner


def table_sizes(arguments: argparse.Namespace) -> Iterator[dict[str, int]]:
    """The rows: the sizes of the options, then each axis' other values."""
    first = {name: getattr(arguments, name) for name in AXES}
    yield first
    for name in AXES:
        for value in getattr(arguments, f"table_{name}"):
            if value != first[name]:
                yield {**first, name: value}


def measure_table(
    arguments: argparse.Namespace,
    reasoner: VideoReasoner,
    chip: Chip,
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[dict[str, Any]]:
    """Yield a row of our step at each of :func:`table_sizes`; one that does not fit says so."""
    for sizes in table_sizes(arguments):
        sized = argparse.Namespace(**{**vars(arguments), **sizes})
        try:
            numbers = _measure(sized, reasoner, chip, device, dtype)
        except torch.OutOfMemoryError:
            numbers = None
        # After the except clause: within it, the traceback holds the tensors of the row that did
        # not fit, and nothing would be freed.
        if device.type == "cuda":
            torch.cuda.empty_cache()
        yield {"sizes": sizes, "out_of_memory": numbers is None, **(numbers or {})}


def _measure(
    arguments: argparse.Namespace,
    reasoner: VideoReasoner,
    chip: Chip,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, Any]:
    batches = draw_batches(arguments, reasoner, arguments.steps)
    # Each row starts from the same weights, and without an optimizer's state of the row before.
    trained = copy_trained(reasoner, arguments.stage)
    loop = BareLoop(trained, arguments.stage, joined_mean_loss, 1000, dtype)
    loop.steps(batches)  # to be warm
    turns = seconds_in_turns(
        {"joined": lambda: loop.steps(batches)}, arguments.rounds, clock_of(device)
    )
    seconds = spread(turns["joined"])
    rows = [length for batch in batches for length in batch.row_lengths]
    flops = sum(batch_flops(reasoner, batch).total for batch in batches)
    return {
        "seconds_a_step": {name: value / len(batches) for name, value in seconds.items()},
        "samples_a_second": len(rows) / seconds["median"],
        "positions_a_second": sum(rows) / seconds["median"],
        **chip.use(flops, seconds["median"]),
        # Once more, when the optimizer has its state.
        **memory(lambda: loop.steps(batches), device),
    }
