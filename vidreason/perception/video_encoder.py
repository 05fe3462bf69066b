"""What perception needs of a video encoder, its configuration, and how one is built (3.1.1).

Shapes: B batch, N clips, F frames, h x w the patch grid, D width, S image side in pixels.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vidreason.perception.weights import load_weights
from vidreason.video.transforms import FrameTransform


@dataclass(kw_only=True)
class VideoEncoderConfig:
    """Architecture, sizes and weights of the video encoder. The defaults are ViCLIP-B/16."""

    name: Literal["viclip"] = "viclip"
    """The architecture. ``viclip`` is the released B/16 model of the InternVideo family that has
    one [CLS] token a clip and attends over space and time jointly, as the paper describes."""
    weights: str = ""
    """Path of a safetensors file with the keys ``vision_encoder.*``, such as ``model.safetensors``
    of the Hugging Face repository OpenGVLab/ViCLIP-B-16-hf. The text tower in it is dropped."""
    allow_random_weights: bool = False
    """Build with weights drawn from ``seed`` when ``weights`` is empty: for tests and for
    pre-training."""
    seed: int = 0
    """Seed of the random weights."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number type of the weights and of the forward pass. Tokens come out as float32 in either
    case."""
    image_size: int = 224
    """Side S in pixels of the square network input."""
    patch_size: int = 16
    """Side of a patch in pixels; divides ``image_size``."""
    width: int = 768
    """Width D of the tokens."""
    num_layers: int = 12
    """Transformer blocks."""
    num_heads: int = 12
    """Attention heads; divides ``width``."""
    num_frames: int = 8
    """Frames F in a clip. The temporal embedding fixes it."""
    output_dim: int = 512
    """Width of the contrastive projection. Perception does not use it; checkpoints contain it."""

    def __post_init__(self) -> None:
        for field in (
            "image_size",
            "patch_size",
            "width",
            "num_layers",
            "num_heads",
            "num_frames",
            "output_dim",
        ):
            if getattr(self, field) < 1:
                raise ValueError(
                    f"video_encoder.{field}: expected at least 1, found {getattr(self, field)}"
                )
        if self.image_size % self.patch_size:
            raise ValueError(
                f"video_encoder.image_size: {self.image_size} is not a multiple of patch_size "
                f"{self.patch_size}; choose sizes of which one divides the other"
            )
        if self.width % self.num_heads:
            raise ValueError(
                f"video_encoder.width: {self.width} is not a multiple of num_heads "
                f"{self.num_heads}; choose a number of heads that divides the width"
            )


class EncodedClips(NamedTuple):
    """The last layer's tokens of ``N`` clips of ``B`` videos, after the final layer norm."""

    clip_tokens: Tensor
    """``(B, N, D)``: the [CLS] token of each clip."""
    patch_tokens: Tensor
    """``(B, N, F / tubelet_size, h, w, D)``: the patch tokens of each frame, or of each
    ``tubelet_size`` frames that share theirs, row by row from the top left."""


class VideoEncoder(Protocol):
    """A frozen video backbone. Clips are independent of one another."""

    width: int
    image_size: int
    patch_size: int
    num_frames: int
    tubelet_size: int
    """Frames that share one patch token; the patches of frame f are those of number ``f //
    tubelet_size``."""
    transform: FrameTransform
    """How a decoded frame becomes network input; masks follow it to the patch grid."""

    def __call__(self, frames: Tensor) -> EncodedClips:
        """Encode ``(B, N, F, 3, S, S)`` normalised frames."""
        ...


def build_video_encoder(
    config: VideoEncoderConfig, device: torch.device | str = "cpu"
) -> nn.Module:
    """Build the encoder in eval mode with frozen weights; the result is a :class:`VideoEncoder`.

    Args:
        config: Architecture and weights.
        device: Where to build it. On ``meta`` no weights are needed nor read.

    Raises:
        ValueError: ``weights`` is empty without ``allow_random_weights``, or does not fit the
            sizes; the message names the first keys that do not.
    """
    from vidreason.perception.internvideo import ViCLIPEncoder

    device = torch.device(device)
    encoders = {"viclip": (ViCLIPEncoder, ("text_encoder.", "temp"))}
    encoder_class, dropped_prefixes = encoders[config.name]
    encoder: nn.Module
    if device.type == "meta" or config.weights:
        with torch.device("meta"):
            encoder = encoder_class(config)
        if device.type != "meta":
            load_weights(encoder, config.weights, device=device, dropped_prefixes=dropped_prefixes)
    elif config.allow_random_weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            encoder = encoder_class(config).to(device)
    else:
        raise ValueError(
            "video_encoder.weights: empty; give the path of a safetensors file, or set "
            "allow_random_weights=true if features without meaning are wanted"
        )
    return encoder.to(getattr(torch, config.dtype)).requires_grad_(False).eval()
