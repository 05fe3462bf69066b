"""Scores of explanations beside their references, on small cases with exact values."""

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from vidreason.evaluation.cells import Cell, score_predictions
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.explanations import (
    has_links,
    has_order,
    has_steps,
    link_score,
    same_words,
    step_order,
    step_score,
)
from vidreason.evaluation.predictions.row_files import read_predictions, write_predictions
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, grade, unanswered
from vidreason.evaluation.scoreboard import score_runs
from vidreason.example import Example
from vidreason.reasoning.predictions import Prediction, format_predictions
from vidreason.reasoning.prompts import EVENT_REASONING_PROMPT, FUTURE_PREDICTION_PROMPT

ENTERS = "a red circle enters from the left and moves on"
HITS = "the red circle hits the blue square, so the blue square starts moving"
BLOCKS = "the wall blocks the blue square, so it stops"
LEAVES = "the red circle leaves on the right because nothing stops it"
STEPS = [ENTERS, HITS, BLOCKS, LEAVES]


def numbered(steps: list[str]) -> str:
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))


def row(output: list[str] | str, reference: list[str] = STEPS) -> BenchmarkPrediction:
    return BenchmarkPrediction(
        id="e",
        corpus="causal_vid_instruct",
        video_id="v",
        question_type="explanation",
        prompt=EVENT_REASONING_PROMPT,
        output=output if isinstance(output, str) else numbered(output),
        reference_texts=(numbered(reference),),
    )


def scores(prediction: BenchmarkPrediction) -> tuple[float | None, ...]:
    """Steps, then links: precision, recall, F1 of each; then the order."""
    return (
        *(step_score(prediction, side=side) for side in ("precision", "recall", "f1")),
        *(link_score(prediction, side=side) for side in ("precision", "recall", "f1")),
        step_order(prediction),
    )


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (STEPS, (1, 1, 1, 1, 1, 1, 1)),
        # Two of four steps in order, one wrong; the first of the links is right, one is missing.
        ([ENTERS, HITS, "it rains"], (2 / 3, 2 / 4, 4 / 7, 1, 1 / 3, 1 / 2, 1)),
        # The event is right, its effect is not: a step, and no link.
        (
            [HITS.replace("starts moving", "stays where it is")],
            (1, 1 / 4, 2 / 5, 0, 0, 0, None),
        ),
        # An effect that is not told is no wrong link; it is a missing one.
        ([HITS.partition(",")[0], BLOCKS], (1, 1 / 2, 2 / 3, 1, 1 / 3, 1 / 2, 1)),
        # What is told twice is matched once.
        ([HITS, HITS, HITS], (1 / 3, 1 / 4, 2 / 7, 1 / 3, 1 / 3, 1 / 3, None)),
        # Of three pairs of matched steps, the last two are in order.
        ([LEAVES, ENTERS, HITS], (1, 3 / 4, 6 / 7, 1, 2 / 3, 4 / 5, 1 / 3)),
        (STEPS[::-1], (1, 1, 1, 1, 1, 1, 0)),
        (["it rains"], (0, 0, 0, 0, 0, 0, None)),
        ("...", (None,) * 7),
    ],
)
def test_steps_links_and_order(told: list[str] | str, expected: tuple[float | None, ...]) -> None:
    assert scores(row(told)) == pytest.approx(expected)


def test_the_order_of_steps_changes_nothing_but_the_order() -> None:
    told = [HITS, BLOCKS, "it rains", LEAVES]
    results = {scores(row([*order]))[:6] for order in itertools.permutations(told)}
    assert len(results) == 1
    orders = [step_order(row([*order])) for order in itertools.permutations(told)]
    assert sorted({*orders}) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert sum(filter(None, orders)) / len(orders) == pytest.approx(1 / 2)


def test_a_step_is_matched_as_often_as_the_reference_tells_it() -> None:
    twice = [HITS, BLOCKS, HITS]
    assert scores(row([HITS, HITS], twice))[:3] == pytest.approx((1, 2 / 3, 4 / 5))
    assert scores(row(twice * 3, twice))[:3] == pytest.approx((1 / 3, 1, 1 / 2))
    assert scores(row(twice, twice))[6] == 1
    # Adding a step again never raises a recall.
    for prediction in itertools.accumulate([ENTERS] * 4, lambda told, step: [*told, step],
                                           initial=[HITS]):  # fmt: skip
        assert step_score(row(prediction), side="recall") <= 1 / 2


def test_precision_and_recall_change_places_with_answer_and_reference() -> None:
    one, other = [ENTERS, HITS, HITS, "it rains"], [HITS, LEAVES]
    forth, back = scores(row(one, other)), scores(row(other, one))
    assert forth[:2] == back[1::-1]
    assert forth[3:5] == back[4:2:-1]
    assert (forth[2], forth[5]) == (back[2], back[5])


def test_case_punctuation_and_articles_are_no_difference() -> None:
    told = "- The red circle enters from left, and moves on!\n- RED circle hits a blue square; so, "
    told += "the Blue Square starts moving."
    assert scores(row(told, [ENTERS, HITS]))[:3] == (1, 1, 1)
    assert same_words("A ball", "the ball.")
    assert not same_words("the balls", "the ball")
    assert not same_words("a", "the")


def test_of_several_references_the_best_counts() -> None:
    prediction = replace(row([HITS, LEAVES]), reference_texts=(ENTERS, f"{HITS}\n{BLOCKS}"))
    assert scores(prediction)[:3] == (1 / 2, 1 / 2, 1 / 2)
    assert (has_steps(prediction), has_order(prediction), has_links(prediction)) == (True,) * 3
    single = replace(prediction, reference_texts=(ENTERS,))
    assert (has_steps(single), has_order(single), has_links(single)) == (True, False, False)
    assert not has_steps(replace(prediction, reference_texts=("...",)))


