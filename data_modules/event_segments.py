"""Event logs of an instruction set as segments: what happened last, until the next event happens.

Public rows of two corpora are put together, by the file of the video: Causal-Vid-Instruct's causal
explanation has the events in their order, its prediction the event that came next with its time,
and a caption says when each event happened ("... after 1.5 seconds"). The microworld's sets are of
this form. Nothing else is read: the world itself is not.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from data_modules.skipped_rows import SkippedRows
from data_modules.timed_captions import timed_events
from vidreason.baselines.anticipation.segments import FRAMES_PER_SECOND, Recording, Segment
from vidreason.example import Example
from vidreason.reasoning.outcomes import Outcome, outcome_of
from vidreason.reasoning.plain_text import normalise_answer
from vidreason.reasoning.prompts import CAPTION_PROMPT
from vidreason.video.failures import VideoReadError
from vidreason.video.reader import GUARDED

BEGINNING = "nothing has happened yet"
"""Label of a video's frames before its first event; no event itself."""

_STEP = re.compile(r"^\s*\d+\.\s*(?P<step>.*\S)\s*$")
_EFFECT = re.compile(r",? (?:so|because|and moves on)\b.*$")
"""Words that an explanation adds to an event: its effect or its cause."""
_LEAST_FRAMES = 1.0
"""Length of a segment whose event comes at the same time as the next one."""


@dataclass(kw_only=True)
class _Rows:
    """Rows about one video."""

    video_id: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    steps: list[str] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=dict)
    outcome: Outcome | None = None


def event_recordings(examples: Iterable[Example], skipped: SkippedRows) -> Iterator[Recording]:
    """Yield a recording for each video of which the event that came next is known.

    Its segments begin with :data:`BEGINNING`, where the first event is not at the very start; each
    event's segment lasts until the next event, and the last one is that of the event that came
    after the video. Lengths are in
    :data:`~vidreason.baselines.anticipation.segments.FRAMES_PER_SECOND`, and ``observed`` is the
    video's end. Where nothing comes, ``nothing happens`` follows at that end.

    Left out and counted are videos whose captions do not say when each event of the explanation
    happened, or say it in another order, and those that cannot be read: their length is needed.

    Args:
        examples: Of Causal-Vid-Instruct and of captions, in any order.
        skipped: Counts what is left out.
    """
    for media, rows in _by_video(examples).items():
        if rows.outcome is None:
            continue
        location = f"{media} ({rows.video_id})"
        moments = _moments(rows)
        if moments is None:
            skipped.record(location, "no caption says when each of its events happened, in order")
            continue
        try:
            start, end = GUARDED.index(media).span(rows.start_seconds, rows.end_seconds)
        except VideoReadError as error:
            skipped.record(location, f"the video cannot be read: {type(error).__name__}")
            continue
        skipped.num_read += 1
        yield _recording(media, rows, moments, rows.outcome, end - start)


def event_of_step(step: str) -> str:
    """Return the event of a step of an explanation, without its effect or cause."""
    return _EFFECT.sub("", step.strip().rstrip(".")).strip()


def _by_video(examples: Iterable[Example]) -> dict[str, _Rows]:
    by_video: dict[str, _Rows] = defaultdict(_Rows)
    captions: dict[str, str] = {}
    for example in examples:
        if example.prompt == CAPTION_PROMPT:
            captions[example.video_id] = example.response
            continue
        rows = by_video[example.media]
        rows.video_id = example.video_id
        rows.start_seconds, rows.end_seconds = example.start_seconds, example.end_seconds
        if example.question_type == "explanation":
            steps = map(_STEP.match, example.response.splitlines())
            rows.steps = [event_of_step(step["step"]) for step in steps if step]
        elif example.question_type == "prediction":
            rows.outcome = outcome_of(example.meta)
    # Captions give times to events; they may come before or after their video's other rows.
    for rows in by_video.values():
        times: dict[str, list[float]] = defaultdict(list)
        for event, seconds in timed_events(captions.get(rows.video_id, "")):
            times[normalise_answer(event)].append(seconds)
        rows.times = dict(times)
    return dict(by_video)


def _moments(rows: _Rows) -> list[float] | None:
    """Seconds from the start of the video at which the steps happen; None where not all are told.

    Of an event that happens several times, the times are taken in their order.
    """
    remaining = {event: iter(times) for event, times in rows.times.items()}
    moments = [next(remaining.get(normalise_answer(step), iter(())), None) for step in rows.steps]
    told = [moment for moment in moments if moment is not None]
    return told if len(told) == len(moments) and told == sorted(told) else None


def _recording(
    media: str, rows: _Rows, moments: list[float], outcome: Outcome, duration_seconds: float
) -> Recording:
    # Starts of all segments in seconds: the beginning, the events, what came after the video.
    labels = [BEGINNING, *rows.steps, outcome.text]
    following = duration_seconds + (outcome.seconds or 0.0)
    # Rounded times may be a little later than the video's end.
    starts = [0.0, *(min(moment, duration_seconds) for moment in moments), following]
    segments: list[Segment] = []
    for label, start, end in zip(labels, starts, [*starts[1:], following], strict=True):
        length = max((end - start) * FRAMES_PER_SECOND, _LEAST_FRAMES)
        # As in labels frame by frame, neighbours with one label are one segment.
        if segments and segments[-1].label == label:
            segments[-1] = Segment(label, segments[-1].length + length)
        elif label != BEGINNING or end > 0:
            segments.append(Segment(label, length))
    return Recording(
        video_id=rows.video_id,
        segments=tuple(segments),
        observed=duration_seconds * FRAMES_PER_SECOND,
        is_timed=outcome.seconds is not None,
        media=media,
        start_seconds=rows.start_seconds,
        end_seconds=rows.end_seconds,
    )
