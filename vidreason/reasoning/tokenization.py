"""Conversations to token ids and labels, the same for training and generation; and back."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple, TypeVar, cast

from transformers import PreTrainedTokenizerBase

from vidreason.example import Turn, split_system
from vidreason.reasoning.chat_markup import chat_text
from vidreason.reasoning.control_tokens import (
    Markup,
    control_ids,
    encode_markup,
    template_control_ids,
)

MARKUP_VERSION = 2
"""Raise it with any change after which some texts have other token ids, or some generated tokens
another text: earlier answers are not comparable then."""
IGNORE_INDEX = -100
"""Label of a token that nothing is learnt from."""


THOUGHT_MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
"""Marks by which models begin and end a block of thoughts before an answer."""
_OPENING, _CLOSING = (
    frozenset(map(str.lower, marks)) for marks in zip(*THOUGHT_MARKS, strict=True)
)
_THOUGHT_MARK = re.compile(f"({'|'.join(map(re.escape, _OPENING | _CLOSING))})", re.IGNORECASE)


_T = TypeVar("_T")


class EncodedText(NamedTuple):
    """Token ids of a prompt and its response."""

    input_ids: list[int]
    """The prompt's ids, as :func:`encode_prompt` gives them, then the response's and the end of
    turn."""
    labels: list[int]
    """One label an id: the id itself where the assistant gives the response, or an earlier answer
    that is a target, or ends its turn; else ``IGNORE_INDEX``. Not shifted."""


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    system_prompt: str | None = None,
    earlier_turns: Sequence[Turn] = (),
) -> list[int]:
    """Token ids of a prompt in chat markup, up to where the assistant's answer begins.

    What the template writes before every answer, such as an empty block of thoughts, is in them.
    Control tokens come from the template only: the texts are spelled out as they are. Arguments are
    as for :func:`encode_example`.

    Raises:
        ValueError: The chat template cannot be used; the message says why.
    """
    markup = chat_text(tokenizer, prompt, None, system_prompt, earlier_turns).prompt
    return list(_prompt_ids(tokenizer, len(tokenizer), markup))


def encode_example(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    response: str,
    max_tokens: int,
    system_prompt: str | None = None,
    earlier_turns: Sequence[Turn] = (),
) -> EncodedText:
    """Token ids and labels of a prompt with its response.

    A response that does not fit is cut at its end; the end-of-turn token is then left out, so that
    the model is not taught to stop there.

    An earlier answer that is a target gets labels only where its question is written here, token
    for token, as it is asked alone (:func:`encode_prompt`), and where the template ends its turn.
    Else it would be learnt after another text than it is given after: some templates write earlier
    answers without the block of thoughts that the last one begins with. :func:`check_turns` finds
    them.

    Args:
        tokenizer: The language model's.
        prompt: What the user says, without markup.
        response: What the assistant says, without markup.
        max_tokens: Longest prompt and response together.
        system_prompt: What the system says, without markup; None for the template's own default.
        earlier_turns: The conversation before the prompt; what the system says there replaces
            ``system_prompt``.

    Raises:
        ValueError: The prompt leaves no room for a response, or the chat template cannot be used.
    """
    text = chat_text(tokenizer, prompt, response, system_prompt, earlier_turns)
    prompt_ids = list(_prompt_ids(tokenizer, len(tokenizer), text.prompt))
    if len(prompt_ids) >= max_tokens:
        raise ValueError(
            f"max_tokens is {max_tokens}, but the prompt alone has {len(prompt_ids)} tokens: "
            f"{prompt!r}; allow more tokens"
        )
    # Tokens of the whole text are what the language model is used to. Where they would merge over
    # the border, the prompt's ids win, because they are what generation starts from.
    input_ids = encode_markup(tokenizer, text.prompt + text.response)
    if input_ids[: len(prompt_ids)] != prompt_ids:
        input_ids = prompt_ids + encode_markup(tokenizer, text.response)
    # Templates may write more after the end of the turn, such as a new line; it is not the
    # assistant's.
    stop = end_of_turn_id(tokenizer)
    last = input_ids.index(stop, len(prompt_ids)) + 1
    input_ids = input_ids[: min(last, max_tokens)]
    labels = [IGNORE_INDEX] * len(prompt_ids) + input_ids[len(prompt_ids) :]
    _, turns = split_system(earlier_turns)
    for number, markup in enumerate(text.after_answers):
        if not turns[2 * number + 1].is_target or _first_special(tokenizer, markup) != stop:
            continue
        before = earlier_turns[: len(earlier_turns) - len(turns) + 2 * number]
        start_ids = encode_prompt(tokenizer, turns[2 * number].text, system_prompt, before)
        start = len(start_ids)
        if input_ids[:start] == start_ids:
            end = input_ids.index(stop, start) + 1
            labels[start:end] = input_ids[start:end]
    return EncodedText(input_ids=input_ids, labels=labels)


def check_turns(
    tokenizer: PreTrainedTokenizerBase,
    system_prompt: str | None,
    *,
    has_system: bool = False,
    are_targets: bool = False,
) -> None:
    """Make sure that conversations can be put into chat markup.

    Args:
        tokenizer: The language model's.
        system_prompt: As configured.
        has_system: Whether conversations begin with what the system says.
        are_targets: Whether earlier answers are learnt, too.

    Raises:
        ValueError: The chat template cannot be used for several turns, or writes an earlier answer
            otherwise than the last one.
    """
    turns = [Turn("user", "probe"), Turn("assistant", "probe", is_target=True)]
    if has_system:
        turns.insert(0, Turn("system", "probe"))
    encoded = encode_example(tokenizer, "probe", "probe", 1 << 20, system_prompt, turns)
    first = encoded.input_ids.index(end_of_turn_id(tokenizer), _start(encoded.labels))
    if are_targets and IGNORE_INDEX not in encoded.labels[first:]:
        shown = tokenizer.decode(encoded.input_ids)
        raise ValueError(
            "data.loss_on is 'all', but an earlier answer cannot be learnt: the chat template of "
            f"{tokenizer.name_or_path!r} writes it otherwise than the last one, or does not end "
            f"its turn, as in {shown!r}; set data.loss_on=last, which makes an example of each "
            "answer"
        )


def _start(labels: Sequence[int]) -> int:
    """Index of the first target."""
    return next(index for index, label in enumerate(labels) if label != IGNORE_INDEX)


def check_texts(
    tokenizer: PreTrainedTokenizerBase, num_embeddings: int, system_prompt: str | None
) -> None:
    """Make sure that texts can be put into chat markup, and the markup into the model.

    Args:
        tokenizer: The language model's.
        num_embeddings: Number of the model's word embeddings.
        system_prompt: As configured.

    Raises:
        ValueError: The chat template cannot be used, or writes tokens that the model has no word
            embeddings for.
    """
    ids = encode_example(tokenizer, "probe", "probe", 1 << 20, system_prompt).input_ids
    highest = max(*ids, *stop_ids(tokenizer))
    if highest >= num_embeddings:
        token = tokenizer.convert_ids_to_tokens(highest)
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path!r} writes {token!r} as token {highest}, and "
            f"the model has word embeddings for {num_embeddings} tokens: tokens were added without "
            "resizing the model; take the tokenizer that the model was trained with, or resize and "
            "train it"
        )


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token with which the assistant ends its turn.

    Raises:
        ValueError: The chat template ends a turn without a special token.
    """
    return _end_of_turn_id(tokenizer, str(tokenizer.chat_template))


