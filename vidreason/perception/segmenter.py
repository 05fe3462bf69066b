"""Object masks on key frames: the Segment Anything Model with a grid of points (section 3.1.2).

The models, the prompt grid and the mask filters are the ``segment_anything`` package's own; here
they are configured, built at any size, and their result is given a type.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidreason.perception.weights import load_weights


@dataclass(kw_only=True)
class SegmenterConfig:
    """Model, weights and mask filters of the segmenter.

    The filters' defaults are segment_anything's, which it set for ViT-H.
    """

    model: Literal["vit_b", "vit_l", "vit_h", "custom"] = "vit_h"
    """A released size, or ``custom`` for the sizes of the fields from ``image_size`` to
    ``decoder_mlp_dim``, which the released sizes do not read."""
    weights: str = ""
    """Path of the official ``sam_vit_*.pth`` (only its tensors are unpickled) or of a safetensors
    file of those keys."""
    allow_random_weights: bool = False
    """Build with weights drawn from ``seed`` when ``weights`` is empty: for tests and for
    pre-training."""
    seed: int = 0
    """Seed of the random weights."""
    points_per_side: int = 32
    """The prompts are a grid of ``points_per_side`` x ``points_per_side`` points over the frame."""
    points_per_batch: int = 64
    """Points decoded at once."""
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
    """Frames whose longer side has more pixels than this are segmented at this size, and the masks
    brought back to the frame's own pixels. The network sees ``image_size`` pixels in any case; this
    bounds memory and time."""
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
        at_least_one = ("points_per_side", "points_per_batch", "max_frame_side", "image_size")
        for name in (*at_least_one, "patch_size", "encoder_heads", "decoder_heads"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"segmenter.{name}: expected at least 1, found {getattr(self, name)}"
                )
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
    """One object on one frame, in the frame's own pixels."""

    mask: Tensor
    """``(H, W)`` bool, on CPU."""
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 in pixels; the mask lies within ``[y0:y1, x0:x1]``."""
    area: int
    """Number of pixels of the mask."""
    predicted_iou: float
    """The quality that the segmenter predicts for its mask."""
    stability: float
    """Overlap of the mask with itself under a higher and a lower cut-off, in [0, 1]."""


class Segmenter(Protocol):
    """Finds objects on a frame, without being told what to look for."""

    def segment(self, frame: Tensor) -> list[ObjectMask]:
        """Masks on a uint8 RGB frame ``(3, H, W)``; they may overlap, and there may be none."""
        ...


class SamSegmenter(nn.Module):
    """Segment Anything with grid prompts, as a :class:`Segmenter`."""

    def __init__(self, config: SegmenterConfig, device: torch.device | str = "cpu") -> None:
        super().__init__()
        from segment_anything import SamAutomaticMaskGenerator

        self.max_frame_side = config.max_frame_side
        self.sam = build_sam(config, device)
        self.generator = SamAutomaticMaskGenerator(
            self.sam,
            points_per_side=config.points_per_side,
            points_per_batch=config.points_per_batch,
            pred_iou_thresh=config.pred_iou_threshold,
            stability_score_thresh=config.stability_threshold,
            stability_score_offset=config.stability_offset,
            box_nms_thresh=config.box_nms_threshold,
        )

    def segment(self, frame: Tensor) -> list[ObjectMask]:
        """Masks on a uint8 RGB frame ``(3, H, W)``, in the generator's order; none is empty."""
        height, width = frame.shape[1:]
        scale = min(self.max_frame_side / max(height, width), 1)
        seen = _resize_frame(frame, max(round(height * scale), 1), max(round(width * scale), 1))
        records = self.generator.generate(seen.permute(1, 2, 0).contiguous().cpu().numpy())
        objects = []
        for record in records:
            mask = _resize_mask(torch.from_numpy(record["segmentation"].copy()), height, width)
            area = int(mask.sum())
            if area:
                objects.append(
                    ObjectMask(
                        mask=mask,
                        box=_mask_box(mask),
                        area=area,
                        predicted_iou=record["predicted_iou"],
                        stability=record["stability_score"],
                    )
                )
        return objects


def build_sam(config: SegmenterConfig, device: torch.device | str = "cpu") -> Any:  # noqa: ANN401 - the package is untyped
    """Build a ``segment_anything.modeling.Sam`` in eval mode with frozen weights.

    Args:
        config: Size and weights.
        device: Where to build it. On ``meta`` no weights are needed nor read.

    Raises:
        ValueError: ``weights`` is empty without ``allow_random_weights``, or does not fit the
            sizes.
    """
    device = torch.device(device)
    build = _build_custom_sam if config.model == "custom" else _build_released_sam
    if device.type == "meta" or config.weights:
        with torch.device("meta"):
            sam = build(config)
        if device.type != "meta":
            load_weights(sam, config.weights, device=device)
            sam = sam.to(device)  # the pixel mean and deviation, which are in no file
    elif config.allow_random_weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            sam = build(config).to(device)
    else:
        raise ValueError(
            "segmenter.weights: empty; give the path of a sam_vit_*.pth or safetensors file, or "
            "set allow_random_weights=true if masks without meaning are wanted"
        )
    return sam.requires_grad_(False).eval()


def _build_released_sam(config: SegmenterConfig) -> Any:  # noqa: ANN401 - the package is untyped
    from segment_anything import sam_model_registry

    return sam_model_registry[config.model]()


def _build_custom_sam(config: SegmenterConfig) -> Any:  # noqa: ANN401 - the package is untyped
    """Sam with the classes and fixed choices of the package's builder, at the configured sizes."""
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    grid_size = config.image_size // config.patch_size
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=config.image_size,
            patch_size=config.patch_size,
            embed_dim=config.encoder_width,
            depth=config.encoder_layers,
            num_heads=config.encoder_heads,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            out_chans=config.prompt_dim,
            use_rel_pos=True,
            window_size=config.window_size,
            global_attn_indexes=tuple(config.global_attention_layers),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=config.prompt_dim,
            image_embedding_size=(grid_size, grid_size),
            input_image_size=(config.image_size, config.image_size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=config.prompt_dim,
            transformer=TwoWayTransformer(
                depth=config.decoder_layers,
                embedding_dim=config.prompt_dim,
                num_heads=config.decoder_heads,
                mlp_dim=config.decoder_mlp_dim,
            ),
        ),
    )


def _resize_frame(frame: Tensor, height: int, width: int) -> Tensor:
    if frame.shape[1:] == (height, width):
        return frame
    resized = functional.interpolate(frame[None], (height, width), mode="bilinear", antialias=True)
    return resized[0]


def _resize_mask(mask: Tensor, height: int, width: int) -> Tensor:
    if mask.shape == (height, width):
        return mask
    resized = functional.interpolate(mask[None, None].byte(), (height, width), mode="nearest-exact")
    return resized[0, 0].bool()


def _mask_box(mask: Tensor) -> tuple[int, int, int, int]:
    """The smallest x0, y0, x1, y1 that hold a non-empty mask; the package's boxes are one short."""
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
