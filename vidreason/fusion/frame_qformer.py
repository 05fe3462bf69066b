"""Video-LLaMA's way from patches to embeddings, to be trained beside our fusion core.

A Q-Former looks at the patches of each frame by itself, the frame's position is added to its
queries' outputs, and a second, two-layer Q-Former gathers those of all frames; one linear layer
follows (DAMO-NLP-SG/Video-LLaMA at commit 64888c0, models/video_llama.py, vision branch). The
Q-Formers are BLIP-2's of transformers: BERT layers, normalised after each sub-layer; the first has
cross-attention in every second layer, the second in each. What differs from the official model:
patches of the configured video encoder instead of EVA-CLIP's, the first Q-Former begins at random
and trains, and no layer has dropout. BERT's small initial weights are meant for a long
pre-training: through two Q-Formers of them all videos look the same (a share of 0.000002 of the
outputs' variance, *measured* on microworld videos). Here linear layers begin as those of our fusion
core do, by which it is 0.05, as with ours.

Shapes: B batch, F frames, P patches of a frame, Q queries, D width.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from vidreason.fusion.config import MAX_PATCH_FRAMES, FusionConfig
from vidreason.fusion.patch_tokens import PatchTokens, patch_tokens
from vidreason.perception.visual_tokens import VisualBatch

_VIDEO_LAYERS = 2
"""Layers of the official video Q-Former."""


class FrameQFormer(nn.Module):
    """Patches of frames to ``num_queries`` embeddings; the arguments are those of the fusion core.

    ``num_layers`` are the image Q-Former's, and both Q-Formers have ``num_queries``. A video
    without patches is allowed: the output is the same for all such videos.
    """

    def __init__(
        self, config: FusionConfig, visual_dim: int, output_dim: int, output_scale: float
    ) -> None:
        super().__init__()
        self.num_embeddings = config.num_queries
        self.visual_norm = nn.LayerNorm(visual_dim)
        self.image = QFormer(config, config.num_layers, visual_dim, cross_attention_frequency=2)
        self.frame_positions = nn.Embedding(MAX_PATCH_FRAMES, config.width)
        self.video = QFormer(config, _VIDEO_LAYERS, config.width, cross_attention_frequency=1)
        self.output_projection = output_layer(config.width, output_dim, output_scale)

    def forward(self, visual: VisualBatch) -> Tensor:
        """Return ``E_vision``, shape ``(B, Q, output_dim)``.

        Raises:
            ValueError: A video has more than 32 frames.
        """
        patches = patch_tokens(visual)
        num_frames = patches.seen.shape[1]
        if num_frames > MAX_PATCH_FRAMES:
            raise ValueError(
                f"fusion.kind frame_qformer takes {MAX_PATCH_FRAMES} frames, found {num_frames}; "
                "lower perceiver.sampling.num_key_frames"
            )
        # Each frame by itself, then told apart from the others: (B, F, Q, D) + (F, 1, D)
        of_frames = self.image.of_frames(self.visual_norm, patches)
        of_frames = of_frames + self.frame_positions.weight[:num_frames, None]
        # Gather them: (B, F, Q, D) -> (B, F * Q, D) -> (B, Q, D)
        seen = patches.seen.any(dim=2)[..., None].expand(-1, -1, self.num_embeddings)  # (B, F, Q)
        of_frames = of_frames * seen[..., None]
        gathered = self.video(of_frames.flatten(1, 2), seen.flatten(1, 2))
        output: Tensor = self.output_projection(gathered)
        return output


class QFormer(nn.Module):
    """Queries and the BERT layers that carry them."""

    def __init__(
        self, config: FusionConfig, num_layers: int, token_dim: int, cross_attention_frequency: int
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(config.num_queries, config.width))
        nn.init.normal_(self.queries, std=0.02)
        self.layers = Blip2QFormerModel(
            Blip2QFormerConfig(
                hidden_size=config.width,
                intermediate_size=4 * config.width,
                num_hidden_layers=num_layers,
                num_attention_heads=config.num_heads,
                encoder_hidden_size=token_dim,
                cross_attention_frequency=cross_attention_frequency,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def of_frames(self, norm: nn.LayerNorm, patches: PatchTokens) -> Tensor:
        """Gather the normalised patches of each frame by itself; returns ``(B, F, Q, D)``."""
        # Padding is 0 again after the norm, whose bias would fill it.
        tokens = norm(patches.features.to(norm.weight.dtype)) * patches.seen[..., None]
        # (B, F, P, D) -> (B * F, P, D) -> (B * F, Q, D) -> (B, F, Q, D)
        gathered: Tensor = self(tokens.flatten(0, 1), patches.seen.flatten(0, 1))
        return gathered.view(*patches.seen.shape[:2], *gathered.shape[1:])

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Gather ``(N, T, D)`` tokens where ``seen`` ``(N, T)`` says so; returns ``(N, Q, D)``."""
        # Softmax over no token would be NaN: such a row sees its padding, which is 0.
        attended = seen | ~seen.any(dim=1, keepdim=True)
        # Any: the record is named after the model's class.
        output: Any = self.layers(
            query_embeds=self.queries.expand(len(tokens), -1, -1),
            encoder_hidden_states=tokens,
            encoder_attention_mask=attended.long(),
        )
        hidden: Tensor = output.last_hidden_state
        return hidden


def output_layer(width: int, output_dim: int, output_scale: float) -> nn.Linear:
    """Return a layer from vectors of unit variance to the root mean square ``output_scale``."""
    layer = nn.Linear(width, output_dim)
    nn.init.normal_(layer.weight, std=output_scale / math.sqrt(width))
    nn.init.zeros_(layer.bias)
    return layer
