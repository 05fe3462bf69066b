"""A teacher's answer in words: an explanation, then a prediction, under headings or without any."""

import math
import re

from vidreason.json_object import shown
from vidreason.reasoning.explanations import parse_explanation
from vidreason.reasoning.plain_text import own_turn, without_markup
from vidreason.reasoning.predictions import MAX_PREDICTIONS, Prediction, parse_predictions
from vidreason.teacher.answer_errors import AnswerError
from vidreason.teacher.answer_times import is_time_label, timed_steps
from vidreason.teacher.draft import Step

MAX_PROSE_CHARS = 20_000
"""A longer answer is a loop; it is what :func:`parse_explanation` reads."""

# "First, the ", "2) ", "(ii) ": what may stand before the words of a heading.
_ORDINAL = (
    r"(?:(?:first|second|firstly|secondly)[,:]? (?:the |a )?|\(?(?:\d{1,2}|[ivx]{1,3}|[ab])[.):] )?"
)
_EVENTS = r"(?: of (?:the )?(?:video|clip|events?|events? in the (?:video|clip)))?"
# A heading is a whole line; what follows its colon belongs to the text below it.
_EXPLANATION = re.compile(
    rf"#*\s?(?:part \d:? |section \d:? )?{_ORDINAL}"
    r"(?:(?:a |the )?(?:step[- ]by[- ]step )?(?:causal )?"
    rf"(?:explanations?|analysis|reasoning|chain of events|steps){_EVENTS}"
    rf"|step[- ]by[- ]step(?: causal)?(?: explanation)?{_EVENTS})"
    r"\s?(?::\s*(?P<rest>.*))?",
    re.IGNORECASE,
)
# "What happens next", "Most likely future events", "Prediction of what comes".
_AFTERWARDS = (
    r"(?:what (?:is (?:most )?likely to |will |may |might |could )?(?:happens?|comes?|occurs?)"
    r"(?: (?:most likely|next|immediately|right|just|after(?:wards)?|the|clip|video|ends?)){0,8}"
    r"|(?:most likely |likely )?(?:next|future|subsequent) (?:events?|actions?|outcomes?)"
    r"|predicted (?:next |future )?(?:events?|outcomes?|actions?)"
    r"|(?:future |event |next[- ]event |most likely )?"
    r"(?:predictions?|forecasts?|future)(?: (?:of|for|about) [^:\n]{0,60})?)"
)
_PREDICTION = re.compile(
    rf"#*\s?(?:part \d:? |section \d:? )?{_ORDINAL}(?:the |a |my )?{_AFTERWARDS}"
    r"\s?(?:\([^()\n]{0,60}\)\s?)?(?:[:?]\s*(?P<rest>.*))?",
    re.IGNORECASE,
)
_NUMBERED_PREDICTION = re.compile(r"prediction ?#?1\b", re.IGNORECASE)
# The beginning of a prediction that has no heading.
_FORETELLING = re.compile(
    rf"(?:^|(?<=[.!?] )){_ORDINAL}(?:(?:immediately |right |just |shortly )?after (?:the |this )"
    r"(?:video|clip|scene)(?: ends?| is over| finishes)?\b"
    r"|i (?:would )?predict\b|my prediction\b|next, it is likely\b"
    r"|(?:(?:based on|given) [^,.\n]{1,60}, )?(?:it is (?:most |very |highly )?likely that"
    r"|(?:the |what is )?most likely (?:next|event|outcome|action|thing|to happen))\b"
    r"|most likely,? )",
    re.IGNORECASE | re.MULTILINE,
)
_BULLET = r"(?:[-+*\u2022\u2023\u25aa\u25cf\u25e6\u00b7\u2013\u2014]|\(?[a-h]\)) "
_ITEM_NUMBER = r"(?:(?:step ?)?#?\(?\d{1,3}[.):]{1,2}|step ?#?\d{1,3}(?: ?[-\u2013\u2014])?) "
_NUMBER = re.compile(rf"(?:{_BULLET})?{_ITEM_NUMBER}", re.IGNORECASE)
_MARK = re.compile(rf"{_BULLET}|{_ITEM_NUMBER}", re.IGNORECASE)
_MAX_MARKS = 3  # "- 1. Step 1: " has as many
_JUSTIFICATION = re.compile(
    r"\b(?:brief )?(?:justification|reasoning|reason|rationale|why)[ ]?:[ ]?", re.IGNORECASE
)
_SURE_EXPLANATION = re.compile(r"\b(?:causal|step)", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t]+")
_CONFIDENCE = re.compile(r"\b(?:confidence|probability|likelihood)(?: \w{1,12})? ?[:=]", re.I)


