"""Causal-Vid-Instruct: the paper's synthetic instruction data (section 4.1.2).

One JSON object a line. The paper's set has no public release; the file format is this project's own
(see :func:`read_causal_vid_instruct`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.annotation_files import (
    check_span,
    id_field,
    is_nan_like,
    seconds_field,
    text_field,
)
from data_modules.json_files import read_json_lines
from data_modules.skipped_rows import MalformedRowError, SkippedRows, examples_of
from vidreason.example import Example
from vidreason.reasoning.predictions import MAX_PREDICTIONS, Prediction, format_predictions
from vidreason.reasoning.prompts import EVENT_REASONING_PROMPT, FUTURE_PREDICTION_PROMPT

SINGLE_PREDICTION_PROMPT = "Predict what is most likely to happen immediately after the clip ends."
"""The second half of the paper's teacher prompt (section 4.1.2), for rows with one prediction and
no confidences."""


def read_causal_vid_instruct(
    root: str, split: str, skipped: SkippedRows | None = None
) -> Iterator[Example]:
    """Yield up to two examples a row: the causal explanation, then the prediction of what follows.

    Layout: ``<root>/<split>.jsonl`` and ``<root>/videos/<video_id>.mp4``. Fields of a row: ``id``,
    ``source``, ``video_id``; ``start`` and ``end`` in seconds, or null for the whole video;
    ``instruction`` (empty: the paper's event-reasoning prompt); ``causal_explanation``, a list of
    steps; ``prediction``, a text; ``predictions``, up to three objects with ``text``,
    ``confidence`` in [0, 1] and optionally ``justification``, most likely first; and ``teacher``,
    ``teacher_prompt_sha``, ``created``, ``license_tag``, which are kept in ``meta``. Left out and
    counted are rows with an empty or reversed span; malformed are rows with a field of another form
    and rows that teach nothing.

    The explanation's response is its steps, numbered. With ``predictions``, the prompt is the
    paper's future-prediction prompt and the response is written by ``format_predictions``, the form
    that :func:`vidreason.reasoning.predictions.parse_predictions` reads back. With ``prediction``
    alone the prompt asks for one prediction and the response is its text: no confidence is
    invented. ``answers`` are the predicted events.

    Raises:
        ValueError: The file is missing or wrong as a whole.
    """
    skipped = SkippedRows() if skipped is None else skipped

    def make(place: str, row: dict[str, Any]) -> Iterator[Example]:
        row_id, video_id = id_field(row, "id", place), id_field(row, "video_id", place)
        start, end = seconds_field(row, "start", place), seconds_field(row, "end", place)
        check_span(start, end, place)
        explanation = _explanation(row, place)
        prediction_prompt, prediction, events = _prediction(row, place)
        if not explanation and not prediction:
            raise MalformedRowError(
                place, "it has none of 'causal_explanation', 'prediction', 'predictions'"
            )
        instruction = text_field(row, "instruction", place) or EVENT_REASONING_PROMPT
        if is_nan_like(instruction):
            raise MalformedRowError(place, f"field 'instruction' is {instruction!r}, which is none")
        for kind, prompt, response, answers in (
            ("explanation", instruction, explanation, ()),
            ("prediction", prediction_prompt, prediction, events),
        ):
            if response:
                yield Example(
                    id=f"causal_vid_instruct:{split}:{row_id}:{kind}",
                    corpus="causal_vid_instruct",
                    media=str(Path(root, "videos", f"{video_id}.mp4")),
                    video_id=video_id,
                    start_seconds=start,
                    end_seconds=end,
                    prompt=prompt,
                    response=response,
                    answers=answers,
                    question_type=kind,
                    meta={
                        name: text_field(row, name, place)
                        for name in ("source", "teacher", "teacher_prompt_sha", "license_tag")
                    },
                )

    rows = read_json_lines(Path(root, f"{split}.jsonl"), skipped)
    yield from examples_of(rows, make, skipped, named_by=("id",))


def _explanation(row: dict[str, Any], place: str) -> str:
    steps = row.get("causal_explanation") or []
    if not isinstance(steps, list) or not all(
        isinstance(step, str) and not is_nan_like(step) for step in steps
    ):
        raise MalformedRowError(
            place, f"field 'causal_explanation' must be a list of texts, found {steps!r:.200}"
        )
    return "\n".join(f"{number}. {step.strip()}" for number, step in enumerate(steps, start=1))


def _prediction(row: dict[str, Any], place: str) -> tuple[str, str, tuple[str, ...]]:
    """The prediction example's prompt, response and events; none where the row predicts nothing."""
    predictions = row.get("predictions") or []
    if not isinstance(predictions, list) or len(predictions) > MAX_PREDICTIONS:
        raise MalformedRowError(
            place,
            f"field 'predictions' must be a list of at most {MAX_PREDICTIONS} objects, found "
            f"{predictions!r:.200}",
        )
    if not predictions:
        prediction = text_field(row, "prediction", place)
        if prediction and is_nan_like(prediction):
            raise MalformedRowError(place, f"field 'prediction' is {prediction!r}, which is none")
        return SINGLE_PREDICTION_PROMPT, prediction, (prediction,)
    items = [_prediction_item(item, place) for item in predictions]
    events = tuple(item.event for item in items)
    return FUTURE_PREDICTION_PROMPT, format_predictions(items), events


def _prediction_item(item: Any, place: str) -> Prediction:  # noqa: ANN401 - any JSON value
    if not isinstance(item, dict):
        raise MalformedRowError(
            place, f"field 'predictions': expected an object, found {item!r:.200}"
        )
    event, reason = text_field(item, "text", place), text_field(item, "justification", place)
    confidence = item.get("confidence")
    if not isinstance(confidence, int | float) or isinstance(confidence, bool):
        confidence = -1.0
    if is_nan_like(event) or not 0 <= confidence <= 1:
        raise MalformedRowError(
            place,
            "field 'predictions': expected 'text' and a 'confidence' from 0 to 1, found "
            f"{item!r:.200}",
        )
    return Prediction(event, reason, float(confidence))
