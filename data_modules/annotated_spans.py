"""Annotations with times: who says what of which span of which video, in one form for all corpora.

Captioning corpora give one sentence a span: Ego4D's narrations, HD-VILA's clips, the sentences of
ActivityNet Captions, subtitles. Captions that say themselves when each event happened
(:mod:`data_modules.timed_captions`), such as the microworld's, give one span an event.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from data_modules.ego4d import SECONDS_BEFORE
from data_modules.plain_sentences import plain_sentence
from data_modules.skipped_rows import SkippedRows
from data_modules.timed_captions import STEP_SECONDS, timed_events
from vidreason.example import Example
from vidreason.reasoning.prompts import CAPTION_PROMPT

NO_CAPTION = "it is no caption"
NO_TIMES = "its caption has no times"
NO_SPAN = "its span is no span of time"


@dataclass(frozen=True, kw_only=True)
class AnnotatedSpan:
    """One sentence about one span of a video."""

    corpus: str
    video_id: str
    media: str
    """Path or URL of the video."""
    start_seconds: float
    end_seconds: float
    text: str
    """From :func:`~data_modules.plain_sentences.plain_sentence`."""
    track: str = ""
    """Annotator, where several describe the same events; they are never mixed."""
    is_moment: bool = False
    """True if a point in time was annotated, with a span around it."""


def annotated_spans(examples: Iterable[Example], skipped: SkippedRows) -> Iterator[AnnotatedSpan]:
    """Yield the annotated spans of captioning examples, in their order.

    Left out and counted are examples that are no captions or have no times, spans that are
    reversed, empty, before the video's start or no numbers, and texts that are no sentence.
    """
    for example in examples:
        if example.prompt != CAPTION_PROMPT:
            skipped.record(example.id, NO_CAPTION)
            continue
        # An example with several spans says what happens in each of them.
        for start, end, text in _parts(example):
            sentence, cause = plain_sentence(text)
            if start is None or end is None:
                cause = NO_TIMES
            elif not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
                cause = NO_SPAN
            # The two further tests tell a type checker what `cause` says already.
            if cause or start is None or end is None:
                skipped.record(example.id, cause)
                continue
            # Sound: a sentence with a time of its own.
            skipped.num_read += 1
            yield AnnotatedSpan(
                corpus=example.corpus,
                video_id=example.video_id,
                media=example.media,
                start_seconds=start,
                end_seconds=end,
                text=sentence,
                track=_track(example),
                is_moment=_is_narration(example),
            )


def tracks(spans: Iterable[AnnotatedSpan]) -> Iterator[list[AnnotatedSpan]]:
    """Yield each video's spans by annotator, in the order in which they begin.

    The spans of a video have to follow each other; those of one video are held in memory. Ego4D's
    narrations are points in time with a span around them: each of these spans ends where the next
    one begins, unless that is before its own point.
    """
    for _, of_video in groupby(spans, key=lambda span: (span.corpus, span.video_id, span.media)):
        by_track: dict[str, list[AnnotatedSpan]] = {}
        for span in of_video:
            by_track.setdefault(span.track, []).append(span)
        for track in by_track.values():
            track.sort(key=lambda span: (span.start_seconds, span.end_seconds, span.text))
            yield _trimmed(track) if track[0].is_moment else track


def _parts(example: Example) -> list[tuple[float | None, float | None, str]]:
    """Start, end and text of each event of a caption."""
    if example.start_seconds is not None or example.end_seconds is not None:
        return [(example.start_seconds or 0.0, example.end_seconds, example.response)]
    # Times are rounded to a step: the event lies within half of one on either side.
    half = STEP_SECONDS / 2
    timed = [
        (max(seconds - half, 0.0), seconds + half, event)
        for event, seconds in timed_events(example.response)
    ]
    return list(timed) or [(None, None, example.response)]


def _track(example: Example) -> str:
    """Ego4D's two passes narrate the same events; ids end in pass and number."""
    return example.id.rpartition(":")[2].split("_")[-2] if _is_narration(example) else ""


def _is_narration(example: Example) -> bool:
    """Return whether Ego4D's reader made it; the corpus may have another name."""
    return "narration" in example.meta


def _trimmed(track: list[AnnotatedSpan]) -> list[AnnotatedSpan]:
    trimmed = []
    # From the last to the first: narrations with one start all end at the next later start.
    following = math.inf
    for index in range(len(track) - 1, -1, -1):
        span = track[index]
        if index + 1 < len(track) and track[index + 1].start_seconds > span.start_seconds:
            following = track[index + 1].start_seconds
        # The reader put the start before the moment that was annotated.
        moment = span.start_seconds + SECONDS_BEFORE
        end = min(span.end_seconds, max(following, moment))
        trimmed.append(replace(span, end_seconds=end))
    return trimmed[::-1]
