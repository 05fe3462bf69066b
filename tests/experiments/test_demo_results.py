"""The demo's table, on predictions made by hand."""

import math
from dataclasses import replace

import pytest

from experiments.demo.references import EXTRAPOLATION, ORACLE
from experiments.demo.results import CONTROLS, FULL, STAGE_1, DemoResults, score_demo, summary
from experiments.kept_runs import MAJORITY, ROW_NAMES
from vidreason.evaluation.items import EVERYTHING
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.example import Example
from vidreason.reasoning.futures import Future
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT

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
        output=("yes" if correct else "no") if is_open else "(A)" if correct else "(B)",
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
def results() -> DemoResults:
    fewer = (*(ROW_NAMES[control] for control in CONTROLS[1:]), MAJORITY)
    runs = {FULL: run(6), STAGE_1: run(4)} | {name: run(3, reverse=True) for name in fewer}
    return score_demo(runs, [train_example("yes"), train_example("No"), train_example("no.")])


def test_all_rows_stand_in_their_order(results):
    for table in results.tables:
        assert [row[0] for row in table.rows] == [
            FULL,
            "stage 1 alone",
            "first half",
            "single frame",
            "shuffled frames",
            "blind (no visual tokens)",
            "another video's tokens",
            "majority answer",
            "chance",
        ]


def test_scores_differences_and_chance(results):
    full, blind = (results.cells[name][EVERYTHING] for name in (FULL, "blind (no visual tokens)"))
    assert (full.num_items, full.num_videos) == (12, 6)
    # Six videos that are all right: an exact bound of what others could be.
    assert full.score == pytest.approx([1, 0.025 ** (1 / 6), 1])
    # Both questions of a video stand and fall together: 6 answers, not 12, and Student's t of 5.
    assert blind.score == pytest.approx((0.5, 0.123, 0.877), abs=0.001)
    # A fifth for five options, a half for "yes" and "no".
    assert results.chances[EVERYTHING] == pytest.approx(0.35)
    assert results.tables[0].rows[-1] == ("chance", "35.0", "20.0", "50.0", "-")


def test_the_tables_are_those_of_evaluate(results):
    overall, closed, opened = results.tables
    assert overall.header == (
        *("run", "all questions (n=12)", "NExT-QA form (n=6)", "ActivityNet-QA form (n=6)"),
        "full model minus this, points",
    )
    assert overall.rows[0][1] == "100.0 [54.1, 100.0]"
    assert overall.rows[0][-1] == "-"
    assert overall.rows[1][1].startswith("66.7 [")
    assert overall.rows[2][-1].startswith("+50.0 [-9.4, ")
    assert closed.header[1:] == ("all (n=6)", "T (n=6)", "before, after (n=6)", "invalid")
    assert opened.header[1:] == ("all (n=6)", "free (n=6)", "yes or no (n=6)", "invalid")


def test_forms_without_a_prediction_leave_the_references_without_a_row_to_fill():
    runs = {FULL: run(6), ORACLE: [], EXTRAPOLATION: []}
    results = score_demo(runs, [train_example("yes")])
    for table in results.tables:
        assert [row[0] for row in table.rows] == [FULL, ORACLE, EXTRAPOLATION, "chance"]
        assert {cell for row in table.rows[1:3] for cell in row[1:]} <= {"n/a", "-"}
    (sentence,) = summary(results)
    assert sentence.startswith("all questions: 100.0% of 12")


def test_next_events_have_calibration_and_distributions():
    def rows(sure: float) -> list[BenchmarkPrediction]:
        futures = tuple(
            Future(event, math.log(share), share)
            for event, share in (("it stops", sure), ("it leaves", 1 - sure))
        )
        one = BenchmarkPrediction(
            id="", corpus="causal_vid_instruct", video_id="", question_type="prediction",
            prompt=FUTURE_PREDICTION_PROMPT, reference=("it stops",), futures=futures,
            output="1. it stops (confidence: 0.50)",
        )  # fmt: skip
        return [replace(one, id=f"{video}", video_id=f"{video}") for video in range(NUM_VIDEOS)]

    results = score_demo({FULL: rows(0.75), ROW_NAMES["blind"]: rows(0.6)}, [])
    scores = {
        (row[0], name): value
        for table in results.forecasts
        if "computed probability" in table.title or "computed distributions" in table.title
        for row in table.rows
        for name, value in zip(table.header, row, strict=True)
    }
    # All are right: a quarter of the probability is missing, twice squared.
    assert scores["full model, as it is", "Brier"].startswith("0.125 ")
    assert scores["blind (no visual tokens), as it is", "Brier"].startswith("0.320 ")
    assert scores["full model, as it is", "ECE"].startswith("25.0 ")
    assert scores["blind (no visual tokens), as it is", "ECE"].startswith("40.0 ")
