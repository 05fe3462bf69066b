"""Visual tokens of videos that were never drawn, put together from tokens of perceived ones.

Perceiving a video takes most of a second, simulating one a few milliseconds, and what limits the
fusion core is the number of videos. Of each object at each key frame the simulator knows where it
is and how it moves; its token is taken from a perceived video in which an object of that colour and
shape was seen at nearly the same place, moving nearly so. Objects are missed, tracks lost and
things seen that are none, as often as in the perceived videos. There are no clip tokens. A still
picture is imagined in the same way.

Shapes: N object tokens, D width of the tokens.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidreason.microworld.rectangle import Rectangle
from vidreason.microworld.renderer import FRAME_SIZE, render_masks
from vidreason.microworld.simulation import (
    ARENA,
    COLORS,
    VIDEO_SECONDS,
    Body,
    Rollout,
    Scene,
    simulate,
)
from vidreason.perception.visual_tokens import OBJECT_TOKEN, VisualTokens

_SCALES = np.array([1, 1, 0.5, 0.5, 16, 16, 16, 16, 64], dtype=np.float32)
"""Scales of a centre and a velocity in world units, a box and an area in frames: a unit of place
counts as much as two of velocity, or as a sixteenth of the frame."""
_SAME_BOX = 0.4
"""Intersection over union from which a token shows a thing."""
_FEATURE_NOISE = 0.2
"""Standard deviation of the noise on features, relative to theirs: they come from a limited number
of tokens."""
_SMALL = 0.015
"""Share of the frame below which little of a body is in sight; a whole one has 0.02 or more."""


_PICTURE_SECONDS = 0.04
"""Length of a video that is one picture."""

_TokenRow = tuple[float, Tensor, Tensor, Tensor, int]
"""Time in seconds, features ``(D,)``, box ``(4,)``, area and track of an object token."""


@dataclass(frozen=True)
class _Sight:
    """One thing as it is truly seen at one moment."""

    thing: str
    """A colour, ``wall`` or ``screen``."""
    shape: str
    """Shape of a body; empty for bars."""
    state: tuple[float, ...]
    """Centre, velocity, box as fractions of the frame, area as a share of it."""

    @property
    def looks(self) -> tuple[str, str]:
        """Thing and shape, in which a token has to agree."""
        return self.thing, self.shape

    @property
    def kind(self) -> tuple[str, bool]:
        """Sights that are missed equally often."""
        small = self.shape != "" and self.state[8] < _SMALL
        return ("body" if self.shape else self.thing), small


@dataclass(frozen=True)
class _Perceived:
    """Tokens of sights that look alike."""

    states: NDArray[np.float32]
    """``(N, 9)``, scaled."""
    features: Tensor
    """``(N, D)``"""
    box_errors: NDArray[np.float32]
    """``(N, 4)``: perceived box minus true box."""
    area_ratios: NDArray[np.float32]
    """``(N,)``: perceived area by true area."""


class Imagination:
    """Imagines the visual tokens of rollouts.

    Args:
        videos: Tokens of perceived videos with what happens in them; thousands.

    Raises:
        ValueError: No token shows a body.
    """

    def __init__(self, videos: Iterable[tuple[VisualTokens, Rollout]]) -> None:
        matches: dict[tuple[str, str], list[tuple[_Sight, Tensor, Tensor, Tensor]]] = defaultdict(
            list
        )
        others: list[tuple[Tensor, Tensor, Tensor]] = []
        self._num_others: list[int] = []
        times: set[float] = set()
        num_sights: Counter[tuple[str, bool]] = Counter()
        num_found: Counter[tuple[str, bool]] = Counter()
        num_tracked = num_strange = 0
        for tokens, rollout in videos:
            rows = (tokens.kinds == OBJECT_TOKEN).nonzero().flatten().tolist()
            seconds = tokens.spans[:, 0].tolist()
            # What is truly in sight at each key frame that has an object token.
            sights = {time: _sights(rollout, time) for time in sorted({seconds[r] for r in rows})}
            times |= set(sights)
            num_others, matched, tracks = 0, set(), dict[int, str]()
            # All that could have been perceived, by kinds that are missed equally often.
            for sight in (sight for seen in sights.values() for sight in seen):
                num_sights[sight.kind] += 1
            for row in rows:
                box, area = tokens.boxes[row], tokens.areas[row]
                # Each token shows the thing that its box covers, or none of the world's.
                best = _best_sight(sights[seconds[row]], box.tolist())
                if best is None:
                    others.append((tokens.features[row], box, area))
                    num_others += 1
                    continue
                matches[best.looks].append((best, tokens.features[row], box, area))
                # A thing that two tokens show at one moment counts once.
                num_found[best.kind] += (seconds[row], best.thing) not in matched
                matched.add((seconds[row], best.thing))
                track = int(tokens.track_ids[row])
                # A known track either goes on with its thing, or has gone over to another one.
                num_tracked += track in tracks
                num_strange += tracks.get(track, best.thing) != best.thing
                tracks[track] = best.thing
            self._num_others.append(num_others)
        if not any(shape for _, shape in matches):
            raise ValueError("videos: no object token shows a body of the microworld")
        self._perceived = {looks: _perceived(rows) for looks, rows in matches.items()}
        self._others = others
        features = torch.cat([like.features for like in self._perceived.values()])
        self._noise = _FEATURE_NOISE * features.std(0)
        self._times = sorted(times)
        self._missed = {kind: 1 - num_found[kind] / num_sights[kind] for kind in num_sights}
        self._lost_tracks = num_strange / max(num_tracked, 1)

    def tokens(self, rollout: Rollout, generator: random.Random) -> VisualTokens:
        """Return the object tokens that the rollout's video might have given."""
        numbers: dict[str, int] = {}
        rows = [
            row for time in self._times for row in self._seen(rollout, time, numbers, generator)
        ]
        rows += self._strange(self._times, 1, generator)
        # As perceived tokens come: in order of time.
        rows.sort(key=lambda row: row[0])
        return _object_tokens(rows, self._draw_noise(len(rows), generator), VIDEO_SECONDS)

    def picture_tokens(
        self, rollout: Rollout, time: float, generator: random.Random
    ) -> VisualTokens:
        """Return the object tokens that a picture of the rollout at ``time`` might have given.

        It stands for a video of one frame, so all key frames show the same.
        """
        rows = self._seen(rollout, time, {}, generator)
        rows += self._strange([time], len(self._times), generator)
        # Perceived once, so that all K key frames have the same noise: (N, D) -> (K * N, D)
        noise = self._draw_noise(len(rows), generator).repeat(len(self._times), 1)
        rows = [(0.0, *row[1:]) for row in rows] * len(self._times)
        return _object_tokens(rows, noise, _PICTURE_SECONDS)

    def _seen(
        self, rollout: Rollout, time: float, numbers: dict[str, int], generator: random.Random
    ) -> list[_TokenRow]:
        """Return rows for what is in sight at ``time``; ``numbers`` are the tracks of things."""
        rows = []
        for sight in _sights(rollout, time):
            like = self._perceived.get(sight.looks)
            if like is None or generator.random() < self._missed[sight.kind]:
                continue
            state = np.array(sight.state, dtype=np.float32)
            distances = like.states - _SCALES * state  # (N, 9)
            # Squared distances (N,); einsum makes no second (N, 9) array.
            nearest = int(np.einsum("ij,ij->i", distances, distances).argmin())
            # The nearest token erred so with its box, and by such a share with its area.
            box = torch.from_numpy(state[4:8] + like.box_errors[nearest]).clamp(0, 1)
            area = torch.tensor(state[8] * like.area_ratios[nearest])
            track = numbers.setdefault(sight.thing, len(numbers))
            # A lost track goes on under any number so far, maybe its own.
            if generator.random() < self._lost_tracks:
                track = generator.randrange(len(numbers))
            rows.append((time, like.features[nearest], box, area, track))
        return rows

    def _strange(
        self, times: Sequence[float], divisor: int, generator: random.Random
    ) -> list[_TokenRow]:
        """Return rows for things that are none, as many as in a whole video, by ``divisor``."""
        num_others = generator.choice(self._num_others) // divisor if self._others else 0
        rows = []
        for number in range(num_others):
            features, box, area = generator.choice(self._others)
            # Tracks that no thing can have: after those of all bodies, the wall and the screen.
            track = len(COLORS) + 2 + number
            rows.append((generator.choice(times), features, box, area, track))
        return rows

    def _draw_noise(self, num_rows: int, generator: random.Random) -> Tensor:
        chance = torch.Generator().manual_seed(generator.getrandbits(63))
        return self._noise * torch.randn(num_rows, len(self._noise), generator=chance)


