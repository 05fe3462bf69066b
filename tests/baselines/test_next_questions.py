"""Which questions with options are about what comes next, for systems that know nothing else."""

import pytest

from data_modules.continuation_benchmark import QUESTION
from vidreason.baselines.questions import is_about_next
from vidreason.example import Example
from vidreason.reasoning.prompts import multiple_choice_prompt

OPTIONS = ("it stops", "it falls")


def about_next(question: str, question_type: str = "") -> bool:
    return is_about_next(
        Example(
            **{"id": "a:test:1", "corpus": "a", "media": "v.mp4", "video_id": "v", "response": ""},
            prompt=multiple_choice_prompt(question, OPTIONS),
            options=OPTIONS,
            question_type=question_type,
        )
    )


# CLEVRER's, STAR's and MVBench's, as the readers give them.
@pytest.mark.parametrize("kind", ["predictive", "Prediction", "action_prediction"])
def test_types_that_name_prediction_are_about_what_comes_next(kind):
    assert about_next("What will the person do?", kind)


@pytest.mark.parametrize("question", [QUESTION, "What comes next?", "what will happen next"])
def test_a_question_for_what_comes_next_needs_no_type(question):
    assert about_next(question)
    # The continuation benchmark's types are names of corpora.
    assert about_next(question, "activitynet_captions")


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("What did the boy do next after he fell?", "TN"),  # NExT-QA: it is shown
        ("What is next to the ball?", "DL"),
        ("What happens first?", ""),
        ("Which event caused the collision?", "explanatory"),
        ("What would happen next without the ball?", "counterfactual"),
        ("What did the person do?", "Sequence"),
        ("Is what happens next shown?", ""),
    ],
)
def test_others_are_not(question, kind):
    assert not about_next(question, kind)
