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

from vidreason.reasoning.plain_text import own_turn, without_markup

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
    """Predictions that could be read of an answer."""

    items: tuple[Prediction, ...]
    """Up to three, in the answer's order."""
    unparsed: str
    """Parts of the answer that look like a prediction, but have no event or no valid confidence;
    the whole answer if nothing could be read; empty if everything was."""


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

    Thoughts and markup are left out. The answer is cut at list numbers ("1.", "2)", "**Prediction
    3:**", "Event 1 -"). In a part, the confidence is the number that belongs to the last
    "confidence" or "probability": 0.8, 0,8, .8, 8e-1, 80%, 8/10, 8 out of 10, "80% confident". The
    justification is what follows "justification", "reason", "because" or the like; the event is
    what comes before both. A part without an event or without one confidence from 0 to 1 ("high",
    "0.7-0.9", "above 0.5", 1.7) is not a prediction.
    """
    items: list[Prediction] = []
    unparsed: list[str] = []
    for part in _parts(without_markup(own_turn(text))):
        prediction = _parse_part(part)
        if prediction is None:
            unparsed.append(part.strip())
        elif len(items) < MAX_PREDICTIONS:
            items.append(prediction)
    if not items:
        return Predictions(items=(), unparsed=text.strip())
    return Predictions(items=tuple(items), unparsed="\n".join(unparsed))


_LABEL = r"(?:prediction|event|scenario|possibility|outcome)"
_BULLET = r"^[ \t#*_>\u2022-]*"
_REMARK = r"\([^()\n]{0,60}\)"
_ITEM_START = re.compile(
    rf"{_BULLET}(?:{_LABEL}[ \t]*)?#?\(?\d{{1,2}}\)?[ \t]*[.):\-\u2013\u2014\uff1a][ \t*_]*(?!\d)"
    rf"|{_BULLET}{_LABEL}[ \t]*#?\d{{1,2}}[ \t]*(?:{_REMARK})?[ \t]*:?[ \t*_]*$"
    rf"|{_BULLET}{_LABEL}[ \t]*#?\d{{1,2}}[ \t]*{_REMARK}[ \t]*:[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
# Fillers are bounded: unbounded neighbours take quadratic time on the loops that models fall into.
_NAME = (
    r"(?:confidence|probability|likelihood|certainty)(?:[ \t]{1,4}(?:score|level|rating|value))?"
)
_WORD = r"(?:high|medium|moderate|low)"
_DIGITS = r"(?:\d{{1,9}}(?:[.,]\d{{1,15}})?|[.,]\d{{1,15}})"
_NUMBER = (
    rf"(?P<value{{0}}>[-+\u2212]?{_DIGITS}(?:e[-+\u2212]?\d{{{{1,3}}}})?)(?![\d.,]*\d)"
    r"[ \t]{{0,4}}(?P<unit{0}>%|percent\b"
    r"|(?:/|\u2044|out of|of)[ \t]{{0,4}}(?P<over{0}>\d{{1,9}}(?:\.\d{{1,9}})?))?"
)
_CONFIDENCE = re.compile(
    rf"\b{_NAME}[ \t]{{0,8}}(?:[(\[][^()\[\]\n]{{0,24}}[a-z-][^()\[\]\n]{{0,24}}[)\]])?"
    r"[ \t*_\"']{0,8}(?:is|of|:|=|-|\uff1a|\u2192)?[ \t*_\"']{0,8}"
    r"(?:(?:about|around|approximately|approx\.?|roughly|nearly|~|\u2248)[ \t]{0,4})?"
    rf"(?:(?:very |quite )?{_WORD}[ \t]{{0,4}})?[(\[]?"
    + _NUMBER.format("")
    + r"(?P<range>[ \t]{0,4}(?:-|\u2013|\u2014|to|or)[ \t]{0,4}[.,]?\d)?"
    rf"(?:[ \t]{{0,4}}\({_WORD}\))?[.)\]]*"
    r"|(?<![\d.,])(?<!\d-)(?<!\d\u2013)"
    + _NUMBER.format("2")
    + r"[ \t]{0,4}(?P<told>confiden(?:ce|t)|certain|sure|likely|probable|probability)\b",
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
    matches = list(_CONFIDENCE.finditer(part))
    if not matches:
        return None
    last = matches[-1]
    confidence = _confidence(last)
    if confidence is None:
        return None
    text = part[: last.start()] + "\n" + part[last.end() :]
    text = _EVENT_LABEL.sub("", text, count=1)
    justification = _JUSTIFICATION.search(text) or _BECAUSE.search(text)
    event = text if justification is None else text[: justification.start()]
    reason = "" if justification is None else text[justification.end() :]
    event, reason = _tidy(event), _tidy(reason)
    return Prediction(event, reason, confidence) if event else None


def _confidence(match: re.Match[str]) -> float | None:
    """The number from 0 to 1; None for another one, or for a range."""
    side = "2" if match["told"] else ""
    text, unit, over = (match[name + side] for name in ("value", "unit", "over"))
    if match["range"] or (match["told"] and not unit):
        return None
    value = float(text.replace(",", ".").replace("\u2212", "-"))
    if unit and unit.casefold() in ("%", "percent"):
        value /= 100
    elif over:
        value = value / float(over) if float(over) else -1.0
    return value if 0 <= value <= 1 else None


def _tidy(text: str) -> str:
    """One line, without markup and brackets left over at its ends."""
    return " ".join(text.split()).strip(_EDGES)
