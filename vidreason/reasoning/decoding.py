"""From embeddings to text: greedy, nucleus and beam search through transformers (section 3.3.2).

Shapes: B batch, Q queries, T text tokens, D width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache, GenerationConfig, PreTrainedModel, StoppingCriteriaList

from vidreason.config import config_from_values
from vidreason.reasoning.key_value_cache import cache_argument
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.reasoning.shared_prefixes import read_prompts

_GENERATION_FIELDS = frozenset(
    (
        *("max_new_tokens", "eos_token_id", "pad_token_id", "num_beams", "do_sample"),
        *("temperature", "top_p", "top_k", "length_penalty", "transformers_version"),
    )
)
"""Fields of ``generation_config.json`` that :func:`generation_config` sets, and the version."""


def prompt_embeddings(
    model: PreTrainedModel, video_embeddings: Tensor, prompts: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """Embed prompts after their videos.

    Args:
        model: The language model.
        video_embeddings: Shape ``(B, Q, D)``.
        prompts: Token ids of each row.

    Returns:
        As :func:`left_pad`.
    """
    device = video_embeddings.device
    rows = [torch.tensor(prompt) for prompt in prompts]
    lengths = torch.tensor([len(row) for row in rows], device=device)
    text = model.get_input_embeddings()(pad_sequence(rows, batch_first=True).to(device))
    return left_pad(video_embeddings.to(text.dtype), text, lengths)


def left_pad(
    video_embeddings: Tensor, text_embeddings: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Put ``[E_vision; E_text]`` of each row at the right end, so that all rows go on from there.

    Args:
        video_embeddings: Shape ``(B, Q, D)``.
        text_embeddings: Shape ``(B, T, D)``, padded on the right.
        lengths: Shape ``(B,)``, int64: text tokens of each row.

    Returns:
        Embeddings ``(B, Q + T, D)``, padded on the left, and their attention mask ``(B, Q + T)``,
        int64.
    """
    joined = torch.cat([video_embeddings, text_embeddings], dim=1)  # (B, Q + T, D)
    shift = (text_embeddings.shape[1] - lengths)[:, None]  # (B, 1): padding of each row
    columns = torch.arange(joined.shape[1], device=joined.device)[None, :]
    source = (columns - shift) % joined.shape[1]  # rotates the padding from the right to the left
    # (B, Q + T) columns -> (B, Q + T, D)
    rotated = joined.gather(1, source[:, :, None].expand_as(joined))
    return rotated, (columns >= shift).long()


def answer_prompts(
    model: PreTrainedModel,
    video: Tensor,
    videos: Sequence[int],
    prompts: Sequence[Sequence[int]],
    decoding: DecodingConfig,
    stop_ids: Sequence[int],
) -> list[list[int]]:
    """Answer prompts about videos; what several rows begin with, or beams of a row, is read once.

    Args:
        model: The language model, in eval mode.
        video: Video embeddings, shape ``(V, Q, D)``.
        videos: Of each prompt, the index of its video.
        prompts: Token ids of the prompts.
        decoding: How to choose tokens.
        stop_ids: Tokens that end an answer.

    Returns:
        The answers' token ids, without the stop tokens.
    """
    embeddings, mask = prompt_embeddings(model, video[list(videos)], prompts)
    beams = decoding.num_beams if decoding.strategy == "beam" else 1
    cache = read_prompts(model, video, videos, prompts, beams)
    return generate_ids(model, embeddings, mask, decoding, stop_ids, cache=cache)


def generate_ids(
    model: PreTrainedModel,
    inputs_embeds: Tensor,
    attention_mask: Tensor,
    decoding: DecodingConfig,
    stop_ids: Sequence[int],
    stop_sequences: Sequence[Sequence[int]] = (),
    cache: Cache | None = None,
) -> list[list[int]]:
    """Continue each row until a stop token.

    Args:
        model: The language model, in eval mode.
        inputs_embeds: Shape ``(B, L, D)``, padded on the left.
        attention_mask: Shape ``(B, L)``.
        decoding: How to choose tokens.
        stop_ids: Tokens that end an answer.
        stop_sequences: Several tokens in a row that end an answer together.
        cache: Keys and values of all rows but their last positions, a row for each beam.

    Returns:
        The new token ids of each row, without the stop token or sequence.
    """
    # A stop of one token is transformers' business (eos_token_id); one of several is ours.
    criteria = StoppingCriteriaList([_ends_with(stop_sequences)]) if stop_sequences else None
    inputs = {"inputs_embeds": inputs_embeds, "attention_mask": attention_mask}
    # Of embeddings, transformers returns the new tokens alone.
    rows = continued(model, inputs, decoding, stop_ids, criteria, cache)
    return [_before_sequences(before_stop(row, stop_ids), stop_sequences) for row in rows]


