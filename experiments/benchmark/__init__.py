"""Measurements of speed and memory, one a file."""
