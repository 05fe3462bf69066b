"""Conversations about one video, as examples: what the LLaVA and the ``messages`` formats share.

A conversation of n questions and answers becomes n examples, one a turn. The prompt of a later one
begins with the turns before it, written out as text, because it may refer to them ("what colour is
it?"); what the model is taught is only that turn's answer.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.video.media import is_remote

PLACEHOLDERS = ("<video>", "<image>")
"""Where the formats put the video into the text. Ours stands in front of the prompt, always."""


class Turn(NamedTuple):
    """What one side says."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    text: str


class Conversation(NamedTuple):
    """A row of a file of conversations."""

    id: str
    """Number of the row, from 0: the files' own ids are often those of videos and repeat."""
    own_id: str
    """The file's id, or empty."""
    videos: Sequence[str]
    """As the file names them."""
    turns: Sequence[Turn]


def conversation_examples(
    conversation: Conversation, corpus: str, split: str, root: str, place: str, skipped: SkippedRows
) -> Iterator[Example]:
    """Yield an example for each question and answer of ``conversation``.

    Left out are rows without video or with several, and rows whose text points at a video in other
    ways than once, in its first question. A system message stands in front of the question.

    Raises:
        ValueError: The turns do not alternate, from a user's to an assistant's, or one is empty.
    """
    cause = _unusable(conversation)
    if cause:
        skipped.record(place, cause)
        return
    (video,) = conversation.videos
    turns = list(conversation.turns)
    system = turns.pop(0).text if turns and turns[0].role == "system" else ""
    if [turn.role for turn in turns] != ["user", "assistant"] * max(len(turns) // 2, 1):
        raise ValueError(
            f"{place}: the turns must alternate between user and assistant and end with the "
            f"latter, found {[turn.role for turn in conversation.turns]}"
        )
    pairs = [
        (_plain(question.text), answer.text.strip())
        for question, answer in zip(turns[::2], turns[1::2], strict=True)
    ]
    if not all(question and answer for question, answer in pairs):
        raise ValueError(f"{place}: a question or an answer is empty")
    for number, (question, answer) in enumerate(pairs):
        prompt = _prompt(system, pairs[:number], question)
        yield Example(
            id=f"{corpus}:{split}:{conversation.id}:{number}",
            corpus=corpus,
            media=media_below(root, video),
            video_id=str(PurePosixPath(video).with_suffix("")),
            prompt=prompt,
            response=answer,
            answers=(answer,),
            meta={"question": question}
            | ({"id": conversation.own_id} if conversation.own_id else {}),
        )


def media_below(root: str, media: str) -> str:
    """``media`` where ``root`` is the folder or URL that relative paths start from."""
    if is_remote(media) or os.path.isabs(media):
        return media
    return f"{root.rstrip('/')}/{media}"


def _unusable(conversation: Conversation) -> str:
    """Why a well-formed row gives no example, or the empty text."""
    if len(conversation.videos) != 1:
        return "no video" if not conversation.videos else "several videos"
    users = [turn.text for turn in conversation.turns if turn.role == "user"]
    counts = [sum(turn.text.count(mark) for mark in PLACEHOLDERS) for turn in conversation.turns]
    first = sum(users[0].count(mark) for mark in PLACEHOLDERS) if users else 0
    if sum(counts) > 1 or sum(counts) != first:
        return "its text points at the video in the middle of the conversation, or at several"
    return ""


def _plain(text: str) -> str:
    for mark in PLACEHOLDERS:
        text = text.replace(mark, "")
    return text.strip()


def _prompt(system: str, earlier: Sequence[tuple[str, str]], question: str) -> str:
    parts = [system.strip()] if system.strip() else []
    if earlier:
        told = [f"Question: {asked}\nAnswer: {answered}" for asked, answered in earlier]
        parts.append("\n".join(["Earlier about this video:", *told]))
    return "\n\n".join([*parts, question])