def read_prose(text: str) -> tuple[tuple[Step, ...], tuple[Prediction, ...]]:
    """Read steps and predictions of an answer in words; either may be missing.

    Raises:
        AnswerError: It is too long, or predictions cannot be told apart or have no confidences.
    """
    said = without_markup(own_turn(text))
    if len(said) > MAX_PROSE_CHARS:
        detail = (
            f"too long: {len(said):,} characters of prose, at most {MAX_PROSE_CHARS:,} are read"
        )
        raise AnswerError("length", detail)
    explanation, prediction = _parts(_single_spaced(said))
    return read_steps(explanation), read_predictions(prediction)


def read_steps(text: str) -> tuple[Step, ...]:
    """Read the items of a list as steps; without a list, its sentences."""
    lines = _single_spaced(text).split("\n")
    if not any(_MARK.match(line) or is_time_label(line) for line in lines):
        return timed_steps([step.text for step in parse_explanation(text)])
    # Bullets below numbers tell more of an item. One goes on until a blank line; what is in none is
    # a remark.
    mark = _NUMBER if any(map(_NUMBER.match, lines)) else _MARK
    items: list[str] = []
    inside = False
    for line in lines:
        if mark.match(line) or is_time_label(line):
            items.append(without_mark(line))
            inside = True
        elif inside and line:
            items[-1] += f" {without_mark(line)}"
        else:
            inside = False
    return timed_steps([item.strip() for item in items if any(map(str.isalnum, item))])


def read_predictions(text: str) -> tuple[Prediction, ...]:
    """Read the predictions of a text; a single one without a confidence has NaN.

    Raises:
        AnswerError: A part of it is no prediction, or several have no confidences.
    """
    parsed = parse_predictions(text)
    if parsed.items:
        if parsed.unparsed:
            raise AnswerError("schema", f"no prediction: {shown(parsed.unparsed)}")
        if len(_CONFIDENCE.findall(text)) > MAX_PREDICTIONS:
            raise AnswerError("length", f"too many predictions: more than {MAX_PREDICTIONS}")
        return parsed.items
    lines = _single_spaced(text).strip().split("\n")
    if lines == [""]:
        return ()
    # A confidence that the parser did not take is a broken one, not a missing one.
    if _CONFIDENCE.search(text):
        raise AnswerError("schema", f"no confidence: {shown(text.strip())}")
    num_items = sum(_MARK.match(line) is not None for line in lines)
    if num_items > 1:
        raise AnswerError("schema", f"no confidence: {num_items} predictions without any")
    # The first paragraph; what follows is a closing remark.
    end = lines.index("") if "" in lines else len(lines)
    said = without_mark(" ".join(lines[:end]))
    label = _JUSTIFICATION.search(said)
    event = said[: label.start()] if label else said
    reason = said[label.end() :] if label else ""
    return (Prediction(event.strip(), reason.strip(), math.nan),) if event.strip() else ()


def without_mark(text: str) -> str:
    """The text without numbers and bullets of a list before it, as in "- Step 1: he enters"."""
    for _ in range(_MAX_MARKS):
        mark = _MARK.match(text)
        if mark is None:
            break
        text = text[mark.end() :]
    return text


def _parts(text: str) -> tuple[str, str]:
    """The explanation and the prediction, each without its heading; empty where it is missing."""
    explanation: list[str] = []
    prediction: list[str] | None = None
    current = explanation
    for line in text.split("\n"):
        heading = _EXPLANATION.fullmatch(line)
        # "Reasoning: ..." below a prediction is its justification.
        if heading and (prediction is None or _SURE_EXPLANATION.search(line)):
            # What was said before the heading is an introduction.
            explanation.clear()
            current = explanation
            line = heading["rest"] or ""
        elif prediction is None and (heading := _PREDICTION.fullmatch(line)):
            current = prediction = []
            line = heading["rest"] or ""
        elif prediction is None and _NUMBERED_PREDICTION.match(line):
            current = prediction = []
        current.append(line)
    told = "\n".join(explanation)
    if prediction is None:
        start = _FORETELLING.search(told)
        cut = start.start() if start else len(told)
        return told[:cut], told[cut:]
    return told, "\n".join(prediction)


def _single_spaced(text: str) -> str:
    """The text with single blanks in its lines, and no others at their ends.

    Only blanks, tabs and line ends: the gate looks for other control characters.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(_BLANKS.sub(" ", line).strip(" ") for line in lines)
