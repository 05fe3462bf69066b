import math
import random
from collections import Counter, defaultdict

import pytest

from vidreason.microworld.language import (
    caption,
    explanation,
    motion,
    next_events,
    position_phrase,
    predictions,
    square,
)
from vidreason.microworld.multiple_choice import multiple_choice_questions
from vidreason.microworld.open_ended import open_questions
from vidreason.microworld.questions import Question, balance
from vidreason.microworld.rectangle import Rectangle
from vidreason.microworld.simulation import Body, Rollout, Scene, simulate


@pytest.fixture
def rollout() -> Rollout:
    """A red circle comes from the left and hits a blue square, which the wall blocks."""
    return simulate(
        Scene(
            bodies=(
                Body(color="red", shape="circle", x=-23.0, y=32.0, velocity_x=16.0),
                Body(color="blue", shape="square", x=30.0, y=32.0),
                Body(color="green", shape="triangle", x=12.0, y=54.0),
            ),
            wall=Rectangle(left=56.0, right=60.0, top=10.0, bottom=54.0),
            background=230,
        )
    )


def answers(questions: list[Question]) -> dict[str, str]:
    return {question.text: question.answer for question in questions}


def test_the_caption_tells_the_log(rollout: Rollout):
    assert caption(rollout) == (
        "a wall from o3 to p14. a green triangle rests at d14. a blue square rests at h9. "
        "a red circle enters from the left after 2.0 seconds. "
        "the red circle hits the blue square after 2.5 seconds. "
        "the wall blocks the blue square after 3.5 seconds. "
        "the red circle now rests at e9. the blue square now rests at m9."
    )


def test_a_story_tells_places_and_ways_finely():
    assert [square(0, 0), square(63.9, 0), square(4, 63.9), square(-7, 70)] == [
        *("a1", "p1"),
        *("b16", "a16"),
    ]
    assert motion(0.5, -0.5) is None
    assert motion(0, -20) == "fast up"
    assert motion(-14, -4) == "left and slightly up"
    assert motion(5, 5) == "slowly down right"
    ways = [
        motion(15 * math.cos(sixteenth * math.pi / 8), 15 * math.sin(sixteenth * math.pi / 8))
        for sixteenth in range(16)
    ]
    assert len(set(ways)) == 16


def test_the_explanation_gives_each_contact_its_effect(rollout: Rollout):
    assert explanation(rollout) == [
        "a red circle enters from the left and moves on",
        "the red circle hits the blue square, so the blue square starts moving",
        "the wall blocks the blue square, so it stops",
    ]


def test_answers_come_from_the_log(rollout: Rollout):
    closed = answers(list(multiple_choice_questions(rollout, random.Random(0))))
    assert closed["why did the blue square start moving"] == "the red circle hit it"
    assert closed["why did the red circle stop"] == "it hit the blue square"
    assert closed["why did the blue square stop"] == "the wall blocked it"
    assert closed["how did the red circle enter"] == "from the left"
    assert closed["how did the blue square leave"] == "it did not leave"
    assert closed["what did the red circle hit"] == "the blue square"
    assert closed["how many objects moved"] == "two"
    assert closed["how many objects are there"] == "three"
    assert closed["where was the blue square at the start"] == "in the middle"
    what = "what did the green triangle do when the red circle hit the blue square"
    assert closed[what] == "it was resting"
    opened = answers(list(open_questions(rollout, random.Random(0))))
    assert opened["what became of the blue square"] == "it stopped"
    assert opened["what became of the green triangle"] == "it never moved"
    assert opened["did the red circle hit the blue square"] == "yes"
    assert opened["what color was the object that hit the blue square"] == "red"
    assert opened["what shape was the blue object"] == "square"
    assert opened["where did the red circle come from"] == "left"
    assert opened["how many objects left"] == "none"
    assert opened["where will the blue square leave next"] == "nowhere"
    assert opened["which way was the blue square moving at the end"] == "it rested"
    assert opened["where was the blue square at the end"] == "on the right"
    moved = {"red circle": "yes", "blue square": "yes", "green triangle": "no"}
    (subject,) = (noun for noun in moved if f"did the {noun} move" in opened)
    assert opened[f"did the {subject} move"] == moved[subject]


def test_a_future_is_asked_for_by_its_time_and_the_end_is_told():
    """A blue square goes on to the right at the end, half a second before it leaves."""
    mover = Body(color="blue", shape="square", x=12.5, y=32.0, velocity_x=9.0)
    rollout = simulate(Scene(bodies=(mover,), wall=None, background=230))
    opened = answers(list(open_questions(rollout, random.Random(0))))
    question = "In how many seconds will this happen: the blue square leaves on the right?"
    assert opened[question] == "0.5"
    assert opened["where will the blue square leave next"] == "right"
    assert opened["did the blue square move"] == "yes"
    assert opened["what became of the blue square"] == "it kept moving"
    assert opened["which way was the blue square moving at the end"] == "right"
    assert caption(rollout) == (
        "a blue square moves slowly right at d9. "
        "the blue square is still moving slowly right at p9."
    )


def test_predictions_are_the_likeliest_events_with_their_shares():
    moving = simulate(
        Scene(
            bodies=(Body(color="red", shape="circle", x=-100.0, y=32.0, velocity_x=20.0),),
            wall=None,
            background=230,
        )
    )
    futures = next_events(moving, 20, random.Random(0))
    ((event, why, confidence),) = predictions(moving, futures)
    assert event == "the red circle leaves on the right"
    assert why == "it is moving right and nothing is in its way"
    assert confidence == 1.0


def test_resting_worlds_predict_rest(rollout: Rollout):
    assert predictions(rollout, next_events(rollout, 20, random.Random(0))) == [
        ("nothing happens", "everything rests at the end", 1.0)
    ]


def test_options_are_distinct_and_of_one_form(rollouts: list[Rollout]):
    for rollout in rollouts:
        for question in multiple_choice_questions(rollout, random.Random(0)):
            options = {question.answer, *question.distractors}
            assert len(options) == 5, question
            if question.template.startswith("cause_of_stopping"):
                assert "the wall blocked it" in options


def test_balance_leaves_listed_answers_right_in_proportion(rollouts: list[Rollout]):
    generator = random.Random(0)
    drawn = [
        (str(index), question)
        for index, rollout in enumerate(rollouts)
        for questions in (multiple_choice_questions, open_questions)
        for question in questions(rollout, generator)
    ]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    shares: dict[str, tuple[str, ...]] = {}
    for _, question in balance(drawn, generator):
        if question.balance_over:
            counts[question.template][question.answer_class or question.answer] += 1
            shares[question.template] = question.balance_over
    assert len(counts) > 12
    for template, counted in counts.items():
        unit = sum(counted.values()) // len(shares[template])
        assert counted == {c: unit * shares[template].count(c) for c in set(shares[template])}


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (1, 1, "at the top left"),
        (32, 1, "at the top"),
        (32, 32, "in the middle"),
        (63, 32, "on the right"),
    ],
)
def test_places(x: float, y: float, expected: str):
    assert position_phrase(x, y) == expected