def _object_tokens(
    rows: Sequence[_TokenRow], noise: Tensor, duration_seconds: float
) -> VisualTokens:
    return VisualTokens(
        features=torch.stack([row[1] for row in rows]) + noise if rows else noise,
        kinds=torch.full((len(rows),), OBJECT_TOKEN),
        # An object is seen at one time: start and end are the same, (N,) -> (N, 2).
        spans=torch.tensor([row[0] for row in rows]).view(-1, 1).repeat(1, 2),
        boxes=torch.stack([row[2] for row in rows]) if rows else torch.zeros(0, 4),
        areas=torch.stack([row[3] for row in rows]) if rows else torch.zeros(0),
        track_ids=torch.tensor([row[4] for row in rows], dtype=torch.int64),
        masks=(None,) * len(rows),
        duration_seconds=duration_seconds,
    )


def _perceived(rows: Sequence[tuple[_Sight, Tensor, Tensor, Tensor]]) -> _Perceived:
    states = np.array([sight.state for sight, *_ in rows], dtype=np.float32)  # (N, 9)
    areas = np.array([float(area) for *_, area in rows], dtype=np.float32)
    return _Perceived(
        states=_SCALES * states,
        features=torch.stack([features.float() for _, features, _, _ in rows]),
        box_errors=torch.stack([box for _, _, box, _ in rows]).numpy() - states[:, 4:8],
        area_ratios=areas / states[:, 8],
    )


