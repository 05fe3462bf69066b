"""``evaluate --from`` kept predictions whose next events have computed probabilities."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from experiments.evaluate import __main__ as program
from experiments.kept_runs import LESS_AND_LESS, MAJORITY, ROW_NAMES
from vidreason.evaluation.predictions.row_files import write_predictions
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.reasoning.futures import Future
from vidreason.reasoning.outcomes import TrueFuture
from vidreason.reasoning.predictions import Prediction, format_predictions
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT

STOPS, LEAVES = "the ball stops", "the ball leaves"


def rows(split: str, top: float, num_videos: int = 45) -> list[BenchmarkPrediction]:
    """Every third ball leaves; a run that gives ``top`` to the stop prints that it is certain."""
    printed = format_predictions([Prediction(STOPS, "", 1.0), Prediction(LEAVES, "", 0.5)])
    futures = (
        Future(STOPS, math.log(top), top, "it slows down", 1.0),
        Future(LEAVES, math.log(1 - top), 1 - top),
    )
    return [
        BenchmarkPrediction(
            id=f"causal_vid_instruct:{split}:{number}:prediction",
            corpus="causal_vid_instruct", video_id=f"{split}{number}", question_type="prediction",
            prompt=FUTURE_PREDICTION_PROMPT, output=printed, futures=futures,
            reference=(STOPS if number % 3 else LEAVES,),
            outcome_kind="block" if number % 3 else "leave", outcome_seconds=1.5,
            true_futures=(TrueFuture(STOPS, 2 / 3, 1.5), TrueFuture(LEAVES, 1 / 3)),
        )
        for number in range(num_videos)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "evaluation"
    for number, control in enumerate((*LESS_AND_LESS, "validation")):
        split = "val" if control == "validation" else "test"
        top = 0.9 if control == "validation" else 0.9 - 0.1 * number
        write_predictions(folder / f"predictions-{control}.jsonl", rows(split, top))
    majority = [BenchmarkPrediction(**{**vars(row), "futures": ()}) for row in rows("test", 0.5)]
    write_predictions(folder / "predictions-majority.jsonl", majority)
    assert program.main(["--from", str(folder.parent)]) == 0
    return folder


def table(folder: Path, title: str) -> list[list[str]]:
    """The cells of the table whose title begins so, the header first."""
    lines = (folder / "tables.md").read_text().split(f"**causal_vid_instruct: {title}")[1]
    body = lines.split("\n\n")[1].splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in body
        if "---" not in line
    ]


def test_rows_come_from_what_sees_most_to_what_sees_least(folder: Path) -> None:
    names = [ROW_NAMES[control] for control in LESS_AND_LESS]
    assert names == ["full model", "first half", "single frame", "blind (no visual tokens)"]
    printed = table(folder, "top-1 hit in %")
    assert [line[0] for line in printed[1:]] == [*names, MAJORITY]
    assert [name.split(" (")[0] for name in printed[0][1:6]] == [
        "all", "top-1 hit", "any-of-3 hit", "block", "leave"
    ]  # fmt: skip
    assert [cell.split(" ")[0] for cell in printed[1][1:6]] == [
        "66.7",
        "66.7",
        "100.0",
        "100.0",
        "0.0",
    ]
    computed = table(folder, "computed top-1 hit in %")
    assert [line[1].split(" ")[0] for line in computed[1:]] == ["66.7"] * 4 + ["n/a"]
    evidence = table(folder, "mean probability of the most probable event at the fitted")
    assert [line[0] for line in evidence[1:]] == names
    assert all(float(line[2].split(" ")[0]) > 0 for line in evidence[1:-1])
    assert evidence[-1][2] == "-"


def test_numbers_of_computed_probabilities(folder: Path) -> None:
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    calibration = metrics["calibration"]
    printed = calibration["causal_vid_instruct: printed confidence of predicted events"]
    assert printed["scores"]["as it is"]["num_answers"] == 90
    computed = calibration["causal_vid_instruct: computed probability of the next event"]
    assert computed["temperature"]["num_questions"] == 45
    # 0.9 comes true in two of three: ln 9 / T = ln 2.
    assert computed["temperature"]["temperature"] == pytest.approx(math.log(9) / math.log(2))
    before, after = computed["scores"].values()
    assert before["ece"] == pytest.approx(0.9 - 2 / 3)
    assert after["ece"] == pytest.approx(0, abs=1e-9)
    section = metrics["next_events"]["causal_vid_instruct"]
    distances = {name: one["total_variation"] for name, one in section["distributions"].items()}
    assert distances["full model, as it is"] == pytest.approx(0.9 - 2 / 3)
    assert distances["full model, at the fitted temperature"] == pytest.approx(0, abs=1e-9)
    assert section["distributions"]["full model, as it is"]["seconds_error"] == pytest.approx(0.5)
    # Of 45 validation videos, a third leaves: both events have to be in a set.
    assert section["conformal_sets"]["full model"]["with_top_size"] == 2
    assert section["conformal_sets"]["full model"]["with_top_coverage"] == 1
