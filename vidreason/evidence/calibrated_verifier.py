"""A verifier of two parts: a model's signals about each claim, and their calibration."""

from collections.abc import Sequence
from typing import Protocol

from vidreason.evidence.calibration import Calibration, Signals
from vidreason.evidence.verifier import Claim, Support


class SignalSource(Protocol):
    """A model that looks at videos and gives numbers about claims."""

    source_id: str
    """Names the model and everything else that can change its numbers."""

    def signals(self, claims: Sequence[Claim]) -> list[Signals]:
        """Return the signals of each claim, in their order, whatever else is asked with it.

        Raises:
            VideoReadError: A video cannot be read.
        """
        ...


class CalibratedVerifier:
    """The probability of each claim, by a logistic regression over a model's signals.

    Args:
        source: The model.
        calibration: Fitted on signals of that model.
        threshold: Probability from which a claim counts as supported; None for the calibration's.
    """

    def __init__(
        self, source: SignalSource, calibration: Calibration, threshold: float | None = None
    ) -> None:
        self._source = source
        self._calibration = calibration
        self._threshold = calibration.threshold if threshold is None else threshold
        fitted = f"{calibration.digest()}, from {self._threshold!r}"
        self.verifier_id = f"{source.source_id}, calibration {fitted}"

    def verify(self, claims: Sequence[Claim]) -> list[Support]:
        """Look at each claim's span; one answer a claim, in their order.

        Raises:
            VideoReadError: A video cannot be read.
        """
        probabilities = self._calibration.probabilities(self._source.signals(claims))
        return [Support(value, value >= self._threshold) for value in probabilities]
