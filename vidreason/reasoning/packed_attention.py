"""Attention within the rows of a joined sequence, for transformers' language models.

Padding costs a language model as much as text. Here rows of unequal lengths stand one after the
other in one sequence, which all layers but attention treat position by position; attention is told
where rows begin, and no position attends to another row. On a CUDA device in 16 bits that is the
variable-length kernel of flash attention; elsewhere queries, keys and values, and they alone, are
padded to rows for the causal kernel of ``scaled_dot_product_attention``, on a CPU in groups of rows
of similar lengths, because attention to padding is most of what a small model computes.

Shapes: B rows, L positions of all rows, H heads, K key and value heads, D width of a head, G groups
of rows, N positions of a group.
"""

import copy
import inspect
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake
from torch.nn.attention.varlen import varlen_attn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vidreason.reasoning.joined_rows import JoinedRows
from vidreason.reasoning.output_layer import decoder_of
from vidreason.secrets import first_line

PACKED = "vidreason_packed"
"""Name under which transformers knows this attention. Without rows, it is ``sdpa``."""

_UNKNOWN = ("softcap", "s_aux", "position_bias")
"""Arguments that some models pass to their attention, and none of these kernels knows."""
_MAX_GROUPS = 8
"""Always as many for as many rows, so that what is compiled for one batch fits the next."""
_MAX_CPU_FLOAT32 = 256
"""Longest rows that a CPU attends in float32 whatever they come in: its kernel takes up to
3.8 times as long in bfloat16 (measured, forward and backward, docs/performance.md)."""
_MAX_FLASH_WIDTH = 256  # channels of a head, the most that the kernel takes
_FLASH_CAPABILITY = (8, 0)
"""Flash attention has kernels from NVIDIA's Ampere on."""
_VARLEN_TAKES = frozenset(inspect.signature(varlen_attn).parameters)

_calls: ContextVar[list[tuple[bool, bool]] | None] = ContextVar("calls", default=None)
"""During a probe: for each call, whether it can be answered, and has a window."""
_obstacles: dict[tuple[type[PreTrainedModel], str], str] = {}
"""Results of :func:`_obstacle` by class and configuration: a probe takes 60 ms and more."""
_reasons: WeakKeyDictionary[PreTrainedModel, str] = WeakKeyDictionary()
"""Reasons why loaded models keep their attention."""


class RowGroup(NamedTuple):
    """Rows that are padded together."""

    positions: Tensor | None
    """``(N,)`` int64: their positions in the joined sequence; None for all."""
    padded: Tensor
    """``(N,)`` int64: where these are among ``num_rows * longest`` padded ones."""
    num_rows: int
    longest: int
    """Length of the longest of them."""
    in_float32: bool
    """True if they are attended in float32, whatever they come in."""


class RowGroups(NamedTuple):
    """All rows of a joined sequence."""

    groups: tuple[RowGroup, ...]
    order: Tensor | None
    """``(L,)`` int64: index of each position of the sequence in those of all groups, one after the
    other; None for one group."""


def row_groups(rows: JoinedRows) -> RowGroups:
    """Divide rows into groups of similar lengths, on a CPU; elsewhere the host would have to wait.

    A rehearsal, whose tensors have no contents, does as a GPU does.

    Returns:
        Groups of about as many rows each, the shortest rows first.
    """
    num_rows = len(rows.offsets) - 1
    if rows.offsets.device.type != "cpu" or is_fake(rows.offsets):
        every = RowGroup(None, rows.padded, num_rows, rows.longest, in_float32=False)
        return RowGroups((every,), None)
    lengths = rows.offsets.diff().long()
    number_of = torch.repeat_interleave(torch.arange(num_rows), lengths)  # (L,): rows
    groups, joined = [], []
    # Rows by length, cut into as many groups of neighbours: little padding in each.
    for members in lengths.argsort(stable=True).tensor_split(min(num_rows, _MAX_GROUPS)):
        # Rank of each row within the group, -1 for rows of others.
        rank = torch.full((num_rows,), -1).index_copy(0, members, torch.arange(len(members)))
        positions = (rank[number_of] >= 0).nonzero().flatten()
        longest = int(lengths[members[-1]])
        padded = rank[number_of[positions]] * longest + rows.positions[positions]  # (N,)
        in_float32 = longest <= _MAX_CPU_FLOAT32
        groups.append(RowGroup(positions, padded, len(members), longest, in_float32))
        joined.append(positions)
    # The inverse permutation: from the groups, one after the other, back to the sequence.
    return RowGroups(tuple(groups), torch.cat(joined).argsort())


def row_arguments(rows: JoinedRows) -> dict[str, Any]:
    """Arguments of a language model's decoder that make it attend within ``rows``.

    They are named as transformers names them for its flash attention, and one more.
    """
    return {
        "position_ids": rows.positions[None],  # (L,) -> (1, L)
        # A mask of four dimensions is passed on as it is: none is made, and transformers does not
        # look for positions that begin anew, for which the host would wait for the device.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=rows.positions.device),
        "cu_seq_lens_q": rows.offsets,
        "cu_seq_lens_k": rows.offsets,
        "max_length_q": rows.longest,
        "max_length_k": rows.longest,
        "row_groups": row_groups(rows),
    }


