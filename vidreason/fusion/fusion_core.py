"""The vision-language fusion core (section 3.2, eqs. 3 and 4): a Q-Former, written plainly.

Learnable queries summarise any number of visual tokens to ``Q`` embeddings of the language model's
width: blocks of self-attention among the queries, cross-attention to the visual tokens and an MLP,
all pre-norm, then one linear layer.

Notable choices:

* Cross-attention in every block, pre-norm and without dropout; the queries carry the residual.
* Token positions (kind, time, box, shape, motion) are added to the visual tokens, not to the
  queries: without them cross-attention cannot tell "before" from "after".
* Padding is masked, and a video without visual tokens gets exactly nothing from cross-attention, so
  the blind control is well defined.
* The output starts at the root mean square of the word embeddings: the frozen language model meets
  no outliers.
* Queries are shared by all videos up to the first cross-attention, so that work is done once.

Shapes: B batch, V visual tokens, Q queries, D width.
"""

import math
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from vidreason.fusion.config import FusionConfig
from vidreason.fusion.mean_pool import MeanPool
from vidreason.fusion.temporal_spatial_pool import TemporalSpatialPool
from vidreason.fusion.token_positions import TokenPositions
from vidreason.perception.visual_tokens import VisualBatch

if TYPE_CHECKING:
    from vidreason.fusion.frame_qformer import FrameQFormer
    from vidreason.fusion.key_frame_qformer import KeyFrameQFormer

Fusion: TypeAlias = "FusionCore | MeanPool | TemporalSpatialPool | FrameQFormer | KeyFrameQFormer"
"""Visual tokens of B videos to ``(B, num_embeddings, output_dim)``."""


def build_fusion(
    config: FusionConfig, visual_dim: int, output_dim: int, output_scale: float
) -> Fusion:
    """Build what ``config.kind`` says; see :class:`FusionCore` for the arguments."""
    if config.kind == "mean_pool":
        return MeanPool(visual_dim, output_dim, output_scale)
    if config.kind == "temporal_spatial_pool":
        return TemporalSpatialPool(config.num_queries, visual_dim, output_dim, output_scale)
    if config.kind == "frame_qformer":
        # On transformers' classes: imported where it is chosen.
        from vidreason.fusion.frame_qformer import FrameQFormer

        return FrameQFormer(config, visual_dim, output_dim, output_scale)
    if config.kind == "key_frame_qformer":
        from vidreason.fusion.key_frame_qformer import KeyFrameQFormer

        return KeyFrameQFormer(config, visual_dim, output_dim, output_scale)
    return FusionCore(config, visual_dim, output_dim, output_scale)


class FusionCore(nn.Module):
    """Visual tokens of any number to ``num_queries`` embeddings of the language model's width.

    What stands in padded positions has no effect. A video without visual tokens is allowed: the
    cross-attention then adds exactly nothing, and the output is the same for all such videos.

    Args:
        config: Sizes.
        visual_dim: Width of the visual tokens.
        output_dim: Width of the language model's word embeddings.
        output_scale: Root mean square that the output has at the start; the builder gives that of
            the word embeddings, so that the frozen language model is not met with outliers.
    """

    def __init__(
        self, config: FusionConfig, visual_dim: int, output_dim: int, output_scale: float
    ) -> None:
        super().__init__()
        width = config.width
        self.num_embeddings = config.num_queries
        self.queries = nn.Parameter(torch.empty(config.num_queries, width))
        self.visual_projection = nn.Sequential(
            nn.LayerNorm(visual_dim), nn.Linear(visual_dim, width)
        )
        self.token_positions = TokenPositions(width) if config.token_positions == "full" else None
        self.visual_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            FusionBlock(width, config.num_heads) for _ in range(config.num_layers)
        )
        self.output_norm = nn.LayerNorm(width)
        self.output_projection = nn.Linear(width, output_dim)
        self._initialise(output_scale)

    def _initialise(self, output_scale: float) -> None:
        """Set all parameters.

        Linear layers: Xavier, which keeps the size of a signal; those that end a residual branch
        are smaller by the root of the number of branches. The layers of an object's shape and
        motion have so few inputs that Xavier would make their output vanish beside the features:
        their weights keep the size of the inputs. Queries: standard normal, so that they stay
        distinct when all have attended to the same tokens. The output layer maps vectors of unit
        variance to the wanted root mean square.
        """
        nn.init.normal_(self.queries)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            for block in self.blocks:
                assert isinstance(block, FusionBlock)
                for layer in block.residual_outputs():
                    layer.weight.div_(math.sqrt(3 * len(self.blocks)))
        if self.token_positions is not None:
            for layer in (self.token_positions.shape, self.token_positions.motion):
                nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
        std = output_scale / math.sqrt(self.output_projection.in_features)
        nn.init.normal_(self.output_projection.weight, std=std)

    def forward(self, visual: VisualBatch) -> Tensor:
        """Summarise each video.

        Args:
            visual: Padded visual tokens of B videos.

        Returns:
            ``E_vision``, shape ``(B, Q, output_dim)``.
        """
        # Visual tokens in the core's width, with kind, time, box, shape and motion: (B, V, D).
        mask = visual["mask"]
        tokens = self.visual_projection(visual["features"].to(self.queries.dtype))
        if self.token_positions is not None:
            tokens = tokens + self.token_positions(visual)
        tokens = self.visual_norm(tokens)

        # Softmax over no token at all would be NaN: such a row attends to its padding instead, and
        # what comes of that is multiplied by 0.
        has_tokens = mask.any(dim=1)[:, None, None]
        attended = (mask[:, None, :] | ~has_tokens)[:, None]  # (B, heads = 1, queries = 1, V)
        keep = has_tokens.to(tokens.dtype)  # (B, 1, 1)

        # The same for all videos until they have seen a token: the first block makes B of them.
        queries = self.queries[None]  # (1, Q, D)
        for block in self.blocks:
            queries = block(queries, tokens, attended, keep)
        output: Tensor = self.output_projection(self.output_norm(queries))
        return output


