"""The part of a video that a row is about, under the names that data sets give its start and end.

There is no agreed name: Qwen's messages have ``video_start`` and ``video_end``, others ``start``
and ``end``, ``start_time``, ``clip_start_sec``, ``begin``, ``startTime``, or ``timestamps: [2.0,
5.0]``. A key that is not read would teach the whole video under the words for a part of it.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from data_modules.annotation_files import (
    check_finite,
    check_span,
    is_nan_like,
    parse_seconds,
)
from data_modules.skipped_rows import MalformedRowError, SkippedRows, UnusableRowError
from data_modules.subtitles import CLOCK, parse_clock

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_STARTS = {"starttime", "begintime", "start", "starts", "starting", "begin", "begins", "beginning"}
_ENDS = {"endtime", "end", "ends", "ending", "stop", "finish"}
_PAIRS = {"span", "interval", "segment", "range", "window", "clip", "timestamp", "timestamps"}
# Words that may stand beside these without a doubt of whose start it is, or in which unit.
_VIDEO = {"video", "clip", "segment", "span", "in", "of", "at", "point", "offset"}
_SECONDS = {"t", "ts", "time", "times", "timestamp", "s", "sec", "secs", "second", "seconds"}
_MILLISECONDS = {"ms", "msec", "msecs", "millis", "millisecond", "milliseconds"}
_FRAMES = {"frame", "frames", "index", "idx", "indices", "no", "number"}
# What else changes what is seen, and is not read.
_VIEWS = {"crop", "cropped", "bbox", "roi", "rotate", "rotation", "flip", "reverse", "reversed"}
_VIEWS |= {"speed", "trim", "trimmed"}
# How densely a video is looked at, which the configuration of the perceiver says for all rows.
_SAMPLING = {"fps", "nframes", "pixels", "resized", "frames"}


class SpanKeys(NamedTuple):
    """The span that an object of a row names, and the keys of it that are not read."""

    start_seconds: float | None
    end_seconds: float | None
    unread: tuple[str, ...]
    """Keys that say how a video is to be looked at, or may say which part of it."""


class _Meaning(NamedTuple):
    """How a key is understood."""

    part: str
    """``start``, ``end`` or ``pair``; ``view`` for what is seen but cannot be given, ``unread`` for
    what may concern it; empty for other keys."""
    divisor: float = 1.0
    """From the key's unit to seconds."""


_NOTHING = _Meaning("")


def span_of(fields: Mapping[str, Any], place: str, *, ignored: Iterable[str] = ()) -> SpanKeys:
    """Read the span out of the keys of a row, or of the object in it that names the video.

    Args:
        fields: The row or object.
        place: ``file:line``.
        ignored: Keys with a meaning of their own.

    Raises:
        MalformedRowError: Two keys contradict each other.
        UnusableRowError: The span is empty, reversed or no number, or is told in frames, or the row
            wants a view of the video that cannot be given, such as a crop.
    """
    times: dict[str, tuple[float, str]] = {}
    unread = []
    for key, value in fields.items():
        if key in ignored or value is None:
            continue
        meaning = _meaning(key, value)
        if meaning.part == "view" and value:
            raise UnusableRowError(
                place, f"its {key!r} changes what is seen of the video, and is not read"
            )
        parts = {"start": value} if meaning.part == "start" else {"end": value}
        if meaning.part == "pair":
            parts = dict(zip(("start", "end"), _pair(value), strict=True))
        elif meaning.part not in ("start", "end"):
            parts = {}
        for part, told in parts.items():
            seconds = _seconds(told, place, meaning.divisor)
            if seconds is not None:
                _take(times, part, key, seconds, place)
        if meaning.part == "unread" or (parts and not _are_times(parts.values())):
            unread.append(key)
        elif isinstance(value, dict) and not parts:
            unread += [
                f"{key}.{inner}"
                for inner, told in value.items()
                if told and _meaning(str(inner), told).part in ("start", "end", "pair", "view")
            ]
    start, end = (times[part][0] if part in times else None for part in ("start", "end"))
    check_span(start, end, place)
    return SpanKeys(start, end, tuple(unread))


def one_span(spans: Sequence[SpanKeys], place: str, skipped: SkippedRows) -> SpanKeys:
    """The span of a row of which several objects may name one; counts the keys that are not read.

    Raises:
        MalformedRowError: Two of them contradict each other.
    """
    named = [span[:2] for span in spans if span[:2] != (None, None)]
    if len(set(named)) > 1:
        raise MalformedRowError(place, f"its keys name different spans, in seconds: {named}")
    unread = tuple(dict.fromkeys(key for span in spans for key in span.unread))
    for key in unread:
        skipped.remark(place, f"field {key!r} is not read, the row is")
    start, end = named[0] if named else (None, None)
    return SpanKeys(start, end, unread)


def _meaning(key: str, value: Any) -> _Meaning:  # noqa: ANN401 - any JSON value
    known = {word.lower() for word in _WORD.findall(key)}
    if known & _VIEWS:
        return _Meaning("view")
    for part, names in (("start", _STARTS), ("end", _ENDS)):
        if known & names:
            rest = known - names - _VIDEO
            if not rest - _SECONDS:
                return _Meaning(part)
            if not rest - _SECONDS - _MILLISECONDS:
                return _Meaning(part, 1000.0)
            # Of frames; or a share of the whole, or the start of something else.
            return _Meaning("view" if rest <= _FRAMES | _SECONDS else "unread")
    if known & _PAIRS and not known - _PAIRS - _VIDEO - _SECONDS:
        if _pair(value):
            return _Meaning("pair")
        is_name = isinstance(value, str) and not known - {"clip", "segment", "video"}
        return _NOTHING if is_name or isinstance(value, int | float) else _Meaning("unread")
    return _Meaning("unread") if known & _SAMPLING else _NOTHING


def _pair(value: Any) -> Sequence[Any]:  # noqa: ANN401 - any JSON value
    """Two times, as ``[s, e]``, ``[[s, e]]`` or an object of them; nothing for anything else."""
    if isinstance(value, dict) and len(value) == 2:
        parts = {_meaning(str(key), None).part: time for key, time in value.items()}
        return (parts["start"], parts["end"]) if parts.keys() == {"start", "end"} else ()
    if not isinstance(value, list | tuple):
        return ()
    if len(value) == 1:
        return _pair(value[0])
    return value if len(value) == 2 and _are_times(value) else ()


def _are_times(values: Iterable[Any]) -> bool:
    """Whether all are null or times, as numbers or texts; those that are no number are, too."""
    return all(
        value is None
        or (isinstance(value, float) and not math.isfinite(value))
        or (isinstance(value, str) and is_nan_like(value))
        or parse_seconds(value) is not None
        or (isinstance(value, str) and CLOCK.fullmatch(value.strip()) is not None)
        for value in values
    )


def _seconds(value: Any, place: str, divisor: float) -> float | None:  # noqa: ANN401
    check_finite(value, place)
    if isinstance(value, str) and CLOCK.fullmatch(value.strip()):
        return parse_clock(value, place) / divisor
    seconds = parse_seconds(value)
    return None if seconds is None else seconds / divisor


def _take(
    times: dict[str, tuple[float, str]], part: str, key: str, seconds: float, place: str
) -> None:
    known = times.setdefault(part, (seconds, key))
    if known[0] != seconds:
        raise MalformedRowError(
            place,
            f"fields {known[1]!r} and {key!r} name different times, {known[0]:g} and {seconds:g} s",
        )
