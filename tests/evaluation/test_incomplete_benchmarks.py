"""A benchmark of which questions could not be read says so, and is comparable with nothing."""

from dataclasses import replace

import pytest

from vidreason.evaluation.comparison import Run, comparability
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.manifest import Manifest, manifest_from_json
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.provenance import Provenance, make_manifest
from vidreason.evaluation.scoreboard import score_runs
from vidreason.example import Example
from vidreason.model import DecodingConfig

READ = {"nextqa": "8,563 of 8,564 official questions"}
QUESTION = Example(
    id="nextqa:test:1_2",
    corpus="nextqa",
    media="/here/1.mp4",
    video_id="1",
    prompt="why",
    response="y",
    options=("x", "y"),
    answer_index=1,
)
WHOLE = make_manifest([QUESTION], Provenance(model="m"), EvaluationConfig(), DecodingConfig())
PART = replace(WHOLE, incomplete=READ)
ROWS = [
    BenchmarkPrediction(
        id=f"nextqa:test:{number}",
        corpus="nextqa",
        video_id=str(number),
        options=("x", "y"),
        reference=0,
        output="A",
    )
    for number in range(4)
]


def test_the_table_and_the_notes_say_how_many_questions_there_were() -> None:
    board = score_runs({"full": ROWS}, EvaluationConfig(), full="full", incomplete=READ)
    assert board.tables[0].title.endswith("over 4 videos; 8,563 of 8,564 official questions")
    assert board.metrics["incomplete"] == READ
    assert any("nextqa: 8,563 of 8,564" in note for note in board.metrics["notes"])
    whole = score_runs({"full": ROWS}, EvaluationConfig(), full="full")
    assert whole.tables[0].title.endswith("over 4 videos")
    assert not any("could not be read" in note for note in whole.metrics["notes"])


@pytest.mark.parametrize("other", [WHOLE, PART])
def test_a_run_over_a_part_is_comparable_with_none(other: Manifest) -> None:
    runs = [Run(name="A", predictions=ROWS, manifest=PART, incomplete=PART.incomplete)]
    runs.append(Run(name="B", predictions=ROWS, manifest=other, incomplete=other.incomplete))
    for pair in (runs, runs[::-1]):
        against = comparability(*pair).against
        assert "incomplete.nextqa: A has 8,563 of 8,564 official questions; the others could" in (
            " ".join(against)
        )
        assert len(against) == 1 + (other is PART)
    whole = Run(name="C", predictions=ROWS, manifest=WHOLE)
    assert comparability(whole, whole).against == ()


def test_a_manifest_keeps_it() -> None:
    assert manifest_from_json(PART.as_json(), "f").incomplete == READ
    assert PART.hash != WHOLE.hash
