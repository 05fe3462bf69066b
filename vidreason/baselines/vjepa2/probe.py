"""The attentive probe: self-attention blocks over latents, then one query and one head a task.

Architecture and names of the parameters are those of facebookresearch/vjepa2@c2963a4,
src/models/attentive_pooler.py and evals/action_anticipation_frozen/models.py, so that a released
probe is loaded key by key.

Shapes: B samples, N latents, Q queries (one for each head), D width.
"""

from collections.abc import Mapping
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from vidreason.baselines.vjepa2.config import ProbeSizes

INITIAL_DEVIATION = 0.02
"""Standard deviation of the pooler's weights and queries."""
_MLP_RATIO = 4  # hidden units of an MLP for each of its inputs, as officially


class AttentiveProbe(nn.Module):
    """Classifies the latents of a clip, once for each head.

    Args:
        sizes: Of the pooler.
        num_labels: Number of labels by the head's name, in the order of the queries.
    """

    def __init__(self, sizes: ProbeSizes, num_labels: Mapping[str, int]) -> None:
        super().__init__()
        self.head_names = tuple(num_labels)
        self.pooler = AttentivePooler(sizes, len(num_labels))
        for name, number in num_labels.items():
            self.add_module(classifier_name(name), nn.Linear(sizes.width, number))

    def forward(self, latents: Tensor) -> dict[str, Tensor]:
        """Return the logits ``(B, labels)`` of each head for ``(B, N, D)`` latents."""
        pooled = self.pooler(latents)  # (B, Q, D), a query a head
        return {
            name: getattr(self, classifier_name(name))(pooled[:, index])
            for index, name in enumerate(self.head_names)
        }


def classifier_name(head: str) -> str:
    """Return the name of a head's linear layer among the probe's parameters."""
    return f"{head}_classifier"


class AttentivePooler(nn.Module):
    """Self-attention over latents, then cross-attention of learnt queries to them."""

    def __init__(self, sizes: ProbeSizes, num_queries: int) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, num_queries, sizes.width))
        self.cross_attention_block = _CrossAttentionBlock(sizes)
        self.blocks = nn.ModuleList(_SelfAttentionBlock(sizes) for _ in range(sizes.num_blocks - 1))
        self._initialise()

    def forward(self, latents: Tensor) -> Tensor:
        """Pool ``(B, N, D)`` latents to ``(B, Q, D)``."""
        for block in self.blocks:
            latents = block(latents)
        queries = self.query_tokens.expand(len(latents), -1, -1)  # (1, Q, D) -> (B, Q, D)
        pooled: Tensor = self.cross_attention_block(queries, latents)
        return pooled

    @torch.no_grad()
    def _initialise(self) -> None:
        """Draw small weights; the deeper a block, the smaller what it adds at first."""
        nn.init.trunc_normal_(self.query_tokens, std=INITIAL_DEVIATION)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INITIAL_DEVIATION)
                nn.init.zeros_(module.bias)
        for depth, block in enumerate(self.blocks, start=1):
            assert isinstance(block, _SelfAttentionBlock)
            block.attn.proj.weight /= sqrt(2 * depth)
            block.mlp.fc2.weight /= sqrt(2 * depth)
        # The official code counts the cross-attention as deep as the last block before it.
        self.cross_attention_block.mlp.fc2.weight /= sqrt(2 * max(len(self.blocks), 1))


class _SelfAttentionBlock(nn.Module):
    def __init__(self, sizes: ProbeSizes) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.width, eps=sizes.norm_epsilon)
        self.attn = _SelfAttention(sizes)
        self.norm2 = nn.LayerNorm(sizes.width, eps=sizes.norm_epsilon)
        self.mlp = _Mlp(sizes.width)

    def forward(self, latents: Tensor) -> Tensor:
        latents = latents + self.attn(self.norm1(latents))
        mixed: Tensor = latents + self.mlp(self.norm2(latents))
        return mixed


class _CrossAttentionBlock(nn.Module):
    """Queries attend to normalised latents; they are not normalised before, nor mixed after."""

    def __init__(self, sizes: ProbeSizes) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.width, eps=sizes.norm_epsilon)
        self.xattn = _CrossAttention(sizes)
        self.norm2 = nn.LayerNorm(sizes.width, eps=sizes.norm_epsilon)
        self.mlp = _Mlp(sizes.width)

    def forward(self, queries: Tensor, latents: Tensor) -> Tensor:
        queries = queries + self.xattn(queries, self.norm1(latents))
        pooled: Tensor = queries + self.mlp(self.norm2(queries))
        return pooled


class _SelfAttention(nn.Module):
    def __init__(self, sizes: ProbeSizes) -> None:
        super().__init__()
        self.num_heads = sizes.num_heads
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.proj = nn.Linear(sizes.width, sizes.width)

    def forward(self, latents: Tensor) -> Tensor:
        query, key, value = self.qkv(latents).chunk(3, dim=-1)  # (B, N, 3 D) -> 3 x (B, N, D)
        mixed: Tensor = self.proj(_attend(query, key, value, self.num_heads))
        return mixed


class _CrossAttention(nn.Module):
    def __init__(self, sizes: ProbeSizes) -> None:
        super().__init__()
        self.num_heads = sizes.num_heads
        self.q = nn.Linear(sizes.width, sizes.width)
        self.kv = nn.Linear(sizes.width, 2 * sizes.width)

    def forward(self, queries: Tensor, latents: Tensor) -> Tensor:
        key, value = self.kv(latents).chunk(2, dim=-1)  # (B, N, 2 D) -> 2 x (B, N, D)
        return _attend(self.q(queries), key, value, self.num_heads)


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, _MLP_RATIO * width)
        self.fc2 = nn.Linear(_MLP_RATIO * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = nn.functional.gelu(self.fc1(hidden))
        projected: Tensor = self.fc2(hidden)
        return projected


def _attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Attend over ``(B, N, D)`` keys by ``(B, M, D)`` queries with several heads: ``(B, M, D)``."""
    # (B, M, D) -> (B, heads, M, D / heads)
    query, key, value = (
        part.view(*part.shape[:2], num_heads, -1).transpose(1, 2) for part in (query, key, value)
    )
    # (B, heads, M, D / heads) -> (B, M, D)
    return scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
