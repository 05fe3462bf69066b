"""Subtitle files: WebVTT, SubRip, and the json3 files of YouTube.

WebVTT is read by its specification (w3.org/TR/webvtt1, section 6): a line with ``-->`` always
begins a cue, one with times that are none is dropped with its text, ``NOTE``, ``STYLE`` and
``REGION`` blocks and the header are passed over, tags are removed and character references decoded.
Beyond it, as the files that are found need: hours may be missing, a decimal comma will do, and so
will one to nine decimals or none.

SubRip has no specification. Its cues are read in the same way; the number that stands above the
times is not text, also where the empty line before it was lost.
"""

import html
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from data_modules.annotation_files import read_lines
from data_modules.files import Files
from data_modules.json_files import read_json_object

_SECONDS = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{2}(?:[.,]\d+)?)")
_CLOCK = r"(?:\d+:)?\d{1,2}:\d{2}(?:[.,]\d{1,9})?"
_TIMING = re.compile(rf"\s*(?P<start>{_CLOCK})\s*-->\s*(?P<end>{_CLOCK})(?:[ \t].*)?")
_ARROW = "-->"
# What begins like one: "3 < 5" and "<-" are text. {\an8} is SubRip's.
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|</?>|\{\\[^{}]*\}")
_ANYTHING = re.compile(r".+")
_REFERENCE = re.compile(r"&#?[A-Za-z0-9]{1,32};")
_INLINE_TIME = re.compile(rf"<{_CLOCK}>")

_TRANSITION_SECONDS = 0.05
"""Captions that roll show what was said alone for 10 ms before the next words come."""
_ADJACENT_SECONDS = 0.1  # longest gap between cues of one caption that rolls


class Cue(NamedTuple):
    """A text and the span of time in which it is said, in seconds."""

    start_seconds: float
    end_seconds: float
    text: str


class _Shown(NamedTuple):
    """A cue with its lines without markup, each with whether its words are timed."""

    start_seconds: float
    end_seconds: float
    lines: list[tuple[str, bool]]


class _Block(NamedTuple):
    """A line with ``-->`` and what belongs to it."""

    number: int
    """Number of the line in the file, from 1."""
    timing: str
    label: str
    """The line above, if it is no other cue's text."""
    texts: list[str]


def read_subtitles(files: Files, path: Path) -> list[Cue]:
    """The cues of one ``.vtt``, ``.srt`` or ``.json3`` file, in the order of the file, as text.

    Captions that roll, such as YouTube's automatic ones, show again what was said in the cue
    before: lines at a cue's start that stood at the end of the one before, which ended only then,
    are taken the first time only.

    Raises:
        ValueError: The file is missing, not UTF-8, or no subtitle file: not one of its cues has
            times, or its JSON is damaged. The message has the form ``file:line``.
    """
    read = _json3 if path.suffix.casefold() == ".json3" else _shown_cues
    return _without_repetition(read(files, path))


def text_between(cues: Sequence[Cue], start_seconds: float, end_seconds: float) -> str:
    """The text of the cues whose middle lies in a span, so that adjacent spans share none.

    Args:
        cues: Of the whole video.
        start_seconds: Start of the span.
        end_seconds: End of the span, not included.
    """
    return " ".join(
        cue.text
        for cue in cues
        if start_seconds <= (cue.start_seconds + cue.end_seconds) / 2 < end_seconds
    )


def parse_clock(text: str) -> float | None:
    """Seconds of ``[HH:]MM:SS[.mmm]``, with a decimal point or comma; None for other texts."""
    match = _SECONDS.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))


def _shown_cues(files: Files, path: Path) -> Iterator[_Shown]:
    # The first line tells the format, whatever the file is called.
    first = next((line for _, line in read_lines(files, path)), "")
    is_vtt = first.startswith("WEBVTT") or path.suffix.casefold() == ".vtt"
    num_cues, wrong = 0, ""
    for block in _blocks(read_lines(files, path)):
        match = _TIMING.fullmatch(block.timing)
        if match is None:
            wrong = wrong or (
                f"{path}:{block.number}: expected 'HH:MM:SS.mmm --> HH:MM:SS.mmm', found "
                f"{block.timing!r:.200}"
            )
            continue
        num_cues += 1
        start, end = (parse_clock(match[name]) or 0.0 for name in ("start", "end"))
        yield _Shown(start, end, _plain_lines(block.texts, is_vtt))
    if wrong and not num_cues:
        raise ValueError(wrong)
    if not num_cues and not first.startswith("WEBVTT"):
        raise ValueError(
            f"{path}:1: no subtitle file: neither the line WEBVTT nor a line with times, such as "
            f"'00:01.000 --> 00:02.000'; it begins with {first!r:.200}"
        )


