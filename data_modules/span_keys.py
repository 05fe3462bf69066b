"""The part of a video that a row is about, under the names that data sets give its start and end.

There is no agreed name: Qwen's messages have ``video_start`` and ``video_end``, others ``start``
and ``end``, ``start_time``, ``clip_start_sec``, ``begin``, ``startTime``, or ``timestamps: [2.0,
5.0]``. A key that is not read would teach the whole video under the words for a part of it.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from data_modules.rows import Row, is_nan_like, parse_seconds
from data_modules.skipped_rows import SkippedRows
from data_modules.subtitles import parse_clock

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


_Meaning = tuple[str, float]
"""``start``, ``end`` or ``pair``, ``view`` for what is seen but cannot be given, ``unread`` for
what may concern it, or empty for other keys; and the divisor from the key's unit to seconds."""

_PARTS = ("start", "end")


def span_of(fields: Row, *, ignored: Iterable[str] = ()) -> SpanKeys:
    """Read the span out of the keys of a row, or of the object in it that names the video.

    Args:
        fields: The row or object.
        ignored: Keys that mean something else.

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
        meaning, divisor = _meaning(key, value)
        if meaning == "view" and value:
            raise fields.unusable(f"its {key!r} changes what is seen of the video, and is not read")
        # One key gives a start, an end, or both.
        parts = {meaning: value} if meaning in _PARTS else {}
        if meaning == "pair":
            parts = dict(zip(_PARTS, _pair(value), strict=True))
        for part, written in parts.items():
            fields.check_finite(written)
            seconds = _seconds(written)
            if seconds is None:
                continue
            seconds /= divisor
            # Two keys for one time are common, and may not differ.
            known = times.setdefault(part, (seconds, key))
            if known[0] != seconds:
                raise fields.malformed(
                    f"fields {known[1]!r} and {key!r} name different times, {known[0]:g} and "
                    f"{seconds:g} s"
                )
        # Keys that may matter and are not read become remarks of the row.
        if meaning == "unread" or (parts and not _are_times(parts.values())):
            unread.append(key)
        elif isinstance(value, dict) and not parts:
            unread += [
                f"{key}.{inner}"
                for inner, held in value.items()
                if held and _meaning(str(inner), held)[0] in (*_PARTS, "pair", "view")
            ]
    start, end = (times[part][0] if part in times else None for part in _PARTS)
    return SpanKeys(*fields.check_span(start, end), tuple(unread))


def one_span(spans: Sequence[SpanKeys], row: Row, skipped: SkippedRows) -> SpanKeys:
    """The span of a row of which several objects may name one; counts the keys that are not read.

    Raises:
        MalformedRowError: Two of them contradict each other.
    """
    named = [span[:2] for span in spans if span[:2] != (None, None)]
    if len(set(named)) > 1:
        raise row.malformed(f"its keys name different spans, in seconds: {named}")
    unread = tuple(dict.fromkeys(key for span in spans for key in span.unread))
    for key in unread:
        skipped.remark(row.location, f"field {key!r} is not read, the row is")
    start, end = named[0] if named else (None, None)
    return SpanKeys(start, end, unread)


def _meaning(key: str, value: Any) -> _Meaning:  # noqa: ANN401 - any JSON value
    known = {word.lower() for word in _WORD.findall(key)}
    if known & _VIEWS:
        return "view", 1.0
    for part, names in (("start", _STARTS), ("end", _ENDS)):
        if known & names:
            rest = known - names - _VIDEO
            if not rest - _SECONDS:
                return part, 1.0
            if not rest - _SECONDS - _MILLISECONDS:
                return part, 1000.0
            # Of frames; or a share of the whole, or the start of something else.
            return "view" if rest <= _FRAMES | _SECONDS else "unread", 1.0
    if known & _PAIRS and not known - _PAIRS - _VIDEO - _SECONDS:
        if _pair(value):
            return "pair", 1.0
        is_name = isinstance(value, str) and not known - {"clip", "segment", "video"}
        return "" if is_name or isinstance(value, int | float) else "unread", 1.0
    return "unread" if known & _SAMPLING else "", 1.0


def _pair(value: Any) -> Sequence[Any]:  # noqa: ANN401 - any JSON value
    """Two times, as ``[s, e]``, ``[[s, e]]`` or an object of them; nothing for anything else."""
    if isinstance(value, dict) and len(value) == 2:
        parts = {_meaning(str(key), None)[0]: time for key, time in value.items()}
        return (parts["start"], parts["end"]) if parts.keys() == {"start", "end"} else ()
    if not isinstance(value, list | tuple):
        return ()
    if len(value) == 1:
        return _pair(value[0])
    return value if len(value) == 2 and _are_times(value) else ()


def _are_times(values: Iterable[Any]) -> bool:
    """Return whether all are null or times, as numbers (NaN too) or texts."""
    return all(
        value is None
        or (isinstance(value, float) and not math.isfinite(value))
        or (isinstance(value, str) and is_nan_like(value))
        or _seconds(value) is not None
        for value in values
    )


def _seconds(value: Any) -> float | None:  # noqa: ANN401 - any JSON value
    clock = parse_clock(value) if isinstance(value, str) else None
    return parse_seconds(value) if clock is None else clock
