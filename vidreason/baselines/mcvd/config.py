"""Sizes, noise and sampling of a masked conditional video diffusion model (MCVD)."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from vidreason.ranges import ABOVE_0, BELOW_1, check_ranges

Sampler = Literal["ddpm", "ddim"]

_SECTION = "mcvd"


@dataclass(kw_only=True)
class DiffusionConfig:
    """One model; the defaults are those of the authors' ``configs/ucf101.yml``.

    Official keys of voletiv/mcvd-pytorch@451da2e are given where they differ.
    """

    image_size: int = 64
    """Side of its square frames, in pixels."""
    channels: int = 3
    """3 for RGB, 1 for grey."""
    num_frames: int = 4
    """Frames that are predicted at a time."""
    num_past_frames: int = 4
    """Frames before them that it is shown (``num_frames_cond``)."""
    num_future_frames: int = 0
    """Frames after them that it is shown; masked where they are not known."""
    width: int = 192
    """Channels at full resolution (``ngf``)."""
    multipliers: list[int] = field(default_factory=lambda: [1, 2, 3, 4])
    """Multiples of the width, for each resolution; each has half the side of the one before
    (``ch_mult``)."""
    num_blocks: int = 2
    """Residual blocks of each resolution on the way down; one more on the way up."""
    attention_sides: list[int] = field(default_factory=lambda: [8, 16, 32])
    """Sides of the feature maps that get attention (``attn_resolutions``); the innermost always
    does."""
    head_channels: int | None = 96
    """Channels of an attention head (``n_head_channels``); None for a single head."""
    dropout: float = 0.1
    spatial_norm: bool = False
    """Condition by space-time-adaptive norms, SPATIN (``spade``), instead of by concatenation."""
    spatial_norm_width: int = 128
    """Hidden channels of such a norm (``spade_dim``)."""
    num_steps: int = 1000
    """Noise levels that it was trained on (``num_classes``)."""
    first_beta: float = 0.02
    """Variance of the noise that the noisiest level adds (``sigma_begin``)."""
    last_beta: float = 1e-4
    """And the least noisy one; those between lie on a line (``sigma_end``)."""
    sampler: Sampler = "ddpm"
    sampling_steps: int = 100
    """Noise levels that sampling visits, evenly spread (``subsample``)."""
    num_predicted: int = 28
    """Frames to predict from a video, block after block (``num_frames_pred``)."""
    clip: bool = True
    """Clip the estimate of the frames to -1..1 in each step (``clip_before``)."""
    denoise: bool = True
    """Take off the noise that is left after the last step."""
    mask_past: float = 0.0
    """Probability that a training sample has its past frames masked (``prob_mask_cond``)."""
    mask_future: float = 0.0
    """And its future frames, drawn by itself (``prob_mask_future``)."""
    frame_rate: float | None = None
    """Frames per second that it was trained on; None for frames as they follow in a video."""

    def __post_init__(self) -> None:
        check_ranges(
            _SECTION,
            self,
            **dict.fromkeys(("num_frames", "width", "num_blocks", "spatial_norm_width"), (1, inf)),
            **dict.fromkeys(("head_channels", "sampling_steps", "num_predicted"), (1, inf)),
            **dict.fromkeys(("num_past_frames", "num_future_frames"), (0, inf)),
            **dict.fromkeys(("mask_past", "mask_future"), (0, 1)),
            **dict.fromkeys(("first_beta", "last_beta"), (ABOVE_0, BELOW_1)),
            image_size=(2, 4096),
            dropout=(0, BELOW_1),
            num_steps=(2, inf),
            frame_rate=(ABOVE_0, inf),
        )
        problems = [*self._size_problems(), *self._condition_problems()]
        if problems:
            raise ValueError("; ".join(f"{_SECTION}.{problem}" for problem in problems))

    @property
    def num_condition_frames(self) -> int:
        """Frames that the model is shown besides those it denoises."""
        return self.num_past_frames + self.num_future_frames

    @property
    def window(self) -> int:
        """Frames of a training sample: past, predicted, future."""
        return self.num_condition_frames + self.num_frames

    def _has_attention(self, depth: int) -> bool:
        """Tell whether the feature maps of a resolution get attention, 0 the full one."""
        innermost = depth == len(self.multipliers) - 1
        return innermost or self.image_size // 2**depth in self.attention_sides

    def _size_problems(self) -> list[str]:
        problems = []
        if self.channels not in (1, 3):
            problems.append(f"channels is {self.channels}; it must be 3, or 1 for grey frames")
        if not self.multipliers or min(self.multipliers) < 1:
            problems.append(
                f"multipliers is {self.multipliers}; it must hold numbers of at least 1"
            )
            return problems
        # The side is halved once between two multipliers.
        divisor = 2 ** (len(self.multipliers) - 1)
        if self.image_size % divisor:
            problems.append(
                f"image_size is {self.image_size}; with {len(self.multipliers)} multipliers it "
                f"must be divisible by {divisor}"
            )
        if self.width < 4:
            problems.append(f"width is {self.width}; norms need at least 4 channels")
        if self.sampling_steps > self.num_steps:
            problems.append(
                f"sampling_steps is {self.sampling_steps}; it must be at most num_steps = "
                f"{self.num_steps}"
            )
        for depth, multiplier in enumerate(self.multipliers):
            channels = multiplier * self.width
            head = self.head_channels or channels
            # A feature map with fewer channels than a head gets a single one of its size.
            if self._has_attention(depth) and channels > head and channels % head:
                problems.append(
                    f"head_channels is {head}; it must divide the {channels} channels of a "
                    "resolution that has attention"
                )
        return problems

    def _condition_problems(self) -> list[str]:
        if self.num_condition_frames == 0:
            return ["num_past_frames is 0; there must be frames to predict from"]
        if self.mask_future and not self.num_future_frames:
            return [f"mask_future is {self.mask_future}, but num_future_frames is 0"]
        return []


def microworld_config() -> DiffusionConfig:
    """Return the sizes for the microworld's videos: 2.74 M parameters.

    It is shown four frames, half a second apart, and predicts those of the next two seconds. The
    last step of ``ddpm`` leaves clean frames, so there is nothing left to denoise.
    """
    return DiffusionConfig(
        width=24,
        num_blocks=1,
        attention_sides=[16],
        head_channels=24,
        dropout=0.0,
        num_predicted=4,
        denoise=False,
        mask_past=0.1,
        frame_rate=2.0,
    )
