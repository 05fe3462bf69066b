"""Protocols of the benchmarks: groups of questions, what it scores as one, and its measures.

Groups follow the official scripts: NExT-QA's ``eval_mc.py`` (github doc-doc/NExT-QA, 6b92588),
NExT-GQA's ``eval_ground.py`` (github doc-doc/NExT-GQA), ActivityNet-QA's ``eval.py`` (github
MILVLG/activitynet-qa, 2cf80ae), CLEVRER's ``run_mc.py`` (github chuangg/CLEVRER) and VCR's
``eval_q2ar.py`` (github rowanz/r2c). A corpus that is not in ``PROTOCOLS`` is scored by accuracy,
over all and by question type.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from vidreason.evaluation.answers import normalise_answer, short_answer
from vidreason.evaluation.explanations import (
    has_links,
    has_order,
    has_steps,
    link_score,
    same_words,
    step_order,
    step_score,
)
from vidreason.evaluation.grounding import max_iop, max_iou
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, right_options, true_spans
from vidreason.evaluation.text.wups import Wups
from vidreason.reasoning.predictions import parse_predictions
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT

ALL = "all"
ACCURACY = "accuracy"
STEP_ORDER = "step order"

Measure = Callable[[BenchmarkPrediction], float | None]
"""The value of a graded prediction, from 0 to 1; None for one that says nothing: it counts 0."""


def accuracy(prediction: BenchmarkPrediction) -> float | None:
    """1 for a right answer."""
    return None if prediction.parsed is None else float(bool(prediction.correct))


def chance(
    prediction: BenchmarkPrediction, known_answers: Mapping[tuple[str, str], Collection[str]]
) -> float | None:
    """Probability that a random option is right, or a random one of the known answers.

    None for an open-ended question of a corpus and type without known answers.
    """
    options, reference = prediction.options, prediction.reference
    if options:
        # Of options, one is right even where the file hides which.
        return max(len(right_options(prediction)), 1) / len(options)
    known = known_answers.get((prediction.corpus, prediction.question_type))
    if not known or not isinstance(reference, tuple):
        return None
    return len({normalise_answer(str(answer)) for answer in reference}.intersection(known)) / len(
        known
    )


class Score(NamedTuple):
    """A mean over rows of one question type."""

    question_type: str
    measure: Measure
    applies: Callable[[BenchmarkPrediction], bool] = lambda _: True
    """False for rows that do not count, such as those whose reference has no link. It looks at the
    reference alone, so that the rows are the same ones in every run."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Scoring of a benchmark."""

    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """From a question type to the groups that it counts in, besides ``all``. A type that is not
    listed is a group of its own."""
    joint: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """From a score's name to question types: the rows of these types that share a ``group_id``
    count as one, right if all are right. A group without one of the types is left out; no types are
    any types."""
    all_is_joint: bool = False
    """True if ``all`` counts groups of rows, too, and not rows. A row without group is its own."""
    joint_measure: Measure = accuracy
    """Measure that is multiplied over the rows of a group: 1 for right and 0 for wrong ones."""
    measure: Measure = accuracy
    """Measure that is averaged over ``all`` and ``groups``."""
    measure_name: str = ACCURACY
    further: Mapping[str, Score] = field(default_factory=dict)
    """Further scores by name."""
    texts: Mapping[str, Score] = field(default_factory=dict)
    """Scores of free answers beside their reference texts, by name. Their rows count in nothing
    else. The scores of a question type have a table of their own; runs are compared by the first.
    """
    macro: str = ""
    """Name of the mean over question types of their means; empty for none."""
    splits_types: bool = False
    """True if a type of the form ``order/multi-choice`` counts in a group of each part."""
    outcomes: tuple[str, ...] = ()
    """Kinds of events that come next, in a table's order. A row with such a kind, or another one,
    counts in the group of its kind, too."""

    def groups_of(self, prediction: BenchmarkPrediction) -> tuple[str, ...]:
        """The groups that a row counts in by itself, without ``all``."""
        question_type, kind = prediction.question_type, prediction.outcome_kind
        of_kind = (kind,) if kind and self.outcomes else ()
        if self.splits_types:
            return (*question_type.split("/"), *of_kind)
        groups = self.groups.get(question_type, (question_type,) if question_type else ())
        return (*groups, *of_kind)

    def order(self) -> list[str]:
        """The names of all scores that are known beforehand, as a table shows them."""
        named = (name for names in self.groups.values() for name in names)
        further = [*self.further, *self.outcomes, *self.texts]
        return list(dict.fromkeys([ALL, *self.joint, self.macro, *named, *further]))

    def scores_row(self, prediction: BenchmarkPrediction) -> bool:
        """Tell whether a row counts in any score: it has a reference of a kind that is scored."""
        kinds = {score.question_type for score in self.texts.values()}
        has_texts = bool(prediction.reference_texts) and prediction.question_type in kinds
        return has_texts or prediction.reference is not None

    def text_columns(self) -> dict[str, list[str]]:
        """The names of ``texts`` by question type: a table each."""
        names: dict[str, list[str]] = {}
        for name, score in self.texts.items():
            names.setdefault(score.question_type, []).append(name)
        return names


