"""Scores of computed distributions over next events, of runs that see less and less."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vidreason.evaluation.confidence.confidences import next_event_confidences
from vidreason.evaluation.confidence.temperature import TemperatureFit, fit_temperature
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.next_events.distributions import distribution_scores, truth_rows
from vidreason.evaluation.next_events.event_sets import fit_sets, set_scores
from vidreason.evaluation.next_events.evidence import evidence_falls
from vidreason.evaluation.next_events.hits import computed_hits
from vidreason.evaluation.next_events.scores import next_event_scores
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.scoreboard import Scoreboard, score_runs
from vidreason.reasoning.futures import Future
from vidreason.reasoning.outcomes import TrueFuture
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT

KINDS = ("hit", "leave", "nothing")
CORPUS = "causal_vid_instruct"
NUM_VIDEOS = 60
EVIDENCE = ("full model", "first half", "single frame", "blind")


def row(number: int, outcome: str, futures: tuple[Future, ...] = ()) -> BenchmarkPrediction:
    return BenchmarkPrediction(
        id=f"{CORPUS}:test:{number}:prediction", corpus=CORPUS, video_id=str(number),
        question_type="prediction", prompt=FUTURE_PREDICTION_PROMPT, futures=futures,
        reference=(outcome,), outcome_kind=outcome, outcome_seconds=2.0,
    )  # fmt: skip


def shares(*probabilities: float, seconds: float | None = None) -> tuple[Future, ...]:
    return tuple(
        Future(kind, math.log(share), share, seconds=seconds)
        for kind, share in zip(KINDS, probabilities, strict=False)
    )


def run(flatness: float, seed: int = 0, split: str = "test") -> list[BenchmarkPrediction]:
    """Outcomes by true distributions, which a run knows the less the flatter its own are."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(NUM_VIDEOS):
        true = generator.dirichlet([0.4] * 3) * 0.98 + 0.02 / 3
        outcome = KINDS[generator.choice(3, p=true)]
        computed = (1 - flatness) * true + flatness / 3
        futures = sorted(shares(*computed), key=lambda future: -future.probability)
        one = row(number, outcome, tuple(futures))
        truth = tuple(map(TrueFuture, KINDS, true.tolist()))
        rows.append(replace(one, id=one.id.replace("test", split), true_futures=truth))
    return rows


@pytest.fixture(scope="module")
def board() -> Scoreboard:
    runs = {name: run(0.3 * number) for number, name in enumerate(EVIDENCE)}
    runs["majority answer"] = [replace(one, futures=()) for one in runs["blind"]]
    return score_runs(
        runs,
        EvaluationConfig(),
        full="full model",
        evidence=EVIDENCE,
        validation=run(0.0, seed=1, split="val"),
    )


def test_hits_of_computed_events_by_kind() -> None:
    rows = [
        row(0, "hit", shares(0.6, 0.4)),
        row(1, "hit", shares(0.6, 0.4)[::-1]),  # the order says nothing
        row(2, "leave", shares(0.6, 0.4)),
        row(3, "leave"),
        replace(row(4, "slide", shares(0.5)), error="cannot read the video"),
    ]
    items = computed_hits(rows)
    values = {group: [item.value for item in of_group] for (_, group), of_group in items.items()}
    assert values == {
        "all": [1, 1, 0, None, None], "hit": [1, 1], "leave": [0, None], "slide": [None]
    }  # fmt: skip
    assert computed_hits([row(0, "hit")]) == {}
    # A kind with the name of the column of all counts once there.
    (column,) = computed_hits([row(0, "all", shares(0.6, 0.4))]).values()
    assert len(column) == 1


def test_hits_of_computed_events_with_their_reasons() -> None:
    def reasoned(number: int, outcome: str, why: str) -> BenchmarkPrediction:
        top, second = shares(0.6, 0.4)
        futures = (top._replace(justification=why), second._replace(justification="it is near"))
        return replace(
            row(number, outcome, futures), reference_justifications=((outcome, "It is near."),)
        )

    rows = [
        reasoned(0, "hit", "it is near"),
        reasoned(1, "hit", "it is far"),
        reasoned(2, "leave", "it is near"),  # the reason of a miss is worth nothing
        replace(reasoned(3, "leave", "it is near"), futures=()),
        row(4, "hit", shares(0.6, 0.4)),  # the reference gives no reason
        # A kind of this name is no other column.
        replace(reasoned(5, "hit", "it is near"), outcome_kind="justified hit"),
    ]
    items = computed_hits(rows)
    column = items[CORPUS, "justified hit"]
    assert {item.id.split(":")[2]: item.value for item in column} == {
        "0": 1, "1": 0, "2": 0, "3": None, "5": 1
    }  # fmt: skip
    assert list(items) == [(CORPUS, name) for name in ("all", "justified hit", "hit", "leave")]


