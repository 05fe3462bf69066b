"""Clips, objects and moments left out of training samples.

A reasoner that sees a video many times tells it from others by any of its tokens. Where some clips
or objects are missing, it has to use the others. And one that has always seen videos to their end
takes the last thing that it sees for the end: where moments are missing, it learns how little it
then knows of what follows.

Shapes: B batch, V visual tokens.
"""

import random
from collections.abc import Mapping

import torch
from torch import Tensor

from vidreason.perception.visual_tokens import CLIP_TOKEN, OBJECT_TOKEN, VisualBatch


def drop_tokens(
    visual: VisualBatch, drop: Mapping[str, float], seed: int, epoch: int, first: int
) -> VisualBatch:
    """Leave out tokens of samples.

    An object goes with its tokens at all key frames. At least one clip stays, and one object, where
    there was one; but of moments a single one may stay, which may hold no clip or no object. What
    is left out depends on the seed and on the sample's position in the order alone, so it is the
    same for any number of ranks, workers and micro-batches, and after a resume.

    Args:
        visual: Visual tokens of B samples, on the CPU; they are not changed.
        drop: Probabilities, as of ``data.drop``.
        seed: Of the order of the samples.
        epoch: The epoch, from 0.
        first: Position of the first sample in the epoch's order over all ranks; the others follow.

    Returns:
        The same tokens with another ``mask``.
    """
    mask, kinds, track_ids = visual["mask"].clone(), visual["kinds"], visual["track_ids"]
    for kind, what in ((CLIP_TOKEN, "clips"), (OBJECT_TOKEN, "objects")):
        probability = drop.get(what, 0.0)
        for row in range(len(mask) if probability else 0):
            # Python's, whose random() gives the same numbers in any version; numpy's may change.
            generator = random.Random(f"{seed}:{epoch}:{first + row}:{kind}")
            if generator.random() < probability:
                tokens = (mask[row] & (kinds[row] == kind)).nonzero().flatten()
                # A clip goes alone, an object with its tokens at all key frames.
                groups = tokens if kind == CLIP_TOKEN else track_ids[row, tokens]
                mask[row, tokens[_dropped(groups, generator)]] = False
    probability = drop.get("moments", 0.0)
    for row in range(len(mask) if probability else 0):
        generator = random.Random(f"{seed}:{epoch}:{first + row}:moments")
        if generator.random() < probability:
            # By the end of each token's span: a clip counts where it has ended.
            mask[row] &= _stretch(visual["spans"][row, :, 1], mask[row], generator)
    return VisualBatch(**{**visual, "mask": mask})


def _stretch(ends: Tensor, mask: Tensor, generator: random.Random) -> Tensor:
    """Choose at random a stretch of the video that ends before the last moment.

    Half of the stretches begin with the video.

    Args:
        ends: ``(V,)`` float32, seconds at which each token's span ends.
        mask: ``(V,)`` bool, True for the tokens that are there.
        generator: Gives the random numbers.

    Returns:
        ``(V,)`` bool, True for the tokens whose spans end in the stretch.
    """
    moments = sorted(set(ends[mask].tolist()))
    # never the last moment, if there are others
    last = int(generator.random() * max(len(moments) - 1, 1))
    first = 0 if generator.random() < 0.5 else int(generator.random() * (last + 1))
    return torch.isin(ends, torch.tensor(moments[first : last + 1], dtype=ends.dtype))


def _dropped(groups: Tensor, generator: random.Random) -> Tensor:
    """Choose at random how many of the different ``groups`` are left out, not all, and which.

    Args:
        groups: ``(n,)`` int64, the group of each token.
        generator: Gives the random numbers.

    Returns:
        ``(n,)`` bool, True for the tokens of the groups that are left out.
    """
    names = sorted(set(groups.tolist()))
    # From one to all but one; below, a single group stays.
    count = 1 + int(generator.random() * (len(names) - 1))
    # A shuffle by random keys: random.shuffle may change between versions of Python.
    order = sorted(names, key=lambda _: generator.random())
    return torch.isin(groups, torch.tensor(order[: min(count, len(names) - 1)], dtype=torch.int64))