def packs_rows(model: PreTrainedModel) -> bool:
    """Return whether a loaded language model attends within rows if it is told of them."""
    return bool(model.config._attn_implementation == PACKED)


def padding_reason(model: PreTrainedModel) -> str:
    """Return why the rows of a loaded language model are padded; empty if they are not."""
    return "" if packs_rows(model) else _reasons.get(model, "it was not loaded for packed rows")


def offer_packed_attention(model: PreTrainedModel, structure: PreTrainedModel) -> None:
    """Let ``model`` use this attention, if all of its layers can be told of rows.

    A probe without values shows that: each layer has to call this attention, with all arguments
    about rows, and with none that is not known here. Models that mix positions by other means
    (state spaces, convolutions, position biases) do not, and keep their attention.

    Args:
        model: A causal language model.
        structure: The same model on the meta device.
    """
    implementation = model.config._attn_implementation
    if implementation != "sdpa":
        _reasons[model] = f"its attention is {implementation}"
        return
    kind = type(structure), structure.config.to_json_string()
    if kind not in _obstacles:
        _obstacles[kind] = _obstacle(structure)
    if _obstacles[kind]:
        _reasons[model] = _obstacles[kind]
    else:
        model.set_attn_implementation(PACKED)


def _obstacle(structure: PreTrainedModel) -> str:
    """Return why a model on the meta device cannot be told of rows; empty if it can."""
    if "position_ids" not in inspect.signature(decoder_of(structure).forward).parameters:
        return "its decoder takes no position_ids"
    if not structure._can_set_attn_implementation():
        return "transformers cannot replace its attention"
    # In 16 bits: without values, the kernels of experts take nothing else.
    dtype = torch.bfloat16
    probe: Any = copy.deepcopy(structure).to(dtype)  # type: ignore[arg-type] # mypy binds no self
    probe.set_attn_implementation(PACKED)
    width = probe.get_input_embeddings().weight.shape[1]
    meta = torch.device("meta")
    # Two rows of two positions: the fewest that show whether rows are told apart.
    rows = JoinedRows(
        embeddings=torch.zeros(4, width, device=meta, dtype=dtype),
        positions=torch.zeros(4, dtype=torch.int64, device=meta),
        offsets=torch.zeros(3, dtype=torch.int32, device=meta),
        padded=torch.zeros(4, dtype=torch.int64, device=meta),
        longest=2,
    )
    with _probing() as calls, torch.no_grad():
        try:
            decoder_of(probe)(
                inputs_embeds=rows.embeddings[None], use_cache=False, **row_arguments(rows)
            )
        except Exception as error:  # it may raise anything: TypeError, AttributeError, ...
            return f"{type(error).__name__}: {first_line(error)}"
    if not all(answered for answered, _ in calls):
        return "its attention needs arguments that the kernels do not know"
    # A window may be in the mask alone, which is not made here.
    if [window for _, window in calls] != _windows(probe.config.get_text_config()):
        return "it has layers without attention, or with a window in their mask alone"
    return ""


def _windows(config: PreTrainedConfig) -> list[bool | str]:
    """Return for each layer whether it has a sliding window; other kinds of layers by name."""
    kinds = {"full_attention": False, "sliding_attention": True}
    types: list[str] | None = getattr(config, "layer_types", None)
    if types is not None:
        return [kinds.get(kind, kind) for kind in types]
    has_window = getattr(config, "sliding_window", None) is not None
    return [has_window] * config.num_hidden_layers


@contextmanager
def _probing() -> Iterator[list[tuple[bool, bool]]]:
    calls: list[tuple[bool, bool]] = []
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    row_groups: RowGroups | None = None,
    **kwargs: Any,  # noqa: ANN401 - handed on to transformers
) -> tuple[Tensor, None]:
    """Attend within rows if there are any, else as ``sdpa`` does; transformers' signature.

    Args:
        module: The attention layer.
        query: Shape ``(1, H, L, D)``.
        key: Shape ``(1, K, L, D)``.
        value: Shape ``(1, K, L, D)``.
        attention_mask: Not used for rows.
        dropout: Share of the weights that are set to 0.
        scaling: Factor of the products; None for the root of ``1 / D``.
        sliding_window: Number of positions that a position attends to, itself included; None for
            all before it.
        cu_seq_lens_q: Start of each row, and end of the last, shape ``(B + 1,)``, int32.
        max_length_q: Length of the longest row.
        row_groups: Rows that are padded together, where that is not left to a kernel.
        **kwargs: Further arguments of transformers.

    Returns:
        Shape ``(1, L, H, D)``, and no weights.
    """
    if cu_seq_lens_q is None or max_length_q is None or row_groups is None:
        _note(answered=False, window=sliding_window is not None)
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    unknown = [name for name in _UNKNOWN if kwargs.get(name) is not None]
    causal = getattr(module, "is_causal", True) and kwargs.get("is_causal") in (None, True)
    _note(answered=causal and not unknown, window=sliding_window is not None)
    # A window that is no shorter than any row is none; without it, kernels need no mask.
    if sliding_window is not None and sliding_window >= max_length_q:
        sliding_window = None
    options = _kernel_options(query, value, dropout, scaling, sliding_window)
    if options is not None:
        return _attend_varlen(query, key, value, cu_seq_lens_q, max_length_q, options), None
    # For each group: (1, H, L, D) -> (N, H, D)
    attended = [
        _attend_group(module, (query, key, value), group, dropout, scaling, sliding_window)
        for group in row_groups.groups
    ]
    if row_groups.order is None:
        return attended[0][None], None
    # -> (1, L, H, D)
    return torch.cat(attended).index_select(0, row_groups.order)[None], None


