"""Pre-training of the microworld's video encoder: a small ViCLIP that knows this world.

The real ViCLIP learnt from captions of 10 million videos. Here the simulator knows the truth, so
the encoder is taught it directly: each patch token what its patch shows (colour, shape, motion),
each [CLS] token what happens in its clip. The heads are dropped; only the encoder is kept.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    interpolate,
    smooth_l1_loss,
)
from torch.utils.data import DataLoader, IterableDataset

from vidreason.microworld.language import heading, position_phrase
from vidreason.microworld.pretraining import autocast, minimise
from vidreason.microworld.renderer import FRAME_SIZE, frame_times, render_frame, render_masks
from vidreason.microworld.scenes import draw_rollout
from vidreason.microworld.simulation import ARENA, COLORS, SHAPES, SIDES, VIDEO_SECONDS, Rollout
from vidreason.perception.config import VideoEncoderConfig
from vidreason.perception.internvideo import ViCLIPEncoder
from vidreason.perception.models import build_video_encoder, video_encoder_sizes
from vidreason.video.config import SamplingConfig
from vidreason.video.sampling import clip_frame_indices, clip_spans

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_HEADINGS = ("left", "right", "up", "down")
_WALL, _SCREEN, _FLOOR = range(len(COLORS), len(COLORS) + 3)
_NUM_COLORS = len(COLORS) + 3
_NO_SHAPE = len(SHAPES)
_STILL_CLIPS_LEFT_OUT = 0.8  # share of those without motion, which is what is to be learnt
_LOSS_WEIGHTS = {"color": 1.0, "history": 5.0, "shape": 2.0, "velocity": 3.0, "facts": 0.5}
_SPEED_UNIT = 10.0
"""Velocities are learnt in tens of world units a second, so that they are of order one."""


@dataclass(frozen=True)
class _Clip:
    """One clip with its labels; P = F x h x w patches."""

    frames: NDArray[np.uint8]  # (F, H, W, 3)
    colors: NDArray[np.int64]  # (P,)
    shapes: NDArray[np.int64]  # (P,)
    velocities: NDArray[np.float32]  # (P, 2)
    facts: NDArray[np.float32]  # (num_facts,)


class ClipStream(IterableDataset[_Clip]):
    """An endless stream of clips of the split ``pretraining``, which no corpus uses."""

    def __init__(self, config: VideoEncoderConfig, sampling: SamplingConfig, seed: int) -> None:
        sizes = video_encoder_sizes(config)
        self.grid = sizes.image_size // sizes.patch_size
        self.sampling = sampling
        self.seed = seed
        self.facts = clip_fact_names()

    def __iter__(self) -> Iterator[_Clip]:
        times = frame_times()
        indices = clip_frame_indices(times, VIDEO_SECONDS, self.sampling)
        spans = clip_spans(VIDEO_SECONDS, self.sampling.num_clips)
        for number in count():
            rollout = draw_rollout(random.Random(f"pretraining/{self.seed}/{number}"))
            generator = random.Random(f"pretraining/{self.seed}/{number}/clips")
            for clip in range(self.sampling.num_clips):
                clip_times = times[indices[clip]]
                if not _moves(rollout, clip_times) and generator.random() < _STILL_CLIPS_LEFT_OUT:
                    continue
                yield self._clip(rollout, clip_times, spans[clip])

    def _clip(
        self, rollout: Rollout, times: NDArray[np.float64], span: NDArray[np.float64]
    ) -> _Clip:
        labels = [_patch_labels(rollout, float(time), self.grid) for time in times]
        true = clip_facts(rollout, times, float(span[0]), float(span[1]))
        return _Clip(
            frames=np.stack([render_frame(rollout, float(time)) for time in times]),
            colors=np.concatenate([color for color, _, _ in labels]),
            shapes=np.concatenate([shape for _, shape, _ in labels]),
            velocities=np.concatenate([velocity for _, _, velocity in labels]),
            facts=np.array([fact in true for fact in self.facts], dtype=np.float32),
        )


def _moves(rollout: Rollout, times: NDArray[np.float64]) -> bool:
    return any(
        rollout.visible(body.color, time) and heading(*rollout.state(body.color, time)[2:])
        for body in rollout.scene.bodies
        for time in map(float, times)
    )


def clip_fact_names() -> list[str]:
    """Return the binary facts that a [CLS] token is taught about its clip."""
    names = ["wall", "screen"]
    for color in COLORS:
        names += [f"{color} {shape}" for shape in SHAPES]
        names += [f"{color} enters {side}" for side in SIDES]
        names += [f"{color} leaves {side}" for side in SIDES]
        names += [f"{color} blocked", f"{color} rests"]
        names += [f"{color} moves {way}" for way in _HEADINGS]
        names += [f"{color} touches {other}" for other in COLORS if other != color]
        names += [f"{color} starts {spot}" for spot in _positions()]
    return names


def clip_facts(rollout: Rollout, times: NDArray[np.float64], start: float, end: float) -> set[str]:
    """Return the facts of :func:`clip_fact_names` that hold in a clip.

    Args:
        rollout: What happens.
        times: Seconds of the clip's frames: only who is seen at one of them has looks and places.
        start: The clip's start in seconds.
        end: Its end; of the events between them it is told.
    """
    bars = {"wall": rollout.scene.wall, "screen": rollout.scene.screen}
    facts = {name for name, bar in bars.items() if bar is not None}
    for body in rollout.scene.bodies:
        seen = [float(time) for time in times if rollout.visible(body.color, float(time))]
        if not seen:
            continue
        facts.add(f"{body.color} {body.shape}")
        x, y, _, _ = rollout.state(body.color, seen[0])
        spot = position_phrase(min(max(x, 0), 63.9), min(max(y, 0), 63.9))
        facts.add(f"{body.color} starts {spot}")
        way = heading(*rollout.state(body.color, seen[-1])[2:])
        facts.add(f"{body.color} moves {way}" if way else f"{body.color} rests")
    for event in rollout.happened(before=end, after=start):
        if event.kind == "enter":
            facts.add(f"{event.subject} enters {event.side}")
        elif event.kind == "leave":
            facts.add(f"{event.subject} leaves {event.side}")
        elif event.kind == "block":
            facts.add(f"{event.subject} blocked")
        else:
            facts.add(f"{event.subject} touches {event.target}")
    return facts


def pretrain_encoder(
    config: VideoEncoderConfig,
    sampling: SamplingConfig,
    *,
    steps: int,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
    report_every: int = 50,
) -> Iterator[tuple[int, dict[str, float], ViCLIPEncoder]]:
    """Train an encoder; yields ``(step, losses, encoder)`` now and then.

    It starts from the configuration's weights, or from random ones if there are none.
    """
    encoder = build_video_encoder(config).requires_grad_(True).train()
    assert isinstance(encoder, ViCLIPEncoder)
    if not config.weights:
        _help_attention(encoder)
    sizes = video_encoder_sizes(config)
    heads = _Heads(sizes.width, sizes.num_frames, len(clip_fact_names()))
    stream = ClipStream(config, sampling, seed)
    loader = DataLoader(stream, batch_size=batch_size, collate_fn=list, num_workers=1)
    for step, losses in minimise(
        [*encoder.parameters(), *heads.parameters()],
        lambda _: (heads.losses(encoder, clips, sizes.image_size) for clips in loader),
        _LOSS_WEIGHTS,
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=0.02,
        report_every=report_every,
    ):
        yield step, losses, encoder


@torch.no_grad()
def _help_attention(encoder: ViCLIPEncoder) -> None:
    """Let head t of the first layer start by attending to the same position in frame t.

    A video transformer takes long to find motion from random weights (measured here: after 950
    steps the velocity loss had not moved at all). So a quarter of the width starts as position:
    sines and cosines of row and column and a one-hot frame number; the queries and keys of the
    first layer start by comparing them. Everything is trained from there. Together with the loss
    weights and the still clips left out it finds motion in about 300 steps; the three were not
    tried apart.
    """
    tower = encoder.vision_encoder
    width, frames, grid = tower.width, tower.num_frames, tower.grid_size
    attention: Any = tower.transformer.resblocks[0].attn
    size = width // attention.num_heads
    start, half = width // 2, (size - frames) // 2
    # Sines and cosines of row and column, in channels that pictures leave alone: (g, g, half).
    rows = _waves(torch.arange(grid), half)[:, None].expand(grid, grid, -1)
    columns = _waves(torch.arange(grid), half)[None].expand(grid, grid, -1)
    tower.conv1.weight[start : start + size] = 0
    tower.positional_embedding[:, start : start + size] = 0
    tower.positional_embedding[1:, start : start + 2 * half] = torch.cat(
        [rows, columns], dim=-1
    ).flatten(0, 1)
    # The number of the frame, one-hot, in the channels after them.
    tower.temporal_positional_embedding[:] = 0
    number = start + 2 * half
    tower.temporal_positional_embedding[0, :, number : number + frames] = torch.eye(frames)
    # Each head compares positions, and asks for one frame by a bias of its queries.
    for head in range(attention.num_heads):
        queries = slice(head * size, (head + 1) * size)
        keys = slice(width + head * size, width + (head + 1) * size)
        attention.in_proj_weight[queries] = 0
        attention.in_proj_weight[keys] = 0
        position = 1.5 * torch.eye(2 * half)
        attention.in_proj_weight[queries][: 2 * half, start : start + 2 * half] = position
        attention.in_proj_weight[keys][: 2 * half, start : start + 2 * half] = position
        attention.in_proj_bias[queries][2 * half + head % frames] = 5.0
        attention.in_proj_weight[keys][2 * half : 2 * half + frames, number : number + frames] = (
            5.0 * torch.eye(frames)
        )


def _waves(positions: Tensor, width: int) -> Tensor:
    """``(n, width)``: sines and cosines of the positions, wavelengths from 4 to 16 steps."""
    frequencies = 2 * torch.pi / (4 * 4 ** torch.linspace(0, 1, width // 2))
    angles = positions[:, None] * frequencies  # (n, 1) * (width / 2,) -> (n, width / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class _Heads(nn.Module):
    """Linear read-outs of patch and [CLS] tokens; they exist during pre-training only."""

    def __init__(self, width: int, num_frames: int, num_facts: int) -> None:
        super().__init__()
        self.color = nn.Linear(width, _NUM_COLORS)
        self.history = nn.Linear(width, num_frames * (_NUM_COLORS))
        self.shape = nn.Linear(width, len(SHAPES) + 1)
        self.velocity = nn.Linear(width, 2)
        self.facts = nn.Linear(width, num_facts)

    def losses(
        self, encoder: ViCLIPEncoder, clips: list[_Clip], image_size: int
    ) -> dict[str, Tensor]:
        """The losses on a batch of clips."""
        frames = _network_input(np.stack([clip.frames for clip in clips]), image_size)
        colors = torch.from_numpy(np.stack([clip.colors for clip in clips]))
        shapes = torch.from_numpy(np.stack([clip.shapes for clip in clips]))
        velocities = torch.from_numpy(np.stack([clip.velocities for clip in clips]))
        facts = torch.from_numpy(np.stack([clip.facts for clip in clips]))
        with autocast():
            # One clip a video: (B, F, 3, S, S) -> (B, 1, F, 3, S, S)
            encoded = encoder(frames[:, None])
            clip_tokens = encoded.clip_tokens[:, 0]
            # One clip a video, its patches in a row: (B, 1, F, h, w, D) -> (B, P, D)
            patch_tokens = encoded.patch_tokens[:, 0].flatten(1, 3)
            on_object = shapes != _NO_SHAPE
            num_frames = frames.shape[1]
            # What each patch shows in every frame of the clip: the beginning of seeing motion.
            history = colors.reshape(len(clips), num_frames, -1).transpose(1, 2)  # (B, h w, F)
            history = history.repeat(1, num_frames, 1)  # (B, P, F)
            return {
                "color": _classification_loss(self.color(patch_tokens), colors),
                "history": _classification_loss(
                    self.history(patch_tokens).reshape(*history.shape, -1), history
                ),
                "shape": _classification_loss(self.shape(patch_tokens), shapes),
                "velocity": smooth_l1_loss(
                    self.velocity(patch_tokens).float()[on_object], velocities[on_object]
                ),
                # Sum over facts, because few of the many are true of one clip.
                "facts": binary_cross_entropy_with_logits(
                    self.facts(clip_tokens).float(), facts, reduction="sum"
                )
                / (10 * len(clips)),
            }


def _classification_loss(logits: Tensor, classes: Tensor) -> Tensor:
    # (..., classes) -> (n, classes), and their classes (...,) -> (n,)
    return cross_entropy(logits.float().flatten(0, -2), classes.flatten())


def _network_input(frames: NDArray[np.uint8], image_size: int) -> Tensor:
    """``(B, F, H, W, 3)`` uint8 to normalised ``(B, F, 3, S, S)``, with a little sensor noise."""
    # (B, F, H, W, 3) -> (B * F, 3, H, W)
    pixels = torch.from_numpy(frames).flatten(0, 1).permute(0, 3, 1, 2).float()
    resized = interpolate(pixels, size=(image_size, image_size), mode="bilinear")
    resized = (resized + 3.0 * torch.randn_like(resized)) / 255
    # Per channel, (3, 1, 1), so that they fit every pixel.
    mean = torch.tensor(IMAGENET_MEAN)[:, None, None]
    std = torch.tensor(IMAGENET_STD)[:, None, None]
    # (B * F, 3, S, S) -> (B, F, 3, S, S)
    return ((resized - mean) / std).reshape(*frames.shape[:2], *resized.shape[1:])


def _patch_labels(
    rollout: Rollout, time: float, grid: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return colour, shape and velocity of the object that covers most of each patch."""
    cell = FRAME_SIZE // grid
    covered = np.zeros((len(COLORS), grid * grid))
    for color, mask in render_masks(rollout, time).items():
        # Pixels of the object in each patch: (H, W) -> (grid, cell, grid, cell) -> (grid, grid)
        areas = mask.reshape(grid, cell, grid, cell).sum(axis=(1, 3))
        covered[COLORS.index(color)] = areas.flatten()
    colors = np.full(grid * grid, _FLOOR, dtype=np.int64)
    shapes = np.full(grid * grid, _NO_SHAPE, dtype=np.int64)
    velocities = np.zeros((grid * grid, 2), dtype=np.float32)
    edges = np.arange(grid + 1) * (ARENA / grid)
    for label, bar in ((_WALL, rollout.scene.wall), (_SCREEN, rollout.scene.screen)):
        if bar is not None:
            rows = (edges[1:] > bar.top) & (edges[:-1] < bar.bottom)
            columns = (edges[1:] > bar.left) & (edges[:-1] < bar.right)
            colors[np.outer(rows, columns).flatten()] = label
    largest = covered.argmax(axis=0)
    for body in rollout.scene.bodies:
        index = COLORS.index(body.color)
        patches = (largest == index) & (covered[index] >= 0.1 * cell * cell)
        colors[patches] = index
        shapes[patches] = SHAPES.index(body.shape)
        _, _, velocity_x, velocity_y = rollout.state(body.color, time)
        velocities[patches] = (velocity_x / _SPEED_UNIT, velocity_y / _SPEED_UNIT)
    return colors, shapes, velocities


def _positions() -> list[str]:
    centres = (10.0, 32.0, 54.0)
    return [position_phrase(x, y) for y in centres for x in centres]
