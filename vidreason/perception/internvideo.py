"""The ViCLIP vision tower: a ViT with joint space-time attention and one [CLS] per clip (3.1.1).

Written from the equations of the official model (InternVideo, ``InternVideo1/Pretrain/ViCLIP``),
with its parameter names, so that a released checkpoint loads without a key map. The tower has no
dropout, token masking or drop path: it is frozen in both training stages, and ``Trainer.fit`` may
call ``.train()`` on everything.

Shapes: B batch, N clips, F frames, P patches of a frame, h x w the patch grid, D width, S image
side in pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidreason.perception.clip_blocks import ResidualBlock
from vidreason.perception.config import VideoEncoderSizes
from vidreason.perception.position_embeddings import (
    resize_frame_embeddings,
    resize_patch_embeddings,
)
from vidreason.perception.video_encoder import (
    EncodedClips,
    VideoEncoder,
    arrange_clips,
    check_clips,
)
from vidreason.perception.weights import load_weights
from vidreason.video.transforms import FrameTransform


class ViCLIPVisionTower(nn.Module):
    """Frames of clips in, one [CLS] token and all patch tokens out.

    Parameters have the official names below ``vision_encoder.``.
    """

    def __init__(self, sizes: VideoEncoderSizes) -> None:
        super().__init__()
        width, patch_size = sizes.width, sizes.patch_size
        self.image_size = sizes.image_size
        self.patch_size = patch_size
        self.width = width
        self.num_frames = sizes.num_frames
        self.grid_size = sizes.image_size // patch_size
        self.conv1 = nn.Conv3d(
            3, width, (1, patch_size, patch_size), (1, patch_size, patch_size), bias=False
        )
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(1 + self.grid_size**2, width))
        self.temporal_positional_embedding = nn.Parameter(torch.empty(1, sizes.num_frames, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = _Transformer(width, sizes.num_layers, sizes.num_heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, sizes.output_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the embeddings and the projection as CLIP does; the layers have drawn theirs."""
        scale = self.width**-0.5
        nn.init.normal_(self.class_embedding, std=scale)
        nn.init.normal_(self.positional_embedding, std=scale)
        nn.init.normal_(self.temporal_positional_embedding, std=0.1 * scale)
        nn.init.normal_(self.proj, std=scale)

    def forward(self, frames: Tensor) -> Tensor:
        """Encode clips.

        Args:
            frames: ``(B, F, 3, S, S)`` normalised frames with ``F == num_frames`` and ``S ==
                image_size``.

        Returns:
            ``(B, 1 + P * F, D)``: all tokens after the last layer norm. Token 0 is the clip's
            [CLS]; the token of patch ``n = row * w + column`` in frame ``t`` is number ``1 + n * F
            + t`` (time runs fastest).

        Raises:
            ValueError: The frames have another number or size than the tower was built for.
        """
        check_clips(frames, self.num_frames, self.image_size)
        # One frame at a time the (1, p, p) convolution is a 2-d one, which is much faster on CPU:
        # (B, F, 3, S, S) -> (B * F, 3, S, S) -> (B * F, D, h, w)
        patches = functional.conv2d(
            frames.flatten(0, 1).to(self.proj.dtype),
            self.conv1.weight[:, :, 0],
            stride=self.patch_size,
        )
        patches = patches.view(len(frames), self.num_frames, self.width, -1)  # (B, F, D, P)
        patches = patches.permute(0, 3, 1, 2)  # (B, P, F, D)
        # Space and time: (P, 1, D) and (1, F, D)
        patches = patches + self.positional_embedding[1:, None] + self.temporal_positional_embedding
        # One [CLS] before all patches of the clip: (B, 1 + P * F, D)
        cls = self.class_embedding + self.positional_embedding[0]
        tokens = torch.cat([cls.expand(len(frames), 1, -1), patches.flatten(1, 2)], dim=1)
        encoded: Tensor = self.ln_post(self.transformer(self.ln_pre(tokens)))
        return encoded

    def patch_grid(self, tokens: Tensor) -> Tensor:
        """Arrange the patch tokens of ``forward``'s result as ``(B, F, h, w, D)``."""
        side = self.grid_size
        # (B, 1 + P * F, D) -> (B, h, w, F, D) -> (B, F, h, w, D)
        grid = tokens[:, 1:].reshape(len(tokens), side, side, self.num_frames, self.width)
        return grid.permute(0, 3, 1, 2, 4)

    def project(self, tokens: Tensor) -> Tensor:
        """The contrastive embedding ``(B, output_dim)`` of each clip, from ``forward``'s result."""
        return tokens[:, 0] @ self.proj


class ViCLIPEncoder(VideoEncoder):
    """The tower as a video encoder.

    Its state dict has the released keys, ``vision_encoder.*``. A frame is squashed to the square,
    so that every pixel of a mask lies in a patch.
    """

    def __init__(self, sizes: VideoEncoderSizes) -> None:
        super().__init__(sizes, FrameTransform(size=sizes.image_size))
        self.vision_encoder = ViCLIPVisionTower(sizes)

    def load(self, path: str, device: torch.device, ignored_keys: Sequence[str]) -> None:
        """Take the weights of a released file: the Hugging Face one, or the official ``.pth``.

        Raises:
            ValueError: As :func:`~vidreason.perception.weights.load_weights`.
        """
        load_weights(
            self,
            path,
            device=device,
            dropped_prefixes=("text_encoder.", "temp", *ignored_keys),
            resizers={
                "vision_encoder.positional_embedding": resize_patch_embeddings,
                "vision_encoder.temporal_positional_embedding": resize_frame_embeddings,
            },
        )

    def forward(self, frames: Tensor) -> EncodedClips:
        """Encode ``(B, N, F, 3, S, S)`` normalised frames; every clip is encoded by itself."""
        tokens = self.vision_encoder(frames.flatten(0, 1))  # (B * N, F, 3, S, S) -> (B * N, ., D)
        return arrange_clips(frames, tokens[:, 0], self.vision_encoder.patch_grid(tokens))


class _Transformer(nn.Module):
    """Holds the blocks under the official name ``transformer.resblocks``."""

    def __init__(self, width: int, num_layers: int, num_heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([ResidualBlock(width, num_heads) for _ in range(num_layers)])

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.resblocks:
            tokens = block(tokens)
        return tokens