def _attend_group(
    module: nn.Module,
    states: tuple[Tensor, Tensor, Tensor],
    group: RowGroup,
    dropout: float,
    scaling: float | None,
    sliding_window: int | None,
) -> Tensor:
    """Attend within the rows of a group.

    Args:
        module: The attention layer.
        states: Queries, keys and values of all rows, ``(1, H, L, D)``.
        group: The rows.
        dropout: Share of the weights that are set to 0.
        scaling: Factor of the products; None for the root of ``1 / D``.
        sliding_window: Number of positions that a position attends to; None for all before it.

    Returns:
        Shape ``(N, H, D)``.
    """
    mask = None
    if sliding_window is not None and sliding_window < group.longest:
        position = torch.arange(group.longest, device=group.padded.device)
        distance = position[:, None] - position[None, :]
        # (1, 1, longest, longest)
        mask = ((distance >= 0) & (distance < sliding_window))[None, None]
    # (1, H, L, D) -> (B, H, longest, D)
    query, key, value = (_pad(each, group) for each in states)
    dtype = value.dtype
    precision: AbstractContextManager[object] = nullcontext()
    if group.in_float32:
        query, key, value = query.float(), key.float(), value.float()
        precision = torch.autocast(value.device.type, enabled=False)
    with precision:
        attended, _ = sdpa_attention_forward(
            module, query, key, value, mask, dropout, scaling, is_causal=True
        )
    # (B, longest, H, D) -> (N, H, D)
    return attended.flatten(0, 1).index_select(0, group.padded).to(dtype)


def _note(*, answered: bool, window: bool) -> None:
    if (calls := _calls.get()) is not None:
        calls.append((answered, window))


def _pad(states: Tensor, group: RowGroup) -> Tensor:
    """Pad the rows of a group: ``(1, H, L, D)`` to ``(B, H, longest, D)``."""
    flat = states[0].transpose(0, 1)  # (1, H, L, D) -> (L, H, D)
    if group.positions is not None:
        flat = flat.index_select(0, group.positions)  # -> (N, H, D)
    padded = flat.new_zeros(group.num_rows * group.longest, *flat.shape[1:])
    padded = padded.index_copy(0, group.padded, flat)
    # (B * longest, H, D) -> (B, H, longest, D)
    return padded.view(group.num_rows, group.longest, *flat.shape[1:]).transpose(1, 2)


def _kernel_options(
    query: Tensor,
    value: Tensor,
    dropout: float,
    scaling: float | None,
    sliding_window: int | None,
) -> dict[str, Any] | None:
    """Return further options of the variable-length kernel; None if it cannot do this."""
    width = query.shape[-1]
    suits = query.is_cuda and value.dtype in (torch.bfloat16, torch.float16) and dropout == 0
    if not suits or width != value.shape[-1] or width > _MAX_FLASH_WIDTH:
        return None
    if torch.cuda.get_device_capability(query.device) < _FLASH_CAPABILITY:
        return None
    if "window_size" not in _VARLEN_TAKES:
        return None
    # A window counts positions before the query: all of them, or one less than its size.
    options: dict[str, Any] = {
        "window_size": (-1 if sliding_window is None else sliding_window - 1, 0)
    }
    if "scale" in _VARLEN_TAKES:
        options["scale"] = scaling
    elif scaling is not None and not math.isclose(scaling, width**-0.5):
        return None
    return options


def _attend_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    longest: int,
    options: dict[str, Any],
) -> Tensor:
    # Grouped queries: as many heads of keys and values, by the kernel itself where it can.
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in _VARLEN_TAKES:
            options["enable_gqa"] = True
        else:
            groups = query.shape[1] // key.shape[1]
            key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    # Under autocast rotated queries and keys may be in float32 beside values in 16 bits.
    # (1, H, L, D) -> (L, H, D)
    query, key, value = (
        states[0].transpose(0, 1).to(value.dtype) for states in (query, key, value)
    )
    attended: Any = varlen_attn(query, key, value, offsets, offsets, longest, longest, **options)
    return cast(Tensor, attended[None])  # (1, L, H, D)


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
