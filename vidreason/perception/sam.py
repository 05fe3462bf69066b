"""The Segment Anything Model (section 3.1.2) of ``segment_anything``, at any size, for points.

The classes and the weights' layout are the package's own.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidreason.perception.config import SegmenterConfig
from vidreason.perception.mask_generation import PointMasks
from vidreason.perception.sam_forward import decode_points, encode_image, upscale_masks
from vidreason.perception.weights import frozen_model, load_weights


class PromptedSam(nn.Module):
    """A Sam as a :class:`~vidreason.perception.mask_generation.PromptableModel`."""

    keeps_aspect = True

    def __init__(self, sam: Any) -> None:  # noqa: ANN401 - the package is untyped
        super().__init__()
        self.sam = sam
        self.image_size: int = sam.image_encoder.img_size

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """One level: ``(n, C, h, w)``."""
        height, width = pixels.shape[-2:]
        pixels = (pixels.to(self.sam.device) - self.sam.pixel_mean) / self.sam.pixel_std
        pixels = functional.pad(pixels, (0, self.image_size - width, 0, self.image_size - height))
        return (encode_image(self.sam.image_encoder, pixels),)

    def decode(self, levels: tuple[Tensor, ...], points: Tensor, min_quality: float) -> PointMasks:
        """Masks of the three granularities that a point may mean; upscaled are those it returns."""
        points = points.to(self.sam.device)
        tokens, image, qualities = decode_points(self.sam, levels[0], points)
        several = qualities[:, 1:]  # the first answers several prompts with one mask
        prompts, masks = (several > min_quality).nonzero(as_tuple=True)
        return PointMasks(
            frames=prompts // len(points),
            qualities=several[prompts, masks],
            logits=upscale_masks(self.sam.mask_decoder, tokens, image, prompts, 1 + masks),
        )


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

    def load(sam: Any) -> None:  # noqa: ANN401
        load_weights(sam, config.weights, device=device)
        sam.to(device)  # the pixel mean and deviation, which are in no file

    build = _build_custom_sam if config.name == "custom" else _build_released_sam
    return frozen_model("perceiver.segmenter", config, device, lambda: build(config), load)


def _build_released_sam(config: SegmenterConfig) -> Any:  # noqa: ANN401 - the package is untyped
    from segment_anything import sam_model_registry

    return sam_model_registry[config.name.removeprefix("sam-").replace("-", "_")]()


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