def continued(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    decoding: DecodingConfig,
    stop_ids: Sequence[int],
    criteria: StoppingCriteriaList | None = None,
    cache: Cache | None = None,
) -> list[list[int]]:
    """Return the token ids that ``model.generate`` gives for inputs, padded on the left."""
    device = inputs["attention_mask"].device
    devices = [device] if device.type == "cuda" else []
    # Only drawing needs the seed; other strategies leave the generators alone.
    with torch.random.fork_rng(devices, enabled=decoding.strategy == "nucleus"):
        if decoding.strategy == "nucleus":
            torch.manual_seed(decoding.seed)
        # Any: generate() returns a tensor or, if told so, a record.
        output: Any = model.generate(  # type: ignore[operator]
            **inputs,
            **({} if cache is None else cache_argument(model, cache)),
            generation_config=generation_config(decoding, stop_ids),
            stopping_criteria=criteria,
        )
    rows: list[list[int]] = output.tolist()
    return rows


def generate_lines(
    model: PreTrainedModel,
    inputs_embeds: Tensor,
    attention_mask: Tensor,
    num_lines: int,
    max_new_tokens: int,
    line_ends: Sequence[int],
    stop_ids: Sequence[int],
    cache: Cache | None = None,
) -> list[list[int]]:
    """Continue each row greedily, for some lines.

    Args:
        model: Causal language model.
        inputs_embeds: ``(B, L, D)`` embeddings of the prompts, padded on the left.
        attention_mask: ``(B, L)``, 0 at padding.
        num_lines: Lines to write.
        max_new_tokens: Longest continuation.
        line_ends: Tokens with a line break.
        stop_ids: Tokens that end an answer.
        cache: Keys and values of all rows but their last positions.
    """
    ends = torch.tensor(line_ends, device=inputs_embeds.device)

    def enough(input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        return torch.isin(input_ids, ends).sum(1) >= num_lines  # new tokens alone

    decoding = DecodingConfig(max_new_tokens=max_new_tokens)
    inputs = {"inputs_embeds": inputs_embeds, "attention_mask": attention_mask}
    rows = continued(model, inputs, decoding, stop_ids, StoppingCriteriaList([enough]), cache)
    return [before_stop(row, stop_ids) for row in rows]


def generation_config(decoding: DecodingConfig, stop_ids: Sequence[int]) -> GenerationConfig:
    """Translate to transformers' class, all but the seed and the search for futures.

    :func:`decoding_config` is the inverse.
    """
    # transformers fills in what is left out: set each field that a strategy reads.
    fields: dict[str, Any] = {
        "max_new_tokens": decoding.max_new_tokens,
        "eos_token_id": list(stop_ids),
        "pad_token_id": stop_ids[0],
        "num_beams": 1,
        "do_sample": False,
    }
    if decoding.strategy == "nucleus":
        fields |= {
            "do_sample": True,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "top_k": 0,
        }
    elif decoding.strategy == "beam":
        fields |= {"num_beams": decoding.num_beams, "length_penalty": decoding.length_penalty}
    return GenerationConfig(**fields)  # type: ignore[no-untyped-call]


def decoding_config(fields: Mapping[str, Any], source: str) -> DecodingConfig:
    """Read the fields of a ``generation_config.json``, as :func:`generation_config` writes it.

    Raises:
        ValueError: A field is unknown here, or a value is out of range; ``source`` is named.
    """
    unknown = sorted(fields.keys() - _GENERATION_FIELDS)
    if unknown:
        raise ValueError(
            f"{source}: {unknown[0]} has no counterpart in DecodingConfig; known are "
            f"{', '.join(sorted(_GENERATION_FIELDS))}"
        )
    # The strategy follows from two fields, as transformers has it: sampling first, then beams.
    beams = fields.get("num_beams", 1)
    if not isinstance(beams, int) or not isinstance(fields.get("do_sample", False), bool):
        raise ValueError(f"{source}: num_beams is a whole number, and do_sample true or false")
    values = {name: fields[name] for name in ("max_new_tokens",) if name in fields}
    if fields.get("do_sample"):
        values |= {"strategy": "nucleus"}
        values |= {name: fields[name] for name in ("temperature", "top_p") if name in fields}
    elif beams > 1:
        values |= {"strategy": "beam", "num_beams": beams}
        values |= {name: fields[name] for name in ("length_penalty",) if name in fields}
    return config_from_values(DecodingConfig, values, source)


def _ends_with(sequences: Sequence[Sequence[int]]) -> Callable[..., Tensor]:
    def ended(input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        stops = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for sequence in sequences:
            if input_ids.shape[1] >= len(sequence):  # new tokens alone
                last = input_ids[:, -len(sequence) :]
                stops |= (last == torch.tensor(sequence, device=last.device)).all(1)
        return stops

    return ended


def _before_sequences(ids: list[int], sequences: Sequence[Sequence[int]]) -> list[int]:
    # Each start of a sequence in the answer, as it may be followed by other tokens in a batch.
    ends = [
        start
        for sequence in sequences
        for start in range(len(ids) - len(sequence) + 1)
        if ids[start : start + len(sequence)] == list(sequence)
    ]
    return ids[: min(ends, default=len(ids))]


def before_stop(ids: list[int], stop_ids: Sequence[int]) -> list[int]:
    """Return the tokens before the first one that ends an answer."""
    ends = (index for index, token_id in enumerate(ids) if token_id in stop_ids)
    return ids[: next(ends, len(ids))]
