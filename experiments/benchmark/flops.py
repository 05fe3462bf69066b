"""Floating-point operations that a reasoner's work needs, by formula.

A product of a matrix of N weights with a vector takes 2 N operations. For each position, with N the
weights of the language model's linear layers but the output layer:

    forward                  2 N
    gradient of the input    2 N    always: the fusion core is trained through the language model
    gradient of the weights  2 N    of what trains only: LoRA's matrices, the fusion core

so that a step through a frozen language model takes 4 N a position, not 6 N. The output layer
counts for target positions only. Attention counts for pairs of a position and one not after it:
2 T^2 D a layer forward for a row of T positions, with D the width of all heads; twice it backward.
Padding, masked pairs, logits of other positions and what is computed a second time do not count:
the useful work is the same for each formulation.

Word embeddings, norms and activations are left out. The formula holds for dense language models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from vidreason.fusion.fusion_core import FusionCore
from vidreason.model import VideoReasoner
from vidreason.reasoning.language_model import causal_lm


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Operations by part."""

    language_model: float
    """Linear layers but the output layer, adapters included."""
    output_layer: float
    attention: float
    """Attention of the language model."""
    fusion: float
    """Linear layers of the fusion core."""
    fusion_attention: float

    @property
    def total(self) -> float:
        """Sum over all parts."""
        return sum(float(value) for value in vars(self).values())


def step_flops(
    reasoner: VideoReasoner, rows: Sequence[int], num_targets: int, num_visual: int
) -> Flops:
    """Operations of a forward and backward pass.

    Args:
        reasoner: Its fusion core trains, and LoRA's matrices where it has them.
        rows: Positions of each row: video embeddings and text tokens that predict something.
        num_targets: Targets of all rows.
        num_visual: Visual tokens of a row.
    """
    return _flops(reasoner, rows, num_targets, num_visual, backward=True)


def forward_flops(
    reasoner: VideoReasoner, rows: Sequence[int], num_targets: int, num_visual: int
) -> Flops:
    """Operations of a forward pass; arguments as for :func:`step_flops`."""
    return _flops(reasoner, rows, num_targets, num_visual, backward=False)


def _flops(
    reasoner: VideoReasoner,
    rows: Sequence[int],
    num_targets: int,
    num_visual: int,
    *,
    backward: bool,
) -> Flops:
    model = causal_lm(reasoner.language_model)
    frozen, adapters = _language_model_weights(model)
    output_layer: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    config: Any = model.config.get_text_config()
    # Some models' heads are wider or narrower than their share of the hidden size, and say so.
    head_width = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    # D of the head of this module, over all layers: T^2 * width is in attention's formula.
    width = config.num_attention_heads * head_width * config.num_hidden_layers
    # Operations for each frozen weight, each trained one, and each of T^2 D of attention.
    through, trained, pairs = (4, 6, 6) if backward else (2, 2, 2)
    fusion, fusion_attention = _fusion_flops(reasoner.fusion, num_visual, backward=backward)
    return Flops(
        language_model=sum(rows) * (through * frozen + trained * adapters),
        output_layer=through * num_targets * output_layer.weight.shape[0] * config.hidden_size,
        attention=pairs * width * sum(row**2 for row in rows),
        fusion=len(rows) * fusion,
        fusion_attention=len(rows) * fusion_attention,
    )


def _language_model_weights(model: nn.Module) -> tuple[int, int]:
    """Weights of linear layers: the model's own but the output layer's, and the adapters'."""
    output_layer = model.get_output_embeddings()  # type: ignore[operator]
    frozen = adapters = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not output_layer:
            # Not the weight's own size: 4-bit weights are packed.
            size = module.in_features * module.out_features
            # Names that PEFT gives to the two matrices of an adapter.
            if ".lora_" in name:
                adapters += size
            else:
                frozen += size
    return frozen, adapters


def _fusion_flops(fusion: nn.Module, num_visual: int, *, backward: bool) -> tuple[float, float]:
    """Operations for a video: linear layers, and attention."""
    assert isinstance(fusion, FusionCore)
    # Attention's backward pass takes twice its forward pass.
    trained, attention = (6, 3) if backward else (2, 1)
    queries = fusion.num_embeddings
    linear = 0
    for name, module in fusion.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        # Per token that goes through the layer: visual tokens, or queries.
        size = module.in_features * module.out_features
        if name.endswith(("cross_attention.key", "cross_attention.value")):
            linear += trained * size * num_visual
        elif name.startswith(("visual_projection", "token_positions")):
            # Their inputs need no gradient.
            linear += (trained - 2 * backward) * size * num_visual
        else:
            linear += trained * size * queries
    width = fusion.queries.shape[1]
    # Self-attention among the queries, cross-attention to the visual tokens; no pair is masked.
    pairs = len(fusion.blocks) * queries * (queries + num_visual)
    # 2 operations a channel for a pair's score, and 2 for the sum of values that it weighs.
    return float(linear), float(attention * 4 * width * pairs)
