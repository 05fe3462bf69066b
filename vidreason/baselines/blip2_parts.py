"""Parts of BLIP-2 that Video-LLaMA and SeViLA consist of, and the names of their weights.

The vision tower (EVA-CLIP, without a norm at its end) and the Q-Former are transformers' classes.
Official files name the weights as LAVIS does (salesforce/LAVIS, models/eva_vit.py,
models/blip2_models/Qformer.py; the same in DAMO-NLP-SG/Video-LLaMA@64888c0 and
Yui010206/SeViLA@419e728); folders such as ``Salesforce/blip2-flan-t5-xl`` as transformers does.

Shapes: F frames, S image side in pixels, P patches of a frame, E width of the tower, B rows, N
states, D width of a Q-Former, Q queries.
"""

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel, Blip2VisionConfig, Blip2VisionModel

from vidreason.perception.weights import Shape

Names = Mapping[str, tuple[str, ...]]
"""Keys in a file that each tensor of a module is made of: its one key, or those of the biases of
queries and values."""

NORM_EPS = 1e-5
"""Epsilon of the norms after the tower (models/blip2.py: LayerNorm, torch's default). transformers
has 1e-6, by which the tower's output differs by 6e-5."""

_VISION_NAMES = (
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.position_embedding$", "pos_embed"),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^encoder\.layers\.", "blocks."),
    (r"\.self_attn\.projection\.", ".attn.proj."),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm([12])\.", r".norm\1."),
)
_QUERY_NAMES = (
    (r"^layernorm\.", "embeddings.LayerNorm."),
    (r"\.(cross)?attention\.attention\.", r".\1attention.self."),
)
_JOINED_BIAS = ".attn.qkv.bias"


class QueryTransformer(nn.Module):
    """A Q-Former: learnt queries that gather from a sequence of states.

    Args:
        config: Sizes.
        num_queries: Number of learnt queries.
    """

    def __init__(self, config: Blip2QFormerConfig, num_queries: int) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, num_queries, config.hidden_size))
        nn.init.normal_(self.query_tokens, std=config.initializer_range)
        self.transformer = Blip2QFormerModel(config)

    def forward(self, states: Tensor) -> Tensor:
        """Return the queries' outputs ``(B, Q, D)`` for states ``(B, N, E)``, in float32."""
        queries = self.query_tokens.expand(len(states), -1, -1)  # (1, Q, D) -> (B, Q, D)
        output: Tensor = self.transformer(
            query_embeds=queries, encoder_hidden_states=states.to(queries.dtype)
        ).last_hidden_state
        return output


class VisionTower(nn.Module):
    """The vision transformer without its last norm, which each reader of its output has by itself.

    Args:
        config: Sizes.
    """

    def __init__(self, config: Blip2VisionConfig) -> None:
        super().__init__()
        assert isinstance(config.image_size, int)
        self.image_size = config.image_size
        self.model = Blip2VisionModel(config)
        self.model.post_layernorm = nn.Identity()  # type: ignore[assignment]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return tokens ``(F, 1 + P, E)`` of normalised frames ``(F, 3, S, S)``, [CLS] first."""
        tokens: Tensor = self.model(pixel_values=pixels).last_hidden_state
        return tokens


def vision_norm(config: Blip2VisionConfig) -> nn.LayerNorm:
    """Return a norm for the tower's output."""
    return nn.LayerNorm(config.hidden_size, eps=NORM_EPS)


def official_vision_names(tower: VisionTower) -> Names:
    """Return the official keys of a vision tower.

    Keys have no bias of attention's keys; it is zero.
    """
    return {
        f"model.{key}": _vision_keys(key, "visual_encoder.") for key in tower.model.state_dict()
    }


def official_query_names(queries: QueryTransformer, prefix: str, tokens: str) -> Names:
    """Return the official keys of a Q-Former.

    Args:
        queries: The module.
        prefix: Of the transformer's keys, such as ``Qformer.bert.``.
        tokens: Key of the learnt queries, such as ``query_tokens``.
    """
    keys = queries.transformer.state_dict()
    names = {f"transformer.{key}": (prefix + _renamed(key, _QUERY_NAMES),) for key in keys}
    return names | {"query_tokens": (tokens,)}


def folder_vision_names(tower: VisionTower) -> Names:
    """Return the keys of a vision tower in a folder of transformers' BLIP-2."""
    return {f"model.{key}": (f"vision_model.{key}",) for key in tower.model.state_dict()}


def folder_query_names(queries: QueryTransformer) -> Names:
    """Return the keys of the Q-Former in a folder of transformers' BLIP-2."""
    keys = queries.transformer.state_dict()
    names = {f"transformer.{key}": (f"qformer.{key}",) for key in keys}
    return names | {"query_tokens": ("query_tokens",)}


def plain_names(module: nn.Module, prefix: str) -> Names:
    """Return the keys of a module that has the same names in a file, below ``prefix``."""
    return {key: (prefix + key,) for key in module.state_dict()}


def below(attribute: str, names: Names) -> Names:
    """Return the names of a module that is the attribute of another one."""
    return {f"{attribute}.{key}": keys for key, keys in names.items()}


def stored_shapes(module: nn.Module, names: Names) -> dict[str, Shape]:
    """Return the shape that each key of a file must have, for a module's names."""
    state = module.state_dict()
    shapes: dict[str, Shape] = {}
    for key, stored in names.items():
        shape = tuple(state[key].shape)
        # (3 E,) -> (E,) each for the biases of queries and values
        part = shape if len(stored) == 1 else (shape[0] // 3,)
        shapes |= dict.fromkeys(stored, part)
    return shapes


def assemble(names: Names, read: Callable[[str], Tensor], keys: Iterable[str]) -> dict[str, Tensor]:
    """Return tensors of a module from those of a file.

    Args:
        names: Of the module's tensors.
        read: From a key of the file to its tensor.
        keys: Those of the module's tensors that are wanted.
    """
    tensors = {}
    for key in keys:
        parts = [read(stored) for stored in names[key]]
        # The official attention has no bias of keys, transformers' has one of all three: (3 E,)
        if len(parts) == 2:
            query_bias, value_bias = parts
            parts = [torch.cat([query_bias, torch.zeros_like(query_bias), value_bias])]
        tensors[key] = parts[0]
    return tensors


def _vision_keys(key: str, prefix: str) -> tuple[str, ...]:
    name = prefix + _renamed(key, _VISION_NAMES)
    # Official files hold the biases of queries and values apart from each other.
    if not name.endswith(_JOINED_BIAS):
        return (name,)
    block = name.removesuffix("qkv.bias")
    return (f"{block}q_bias", f"{block}v_bias")


def _renamed(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key
