"""Inspect, convert and consolidate checkpoints."""
