"""Control tokens, such as an end of turn: only the chat template writes them.

A text from outside (a caption, a question, a subtitle) may hold the letters of one. In a prompt it
would be a forged turn, in a response an end of turn in the middle, so there it is spelled out like
any other text.
"""

import json
import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain, zip_longest
from typing import Any, cast

from tokenizers import Tokenizer
from transformers import AddedToken, PreTrainedTokenizerBase

_WORD_START = "\u2581"
"""A blank in SentencePiece's vocabularies."""
_CONTENT = "~0~"
"""Stands for any content where only the template's tokens are asked for."""


@dataclass(frozen=True)
class Markup:
    """A text of which it is known what the template wrote, and what comes from outside."""

    template: tuple[str, ...]
    """Pieces that the template wrote; one more than there are contents."""
    contents: tuple[str, ...]
    """Texts between one piece and the next."""

    @property
    def text(self) -> str:
        """The whole text."""
        return _join(self.template, self.contents)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Start and end of each content in the text."""
        pieces = list(chain.from_iterable(zip(self.template, self.contents, strict=False)))
        ends = list(accumulate(map(len, pieces)))
        return tuple(zip(ends[::2], ends[1::2], strict=True))

    def __add__(self, other: "Markup") -> "Markup":
        joined = (*self.template[:-1], self.template[-1] + other.template[0], *other.template[1:])
        return Markup(joined, self.contents + other.contents)

    def before(self, end: int) -> "Markup":
        """The part before a position in the text."""
        return self._cut(0, end)

    def after(self, start: int) -> "Markup":
        """The part from a position in the text on."""
        return self._cut(start, len(self.text))

    def _cut(self, start: int, end: int) -> "Markup":
        template, contents, offset = [""], [], 0
        for index, (mine, theirs) in enumerate(
            zip_longest(self.template, self.contents, fillvalue="")
        ):
            for is_content, piece in ((False, mine), (True, theirs)):
                part = piece[max(start - offset, 0) : max(end - offset, 0)]
                offset += len(piece)
                if not is_content:
                    template[-1] += part
                elif part and index < len(self.contents):
                    contents.append(part)
                    template.append("")
        return Markup(tuple(template), tuple(contents))


def encode_markup(tokenizer: PreTrainedTokenizerBase, markup: Markup) -> list[int]:
    """Token ids, in which control tokens come from the template alone.

    These are the tokenizer's own ids for the whole text, unless a control token would come from, or
    be joined with, a content.

    Raises:
        ValueError: The tokenizer makes a control token of a content, however it is told.
    """
    # The whole text at once, as it is meant to be, if only the template wrote control tokens.
    known = control_ids(tokenizer)
    expected = template_control_ids(tokenizer, markup.template)
    ids, offsets = _encode(tokenizer, markup.text)
    spans = markup.spans
    if [i for i in ids if i in known] == expected and not _unknown_is_written(tokenizer, markup):
        if offsets is None:
            controls = [match.span() for match in _pattern(tokenizer).finditer(markup.text)]
        else:
            controls = [
                _without_blanks(markup.text, *offset)
                for token_id, offset in zip(ids, offsets, strict=True)
                if token_id in known
            ]
        if not any(
            start < last and first < end for start, end in controls for first, last in spans
        ):
            return ids
    # Else contents and template apart, where contents can form none.
    ids = _encode_apart(tokenizer, markup)
    if [i for i in ids if i in known] != expected:
        raise ValueError(
            f"{tokenizer.name_or_path!r}: its tokenizer makes control tokens of a text that is to "
            f"be plain: {markup.contents!r}; leave the text out, or use another tokenizer"
        )
    return ids


def has_control_token(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Return whether the tokenizer, left to itself, finds a control token in a text."""
    known = control_ids(tokenizer)
    return any(token_id in known for token_id in _encode(tokenizer, text)[0])


def control_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens with a meaning beyond their letters.

    All that is marked as special, and of what else was added to the vocabulary all but words and
    white space. The token for unknown letters is none, unless it has a second meaning.
    """
    return _tables(tokenizer, len(tokenizer))[0]


def template_control_ids(
    tokenizer: PreTrainedTokenizerBase, template: tuple[str, ...]
) -> list[int]:
    """The control tokens that a template's pieces hold, whatever is between them."""
    return _template_control_ids(tokenizer, len(tokenizer), template)


@lru_cache(maxsize=256)
def _template_control_ids(
    tokenizer: PreTrainedTokenizerBase, size: int, template: tuple[str, ...]
) -> list[int]:
    known = _tables(tokenizer, size)[0]
    text = _join(template, [_CONTENT] * (len(template) - 1))
    return [token_id for token_id in _encode(tokenizer, text)[0] if token_id in known]


