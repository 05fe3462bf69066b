"""Rows of predictions: what was asked, what the model said, and whether it is right.

A row holds all that a score needs, so that every number of a table can be computed again without
the model (:mod:`vidreason.evaluation.predictions.row_files`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vidreason.evaluation.answers import (
    normalise_answer,
    parse_choice,
    parse_span,
    short_answer,
)
from vidreason.evaluation.grounding import max_iop
from vidreason.evaluation.predictions.row_schema import futures_problem
from vidreason.example import Example
from vidreason.reasoning.futures import Future
from vidreason.reasoning.outcomes import TrueFuture, outcome_of, true_futures_of
from vidreason.reasoning.predictions import parse_predictions
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT, written_out

RIGHT_SPAN_IOP = 0.5
"""Share of a predicted span that has to lie in a true one (NExT-GQA's Acc@GQA)."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkPrediction:
    """A model's answer to one benchmark question."""

    id: str
    corpus: str
    video_id: str
    question_type: str = ""
    group_id: str = ""
    """Shared by the rows that a benchmark also scores as one; empty for a row that stands alone."""
    prompt: str = ""
    options: tuple[str, ...] = ()
    """Empty for open-ended questions."""
    option_log_likelihoods: tuple[float, ...] = ()
    """Natural-log likelihood of each option's text, end-of-turn token included, *divided* by its
    number of tokens. Empty when a text was generated instead. One that is not finite makes the
    answer invalid."""
    option_token_counts: tuple[int, ...] = ()
    """Tokens of each option, so that the undivided sums can be had back."""
    output: str = ""
    """The generated text; empty when options were scored."""
    futures: tuple[Future, ...] = ()
    """Next events with computed probabilities, the most probable first; empty where the question
    asks for none, or the system computes none."""
    parsed: int | str | tuple[float, float] | None = None
    """Index of the chosen option, the named span in seconds, or the normalised short answer; None
    when the output names no option or span, or has no word."""
    reference: int | tuple[str, ...] | tuple[tuple[float, float], ...] | None = None
    """Index of the right option, the accepted answers, or the true spans in seconds; None when
    hidden, or when there is no short answer."""
    reference_texts: tuple[str, ...] = ()
    """Texts that a free answer, such as an explanation, is compared with word by word; empty where
    the answer is short, chosen or hidden."""
    reference_justifications: tuple[tuple[str, str], ...] = ()
    """Predicted events of the reference, each with its justification; empty where it gives none."""
    outcome_kind: str = ""
    """Kind of the event that really came next, which is then the one reference; empty where it is
    not known."""
    outcome_seconds: float | None = None
    """Time of that event after the end of the video; None where it is not known."""
    true_futures: tuple[TrueFuture, ...] = ()
    """True distribution over next events; empty where it is not known."""
    correct: bool | None = None
    """None without a reference, or for a system that cannot answer. A span is right when at least
    half of it lies in a true one, an option also when it has the same text as the right one."""
    error: str = ""
    """Why the video could not be read. Such a question counts as answered wrongly."""
    num_prompt_tokens: int = 0
    """Text tokens of the prompt in chat markup, without what stands for the video."""
    num_visual_tokens: int = 0
    """Tokens that stand for the video; 0 where none is shown, or the number is not known."""
    num_generated_tokens: int = 0
    """Tokens of the generated text, without the one that ends it; 0 when options were scored."""
    batch_seconds_share: float = field(default=0.0, compare=False)
    """Seconds that the question's batch took, loading its visual tokens included, divided by the
    batch's size. It differs from run to run, so rows that differ in it alone are equal."""
    record: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """How the system made the answer, such as a program with its calls; empty for most systems. No
    score is made of it."""
    missing_capability: str = ""
    """Capability that the question asks for and the system does not have, or why there is nothing
    to ask. Such a question has no score: a group with one is not applicable, which is not zero."""


def unanswered(example: Example) -> BenchmarkPrediction:
    """The row of ``example`` before the model has said anything."""
    reference: int | tuple[str, ...] | tuple[tuple[float, float], ...] | None
    # An accepted answer without a word cannot be given: an empty answer is none.
    answers = tuple(answer for answer in example.answers if normalise_answer(answer))
    reference = example.answer_index if example.options else (answers or None)
    # A question of when is graded by its spans, whatever else it has.
    reference = example.spans or reference
    outcome = outcome_of(example.meta)
    # A free answer has neither options nor accepted answers.
    is_free = reference is None and not (example.options or example.answers)
    return BenchmarkPrediction(
        id=example.id,
        corpus=example.corpus,
        video_id=example.video_id,
        question_type=example.question_type,
        group_id=example.group_id,
        prompt=written_out(example.earlier_turns, example.prompt),
        options=example.options,
        reference=reference,
        reference_texts=(example.response,) if is_free and example.response else (),
        reference_justifications=_justifications(example),
        outcome_kind="" if outcome is None else outcome.kind,
        outcome_seconds=None if outcome is None else outcome.seconds,
        true_futures=true_futures_of(example.meta),
    )


def grade(prediction: BenchmarkPrediction) -> BenchmarkPrediction:
    """Return a row with ``parsed`` and ``correct`` by what the model gave, whatever they were.

    Scored options: the highest length-normalised likelihood, the first among equals; none if one
    of them is not finite. Generated text: the option it names (:func:`parse_choice`); for a
    question with true spans, the span it names, at least half of which must lie in a true one; or,
    for another open-ended question, its normalised first line, which must equal an accepted answer.
    """
    parsed: int | str | tuple[float, float] | None
    if prediction.error:
        parsed = None
    elif prediction.option_log_likelihoods:
        scores = prediction.option_log_likelihoods
        best = max(range(len(scores)), key=lambda index: scores[index])
        parsed = best if has_finite_scores(prediction) else None
    elif prediction.options:
        parsed = parse_choice(prediction.output, prediction.options)
    elif true_spans(prediction):
        parsed = parse_span(prediction.output)
    else:
        parsed = short_answer(prediction.output) or None
    # What could not be asked is neither right nor wrong.
    correct = None if prediction.missing_capability else _is_correct(parsed, prediction)
    return replace(prediction, parsed=parsed, correct=correct)


def checked_futures(futures: Sequence[Future]) -> tuple[Future, ...]:
    """Return what a system has computed, in the form that a row holds.

    None of it is kept where a number is not finite: a model went wrong there, as with options whose
    likelihoods are not finite.

    Raises:
        ValueError: The system does not keep to what :class:`Future` says.
    """
    numbers = [value for item in futures for value in (item.log_likelihood, item.probability)]
    if not all(map(math.isfinite, numbers)):
        return ()
    if problem := futures_problem([item._asdict() for item in futures]):
        raise ValueError(f"in a reply, {problem}")
    return tuple(futures)


def has_finite_scores(prediction: BenchmarkPrediction) -> bool:
    """Tell whether options were scored, each with a finite number."""
    scores = prediction.option_log_likelihoods
    return bool(scores) and all(map(math.isfinite, scores))


def right_options(prediction: BenchmarkPrediction) -> tuple[int, ...]:
    """Indices of the right option and of those with its text; none without such a reference.

    Real test files offer one text twice (NExT-QA: 8 questions of the test split, one of them with
    the right answer): nobody can tell such options apart, and either counts as right.
    """
    options, reference = prediction.options, prediction.reference
    if not isinstance(reference, int) or not options:
        return ()
    # Case and spaces do not tell options apart.
    texts = [_option_text(option) for option in options]
    return tuple(n for n, text in enumerate(texts) if n == reference or text == texts[reference])


def has_twins(prediction: BenchmarkPrediction) -> bool:
    """Tell whether two options have the same text."""
    return len(set(map(_option_text, prediction.options))) < len(prediction.options)


def _option_text(option: str) -> str:
    return " ".join(option.casefold().split())


def true_spans(prediction: BenchmarkPrediction) -> tuple[tuple[float, float], ...]:
    """The spans that a grounding question asks for; none for any other question."""
    reference = prediction.reference
    if not isinstance(reference, tuple):
        return ()
    return tuple(one for one in reference if isinstance(one, tuple))


def align_predictions(
    predictions: Sequence[BenchmarkPrediction], expected_ids: Iterable[str]
) -> list[BenchmarkPrediction]:
    """The predictions in the order of ``expected_ids``, each exactly once.

    A denominator never shrinks: that is how scores of different sets come to stand in one table.

    Raises:
        ValueError: A prediction is missing, there twice, or of an unknown question.
    """
    by_id: dict[str, BenchmarkPrediction] = {}
    for prediction in predictions:
        if prediction.id in by_id:
            raise ValueError(f"there are two predictions for {prediction.id!r}")
        by_id[prediction.id] = prediction
    expected = list(expected_ids)
    missing = [name for name in expected if name not in by_id]
    unknown = sorted(by_id.keys() - set(expected))
    if missing or unknown:
        raise ValueError(
            f"predictions do not match the questions: {len(missing)} missing {missing[:3]}, "
            f"{len(unknown)} unknown "
            f"{unknown[:3]}"
        )
    return [by_id[name] for name in expected]


def _justifications(example: Example) -> tuple[tuple[str, str], ...]:
    if example.prompt != FUTURE_PREDICTION_PROMPT:
        return ()
    items = parse_predictions(example.response).items
    return tuple((item.event, item.justification) for item in items if item.justification)


def _is_correct(
    parsed: int | str | tuple[float, float] | None, prediction: BenchmarkPrediction
) -> bool | None:
    reference, spans = prediction.reference, true_spans(prediction)
    if reference is None:
        return None
    # By kind of reference: spans, accepted answers, an option.
    if spans:
        return isinstance(parsed, tuple) and max_iop(parsed, spans) >= RIGHT_SPAN_IOP
    if isinstance(reference, tuple):
        return parsed in {normalise_answer(str(answer)) for answer in reference}
    return parsed in right_options(prediction) or (not prediction.options and parsed == reference)


def id_in_corpus(identifier: str) -> str:
    """The id of a question or a prediction without corpus and split."""
    return identifier.split(":", 2)[2]
