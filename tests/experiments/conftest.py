"""The tiny corpus and experiment of ``tests/tiny_experiment.py``, as fixtures of these tests."""

from tiny_experiment import filmed_experiment, tiny_experiment

__all__ = ["filmed_experiment", "tiny_experiment"]
