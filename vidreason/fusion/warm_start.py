"""Start the fusion core from the Q-Former of BLIP-2 or InstructBLIP, as far as the shapes allow.

The released Q-Formers are BERT-base with queries: 12 layers of width 768, normalised *after* each
sub-layer, with cross-attention in every second layer, to image patches of width 1408, and beside
the MLP for the queries one for text. The fusion core has 8 blocks of the same width, normalised
*before* each sub-layer, each with cross-attention, to tokens of its own width. From that follows:

* Layer ``n`` starts block ``n``, so that each layer still follows the one that it was trained
  behind. The layers that there are no blocks for are not used.
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
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn.functional import layer_norm

from vidreason.fusion.fusion_core import FusionBlock, FusionCore
from vidreason.perception.weights import OpenWeights, open_weights

_PREFIXES = ("qformer.", "model.qformer.", "Qformer.bert.", "")
"""Of a Q-Former's keys: transformers' models, LAVIS' files, a Q-Former by itself."""
_QUERIES = ("query_tokens", "model.query_tokens")
_EMBEDDING_NORMS = ("layernorm", "embeddings.layernorm", "embeddings.LayerNorm")
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")
_HEAD_WIDTH = 64
"""Of BERT, and of all released Q-Formers."""

_ATTENTION = {
    **{name: f"attention.{name}" for name in ("query", "key", "value")},
    "output": "output.dense",
}
_SELF_ATTENTION = {f"self_attention.{own}": f"attention.{key}" for own, key in _ATTENTION.items()}
_CROSS_ATTENTION = {
    **{f"cross_attention.{own}": f"crossattention.{key}" for own, key in _ATTENTION.items()},
    "cross_attention_norm": "attention.output.LayerNorm",
}
_MLP = {"mlp.0": "intermediate_query.dense", "mlp.2": "output_query.dense"}
_LAYER_END = "output_query.LayerNorm"


@dataclass(frozen=True, kw_only=True)
class WarmStartReport:
    """What a warm start did."""

    path: str
    """The weights file."""
    used: dict[str, str]
    """The key in the file by the name of the fusion core's parameter."""
    unused: dict[str, list[str]]
    """What else is in the file, by the reason why it was not used. Parts that have nothing to do
    with a Q-Former are named by their first word and the number of tensors."""
    left: list[str]
    """The fusion core's parameters that are as they were before."""

    def summary(self) -> str:
        """A few lines for a log."""
        lines = [
            f"warm start from {self.path}: {len(self.used)} tensors of the fusion core were taken "
            f"over, {len(self.left)} left as they were ({', '.join(_stems(self.left))})"
        ]
        lines += [
            f"  not used, {reason}: {', '.join(_stems(keys))}"
            for reason, keys in self.unused.items()
        ]
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def warm_start(fusion: FusionCore, path: str) -> WarmStartReport:
    """Give ``fusion`` the weights of a Q-Former where they fit; the rest stays as it is.

    Args:
        fusion: The fusion core, newly initialised.
        path: A folder of transformers' ``Blip2*`` or ``InstructBlip*`` models; a LAVIS file
            (``{"model": ...}``); or the state dict of a Q-Former by itself, which has no queries.
            Only what is taken over is read, and nothing but tensors is unpickled.

    Raises:
        ValueError: There is no such file, it is damaged or holds no Q-Former, or the Q-Former has
            another width or other heads than the fusion core.
    """
    parameters = dict(fusion.named_parameters())
    blocks = [block for block in fusion.blocks if isinstance(block, FusionBlock)]
    with open_weights(path) as file:
        names = _canonical_names(path, file.shapes)
        width, num_heads = fusion.queries.shape[1], blocks[0].self_attention.num_heads
        _check_sizes(path, file.shapes[names["layer.0.attention.attention.query.weight"]], width)
        _check_heads(path, width, num_heads)
        wanted, unused = _plan(names, file, {k: tuple(p.shape) for k, p in parameters.items()})
        with torch.no_grad():
            for own, key in wanted.items():
                value = file.read(key).to(parameters[own])
                if own == "queries":
                    value = layer_norm(value[0], value.shape[-1:])
                parameters[own].copy_(value)
        taken = {*wanted.values(), *(key for keys in unused.values() for key in keys)}
        others = [key for key in file.shapes if key not in names.values()]
        remaining = [key for key in names.values() if key not in taken]
    if remaining:
        unused["there is no place for them"] = sorted(remaining)
    if others:
        unused["no part of the Q-Former's queries"] = _components(others)
    return WarmStartReport(
        path=path,
        used=wanted,
        unused=unused,
        left=[name for name in parameters if name not in wanted],
    )


def _canonical_names(path: str, shapes: Mapping[str, object]) -> dict[str, str]:
    """Keys of the query branch by one name for all layouts, ``layer.N.`` of transformers'."""
    for prefix in _PREFIXES:
        own = {key.removeprefix(prefix): key for key in shapes if key.startswith(prefix)}
        names = {}
        for name, key in own.items():
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
        norms = [f"{norm}.{kind}" for norm in _EMBEDDING_NORMS if f"{norm}.{kind}" in own]
        if norms:
            names[f"embedding_norm.{kind}"] = own[norms[0]]
    for key in _QUERIES:
        if key in shapes:
            names["queries"] = key
    _check_complete(path, names)
    return names


