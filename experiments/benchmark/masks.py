"""Masks on key frames: our path against ``segment_anything``'s generator, in one process, by stage.

Both see the same frames with the same weights and thresholds, in turns, and their masks are
compared. Without ``--weights`` the weights are random; the thresholds are then quantiles of what
the model predicts, so that ``--kept-share`` of the masks pass each filter.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator
from torch import Tensor

from experiments.benchmark.paired import cpu_seconds, in_turns, ratios
from vidreason.markdown import table
from vidreason.microworld import parts
from vidreason.perception.config import SegmenterConfig
from vidreason.perception.mask_generation import GridSegmenter, PromptableModel, limit_side
from vidreason.perception.models import build_segmenter
from vidreason.perception.sam import PromptedSam
from vidreason.video.reader import DIRECT

STAGES = ("encoder", "decoder", "filters", "all")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure; returns CPU seconds a frame by path and stage, their ratios, and what differs."""
    index = DIRECT.index(arguments.video)
    chosen = np.linspace(0, len(index.timestamps) - 1, arguments.frames).round().astype(int)
    segmenter = _segmenter(arguments)
    # A short video has fewer frames than were wanted.
    frames = limit_side(
        DIRECT.read_frames(index, np.unique(chosen)), segmenter.config.max_frame_side
    )
    if arguments.segmenter != "microworld" and not arguments.weights:
        _set_thresholds(segmenter, frames, arguments.kept_share)

    paths = {"ours": _measure_ours, "package": _measure_package}
    turns = in_turns(
        {name: partial(path, segmenter, frames) for name, path in paths.items()}, arguments.rounds
    )
    # Of the last round; neither path draws anything, so all rounds give the same.
    masks = {name: results[-1][0] for name, results in turns.items()}
    seconds = {
        stage: {
            name: [measured[stage] / len(frames) for _, measured in results]
            for name, results in turns.items()
        }
        for stage in STAGES
    }
    differing = [
        int((ours != theirs).sum())
        for pair in zip(masks["ours"], masks["package"], strict=True)
        for ours, theirs in zip(*pair, strict=False)  # "masks" says if one has more
    ]
    return {
        "frames": list(frames.shape),
        "points": segmenter.config.points_per_side**2,
        "masks": {name: [len(frame_masks) for frame_masks in masks[name]] for name in paths},
        "masks_that_differ": sum(pixels > 0 for pixels in differing),
        "pixels_that_differ_in_one": max(differing, default=0),
        "cpu_seconds_a_frame": {
            name: {stage: statistics.median(seconds[stage][name]) for stage in STAGES}
            for name in paths
        },
        "times_faster": {
            stage: ratios(seconds[stage], to="ours")["package"]["median"] for stage in STAGES
        },
    }


def tables(measured: dict[str, Any]) -> Iterator[str]:
    """The numbers of :func:`run` as Markdown."""
    seconds = measured["cpu_seconds_a_frame"]
    yield table(
        ["Stage", "ours, CPU s a frame", "package, CPU s a frame", "times faster"],
        (
            [
                stage,
                *(f"{seconds[name][stage]:.3f}" for name in ("ours", "package")),
                f"{measured['times_faster'][stage]:.2f}",
            ]
            for stage in STAGES
        ),
    )
    yield (
        f"{measured['masks_that_differ']} masks differ, by at most "
        f"{measured['pixels_that_differ_in_one']} pixels."
    )


def _segmenter(arguments: argparse.Namespace) -> GridSegmenter:
    if arguments.segmenter == "microworld":
        config = parts.perceiver_config().segmenter
        config.weights = arguments.weights or str(parts.SEGMENTER_WEIGHTS)
    else:
        config = SegmenterConfig(
            name=arguments.segmenter,
            weights=arguments.weights,
            allow_random_weights=True,
            points_per_side=8,
        )
    if arguments.points_per_side is not None:
        config.points_per_side = arguments.points_per_side
    segmenter = build_segmenter(config)
    if not isinstance(segmenter, GridSegmenter):
        raise ValueError(f"--segmenter {config.name} does not answer points; name another one")
    return segmenter


