"""Reviews of an instruction set by people: their file, and what they do to a row.

A review file is JSONL, as the review page saves it: an object a row, with

* ``id`` of the row and ``row_sha``, the hash of what the reviewer saw (:func:`row_sha`);
* ``decision``: ``accept``, ``reject`` with a ``reason`` of :data:`REASONS`, or ``edit`` with the
  whole answer as it should be: ``steps``, objects with ``text``, ``start`` and ``end`` in seconds
  from the start of the clip or null, and ``predictions``, up to three objects with ``text``,
  ``confidence`` and ``justification``; a ``confidence`` of null stands for none, in a single
  prediction;
* ``reviewer``, a name, and ``reviewed_at``, an ISO 8601 time with its zone.

The files lie in the folder ``reviews`` beside the set's splits. Together they decide by this rule:

1. A review of another version of the row counts for nothing; it is counted.
2. Of one reviewer, the newest review of a row counts.
3. The reviewer named ``adjudicator`` decides alone where there is a decision of that name.
4. Else one ``reject`` rejects the row.
5. Else an ``edit`` is applied; of two different edits neither is, and the row is left out until
   it is adjudicated.
6. Else the row is accepted.

A row that nobody has reviewed stays as it is. Reviews of answers that the gate rejected tell how
good the gate is; they bring no row into the set.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeGuard, get_args

from vidreason.evaluation.judge.files import json_lines
from vidreason.json_object import shown
from vidreason.reasoning.predictions import MAX_PREDICTIONS, Prediction
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.rows import draft_fields

Decision = Literal["accept", "reject", "edit"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)

REASONS = {
    "not_visible": "something that is not there",
    "wrong_object": "wrong object or person",
    "wrong_order": "wrong order or time",
    "wrong_cause": "wrong cause",
    "incomplete": "what matters is missing",
    "bad_prediction": "implausible prediction",
    "unclear": "unclear or bad language",
    "harmful": "private, offensive or harmful",
    "other": "another reason",
}
"""Why a row is rejected, by its name in the file."""

EDITED_DIFFERENTLY = "edited differently"
"""Why a row with edits that contradict each other is left out."""

REVIEWS_FOLDER = "reviews"
"""Folder of review files, beside the splits of a set."""
ADJUDICATOR = "adjudicator"
"""Reviewer whose decisions outweigh those of all others."""
REVIEWED_FIELDS = (
    *("video_id", "media", "start", "end", "instruction"),
    *("causal_explanation", "step_times", "prediction", "predictions", "outcome", "futures"),
)
"""Fields of a row that a review is about; the others, such as its time, may change."""
MAX_FILE_BYTES = 2**28
"""A larger file is no review file: 100,000 edited rows stay below."""
MAX_NAME_CHARS = 60
MAX_SECONDS = 1e9
MAX_STEPS = 64
MAX_TEXT_CHARS = 4000
"""Longest text of an edit."""

_FIELDS = {"id", "row_sha", "decision", "reason", "steps", "predictions", "reviewer", "reviewed_at"}
_SHA = re.compile(r"[0-9a-f]{64}")
_SAVE_AGAIN = "save the file again from the review page"
# Control characters, line ends, and marks that turn the direction of writing.
_UNSEEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


@dataclass(frozen=True, kw_only=True)
class Review:
    """One person's decision on a row."""

    id: str
    """Id of the row."""
    row_sha: str
    """:func:`row_sha` of the row as the reviewer saw it."""
    decision: Decision
    reason: str = ""
    """A name of :data:`REASONS` for a rejected row, else empty."""
    draft: Draft | None = None
    """The whole answer as it should be, of an edit; else None."""
    reviewer: str
    reviewed_at: datetime
    """With its zone."""


class Ruling(NamedTuple):
    """The decision of all reviewers together."""

    decision: Decision
    reviewers: tuple[str, ...]
    """Names of those whose reviews count, sorted."""
    reviewed_at: datetime
    """Time of the newest of these reviews."""
    draft: Draft | None = None
    """The answer of an edit."""
    reason: str = ""
    """Reason of a rejection; :data:`EDITED_DIFFERENTLY` for edits that contradict each other."""


class Reviewed(NamedTuple):
    """A row after its reviews."""

    row: dict[str, Any] | None
    """None for a rejected one."""
    ruling: Ruling | None
    """None where no review counts."""
    num_stale: int
    """Reviews of another version of the row."""


