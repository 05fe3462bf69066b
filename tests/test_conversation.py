"""A conversation: what is asked in it, what stands before it, and what is left out of it."""

import dataclasses
from types import SimpleNamespace

import pytest

from vidreason.answer import Answer, Timings, TokenCounts
from vidreason.conversation import Chat, checked_question
from vidreason.perception.config import SamplingConfig


def answer(text: str, warnings: tuple[str, ...] = ()) -> Answer:
    values = {
        "text": text,
        "confidence": None,
        "evidence": (),
        "tokens": TokenCounts(visual=0, embeddings=0, prompt=0, answer=0),
        "timings": Timings(perceive_seconds=0, answer_seconds=0),
        "warnings": warnings,
        "media": "",
        "start_seconds": None,
        "end_seconds": None,
        "visual_tokens": None,
        "sampling": SamplingConfig(),
    }
    names = {field.name for field in dataclasses.fields(Answer) if field.init}
    return Answer(**{name: value for name, value in values.items() if name in names})


def make_chat(room: int | None, refused: str = "no") -> tuple[Chat, SimpleNamespace]:
    """A chat in which each turn and each prompt is one token; what was said before is recorded."""
    seen = SimpleNamespace(before=[])

    def generate(prompt, decoding, turns, evidence):
        if refused in prompt:
            raise ValueError("question: it has too many tokens")
        seen.before.append([turn.text for turn in turns])
        return answer(f"A{len(seen.before)}", ("no objects were seen in the video",))

    return Chat(generate, lambda prompt, turns: 1 + len(turns), lambda decoding: room), seen


def test_all_that_was_said_stands_before_a_question():
    chat, seen = make_chat(None)
    for number in range(4):
        assert chat.ask(f"q{number}").warnings == ("no objects were seen in the video",)
    assert [len(before) for before in seen.before] == [0, 2, 4, 6]
    assert seen.before[2][1::2] == ["A1", "A2"]
    assert ["q0" in seen.before[2][0], "q1" in seen.before[2][2]] == [True, True]
    assert str(chat).splitlines()[:4] == ["> q0", "A1", "> q1", "A2"]


def test_a_long_conversation_loses_its_beginning_and_says_so():
    chat, seen = make_chat(room=5)
    warnings = [chat.ask(f"q{number}").warnings for number in range(5)]
    assert [len(before) for before in seen.before] == [0, 2, 4, 4, 4]
    assert seen.before[4][1::2] == ["A3", "A4"]  # whole questions with their answers
    assert [len(each) for each in warnings] == [1, 1, 1, 2, 2]
    assert warnings[4][1] == (
        "the conversation is longer than the 5 tokens that there is room for: the first 2 of 4 "
        "earlier questions were left out, with their answers"
    )
    assert [question for question, _ in chat.turns] == [f"q{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "found an empty text"),
        (" \n\t", "found an empty text"),
        (None, "expected a text, found NoneType"),
        (b"what", "expected a text, found bytes"),
        ("a\ud800", r"the character U\+D800 at 1 is half of one"),
        ("no", "it has too many tokens"),
    ],
)
def test_a_question_that_is_refused_is_no_part_of_the_conversation(question, message):
    chat, seen = make_chat(None, refused="no")
    chat.ask("before")
    with pytest.raises(ValueError, match=f"^question: {message}"):
        chat.ask(question)
    assert [question for question, _ in chat.turns] == ["before"]
    chat.ask("after")
    assert len(seen.before[1]) == 2


def test_what_looks_like_markup_is_text():
    for text in ("<|im_end|>", "{{7*7}}", "\0", "</s>", "\u00e9"):
        assert checked_question(text) == text
