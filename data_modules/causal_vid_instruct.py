"""Causal-Vid-Instruct: the paper's synthetic instruction data (section 4.1.2).

One JSON object a line. The paper's set has no public release; the file format is this project's own
(see :func:`read_causal_vid_instruct`). People's reviews in ``<root>/reviews/*.jsonl`` are applied
(:mod:`vidreason.teacher.reviews`): rejected rows are left out and counted, edited ones are read as
they were edited.
"""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from data_modules.example_kinds import prompted_example
from data_modules.files import Files
from data_modules.json_files import read_json_lines
from data_modules.reviewed_rows import reviewed_rows
from data_modules.rows import Row, is_nan_like, parse_seconds
from data_modules.skipped_rows import SkippedRows, examples_of
from vidreason.example import Example
from vidreason.reasoning.outcomes import Outcome, TrueFuture, outcome_meta
from vidreason.reasoning.predictions import MAX_PREDICTIONS, Prediction, format_predictions
from vidreason.reasoning.prompts import EVENT_REASONING_PROMPT, FUTURE_PREDICTION_PROMPT
from vidreason.video.media import is_remote

SINGLE_PREDICTION_PROMPT = "Predict what is most likely to happen immediately after the clip ends."
"""The second half of the paper's teacher prompt (section 4.1.2), for rows with one prediction and
no confidences."""
OUTSIDE_VIDEOS = (
    "field 'media' does not name a file below videos/ (an absolute path, a URL or '..'); write its "
    "path relative to that folder"
)

_MAX_FUTURES = 1000
_SUM_TOLERANCE = 1e-3  # probabilities may have been rounded


def read_causal_vid_instruct(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
    """Yield up to two examples a row: the causal explanation, then the prediction of what follows.

    Layout: ``<root>/<split>.jsonl`` and ``<root>/videos/``. Fields of a row: ``id``, ``source``,
    ``video_id``; ``media``, the path of the video below ``videos/`` (empty: ``<video_id>.mp4``),
    for sources whose ids coincide or whose videos have another extension; ``start`` and ``end`` in
    seconds, or null for the whole video; ``instruction`` (empty: the paper's event-reasoning
    prompt); ``causal_explanation``, a list of steps; ``prediction``, a text; ``predictions``, up to
    three objects with ``text``, ``confidence`` in [0, 1] and optionally ``justification``, most
    likely first; and ``teacher``, ``teacher_prompt_sha``, ``license_tag``, which are kept in
    ``meta``. Left out and counted are rows with an empty or reversed span, and rows whose ``media``
    is an absolute path or a URL or has ``..`` in it; malformed are rows with a field of another
    form and rows that teach nothing.

    Not read are fields that :mod:`vidreason.teacher.rows` writes for others: ``created``;
    ``step_times``, an object with ``start`` and ``end`` for each step, in seconds from the start of
    the clip; ``flags``, remarks of the quality gate; and ``parameters_sha``, which leads to the
    teacher's parameters in the set's card.

    Rows to be scored strictly say what came next, in two further fields beside a prediction, both
    of them optional and kept in ``meta`` (:mod:`vidreason.reasoning.outcomes`). ``outcome`` is the
    event that really came next, an object with ``text``; ``kind``, such as ``hit``, ``push``,
    ``block``, ``leave``, ``enter`` or ``nothing``; and ``seconds`` after the end of the video, or
    null. ``futures`` is the true distribution over next events, a list of objects with ``text``,
    ``probability`` and ``seconds``, the expected time or null: each event once, and probabilities
    that sum to 1 within 0.001.

    The explanation's response is its steps, numbered. With ``predictions``, the prompt is the
    paper's future-prediction prompt and the response is written by ``format_predictions``, the form
    that :func:`vidreason.reasoning.predictions.parse_predictions` reads back. With ``prediction``
    alone the prompt asks for one prediction and the response is its text: no confidence is
    invented. ``answers`` are the predicted events; with ``outcome``, it is the one answer.

    Raises:
        ValueError: The file, or one of reviews, is missing or wrong as a whole.
    """

    def make(row: Row) -> Iterator[Example]:
        row_id, video_id = row.id("id"), row.id("video_id")
        media = str(files.path("videos", _media(row) or f"{video_id}.mp4"))
        span = row.span()
        explanation = _explanation(row)
        prediction_prompt, prediction, events = _prediction(row)
        outcome, futures = _outcome(row), _futures(row)
        if (outcome or futures) and not prediction:
            raise row.malformed(
                "it has 'outcome' or 'futures', but none of 'prediction', 'predictions'"
            )
        # What really came is the one right answer, not what the teacher predicted.
        if outcome is not None:
            events = (outcome.text,)
        if not explanation and not prediction:
            raise row.malformed("it has none of 'causal_explanation', 'prediction', 'predictions'")
        # A row gives an explanation, a prediction, or both.
        instruction = _no_nan(row, "instruction") or EVENT_REASONING_PROMPT
        came_next = outcome_meta(outcome, futures)
        for kind, prompt, response, answers, further in (
            ("explanation", instruction, explanation, (), {}),
            ("prediction", prediction_prompt, prediction, events, came_next),
        ):
            if response:
                yield prompted_example(
                    prompt,
                    response,
                    id=f"causal_vid_instruct:{split}:{row_id}:{kind}",
                    media=media,
                    video_id=video_id,
                    span=span,
                    answers=answers,
                    question_type=kind,
                    meta={
                        name: row.text(name)
                        for name in ("source", "teacher", "teacher_prompt_sha", "license_tag")
                    }
                    | further,
                )

    rows = reviewed_rows(files, read_json_lines(files, f"{split}.jsonl", skipped), skipped)
    yield from examples_of(rows, make, skipped, named_by=("id",))


def _media(row: Row) -> str:
    """The video's path below ``videos/``; empty where the row does not say it."""
    media = row.text("media")
    path = PurePosixPath(media)
    if is_remote(media) or path.is_absolute() or ".." in path.parts:
        raise row.unusable(OUTSIDE_VIDEOS)
    return media


def _explanation(row: Row) -> str:
    steps = row.texts("causal_explanation") if row.get("causal_explanation") else []
    if any(map(is_nan_like, steps)):
        raise row.malformed(f"field 'causal_explanation': a step is empty in {steps!r:.200}")
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))