class Reviews:
    """All reviews of a set, by the rule of this module.

    Args:
        reviews: Of any number of files.
    """

    def __init__(self, reviews: Iterable[Review]) -> None:
        self.by_id: dict[str, list[Review]] = {}
        for review in reviews:
            self.by_id.setdefault(review.id, []).append(review)

    def ruling(self, name: str, sha: str) -> Ruling | None:
        """Return the reviewers' decision on a version of the row ``name``, None for none."""
        current = [one for one in self.by_id.get(name, ()) if one.row_sha == sha]
        return rule_on(current) if current else None

    def apply(self, row: Mapping[str, Any]) -> Reviewed:
        """Return a row as it is after its reviews; rows without an ``id`` have none."""
        reviews = self.by_id.get(row_id(row), [])
        if not reviews:
            return Reviewed(dict(row), None, 0)
        sha = row_sha(row)
        ruling = self.ruling(row_id(row), sha)
        num_stale = sum(one.row_sha != sha for one in reviews)
        if ruling is not None and ruling.decision == "reject":
            return Reviewed(None, ruling, num_stale)
        if ruling is not None and ruling.draft is not None:
            return Reviewed(edited(row, ruling.draft), ruling, num_stale)
        return Reviewed(dict(row), ruling, num_stale)


def row_id(row: Mapping[str, Any]) -> str:
    """Return the id of a row as a text, which reviews name it by."""
    return str(row.get("id", "")).strip()


