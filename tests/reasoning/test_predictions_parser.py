import pytest

from vidreason.reasoning.predictions import (
    Prediction,
    format_predictions,
    parse_predictions,
)

THREE = (
    Prediction("The red ball hits the wall.", "It rolls straight towards it.", 0.8),
    Prediction("The cube stops because of friction.", "It is slow: 0.2 m/s.", 0.15),
    Prediction("Nothing more happens.", "", 1.0),
)

MARKDOWN = """Based on the events, here are three predictions:

**Prediction 1:** The man sits down.
**Justification:** He looks tired.
**Confidence:** 0.7

**Prediction 2:** He leaves the room
**Justification:** The door is open.
**Confidence score:** 0.25/1
"""
HEADINGS = """### Prediction 1
Event: A hits B
Justification: it moves at 0.5 m/s
Confidence Score: 0.75

### Prediction 2
Event: A stops
Reasoning: friction
Confidence Score: 15%
"""
PROSE = """1) The ball rolls away (confidence: 80%) because it was pushed.
2. It stops, since there is friction. Confidence 8/10.
(3) It bounces - Confidence is about .5"""


def test_what_is_written_is_read_back():
    assert parse_predictions(format_predictions(THREE)).items == THREE
    assert parse_predictions(format_predictions(THREE)).unparsed == ""
    assert format_predictions(THREE[:1]) == (
        "1. The red ball hits the wall.\nJustification: It rolls straight towards it.\n"
        "Confidence: 0.8"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            MARKDOWN,
            [
                ("The man sits down.", "He looks tired.", 0.7),
                ("He leaves the room", "The door is open.", 0.25),
            ],
        ),
        (HEADINGS, [("A hits B", "it moves at 0.5 m/s", 0.75), ("A stops", "friction", 0.15)]),
        (
            PROSE,
            [
                ("The ball rolls away", "because it was pushed.", 0.8),
                ("It stops", "since there is friction.", 0.8),
                ("It bounces", "", 0.5),
            ],
        ),
        ("The ball will roll. Confidence: 0.5", [("The ball will roll.", "", 0.5)]),
    ],
    ids=["markdown", "headings", "prose", "without numbers"],
)
def test_answers_in_other_forms(text, expected):
    predictions = parse_predictions(text)
    assert [tuple(item) for item in predictions.items] == expected
    assert predictions.unparsed == ""


@pytest.mark.parametrize(
    "text", ["I do not know.", "1. It falls.\n2. It stops.", "1. Confidence: 0.5", "\n\x00 {["]
)
def test_what_is_no_prediction_is_said_to_be_unparsed(text):
    predictions = parse_predictions(text)
    assert predictions.items == ()
    assert predictions.unparsed == text.strip()


def test_nothing_said_is_nothing_parsed():
    assert parse_predictions(" \n") == parse_predictions("")
    assert parse_predictions("").items == ()


def test_confidences_outside_0_to_1_are_not_believed():
    text = "1. It falls. Confidence: 0.9\n2. It flies. Confidence: 1.7\n3. No. Confidence: -0.1"
    predictions = parse_predictions(text)
    assert [item.event for item in predictions.items] == ["It falls."]
    assert predictions.unparsed == "It flies. Confidence: 1.7\nNo. Confidence: -0.1"


def test_only_three_are_read():
    text = "\n".join(f"{n}. Event {n}. Confidence: 0.{n}" for n in range(1, 6))
    assert [item.confidence for item in parse_predictions(text).items] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[
            (text, 0.8)
            for text in ("0.8", "0,8", ".8", "8e-1", "80%", "80 %", "80 percent", "8/10")
        ],
        *[(text, 0.8) for text in ("8 out of 10", "**0.8**", "`0.8`", '"0.8"', "(0.8)", "[0.8]")],
        *[
            (text, 0.8)
            for text in ("high (0.8)", "0.8 (high)", "~0.8", "about 0.8", "0.8.", "0.8/1")
        ],
        *[("1e-3", 0.001), ("1E-3", 0.001), ("1", 1.0), ("0", 0.0), ("100%", 1.0), ("1.0.", 1.0)],
        *[
            (text, None)
            for text in ("high", "0.7-0.9", "0.7 to 0.9", "80-90%", "1.7", "-0.1", "NaN")
        ],
        *[
            (text, None)
            for text in ("inf", "80", "120%", "1,5", "0.8.1", "1e5", "\u22120.1", "", "?")
        ],
    ],
)
def test_confidences_are_written_in_many_ways(text, expected):
    for form in (
        "1. A man sits.\nJustification: he is tired\nConfidence: {}",
        "1. A man sits. Confidence Score (0-1): {}",
        "**Event 1**: A man sits.\n**Confidence**: {}\n",
        "1. A man sits.\nProbability = {}",
    ):
        items = parse_predictions(form.format(text)).items
        assert [item.confidence for item in items] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    "text",
    [
        "**Event 1**: A ball falls\nConfidence: 0.5",
        "**Event 1:** A ball falls\nConfidence: 0.5",
        "### Event 1: A ball falls\nConfidence: 0.5",
        "1. **Event:** A ball falls\nConfidence: 0.5",
        "**1. A ball falls**\nConfidence: 0.5",
        "1\\. A ball falls\nConfidence: 0.5",
        "- __A ball falls__\nConfidence: 0.5",
        "1. *A ball falls* (confidence: 0.5)",
        "Event 1 (most likely): A ball falls\nConfidence: 0.5",
        "**Event 1**\nA ball falls\n**Confidence:** 0.5",
        "Prediction #1: `A ball falls`\nConfidence: 0.5",
        "1. <b>A ball falls</b><br>Confidence: 0.5",
        "1. A ball falls - 50% confidence",
        "<think>1. It rains. Confidence: 0.9</think>\n1. A ball falls\nConfidence: 0.5",
        "1. A ball\u200b falls\nConfidence: 0.5<|im_end|>\n2. It rains. Confidence: 0.9",
    ],
)
def test_events_come_without_markup(text):
    assert [tuple(item) for item in parse_predictions(text).items] == [("A ball falls", "", 0.5)]


def test_signs_inside_of_words_stay():
    (item,) = parse_predictions("1. 2*3 is 6 and x_y < 4\nConfidence: 0.5").items
    assert item.event == "2*3 is 6 and x_y < 4"


def test_an_unclosed_thought_predicts_nothing():
    assert parse_predictions("<think>1. A ball falls. Confidence: 0.5").items == ()


@pytest.mark.timeout(120)  # a square of the length takes hours
def test_a_long_answer_takes_no_long_time():
    parse_predictions("1. " + "Confidence " * 20_000 + "* " * 20_000)
    for piece in (
        "1. Confidence: 0.",
        "1",
        "0,",
        "event 1 ",
        "<think>",
        "because ",
        "(",
        "confidence 1",
    ):
        parse_predictions(piece * (50_000 // len(piece)))
