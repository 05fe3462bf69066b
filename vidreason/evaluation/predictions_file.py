"""Predictions as JSONL: what was asked, what the model said, and whether it is right.

A row holds all that a score needs, so that every number of a table can be computed again without
the model.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from vidreason.evaluation.answers import normalise_answer, parse_choice, short_answer
from vidreason.example import Example


@dataclass(frozen=True, kw_only=True)
class BenchmarkPrediction:
    """A model's answer to one benchmark question."""

    id: str
    corpus: str
    video_id: str
    question_type: str = ""
    prompt: str = ""
    options: tuple[str, ...] = ()
    """Empty for open-ended questions."""
    option_log_likelihoods: tuple[float, ...] = ()
    """Natural-log likelihood of each option's text, end-of-turn token included, *divided* by its
    number of tokens. Empty when a text was generated instead."""
    option_token_counts: tuple[int, ...] = ()
    """Tokens of each option, so that the undivided sums can be had back."""
    output: str = ""
    """The generated text; empty when options were scored."""
    parsed: int | str | None = None
    """Index of the chosen option, or the normalised short answer; None when the output names no
    option."""
    reference: int | tuple[str, ...] | None = None
    """Index of the right option, or the accepted answers; None when hidden, or when there is no
    short answer."""
    correct: bool | None = None
    """None without a reference."""
    error: str = ""
    """Why the video could not be read. Such a question counts as answered wrongly."""


def unanswered(example: Example) -> BenchmarkPrediction:
    """The row of ``example`` before the model has said anything."""
    reference: int | tuple[str, ...] | None
    reference = example.answer_index if example.options else (example.answers or None)
    return BenchmarkPrediction(
        id=example.id,
        corpus=example.corpus,
        video_id=example.video_id,
        question_type=example.question_type,
        prompt=example.prompt,
        options=example.options,
        reference=reference,
    )


def judge(prediction: BenchmarkPrediction) -> BenchmarkPrediction:
    """Fill ``parsed`` and ``correct`` from what the model gave, whatever they were before.

    Scored options: the highest length-normalised likelihood, the first among equals. Generated
    text: the option it names (:func:`parse_choice`), or, for an open-ended question, its normalised
    first line, which must equal an accepted answer.
    """
    parsed: int | str | None
    if prediction.error:
        parsed = None
    elif prediction.option_log_likelihoods:
        scores = prediction.option_log_likelihoods
        parsed = max(range(len(scores)), key=lambda index: scores[index])
    elif prediction.options:
        parsed = parse_choice(prediction.output, prediction.options)
    else:
        parsed = short_answer(prediction.output)
    return replace(prediction, parsed=parsed, correct=_is_correct(parsed, prediction.reference))


def write_predictions(path: str | Path, predictions: Iterable[BenchmarkPrediction]) -> None:
    """Write one JSON object a line; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("w", encoding="utf-8") as stream:
        for prediction in predictions:
            stream.write(json.dumps(asdict(prediction), ensure_ascii=False) + "\n")
    os.replace(unfinished, path)


def read_predictions(path: str | Path) -> list[BenchmarkPrediction]:
    """Read what :func:`write_predictions` wrote.

    Raises:
        ValueError: A line is no prediction, or an id is there twice; the message names file and
            line.
    """
    names = {field.name for field in fields(BenchmarkPrediction)}
    predictions: list[BenchmarkPrediction] = []
    seen: set[str] = set()
    with Path(path).open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                row: dict[str, Any] = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number}: not valid JSON: {error.msg}") from error
            if not isinstance(row, dict) or not {"id", "corpus", "video_id"} <= row.keys() <= names:
                raise ValueError(
                    f"{path}:{number}: not a row of predictions; expected {sorted(names)}"
                )
            if row["id"] in seen:
                raise ValueError(f"{path}:{number}: the id {row['id']!r} is there twice")
            seen.add(row["id"])
            lists = {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
            predictions.append(BenchmarkPrediction(**(row | lists)))
    return predictions


def align_predictions(
    predictions: Sequence[BenchmarkPrediction], expected_ids: Iterable[str]
) -> list[BenchmarkPrediction]:
    """The predictions in the order of ``expected_ids``, each exactly once.

    A denominator never shrinks: that is how scores of different sets come to stand in one table.

    Raises:
        ValueError: A prediction is missing, there twice, or of an unknown question.
    """
    by_id: dict[str, BenchmarkPrediction] = {}
    for prediction in predictions:
        if prediction.id in by_id:
            raise ValueError(f"there are two predictions for {prediction.id!r}")
        by_id[prediction.id] = prediction
    expected = list(expected_ids)
    missing = [name for name in expected if name not in by_id]
    unknown = sorted(by_id.keys() - set(expected))
    if missing or unknown:
        raise ValueError(
            f"predictions do not match the questions: {len(missing)} missing {missing[:3]}, "
            f"{len(unknown)} unknown "
            f"{unknown[:3]}"
        )
    return [by_id[name] for name in expected]


def _is_correct(parsed: int | str | None, reference: int | tuple[str, ...] | None) -> bool | None:
    if reference is None:
        return None
    if isinstance(reference, tuple):
        return parsed in {normalise_answer(answer) for answer in reference}
    return parsed == reference
