"""Tables of scores."""

import json

import pytest

from vidreason.evaluation.metrics import score_predictions
from vidreason.evaluation.predictions_file import BenchmarkPrediction
from vidreason.evaluation.report import accuracy_table, difference_table, score_rows


def run(num_right: int, num_videos: int = 10) -> list[BenchmarkPrediction]:
    return [
        BenchmarkPrediction(
            id=str(n), corpus="nextqa", video_id=str(n % num_videos), options=("a", "b"),
            question_type="CW" if n % 2 else "TN", reference=0,
            output="A" if n < num_right else "B",
        )
        for n in range(20)
    ]  # fmt: skip


def test_rows_columns_and_intervals() -> None:
    table = accuracy_table({"full": run(20), "blind": run(10)}, "nextqa")
    assert table.title == "nextqa: accuracy in %, 95% interval over 10 videos"
    header = ("run", "all (n=20)", "C (n=10)", "CW (n=10)", "T (n=10)", "TN (n=10)", "invalid")
    assert table.header == header
    assert table.rows[0][:2] == ("full", "100.0 [100.0, 100.0]")
    assert table.rows[1][1].startswith("50.0 [")
    lines = table.to_text().splitlines()
    assert len({len(line) for line in lines[1:]}) == 1
    markdown = table.to_markdown().splitlines()
    assert markdown[2].startswith("| run | all (n=20) |")
    assert {line.count("|") for line in markdown[2:]} == {8}


def test_one_video_has_no_interval() -> None:
    table = accuracy_table({"full": run(5, num_videos=1)}, "nextqa")
    assert table.rows[0][1] == "25.0 [-]"
    rows = score_rows(score_predictions(run(5, num_videos=1)))
    assert rows[0]["low"] is None
    assert json.loads(json.dumps(rows, allow_nan=False))[0]["accuracy"] == 0.25


def test_differences_are_paired() -> None:
    table = difference_table({"full": run(20), "blind": run(10)}, "nextqa", against="full")
    assert table.rows[0][0] == "full - blind"
    assert table.rows[0][1].startswith("+50.0 [+")
    with pytest.raises(ValueError, match="no run 'other'; found full"):
        difference_table({"full": run(1)}, "nextqa", against="other")


def test_runs_must_answer_the_same_questions() -> None:
    with pytest.raises(ValueError, match="1 missing"):
        accuracy_table({"full": run(20), "blind": run(10)[:-1]}, "nextqa")
    with pytest.raises(ValueError, match="'full' has no prediction with a reference of corpus 'x'"):
        accuracy_table({"full": run(20)}, "x")
