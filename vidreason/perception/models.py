"""Builds the frozen models of perception: video encoders and segmenters, by their configuration.

Modules on transformers' classes are imported where they are chosen: that takes seconds.
"""

import torch
from torch import nn

from vidreason.perception.added_models import (
    AddedSegmenter,
    added_encoder_sizes,
    build_added_encoder,
    build_added_segmenter,
)
from vidreason.perception.config import (
    SAM_SIZES,
    SEGMENTERS,
    SIZED_BY_FOLDER,
    VIDEO_ENCODERS,
    SegmenterConfig,
    VideoEncoderConfig,
    VideoEncoderSizes,
    named_sizes,
)
from vidreason.perception.internvideo import ViCLIPEncoder
from vidreason.perception.internvideo_mm import InternVideoMMEncoder
from vidreason.perception.mask_generation import GridSegmenter
from vidreason.perception.patch_grid import PatchGridSegmenter
from vidreason.perception.sam import PromptedSam, build_sam
from vidreason.perception.video_encoder import VideoEncoder
from vidreason.perception.weights import frozen_model


def video_encoder_sizes(config: VideoEncoderConfig) -> VideoEncoderSizes:
    """Sizes of the configured encoder; for ``vjepa2`` and ``image``, of the one in the folder.

    Raises:
        ValueError: That folder is missing, or is not that of such a model; or an encoder from
            outside of this project cannot be imported.
    """
    if config.name in SIZED_BY_FOLDER:
        from vidreason.perception.transformers_encoders import pretrained_sizes

        return pretrained_sizes(config)
    if config.name not in VIDEO_ENCODERS:
        return added_encoder_sizes(config)
    return named_sizes(config)


def build_video_encoder(
    config: VideoEncoderConfig, device: torch.device | str = "cpu"
) -> VideoEncoder:
    """Build the encoder in eval mode with frozen weights.

    Args:
        config: Architecture and weights.
        device: Where to build it. On ``meta`` no weights are needed nor read; ``vjepa2`` and
            ``image`` still read the configuration in their folder.

    Raises:
        ValueError: ``weights`` is empty without ``allow_random_weights``, or does not fit the
            sizes; the message names the first keys that do not. Or an encoder from outside of this
            project cannot be imported.
    """
    device = torch.device(device)
    dtype: torch.dtype = getattr(torch, config.dtype)
    if config.name in SIZED_BY_FOLDER:
        from vidreason.perception.transformers_encoders import build_pretrained_encoder

        return build_pretrained_encoder(config, device, dtype).requires_grad_(False).eval()
    if config.name not in VIDEO_ENCODERS:
        return build_added_encoder(config, device, dtype)
    encoder: VideoEncoder = frozen_model(
        "perceiver.video_encoder",
        config,
        device,
        build=lambda: _encoder(config).to(dtype),
        load=lambda encoder: encoder.load(config.weights, device, config.ignored_keys),
    )
    return encoder


def _encoder(config: VideoEncoderConfig) -> VideoEncoder:
    """An encoder whose weights are not loaded yet; its ``load`` does."""
    sizes = named_sizes(config)
    if config.name.startswith("videomae"):
        from vidreason.perception.videomae import VideoMAEEncoder

        return VideoMAEEncoder(sizes)
    if config.name.startswith("internvideo-mm"):
        return InternVideoMMEncoder(sizes)
    return ViCLIPEncoder(sizes)


def build_segmenter(
    config: SegmenterConfig, device: torch.device | str = "cpu"
) -> GridSegmenter | PatchGridSegmenter | AddedSegmenter:
    """Build the configured segmenter with frozen weights.

    Args:
        config: Model, weights and filters.
        device: Where to build the model. On ``meta`` no weights are needed nor read, but for
            classes of transformers, whose ``weights`` say their sizes.

    Raises:
        ValueError: Weights are missing or do not fit; the message names the field or the first
            keys. Or a segmenter from outside of this project cannot be imported.
    """
    if config.name not in SEGMENTERS:
        return build_added_segmenter(config, torch.device(device))
    if config.name == "patches":
        return PatchGridSegmenter(config.points_per_side)
    if config.name in SAM_SIZES:
        return GridSegmenter(PromptedSam(build_sam(config, device)), config)
    from vidreason.perception.transformers_segmenters import build_transformers_segmenter

    return GridSegmenter(build_transformers_segmenter(config, device), config)


def segmenter_network(
    segmenter: GridSegmenter | PatchGridSegmenter | AddedSegmenter,
) -> nn.Module:
    """Return the network of a segmenter, an empty one for patches."""
    if isinstance(segmenter, PatchGridSegmenter):
        return nn.Module()
    if isinstance(segmenter, GridSegmenter):
        assert isinstance(segmenter.model, nn.Module)
        return segmenter.model
    return segmenter