def _check_complete(path: str, names: Mapping[str, str]) -> None:
    """Whether each layer has all its tensors, with or without a cross-attention."""
    plain = [*_SELF_ATTENTION.values(), *_MLP.values(), "attention.output.LayerNorm", _LAYER_END]
    crossing = [f"crossattention.{key}" for key in (*_ATTENTION.values(), "output.LayerNorm")]
    missing = []
    for number in range(_num_layers(names)):
        own = [name for name in names if name.startswith(f"layer.{number}.crossattention.")]
        parts = [f"layer.{number}.{part}" for part in plain + (crossing if own else [])]
        missing += _tensors(parts, lacking=names)
    missing += _tensors(["embedding_norm"], lacking=names)
    if missing:
        raise ValueError(
            f"fusion.warm_start {path!r}: the Q-Former is incomplete; missing {len(missing)} "
            f"tensors, first {missing[:3]} (in transformers' names)"
        )


def _tensors(parts: Iterable[str], lacking: Mapping[str, str]) -> list[str]:
    tensors = [f"{part}.{kind}" for part in parts for kind in ("weight", "bias")]
    return [name for name in tensors if name not in lacking]


def _num_layers(names: Iterable[str]) -> int:
    return 1 + max(int(name.split(".")[1]) for name in names if name.startswith("layer."))


def _check_sizes(path: str, shape: tuple[int, ...], width: int) -> None:
    if shape[0] != width:
        raise ValueError(
            f"fusion.warm_start {path!r}: its Q-Former is {shape[0]} wide, fusion.width is "
            f"{width}; set fusion.width={shape[0]}"
        )


def _check_heads(path: str, width: int, num_heads: int) -> None:
    """The same weights cut into other heads are another function, which no shape tells."""
    found = width // _HEAD_WIDTH if width % _HEAD_WIDTH == 0 else num_heads
    config = Path(path) / "config.json"
    if config.is_file():
        settings = json.loads(config.read_text())
        found = settings.get("qformer_config", settings).get("num_attention_heads", found)
    if found != num_heads:
        raise ValueError(
            f"fusion.warm_start {path!r}: its Q-Former has {found} heads, fusion.num_heads is "
            f"{num_heads}; set fusion.num_heads={found}"
        )


def _plan(
    names: Mapping[str, str], file: OpenWeights, expected: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Which key starts which parameter, and reasons why others do not."""
    num_layers = _num_layers(names)
    num_blocks = 1 + max(int(name.split(".")[1]) for name in expected if name.startswith("blocks."))
    wanted: dict[str, str] = {}
    unused: dict[str, list[str]] = {}

    def take(own: str, source: str, reason: str, unit: Mapping[str, str]) -> None:
        """Take a unit over if all of it fits; names of the unit are relative to own and source."""
        pairs = {
            f"{own}{mine}.{kind}": names[f"{source}{theirs}.{kind}"]
            for mine, theirs in unit.items()
            for kind in ("weight", "bias")
        }
        if all(expected[mine] == file.shapes[key] for mine, key in pairs.items()):
            wanted.update(pairs)
        else:
            unused.setdefault(reason, []).extend(pairs.values())

    if "queries" in names:
        shape = file.shapes[names["queries"]]
        if shape == (1, *expected["queries"]):
            wanted["queries"] = names["queries"]
        else:
            reason = f"fusion.num_queries is {expected['queries'][0]}, not {shape[1]}"
            unused[reason] = [names["queries"]]
    for number in range(min(num_layers, num_blocks)):
        own, source = f"blocks.{number}.", f"layer.{number}."
        before = f"layer.{number - 1}.{_LAYER_END}" if number else "embedding_norm"
        take(own, source, "of another shape", _SELF_ATTENTION)
        take(own, "", "of another shape", {"self_attention_norm": before})
        crossing = f"{source}crossattention.attention.key.weight" in names
        last = "crossattention" if crossing else "attention"
        if crossing:
            key_width = file.shapes[names[f"{source}crossattention.attention.key.weight"]][1]
            reason = f"cross-attention to tokens of width {key_width}, not fusion.width"
            take(own, source, reason, _CROSS_ATTENTION)
        take(own, source, "not 4 times as wide", _MLP | {"mlp_norm": f"{last}.output.LayerNorm"})
    if num_blocks <= num_layers:
        last_layer = f"layer.{num_blocks - 1}."
        take("", last_layer, "of another shape", {"output_norm": _LAYER_END})
    for number in range(num_blocks, num_layers):
        reason = f"the fusion core has {num_blocks} blocks"
        keys = [key for name, key in names.items() if name.startswith(f"layer.{number}.")]
        unused.setdefault(reason, []).extend(keys)
    return wanted, unused


def _components(keys: Iterable[str]) -> list[str]:
    """``visual_encoder.* (12)``: the first words of keys and how many begin with them."""
    counts: dict[str, int] = {}
    for key in keys:
        stem = key.split(".")[0]
        if stem in ("model", "bert", "Qformer", "qformer", "encoder"):
            stem = ".".join(key.split(".")[:2])
        counts[stem] = counts.get(stem, 0) + 1
    return [f"{stem}.* ({count})" for stem, count in sorted(counts.items())]


def _stems(names: Iterable[str]) -> list[str]:
    """Names of modules, each once, with all numbers of layers drawn together."""
    stems = [re.sub(r"\.(weight|bias)$", "", re.sub(r"\.\d+\.", ".*.", name)) for name in names]
    return list(dict.fromkeys(stems))