def _sights(rollout: Rollout, time: float) -> list[_Sight]:
    """Return everything that is truly in sight at ``time`` seconds, to half a world unit."""
    sights = []
    screen = _pixels(rollout.scene.screen)
    for body in rollout.scene.bodies:
        state = rollout.state(body.color, time)
        part = _visible_part(body.shape, *state[:2], screen)
        if part is not None:
            sights.append(_Sight(body.color, body.shape, (*state, *part)))
    for name, bar in (("wall", _pixels(rollout.scene.wall)), ("screen", screen)):
        if bar is not None:
            left, top, right, bottom = (edge / FRAME_SIZE for edge in bar)
            centre = ARENA * (left + right) / 2, ARENA * (top + bottom) / 2
            area = (right - left) * (bottom - top)
            sights.append(_Sight(name, "", (*centre, 0.0, 0.0, left, top, right, bottom, area)))
    return sights


def _pixels(bar: Rectangle | None) -> tuple[int, int, int, int] | None:
    """Return x0, y0, x1, y1 of a bar in pixels."""
    if bar is None:
        return None
    edges = (bar.left, bar.top, bar.right, bar.bottom)
    # Pillow paints the last row and column of a rectangle, too: hence one more below.
    left, top, right, bottom = (round(edge * FRAME_SIZE / ARENA) for edge in edges)
    return left, top, min(right + 1, FRAME_SIZE), min(bottom + 1, FRAME_SIZE)


def _visible_part(
    shape: str, x: float, y: float, screen: tuple[int, int, int, int] | None
) -> tuple[float, float, float, float, float] | None:
    """Return box and area of what the frame and the screen leave of a body; None for nothing.

    Rendering each body of millions of imagined frames would take most of the time: the outline is
    drawn once, and moved by whole pixels.
    """
    outline = _outline(shape)
    size = len(outline)
    column, row = (round(edge * FRAME_SIZE / ARENA) - size // 2 for edge in (x, y))
    left, top = max(column, 0), max(row, 0)
    right, bottom = min(column + size, FRAME_SIZE), min(row + size, FRAME_SIZE)
    if left >= right or top >= bottom:
        return None
    # The part of the outline that the frame shows.
    mask = outline[top - row : bottom - row, left - column : right - column]
    if screen is not None and screen[0] < right and screen[1] < bottom:
        # The outline is cached and must stay whole.
        mask = mask.copy()
        hidden_rows = slice(max(screen[1] - top, 0), max(screen[3] - top, 0))
        mask[hidden_rows, max(screen[0] - left, 0) : max(screen[2] - left, 0)] = False
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    # Around what is left; right and bottom edges lie after the last pixel.
    box = left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
    x0, y0, x1, y1 = (float(edge) / FRAME_SIZE for edge in box)
    return x0, y0, x1, y1, float(np.count_nonzero(mask)) / FRAME_SIZE**2


@cache
def _outline(shape: str) -> NDArray[np.bool_]:
    """Return the pixels of a body in the middle of a frame."""
    middle = ARENA / 2
    body = Body(color=COLORS[0], shape=shape, x=middle, y=middle)
    rollout = simulate(Scene(bodies=(body,), wall=None, background=0))
    return render_masks(rollout, 0.0)[body.color]


def _best_sight(sights: Sequence[_Sight], box: Sequence[float]) -> _Sight | None:
    """Return the sight that a token's box shows; None if it shows none of them."""
    shown = _as_rectangle(box)
    overlap, best = max(
        (
            (_as_rectangle(sight.state[4:8]).overlap(shown), number)
            for number, sight in enumerate(sights)
        ),
        default=(0.0, -1),
    )
    return sights[best] if overlap >= _SAME_BOX else None


def _as_rectangle(box: Sequence[float]) -> Rectangle:
    left, top, right, bottom = box
    return Rectangle(left=left, top=top, right=right, bottom=bottom)
