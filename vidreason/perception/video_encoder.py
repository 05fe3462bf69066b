"""Video encoders (3.1.1): their attributes, and what a call of one returns.

Shapes: B batch, N clips, F frames, h x w the patch grid, D width, S image side in pixels.
"""

from typing import NamedTuple

from torch import Tensor, nn

from vidreason.perception.config import VideoEncoderSizes
from vidreason.video.transforms import FrameTransform


class EncodedClips(NamedTuple):
    """The last layer's tokens of ``N`` clips of ``B`` videos, after the final layer norm."""

    clip_tokens: Tensor
    """``(B, N, D)``: the token of each clip; its [CLS] where the encoder has one."""
    patch_tokens: Tensor
    """``(B, N, F / tubelet_size, h, w, D)``: the patch tokens of each frame, or of each
    ``tubelet_size`` frames that share theirs, row by row from the top left."""


class VideoEncoder(nn.Module):
    """A frozen video backbone; clips are independent of one another.

    A call encodes ``(B, N, F, 3, S, S)`` normalised frames to :class:`EncodedClips`.

    Args:
        sizes: Width, frames, patches.
        transform: From a decoded frame to network input; masks follow it to the patch grid.
    """

    def __init__(self, sizes: VideoEncoderSizes, transform: FrameTransform) -> None:
        super().__init__()
        self.width = sizes.width
        self.image_size = sizes.image_size
        self.num_frames = sizes.num_frames
        self.patch_size = sizes.patch_size
        # Frames that share one patch token: those of frame f are number f // tubelet_size.
        self.tubelet_size = sizes.tubelet_size
        self.transform = transform


def arrange_clips(frames: Tensor, clip_tokens: Tensor, patch_tokens: Tensor) -> EncodedClips:
    """Put the tokens of ``B * N`` clips in the order of ``frames``, ``(B, N, ...)``, as float32."""
    # (B * N, ...) -> (B, N, ...)
    return EncodedClips(
        clip_tokens=clip_tokens.float().reshape(*frames.shape[:2], *clip_tokens.shape[1:]),
        patch_tokens=patch_tokens.float().reshape(*frames.shape[:2], *patch_tokens.shape[1:]),
    )


def check_clips(frames: Tensor, num_frames: int, image_size: int) -> None:
    """Make sure that ``frames`` are clips ``(B, F, 3, S, S)`` as an encoder was built for.

    Raises:
        ValueError: They have another number or size.
    """
    expected = (num_frames, 3, image_size, image_size)
    if frames.dim() != 5 or tuple(frames.shape[1:]) != expected:
        raise ValueError(
            f"frames: expected clips of shape (B, {', '.join(map(str, expected))}) = (batch, "
            f"num_frames, 3, image_size, image_size), found {tuple(frames.shape)}; sample "
            "num_frames frames a clip and resize them to image_size"
        )
