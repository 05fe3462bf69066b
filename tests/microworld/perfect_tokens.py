"""Tokens of a microworld video as a perceiver without errors would give them."""

import random

import torch

from vidreason.microworld.renderer import render_bars, render_masks
from vidreason.microworld.simulation import COLORS, VIDEO_SECONDS, Rollout
from vidreason.perception.visual_tokens import OBJECT_TOKEN, VisualTokens

TIMES = (0.5, 1.75, 3.0, 4.25, 5.5)


WIDTH = 10
"""Width of the tokens."""


def perceived(
    rollout: Rollout, missed: float = 0.0, generator: random.Random | None = None
) -> VisualTokens:
    """Tokens whose features say the colour and where the object is, and boxes that are right."""
    rows = []
    names = (*COLORS, "wall", "screen")
    for time in TIMES:
        for name, mask in {**render_masks(rollout, time), **render_bars(rollout)}.items():
            if generator is not None and generator.random() < missed:
                continue
            y, x = mask.nonzero()
            box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
            number = names.index(name)
            one_hot = [float(index == number) for index in range(len(names))]
            rows.append(
                (time, number, [*one_hot, x.mean() / 128, y.mean() / 128], box, mask.mean())
            )
    return VisualTokens(
        features=torch.tensor([row[2] for row in rows], dtype=torch.float32),
        kinds=torch.full((len(rows),), OBJECT_TOKEN),
        spans=torch.tensor([[row[0]] * 2 for row in rows]),
        boxes=torch.tensor([row[3] for row in rows], dtype=torch.float32) / 128,
        areas=torch.tensor([row[4] for row in rows], dtype=torch.float32),
        track_ids=torch.tensor([row[1] for row in rows]),
        masks=(None,) * len(rows),
        duration_seconds=VIDEO_SECONDS,
    )
