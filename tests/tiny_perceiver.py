"""Configurations of the smallest encoder and segmenter of real classes, with random weights."""

from typing import Any

from vidreason.perception.config import SegmenterConfig, VideoEncoderConfig


def tiny_encoder(**changes: Any) -> VideoEncoderConfig:
    """A ViCLIP tower of one block that sees 16 pixels and 2 frames."""
    sizes = {"image_size": 16, "patch_size": 8, "width": 16, "num_layers": 1, "num_heads": 2}
    fields: dict[str, Any] = sizes | {"num_frames": 2, "output_dim": 8} | changes
    return VideoEncoderConfig(name="viclip", allow_random_weights=True, **fields)


def tiny_segmenter(**changes: Any) -> SegmenterConfig:
    """A SAM of one block that sees 32 pixels, and drops no mask for its quality."""
    fields: dict[str, Any] = {
        **{"image_size": 32, "patch_size": 8, "encoder_width": 16, "encoder_layers": 1},
        **{"encoder_heads": 2, "window_size": 0, "prompt_dim": 16, "decoder_heads": 2},
        **{"decoder_mlp_dim": 16, "pred_iou_threshold": -100.0, "stability_threshold": 0.0},
        **changes,
    }
    return SegmenterConfig(name="custom", allow_random_weights=True, **fields)