@pytest.mark.parametrize(
    "text", [f"{HITS}\n" * 100_000, "1. " * 100_000, "so " * 100_000, "\u00e9\ud800" * 100_000]
)
def test_a_loop_has_a_score(text: str) -> None:
    prediction = replace(row(text), reference_texts=(text, numbered(STEPS)))
    assert all(value is None or 0 <= value <= 1 for value in scores(prediction))


def cells(rows: list[BenchmarkPrediction]) -> dict[str, Cell]:
    named = [replace(one, id=str(n), video_id=str(n)) for n, one in enumerate(rows)]
    return {cell.group: cell for cell in score_predictions(named)}


def test_explanations_count_in_their_own_scores_alone() -> None:
    rows = [row(STEPS), row([HITS]), row([ENTERS], [ENTERS]), replace(row(STEPS), error="gone")]
    result = cells(rows)
    assert [*result] == [
        *("step F1", "step precision", "step recall", "step order"),
        *("link F1", "link precision", "link recall"),
    ]
    means = {name: cell.score.mean for name, cell in result.items()}
    assert means["step F1"] == pytest.approx((1 + 2 / 5 + 1 + 0) / 4)
    assert (result["step F1"].num_items, result["step F1"].num_invalid) == (4, 1)
    # A reference of one step has neither order nor links; an answer without order counts 0.
    assert (result["step order"].num_items, result["step order"].num_invalid) == (3, 2)
    assert means["step order"] == pytest.approx(1 / 3)
    assert means["link recall"] == pytest.approx((1 + 1 / 3) / 3)
    prediction = BenchmarkPrediction(
        id="p", corpus="causal_vid_instruct", video_id="v", question_type="prediction",
        prompt=FUTURE_PREDICTION_PROMPT, output="who knows", reference=("it rains",),
    )  # fmt: skip
    both = cells([*rows, prediction])
    assert both["all"].num_items == 1
    assert both["step F1"] == result["step F1"]
    # Of a system that cannot explain, there are no scores; of hidden references, neither.
    assert not cells([replace(row(""), missing_capability="answer")])
    assert not cells([replace(row(STEPS), reference_texts=())])
    assert not cells([replace(row(STEPS), question_type="caption")])


def test_answers_without_an_order_are_named() -> None:
    full = [row(STEPS), row([HITS, ENTERS, BLOCKS]), row([HITS]), row([ENTERS], [ENTERS])]
    named = [replace(one, id=str(n), video_id=str(n)) for n, one in enumerate(full)]
    runs = {"full": named, "blind": [replace(one, output="it rains") for one in named]}
    board = score_runs(runs, EvaluationConfig(), full="full")
    assert board.metrics["notes"][-1] == (
        "causal_vid_instruct: an answer with fewer than two of the reference's steps has no order, "
        "and counts 0 in step order; of the others it is full 83.3 (n=2), blind n/a (n=0)"
    )
    assert board.tables[0].title.startswith("causal_vid_instruct explanation: step F1 in %")
    assert [line[0] for line in board.tables[0].rows] == ["full", "blind"]
    whole = [replace(one, output=numbered(STEPS)) for one in named]
    notes = score_runs({"full": whole}, EvaluationConfig(), full="full").metrics["notes"]
    assert not any("no order" in note for note in notes)


def test_justified_hits(tmp_path: Path) -> None:
    reasons = (("the ball leaves", "it is moving left", 0.7), ("it rains", "", 0.2))
    example = Example(
        id="causal_vid_instruct:test:p", corpus="causal_vid_instruct", media="v.mp4", video_id="v",
        question_type="prediction", prompt=FUTURE_PREDICTION_PROMPT,
        response=format_predictions([Prediction(*reason) for reason in reasons]),
        answers=("the ball leaves", "it rains"),
    )  # fmt: skip
    prediction = unanswered(example)
    assert prediction.reference_justifications == (("the ball leaves", "it is moving left"),)
    told = partial(Prediction, confidence=0.5)
    outputs = [
        [told("The ball leaves.", "It is moving left.")],
        [told("the ball leaves", "nothing stops it")],
        [told("the ball leaves", "")],
        [told("it rains", "it is moving left"), told("the ball leaves", "it is moving left")],
        [told("it snows", "it is moving left")],
        [],
    ]
    rows = [replace(prediction, output=format_predictions(items)) for items in outputs]
    result = cells(rows)
    assert result["top-1 hit"].score.mean == pytest.approx(4 / 6)
    assert result["justified hit"].score.mean == pytest.approx(1 / 6)
    assert (result["justified hit"].num_items, result["justified hit"].num_invalid) == (6, 1)
    # What came next is known, and the reference does not say why it would: nothing to compare.
    strict = replace(rows[0], reference=("it rains",), outcome_kind="nothing")
    assert "justified hit" not in cells([strict])
    assert "justified hit" not in cells([replace(rows[0], reference_justifications=())])
    write_predictions(tmp_path / "p.jsonl", [prediction, row(STEPS)])
    assert read_predictions(tmp_path / "p.jsonl")[0] == grade(prediction)
    first, second = (tmp_path / "p.jsonl").read_text().splitlines()
    assert "reference_justifications" in first
    assert "reference_justifications" not in second
    # Other prompts ask for no justification.
    assert unanswered(replace(example, prompt="what next?")).reference_justifications == ()
