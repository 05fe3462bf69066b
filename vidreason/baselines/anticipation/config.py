"""Configuration of the anticipation networks. Nothing here imports torch.

Official code: yabufarha/anticipating-activities@756d5b8 (main.py has the defaults).
"""

from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Literal

from vidreason.perception.config import VideoEncoderConfig
from vidreason.ranges import ABOVE_0, check_ranges

KeptSlots = Literal["first", "last"]

_ALPHA = {"total": 6.0, "observed": 1.5}
"""Divisors of the reference length by where it comes from. The second gives lengths of the same
size as the first when a quarter of the video is observed: 6 / 4."""


@dataclass(kw_only=True)
class AnticipationConfig:
    """One of the two networks, and what its lengths are measured in.

    The official setting is ``length_reference=total, kept_slots=first``.
    """

    network: Literal["rnn", "cnn"] = "rnn"
    """``rnn`` predicts the next segment, and the ones after it by recursion; ``cnn`` a whole matrix
    of what follows at once."""
    length_reference: Literal["total", "observed"] = "observed"
    """Length that all others are divided by. ``total`` is the official one: the length of the whole
    video, which nobody knows before its end (an oracle). ``observed`` is that of what was seen."""
    alpha: float | None = None
    """Number that the reference length is divided by; None for the official 6 with ``total``, and
    for 1.5 with ``observed``."""
    kept_slots: KeptSlots = "last"
    """Segments of a longer sequence that the RNN sees: the official roll-out takes the first."""
    num_slots: int = 25
    """Segments that the RNN sees."""
    rnn_width: int = 256
    """Width of the recurrent cells."""
    rnn_layers: int = 2
    """Recurrent cells one above the other."""
    head_width: int = 128
    """Width of the fully connected layers before and behind the cells."""
    num_rows: int = 128
    """Rows of the CNN's matrices, which are equal parts of time; a multiple of 4."""
    cnn_width: int = 1024
    """Width of the CNN's fully connected layer."""
    sigma: float = 3.0
    """Standard deviation, in rows, of the Gaussian that smooths the CNN's output; 0 for none."""

    def __post_init__(self) -> None:
        counts = ("num_slots", "rnn_width", "rnn_layers", "head_width", "num_rows", "cnn_width")
        ranges: dict[str, tuple[float, float]] = dict.fromkeys(counts, (1, 2**16))
        ranges |= {"alpha": (ABOVE_0, inf), "sigma": (0, 2**10)}
        check_ranges("model", self, **ranges)
        if self.num_rows % 4:
            raise ValueError(
                f"model.num_rows is {self.num_rows}; it must be a multiple of 4, because two "
                "layers halve it"
            )

    def reference(self, observed: float, total: float | None) -> float:
        """Return the length that others are divided by, in the unit of the arguments.

        Args:
            observed: Length of what was seen.
            total: Length of the whole video; None where it is not known.

        Raises:
            ValueError: It is needed and not known.
        """
        alpha = self.alpha or _ALPHA[self.length_reference]
        if self.length_reference == "observed":
            return observed / alpha
        if total is None:
            raise ValueError(
                "model.length_reference is 'total', but the length of the whole video is not known "
                "here; train with length_reference=observed"
            )
        return total / alpha


@dataclass(kw_only=True)
class RecogniserConfig:
    """Recogniser of segments: a head on a frozen video encoder, which labels each frame."""

    video_encoder: VideoEncoderConfig
    """The frozen encoder."""
    num_frames: int = 32
    """Frames that are looked at, at the middles of equal parts of what is observed; a multiple of
    the encoder's frames in a clip."""
    width: int = 128
    """Width of the head."""
    num_queries: int = 4
    """Learnt queries that pool the patches of a frame."""

    def __post_init__(self) -> None:
        check_ranges(
            "recogniser", self, num_frames=(1, 2**12), width=(1, 2**12), num_queries=(1, 2**8)
        )
        clip = self.video_encoder.frames_per_clip
        if self.num_frames % clip:
            raise ValueError(
                f"recogniser.num_frames is {self.num_frames}, but a clip of the encoder has {clip} "
                "frames; make it a multiple"
            )


def settings(config: AnticipationConfig | RecogniserConfig) -> dict[str, Any]:
    """Return the values of a configuration as JSON holds them."""
    return asdict(config)
