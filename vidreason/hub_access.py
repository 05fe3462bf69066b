"""The Hugging Face Hub, or what is cached of it where it does not answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from huggingface_hub import constants, get_session

from vidreason.secrets import first_line

PATIENCE_SECONDS = 10.0
_REMEMBERED_SECONDS = 60.0
"""Longest time for which an answer of the Hub, or its silence, is remembered."""


@contextmanager
def hub_or_cache() -> Iterator[str]:
    """Let Hugging Face's clients look at their caches alone where the Hub does not answer.

    They would try five times for each file, and end after half a minute or a whole one, also where
    the file is cached. The Hub is asked once, for at most ``PATIENCE_SECONDS``.

    Yields:
        Why the Hub cannot be asked; empty if it can.
    """
    why = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        why = _why_silent(constants.ENDPOINT, int(time.monotonic() / _REMEMBERED_SECONDS))
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, bool(why)
    try:
        yield why
    finally:
        constants.HF_HUB_OFFLINE = before


@lru_cache(maxsize=1)
def _why_silent(endpoint: str, moment: int) -> str:
    del moment  # makes the answer expire
    try:
        get_session().head(endpoint, timeout=PATIENCE_SECONDS)
    except Exception as error:  # of whatever client the Hub's package has
        return f"no answer from {endpoint}: {first_line(error)}"
    return ""
