"""Tables of a configuration's parts, tokens and memory, before anything is downloaded."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from data_modules.global_order import accumulation
from experiments.config.memory_estimate import (
    MemoryEstimate,
    estimate_fit,
    estimate_generate,
    estimate_perception,
)
from experiments.devices import num_processes, trains_on_gpu
from experiments.experiment_config import ExperimentConfig
from experiments.fit.largest_batch import max_visual_tokens
from experiments.start_checks.start import meta_reasoner
from vidreason.model import VideoReasoner
from vidreason.perception.config import SegmenterConfig, VideoEncoderConfig
from vidreason.perception.models import build_segmenter, build_video_encoder, segmenter_network
from vidreason.pretrained.frozen_parts import IN_PACKAGE, portable
from vidreason.released_parts import released_part
from vidreason.training.config import Part
from vidreason.training.trainable import STAGE_PARTS, part_names

T = TypeVar("T")

_GIB = 2**30
_SPARE = 0.1
"""Share of a device's memory that is kept for what the estimate does not see: the CUDA context,
fragmentation, and what kernels use within themselves."""
_NOT_AT_HAND = "not at hand"

_NOTES = """\
The longest batch: each sample has the most visual tokens and data.max_text_tokens, all of them
targets. What a strategy shards is divided by the processes; the weights of the two largest layers,
as they are gathered, count as working. Not counted: the CUDA context, fragmentation, memory within
kernels; a tenth of the device is kept for it. generate and evaluate answer with adapters merged."""


def explain(config: ExperimentConfig) -> str:
    """Tables of the parts, the tokens of a sample and the memory; no weights are read.

    Where the sizes of a part are not at hand, its row says so, a line below what to do, and the
    estimates that depend on it are left out.
    """
    problems: list[str] = []
    reasoner = _attempt(lambda: meta_reasoner(config, config.reasoner), problems)
    parts = [*_perceiving_rows(config, problems), *_reasoner_rows(config, reasoner)]
    tables = [
        ["part", "name", "parameters", "state", "dtype", "learning rate"],
        ["part", "source", "licence"],
    ]
    text = [
        _table([tables[0], *(row[:6] for row in parts)]),
        _table([tables[1], *([row[0], *row[6:]] for row in parts)]),
        _table(_token_rows(config)),
        _batch_table(config, problems),
        _table(_memory_rows(config, reasoner, problems)),
        _NOTES,
        *dict.fromkeys(problems),
    ]
    return "\n\n".join(text)


def _perceiving_rows(config: ExperimentConfig, problems: list[str]) -> list[list[str]]:
    encoder, segmenter = config.perceiver.video_encoder, config.perceiver.segmenter
    model = _attempt(lambda: build_video_encoder(encoder, "meta"), problems)
    # Built on the meta device for its number of parameters.
    rows = [["video encoder", encoder.name, _size(model), "frozen", encoder.dtype, ""]]
    rows[0] += _frozen_origin(encoder, model)
    if config.perceiver.use_objects and segmenter.name != "patches":
        built = _attempt(lambda: segmenter_network(build_segmenter(segmenter, "meta")), problems)
        rows.append(["segmenter", segmenter.name, _size(built), "frozen", "float32", ""])
        rows[1] += _frozen_origin(segmenter, built)
    return rows


def _reasoner_rows(config: ExperimentConfig, reasoner: VideoReasoner | None) -> list[list[str]]:
    language_model, lora = config.reasoner.language_model, config.reasoner.lora
    dtype = language_model.dtype
    if language_model.quantization != "none":
        dtype = f"{language_model.quantization}, computes in {dtype}"  # type: ignore[assignment]
    name = language_model.name_or_path
    started = config.initial_checkpoint or "new"
    parts: list[tuple[Part, str, str, list[str]]] = [
        ("fusion", config.reasoner.fusion.kind, "float32", [started, ""]),
        ("language_model", name, dtype, _origin(name, name)),
    ]
    if lora is not None:
        parts.append(("lora", f"rank {lora.rank}, alpha {lora.alpha}", "float32", ["new", ""]))
    rows = []
    for part, described, part_dtype, origin in parts:
        thaws = [thaw for thaw in config.freeze_schedule if thaw.part == part]
        trains = part in STAGE_PARTS[config.stage] or bool(thaws)
        later = [f" from step {t.from_step}" for t in thaws if t.from_step]
        later += [f" from epoch {t.from_epoch}" for t in thaws if t.from_epoch]
        rate = f"{config.optimizer.learning_rate:g}" if trains else ""
        state = "trains" + "".join(later) if trains else "frozen"
        size = _NOT_AT_HAND
        if reasoner is not None:
            names = part_names(reasoner, part)
            size = f"{sum(p.numel() for n, p in reasoner.named_parameters() if n in names):,}"
        rows.append([part.replace("_", " "), described, size, state, part_dtype, rate, *origin])
    return rows


def _token_rows(config: ExperimentConfig) -> list[list[str]]:
    fusion, data = config.reasoner.fusion, config.data
    embeddings = 1 if fusion.kind == "mean_pool" else fusion.num_queries
    positions = embeddings + data.max_text_tokens
    return [
        ["tokens", "at most"],
        ["visual tokens of a video", f"{max_visual_tokens(config.perceiver):,}"],
        ["embeddings for the language model", f"{embeddings:,}"],
        ["text tokens, prompt and response", f"{data.max_text_tokens:,}"],
        ["positions of a sample", f"{positions:,}"],
        [f"positions of a micro-batch of {data.batch_size}", f"{positions * data.batch_size:,}"],
    ]


def _batch_table(config: ExperimentConfig, problems: list[str]) -> str:
    """On how many processes the run is spread, and what they make of the global batch."""
    data, trainer = config.data, config.trainer
    processes = num_processes(config)
    times = _attempt(
        lambda: accumulation(data.global_batch_size, data.batch_size, processes), problems
    )
    rows = [
        ["training", ""],
        ["strategy", trainer.strategy],
        ["processes", f"{processes:,} on {trainer.num_nodes} node(s)"],
        ["precision", trainer.precision],
    ]
    if times is not None:
        product = f"{data.batch_size} a micro-batch x {times} accumulated x {processes} processes"
        rows.append(["global batch", f"{data.global_batch_size:,} = {product}"])
    return _table(rows)


def _memory_rows(
    config: ExperimentConfig, reasoner: VideoReasoner | None, problems: list[str]
) -> list[list[str]]:
    header = ["GiB on a device", "weights", "optimizer", "gradients", "working", "perception"]
    rows = [[*header, "peak", "fits"]]
    perception = _attempt(lambda: estimate_perception(config.perceiver), problems)
    # Answers are given with merged adapters, which take no memory of their own.
    answering = replace(config.reasoner, lora=None)
    uses: list[tuple[str, MemoryEstimate | None, bool, bool]] = []
    if reasoner is not None:
        fit = _attempt(lambda: estimate_fit(config, reasoner), problems)
        # With workers, fit perceives in these and on the CPU.
        uses.append(("fit", fit, not config.data.num_workers, trains_on_gpu(config)))
        on_gpu = config.device not in ("cpu", "auto") or (
            config.device == "auto" and trains_on_gpu(config)
        )
        for use, size in (("generate, 1 prompt", 1), ("evaluate", config.evaluation.batch_size)):
            answer = estimate_generate(config, meta_reasoner(config, answering), size)
            name = use if size == 1 else f"{use}, {size} at once"
            uses.append((name, answer, True, on_gpu))
    for name, estimate, perceives, on_gpu in uses:
        if estimate is not None:
            seen = perception if perceives else None
            rows.append([name, *_memory_row(estimate, seen, on_gpu)])
            if perceives and perception is None:
                rows[-1][5] = _NOT_AT_HAND  # the column of perception
    return rows


def _memory_row(
    estimate: MemoryEstimate, perception: MemoryEstimate | None, on_gpu: bool
) -> list[str]:
    """Perceiving and reasoning take turns: the weights of both stay, the larger work counts."""
    seen = MemoryEstimate(weights=0, working=0) if perception is None else perception
    extra = seen.weights + max(seen.working - estimate.working - estimate.gradients, 0)
    peak = estimate.total + extra
    values = (estimate.weights, estimate.optimizer, estimate.gradients, estimate.working, extra)
    return [*(f"{value / _GIB:.2f}" for value in (*values, peak)), _verdict(peak, on_gpu)]


def _verdict(peak: int, on_gpu: bool) -> str:
    if on_gpu and not torch.cuda.is_available():
        return "no GPU here to compare with"
    if on_gpu:
        size = torch.cuda.get_device_properties(0).total_memory
    else:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    word = "yes" if peak <= (1 - _SPARE) * size else "barely" if peak <= size else "no"
    return f"{word}: {'the GPU' if on_gpu else 'this machine'} has {size / _GIB:.1f}"


def _attempt(build: Callable[[], T], problems: list[str]) -> T | None:
    """Return what ``build`` returns; None, with a line for the user, if its files are missing."""
    try:
        return build()
    except ValueError as error:
        problems.append(" ".join(str(error).split()))
        return None


def _size(module: nn.Module | None) -> str:
    if module is None:
        return _NOT_AT_HAND
    return f"{sum(parameter.numel() for parameter in module.parameters()):,}"


def _frozen_origin(
    config: VideoEncoderConfig | SegmenterConfig, model: nn.Module | None
) -> list[str]:
    if config.weights:
        return _origin(config.name, config.weights)
    if model is not None and not model.state_dict():
        return ["it has no weights", ""]
    is_random = config.allow_random_weights
    return [f"random, seed {config.seed}" if is_random else "no weights are named", ""]


def _origin(name: str, weights: str) -> list[str]:
    """Source and licence of weights: where they are, and where the published ones come from."""
    released = released_part(name) or released_part(weights)
    source = weights if Path(weights).exists() else f"{weights} (not on this machine)"
    if released is None:
        packaged = portable(weights).startswith(IN_PACKAGE)
        licence = "Apache-2.0, comes with vidreason" if packaged else "not known: ask who made it"
        return [source, licence]
    return [f"{source}, from {released.source}", released.licence]


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned on the left; numbers, which begin with a digit, on the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if cell[:1].isdigit() and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
