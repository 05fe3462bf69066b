"""The words of the teacher's task: the paper's first and unchanged, then the form of the answer."""

import json

import pytest

from vidreason.teacher.prompt import (
    ANSWER_FORMAT,
    ANSWER_SCHEMA,
    TEACHER_PROMPT,
    answer_form_text,
    full_prompt,
    prompt_hash,
)


def test_the_papers_prompt_comes_first_and_alone_where_text_is_wanted():
    assert full_prompt(TEACHER_PROMPT, "text", (0.5, 1.5), 2.0) == TEACHER_PROMPT
    words = full_prompt(TEACHER_PROMPT, "json", (0.5, 1.504, 71.0), 72.25)
    assert words.startswith(TEACHER_PROMPT + "\n\n")
    assert "lasts 72.25 seconds" in words
    assert "3 of its frames, shown at 0.50, 1.50, 71.00 seconds" in words
    assert "only what is visible" in words
    # A task of one's own may hold anything that looks like a field.
    task = "Explain {steps}. {duration:.2f}"
    assert full_prompt(task, "json", (), 1.0).startswith(task + "\n\n")


def test_the_form_in_words_is_of_the_schema():
    """Strict modes want each property required, and no others; the example has just these."""
    words = full_prompt("Why?", "json", (0.5,), 1.0)
    (line,) = [line for line in words.splitlines() if line.startswith("{")]
    example = json.loads(line)

    def check(schema, value):
        if schema["type"] == "object":
            assert schema["required"] == list(schema["properties"])
            assert schema["additionalProperties"] is False
            assert value.keys() == schema["properties"].keys()
            for name, inner in schema["properties"].items():
                check(inner, value[name])
        elif schema["type"] == "array":
            for one in value:
                check(schema["items"], one)
        else:
            kinds = {"string": str, "number": float}
            names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
            assert isinstance(value, tuple(kinds[name] for name in names if name in kinds))

    check(ANSWER_SCHEMA, example)
    assert ANSWER_FORMAT["json_schema"]["strict"] is True


def test_the_hash_tells_all_that_a_teacher_is_told():
    texts = [
        (prompt, answer_form_text(form, with_schema))
        for prompt in (TEACHER_PROMPT, "Why?")
        for form, with_schema in (("text", False), ("json", False), ("json", True))
    ]
    hashes = [prompt_hash(*one) for one in texts]
    assert len(set(hashes)) == 6
    assert answer_form_text("text", with_schema=False) == ""
    assert answer_form_text("text", with_schema=True) == ""


@pytest.mark.parametrize("name", ["steps", "predictions"])
def test_words_say_each_list(name):
    assert f"\n{name}: " in full_prompt("Why?", "json", (0.5,), 1.0)
