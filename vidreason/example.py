"""The record that every corpus reader yields and that training, evaluation and serving consume."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

MediaSpan = tuple[str, float | None, float | None]
"""Path of a video, and start and end of a part of it in seconds; None for the video's own."""


class Turn(NamedTuple):
    """One message of a conversation, without chat markup."""

    role: Literal["system", "user", "assistant"]
    text: str
    is_target: bool = False
    """True if this answer is learnt, too, where the example is trained on."""


def split_system(turns: Sequence[Turn]) -> tuple[str | None, Sequence[Turn]]:
    """Split the turns before a prompt into what the system says, if anything, and the others.

    Raises:
        ValueError: The others are not questions and answers in turn.
    """
    has_system = bool(turns) and turns[0].role == "system"
    others = turns[1:] if has_system else turns
    roles = [turn.role for turn in others]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise ValueError(
            "the turns before a prompt must be of the system, if it says anything, then of user "
            f"and assistant in turn, found {[turn.role for turn in turns]!r:.200}"
        )
    return turns[0].text if has_system else None, others


@dataclass(frozen=True, kw_only=True)
class Example:
    """One video (or a span of it) with a prompt and, where the corpus has one, its reference.

    Training reads ``prompt`` and ``response``; multiple-choice evaluation reads ``options`` and
    ``answer_index``; open-ended evaluation compares a generated answer with ``answers``.
    """

    id: str
    """Unique over all corpora: ``<corpus>:<split>:<the corpus' own id>``."""
    corpus: str
    """The reader's name, such as ``nextqa``."""
    media: str
    """Path of the video file; a reader yields it whether or not the file exists."""
    video_id: str
    """The corpus' id of the video. Confidence intervals resample videos, not questions."""
    start_seconds: float | None = None
    """Start of the span, or None for the start of the video."""
    end_seconds: float | None = None
    """End of the span, or None for the end of the video."""
    prompt: str
    """User message, without chat markup."""
    response: str
    """Reference answer of the assistant; empty if it is hidden."""
    options: tuple[str, ...] = ()
    """Answer options in file order; empty for open-ended questions."""
    answer_index: int | None = None
    """Index of the right option; None when open-ended or hidden."""
    answers: tuple[str, ...] = ()
    """Accepted open-ended answers."""
    question_type: str = ""
    """The corpus' own type code, such as ``CW`` (NExT-QA) or ``4`` (ActivityNet-QA)."""
    group_id: str = ""
    """Shared by examples that a benchmark also scores as one, such as the options of a CLEVRER
    question; empty for an example that stands alone."""
    spans: tuple[tuple[float, float], ...] = ()
    """Spans in which the answer to a grounding question can be seen: start and end in seconds."""
    earlier_turns: tuple[Turn, ...] = ()
    """The conversation before the prompt: maybe what the system says, then questions and answers in
    turn. Empty for an example that stands alone."""
    meta: dict[str, str] = field(default_factory=dict)
    """Anything else a report may want to show."""

    def __post_init__(self) -> None:
        """Check the order of the earlier turns.

        Raises:
            ValueError: They do not alternate.
        """
        if self.earlier_turns:
            try:
                split_system(self.earlier_turns)
            except ValueError as error:
                raise ValueError(f"example {self.id!r}: {error}") from error

    @property
    def media_span(self) -> MediaSpan:
        """The video, or the part of it, that the example is about."""
        return self.media, self.start_seconds, self.end_seconds

    @property
    def prompt_length(self) -> int:
        """Characters of the prompt and of the turns before it."""
        return len(self.prompt) + sum(len(turn.text) for turn in self.earlier_turns)


def spread_examples(examples: Sequence[Example], limit: int | None) -> list[Example]:
    """Take some examples of each corpus, evenly spread over it, in order.

    Args:
        examples: Of any corpora.
        limit: At most this many of each corpus, where examples of one group count once and are
            taken together; None for all.
    """
    by_corpus: dict[str, dict[tuple[str, str], list[Example]]] = {}
    for example in examples:
        # An example without a group is one by itself.
        group = (example.group_id, "" if example.group_id else example.id)
        by_corpus.setdefault(example.corpus, {}).setdefault(group, []).append(example)
    # Groups i * n / number, for i from 0: evenly spread, the same ones at every call.
    chosen: list[Example] = []
    for groups in by_corpus.values():
        together = list(groups.values())
        number = len(together) if limit is None else min(limit, len(together))
        for index in range(number):
            chosen += together[index * len(together) // number]
    return chosen
