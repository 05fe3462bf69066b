"""Truth about the event after a video: the one that came next, and all that could have come.

A future that a model computes (:mod:`vidreason.reasoning.futures`) is scored against these.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_OUTCOME, _FUTURES = "outcome", "futures"


class Outcome(NamedTuple):
    """The event that really came next."""

    text: str
    kind: str
    """Such as ``hit``, ``push``, ``block``, ``leave``, ``enter`` or ``nothing``; results are also
    given by kind."""
    seconds: float | None = None
    """Time of the event after the end of the video; None where it is not known, or nothing
    comes."""


class TrueFuture(NamedTuple):
    """An event that could have come next, with its true probability."""

    text: str
    probability: float
    seconds: float | None = None
    """Expected time of the event after the end of the video; None where it is not known."""


def outcome_meta(outcome: Outcome | None, futures: Sequence[TrueFuture]) -> dict[str, str]:
    """Write what is known of what came next into texts, for the ``meta`` of an example."""
    meta = {}
    if outcome is not None:
        meta[_OUTCOME] = json.dumps(outcome._asdict(), ensure_ascii=False)
    if futures:
        items = [future._asdict() for future in futures]
        meta[_FUTURES] = json.dumps(items, ensure_ascii=False)
    return meta


def outcome_of(meta: Mapping[str, str]) -> Outcome | None:
    """The outcome that :func:`outcome_meta` wrote; None where there is none."""
    return Outcome(**json.loads(meta[_OUTCOME])) if _OUTCOME in meta else None


def true_futures_of(meta: Mapping[str, str]) -> tuple[TrueFuture, ...]:
    """The true distribution that :func:`outcome_meta` wrote; empty where there is none."""
    return tuple(TrueFuture(**item) for item in json.loads(meta.get(_FUTURES, "[]")))
