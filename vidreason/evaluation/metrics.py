"""Scores of predictions: accuracy overall, by a benchmark's own groups, and by question type.

Groups follow the official scripts: NExT-QA's ``eval_mc.py`` (github doc-doc/NExT-QA, 6b92588) and
ActivityNet-QA's ``eval.py`` (github MILVLG/activitynet-qa, 2cf80ae).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vidreason.evaluation.predictions_file import (
    BenchmarkPrediction,
    align_predictions,
    judge,
)
from vidreason.evaluation.statistics import Interval, bootstrap_interval, paired_difference

ALL = "all"

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
_GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "nextqa": NEXTQA_GROUPS,
    "activitynet_qa": ACTIVITYNET_QA_GROUPS,
}


@dataclass(frozen=True, kw_only=True)
class Score:
    """Accuracy of one group of questions."""

    corpus: str
    group: str
    """``all``, a group of the official protocol (such as ``C`` or ``free``), or a question type."""
    num_questions: int
    num_videos: int
    num_correct: int
    num_invalid: int
    """Questions whose output named no option, or whose video could not be read. They count as
    wrong."""
    accuracy: Interval
    """Fractions, with the 95% interval of a bootstrap over videos."""


def question_groups(corpus: str, question_type: str) -> tuple[str, ...]:
    """The groups that a question counts in: ``all``, the official ones, its type."""
    own = (question_type,) if question_type else ()
    return (ALL, *_GROUPS.get(corpus, {}).get(question_type, own))


def score_predictions(
    predictions: Sequence[BenchmarkPrediction], expected_ids: Iterable[str] | None = None
) -> list[Score]:
    """Judge predictions again from what the model gave, and score each corpus and group.

    Predictions without a reference are left out. ``all`` comes first in each corpus; the other
    groups follow in the official order, or sorted where there is none.

    Args:
        predictions: Of one run, of one or several corpora.
        expected_ids: The questions of the benchmark; None to trust that the predictions are
            complete.

    Raises:
        ValueError: A prediction is missing, there twice, or of an unknown question.
    """
    ids = [prediction.id for prediction in predictions] if expected_ids is None else expected_ids
    grouped: dict[tuple[str, str], list[BenchmarkPrediction]] = {}
    for prediction in map(judge, align_predictions(predictions, ids)):
        if prediction.correct is not None:
            for group in question_groups(prediction.corpus, prediction.question_type):
                grouped.setdefault((prediction.corpus, group), []).append(prediction)
    return [
        _score(corpus, group, grouped[corpus, group])
        for corpus, group in sorted(grouped, key=_position)
    ]


def accuracy_difference(
    run_a: Sequence[BenchmarkPrediction], run_b: Sequence[BenchmarkPrediction]
) -> Interval:
    """Accuracy of ``run_a`` minus that of ``run_b``, with its paired 95% interval over videos.

    Raises:
        ValueError: The runs do not answer the same questions, or no question has a reference.
    """
    matched = align_predictions(run_b, [prediction.id for prediction in run_a])
    pairs = [
        (judged_a, judge(b))
        for judged_a, b in zip(map(judge, run_a), matched, strict=True)
        if judged_a.correct is not None
    ]
    return paired_difference(
        [float(bool(a.correct)) for a, _ in pairs],
        [float(bool(b.correct)) for _, b in pairs],
        _clusters([a for a, _ in pairs]),
    )


def official_free_accuracy(question_types: Sequence[str], correct: Sequence[bool]) -> float:
    """ActivityNet-QA's "free" accuracy *as its official script prints it*, which is wrong.

    The script divides the right answers of types 3 to 8 by the sizes of the types that come fourth
    and later *in order of first appearance*, which are other types. It is here only to compare with
    printed numbers; the right value is the accuracy of the group ``free``.

    Args:
        question_types: Codes "0" to "8", in the order of the official answer file.
        correct: One flag a question.
    """
    sizes: dict[str, int] = {}
    for question_type in question_types:
        sizes[question_type] = sizes.get(question_type, 0) + 1
    num_correct = sum(
        flag
        for question_type, flag in zip(question_types, correct, strict=True)
        if "free" in ACTIVITYNET_QA_GROUPS[question_type]
    )
    denominator = sum(list(sizes.values())[3:])
    return num_correct / denominator if denominator else float("nan")


def _score(corpus: str, group: str, predictions: Sequence[BenchmarkPrediction]) -> Score:
    clusters = _clusters(predictions)
    flags = [float(bool(prediction.correct)) for prediction in predictions]
    return Score(
        corpus=corpus,
        group=group,
        num_questions=len(predictions),
        num_videos=len(set(clusters)),
        num_correct=int(sum(flags)),
        num_invalid=sum(prediction.parsed is None for prediction in predictions),
        accuracy=bootstrap_interval(flags, clusters),
    )


def _clusters(predictions: Sequence[BenchmarkPrediction]) -> list[str]:
    # Two corpora may use one id for different videos.
    return [f"{prediction.corpus}:{prediction.video_id}" for prediction in predictions]


def _position(key: tuple[str, str]) -> tuple[str, int, str]:
    corpus, group = key
    official = list(
        dict.fromkeys(name for names in _GROUPS.get(corpus, {}).values() for name in names)
    )
    order = [ALL, *official]
    return corpus, order.index(group) if group in order else len(order), group
