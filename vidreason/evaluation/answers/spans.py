"""Which span of time an answer names."""

import itertools
import re
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from vidreason.evaluation.answers.conclusion import conclusion
from vidreason.reasoning.plain_text import unified

Span = tuple[float, float]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}  # in seconds
_UNIT = (
    r"(?:(?P<ms{0}>ms|milliseconds?)|(?P<s{0}>s|secs?|seconds?|sekunden|segundos|secondes|\u79d2)"
    r"|(?P<m{0}>m|mins?|minutes?)|(?P<h{0}>h|hrs?|hours?))(?![^\W\d_])"
)
# 12.5, 12,5 (a decimal comma only where no blank follows), 1:02:09.5, 00:00:05,000
_TIME = (
    r"(?P<sign{0}>[-\u2212])?(?P<time{0}>\d{{1,6}}(?::\d\d){{1,2}}(?:[.,]\d{{1,9}})?"
    r"|\d{{1,6}}(?:\.\d{{1,9}}|,\d{{1,9}}(?![\d,\]\)]))?|\.\d{{1,9}})(?![\d:])"
    r"(?:[ \t]{{0,3}}"
    + _UNIT
    + r"(?:[ \t]{{0,2}}(?P<more{0}>\d{{1,2}}(?:\.\d{{1,9}})?)[ \t]{{0,2}}"
    r"s(?:ec(?:ond)?s?)?\b)?)?"  # codespell:ignore
)
_LABEL = (
    r"[ \t\"'*_]{0,4}(?:time|timestamp|second|seconds|s|t)?[ \t\"'*_]{0,4}(?:\([^()\n]{0,12}\))?"
)
_START = r"(?:start(?:s|ing|ed)?|begin(?:s|ning)?|from|onset|anfang|inicio)"
_END = r"(?:end(?:s|ing|ed)?|finish(?:es|ed)?|stop(?:s|ped)?|until|till|to|offset|fin)"
_JOIN = r"[ \t]{0,3}(?:is|at|are|:|=|about|around|approximately|the)?"
# "start: 3.5 s, end: 9.0 s", in one line or two, also as JSON.
_LABELLED = re.compile(
    rf"\b{_START}{_LABEL}(?:{_JOIN}){{1,3}}[ \t\"'(]{{0,4}}"
    + _TIME.format("1")
    + rf"[^\d\n]{{0,40}}\n?[^\d\n]{{0,20}}?\b{_END}{_LABEL}(?:{_JOIN}){{1,3}}[ \t\"'(]{{0,4}}"
    + _TIME.format("2"),
    re.IGNORECASE,
)
_SEPARATOR = (
    r"(?:to|till|until|through|thru|up to|and|bis|a|\u00e0|al|hasta|until about|to about"
    r"|-{1,2}>?|=>|\u2013|\u2014|\u2192|~|\u301c|\uff5e|\u2026|\.{2,3}|;|,|\u81f3|\u5230)"
)
# "from 3.5 to 9 s", "[3.5, 9]", "0:03 - 0:09"; no parts of longer numbers.
_PAIR = re.compile(
    r"(?<![\d.:,\w])(?<!\d-)(?P<before>"
    r"(?:from|between|during|at|t[ \t]?=|von|zwischen|entre|de|del|\[|\()"
    r"[ \t]{0,3}(?:about|around|roughly|approximately|the|seconds?|t[ \t]?=)?[ \t]{0,3})?"
    r"(?P<frames>(?:frames?|steps?|balls?|options?|no\.)[ \t]{1,3})?"
    + _TIME.format("1")
    + rf"(?P<gap>[ \t]{{0,3}}(?P<separator>{_SEPARATOR})"
    r"[ \t]{0,3}(?:about|around|roughly|approximately|the|t[ \t]?=|seconds?)?[ \t]{0,3})"
    + _TIME.format("2")
    + r"(?P<after>[ \t]{0,3}[\])])?(?![\d:])(?!-\d)",
    re.IGNORECASE,
)
# "not from 3 to 5 s"
_TAKEN_BACK = re.compile(
    r"\b(?:not|n't|never|instead of|rather than)\s{1,3}(?:from|between)?\s*$", re.I
)
# What may stand between spans that are listed: "3 to 5 s and 7 to 9 s".
_LISTED = re.compile(
    r"[\s\])]{0,4}(?:and|or|,|;|/|&|also|as well as)?[\s,]{0,3}(?:from|between|at|\[|\()?\s{0,3}",
    re.I,
)


