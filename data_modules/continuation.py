"""What a video itself shows next, as the prediction that is to be learnt.

No teacher is needed: what was annotated up to a moment are the steps of the explanation, and the
next annotated event is the prediction. The clip ends before that event begins.
"""

from collections.abc import Iterable, Iterator
from math import nan
from typing import NamedTuple

from data_modules.annotated_spans import AnnotatedSpan, tracks
from data_modules.near_texts import normalised_words
from data_modules.skipped_rows import SkippedRows
from data_modules.teacher_free_config import SpanRules
from vidreason.reasoning.outcomes import Outcome
from vidreason.reasoning.predictions import Prediction
from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft, Step

FIRST = "nothing is annotated before it"
OVERLAPS = "another annotation goes on while it begins"
TOO_FAR = "it comes too long after the annotation before it"
REPEATS = "it says what the clip's annotations say"
TOO_EARLY = "it begins too early for a clip before it"
ANNOTATED = "annotated"
"""Kind of an outcome that annotators wrote down."""

_SAME_WORDS = 0.8
_STEP_PART = 0.5


class Continuation(NamedTuple):
    """A clip, and what came next."""

    clip: Clip
    draft: Draft
    target: AnnotatedSpan
    """What came next."""
    earlier: tuple[AnnotatedSpan, ...]
    """What was annotated within the clip."""


def continuations(
    spans: Iterable[AnnotatedSpan], rules: SpanRules, skipped: SkippedRows
) -> Iterator[Continuation]:
    """Yield one clip for each annotation that another one precedes.

    The clip ends ``gap_seconds`` before the annotation begins, and begins with the first of the
    annotations before it, of which at most ``max_steps`` and ``max_clip_seconds`` are taken; an
    annotation of which less than half is within the clip is no step.

    Left out and counted are annotations during whose beginning another one goes on (or begins: then
    nobody knows which is next), that come more than ``horizon_seconds`` after the end of the one
    before, and that repeat what the clip's own annotations say.

    Args:
        spans: Those of a video follow each other.
        rules: Bounds.
        skipped: Counts what is left out, by the annotation.
    """
    for track in tracks(spans):
        for index, target in enumerate(track):
            earlier, cause = _before(track, index, rules)
            if cause:
                moment = f"{target.video_id} at {target.start_seconds:.2f} s"
                skipped.record(f"{target.corpus}: {moment}", cause)
                continue
            skipped.num_read += 1
            yield _continuation(target, earlier, rules)


def _before(
    track: list[AnnotatedSpan], index: int, rules: SpanRules
) -> tuple[list[AnnotatedSpan], str]:
    """The annotations of the clip before one, or the cause why there is none."""
    target = track[index]
    end = target.start_seconds - rules.gap_seconds
    others = track[:index]
    if any(span.end_seconds > target.start_seconds for span in others) or (
        index + 1 < len(track) and track[index + 1].start_seconds <= target.start_seconds
    ):
        return [], OVERLAPS
    if not others:
        return [], FIRST
    last = max(span.end_seconds for span in others)
    if target.start_seconds - last > rules.horizon_seconds:
        return [], TOO_FAR
    earliest = end - rules.max_clip_seconds
    earlier = [
        span for span in others if span.start_seconds >= earliest and _part_before(span, end)
    ][-rules.max_steps :]
    if not earlier:
        return [], TOO_EARLY
    if any(_say_the_same(target.text, span.text) for span in earlier):
        return [], REPEATS
    return earlier, ""


def _part_before(span: AnnotatedSpan, end: float) -> bool:
    length = span.end_seconds - span.start_seconds
    return min(span.end_seconds, end) - span.start_seconds >= _STEP_PART * length


def _say_the_same(text: str, other: str) -> bool:
    words, others = set(normalised_words(text)), set(normalised_words(other))
    return len(words & others) >= _SAME_WORDS * len(words | others)


def _continuation(
    target: AnnotatedSpan, earlier: list[AnnotatedSpan], rules: SpanRules
) -> Continuation:
    start = min(span.start_seconds for span in earlier)
    end = target.start_seconds - rules.gap_seconds
    steps = tuple(
        Step(
            span.text,
            round(span.start_seconds - start, 3),
            round(min(span.end_seconds, end) - start, 3),
        )
        for span in earlier
    )
    clip = Clip(
        source=target.corpus,
        video_id=target.video_id,
        media=target.media,
        start_seconds=start,
        end_seconds=end,
        licence=target.corpus,
        reference=" ".join(span.text for span in earlier),
    )
    outcome = Outcome(target.text, ANNOTATED, round(rules.gap_seconds, 3))
    draft = Draft(
        steps=steps, predictions=(Prediction(target.text, "", nan),), outcome=outcome
    )
    return Continuation(clip, draft, target, tuple(earlier))
