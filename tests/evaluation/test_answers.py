"""Short answers and spans of time, out of the texts that language models give."""

import pytest

from vidreason.evaluation.answers import normalise_answer, parse_span, short_answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes.", "yes"),
        ("  The   Red ball! ", "the red ball"),
        ("no.3 athlete", "no.3 athlete"),
        ("don't know", "don't know"),
        ('"2"', "2"),
        ("\uff12", "2"),  # a full-width digit
    ],
)
def test_normalise_answer(text: str, expected: str) -> None:
    assert normalise_answer(text) == expected


def test_short_answer_is_the_first_line_after_thoughts() -> None:
    assert short_answer("<think>hm</think>\n\nYes.\nBecause it is red.") == "yes"
    assert short_answer("<answer> Two dogs </answer>") == "two dogs"
    assert short_answer("") == ""
    for empty in ("...", "<think>yes", "**", "\n\n", "Answer:", "<answer></answer>", "\u200b"):
        assert short_answer(empty) == ""


def test_short_answers_come_without_markup_and_labels() -> None:
    for text in (
        *("**Two dogs**", "Answer: two dogs", "**Answer:** two dogs.", "The answer is two dogs."),
        *("Answer:\nTwo dogs", "`two dogs`", "\\boxed{two dogs}", '{"answer": "two dogs"}'),
        *("### Answer\ntwo dogs"[11:], "<answer>Two dogs</answer>", "Two dogs\nUser: and now?"),
    ):
        assert short_answer(text) == "two dogs"
    assert short_answer("snake_case 2*3 #3") == "snake_case 2*3 #3"


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("3.5 to 9.0", (3.5, 9.0)),
        ("It is from 3.5s to 9 seconds.", (3.5, 9.0)),
        ("[12, 8.25]", (8.25, 12.0)),
        ("<think>0 to 1</think>between 0:03 and 1:02:09.5", (3.0, 3729.5)),
        ("7 \u2013 7", (7.0, 7.0)),
        ("after 3 seconds", None),
        ("", None),
        ("balls 1 and 2 touch between 5.0 and 9.0 seconds", (5.0, 9.0)),
        ("Start: 3.5, end: 9.0", (3.5, 9.0)),
        ("-1 to 3", (-1.0, 3.0)),
        ("from -0.5 to 3.2 s", (-0.5, 3.2)),
        ("5-9 s", (5.0, 9.0)),
        ("00:05 - 00:09", (5.0, 9.0)),
        ("9.0 to 5.0", (5.0, 9.0)),
        ("from 5.0 to 9.0 seconds", (5.0, 9.0)),
        ('{"start": 3.5, "end": 9.0}', (3.5, 9.0)),
        ('{"start_time": "00:05", "end_time": "00:09"}', (5.0, 9.0)),
        ("3,5 to 9,0 s", (3.5, 9.0)),
        ("[3,5]", (3.0, 5.0)),
        ("(3, 5)", (3.0, 5.0)),
        ("5~9s", (5.0, 9.0)),
        ("starts at 5 seconds and ends at 9 seconds", (5.0, 9.0)),
        ("begins at 5.0 s and lasts 4 s", None),
        ("1 minute 5 seconds to 2 minutes", (65.0, 120.0)),
        ("1 to 2 minutes", (60.0, 120.0)),
        ("1m05s - 1m10s", (65.0, 70.0)),
        ("5 seconds to 9 seconds", (5.0, 9.0)),
        ("3 to 5 s and 7 to 9 s", None),
        ("3 to 5 s. Wait, 4 to 9 s.", (4.0, 9.0)),
        ("frames 10 to 20", None),
        ("From 5 s until 9 s.", (5.0, 9.0)),
        ("**5.0 to 9.0**", (5.0, 9.0)),
        ("The video is 0 to 30 seconds long; the ball is hit from 5.0 to 9.0 seconds", (5.0, 9.0)),
        ("00:00:05,000 --> 00:00:09,000", (5.0, 9.0)),
        ("5.0s\u20139.0s", (5.0, 9.0)),
        ("**Start:** 3.5 s\n**End:** 9.0 s", (3.5, 9.0)),
        ("Start time: 3.5 seconds\nEnd time: 9 seconds", (3.5, 9.0)),
        ("between 5 and 9", (5.0, 9.0)),
        ("balls 1 and 2", None),
        ("1, 2", (1.0, 2.0)),
        ("steps 1 to 3 are shown from 5.0 to 9.0 seconds", (5.0, 9.0)),
        ("5.0 to 9.0, not 1 to 3", (5.0, 9.0)),
        ("<answer>5 to 9</answer>", (5.0, 9.0)),
        ("start=5, end=9", (5.0, 9.0)),
        ("[5s, 9s]", (5.0, 9.0)),
        ("at 5 seconds", None),
        ("5.0", None),
        ("5000 ms to 9000 ms", (5.0, 9.0)),
        ("2024-05-09", None),
        ("\uff15\uff0e\uff10 to \uff19", (5.0, 9.0)),
        (".5 to 1.5", (0.5, 1.5)),
        ("5 to 9 seconds (out of 30)", (5.0, 9.0)),
        ("Answer: 5.0 to 9.0", (5.0, 9.0)),
        ("start at 3.5 and end at 9", (3.5, 9.0)),
        ("-3 to -1", (-3.0, -1.0)),
        ("3 - -1", (-1.0, 3.0)),
        ("from 3.5 seconds to the end", None),
        ("from second 5 to second 9", (5.0, 9.0)),
        ("1234567 to 3", None),
    ],
)
def test_spans(text: str, span: tuple[float, float] | None) -> None:
    assert parse_span(text) == span


@pytest.mark.timeout(120)  # a square of the length takes hours
def test_endless_answers_take_time_by_their_length() -> None:
    for piece in (
        "1",
        "1 to ",
        "1 to 2, ",
        "start 1 ",
        "-",
        ":",
        "1:",
        "<think>",
        "from ",
        "\\",
        ".",
    ):
        parse_span(piece * (100_000 // len(piece)))
        short_answer(piece * (100_000 // len(piece)))
