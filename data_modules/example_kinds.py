"""Examples of three kinds: captions, open-ended and multiple-choice questions.

What differs between corpora, such as ids and media, is passed on to :class:`Example` as it is.
"""

from collections.abc import Mapping
from typing import Any

from vidreason.example import Example
from vidreason.reasoning.prompts import CAPTION_PROMPT, multiple_choice_prompt, open_ended_prompt


def caption_example(caption: str, **fields: Any) -> Example:  # noqa: ANN401 - fields of an example
    """A video and what it shows; an empty caption is a hidden one."""
    return Example(prompt=CAPTION_PROMPT, response=caption, answers=_answers(caption), **fields)


def open_ended_example(question: str, answer: str, **fields: Any) -> Example:  # noqa: ANN401
    """A question and its answer; an empty answer is a hidden one."""
    answers = fields.pop("answers", _answers(answer))
    return Example(
        prompt=open_ended_prompt(question),
        response=answer,
        answers=answers,
        meta={"question": question},
        **fields,
    )


def choice_example(
    question: str,
    options: tuple[str, ...],
    answer_index: int | None,
    *,
    prompt: str = "",
    meta: Mapping[str, str] | None = None,
    **fields: Any,  # noqa: ANN401 - fields of an example
) -> Example:
    """A question whose response is the text of one of its options.

    Args:
        question: Without the options.
        options: In the order of the file.
        answer_index: Of the right one; None where it is hidden.
        prompt: If it is not just the question and its options.
        meta: Besides the question.
        fields: Further fields of the example.
    """
    response = "" if answer_index is None else options[answer_index]
    return Example(
        prompt=prompt or multiple_choice_prompt(question, options),
        response=response,
        options=options,
        answer_index=answer_index,
        answers=_answers(response),
        meta={"question": question, **(meta or {})},
        **fields,
    )


def _answers(response: str) -> tuple[str, ...]:
    return (response,) if response else ()
