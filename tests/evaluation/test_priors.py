"""Baselines that never look: fitted on training answers only."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from vidreason.evaluation.answerer import Answerer
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.priors import (
    MajorityAnswerer,
    RandomAnswerer,
    TextPriorAnswerer,
    fit_majority,
)
from vidreason.example import Example
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT


def choice(number: int, kind: str, right: int | None, options: str = "abcde") -> Example:
    answer = "" if right is None else options[right]
    return Example(
        id=f"nextqa:{number}", corpus="nextqa", media="m", video_id=str(number), prompt="p",
        response=answer, options=tuple(options), answer_index=right,
        answers=(answer,) if answer else (), question_type=kind,
    )  # fmt: skip


def open_ended(number: int, kind: str, answer: str) -> Example:
    return Example(
        id=f"anet:{number}", corpus="activitynet_qa", media="m", video_id=str(number), prompt="p",
        response=answer, answers=(answer,), question_type=kind,
    )  # fmt: skip


def rows_of(answerer: Answerer, examples: Sequence[Example]) -> list[BenchmarkPrediction]:
    return evaluate_examples(answerer, examples, EvaluationConfig())


TRAIN = [
    *(choice(n, "CW", right) for n, right in enumerate([3, 3, 1])),
    *(choice(n, "TN", right) for n, right in enumerate([0, 0, 0, 2])),
    *(open_ended(n, "3", answer) for n, answer in enumerate(["yes", "No", "no."])),
    *(open_ended(n, "7", answer) for n, answer in enumerate(["2", "3"])),
]


def test_majority_by_corpus_and_type() -> None:
    baseline = fit_majority(TRAIN)
    questions = [
        choice(10, "CW", 3),
        choice(11, "TN", 1),
        choice(12, "DO", 0),  # not trained on: the corpus' most frequent index, 0
        choice(13, "CW", 2, options="abc"),  # index 3 is not offered
        open_ended(14, "3", "no"),
        open_ended(15, "7", "2"),  # equally frequent: the first in alphabetical order
        open_ended(16, "8", "blue"),
    ]
    rows = rows_of(MajorityAnswerer(baseline), questions)
    assert [row.parsed for row in rows] == [3, 0, 0, 0, "no", "2", "no"]
    assert [row.correct for row in rows] == [True, False, True, False, True, True, False]
    assert [row.id for row in rows] == [example.id for example in questions]


def test_text_prior_picks_the_offered_option_that_was_right_most_often() -> None:
    baseline = fit_majority(TRAIN)  # "CW": d twice, b once
    questions = [choice(10, "CW", 0, options="xbzd"), choice(11, "CW", 2, options="xyz")]
    assert [row.parsed for row in rows_of(TextPriorAnswerer(baseline), questions)] == [3, 0]
    (row,) = rows_of(TextPriorAnswerer(baseline), [open_ended(12, "3", "no")])
    assert row.correct


def test_the_benchmarks_own_answers_are_not_used() -> None:
    questions = [choice(number, "CW", 4) for number in range(10)]
    assert not any(row.correct for row in rows_of(MajorityAnswerer(fit_majority(TRAIN)), questions))


def test_an_untrained_corpus_is_an_error() -> None:
    with pytest.raises(ValueError, match="no training answer of corpus 'nextqa'"):
        rows_of(MajorityAnswerer(fit_majority(TRAIN[-2:])), [choice(0, "CW", 1)])


def test_a_form_of_question_that_was_not_trained_on_is_not_known() -> None:
    captions = [replace(one, options=(), answer_index=None) for one in TRAIN]
    baseline = fit_majority(captions)
    question = choice(0, "CW", 1)
    assert not baseline.knows(question)
    assert baseline.knows(replace(question, options=(), answer_index=None))
    assert fit_majority(TRAIN).knows(question)


def test_random_options_are_even_and_depend_on_seed_and_id_alone() -> None:
    questions = [choice(number, "CW", 0) for number in range(1000)]
    chosen = [row.parsed for row in rows_of(RandomAnswerer(0), questions)]
    # Mean 200, standard deviation 12.6; fixed by the seed.
    assert all(150 < chosen.count(option) < 250 for option in range(5))
    few = rows_of(RandomAnswerer(0), questions[6::-1])
    assert chosen[:7] == [row.parsed for row in few[::-1]]
    others = [row.parsed for row in rows_of(RandomAnswerer(1), questions)]
    assert 100 < sum(a == b for a, b in zip(chosen, others, strict=True)) < 300
    of_two = [choice(number, "CW", 0, options="ab") for number in range(9)]
    assert {row.parsed for row in rows_of(RandomAnswerer(0), of_two)} == {0, 1}


def test_random_options_say_nothing_of_open_questions_and_predictions() -> None:
    predicted = replace(open_ended(2, "3", "no"), id="p", prompt=FUTURE_PREDICTION_PROMPT)
    rows = rows_of(RandomAnswerer(0), [open_ended(1, "3", "yes"), predicted])
    assert [row.missing_capability for row in rows] == ["answer", "predict"]


def test_training_frequencies_are_the_probabilities_of_events() -> None:
    def event(number: int, text: str) -> Example:
        return Example(
            id=f"causal_vid_instruct:{number}", corpus="causal_vid_instruct", media="m",
            video_id=str(number), prompt=FUTURE_PREDICTION_PROMPT, response=text, answers=(text,),
            question_type="prediction",
        )  # fmt: skip

    events = ["It stops.", "nothing moves", "it stops", "it leaves", "..."]
    train = [event(number, text) for number, text in enumerate(events)]
    (row,) = rows_of(MajorityAnswerer(fit_majority(train)), [event(9, "it leaves")])
    assert row.output == "it stops"
    assert {future.event: future.probability for future in row.futures} == {
        "it stops": 0.4, "it leaves": 0.2, "nothing moves": 0.2
    }  # fmt: skip
    assert [future.log_likelihood for future in row.futures] == pytest.approx(
        [math.log(future.probability) for future in row.futures]
    )
