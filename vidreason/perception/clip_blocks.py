"""The layers that the CLIP family's video towers share, under the official parameter names.

Pre-norm attention with packed weights and an MLP with CLIP's approximation of GELU (ViCLIP:
InternVideo1/Pretrain/ViCLIP; InternVideo-MM: InternVideo1/Pretrain/Multi-Modalities-Pretraining;
both in OpenGVLab/InternVideo at commit 3965eef16e2d). No layer has dropout: towers are frozen.

Shapes: B batch, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """Pre-norm self-attention over all tokens, then the MLP."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = PackedAttention(width, num_heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """From ``(B, tokens, D)`` to the same shape."""
        tokens = tokens + self.attn(self.ln_1(tokens))
        tokens = tokens + self.mlp(self.ln_2(tokens))
        return tokens


class PackedAttention(nn.Module):
    """Attention whose weights for queries, keys and values lie in one matrix, in that order."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.in_proj_bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor, memory: Tensor | None = None) -> Tensor:
        """Attend from ``(B, tokens, D)`` to ``memory`` ``(B, others, D)``, or to themselves."""
        if memory is None:
            packed = functional.linear(tokens, self.in_proj_weight, self.in_proj_bias)  # (., 3 D)
            queries, keys, values = self._heads(packed, 3)
        else:
            width = tokens.shape[-1]
            weights, biases = self.in_proj_weight, self.in_proj_bias
            (queries,) = self._heads(functional.linear(tokens, weights[:width], biases[:width]), 1)
            packed = functional.linear(memory, weights[width:], biases[width:])
            keys, values = self._heads(packed, 2)
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        # (B, heads, tokens, D / heads) -> (B, tokens, D)
        output: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return output

    def _heads(self, packed: Tensor, num_parts: int) -> Tensor:
        """``(B, tokens, parts * D)`` as ``(parts, B, heads, tokens, D / heads)``."""
        # The columns are ordered by part, then head: (B, T, parts, heads, D / heads)
        parts = packed.view(*packed.shape[:2], num_parts, self.num_heads, -1)
        return parts.permute(2, 0, 3, 1, 4)


class Mlp(nn.Module):
    """Two linear layers with CLIP's sigmoid approximation of GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """From ``(..., D)`` to the same shape."""
        hidden = self.c_fc(tokens)
        output: Tensor = self.c_proj(hidden * torch.sigmoid(1.702 * hidden))
        return output
