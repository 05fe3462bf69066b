"""Settings of the V-JEPA 2 anticipation probe. Nothing here imports torch.

The defaults are those of facebookresearch/vjepa2@c2963a4: configs/inference/vitl/ek100.yaml for the
probe, configs/train/vitl16/pretrain-256px-16f.yaml for pre-training.
"""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from vidreason.ranges import ABOVE_0, check_ranges

_SIZE = (1, 2**16)
_LEAST_HEAD_WIDTH = 6
"""Two rotated numbers for each of time, row and column."""


@dataclass(kw_only=True)
class LookAhead:
    """The frames that are observed, and the time whose latents are predicted."""

    num_frames: int = 32
    """Observed frames F, the last ones before the end; a multiple of the model's tubelet size."""
    frames_per_second: float = 8.0
    """Rate at which they are taken; tubelets of the future have the same one."""
    anticipation_seconds: float = 1.0
    """Time from the end of what is observed to what is predicted. It is cut to whole tubelets."""
    num_future_frames: int = 2
    """Frames from then on whose latents are predicted, cut to whole tubelets, at least one."""

    def __post_init__(self) -> None:
        check_ranges(
            "look_ahead",
            self,
            num_frames=(1, 2**13),
            frames_per_second=(ABOVE_0, 1000),
            anticipation_seconds=(0, 3600),
            num_future_frames=(1, 2**13),
        )


@dataclass(kw_only=True)
class ProbeSizes:
    """Sizes of the attentive probe."""

    width: int
    """Width D of the latents."""
    num_heads: int = 16
    """Attention heads; divides ``width``."""
    num_blocks: int = 4
    """The last one is the cross-attention of the queries, those before it are self-attention."""
    norm_epsilon: float = 1e-5
    """Epsilon of the layer norms: torch's, which the official probe has; the model's own are
    1e-6."""

    def __post_init__(self) -> None:
        check_ranges(
            *("probe", self), width=_SIZE, num_heads=_SIZE, num_blocks=(1, 512), norm_epsilon=(0, 1)
        )
        if self.width % self.num_heads:
            raise ValueError(
                f"probe.width {self.width} is not a multiple of num_heads {self.num_heads}; choose "
                "heads that divide it"
            )


@dataclass(kw_only=True)
class MaskBlocks:
    """Blocks of patches that are hidden from the encoder together, and predicted."""

    num_blocks: int
    """Blocks of one size at places of their own; they may overlap."""
    spatial_scale: float
    """Share of a frame that a block covers."""
    temporal_scale: float = 1.0
    """Share of the clip that a block lasts."""
    lowest_aspect_ratio: float = 0.75
    """Height of a block over its width, at least."""
    highest_aspect_ratio: float = 1.5

    def __post_init__(self) -> None:
        check_ranges(
            "masks",
            self,
            num_blocks=(1, 1000),
            spatial_scale=(ABOVE_0, 1),
            temporal_scale=(ABOVE_0, 1),
            lowest_aspect_ratio=(ABOVE_0, inf),
            highest_aspect_ratio=(self.lowest_aspect_ratio, inf),
        )


def _official_masks() -> list[MaskBlocks]:
    return [
        MaskBlocks(num_blocks=8, spatial_scale=0.15),
        MaskBlocks(num_blocks=2, spatial_scale=0.7),
    ]


@dataclass(kw_only=True)
class PretrainingConfig:
    """The task of pre-training without labels: predict the latents of hidden blocks."""

    masks: list[MaskBlocks] = field(default_factory=_official_masks)
    """Kinds of masks; each clip gets one of each kind, and its loss is the mean over them."""
    momentum: float = 0.99925
    """Weight of the former target encoder when the encoder is averaged into it after a step; short
    runs need less."""
    loss: Literal["l1", "smooth-l1"] = "l1"
    """Distance of predicted and target latents; the official configuration has the first."""
    collapse_deviation: float = 0.05
    """Targets that vary less than this from video to video count as collapsed. Each target has a
    deviation of 1 over its features."""
    seed: int = 0
    """Seed of the masks: those of a step follow from this and the step alone."""

    def __post_init__(self) -> None:
        check_ranges("pretraining", self, momentum=(0, 1), collapse_deviation=(0, 1))
        if not self.masks:
            raise ValueError("pretraining.masks is empty; give at least one kind of mask")


@dataclass(kw_only=True)
class ModelSizes:
    """Sizes of a V-JEPA 2 to be pre-trained; the defaults are a small one."""

    image_size: int = 64
    """Side S in pixels of the square network input."""
    patch_size: int = 8
    """Side of a patch in pixels."""
    num_frames: int = 16
    """Frames F of a clip in pre-training."""
    tubelet_size: int = 2
    """Frames that share a token."""
    width: int = 144
    """Width D of the encoder."""
    num_layers: int = 6
    num_heads: int = 6
    predictor_width: int = 72
    predictor_layers: int = 3
    predictor_heads: int = 3

    def __post_init__(self) -> None:
        names = (
            *("image_size", "patch_size", "num_frames", "tubelet_size", "width", "num_layers"),
            *("num_heads", "predictor_width", "predictor_layers", "predictor_heads"),
        )
        check_ranges("model", self, **dict.fromkeys(names, _SIZE))
        for whole, part in (
            *(("image_size", "patch_size"), ("num_frames", "tubelet_size")),
            *(("width", "num_heads"), ("predictor_width", "predictor_heads")),
        ):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"model.{whole} {getattr(self, whole)} is not a multiple of {part} "
                    f"{getattr(self, part)}; choose sizes of which one divides the other"
                )
        for width, heads in (("width", "num_heads"), ("predictor_width", "predictor_heads")):
            if getattr(self, width) // getattr(self, heads) < _LEAST_HEAD_WIDTH:
                raise ValueError(
                    f"model.{heads} {getattr(self, heads)} leaves each head fewer than "
                    f"{_LEAST_HEAD_WIDTH} of model.{width} {getattr(self, width)}: no number would "
                    "be rotated by time, row and column; take fewer heads"
                )
