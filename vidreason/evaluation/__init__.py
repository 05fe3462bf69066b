"""Predictions and references to numbers: answer parsing, metrics, statistics, reports."""
