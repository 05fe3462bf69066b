"""Start the fusion core from the Q-Former of BLIP-2 or InstructBLIP, as far as the shapes allow.

The released Q-Formers are BERT-base with queries: 12 layers of width 768, normalised *after* each
sub-layer, with cross-attention in every second layer, to image patches of width 1408, and beside
the MLP for the queries one for text. The fusion core has 8 blocks of the same width, normalised
*before* each sub-layer, each with cross-attention, to tokens of its own width. From that follows:

* Layer ``n`` starts block ``n``, so that each layer still follows the one that it was trained
  after. Layers beyond the number of blocks are not used.
* Self-attention and the MLP of the queries are taken over as they are.
* A cross-attention is taken over whole or not at all: its query and output projections say nothing
  beside random keys and values. Whole it fits only where the Q-Former looked at tokens of the
  fusion core's width; those of the released files, 1408 wide, do not. Every second block has no
  counterpart in any case.
* The normalisation before a sub-layer is the one that the Q-Former had between it and the sub-layer
  before. A sub-layer is thus given the same affine map of a normalised vector as it was trained on.
  What differs is the residual: BERT carries on the normalised sum, the fusion core the sum. It is a
  start, not the same function.
* The queries are ``query_tokens`` normalised, without the affine part, which is the first block's.
* The text branch (InstructBLIP reads its instruction there) has no counterpart, and the projection
  to the language model speaks to another one: neither is used.

A file may also hold a fusion core's own weights, by its parameters' names, as a reasoner folder
does. It is then taken over whole, or not at all; but for the output projection, which speaks to one
language model and is left new before another one whose embeddings have another width.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import layer_norm

from vidreason.atomic_file import write_json_atomically
from vidreason.fusion.config import FUSION_FILE
from vidreason.fusion.fusion_core import FusionBlock, FusionCore
from vidreason.json_object import read_json_object
from vidreason.perception.weights import Shape, open_weights

_PREFIXES = ("qformer.", "model.qformer.", "Qformer.bert.", "")
"""Beginnings of a Q-Former's keys: transformers' models, LAVIS' files, a Q-Former by itself."""
_QUERIES = ("query_tokens", "model.query_tokens")
_EMBEDDING_NORMS = ("layernorm", "embeddings.layernorm", "embeddings.LayerNorm")
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")
_OWN_KEYS = {"queries", "visual_projection.1.weight", "output_projection.weight"}
"""Keys that tell a fusion core's weights from a Q-Former's."""
_PROJECTION = ("output_projection.weight", "output_projection.bias")
"""The parameters whose shapes depend on the language model."""
_MAX_CONFIG_BYTES = 2**20  # 1 MiB
_HEAD_WIDTH = 64
"""Width of a head of BERT, and of all released Q-Formers."""

_ATTENTION = {
    **{name: f"attention.{name}" for name in ("query", "key", "value")},
    "output": "output.dense",
}
_SELF_ATTENTION = {f"self_attention.{mine}": f"attention.{key}" for mine, key in _ATTENTION.items()}
_CROSS_ATTENTION = {
    **{f"cross_attention.{mine}": f"crossattention.{key}" for mine, key in _ATTENTION.items()},
    "cross_attention_norm": "attention.output.LayerNorm",
}
_MLP = {"mlp.0": "intermediate_query.dense", "mlp.2": "output_query.dense"}
_LAYER_END = "output_query.LayerNorm"


@dataclass(frozen=True, kw_only=True)
class WarmStartReport:
    """The tensors that a warm start took over, and those that it did not."""

    path: str
    """The weights file."""
    used: dict[str, str]
    """The key in the file by the name of the fusion core's parameter."""
    unused: list[str]
    """The other keys in the file; those of numbered layers as one, with their number."""
    left: list[str]
    """The fusion core's parameters that are as they were before."""
    projection_widths: tuple[int, int] | None = None
    """The widths of the embeddings that the file's fusion core made and that this one makes, where
    they differ; None where they do not, and for a Q-Former."""

    def summary(self) -> str:
        """A few lines for a log."""
        text = (
            f"warm start from {self.path}: {len(self.used)} tensors of the fusion core were taken "
            f"over, {len(self.left)} left as they were: {', '.join(_grouped(self.left)) or 'none'}"
        )
        if self.projection_widths:
            text += (
                "\n  only the output projection is new: the file's makes embeddings of width {}, "
                "this language model has width {}".format(*self.projection_widths)
            )
        if self.unused:
            text += f"\n  not used of the file: {', '.join(self.unused)}"
        return text

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        write_json_atomically(path, asdict(self))