class FusionBlock(nn.Module):
    """Self-attention among the queries, cross-attention to the visual tokens, MLP; pre-norm."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.self_attention_norm = nn.LayerNorm(width)
        self.self_attention = Attention(width, num_heads)
        self.cross_attention_norm = nn.LayerNorm(width)
        self.cross_attention = Attention(width, num_heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, queries: Tensor, tokens: Tensor, attended: Tensor, keep: Tensor) -> Tensor:
        """Return the queries after this block.

        Args:
            queries: Shape ``(B, Q, D)``, or ``(1, Q, D)`` if they are the same for all videos.
            tokens: Visual tokens, shape ``(B, V, D)``.
            attended: Shape ``(B, 1, 1, V)``, bool: the tokens to see.
            keep: Shape ``(B, 1, 1)``: 0 where the video has no token, else 1.

        Returns:
            Shape ``(B, Q, D)``.
        """
        # Self-attention, cross-attention, MLP; each adds to the queries.
        normed = self.self_attention_norm(queries)
        queries = queries + self.self_attention(normed, normed)
        seen = self.cross_attention(self.cross_attention_norm(queries), tokens, attended)
        queries = queries + seen * keep
        output: Tensor = queries + self.mlp(self.mlp_norm(queries))
        return output

    def residual_outputs(self) -> list[nn.Linear]:
        """The layers whose output is added to the queries."""
        last = self.mlp[-1]
        assert isinstance(last, nn.Linear)
        return [self.self_attention.output, self.cross_attention.output, last]


class Attention(nn.Module):
    """Multi-head attention (eq. 3) of queries to keys and values made of the same tokens."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, queries: Tensor, tokens: Tensor, attended: Tensor | None = None) -> Tensor:
        """Return what the queries gather, shape ``(B, Q, D)``.

        Args:
            queries: Shape ``(B, Q, D)``, or ``(1, Q, D)``, the same for all B.
            tokens: Shape ``(B, T, D)``.
            attended: Shape ``(B, 1, 1, T)``, bool: the tokens to see; None for all.
        """
        # Shared queries are repeated for all videos, without a copy: (1, heads, Q, D / heads) ->
        # (B, ...)
        gathered = scaled_dot_product_attention(
            self._split(self.query(queries)).expand(len(tokens), -1, -1, -1),
            self._split(self.key(tokens)),
            self._split(self.value(tokens)),
            attn_mask=attended,
        )
        # (B, heads, Q, D / heads) -> (B, Q, D)
        output: Tensor = self.output(gathered.transpose(1, 2).flatten(2))
        return output

    def _split(self, tensor: Tensor) -> Tensor:
        batch, length, width = tensor.shape
        # (B, T, D) -> (B, heads, T, D / heads)
        return tensor.view(batch, length, self.num_heads, width // self.num_heads).transpose(1, 2)
