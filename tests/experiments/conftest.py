"""The tiny experiment, and processes of ``fit`` that start at once, as fixtures of these tests."""

from forked_fit import nursery
from tiny_experiment import filmed_experiment, tiny_experiment

__all__ = ["filmed_experiment", "nursery", "tiny_experiment"]
