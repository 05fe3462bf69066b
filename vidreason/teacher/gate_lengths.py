"""Lengths of a draft and of its texts: the gate's fifth step."""

from collections.abc import Iterator

from vidreason.reasoning.predictions import MAX_PREDICTIONS
from vidreason.teacher.draft import Draft
from vidreason.teacher.gate_config import GateConfig

_MAX_WORD_CHARS = 60


def wrong_length(draft: Draft, config: GateConfig) -> str | None:
    """Describe the first part of a draft that is too long or too short; None for none.

    A draft without any steps has no explanation, which is not judged here.
    """
    num_steps = len(draft.steps)
    if draft.steps and num_steps < config.min_steps:
        return f"too few steps: {num_steps}, at least {config.min_steps}"
    if num_steps > config.max_steps:
        return f"too many steps: {num_steps}, at most {config.max_steps}"
    if len(draft.predictions) > MAX_PREDICTIONS:
        return f"too many predictions: {len(draft.predictions)}, at most {MAX_PREDICTIONS}"
    for where, text, least in _texts(draft, config.min_words):
        words = text.split()
        if len(words) < least:
            return f"too few words: {where} has {len(words)}, at least {least}"
        if len(words) > config.max_words:
            return f"too many words: {where} has {len(words)}, at most {config.max_words}"
        longest = max(map(len, words), default=0)
        if longest > _MAX_WORD_CHARS:
            return f"a word too long: {where} has one of {longest} characters"
    return None


def _texts(draft: Draft, min_words: int) -> Iterator[tuple[str, str, int]]:
    """Name, text and least number of words of each text."""
    for number, step in enumerate(draft.steps, start=1):
        yield f"step {number}", step.text, min_words
    for number, item in enumerate(draft.predictions, start=1):
        yield f"prediction {number}", item.event, min_words
        yield f"justification {number}", item.justification, 0  # may be missing
