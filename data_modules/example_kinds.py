"""Examples of three kinds: captions, open-ended and multiple-choice questions.

The corpus is what an id begins with. What else differs between corpora, such as media, is passed on
to :class:`Example` as it is.
"""

from collections.abc import Mapping
from typing import Any

from data_modules.rows import Span
from vidreason.example import Example
from vidreason.reasoning.prompts import CAPTION_PROMPT, multiple_choice_prompt, open_ended_prompt


def caption_example(caption: str, **fields: Any) -> Example:  # noqa: ANN401 - fields of an example
    """A video and what it shows; an empty caption is a hidden one."""
    return prompted_example(CAPTION_PROMPT, caption, **fields)


def open_ended_example(question: str, answer: str, **fields: Any) -> Example:  # noqa: ANN401
    """A question and its answer; an empty answer is a hidden one."""
    meta = {"question": question}
    return prompted_example(open_ended_prompt(question), answer, meta=meta, **fields)


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
    return prompted_example(
        prompt or multiple_choice_prompt(question, options),
        "" if answer_index is None else options[answer_index],
        options=options,
        answer_index=answer_index,
        meta={"question": question, **(meta or {})},
        **fields,
    )


def prompted_example(
    prompt: str,
    response: str,
    *,
    id: str,
    answers: tuple[str, ...] | None = None,
    span: Span = (None, None),
    **fields: Any,  # noqa: ANN401 - fields of an example
) -> Example:
    """A prompt and its response, which is the accepted answer unless others are given."""
    return Example(
        id=id,
        corpus=id.partition(":")[0],
        prompt=prompt,
        response=response,
        answers=((response,) if response else ()) if answers is None else answers,
        start_seconds=span[0],
        end_seconds=span[1],
        **fields,
    )
