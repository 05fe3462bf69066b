"""Files for benchmarks' servers: made of the readers' own examples, in the documented forms."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_corpora import TINY_CORPORA, examples_in

from vidreason.evaluation.predictions.rows import BenchmarkPrediction, unanswered
from vidreason.evaluation.predictions.submissions import VCR_COLUMNS, write_submissions

TINY = {corpus.reader: corpus for corpus in TINY_CORPORA}


def rows(reader: str, root: Path, content: list[Any] | None = None) -> list[BenchmarkPrediction]:
    corpus = TINY[reader]
    corpus.write(root, content)
    return [unanswered(example) for example in examples_in(reader, root, corpus.split)]


def scored(row: BenchmarkPrediction, chosen: int) -> BenchmarkPrediction:
    scores = tuple(-1.0 + (number == chosen) for number in range(len(row.options)))
    return replace(row, option_log_likelihoods=scores)


def test_clevrer(tmp_path: Path) -> None:
    seen, right, wrong, *others = rows("clevrer", tmp_path)
    answered = [replace(seen, output="2."), scored(wrong, 1), scored(right, 0)]
    answered += [replace(row, error="cannot read video") for row in others]
    (path,) = write_submissions(answered[::-1], tmp_path / "out")
    assert path == tmp_path / "out/clevrer_submission.json"
    assert json.loads(path.read_text()) == [
        {
            "scene_index": 10000,
            "questions": [
                {"question_id": 0, "answer": "2"},
                {
                    "question_id": 11,
                    "choices": [
                        {"choice_id": 0, "answer": "correct"},
                        {"choice_id": 1, "answer": "wrong"},
                    ],
                },
            ],
        },
        {
            "scene_index": 10001,
            "questions": [
                {"question_id": 0, "answer": ""},
                {
                    "question_id": 11,
                    "choices": [
                        {"choice_id": 0, "answer": "wrong"},
                        {"choice_id": 1, "answer": "wrong"},
                    ],
                },
            ],
        },
    ]


def test_vcr(tmp_path: Path) -> None:
    labels = ("answer_label", "rationale_label")
    hidden = [{k: v for k, v in row.items() if k not in labels} for row in TINY["vcr"].rows]
    questions = rows("vcr", tmp_path, hidden)
    answered = [scored(row, number % 4) for number, row in enumerate(questions)]
    answered[1] = replace(questions[1], output="(C)")
    answered[2] = replace(questions[2], output="no idea")
    (path,) = write_submissions(answered, tmp_path)
    header, first, second = csv.reader(path.read_text().splitlines())
    assert tuple(header) == VCR_COLUMNS
    assert len(header) == 21
    assert (first[0], second[0]) == ("val-0", "val-1")
    values = [float(value) for value in first[1:]]
    for start in range(0, 20, 4):
        assert sum(values[start : start + 4]) == pytest.approx(1, abs=1e-5)
    assert values[:4].index(max(values[:4])) == 0
    assert values[4:8] == [0, 0, 1, 0]
    assert values[8:12] == [0.25] * 4
    with pytest.raises(ValueError, match=r"1 rows miss some \['val-1'\]: answer all questions"):
        write_submissions(answered[:-1], tmp_path)
    labelled = rows("vcr", tmp_path / "labelled")
    assert write_submissions([scored(row, 0) for row in labelled], tmp_path) == []


def test_nextgqa_and_nextqa(tmp_path: Path) -> None:
    answer, grounding, *others = rows("nextgqa", tmp_path / "nextgqa")
    answered = [scored(answer, 3), replace(grounding, output="2 to 4.5")]
    answered += [replace(row, output="?") for row in others]
    answered.append(scored(rows("nextqa", tmp_path / "nextqa")[0], 1))
    chosen, spans, nextqa = write_submissions(answered, tmp_path)
    assert json.loads(chosen.read_text())["0101_1"] == {"prediction": 3, "answer": 1}
    assert json.loads(chosen.read_text())["0101_2"] == {"prediction": -1, "answer": 2}
    assert json.loads(spans.read_text()) == {
        "0101_1": [2.0, 4.5],
        "0101_2": [0.0, 0.0],
        "0202_1": [0.0, 0.0],
        "0202_2": [0.0, 0.0],
    }
    assert json.loads(nextqa.read_text()) == {"0101_1": {"prediction": 1, "answer": 1}}


def test_other_corpora_have_no_form(tmp_path: Path) -> None:
    assert write_submissions(rows("star", tmp_path / "star"), tmp_path / "out") == []
    assert not (tmp_path / "out").exists()
