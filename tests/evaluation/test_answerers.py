"""Systems other than our reasoner under a benchmark: what they cannot do is n/a, and never zero."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vidreason.evaluation.answerer import Answerer, Reply
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.predictions.row_files import read_predictions, write_predictions
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.provenance import Provenance
from vidreason.evaluation.scoreboard import score_runs
from vidreason.example import Example
from vidreason.reasoning.predictions import Prediction, format_predictions
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT
from vidreason.video.failures import UnreadableVideosError, VideoReadError

EXAMPLES = [
    *(
        Example(
            id=f"nextqa:test:{n}", corpus="nextqa", media=f"{n}.mp4", video_id=str(n),
            prompt="which", response="x", options=("x", "y"), answer_index=n % 2,
            question_type="CW",
        )
        for n in range(4)
    ),
    *(
        Example(
            id=f"causal_vid_instruct:test:{n}", corpus="causal_vid_instruct", media=f"{n}.mp4",
            video_id=str(n), prompt=FUTURE_PREDICTION_PROMPT, response="it falls",
            answers=("it falls",), question_type="prediction",
        )
        for n in range(2)
    ),
    *(
        Example(
            id=f"clevrer:test:{n}", corpus="clevrer", media=f"{n}.mp4", video_id=str(n),
            prompt="what", response="red", answers=("red",), question_type="descriptive",
        )
        for n in range(2)
    ),
    Example(
        id="clevrer:test:2", corpus="clevrer", media="1.mp4", video_id="1", prompt="is it",
        response="yes", options=("yes", "no"), answer_index=0, question_type="predictive",
        group_id="2",
    ),
]  # fmt: skip


class FirstOption(Answerer):
    provenance = Provenance(model="first option")

    def choose(self, examples: Sequence[Example]) -> list[Reply]:
        return [Reply(output="(A)") for _ in examples]


class Anticipation(Answerer):
    provenance = Provenance(model="anticipation")

    def predict(self, examples: Sequence[Example]) -> list[Reply]:
        return [
            Reply(output=format_predictions([Prediction("It falls.", "", 0.8)])) for _ in examples
        ]


class Everything(FirstOption):
    def __init__(self, unreadable: str = "") -> None:
        self.unreadable = unreadable
        self.calls: list[tuple[str, int]] = []

    def answer(self, examples: Sequence[Example]) -> list[Reply]:
        self.calls.append(("answer", len(examples)))
        return [
            Reply(error=VideoReadError(one.media, "missing"))
            if one.media == self.unreadable
            else Reply(output="red")
            for one in examples
        ]

    predict = answer

    def log_likelihoods(self, examples: Sequence[Example]) -> list[Reply]:
        self.calls.append(("log_likelihoods", len(examples)))
        return [Reply(log_likelihoods=(-2.0, -1.0), token_counts=(1, 1)) for _ in examples]


def rows_of(answerer: Answerer, **config: object) -> list[BenchmarkPrediction]:
    settings = EvaluationConfig(**{"batch_size": 4, **config})  # type: ignore[arg-type]
    return evaluate_examples(answerer, EXAMPLES, settings)


def test_a_capability_is_a_method_of_ones_own() -> None:
    assert FirstOption().capabilities == {"choose"}
    assert Anticipation().capabilities == {"predict"}
    assert Everything().capabilities == {"choose", "answer", "predict", "log_likelihoods"}
    with pytest.raises(TypeError, match="FirstOption cannot answer"):
        FirstOption().answer([])


def test_options_are_scored_by_those_that_can_and_the_setting_says_so() -> None:
    scored, chosen = rows_of(Everything()), rows_of(Everything(), multiple_choice="generate")
    assert scored[0].option_log_likelihoods == (-2.0, -1.0)
    assert (scored[0].parsed, chosen[0].parsed) == (1, 0)
    assert rows_of(FirstOption())[0].output == "(A)"


def test_one_function_is_called_once_a_batch_whatever_its_names() -> None:
    everything = Everything()
    rows_of(everything)
    # Predictions and open questions in one batch, and two batches of options.
    assert sorted(everything.calls) == [("answer", 4), *[("log_likelihoods", n) for n in (1, 4)]]


def test_what_a_system_cannot_do_is_not_applicable() -> None:
    runs = {"all": rows_of(Everything()), "first": rows_of(FirstOption())}
    runs["events"] = rows_of(Anticipation())
    missing = {row.id: row.missing_capability for row in runs["events"]}
    assert missing["nextqa:test:0"] == "choose"
    assert missing["clevrer:test:0"] == "answer"
    assert missing["causal_vid_instruct:test:0"] == ""
    board = score_runs(runs, EvaluationConfig(), full="all")
    by_run = {
        table.title.split(",")[0]: {row[0]: row for row in table.rows} for table in board.tables
    }
    assert by_run["nextqa: accuracy in %"]["first"][1].startswith("50.0 [")
    assert by_run["nextqa: accuracy in %"]["events"][1:] == ("n/a", "n/a", "n/a", "-")
    assert by_run["causal_vid_instruct: top-1 hit in %"]["events"][1].startswith("100.0 [")
    # Some of CLEVRER's questions have options: of all, nothing is said.
    clevrer = by_run["clevrer: accuracy in %"]["first"]
    assert clevrer[1] == "n/a"
    assert "100.0 [-]" in clevrer
    # Neither a difference nor a row of numbers is made of what is not there.
    assert {(d["corpus"], d["minus"]) for d in board.metrics["differences"]} == {
        ("nextqa", "first"),
        ("causal_vid_instruct", "events"),
    }
    assert {row["corpus"] for row in board.metrics["runs"]["events"]} == {"causal_vid_instruct"}


def test_what_was_not_applicable_is_kept(tmp_path: Path) -> None:
    rows = rows_of(Anticipation())
    write_predictions(tmp_path / "p.jsonl", rows)
    assert read_predictions(tmp_path / "p.jsonl") == rows
    text = (tmp_path / "p.jsonl").read_text()
    assert text.count("missing_capability") == sum(bool(row.missing_capability) for row in rows)


def test_videos_that_a_system_cannot_read_are_wrong_within_the_budget() -> None:
    rows = rows_of(Everything("1.mp4"), max_unreadable_fraction=0.5)
    errors = {row.id for row in rows if row.error}
    assert errors == {"causal_vid_instruct:test:1", "clevrer:test:1"}
    assert not any(row.correct for row in rows if row.error)
    with pytest.raises(UnreadableVideosError, match="2 of 4"):
        rows_of(Everything("1.mp4"))


def test_replies_must_be_as_many_as_questions() -> None:
    class Short(FirstOption):
        def choose(self, examples: Sequence[Example]) -> list[Reply]:
            return super().choose(examples[1:])

    with pytest.raises(ValueError, match="zip"):
        evaluate_examples(Short(), [replace(EXAMPLES[0])], EvaluationConfig())
