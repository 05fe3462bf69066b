"""Student's t: probabilities and quantiles, for any degrees of freedom."""

import math
from functools import lru_cache

import numpy as np

CONFIDENCE = 0.95
"""Coverage of all intervals."""
_NUM_STEPS = 1_000  # even; of Simpson's rule


def student_p_value(statistic: float, degrees_of_freedom: float) -> float:
    """Probability of a value as far from 0 under Student's t, to about 1e-9."""
    # With x = sqrt(df) tan(angle), the density becomes cos(angle) ** (df - 1).
    angle = math.atan(abs(statistic) / math.sqrt(degrees_of_freedom))
    angles = np.linspace(0.0, angle, _NUM_STEPS + 1)
    density = np.cos(angles) ** (degrees_of_freedom - 1)
    # Simpson's rule: 1 4 2 4 ... 2 4 1
    weights = np.ones(_NUM_STEPS + 1)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    area = angle / _NUM_STEPS / 3 * float(weights @ density)
    whole = math.lgamma(degrees_of_freedom / 2) - math.lgamma((degrees_of_freedom + 1) / 2)
    return min(1.0, max(0.0, 1 - 2 * area / (math.sqrt(math.pi) * math.exp(whole))))


@lru_cache(maxsize=1_000)
def student_quantile(degrees_of_freedom: float) -> float:
    """Distance from 0 that Student's t exceeds with a probability of 1 - ``CONFIDENCE``."""
    low, high = 0.0, 1.0
    # A bound beyond it, then halves of the interval.
    while student_p_value(high, degrees_of_freedom) > 1 - CONFIDENCE:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        if student_p_value(middle, degrees_of_freedom) > 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return (low + high) / 2
