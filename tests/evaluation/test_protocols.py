"""Benchmarks' own ways of counting, against the official scripts' golden values."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vidreason.evaluation.cells import Cell, run_differences, score_predictions
from vidreason.evaluation.grounding import max_iop, max_iou
from vidreason.evaluation.items import run_items
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, unanswered
from vidreason.evaluation.protocols import PROTOCOLS, wups_protocol
from vidreason.evaluation.text.wordnet import WordNet
from vidreason.evaluation.text.wups import Wups
from vidreason.example import Example
from vidreason.reasoning.outcomes import Outcome, outcome_meta
from vidreason.reasoning.predictions import Prediction, format_predictions
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT

ASSETS = Path(__file__).parents[1] / "assets"
GOLDEN: dict[str, Any] = json.loads((ASSETS / "golden/golden_metrics.json").read_text())


def choice(
    corpus: str,
    name: str,
    kind: str,
    chosen: int,
    right: int,
    group: str = "",
    options: int = 2,
) -> BenchmarkPrediction:
    return BenchmarkPrediction(
        id=name,
        corpus=corpus,
        video_id=name[:2],
        question_type=kind,
        group_id=group,
        options=tuple("abcde"[:options]),
        option_log_likelihoods=tuple(-1.0 + (index == chosen) for index in range(options)),
        reference=right,
    )


def scores(rows: list[BenchmarkPrediction]) -> dict[str, Cell]:
    return {score.group: score for score in score_predictions(rows)}


def percent(rows: list[BenchmarkPrediction]) -> dict[str, float]:
    return {group: 100 * score.score.mean for group, score in scores(rows).items()}


def test_a_type_or_kind_with_the_name_of_a_column_counts_once_in_it() -> None:
    rows = [choice("mvbench", f"q{n}", "all" if n else "counting", 0, n % 2) for n in range(4)]
    assert {group: cell.num_items for group, cell in scores(rows).items()} == {
        "all": 4,
        "counting": 1,
    }
    # Rows that count together do so alone there, too.
    rows = [choice("clevrer", f"q{n}", "all", 0, 0, group="g") for n in range(3)]
    assert scores(rows)["all"].num_items == 1


def clevrer_rows() -> list[BenchmarkPrediction]:
    rows = []
    for number, question in enumerate(GOLDEN["clevrer"]["questions"]):
        if question["type"] == "descriptive":
            row = choice("clevrer", f"q{number}", "descriptive", 0, 0)
            rows.append(
                replace(
                    row,
                    options=(),
                    option_log_likelihoods=(),
                    output=question["pred"],
                    reference=(question["gold"],),
                )
            )
            continue
        for position, (given, gold) in enumerate(
            zip(question["pred"], question["gold"], strict=True)
        ):
            answers = [int(word == "wrong") for word in (given, gold)]
            name = f"q{number}-{position}"
            rows.append(choice("clevrer", name, question["type"], *answers, group=f"q{number}"))
    return rows


def test_clevrer_per_option_and_per_question() -> None:
    result = percent(clevrer_rows())
    for kind, expected in GOLDEN["clevrer"]["expected_percent"].items():
        if kind == "descriptive":
            assert result["descriptive"] == pytest.approx(expected["per_question"])
            continue
        assert result[f"{kind} per option"] == pytest.approx(expected["per_option"])
        assert result[f"{kind} per question"] == pytest.approx(expected["per_question"])
    assert result["all"] == pytest.approx(100 * 3 / 6)  # questions, not options
    assert next(iter(result)) == "all"


def test_an_option_without_answer_spoils_its_question() -> None:
    rows = clevrer_rows()
    right = next(row for row in rows if row.question_type == "predictive")
    lost = replace(right, option_log_likelihoods=(), output="maybe")
    result = scores([lost if row is right else row for row in rows])
    per_question = result["predictive per question"]
    assert (per_question.score.mean, per_question.num_invalid) == (0.0, 1)
    assert result["predictive per option"].num_invalid == 1


def test_vcr() -> None:
    golden = GOLDEN["vcr"]
    rows = [
        choice("vcr", f"v{number}-{kind}", kind, chosen, right, f"v{number}", 4)
        for kind in ("answer", "rationale")
        for number, (chosen, right) in enumerate(
            zip(golden[f"{kind}_argmax"], golden[f"{kind}_label"], strict=True)
        )
    ]
    result = scores(rows)
    means = {group: score.score.mean for group, score in result.items()}
    assert means == {**golden["expected"], "all": golden["expected"]["Q->AR"]}
    assert (result["Q->AR"].num_items, result["Q->A"].num_items) == (4, 4)
    # A question whose rationale was not asked for (a limit cut the corpus) is in Q->A alone.
    result = scores(rows[:-1])
    assert (result["Q->AR"].num_items, result["Q->A"].num_items) == (3, 4)


def grounding_rows() -> list[BenchmarkPrediction]:
    golden = GOLDEN["temporal_grounding"]
    rows = []
    for name, (start, end) in golden["pred_ground"].items():
        answered = golden["pred_qa"][name]
        video, _, question = name.partition("_")
        spans = tuple(map(tuple, golden["gt"][video]["location"][question]))
        rows.append(
            choice("nextgqa", name, "CW", answered["prediction"], answered["answer"], name, 5)
        )
        rows.append(
            BenchmarkPrediction(
                id=f"{name}:when",
                corpus="nextgqa",
                video_id=video,
                question_type="grounding",
                group_id=name,
                output=f"{start} to {end}",
                reference=spans,
            )
        )
    return rows


def test_nextgqa() -> None:
    golden = GOLDEN["temporal_grounding"]
    for name, expected in golden["per_question"].items():
        video, _, question = name.partition("_")
        spans = [tuple(span) for span in golden["gt"][video]["location"][question]]
        predicted = tuple(golden["pred_ground"][name])
        assert max_iou(predicted, spans) == pytest.approx(expected["IoU"])
        assert max_iop(predicted, spans) == pytest.approx(expected["IoP"])
    result = percent(grounding_rows())
    for name, value in golden["summary"].items():
        assert result[name] == pytest.approx(value), name
    assert result["all"] == result["Acc@GQA"]


def test_a_span_that_is_not_named_counts_as_none() -> None:
    rows = grounding_rows()
    lost = [replace(row, output="soon") if row.reference == rows[1].reference else row
            for row in rows]  # fmt: skip
    whole, result = scores(rows), scores(lost)
    assert result["mIoU"].num_items == whole["mIoU"].num_items == 6
    assert result["mIoU"].score.mean < whole["mIoU"].score.mean
    assert (result["mIoU"].num_invalid, result["Acc@GQA"].num_invalid) == (1, 1)


def test_pairs_and_the_mean_of_categories() -> None:
    rows = [
        choice("test_of_time", "a1", "order", 0, 0, "a"),
        choice("test_of_time", "a2", "order", 0, 1, "a"),
        choice("test_of_time", "b1", "order", 1, 1, "b"),
        choice("test_of_time", "b2", "order", 0, 0, "b"),
        choice("test_of_time", "c1", "duration", 1, 0),
    ]
    result = scores(rows)
    assert list(result) == ["all", "pairs", "mean of categories", "duration", "order"]
    assert (result["pairs"].score.mean, result["pairs"].num_items) == (0.5, 2)
    assert result["all"].score.mean == pytest.approx(3 / 5)
    assert result["mean of categories"].score.mean == pytest.approx((3 / 4 + 0) / 2)


def test_a_mean_of_categories_stays_in_its_interval_and_counts_right_answers() -> None:
    # The rare category has 2 of 14 questions and half of the weight.
    rows = [
        choice("test_of_time", f"{n}v", "order" if n < 12 else "duration", 0, n % 2)
        for n in range(14)
    ]
    result = scores(rows)["mean of categories"]
    assert result.score.mean == pytest.approx(0.5)
    assert 0 <= result.score.low < 0.5 < result.score.high <= 1
    assert result.num_correct == 7
    other = [replace(row, option_log_likelihoods=(-1.0, 0.0)) for row in rows]
    column = ("test_of_time", "mean of categories")
    cell = run_differences(run_items({"a": rows, "b": other}), column, "a")["b"]
    assert cell.seed_scores == pytest.approx((0.5,))
    assert cell.difference is not None
    assert -1 <= cell.difference.low <= 0 <= cell.difference.high <= 1


def test_a_type_of_two_parts_counts_in_each() -> None:
    rows = [
        choice("tempcompass", "a1", "order/multi-choice", 0, 0),
        choice("tempcompass", "a2", "order/yes_no", 0, 1),
    ]
    result = percent(rows)
    assert result == {"all": 50.0, "order": 50.0, "multi-choice": 100.0, "yes_no": 0.0}


def test_open_ended_nextqa_by_wups() -> None:
    wups = Wups(WordNet(ASSETS / "wordnet_subset"))
    stop_words = frozenset({"the", "a"})
    answers = [
        ("CW", "The dog.", ("dog", "cat")),
        ("TN", "cat", ("the dog", "zebra crossing")),
        ("DB", "yes", ("yes",)),
        ("DC", "dog", ("cat",)),
    ]
    rows = [
        BenchmarkPrediction(
            id=f"o{number}",
            corpus="nextqa_open_ended",
            video_id="v",
            question_type=kind,
            output=output,
            reference=reference,
        )
        for number, (kind, output, reference) in enumerate(answers)
    ]
    rows.append(replace(rows[0], id="lost", error="cannot read video"))
    protocols = PROTOCOLS | {"nextqa_open_ended": wups_protocol(wups, stop_words)}
    result = {score.group: score for score in score_predictions(rows, protocols=protocols)}
    related = wups.score(["cat"], ["dog"])
    assert 0 < related < 1
    values = {group: score.score.mean for group, score in result.items()}
    assert values["T"] == related
    assert (values["C"], values["DB"], values["DC"], values["D"]) == (0.5, 1.0, 0.0, 0.5)
    assert values["all"] == pytest.approx((1 + related + 1 + 0 + 0) / 5)
    assert (result["all"].measure, result["all"].num_invalid) == ("WUPS", 1)
    # Counts and yes or no are compared as lemmas without stop words, both sides, and exactly.
    for kind, output, reference, value in (
        ("DB", "Yes, the yes", ("yes yes",), 1.0),
        ("DB", "the yes", ("yes",), 1.0),
        ("DB", "yes dog", ("yes",), 0.0),
        ("DC", "boys", ("a boy", "cat"), 1.0),
        ("DC", "the boy", ("dogs", "boys"), 1.0),
        ("DC", "boy dog", ("dog boy",), 0.0),
        ("DC", "", ("the",), 0.0),
    ):
        row = replace(rows[0], question_type=kind, output=output, reference=reference)
        assert score_predictions([row], protocols=protocols)[0].score.mean == value
    unfiltered = wups_protocol(wups, frozenset())
    assert unfiltered.measure_name != protocols["nextqa_open_ended"].measure_name
    exact = scores(rows)
    assert (exact["all"].measure, exact["T"].score.mean) == ("accuracy", 0.0)


def test_hits_of_predicted_events() -> None:
    told = [("the ball stops", "", 0.6), ("The red circle leaves on the left.", "", 0.3)]
    row = BenchmarkPrediction(
        id="p",
        corpus="causal_vid_instruct",
        video_id="v",
        question_type="prediction",
        prompt=FUTURE_PREDICTION_PROMPT,
        output=format_predictions([Prediction(*item) for item in told]),
        reference=("the red circle leaves on the left",),
    )
    result = scores([row, replace(row, id="q", output="who knows")])
    assert result["top-1 hit"].score.mean == 0.0
    assert result["any-of-3 hit"].score.mean == 0.5
    assert result["any-of-3 hit"].num_invalid == 1
    assert result["all"].measure == "top-1 hit"


def test_where_it_is_known_what_came_next_hits_are_strict_and_by_kind() -> None:
    events = ("the ball stops", "the ball hits the box", "nothing moves")
    output = format_predictions([Prediction(event, "", 0.5) for event in events])
    rows = [
        unanswered(
            Example(
                id=f"causal_vid_instruct:test:{kind}", corpus="causal_vid_instruct", media="m",
                video_id=kind, question_type="prediction", prompt=FUTURE_PREDICTION_PROMPT,
                response="r", answers=(event,),
                meta=outcome_meta(Outcome(event, kind), ()),
            )
        )
        for kind, event in {
            "block": events[0], "hit": events[1], "nothing": events[2], "slide": "it slides"
        }.items()
    ]  # fmt: skip
    result = scores([replace(row, output=output) for row in rows])
    shares = {name: cell.score.mean for name, cell in result.items()}
    assert shares == {
        "all": 0.25, "top-1 hit": 0.25, "any-of-3 hit": 0.75,
        "hit": 0.0, "block": 1.0, "nothing": 0.0, "slide": 0.0,
    }  # fmt: skip
    assert list(shares)[3:] == ["hit", "block", "nothing", "slide"]
    # Without a known outcome there are no kinds, and any event of the reference is a hit.
    lax = [replace(row, output=output, outcome_kind="", reference=events) for row in rows]
    assert {name: cell.score.mean for name, cell in scores(lax).items()} == {
        "all": 1.0, "top-1 hit": 1.0, "any-of-3 hit": 1.0,
    }  # fmt: skip
