"""Prompts and responses to token ids and labels, the same for training and generation."""

from functools import lru_cache
from typing import NamedTuple, cast

from transformers import PreTrainedTokenizerBase

from vidreason.reasoning.prompts import example_text, prompt_text

IGNORE_INDEX = -100
"""Label of a token that nothing is to be learnt from."""


class EncodedText(NamedTuple):
    """Token ids of a prompt and its response."""

    input_ids: list[int]
    """The prompt's ids, as :func:`encode_prompt` gives them, then the response's and the end of
    turn."""
    labels: list[int]
    """As long as ``input_ids``: the same id where the assistant speaks or ends its turn, else
    ``IGNORE_INDEX``. Not shifted."""


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Token ids of a prompt in chat markup, up to where the assistant's answer begins."""
    return _encode(tokenizer, prompt_text(tokenizer, prompt))


def encode_example(
    tokenizer: PreTrainedTokenizerBase, prompt: str, response: str, max_tokens: int
) -> EncodedText:
    """Token ids and labels of a prompt with its response.

    A response that does not fit is cut at its end; the end-of-turn token is then left out, so that
    the model is not taught to stop there.

    Args:
        tokenizer: The language model's.
        prompt: What the user says, without markup.
        response: What the assistant says, without markup.
        max_tokens: Longest prompt and response together.

    Raises:
        ValueError: The prompt leaves no room for a response, or the chat template does not put the
            response right behind the prompt.
    """
    before = prompt_text(tokenizer, prompt)
    whole = example_text(tokenizer, prompt, response)
    if not whole.startswith(before):
        raise ValueError(
            "the tokenizer's chat template renders a finished turn differently from the prompt "
            f"for one: {whole!r} does not begin with {before!r}; give the tokenizer a "
            "chat_template in which it does"
        )
    prompt_ids = _encode(tokenizer, before)
    if len(prompt_ids) >= max_tokens:
        raise ValueError(
            f"max_tokens is {max_tokens}, but the prompt alone has {len(prompt_ids)} tokens: "
            f"{prompt!r}; allow more tokens"
        )
    # Tokens of the whole text are what the language model is used to. Where they would merge over
    # the border, the prompt's ids win, because they are what generation starts from.
    input_ids = _encode(tokenizer, whole)
    if input_ids[: len(prompt_ids)] != prompt_ids:
        input_ids = prompt_ids + _encode(tokenizer, whole[len(before) :])
    # Templates may write more after the end of the turn, such as a new line; it is not the
    # assistant's.
    stop = end_of_turn_id(tokenizer)
    last = len(input_ids) - input_ids[::-1].index(stop) if stop in input_ids else len(input_ids)
    input_ids = input_ids[: min(last, max_tokens)]
    labels = [IGNORE_INDEX] * len(prompt_ids) + input_ids[len(prompt_ids) :]
    return EncodedText(input_ids=input_ids, labels=labels)


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token with which the assistant ends its turn.

    Raises:
        ValueError: The chat template ends a turn without a special token.
    """
    return _end_of_turn_id(tokenizer, tokenizer.chat_template)


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end an answer: the chat template's end of turn, and the end of text."""
    ids = [end_of_turn_id(tokenizer), tokenizer.eos_token_id]
    return list(dict.fromkeys(i for i in ids if isinstance(i, int)))


@lru_cache(maxsize=8)
def _end_of_turn_id(tokenizer: PreTrainedTokenizerBase, chat_template: str | None) -> int:
    """Find the first special token after a probe response; cached, as it is asked each example."""
    probe = "probe"
    tail = example_text(tokenizer, probe, probe).rpartition(probe)[2]
    special_ids = set(tokenizer.all_special_ids) | {
        token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    for token_id in _encode(tokenizer, tail):
        if token_id in special_ids:
            return token_id
    raise ValueError(
        f"the chat template of {tokenizer.name_or_path!r} ends the assistant's turn with {tail!r}, "
        "which holds no special token: the model could not learn when to stop; give the tokenizer "
        "an eos_token, and a chat_template that writes it"
    )


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # The template has written all special tokens: the tokenizer must not add a second BOS.
    return cast(list[int], tokenizer(text, add_special_tokens=False)["input_ids"])