def test_distributions_beside_outcomes_and_the_truth() -> None:
    truth = (TrueFuture("hit", 0.75, 1.0), TrueFuture("leave", 0.25))
    rows = [
        replace(row(0, "hit", shares(0.5, 0.25, seconds=1.5)), true_futures=truth),
        replace(row(1, "leave", shares(0.75, 0.25)), true_futures=truth),
        row(2, "block", shares(1.0, seconds=9.0)),
        row(3, "hit"),
    ]
    result = distribution_scores(rows, None)
    counts = (result["num_questions"], result["num_without"], result["num_videos"])
    assert counts == (3, 1, 3)
    means = {name: value.mean for name, value in result.items() if isinstance(value, tuple)}
    assert means == pytest.approx(
        {
            "hit": 1 / 3,
            "listed": 2 / 3,
            "covered": 2.75 / 3,
            "top": 2.25 / 3,
            "outcome": 0.75 / 3,
            "total_variation": (0.25 + 0) / 2,  # of the two that have a true distribution
            "seconds_error": 0.5,  # of the one that came and has a time
        }
    )
    assert result["num_events"] == pytest.approx(5 / 3)
    (first, second) = truth_rows(rows)
    assert [future.probability for future in first.futures] == [0.75, 0.25]
    assert first.futures[0].seconds == 1.0
    best = distribution_scores([first, second], None)
    assert best["total_variation"].mean == 0
    # A file of predictions may give a truth that has nothing of the probability.
    assert truth_rows([replace(rows[2], true_futures=(TrueFuture("hit", 0.0),))]) == []
    without = distribution_scores(rows[2:3], None)
    assert (without["total_variation"], without["seconds_error"]) == (None, None)


def test_sets_of_a_run_and_their_fit() -> None:
    validation = [row(n, "hit", shares(0.6, 0.3, 0.1)) for n in range(80)]
    validation += [row(n, "leave", shares(0.6, 0.3, 0.1)) for n in range(80, 100)]
    fits = fit_sets([*validation, row(100, "hit")])
    assert [fit.num_questions for fit in fits.values()] == [100, 100]
    # 80 of 100 are at the top: for 90, the event below has to be in.
    assert fits["with_top"].quantile == 0.6
    tested = [row(n, "hit", shares(0.6, 0.3, 0.1)) for n in range(200, 240)]
    tested += [row(n, "slide", shares(0.4, 0.3, 0.2)) for n in range(240, 250)]
    scores = set_scores([*tested, row(250, "hit")], fits)
    assert scores["num_questions"] == 50
    assert scores["with_top_coverage"].mean == 0.8
    assert scores["with_top_size"].mean == pytest.approx((40 * 2 + 10 * 2) / 50)
    assert scores["with_top_empty"] == 0
    # Too many outcomes that are not named: a set holds everything, other events as one.
    unnamed = fit_sets([row(n, "slide", shares(0.6)) for n in range(30)])
    everything = set_scores(tested, unnamed)
    assert everything["drawn_coverage"].mean == 1
    assert everything["drawn_size"].mean == 4
    assert fit_sets([row(0, "hit")]) == {}
    # Of eight answers a set would hold everything, however good they are.
    few = [row(n, "hit", shares(0.6, 0.3, 0.1)) for n in range(9)]
    assert fit_sets(few[:8]) == {}
    assert fit_sets(few)["with_top"].quantile < math.inf
    for size, notes in ((0, 0), (8, 1), (9, 0)):
        of_corpus = next_event_scores({"full": tested}, full="full", validation=few[:size])[
            "causal_vid_instruct"
        ]
        assert len(of_corpus.notes) == notes
        assert bool(of_corpus.metrics["conformal_sets"]) == (size == 9)


def test_sets_cover_like_videos_as_promised() -> None:
    validation = [one for seed in range(1, 9) for one in run(0.5, seed, f"val{seed}")]
    tested = [one for seed in range(10, 18) for one in run(0.5, seed, f"test{seed}")]
    scores = set_scores(tested, fit_sets(validation))
    assert 0.84 < scores["drawn_coverage"].mean < 0.96
    assert scores["with_top_coverage"].mean > 0.84
    assert scores["with_top_empty"] == 0


def test_evidence_is_paired_over_the_questions_of_all_runs() -> None:
    runs = {
        "full": [row(n, "hit", shares(0.9, 0.1)) for n in range(50)],
        "half": [row(n, "hit", shares(0.7 - 0.1 * (n % 2), 0.1)) for n in range(50)],
        "none": [row(n, "hit") for n in range(50)],
        "blind": [row(n, "hit", shares(0.4)) for n in range(1, 50)],
    }
    result = evidence_falls(runs, None)
    assert {name: record.get("next") for name, record in result.items()} == {
        "full": "half", "half": "blind", "none": None, "blind": None
    }  # fmt: skip
    assert result["none"] == {}
    assert result["full"]["num_questions"] == 49
    assert result["full"]["fall"].mean == pytest.approx(0.9 - (0.6 * 25 + 0.7 * 24) / 49)
    assert result["half"]["fall"].low > 0.2
    warmest = TemperatureFit(temperature=1e6, nll_before=0.0, nll_after=0.0, num_questions=1)
    warm = evidence_falls({"full": runs["full"]}, warmest)
    assert warm["full"]["top"].mean == pytest.approx(1 / 2, abs=1e-4)
    assert evidence_falls({"none": runs["none"]}, None) == {"none": {}}
    assert evidence_falls({}, None) == {}


