"""Options and right answers, in the forms that released files and their copies have."""

import pytest

from data_modules.multiple_choice import AnswerForm, option_texts, right_option
from data_modules.rows import MalformedRowError, Row


def row(field: str, value: object) -> Row:
    return Row({field: value}, "f:1")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["A. dunking", "B. passing"], ("dunking", "passing")),
        (
            ["A. dunking", "B. passing", " C. to rest ", "\tD.to go"],
            "dunking|passing|to rest|to go",
        ),
        (["A) dunking", "B) passing"], "dunking|passing"),
        (["(A) dunking", "(B) passing"], "dunking|passing"),
        (["(a) dunking", "(b)passing"], "dunking|passing"),
        (["[A] dunking", "[B] passing"], "dunking|passing"),
        (["A: dunking", "B: passing"], "dunking|passing"),
        (["Option 1: One.", "Option 2: Two."], "One.|Two."),
        (["Caption A: One.", "Caption B: Two."], "One.|Two."),
        (["1. One", "2. Two"], "One|Two"),
        (["A.\u00a0One", "B.\u00a0Two\u00a0"], "One|Two"),
        # Not labels: not all have one, in order, or it is a part of the text.
        (["A. Lincoln", "a queen"], "A. Lincoln|a queen"),
        (["B. Obama", "A. Lincoln"], "B. Obama|A. Lincoln"),
        (["1.5 m", "2.5 m"], "1.5 m|2.5 m"),
        (["1:30 pm", "2:45 pm"], "1:30 pm|2:45 pm"),
        (["a dog", "b-movie"], "a dog|b-movie"),
        (["None", "NA", "null"], "None|NA|null"),
        ([0, 1, 2.5, 3.0], "0|1|2.5|3"),
        (["same", "same"], "same|same"),
        (("wind ", " rain"), "wind|rain"),
    ],
)
def test_options(written: object, read: object) -> None:
    expected = tuple(read.split("|")) if isinstance(read, str) else read
    assert option_texts(row("options", written), "options") == expected


@pytest.mark.parametrize(
    "written",
    [
        *([], ["a"], ["a", ""], ["a", " "], ["a", None], ["a", True], ["a", ["b"]]),
        *(["A. x", "B. "], "A. x\nB. y", None, {"A": "x", "B": "y"}, ["x"] * 27),
    ],
)
def test_what_is_no_list_of_options(written: object) -> None:
    with pytest.raises(MalformedRowError, match=r"^f:1: field 'options'"):
        option_texts(row("options", written), "options")


FRUIT = ("Apples.", "Red berries", "None", "2")


@pytest.mark.parametrize(
    ("form", "answer", "index"),
    [
        *(("index", answer, 1) for answer in (1, "1", " 1 ", 1.0, "1.0")),
        *(("letter", answer, 1) for answer in ("B", "b", "(B)", "B.", " B ", "B. Red berries")),
        *(("text", answer, 1) for answer in ("Red berries", "red  berries.", "B. Red berries")),
        *(("text", answer, 0) for answer in ("Apples", "apples.", "(A) Apples.", "A")),
        # The other forms, where they can mean one option only.
        *(("index", answer, 1) for answer in ("B", "(B)", "Red berries", "B) red berries")),
        *(("letter", answer, 2) for answer in ("None", "C. None", "none")),
        ("text", "None", 2),  # an answer, not a missing one
        ("text", "2", 3),
        ("text", 2, 3),
        ("index", "2", 2),  # its own form comes first
        *(("index", answer, None) for answer in (None, "", " ", -1, "-1", "nan")),
        *(("letter", answer, None) for answer in (None, "", "n/a")),
        *(("text", answer, None) for answer in (None, "", "nan", "null")),
    ],
)
def test_right_options(form: AnswerForm, answer: object, index: int | None) -> None:
    assert right_option(row("answer", answer), "answer", FRUIT, form) == index


@pytest.mark.parametrize(
    ("form", "answer"),
    [
        *(("index", answer) for answer in (4, "4", -2, 1.5, True, "snow", ["1"], {}, "Z")),
        *(("letter", answer) for answer in ("E", "AB", 1, 5, "Oranges", "B. Apples.")),
        *(("text", answer) for answer in ("Oranges", 3, "3", "E", "A. Red berries", [], True)),
    ],
)
def test_answers_that_name_no_option(form: AnswerForm, answer: object) -> None:
    with pytest.raises(MalformedRowError, match=r"^f:1: field 'answer' is .*by its"):
        right_option(row("answer", answer), "answer", FRUIT, form)


def test_of_two_options_with_one_text() -> None:
    twice = ("happy", "sad", "happy")
    assert right_option(row("answer", "happy"), "answer", twice, "text") == 0
    assert right_option(row("answer", "C. happy"), "answer", twice, "text") == 2
    assert right_option(row("answer", 2), "answer", twice, "index") == 2
    with pytest.raises(MalformedRowError):  # which of the two?
        right_option(row("answer", "HAPPY"), "answer", ("Happy", "happy"), "text")
