"""Modules that know a rollout: frames of the test carry their number, not a picture."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vidreason.baselines.viper.modules import Box
from vidreason.microworld.renderer import FRAME_SIZE, render_bars, render_masks
from vidreason.microworld.simulation import VIDEO_SECONDS, Rollout


class ScriptedModules:
    """A detector and a matcher that cannot err, for the frames of one rollout."""

    def __init__(self, rollout: Rollout, times: Sequence[float]) -> None:
        self._rollout = rollout
        self._boxes = [
            {
                **_boxes(render_masks(rollout, time)),
                **_boxes(render_bars(rollout)),
            }
            for time in times
        ]

    def detect(self, picture: Tensor, name: str) -> list[Box]:
        color = name.split()[0]
        shown = self._boxes[int(picture[0, 0, 0])]
        shapes = {body.color: body.shape for body in self._rollout.scene.bodies}
        is_named = name in ("wall", "screen") or name.endswith(("object", shapes.get(color, "?")))
        return [shown[color]] if color in shown and is_named else []

    def match(self, pictures: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        # A crop has its frame's number and size alone: the body of that frame with that box.
        rows = []
        for picture in pictures:
            height, width = picture.shape[1:]
            shown = self._boxes[int(picture[0, 0, 0])]
            fits = {
                body.shape
                for body in self._rollout.scene.bodies
                if body.color in shown and _size_with_margin(shown[body.color]) == (width, height)
            }
            rows.append([float(text in fits) for text in texts])
        return torch.tensor(rows)

    def ask(self, picture: Tensor, question: str) -> str:
        return "unknown"

    def depth(self, picture: Tensor) -> Tensor:
        raise AssertionError("no program of the world asks for depth")

    def complete(self, prompt: str) -> str:
        raise AssertionError("no program of the world asks a language model")


def numbered_frames(num_frames: int) -> tuple[Tensor, list[float]]:
    """Frames ``(T, 3, H, W)`` that hold their number, and the times that they stand for."""
    numbers = torch.arange(num_frames, dtype=torch.uint8)
    frames = numbers[:, None, None, None].expand(-1, 3, FRAME_SIZE, FRAME_SIZE)
    return frames, [VIDEO_SECONDS * (number + 0.5) / num_frames for number in range(num_frames)]


def _boxes(masks: dict[str, np.ndarray]) -> dict[str, Box]:
    boxes = {}
    for name, mask in masks.items():
        rows, columns = np.nonzero(mask)
        boxes[name] = Box(
            float(columns.min()), float(rows.min()), columns.max() + 1.0, rows.max() + 1.0
        )
    return boxes


def _size_with_margin(box: Box) -> tuple[int, int]:
    margin = FRAME_SIZE // 64
    left, top = max(box.left - margin, 0), max(box.top - margin, 0)
    right, bottom = min(box.right + margin, FRAME_SIZE), min(box.bottom + margin, FRAME_SIZE)
    return int(right - left), int(bottom - top)
