"""Predictions on disk: a score from the file is the score of the run."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from vidreason.evaluation.cells import score_predictions
from vidreason.evaluation.items import chance_scores
from vidreason.evaluation.predictions.row_files import read_predictions, write_predictions
from vidreason.evaluation.predictions.rows import (
    BenchmarkPrediction,
    checked_futures,
    grade,
    unanswered,
)
from vidreason.example import Example
from vidreason.reasoning.futures import Future
from vidreason.reasoning.outcomes import Outcome, TrueFuture, outcome_meta

OPEN = BenchmarkPrediction(
    id="activitynet_qa:val:q1",
    corpus="activitynet_qa",
    video_id="v1",
    question_type="3",
    prompt="is it \u00e9t\u00e9? Answer briefly.",
    output="Yes.\nIt is.",
    reference=("yes", "Yeah"),
)
CHOICE = BenchmarkPrediction(
    id="nextqa:val:1_2",
    corpus="nextqa",
    video_id="1",
    question_type="CW",
    prompt="why\n(A) x\n(B) y",
    options=("x", "y"),
    option_log_likelihoods=(-1.25, -1.0),
    option_token_counts=(2, 3),
    reference=1,
)


def test_round_trip_is_exact(tmp_path: Path) -> None:
    rows = [grade(OPEN), grade(CHOICE), grade(replace(OPEN, id="x", error="cannot read video"))]
    path = tmp_path / "new/predictions.jsonl"
    write_predictions(path, rows)
    assert read_predictions(path) == rows
    assert repr(score_predictions(read_predictions(path))) == repr(score_predictions(rows))
    assert "\u00e9t\u00e9" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["predictions.jsonl"]


def test_what_counts_as_right() -> None:
    assert (grade(OPEN).parsed, grade(OPEN).correct) == ("yes", True)
    assert grade(replace(OPEN, output="yeah!")).correct
    assert not grade(replace(OPEN, output="yes it is")).correct
    assert (grade(CHOICE).parsed, grade(CHOICE).correct) == (1, True)
    tie = grade(replace(CHOICE, option_log_likelihoods=(-1.0, -1.0)))
    assert (tie.parsed, tie.correct) == (0, False)
    written = replace(CHOICE, option_log_likelihoods=(), output="(B) y")
    assert grade(written).correct
    invalid = grade(replace(written, output="no idea"))
    assert (invalid.parsed, invalid.correct) == (None, False)
    unreadable = grade(replace(CHOICE, error="cannot read video"))
    assert (unreadable.parsed, unreadable.correct) == (None, False)
    assert grade(replace(OPEN, reference=None)).correct is None


def test_a_span_is_right_when_half_of_it_is(tmp_path: Path) -> None:
    questions = Example(
        id="g", corpus="nextgqa", media="m", video_id="v", prompt="when", response="2.0 to 8.0",
        group_id="q", spans=((2.0, 8.0), (20.0, 21.0)),
    )  # fmt: skip
    row = unanswered(questions)
    assert (row.reference, row.group_id) == (((2.0, 8.0), (20.0, 21.0)), "q")
    for output, parsed, correct in (
        ("5 to 11", (5.0, 11.0), True),
        ("from 21.5 to 19.5 s", (19.5, 21.5), True),
        ("5 to 11.1", (5.0, 11.1), False),
        ("3", None, False),
    ):
        judged = grade(replace(row, output=output))
        assert (judged.parsed, judged.correct) == (parsed, correct)
        write_predictions(tmp_path / "p.jsonl", [judged])
        assert read_predictions(tmp_path / "p.jsonl") == [judged]


def test_unanswered_takes_the_reference_from_the_example() -> None:
    questions = Example(
        id="i", corpus="c", media="m", video_id="v", prompt="p", response="y", options=("x", "y"),
        answer_index=1, answers=("y",),
    )  # fmt: skip
    assert unanswered(questions).reference == 1
    assert unanswered(replace(questions, options=())).reference == ("y",)
    assert unanswered(replace(questions, answer_index=None)).reference is None
    assert unanswered(replace(questions, options=(), answers=())).reference is None


def test_what_says_nothing_is_invalid() -> None:
    for output in ("", "...", "<think>yes", "**"):
        empty = grade(replace(OPEN, output=output))
        assert (empty.parsed, empty.correct) == (None, False)
    assert score_predictions([replace(OPEN, output="")])[0].num_invalid == 1
    for value in (float("nan"), float("inf"), float("-inf")):
        for scores in ((value, -1.0), (-1.0, value), (value, value)):
            broken = grade(replace(CHOICE, option_log_likelihoods=scores))
            assert (broken.parsed, broken.correct) == (None, False)
            assert score_predictions([broken])[0].num_invalid == 1


def test_either_of_two_options_with_one_text_is_right() -> None:
    twins = replace(CHOICE, options=("x", "Happy ", "sad", "happy"), option_log_likelihoods=())
    for reference in (1, 3):
        for letter, correct in (("A", False), ("B", True), ("C", False), ("D", True)):
            assert grade(replace(twins, reference=reference, output=letter)).correct is correct
        assert grade(replace(twins, reference=reference, output="happy")).correct
        scored = replace(twins, reference=reference, option_log_likelihoods=(-3.0, -1, -2, -1))
        assert grade(scored).correct
    assert not grade(replace(twins, reference=0, output="B")).correct
    assert chance_scores([replace(twins, reference=3)])["nextqa", "all"] == 0.5
    assert chance_scores([replace(twins, reference=0)])["nextqa", "all"] == 0.25


def test_accepted_answers_without_a_word_are_left_out() -> None:
    questions = Example(
        id="i", corpus="c", media="m", video_id="v", prompt="p", response=".", answers=(".", "yes"),
    )  # fmt: skip
    assert unanswered(questions).reference == ("yes",)
    hidden = unanswered(replace(questions, answers=(".",)))
    assert (hidden.reference, hidden.reference_texts) == (None, ())


FUTURES = (
    Future("The ball leaves.", -0.25, 0.75, "it moves", 1.5),
    Future("nothing moves", -2.0, 0.25),
)


def test_computed_futures_are_kept(tmp_path: Path) -> None:
    rows = [replace(OPEN, futures=FUTURES), replace(CHOICE, futures=())]
    write_predictions(tmp_path / "p.jsonl", rows)
    assert read_predictions(tmp_path / "p.jsonl") == list(map(grade, rows))
    first, second = map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines())
    assert first["futures"][0] == {
        "event": "The ball leaves.", "log_likelihood": -0.25, "probability": 0.75,
        "justification": "it moves", "seconds": 1.5,
    }  # fmt: skip
    assert "futures" not in second


def test_what_came_next_is_kept(tmp_path: Path) -> None:
    true = (TrueFuture("it leaves", 0.75, 1.25), TrueFuture("nothing moves", 0.25))
    question = Example(
        id="i", corpus="c", media="m", video_id="v", prompt="p", response="it leaves",
        answers=("it leaves",), meta=outcome_meta(Outcome("it leaves", "leave", 1.0), true),
    )  # fmt: skip
    row = unanswered(question)
    assert (row.reference, row.outcome_kind, row.outcome_seconds) == (("it leaves",), "leave", 1.0)
    assert row.true_futures == true
    write_predictions(tmp_path / "p.jsonl", [row, unanswered(replace(question, id="j", meta={}))])
    assert read_predictions(tmp_path / "p.jsonl")[0] == grade(row)
    fields = [set(json.loads(line)) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert fields[0] - fields[1] == {"outcome_kind", "outcome_seconds", "true_futures"}


def test_futures_of_a_reply_are_checked() -> None:
    assert checked_futures(FUTURES) == FUTURES
    # A model went wrong: there is no distribution, as there is no choice without finite scores.
    for broken in ({"log_likelihood": -math.inf}, {"probability": math.nan}):
        assert checked_futures([FUTURES[0], FUTURES[1]._replace(**broken)]) == ()
    for wrong in ({"probability": 1.5}, {"event": "..."}, {"seconds": -1.0}):
        with pytest.raises(ValueError, match=r"in a reply, futures is \[.*, expected a list"):
            checked_futures([FUTURES[0]._replace(**wrong)])
