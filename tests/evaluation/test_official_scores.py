"""Official scores: against golden values, and against the benchmarks' example predictions where
they are at hand."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_corpora import examples_in

from vidreason.evaluation.cells import run_differences, score_predictions
from vidreason.evaluation.items import EVERYTHING, chance_scores, run_items
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, grade, unanswered
from vidreason.evaluation.protocols import ALL, PROTOCOLS, official_free_accuracy

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "assets/golden/benchmark_metrics.json").read_text()
)
REAL = Path(
    os.environ.get("VIDREASON_ANNOTATIONS", Path(__file__).parents[3] / "shared/data/annotations")
)
needs_real_files = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"the real annotation files are not in {REAL}"
)


def choice(video: str, qid: str, kind: str, chosen: int, right: int) -> BenchmarkPrediction:
    return BenchmarkPrediction(
        id=f"nextqa:val:{video}_{qid}",
        corpus="nextqa",
        video_id=video,
        question_type=kind,
        options=("a", "b", "c", "d", "e"),
        option_log_likelihoods=tuple(-1.0 + (index == chosen) for index in range(5)),
        reference=right,
    )


def by_group(predictions: list[BenchmarkPrediction]) -> dict[str, float]:
    return {score.group: score.score.mean for score in score_predictions(predictions)}


def official_names(expected: dict[str, float]) -> dict[str, float]:
    names = {"Acc": "all", "Acc_C": "C", "Acc_T": "T", "Acc_D": "D", "TN(+TP)": "TN"}
    return {names.get(name, name): value for name, value in expected.items()}


def test_nextqa_golden() -> None:
    golden = GOLDEN["nextqa_mc"]
    rows = [choice(*row) for row in golden["rows_video_qid_type_pred_answer"]]
    result = {group: 100 * value for group, value in by_group(rows).items()}
    assert result == pytest.approx(official_names(golden["expected_percent"]))


def test_groups_come_in_the_official_order() -> None:
    rows = [choice(*row) for row in GOLDEN["nextqa_mc"]["rows_video_qid_type_pred_answer"]]
    groups = [score.group for score in score_predictions(rows[::-1])]
    assert groups == ["all", "C", "CW", "CH", "T", "TN", "TC", "D", "DC", "DL", "DO"]

    def groups(corpus: str, question_type: str) -> tuple[str, ...]:
        row = BenchmarkPrediction(id="i", corpus=corpus, video_id="v", question_type=question_type)
        return PROTOCOLS[corpus].groups_of(row)

    assert groups("nextqa", "TP") == ("T", "TN")
    assert groups("activitynet_qa", "4") == ("free", "color")
    assert groups("nextqa", "new kind") == ("new kind",)


def test_counts_of_questions_videos_and_invalid_answers() -> None:
    rows = [
        choice("1", "0", "CW", 2, 2),
        replace(choice("1", "1", "CW", 2, 2), option_log_likelihoods=(), output="dunno"),
        replace(choice("2", "0", "CW", 2, 2), error="cannot read video"),
    ]
    score = score_predictions(rows)[0]
    assert (score.num_items, score.num_videos, score.num_correct) == (3, 2, 1)
    assert (score.num_invalid, score.score.mean) == (2, pytest.approx(1 / 3))


def test_scores_do_not_trust_what_a_row_says_of_itself() -> None:
    row = replace(choice("1", "0", "CW", 1, 2), correct=True, parsed=2)
    assert by_group([row])["all"] == 0.0


def test_hidden_references_are_left_out() -> None:
    hidden = replace(choice("1", "0", "CW", 2, 2), reference=None)
    assert grade(hidden).correct is None
    assert score_predictions([hidden]) == []


def test_missing_unknown_and_double_predictions_are_errors() -> None:
    rows = [choice(str(n), "0", "CW", 2, 2) for n in range(3)]
    ids = [row.id for row in rows]
    with pytest.raises(ValueError, match=r"1 missing \['nextqa:val:2_0'\], 0 unknown"):
        score_predictions(rows[:2], ids)
    with pytest.raises(ValueError, match=r"0 missing \[\], 1 unknown \['nextqa:val:2_0'\]"):
        score_predictions(rows, ids[:2])
    with pytest.raises(ValueError, match="two predictions for 'nextqa:val:0_0'"):
        score_predictions([*rows, rows[0]], ids)
    with pytest.raises(ValueError, match="two predictions"):
        score_predictions([rows[0], rows[0]])


def test_difference_of_two_runs_matches_by_id() -> None:
    full = [choice(str(n), "0", "CW", 2, 2) for n in range(20)]
    blind = [choice(str(n), "0", "CW", 2 if n < 5 else 1, 2) for n in range(20)]
    items = run_items({"full": full, "blind": blind[::-1]})
    result = run_differences(items, ("nextqa", ALL), "full")["blind"]
    assert result.seed_scores == (0.25,)
    assert result.difference is not None
    assert result.difference.mean == pytest.approx(0.75)
    assert result.difference.low > 0.4  # of 20 videos: no bootstrap
    with pytest.raises(ValueError, match="1 missing"):
        run_items({"full": full, "blind": blind[:-1]})


def test_chance_is_the_expected_value_of_a_random_option() -> None:
    rows = [
        choice("1", "0", "CW", 1, 1),
        replace(choice("1", "1", "TN", 1, 1), options=("a", "b")),
        replace(choice("1", "2", "TN", 1, 1), reference=None),  # hidden: not scored
    ]
    expected = {"all": (0.2 + 0.5) / 2, "C": 0.2, "CW": 0.2, "T": 0.5, "TN": 0.5}
    assert chance_scores(rows) == pytest.approx(
        {("nextqa", group): value for group, value in expected.items()} | {EVERYTHING: 0.35}
    )
    # Open-ended questions have no chance; a CLEVRER question of three options is right in 1 of 8.
    questions = [
        BenchmarkPrediction(
            id=f"clevrer:validation:1_{number}", corpus="clevrer", video_id="1",
            group_id="1" if options else "", question_type=kind, options=options,
            reference=0 if options else ("yes",), output="yes",
        )
        for number, (kind, options) in enumerate(
            [("descriptive", ()), *[("predictive", ("yes", "no"))] * 3]
        )
    ]  # fmt: skip
    assert chance_scores(questions) == {
        ("clevrer", "predictive per option"): 0.5, ("clevrer", "predictive per question"): 0.125
    }  # fmt: skip
    # Unless it is known what is answered at all.
    known = {("clevrer", "descriptive"): {"yes", "no", "3", "red"}}
    assert chance_scores(questions, known_answers=known)["clevrer", "descriptive"] == 0.25


def test_the_official_free_accuracy_divides_by_other_types() -> None:
    # First seen: 3, 8, 0, 1. The script takes 3..8's two right answers over type 1's three
    # questions.
    types = ["3", "8", "0", "1", "1", "1"]
    correct = [True, True, False, False, True, False]
    assert official_free_accuracy(types, correct) == pytest.approx(2 / 3)
    rows = [
        BenchmarkPrediction(
            id=str(number),
            corpus="activitynet_qa",
            video_id=str(number),
            question_type=kind,
            output="yes" if right else "no",
            reference=("yes",),
        )
        for number, (kind, right) in enumerate(zip(types, correct, strict=True))
    ]
    assert by_group(rows)["free"] == 1.0


@needs_real_files
def test_nextqa_example_predictions_score_as_published() -> None:
    given: dict[str, dict[str, int]] = json.loads(
        (REAL / "nextqa/HGA-bert-ft-h256-val-example.json").read_text()
    )
    examples = examples_in("nextqa", REAL / "nextqa", "val")
    rows = []
    for example in examples:
        answer = given[example.id.removeprefix("nextqa:val:")]
        assert answer["answer"] == example.answer_index
        scores = tuple(-1.0 + (index == answer["prediction"]) for index in range(5))
        rows.append(replace(unanswered(example), option_log_likelihoods=scores))
    result = {group: round(100 * value, 2) for group, value in by_group(rows).items()}
    assert result == official_names(GOLDEN["nextqa_mc"]["real_file_check"]["expected"])
    assert result["all"] == 49.74


@pytest.mark.slow  # scores 18,000 answers; the tests above score few
@needs_real_files
def test_activitynet_qa_example_predictions_score_as_the_official_script_prints() -> None:
    folder = REAL / "activitynet_qa"
    given: list[dict[str, Any]] = json.loads((folder / "pred_val_example.json").read_text())
    outputs = {row["question_id"]: row["answer"] for row in given}
    examples = examples_in("activitynet_qa", folder, "val")
    rows = [
        replace(unanswered(example), output=outputs[example.id.removeprefix("activitynet_qa:val:")])
        for example in examples
    ]
    result = {group: round(value, 4) for group, value in by_group(rows).items()}
    golden = GOLDEN["activitynet_qa"]
    expected = dict(golden["official_printed"])
    printed_free = expected.pop("free")
    assert result == expected | {"free": round(golden["free_correct"], 4)}
    flags = [bool(grade(row).correct) for row in rows]
    # The script's order of first appearance is that of the answer file.
    official_order = {
        row["question_id"]: n
        for n, row in enumerate(json.loads((folder / "val_a.json").read_text()))
    }
    order = sorted(range(len(rows)), key=lambda n: official_order[rows[n].id.rpartition(":")[2]])
    types = [rows[n].question_type for n in order]
    assert round(official_free_accuracy(types, [flags[n] for n in order]), 4) == printed_free
