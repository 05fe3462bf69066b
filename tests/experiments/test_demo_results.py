"""The demo's table, on predictions made by hand."""

import json

import pytest

from experiments.demo.results import (
    CHANCE,
    CONTROLS,
    FULL,
    ordered_runs,
    read_results,
    result_tables,
    score_runs,
    write_results,
)
from experiments.kept_runs import MAJORITY, ROW_NAMES
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.example import Example

NUM_VIDEOS = 6


def prediction(video: int, *, is_open: bool, correct: bool) -> BenchmarkPrediction:
    corpus = "activitynet_qa" if is_open else "nextqa"
    return BenchmarkPrediction(
        id=f"{corpus}:test:{video}",
        corpus=corpus,
        video_id=str(video),
        question_type="3" if is_open else "TP",
        options=() if is_open else ("a", "b", "c", "d", "e"),
        reference=("yes",) if is_open else 0,
        parsed="yes" if is_open and correct else 0 if correct else 1,
        correct=correct,
    )


def run(num_correct: int, *, reverse: bool = False) -> list[BenchmarkPrediction]:
    """Both questions about the first ``num_correct`` videos are answered rightly."""
    rows = [
        prediction(video, is_open=is_open, correct=video < num_correct)
        for video in range(NUM_VIDEOS)
        for is_open in (False, True)
    ]
    return rows[::-1] if reverse else rows


def train_example(answer: str) -> Example:
    return Example(
        id=answer,
        corpus="activitynet_qa",
        media="v.mp4",
        video_id="v",
        prompt="?",
        response=answer,
        answers=(answer,),
        question_type="3",
    )


@pytest.fixture
def results():
    names = (*(ROW_NAMES[control] for control in CONTROLS[1:]), MAJORITY)
    stage2 = {ROW_NAMES["none"]: run(6)} | {name: run(3, reverse=True) for name in names}
    runs = ordered_runs(stage2, {ROW_NAMES["none"]: run(4)})
    return score_runs(runs, [train_example("yes"), train_example("No"), train_example("no.")])


def test_all_rows_stand_in_their_order(results):
    assert list(results["rows"]) == [
        FULL,
        "stage 1 alone",
        "blind (no visual tokens)",
        "random visual tokens",
        "another video's tokens",
        "majority answer",
        "chance",
    ]
    assert list(results["groups"]) == [
        *("all", "nextqa", "nextqa/TN", "activitynet_qa", "activitynet_qa/yesno")
    ]


def test_accuracies_differences_and_chance(results):
    rows = results["rows"]
    # Six videos that are all right: an exact bound of what others could be.
    assert rows[FULL]["all"] == pytest.approx([1, 0.025 ** (1 / 6), 1])
    accuracy, low, high = rows["blind (no visual tokens)"]["all"]
    assert accuracy == 0.5
    # Both questions of a video stand and fall together: 6 answers, not 12, and Student's t of 5.
    assert (low, high) == pytest.approx((0.123, 0.877), abs=0.001)
    assert results["differences"]["blind (no visual tokens)"][0] == 0.5
    assert FULL not in results["differences"]
    # A fifth for five options, a half for "yes" and "no".
    assert rows[CHANCE]["nextqa"] == [pytest.approx(0.2), None, None]
    assert rows[CHANCE]["activitynet_qa"] == [0.5, None, None]
    assert rows[CHANCE]["all"][0] == pytest.approx(0.35)


def test_the_tables_are_written_and_the_results_read_back(results, tmp_path):
    write_results(tmp_path, results)
    assert read_results(tmp_path) == json.loads(json.dumps(results))
    overall, closed, opened = result_tables(read_results(tmp_path))
    assert overall.header[1] == "all questions, n=12"
    assert overall.rows[0][1] == "100.0 [54.1, 100.0]"
    assert overall.rows[0][-1] == "-"
    assert overall.rows[2][-1].startswith("+50.0 [-9.4, ")
    assert closed.header == ("", "before, after, n=6")
    assert opened.header == ("", "yes or no, n=6")
    assert opened.rows[-1] == ("chance", "50")
    assert "| stage 1 alone | 66.7 [" in (tmp_path / "table.md").read_text()
