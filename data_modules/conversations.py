"""Conversations about one video, as examples: what the LLaVA and the ``messages`` formats share.

A conversation of n questions and answers becomes n examples, one for each answer. A later one has
the turns before it, because its question may refer to them ("what colour is it?"). Training teaches
each example's answer, or joins the examples of a conversation to one again, which teaches all
(``data.loss_on``).
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import PurePosixPath
from typing import NamedTuple

from data_modules.example_kinds import prompted_example
from data_modules.files import Files
from data_modules.rows import Row
from data_modules.skipped_rows import SkippedRows, examples_of
from data_modules.span_keys import SpanKeys
from data_modules.table_files import read_table
from vidreason.example import Example, Turn
from vidreason.video.media import is_remote

_PLACEHOLDER = re.compile("<video>|<image>")
"""The video's position in the text of these formats. Ours is in front of the prompt, always."""

_LONE_ANSWER = "what the assistant says before the first question is not read"
_LONE_QUESTION = "a last question without an answer is not read"


class Conversation(NamedTuple):
    """A row of a file of conversations."""

    videos: Sequence[str]
    """As the file names them."""
    turns: Sequence[Turn]
    span: SpanKeys
    """The part of the video that it is about."""


def read_conversations(
    rows: Iterable[Row],
    parse: Callable[[Row], Conversation],
    name: str,
    root: str,
    skipped: SkippedRows,
) -> Iterator[Example]:
    """Yield an example for each question and answer of each row.

    A system message is the first of the earlier turns of each. What a conversation begins with
    before its first question, and a last question that has no answer, is not read, and counted.
    Left out are rows without a video or with several, and those whose text points at it in other
    ways than once, in the first question; malformed are rows whose turns do not alternate, or are
    empty.

    Args:
        rows: One conversation each.
        parse: Reads a row; it raises errors as for :func:`examples_of`.
        name: Of corpus and split: what ids begin with, before the row's number from 0.
        root: The folder or URL that relative paths start from.
        skipped: Counts what is left out, and what is not read.
    """
    numbers = count()

    def make(row: Row) -> Iterator[Example]:
        row_name = f"{name}:{next(numbers)}"
        return _examples(parse(row), row_name, root, row, skipped)

    yield from examples_of(rows, make, skipped)


def _examples(
    conversation: Conversation, name: str, root: str, row: Row, skipped: SkippedRows
) -> Iterator[Example]:
    if len(conversation.videos) != 1:
        raise row.unusable("several videos" if conversation.videos else "no video")
    (video,) = conversation.videos
    # A placeholder says where the video stands: only in front of the first question is there a
    # place for it here.
    first = next((turn.text for turn in conversation.turns if turn.role == "user"), "")
    marks = [mark for turn in conversation.turns for mark in _PLACEHOLDER.findall(turn.text)]
    if len(marks) > 1 or len(marks) != len(_PLACEHOLDER.findall(first)):
        raise row.unusable(
            "its text points at the video in the middle of the conversation, or at several"
        )
    system, turns = _alternating(conversation.turns, row, skipped)
    pairs = [
        (_PLACEHOLDER.sub("", question.text).strip(), answer.text.strip())
        for question, answer in zip(turns[::2], turns[1::2], strict=True)
    ]
    if not all(question and answer for question, answer in pairs):
        raise row.malformed("a question or an answer is empty")
    # For reports only: ids are often those of videos, and repeat.
    value = row.get("id")
    has_id = isinstance(value, str | int | float) and value != ""
    row_id = {"id": str(value)[:200]} if has_id else {}
    earlier = (Turn("system", system),) if system else ()
    for number, (question, answer) in enumerate(pairs):
        yield prompted_example(
            question,
            answer,
            id=f"{name}:{number}",
            media=media_below(root, video),
            video_id=str(PurePosixPath(video).with_suffix("")),
            span=conversation.span[:2],
            earlier_turns=earlier,
            meta={"question": question} | row_id,
        )
        # An example for each answer: what was said before it is its context.
        earlier = (*earlier, Turn("user", question), Turn("assistant", answer))


def conversation_rows(files: Files, split: str, skipped: SkippedRows) -> Iterator[Row]:
    """Yield the rows of ``<split>.jsonl``, or of an array, ``<split>.json``, as a stream.

    Raises:
        ValueError: There are both or neither, or the file is wrong as a whole.
    """
    array, lines = f"{split}.json", f"{split}.jsonl"
    if files.exists(array) and files.exists(lines):
        paths = f"{files.path(array)} and {files.path(lines)}"
        raise ValueError(f"there are both {paths}: keep one of them")
    yield from read_table(files, (lines, array), skipped)


def media_below(root: str, media: str) -> str:
    """``media`` where ``root`` is the folder or URL that relative paths start from."""
    if is_remote(media) or os.path.isabs(media):
        return media
    return f"{root.rstrip('/')}/{media}"


def _alternating(
    written: Sequence[Turn], row: Row, skipped: SkippedRows
) -> tuple[str, Sequence[Turn]]:
    """The system message, empty for none, and questions and answers in turn."""
    turns = list(written)
    system = turns.pop(0).text.strip() if turns and turns[0].role == "system" else ""
    remarks = []
    # An answer to no question at the start, and a question without an answer at the end.
    if [turn.role for turn in turns[:2]] == ["assistant", "user"]:
        turns.pop(0)
        remarks.append(_LONE_ANSWER)
    if [turn.role for turn in turns[-2:]] == ["assistant", "user"]:
        turns.pop()
        remarks.append(_LONE_QUESTION)
    if not turns or [turn.role for turn in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise row.malformed(
            "the turns must alternate between user and assistant and end with the latter, found "
            f"{[turn.role for turn in written]!r:.200}"
        )
    for remark in remarks:
        skipped.remark(row.location, remark)
    return system, turns
