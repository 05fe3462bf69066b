"""Configuration of the verifier."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from vidreason.baselines.config import BaselineConfig
from vidreason.ranges import ABOVE_0, check_ranges


@dataclass(kw_only=True)
class VerifierConfig:
    """The model that looks again, and how sure it has to be."""

    kind: Literal["reasoner", "transformers", "endpoint"] = "reasoner"
    """``reasoner``: a folder of this project, by the likelihood of each claim; ``transformers`` and
    ``endpoint``: a video language model that is asked whether the video shows it, as the baselines
    of these names are."""
    model: str = ""
    """Folder of a reasoner or its repository on the Hub, ``shipped`` for the one in the package; or
    folder, repository or id of the video language model; empty for no verifier."""
    margin_seconds: float = 0.5
    """Time before and after a claim's span that belongs to it, so that a moment is a span, too."""
    context_seconds: float = 10.0
    """A reasoner looks at a longer part of the video too: this much before and after the span."""
    threshold: float | None = None
    """Probability from which a claim counts as supported; None for the one that was chosen with
    the calibration, or 0.5 without one."""
    calibration: str = ""
    """File that ``python -m experiments.verify`` has fitted; empty for ``verifier.json`` in the
    reasoner's folder. A video language model goes without one unless it is named."""
    system: BaselineConfig = field(default_factory=BaselineConfig)
    """Frames, pixels, dtype, address and budget of a video language model; its ``kind`` and
    ``weights`` are those above."""

    def __post_init__(self) -> None:
        """Check ranges."""
        check_ranges(
            "verifier",
            self,
            margin_seconds=(ABOVE_0, inf),
            context_seconds=(0, inf),
            threshold=(0, 1),
        )
