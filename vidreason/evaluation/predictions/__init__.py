"""Predictions as rows of JSONL: kept as they are made, read from others, written for others."""
