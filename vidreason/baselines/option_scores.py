"""Likelihoods of options under a video language model: by their letter, or by their text.

Shapes: B questions of a batch, V tokens of the vocabulary, N options, L tokens of the longest.
"""

import copy
from collections.abc import Mapping, Sequence
from itertools import takewhile

import torch
from torch import Tensor
from transformers import Cache, GenerationConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from vidreason.reasoning.key_value_cache import cache_argument, cache_in


def first_token_logits(model: PreTrainedModel, inputs: Mapping[str, Tensor], pad_id: int) -> Tensor:
    """Return the logits of the token after each prompt.

    One token is generated, so that positions are counted as in an answer.

    Returns:
        Shape ``(B, V)``, float32.
    """
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=1,
        do_sample=False,
        num_beams=1,
        pad_token_id=pad_id,
        output_logits=True,
        return_dict_in_generate=True,
    )
    output = model.generate(**inputs, generation_config=config)  # type: ignore[operator]
    logits: Tensor = output.logits[0]
    return logits.float()


def letter_tokens(
    continuations: Sequence[Sequence[int]], where: str
) -> tuple[list[int], list[int]]:
    """Return what all letters begin with, and the token after it by which each is told apart.

    Args:
        continuations: Token ids of each letter as an answer; some tokenizers put a token for the
            blank before it.
        where: Field and value of the model, for messages.

    Raises:
        ValueError: Two letters begin with the same tokens.
    """
    # Token by token over all letters, as far as they are the same.
    columns = zip(*continuations, strict=False)
    shared = [ids[0] for ids in takewhile(lambda ids: len(set(ids)) == 1, columns)]
    tokens = [ids[len(shared)] for ids in continuations if len(ids) > len(shared)]
    if len(set(tokens)) < len(continuations):
        raise ValueError(
            f"{where}: its tokenizer does not tell letters of options apart by one token "
            f"({[list(ids) for ids in continuations]}); set option_scoring: text"
        )
    return shared, tokens


def text_log_likelihoods(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], options: Sequence[Sequence[int]]
) -> list[float]:
    """Return the natural-log likelihood of each option after one prompt, summed over its tokens.

    The prompt is computed once, and its keys and values serve all options.

    Args:
        model: The model, in eval mode.
        inputs: The prompt, one row without padding.
        options: N options of one token or more.

    Raises:
        ValueError: The model has no cache of keys and values.
    """
    forget_positions(model)
    prompt = model(**inputs, use_cache=True, logits_to_keep=1)
    # The first token of each option follows the prompt itself: (V,)
    first = prompt.logits[0, -1].float().log_softmax(-1)
    totals = [float(first[ids[0]]) for ids in options]
    longest = max(len(ids) for ids in options) - 1
    if not longest:
        return totals
    # (N, L - 1), padded on the right, where no token that counts can see it.
    known = torch.tensor([[*ids[:-1], *[0] * (longest + 1 - len(ids))] for ids in options])
    cache = cache_in(prompt)
    if cache is None:
        raise ValueError(
            f"{type(model).__name__} gives no cache of keys and values; options need it"
        )
    logits = _logits_after(model, cache, known.to(first.device))
    scores = logits.float().log_softmax(-1)
    for row, ids in enumerate(options):
        following = torch.tensor(ids[1:], device=scores.device)
        # Logits after token i score token i + 1: (L, V) at (L, 1)
        totals[row] += float(scores[row, : len(following)].gather(1, following[:, None]).sum())
    return totals


def _logits_after(model: PreTrainedModel, cache: Cache, tokens: Tensor) -> Tensor:
    """Return the logits after each token of rows that go on from one prompt.

    No mask is given: the position of a token follows from the cache, which has no padding. Of a
    mask over prompt and tokens, Qwen-VL models would make positions for both.

    Args:
        model: The model.
        cache: Keys and values of the prompt, one row.
        tokens: Shape ``(N, L)``.

    Returns:
        Shape ``(N, L, V)``.
    """
    if all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
        cache.batch_repeat_interleave(len(tokens))
        argument = cache_argument(model, cache)
        logits: Tensor = model(input_ids=tokens, use_cache=True, **argument).logits
        return logits
    # Other layers, such as those of linear attention, are sure of one row and one token at a time.
    rows = []
    for row in tokens:
        state = copy.deepcopy(cache)
        argument = cache_argument(model, state)
        steps = [  # each of one row and one token: (1, 1, V) -> (1, V)
            model(input_ids=token.view(1, 1), use_cache=True, **argument).logits[0] for token in row
        ]
        rows.append(torch.cat(steps))  # (L, V)
    return torch.stack(rows)


def forget_positions(model: PreTrainedModel) -> None:
    """Forget the shift of positions that a Qwen-VL model has from the video before.

    It would be added to those of a prompt without a video.
    """
    for module in model.modules():
        if getattr(module, "rope_deltas", None) is not None:
            module.rope_deltas = None  # type: ignore[assignment]
