"""The video's own continuation as the prediction that is to be learnt.

No teacher is needed: what was annotated up to a moment are the steps of the explanation, and the
next annotated event is the prediction. The clip ends before that event begins.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import inf, nan
from typing import NamedTuple

from data_modules.annotated_spans import AnnotatedSpan, tracks
from data_modules.skipped_rows import SkippedRows
from data_modules.teacher_free_config import SpanRules
from vidreason.near_texts import normalised_words
from vidreason.reasoning.outcomes import Outcome
from vidreason.reasoning.predictions import Prediction
from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft, Step

FIRST = "nothing is annotated before it"
OVERLAPS = "another annotation goes on while it begins"
TOO_FAR = "it comes too long after the annotation before it"
REPEATS = "it says what the clip's annotations say"
TOO_EARLY = "no annotation before it fits into a clip"
ANNOTATED = "annotated"
"""Kind of an outcome that annotators wrote down."""

_SAME_WORDS = 0.8  # share of the words of two texts that count as the same
_STEP_PART = 0.5  # share of a step that must be seen for it to count as seen


class Continuation(NamedTuple):
    """A clip, and the event that came next."""

    clip: Clip
    draft: Draft
    target: AnnotatedSpan
    """Annotation of that event."""


def continuations(
    spans: Iterable[AnnotatedSpan], rules: SpanRules, skipped: SkippedRows
) -> Iterator[Continuation]:
    """Yield one clip for each annotation that another one precedes.

    The clip ends ``gap_seconds`` before the annotation begins. It begins with the first of the
    annotations before it, of which at most ``max_steps`` and ``max_clip_seconds`` are taken, or
    earlier where it would be shorter than ``min_clip_seconds``. An annotation of which less than
    half is within the clip is no step.

    Left out and counted are annotations during whose beginning another one goes on (or begins: then
    nobody knows which is next), that come more than ``horizon_seconds`` after the end of the one
    before, and that repeat what the clip's own annotations say.

    Args:
        spans: Those of a video follow each other.
        rules: Bounds.
        skipped: Counts what is left out, by the annotation.
    """
    for track in tracks(spans):
        # End of everything that begins before an annotation.
        ends = list(accumulate((span.end_seconds for span in track), max, initial=-inf))
        for index, target in enumerate(track):
            earlier, cause = _before(track, index, ends[index], rules)
            if cause:
                moment = f"{target.video_id} at {target.start_seconds:.2f} s"
                skipped.record(f"{target.corpus}: {moment}", cause)
                continue
            skipped.num_read += 1
            yield _continuation(target, earlier, rules)


def _before(
    track: list[AnnotatedSpan], index: int, last_end: float, rules: SpanRules
) -> tuple[list[AnnotatedSpan], str]:
    """The annotations of the clip before one, or the cause why there is none."""
    target = track[index]
    end = target.start_seconds - rules.gap_seconds
    # What comes next must be clear: nothing else may go on, or begin, when the target begins.
    following = track[index + 1].start_seconds if index + 1 < len(track) else inf
    if last_end > target.start_seconds or following <= target.start_seconds:
        return [], OVERLAPS
    if index == 0:
        return [], FIRST
    if target.start_seconds - last_end > rules.horizon_seconds:
        return [], TOO_FAR
    earlier: list[AnnotatedSpan] = []
    # Backwards from the target, to the longest clip or the most steps.
    for span in (track[number] for number in range(index - 1, -1, -1)):
        if span.start_seconds < end - rules.max_clip_seconds or len(earlier) == rules.max_steps:
            break
        if _is_within(span, end):
            earlier.insert(0, span)
    if not earlier:
        return [], TOO_EARLY
    if any(say_the_same(target.text, span.text) for span in earlier):
        return [], REPEATS
    return earlier, ""


def _is_within(span: AnnotatedSpan, end: float) -> bool:
    length = span.end_seconds - span.start_seconds
    return min(span.end_seconds, end) - span.start_seconds >= _STEP_PART * length


def say_the_same(text: str, other: str) -> bool:
    """Return whether two texts have nearly the same words, in whatever order."""
    words, others = set(normalised_words(text)), set(normalised_words(other))
    return len(words & others) >= _SAME_WORDS * len(words | others)


def _continuation(
    target: AnnotatedSpan, earlier: list[AnnotatedSpan], rules: SpanRules
) -> Continuation:
    # The clip ends a gap before the event, and begins with the first annotation that it shows.
    end = target.start_seconds - rules.gap_seconds
    first = min(span.start_seconds for span in earlier)
    start = max(min(first, end - rules.min_clip_seconds), 0.0)
    # Times of the steps count from the start of the clip.
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
    draft = Draft(steps=steps, predictions=(Prediction(target.text, "", nan),), outcome=outcome)
    return Continuation(clip, draft, target)