def row_sha(row: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a review of a row is about; empty fields are as absent ones."""
    content = {
        name: row[name] for name in REVIEWED_FIELDS if row.get(name) not in (None, "", [], ())
    }
    # Sorted: programs may write the fields in any order.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def edited(row: Mapping[str, Any], draft: Draft) -> dict[str, Any]:
    """Return a row with another answer.

    What really came next stays, as it is the source's and no reviewer's, unless nothing is
    predicted any more that it could be compared with.
    """
    changed = {**row, **draft_fields(draft)}
    for name, nothing in (("outcome", None), ("futures", [])):
        if name in row:
            changed[name] = row[name] if draft.predictions else nothing
        else:
            # draft_fields() may have put it in; the row had none.
            changed.pop(name, None)
    return changed


def newest_of_each(reviews: Iterable[Review]) -> dict[str, Review]:
    """Return the newest review by reviewer; of equal times the last one."""
    newest: dict[str, Review] = {}
    for review in reviews:
        other = newest.get(review.reviewer)
        if other is None or review.reviewed_at >= other.reviewed_at:
            newest[review.reviewer] = review
    return newest


def rule_on(reviews: Sequence[Review]) -> Ruling:
    """Decide on one version of a row, by the rule of this module.

    Args:
        reviews: Of that version; at least one.
    """
    # Rules 2 and 3 of the module.
    newest = newest_of_each(reviews)
    if ADJUDICATOR in newest:
        newest = {ADJUDICATOR: newest[ADJUDICATOR]}
    counted = [newest[name] for name in sorted(newest)]
    names = tuple(sorted(newest))
    time = max(review.reviewed_at for review in counted)
    # Rule 4.
    rejections = [review for review in counted if review.decision == "reject"]
    if rejections:
        return Ruling("reject", names, time, reason=rejections[0].reason)
    # Rules 5 and 6.
    drafts = [review.draft for review in counted if review.draft is not None]
    if len({_draft_key(draft) for draft in drafts}) > 1:
        return Ruling("reject", names, time, reason=EDITED_DIFFERENTLY)
    if drafts:
        return Ruling("edit", names, time, draft=drafts[0])
    return Ruling("accept", names, time)


def read_reviews(path: str | Path) -> list[Review]:
    """Read a review file.

    Raises:
        ValueError: It is missing, too large or of another form, or has two reviews of a row by one
            reviewer. The message names file, line and field, and the remedy.
    """
    if Path(path).is_file() and Path(path).stat().st_size > MAX_FILE_BYTES:
        raise ValueError(
            f"{path} has {Path(path).stat().st_size:,} bytes, more than {MAX_FILE_BYTES:,}: it is "
            f"no review file; {_SAVE_AGAIN}"
        )
    reviews, seen = [], set()
    for location, row in json_lines(str(path)):
        try:
            review = _review(row)
        except _FieldError as error:
            raise ValueError(f"{location}: {error}; {_SAVE_AGAIN}") from None
        if (review.id, review.reviewer) in seen:
            raise ValueError(
                f"{location}: {shown(review.reviewer)} reviewed {shown(review.id)} already in this "
                "file: keep one of the two rows"
            )
        seen.add((review.id, review.reviewer))
        reviews.append(review)
    return reviews


class _FieldError(ValueError):
    """A field of a review is wrong."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"field {field!r} is {shown(value)}, expected {expected}")


def _review(row: Mapping[str, Any]) -> Review:
    # A misspelt field would else be as if it were not there.
    if unknown := sorted(row.keys() - _FIELDS):
        raise _FieldError(unknown[0], row[unknown[0]], f"only {', '.join(sorted(_FIELDS))}")
    decision = row.get("decision")
    if decision not in DECISIONS:
        raise _FieldError("decision", decision, f"one of {', '.join(DECISIONS)}")
    reason = row.get("reason") or ""
    if not isinstance(reason, str) or (decision == "reject" and reason not in REASONS):
        raise _FieldError("reason", reason, f"one of {', '.join(REASONS)}")
    if decision != "reject" and reason != "":
        raise _FieldError("reason", reason, f"none for the decision {decision!r}")
    sha = row.get("row_sha")
    if not isinstance(sha, str) or not _SHA.fullmatch(sha):
        raise _FieldError("row_sha", sha, "64 hexadecimal digits")
    return Review(
        id=_text(row, "id", 1000),
        row_sha=sha,
        decision=decision,
        reason=reason,
        draft=_draft(row, decision),
        reviewer=_text(row, "reviewer", MAX_NAME_CHARS),
        reviewed_at=_time(row.get("reviewed_at")),
    )


def _draft(row: Mapping[str, Any], decision: Decision) -> Draft | None:
    if decision != "edit":
        for name in ("steps", "predictions"):
            if row.get(name) is not None:
                raise _FieldError(name, row[name], f"none for the decision {decision!r}")
        return None
    steps = tuple(
        _step(f"steps[{number}]", item)
        for number, item in enumerate(_objects(row, "steps", MAX_STEPS))
    )
    items = _objects(row, "predictions", MAX_PREDICTIONS)
    predictions = tuple(
        _prediction(f"predictions[{number}]", item, is_single=len(items) == 1)
        for number, item in enumerate(items)
    )
    if not steps and not predictions:
        raise _FieldError("steps", [], "a step or a prediction; a row without both is rejected")
    return Draft(steps=steps, predictions=predictions)


def _objects(row: Mapping[str, Any], name: str, limit: int) -> list[dict[str, Any]]:
    items = row.get(name)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _FieldError(name, items, "a list of objects, for the decision 'edit'")
    if len(items) > limit:
        raise _FieldError(name, items, f"at most {limit}")
    return items


def _step(name: str, item: Mapping[str, Any]) -> Step:
    text = _text(item, "text", MAX_TEXT_CHARS, f"{name}.text")
    start, end = (_seconds(f"{name}.{part}", item.get(part)) for part in ("start", "end"))
    if start is not None and end is not None and end < start:
        raise _FieldError(f"{name}.end", end, f"at least the start, {start:g}")
    return Step(text, start, end)


def _prediction(name: str, item: Mapping[str, Any], *, is_single: bool) -> Prediction:
    event = _text(item, "text", MAX_TEXT_CHARS, f"{name}.text")
    confidence = item.get("confidence")
    if confidence is None and is_single:
        confidence = math.nan
    elif not _is_number(confidence) or not 0 <= confidence <= 1:
        expected = "a number from 0 to 1, or null for the only prediction"
        raise _FieldError(f"{name}.confidence", confidence, expected)
    reason = ""
    if item.get("justification"):
        reason = _text(item, "justification", MAX_TEXT_CHARS, f"{name}.justification")
    return Prediction(event, reason, float(confidence))


def _seconds(name: str, value: object) -> float | None:
    if value is None:
        return None
    if not _is_number(value) or not 0 <= value <= MAX_SECONDS:
        raise _FieldError(name, value, "seconds from the start of the clip, or null")
    return float(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(row: Mapping[str, Any], name: str, max_chars: int, field: str = "") -> str:
    value = row.get(name)
    if not isinstance(value, str) or not 0 < len(value.strip()) <= len(value) <= max_chars:
        raise _FieldError(field or name, value, f"a text of 1 to {max_chars} characters")
    # JSON can hold half of a surrogate pair, and no file can.
    if _UNSEEN.search(value) or any("\ud800" <= sign <= "\udfff" for sign in value):
        raise _FieldError(
            field or name, value, "a text in one line without control characters and marks"
        )
    return value.strip()


def _time(value: object) -> datetime:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        expected = "a time with its zone, such as 2026-01-31T12:00:00Z"
        raise _FieldError("reviewed_at", value, expected)
    return time


def _draft_key(draft: Draft) -> str:
    """The content of an edit, in which no confidence is equal to itself."""
    return json.dumps(draft_fields(draft), sort_keys=True)
