"""The ablation "w/o Fusion Core" (section 5.3): mean-pooling and a linear projection.

Shapes: B batch, V visual tokens, D width.
"""

import math

from torch import Tensor, nn

from vidreason.perception.visual_tokens import VisualBatch


class MeanPool(nn.Module):
    """One embedding a video: the mean of its visual tokens, normalised, through one linear layer.

    The mean of a video without visual tokens is zero. Kind, time and box are not told: a mean
    would mix them up. See :class:`~vidreason.fusion.fusion_core.FusionCore` for the arguments.
    """

    def __init__(self, visual_dim: int, output_dim: int, output_scale: float) -> None:
        super().__init__()
        self.num_embeddings = 1
        self.visual_norm = nn.LayerNorm(visual_dim)
        self.output_projection = nn.Linear(visual_dim, output_dim)
        std = output_scale / math.sqrt(visual_dim)
        nn.init.normal_(self.output_projection.weight, std=std)
        nn.init.zeros_(self.output_projection.bias)

    def forward(self, visual: VisualBatch) -> Tensor:
        """Return ``E_vision``, shape ``(B, 1, output_dim)``."""
        weight = self.output_projection.weight
        real = visual["mask"][..., None]  # (B, V, 1)
        features = visual["features"].to(weight.dtype).masked_fill(~real, 0)
        # Mean over the real tokens: (B, V, D) -> (B, 1, D)
        mean = features.sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
        output: Tensor = self.output_projection(self.visual_norm(mean))
        return output