def test_all_runs_have_all_tables(board: Scoreboard) -> None:
    titles = [table.title.split(",")[0] for table in board.tables]
    assert titles == [
        "causal_vid_instruct: top-1 hit in %",
        "causal_vid_instruct: paired difference in top-1 hit in points",
        *["causal_vid_instruct: computed probability of the next event"] * 2,
        "causal_vid_instruct: computed top-1 hit in %",
        "causal_vid_instruct: paired difference in computed top-1 hit in points",
        "causal_vid_instruct: computed distributions over next events",
        "causal_vid_instruct: sets of next events that hold the one that comes in 90%",
        "causal_vid_instruct: mean probability of the most probable event at the fitted temperature"
        " in %",
    ]
    calibrated, _, hits, _, distributions, sets, evidence = board.tables[2:]
    kinds = ("as it is", "at the fitted temperature")
    named = [f"{name}, {kind}" for name in EVIDENCE for kind in kinds]
    assert [line[0] for line in calibrated.rows] == named
    assert [line[0] for line in distributions.rows] == [*named, "true distribution"]
    assert [line[0] for line in sets.rows] == list(EVIDENCE)
    assert [line[0] for line in evidence.rows] == list(EVIDENCE)
    # What computes no events is not applicable, which is not zero.
    assert hits.header[1:5] == ("all (n=60)", *(f"{k} (n={board_size(board, k)})" for k in KINDS))
    assert [line[1] == "n/a" for line in hits.rows] == [False] * 4 + [True]


def board_size(board: Scoreboard, group: str) -> int:
    rows = board.metrics["next_events"][CORPUS]["hits"]["full model"]
    return next(one["num_questions"] for one in rows if one["group"] == group)


def test_metrics_of_computed_events(board: Scoreboard) -> None:
    metrics: dict[str, Any] = json.loads(json.dumps(board.metrics, allow_nan=False))
    section = metrics["next_events"][CORPUS]
    validation = next_event_confidences(run(0.0, seed=1, split="val"))
    fit = fit_temperature(validation.logits, validation.outcomes)
    calibration = metrics["calibration"][f"{CORPUS}: computed probability of the next event"]
    assert calibration["temperature"]["temperature"] == fit.temperature
    assert list(calibration["scores"]) == ["as it is", "at the fitted temperature"]
    assert list(calibration["other_runs"]) == list(EVIDENCE[1:])
    # Who knows less has worse proper scores, is farther from the truth and less sure.
    nlls = [calibration["scores"]["as it is"]["nll"]]
    nlls += [by_name["as it is"]["nll"] for by_name in calibration["other_runs"].values()]
    distances = [
        section["distributions"][f"{name}, as it is"]["total_variation"] for name in EVIDENCE
    ]
    assert distances[0] == pytest.approx(0, abs=1e-9)
    assert nlls == sorted(nlls)
    assert distances == sorted(distances)
    assert section["distributions"]["true distribution"]["total_variation"] < 1e-9
    assert [one["next"] for one in section["evidence"].values()] == [*EVIDENCE[1:], None]
    assert all(one["fall_low"] > 0 for one in list(section["evidence"].values())[:-1])
    assert section["conformal_fits"]["drawn"]["num_questions"] == NUM_VIDEOS
    assert section["conformal_sets"]["full model"]["drawn_coverage"] > 0.75
    assert {one["minus"] for one in section["differences"]} == set(EVIDENCE[1:])


def test_nothing_is_fitted_on_what_is_tested() -> None:
    rows = run(0.0)
    result = score_runs({"a": rows}, EvaluationConfig(), full="a", evidence=("a",), validation=rows)
    section = result.metrics["next_events"][CORPUS]
    assert section["conformal_fits"] == {}
    assert list(section["distributions"]) == ["a, as it is", "true distribution"]
    assert [table.title.split(":")[1].split(",")[0] for table in result.tables] == [
        " top-1 hit in %",
        *[" computed probability of the next event"] * 2,
        " computed top-1 hit in %",
        " computed distributions over next events",
    ]
    nothing = score_runs(
        {"a": [replace(one, futures=()) for one in rows]}, EvaluationConfig(), full="a"
    )
    assert nothing.metrics["next_events"] == {}
