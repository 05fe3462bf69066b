"""Arithmetic of computed futures: merging, temperature, mass."""

import math

import pytest

from vidreason.reasoning.futures import (
    EVENT_SECONDS,
    covered_mass,
    event_time_answer,
    event_time_question,
    is_no_event,
    merge_candidates,
    with_temperature,
)


def test_the_question_for_an_events_time_holds_the_event():
    question = "In how many seconds will this happen: the red ball hits the wall?"
    assert event_time_question("the red ball hits the wall") == question
    assert event_time_question(" the red ball hits the wall.") == question
    answers = ["0.5", "1.0", "1.5", "2.0", "2.5", "3.0"]
    assert list(map(event_time_answer, EVENT_SECONDS)) == answers


def test_only_texts_without_any_event_are_no_event():
    for text in (
        "nothing happens",
        "Nothing else happens.",
        "No further events",
        "Nothing changes",
    ):
        assert is_no_event(text)
    for text in ("nothing stops the ball", "no one enters", "the nothing happens", "it falls", ""):
        assert not is_no_event(text)


def test_texts_that_say_the_same_event_are_merged_and_their_likelihoods_added():
    candidates = {"A stops": 0.1, "it falls.": 0.2, "It falls": 0.3, "(It  falls!)": 0.05}
    futures = merge_candidates({text: math.log(p) for text, p in candidates.items()})
    assert [future.event for future in futures] == ["It falls", "A stops"]
    assert math.exp(futures[0].log_likelihood) == pytest.approx(0.55)
    assert [future.probability for future in futures] == pytest.approx([0.55 / 0.65, 0.1 / 0.65])
    assert covered_mass(futures) == pytest.approx(0.65)


def test_a_temperature_is_the_divisor_of_the_merged_log_likelihoods():
    candidates = {"a": math.log(0.6), "b": math.log(0.1), "B.": math.log(0.05)}
    futures = merge_candidates(candidates)
    for temperature in (0.25, 1.0, 3.0):
        weights = [0.6 ** (1 / temperature), 0.15 ** (1 / temperature)]
        shares = [weight / sum(weights) for weight in weights]
        scaled = with_temperature(futures, temperature)
        assert [future.probability for future in scaled] == pytest.approx(shares)
        assert merge_candidates(candidates, temperature) == scaled
    # Improbable events do not underflow.
    unlikely = merge_candidates({"a": -5000.0, "b": -5000.0 + math.log(3)})
    assert [future.probability for future in unlikely] == pytest.approx([0.75, 0.25])
    assert covered_mass(unlikely) == 0


def test_candidates_that_say_nothing_or_have_no_likelihood_are_left_out():
    candidates = {"": -1.0, "...": -1.0, "a": math.nan, "b": -math.inf, "c": math.inf}
    assert merge_candidates(candidates) == ()
    assert with_temperature((), 2.0) == ()
    assert covered_mass(()) == 0
    (only,) = merge_candidates({**candidates, "d": 1e-7})  # rounding of a certain event
    assert (only.event, only.log_likelihood, only.probability) == ("d", 0.0, 1.0)
