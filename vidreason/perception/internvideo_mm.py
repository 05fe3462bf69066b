"""The InternVideo-MM vision tower: CLIP on every frame, and a token that gathers the clip (3.1.1).

Written from the equations of the official model (InternVideo:InternVideo1/Pretrain/
Multi-Modalities-Pretraining, ``clip_utils/utils/clip_vit_only_global.py``, commit 3965eef16e2d),
with its parameter names. Blocks attend inside a frame; after each of the last ``num_global_layers``
of them one learned token attends to all tokens of all frames. There is no embedding of time, so any
number of frames may come; T = 1 is the official image mode.

Shapes: B batch, N clips, F frames, P patches of a frame, h x w the patch grid, D width, S image
side in pixels.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidreason.perception.clip_blocks import Mlp, PackedAttention, ResidualBlock
from vidreason.perception.config import VideoEncoderSizes
from vidreason.perception.position_embeddings import resize_patch_embeddings
from vidreason.perception.video_encoder import EncodedClips, VideoEncoder, arrange_clips
from vidreason.perception.weights import load_weights
from vidreason.video.transforms import CLIP_DEVIATION, CLIP_MEAN, FrameTransform

_RESIZE_SHARE = 256 / 224
"""Multiple of the network's input side that a frame's short side becomes before the centre is cut
out."""

_DROPPED_PREFIXES = (
    *("clip.transformer.", "clip.token_embedding.", "clip.ln_final.", "clip.text_projection"),
    *("clip.positional_embedding", "clip.logit_scale", "clip.text_mask_embedding"),
    "caption_decoder.",
)
"""The text tower and the captioning decoder of the released file."""


class ClipFeatures(NamedTuple):
    """All that the model computes of clips."""

    tokens: Tensor
    """``(B, F, 1 + P, D)``: each frame's [CLS] and patches as the last block leaves them, without a
    layer norm."""
    feature: Tensor
    """``(B, D)``: the gathered token blended with the mean [CLS] of the frames."""
    normalised: Tensor
    """``(B, D)``: ``feature`` after ``visual_ln_post``."""
    projection: Tensor
    """``(B, output_dim)``: the contrastive embedding."""


class InternVideoMMEncoder(VideoEncoder):
    """The model as a video encoder.

    The clip token is the normalised feature. Patch tokens leave the last block without a norm (on
    the golden weights they deviate by about 10, clip tokens by 1), so :meth:`forward` applies
    ``visual_ln_post`` to them too: that norm was trained for this residual stream, since what it
    normalises in the official model is a blend with the frames' [CLS] of the same block.

    Its state dict has the released keys, ``clip.visual*``.
    """

    def __init__(self, sizes: VideoEncoderSizes) -> None:
        transform = FrameTransform(
            size=sizes.image_size,
            short_side=round(sizes.image_size * _RESIZE_SHARE),
            interpolation="antialiased-bilinear",
            mean=CLIP_MEAN,
            std=CLIP_DEVIATION,
        )
        super().__init__(sizes, transform)
        self.clip = _Clip(sizes)

    def load(self, path: str, device: torch.device, ignored_keys: Sequence[str]) -> None:
        """Take the weights of the released file.

        Raises:
            ValueError: As :func:`~vidreason.perception.weights.load_weights`.
        """
        load_weights(
            self,
            path,
            device=device,
            dropped_prefixes=(*_DROPPED_PREFIXES, *ignored_keys),
            resizers={"clip.visual.positional_embedding": resize_patch_embeddings},
        )

    def features(self, frames: Tensor) -> ClipFeatures:
        """All that the model computes of clips ``(B, F, 3, S, S)``, of any number of frames.

        Raises:
            ValueError: The frames have another size than the tower was built for.
        """
        side = self.image_size
        if frames.dim() != 5 or tuple(frames.shape[2:]) != (3, side, side) or not frames.shape[1]:
            raise ValueError(
                f"frames: expected clips of shape (B, F, 3, {side}, {side}) = (batch, frames, 3, "
                f"image_size, image_size), found {tuple(frames.shape)}; resize them to image_size"
            )
        tokens, feature = self.clip.visual(frames.to(self.clip.visual_proj.dtype))
        normalised = self.clip.visual_ln_post(feature)
        return ClipFeatures(tokens, feature, normalised, normalised @ self.clip.visual_proj)

    def forward(self, frames: Tensor) -> EncodedClips:
        """Encode ``(B, N, F, 3, S, S)`` normalised frames; every clip is encoded by itself."""
        # (B, N, F, 3, S, S) -> (B * N, F, 3, S, S)
        features = self.features(frames.flatten(0, 1))
        side = self.image_size // self.patch_size
        patches = self.clip.visual_ln_post(features.tokens[:, :, 1:])
        # (B * N, F, P, D) -> (B * N, F, h, w, D)
        patches = patches.view(*patches.shape[:2], side, side, self.width)
        return arrange_clips(frames, features.normalised, patches)


class _Clip(nn.Module):
    """The vision half of the official ``VideoIntern``; the names are those of its checkpoint."""

    def __init__(self, sizes: VideoEncoderSizes) -> None:
        super().__init__()
        self.visual = _VisionTower(sizes)
        self.visual_ln_post = nn.LayerNorm(sizes.width)
        self.visual_proj = nn.Parameter(torch.empty(sizes.width, sizes.output_dim))
        nn.init.normal_(self.visual_proj, std=sizes.width**-0.5)


class _VisionTower(nn.Module):
    """Clips ``(B, F, 3, S, S)`` in, raw tokens ``(B, F, 1 + P, D)`` and feature ``(B, D)`` out."""

    def __init__(self, sizes: VideoEncoderSizes) -> None:
        super().__init__()
        width, patch_size = sizes.width, sizes.patch_size
        grid_size = sizes.image_size // patch_size
        self.patch_size = patch_size
        self.conv1 = nn.Conv3d(
            3, width, (1, patch_size, patch_size), (1, patch_size, patch_size), bias=False
        )
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(1 + grid_size**2, width))
        nn.init.normal_(self.class_embedding, std=width**-0.5)
        nn.init.normal_(self.positional_embedding, std=width**-0.5)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = _GatheringTransformer(sizes)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        num_clips = len(frames)
        # One frame at a time the (1, p, p) convolution is a 2-d one, which is much faster on CPU:
        # (B, F, 3, S, S) -> (B * F, 3, S, S) -> (B * F, D, h, w)
        patches = functional.conv2d(
            frames.flatten(0, 1), self.conv1.weight[:, :, 0], stride=self.patch_size
        )
        patches = patches.flatten(2).transpose(1, 2)  # (B * F, P, D)
        cls = self.class_embedding.expand(len(patches), 1, -1)  # (B * F, 1, D)
        tokens = torch.cat([cls, patches], dim=1) + self.positional_embedding  # (B * F, 1 + P, D)
        tokens, feature = self.transformer(self.ln_pre(tokens), num_clips)
        return tokens.view(num_clips, -1, *tokens.shape[1:]), feature  # (B, F, 1 + P, D), (B, D)


class _GatheringTransformer(nn.Module):
    """Blocks inside each frame, and the token that gathers from all frames after the last ones."""

    def __init__(self, sizes: VideoEncoderSizes) -> None:
        super().__init__()
        width, num_heads = sizes.width, sizes.num_heads
        self.num_layers, self.num_global_layers = sizes.num_layers, sizes.num_global_layers
        self.resblocks = nn.ModuleList(
            [ResidualBlock(width, num_heads) for _ in range(sizes.num_layers)]
        )
        self.dpe = nn.ModuleList(
            [
                nn.Conv3d(width, width, kernel_size=3, padding=1, groups=width)
                for _ in range(sizes.num_global_layers)
            ]
        )
        self.dec = nn.ModuleList(
            [_GatheringBlock(width, num_heads) for _ in range(sizes.num_global_layers)]
        )
        self.temporal_cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.balance = nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Tensor, num_clips: int) -> tuple[Tensor, Tensor]:
        # (B, 1, D), whatever the number of frames
        gathered = self.temporal_cls_token.expand(num_clips, -1, -1)
        first_global_layer = self.num_layers - self.num_global_layers
        for layer, block in enumerate(self.resblocks):
            tokens = block(tokens)  # inside each frame: (B * F, 1 + P, D)
            if layer >= first_global_layer:
                index = layer - first_global_layer
                video = tokens.view(num_clips, -1, *tokens.shape[1:])  # (B, F, 1 + P, D)
                memory = _with_neighbours(video, self.dpe[index])
                gathered = self.dec[index](gathered, memory)
        # The gathered token, blended with the mean [CLS] of the frames: (B, D)
        # (B * F, D) -> (B, F, D) -> (B, D)
        frame_cls = tokens[:, 0].view(num_clips, -1, tokens.shape[-1]).mean(dim=1)
        share = torch.sigmoid(self.balance)  # of each channel: (D,)
        return tokens, (1 - share) * gathered[:, 0] + share * frame_cls


def _with_neighbours(tokens: Tensor, convolution: nn.Module) -> Tensor:
    """Return the gathering token's memory: all tokens, patches with a convolution of them added.

    Args:
        tokens: ``(B, F, 1 + P, D)``; they are not changed themselves.
        convolution: Depthwise over time, rows and columns.

    Returns:
        ``(B, F * (1 + P), D)``, frame by frame.
    """
    patches = tokens[:, :, 1:]
    num_clips, num_frames, num_patches, width = patches.shape
    side = math.isqrt(num_patches)
    # (B, F, P, D) -> (B, D, F, h, w) for the convolution, and back
    video = patches.reshape(num_clips, num_frames, side, side, width).permute(0, 4, 1, 2, 3)
    added = convolution(video).permute(0, 2, 3, 4, 1).flatten(2, 3)
    return torch.cat([tokens[:, :, :1], patches + added], dim=2).flatten(1, 2)


class _GatheringBlock(nn.Module):
    """Attention from the gathering token to all tokens of a clip, then the MLP."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attn = PackedAttention(width, num_heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.ln_2 = nn.LayerNorm(width)
        self.ln_3 = nn.LayerNorm(width)

    def forward(self, gathered: Tensor, memory: Tensor) -> Tensor:
        gathered = gathered + self.attn(self.ln_1(gathered), self.ln_3(memory))
        gathered = gathered + self.mlp(self.ln_2(gathered))
        return gathered
