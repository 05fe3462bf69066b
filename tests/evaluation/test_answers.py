"""Which option a text names, on the messy answers that language models give."""

import pytest

from vidreason.evaluation.answers import normalise_answer, parse_choice, parse_span, short_answer

OPTIONS = ("roll the handle", "tap their feet", "two", "twenty two dogs", "a person")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", 1),
        ("(B)", 1),
        ("B.", 1),
        ("B) tap their feet", 1),
        ("(B): tap their feet", 1),
        (" **C** ", None),  # no separator behind the letter, and "c" is no option's text
        ("**C.** two", 2),
        ("B tap their feet", 1),
        ("A", 0),
        ("A. roll the handle", 0),
        ("(A) because they roll it", 0),
        ("A person does it", 4),  # the article, not the letter; and "a person" is an option's text
        ("A dog does it", None),
        ("The answer is B", 1),
        ("the answer is: (D).", 3),
        ("Answer: E", 4),
        ("Answer: A man", None),
        ("I would say option C.", 2),
        ("My choice is D, because of the dogs", 3),
        ("The answer is B. Option C is wrong.", 1),
        ("option B or option C", None),
        ("Roll the handle.", 0),
        ("They roll the handle twice", 0),
        ("TWENTY TWO   DOGS", 3),  # and not "two", which it holds
        ("they tap their feet and roll the handle", None),
        ("twos", None),
        ("<think>A? B? The answer is A.</think> C", 2),
        ("Let me see: (A) is wrong. <answer>B</answer> So it is (A).", 1),
        ("Reasoning about (A) and (B). Final answer: D", 3),
        ("F", None),
        ("b", None),
        ("", None),
        ("I do not know", None),
    ],
)
def test_parse_choice(text: str, expected: int | None) -> None:
    assert parse_choice(text, OPTIONS) == expected


def test_one_letter_is_no_word_of_any_case() -> None:
    many = tuple(f"option number {n}" for n in range(9))
    assert parse_choice("I think it is B", many) is None
    assert parse_choice("I.", many) == 8
    assert parse_choice("I", many) == 8


def test_options_with_one_text_cannot_be_told_apart_by_it() -> None:
    assert parse_choice("happy", ("sad", "happy", "happy")) is None
    assert parse_choice("(C) happy", ("sad", "happy", "happy")) == 2


def test_the_number_of_options_is_checked() -> None:
    for number in (0, 27):
        with pytest.raises(ValueError, match=f"1 to 26 options, found {number}"):
            parse_choice("A", ["x"] * number)


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
    ],
)
def test_spans(text: str, span: tuple[float, float] | None) -> None:
    assert parse_span(text) == span