def _set_thresholds(segmenter: GridSegmenter, frames: Tensor, kept_share: float) -> None:
    """Thresholds that let ``kept_share`` of a random model's masks pass, each."""
    config = segmenter.config
    # First no filter refuses any mask: their scores decide where the thresholds have to be.
    config.pred_iou_threshold = config.stability_threshold = -1e9
    # Random masks have nearly the same box each: otherwise one would be left to compare.
    config.box_nms_threshold = 1.0
    masks = [item for items in segmenter.segment(frames[:1]) for item in items]

    def threshold(scores: list[float]) -> float:
        return float(np.quantile(scores, 1 - kept_share))

    config.pred_iou_threshold = threshold([item.predicted_iou for item in masks])
    config.stability_threshold = threshold(
        # Filters follow each other: this one sees what has passed the first.
        [item.stability for item in masks if item.predicted_iou > config.pred_iou_threshold]
    )


class _Stopwatch:
    """CPU seconds of this process by stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, with its calls' time counted for ``stage``."""

        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever function takes
            started = cpu_seconds()
            result = function(*args, **kwargs)
            self.seconds[stage] += cpu_seconds() - started
            return result

        return call

    def stages(self) -> dict[str, float]:
        """With the filters as what neither encoder nor decoder took."""
        spent = self.seconds
        return spent | {"filters": spent["all"] - spent["encoder"] - spent["decoder"]}


class _TimedModel:
    """A promptable model whose two halves are timed."""

    def __init__(self, model: PromptableModel, stopwatch: _Stopwatch) -> None:
        # All that the generator of masks asks of a model.
        self.image_size = model.image_size
        self.keeps_aspect = model.keeps_aspect
        self.encode = stopwatch.timed("encoder", model.encode)
        self.decode = stopwatch.timed("decoder", model.decode)


def _measure_ours(
    segmenter: GridSegmenter, frames: Tensor
) -> tuple[list[list[Tensor]], dict[str, float]]:
    """Masks of each frame, and CPU seconds by stage."""
    stopwatch = _Stopwatch()
    timed = GridSegmenter(_TimedModel(segmenter.model, stopwatch), segmenter.config)
    masks = stopwatch.timed("all", timed.segment)(frames)
    return [[item.mask for item in items] for items in masks], stopwatch.stages()


def _measure_package(
    segmenter: GridSegmenter, frames: Tensor
) -> tuple[list[list[Tensor]], dict[str, float]]:
    """The same from ``SamAutomaticMaskGenerator``, less masks without a pixel, which it returns."""
    assert isinstance(segmenter.model, PromptedSam)
    config, sam, stopwatch = segmenter.config, segmenter.model.sam, _Stopwatch()
    generator = SamAutomaticMaskGenerator(
        sam,
        points_per_side=config.points_per_side,
        points_per_batch=min(config.points_per_batch, config.points_per_side**2),
        pred_iou_thresh=config.pred_iou_threshold,
        stability_score_thresh=config.stability_threshold,
        stability_score_offset=config.stability_offset,
        box_nms_thresh=config.box_nms_threshold,
    )
    # A module's attribute of this name goes before its class's method.
    halves = {"encoder": [sam.image_encoder], "decoder": [sam.prompt_encoder, sam.mask_decoder]}
    for stage, modules in halves.items():
        for module in modules:
            module.forward = stopwatch.timed(stage, module.forward)
    # (n, 3, H, W) -> (n, H, W, 3), as the package takes them
    pictures = frames.permute(0, 2, 3, 1).contiguous().numpy()
    records = stopwatch.timed("all", lambda: [generator.generate(p) for p in pictures])()
    # Both paths share the model, and ours has a stopwatch of its own.
    for module in (*halves["encoder"], *halves["decoder"]):
        del module.forward
    masks = [[torch.from_numpy(record["segmentation"].copy()) for record in one] for one in records]
    return [[mask for mask in row if mask.any()] for row in masks], stopwatch.stages()