def answer_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of a generated answer: without thoughts, and no further than a control token.

    Thoughts that do not end are all of the answer; the text is empty then.

    Args:
        tokenizer: The language model's.
        ids: Generated tokens.

    Returns:
        The text, without surrounding white space.
    """
    opening, closing = _thought_ids(tokenizer, len(tokenizer))
    ends = control_ids(tokenizer) - opening - closing
    answer = takewhile(lambda token_id: token_id not in ends, ids)
    kept = _outside_thoughts(answer, opening, closing)
    text = cast(str, tokenizer.decode(kept, skip_special_tokens=True))
    return without_thoughts(text).strip()


def without_thoughts(text: str) -> str:
    """Return a text without its blocks of thoughts; for models whose marks are no tokens."""
    pieces = _THOUGHT_MARK.split(text)
    pieces[1::2] = map(str.lower, pieces[1::2])  # the marks
    return "".join(_outside_thoughts(pieces, _OPENING, _CLOSING))


def _outside_thoughts(
    pieces: Iterable[_T], opening: frozenset[_T], closing: frozenset[_T]
) -> list[_T]:
    """Return the pieces outside of blocks of thoughts; none after one that does not end."""
    kept: list[_T] = []
    thinking = False
    for piece in pieces:
        if piece in closing:
            kept, thinking = kept if thinking else [], False  # some prompts open the thoughts
        elif piece in opening:
            thinking = True
        elif not thinking:
            kept.append(piece)
    return kept


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end an answer: the chat template's end of turn, and the end of text."""
    ids = [end_of_turn_id(tokenizer), tokenizer.eos_token_id]
    return list(dict.fromkeys(i for i in ids if isinstance(i, int)))


@lru_cache(maxsize=256)
def _prompt_ids(tokenizer: PreTrainedTokenizerBase, size: int, prompt: Markup) -> tuple[int, ...]:
    """Token ids; cached, as the options of a question have their prompt in common."""
    return tuple(encode_markup(tokenizer, prompt))


@lru_cache(maxsize=8)
def _thought_ids(
    tokenizer: PreTrainedTokenizerBase, size: int
) -> tuple[frozenset[int], frozenset[int]]:
    added = {token.content: i for i, token in tokenizer.added_tokens_decoder.items()}
    opening, closing = (
        frozenset(added[mark] for mark in marks if mark in added)
        for marks in zip(*THOUGHT_MARKS, strict=True)
    )
    return opening, closing


@lru_cache(maxsize=8)
def _end_of_turn_id(tokenizer: PreTrainedTokenizerBase, chat_template: str) -> int:
    """Find the first special token after a response; cached, as it is asked each example."""
    tail = chat_text(tokenizer, "probe", "probe").response.template[-1]
    token_id = _first_special(tokenizer, tail)
    if token_id is not None:
        return token_id
    raise ValueError(
        f"the chat template of {tokenizer.name_or_path!r} ends the assistant's turn with {tail!r}, "
        "which holds no special token: the model could not learn when to stop; give the tokenizer "
        "an eos_token, and a chat_template that writes it"
    )


@lru_cache(maxsize=256)
def _first_special(tokenizer: PreTrainedTokenizerBase, markup: str) -> int | None:
    """Return the first special token of a piece of the template after a content."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special.update(tokenizer.all_special_ids)
    ids = template_control_ids(tokenizer, ("", markup))
    return next((token_id for token_id in ids if token_id in special), None)
