"""The record that every corpus reader yields and that training, evaluation and serving consume."""

from dataclasses import dataclass, field


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
    earlier_turns: tuple[int, ...] = ()
    """Offsets, in characters, in a prompt that holds the earlier turns of a conversation: of their
    heading, of each of them, and of the question. A prompt that is too long is cut there. Empty for
    all other examples."""
    meta: dict[str, str] = field(default_factory=dict)
    """Anything else a report may want to show."""
