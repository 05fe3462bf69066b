"""Subtitle files: WebVTT (with YouTube's rolling captions) and SubRip."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_modules.annotation_files import read_lines

_TIMING = re.compile(
    r"(?P<start>(?:\d+:)?\d{1,2}:\d{2}(?:[.,]\d+)?)\s*-->\s*"
    r"(?P<end>(?:\d+:)?\d{1,2}:\d{2}(?:[.,]\d+)?)(?:\s.*)?"
)
_TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")


class Cue(NamedTuple):
    """What is said in a span of time, in seconds."""

    start_seconds: float
    end_seconds: float
    text: str


def read_subtitles(path: Path) -> list[Cue]:
    """The cues of one ``.vtt`` or ``.srt`` file, in the order of the file; markup is removed.

    YouTube's automatic captions roll: each cue repeats the last line of the cue before it. There,
    which is known by their word-wise time tags, a line is taken the first time only.

    Raises:
        ValueError: The file is missing or not UTF-8, or a timing line is malformed; the message has
            the form ``file:line``.
    """
    blocks = _blocks(path)
    is_rolling = any("<c>" in line for block in blocks for _, line in block)
    cues = []
    last_line = ""
    for block in blocks:
        timing = next((row for row, (_, line) in enumerate(block) if "-->" in line), None)
        if timing is None:
            continue  # WEBVTT, NOTE, STYLE
        number, line = block[timing]
        match = _TIMING.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{path}:{number}: expected 'HH:MM:SS.mmm --> HH:MM:SS.mmm', found {line!r:.200}"
            )
        place = f"{path}:{number}"
        start, end = parse_clock(match["start"], place), parse_clock(match["end"], place)
        lines = []
        for _, marked in block[timing + 1 :]:
            plain = " ".join(_TAG.sub("", marked).split())
            if plain and not (is_rolling and plain == last_line):
                lines.append(plain)
                last_line = plain
        if lines:
            cues.append(Cue(start, end, " ".join(lines)))
    return cues


def text_between(cues: Sequence[Cue], start_seconds: float, end_seconds: float) -> str:
    """What is said in a span: the cues whose middle lies in it, so that adjacent spans share none.

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


def parse_clock(text: str, place: str) -> float:
    """Seconds of ``[HH:]MM:SS[.mmm]``; a decimal comma is read too.

    Raises:
        ValueError: The text has another form.
    """
    match = re.fullmatch(r"(?:(\d+):)?(\d{1,2}):(\d{2}(?:[.,]\d+)?)", text.strip())
    if match is None:
        raise ValueError(f"{place}: expected a time HH:MM:SS.mmm, found {text!r:.200}")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))


def _blocks(path: Path) -> list[list[tuple[int, str]]]:
    """Numbered lines, parted at empty ones.

    A line of spaces is not empty: rolling captions begin with one.
    """
    blocks: list[list[tuple[int, str]]] = [[]]
    for number, line in read_lines(path):
        if line.rstrip("\r\n"):
            blocks[-1].append((number, line.strip()))
        elif blocks[-1]:
            blocks.append([])
    return blocks
