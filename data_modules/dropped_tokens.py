"""Clips and objects left out of training samples, against learning the videos by heart.

A reasoner that sees a video many times tells it from others by any of its tokens. Where some are
missing, it has to use the others.

Shapes: B batch, V visual tokens.
"""

import random

import torch
from torch import Tensor

from data_modules.corpora import DataConfig
from vidreason.perception.visual_tokens import CLIP_TOKEN, OBJECT_TOKEN, VisualBatch


def drop_tokens(visual: VisualBatch, config: DataConfig, epoch: int, first: int) -> VisualBatch:
    """Leave out clips and objects of samples, as ``drop_clips`` and ``drop_objects`` say.

    An object goes with its tokens at all key frames. At least one clip stays, and one object, where
    there was one. What is left out depends on the seed and on the sample's position in the order
    alone, so it is the same for any number of ranks, workers and micro-batches, and after a resume.

    Args:
        visual: Visual tokens of B samples, on the CPU; they are not changed.
        config: Probabilities and seed.
        epoch: The epoch, from 0.
        first: Position of the first sample in the epoch's order over all ranks; the others follow.

    Returns:
        The same tokens with another ``mask``.
    """
    mask, kinds, track_ids = visual["mask"].clone(), visual["kinds"], visual["track_ids"]
    probabilities = {CLIP_TOKEN: config.drop_clips, OBJECT_TOKEN: config.drop_objects}
    for kind, probability in probabilities.items():
        for row in range(len(mask) if probability else 0):
            # Python's, whose random() gives the same numbers in any version; numpy's may change.
            generator = random.Random(f"{config.seed}:{epoch}:{first + row}:{kind}")
            if generator.random() < probability:
                tokens = (mask[row] & (kinds[row] == kind)).nonzero().flatten()
                groups = tokens if kind == CLIP_TOKEN else track_ids[row, tokens]
                mask[row, tokens[_dropped(groups, generator)]] = False
    return VisualBatch(**{**visual, "mask": mask})


def _dropped(groups: Tensor, generator: random.Random) -> Tensor:
    """Choose at random how many of the different ``groups`` are left out, not all, and which.

    Args:
        groups: ``(n,)`` int64, the group of each token.
        generator: Gives the random numbers.

    Returns:
        ``(n,)`` bool, True for the tokens of the groups that are left out.
    """
    names = sorted(set(groups.tolist()))
    count = 1 + int(generator.random() * (len(names) - 1))
    order = sorted(names, key=lambda _: generator.random())
    return torch.isin(groups, torch.tensor(order[: min(count, len(names) - 1)], dtype=torch.int64))
