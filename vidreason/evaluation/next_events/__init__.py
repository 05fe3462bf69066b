"""Computed distributions over next events, scored beside what came and what could have come."""
