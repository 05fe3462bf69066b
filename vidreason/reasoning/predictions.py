"""The answer to the prediction prompt (section 3.3.1) as data: events with confidences.

A language model writes it in many ways. What this module writes, and what it reads among others::

    1. The red ball hits the wall.
    Justification: It rolls straight towards it.
    Confidence: 0.8
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAX_PREDICTIONS = 3
"""The prompt asks for three."""


class Prediction(NamedTuple):
    """One event that may happen next."""

    event: str
    justification: str
    """Why; empty where the answer gives no reason."""
    confidence: float
    """From 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What could be read of an answer."""

    items: tuple[Prediction, ...]
    """Up to three, in the answer's order."""
    unparsed: str
    """The parts of the answer that look like a prediction but lack an event or a confidence from 0
    to 1; the whole answer where nothing could be read; empty where all was read."""


def format_predictions(predictions: Sequence[Prediction]) -> str:
    """Write predictions in the form that :func:`parse_predictions` reads best."""
    lines = []
    for number, item in enumerate(predictions, start=1):
        lines.append(f"{number}. {item.event}")
        if item.justification:
            lines.append(f"Justification: {item.justification}")
        lines.append(f"Confidence: {item.confidence:g}")
    return "\n".join(lines)


def parse_predictions(text: str) -> Predictions:
    """Read up to three predictions from a model's answer. Deterministic; never raises.

    The answer is cut at list numbers ("1.", "2)", "**Prediction 3:**", "Event 1 -"). In a part, the
    confidence is the number behind the last "confidence" (0.8, .8, 80%, 8/10); the justification
    is what follows "justification", "reason", "because" or the like; the event is what comes
    before both. A part without an event or without a confidence from 0 to 1 is not a prediction.
    """
    items: list[Prediction] = []
    unparsed: list[str] = []
    for part in _parts(text):
        prediction = _parse_part(part)
        if prediction is None:
            unparsed.append(part.strip())
        elif len(items) < MAX_PREDICTIONS:
            items.append(prediction)
    if not items:
        return Predictions(items=(), unparsed=text.strip())
    return Predictions(items=tuple(items), unparsed="\n".join(unparsed))


_LABEL = r"(?:prediction|event|scenario|possibility|outcome)"
_ITEM_START = re.compile(
    rf"^[ \t#*_>-]*(?:{_LABEL}[ \t]*)?\(?\d{{1,2}}\)?[ \t]*[.):\-][ \t*_]*(?!\d)"
    rf"|^[ \t#*_>-]*{_LABEL}[ \t]*\d{{1,2}}[ \t*_]*$",
    re.IGNORECASE | re.MULTILINE,
)
# Fillers are bounded: unbounded neighbours take quadratic time on the loops that models fall into.
_CONFIDENCE = re.compile(
    r"\bconfidence(?:[ \t]{1,4}(?:score|level))?[ \t*_]{0,8}(?:is|of|:|=|-)?[ \t*_]{0,8}"
    r"(?:about[ \t]{1,4})?(?P<value>-?\d{0,9}\.?\d{1,9})"
    r"[ \t]{0,4}(?P<unit>%|/[ \t]{0,4}(?P<over>\d{1,9}(?:\.\d{1,9})?))?[.)\]]*",
    re.IGNORECASE,
)
_JUSTIFICATION = re.compile(
    r"\b(?:brief[ \t]+)?(?:justification|reasoning|reason|rationale|explanation)"
    r"[ \t*_]*[:\-]",
    re.IGNORECASE,
)
_BECAUSE = re.compile(r"\b(?=(?:because|since)\b)", re.IGNORECASE)
_EVENT_LABEL = re.compile(rf"^\s*[*_]*{_LABEL}[ \t*_]*:[ \t*_]*", re.IGNORECASE)
_EDGES = " \t\n\r*_,;:-([{}])|"


def _parts(text: str) -> list[str]:
    """The list items of an answer, without their numbers; the lines before the first are left out.

    An answer without numbers is one part.
    """
    starts = list(_ITEM_START.finditer(text))
    if not starts:
        return [text] if text.strip() else []
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return [text[start.end() : end] for start, end in zip(starts, ends, strict=True)]


def _parse_part(part: str) -> Prediction | None:
    found = list(_CONFIDENCE.finditer(part))
    if not found:
        return None
    confidence = float(found[-1]["value"])
    if found[-1]["unit"] == "%":
        confidence /= 100
    elif found[-1]["over"]:
        confidence = confidence / float(found[-1]["over"]) if float(found[-1]["over"]) else -1.0
    if not 0 <= confidence <= 1:
        return None
    told = part[: found[-1].start()] + "\n" + part[found[-1].end() :]
    told = _EVENT_LABEL.sub("", told, count=1)
    justification = _JUSTIFICATION.search(told) or _BECAUSE.search(told)
    event = told if justification is None else told[: justification.start()]
    reason = "" if justification is None else told[justification.end() :]
    event, reason = _tidy(event), _tidy(reason)
    return Prediction(event, reason, confidence) if event else None


def _tidy(text: str) -> str:
    """One line, without markup and brackets left over at its ends."""
    return " ".join(text.split()).strip(_EDGES)
