"""The ViCLIP vision tower: a ViT with joint space-time attention and one [CLS] per clip (3.1.1).

Written from the equations of the official model (InternVideo, ``InternVideo1/Pretrain/ViCLIP``),
with its parameter names, so that a released checkpoint loads without a key map. The tower has no
dropout, token masking or drop path: it is frozen in both training stages, and ``Trainer.fit`` may
call ``.train()`` on everything.

Shapes: B batch, N clips, F frames, P patches of a frame, h x w the patch grid, D width, S image
side in pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidreason.perception.video_encoder import EncodedClips, VideoEncoderConfig
from vidreason.video.transforms import FrameTransform


class ViCLIPVisionTower(nn.Module):
    """Frames of clips in, one [CLS] token and all patch tokens out.

    Parameters have the official names below ``vision_encoder.``. ViCLIP-B/16 is ``image_size=224,
    patch_size=16, width=768, num_layers=12, num_heads=12, num_frames=8, output_dim=512``.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        num_layers: int,
        num_heads: int,
        num_frames: int,
        output_dim: int,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.patch_size = patch_size
        self.width = width
        self.num_frames = num_frames
        self.grid_size = image_size // patch_size
        self.conv1 = nn.Conv3d(
            3, width, (1, patch_size, patch_size), (1, patch_size, patch_size), bias=False
        )
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(1 + self.grid_size**2, width))
        self.temporal_positional_embedding = nn.Parameter(torch.empty(1, num_frames, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = _Transformer(width, num_layers, num_heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, output_dim))
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
        expected = (self.num_frames, 3, self.image_size, self.image_size)
        if frames.dim() != 5 or tuple(frames.shape[1:]) != expected:
            raise ValueError(
                f"frames: expected clips of shape (B, {', '.join(map(str, expected))}) = (batch, "
                f"num_frames, 3, image_size, image_size), found {tuple(frames.shape)}; sample "
                "num_frames frames a clip and resize them to image_size"
            )
        # One frame at a time the (1, p, p) convolution is a 2-d one, which is much faster on CPU.
        patches = functional.conv2d(
            frames.flatten(0, 1), self.conv1.weight[:, :, 0], stride=self.patch_size
        )
        patches = patches.view(len(frames), self.num_frames, self.width, -1)  # (B, F, D, P)
        patches = patches.permute(0, 3, 1, 2)  # (B, P, F, D)
        patches = patches + self.positional_embedding[1:, None] + self.temporal_positional_embedding
        cls = self.class_embedding + self.positional_embedding[0]
        tokens = torch.cat([cls.expand(len(frames), 1, -1), patches.flatten(1, 2)], dim=1)
        encoded: Tensor = self.ln_post(self.transformer(self.ln_pre(tokens)))
        return encoded

    def patch_grid(self, tokens: Tensor) -> Tensor:
        """Arrange the patch tokens of ``forward``'s result as ``(B, F, h, w, D)``."""
        side = self.grid_size
        grid = tokens[:, 1:].reshape(len(tokens), side, side, self.num_frames, self.width)
        return grid.permute(0, 3, 1, 2, 4)

    def project(self, tokens: Tensor) -> Tensor:
        """The contrastive embedding ``(B, output_dim)`` of each clip, from ``forward``'s result."""
        return tokens[:, 0] @ self.proj


class ViCLIPEncoder(nn.Module):
    """The tower as a :class:`~vidreason.perception.video_encoder.VideoEncoder`.

    Its state dict has the released keys, ``vision_encoder.*``.
    """

    tubelet_size = 1

    def __init__(self, config: VideoEncoderConfig) -> None:
        super().__init__()
        self.width = config.width
        self.image_size = config.image_size
        self.num_frames = config.num_frames
        self.patch_size = config.patch_size
        self.transform = FrameTransform(size=config.image_size)
        self.vision_encoder = ViCLIPVisionTower(
            image_size=config.image_size,
            patch_size=config.patch_size,
            width=config.width,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            num_frames=config.num_frames,
            output_dim=config.output_dim,
        )

    def forward(self, frames: Tensor) -> EncodedClips:
        """Encode ``(B, N, F, 3, S, S)`` normalised frames; every clip is encoded by itself."""
        tokens = self.vision_encoder(frames.flatten(0, 1))
        patches = self.vision_encoder.patch_grid(tokens)
        num_videos, num_clips = frames.shape[:2]
        return EncodedClips(
            clip_tokens=tokens[:, 0].view(num_videos, num_clips, -1),
            patch_tokens=patches.reshape(num_videos, num_clips, *patches.shape[1:]),
        )


class _Transformer(nn.Module):
    """Holds the blocks under the official name ``transformer.resblocks``."""

    def __init__(self, width: int, num_layers: int, num_heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([_Block(width, num_heads) for _ in range(num_layers)])

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.resblocks:
            tokens = block(tokens)
        return tokens


class _Block(nn.Module):
    """Pre-norm attention over all tokens of a clip, then the MLP."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = _Attention(width, num_heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = _Mlp(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.ln_1(tokens))
        tokens = tokens + self.mlp(self.ln_2(tokens))
        return tokens


class _Attention(nn.Module):
    """Self-attention with the packed weights that the official checkpoint holds."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.in_proj_bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        packed = functional.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        # (B, tokens, 3, heads, D / heads)
        packed = packed.view(*tokens.shape[:2], 3, self.num_heads, -1)
        queries, keys, values = packed.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        output: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return output


class _Mlp(nn.Module):
    """Two linear layers with CLIP's sigmoid approximation of GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.c_fc(tokens)
        output: Tensor = self.c_proj(hidden * torch.sigmoid(1.702 * hidden))
        return output
