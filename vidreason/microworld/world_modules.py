"""The models that the microworld's programs call: its segmenter, and the head that names looks.

Nothing but pixels is read. The head knows colours, shapes, the wall and the screen; what it is
asked beyond that is answered with "unknown". There is no model of depth and none of texts: a
program that calls one fails, which is recorded.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from vidreason.baselines.viper.modules import Box
from vidreason.microworld.look_head import (
    THINGS,
    LookHead,
    crop_around,
    described,
    object_masks,
)
from vidreason.microworld.renderer import FRAME_SIZE
from vidreason.microworld.simulation import COLORS, SHAPES
from vidreason.perception.segmenter import Segmenter

UNKNOWN = "unknown"
_BODY_WORDS = ("object", "thing", "body")
_SURE = 0.5
"""Least probability of the thing that is named."""
_LEAST_SHAPE = 0.1
"""Least probability of the shape that is named: at the border of the picture little is seen of it,
and colours tell the objects of a video apart."""
_MAX_PICTURES = 4096  # whose masks are remembered: questions about a video come together
_MAX_WORDS = 40


class _Look(NamedTuple):
    box: Box
    things: tuple[float, ...]
    """Probabilities of ``THINGS``."""
    shapes: tuple[float, ...]
    """Probabilities of the shapes."""


class WorldModules:
    """Modules of :class:`~vidreason.baselines.viper.Viper` for the microworld.

    Args:
        segmenter: Of the world.
        head: Trained by :func:`~vidreason.microworld.look_head.train_look_head`.
    """

    def __init__(self, segmenter: Segmenter, head: LookHead) -> None:
        self._segmenter = segmenter
        self._head = head.eval()
        self._known: OrderedDict[tuple[tuple[int, ...], bytes], list[_Look]] = OrderedDict()

    def detect(self, picture: Tensor, name: str) -> list[Box]:
        """Find what a name of colour, shape, ``object``, ``wall`` or ``screen`` names.

        Returns:
            The surest first; nothing for a name without any of these words.
        """
        words = _world_words(name)
        scored = []
        for look in self._looks(picture) if words else []:
            things = [_probability(look, word) for word in words if word not in SHAPES]
            shapes = [_probability(look, word) for word in words if word in SHAPES]
            # A shape alone is that of a body.
            things = things or [_probability(look, "object")]
            if min(things) > _SURE and min(shapes, default=1.0) > _LEAST_SHAPE:
                scored.append((math.prod([*things, *shapes]), look.box))
        return [box for _, box in sorted(scored, key=lambda pair: -pair[0])]

    def match(self, pictures: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        """Score texts by the words of the world in them: ``(pictures, texts)`` float32.

        Each word adds the logarithm of twice its probability, so that a property which the picture
        rather has than not makes a text fit better, and another worse.
        """
        looks = [self._look(picture) for picture in pictures]
        scores = [
            [sum(_evidence(look, word) for word in _world_words(text)) for text in texts]
            for look in looks
        ]
        return torch.tensor(scores, dtype=torch.float32).reshape(len(pictures), len(texts))

    def ask(self, picture: Tensor, question: str) -> str:
        """Answer whether the picture is of something, or which colour or shape it has."""
        text = question.lower()
        look = self._look(picture)
        if re.match(r"(is|does|do|are)\b", text):
            words = _world_words(text)
            if not words:
                return UNKNOWN
            return "yes" if all(_probability(look, word) > _SURE for word in words) else "no"
        if re.search(r"\bcolou?r\b", text):
            return max(COLORS, key=lambda color: _probability(look, color))
        if re.search(r"\bshape\b", text):
            return max(SHAPES, key=lambda shape: _probability(look, shape))
        return UNKNOWN

    def depth(self, picture: Tensor) -> Tensor:
        """Raise: the world has no model of depth."""
        _missing("depth")

    def complete(self, prompt: str) -> str:
        """Raise: the world has no model that answers texts."""
        _missing("texts")

    @torch.inference_mode()
    def _looks(self, picture: Tensor) -> list[_Look]:
        """The masks on a picture with what they look like."""
        key = (tuple(picture.shape), picture.contiguous().numpy().tobytes())
        if key in self._known:
            # The one that was used longest ago goes first.
            self._known.move_to_end(key)
            return self._known[key]
        masks = object_masks(self._segmenter, picture[None])[0]
        side = max(picture.shape[1:])
        crops = [described(crop_around(picture, one.box), side) for one in masks]
        rows = self._probabilities(crops) if crops else []
        looks = [
            _Look(Box(*map(float, one.box)), *row) for one, row in zip(masks, rows, strict=True)
        ]
        self._known[key] = looks
        if len(self._known) > _MAX_PICTURES:
            self._known.popitem(last=False)
        return looks

    @torch.inference_mode()
    def _look(self, picture: Tensor) -> _Look:
        """The look of a picture of one object; its frame has the world's size."""
        height, width = picture.shape[1:]
        [row] = self._probabilities([described(picture, FRAME_SIZE)])
        return _Look(Box(0.0, 0.0, width, height), *row)

    def _probabilities(
        self, crops: list[Tensor]
    ) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
        things, shapes = self._head(torch.stack(crops))  # (N, 9), (N, 3)
        rows = zip(things.softmax(1).tolist(), shapes.softmax(1).tolist(), strict=True)
        return [(tuple(thing), tuple(shape)) for thing, shape in rows]


def _world_words(text: str) -> list[str]:
    """The words of a text that the head knows, in the singular."""
    words = re.findall(r"[a-z]+", text.lower())[:_MAX_WORDS]
    known = (*COLORS, *SHAPES, *_BODY_WORDS, "wall", "screen")
    return [one for one in (word.removesuffix("s") for word in words) if one in known]


def _probability(look: _Look, word: str) -> float:
    """Probability that a look is of a word of the world."""
    is_body = sum(look.things[: len(COLORS)])
    if word in SHAPES:
        return is_body * look.shapes[SHAPES.index(word)]
    return is_body if word in _BODY_WORDS else look.things[THINGS.index(word)]


def _evidence(look: _Look, word: str) -> float:
    return math.log(2 * max(_probability(look, word), 1e-6))  # no log of 0


def _missing(model: str) -> NoReturn:
    raise RuntimeError(f"programs of the microworld have no model of {model}")
