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
from vidreason.microworld.corpora import shown_span
from vidreason.microworld.instructions import QUESTIONS_OF_FORMS, narrations, posed
from vidreason.microworld.multiple_choice import multiple_choice_questions
from vidreason.microworld.questions import Question, is_kept, kept_shares
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
_EACH_ALONE = "test_of_time"
"""Form that has three templates only: several of its questions may be asked about a video."""
_MAX_WEIGHT = 20.0
"""The largest weight of a template: where a video has a rare one, others are asked as well."""
_EMPHASIS = dict.fromkeys(("place", "final_position", "relation"), 4.0)
"""How much more often than by its form's share a template is asked. Where things are is what the
reasoner knew worst in videos: 54 to 74% right of 300, and 83 and 84 after 1,200 steps with this
(measured). Captions tell it in words of which each is a thirtieth of one."""
_MAX_EARLIER = 4
"""The most questions before one."""

_Answered = tuple[str, str]
"""A prompt and its response."""
_Template = tuple[str, str]
"""Form and template of questions."""


class _Name(NamedTuple):
    form: str
    template: str
    one: str = ""
    """Prompt of a question of which others of its template may be asked as well."""


class QuestionRates(NamedTuple):
    """How often to ask what, so that over many videos all templates and answers come alike.

    A batch has too few videos to balance questions within it: of a template with four answers
    hardly one would stay.
    """

    kept: dict[str, dict[tuple[str, str], float]]
    """By the form: :func:`kept_shares`."""
    weights: dict[_Template, float]
    """Weights of templates, large ones of those that few videos have."""


def question_rates(rollouts: Sequence[Rollout], generator: random.Random) -> QuestionRates:
    """Return the rates that a few hundred rollouts give.

    Args:
        rollouts: What happens.
        generator: Draws the questions about them.
    """
    kept: dict[str, dict[tuple[str, str], float]] = {}
    weights: dict[_Template, float] = {}
    for form, about in QUESTIONS_OF_FORMS.items():
        drawn = [list(about(rollout, generator)) for rollout in rollouts]
        kept[form] = kept_shares(question for questions in drawn for question in questions)
        numbers: Counter[str] = Counter()
        for questions in drawn:
            # A template is asked once a video, however many questions it has there; those of the
            # form with few templates may all be asked, and all count.
            roots = [_root(each) for each in questions if is_kept(each, kept[form], generator)]
            numbers.update(roots if form == _EACH_ALONE else set(roots))
        for root, number in numbers.items():
            # The rarer it is, the more often it is asked where there is one.
            weight = min(len(rollouts) / number, _MAX_WEIGHT)
            weights[form, root] = weight * _EMPHASIS.get(root, 1.0)
    return QuestionRates(kept, weights)


class LessonText(NamedTuple):
    """One text about a video of a batch."""

    video: int
    """Index of the video."""
    prompt: str
    response: str
    earlier_turns: tuple[Turn, ...] = ()


def texts_about(
    rollouts: Sequence[Rollout],
    per_video: int,
    generator: random.Random,
    rates: QuestionRates,
    always: Sequence[str] = ("prediction",),
) -> list[LessonText]:
    """Return some instructions about each rollout.

    Args:
        rollouts: What happens.
        per_video: Number of texts about each.
        generator: Draws them.
        rates: Of questions.
        always: Kinds of texts that are among them.
    """
    drawn = _by_kind(rollouts, rates, generator)
    chosen = []
    for video in range(len(rollouts)):
        num_others = per_video - len(always)
        others = generator.choices(list(_OTHER_TEXTS), list(_OTHER_TEXTS.values()), k=num_others)
        for kind in (*always, *others):
            # Balancing may leave no question about a video.
            templates = drawn[video, kind] or drawn[video, "caption"]
            in_turn = _in_turn(templates, rates, generator)
            texts = [generator.choice(templates[name]) for name in in_turn]
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


def _in_turn(names: Iterable[_Name], rates: QuestionRates, generator: random.Random) -> list[_Name]:
    """Order templates at random: each form is the last equally often, rare templates often."""
    names = list(names)
    weights = {name: rates.weights.get(name[:2], 1.0) for name in names}
    totals: dict[str, float] = defaultdict(float)
    for name, weight in weights.items():
        totals[name.form] += weight
    # The largest of random numbers to the powers of 1 / weight is each with its weight's share.
    return sorted(names, key=lambda name: generator.random() ** (totals[name.form] / weights[name]))


def _root(question: Question) -> str:
    """Return a template without its parts, which only balancing tells apart."""
    return question.template.split("/")[0]


def _by_kind(
    rollouts: Sequence[Rollout], rates: QuestionRates, generator: random.Random
) -> dict[tuple[int, str], dict[_Name, list[_Answered]]]:
    """Return all texts by video and kind, and within these by what may be asked once."""
    drawn: dict[tuple[int, str], dict[_Name, list[_Answered]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for form, about in QUESTIONS_OF_FORMS.items():
        questions = [
            (str(video), question)
            for video, rollout in enumerate(rollouts)
            for question in about(rollout, generator)
            if is_kept(question, rates.kept[form], generator)
        ]
        for video, question, prompt in posed(form, questions, generator):
            name = _Name(form, _root(question), prompt if form == _EACH_ALONE else "")
            drawn[video, "question"][name].append((prompt, question.answer))
    for video, prompt, response in narrations(rollouts, generator):
        drawn[video, _KINDS[prompt]][_Name("", prompt)].append((prompt, response))
    for video, about_what, statement, is_right in clevrer.statements(rollouts, generator):
        judged = yes_no_prompt(about_what, statement), "yes" if is_right else "no"
        # A name each, so that several of them make a conversation.
        drawn[video, "statement"][_Name("", judged[0])].append(judged)
    for video, rollout in enumerate(rollouts):
        for question in multiple_choice_questions(rollout, generator):
            if question.seen_at is not None:
                span = grounding_response(*shown_span(question))
                prompt = grounding_prompt(question.text)
                drawn[video, "span"][_Name("", prompt)].append((prompt, span))
    return drawn


def _conversation(
    video: int, texts: Sequence[_Answered], max_earlier: int, generator: random.Random
) -> LessonText:
    """Return one text, after some of the others."""
    # The last of the order is the text itself; those right before it become earlier turns.
    *others, (prompt, response) = texts
    earlier = others[-generator.randint(1, max_earlier) :] if max_earlier else []
    turns: list[Turn] = []
    for question, answer in earlier:
        turns += Turn("user", question), Turn("assistant", answer, is_target=True)
    return LessonText(video, prompt, response, tuple(turns))
