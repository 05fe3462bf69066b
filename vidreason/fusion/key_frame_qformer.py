"""SeViLA's way from patches to embeddings, of its localizer and of its answerer alike.

A Q-Former looks at the patches of each frame by itself; its outputs go through one linear layer to
the language model, frame after frame (Yui010206/SeViLA at commit 419e728,
lavis/models/sevila_models/sevila.py). The Q-Former is that of
:mod:`vidreason.fusion.frame_qformer`, with its first weights. What differs from the official model:
patches of the configured video encoder instead of EVA-CLIP's; no pre-training on pictures; a frame
is told by a learned embedding of its rank among those that are shown, instead of by the words
"Frame 1:"; frames that are not there have embeddings, always the same ones, so that all videos have
as many.

Shapes: B batch, F frames, K frames that are shown, P patches of a frame, Q queries, D width.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from vidreason.fusion.config import KEY_FRAMES, FusionConfig
from vidreason.fusion.frame_qformer import QFormer, output_layer
from vidreason.fusion.patch_tokens import PatchTokens, patch_tokens
from vidreason.perception.visual_tokens import VisualBatch


class KeyFrameQFormer(nn.Module):
    """Patches of frames to ``num_queries`` embeddings; the arguments are those of the fusion core.

    Of more than 4 frames, those at the middles of 4 equal parts are shown. A video without patches
    is allowed: the output is the same for all such videos.
    """

    def __init__(
        self, config: FusionConfig, visual_dim: int, output_dim: int, output_scale: float
    ) -> None:
        super().__init__()
        self.num_embeddings = config.num_queries
        self.visual_norm = nn.LayerNorm(visual_dim)
        of_a_frame = replace(config, kind="qformer", num_queries=config.num_queries // KEY_FRAMES)
        self.image = QFormer(of_a_frame, config.num_layers, visual_dim, cross_attention_frequency=2)
        self.frame_positions = nn.Embedding(KEY_FRAMES, config.width)
        # Small beside the Q-Former's normalised outputs: no layer after it would take it away.
        nn.init.normal_(self.frame_positions.weight, std=0.02)
        self.output_projection = output_layer(config.width, output_dim, output_scale)

    def forward(self, visual: VisualBatch) -> Tensor:
        """Return ``E_vision``, shape ``(B, num_queries, output_dim)``."""
        patches = shown_frames(patch_tokens(visual))
        # Each frame by itself, then told apart from the others: (B, K, Q, D) + (K, 1, D)
        of_frames = self.image.of_frames(self.visual_norm, patches)
        of_frames = of_frames + self.frame_positions.weight[:, None]
        # One frame after the other: (B, K, Q, D) -> (B, K * Q, D)
        output: Tensor = self.output_projection(of_frames.flatten(1, 2))
        return output


def shown_frames(patches: PatchTokens) -> PatchTokens:
    """Take 4 frames of each video, evenly; fewer stay as they are, and nothing follows them.

    Args:
        patches: Of videos with F frames or fewer, the first of which are there.

    Returns:
        Features ``(B, 4, P, D)`` and which of them are there, ``(B, 4, P)``.
    """
    number = patches.seen.any(dim=2).sum(dim=1, keepdim=True)  # (B, 1)
    rank = torch.arange(KEY_FRAMES, device=number.device)  # (4,)
    middles = (2 * rank + 1) * number // (2 * KEY_FRAMES)
    chosen = torch.where(number > KEY_FRAMES, middles, rank)  # (B, 4)
    is_there = chosen < number
    # An index that is there, for the frames that are not: their patches become 0.
    chosen = chosen.clamp(max=patches.seen.shape[1] - 1)
    videos = torch.arange(len(number), device=number.device)[:, None]
    # (B, 1) and (B, K) index (B, F, P, D) -> (B, K, P, D)
    return PatchTokens(
        patches.features[videos, chosen] * is_there[..., None, None],
        patches.seen[videos, chosen] & is_there[..., None],
    )
