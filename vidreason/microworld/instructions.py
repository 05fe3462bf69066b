"""Instructions about rollouts, as the corpora's readers make them of the written files."""

import random
from collections.abc import Callable, Iterator, Sequence

from vidreason.microworld import time_questions
from vidreason.microworld.language import (
    NUM_FUTURES,
    caption,
    explanation,
    next_events,
    predictions,
)
from vidreason.microworld.multiple_choice import multiple_choice_questions
from vidreason.microworld.open_ended import open_questions
from vidreason.microworld.questions import Question, arrange, ask
from vidreason.microworld.simulation import Rollout
from vidreason.reasoning.predictions import Prediction, format_predictions
from vidreason.reasoning.prompts import (
    CAPTION_PROMPT,
    CAUSAL_EXPLANATION_PROMPT,
    EVENT_REASONING_PROMPT,
    FUTURE_PREDICTION_PROMPT,
    multiple_choice_prompt,
    open_ended_prompt,
)

QUESTIONS_OF_FORMS: dict[str, Callable[[Rollout, random.Random], Iterator[Question]]] = {
    "nextqa": multiple_choice_questions,
    "test_of_time": time_questions.time_questions,
    "activitynet_qa": open_questions,
}
"""All questions about a rollout, by the form that they are asked in."""


def instructions(
    rollouts: Sequence[Rollout], generator: random.Random
) -> list[tuple[int, str, str]]:
    """Return every kind of instruction about rollouts as ``(rollout index, prompt, response)``.

    These are the prompts and responses that the corpora's readers make of the written files.
    """
    questions = [
        (index, prompt, question.answer)
        for of_form in questions_about(rollouts, generator).values()
        for index, question, prompt in of_form
    ]
    return questions + narrations(rollouts, generator)


def narrations(rollouts: Sequence[Rollout], generator: random.Random) -> list[tuple[int, str, str]]:
    """Return caption, explanation and prediction of rollouts, as :func:`instructions` does."""
    drawn: list[tuple[int, str, str]] = []
    for index, rollout in enumerate(rollouts):
        drawn += [(index, CAPTION_PROMPT, caption(rollout))] * 3
        why = (EVENT_REASONING_PROMPT, CAUSAL_EXPLANATION_PROMPT)[index % 2]
        drawn.append((index, why, _numbered(explanation(rollout))))
        futures = next_events(rollout, NUM_FUTURES, generator)
        likely = [Prediction(*row) for row in predictions(rollout, futures)]
        drawn.append((index, FUTURE_PREDICTION_PROMPT, format_predictions(likely)))
    return drawn


def questions_about(
    rollouts: Sequence[Rollout], generator: random.Random
) -> dict[str, list[tuple[int, Question, str]]]:
    """Return questions in the forms of NExT-QA, Test of Time and ActivityNet-QA.

    Returns:
        By the form, balanced over all rollouts: index of the rollout, question, and prompt.
    """
    named = {str(index): rollout for index, rollout in enumerate(rollouts)}
    return {
        # 100 is above what there is to ask about one rollout: only balancing leaves any out.
        form: posed(form, ask(named, about, 100, generator), generator)
        for form, about in QUESTIONS_OF_FORMS.items()
    }


def posed(
    form: str, questions: Sequence[tuple[str, Question]], generator: random.Random
) -> list[tuple[int, Question, str]]:
    """Return questions of a form with their prompts, as its reader writes them.

    Args:
        form: One of ``QUESTIONS_OF_FORMS``.
        questions: Each with the number of its rollout, as text. One about an order becomes a
            minimal pair.
        generator: Draws the options.

    Returns:
        Index of the rollout, question, and prompt.
    """
    if form == "activitynet_qa":
        return [
            (int(name), question, open_ended_prompt(question.text)) for name, question in questions
        ]
    return [
        (
            int(name),
            choice.question,
            multiple_choice_prompt(choice.question.text, choice.options),
        )
        for name, arranged in arrange(questions, generator)
        for choice in time_questions.minimal_pair(arranged)
    ]


def _numbered(steps: Sequence[str]) -> str:
    """Return ``1. first`` and so on, a line a step, as in Causal-Vid-Instruct's explanations."""
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))
