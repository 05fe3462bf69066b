"""Predictions in the forms that benchmarks' servers and official scripts take.

* CLEVRER: the JSON of its EvalAI challenge (github chuangg/CLEVRER, ``get_results.py``).
* VCR: the CSV of its leaderboard, twenty probabilities a row (visualcommonsense.com).
* NExT-GQA: the two JSON files of ``eval_ground.py``; NExT-QA: the one of ``eval_mc.py``.
"""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vidreason.evaluation.confidence.temperature import option_probabilities
from vidreason.evaluation.predictions.rows import (
    BenchmarkPrediction,
    grade,
    has_finite_scores,
    id_in_corpus,
)

VCR_COLUMNS = (
    "annot_id",
    *(f"answer_{answer}" for answer in range(4)),
    *(
        f"rationale_conditioned_on_a{answer}_{rationale}"
        for answer in range(4)
        for rationale in range(4)
    ),
)


def write_submissions(predictions: Sequence[BenchmarkPrediction], folder: str | Path) -> list[Path]:
    """Write the file of each benchmark among ``predictions`` that has a form of its own.

    Args:
        predictions: Of one split of each benchmark.
        folder: Is made if it is not there.

    Returns:
        The files that were written: ``<corpus>_submission.json`` and the like.

    Raises:
        ValueError: Predictions of a benchmark are not such as its form can hold.
    """
    folder = Path(folder)
    written: list[Path] = []
    for corpus, write in _WRITERS.items():
        of_corpus = [grade(row) for row in predictions if row.corpus == corpus]
        if of_corpus:
            folder.mkdir(parents=True, exist_ok=True)
            written += write(of_corpus, folder)
    return written


def _write_clevrer(rows: Sequence[BenchmarkPrediction], folder: Path) -> list[Path]:
    """A question without a readable answer gets the empty text, an option without one "wrong"."""
    scenes: dict[int, dict[int, dict[str, Any]]] = {}
    for row in rows:
        # Ids are scene_question, or scene_question_choice for one choice of several.
        scene, question, *choice = map(int, id_in_corpus(row.id).split("_"))
        entry = scenes.setdefault(scene, {}).setdefault(question, {"question_id": question})
        if choice:
            # Each choice is asked about by itself, with the options "correct" and "wrong".
            answer = "correct" if row.parsed == 0 else "wrong"
            entry.setdefault("choices", []).append({"choice_id": choice[0], "answer": answer})
        else:
            entry["answer"] = row.parsed or ""
    for questions in scenes.values():
        for entry in questions.values():
            entry.get("choices", []).sort(key=lambda one: one["choice_id"])
    submission = [
        {"scene_index": scene, "questions": [questions[number] for number in sorted(questions)]}
        for scene, questions in sorted(scenes.items())
    ]
    return [_write_json(folder / "clevrer_submission.json", submission)]


def _write_vcr(rows: Sequence[BenchmarkPrediction], folder: Path) -> list[Path]:
    """Needs all four rationale questions of each row, which are asked where labels are hidden."""
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        # An id is <annotation>:<kind of question>.
        annotation_id, _, kind = id_in_corpus(row.id).rpartition(":")
        probabilities = values.setdefault(annotation_id, {})
        if kind != "answer" and not kind.startswith("rationale_given_"):
            continue  # asked with the right answer: not for the leaderboard
        given = kind.rpartition("_")[2]
        prefix = "answer" if kind == "answer" else f"rationale_conditioned_on_a{given}"
        for number, probability in enumerate(_probabilities(row)):
            probabilities[f"{prefix}_{number}"] = probability
    incomplete = [
        name for name, probabilities in values.items() if len(probabilities) != len(VCR_COLUMNS) - 1
    ]
    if incomplete:
        if any("rationale_given_" in row.id for row in rows):
            raise ValueError(
                f"VCR's submission needs 20 probabilities a row; {len(incomplete)} rows miss some "
                f"{incomplete[:3]}: answer all questions of the split"
            )
        return []  # a split with labels, which nobody submits
    path = folder / "vcr_submission.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(VCR_COLUMNS)
        for name, probabilities in values.items():
            writer.writerow([name, *(f"{probabilities[column]:.6f}" for column in VCR_COLUMNS[1:])])
    return [path]


def _write_nextgqa(rows: Sequence[BenchmarkPrediction], folder: Path) -> list[Path]:
    """Spans in seconds; a question without a readable span gets ``[0, 0]``."""
    answers = [row for row in rows if row.options]
    spans = {
        row.group_id: list(row.parsed) if isinstance(row.parsed, tuple) else [0.0, 0.0]
        for row in rows
        if not row.options
    }
    return [
        _write_json(folder / "nextgqa_answers.json", _chosen(answers)),
        _write_json(folder / "nextgqa_grounding.json", spans),
    ]


def _write_nextqa(rows: Sequence[BenchmarkPrediction], folder: Path) -> list[Path]:
    return [_write_json(folder / "nextqa_answers.json", _chosen(rows))]


def _chosen(rows: Sequence[BenchmarkPrediction]) -> dict[str, dict[str, Any]]:
    """``<video>_<qid>`` -> chosen and right option; -1 where no option was named."""
    return {
        row.group_id or id_in_corpus(row.id): {
            "prediction": -1 if row.parsed is None else row.parsed,
            "answer": row.reference,
        }
        for row in rows
    }


def _probabilities(row: BenchmarkPrediction) -> Sequence[float]:
    """Probability of each option: softmax of the likelihoods per token, or 1 for the named one."""
    if has_finite_scores(row):
        return option_probabilities(row.option_log_likelihoods)
    if row.parsed is None:
        return [1 / len(row.options)] * len(row.options)  # nothing was named: all options alike
    return [float(number == row.parsed) for number in range(len(row.options))]


def _write_json(path: Path, content: Any) -> Path:  # noqa: ANN401 - any JSON value
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return path


_WRITERS: dict[str, Callable[[Sequence[BenchmarkPrediction], Path], list[Path]]] = {
    "clevrer": _write_clevrer,
    "vcr": _write_vcr,
    "nextgqa": _write_nextgqa,
    "nextqa": _write_nextqa,
}
