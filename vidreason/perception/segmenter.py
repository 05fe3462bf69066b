"""Object masks on key frames (section 3.1.2): the protocol of a segmenter and its configuration.

A promptable model is asked about a grid of points. The Segment Anything Model is in
:mod:`~vidreason.perception.sam`, models of transformers are in
:mod:`~vidreason.perception.transformers_segmenters`, and what makes masks of their answers is in
:mod:`~vidreason.perception.mask_generation`.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from torch import Tensor

from vidreason.ranges import check_ranges

SegmenterName = Literal[
    "sam-vit-b", "sam-vit-l", "sam-vit-h", "custom", "sam", "sam-hq", "sam2", "sam3-tracker"
]
_LARGEST_SIZES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("encoder_layers", "decoder_layers"), (1, 512)),
    **dict.fromkeys(("encoder_width", "prompt_dim", "decoder_mlp_dim"), (1, 2**16)),
    **dict.fromkeys(("image_size", "max_frame_side"), (1, 2**14)),
    **dict.fromkeys(("patch_size", "encoder_heads", "decoder_heads"), (1, 2**10)),
    **dict.fromkeys(("points_per_side", "frames_per_batch"), (1, 2**10)),
    **dict.fromkeys(("points_per_batch",), (1, 2**20)),
    **dict.fromkeys(("window_size",), (0, 2**10)),
}


@dataclass(kw_only=True)
class SegmenterConfig:
    """Model, weights and mask filters of the segmenter.

    The filters' defaults are segment_anything's, which it set for ViT-H.
    """

    name: SegmenterName = "sam-vit-h"
    """A size of SAM that Meta released; ``custom``, SAM with the sizes of the fields from
    ``image_size`` to ``decoder_mlp_dim``, which the others do not read; or a class of transformers:
    ``sam`` (SamModel), ``sam-hq``, ``sam2`` or ``sam3-tracker``."""
    weights: str = ""
    """Path of the official ``sam_vit_*.pth`` (only its tensors are unpickled) or of a safetensors
    file of those keys; for a class of transformers, a folder in the Hugging Face layout or a
    repository of the Hub."""
    allow_random_weights: bool = False
    """Build with weights drawn from ``seed`` when ``weights`` is empty: for tests and for
    pre-training. Classes of transformers need ``weights``, which also say their sizes."""
    seed: int = 0
    """Seed of the random weights."""
    points_per_side: int = 32
    """The prompts are a grid of ``points_per_side`` x ``points_per_side`` points over the frame."""
    frames_per_batch: int = 1
    """Key frames that the image encoder sees at once. A large ViT is busy with one, for which ViT-H
    takes 1 GB of attention bias; small models gain from more."""
    points_per_batch: int = 64
    """Points decoded at once, over all key frames of a batch. Each has image tokens of its own: in
    the released SAMs 4 MB, several times over."""
    pred_iou_threshold: float = 0.88
    """Masks whose quality the model itself predicts at or below this are dropped."""
    stability_threshold: float = 0.95
    """Masks whose stability (IoU of the mask at a higher and a lower cut-off) is below this are
    dropped."""
    stability_offset: float = 1.0
    """How far those two cut-offs lie from the mask threshold, in logits."""
    box_nms_threshold: float = 0.7
    """Of two masks whose boxes overlap by more than this IoU, only the better one is kept."""
    max_frame_side: int = 1024
    """Frames whose longer side has more pixels than this are segmented, and their masks kept, at
    this size. The network sees ``image_size`` pixels in any case; this bounds memory and time."""
    image_size: int = 1024
    """Side in pixels of the square network input; the frame's longer side is resized to it."""
    patch_size: int = 16
    """Side of a patch in pixels; divides ``image_size``."""
    encoder_width: int = 768
    """Width of the image encoder."""
    encoder_layers: int = 12
    """Blocks of the image encoder."""
    encoder_heads: int = 12
    """Attention heads of the image encoder; divides ``encoder_width``."""
    window_size: int = 14
    """Side in patches of the windows that most blocks attend in; 0 makes every block global."""
    global_attention_layers: list[int] = field(default_factory=lambda: [2, 5, 8, 11])
    """Blocks that attend over the whole image."""
    prompt_dim: int = 256
    """Width of prompts, mask tokens and image embedding; a multiple of 8."""
    decoder_layers: int = 2
    """Two-way blocks of the mask decoder."""
    decoder_heads: int = 8
    """Attention heads of the mask decoder; divides half of ``prompt_dim``."""
    decoder_mlp_dim: int = 2048
    """Hidden width of the mask decoder's MLPs."""

    def __post_init__(self) -> None:
        if self.name not in get_args(SegmenterName):
            raise ValueError(
                f"segmenter.name: {self.name!r} is not one of "
                f"{', '.join(get_args(SegmenterName))}; others do not answer points on an image "
                "(text prompts, fixed classes, video trackers) or need a package that is not "
                "installed with this one (EdgeTAM: timm)"
            )
        batches = ("frames_per_batch", "points_per_side", "points_per_batch", "max_frame_side")
        for name in (*batches, "image_size", "patch_size", "encoder_heads", "decoder_heads"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"segmenter.{name}: expected at least 1, found {getattr(self, name)}"
                )
        check_ranges("segmenter", self, **_LARGEST_SIZES)
        multiples = (
            ("image_size", self.image_size, "patch_size", self.patch_size),
            ("encoder_width", self.encoder_width, "encoder_heads", self.encoder_heads),
            ("prompt_dim", self.prompt_dim, "8", 8),
            ("prompt_dim", self.prompt_dim, "twice decoder_heads", 2 * self.decoder_heads),
        )
        for name, value, divisor_name, divisor in multiples:
            if value % divisor:
                raise ValueError(
                    f"segmenter.{name}: {value} is not a multiple of {divisor_name} ({divisor}); "
                    "change one of them"
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectMask:
    """One object on one frame, in pixels of the frame as it was segmented.

    Those are the frame's own pixels, unless its longer side has more than ``max_frame_side``.
    """

    mask: Tensor
    """``(h, w)`` bool, on the segmenter's device."""
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 in pixels; the mask lies within ``[y0:y1, x0:x1]``."""
    area: int
    """Number of pixels of the mask."""
    predicted_iou: float
    """The quality that the segmenter predicts for its mask."""
    stability: float
    """Overlap of the mask with itself under a higher and a lower cut-off, in [0, 1]."""


class Segmenter(Protocol):
    """Finds objects on frames, without being told what to look for."""

    def segment(self, frames: Tensor) -> list[list[ObjectMask]]:
        """Masks on uint8 RGB frames ``(n, 3, H, W)`` on CPU, a list for each frame.

        Masks of one frame have one size; they may overlap, and there may be none.
        """
        ...
