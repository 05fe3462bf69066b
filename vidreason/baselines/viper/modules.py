"""The models that a program's functions call, whatever they are."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor


class ModuleError(ValueError):
    """A model that a program needs and that cannot be loaded; it ends the run."""


class Box(NamedTuple):
    """An object in a picture, in pixels from the picture's top left corner."""

    left: float
    top: float
    right: float
    bottom: float


class Modules(Protocol):
    """Five models that look at pictures, ``(3, H, W)`` uint8 RGB, and texts.

    One that is not needed need not be there: each loads its weights when it is first called.

    Raises:
        ModuleError: Its weights are missing or damaged.
    """

    def detect(self, picture: Tensor, name: str) -> list[Box]:
        """Find the objects that ``name`` names, the surest first."""
        ...

    def match(self, pictures: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        """Score how well texts fit pictures: ``(pictures, texts)`` float32, logits."""
        ...

    def ask(self, picture: Tensor, question: str) -> str:
        """Answer a question about a picture in a few words."""
        ...

    def depth(self, picture: Tensor) -> Tensor:
        """Estimate how far away each pixel is: ``(H, W)`` float32, larger is farther."""
        ...

    def complete(self, prompt: str) -> str:
        """Answer a text by a text."""
        ...
