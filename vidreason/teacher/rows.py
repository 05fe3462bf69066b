"""Rows of an instruction set, in the format of the reader ``causal_vid_instruct``.

Every row has all fields in the same order, so that a table of them has one schema; what a row does
not say is null, an empty text or an empty list.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite, isnan
from typing import Any

from vidreason.reasoning.predictions import MAX_PREDICTIONS
from vidreason.reasoning.prompts import EVENT_REASONING_PROMPT
from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft
from vidreason.teacher.journal_records import Ended
from vidreason.teacher.provenance import TeacherProvenance

MAX_ROW_CHARACTERS = 2**20
"""Longest texts of a row together; what reads the rows refuses a longer text."""

_MAX_SECONDS = 1e9
# What the reader takes for nothing, and for the remains of an id.
_NAN_LIKE = {"", "none", "nan", "null", "n/a", "<na>", "#n/a", "undefined"}
_NUMBER_LIKE_ID = re.compile(r"\d+\.0+|\d(\.\d+)?[eE]\+?\d+")


class UnwritableRowError(ValueError):
    """An accepted answer, or its clip, that the format cannot hold; the message says why."""


def instruction_row(
    clip: Clip,
    draft: Draft,
    provenance: TeacherProvenance,
    created: str,
    flags: Sequence[str] = (),
    *,
    media: str = "",
) -> dict[str, Any]:
    """Return the row of an accepted answer.

    A prediction without a confidence is the row's ``prediction`` alone, where there is no field for
    a justification.

    Args:
        clip: What the answer is about.
        draft: The answer.
        provenance: Of the run, as :mod:`vidreason.teacher.published` gives it.
        created: Time of the answer, ISO 8601, UTC.
        flags: Remarks of the gate.
        media: Path of the video below ``videos/``; empty for ``<video_id>.mp4``.

    Raises:
        UnwritableRowError: The reader would leave the row out.
    """
    _check_clip(clip, media)
    _check_draft(draft)
    row: dict[str, Any] = {
        "id": clip.id,
        "source": clip.source,
        "video_id": clip.video_id,
        "media": media,
        **_span(clip),
        "instruction": EVENT_REASONING_PROMPT if draft.steps else "",
        **draft_fields(draft),
        "teacher": provenance.teacher,
        "teacher_prompt_sha": provenance.prompt_sha,
        "parameters_sha": parameters_hash(provenance),
        "created": created,
        "license_tag": clip.licence,
        "flags": list(flags),
    }
    _check_texts(_texts(row))
    return row


def unused_row(ended: Ended, problem: str = "", *, media: str = "") -> dict[str, Any]:
    """Return the row of a clip that is not in the set, for the review page and the report.

    Args:
        ended: The clip.
        problem: Why an accepted answer could not be written; empty for a rejected one.
        media: As for :func:`instruction_row`.
    """
    clip, verdict = ended.clip, ended.verdict
    cause: str | None
    if verdict is None:
        assert ended.failure is not None, "a clip without an answer has a failure"
        ending, cause, detail = "failed", ended.failure, ended.detail
    elif problem:
        ending, cause, detail = "rejected", UNWRITABLE, problem
    else:
        ending, cause, detail = "rejected", verdict.rejection, verdict.detail
    draft = Draft() if verdict is None or verdict.draft is None else verdict.draft
    fields = draft_fields(draft)
    # The gate may have rejected it for its length.
    if sum(map(len, _texts(fields))) > MAX_ROW_CHARACTERS:
        fields = draft_fields(Draft())
    return {
        "id": clip.id,
        "source": clip.source,
        "video_id": clip.video_id,
        "media": media,
        **_span(clip),
        "split": clip.split,
        "ended": ending,
        "cause": cause,
        "detail": detail,
        **fields,
        "created": ended.created,
        "license_tag": clip.licence,
    }


UNWRITABLE = "unwritable"
"""Cause of a row that the gate accepted and the format cannot hold."""


def draft_fields(draft: Draft) -> dict[str, Any]:
    """The fields of a row that say what was answered."""
    # Without any time the list is empty, not one of nulls.
    is_timed = any((step.start_seconds, step.end_seconds) != (None, None) for step in draft.steps)
    confident = [item for item in draft.predictions if not isnan(item.confidence)]
    return {
        "causal_explanation": [step.text for step in draft.steps],
        "step_times": [
            {"start": _number(step.start_seconds), "end": _number(step.end_seconds)}
            for step in draft.steps
            if is_timed
        ],
        "prediction": draft.predictions[0].event if draft.predictions else "",
        "predictions": [
            {
                "text": item.event,
                "confidence": _number(item.confidence),
                "justification": item.justification,
            }
            for item in confident
        ],
        "outcome": draft.outcome and draft.outcome._asdict(),
    }


def json_line(row: dict[str, Any]) -> bytes:
    """A row as a line of ASCII, which no separator of lines inside a text can break."""
    return (json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n").encode()


def parameters_hash(provenance: TeacherProvenance) -> str:
    """SHA-256 of a run's parameters as JSON; the set's card lists them beside it."""
    text = json.dumps(provenance.parameters, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _number(value: float | None) -> float | None:
    """A finite number of the JSON kind that the column has, or None."""
    return float(value) if value is not None and isfinite(value) else None


def _span(clip: Clip) -> dict[str, float | None]:
    return {"start": _number(clip.start_seconds), "end": _number(clip.end_seconds)}


def _check_clip(clip: Clip, media: str) -> None:
    # Here and below: what the reader of the rows would leave out is not written.
    video_id = clip.video_id.strip()
    if _is_nan_like(video_id) or _NUMBER_LIKE_ID.fullmatch(video_id):
        raise UnwritableRowError(
            f"the video id {clip.video_id!r:.100} is what a table program makes of an id; rename "
            "the video"
        )
    if media != media.strip():
        raise UnwritableRowError(f"the path {media!r:.100} has a blank at an end; rename the video")
    start, end = clip.start_seconds, clip.end_seconds
    times = [time for time in (start, end) if time is not None]
    if not all(0 <= time < _MAX_SECONDS for time in times) or (
        end is not None and end <= (start or 0)
    ):
        raise UnwritableRowError(f"the span from {start} to {end} seconds is none of a video")


def _check_draft(draft: Draft) -> None:
    confidences = [item.confidence for item in draft.predictions]
    if not draft.steps and not confidences:
        raise UnwritableRowError("it has neither steps nor predictions")
    if any(_is_nan_like(step.text) for step in draft.steps):
        raise UnwritableRowError("the text of a step is empty, or a word for nothing")
    if any(_is_nan_like(item.event) for item in draft.predictions):
        raise UnwritableRowError("the text of a prediction is empty, or a word for nothing")
    if len(confidences) > MAX_PREDICTIONS:
        raise UnwritableRowError(f"it has {len(confidences)} predictions, at most 3 are read")
    if draft.outcome is not None and (not confidences or _is_nan_like(draft.outcome.text)):
        raise UnwritableRowError("it says what came next, without a text or without a prediction")
    is_lone = len(confidences) == 1 and isnan(confidences[0])
    if not is_lone and not all(0 <= confidence <= 1 for confidence in confidences):
        raise UnwritableRowError(f"its confidences are {confidences}, expected numbers from 0 to 1")


def _check_texts(texts: Iterable[str]) -> None:
    """Refuse what no file name, table or tokenizer can hold."""
    text = "".join(texts)
    if len(text) > MAX_ROW_CHARACTERS:
        raise UnwritableRowError(f"its texts have {len(text)} characters together")
    if "\0" in text:
        raise UnwritableRowError("a text has a null character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnwritableRowError("a text has half a surrogate pair") from None


def _texts(value: object) -> Iterator[str]:
    """Each text among nested values."""
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)


def _is_nan_like(text: str) -> bool:
    return text.strip().casefold() in _NAN_LIKE