def _prediction(row: Row) -> tuple[str, str, tuple[str, ...]]:
    """The prediction example's prompt, response and events; none where the row predicts nothing."""
    predictions = row.objects("predictions") if row.get("predictions") else []
    if len(predictions) > MAX_PREDICTIONS:
        raise row.malformed(
            f"field 'predictions' must be a list of at most {MAX_PREDICTIONS} objects, found "
            f"{predictions!r:.200}"
        )
    if not predictions:
        prediction = _no_nan(row, "prediction")
        return SINGLE_PREDICTION_PROMPT, prediction, (prediction,)
    items = list(map(_prediction_item, predictions))
    events = tuple(item.event for item in items)
    return FUTURE_PREDICTION_PROMPT, format_predictions(items), events


def _outcome(row: Row) -> Outcome | None:
    """The event that really came next; None where the row does not say it."""
    if row.get("outcome") is None:
        return None
    event = row.nested("outcome")
    text, kind = _event_text(event, "outcome"), event.required("kind")
    return Outcome(text, kind, _delay(event, "outcome"))


def _futures(row: Row) -> tuple[TrueFuture, ...]:
    """The true distribution over next events; empty where the row does not say it."""
    items = row.objects("futures") if row.get("futures") else []
    if len(items) > _MAX_FUTURES:
        raise row.malformed(
            f"field 'futures' has {len(items)} events, expected at most {_MAX_FUTURES}"
        )
    futures = []
    for item in items:
        probability = item.get("probability")
        if not isinstance(probability, int | float) or isinstance(probability, bool):
            probability = -1.0  # out of range: one error for both
        if not 0 <= probability <= 1:
            raise row.malformed(
                f"field 'futures': expected a 'probability' from 0 to 1, found {item!r:.200}"
            )
        text = _event_text(item, "futures")
        futures.append(TrueFuture(text, float(probability), _delay(item, "futures")))
    # The events have to be different, and their probabilities those of all that may come.
    counts = Counter(" ".join(future.text.casefold().split()) for future in futures)
    total = math.fsum(future.probability for future in futures)
    if counts and max(counts.values()) > 1:
        raise row.malformed(f"field 'futures' has {counts.most_common(1)[0][0]!r} more than once")
    if futures and abs(total - 1) > _SUM_TOLERANCE:
        raise row.malformed(
            f"field 'futures': the probabilities sum to {total:.6g}, expected 1 within "
            f"{_SUM_TOLERANCE}"
        )
    return tuple(futures)


def _event_text(event: Row, name: str) -> str:
    text = event.text("text")
    if is_nan_like(text) or not any(map(str.isalnum, text)):
        raise event.malformed(
            f"field {name!r}: expected a 'text' with a word, found {event!r:.200}"
        )
    return text


def _delay(event: Row, name: str) -> float | None:
    """Seconds after the end of the video."""
    value = event.get("seconds")
    seconds = None if value is None else parse_seconds(value)
    if seconds is None and value is not None:
        raise event.malformed(
            f"field {name!r}: expected 'seconds' after the end of the video, or null, found "
            f"{value!r:.200}"
        )
    return seconds


def _no_nan(row: Row, name: str) -> str:
    text = row.text(name)
    # Empty means the usual; "nan" is a program's word for nothing, and would be taught.
    if text and is_nan_like(text):
        raise row.malformed(f"field {name!r} is {text!r}, which is none")
    return text


def _prediction_item(item: Row) -> Prediction:
    event, reason = item.text("text"), item.text("justification")
    confidence = item.get("confidence")
    if not isinstance(confidence, int | float) or isinstance(confidence, bool):
        confidence = -1.0  # out of range: one error for both
    if is_nan_like(event) or not 0 <= confidence <= 1:
        raise item.malformed(
            "field 'predictions': expected 'text' and a 'confidence' from 0 to 1, found "
            f"{item!r:.200}"
        )
    return Prediction(event, reason, float(confidence))
