"""Predictions of other systems, in the forms of the benchmarks' own scripts, as rows of ours.

* NExT-QA: ``{"<video>_<qid>": {"prediction": 2, "answer": 4}}`` (github doc-doc/NExT-QA, 6b92588,
  ``eval_mc.py``); the answer may be left out.
* NExT-QA open-ended: ``{"<video>": {"<qid>": "text"}}`` (github doc-doc/NExT-OE, a83f8f5,
  ``eval_oe.py``).
* ActivityNet-QA: ``[{"question_id": "v_..._2", "answer": "yes"}]`` (github MILVLG/activitynet-qa,
  2cf80ae, ``eval.py``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidreason.evaluation.predictions.row_files import read_json
from vidreason.evaluation.predictions.row_schema import shown
from vidreason.evaluation.predictions.rows import (
    BenchmarkPrediction,
    grade,
    id_in_corpus,
    unanswered,
)
from vidreason.example import Example


def read_official_predictions(
    path: str | Path, examples: Sequence[Example], num_unread: int = 0
) -> list[BenchmarkPrediction]:
    """Graded rows of the answers in ``path`` to ``examples``, in the order of these.

    Args:
        path: A file in the form of the examples' corpus.
        examples: All questions of one split of one corpus.
        num_unread: Questions of that split that could not be read: answers to them are passed over.

    Raises:
        ValueError: The corpus has no form here, the file has another one, or it does not answer
            each question exactly once.
    """
    corpus = examples[0].corpus
    if corpus not in _READERS:
        raise ValueError(
            f"there is no official form of predictions for {corpus!r} here; there are those of "
            f"{', '.join(_READERS)}"
        )
    content = read_json(Path(path).read_bytes(), str(path))
    answers = _READERS[corpus](content, str(path))
    by_id = {id_in_corpus(example.id): example for example in examples}
    missing = [name for name in by_id if name not in answers]
    unknown = [name for name in answers if name not in by_id]
    if missing or len(unknown) > num_unread:
        raise ValueError(
            f"{path} does not answer the questions of the split: {len(missing)} are not answered "
            f"{missing[:3]}, {len(unknown)} answers are to no question {unknown[:3]}"
        )
    return [grade(_row(by_id[name], answers[name], f"{path}: {name}")) for name in by_id]


def _row(example: Example, answer: Any, location: str) -> BenchmarkPrediction:  # noqa: ANN401 - JSON
    """A chosen index becomes the option's letter, none (-1) a text that names none."""
    row = unanswered(example)
    if not example.options:
        return replace(row, output=_text(answer, location))
    if not isinstance(answer, dict) or not _is_index(answer.get("prediction"), -1, example):
        raise ValueError(
            f"{location}: expected {{'prediction': index of an option, or -1}}, found "
            f"{shown(answer)}"
        )
    reference, chosen = answer.get("answer"), answer["prediction"]
    if reference is not None and not _is_index(reference, 0, example):
        raise ValueError(
            f"{location}: answer is {shown(reference)}, expected the index of an option, or none"
        )
    # Where both say which option is right, they have to agree.
    if None not in (reference, example.answer_index) and reference != example.answer_index:
        raise ValueError(
            f"{location}: the file takes option {reference} for the right one, the corpus "
            f"{example.answer_index}: they are of different splits or versions"
        )
    return replace(row, output="" if chosen < 0 else f"({chr(ord('A') + chosen)})")


def _is_index(value: Any, lowest: int, example: Example) -> bool:  # noqa: ANN401 - JSON
    is_whole = isinstance(value, int) and not isinstance(value, bool)  # True is an int in Python
    return is_whole and lowest <= value < len(example.options)


def _text(value: Any, location: str) -> str:  # noqa: ANN401 - JSON
    if not isinstance(value, str):
        raise ValueError(f"{location}: expected a text, found {shown(value)}")
    return value


def _nextqa(content: Any, path: str) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return dict(_object(content, path))


def _nextqa_open_ended(content: Any, path: str) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answers: dict[str, Any] = {}
    for video, of_video in _object(content, path).items():
        for question, answer in _object(of_video, f"{path}: {video}").items():
            name = f"{video}_{question}"
            if name in answers:
                raise ValueError(f"{path}: {name!r} is answered twice")
            answers[name] = answer
    return answers


def _activitynet_qa(content: Any, path: str) -> dict[str, Any]:  # noqa: ANN401 - JSON
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected an array of answers, found {type(content).__name__}")
    answers: dict[str, Any] = {}
    for number, entry in enumerate(content):
        row = _object(entry, f"{path}: entry {number}")
        if not {"question_id", "answer"} <= row.keys():
            raise ValueError(f"{path}: entry {number} has no question_id and answer")
        name = _text(row["question_id"], f"{path}: question_id of entry {number}")
        if name in answers:
            raise ValueError(f"{path}: {name!r} is answered twice")
        answers[name] = row["answer"]
    return answers


def _object(value: Any, location: str) -> Mapping[str, Any]:  # noqa: ANN401 - JSON
    if not isinstance(value, dict):
        raise ValueError(f"{location}: expected an object, found {type(value).__name__}")
    return value


_READERS: dict[str, Callable[[Any, str], dict[str, Any]]] = {
    "nextqa": _nextqa,
    "nextqa_open_ended": _nextqa_open_ended,
    "activitynet_qa": _activitynet_qa,
}
"""Corpus -> from the content of a file to answers by question; the path is for messages."""