def warm_start(fusion: FusionCore, path: str) -> WarmStartReport:
    """Give ``fusion`` the weights of a Q-Former where they fit; the rest stays as it is.

    Args:
        fusion: The fusion core, newly initialised.
        path: A folder of transformers' ``Blip2*`` or ``InstructBlip*`` models; a LAVIS file
            (``{"model": ...}``); the state dict of a Q-Former by itself, which has no queries; that
            of a fusion core; or a reasoner folder, which has one. Only what is taken over is read,
            and nothing but tensors is unpickled.

    Raises:
        ValueError: There is no such file, it is damaged or holds no Q-Former, or the Q-Former has
            another width or other heads than the fusion core; or it holds another fusion core.
    """
    parameters = dict(fusion.named_parameters())
    blocks = [block for block in fusion.blocks if isinstance(block, FusionBlock)]
    num_heads = blocks[0].self_attention.num_heads
    folder = Path(path)
    is_reasoner = (folder / FUSION_FILE).is_file()
    with open_weights(str(folder / FUSION_FILE) if is_reasoner else path) as file:
        expected = {name: tuple(value.shape) for name, value in parameters.items()}
        is_fusion_core = set(file.shapes) >= _OWN_KEYS
        if is_reasoner:
            _check_folder(folder, num_heads)
        if is_fusion_core:
            used, widths = _fusion_core_plan(path, file.shapes, expected)
        else:
            used, widths = _q_former_plan(path, file.shapes, expected, num_heads), None
        with torch.no_grad():
            for parameter, key in used.items():
                value = file.read(key).to(parameters[parameter])
                # A Q-Former's queries pass a norm before its first block.
                if parameter == "queries" and not is_fusion_core:
                    value = layer_norm(value[0], value.shape[-1:])
                parameters[parameter].copy_(value)
        taken = set(used.values())
        unused = _grouped(key for key in file.shapes if key not in taken)
    left = [name for name in parameters if name not in used]
    return WarmStartReport(path=path, used=used, unused=unused, left=left, projection_widths=widths)


def _fusion_core_plan(
    path: str, shapes: Mapping[str, Shape], expected: Mapping[str, Shape]
) -> tuple[dict[str, str], tuple[int, int] | None]:
    """Take a fusion core of these sizes over, without the projection to another width.

    Returns:
        The file's key by each parameter that is taken over; and the widths of both projections, if
        they differ.
    """
    wrong = sorted(name for name in {*shapes, *expected} if shapes.get(name) != expected.get(name))
    weight = _PROJECTION[0]
    if set(wrong) == set(_PROJECTION) and shapes[weight][1:] == expected[weight][1:]:
        widths = (shapes[weight][0], expected[weight][0])
        return {name: name for name in expected if name not in _PROJECTION}, widths
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"fusion.warm_start {path!r} holds another fusion core: {len(wrong)} tensors differ, "
            f"first {name}: found {shapes.get(name, 'none')}, "
            f"expected {expected.get(name, 'none')}; "
            "set the sizes below reasoner.fusion to those that it was trained with"
        )
    return {name: name for name in expected}, None


def _check_folder(folder: Path, num_heads: int) -> None:
    """Make sure that a reasoner folder's fusion core cuts its weights into as many heads."""
    config: Any = read_json_object(folder / "config.json", _MAX_CONFIG_BYTES)
    for key in ("reasoner", "fusion", "num_heads"):
        config = config.get(key) if isinstance(config, dict) else None
    if config != num_heads:
        raise ValueError(
            f"fusion.warm_start {str(folder)!r}: its fusion core has {str(config)[:80]} heads, "
            f"fusion.num_heads is {num_heads}; set fusion.num_heads to the folder's"
        )


def _q_former_plan(
    path: str, shapes: Mapping[str, Shape], expected: Mapping[str, Shape], num_heads: int
) -> dict[str, str]:
    """Map each parameter that a Q-Former can start to the key that it starts from."""
    names = _canonical_names(path, shapes)
    width = expected["queries"][1]
    found_width = shapes[names["layer.0.attention.attention.query.weight"]][0]
    if found_width != width:
        raise ValueError(
            f"fusion.warm_start {path!r}: its Q-Former is {found_width} wide, fusion.width is "
            f"{width}; set fusion.width={found_width}"
        )
    _check_heads(path, width, num_heads)
    return _plan(names, shapes, expected)


def _canonical_names(path: str, shapes: Mapping[str, object]) -> dict[str, str]:
    """Keys of the query branch by one name for all layouts, ``layer.N.`` of transformers'."""
    for prefix in _PREFIXES:
        below_prefix = {key.removeprefix(prefix): key for key in shapes if key.startswith(prefix)}
        names = {}
        for name, key in below_prefix.items():
            match = _LAYER.fullmatch(name)
            if match:
                number, part, kind = match.groups()
                part = part.replace("attention.self.", "attention.attention.")
                if not part.startswith(("intermediate.", "output.")):  # the text branch
                    names[f"layer.{number}.{part}.{kind}"] = key
        if "layer.0.intermediate_query.dense.weight" in names:
            break
    else:
        raise ValueError(
            f"fusion.warm_start {path!r} holds no Q-Former: expected keys like "
            "'qformer.encoder.layer.0.intermediate_query.dense.weight' or "
            "'Qformer.bert.encoder.layer.0.intermediate_query.dense.weight', found "
            f"{sorted(shapes)[:3]}"
        )
    for kind in ("weight", "bias"):
        norms = [f"{norm}.{kind}" for norm in _EMBEDDING_NORMS if f"{norm}.{kind}" in below_prefix]
        if norms:
            names[f"embedding_norm.{kind}"] = below_prefix[norms[0]]
    for key in _QUERIES:
        if key in shapes:
            names["queries"] = key
    _check_complete(path, names)
    return names


