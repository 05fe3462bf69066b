"""Pre-training of the microworld's segmenter: a small Sam that masks what a point lies on.

A point on an object or on the wall is answered with its visible pixels, as SAM is trained to; a
point on the floor has nothing to segment, so the predicted quality of its masks is taught to be
zero and the automatic grid drops them.
"""

import random
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, mse_loss

from vidreason.microworld.pretraining import autocast, minimise
from vidreason.microworld.renderer import FRAME_SIZE, render_bars, render_frame, render_masks
from vidreason.microworld.scenes import draw_rollout
from vidreason.microworld.simulation import VIDEO_SECONDS
from vidreason.perception.config import SegmenterConfig
from vidreason.perception.sam import build_sam

_POINTS_PER_FRAME = 12


def pretrain_segmenter(
    config: SegmenterConfig,
    *,
    steps: int,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
    seed: int = 0,
    report_every: int = 50,
) -> Iterator[tuple[int, dict[str, float], Any]]:
    """Train a Sam; yields ``(step, losses, sam)`` now and then.

    It starts from the configuration's weights, or from random ones if there are none.
    """
    sam = build_sam(config).requires_grad_(True).train()
    frames = _frames(seed)
    for step, losses in minimise(
        [parameter for parameter in sam.parameters() if parameter.requires_grad],
        lambda _: (_losses(sam, list(islice(frames, batch_size))) for _ in count()),
        {"quality": 1.0, "mask": 1.0, "dice": 1.0},
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=0.02,
        report_every=report_every,
    ):
        yield step, losses, sam


_Frame = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]


def _frames(seed: int) -> Iterator[_Frame]:
    """Endless ``(picture, points (P, 2) as x y, target masks (P, H, W), on an object (P,))``."""
    for number in count():
        generator = random.Random(f"pretraining/{seed}/frames/{number}")
        rollout = draw_rollout(generator)
        for _ in range(4):
            time = generator.uniform(0, VIDEO_SECONDS)
            masks = list(render_masks(rollout, time).values())
            on_body = np.any(masks, axis=0)
            bars = [bar & ~on_body for bar in render_bars(rollout).values()]
            things = [mask for mask in [*masks, *bars] if mask.sum() >= 8]
            if not things:
                continue
            points = [_point_within(generator.choice(things), generator) for _ in range(8)]
            points += [
                (generator.randrange(FRAME_SIZE), generator.randrange(FRAME_SIZE))
                for _ in range(_POINTS_PER_FRAME - len(points))
            ]
            targets = np.zeros((len(points), FRAME_SIZE, FRAME_SIZE), dtype=bool)
            for row, (x, y) in enumerate(points):
                for thing in things:
                    if thing[y, x]:
                        targets[row] = thing
            yield (
                render_frame(rollout, time),
                np.array(points, dtype=np.int64),
                targets,
                np.asarray(targets.any(axis=(1, 2))),
            )


def _point_within(mask: NDArray[np.bool_], generator: random.Random) -> tuple[int, int]:
    rows, columns = np.nonzero(mask)
    chosen = generator.randrange(len(rows))
    return int(columns[chosen]), int(rows[chosen])


def _losses(sam: Any, batch: list[_Frame]) -> dict[str, Tensor]:  # noqa: ANN401 - untyped package
    size = sam.image_encoder.img_size
    # (B, H, W, 3) -> (B, 3, H, W)
    pictures = torch.from_numpy(np.stack([frame[0] for frame in batch])).permute(0, 3, 1, 2)
    inputs = interpolate(pictures.float(), (size, size), mode="bilinear", antialias=True)
    # Sensor noise of 3 of 255, as the encoder learns with.
    inputs = (inputs + 3.0 * torch.randn_like(inputs) - sam.pixel_mean) / sam.pixel_std
    quality_loss, mask_loss, dice_loss = [], [], []
    with autocast():
        embeddings = sam.image_encoder(inputs)
        positions = sam.prompt_encoder.get_dense_pe()
        for embedding, (_, points, targets, on_object) in zip(embeddings, batch, strict=True):
            # Middles of pixels, in pixels of the input; the label 1 says "on the thing".
            coordinates = (torch.from_numpy(points).float() + 0.5) * (size / FRAME_SIZE)
            labels = torch.ones(len(points), 1)
            # Prompts of one point: (P, 1, 2) coordinates and (P, 1) labels.
            sparse, dense = sam.prompt_encoder((coordinates[:, None], labels), None, None)
            # Three proposals a prompt: (P, 3, s, s), (P, 3).
            logits, qualities = sam.mask_decoder(
                image_embeddings=embedding[None],
                image_pe=positions,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )
            truth = _shrink(torch.from_numpy(targets), logits.shape[-1])
            overlap = _intersection_over_union(logits.float(), truth)
            quality_loss.append(mse_loss(qualities.float(), overlap.detach()))
            # The floor has no mask to learn, only a quality of zero.
            seen = torch.from_numpy(on_object)
            if seen.any():
                bce, dice = _mask_losses(logits.float()[seen], truth[seen])
                mask_loss.append(bce)
                dice_loss.append(dice)
    return {
        "quality": torch.stack(quality_loss).mean(),
        "mask": torch.stack(mask_loss).mean(),
        "dice": torch.stack(dice_loss).mean(),
    }


def _shrink(masks: Tensor, size: int) -> Tensor:
    """``(P, H, W)`` bool to the decoder's resolution ``(P, 1, size, size)``, 0 or 1."""
    shrunk = interpolate(masks[:, None].float(), (size, size), mode="bilinear", antialias=True)
    return (shrunk > 0.5).float()


def _intersection_over_union(logits: Tensor, truth: Tensor) -> Tensor:
    """``(P, 3)``: of each proposed mask with the truth; zero where there is nothing to find."""
    predicted = (logits > 0).float()
    intersection = (predicted * truth).sum(dim=(2, 3))
    union = ((predicted + truth) > 0).float().sum(dim=(2, 3))
    return intersection / union.clamp(min=1)


def _mask_losses(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and dice loss of the best of the three proposals of each point."""
    target = truth.expand_as(logits)
    # (P, 3, s, s) -> (P, 3)
    bce = binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(2, 3))
    probability = logits.sigmoid()
    intersection = (probability * target).sum(dim=(2, 3))
    sizes = probability.sum(dim=(2, 3)) + target.sum(dim=(2, 3))
    dice = 1 - (2 * intersection + 1) / (sizes + 1)
    # Only the best proposal learns, or all three would become the same: (P, 3) -> (P, 1)
    best = (20 * bce + dice).argmin(dim=1, keepdim=True)
    return 20 * bce.gather(1, best).mean(), dice.gather(1, best).mean()
