"""Scores of a text against reference texts; each module is one metric."""
