"""Video-ChatGPT's way from patches to embeddings, to be trained beside our fusion core.

Temporal tokens are the mean over each frame's patches, spatial tokens each patch's mean over the
frames; one linear layer brings all of them to the language model's width
(mbzuai-oryx/Video-ChatGPT at commit 659e04b, inference.py). What differs from the official model
is what comes before: patches of the configured video encoder instead of CLIP's.

Shapes: B batch, F frames, P patches of a frame, D width, Q embeddings.
"""

import math

import torch
from torch import Tensor, nn

from vidreason.fusion.patch_tokens import patch_tokens
from vidreason.perception.visual_tokens import VisualBatch


class TemporalSpatialPool(nn.Module):
    """``num_embeddings`` of a video: temporal tokens, zeros, spatial tokens, through one layer.

    See :class:`~vidreason.fusion.fusion_core.FusionCore` for the other arguments. There is no norm,
    as there is none in the official model.

    Args:
        num_embeddings: Q, at least F + P.
        visual_dim: Width of the visual tokens.
        output_dim: Width of the language model's word embeddings.
        output_scale: Root mean square of the output, for patches of unit variance.
    """

    def __init__(
        self, num_embeddings: int, visual_dim: int, output_dim: int, output_scale: float
    ) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.output_projection = nn.Linear(visual_dim, output_dim)
        nn.init.normal_(self.output_projection.weight, std=output_scale / math.sqrt(visual_dim))
        nn.init.zeros_(self.output_projection.bias)

    def forward(self, visual: VisualBatch) -> Tensor:
        """Return ``E_vision``, shape ``(B, Q, output_dim)``.

        Raises:
            ValueError: A video has more frames and patches than there are embeddings.
        """
        patches = patch_tokens(visual)
        features = patches.features.to(self.output_projection.weight.dtype)
        seen = patches.seen[..., None]  # (B, F, P, 1)
        temporal = features.sum(2) / seen.sum(2).clamp(min=1)  # (B, F, D)
        spatial = features.sum(1) / seen.sum(1).clamp(min=1)  # (B, P, D)
        num_padded = self.num_embeddings - temporal.shape[1] - spatial.shape[1]
        if num_padded < 0:
            raise ValueError(
                f"fusion.num_queries is {self.num_embeddings}, but there are "
                f"{temporal.shape[1]} frames of {spatial.shape[1]} patches; it must be at least "
                "their sum"
            )
        padding = temporal.new_zeros(len(temporal), num_padded, temporal.shape[2])
        # The last patch first: frames count from the first row and patches from the last one, so
        # that each has its row whatever is missing.
        rows = torch.cat([temporal, padding, spatial.flip(1)], dim=1)  # (B, Q, D)
        output: Tensor = self.output_projection(rows)
        return output
