"""A metric for free answers: the F1 of their words, against the best of the references."""

from collections import Counter

from vidreason.evaluation.answers import normalise_answer
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.protocols import Protocol


def token_f1(prediction: BenchmarkPrediction) -> float | None:
    """Return the F1 from 0 to 1; None for a question without an answer, which counts 0."""
    if not isinstance(prediction.parsed, str) or not isinstance(prediction.reference, tuple):
        return None
    words = Counter(normalise_answer(prediction.parsed).split())
    return max(_f1(words, str(reference)) for reference in prediction.reference)


def _f1(words: Counter[str], reference: str) -> float:
    true = Counter(normalise_answer(reference).split())
    return 2 * (words & true).total() / max(words.total() + true.total(), 1)


PROTOCOL = Protocol(measure=token_f1, measure_name="token F1")
