"""Values by cluster: questions about one video are not independent, so videos are what counts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def paired_values(
    values_a: Sequence[float] | NDArray[np.float64], values_b: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Differences item by item, shape ``(n,)``.

    Raises:
        ValueError: The two runs have different numbers of items.
    """
    array_a = np.asarray(values_a, dtype=np.float64)
    array_b = np.asarray(values_b, dtype=np.float64)
    if array_a.shape != array_b.shape:
        raise ValueError(
            f"a paired difference needs the same items in both runs; found shapes {array_a.shape} "
            f"and {array_b.shape}"
        )
    return array_a - array_b


def cluster_sums(array: NDArray[np.float64], clusters: Sequence[str]) -> NDArray[np.float64]:
    """Sum of the values of each cluster, in order of first appearance.

    Args:
        array: Shape ``(n,)``.
        clusters: Length n, the cluster of each value.

    Raises:
        ValueError: No values, or not one cluster a value.
    """
    if array.ndim != 1 or not len(array) or len(array) != len(clusters):
        raise ValueError(
            "expected at least one value and one cluster for each; found values of shape "
            f"{array.shape} and {len(clusters)} clusters"
        )
    # (n,) -> (clusters,)
    return np.bincount(cluster_numbers(clusters), weights=array).astype(np.float64)


def cluster_numbers(clusters: Sequence[str]) -> NDArray[np.int64]:
    """A number from 0 on for the cluster of each value, in order of first appearance."""
    # Sorting by name would make results depend on the names.
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    return np.fromiter((numbers[name] for name in clusters), dtype=np.int64)
