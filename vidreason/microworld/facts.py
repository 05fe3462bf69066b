"""Facts of the simulator about videos, and heads that read them off the fusion core's embeddings.

The simulator knows what is there, what has happened and what comes next. A fusion core whose
embeddings tell it to linear heads has seen it; the heads are dropped.

Shapes: B videos, Q queries, D width of the embeddings, C colours, E possible events.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss

from vidreason.fusion.fusion_core import FusionCore
from vidreason.microworld.rectangle import Rectangle
from vidreason.microworld.simulation import (
    ARENA,
    COLORS,
    NEXT_KINDS,
    SHAPES,
    SIDES,
    VIDEO_SECONDS,
    Event,
    Rollout,
)

FACT_WEIGHTS = {"next": 1.0, "shapes": 0.5, "events": 5.0, "numbers": 5.0}
"""Factors of the heads' losses in their sum."""
_SPEED_UNIT = 16.0
"""World units a second: velocities are then of order one."""
_NEXT = (*COLORS, *SIDES)
"""Targets of what comes next; one more stands for none."""
_EVENTS = (
    *((subject, target) for subject in COLORS for target in COLORS),  # block: a body and itself
    *((subject, f"enters from the {side}") for subject in COLORS for side in SIDES),
    *((subject, f"leaves on the {side}") for subject in COLORS for side in SIDES),
)
_NUM_STATES = 6
"""Place at the start and at the end, and velocity at the end, of each body."""
_HEAD_SIZES = {
    "kind": len(NEXT_KINDS),
    "subject": len(COLORS) + 1,
    "target": len(_NEXT) + 1,
    "shapes": len(COLORS) * (len(SHAPES) + 1),
    "events": len(_EVENTS),
    "numbers": len(COLORS) * _NUM_STATES + len(_EVENTS) + 2 * 4,
}


class Facts(NamedTuple):
    """Knowledge of the simulator about one video, or about B."""

    next_event: Tensor
    """``(3,)`` int64: kind, subject and target of what comes next; the last of each is none."""
    shapes: Tensor
    """``(C,)`` int64: shape of each colour's body, the last one if there is none."""
    events: Tensor
    """``(E,)`` float32: 1 for what has happened."""
    numbers: Tensor
    """``(N,)`` float32: places, velocities, times of events, and boxes of wall and screen; NaN
    where there is none."""


def facts_of(rollout: Rollout) -> Facts:
    """Return what the fusion core is taught about a video."""
    states, shapes = [], []
    for color in COLORS:
        body = next((each for each in rollout.scene.bodies if each.color == color), None)
        shapes.append(len(SHAPES) if body is None else SHAPES.index(body.shape))
        # Position at the start, then position and velocity at the end; NaN outside of the arena.
        state = [float("nan")] * _NUM_STATES
        if body is not None and rollout.present(color, 0.0):
            state[:2] = (edge / ARENA for edge in rollout.state(color, 0.0)[:2])
        if body is not None and rollout.present(color, VIDEO_SECONDS):
            x, y, velocity_x, velocity_y = rollout.state(color, VIDEO_SECONDS)
            motion = velocity_x / _SPEED_UNIT, velocity_y / _SPEED_UNIT
            state[2:] = x / ARENA, y / ARENA, *motion
        states += state
    times = [float("nan")] * len(_EVENTS)
    for event in rollout.happened():
        times[_EVENTS.index(_event_name(event))] = event.time / VIDEO_SECONDS
    bars = [edge for bar in (rollout.scene.wall, rollout.scene.screen) for edge in _edges(bar)]
    return Facts(
        next_event=torch.tensor(_next_event(rollout.next_event())),
        shapes=torch.tensor(shapes),
        events=torch.tensor(times).isfinite().float(),
        numbers=torch.tensor([*states, *times, *bars]),
    )


def _event_name(event: Event) -> tuple[str, str]:
    if event.kind == "enter":
        return event.subject, f"enters from the {event.side}"
    if event.kind == "leave":
        return event.subject, f"leaves on the {event.side}"
    return event.subject, event.target or event.subject


def _next_event(event: Event | None) -> list[int]:
    if event is None:
        return [NEXT_KINDS.index("nothing"), len(COLORS), len(_NEXT)]
    target = event.target or event.side
    number = len(_NEXT) if target is None else _NEXT.index(target)
    return [NEXT_KINDS.index(event.kind), COLORS.index(event.subject), number]


def _edges(bar: Rectangle | None) -> list[float]:
    if bar is None:
        return [float("nan")] * 4
    return [edge / ARENA for edge in (bar.left, bar.top, bar.right, bar.bottom)]


class FactHeads(nn.Module):
    """One linear layer from all embeddings of a video to what is known of it.

    Args:
        fusion: Gives the embeddings; it is not kept.
    """

    def __init__(self, fusion: FusionCore) -> None:
        super().__init__()
        width = fusion.output_projection.out_features
        # As large as the language model's words, which are small.
        with torch.no_grad():
            self.scale = float(fusion.output_projection.weight.square().sum(1).mean().sqrt())
        self.linear = nn.Linear(fusion.num_embeddings * width, sum(_HEAD_SIZES.values()))

    def forward(self, embeddings: Tensor) -> dict[str, Tensor]:
        """Return the logits and numbers by head, from embeddings ``(B, Q, D)``."""
        # All embeddings together tell each fact: (B, Q, D) -> (B, Q * D)
        outputs = self.linear(embeddings.flatten(1) / self.scale)
        return dict(zip(_HEAD_SIZES, outputs.split(list(_HEAD_SIZES.values()), 1), strict=True))

    def losses(self, embeddings: Tensor, facts: Facts) -> dict[str, Tensor]:
        """Return cross-entropies and, for numbers, the smooth L1 distance, named as the weights."""
        outputs = self(embeddings)
        # Nothing is learnt of positions and times that are none: (B, N).
        known = facts.numbers.isfinite()
        shapes = outputs["shapes"].float().unflatten(1, (len(COLORS), -1))  # (B, C, 4)
        next_event = [
            cross_entropy(outputs[name].float(), facts.next_event[:, number])
            for number, name in enumerate(("kind", "subject", "target"))
        ]
        return {
            "next": torch.stack(next_event).sum(),
            "shapes": cross_entropy(shapes.flatten(0, 1), facts.shapes.flatten()),
            "events": binary_cross_entropy_with_logits(outputs["events"].float(), facts.events),
            "numbers": smooth_l1_loss(
                outputs["numbers"].float()[known], facts.numbers[known], beta=0.05
            ),
        }