# TP, "what happened before", is counted with TN, "after": the official script has one column for
# both.
NEXTQA_GROUPS: dict[str, tuple[str, ...]] = {
    "CW": ("C", "CW"),
    "CH": ("C", "CH"),
    "TN": ("T", "TN"),
    "TP": ("T", "TN"),
    "TC": ("T", "TC"),
    "DC": ("D", "DC"),
    "DL": ("D", "DL"),
    "DO": ("D", "DO"),
}
# Open-ended NExT-QA has yes/no questions, too.
NEXTQA_OPEN_ENDED_GROUPS = NEXTQA_GROUPS | {"DB": ("D", "DB")}
_EXACT_TYPES = ("DC", "DB")
ACTIVITYNET_QA_GROUPS: dict[str, tuple[str, ...]] = {
    "0": ("motion",),
    "1": ("spatial",),
    "2": ("temporal",),
    "3": ("free", "yesno"),
    "4": ("free", "color"),
    "5": ("free", "object"),
    "6": ("free", "location"),
    "7": ("free", "number"),
    "8": ("free", "other"),
}
OUTCOMES = ("hit", "push", "block", "leave", "enter", "nothing")
"""Kinds of next events, in the order of the tables."""
_CLEVRER_CHOICES = ("explanatory", "predictive", "counterfactual")


def _overlap(
    prediction: BenchmarkPrediction,
    *,
    overlap: Callable[[tuple[float, float], tuple[tuple[float, float], ...]], float],
    threshold: float | None = None,
) -> float | None:
    """An overlap of the predicted span with the true ones, or whether it reaches ``threshold``."""
    if not isinstance(prediction.parsed, tuple):
        return None
    value = overlap(prediction.parsed, true_spans(prediction))
    return value if threshold is None else float(value >= threshold)


def official_free_accuracy(question_types: Sequence[str], correct: Sequence[bool]) -> float:
    """ActivityNet-QA's "free" accuracy *as its official script prints it*, which is wrong.

    The script divides the right answers of types 3 to 8 by the sizes of the types that come fourth
    and later *in order of first appearance*, which are other types. It is here only to compare with
    printed numbers; the right value is the accuracy of the group ``free``.

    Args:
        question_types: Codes "0" to "8", in the order of the official answer file.
        correct: One flag a question.
    """
    sizes = Counter(question_types)  # in order of first appearance
    num_correct = sum(
        flag
        for question_type, flag in zip(question_types, correct, strict=True)
        if "free" in ACTIVITYNET_QA_GROUPS[question_type]
    )
    denominator = sum(list(sizes.values())[3:])
    return num_correct / denominator if denominator else float("nan")


def future_hit(prediction: BenchmarkPrediction, *, first: int) -> float | None:
    """1 if one of the ``first`` predicted events is, word for word, one of the reference's.

    Where it is known what came next, the reference is that event alone, so that the hit of the
    first event is strict. Elsewhere it is any event that the annotation predicts.

    Meant for corpora with a closed vocabulary, such as the microworld's; where events are told
    freely, a judge has to say what is the same.
    """
    if prediction.prompt == FUTURE_PREDICTION_PROMPT:
        events = [item.event for item in parse_predictions(prediction.output).items]
    else:
        # Another prompt asks for one event, without the form of predictions.
        events = [event] if (event := short_answer(prediction.output)) else []
    if prediction.error or not events or not isinstance(prediction.reference, tuple):
        return None
    return float(any(is_event(prediction, event) for event in events[:first]))


def justified_hit(prediction: BenchmarkPrediction) -> float | None:
    """1 if the first predicted event is a hit, and its justification is the reference's for it.

    Of the hits, this over :func:`future_hit` is the share with the right reason. Justifications are
    compared word for word, too (:func:`vidreason.evaluation.explanations.same_words`).
    """
    hit = future_hit(prediction, first=1)
    if not hit or prediction.prompt != FUTURE_PREDICTION_PROMPT:
        # None stays None; a miss, and a hit of a prompt that asks for no reason, become 0.
        return hit and 0.0
    told = parse_predictions(prediction.output).items[0]
    return float(
        any(
            same_words(told.event, event) and same_words(told.justification, reason)
            for event, reason in prediction.reference_justifications
        )
    )


def has_justification(prediction: BenchmarkPrediction) -> bool:
    """Tell whether the reference justifies an event that would be a hit."""
    return any(is_event(prediction, event) for event, _ in prediction.reference_justifications)