def _check_complete(path: str, names: Mapping[str, str]) -> None:
    """Make sure that each layer has all its tensors, with or without a cross-attention."""
    plain = [*_SELF_ATTENTION.values(), *_MLP.values(), "attention.output.LayerNorm", _LAYER_END]
    crossing = [f"crossattention.{key}" for key in (*_ATTENTION.values(), "output.LayerNorm")]
    missing = []
    for number in range(_num_layers(names)):
        crossing_names = [
            name for name in names if name.startswith(f"layer.{number}.crossattention.")
        ]
        parts = [f"layer.{number}.{part}" for part in plain + (crossing if crossing_names else [])]
        missing += _tensors(parts, known=names)
    missing += _tensors(["embedding_norm"], known=names)
    if missing:
        raise ValueError(
            f"fusion.warm_start {path!r}: the Q-Former is incomplete; missing {len(missing)} "
            f"tensors, first {missing[:3]} (in transformers' names)"
        )


def _tensors(parts: Iterable[str], known: Mapping[str, str]) -> list[str]:
    tensors = [f"{part}.{kind}" for part in parts for kind in ("weight", "bias")]
    return [name for name in tensors if name not in known]


def _num_layers(names: Iterable[str]) -> int:
    return 1 + max(int(name.split(".")[1]) for name in names if name.startswith("layer."))


def _check_heads(path: str, width: int, num_heads: int) -> None:
    """The same weights cut into other heads are another function, which no shape tells."""
    heads = width // _HEAD_WIDTH if width % _HEAD_WIDTH == 0 else num_heads
    config = Path(path) / "config.json"
    if config.is_file():
        settings = json.loads(config.read_text())
        heads = settings.get("qformer_config", settings).get("num_attention_heads", heads)
    if heads != num_heads:
        raise ValueError(
            f"fusion.warm_start {path!r}: its Q-Former has {heads} heads, fusion.num_heads is "
            f"{num_heads}; set fusion.num_heads={heads}"
        )


def _plan(
    names: Mapping[str, str],
    shapes: Mapping[str, Shape],
    expected: Mapping[str, Shape],
) -> dict[str, str]:
    """Map each parameter of the fusion core to the key that it starts from, where it fits."""
    num_layers = _num_layers(names)
    num_blocks = 1 + max(int(name.split(".")[1]) for name in expected if name.startswith("blocks."))
    plan: dict[str, str] = {}

    def take(target: str, source: str, unit: Mapping[str, str]) -> None:
        """Take a unit if all of it fits; its names are relative to ``target`` and ``source``."""
        pairs = {
            f"{target}{mine}.{kind}": names[f"{source}{theirs}.{kind}"]
            for mine, theirs in unit.items()
            for kind in ("weight", "bias")
        }
        if all(expected[mine] == shapes[key] for mine, key in pairs.items()):
            plan.update(pairs)

    # BLIP-2 has them with a batch axis: (1, Q, D)
    if "queries" in names and shapes[names["queries"]] == (1, *expected["queries"]):
        plan["queries"] = names["queries"]
    for number in range(min(num_layers, num_blocks)):
        block, layer = f"blocks.{number}.", f"layer.{number}."
        # BERT normalises after each sub-layer, our blocks before it: each norm is the one that ends
        # the sub-layer before.
        before = f"layer.{number - 1}.{_LAYER_END}" if number else "embedding_norm"
        take(block, layer, _SELF_ATTENTION)
        take(block, "", {"self_attention_norm": before})
        last = "attention"
        if f"{layer}crossattention.attention.key.weight" in names:
            last = "crossattention"
            take(block, layer, _CROSS_ATTENTION)
        take(block, layer, _MLP | {"mlp_norm": f"{last}.output.LayerNorm"})
    # Likewise the norm after our last block, if the Q-Former has that layer.
    if num_blocks <= num_layers:
        take("", f"layer.{num_blocks - 1}.", {"output_norm": _LAYER_END})
    return plan


def _grouped(names: Iterable[str]) -> list[str]:
    """Names of tensors without their ends, and with the numbers of layers drawn together."""
    stems = (re.sub(r"\.(weight|bias)$", "", re.sub(r"\.\d+\.", ".*.", name)) for name in names)
    return [f"{stem} ({count})" for stem, count in Counter(stems).items()]