class _Strength(IntEnum):
    """Certainty that two numbers are the bounds of a span in seconds."""

    BARE = 0
    """3 - 5"""
    FRAMED = 1
    """from 3 to 5, [3, 5], 0:03 - 0:05"""
    SAID = 2
    """3 to 5 seconds, start: 3, end: 5"""


class _Found(NamedTuple):
    start: int
    end: int
    strength: _Strength
    span: Span


def parse_span(text: str) -> Span | None:
    """The span of time that ``text`` names, in seconds, or None when it names none or several.

    Read are "3.5 to 9.0", "from 3.5s to 9s", "between 3.5 and 9 seconds", "[3.5, 9]", "3,5 - 9,0",
    clock times ("0:03 - 0:09"), minutes ("1 min 5 s to 2 min") and named bounds ("Start: 3.5, end:
    9.0", also as JSON). Pairs with a unit or named bounds are preferred to "from 3 to 9", and those
    to bare ones: "balls 1 and 2 touch between 5.0 and 9.0 seconds" is (5.0, 9.0). Of equally clear
    ones the last counts, but "3 to 5 s and 7 to 9 s" names two. The earlier time is the start. A
    time before 0 keeps its sign: the official scorer of NExT-GQA takes spans as they are.
    """
    said = unified(conclusion(text)).replace("\u2212", "-")
    candidates = list(_found(said))
    if not candidates:
        return None
    best = max(one.strength for one in candidates)
    clear = [one for one in candidates if one.strength is best]
    for first, second in itertools.pairwise(clear):
        if first.span != second.span and _LISTED.fullmatch(said, first.end, second.start):
            return None
    return clear[-1].span


def _found(text: str) -> Iterator[_Found]:
    for match in _LABELLED.finditer(text):
        yield _Found(match.start(), match.end(), _Strength.SAID, _span(match))
    for match in _PAIR.finditer(text):
        strength = _strength(match, text)
        taken_back = _TAKEN_BACK.search(text, max(match.start() - 24, 0), match.start())
        if strength is not None and taken_back is None:
            yield _Found(match.start(), match.end(), strength, _span(match))


def _strength(match: re.Match[str], text: str) -> _Strength | None:
    """None for numbers that are no times: of frames, or listed by "and" or a comma."""
    if match["frames"]:
        return None
    before = (match["before"] or "").strip().casefold()
    separator = match["separator"].casefold()
    has_unit = any(match[f"{unit}{side}"] for unit in _UNITS for side in (1, 2))
    is_clock = ":" in match["time1"] and ":" in match["time2"]
    is_whole = match.start() == 0 and match.end() == len(text.rstrip(" .\n"))
    # These join any two numbers; a span needs a further sign that it is one.
    if separator in ("and", ",", ";"):
        brackets = before[:1] in ("[", "(") and match["after"]
        between = before.startswith(("between", "zwischen", "entre"))
        if not (brackets or between or is_whole or is_clock or (has_unit and separator == "and")):
            return None
        if not (brackets or between or is_whole):
            return _Strength.BARE
    if has_unit:
        return _Strength.SAID
    return _Strength.FRAMED if before or is_clock else _Strength.BARE


def _span(match: re.Match[str]) -> Span:
    units = [next((unit for unit in _UNITS if match[f"{unit}{side}"]), None) for side in (1, 2)]
    # "1 to 2 min": a first number without a unit has the second one's.
    first = _seconds(match, 1, units[0] or units[1])
    second = _seconds(match, 2, units[1])
    return min(first, second), max(first, second)


def _seconds(match: re.Match[str], side: int, unit: str | None) -> float:
    """Seconds of ``12.5``, ``1:02:03`` or ``1 min 5 s``."""
    time = match[f"time{side}"].replace(",", ".")
    seconds = 0.0
    for part in time.split(":"):
        seconds = 60 * seconds + float(part)
    if ":" not in time:
        seconds *= _UNITS[unit or "s"]
    seconds += float(match[f"more{side}"] or 0)
    return -seconds if match[f"sign{side}"] else seconds
