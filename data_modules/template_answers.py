"""Answers that templates make of annotations, in the form of a teacher's: clips and drafts.

Three kinds of annotations, told apart by a corpus' first example:

* Questions with their right answers (NExT-QA and its relatives): why, how, and what was done before
  or after, each one sentence (:mod:`data_modules.rationales`). The clip is the whole video, and the
  sentences are its steps, without times.
* Captions of spans, and captions that say when each event happened: those of up to a minute in the
  order in which they begin, with their times and the words that tell the order.
* Rows of Causal-Vid-Instruct, whose steps are made sentences, and which keep their predictions.

No prediction is made of the first two: a clip that shows the answer teaches to read and not to
predict. What comes next is for :mod:`data_modules.continuation`; only where a question about what
was done after something has its time (NExT-GQA), the clip ends before and the answer is predicted.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from math import nan

from data_modules.annotated_spans import AnnotatedSpan, annotated_spans, tracks
from data_modules.causal_vid_instruct import SINGLE_PREDICTION_PROMPT
from data_modules.plain_sentences import plain_sentence, story
from data_modules.rationales import NO_QUESTION, event_after, rationale
from data_modules.skipped_rows import SkippedRows
from data_modules.teacher_free_config import SpanRules
from vidreason.example import Example
from vidreason.reasoning.outcomes import outcome_of
from vidreason.reasoning.predictions import Prediction, parse_predictions
from vidreason.reasoning.prompts import CAPTION_PROMPT
from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft, Step

ALONE = "it stands alone: a sequence has two annotations"
TOO_LONG = "its span is longer than a clip"
SAME_SENTENCE = "another annotation of the video says the same"
TOO_MANY = "its video has more of them than an explanation has steps"
HIDDEN = "its answer is hidden"
NO_SENTENCE = "none of its texts is a sentence"

_STEP = re.compile(r"^\s*\d+\.\s+(?P<step>.*\S)\s*$", re.MULTILINE)


def template_answers(
    examples: Iterable[Example], rules: SpanRules, skipped: SkippedRows
) -> Iterator[tuple[Clip, Draft]]:
    """Yield a clip and its answer for whatever of a corpus a template can be filled with.

    The sentences of a corpus of questions are held in memory, of captions those of one video.

    Args:
        examples: Of one corpus.
        rules: Bounds of clips.
        skipped: Counts what is left out, by cause; ``num_read`` counts the annotations that an
            answer holds.
    """
    stream = iter(examples)
    first = next(stream, None)
    if first is None:
        return
    stream = chain([first], stream)
    if first.prompt == CAPTION_PROMPT:
        yield from _stories(annotated_spans(stream, skipped), rules, skipped)
    elif "teacher_prompt_sha" in first.meta:  # Causal-Vid-Instruct, whatever its name
        yield from _explained(stream, rules, skipped)
    else:
        yield from _rationales(stream, rules, skipped)


def _stories(
    spans: Iterable[AnnotatedSpan], rules: SpanRules, skipped: SkippedRows
) -> Iterator[tuple[Clip, Draft]]:
    for track in tracks(spans):
        window: list[AnnotatedSpan] = []
        for span in track:
            length = span.end_seconds - span.start_seconds
            cause = TOO_LONG if length > rules.max_clip_seconds else ""
            if not cause and any(span.text == other.text for other in window):
                cause = SAME_SENTENCE
            if cause:
                _leave_out(span, cause, skipped)
                continue
            is_full = len(window) == rules.max_steps
            # A window is a clip: no longer than one, from its first start to its last end.
            if window and (
                is_full or span.end_seconds - window[0].start_seconds > rules.max_clip_seconds
            ):
                yield from _story(window, skipped)
                window = []
            window.append(span)
        yield from _story(window, skipped)


def _story(window: Sequence[AnnotatedSpan], skipped: SkippedRows) -> Iterator[tuple[Clip, Draft]]:
    if len(window) < 2:
        for span in window:
            _leave_out(span, ALONE, skipped)
        return
    start = window[0].start_seconds
    # Seconds from the clip's start.
    times = [(span.start_seconds - start, span.end_seconds - start) for span in window]
    texts = story([span.text for span in window], times)
    clip = _clip(
        window[0],
        (start, max(span.end_seconds for span in window)),
        " ".join(span.text for span in window),
    )
    steps = (
        Step(text, round(begin, 3), round(end, 3))
        for text, (begin, end) in zip(texts, times, strict=True)
    )
    yield clip, Draft(steps=tuple(steps))


def _leave_out(span: AnnotatedSpan, cause: str, skipped: SkippedRows) -> None:
    moment = f"{span.video_id} at {span.start_seconds:.2f} s"
    skipped.record_refused(f"{span.corpus}: {moment}", cause)


def _rationales(
    examples: Iterable[Example], rules: SpanRules, skipped: SkippedRows
) -> Iterator[tuple[Clip, Draft]]:
    by_video: dict[str, tuple[Example, list[str]]] = {}
    # Questions with the times of their answers come as two examples of one group.
    for _, group in groupby(examples, key=lambda example: example.group_id or example.id):
        question, *others = group
        # The time at which the answer can be seen: what comes after it is a prediction.
        seen = next((example.spans[0] for example in others if example.spans), None)
        if seen is not None and (predicted := _grounded(question, seen, rules)) is not None:
            skipped.num_read += 1
            yield predicted
            continue
        sentence, cause = _sentence(question)
        _, sentences = by_video.setdefault(question.video_id, (question, []))
        if sentence in sentences:
            cause = SAME_SENTENCE
        elif sentence and len(sentences) == rules.max_steps:
            cause = TOO_MANY
        if cause:
            skipped.record(question.id, cause)
        else:
            skipped.num_read += 1
            sentences.append(sentence)
    # All sentences about a video make one explanation.
    for example, sentences in by_video.values():
        if sentences:
            clip = _clip(example, (None, None), " ".join(sentences))
            yield clip, Draft(steps=tuple(map(Step, sentences)))


def _sentence(example: Example) -> tuple[str, str]:
    question = example.meta.get("question", "")
    if not example.response:
        return "", HIDDEN
    if not question:
        return "", NO_QUESTION
    return rationale(question, example.response)


def _grounded(
    example: Example, seen: tuple[float, float], rules: SpanRules
) -> tuple[Clip, Draft] | None:
    """The clip before the answer to what was done after something, and that answer."""
    event = event_after(example.meta.get("question", ""), example.response)
    end = seen[0] - rules.gap_seconds
    # Nothing is left of a clip if the answer is seen within the first gap_seconds.
    if not event or not 0 < end <= seen[0]:
        return None
    start = max(end - rules.max_clip_seconds, 0.0)
    prediction = Prediction(event, "", nan)
    return _clip(example, (start, end), event), Draft(predictions=(prediction,))


def _explained(
    examples: Iterable[Example], rules: SpanRules, skipped: SkippedRows
) -> Iterator[tuple[Clip, Draft]]:
    """The rows of Causal-Vid-Instruct, whose explanation and prediction are two examples."""
    for _, group in groupby(examples, key=lambda example: example.id.rpartition(":")[0]):
        steps: list[Step] = []
        predictions: tuple[Prediction, ...] = ()
        outcome = None
        rows = list(group)
        for example in rows:
            if example.question_type == "explanation":
                sentences = (
                    plain_sentence(step["step"]) for step in _STEP.finditer(example.response)
                )
                # Steps that are no plain sentence are left out; the others stay in their order.
                steps = [Step(sentence) for sentence, _ in sentences if sentence]
            else:
                predictions = _predictions(example)
                outcome = outcome_of(example.meta)
        if not steps and not predictions:
            skipped.record(rows[0].id, NO_SENTENCE)
            continue
        skipped.num_read += 1
        first = rows[0]
        clip = _clip(
            first,
            (first.start_seconds, first.end_seconds),
            " ".join(step.text for step in steps),
            first.meta.get("license_tag", ""),
        )
        yield (
            clip,
            Draft(steps=tuple(steps[: rules.max_steps]), predictions=predictions, outcome=outcome),
        )


def _predictions(example: Example) -> tuple[Prediction, ...]:
    if example.prompt == SINGLE_PREDICTION_PROMPT:
        event, _ = plain_sentence(example.response)
        return (Prediction(event, "", nan),) if event else ()
    items = parse_predictions(example.response).items
    if not all(plain_sentence(item.event)[0] for item in items):
        return ()
    # Some rows have them in another order.
    return tuple(sorted(items, key=lambda item: -item.confidence))


def _clip(
    source: Example | AnnotatedSpan,
    span: tuple[float | None, float | None],
    reference: str,
    licence: str = "",
) -> Clip:
    return Clip(
        source=source.corpus,
        video_id=source.video_id,
        media=source.media,
        start_seconds=span[0],
        end_seconds=span[1],
        licence=licence or source.corpus,
        reference=reference,
    )
