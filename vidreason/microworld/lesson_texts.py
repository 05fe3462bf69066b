"""Texts that are learnt about imagined videos and pictures: predictions, and others of all forms.

Answers to questions have few tokens beside a prediction's, so several questions about a video
follow each other in one conversation, in which every answer is learnt.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vidreason.example import Turn
from vidreason.microworld import clevrer
from vidreason.microworld.corpora import narrations, questions_about, shown_span
from vidreason.microworld.multiple_choice import multiple_choice_questions
from vidreason.microworld.simulation import Rollout
from vidreason.microworld.still_images import Look, picture_instructions
from vidreason.reasoning.prompts import (
    CAPTION_PROMPT,
    CAUSAL_EXPLANATION_PROMPT,
    EVENT_REASONING_PROMPT,
    FUTURE_PREDICTION_PROMPT,
    grounding_prompt,
    grounding_response,
    yes_no_prompt,
)

_KINDS = {
    FUTURE_PREDICTION_PROMPT: "prediction",
    EVENT_REASONING_PROMPT: "explanation",
    CAUSAL_EXPLANATION_PROMPT: "explanation",
    CAPTION_PROMPT: "caption",
}
"""Kinds of narrations by their prompts; the others are questions, statements to be judged, and
spans in which an answer is seen."""
_OTHER_TEXTS = {
    "explanation": 0.2,
    "caption": 0.05,
    "question": 0.5,
    "statement": 0.15,
    "span": 0.1,
}
"""Kinds of the texts beside a prediction, and their shares."""
_CONVERSATION_SHARE = 0.75
"""Share of the questions and statements that come after others of their kind."""
_MAX_EARLIER = 4
"""The most questions before one."""

_Answered = tuple[str, str]
"""A prompt and its response."""
_Template = tuple[str, str]
"""Form and template of questions."""


class LessonText(NamedTuple):
    """One text about a video of a batch."""

    video: int
    """Index of the video."""
    prompt: str
    response: str
    earlier_turns: tuple[Turn, ...] = ()


def texts_about(
    rollouts: Sequence[Rollout], per_video: int, generator: random.Random
) -> list[LessonText]:
    """Return the prediction of each rollout, and some other instructions about it.

    Args:
        rollouts: What happens; questions are balanced over all of them.
        per_video: Number of texts about each, the prediction included.
        generator: Draws the others.
    """
    drawn = _by_kind(rollouts, generator)
    chosen = []
    for video in range(len(rollouts)):
        others = generator.choices(list(_OTHER_TEXTS), list(_OTHER_TEXTS.values()), k=per_video - 1)
        for kind in ("prediction", *others):
            # Balancing may leave no question about a video.
            templates = drawn[video, kind] or drawn[video, "caption"]
            texts = [generator.choice(templates[name]) for name in _in_turn(templates, generator)]
            is_alone = kind == "prediction" or generator.random() >= _CONVERSATION_SHARE
            chosen.append(_conversation(video, texts, 0 if is_alone else _MAX_EARLIER, generator))
    return chosen


def texts_about_picture(
    video: int, rollout: Rollout, looks: Sequence[Look], number: int, generator: random.Random
) -> list[LessonText]:
    """Return ``number`` texts about one picture: questions and why their answers are right.

    Args:
        video: Index of the picture in the batch.
        rollout: What happens.
        looks: At least one question about the picture.
        number: How many texts.
        generator: Draws them.
    """
    drawn = picture_instructions(rollout, looks, generator)
    return [LessonText(video, *text) for text in generator.choices(drawn, k=number)]


def _in_turn(templates: Iterable[_Template], generator: random.Random) -> list[_Template]:
    """Order templates at random: rare ones as those of many questions, and each form alike.

    The last are the likeliest: each form is the last equally often, and in it each template.
    """
    templates = list(templates)
    sizes = Counter(form for form, _ in templates)
    return sorted(templates, key=lambda template: generator.random() ** sizes[template[0]])


def _by_kind(
    rollouts: Sequence[Rollout], generator: random.Random
) -> dict[tuple[int, str], dict[_Template, list[_Answered]]]:
    """Return all texts by video and kind, and within these by the template of the question."""
    drawn: dict[tuple[int, str], dict[_Template, list[_Answered]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for form, of_form in questions_about(rollouts, generator).items():
        for video, question, prompt in of_form:
            # Test of Time has three templates only: each of its questions is one.
            name = prompt if form == "test_of_time" else question.template.split("/")[0]
            drawn[video, "question"][form, name].append((prompt, question.answer))
    for video, prompt, response in narrations(rollouts, generator):
        drawn[video, _KINDS[prompt]]["", prompt].append((prompt, response))
    for video, about, statement, is_right in clevrer.statements(rollouts, generator):
        judged = yes_no_prompt(about, statement), "yes" if is_right else "no"
        # A template each, so that several of them make a conversation.
        drawn[video, "statement"]["", judged[0]].append(judged)
    for video, rollout in enumerate(rollouts):
        for question in multiple_choice_questions(rollout, generator):
            if question.seen_at is not None:
                span = grounding_response(*shown_span(question))
                prompt = grounding_prompt(question.text)
                drawn[video, "span"]["", prompt].append((prompt, span))
    return drawn


def _conversation(
    video: int, texts: Sequence[_Answered], max_earlier: int, generator: random.Random
) -> LessonText:
    """Return one text, after some of the others."""
    *others, (prompt, response) = texts
    earlier = others[-generator.randint(1, max_earlier) :] if max_earlier else []
    turns: list[Turn] = []
    for question, answer in earlier:
        turns += Turn("user", question), Turn("assistant", answer, is_target=True)
    return LessonText(video, prompt, response, tuple(turns))
