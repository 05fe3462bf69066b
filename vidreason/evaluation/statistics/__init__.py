"""Certainty of numbers: intervals, paired tests and seeds. Videos are drawn, never questions."""
