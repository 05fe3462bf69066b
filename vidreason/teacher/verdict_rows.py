"""Verdicts as JSON, as the journal keeps them."""

from typing import Any

from vidreason.reasoning.outcomes import Outcome
from vidreason.reasoning.predictions import Prediction
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.verdicts import Verdict


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as values of JSON; a confidence of NaN stays one, as Python writes it."""
    draft = verdict.draft
    return {
        "steps": None if draft is None else [list(step) for step in draft.steps],
        "predictions": [] if draft is None else [list(item) for item in draft.predictions],
        "outcome": None if draft is None or draft.outcome is None else list(draft.outcome),
        "rejection": verdict.rejection,
        "detail": verdict.detail,
        "flags": list(verdict.flags),
    }


def verdict_from_json(values: dict[str, Any]) -> Verdict:
    """Return the verdict of :func:`verdict_to_json`."""
    draft = None
    if values["steps"] is not None:
        draft = Draft(
            steps=tuple(Step(*step) for step in values["steps"]),
            predictions=tuple(Prediction(*item) for item in values["predictions"]),
            outcome=None if values["outcome"] is None else Outcome(*values["outcome"]),
        )
    return Verdict(
        draft=draft,
        rejection=values["rejection"],
        detail=values["detail"],
        flags=tuple(values["flags"]),
    )