def is_event(prediction: BenchmarkPrediction, event: str) -> bool:
    """Tell whether ``event`` is, word for word, one of the reference's."""
    reference = prediction.reference if isinstance(prediction.reference, tuple) else ()
    return normalise_answer(event) in {normalise_answer(str(true)) for true in reference}


def wups_protocol(wups: Wups, stop_words: frozenset[str]) -> Protocol:
    """NExT-QA open-ended as it is published: WUPS of the best reference, counts and yes/no exact.

    Exact are the lemmas without stop words, as in the official script (``remove_stop`` of
    ``eval_oe.py``): "yes it is" is "yes", "the boys" are "boy".

    ``PROTOCOLS`` counts exact matches for this corpus, because WordNet is not at hand everywhere:
    pass ``PROTOCOLS | {"nextqa_open_ended": wups_protocol(...)}`` to
    :func:`vidreason.evaluation.cells.score_predictions`.

    Args:
        wups: Of WordNet 3.0, by the legacy rule.
        stop_words: The benchmark's ``stopwords.txt``.
    """

    def measure(prediction: BenchmarkPrediction) -> float | None:
        answer, reference = prediction.parsed, prediction.reference
        if not isinstance(answer, str) or not isinstance(reference, tuple):
            return None
        tokens = wups.answer_tokens(answer, stop_words)
        trues = [wups.answer_tokens(str(true), stop_words) for true in reference]
        if prediction.question_type in _EXACT_TYPES:
            return float(tokens in trues)
        return max(wups.score(tokens, true) for true in trues)

    name = "WUPS" if stop_words else "WUPS with stop words"
    return Protocol(groups=NEXTQA_OPEN_ENDED_GROUPS, measure=measure, measure_name=name)


PROTOCOLS: dict[str, Protocol] = {
    "nextqa": Protocol(groups=NEXTQA_GROUPS),
    "nextqa_open_ended": Protocol(groups=NEXTQA_OPEN_ENDED_GROUPS),
    "nextgqa": Protocol(
        groups={kind: ("Acc@QA", *names) for kind, names in NEXTQA_GROUPS.items()}
        | {"grounding": ("IoP@0.5",)},
        joint={"Acc@GQA": ()},
        all_is_joint=True,
        further={
            "mIoP": Score("grounding", partial(_overlap, overlap=max_iop)),
            "IoP@0.3": Score("grounding", partial(_overlap, overlap=max_iop, threshold=0.3)),
            "mIoU": Score("grounding", partial(_overlap, overlap=max_iou)),
            "IoU@0.3": Score("grounding", partial(_overlap, overlap=max_iou, threshold=0.3)),
            "IoU@0.5": Score("grounding", partial(_overlap, overlap=max_iou, threshold=0.5)),
        },
    ),
    "activitynet_qa": Protocol(groups=ACTIVITYNET_QA_GROUPS),
    "clevrer": Protocol(
        groups={"descriptive": ("descriptive",)}
        | {kind: (f"{kind} per option",) for kind in _CLEVRER_CHOICES},
        joint={f"{kind} per question": (kind,) for kind in _CLEVRER_CHOICES},
        all_is_joint=True,
    ),
    "vcr": Protocol(
        groups={"answer": ("Q->A",), "rationale": ("QA->R",)},
        joint={"Q->AR": ("answer", "rationale")},
        all_is_joint=True,
    ),
    "test_of_time": Protocol(joint={"pairs": ()}, macro="mean of categories"),
    "causal_vid_instruct": Protocol(
        measure=partial(future_hit, first=1),
        measure_name="top-1 hit",
        groups={"prediction": ("top-1 hit",)},
        further={
            "any-of-3 hit": Score("prediction", partial(future_hit, first=3)),
            "justified hit": Score("prediction", justified_hit, has_justification),
        },
        texts={
            "step F1": Score("explanation", partial(step_score, side="f1"), has_steps),
            "step precision": Score(
                "explanation", partial(step_score, side="precision"), has_steps
            ),
            "step recall": Score("explanation", partial(step_score, side="recall"), has_steps),
            STEP_ORDER: Score("explanation", step_order, has_order),
            "link F1": Score("explanation", partial(link_score, side="f1"), has_links),
            "link precision": Score(
                "explanation", partial(link_score, side="precision"), has_links
            ),
            "link recall": Score("explanation", partial(link_score, side="recall"), has_links),
        },
        outcomes=OUTCOMES,
    ),
    "tempcompass": Protocol(splits_types=True),
    "video_mme": Protocol(splits_types=True),
    "star": Protocol(macro="mean of types"),
    "intentqa": Protocol(groups={"CW": ("CW",), "CH": ("CH",), "TP": ("TP&TN",), "TN": ("TP&TN",)}),
}
"""Corpus -> protocol."""
