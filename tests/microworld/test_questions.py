import random
from collections import Counter, defaultdict

import pytest

from vidreason.microworld.language import caption, explanation, position_phrase, predictions
from vidreason.microworld.multiple_choice import multiple_choice_questions
from vidreason.microworld.open_ended import open_questions
from vidreason.microworld.questions import Question, balance
from vidreason.microworld.scenes import draw_rollouts
from vidreason.microworld.simulation import Body, Rollout, Scene, Wall, simulate


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
            wall=Wall(left=56.0, right=60.0, top=10.0, bottom=54.0),
            background=230,
        )
    )


def answers(questions: list[Question]) -> dict[str, str]:
    return {question.text: question.answer for question in questions}


def test_the_caption_tells_the_log(rollout: Rollout):
    assert caption(rollout) == (
        "there is a wall. a green triangle rests at the bottom left. "
        "a blue square rests in the middle. a red circle enters from the left. "
        "the red circle hits the blue square. the wall blocks the blue square."
    )


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


def test_predictions_are_the_likeliest_events_with_their_shares():
    moving = simulate(
        Scene(
            bodies=(Body(color="red", shape="circle", x=-100.0, y=32.0, velocity_x=20.0),),
            wall=None,
            background=230,
        )
    )
    (event, why, confidence), *_ = predictions(moving, random.Random(0))
    assert event == "the red circle leaves on the right"
    assert why == "it is moving right"
    assert confidence == 1.0


def test_resting_worlds_predict_rest(rollout: Rollout):
    assert predictions(rollout, random.Random(0)) == [
        ("nothing moves", "everything rests at the end", 1.0)
    ]


def test_options_are_distinct_and_of_one_form():
    for _, rollout in draw_rollouts("options", 100):
        for question in multiple_choice_questions(rollout, random.Random(0)):
            options = {question.answer, *question.distractors}
            assert len(options) == 5, question
            if question.template == "cause_of_stopping":
                assert "the wall blocked it" in options


def test_balance_leaves_listed_answers_right_in_proportion():
    generator = random.Random(0)
    drawn = [
        (str(index), question)
        for index, rollout in draw_rollouts("balance", 400)
        for questions in (multiple_choice_questions, open_questions)
        for question in questions(rollout, generator)
    ]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    shares: dict[str, tuple[str, ...]] = {}
    for _, question in balance(drawn, generator):
        if question.balance_over:
            counts[question.template][question.answer_class or question.answer] += 1
            shares[question.template] = question.balance_over
    assert len(counts) > 8
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
