"""Checks of sentences that are made of annotations, wherever they come from."""

import re

_DOUBLED = re.compile(r"\b([A-Za-z]+) \1\b", re.IGNORECASE)


def assert_sound(sentence: str) -> None:
    """One sentence: a capital, a full stop, two words or more, and none of them doubled."""
    assert re.fullmatch(r"[^a-z\s][^\n\t]*[^\s.,;:!?]\.", sentence), sentence
    assert not _DOUBLED.search(sentence), sentence
    assert "  " not in sentence
    assert len(sentence.split()) >= 2
