"""Variants times seeds: the jobs of a study, its numbers and its tables."""
