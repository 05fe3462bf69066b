"""Tokens of a run's questions, in the tables and the metrics of its scores."""

from dataclasses import replace
from pathlib import Path

from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.predictions.row_files import read_predictions, write_predictions
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.scoreboard import Scoreboard, score_runs

ROW = BenchmarkPrediction(
    id="nextqa:test:0",
    corpus="nextqa",
    video_id="v",
    options=("a", "b"),
    output="(A)",
    reference=0,
    num_prompt_tokens=40,
    num_visual_tokens=1568,
    num_generated_tokens=3,
)


def rows(*changes: dict[str, object]) -> list[BenchmarkPrediction]:
    return [
        replace(ROW, id=f"nextqa:test:{n}", video_id=str(n), **change)  # type: ignore[arg-type]
        for n, change in enumerate(changes)
    ]


def score(**runs: list[BenchmarkPrediction]) -> Scoreboard:
    return score_runs(runs, EvaluationConfig(), full="full")


def test_mean_numbers_of_tokens_stand_beside_the_accuracy() -> None:
    blind: dict[str, object] = {"num_visual_tokens": 0, "num_prompt_tokens": 20}
    mute: dict[str, object] = {"missing_capability": "choose", "num_visual_tokens": 0}
    board = score(
        full=rows({}, {"num_visual_tokens": 1569}, {"error": "gone", "num_visual_tokens": 0}),
        blind=rows(*[blind] * 3),
        mute=rows(*[mute] * 3),
    )
    titles = [table.title for table in board.tables]
    table = board.tables[titles.index("nextqa: tokens per question, mean")]
    assert titles.index(table.title) > next(n for n, t in enumerate(titles) if "accuracy" in t)
    assert table.header == ("run", "of the video", "of the prompt", "generated")
    # Unreadable videos and questions without an answer are not counted.
    assert table.rows == (
        ("full", "1569", "40", "3"),
        ("blind", "0", "20", "3"),
        ("mute", "-", "-", "-"),
    )
    assert board.metrics["tokens"]["nextqa"]["blind"] == {
        "num_visual_tokens": 0,
        "num_prompt_tokens": 20,
        "num_generated_tokens": 3,
    }
    assert "1569" in board.to_text()


def test_runs_that_do_not_say_have_no_such_table(tmp_path: Path) -> None:
    """So do rows that were kept before the number was."""
    path = tmp_path / "predictions.jsonl"
    write_predictions(path, rows({"num_visual_tokens": 0}, {"num_visual_tokens": 0}))
    lines = path.read_text()
    assert '"num_visual_tokens": 0, ' in lines
    path.write_text(lines.replace('"num_visual_tokens": 0, ', ""))
    board = score(full=read_predictions(path))
    assert not [table.title for table in board.tables if "tokens" in table.title]
    assert "tokens" not in board.metrics


def test_numbers_beyond_all_floats_are_shown() -> None:
    board = score(full=rows({"num_visual_tokens": 10**400}, {"num_visual_tokens": 10**400}))
    assert board.metrics["tokens"]["nextqa"]["full"]["num_visual_tokens"] == 10**400