def _blocks(lines: Iterable[tuple[int, str]]) -> Iterator[_Block]:
    """The cues, each up to an empty line or the next cue.

    A line of spaces is not empty: rolling captions begin with one.
    """
    block: _Block | None = None
    label = ""
    for number, line in chain(lines, [(0, "")]):  # an empty line ends the last cue
        text = line.rstrip("\r\n")
        if _ARROW in text:
            # No empty line between two cues: the last line may be the next one's number.
            if block is not None:
                if _is_next_number(block.label, block.texts):
                    label = block.texts.pop()
                yield block
            block, label = _Block(number, text, label, []), ""
        elif not text:
            if block is not None:
                yield block
            block, label = None, ""
        elif block is not None:
            block.texts.append(text)
        else:
            label = text  # or a line of the header, of a comment, of a style: it comes to nothing


def _is_next_number(label: str, texts: Sequence[str]) -> bool:
    """Return whether the last line is the number of the next cue, without an empty line between."""
    last = texts[-1].strip() if texts else ""
    return label.strip().isdecimal() and last.isdecimal() and int(last) == int(label) + 1


def _plain_lines(texts: Sequence[str], is_vtt: bool) -> list[tuple[str, bool]]:
    """Lines without tags, references decoded, empty ones dropped; and whether each is timed."""
    # A tag may go over a line end, which then parts no lines.
    marked = _TAG.sub(lambda tag: tag[0].replace("\n", " "), "\n".join(texts))
    lines = []
    for line in marked.split("\n"):
        plain = _TAG.sub("", line)
        # WebVTT decodes as HTML does, "&amp" without a semicolon too; SubRip has no such rule.
        pattern = _ANYTHING if is_vtt else _REFERENCE
        text = " ".join(pattern.sub(lambda part: html.unescape(part[0]), plain).split())
        if text:
            lines.append((text, _INLINE_TIME.search(line) is not None))
    return lines


def _without_repetition(shown: Iterable[_Shown]) -> list[Cue]:
    cues: list[Cue] = []
    before = _Shown(0.0, -math.inf, [])
    rolls = False
    for cue in shown:
        if not cue.lines:
            continue
        rolls = rolls or any(is_timed for _, is_timed in cue.lines)
        text = _new_text(before, cue, rolls)
        if text:
            cues.append(Cue(cue.start_seconds, cue.end_seconds, text))
        before = cue
    return cues


def _new_text(before: _Shown, cue: _Shown, rolls: bool) -> str:
    """The text of ``cue`` that the cue before it has not shown."""
    texts = [text for text, _ in cue.lines]
    whole = " ".join(texts)
    if not before.lines or cue.start_seconds > before.end_seconds + _ADJACENT_SECONDS:
        return whole
    shown = [text for text, _ in before.lines]
    untimed = next((n for n, (_, timed) in enumerate(cue.lines) if timed), len(texts))
    # Lines at the start that stood at the end of the cue before.
    count = next((n for n in range(min(untimed, len(shown)), 0, -1) if shown[-n:] == texts[:n]), 0)
    if count == len(texts):
        # A word that is said twice is two cues; the same cue again is one.
        is_transition = cue.end_seconds - cue.start_seconds <= _TRANSITION_SECONDS
        is_copy = cue[:2] == before[:2]
        return "" if rolls or is_transition or is_copy else whole
    # Live captions grow by the word: "hello", "hello my".
    grown = " ".join(shown) + " "
    if not count and untimed == len(texts) and whole.startswith(grown):
        return whole.removeprefix(grown)
    return " ".join(texts[count:])


def _json3(files: Files, path: Path) -> Iterator[_Shown]:
    """The events of YouTube's own format, in which nothing is repeated and nothing marked up."""
    events = read_json_object(files, path).get("events")
    if not isinstance(events, list):
        raise ValueError(f"{path}:1: expected an object with a list 'events'")
    for event in events:
        fields: Any = event if isinstance(event, dict) else {}
        start, duration = fields.get("tStartMs"), fields.get("dDurationMs", 0)
        segments = fields.get("segs") or []  # events without any set up windows
        if not segments:
            continue
        try:
            text = "".join(segment["utf8"] for segment in segments)
            begin, end = float(start) / 1000, (float(start) + float(duration)) / 1000
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path}:1: field 'events': expected tStartMs, dDurationMs and segs of utf8, found "
                f"{event!r:.200}"
            ) from error
        plain = " ".join(text.split())
        yield _Shown(begin, end, [(plain, True)] if plain else [])
