"""Whether a run fits its devices: said before the models are loaded, and shown before step 1."""

from dataclasses import replace

import torch
from lightning.pytorch.utilities import rank_zero_info

from callbacks.largest_batch import LargestBatch
from experiments.config.memory_estimate import (
    MemoryEstimate,
    estimate_fit,
    longest_batch,
)
from experiments.devices import num_processes, trains_on_gpu
from experiments.experiment_config import ExperimentConfig
from vidreason.model import VideoReasoner, build_reasoner
from vidreason.perception.models import video_encoder_sizes
from vidreason.reasoning.language_model import at_hand
from vidreason.training.stage import TrainingBatch

_GIB = 2**30


def rehearses(config: ExperimentConfig) -> bool:
    """Tell whether ``fit`` looks at the largest batch before step 1."""
    if config.trainer.strategy.startswith("deepspeed"):
        return False  # its engine counts the batches that it has seen, and gathers their gradients
    asked = config.trainer.rehearse_largest_batch
    return trains_on_gpu(config) and torch.cuda.is_available() if asked is None else asked


def check_memory(config: ExperimentConfig, device_bytes: int | None = None) -> None:
    """Compare the estimate with a device's memory, before minutes are spent on loading weights.

    Args:
        config: Of the run.
        device_bytes: Memory of a device; None for that of the first GPU, if the run is on one.

    Raises:
        ValueError: The run does not fit.
    """
    if device_bytes is None:
        if not (trains_on_gpu(config) and torch.cuda.is_available()):
            return
        device_bytes = torch.cuda.get_device_properties(0).total_memory
    try:
        estimate = estimate_of(config)
    except ValueError as error:  # sizes of a model that is not at hand yet
        rank_zero_info(f"no estimate of the memory: {error}")
        return
    taken = f"fit is estimated to take {_parts(estimate)}; a device has {_gib(device_bytes)}"
    if estimate.total > device_bytes:
        raise ValueError(
            f"{taken}: {remedy(config, device_bytes)}; trainer.rehearse_largest_batch=false begins "
            "without this look"
        )
    rank_zero_info(taken)


def estimate_of(config: ExperimentConfig) -> MemoryEstimate:
    """Memory of ``fit`` on each device; no weights are read."""
    language_model = at_hand(config.reasoner.language_model)
    local = replace(config.reasoner, language_model=language_model)
    width = video_encoder_sizes(config.perceiver.video_encoder).width
    return estimate_fit(config, build_reasoner(local, width, device="meta"))


def remedy(config: ExperimentConfig, device_bytes: int | None = None) -> str:
    """Say what to change so that a batch fits, with estimates of what that comes to."""
    advice = []
    if (smaller := _largest_fitting(config, device_bytes)) is not None:
        size, estimate = smaller
        advice.append(
            f"data.batch_size={size} (now {config.data.batch_size}) is estimated to take "
            f"{_gib(estimate.total)}, with the same global batch"
        )
    if not config.reasoner.language_model.gradient_checkpointing:
        advice.append("reasoner.language_model.gradient_checkpointing=true keeps fewer activations")
    advice.append(f"lower data.max_text_tokens, now {config.data.max_text_tokens}")
    return "; ".join(advice)


def largest_batch(config: ExperimentConfig) -> LargestBatch:
    """The callback that tries the largest batch of ``config`` before step 1."""

    def make_batch(reasoner: VideoReasoner) -> TrainingBatch:
        visual, text = longest_batch(config, reasoner, config.data.batch_size)
        return TrainingBatch(visual=visual, text=text)

    size = None
    if torch.cuda.is_available():
        size = torch.cuda.get_device_properties(0).total_memory
    return LargestBatch(make_batch, lambda: remedy(config, size))


def _largest_fitting(
    config: ExperimentConfig, device_bytes: int | None
) -> tuple[int, MemoryEstimate] | None:
    """A smaller micro-batch that suits the global batch, and fits; the smallest if none does."""
    found = None
    for size in range(config.data.batch_size - 1, 0, -1):
        if config.data.global_batch_size % (size * num_processes(config)):
            continue
        found = size, estimate_of(replace(config, data=replace(config.data, batch_size=size)))
        if device_bytes is None or found[1].total <= device_bytes:
            break
    return found


def _parts(estimate: MemoryEstimate) -> str:
    names = ("weights", "optimizer", "gradients", "working")
    parts = ", ".join(f"{name} {getattr(estimate, name) / _GIB:.2f}" for name in names)
    return f"{_gib(estimate.total)} on each device ({parts})"


def _gib(size: int) -> str:
    return f"{size / _GIB:.2f} GiB"