def _pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Finds control tokens in a text, as tokenizers do: the first, and there the longest."""
    return _tables(tokenizer, len(tokenizer))[1]


@lru_cache(maxsize=8)
def _tables(
    tokenizer: PreTrainedTokenizerBase, size: int
) -> tuple[frozenset[int], re.Pattern[str]]:
    added = {
        token_id: token.content
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.special or not _is_plain(token)
    }
    special = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
    named = {token_id: str(token) for token_id, token in special if token_id is not None} | added
    longest_first = sorted(filter(None, named.values()), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
    if _unknown_token(tokenizer) is not None:
        named.pop(cast(int, tokenizer.unk_token_id), None)
    return frozenset(named), pattern


def _is_plain(token: AddedToken) -> bool:
    """A word, a character or white space, added so that it is one token."""
    text = token.content.replace(_WORD_START, " ")
    marks = any(unicodedata.category(character)[0] in "PS" for character in text)
    return len(token.content) == 1 or not marks


def _unknown_token(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The token for unknown letters, where it is one of its own."""
    others = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.sep_token)
    unknown = tokenizer.unk_token
    return None if unknown is None or unknown in others else str(unknown)


def _unknown_is_written(tokenizer: PreTrainedTokenizerBase, markup: Markup) -> bool:
    unknown = _unknown_token(tokenizer)
    return unknown is not None and any(unknown in content for content in markup.contents)


def _encode(
    tokenizer: PreTrainedTokenizerBase, text: str
) -> tuple[list[int], list[tuple[int, int]] | None]:
    """Ids and, where the tokenizer can tell, where in the text they are from."""
    # The template has written all control tokens: the tokenizer must not add a second BOS.
    if not tokenizer.is_fast:
        return cast(list[int], tokenizer(text, add_special_tokens=False)["input_ids"]), None
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return cast(list[int], encoded["input_ids"]), cast(Any, encoded["offset_mapping"])


def _without_blanks(text: str, start: int, end: int) -> tuple[int, int]:
    """Without the white space that a control token swallows beside it."""
    token = text[start:end]
    return end - len(token.lstrip()), start + len(token.rstrip())


def _encode_apart(tokenizer: PreTrainedTokenizerBase, markup: Markup) -> list[int]:
    """Token ids of a text with control tokens spelled out in its contents."""
    if tokenizer.is_fast:
        renamed = _renamed(tokenizer, len(tokenizer))
        if renamed is not None:
            return renamed.encode(markup)
    ids = []
    for template, content in zip_longest(markup.template, markup.contents, fillvalue=""):
        ids += _encode(tokenizer, template)[0] if template else []
        ids += _spelled_out(tokenizer, content) if content else []
    return ids


def _spelled_out(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True)
    ids = cast(list[int], encoded["input_ids"])
    if len(text) == 1 or control_ids(tokenizer).isdisjoint(ids):
        return ids
    # Not every kind of tokenizer does as it is told: cut control tokens in two.
    middle = len(text) // 2
    return _spelled_out(tokenizer, text[:middle]) + _spelled_out(tokenizer, text[middle:])


@dataclass(frozen=True)
class _Renamed:
    """A tokenizer in which control tokens have names that no content can hold.

    The contents' own control tokens are thus plain text to it, in their true surroundings.
    """

    tokenizer: Tokenizer
    names: dict[str, str]
    """Name of each control token in this tokenizer."""
    ids: dict[int, int]
    """Id of each added token here -> id in the original tokenizer."""
    pattern: re.Pattern[str]

    def encode(self, markup: Markup) -> list[int]:
        template = [self.pattern.sub(self._name, piece) for piece in markup.template]
        text = _join(template, markup.contents)
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return [self.ids.get(token_id, token_id) for token_id in ids]

    def _name(self, match: re.Match[str]) -> str:
        return self.names[match[0]]


@lru_cache(maxsize=4)
def _renamed(tokenizer: PreTrainedTokenizerBase, size: int) -> _Renamed | None:
    """None for a tokenizer that cannot be copied, such as one with a part written in Python."""
    try:
        serialized = json.loads(tokenizer.backend_tokenizer.to_str())
    except Exception as error:  # the library raises this very class
        if "cannot be serialized" not in str(error).lower():
            raise
        return None
    control, pattern = _tables(tokenizer, size)
    secret = secrets.token_hex(12)
    unknown = _unknown_token(tokenizer)
    names: dict[str, str] = {}
    proper: dict[str, int] = {}
    for token in serialized["added_tokens"]:
        name = token["content"]
        if token["id"] in control or name == unknown:
            names[name] = f"\ue000{secret}-{len(names)}\ue001"
            # Found as it is written, before any rule for other text.
            token |= {"content": names[name], "normalized": False, "single_word": False}
        proper[token["content"]] = token["id"]
    serialized |= {"truncation": None, "padding": None, "post_processor": None}
    _rename_in_model(serialized["model"], names)
    renamed = Tokenizer.from_str(json.dumps(serialized))
    ids = {cast(int, renamed.token_to_id(name)): token_id for name, token_id in proper.items()}
    return _Renamed(renamed, names, ids, pattern)


def _rename_in_model(model: dict[str, Any], names: dict[str, str]) -> None:
    """Rename in the model too: else some kinds find control tokens among their own pieces."""
    vocabulary = model.get("vocab", {})
    if isinstance(vocabulary, list):  # Unigram: pieces with scores
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    else:
        model["vocab"] = {names.get(piece, piece): i for piece, i in vocabulary.items()}
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
        model["merges"] = [pair for pair in pairs if not ({*pair, "".join(pair)} & names.keys())]


def _join(template: Sequence[str], contents: Sequence[str]) -> str:
    pairs = zip_longest(template, contents, fillvalue="")
    return "".join(chain.from_iterable(pairs))
