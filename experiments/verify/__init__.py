"""Measures a verifier on true and false steps about videos of the microworld."""
