"""Causal-Vid-Instruct: the paper's synthetic instruction data (section 4.1.2).

One JSON object a line. The paper's set has no public release; the file format is this project's own
(see :func:`read_causal_vid_instruct`).
"""

from collections.abc import Iterator

from data_modules.example_kinds import prompted_example
from data_modules.files import Files
from data_modules.json_files import read_json_lines
from data_modules.rows import Row, is_nan_like
from data_modules.skipped_rows import SkippedRows, examples_of
from vidreason.example import Example
from vidreason.reasoning.predictions import MAX_PREDICTIONS, Prediction, format_predictions
from vidreason.reasoning.prompts import EVENT_REASONING_PROMPT, FUTURE_PREDICTION_PROMPT

SINGLE_PREDICTION_PROMPT = "Predict what is most likely to happen immediately after the clip ends."
"""The second half of the paper's teacher prompt (section 4.1.2), for rows with one prediction and
no confidences."""


def read_causal_vid_instruct(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
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

    def make(row: Row) -> Iterator[Example]:
        row_id, video_id = row.id("id"), row.id("video_id")
        span = row.span()
        explanation = _explanation(row)
        prediction_prompt, prediction, events = _prediction(row)
        if not explanation and not prediction:
            raise row.malformed("it has none of 'causal_explanation', 'prediction', 'predictions'")
        # A row gives an explanation, a prediction, or both.
        instruction = _no_nan(row, "instruction") or EVENT_REASONING_PROMPT
        for kind, prompt, response, answers in (
            ("explanation", instruction, explanation, ()),
            ("prediction", prediction_prompt, prediction, events),
        ):
            if response:
                yield prompted_example(
                    prompt,
                    response,
                    id=f"causal_vid_instruct:{split}:{row_id}:{kind}",
                    media=str(files.path("videos", f"{video_id}.mp4")),
                    video_id=video_id,
                    span=span,
                    answers=answers,
                    question_type=kind,
                    meta={
                        name: row.text(name)
                        for name in ("source", "teacher", "teacher_prompt_sha", "license_tag")
                    },
                )

    rows = read_json_lines(files, f"{split}.jsonl", skipped)
    yield from examples_of(rows, make, skipped, named_by=("id",))


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


def _no_nan(row: Row, name: str) -> str:
    text = row.text(name)
    if text and is_nan_like(text):
        raise row.malformed(f"field {name!r} is {text!r}, which is none")
    return text


def _prediction_item(item: Row) -> Prediction:
    event, reason = item.text("text"), item.text("justification")
    confidence = item.get("confidence")
    if not isinstance(confidence, int | float) or isinstance(confidence, bool):
        confidence = -1.0
    if is_nan_like(event) or not 0 <= confidence <= 1:
        raise item.malformed(
            "field 'predictions': expected 'text' and a 'confidence' from 0 to 1, found "
            f"{item!r:.200}"
        )
    return Prediction(event, reason, float(confidence))
