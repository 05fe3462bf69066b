"""The training loop of the microworld's parts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count, islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from vidreason.atomic_file import atomic_file
from vidreason.microworld.training_processes import process_rank, sum_gradients

BATCHES_PER_STEP = 2
"""Batches whose gradients are averaged by default; as many processes can share them."""


def autocast() -> torch.autocast:
    """Return bfloat16 autocast, where the CPU has bfloat16.

    Others emulate it, which takes 4.5 times as long as float32 (measured, AMD EPYC with AVX2).
    """
    enabled = torch.cpu._is_avx512_bf16_supported()
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)


def batch_numbers(first: int, rank: int = 0, num_processes: int = 1) -> Iterator[int]:
    """Yield the numbers of the batches that this worker of a loader makes, without an end.

    Processes take turns: together they learn the same batches in a step as one would. A loader
    takes its workers' batches in turn, so they come in order for any number of workers.

    Args:
        first: Batches of this process that are skipped.
        rank: Of the process.
        num_processes: That train together.
    """
    worker = get_worker_info()
    skipped, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
    return (number * num_processes + rank for number in count(first + skipped, step))


def minimise(
    parameters: Iterable[nn.Parameter],
    losses: Callable[[int], Iterator[dict[str, Tensor]]],
    weights: Mapping[str, float],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    report_every: int,
    batches_per_step: int = 1,
    progress: Path | None = None,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train ``parameters`` by AdamW, with one cycle of the learning rate.

    Several processes (``training_processes.py``) share the batches of a step.

    Args:
        parameters: They are changed in place.
        losses: Computes the losses of each batch of this process, by name, from the batch on whose
            number, from 0, it is called with. That is 0 where there is no ``progress``.
        weights: Factor of each loss in the sum that is minimised.
        steps: Number of steps.
        learning_rate: The highest.
        weight_decay: AdamW's.
        report_every: Steps between two reports.
        batches_per_step: Batches whose gradients are averaged, a multiple of the processes.
        progress: File in which the state is kept at each report, and which a later call goes on
            from; it is left at the end. None to keep nothing.

    Yields:
        Step and losses of its last batch in this process, at each report and after the last step.

    Raises:
        ValueError: The processes cannot share the batches evenly.
    """
    rank, num_processes = process_rank()
    if batches_per_step % num_processes:
        raise ValueError(
            f"batches_per_step is {batches_per_step}; it must be a multiple of the "
            f"{num_processes} processes"
        )
    per_process = batches_per_step // num_processes
    parameters = list(parameters)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.05
    )
    done = 0
    if progress is not None and progress.exists():
        state = torch.load(progress, weights_only=True)
        done = state["step"]
        with torch.no_grad():
            for parameter, value in zip(parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
    batches = losses(done * per_process)
    for step in range(done + 1, steps + 1):
        optimizer.zero_grad(set_to_none=True)
        for values in islice(batches, per_process):
            loss = torch.stack([weights[name] * value for name, value in values.items()]).sum()
            (loss / batches_per_step).backward()  # type: ignore[no-untyped-call]
        sum_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % report_every == 0 or step == steps:
            if progress is not None and rank == 0:
                state = {
                    "step": step,
                    "parameters": [parameter.detach() for parameter in parameters],
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                }
                with atomic_file(progress) as file:
                    torch.save(state, file)
            yield step, {name: value.item() for name, value in values.items()}
