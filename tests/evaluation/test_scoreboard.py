"""All scores of a run from its predictions: every section is there, and says what its part says."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidreason.evaluation.confidence.calibration import (
    adaptive_calibration_error,
    calibration_error,
)
from vidreason.evaluation.confidence.confidences import choice_confidences
from vidreason.evaluation.confidence.scores import confidence_scores
from vidreason.evaluation.confidence.temperature import fit_temperature
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.free_texts import free_text_scores
from vidreason.evaluation.page.items import browser_data
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, grade, unanswered
from vidreason.evaluation.protocols import PROTOCOLS
from vidreason.evaluation.scoreboard import Scoreboard, score_runs, scoring_protocols
from vidreason.evaluation.statistics.intervals import bootstrap_interval, bootstrap_statistic
from vidreason.evaluation.text.bleu import bleu_counts, bleu_of_counts
from vidreason.evaluation.text.cider import cider_d
from vidreason.evaluation.text.ptb_tokenizer import ptb_tokens
from vidreason.evaluation.text.rouge import rouge_l
from vidreason.example import Example
from vidreason.reasoning.predictions import Prediction, format_predictions
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT

NUM_VIDEOS = 12
FULL, BLIND = "full model", "blind"
TEXTS = ("the red ball pushes the cube", "a cube leaves and the ball stops", "nothing moves here")


def choices(seed: int, certainty: float, split: str = "test") -> list[BenchmarkPrediction]:
    """Right more often than not, and ``certainty`` times as sure as that is worth."""
    rng = np.random.default_rng(seed)
    rows = []
    for video in range(NUM_VIDEOS):
        for question in range(3):
            scores = rng.normal(size=4)
            odds = np.exp(scores) / np.exp(scores).sum()
            rows.append(
                BenchmarkPrediction(
                    id=f"nextqa:{split}:{video}_{question}",
                    corpus="nextqa",
                    video_id=f"{split}{video}",
                    question_type="CW",
                    options=tuple("abcd"),
                    option_log_likelihoods=tuple((scores * certainty).tolist()),
                    option_token_counts=(1,) * 4,
                    reference=int(rng.choice(4, p=odds)),
                )
            )
    return rows


def futures(confidence: float, split: str = "test") -> list[BenchmarkPrediction]:
    """Two events an answer, of which every second first one comes true; one answer is no list."""
    rows = []
    for video in range(NUM_VIDEOS):
        events = [Prediction("the ball leaves", "", confidence), Prediction("it rains", "", 0.1)]
        rows.append(
            BenchmarkPrediction(
                id=f"causal_vid_instruct:{split}:{video}:prediction",
                corpus="causal_vid_instruct",
                video_id=f"{split}{video}",
                question_type="prediction",
                prompt=FUTURE_PREDICTION_PROMPT,
                output=format_predictions(events) if video else "who knows",
                reference=("The ball leaves." if video % 2 else "the ball stays",),
            )
        )
    return rows


def explanations(offset: int = 0) -> list[BenchmarkPrediction]:
    return [
        BenchmarkPrediction(
            id=f"causal_vid_instruct:test:{video}:explanation",
            corpus="causal_vid_instruct",
            video_id=f"test{video}",
            question_type="explanation",
            output=TEXTS[(video + offset * (video % 2)) % 3],
            reference_texts=(TEXTS[video % 3],),
        )
        for video in range(NUM_VIDEOS)
    ]


@pytest.fixture(scope="module")
def board() -> Scoreboard:
    runs = {
        FULL: [*choices(0, 3.0), *futures(0.9), *explanations()],
        BLIND: [*choices(1, 1.0), *futures(0.5), *explanations(offset=1)],
    }
    # One video's questions have the references of the full run.
    reference = {row.id: row.reference for row in runs[FULL]}
    runs[BLIND] = [replace(row, reference=reference[row.id]) for row in runs[BLIND]]
    validation = [*choices(2, 3.0, "val"), *futures(0.8, "val")]
    return score_runs(runs, EvaluationConfig(), full=FULL, validation=validation)


def test_tables_come_in_order_and_name_what_they_show(board: Scoreboard) -> None:
    titles = [table.title for table in board.tables]
    assert [title.split(",")[0] for title in titles] == [
        "nextqa: accuracy in %",
        "nextqa: paired difference in accuracy in points",
        "causal_vid_instruct: top-1 hit in %",
        "causal_vid_instruct: paired difference in top-1 hit in points",
        "causal_vid_instruct explanation: step F1 in %",
        "causal_vid_instruct: paired difference in step F1 in points",
        "nextqa: confidence of choices",
        "nextqa: confidence of choices",
        "causal_vid_instruct: printed confidence of predicted events",
        "causal_vid_instruct: printed confidence of predicted events",
        "causal_vid_instruct explanation: free answers beside their references",
    ]
    num_videos = [
        12,
        12,
        12,
        12,
        12,
        12,
        12,
        12,
        11,
        11,
        12,
    ]  # of one video, no event could be read
    assert all(
        f"95% interval over {number} videos" in title
        for title, number in zip(titles, num_videos, strict=True)
    )
    # A page of 1280 pixels shows eight columns, or so, with their intervals.
    assert max(len(table.header) for table in board.tables) <= 8
    assert all(table.title in board.to_text() for table in board.tables)
    assert all(f"**{table.title}**" in board.to_markdown() for table in board.tables)
    assert [row[0] for row in board.tables[0].rows] == [FULL, BLIND, "chance"]
    assert board.tables[0].rows[2][1] == "25.0"


def test_metrics_are_json_and_hold_each_section(board: Scoreboard) -> None:
    metrics: dict[str, Any] = json.loads(json.dumps(board.metrics, allow_nan=False))
    assert list(metrics) == [
        *("runs", "differences", "calibration", "next_events", "texts", "incomplete", "notes")
    ]
    assert metrics["next_events"] == {}  # no run computes any
    assert list(metrics["runs"]) == [FULL, BLIND]
    (choice, event, step) = metrics["differences"]
    assert (choice["run"], choice["minus"], choice["num_questions"]) == (FULL, BLIND, 36)
    assert choice["low"] <= choice["difference"] <= choice["high"]
    assert 0 < choice["p_value"] <= choice["p_value_holm"] <= 1
    assert choice["p_is_exact"]
    assert event["difference"] == 0
    assert event["p_value"] == 1
    # Every second video has the text of another one in the blind run, of which none is the same.
    assert (step["measure"], step["num_questions"], step["difference"]) == ("step F1", 12, 0.5)


def test_calibration_of_choices_is_that_of_its_parts(board: Scoreboard) -> None:
    rows, validation = choices(0, 3.0), choices(2, 3.0, "val")
    section = board.metrics["calibration"]["nextqa: confidence of choices"]
    held_out = choice_confidences(validation)
    fit = fit_temperature(held_out.logits, held_out.outcomes)
    assert section["temperature"]["temperature"] == fit.temperature
    assert section["temperature"]["num_questions"] == 36
    assert 1.5 < fit.temperature < 6  # the scores are three times too sure
    before, after = section["scores"]["as it is"], section["scores"]["at the fitted temperature"]
    confidences = choice_confidences(rows)
    pair = (confidences.values, confidences.correct)
    assert before["ece"] == calibration_error(*pair).expected
    assert before["ece_left"] == calibration_error(*pair, closed="left").expected
    assert before["ece_adaptive"] == adaptive_calibration_error(*pair).expected
    assert before["ece_low"] <= before["ece"]
    assert after["accuracy"] == before["accuracy"]
    assert after["ece"] < before["ece"]
    assert after["nll"] < before["nll"]
    assert sum(one["num_answers"] for one in before["bins"]) == before["num_answers"] == 36
    assert before["risk_at_coverage"]["1.0"] == pytest.approx(1 - before["accuracy"])


def test_calibration_of_printed_confidences_counts_what_has_none(board: Scoreboard) -> None:
    name = "causal_vid_instruct: printed confidence of predicted events"
    section = board.metrics["calibration"][name]
    before = section["scores"]["as it is"]
    assert (before["num_answers"], before["num_without"]) == (22, 1)  # 11 answers of 2 events
    assert before["accuracy"] == pytest.approx(6 / 22)
    assert before["brier"] == pytest.approx((6 * 0.1**2 + 5 * 0.9**2 + 11 * 0.1**2) / 22)
    assert section["temperature"]["num_questions"] == 22


def test_a_temperature_is_never_fitted_on_what_it_is_judged_by() -> None:
    rows = choices(0, 3.0)
    result = score_runs({FULL: rows}, EvaluationConfig(), full=FULL, validation=rows)
    section = result.metrics["calibration"]["nextqa: confidence of choices"]
    assert section["temperature"] is None
    assert list(section["scores"]) == ["as it is"]


def test_no_temperature_is_fitted_on_answers_that_tell_of_none() -> None:
    validation = [row for row in choices(2, 3.0, "val") if grade(row).correct][:3]
    # All right, or each the option that is held for the least likely.
    worst = [int(np.argmin(row.option_log_likelihoods)) for row in validation]
    wrong = [replace(row, reference=one) for row, one in zip(validation, worst, strict=True)]
    runs = {FULL: choices(0, 3.0)}
    for rows in (validation, wrong):
        result = score_runs(runs, EvaluationConfig(), full=FULL, validation=rows)
        section = result.metrics["calibration"]["nextqa: confidence of choices"]
        assert section["temperature"] is None
        assert list(section["scores"]) == ["as it is"]
        (note,) = (note for note in result.metrics["notes"] if "temperature" in note)
        assert "of 3 validation answers none is wrong, or they rank no better" in note


def test_an_order_of_confidences_takes_right_and_wrong_answers() -> None:
    rows = choices(0, 3.0)
    # Each answer of the control is the option that is right elsewhere: none is right.
    wrong = [
        replace(row, reference=(int(np.argmax(row.option_log_likelihoods)) + 1) % len(row.options))
        for row in rows
    ]
    assert not any(grade(row).correct for row in wrong)
    name = "nextqa: confidence of choices"
    for runs, unranked in (({BLIND: wrong}, [BLIND]), ({FULL: rows}, [])):
        result = score_runs(runs, EvaluationConfig(), full=FULL)
        of_runs = result.metrics["calibration"][name]
        scores = of_runs["other_runs"][BLIND] if unranked else of_runs["scores"]
        assert (scores["as it is"]["auroc"] is None) == bool(unranked)
        notes = [note for note in result.metrics["notes"] if "AUROC" in note]
        assert len(notes) == len(unranked)
        assert all(f"AUROC n/a of {BLIND}, because all answers" in note for note in notes)
        assert "nan" not in result.to_markdown()
        json.dumps(result.metrics, allow_nan=False)


def test_free_texts_are_scored_as_one_corpus_with_intervals(board: Scoreboard) -> None:
    (row,) = board.metrics["texts"][BLIND]
    blind = explanations(offset=1)
    texts = [ptb_tokens(one.output) for one in blind]
    references = [[ptb_tokens(text) for text in one.reference_texts] for one in blind]
    bleu = bleu_of_counts(bleu_counts(texts, references))
    assert [row[f"bleu_{n}"] for n in (1, 2, 3, 4)] == pytest.approx(list(bleu))
    assert row["rouge_l"] == pytest.approx(np.mean(rouge_l(texts, references)))
    assert row["cider_d"] == pytest.approx(np.mean(cider_d(texts, references)))
    for name in ("bleu_4", "rouge_l", "cider_d"):
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    (perfect,) = board.metrics["texts"][FULL]
    assert perfect["rouge_l"] == 1
    assert (perfect["num_texts"], perfect["num_empty"]) == (12, 0)


def test_an_unreadable_video_has_an_empty_text() -> None:
    rows = explanations()
    rows[0] = replace(rows[0], error="cannot read")
    (scores,) = free_text_scores(rows)
    assert scores["num_empty"] == 1
    assert scores["rouge_l"].mean == pytest.approx(11 / 12)


def test_only_free_answers_have_reference_texts() -> None:
    def row(**values: Any) -> BenchmarkPrediction:
        fields: dict[str, Any] = dict(id="i", corpus="c", media="m", video_id="v", prompt="p")
        return unanswered(Example(**(fields | values)))

    assert row(response="It fell.").reference_texts == ("It fell.",)
    assert row(response="").reference_texts == ()
    assert row(response="yes", answers=("yes",)).reference_texts == ()
    assert row(response="a", options=("a", "b")).reference_texts == ()
    assert row(response="1 to 2", spans=((1.0, 2.0),)).reference_texts == ()


def test_scores_without_wordnet_say_so(tmp_path: Path) -> None:
    row = BenchmarkPrediction(
        id="nextqa_open_ended:val:1", corpus="nextqa_open_ended", video_id="1", output="a dog",
        reference=("dog",),
    )  # fmt: skip
    result = score_runs({FULL: [row]}, EvaluationConfig(), full=FULL)
    note, few = result.metrics["notes"]
    assert few == (
        "nextqa_open_ended: of one video there is no interval, and p is 1 whatever the runs answer"
    )
    assert note in result.to_text()
    assert "scored by exact match, because evaluation.wordnet is not set" in note
    assert scoring_protocols(EvaluationConfig()) is PROTOCOLS
    with pytest.raises(ValueError, match="no WordNet in"):
        scoring_protocols(EvaluationConfig(wordnet=str(tmp_path)))
    with pytest.raises(ValueError, match="stop_words: no file"):
        scoring_protocols(EvaluationConfig(wordnet=str(tmp_path), stop_words="nowhere.txt"))
    with pytest.raises(ValueError, match="there is no folder"):
        score_runs({FULL: [row]}, EvaluationConfig(bertscore_model="nowhere"), full=FULL)


def test_likelihoods_that_are_not_finite_are_invalid_everywhere() -> None:
    rows = choices(0, 3.0)
    whole = confidence_scores(choice_confidences(rows[2:]))
    for number, value in enumerate((math.nan, -math.inf)):
        scores = (*rows[number].option_log_likelihoods[:3], value)
        rows[number] = replace(rows[number], option_log_likelihoods=scores)
    result = score_runs({FULL: rows}, EvaluationConfig(), full=FULL, validation=rows)
    json.dumps(result.metrics, allow_nan=False)
    assert result.metrics["runs"][FULL][0]["num_invalid"] == 2
    assert result.tables[0].rows[0][-1] == "2"
    assert confidence_scores(choice_confidences(rows)) == whole | {"num_without": 2}
    (note,) = (note for note in result.metrics["notes"] if "finite" in note)
    assert note == (
        "full model: 2 questions have likelihoods that are not finite, and count as invalid: "
        "nextqa:test:0_0, nextqa:test:0_1"
    )
    data = browser_data({FULL: rows}, pictures=None, num_pictured=0)
    assert [item["answers"][0]["verdict"] for item in data["items"]][:2] == ["invalid"] * 2
    json.dumps(data, allow_nan=False)
    broken = [replace(row, option_log_likelihoods=(math.nan,) * 4) for row in rows]
    nothing = score_runs({FULL: broken}, EvaluationConfig(), full=FULL, validation=broken)
    assert nothing.metrics["calibration"] == {}
    assert "(nextqa:test:0_0" not in nothing.metrics["notes"][0]
    assert nothing.metrics["notes"][0].endswith("and 26 more")


def test_options_with_one_text_are_reported() -> None:
    rows = choices(0, 3.0)[:4]
    rows[1] = replace(rows[1], options=("a", "b", "c", "C"), reference=2)
    rows[2] = replace(rows[2], options=("a", "a", "c", "d"), reference=2)
    result = score_runs({FULL: rows}, EvaluationConfig(), full=FULL)
    assert result.metrics["notes"][0] == (
        "nextqa: 2 questions offer the same text twice (nextqa:test:0_1, nextqa:test:0_2), of "
        "which 1 as the right answer: either option counts as right there"
    )
    scores = choice_confidences([rows[1]])
    shares = np.exp(rows[1].option_log_likelihoods)
    both = shares[2:].sum() / shares.sum()
    expected = both if scores.correct[0] else shares.max() / shares.sum()
    assert scores.values == (pytest.approx(expected),)
    assert scores.nlls == (pytest.approx(-np.log(both)),)
    assert len(choice_confidences(rows).logits) == 3  # no score is the right one's alone


def test_one_video_has_numbers_without_bounds() -> None:
    rows = [replace(row, video_id="1") for row in choices(0, 1.0)]
    assert math.isnan(confidence_scores(choice_confidences(rows))["ece"].low)
    result = score_runs({FULL: rows}, EvaluationConfig(), full=FULL)
    json.dumps(result.metrics, allow_nan=False)


def test_the_bootstrap_of_a_statistic_is_that_of_a_mean() -> None:
    values = np.random.default_rng(0).random(90)
    videos = [str(n // 2) for n in range(90)]
    mean = bootstrap_interval(values, videos, num_resamples=500)
    result = bootstrap_statistic(lambda indices: float(values[indices].mean()), videos)
    assert result == pytest.approx(mean)
    with pytest.raises(ValueError, match="at least one item"):
        bootstrap_statistic(lambda indices: 0.0, [])
