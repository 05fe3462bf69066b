"""The few functions of numpy that programs for ViperGPT's prompt call, on lists of numbers."""

import numpy as np

from vidreason.baselines.viper.checked_arguments import checked_list, checked_real

NUMBER_FUNCTIONS = frozenset(
    ("round", "mean", "median", "percentile", "sum", "min", "max", "argmax", "argmin", "abs")
)


class NumberFunctions:
    """Programs know it as ``np``; a list has at most 100 numbers."""

    def round(self, a: object, decimals: object = 0) -> float:
        """Return a number rounded to some digits, halves to even ones."""
        digits = int(min(max(checked_real(decimals, "decimals"), -20), 20))
        return float(np.round(checked_real(a, "a"), digits))

    def abs(self, x: object) -> float:
        """Return a number without its sign."""
        return abs(checked_real(x, "x"))

    def mean(self, a: object) -> float:
        """Return the mean."""
        return float(np.mean(_numbers(a)))

    def median(self, a: object) -> float:
        """Return the median."""
        return float(np.median(_numbers(a)))

    def percentile(self, a: object, q: object) -> float:
        """Return the ``q``-th percentile, interpolated."""
        percent = min(max(checked_real(q, "q"), 0.0), 100.0)
        return float(np.percentile(_numbers(a), percent))

    def sum(self, a: object) -> float:
        """Return the sum."""
        return float(np.sum(_numbers(a)))

    def min(self, a: object) -> float:
        """Return the smallest number."""
        return min(_numbers(a))

    def max(self, a: object) -> float:
        """Return the largest number."""
        return max(_numbers(a))

    def argmax(self, a: object) -> int:
        """Return the index of the first largest number."""
        return int(np.argmax(_numbers(a)))

    def argmin(self, a: object) -> int:
        """Return the index of the first smallest number."""
        return int(np.argmin(_numbers(a)))


def _numbers(values: object) -> list[float]:
    return [checked_real(value, "a") for value in checked_list(values, "a")]
